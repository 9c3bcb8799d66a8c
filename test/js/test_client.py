"""supabase-js and the pages' client code, run: `make check-postgrest`.

POSTGREST=/path/to/postgrest runs them against it.  Without, they run against the
stand-in of gateway.py, which says PostgREST's SQL but is not PostgREST: then
supabase-js, the functions and the rights are tested, and PostgREST's own reading
of requests is not.  Auth is a stand-in always; pieces of doc/client.md that need
Storage, Realtime or Paymob are not run here, only parsed (test_client_page.py).
"""

import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / 'e2e'))
sys.path.insert(0, str(HERE))

from client_page import module, snippets                    # noqa: E402
from conftest import fresh_photo                            # noqa: E402
from emulator import Emulator                               # noqa: E402
from gateway import Gateway, token                          # noqa: E402
from sparky_server import Server, free_port                 # noqa: E402
from supabase_shape import SHAPE                            # noqa: E402

KEY = 'AQ.Zq8-test-key-not-real'


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """Everything that the scripts talk to, and the environment that says so."""
    gateway = Gateway(free_port())
    with Emulator(latency_ms=300, key=KEY, answer='tiny') as emulator, \
            Server(emulator=emulator, key=KEY, conf=[f"sparky.public_url = '{gateway.url}/rest/v1'"], **SHAPE) as server:
        gateway.start(server)
        photos = []
        for n in range(3):
            photos.append(tmp_path_factory.mktemp('photos') / f'{n}.png')
            photos[-1].write_bytes(fresh_photo())
        for address in ('nora@example.com', 'other@example.com', 'page@example.com'):
            server.sign_up(address)
        yield server, {**os.environ, 'SUPABASE_URL': gateway.url, 'SUPABASE_ANON_KEY': token(role='anon'), 'SERVICE_KEY': token(role='service_role'),
                       'EMAIL': 'nora@example.com', 'OTHER_EMAIL': 'other@example.com', 'PAGE_EMAIL': 'page@example.com',
                       'PHOTOS': ':'.join(map(str, photos)), 'NODE_NO_WARNINGS': '1'}
        gateway.stop()


def test_supabase_js(world):
    done = subprocess.run(['node', '--test', HERE / 'client.test.mjs'], env=world[1], cwd=HERE, capture_output=True, text=True, timeout=300)
    print(done.stdout)
    assert done.returncode == 0 and '# pass 8' in done.stdout.replace('ℹ', '#'), done.stdout[-6000:] + done.stderr


def test_the_page_runs(world):
    """All of doc/client.md in one module, as it stands there, less what is marked."""
    server, environment = world
    script = HERE / 'page.tmp.mjs'
    script.write_text(module(snippets(), run=True))
    try:
        done = subprocess.run(['node', script], env=environment, cwd=HERE, capture_output=True, text=True, timeout=120)
    finally:
        script.unlink()
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.splitlines()
    assert '10 credits, plan free' in done.stdout, said
    assert any(line.startswith('SHOWN http') for line in said) and '1 used, 9 left' in done.stdout, said
    assert any('image/' in line for line in said)
    assert server.value("SELECT count(*) FROM public.generations g JOIN auth.users u ON u.id = g.user_id WHERE u.email = 'page@example.com' AND image_url IS NOT NULL") == 0
