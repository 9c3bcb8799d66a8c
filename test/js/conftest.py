"""What the tests of test/js talk to: supabase-js in a directory of its own, and all of sparky behind one gateway.

`client` is what npm installs; without node, npm, the registry or python3-websockets
every test is skipped, with the reason.  `world` comes twice: photos embedded, and
photos in Supabase Storage.
"""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / 'e2e'))
sys.path.insert(0, str(HERE))

import photos                                                               # noqa: E402
from emulator import PAYMOB_HMAC_SECRET, PAYMOB_INTEGRATIONS, PAYMOB_OWNER, Emulator        # noqa: E402
from paymob_shop import API_KEY, PUBLIC_KEY, SECRET_KEY                     # noqa: E402
from sparky_server import Server                                            # noqa: E402
from storage_control import SERVICE_KEY, StorageControl                     # noqa: E402
from supabase_shape import make_server                                      # noqa: E402
from supabase_storage import StorageEmulator, storage_dsn                   # noqa: E402

KEY = 'AQ.Zq8-test-key-not-real'
NPM_SECONDS = 90
# The newest minor releases let a slot use only the plugins of a list, which older ones do not know.
POSTGRES = pathlib.Path(subprocess.check_output([os.environ.get('PG_CONFIG', 'pg_config'), '--bindir'], text=True).strip()) / 'postgres'
GUARDED = 'output_plugin_libraries' in subprocess.run([POSTGRES, '--describe-config'], capture_output=True, text=True).stdout


@pytest.fixture(scope='session')
def client(tmp_path_factory):
    """A directory with package.json's packages and the scripts; two runs at once have one each."""
    for program in ('node', 'npm'):
        if shutil.which(program) is None:
            pytest.skip(f'{program} is not installed')
    try:
        import websockets                                                   # noqa: F401
    except ImportError:
        pytest.skip('python3-websockets is not installed')
    directory = tmp_path_factory.mktemp('client')
    for name in ('package.json', 'package-lock.json', '.npmrc'):
        shutil.copy(HERE / name, directory)
    try:
        done = subprocess.run(['npm', 'ci', '--ignore-scripts', '--loglevel=error', '--fetch-retries=1'], cwd=directory,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=NPM_SECONDS)
        said = '' if done.returncode == 0 else ' '.join((done.stderr + done.stdout).split())[:200]
    except subprocess.TimeoutExpired:
        said = f'took more than {NPM_SECONDS} s'
    if said:
        pytest.skip(f'npm could not install the packages of test/js: {said}')
    for script in [*HERE.glob('*.mjs'), *HERE.glob('*.ts')]:
        shutil.copy(script, directory)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


class World:
    """storage: 'embedded' or 'supabase'. Everything is Supabase's shape, and sparky's own owner is postgres."""

    def __init__(self, storage, stack, directory):
        from gateway import Gateway
        from realtime import Realtime
        from tokens import token
        self.photos_in_storage = storage == 'supabase'
        gateway = self.gateway = Gateway()
        self.emulator = stack.enter_context(Emulator(latency_ms=300, key=KEY, answer='tiny', paymob_secret_key=SECRET_KEY, paymob_api_key=API_KEY))
        conf = [f"sparky.public_url = '{gateway.url}/rest/v1'", f"sparky.paymob_base_url = '{self.emulator.url}'", f"sparky.paymob_owner = '{PAYMOB_OWNER}'",
                f"sparky.paymob_integration_ids = '{', '.join(map(str, PAYMOB_INTEGRATIONS))}'"]
        if GUARDED:
            conf.append("output_plugin_libraries = 'pgoutput, wal2json'")
        secrets = {'PAYMOB_SECRET_KEY': SECRET_KEY, 'PAYMOB_PUBLIC_KEY': PUBLIC_KEY, 'PAYMOB_API_KEY': API_KEY, 'PAYMOB_HMAC_SECRET': PAYMOB_HMAC_SECRET,
                   'STORAGE_SERVICE_KEY': SERVICE_KEY}
        self.server = stack.enter_context(Server(emulator=self.emulator, key=KEY, conf=conf, environment=secrets, superuser='supabase_admin',
                                                 prepare=self.prepare, storage='as prepared'))
        self.realtime = Realtime(self.server)
        self.realtime.start()
        stack.callback(self.realtime.stop)
        gateway.start(self.server, self.photos_in_storage and self.server.storage.api.port, self.realtime.port)
        stack.callback(gateway.stop)
        files = []
        for n in range(3):
            files.append(directory / f'{n}.png')
            files[-1].write_bytes(photos.png(os.getpid() * 100003 + n))
        self.environment = {**os.environ, 'SUPABASE_URL': gateway.url, 'SUPABASE_ANON_KEY': token(role='anon'), 'SERVICE_KEY': token(role='service_role'),
                            'EMAIL': 'nora@example.com', 'OTHER_EMAIL': 'other@example.com', 'PAGE_EMAIL': 'page@example.com',
                            'PHOTOS': ':'.join(map(str, files)), 'NODE_NO_WARNINGS': '1'}
        self.users = {address: self.server.sign_up(address) for address in ('nora@example.com', 'other@example.com', 'page@example.com')}

    def prepare(self, server):
        make_server(server, storage=self.photos_in_storage)
        if self.photos_in_storage:
            api = StorageEmulator(storage_dsn(server), SERVICE_KEY)
            server.storage = StorageControl(server, api)
            server.reload(f"sparky.storage_url = '{api.url}'")
        server.psql('CREATE EXTENSION sparky', user='postgres')


@pytest.fixture(scope='session', params=['embedded', 'supabase'])
def world(request, client, tmp_path_factory):
    import contextlib
    with contextlib.ExitStack() as stack:
        yield World(request.param, stack, tmp_path_factory.mktemp('photos'))
