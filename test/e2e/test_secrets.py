"""The API key is in the server's memory, in one request header, and nowhere else.

Each case runs a good photo, an error that echoes the key, a broken connection
and a bad certificate, at the log level up to which core itself does not print
where the key came from: debug5 for the conf file, debug2 for the environment
(at debug3 core prints the whole environment when it starts).
"""

import pytest
from conftest import User, fresh_photo, sha256
from emulator import Emulator
from sparky_server import Server, command_line, wait_for

SECRET = 'AQ.secret-k3y-5fd41c0e9b'
LOGGING = ['log_statement = all', 'log_min_error_statement = debug5', 'log_duration = on', 'log_error_verbosity = verbose',
           'log_parameter_max_length = -1', 'log_parameter_max_length_on_error = -1', 'log_line_prefix = \'%m [%p] %q%u@%d/%a \'',
           'pg_stat_statements.track = all', 'pg_stat_statements.track_utility = on', 'track_activity_query_size = 100000']


def places():
    return [('conf', 'debug5', [f"sparky.gemini_api_key = '{SECRET}'"], {}), ('environment', 'debug2', [], {'GEMINI_API_KEY': SECRET})]


@pytest.fixture(scope='module', params=places(), ids=lambda p: p[0])
def used(request):
    """A server that has used its key in every way: (place, server, what clients were told)."""
    place, level, conf, environment = request.param
    with Emulator(latency_ms=5, key=SECRET, answer='tiny') as emulator, \
            Server(conf=[*LOGGING, f'log_min_messages = {level}', 'sparky.call_timeout = 2s', *conf], environment=environment, key=None,
                   preload='pg_stat_statements,sparky', emulator=emulator) as server:
        server.psql('CREATE EXTENSION pg_stat_statements')
        server.query('UPDATE sparky.tool_settings SET timeout = NULL')
        told, user = [], User(server, credits=100)
        for fault in ({'fault': 'ok'}, {'fault': 'echo_key'}, {'fault': 'echo_key', 'status': 400}, {'fault': 'echo_key', 'status': 429},
                      {'fault': 'key_invalid'}, {'fault': 'not_http', 'text': f'HTTP/1.1 {SECRET}\r\n'}, {'fault': 'text_only', 'text': f'the key is {SECRET}'},
                      {'fault': 'refusal', 'message': f'not with {SECRET}'}, {'fault': 'ok', 'model_version': SECRET},
                      {'fault': 'redirect', 'url': f'{emulator.url}/?key={SECRET}'}, {'fault': 'reset_before', 'times': 0}):
            image = fresh_photo()
            emulator.script({'times': 1, **fault, 'match': {'image_sha256': sha256(image)}})
            # the client asks for everything it can be told
            user.api._connect()
            with user.api.connection.cursor() as cursor:
                cursor.execute('SET client_min_messages = debug5')
            user.api.connection.commit()
            result = user.api.process('cartoon', user.api.upload(image)['path'], wait_seconds=0)
            told += [user.api.finish(result['job_id'], 30), *user.api.connection.notices]
        server.reload('log_checkpoints = on')
        server.value('SELECT pg_terminate_backend(%s)', (server.worker_pid(),))
        wait_for(lambda: 'incarnation 2' in server.log())
        told.append(server.value('SELECT sparky.health()::text'))
        for other in (server.client(), server.client(user.id)):
            for sql in ('SELECT name, setting FROM pg_settings', 'SHOW ALL'):
                told.append(other.call(sql))
        assert len(emulator.calls()) >= 11                  # the key was good: the calls did arrive
        assert user.credits() <= 99
        user.api.close()
        yield place, server, told


def test_it_was_used(used):
    """The cases below mean nothing if no call was made with it."""
    _, server, _ = used
    assert server.value("SELECT count(*) FROM sparky.provider_calls WHERE outcome = 'ok'") >= 1
    assert server.value("SELECT count(*) FROM sparky.provider_calls WHERE outcome = 'auth' AND message LIKE '%***%'") >= 1


def test_not_in_the_log(used):
    place, server, _ = used
    log = server.log()
    assert len(log) > 100000
    lines = [line for line in log.splitlines() if SECRET in line]
    assert lines == []


def test_not_told_to_clients(used):
    _, _, told = used
    assert SECRET not in repr(told)


