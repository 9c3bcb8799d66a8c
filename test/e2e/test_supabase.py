"""In Supabase's shape: installed for postgres, who is no superuser, among tables and rights of others."""

import psycopg2
import psycopg2.errors
import pytest
from conftest import KEY
from databases import dump
from sparky_server import Server, wait_for
from supabase_shape import CONF as SHAPE_CONF, make_database, make_server

WARNINGS = []


def prepare(server):
    make_server(server, cron=True)


@pytest.fixture(scope='module')
def server(emulator_process):
    # a copy that is compared must stay as it was restored: no worker there
    with Server(conf=[*SHAPE_CONF, "sparky.databases = 'postgres, beside'"], preload='pg_cron,sparky', superuser='supabase_admin', prepare=prepare, extension=False,
                emulator=emulator_process, key=KEY) as server:
        connection = server.connect(user='postgres')
        connection.cursor().execute('CREATE EXTENSION sparky')
        WARNINGS.extend(n for n in connection.notices if n.startswith('WARNING'))
        connection.close()
        server.worker_pid()
        yield server


def test_the_shape_is_what_it_says(server):
    assert server.row("SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = 'postgres'") == (False, True)
    assert server.value('SELECT current_user') == 'supabase_admin'
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        server.query('CREATE EXTENSION amcheck', user='postgres')           # not on the list
    connection = server.connect(user='authenticator', autocommit=False)
    with pytest.raises(psycopg2.errors.CardinalityViolation, match='UPDATE requires a WHERE clause'):
        connection.cursor().execute('UPDATE pg_catalog.pg_class SET relname = relname')
    connection.close()


def test_nothing_to_complain_about(server):
    assert WARNINGS == []
    assert server.value('SELECT sparky.missing_objects()') == []
    assert server.value('SELECT sparky.repair()', user='postgres') == []
    assert server.value('SELECT sparky.install()', user='postgres') == []


def test_everything_is_postgres_s(server):
    owners = server.query("""SELECT c.oid::regclass::text FROM pg_class c WHERE c.relnamespace::regnamespace::text IN ('public', 'sparky', 'cache')
        AND c.relowner <> 'postgres'::regrole""")
    assert owners == []
    definers = "SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace::regnamespace::text IN ('public', 'sparky') AND prosecdef AND proowner <> 'postgres'::regrole"
    assert server.query(definers) == []
    assert server.value("SELECT usename FROM pg_stat_activity WHERE backend_type = 'sparky worker'") == 'postgres'
    assert server.value("SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'sparky'") == 'postgres'


def test_what_others_own_got_only_what_it_needs(server):
    triggers = [name for name, in server.query("SELECT tgname::text FROM pg_trigger WHERE tgrelid = 'auth.users'::regclass AND NOT tgisinternal")]
    assert len(triggers) >= 3 and all(name.startswith('sparky_') for name in triggers)
    policies = server.query("SELECT cmd, roles::text FROM pg_policies WHERE schemaname = 'storage' AND tablename = 'objects' ORDER BY 1")
    assert policies == [(verb, '{authenticated}') for verb in ('DELETE', 'INSERT', 'SELECT', 'UPDATE')]
    assert server.query('SELECT id, public FROM storage.buckets ORDER BY 1') == [('generations', False), ('user_uploads', False)]
    assert server.value("SELECT count(*) FROM pg_publication_tables WHERE pubname = 'supabase_realtime'") == len(
        server.value("SELECT array_agg(tablename) FROM pg_publication_tables WHERE pubname = 'supabase_realtime' AND schemaname = 'public'"))
    assert server.query("SELECT tableowner::text FROM pg_tables WHERE schemaname IN ('auth', 'storage', 'realtime') AND tableowner = 'postgres'") == []


def locked(server, sql):
    """The tables of others that a transaction of postgres's keeps everybody away from."""
    server.query('CREATE DATABASE fresh')
    try:
        make_database(server, 'fresh')
        connection = server.connect('fresh', 'postgres', autocommit=False)
        with connection.cursor() as cursor:
            cursor.execute(sql)
            cursor.execute("SELECT relation::regclass::text FROM pg_locks WHERE pid = pg_backend_pid() AND mode = 'AccessExclusiveLock'"
                           " AND relation IN (SELECT oid FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace::regnamespace::text IN ('auth', 'storage', 'realtime'))")
            found = {name for name, in cursor.fetchall()}
        connection.rollback()
        connection.close()
        return found
    finally:
        server.query('DROP DATABASE fresh WITH (FORCE)')


def test_installing_locks_little(server):
    """postgres's own policy statements lock all of auth and storage; CREATE EXTENSION only what it makes policies on."""
    assert 'auth.sessions' in locked(server, 'CREATE POLICY mine ON storage.objects FOR SELECT USING (false)')
    assert locked(server, 'CREATE EXTENSION sparky') == {'storage.objects', 'realtime.messages'}


