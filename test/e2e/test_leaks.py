"""The key: given to the server in one place, sent in one header, and found nowhere else; behind the Storage API its key too.

Two servers live through the same day (good calls, every failure whose words hold
the key, an analysis that holds it, crashes, reloads): one with the key in the
conf file at debug5 and every statement logged, one with the key in its
environment at debug2.  Then everything is searched: each row of each table and view,
the statistics, a dump, the log, the whole data directory.
"""

import base64
import json
import os
import re
import time

import psycopg2
import pytest
from conftest import ON_STORAGE, User, fresh_photo
from emulator import Emulator
from sparky_server import Server, command_line, wait_for
from storage_control import SERVICE_KEY

KEY = 'AQ.Zq8"back\\slash+plus-never-to-be-seen'
ESCAPED = json.dumps(KEY)[1:-1]          # for parameters that the emulator puts between quotes as they are
NEXT_KEY = 'AQ.second-key-never-to-be-seen-either'
LOUD = ["log_statement = 'all'", "log_min_error_statement = 'debug5'", 'log_duration = on', 'log_connections = on', 'log_disconnections = on', 'log_parameter_max_length = -1',
        'log_parameter_max_length_on_error = -1', 'log_error_verbosity = verbose',
        'track_activity_query_size = 1MB', "pg_stat_statements.track = 'all'", 'pg_stat_statements.track_utility = on', 'sparky.call_timeout = 5s']


