"""What stands between supabase-js and everything else in the tests of test/js.

One address, as Supabase's gateway has it: /auth/v1/ (sign-in alone), /rest/v1/,
/storage/v1/, /realtime/v1/.  Behind /rest/v1/ is the PostgREST that POSTGREST
names; without one, a stand-in that says the SQL of test/e2e/postgrest_call.py and
knows of tables only what these tests ask.  Behind /storage/v1/ is the emulator of
test/emulator, behind /realtime/v1/ realtime.py.

Paymob's callback is handed on as deploy/nginx.conf and deploy/kong.yml do it: the
digest out of the address into a header, everything else of the sender's left out.
"""

import email
import email.policy
import http.client
import http.server
import json
import os
import re
import select
import socket
import subprocess
import threading
import time
import urllib.parse

import psycopg2
from postgrest_call import PostgREST
from psycopg2 import sql
from tokens import SECRET, BadToken, claims_of, token

WEBHOOK = '/rest/v1/rpc/paymob_webhooks'
OF_ONE_HOP = ('host', 'connection', 'content-length', 'transfer-encoding', 'date', 'server', 'keep-alive')


class Gateway:
    """Has its address from the beginning, since the server's settings name it; answers after start()."""

    def __init__(self):
        self.server = self.storage_port = self.realtime_port = self.postgrest = self.postgrest_port = None
        gateway = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'

            def log_message(self, *_):
                pass

            def handle_any(self):
                if self.headers.get('Upgrade') == 'websocket':
                    return gateway.tunnel(self)
                body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
                status, headers, answer = gateway.answer(self.command, self.path, self.headers, body)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header('Content-Length', str(len(answer)))
                self.end_headers()
                if self.command != 'HEAD':
                    self.wfile.write(answer)
            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = handle_any

        self.http = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.url = f'http://127.0.0.1:{self.http.server_address[1]}'

    def start(self, server, storage_port=None, realtime_port=None):
        self.server, self.storage_port, self.realtime_port = server, storage_port, realtime_port
        if os.environ.get('POSTGREST'):
            self.start_postgrest(os.environ['POSTGREST'])
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def stop(self):
        self.http.shutdown()
        self.http.server_close()
        if self.postgrest:
            self.postgrest.terminate()
            self.postgrest.wait(20)

    def start_postgrest(self, binary):
        with socket.socket() as s:
            s.bind(('127.0.0.1', 0))
            self.postgrest_port = s.getsockname()[1]
        self.postgrest = subprocess.Popen([binary], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={
            'PATH': os.environ['PATH'], 'PGRST_DB_URI': f'postgresql://authenticator@127.0.0.1:{self.server.port}/postgres', 'PGRST_DB_SCHEMAS': 'public',
            'PGRST_DB_ANON_ROLE': 'anon', 'PGRST_JWT_SECRET': SECRET, 'PGRST_SERVER_PORT': str(self.postgrest_port), 'PGRST_DB_USE_LEGACY_GUCS': 'false',
            'PGRST_DB_EXTRA_SEARCH_PATH': 'public,extensions', 'LANG': 'C.UTF-8'})
        end = time.monotonic() + 30
        while self.forward(self.postgrest_port, 'GET', '/', {}, b'')[0] != 200:
            assert time.monotonic() < end and self.postgrest.poll() is None, 'PostgREST does not answer'
            time.sleep(0.1)

    @staticmethod
    def forward(port, method, path, headers, body):
        connection = http.client.HTTPConnection('127.0.0.1', port, timeout=90)
        try:
            connection.request(method, path, body or None, {k: v for k, v in headers.items() if k.lower() not in OF_ONE_HOP})
            response = connection.getresponse()
            answer = response.read()
            return response.status, {k: v for k, v in response.getheaders() if k.lower() not in OF_ONE_HOP}, answer
        except OSError as error:
            return reply(502, {'message': str(error)})
        finally:
            connection.close()

    def tunnel(self, client):
        """A websocket, byte for byte, until one side ends; nothing here reads what is in it."""
        client.close_connection = True
        with socket.create_connection(('127.0.0.1', self.realtime_port)) as far:
            head = ''.join(f'{name}: {value}\r\n' for name, value in client.headers.items())
            far.sendall(client.raw_requestline + head.encode() + b'\r\n')
            other = {client.connection: far, far: client.connection}
            while True:
                for ready in select.select(list(other), [], [])[0]:
                    try:
                        data = ready.recv(65536)
                        other[ready].sendall(data)
                    except OSError:
                        return
                    if not data:
                        return

    def answer(self, method, path, headers, body):
        address = urllib.parse.urlsplit(path)
        if address.path == '/auth/v1/token':
            return self.sign_in(json.loads(body))
        if address.path.startswith('/storage/v1/') and self.storage_port:
            return self.forward(self.storage_port, method, path, *raw_upload(headers, body))
        if address.path == WEBHOOK and method == 'POST':
            return self.paymob_webhooks(dict(urllib.parse.parse_qsl(address.query)).get('hmac', ''), body)
        if not address.path.startswith('/rest/v1/'):
            return reply(404, {'message': 'no such service in these tests'})
        if self.postgrest:
            return self.forward(self.postgrest_port, method, path[len('/rest/v1'):], headers, body)
        try:
            claims = claims_of((headers.get('Authorization') or '').removeprefix('Bearer ') or token(role='anon'))
        except BadToken as error:
            return reply(401, {'code': 'PGRST301', 'message': str(error)})
        api = PostgREST(self.server, claims.get('sub'), claims['role'])
        try:
            name = address.path[len('/rest/v1/'):]
            query = dict(urllib.parse.parse_qsl(address.query))
            if name.startswith('rpc/'):
                content = headers.get('Content-Type') or 'application/json'
                given = query if method == 'GET' else body if content.startswith('application/octet-stream') else json.loads(body or '{}')
                response = api.request(method, name[4:], given, content, {'authorization': headers.get('Authorization') or ''})
                return reply(response.status, response.body, response.headers)
            return self.table(api, method, name, query, body, headers)
        finally:
            api.close()

    def paymob_webhooks(self, digest, body):
        headers = {'X-Paymob-Hmac': digest, 'Content-Type': 'application/json'}
        if self.postgrest:
            return self.forward(self.postgrest_port, 'POST', '/rpc/paymob_webhooks', headers, body)
        with PostgREST(self.server) as api:
            response = api.request('POST', 'paymob_webhooks', body.decode(), 'application/json', headers)
        return reply(response.status, response.body, response.headers)

    def sign_in(self, given):
        row = self.server.row('SELECT id, email FROM auth.users WHERE email = %s', (given['email'],))
        if row is None or given['password'] != 'secret':
            return reply(400, {'code': 400, 'error_code': 'invalid_credentials', 'msg': 'Invalid login credentials'})
        user = {'id': str(row[0]), 'email': row[1], 'aud': 'authenticated', 'role': 'authenticated', 'app_metadata': {}, 'user_metadata': {}, 'created_at': '2026-01-01T00:00:00Z'}
        return reply(200, {'access_token': token(sub=str(row[0]), role='authenticated', aud='authenticated'), 'token_type': 'bearer', 'expires_in': 3600,
                           'refresh_token': 'none', 'user': user})

    def table(self, api, method, name, query, body, headers):
        """select=columns, column=eq.value, order, limit: no more of PostgREST's language than these tests use."""
        columns = [c.strip() for c in query.pop('select', '*').split(',')]
        order, limit = query.pop('order', None), query.pop('limit', None)
        where = [sql.SQL('{}::text = {}').format(sql.Identifier(k), sql.Literal(v.removeprefix('eq.'))) for k, v in query.items()]
        condition = sql.SQL(' WHERE ') + sql.SQL(' AND ').join(where) if where else sql.SQL('')
        what = sql.SQL('*') if columns == ['*'] else sql.SQL(', ').join(map(sql.Identifier, columns))
        target = sql.Identifier('public', name)
        if method == 'GET':
            statement = sql.SQL('SELECT {} FROM {}').format(what, target) + condition
            if order:
                column, *rest = order.split('.')
                statement += sql.SQL(' ORDER BY {} ').format(sql.Identifier(column)) + sql.SQL('DESC' if 'desc' in rest else 'ASC')
            if limit:
                statement += sql.SQL(' LIMIT {}').format(sql.Literal(int(limit)))
        elif method == 'PATCH':
            changes = sql.SQL(', ').join(sql.SQL('{} = {}').format(sql.Identifier(k), sql.Literal(json.dumps(v) if isinstance(v, dict) else v)) for k, v in json.loads(body).items())
            statement = sql.SQL('UPDATE {} SET {}').format(target, changes) + condition + sql.SQL(' RETURNING {}').format(what)
        elif method == 'DELETE':
            statement = sql.SQL('DELETE FROM {}').format(target) + condition + sql.SQL(' RETURNING {}').format(what)
        else:
            values = json.loads(body)
            values = values[0] if isinstance(values, list) else values
            statement = sql.SQL('INSERT INTO {} ({}) VALUES ({}) RETURNING 1').format(target, sql.SQL(', ').join(map(sql.Identifier, values)), sql.SQL(', ').join(map(sql.Literal, values.values())))
        connection = self.server.connect(user='authenticator', autocommit=False)
        try:
            with connection.cursor() as cursor:
                settings = [('role', api.role), ('request.jwt.claims', json.dumps({'sub': api.user, 'role': api.role} if api.user else {'role': api.role}))]
                for key, value in settings:
                    cursor.execute('SELECT set_config(%s, %s, true)', (key, value))
                cursor.execute(sql.SQL("WITH s AS ({}) SELECT coalesce(json_agg(s), '[]')::text FROM s").format(statement))
                rows = json.loads(cursor.fetchone()[0])
            connection.commit()
        except psycopg2.Error as error:
            connection.rollback()
            response = api.failure(error)
            return reply(response.status, response.body)
        finally:
            connection.close()
        if 'return=minimal' in (headers.get('Prefer') or '') or (method in ('PATCH', 'DELETE') and 'return=representation' not in (headers.get('Prefer') or '')):
            return 204, {}, b''
        if 'vnd.pgrst.object' in (headers.get('Accept') or ''):
            return reply(200, rows[0]) if len(rows) == 1 else reply(406, {'code': 'PGRST116', 'message': 'not one row'})
        return reply(200, rows)


def raw_upload(headers, body):
    """(headers, body) of an upload that came as a form, which is how supabase-js sends a Blob, made a plain one: the service reads both, the emulator this."""
    if not (headers.get('Content-Type') or '').startswith('multipart/form-data'):
        return headers, body
    form = email.message_from_bytes(b'Content-Type: ' + headers['Content-Type'].encode() + b'\r\n\r\n' + body, policy=email.policy.HTTP)
    fields = {part.get_param('name', header='content-disposition'): part for part in form.iter_parts()}
    file = fields.pop('')
    kept = {k: v for k, v in headers.items() if k.lower() not in ('content-type', 'content-length', 'cache-control')}
    if 'cacheControl' in fields:
        kept['Cache-Control'] = 'max-age=' + fields['cacheControl'].get_payload().strip()
    return {**kept, 'Content-Type': file.get_content_type()}, file.get_payload(decode=True)


def reply(status, body, headers=None):
    headers = {re.sub(r'[\r\n]', ' ', k): v for k, v in (headers or {}).items()}
    if isinstance(body, bytes):
        return status, {'Content-Type': 'application/octet-stream', **headers}, body
    return status, {'Content-Type': 'application/json', **headers}, json.dumps(body).encode()
