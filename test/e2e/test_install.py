"""Installing, repairing, and what is left alone: every way in which CREATE EXTENSION can meet a database."""

import json
import pathlib
import re

import psycopg2
import psycopg2.errors
import pytest
from databases import SUPABASE, create_extension, database, dump
from sparky_server import TREE, Server

ROLE_NAMES = ('anon', 'authenticated', 'service_role')


@pytest.fixture(scope='module')
def server():
    """No worker anywhere: what is under test is the SQL alone."""
    with Server(conf=["sparky.databases = ''", 'wal_level = logical'], extension=False) as server:
        yield server


def missing(server, db):
    return server.value('SELECT sparky.missing_objects()', db=db)


def test_plain(server):
    with database(server) as db:
        assert create_extension(server, db) == []
        assert missing(server, db) == []
        user = server.sign_up('ann@example.com', db=db)
        assert server.row('SELECT username, credits, allowance FROM public.users WHERE id = %s', (user,), db=db) == ('ann', 10, 10)
        assert server.value("SELECT count(*) FROM pg_policies WHERE schemaname = 'storage' AND roles = '{authenticated}'", db=db) == 4


def test_in_a_block_that_is_rolled_back(server):
    with database(server) as db:
        before = dump(server, db)
        connection = server.connect(db, autocommit=False)
        connection.cursor().execute('CREATE EXTENSION sparky')
        connection.rollback()
        connection.close()
        assert dump(server, db) == before


def test_beside_supabase(server):
    with database(server, owner='owner', script=SUPABASE) as db:
        real = ('--schema-only', '--schema', 'auth', '--schema', 'storage')
        before = dump(server, db, *real)
        assert create_extension(server, db, 'owner') == []
        assert missing(server, db) == []

        # nothing there was touched: two triggers on auth.users and four policies on storage.objects came, all by name
        ours = r'(?ms)^--\n-- Name: [^\n]*(sparky_on_|Sparky: ).*?(?=^--\n-- Name|^--\n-- PostgreSQL)'
        after = dump(server, db, *real)
        assert len(re.findall(ours, after)) >= 6
        assert re.sub(ours, '', after) == before
        assert server.query("SELECT id, public FROM storage.buckets ORDER BY id", db=db) == [('generations', False), ('user_uploads', False)]
        assert server.value('SELECT sparky.storage_is_ours()', db=db) is False
        assert server.value("SELECT count(*) FROM pg_constraint WHERE conrelid = 'sparky.stored_files'::regclass AND contype = 'f'", db=db) == 0

        # everything else is the owner's
        assert server.query("""SELECT DISTINCT c.relowner::regrole::text FROM pg_class c
            WHERE c.relnamespace::regnamespace::text IN ('public', 'sparky', 'cache')""", db=db) == [('owner',)]
        assert server.value("SELECT extowner::regrole::text FROM pg_extension WHERE extname = 'sparky'", db=db) == 'postgres'

        # users who were there before sparky
        assert server.query("""SELECT a.email, u.username, u.credits FROM auth.users a JOIN public.users u USING (id) ORDER BY id""", db=db) == [
            ('old@example.com', 'old', 10), ('unconfirmed@example.com', 'unconfirmed', 0), (None, 'user', 0)]
        # sign-up and confirmation as the auth server's own role, which has no right on anything of ours
        server.query("INSERT INTO auth.users (id, email) VALUES ('00000000-0000-0000-0000-000000000004', 'new@example.com')", db=db, user='auth_admin')
        assert server.value("SELECT credits FROM public.users WHERE username = 'new'", db=db) == 0
        server.query("UPDATE auth.users SET email_confirmed_at = now() WHERE email = 'new@example.com'", db=db, user='auth_admin')
        assert server.value("SELECT credits FROM public.users WHERE username = 'new'", db=db) == 10
        server.query("DELETE FROM auth.users WHERE email = 'new@example.com'", db=db, user='auth_admin')
        assert server.value("SELECT count(*) FROM public.users WHERE username = 'new'", db=db) == 0
        # the owner may use all of it as he is
        assert server.value('SELECT sparky.repair()', db=db, user='owner') == []
        assert server.value('SELECT sparky.install()', db=db, user='owner') == []
        server.query('SELECT sparky.seed(true)', db=db, user='owner')
        assert server.value("SELECT count(*) FROM pg_publication_tables WHERE pubname = 'supabase_realtime'", db=db) == 10


