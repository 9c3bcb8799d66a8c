"""README's lines of SQL are run as they stand there, by psql, in a new database."""

import json
import re

import photos
from conftest import ON_STORAGE
from sparky_server import TREE, Server

README = (TREE / 'README.md').read_text()


def sql_blocks():
    return re.findall(r'^```sql\n(.*?)^```$', README, re.M | re.S)


def test_one_block_of_ten_lines():
    blocks = sql_blocks()
    assert len(blocks) == 1
    assert len(blocks[0].splitlines()) == 10


def test_the_block_works(emulator):
    with Server(emulator=emulator, key='AQ.Zq8-test-key-not-real', extension=False, storage='supabase' if ON_STORAGE else None,
                conf=["sparky.public_url = 'https://api.example.com'"]) as server:
        (server.dir / 'photo.jpg').write_bytes(photos.real_photo() or photos.jpeg(7, 64, 64))
        done = server.run('psql', '-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-f', '-', input=sql_blocks()[0])
        assert done.returncode == 0, done.stderr
        assert 'ERROR' not in done.stderr
        result, again, analysis, left = done.stdout.splitlines()
        result = json.loads(result)
        assert result['status'] == 'succeeded' and result['credits_used'] == 1
        assert result['image_url'].startswith(server.storage.url + '/object/sign/generations/' if server.storage else
                                              'https://api.example.com/rpc/download_image?path=generations/')
        assert again == 'true'
        assert 'skin_type' in json.loads(analysis)
        assert left == '8'
        assert len(emulator.calls()) == 2
