"""PostgREST without PostgREST: a request becomes exactly the SQL that PostgREST sends, its outcome the HTTP response.

One request is one transaction: BEGIN with the access mode that method and
volatility ask for; the settings, in its order (the role's own, the role, claims,
method, path, headers, cookies, what the function has hoisted); one SELECT that
calls the function and reads response.status and response.headers; COMMIT.  The
functions and their arguments come from the catalogue, as its schema cache does.
"""

import dataclasses
import json
import re

import psycopg2

# SQLSTATE to status where it is not 400; the longest prefix counts.
STATUS = {'08': 503, '09': 500, '0L': 403, '0P': 403, '23503': 409, '23505': 409, '25006': 405, '25': 500, '21000': 500, '28': 403, '2D': 500,
          '38': 500, '39': 500, '3B': 500, '40': 500, '42883': 404, '42P01': 404, '42P17': 500, '53400': 500, '53': 503, '54': 500, '55': 500,
          '57P01': 503, '57': 500, '58': 500, 'F0': 500, 'HV': 500, 'P0001': 400, 'P0': 500, 'XX': 500}
HOISTED = ('statement_timeout', 'plan_filter.statement_cost_limit', 'default_transaction_isolation')
MEDIA = {'bytea': 'application/octet-stream', 'text': 'text/plain', 'json': 'application/json', 'jsonb': 'application/json'}


@dataclasses.dataclass
class Function:
    name: str
    names: list
    types: list
    volatility: str = 'v'
    required: int = 0
    returns_set: bool = False
    result: str = 'jsonb'
    config: dict = dataclasses.field(default_factory=dict)
    comment: str = None

    def unnamed(self):
        return len(self.types) == 1 and not self.names


@dataclasses.dataclass
class Response:
    status: int
    headers: dict
    body: object
    sqlstate: str = None

    def json(self):
        return self.body


def functions(server, db=None):
    """The schema cache: every function of schema public, with the arguments a client may name."""
    rows = server.query("""
        SELECT p.proname, p.provolatile::text, coalesce(p.proargnames, '{}')::text[], coalesce(p.proargmodes::text[], '{}'),
            ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY a(t, n) ORDER BY n), p.pronargs - p.pronargdefaults,
            p.proretset, format_type(p.prorettype, NULL), coalesce(p.proconfig, '{}'), obj_description(p.oid, 'pg_proc')
        FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.prokind = 'f' ORDER BY p.proname, p.pronargs""", db=db)
    found = []
    for name, volatility, names, modes, types, required, returns_set, result, config, comment in rows:
        names = [n for n, m in zip(names, modes or ['i'] * len(names)) if m in 'ib' and n]
        found.append(Function(name, names, types, volatility, required, returns_set, result, dict(c.split('=', 1) for c in config), comment))
    return found


def statement(function, body):
    """The one SELECT of a request, and its parameters: result, headers and status as text."""
    extra = " nullif(current_setting('response.headers', true), ''), nullif(current_setting('response.status', true), '')"
    target = f'"public"."{function.name}"'
    if function.unnamed():
        arguments, call = '(SELECT %s::' + function.types[0] + ' AS body) pgrst_args', target + '(pgrst_args.body)'
        value = psycopg2.Binary(body) if isinstance(body, bytes) else body if isinstance(body, str) else json.dumps(body)
    else:
        types = dict(zip(function.names, function.types))
        columns = ', '.join(f'"{key}" {types[key]}' for key in body)
        arguments = f'(SELECT * FROM json_to_record(%s::json) AS _({columns}) LIMIT 1) pgrst_args' if body else '(SELECT %s::json) pgrst_args'
        call = target + '(' + ', '.join(f'"{key}" := pgrst_args."{key}"' for key in body) + ')'
        value = json.dumps(body, default=str)
    if function.returns_set:
        source = f'SELECT pgrst_call.* FROM {arguments}, LATERAL {call} pgrst_call'
        result = "coalesce(json_agg(_postgrest_t), '[]')::text"
    else:
        source = f'SELECT pgrst_call.pgrst_scalar FROM {arguments}, LATERAL (SELECT {call} AS pgrst_scalar) pgrst_call'
        raw = function.result == '"*/*"'
        result = "(string_agg(_postgrest_t.pgrst_scalar, ''))::bytea" if raw else "coalesce(json_agg(_postgrest_t.pgrst_scalar)->0, 'null')::text"
    return f'WITH pgrst_source AS ({source}) SELECT {result},{extra} FROM (SELECT * FROM pgrst_source) _postgrest_t', (value,)


