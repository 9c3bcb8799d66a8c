"""Keys in Supabase Vault: found, rotated, and nowhere else."""

import os
import signal

import psycopg2
import pytest
from background import Background, wait_until_asleep
from conftest import KEY, User
from sparky_server import Refused, Server, wait_for
from supabase_shape import SHAPE

OTHER_KEY = 'AQ.Zq8-rotated-key-not-real'


@pytest.fixture(scope='module')
def server(emulator_process):
    """No key in setting or environment."""
    with Server(emulator=emulator_process, key=None, conf=["log_statement = 'none'"], **SHAPE) as server:
        yield server


@pytest.fixture
def secret(server):
    """The key as postgres puts it there, from psql or the dashboard."""
    server.query("SELECT vault.create_secret(%s, 'gemini_api_key', 'for sparky')", (KEY,), user='postgres')
    reload(server)
    yield server.value("SELECT id FROM vault.secrets WHERE name = 'gemini_api_key'")
    server.query("DELETE FROM vault.secrets WHERE name IN ('gemini_api_key', 'other')", user='postgres')
    reload(server)


def reload(server):
    """A copy is good for a minute, or until the next reload."""
    server.reload()


def problems(server):
    return server.value('SELECT sparky.health()')['problems']


def test_without_it_the_missing_setting_is_named(server, emulator, user):
    with pytest.raises(Refused) as refused:
        user.api.process('vintage', user.photo())
    assert (refused.value.status, refused.value.word) == (503, 'not_configured')
    assert refused.value.detail == 'sparky.gemini_api_key is not set'
    assert 'sparky.gemini_api_key is not set' in problems(server)


def test_a_key_in_vault_serves(server, emulator, user, secret):
    assert user.api.process('vintage', user.photo())['status'] == 'succeeded'
    assert problems(server) == []
    user.assert_money(credits=9, usage=1)


def test_a_rotated_key_is_used(server, emulator, user, secret):
    """The provider refuses the old key; what was called with it fails, and the next calls bring the new one."""
    assert user.api.process('vintage', user.photo())['status'] == 'succeeded'
    server.query('SELECT vault.update_secret(%s, %s)', (secret, OTHER_KEY), user='postgres')
    assert user.api.process('vintage', user.photo())['status'] == 'succeeded'       # still the copy
    reload(server)
    assert user.api.process('vintage', user.photo())['status'] == 'failed'          # the emulator knows only the first
    server.query('SELECT vault.update_secret(%s, %s)', (secret, KEY), user='postgres')
    reload(server)
    assert user.api.process('vintage', user.photo())['status'] == 'succeeded'


def test_white_space_around_a_key_is_not_the_key(server, emulator, user, secret):
    """As it comes from a file, or from a dashboard's clipboard."""
    server.query('SELECT vault.update_secret(%s, %s)', (secret, f' {KEY}\r\n'), user='postgres')
    reload(server)
    assert user.api.process('cartoon', user.photo())['status'] == 'succeeded' and problems(server) == []


def test_a_secret_that_is_taken_away_is_forgotten(server, emulator, user, secret):
    assert user.api.process('vintage', user.photo())['status'] == 'succeeded'
    server.query("DELETE FROM vault.secrets WHERE id = %s", (secret,), user='postgres')
    reload(server)
    with pytest.raises(Refused, match='not_configured'):
        user.api.process('vintage', user.photo())


def test_a_change_is_seen_without_a_reload(server, emulator, rich, secret):
    """A copy is good for a minute."""
    path = rich.photo()
    assert rich.api.process('vintage', path)['status'] == 'succeeded'
    server.query("DELETE FROM vault.secrets WHERE id = %s", (secret,), user='postgres')

    def refused():
        try:
            rich.api.process('vintage', path, refresh=True)
        except Refused as error:
            return error.word == 'not_configured'
    wait_for(refused, 75, 'the copy to be given up', pause=2)


def test_a_broken_vault_is_no_error(server, emulator, user, secret):
    """What was read before stays in use; health() tells, without a word of what is in there."""
    assert user.api.process('vintage', user.photo())['status'] == 'succeeded'
    server.psql("UPDATE vault.secrets SET secret = 'no base64 %' WHERE name = 'gemini_api_key'")
    reload(server)
    assert problems(server)[0].startswith('secrets in vault cannot be read (')
    assert user.api.process('vintage', user.photo())['status'] == 'succeeded'
    server.query('SELECT vault.update_secret(%s, %s)', (secret, KEY), user='postgres')
    reload(server)
    assert problems(server) == []


def test_a_vault_that_may_not_be_read_is_none(server, emulator, user, secret):
    server.psql('REVOKE SELECT ON vault.decrypted_secrets FROM postgres, service_role CASCADE; REVOKE pg_read_all_data FROM postgres')
    try:
        reload(server)
        assert problems(server) == ['sparky.gemini_api_key is not set']
    finally:
        server.psql('GRANT SELECT ON vault.decrypted_secrets TO postgres, service_role; GRANT pg_read_all_data TO postgres')
    reload(server)
    assert problems(server) == []