def test_not_in_any_table(used):
    """Every column of every table, view and statistics row, as text."""
    _, server, _ = used
    found = []
    for schema, name in server.query("SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
                                     " WHERE relkind IN ('r', 'v', 'm', 'p') AND n.nspname NOT IN ('information_schema')"
                                     "   AND c.relname NOT IN ('pg_settings', 'pg_file_settings')"):
        if server.value(f'SELECT count(*) FROM "{schema}"."{name}" t WHERE t::text LIKE %s AND %s NOT IN (\'pg_stat_activity\')', (f'%{SECRET}%', name)):
            found.append((schema, name))
    # our own search texts are in the statistics of statements: they are constants there no more
    assert [f for f in found if f[1] != 'pg_stat_statements'] == []
    assert server.value("SELECT count(*) FROM pg_stat_statements WHERE query LIKE '%secret-k3y%' AND query NOT LIKE '%LIKE%'") == 0


def test_not_in_bytes_that_are_stored(used):
    _, server, _ = used
    assert server.value('SELECT count(*) FROM sparky.stored_files WHERE position(%s::bytea IN bytes) > 0', (SECRET.encode(),)) == 0


def test_not_in_a_dump(used):
    _, server, _ = used
    for program in (('pg_dumpall',), ('pg_dump', '--inserts', '-d', 'postgres')):
        done = server.run(*program)
        assert done.returncode == 0 and len(done.stdout) > 10000 and SECRET not in done.stdout + done.stderr


def test_not_in_an_argument_list_or_a_title(used):
    _, server, _ = used
    lines = [command_line(pid) for pid in [server.postmaster_pid(), *server.children()]]
    assert lines[0] and not any(SECRET.encode() in line for line in lines)
    assert server.value("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE %s AND pid <> pg_backend_pid()", (f'%{SECRET}%',)) == 0


def test_hidden_from_show_all_and_refused_to_others(used):
    place, server, _ = used
    assert server.query("SELECT 1 FROM pg_settings WHERE name = 'sparky.gemini_api_key' AND setting <> ''", user='authenticator') == []
    with server.connect(user='authenticator') as connection, connection.cursor() as cursor:
        with pytest.raises(Exception) as error:
            cursor.execute('SHOW sparky.gemini_api_key')
        assert error.value.pgcode == '42501' and SECRET not in str(error.value)
    with server.connect(user='authenticator') as connection, connection.cursor() as cursor:
        with pytest.raises(Exception) as error:
            cursor.execute("SET sparky.gemini_api_key = 'mine'")
        assert error.value.pgcode in ('42501', '55P02')


def test_reload_does_not_log_it():
    """A changed secret in the conf file: core logs changed values of reloadable settings, so ours is none."""
    with Server(conf=['log_min_messages = debug5', "sparky.gemini_api_key = 'before'"], key=None) as server:
        server.reload(f"sparky.gemini_api_key = '{SECRET}'")
        assert 'cannot be changed without restarting the server' in server.log()
        assert SECRET not in server.log() and "'before'" not in server.log()


def test_the_header_only():
    """Where the emulator sees it: one header, no query, no body."""
    with Emulator(latency_ms=5, key=SECRET, answer='tiny') as emulator, Server(emulator=emulator, key=SECRET) as server:
        user = User(server)
        assert user.api.process('cartoon', user.photo())['status'] == 'succeeded'
        call, = emulator.calls()
        assert call.get('query', []) == [] and SECRET not in call['path']
        names = [name.lower() for name in call['headers']]
        assert names.count('x-goog-api-key') == 1 and 'authorization' not in names and 'cookie' not in names
        user.api.close()


def test_tls_is_verified():
    """Over https with the right authority: works; with another or a wrong name: no byte of the request goes out."""
    with Emulator(latency_ms=5, key=SECRET, answer='tiny', tls=True) as emulator:
        with Server(emulator=emulator, key=SECRET, conf=[f"sparky.tls_ca_file = '{emulator.tls_ca}'"]) as server:
            user = User(server)
            result = user.api.finish(user.api.process('cartoon', user.photo())['job_id'])
            assert result['status'] == 'succeeded', user.provider_calls()
            assert len(emulator.calls()) == 1
            server.reload(f"sparky.tls_ca_file = '{emulator.other_ca}'")
            result = user.api.finish(user.api.process('cartoon', user.photo())['job_id'], 30)
            assert result['status'] == 'failed' and result['error']['code'] == 'provider_failed'
            server.reload("sparky.tls_ca_file = ''")
            result = user.api.finish(user.api.process('cartoon', user.photo())['job_id'], 30)
            assert result['status'] == 'failed'
            assert len(emulator.calls()) == 1
            assert user.credits() == 9
            user.api.close()


def test_plain_http_to_another_host_is_refused():
    with Server(conf=["sparky.gemini_base_url = 'http://198.51.100.7'"], key=SECRET) as server:
        user = User(server)
        result = user.api.finish(user.api.process('cartoon', user.photo())['job_id'], 30)
        assert result['status'] == 'failed' and result['error']['code'] in ('not_configured', 'provider_failed')
        user.assert_money(credits=10, usage=0)
        user.api.close()
