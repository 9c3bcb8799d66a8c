"""deploy/nginx.conf as shipped, run by Debian's nginx in front of an upstream that keeps what arrives."""

import hashlib
import http.client
import http.server
import os
import pathlib
import re
import shutil
import socket
import ssl
import subprocess
import threading

import pytest

from emulator import PROGRAM, Emulator
from sparky_server import TREE, free_port, wait_for

NGINX = shutil.which('nginx', path='/usr/sbin:/usr/bin:' + os.environ.get('PATH', ''))
CONF = TREE / 'deploy/nginx.conf'
WEBHOOK = '/rpc/paymob_webhooks'
HMAC = hashlib.sha512(b'a digest').hexdigest()
OTHER = hashlib.sha512(b'another').hexdigest()

pytestmark = pytest.mark.skipif(NGINX is None, reason='nginx is not installed')


class Upstream(http.server.ThreadingHTTPServer):
    """Keeps every request as (method, target, headers, body); answers 200 JSON."""
    daemon_threads = True

    def __init__(self):
        arrived = self.arrived = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'

            def answer(self):
                body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
                arrived.append((self.command, self.path, self.headers, body))
                self.send_response(200)
                self.send_header('Content-Type', 'application/json')
                self.send_header('Content-Length', '2')
                self.end_headers()
                self.wfile.write(b'{}')
            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = answer

            def log_message(self, *_):
                pass
        super().__init__(('127.0.0.1', 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Proxy:
    """The shipped text with other ports, paths and names, each of which must be in it."""

    def __init__(self, directory, upstream_port):
        self.directory, self.port, self.plain_port = directory, free_port(), free_port()
        subprocess.run([PROGRAM.parent / 'make-certs', directory / 'tls'], check=True)
        self.context = ssl.create_default_context(cafile=directory / 'tls/ca.pem')
        text = CONF.read_text()
        for old, new in {'server 127.0.0.1:3000;': f'server 127.0.0.1:{upstream_port};', 'listen 80;': f'listen 127.0.0.1:{self.plain_port};',
                         'listen 443 ssl;': f'listen 127.0.0.1:{self.port} ssl;', '/etc/ssl/sparky/': f'{directory}/tls/',
                         '/var/log/nginx/': f'{directory}/', 'server_name api.example.com;': 'server_name localhost;'}.items():
            assert old in text
            text = text.replace(old, new)
        (directory / 'sparky.conf').write_text(text)
        temporary = ''.join(f'{kind}_temp_path {directory}/tmp_{kind};\n' for kind in ('client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'))
        (directory / 'nginx.conf').write_text(f'daemon off; master_process off; pid {directory}/pid; error_log {directory}/main.error.log warn;\n'
                                              f'events {{}}\nhttp {{\naccess_log {directory}/main.log;\n{temporary}include {directory}/sparky.conf;\n}}\n')
        command = [NGINX, '-p', str(directory), '-c', str(directory / 'nginx.conf'), '-e', str(directory / 'main.error.log')]
        checked = subprocess.run([*command, '-t', '-q'], capture_output=True, text=True)
        assert checked.returncode == 0 and 'warn' not in checked.stderr, checked.stderr
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        wait_for(self.listens, 20, 'nginx to listen')

    def listens(self):
        assert self.process.poll() is None, (self.directory / 'main.error.log').read_text()
        with socket.socket() as probe:
            return probe.connect_ex(('127.0.0.1', self.port)) == 0

    def call(self, method, target, body=None, headers=None):
        connection = http.client.HTTPSConnection('localhost', self.port, timeout=20, context=self.context)
        try:
            connection.request(method, target, body, headers or {})
            response = connection.getresponse()
            response.read()
            return response.status, response.headers
        finally:
            connection.close()

    def close(self):
        """Ends nginx; everything is in the logs then."""
        self.process.terminate()
        self.process.wait(20)

    def logs(self):
        return ''.join(path.read_text() for path in self.directory.glob('*.log'))


@pytest.fixture(scope='module')
def upstream():
    with Upstream() as upstream:
        yield upstream
        upstream.shutdown()


@pytest.fixture(scope='module')
def proxy(tmp_path_factory, upstream):
    proxy = Proxy(pathlib.Path(tmp_path_factory.mktemp('nginx')), upstream.server_port)
    yield proxy
    proxy.close()


@pytest.fixture
def arrived(upstream):
    upstream.arrived.clear()
    return upstream.arrived


def test_digest_becomes_a_header(proxy, arrived):
    body = '{ "type":"TRANSACTION",\r\n "obj" : {"id": 1.10, "id":2, "name":"ن\\u0000"}}\n'.encode() + bytes(range(1, 256))
    status, headers = proxy.call('POST', f'{WEBHOOK}?hmac={HMAC}', body, {'Content-Type': 'text/plain', 'X-Paymob-Hmac': OTHER})
    assert status == 200 and headers['X-Content-Type-Options'] == 'nosniff' and 'max-age' in headers['Strict-Transport-Security']
    (method, target, headers, came), = arrived
    assert (method, target, came) == ('POST', WEBHOOK, body)
    assert headers.get_all('X-Paymob-Hmac') == [HMAC] and headers.get_all('Content-Type') == ['application/json']


def test_other_parameters_go_too(proxy, arrived):
    assert proxy.call('POST', f'{WEBHOOK}?a=eq.1&hmac={HMAC}&limit=1', b'{}')[0] == 200
    (_, target, headers, _), = arrived
    assert target == WEBHOOK and headers['X-Paymob-Hmac'] == HMAC


@pytest.mark.parametrize('query', ['', '?', '?hmac', '?hmac=', '?HMAX=' + HMAC])
def test_header_of_the_client_never_passes(proxy, arrived, query):
    assert proxy.call('POST', WEBHOOK + query, b'{}', {'X-Paymob-Hmac': OTHER, 'x_paymob_hmac': OTHER})[0] == 200
    (_, target, headers, _), = arrived
    assert target == WEBHOOK and not [value for value in headers.values() if OTHER in value]
    assert headers.get('X-Paymob-Hmac') in (None, '')


def test_nothing_of_an_account_passes(proxy, arrived):
    names = {'Authorization': 'Bearer x.y.z', 'apikey': 'k', 'Cookie': 'c=1', 'Prefer': 'tx=rollback', 'Content-Profile': 'sparky', 'Accept-Profile': 'sparky'}
    assert proxy.call('POST', f'{WEBHOOK}?hmac={HMAC}', b'{}', names)[0] == 200
    assert not set(map(str.lower, names)) & {name.lower() for name in arrived[0][2]}


@pytest.mark.parametrize('method', ['GET', 'HEAD', 'PUT', 'DELETE', 'PATCH', 'OPTIONS'])
def test_only_post(proxy, arrived, method):
    assert proxy.call(method, f'{WEBHOOK}?hmac={HMAC}')[0] == 405
    assert arrived == []


def test_size(proxy, arrived):
    body = b'x' * (256 * 1024)
    assert proxy.call('POST', f'{WEBHOOK}?hmac={HMAC}', body)[0] == 200 and arrived[0][3] == body
    assert proxy.call('POST', f'{WEBHOOK}?hmac={HMAC}', body + b'x')[0] == 413
    assert len(arrived) == 1


@pytest.mark.parametrize('spelling', ['/rpc//paymob_webhooks', '/rpc/./paymob_webhooks', '/rpc/paymob_webhook%73'])
def test_no_way_round(proxy, arrived, spelling):
    """What nginx takes for the same address gets the same treatment."""
    assert proxy.call('POST', f'{spelling}?hmac={HMAC}', b'{}', {'X-Paymob-Hmac': OTHER})[0] == 200
    (_, target, headers, _), = arrived
    assert target == WEBHOOK and headers['X-Paymob-Hmac'] == HMAC


def test_the_rest_passes_as_it_is(proxy, arrived):
    photo = os.urandom(7 * 1024 * 1024)
    sent = {'Authorization': 'Bearer x.y.z', 'apikey': 'k', 'Content-Type': 'application/octet-stream', 'Prefer': 'return=minimal', 'Content-Profile': 'public'}
    status, headers = proxy.call('POST', '/rpc/upload_image', photo, sent)
    assert status == 200 and headers['X-Content-Type-Options'] == 'nosniff'
    method, target, headers, came = arrived.pop()
    assert (method, target) == ('POST', '/rpc/upload_image') and came == photo and {name: headers[name] for name in sent} == sent
    assert proxy.call('GET', '/credit_ledger?select=delta&kind=eq.usage&order=id.desc')[0] == 200
    assert arrived.pop()[1] == '/credit_ledger?select=delta&kind=eq.usage&order=id.desc'
    assert proxy.call('GET', '/rpc/download_image?token=a%2Fb')[0] == 200
    assert arrived.pop()[1] == '/rpc/download_image?token=a%2Fb'
    assert proxy.call('POST', '/rpc/upload_image', b'x' * (8 * 1024 * 1024 + 1))[0] == 413
    assert arrived == []


def test_without_tls(proxy, arrived):
    for target, wanted in ((f'{WEBHOOK}?hmac={HMAC}', 403), ('/rpc/my_account', 301)):
        connection = http.client.HTTPConnection('127.0.0.1', proxy.plain_port, timeout=20)
        connection.request('POST', target, b'{}')
        assert connection.getresponse().status == wanted
        connection.close()
    assert arrived == []


def test_callback_of_the_emulator(proxy, arrived):
    """The bytes that Paymob signs are the bytes that arrive, with their digest."""
    with Emulator() as emulator:
        paid = emulator.pay(emulator.make_order(), raw={'payment_key_claims.billing_data.first_name': '"\\u0000ن"'})
    assert proxy.call('POST', f"{WEBHOOK}?hmac={paid['hmac']}", paid['body'].encode())[0] == 200
    (_, _, headers, came), = arrived
    assert came.decode() == paid['body'] and headers['X-Paymob-Hmac'] == paid['hmac']


def test_logs_hold_no_query(tmp_path, upstream):
    """Neither a digest nor a link, also when nginx has something to complain about."""
    proxy = Proxy(tmp_path, upstream.server_port)
    try:
        assert proxy.call('POST', f'{WEBHOOK}?hmac={HMAC}', b'{}')[0] == 200
        assert proxy.call('GET', f'{WEBHOOK}?hmac={HMAC}')[0] == 405
        assert proxy.call('POST', f'{WEBHOOK}?hmac={HMAC}', b'x' * 300000)[0] == 413
        assert proxy.call('GET', '/rpc/download_image?token=SECRETLINK')[0] == 200
        assert proxy.call('GET', '/credit_ledger?kind=eq.SECRETLINK')[0] == 200
    finally:
        proxy.close()
    (tmp_path / 'dead').mkdir()
    dead = Proxy(tmp_path / 'dead', free_port())
    try:
        assert dead.call('POST', f'{WEBHOOK}?hmac={HMAC}', b'{}')[0] == 502
        assert dead.call('GET', '/rpc/download_image?token=SECRETLINK')[0] == 502
    finally:
        dead.close()
    logs = proxy.logs() + dead.logs()
    assert len(re.findall(r'"POST /rpc/paymob_webhooks HTTP/1.1" (200|413|502) ', logs)) == 3
    assert '"GET /rpc/paymob_webhooks HTTP/1.1" 405 ' in logs and '"GET /credit_ledger HTTP/1.1" 200 ' in logs
    assert HMAC not in logs and 'SECRETLINK' not in logs and 'download_image' not in logs


def test_kong_fragment():
    """No Kong here; that it is the same treatment can be read."""
    yaml = pytest.importorskip('yaml')
    service, = yaml.safe_load((TREE / 'deploy/kong.yml').read_text())
    assert service['url'].endswith(WEBHOOK) and service['routes'][0]['methods'] == ['POST'] and service['routes'][0]['strip_path']
    plugin, = service['plugins']
    assert plugin['name'] == 'request-transformer' and plugin['config']['remove']['querystring'] == ['hmac']
    added = dict(header.split(':', 1) for header in plugin['config']['add']['headers'])
    assert set(added) <= set(plugin['config']['remove']['headers']) and 'query_params.hmac' in added['X-Paymob-Hmac']