def test_an_older_auth_users(server):
    older = SUPABASE.replace(',\n\tis_anonymous boolean NOT NULL DEFAULT false', '').replace(
        'email_confirmed_at, is_anonymous) VALUES', 'email_confirmed_at) VALUES').replace(
        ', false)', ')').replace('NULL, NULL, true)', 'NULL, NULL)').replace('phone_confirmed_at timestamptz, ', '')
    with database(server, owner='owner', script=older) as db:
        assert create_extension(server, db, 'owner') == []
        assert server.query('SELECT username, credits FROM public.users ORDER BY id', db=db) == [('old', 10), ('unconfirmed', 0), ('user', 0)]
        server.query("UPDATE auth.users SET email_confirmed_at = now() WHERE email LIKE 'unc%%'", db=db)
        assert server.value("SELECT credits FROM public.users WHERE username = 'unconfirmed'", db=db) == 10


def test_what_the_owner_may_not_do_is_reported(server):
    script = SUPABASE.replace('ALTER PUBLICATION supabase_realtime OWNER TO owner', '').replace(
        'GRANT ALL ON storage.buckets, storage.objects TO owner', '')
    with database(server, script=script + 'GRANT CREATE ON SCHEMA public TO owner') as db:
        notices = create_extension(server, db, 'owner')
        assert len(notices) == 2 and all(n.startswith('WARNING:  sparky: ') for n in notices), notices
        assert any('storage buckets' in n for n in notices) and any('publication supabase_realtime' in n for n in notices)
        assert missing(server, db) == []
        server.psql('DROP EXTENSION sparky CASCADE; REVOKE TRIGGER ON auth.users FROM owner', db=db)
        notices = create_extension(server, db, 'owner')
        assert len(notices) == 3 and any('trigger sparky_on_auth_user_created on auth.users' in n for n in notices), notices
        assert server.value("SELECT count(*) FROM pg_trigger WHERE tgname = 'sparky_users_insert'", db=db) == 1
    with database(server, script=SUPABASE) as db:
        with pytest.raises(psycopg2.errors.InsufficientPrivilege, match='role owner .* may not create tables in schema public'):
            create_extension(server, db, 'owner')


FOREIGN = """
CREATE TABLE public.users (id int, note text);
CREATE VIEW public.payments AS SELECT 1 AS one;
CREATE TYPE public.gender AS ENUM ('x');
CREATE TABLE public.other (a int);
CREATE INDEX users_plan_id_idx ON public.other (a);
INSERT INTO public.users VALUES (1, 'mine');
"""


def test_refuses_foreign_tables_and_types(server):
    with database(server, script=FOREIGN) as db:
        before = dump(server, db)
        with pytest.raises(psycopg2.errors.DuplicateObject) as error:
            create_extension(server, db)
        assert error.value.diag.message_primary == ('sparky does not take over what it did not make: index public.users_plan_id_idx,'
                                                    ' table public.payments, table public.users, type public.gender')
        assert dump(server, db) == before


def test_refuses_foreign_functions(server):
    script = """CREATE FUNCTION public.my_account(uuid) RETURNS int LANGUAGE sql AS 'SELECT 1';
        CREATE FUNCTION public.process_image() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE DOMAIN public."*/*" AS text;
        CREATE SCHEMA sparky; CREATE FUNCTION sparky.install(int) RETURNS int LANGUAGE sql AS 'SELECT 1';"""
    with database(server, script=script) as db:
        before = dump(server, db)
        with pytest.raises(psycopg2.errors.DuplicateObject) as error:
            create_extension(server, db)
        assert error.value.diag.message_primary == ('sparky does not take over what it did not make: public."*/*", public.my_account(uuid),'
                                                    ' public.process_image(), sparky.install(integer)')
        assert dump(server, db) == before


