"""Pictures for tests, made without any image library, and one real photograph.

Every maker takes a seed: another seed is another picture, so another hash.
"""

import os
import pathlib
import shutil
import struct
import subprocess
import tempfile
import zlib


def png(seed=1, width=16, height=16, extra=b''):
    """A small true-colour PNG; extra bytes go into a comment chunk (for size)."""
    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    rows = b''.join(b'\0' + b''.join(bytes(((x * 7 + seed) & 255, (y * 11 + (seed >> 8)) & 255, (seed >> 16) & 255)) for x in range(width))
                    for y in range(height))
    comment = chunk(b'tEXt', b'Comment\0' + extra) if extra else b''
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)) + comment
            + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b''))


def big_png(seed, size):
    """A PNG of about that many bytes: incompressible noise in a comment."""
    noise = os.urandom(16) * (size // 16)
    return png(seed, extra=noise.replace(b'\0', b'x'))


def jpeg(seed=1, width=16, height=16):
    """A grey baseline JPEG of flat 8x8 blocks, with the standard tables' first codes."""
    def segment(marker, data):
        return bytes((0xFF, marker)) + struct.pack('>H', len(data) + 2) + data
    dc_bits = (0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0)
    dc_codes = {0: (0b00, 2), 1: (0b010, 3), 2: (0b011, 3), 3: (0b100, 3), 4: (0b101, 3), 5: (0b110, 3),
                6: (0b1110, 4), 7: (0b11110, 5), 8: (0b111110, 6), 9: (0b1111110, 7), 10: (0b11111110, 8), 11: (0b111111110, 9)}
    bits, before = '', 0
    for block in range(((width + 7) // 8) * ((height + 7) // 8)):
        level = ((seed * 2654435761 + block * 40503) >> 7) % 200 - 100
        difference, before = level - before, level
        size = abs(difference).bit_length()
        code, length = dc_codes[size]
        bits += format(code, f'0{length}b')
        if size:
            bits += format(difference if difference > 0 else difference + (1 << size) - 1, f'0{size}b')
        bits += '0'                         # the only AC code: end of block
    bits += '1' * (-len(bits) % 8)
    data = bytes(int(bits[i:i + 8], 2) for i in range(0, len(bits), 8)).replace(b'\xff', b'\xff\x00')
    return (b'\xff\xd8' + segment(0xE0, b'JFIF\0\1\1\0\0\1\0\1\0\0') + segment(0xFE, b'seed %d' % seed)
            + segment(0xDB, b'\0' + b'\x08' * 64) + segment(0xC0, struct.pack('>BHHB', 8, height, width, 1) + b'\1\x11\0')
            + segment(0xC4, b'\0' + bytes(dc_bits) + bytes(range(12))) + segment(0xC4, b'\x10' + bytes((1,) + (0,) * 15) + b'\0')
            + segment(0xDA, b'\1\1\0\0\x3f\0') + data + b'\xff\xd9')


# Debian 12 ships the photographs in -data, later releases in -faces.
REAL_PHOTO = (('gnome-control-center-faces', 'gnome-control-center-data'), 'usr/share/pixmaps/faces/surfer.jpg')


def real_photo():
    """The bytes of a real photograph from a small Debian package (unpacked, not installed), kept in the user's cache.

    None where no package can be had (no network, not Debian).
    """
    packages, name = REAL_PHOTO
    cache = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')) / 'sparky'
    kept = cache / pathlib.Path(name).name
    if kept.exists():
        return kept.read_bytes()
    with tempfile.TemporaryDirectory(prefix='sparky-photo.') as directory:
        for package in packages:
            done = subprocess.run(['apt-get', 'download', package], cwd=directory, capture_output=True)
            found = list(pathlib.Path(directory).glob('*.deb'))
            if done.returncode == 0 and found:
                subprocess.run(['dpkg-deb', '-x', found[0], 'x'], cwd=directory, check=True)
                picture = pathlib.Path(directory) / 'x' / name
                if picture.exists():
                    cache.mkdir(parents=True, exist_ok=True)
                    temporary = kept.with_suffix(f'.{os.getpid()}')
                    shutil.copyfile(picture, temporary)
                    temporary.rename(kept)
                    return kept.read_bytes()
    return None
