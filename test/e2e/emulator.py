"""The Gemini-shaped emulator as a child process; its log is the ground truth of the tests."""

import concurrent.futures
import hashlib
import hmac
import http.client
import json
import pathlib
import subprocess
import tempfile
import urllib.parse

from sparky_server import TREE, build_lock, wait_for

PROGRAM = TREE / 'test/emulator/emulator'
# What the emulator's Paymob has unless told otherwise; the keys are any unless told.
PAYMOB_HMAC_SECRET = 'emulator-hmac-secret'
PAYMOB_INTEGRATIONS = (4097558, 4097559, 4097560)       # the first one is named in payments
PAYMOB_OWNER = 302852
PAYMOB_SIGNED = ('amount_cents created_at currency error_occured has_parent_transaction id integration_id is_3d_secure is_auth is_capture is_refunded'
                 ' is_standalone_payment is_voided order.id owner pending source_data.pan source_data.sub_type source_data.type success').split()


class Emulator:
    """Ends when this process ends, since it watches its standard input; but not one that shall outlive it."""

    def __init__(self, latency_ms=20, key=None, tls=False, answer=None, outlive=False,
                 paymob_secret_key=None, paymob_api_key=None, paymob_hmac_secret=PAYMOB_HMAC_SECRET,
                 paymob_integrations=PAYMOB_INTEGRATIONS, paymob_owner=PAYMOB_OWNER, paymob_currency='EGP',
                 storage_key=None, storage_jwt_secret=None, storage_db=None):
        self.directory = tempfile.TemporaryDirectory(prefix='sparky-emulator.')
        directory = pathlib.Path(self.directory.name)
        directory.chmod(0o755)          # the server's user reads ca.pem
        with build_lock():
            done = subprocess.run(['make', '-s', '-C', PROGRAM.parent, 'emulator'], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError('the emulator does not build:\n' + done.stdout + done.stderr)
        command = [PROGRAM, '--port', '0', '--log', directory / 'log', '--latency-ms', str(latency_ms)]
        if not outlive:
            command.append('--die-with-stdin')
        if key:
            command += ['--key', key]
        if answer:
            command += ['--answer', str(answer)]
        if paymob_secret_key:
            command += ['--paymob-secret-key', paymob_secret_key]
        if paymob_api_key:
            command += ['--paymob-api-key', paymob_api_key]
        command += ['--paymob-hmac-secret', paymob_hmac_secret, '--paymob-owner', str(paymob_owner), '--paymob-currency', paymob_currency,
                    '--paymob-integrations', ','.join(map(str, paymob_integrations))]
        self.paymob_hmac_secret = paymob_hmac_secret
        for option, value in (('--storage-key', storage_key), ('--storage-jwt-secret', storage_jwt_secret), ('--storage-db', storage_db)):
            if value:
                command += [option, value]
        self.tls_ca = self.other_ca = None
        if tls:
            subprocess.run([PROGRAM.parent / 'make-certs', directory / 'tls'], check=True)
            (directory / 'tls').chmod(0o755)
            self.tls_ca, self.other_ca = directory / 'tls/ca.pem', directory / 'tls/other-ca.pem'
            command += ['--tls-cert', directory / 'tls/cert.pem', '--tls-key', directory / 'tls/key.pem']
        self.tls = tls
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=outlive)
        self.port = int(self.process.stdout.readline().split()[1])
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.process.stdout.close()
        self.directory.cleanup()

    def keep(self):
        """Leave it running after this process (made with outlive); its directory, which the caller removes."""
        self.directory._finalizer.detach()
        return self.directory.name

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def control(self, name, body=None):
        if self.tls:
            import ssl
            context = ssl.create_default_context(cafile=self.tls_ca)
            connection = http.client.HTTPSConnection('127.0.0.1', self.port, timeout=20, context=context)
        else:
            connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=20)
        try:
            connection.request('GET' if body is None else 'POST', '/_control/' + name, None if body is None else json.dumps(body))
            response = connection.getresponse()
            text = response.read().decode()
            assert response.status == 200, text
            return text if name == 'log' else json.loads(text)
        finally:
            connection.close()

    def script(self, *rules):
        """Rules {fault, times, match, …}; the first that matches decides a call. times: 1 unless told, 0 = for ever."""
        return self.control('script', list(rules))

    def latency(self, ms):
        self.control('latency', {'ms': ms})

    def answer(self, answer):
        """'picture' (a real transformation), 'tiny' (a small picture, cheap) or a number of bytes."""
        self.control('answer', {'answer': answer})

    def hold(self):
        """From now on calls are received and logged, and answered only after release()."""
        self.control('hold', {})

    def release(self):
        self.control('release', {})

    def reset(self):
        self.control('reset', {})

    def stats(self):
        return self.control('stats')

    def log(self):
        """Everything since the last reset."""
        return [json.loads(line) for line in self.control('log').splitlines()]

    def calls(self, **wanted):
        """The received calls since the last reset, filtered by fields of the log."""
        return [event for event in self.log() if event['event'] == 'received' and all(event.get(k) == v for k, v in wanted.items())]

    def wait_calls(self, number, seconds=20):
        wait_for(lambda: self.stats()['received'] >= number, seconds, f'{number} calls at the emulator')

    def wait_idle(self, seconds=20):
        wait_for(lambda: self.stats()['in_flight'] == 0, seconds, 'the emulator to be idle')

    # ---- Storage: what happens there beside the API ----

    def storage(self, do, **members):
        """An action of /_control/storage: put, get, delete, drop_file, list, token, clear, disconnect (test/emulator/README.md)."""
        return self.control('storage', {'do': do, **{name: value for name, value in members.items() if value is not None}})

    # ---- Paymob: what happens there; each returns {order, transaction, body, hmac}, ready for paymob_webhooks ----

    def paymob(self, do, **members):
        """An action of /_control/paymob (test/emulator/README.md); members that are None are left out."""
        return self.control('paymob', {'do': do, **{name: value for name, value in members.items() if value is not None}})

    def paymob_state(self):
        """{orders: {id: …}, transactions: {id: …}} as Paymob has them; orders hold the client_secret and the request."""
        return self.control('paymob')

    def paymob_orders(self):
        """The orders, oldest first."""
        return list(self.paymob_state()['orders'].values())

    def make_order(self, amount_cents=10000, currency=None, reference=None, id=None):
        """An order that no API call made; its id."""
        return self.paymob('order', amount_cents=amount_cents, currency=currency, reference=reference, id=id)['id']

    def pay(self, order=None, outcome=None, **more):
        """success (default), decline, pending, error; reference=, method=, auth=, id=, amount_cents=, integration_id=, owner=, set=, raw=…"""
        return self.paymob('pay', order=order, outcome=outcome, **more)

    def complete(self, transaction, outcome=None, **more):
        """The pending transaction is decided."""
        return self.paymob('complete', transaction=transaction, outcome=outcome, **more)

    def refund(self, transaction, amount_cents=None, form=None, flag=None, **more):
        """Part or the rest; form parent (default) or child; flag: is_refunded with the first part (default) or the last. Also {parent, child}."""
        return self.paymob('refund', transaction=transaction, amount_cents=amount_cents, form=form, flag=flag, **more)

    def void(self, transaction, form=None, **more):
        return self.paymob('void', transaction=transaction, form=form, **more)

    def callback(self, transaction, **more):
        """The transaction's callback as it is now."""
        return self.paymob('callback', transaction=transaction, **more)


def paymob_digest(body, secret=PAYMOB_HMAC_SECRET):
    """The digest of a callback's body (text or the parsed object), read by Python: for bodies that a test has changed."""
    obj = (json.loads(body) if isinstance(body, str) else body)['obj']
    texts = []
    for path in PAYMOB_SIGNED:
        value = obj
        for name in path.split('.'):
            value = value.get(name) if isinstance(value, dict) else None
        texts.append('' if value is None else str(value).lower() if isinstance(value, bool) else str(value))
    return hmac.new(secret.encode(), ''.join(texts).encode(), hashlib.sha512).hexdigest()


def send_callbacks(url, events, times=1, threads=1, headers=None):
    """POSTs events {body, hmac} to url?hmac=…, each times over, from so many threads; the statuses, in no order."""
    parts = urllib.parse.urlsplit(url)

    def send(event):
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
        try:
            connection.request('POST', f"{parts.path}?hmac={event['hmac']}", event['body'].encode(),
                               {'Content-Type': 'application/json', **(headers or {})})
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        return list(pool.map(send, [event for event in events for _ in range(times)]))