def test_a_schema_cache_of_ones_own(server):
    script = 'CREATE SCHEMA cache AUTHORIZATION stranger; GRANT ALL ON SCHEMA cache TO stranger, PUBLIC; CREATE TABLE cache.mine (a int); '
    with database(server, script=script) as db:
        acl = 'SELECT nspowner::regrole::text, nspacl::text FROM pg_namespace WHERE nspname = $$cache$$'
        before = server.row(acl, db=db)
        create_extension(server, db)
        assert missing(server, db) == []
        assert server.row(acl, db=db) == before
        assert server.value("SELECT obj_description('cache'::regnamespace, 'pg_namespace')", db=db) is None
        assert server.value("SELECT count(*) FROM pg_init_privs WHERE objoid = 'cache'::regnamespace", db=db) == 0
    with database(server, script=script + 'CREATE TABLE cache.kv_store (key text)') as db:
        with pytest.raises(psycopg2.errors.DuplicateObject, match='table cache.kv_store'):
            create_extension(server, db)


def test_half_failed_leaves_nothing():
    """Late failures: a right on auth.users that is missing; a broken seed. Neither leaves a role, a schema, a row."""
    with Server(conf=["sparky.databases = ''"], extension=False) as server:
        server.psql("CREATE ROLE owner LOGIN; CREATE SCHEMA auth; CREATE TABLE auth.users (id uuid PRIMARY KEY, email text, note text);"
                    "GRANT USAGE ON SCHEMA auth TO owner; GRANT CREATE ON SCHEMA public TO owner;"
                    "CREATE FUNCTION public.run(command text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$BEGIN EXECUTE command; END$$;")
        before, roles = dump(server, 'postgres'), server.query('SELECT rolname FROM pg_roles ORDER BY 1')
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            server.query("SELECT public.run('CREATE EXTENSION sparky')", user='owner')
        assert dump(server, 'postgres') == before
        assert server.query('SELECT rolname FROM pg_roles ORDER BY 1') == roles
        server.query('DROP SCHEMA auth CASCADE')
        server.query("SELECT public.run('GRANT CREATE ON DATABASE postgres TO owner')")
        assert create_extension(server, 'postgres') == []
        assert server.value("SELECT sparky.missing_objects()") == []


def test_schema_without_tables_means_a_restore(server):
    with database(server, script='CREATE SCHEMA sparky AUTHORIZATION owner; GRANT CREATE ON SCHEMA public TO owner;') as db:
        server.query(f'GRANT CREATE ON DATABASE {db} TO owner')
        create_extension(server, db)
        assert server.value("SELECT to_regclass('public.users')", db=db) is None
        assert set(ROLE_NAMES) <= {r for r, in server.query('SELECT rolname FROM pg_roles')}
        assert server.value("SELECT proowner::regrole::text FROM pg_proc WHERE proname = 'on_auth_user'", db=db) == 'owner'
        with pytest.raises(psycopg2.errors.UndefinedTable):
            server.query('SELECT sparky.repair()', db=db)
        # no dump came after all: the owner makes the data himself
        assert server.value('SELECT sparky.install()', db=db, user='owner') == []
        assert missing(server, db) == []
        assert server.query("""SELECT DISTINCT c.relowner::regrole::text FROM pg_class c
            WHERE c.relnamespace::regnamespace::text IN ('public', 'sparky', 'cache', 'auth', 'storage')""", db=db) == [('owner',)]
        assert server.value("SELECT count(*) FROM pg_init_privs i WHERE privtype = 'e' AND classoid <> 'pg_proc'::regclass", db=db) == 0