def test_default_privileges_do_not_leak(server):
    """They hand ALL to the client roles by name; nothing of it is left, in tables, sequences, functions."""
    wide = server.query("""SELECT c.oid::regclass::text, a.grantee::regrole::text, a.privilege_type FROM pg_class c, aclexplode(c.relacl) a
        WHERE c.relnamespace::regnamespace::text IN ('public', 'sparky', 'cache') AND a.grantee IN ('anon'::regrole, 'authenticated'::regrole, 0)
            AND (a.privilege_type IN ('INSERT', 'TRUNCATE', 'TRIGGER', 'REFERENCES') OR c.relkind = 'S' OR c.relnamespace = 'sparky'::regnamespace)""")
    assert wide == []
    assert server.query("""SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace::regnamespace::text = 'sparky'
        AND (has_function_privilege('anon', p.oid, 'EXECUTE') OR has_function_privilege('authenticated', p.oid, 'EXECUTE')
            OR has_function_privilege('service_role', p.oid, 'EXECUTE'))""") == []


def test_jobs_are_scheduled_as_postgres(server):
    jobs = server.query('SELECT jobname, username, database FROM cron.job')
    assert len(jobs) == server.value('SELECT count(*) FROM sparky.cron_jobs()') and {(u, d) for _, u, d in jobs} == {('postgres', 'postgres')}
    for command, in server.query('SELECT command FROM sparky.cron_jobs()'):
        server.query(command, user='postgres')


def test_sign_up_by_the_auth_server(server):
    """As its own role, which has no right on anything of ours."""
    user = server.sign_up('Nora@Example.com', email_confirmed_at=None)
    assert server.row('SELECT username, credits FROM public.users WHERE id = %s', (user,)) == ('Nora', 0)
    server.query('UPDATE auth.users SET email_confirmed_at = now() WHERE id = %s', (user,), user='supabase_auth_admin')
    assert server.row('SELECT credits, allowance FROM public.users WHERE id = %s', (user,)) == (10, 10)
    server.query('UPDATE auth.users SET last_sign_in_at = now() WHERE id = %s', (user,), user='supabase_auth_admin')
    with server.client(user) as client:
        assert client.rpc('my_account')['available'] == 10
        assert client.call('SELECT username FROM public.users') == [('Nora',)]
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        server.query('SELECT 1 FROM public.users', user='supabase_auth_admin')


def test_deleting_a_user_in_auth(server):
    """His rows go, the ledger and what he paid stay without him, and his files are noted for erasure."""
    user, other = server.sign_up(), server.sign_up()
    server.query("INSERT INTO auth.sessions (id, user_id) VALUES (gen_random_uuid(), %s)", (user,), user='supabase_auth_admin')
    server.psql(f"""
        INSERT INTO public.generations (user_id, tool_id, image_url, job_id) VALUES ('{user}', 'cartoon', 'generations/{user}/1.png', gen_random_uuid());
        INSERT INTO public.credit_usage (user_id, tool_id, job_id) SELECT user_id, tool_id, job_id FROM public.generations WHERE user_id = '{user}';
        INSERT INTO public.notifications (user_id, type, title_key, message_key) VALUES ('{user}', 'general', 't', 'm');
        INSERT INTO public.payments (user_id, paymob_order_id, merchant_order_id, amount_cents, currency, status) VALUES ('{user}', 71, 'm71', 100, 'EGP', 'SUCCESS');
        INSERT INTO storage.objects (bucket_id, name, owner_id, metadata) VALUES ('user_uploads', '{user}/a.png', '{user}', '{{"size": 4}}'),
            ('generations', '{user}/1.png', NULL, '{{"size": 4}}'), ('user_uploads', '{other}/b.png', '{other}', '{{"size": 4}}');""", user='postgres')
    server.query('DELETE FROM auth.users WHERE id = %s', (user,), user='supabase_auth_admin')
    left = {table: server.value(f'SELECT count(*) FROM public.{table} WHERE user_id = %s', (user,))
            for table in ('generations', 'credit_usage', 'notifications', 'credit_ledger', 'payments')}
    assert left == {'generations': 0, 'credit_usage': 0, 'notifications': 0, 'credit_ledger': 1, 'payments': 0}
    assert server.value('SELECT count(*) FROM public.users WHERE id = %s', (user,)) == 0
    assert server.row('SELECT user_id, status FROM public.payments WHERE paymob_order_id = 71') == (None, 'SUCCESS')
    assert server.value('SELECT count(*) FROM auth.sessions') == 0
    assert sorted(server.query('SELECT bucket_id, name FROM sparky.erasures WHERE name LIKE %s', (f'{user}%',))) == [
        ('generations', f'{user}/1.png'), ('user_uploads', f'{user}/a.png')]
    # nothing was deleted by SQL where that is refused
    assert server.value('SELECT count(*) FROM storage.objects WHERE name LIKE %s', (f'{user}%',)) == 2