def test_clients_cannot_ask(server, user, secret):
    for sql in ("SELECT sparky.vault_secrets(ARRAY['gemini_api_key'])", 'SELECT decrypted_secret FROM vault.decrypted_secrets'):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            user.api.call(sql)


def test_it_is_nowhere(server, emulator, user, secret):
    """Not in the log, in a table, in an error: not even when the provider says it back."""
    emulator.script({'fault': 'echo_key', 'times': 1})
    failed = user.api.process('vintage', user.photo())
    assert KEY not in repr(failed) and user.api.process('vintage', user.photo())['status'] == 'succeeded'
    assert KEY not in server.log()
    done = server.run('pg_dump', '-a', '--exclude-schema=vault', 'postgres')
    assert done.returncode == 0 and len(done.stdout) > 10000 and KEY not in done.stdout
    for (state,) in server.query("SELECT query FROM pg_stat_activity WHERE backend_type <> 'client backend'"):
        assert KEY not in (state or '')


def test_a_false_vault_is_not_asked(emulator_process):
    """Whoever may make schemas can make one of this name; sparky reads only one of a superuser's, or of its own owner."""
    with Server(emulator=emulator_process, key=None) as server:
        server.psql("""CREATE ROLE stranger LOGIN; CREATE SCHEMA vault AUTHORIZATION stranger; GRANT ALL ON SCHEMA vault TO PUBLIC;
            SET SESSION AUTHORIZATION stranger;
            CREATE TABLE vault.caught (who name);
            CREATE FUNCTION vault.catch() RETURNS text LANGUAGE plpgsql AS $$ BEGIN INSERT INTO vault.caught VALUES (current_user); RETURN 'x'; END $$;
            CREATE VIEW vault.decrypted_secrets AS SELECT 'gemini_api_key'::text AS name, vault.catch() AS decrypted_secret;
            GRANT ALL ON ALL TABLES IN SCHEMA vault TO PUBLIC;""")
        user = User(server)
        with pytest.raises(Refused, match='not_configured'):
            user.api.process('vintage', user.photo())
        assert problems(server) == ['sparky.gemini_api_key is not set']
        assert server.value('SELECT count(*) FROM vault.caught') == 0
        server.psql('ALTER SCHEMA vault OWNER TO postgres; ALTER VIEW vault.decrypted_secrets OWNER TO postgres')
        reload(server)
        wait_for(lambda: problems(server) != ['sparky.gemini_api_key is not set'], 20, 'the same vault in good hands')
        user.api.close()


def test_a_key_that_goes_while_calls_are_claimed(emulator_process):
    """Two jobs are claimed in one transaction; while the first is, the key is taken away, and the second finds out.
    No call is made for the first either, and the worker lives."""
    with Server(emulator=emulator_process, key=None) as server:
        server.psql("""CREATE SCHEMA vault;
            CREATE TABLE vault.secrets (name text, secret text);
            CREATE VIEW vault.decrypted_secrets AS SELECT name,
                CASE secret WHEN 'broken' THEN (1 / (length(secret) - 6))::text ELSE secret END AS decrypted_secret FROM vault.secrets;""")
        server.query("INSERT INTO vault.secrets VALUES ('gemini_api_key', %s)", (KEY,))
        reload(server)
        user = User(server)
        assert user.api.process('vintage', user.photo())['status'] == 'succeeded'
        # a copy of before serves while the vault is broken, and the vault is asked again after 5 s
        server.psql("""UPDATE vault.secrets SET secret = 'broken';
            CREATE FUNCTION public.take_away() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF EXISTS (SELECT FROM vault.secrets) THEN DELETE FROM vault.secrets; PERFORM pg_sleep(5.5); END IF;
                RETURN NEW;
            END $$;
            CREATE TRIGGER take_away BEFORE INSERT ON sparky.provider_calls FOR EACH ROW EXECUTE FUNCTION public.take_away()""")
        reload(server)
        paths, other, worker = [user.photo(), user.photo()], user.another_session(), server.worker_pid()
        pids = user.api.pid(), other.pid()
        before = emulator_process.stats()['received']
        os.kill(worker, signal.SIGSTOP)
        try:
            callers = [Background(api.process, 'vintage', path) for api, path in zip((user.api, other), paths)]
            for pid in pids:
                wait_until_asleep(server, pid)
            reload(server)          # so that both are accepted, and claimed, with what the broken vault leaves
        finally:
            os.kill(worker, signal.SIGCONT)
        for caller in callers:
            result = caller.result()
            assert (result['status'], result['error']['code'], result['credits_used']) == ('failed', 'not_configured', 0)
        assert emulator_process.stats()['received'] == before and server.worker_pid() == worker
        user.assert_money(credits=9, usage=1)
        user.api.close()
        other.close()
