"""Paymob's intention, token and inquiry API, played inside the test's process, so that
a test can look at, hold and spoil single exchanges; and a server that buys there.

Strict about what Paymob is strict about: fields, sums, keys, the token.  Nothing
of sparky's is used here.
"""

import contextlib
import http.server
import itertools
import json
import pathlib
import socket
import ssl
import struct
import subprocess
import tempfile
import threading

import paymob_events as events
from sparky_server import TREE, Client, Server, wait_for

SECRET_KEY, PUBLIC_KEY, API_KEY = 'egy_sk_test_5d2c90ab71', 'egy_pk_test_+/7c=&', 'ZXlKaGJ-api-key-93d1'
SECRETS = {'PAYMOB_SECRET_KEY': SECRET_KEY, 'PAYMOB_PUBLIC_KEY': PUBLIC_KEY, 'PAYMOB_API_KEY': API_KEY, 'PAYMOB_HMAC_SECRET': events.SECRET}
BILLING = {'apartment', 'first_name', 'last_name', 'street', 'building', 'phone_number', 'city', 'country', 'email', 'floor', 'state', 'postal_code'}

Client.ARGUMENTS.setdefault('create_checkout', {'product_id': 'text'})


class Paymob:
    """kinds of calls: intention, token, inquiry."""

    def __init__(self, tls=False, port=0):
        self.lock = threading.Lock()
        self.orders = itertools.count(217503754)
        self.directory = None
        self.tokens = set()
        self.reset()
        shop = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'

            def log_message(self, *_):
                pass

            def handle_one_request(self):
                with contextlib.suppress(ConnectionError, ssl.SSLError):
                    super().handle_one_request()

            def do_POST(self):
                shop.handle(self, json.loads(self.rfile.read(int(self.headers['Content-Length']))))

            def do_GET(self):
                shop.handle(self, None)

        class Listener(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, address):
                pass                    # a client that left

        self.http = Listener(('127.0.0.1', port), Handler)
        self.port = self.http.server_address[1]
        self.ca = None
        if tls:
            self.directory = tempfile.TemporaryDirectory(prefix='sparky-paymob.')
            directory = pathlib.Path(self.directory.name)
            directory.chmod(0o755)
            subprocess.run([TREE / 'test/emulator/make-certs', directory / 'tls'], check=True)
            (directory / 'tls').chmod(0o755)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(directory / 'tls/cert.pem', directory / 'tls/key.pem')
            self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
            self.ca = directory / 'tls/ca.pem'
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        threading.Thread(target=self.http.serve_forever, kwargs={'poll_interval': 0.05}, daemon=True).start()

    def reset(self):
        with self.lock:
            self.log, self.faults, self.intentions, self.transactions = [], [], {}, {}      # tokens stay good
            self.gate = threading.Event()
            self.gate.set()
            self.held = set()

    def close(self):
        self.gate.set()
        self.http.shutdown()
        self.http.server_close()

    # -- what a test does

    def calls(self, kind):
        with self.lock:
            return [call for call in self.log if call['kind'] == kind]

    def wait_calls(self, kind, number, seconds=20):
        return wait_for(lambda: len(self.calls(kind)) >= number and self.calls(kind), seconds, f'{number} calls of kind {kind}')

    def spoil(self, kind, times=1, **fault):
        """status, body (dict or text), change (function of the good answer), raw (bytes), reset, silence."""
        with self.lock:
            self.faults.append({'kind': kind, 'left': times, **fault})

    def hold(self, *kinds):
        """Calls of these kinds are received, and answered after release()."""
        with self.lock:
            self.held, self.gate = set(kinds), threading.Event()

    def release(self):
        self.gate.set()

    def know(self, event):
        """From now on inquiries tell of this transaction."""
        with self.lock:
            self.transactions.setdefault(event.obj['order']['id'], []).append(event.obj)
        return event

    # -- the server

    def handle(self, request, body):
        path = request.path
        kind = ('intention' if path == '/v1/intention/' else 'token' if path == '/api/auth/tokens' else
                'inquiry' if path == '/api/ecommerce/orders/transaction_inquiry' or path.startswith('/api/acceptance/transactions/') else 'unknown')
        with self.lock:
            call = {'kind': kind, 'path': path, 'body': body, 'headers': dict(request.headers)}
            self.log.append(call)
            fault = next((f for f in self.faults if f['kind'] == kind and f['left'] != 0), {})
            if fault:
                fault['left'] -= 1
            gate = self.gate if kind in self.held else None
        if gate:
            gate.wait(60)
        with self.lock:
            status, answer = getattr(self, kind)(request, body)
            call['answered'] = True
        if 'change' in fault:
            answer = fault['change'](answer)
        status, answer = fault.get('status', status), fault.get('body', answer)
        if fault.get('silence'):
            request.connection.settimeout(60)
            with contextlib.suppress(OSError):
                request.connection.recv(1)
            request.close_connection = True
            return
        if fault.get('reset'):
            request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
            request.connection.close()
            request.close_connection = True
            return
        text = answer.encode() if isinstance(answer, str) else fault.get('raw') or json.dumps(answer).encode()
        request.send_response(status)
        request.send_header('Content-Type', 'application/json')
        request.send_header('Content-Length', str(len(text)))
        request.end_headers()
        request.wfile.write(text)

    def unknown(self, request, body):
        return 404, {'detail': 'Not found.'}

    def intention(self, request, body):
        if request.headers['Authorization'] != 'Token ' + SECRET_KEY:
            return 401, {'detail': 'Authentication credentials were not provided.'}
        wrong = [name for name in ('amount', 'currency', 'payment_methods', 'billing_data', 'items', 'special_reference') if name not in body]
        if set(body.get('billing_data', ())) != BILLING or not all(isinstance(v, str) and v for v in body['billing_data'].values()):
            wrong.append('billing_data')
        if sum(item['amount'] for item in body.get('items', ())) != body.get('amount') or any(len(item['name']) > 50 for item in body['items']):
            wrong.append('items')
        if any(i['reference'] == body.get('special_reference') for i in self.intentions.values()):
            wrong.append('special_reference')
        if wrong:
            return 400, {name: ['This field is not valid.'] for name in wrong}
        if body['payment_methods'] != [events.INTEGRATION]:
            return 404, {'detail': 'Integration ID does not exist.'}
        order = next(self.orders)
        self.intentions[order] = {'reference': body['special_reference'], 'amount': body['amount']}
        return 201, {'id': f'pi_test_{order}', 'intention_order_id': order, 'client_secret': f'egy_csk_test_{order}+/=&?x', 'status': 'intended',
                     'special_reference': body['special_reference'], 'payment_methods': [{'integration_id': events.INTEGRATION}], 'confirmed': False,
                     'intention_detail': {'amount': body['amount'], 'currency': body['currency'], 'items': body['items']},
                     'payment_keys': [], 'extras': {'creation_extras': None}}

    def token(self, request, body):
        if body != {'api_key': API_KEY}:
            return 403, {'detail': 'incorrect credentials'}
        token = f'tok-{len(self.tokens)}-8c1f0be2'
        self.tokens.add(token)
        return 201, {'token': token, 'profile': {'id': 164295}}

    def inquiry(self, request, body):
        if request.headers['Authorization'].removeprefix('Bearer ') not in self.tokens:
            return 401, {'detail': 'Token is invalid or expired'}
        if body is None:
            wanted = int(request.path.rsplit('/', 1)[1])
            found = [t for ts in self.transactions.values() for t in ts if t['id'] == wanted]
        elif 'order_id' in body:
            found = self.transactions.get(body['order_id'], [])
        else:
            found = [t for ts in self.transactions.values() for t in ts if t['order']['merchant_order_id'] == body['merchant_order_id']]
        return (200, found[-1]) if found else (404, {'detail': 'Not found.'})