@pytest.mark.parametrize('mode, tables', [('code', False), ('full', True), ('auto', False)])
def test_the_setting(server, mode, tables):
    with database(server, script='CREATE SCHEMA sparky') as db:
        server.psql(f"SET sparky.install = '{mode}'; CREATE EXTENSION sparky", db=db)
        assert (server.value("SELECT to_regclass('public.users')", db=db) is not None) == tables
    with database(server) as db:
        server.psql("SET sparky.install = 'code'; CREATE EXTENSION sparky", db=db)
        assert server.value("SELECT to_regclass('public.users')", db=db) is None


def test_missing_tables_are_named(server):
    with database(server) as db:
        create_extension(server, db)
        server.psql('DROP EXTENSION sparky CASCADE; DROP TABLE sparky.erasures, public.payments', db=db)
        before = dump(server, db)
        with pytest.raises(psycopg2.errors.UndefinedTable, match='missing: public.payments, sparky.erasures'):
            create_extension(server, db)
        assert dump(server, db) == before
        server.psql('DROP SCHEMA sparky CASCADE', db=db)
        with pytest.raises(psycopg2.errors.DuplicateObject, match='table public.users'):
            create_extension(server, db)


def use(server, db):
    """Rows in every table that a user's life fills."""
    ann, ben = server.sign_up('ann@example.com', db=db), server.sign_up('ben@example.com', db=db, credits=50)
    server.psql(f"""
        INSERT INTO public.generations (user_id, tool_id, image_url, job_id) SELECT id, 'cartoon', 'p', gen_random_uuid() FROM auth.users;
        INSERT INTO public.credit_usage (user_id, tool_id, job_id) SELECT user_id, tool_id, job_id FROM public.generations;
        INSERT INTO public.notifications (user_id, type, title_key, message_key) SELECT id, 'general', 't', 'm' FROM auth.users;
        INSERT INTO public.payments (user_id, paymob_order_id, merchant_order_id, amount_cents, currency, status) VALUES ('{ann}', 1, 'm', 1, 'EGP', 'SUCCESS');
        INSERT INTO public.generation_jobs (id, user_id, tool_id, kind, status, source_path, tool_revision, image_hash, cache_key, credits_held, deadline)
            SELECT job_id, user_id, tool_id, 'image', 'succeeded', 'p', 1, 'h', job_id::text, 1, now() FROM public.generations;
        INSERT INTO sparky.provider_calls (job_id, user_id, tool_id, attempt, model, started_at, outcome) SELECT id, user_id, tool_id, 1, 'm', now(), 'ok' FROM public.generation_jobs;
        INSERT INTO sparky.request_keys (user_id, key, fingerprint) SELECT id, 'k', 'f' FROM auth.users;
        INSERT INTO cache.kv_store (key, value, expires_at) VALUES ('k', '{{"generation_id": 1}}', 'infinity');
        INSERT INTO storage.objects (bucket_id, name, metadata) VALUES ('user_uploads', '{ann}/x.png', '{{"size": 4}}');
        INSERT INTO sparky.stored_files (object_id, bytes, sha256, mime_type, size, width, height) SELECT id, 'abcd', 's', 'image/png', 4, 1, 1 FROM storage.objects;
        INSERT INTO sparky.answers (job_id, bytes) SELECT id, 'x' FROM public.generation_jobs LIMIT 1;
        INSERT INTO sparky.image_hashes (object_id, version, sha256) VALUES (gen_random_uuid(), '1', 's');
        INSERT INTO sparky.erasures (bucket_id, name) VALUES ('generations', 'gone');
        UPDATE public.tools SET sort_order = 5 WHERE id = 'cartoon'; UPDATE sparky.tool_settings SET prompt = 'mine' WHERE tool_id = 'vintage';
        SELECT nextval('sparky.incarnations')""", db=db)
    return ann, ben