def forms(key):
    """The key as it may stand in a text: as it is, as JSON or SQL writes it, hidden in hexadecimal, base64 or a URL, and both its halves."""
    texts = {key, json.dumps(key)[1:-1], json.dumps(json.dumps(key)[1:-1])[1:-1], key.replace("'", "''"), key.replace('\\', '\\\\'), key[:len(key) // 2], key[len(key) // 2:],
             re.sub(r'[^A-Za-z0-9_.~-]', lambda m: '%%%02X' % ord(m[0]), key)}
    found = {text.encode() for text in texts} | {key.encode().hex().encode(), key.encode().hex().upper().encode()}
    for shift in range(3):          # base64 of something that has it inside: the middle does not depend on what is around
        inner = base64.b64encode(b'x' * shift + key.encode())
        found.add(inner[4:len(inner) // 4 * 4 - 4])
    return found


ALL_FORMS = sorted(forms(KEY) | forms(NEXT_KEY) | (forms(SERVICE_KEY) if ON_STORAGE else set()))


def holds_key(data):
    if isinstance(data, str):
        data = data.encode()
    return [form for form in ALL_FORMS if form in data]


@pytest.fixture(scope='module')
def gemini():
    with Emulator(latency_ms=20, key=KEY, answer='tiny') as emulator:
        yield emulator


class Day:
    """A server, and all that happened on it."""

    def __init__(self, emulator, where):
        self.emulator, self.where, self.told = emulator, where, []
        conf = LOUD + [f"log_min_messages = '{'debug5' if where == 'conf' else 'debug2'}'", f"client_min_messages = '{'notice' if where == 'conf' else 'debug1'}'"]
        if where == 'conf':
            conf += ["sparky.gemini_api_key = '" + KEY.replace('\\', '\\\\').replace("'", "''") + "'", f"sparky.storage_service_key = '{SERVICE_KEY}'"]
        self.server = Server(conf=conf, preload='pg_stat_statements,sparky', emulator=emulator, key=KEY if where == 'environment' else None,
                             environment={'STORAGE_SERVICE_KEY': ''} if where == 'conf' else None)
        self.server.psql('CREATE EXTENSION pg_stat_statements')
        self.user = User(self.server, credits=100000, plan=3)
        self.good_calls()
        self.failures()
        self.crashes()
        self.reloads()
        self.user.api.close()

    def good_calls(self):
        self.emulator.reset()
        for tool in ('cartoon', 'vintage'):
            assert self.call(tool)['status'] == 'succeeded'
        assert self.call('face-shape')['status'] == 'succeeded'
        assert len(self.emulator.calls()) == 3         # the emulator takes no other key

    def failures(self):
        """The provider says the key back, in every text of an answer that we keep."""
        analysis = {'face_found': True, 'shape': 'oval', 'confidence': 0.5, 'explanation': f'Your key is {KEY}.', 'recommendations': [{'hairstyle': KEY, 'reason': KEY}]}
        for tool, rule, status in (
                ('cartoon', {'fault': 'echo_key'}, 'failed'), ('face-shape', {'fault': 'echo_key', 'status': 400}, 'failed'), ('cartoon', {'fault': 'echo_key', 'status': 404}, 'failed'),
                ('cartoon', {'fault': 'bad_request', 'message': f'x{KEY}y{KEY}'}, 'failed'), ('cartoon', {'fault': 'billing', 'message': 'x' * 490 + KEY}, 'failed'),
                ('cartoon', {'fault': 'refusal', 'finish': 'SAFETY', 'message': KEY}, 'failed'), ('cartoon', {'fault': 'refusal', 'finish': ESCAPED}, 'failed'),
                ('cartoon', {'fault': 'blocked_prompt', 'reason': ESCAPED}, 'failed'), ('cartoon', {'fault': 'error_200', 'message': KEY}, 'failed'),
                ('cartoon', {'fault': 'text_only', 'text': KEY}, 'failed'), ('cartoon', {'fault': 'redirect', 'url': 'http://127.0.0.1:1/?' + KEY}, 'failed'),
                ('cartoon', {'fault': 'ok', 'model_version': ESCAPED}, 'succeeded'), ('cartoon', {'fault': 'ok', 'text': KEY}, 'succeeded'),
                ('face-shape', {'fault': 'bad_schema', 'text': json.dumps(analysis)}, 'succeeded'), ('face-shape', {'fault': 'bad_schema', 'text': KEY}, 'failed'),
                ('cartoon', {'fault': 'not_http', 'text': f'{KEY}\r\n'}, 'failed'), ('cartoon', {'fault': 'cut_json'}, 'failed'), ('cartoon', {'fault': 'reset_inside'}, 'failed')):
            self.emulator.script({**rule, 'times': 0})
            result = self.call(tool)
            assert result['status'] == status, (rule, result)
        self.emulator.reset()

    def call(self, tool):
        path = self.user.api.upload(fresh_photo())['path']
        result = (self.user.api.analyze if tool == 'face-shape' else self.user.api.process)(tool, path)
        self.told.append(json.dumps(result))
        return result

    def crashes(self):
        """The worker and then the whole server die while the key is out on a call."""
        for how in ('worker', 'server'):
            self.emulator.hold()
            job = self.user.api.process('cartoon', self.user.photo(), wait_seconds=0)['job_id']
            self.emulator.wait_calls(1)
            if how == 'worker':
                self.server.crash(self.server.worker_pid())
            else:
                self.server.stop('immediate')
                self.user.api.close()
                self.emulator.release()
                self.server.start()
            self.emulator.release()
            self.server.wait_ready()
            self.user.api.close()
            self.server.worker_pid()
            self.told.append(json.dumps(self.user.api.finish(job, 30)))
            self.emulator.reset()

    def reloads(self):
        """A key in the conf file that changes is refused until a restart, without being named."""
        self.server.reload(f"sparky.gemini_api_key = '{NEXT_KEY}'")
        time.sleep(0.5)
        assert self.call('cartoon')['status'] == 'succeeded'
        wait_for(lambda: 'gemini_api_key' in self.server.log(), 20, 'the refusal of the change in the log')


@pytest.fixture(scope='module', params=['conf', 'environment'])
def day(request, gemini):
    day = Day(gemini, request.param)
    yield day
    day.server.destroy()


def test_what_callers_were_told(day):
    for text in day.told:
        assert not holds_key(text), text


def test_the_answers_were_struck_out_not_dropped(day):
    rows = [row[0] for row in day.server.query("SELECT message FROM sparky.provider_calls WHERE message LIKE '%%***%%'")]
    assert len(rows) >= 4
    analysis = day.server.value("SELECT analysis FROM public.generations WHERE analysis::text LIKE '%%***%%'")
    assert analysis['explanation'] == 'Your key is ***.'


# the first is the conf file as a superuser may read it, the others need an argument or a replication slot
SKIPPED = ('pg_file_settings', 'pg_hba_file_rules', 'pg_ident_file_mappings')


def test_no_row_of_any_table_or_view(day):
    """Each row as text, large ones too."""
    rows, relations = 0, 0
    for database, in day.server.query("SELECT datname FROM pg_database WHERE datallowconn AND datname <> 'template1'"):
        connection = day.server.connect(database)
        with connection.cursor() as cursor:
            cursor.execute("SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                           " WHERE c.relkind IN ('r', 'v', 'm', 'p') AND c.relname <> ALL (string_to_array(%(skipped)s, ','))".replace('%I', '%%I'),
                           {'skipped': ','.join(SKIPPED)})
            for relation, in cursor.fetchall():
                cursor.execute(f'SELECT t::text FROM {relation} t')
                texts = [text for text, in cursor if text]
                rows, relations = rows + len(texts), relations + 1
                if holds_key('\n'.join(texts)):
                    raise AssertionError((database, relation, [text[:500] for text in texts if holds_key(text)]))
        connection.close()
    assert rows > 20000 and relations > 200


def test_pg_stat_statements(day):
    rows = day.server.query('SELECT query FROM public.pg_stat_statements')
    assert len(rows) > 50 and [query for query, in rows if holds_key(query)] == []


def test_large_columns(day):
    """bytea as bytes, not as their text."""
    for table, column in (('sparky.stored_files', 'bytes'), ('sparky.answers', 'bytes')):
        for value, in day.server.query(f'SELECT {column} FROM {table}'):
            assert not holds_key(bytes(value))


@pytest.mark.parametrize('role', ['anon', 'authenticated', 'service_role', 'operator', 'postgres'])
def test_settings(day, role):
    """SHOW ALL and pg_settings show it to nobody; SHOW to superusers alone."""
    server = day.server
    server.psql("DO $$ BEGIN IF to_regrole('operator') IS NULL THEN CREATE ROLE operator LOGIN CREATEDB CREATEROLE; END IF; END $$")
    connection = server.connect()
    with connection.cursor() as cursor:
        cursor.execute(f'SET ROLE {role}')
        cursor.execute('SHOW ALL')
        assert not holds_key(json.dumps(cursor.fetchall()))
        cursor.execute('SELECT * FROM pg_settings')
        assert not holds_key(json.dumps(cursor.fetchall(), default=str))
        for sql in ('SHOW sparky.gemini_api_key', "SELECT current_setting('sparky.gemini_api_key', true)"):
            if role == 'postgres':
                cursor.execute(sql)
                assert (cursor.fetchone()[0] == KEY) == (day.where == 'conf')
            else:
                with pytest.raises(psycopg2.errors.InsufficientPrivilege) as error:
                    cursor.execute(sql)
                assert not holds_key(str(error.value))
        if role != 'postgres':
            for sql in ('SELECT * FROM pg_file_settings', "SELECT pg_read_file('postgresql.conf')", "SELECT pg_read_file('/proc/self/environ')",
                        "SET sparky.gemini_api_key = 'mine'", "SET sparky.gemini_base_url = 'http://127.0.0.1:1'", "SELECT set_config('sparky.gemini_base_url', 'x', true)",
                        "ALTER SYSTEM SET sparky.gemini_base_url = 'x'", "ALTER ROLE operator SET sparky.gemini_base_url = 'x'"):
                with pytest.raises(psycopg2.Error) as error:
                    cursor.execute(sql)
                assert not holds_key(str(error.value)), sql
    connection.close()


def test_health_and_activity(day):
    assert not holds_key(day.server.value('SELECT sparky.health()::text'))
    assert not holds_key(json.dumps(day.server.query("SELECT * FROM pg_stat_activity WHERE backend_type LIKE 'sparky%%'"), default=str))


def test_dump(day):
    done = day.server.run('pg_dumpall')
    assert done.returncode == 0 and 'CREATE EXTENSION' in done.stdout and len(done.stdout) > 50000
    assert not holds_key(done.stdout) and not holds_key(done.stderr)


def test_command_lines(day):
    """Also of the emulator's client side: nothing was started with the key among its arguments."""
    pids = [day.server.postmaster_pid(), *day.server.children()]
    lines = [line for line in map(command_line, pids) if line]
    assert len(lines) > 5 and not any(holds_key(line) for line in lines)


def lines_with_key(data):
    return [line[:300] for line in data.split(b'\n') if holds_key(line)]


def test_log(day):
    data = day.server.log_file.read_bytes()
    assert len(data) > 200000 and b'debug' in data.lower() and b'sparky worker' in data
    assert lines_with_key(data) == []


def test_data_directory(day):
    """Every file: WAL, statistics, temporary files, control files; but for the conf file itself."""
    day.server.query('CHECKPOINT')
    seen = 0
    for directory, _, names in os.walk(day.server.data):
        for name in names:
            path = os.path.join(directory, name)
            if name == 'postgresql.conf':
                continue
            try:
                with open(path, 'rb') as f:
                    data = f.read()
            except FileNotFoundError:
                continue
            seen += 1
            assert not holds_key(data), path
    assert seen > 500