def conf(shop, *lines):
    return [f"sparky.paymob_base_url = '{shop.url}'", "sparky.paymob_checkout_url = 'https://pay.example.com/unifiedcheckout/'",
            f"sparky.paymob_integration_ids = '{events.INTEGRATION}'", f"sparky.paymob_owner = '{events.OWNER}'", 'sparky.uploads_per_hour = 100000',
            *lines]


@contextlib.contextmanager
def shop_and_server(*lines, tls=False, environment=SECRETS, **options):
    shop = Paymob(tls)
    try:
        more = [f"sparky.tls_ca_file = '{shop.ca}'"] if tls else []
        with Server(conf=conf(shop, *lines, *more), environment=environment, **options) as server:
            yield shop, server
    finally:
        shop.close()


def order_of(server, order_id):
    """The row as a dict."""
    return server.value('SELECT to_jsonb(o) FROM public.orders o WHERE id = %s', (str(order_id),))


def orders_of(server, user):
    """All rows of a user as dicts, oldest first."""
    return [row[0] for row in server.query('SELECT to_jsonb(o) FROM public.orders o WHERE user_id = %s ORDER BY created_at', (user.id,))]


def deliver(server, event):
    """The callback, as an edge function hands it over; what it is answered."""
    return server.client().call('SELECT public.paymob_webhooks(payload := %s, hmac := %s)', (event.body, event.digest))[0][0]