def test_by_supabase_admin_for_postgres(server):
    """Where sparky is on nobody's list, the superuser makes it; schema sparky says whose the data is."""
    server.query('CREATE DATABASE beside')
    try:
        make_database(server, 'beside')
        said = server.psql("CREATE SCHEMA sparky AUTHORIZATION postgres; SET sparky.install = 'full'; CREATE EXTENSION sparky", db='beside', check=False)
        assert said.returncode == 0 and 'WARNING' not in said.stderr and 'pg_cron is not in this database' in said.stderr, said.stderr
        assert server.value('SELECT sparky.missing_objects()', db='beside') == []
        assert server.query("SELECT DISTINCT c.relowner::regrole::text FROM pg_class c WHERE c.relnamespace::regnamespace::text IN ('public', 'sparky', 'cache')",
                            db='beside') == [('postgres',)]
        assert server.value("SELECT count(*) FROM pg_policies WHERE schemaname = 'storage'", db='beside') == 4
        server.worker_pid('beside')
        user = server.sign_up(db='beside')
        assert server.value('SELECT credits FROM public.users WHERE id = %s', (user,), db='beside') == 10
    finally:
        server.query('DROP DATABASE beside WITH (FORCE)')


# what the platform's own dump command leaves out
LEFT_OUT = ('auth', 'storage', 'realtime', 'vault', 'cron', 'extensions')


def test_a_whole_dump_restored(server):
    user = server.sign_up('kept@example.com')
    archive = server.dir / 'whole.dump'
    done = server.run('pg_dump', '-Fc', '-f', archive, '--exclude-schema=cron', 'postgres')
    assert done.returncode == 0, done.stderr
    server.query('CREATE DATABASE copy TEMPLATE template0')
    try:
        listing = server.run('pg_restore', '-l', archive).stdout.splitlines()
        (server.dir / 'list').write_text('\n'.join(line for line in listing if 'pg_cron' not in line and ' cron ' not in line))
        done = server.run('pg_restore', '-L', server.dir / 'list', '-d', 'copy', archive)
        assert done.returncode == 0, done.stderr
        assert server.value('SELECT sparky.missing_objects()', db='copy') == []
        assert server.value('SELECT sparky.repair()', db='copy', user='postgres') == []
        assert server.value('SELECT credits FROM public.users WHERE id = %s', (user,), db='copy') == 10
        assert dump(server, 'copy', '--schema=public', '--schema=sparky', '--schema=cache') == \
            dump(server, 'postgres', '--schema=public', '--schema=sparky', '--schema=cache')
        fresh = server.sign_up(db='copy')
        assert server.value('SELECT credits FROM public.users WHERE id = %s', (fresh,), db='copy') == 10
    finally:
        server.query('DROP DATABASE copy WITH (FORCE)')


def test_the_platform_s_dump_into_another_project(server):
    """Schema without the platform's schemas, as postgres, then the data; repair() puts back what such a dump cannot hold."""
    user = server.sign_up('moved@example.com')
    without = [f'--exclude-schema={schema}' for schema in LEFT_OUT]
    schema = server.run('pg_dump', '--schema-only', '--role=postgres', *without, '-d', 'postgres')
    data = server.run('pg_dump', '--data-only', '--role=postgres', *[w for w in without if 'auth' not in w], '-d', 'postgres')
    assert schema.returncode == data.returncode == 0, schema.stderr + data.stderr
    text = '\n'.join(line for line in schema.stdout.splitlines()
                     if 'supabase_realtime' not in line and 'cron' not in line and not line.startswith(('COMMENT ON EXTENSION', 'CREATE EVENT TRIGGER', '   EXECUTE FUNCTION extensions', 'ALTER EVENT', 'ALTER DEFAULT')))
    text = text.replace('CREATE SCHEMA public', 'CREATE SCHEMA IF NOT EXISTS public')
    server.query('CREATE DATABASE moved TEMPLATE template0')
    try:
        make_database(server, 'moved')
        (server.dir / 'schema.sql').write_text(text)
        done = server.run('psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-U', 'postgres', '-d', 'moved', '-f', server.dir / 'schema.sql')
        assert done.returncode == 0, done.stderr
        (server.dir / 'data.sql').write_text('SET session_replication_role = replica;\n' + data.stdout)
        done = server.run('psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'moved', '-f', server.dir / 'data.sql')
        assert done.returncode == 0, done.stderr
        assert server.value('SELECT sparky.missing_objects()', db='moved') != []
        assert server.value('SELECT sparky.repair()', db='moved', user='postgres') == []
        assert server.value('SELECT sparky.missing_objects()', db='moved') == []
        assert server.value("SELECT count(*) FROM pg_policies WHERE schemaname = 'storage'", db='moved') == 4
        assert server.value('SELECT count(*) FROM storage.buckets', db='moved') == 2
        assert server.value("SELECT count(*) FROM pg_publication_tables WHERE pubname = 'supabase_realtime'", db='moved') == server.value(
            "SELECT count(*) FROM pg_publication_tables WHERE pubname = 'supabase_realtime'")
        assert server.value('SELECT credits FROM public.users WHERE id = %s', (user,), db='moved') == 10
        fresh = server.sign_up(db='moved')
        assert server.value('SELECT credits FROM public.users WHERE id = %s', (fresh,), db='moved') == 10
    finally:
        server.query('DROP DATABASE moved WITH (FORCE)')
