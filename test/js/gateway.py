"""What stands between supabase-js and the database in the tests of test/js.

Sign-in and the /rest/v1/ prefix, as Supabase's gateway has them.  Behind it is
the PostgREST that POSTGREST names; without one, a stand-in that says the SQL of
test/e2e/postgrest_call.py and knows of tables only what these tests ask.
"""

import base64
import hashlib
import hmac
import http.client
import http.server
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.parse

import psycopg2
from psycopg2 import sql

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'e2e'))
from postgrest_call import PostgREST                     # noqa: E402

SECRET = 'a-secret-of-the-tests-of-32-characters-or-more'


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b'=').decode()


def token(**claims):
    head = encode(b'{"alg":"HS256","typ":"JWT"}') + '.' + encode(json.dumps({'exp': int(time.time()) + 3600, **claims}).encode())
    return head + '.' + encode(hmac.new(SECRET.encode(), head.encode(), hashlib.sha256).digest())


def claims_of(jwt):
    head, _, signature = jwt.rpartition('.')
    assert encode(hmac.new(SECRET.encode(), head.encode(), hashlib.sha256).digest()) == signature
    payload = head.split('.')[1]
    return json.loads(base64.urlsafe_b64decode(payload + '=' * (-len(payload) % 4)))


class Gateway:
    def __init__(self, port):
        self.port, self.url = port, f'http://127.0.0.1:{port}'
        self.server = self.postgrest = self.postgrest_port = None

    def start(self, server):
        self.server = server
        if os.environ.get('POSTGREST'):
            self.start_postgrest(os.environ['POSTGREST'])
        gateway = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'

            def log_message(self, *_):
                pass

            def handle_any(self):
                body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
                status, headers, answer = gateway.answer(self.command, self.path, self.headers, body)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header('Content-Length', str(len(answer)))
                self.end_headers()
                if self.command != 'HEAD':
                    self.wfile.write(answer)
            do_GET = do_POST = do_PATCH = do_DELETE = do_HEAD = handle_any

        self.http = http.server.ThreadingHTTPServer(('127.0.0.1', self.port), Handler)
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
        while self.forward('GET', '/', {}, b'')[0] != 200:
            assert time.monotonic() < end and self.postgrest.poll() is None, 'PostgREST does not answer'
            time.sleep(0.1)

    def forward(self, method, path, headers, body):
        connection = http.client.HTTPConnection('127.0.0.1', self.postgrest_port, timeout=90)
        try:
            connection.request(method, path, body or None, {k: v for k, v in headers.items() if k.lower() not in ('host', 'connection', 'content-length')})
            response = connection.getresponse()
            answer = response.read()
            return response.status, {k: v for k, v in response.getheaders() if k.lower() not in ('transfer-encoding', 'connection', 'content-length', 'date', 'server')}, answer
        except OSError:
            return 0, {}, b''
        finally:
            connection.close()

    def answer(self, method, path, headers, body):
        address = urllib.parse.urlsplit(path)
        if address.path == '/auth/v1/token':
            return self.sign_in(json.loads(body))
        if not address.path.startswith('/rest/v1/'):
            return reply(404, {'message': 'no such service in these tests'})
        if self.postgrest:
            return self.forward(method, path[len('/rest/v1'):], headers, body)
        claims = claims_of((headers.get('Authorization') or '').removeprefix('Bearer ') or token(role='anon'))
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


def reply(status, body, headers=None):
    headers = {re.sub(r'[\r\n]', ' ', k): v for k, v in (headers or {}).items()}
    if isinstance(body, bytes):
        return status, {'Content-Type': 'application/octet-stream', **headers}, body
    return status, {'Content-Type': 'application/json', **headers}, json.dumps(body).encode()