def test_twice_is_once(server):
    with database(server) as db:
        create_extension(server, db)
        use(server, db)
        before = dump(server, db)
        assert server.value('SELECT sparky.install()', db=db) == []
        assert server.value('SELECT sparky.repair()', db=db) == []
        server.query('SELECT sparky.seed()', db=db)
        assert server.value('SELECT sparky.repair()', db=db) == []
        server.query('SELECT sparky.make_storage_policies(), sparky.make_buckets(), sparky.publish_tables(), sparky.stand_ins(), sparky.hand_over(), sparky.detach()', db=db)
        assert dump(server, db) == before


def test_drop_and_create_loses_nothing(server):
    with database(server) as db:
        create_extension(server, db)
        ann, ben = use(server, db)
        schema, data = dump(server, db, '--schema-only'), dump(server, db, '--data-only', '--exclude-table-data', 'public.config_versions', '--exclude-table-data', 'sparky.tool_settings')
        server.query('DROP EXTENSION sparky CASCADE', db=db)
        gone = dump(server, db, '--data-only', '--exclude-table-data', 'public.config_versions', '--exclude-table-data', 'sparky.tool_settings')
        assert gone == data
        assert create_extension(server, db) == []
        assert dump(server, db, '--schema-only') == schema
        assert dump(server, db, '--data-only', '--exclude-table-data', 'public.config_versions', '--exclude-table-data', 'sparky.tool_settings') == data
        assert server.value("SELECT prompt FROM sparky.tool_settings WHERE tool_id = 'vintage'", db=db) == 'mine'

        # and what happens while it is gone is made up for
        revisions = dict(server.query('SELECT name, revision FROM public.config_versions', db=db))
        server.query('DROP EXTENSION sparky CASCADE', db=db)
        late = server.sign_up('late@example.com', db=db)
        server.psql(f"UPDATE public.users SET credits = 77 WHERE id = '{ben}'; UPDATE public.hairstyles SET name = 'x' WHERE id = 'm-locs'", db=db)
        assert server.value('SELECT count(*) FROM public.users WHERE id = %s', (late,), db=db) == 0
        assert create_extension(server, db) == []
        assert server.value('SELECT credits FROM public.users WHERE id = %s', (late,), db=db) == 10
        assert server.query('SELECT delta, balance_after, kind FROM public.credit_ledger WHERE user_id = %s ORDER BY id DESC LIMIT 1', (ben,), db=db) == [(27, 77, 'adjustment')]
        assert dict(server.query('SELECT name, revision - 1 FROM public.config_versions', db=db)) == revisions
        assert server.value('SELECT min(revision) FROM sparky.tool_settings', db=db) > 1
        assert missing(server, db) == []
        assert server.value('SELECT sparky.repair()', db=db) == []


# An owner who is no superuser plants triggers wherever CREATE EXTENSION writes.  Each tells who ran it.
PLANTED = """
CREATE SCHEMA planted;
CREATE FUNCTION planted.tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE WARNING 'planted % %: % is_superuser=%', TG_NAME, TG_TABLE_NAME, current_user, (SELECT rolsuper FROM pg_roles WHERE rolname = current_user);
    RETURN coalesce(NEW, OLD);
END $$;
"""


def plant(connection, tables):
    for table in tables:
        for statement in (f'CREATE TRIGGER before BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION planted.tell()',
                          f'CREATE TRIGGER statement AFTER INSERT OR UPDATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION planted.tell()',
                          f'CREATE CONSTRAINT TRIGGER deferred AFTER INSERT OR UPDATE ON {table} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION planted.tell()'):
            connection.cursor().execute(statement)


