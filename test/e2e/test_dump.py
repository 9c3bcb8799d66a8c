"""Dump, restore, upgrade: nothing is lost, nothing is in the way, in whatever database and cluster it comes back."""

import contextlib
import itertools

import pytest
from conftest import KEY, User
from databases import SUPABASE, create_extension, database, dump
from sparky_server import Server
from test_install import use

_copies = itertools.count(1)


@pytest.fixture(scope='module')
def server(emulator_process):
    """A worker in database app only: a copy that is compared must stay as it was restored."""
    with Server(conf=["sparky.databases = 'app'"], extension=False, emulator=emulator_process, key=KEY) as server:
        server.query('CREATE DATABASE app')
        server.install('app')
        use(server, 'app')
        user = User(server, db='app')
        result = user.api.process('cartoon', user.photo(), idempotency_key='one')
        assert result['status'] == 'succeeded', result
        user.api.close()
        server.psql(OWN, db='app')
        yield server


# What a user adds to our tables and beside them.
OWN = """
CREATE SCHEMA own;
CREATE ROLE support;
ALTER TABLE public.users ADD COLUMN nickname text DEFAULT 'none', ADD CONSTRAINT short CHECK (char_length(nickname) < 10);
CREATE INDEX users_nickname ON public.users (lower(nickname));
CREATE POLICY "support sees all" ON public.generations FOR SELECT TO support USING (true);
GRANT SELECT ON public.generations TO support;
GRANT SELECT (id, username) ON public.users TO support;
CREATE VIEW own.history WITH (security_invoker) AS SELECT u.nickname, g.* FROM public.generations g JOIN public.users u ON u.id = g.user_id;
CREATE TABLE own.likes (generation_id bigint REFERENCES public.generations ON DELETE CASCADE, gender public.gender, PRIMARY KEY (generation_id));
INSERT INTO own.likes SELECT id, 'male' FROM public.generations;
CREATE FUNCTION own.noted() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NEW; END$$;
CREATE TRIGGER own BEFORE UPDATE ON public.notifications FOR EACH ROW EXECUTE FUNCTION own.noted();
UPDATE public.tools SET credits = 2 WHERE id = 'cartoon';
DELETE FROM public.hairstyles WHERE id = 'm-locs';
COMMENT ON TABLE public.plans IS 'Mine now';
REVOKE SELECT ON public.products FROM anon;
ALTER TABLE public.payments SET (fillfactor = 70);
"""


@contextlib.contextmanager
def empty_database(server):
    name = f'copy{next(_copies)}'
    server.query(f'CREATE DATABASE {name} TEMPLATE template0')
    try:
        yield name
    finally:
        server.query(f'DROP DATABASE {name} WITH (FORCE)')


def archive(server, db):
    path = server.dir / f'{db}.dump'
    done = server.run('pg_dump', '-Fc', '-f', path, db)
    assert done.returncode == 0 and done.stderr == '', done.stderr
    return path


def restore(server, path, db, *options):
    done = server.run('pg_restore', '-d', db, *options, path)
    assert done.returncode == 0 and done.stderr == '', done.stderr


def assert_alive(server, db):
    """The triggers and functions of a restored database do their work."""
    assert server.value('SELECT sparky.missing_objects()', db=db) == []
    assert server.value('SELECT sparky.repair()', db=db) == []
    user = server.sign_up('after@example.com', db=db)
    assert server.value('SELECT credits FROM public.users WHERE id = %s', (user,), db=db) == 10
    server.query('UPDATE public.users SET credits = 4 WHERE id = %s', (user,), db=db)
    assert server.value("SELECT delta FROM public.credit_ledger WHERE user_id = %s AND kind = 'adjustment'", (user,), db=db) == -6
    assert server.call_as(user, 'SELECT credits FROM public.users', db=db) == [(4,)]
    server.query('DELETE FROM auth.users WHERE id = %s', (user,), db=db)


@pytest.mark.parametrize('options', [(), ('-j2',), ('--single-transaction',)], ids=['plain', 'parallel', 'one-transaction'])
def test_into_an_empty_database(server, options):
    original = dump(server, 'app')
    assert 'users_nickname' in original and 'support sees all' in original and 'nickname text DEFAULT' in original
    with empty_database(server) as db:
        restore(server, archive(server, 'app'), db, *options)
        assert dump(server, db) == original
        assert_alive(server, db)


def test_as_sql_text(server):
    with empty_database(server) as db:
        done = server.run('psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', db, '-f', '-', input=server.run('pg_dump', 'app').stdout, stdout=-1, stderr=-1)
        assert done.returncode == 0 and done.stderr == '', done.stderr
        assert dump(server, db) == dump(server, 'app')


def test_schema_and_data_apart(server):
    """Two steps, with the triggers there when the rows come: they must stay quiet."""
    with empty_database(server) as db:
        path = archive(server, 'app')
        restore(server, path, db, '--schema-only')
        restore(server, path, db, '--data-only', '--disable-triggers')
        assert dump(server, db) == dump(server, 'app')


