"""Databases to install into: plain ones, and one shaped like Supabase's.

The data owner may be no superuser.  On Supabase he then runs CREATE EXTENSION
through supautils, which switches to a superuser for the command; operator.run()
does the same: the session's user stays the owner.
"""

import contextlib
import itertools

from supabase_storage import storage_sql

_numbers = itertools.count(1)

ROLES = """
DO $$
DECLARE
	role text;
BEGIN
	FOREACH role IN ARRAY ARRAY['owner LOGIN BYPASSRLS', 'auth_admin LOGIN NOINHERIT', 'stranger LOGIN',
		'anon NOLOGIN', 'authenticated NOLOGIN', 'service_role NOLOGIN BYPASSRLS']
	LOOP
		IF to_regrole(split_part(role, ' ', 1)) IS NULL THEN EXECUTE 'CREATE ROLE ' || role; END IF;
	END LOOP;
END $$;
"""

OPERATOR = """
CREATE SCHEMA operator;
CREATE FUNCTION operator.run(command text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$BEGIN EXECUTE command; END$$;
GRANT USAGE ON SCHEMA operator TO owner;
"""

# What sparky meets on Supabase: auth and storage of roles of their own, default
# privileges that hand everything out by name, a publication, storage that
# refuses deletions by SQL.
SUPABASE = """
ALTER DEFAULT PRIVILEGES FOR ROLE owner IN SCHEMA public GRANT ALL ON TABLES TO anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES FOR ROLE owner IN SCHEMA public GRANT ALL ON FUNCTIONS TO anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES FOR ROLE owner IN SCHEMA public GRANT ALL ON SEQUENCES TO anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA public GRANT ALL ON TABLES TO owner, anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA public GRANT ALL ON FUNCTIONS TO owner, anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA public GRANT ALL ON SEQUENCES TO owner, anon, authenticated, service_role;
CREATE SCHEMA auth;
GRANT USAGE ON SCHEMA auth TO anon, authenticated, service_role, owner;
GRANT ALL ON SCHEMA auth TO auth_admin;
CREATE TABLE auth.users (instance_id uuid, id uuid PRIMARY KEY, aud varchar(255), role varchar(255), email varchar(255), encrypted_password varchar(255),
	email_confirmed_at timestamptz, raw_app_meta_data jsonb, raw_user_meta_data jsonb, is_super_admin boolean, created_at timestamptz, updated_at timestamptz,
	phone text UNIQUE, phone_confirmed_at timestamptz, last_sign_in_at timestamptz, is_sso_user boolean NOT NULL DEFAULT false, deleted_at timestamptz,
	is_anonymous boolean NOT NULL DEFAULT false);
ALTER TABLE auth.users ENABLE ROW LEVEL SECURITY;
CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS $$
  select coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''),
    (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'))::uuid $$;
ALTER TABLE auth.users OWNER TO auth_admin;
ALTER FUNCTION auth.uid() OWNER TO auth_admin;
GRANT SELECT, REFERENCES, TRIGGER ON auth.users TO owner;
""" + storage_sql('owner') + """CREATE PUBLICATION supabase_realtime;
ALTER PUBLICATION supabase_realtime OWNER TO owner;
INSERT INTO auth.users (id, email, email_confirmed_at, is_anonymous) VALUES
	('00000000-0000-0000-0000-000000000001', 'old@example.com', now(), false),
	('00000000-0000-0000-0000-000000000002', 'unconfirmed@example.com', NULL, false),
	('00000000-0000-0000-0000-000000000003', NULL, NULL, true);
"""


@contextlib.contextmanager
def database(server, owner=None, script=''):
    """The name of a new database, which goes away again."""
    name = f'db{next(_numbers)}'
    server.psql(ROLES)
    server.query(f'CREATE DATABASE {name} TEMPLATE template0' + (f' OWNER {owner}' if owner else ''))
    try:
        server.psql(OPERATOR + script, db=name)
        yield name
    finally:
        server.query(f'DROP DATABASE IF EXISTS {name} WITH (FORCE)')


def create_extension(server, db, user='postgres'):
    """As the user, who may be no superuser; the warnings of the command."""
    connection = server.connect(db, user)
    try:
        with connection.cursor() as cursor:
            cursor.execute('CREATE EXTENSION sparky' if user == 'postgres' else "SELECT operator.run('CREATE EXTENSION sparky')")
        return [n for n in connection.notices if n.startswith('WARNING')]
    finally:
        connection.close()


def dump(server, db, *options):
    """The database as SQL text, without the lines that are new in each dump."""
    done = server.run('pg_dump', *options, db)
    assert done.returncode == 0 and done.stderr == '', done.stderr
    return '\n'.join(line for line in done.stdout.splitlines() if not line.startswith(('\\restrict', '\\unrestrict')))