def test_planted_triggers_never_run_as_superuser(server):
    tables = ('public.users', 'public.credit_ledger', 'public.config_versions', 'sparky.tool_settings', 'sparky.signup_grants', 'storage.buckets')
    with database(server, owner='owner') as db:
        create_extension(server, db, 'owner')
        server.query('DROP EXTENSION sparky CASCADE', db=db)
        owner = server.connect(db, 'owner')
        owner.cursor().execute(PLANTED)
        plant(owner, tables)
        owner.cursor().execute("INSERT INTO auth.users (id, email) VALUES (gen_random_uuid(), 'x@example.com')")
        notices = [n for n in create_extension(server, db, 'postgres') if 'planted' in n]     # the superuser himself
        assert {re.search(r'planted (\w+) (\w+)', n).groups() for n in notices} >= {(kind, table.split('.')[1]) for kind in ('before', 'statement', 'deferred')
                                                                                   for table in tables[:-1]}
        assert all('owner is_superuser=f' in n for n in notices), notices

        # a trigger that puts its successor off to the commit, again and again
        server.query('DROP EXTENSION sparky CASCADE', db=db)
        owner.cursor().execute("""
            CREATE TABLE planted.later (a int);
            CREATE FUNCTION planted.put_off() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                SET CONSTRAINTS ALL DEFERRED;
                IF (SELECT count(*) < 5 FROM planted.later) THEN INSERT INTO planted.later VALUES (1); END IF;
                RAISE WARNING 'planted put_off: % is_superuser=%', current_user, (SELECT rolsuper FROM pg_roles WHERE rolname = current_user);
                RETURN NULL;
            END $$;
            CREATE CONSTRAINT TRIGGER again AFTER INSERT ON planted.later DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION planted.put_off();
            CREATE TRIGGER first AFTER INSERT OR UPDATE ON public.config_versions FOR EACH STATEMENT EXECUTE FUNCTION planted.put_off();
        """)
        connection = server.connect(db)
        with pytest.raises(psycopg2.errors.InsufficientPrivilege, match='deferred trigger within security-restricted operation'):
            connection.cursor().execute('CREATE EXTENSION sparky')
        assert not any('postgres is_superuser' in n or 'is_superuser=t' in n for n in connection.notices), connection.notices
        connection.close()
        owner.close()


def test_planted_triggers_at_the_first_installation(server):
    with database(server, owner='owner', script=SUPABASE) as db:
        owner = server.connect(db, 'owner')
        owner.cursor().execute(PLANTED)
        storage = server.connect(db, 'supabase_storage_admin')
        server.query('GRANT USAGE ON SCHEMA planted TO supabase_storage_admin', db=db)
        plant(storage, ['storage.buckets'])
        notices = [n for n in create_extension(server, db, 'postgres') if 'planted' in n]
        assert notices == [] or all('is_superuser=t' in n for n in notices)     # here the superuser is the data owner
        server.psql('DROP EXTENSION sparky CASCADE; DROP SCHEMA sparky CASCADE; DROP SCHEMA cache CASCADE', db=db)
        owner.close()
        storage.close()
    with database(server, owner='owner', script=SUPABASE) as db:
        server.psql(PLANTED + 'GRANT USAGE ON SCHEMA planted TO supabase_storage_admin', db=db)
        storage = server.connect(db, 'supabase_storage_admin')
        plant(storage, ['storage.buckets'])
        notices = [n for n in create_extension(server, db, 'owner') if 'planted' in n]
        assert len(notices) >= 3 and all('owner is_superuser=f' in n for n in notices), notices
        storage.close()