class Session:
    """The connection of one user, by the NOINHERIT login role; role and claims as his JWT says."""

    def __init__(self, server, user=None, db=None, role=None):
        self.server, self.user, self.db = server, user, db
        self.role = role or ('authenticated' if user else 'anon')
        self.connection = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def _connect(self):
        if self.connection is None or self.connection.closed:
            self.connection = self.server.connect(self.db, 'authenticator', autocommit=False)

    def claims(self):
        claims = {'role': self.role, 'aud': self.role}
        if self.user:
            claims['sub'] = str(self.user)
        return claims

    def set_up(self, cursor, method, path, headers, of_role=(), of_function=()):
        """The settings of a request, in PostgREST's order; those of role and function are pairs."""
        settings = [('search_path', '"public", "public", "extensions"'), *of_role, ('role', self.role), ('request.jwt.claims', json.dumps(self.claims())),
                    ('request.method', method), ('request.path', path), ('request.headers', json.dumps(headers)), ('request.cookies', '{}'), *of_function]
        cursor.execute('SELECT ' + ', '.join(['set_config(%s, %s, true)'] * len(settings)), [x for pair in settings for x in pair])


class PostgREST(Session):
    """A client of one user. hoist=False is a PostgREST before 12.2."""

    def __init__(self, server, user=None, role=None, db=None, hoist=True):
        super().__init__(server, user, db, role)
        self.hoist = hoist
        self.cache = functions(server, db)
        self.role_settings = dict(c.split('=', 1) for c in server.value('SELECT coalesce(rolconfig, %s) FROM pg_roles WHERE rolname = %s', ([], self.role), db=db))

    def get(self, name, **arguments):
        return self.request('GET', name, arguments)

    def post(self, name, body=None, content_type='application/json', headers=None, **arguments):
        return self.request('POST', name, arguments if body is None else body, content_type, headers)

    def request(self, method, name, body, content_type='application/json', headers=None):
        function = self.find(name, body, content_type, method)
        if function is None:
            return Response(404, {}, {'code': 'PGRST202', 'message': f'Could not find the function public.{name}'}, 'PGRST202')
        self._connect()
        read_only = method in ('GET', 'HEAD') or function.volatility != 'v'
        try:
            with self.connection.cursor() as cursor:
                cursor.execute(f"BEGIN ISOLATION LEVEL {function.config.get('default_transaction_isolation', 'READ COMMITTED')} READ {'ONLY' if read_only else 'WRITE'}")
                sent = {'content-type': content_type, 'user-agent': 'test', **{k.lower(): v for k, v in (headers or {}).items()}}
                hoisted = [(key, value) for key, value in function.config.items() if self.hoist and key in HOISTED]
                self.set_up(cursor, method, f'/rpc/{name}', sent, self.role_settings.items(), hoisted)
                cursor.execute(*statement(function, body))
                result, headers_set, status = cursor.fetchone()
            self.connection.commit()
        except psycopg2.Error as error:
            if not self.connection.closed:
                self.connection.rollback()
            return self.failure(error)
        given = {}
        for header in json.loads(headers_set or '[]'):
            (key, value), = header.items()
            given[key] = value
        return Response(int(status or (204 if function.result == 'void' else 200)), given,
                        bytes(result) if isinstance(result, memoryview) else json.loads(result))

    def find(self, name, body, content_type, method):
        """PostgREST's choice among functions of one name: all keys known and none missing, else a single unnamed argument."""
        named = [f for f in self.cache if f.name == name and not f.unnamed()]
        if isinstance(body, dict):
            for f in named:
                if set(body) <= set(f.names) and set(f.names[:f.required]) <= set(body):
                    return f
        if method == 'POST':
            for f in self.cache:
                if f.name == name and f.unnamed() and MEDIA.get(f.types[0]) == content_type.split(';')[0]:
                    return f
        return None

    def failure(self, error):
        """An error as a response, and what PostgREST demands of it."""
        code, message = error.pgcode, error.diag.message_primary
        if code == 'PGRST':
            body, extra = json.loads(message), json.loads(error.diag.message_detail)
            assert set(body) >= {'code', 'message'} and set(extra) >= {'status', 'headers'}, (message, error.diag.message_detail)
            assert isinstance(extra['status'], int) and all(isinstance(v, str) for v in extra['headers'].values())
            return Response(extra['status'], extra['headers'], body, body['code'])
        body = {'code': code, 'message': message, 'details': error.diag.message_detail, 'hint': error.diag.message_hint}
        if re.fullmatch(r'PT\d{3}', code):
            assert re.fullmatch(r'[ -~]+', message), message        # it becomes the status line as it is
            return Response(int(code[2:]), {}, body, code)
        if code == '42501':
            return Response(403 if self.user else 401, {}, body, code)
        for length in (5, 3, 2):
            if code[:length] in STATUS:
                return Response(STATUS[code[:length]], {}, body, code)
        return Response(400, {}, body, code)