def test_twice_over(server):
    """A copy of a copy, and a dump taken while the extension is dropped."""
    with empty_database(server) as first, empty_database(server) as second:
        restore(server, archive(server, 'app'), first)
        server.query('DROP EXTENSION sparky CASCADE', db=first)
        restore(server, archive(server, first), second)
        assert server.value("SELECT count(*) FROM pg_extension WHERE extname = 'sparky'", db=second) == 0
        assert create_extension(server, second) == []
        assert dump(server, second, '--schema-only') == dump(server, 'app', '--schema-only')
        assert_alive(server, second)


def test_into_a_cluster_without_the_roles(server):
    path = archive(server, 'app')
    with Server(conf=["sparky.databases = ''"], extension=False) as other:
        other.query('CREATE ROLE support')      # the user's own; ours come with the extension
        assert other.value("SELECT count(*) FROM pg_roles WHERE rolname IN ('anon', 'authenticated', 'service_role')") == 0
        with empty_database(other) as db:
            restore(other, path, db)
            assert dump(other, db) == dump(server, 'app')
            assert other.value("SELECT count(*) FROM pg_roles WHERE rolname IN ('anon', 'authenticated', 'service_role')") == 3
            other.psql('CREATE ROLE authenticator NOINHERIT LOGIN; GRANT anon, authenticated, service_role TO authenticator')
            assert_alive(other, db)


@pytest.mark.parametrize('script', ['', SUPABASE], ids=['stand-ins', 'supabase'])
def test_an_owner_who_is_no_superuser(server, script):
    with database(server, owner='owner', script=script) as db, empty_database(server) as copy:
        assert create_extension(server, db, 'owner') == []
        server.sign_up('ann@example.com', db=db, **({'email_confirmed_at': 'now'} if script else {}))
        restore(server, archive(server, db), copy)
        assert dump(server, copy) == dump(server, db)
        # the definer functions, which no dump holds, are his again
        owners = "SELECT proname, proowner::regrole::text, proacl::text FROM pg_proc WHERE pronamespace::regnamespace::text IN ('sparky', 'public') ORDER BY 1"
        assert server.query(owners, db=copy) == server.query(owners, db=db)
        assert server.value('SELECT sparky.missing_objects()', db=copy) == []
        assert server.value('SELECT sparky.repair()', db=copy, user='owner') == []
        server.query("INSERT INTO auth.users (id, email, email_confirmed_at) VALUES (gen_random_uuid(), 'new@example.com', now())", db=copy)
        assert server.value("SELECT credits FROM public.users WHERE username = 'new'", db=copy) == 10


def test_an_interrupted_restore_is_completed(server):
    """Tables without indexes and triggers: the missing ones are named, so that the worker waits; the rest of the restore brings them."""
    with empty_database(server) as db:
        path = archive(server, 'app')
        restore(server, path, db, '--section=pre-data', '--section=data')
        absent = server.value('SELECT sparky.missing_objects()', db=db)
        assert 'index public.generation_jobs_active_cache_key_idx' in absent and 'trigger sparky_on_auth_user_created on auth.users' in absent
        assert 'constraint credit_usage_job_id_key on public.credit_usage' in absent and not any(a.startswith('table') for a in absent)
        restore(server, path, db, '--section=post-data')
        assert server.value('SELECT sparky.missing_objects()', db=db) == []
        assert dump(server, db) == dump(server, 'app')


def test_pg_upgrade(server):
    """To the same version, which is what one installation can try: the same path as to a newer one."""
    original = dump(server, 'app')
    with Server(conf=["sparky.databases = ''"], extension=False, start=False) as new:
        done = server.run('pg_basebackup', '-D', server.dir / 'old', '-c', 'fast', '-X', 'stream')
        assert done.returncode == 0, done.stderr
        with open(server.dir / 'old/postgresql.conf', 'a') as conf:
            conf.write(f"port = {new.port}\nsparky.databases = ''\nunix_socket_directories = '{new.dir}'\n")
        # started once to be consistent, then upgraded
        for command in (['start'], ['-m', 'fast', 'stop']):
            done = new.run('pg_ctl', '-D', server.dir / 'old', '-l', new.dir / 'old.log', '-w', *command, stdout=-3, stderr=-3)
            assert done.returncode == 0, (new.dir / 'old.log').read_text()[-3000:]
        binaries = str(new.root.bin)
        done = new.run('pg_upgrade', '-b', binaries, '-B', binaries, '-d', server.dir / 'old', '-D', new.data, '-U', 'postgres',
                       '-p', new.port, '-P', new.port, '-s', new.dir, cwd=new.dir)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr
        new.start()
        assert dump(new, 'app') == original
        assert_alive(new, 'app')