def test_functions_of_the_owner_cannot_lead_the_script_astray(server):
    """Functions beside ours, operators in front of pg_catalog's: nothing of the owner's is called as superuser."""
    with database(server, owner='owner') as db:
        create_extension(server, db, 'owner')
        server.query('DROP EXTENSION sparky CASCADE', db=db)
        server.psql('CREATE SCHEMA traps AUTHORIZATION owner; ALTER ROLE postgres SET search_path = traps, pg_catalog, public', db=db)
        server.psql("""
            CREATE FUNCTION traps.trap(name, name) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'trapped as %', current_user; END$$;
            CREATE FUNCTION traps.trap(text, text) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'trapped as %', current_user; END$$;
            CREATE OPERATOR traps.= (LEFTARG = name, RIGHTARG = name, FUNCTION = traps.trap);
            CREATE OPERATOR traps.= (LEFTARG = text, RIGHTARG = text, FUNCTION = traps.trap);
            CREATE FUNCTION traps.now() RETURNS timestamptz LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'trapped as %', current_user; END$$;
            """, db=db, user='owner')
        with pytest.raises(psycopg2.errors.RaiseException, match='trapped as postgres'):
            server.query("SELECT now()", db=db)     # the traps are set
        try:
            assert create_extension(server, db) == []
            assert server.value('SELECT sparky.repair()', db=db) == []
        finally:
            server.query('ALTER ROLE postgres RESET search_path')


def test_a_new_owner(server):
    """ALTER SCHEMA ... OWNER names another data owner; repair() hands him the definer functions and the rights."""
    with database(server) as db:
        create_extension(server, db)
        server.query('ALTER SCHEMA sparky OWNER TO owner', db=db)
        tables = server.query("SELECT c.oid::regclass::text FROM pg_class c WHERE relkind IN ('r') AND c.relnamespace::regnamespace::text IN ('public', 'sparky', 'cache', 'auth', 'storage')", db=db)
        server.psql(''.join(f'ALTER TABLE {t} OWNER TO owner;' for t, in tables) + 'GRANT USAGE ON SCHEMA cache, auth, storage TO owner', db=db)
        assert server.value('SELECT sparky.repair()', db=db) == []
        assert server.query('SELECT DISTINCT proowner::regrole::text FROM pg_proc WHERE prosecdef AND pronamespace = $$sparky$$::regnamespace', db=db) == [('owner',)]
        assert server.value('SELECT sparky.repair()', db=db, user='owner') == []
        user = server.sign_up('ann@example.com', db=db)
        assert server.value('SELECT credits FROM public.users WHERE id = %s', (user,), db=db) == 10


def test_a_later_delta(server):
    """Data of an older version is brought forward: each delta once, in order."""
    with database(server) as db:
        create_extension(server, db)
        latest = server.value('SELECT sparky.latest_version()', db=db)
        server.psql(f"""
            CREATE FUNCTION sparky.delta_{latest + 1}() RETURNS void LANGUAGE sql AS 'CREATE TABLE sparky.two (a int)';
            CREATE FUNCTION sparky.delta_{latest + 2}() RETURNS void LANGUAGE plpgsql AS $$BEGIN ALTER TABLE sparky.two ADD b int; END$$;""", db=db)
        assert server.value('SELECT sparky.install()', db=db) == []
        assert server.value('SELECT sparky.install()', db=db) == []
        assert server.query('SELECT version FROM sparky.schema_version ORDER BY 1', db=db) == [(n,) for n in range(1, latest + 3)]
        assert server.value("SELECT count(*) FROM pg_attribute WHERE attrelid = 'sparky.two'::regclass AND attnum > 0", db=db) == 2


def test_the_files_agree():
    """Control file, META.json and library are of one version."""
    control = dict(re.findall(r"^(\w+) = '?([^'\n]*)'?$", (TREE / 'sparky.control').read_text(), re.M))
    meta = json.loads((TREE / 'META.json').read_text())
    assert meta['version'] == meta['provides']['sparky']['version'] == control['default_version']
    assert meta['provides']['sparky']['file'] == f"sql/sparky--{control['default_version']}.sql"
    assert (control['schema'], control['superuser'], control['trusted'], control['relocatable']) == ('pg_catalog', 'true', 'false', 'false')


def test_the_library_is_of_that_version(server):
    with database(server) as db:
        create_extension(server, db)
        assert server.row("SELECT sparky.version(), extversion FROM pg_extension WHERE extname = 'sparky'", db=db) == (
            json.loads((pathlib.Path(TREE) / 'META.json').read_text())['version'],) * 2
