"""A server and databases in the shape of self-hosted Supabase.

What sparky meets there and not on a plain server: the superuser is
supabase_admin, and postgres, who owns the app's data, is none; auth, storage,
realtime and vault belong to other roles; default privileges hand everything in
public to the client roles by name; roles carry timeouts; PostgREST's sessions
refuse an UPDATE or DELETE without WHERE; two libraries of Supabase's are played
by test/lib/supabase.  All of it is written after Supabase's documentation and
from observation: names, columns, owners and rights are the real ones.

Use: Server(**SHAPE), or SERVER = SHAPE in a test module.  CREATE EXTENSION is
then run by postgres, who may because sparky is on the operator's list.
"""

import os
import pathlib
import subprocess

from storage_control import attach_storage
from supabase_storage import SERVICE_KEY, storage_sql

LIBRARIES = pathlib.Path(__file__).resolve().parents[1] / 'lib/supabase'

ROLES = """
CREATE ROLE postgres LOGIN CREATEROLE CREATEDB REPLICATION BYPASSRLS;
CREATE ROLE anon NOLOGIN INHERIT;
CREATE ROLE authenticated NOLOGIN INHERIT;
CREATE ROLE service_role NOLOGIN INHERIT BYPASSRLS;
CREATE ROLE authenticator LOGIN NOINHERIT;
CREATE ROLE supabase_auth_admin LOGIN NOINHERIT;
CREATE ROLE supabase_storage_admin LOGIN NOINHERIT CREATEROLE;
CREATE ROLE supabase_realtime_admin NOLOGIN NOINHERIT;
CREATE ROLE dashboard_user NOLOGIN CREATEROLE CREATEDB REPLICATION;
CREATE ROLE supabase_privileged_role NOLOGIN;
GRANT anon, authenticated, service_role TO authenticator;
GRANT anon, authenticated, service_role, pg_monitor, pg_read_all_data, pg_signal_backend, supabase_privileged_role TO postgres;
GRANT authenticator TO supabase_storage_admin;
ALTER ROLE supabase_admin SET search_path = "$user", public, auth, extensions;
ALTER ROLE postgres SET search_path = "$user", public, extensions;
ALTER ROLE anon SET statement_timeout = '3s';
ALTER ROLE authenticated SET statement_timeout = '8s';
ALTER ROLE authenticator SET statement_timeout = '8s';
ALTER ROLE authenticator SET lock_timeout = '8s';
ALTER ROLE supabase_auth_admin SET search_path = auth;
ALTER ROLE supabase_auth_admin SET idle_in_transaction_session_timeout = 60000;
ALTER ROLE supabase_storage_admin SET search_path = storage;
"""

PUBLIC = """
CREATE SCHEMA extensions;
GRANT USAGE ON SCHEMA extensions TO postgres, anon, authenticated, service_role;
GRANT ALL ON SCHEMA extensions TO dashboard_user;
GRANT USAGE ON SCHEMA public TO postgres, anon, authenticated, service_role;
GRANT CREATE ON SCHEMA public TO postgres;
ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA public GRANT ALL ON TABLES TO postgres, anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA public GRANT ALL ON FUNCTIONS TO postgres, anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA public GRANT ALL ON SEQUENCES TO postgres, anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES FOR ROLE supabase_admin IN SCHEMA public GRANT ALL ON TABLES TO postgres, anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES FOR ROLE supabase_admin IN SCHEMA public GRANT ALL ON FUNCTIONS TO postgres, anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES FOR ROLE supabase_admin IN SCHEMA public GRANT ALL ON SEQUENCES TO postgres, anon, authenticated, service_role;
CREATE PUBLICATION supabase_realtime;
ALTER PUBLICATION supabase_realtime OWNER TO postgres;
CREATE FUNCTION extensions.pgrst_ddl_watch() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_catalog.pg_notify('pgrst', 'reload schema');
END $$;
CREATE EVENT TRIGGER pgrst_ddl_watch ON ddl_command_end EXECUTE FUNCTION extensions.pgrst_ddl_watch();
"""

AUTH = """
CREATE SCHEMA auth;
GRANT USAGE ON SCHEMA auth TO anon, authenticated, service_role, postgres;
GRANT ALL ON SCHEMA auth TO supabase_auth_admin, dashboard_user;
CREATE TABLE auth.users (
	instance_id uuid,
	id uuid NOT NULL PRIMARY KEY,
	aud varchar(255),
	role varchar(255),
	email varchar(255),
	encrypted_password varchar(255),
	email_confirmed_at timestamptz,
	invited_at timestamptz,
	confirmation_token varchar(255),
	confirmation_sent_at timestamptz,
	recovery_token varchar(255),
	recovery_sent_at timestamptz,
	email_change_token_new varchar(255),
	email_change varchar(255),
	email_change_sent_at timestamptz,
	last_sign_in_at timestamptz,
	raw_app_meta_data jsonb,
	raw_user_meta_data jsonb,
	is_super_admin boolean,
	created_at timestamptz,
	updated_at timestamptz,
	phone text DEFAULT NULL UNIQUE,
	phone_confirmed_at timestamptz,
	phone_change text DEFAULT '',
	phone_change_token varchar(255) DEFAULT '',
	phone_change_sent_at timestamptz,
	confirmed_at timestamptz GENERATED ALWAYS AS (least(email_confirmed_at, phone_confirmed_at)) STORED,
	email_change_token_current varchar(255) DEFAULT '',
	email_change_confirm_status smallint DEFAULT 0 CHECK (email_change_confirm_status BETWEEN 0 AND 2),
	banned_until timestamptz,
	reauthentication_token varchar(255) DEFAULT '',
	reauthentication_sent_at timestamptz,
	is_sso_user boolean NOT NULL DEFAULT false,
	deleted_at timestamptz,
	is_anonymous boolean NOT NULL DEFAULT false
);
CREATE UNIQUE INDEX users_email_partial_key ON auth.users (email) WHERE is_sso_user = false;
CREATE INDEX users_instance_id_idx ON auth.users (instance_id);
ALTER TABLE auth.users ENABLE ROW LEVEL SECURITY;
CREATE TABLE auth.sessions (id uuid PRIMARY KEY, user_id uuid NOT NULL REFERENCES auth.users ON DELETE CASCADE);
CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS $$
	select coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''),
		(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'))::uuid $$;
CREATE FUNCTION auth.role() RETURNS text LANGUAGE sql STABLE AS $$
	select coalesce(nullif(current_setting('request.jwt.claim.role', true), ''),
		(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role'))::text $$;
CREATE FUNCTION auth.email() RETURNS text LANGUAGE sql STABLE AS $$
	select coalesce(nullif(current_setting('request.jwt.claim.email', true), ''),
		(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'email'))::text $$;
CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE AS $$
	select coalesce(nullif(current_setting('request.jwt.claim', true), ''), nullif(current_setting('request.jwt.claims', true), ''))::jsonb $$;
ALTER TABLE auth.users OWNER TO supabase_auth_admin;
ALTER TABLE auth.sessions OWNER TO supabase_auth_admin;
ALTER FUNCTION auth.uid() OWNER TO supabase_auth_admin;
ALTER FUNCTION auth.role() OWNER TO supabase_auth_admin;
ALTER FUNCTION auth.email() OWNER TO supabase_auth_admin;
ALTER FUNCTION auth.jwt() OWNER TO supabase_auth_admin;
GRANT SELECT, INSERT, UPDATE, DELETE, REFERENCES, TRIGGER, TRUNCATE ON auth.users, auth.sessions TO postgres, dashboard_user;
"""

# send() never raises: what goes wrong is a WARNING, and a day without a partition loses the message.
REALTIME = """
CREATE SCHEMA realtime;
GRANT USAGE ON SCHEMA realtime TO postgres, anon, authenticated, service_role;
GRANT ALL ON SCHEMA realtime TO supabase_realtime_admin;
CREATE TABLE realtime.messages (topic text NOT NULL, extension text NOT NULL, payload jsonb, event text, private boolean DEFAULT false,
	updated_at timestamp NOT NULL DEFAULT now(), inserted_at timestamp NOT NULL DEFAULT now(), id uuid NOT NULL DEFAULT gen_random_uuid(),
	PRIMARY KEY (id, inserted_at)) PARTITION BY RANGE (inserted_at);
ALTER TABLE realtime.messages ENABLE ROW LEVEL SECURITY;
ALTER TABLE realtime.messages OWNER TO supabase_realtime_admin;
CREATE TABLE realtime.messages_now PARTITION OF realtime.messages FOR VALUES FROM ('2000-01-01') TO ('2100-01-01');
ALTER TABLE realtime.messages_now OWNER TO supabase_realtime_admin;
GRANT SELECT, INSERT, UPDATE ON realtime.messages TO postgres, anon, authenticated, service_role;
CREATE FUNCTION realtime.topic() RETURNS text LANGUAGE sql STABLE AS $$ select nullif(current_setting('realtime.topic', true), '')::text $$;
CREATE FUNCTION realtime.send(payload jsonb, event text, topic text, private boolean DEFAULT true) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		PERFORM pg_catalog.set_config('realtime.topic', topic, true);
		INSERT INTO realtime.messages (payload, event, topic, private, extension)
		VALUES (pg_catalog.jsonb_build_object('id', gen_random_uuid()) || payload, event, topic, private, 'broadcast');
	EXCEPTION WHEN OTHERS THEN
		RAISE WARNING 'ErrorSendingBroadcastMessage: %', SQLERRM;
	END;
END $$;
"""

# Without cryptography: the same view, columns, functions and rights.
VAULT = """
CREATE SCHEMA vault;
CREATE TABLE vault.secrets (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text, description text NOT NULL DEFAULT '', secret text NOT NULL,
	key_id uuid, nonce bytea DEFAULT '\\x00', created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now());
CREATE UNIQUE INDEX ON vault.secrets (name) WHERE name IS NOT NULL;
CREATE VIEW vault.decrypted_secrets AS SELECT id, name, description, secret, convert_from(decode(secret, 'base64'), 'UTF8') AS decrypted_secret,
	key_id, nonce, created_at, updated_at FROM vault.secrets;
CREATE FUNCTION vault.create_secret(new_secret text, new_name text DEFAULT NULL, new_description text DEFAULT '', new_key_id uuid DEFAULT NULL) RETURNS uuid
LANGUAGE sql SECURITY DEFINER SET search_path = '' AS $$
	INSERT INTO vault.secrets (secret, name, description) VALUES (encode(convert_to(new_secret, 'UTF8'), 'base64'), new_name, new_description) RETURNING id $$;
CREATE FUNCTION vault.update_secret(secret_id uuid, new_secret text DEFAULT NULL, new_name text DEFAULT NULL, new_description text DEFAULT NULL,
	new_key_id uuid DEFAULT NULL) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = '' AS $$
	UPDATE vault.secrets s SET secret = coalesce(encode(convert_to(new_secret, 'UTF8'), 'base64'), s.secret), name = coalesce(new_name, s.name),
		description = coalesce(new_description, s.description), updated_at = now() WHERE s.id = secret_id $$;
REVOKE ALL ON FUNCTION vault.create_secret(text, text, text, uuid), vault.update_secret(uuid, text, text, text, uuid) FROM PUBLIC;
GRANT USAGE ON SCHEMA vault TO postgres, service_role;
GRANT SELECT, DELETE ON vault.secrets, vault.decrypted_secrets TO postgres WITH GRANT OPTION;
GRANT SELECT, DELETE ON vault.secrets, vault.decrypted_secrets TO service_role;
GRANT EXECUTE ON FUNCTION vault.create_secret(text, text, text, uuid), vault.update_secret(uuid, text, text, text, uuid) TO postgres WITH GRANT OPTION;
GRANT EXECUTE ON FUNCTION vault.create_secret(text, text, text, uuid), vault.update_secret(uuid, text, text, text, uuid) TO service_role;
"""

CRON = """
CREATE EXTENSION pg_cron WITH SCHEMA pg_catalog;
GRANT USAGE ON SCHEMA cron TO postgres WITH GRANT OPTION;
GRANT ALL ON ALL TABLES IN SCHEMA cron TO postgres WITH GRANT OPTION;
REVOKE ALL ON TABLE cron.job FROM postgres;
GRANT SELECT ON TABLE cron.job TO postgres WITH GRANT OPTION;
"""

CONF = ["cron.database_name = 'postgres'", "cron.timezone = 'GMT'", "cron.use_background_workers = on"]


def build(server, name):
    """One of Supabase's libraries as the tests have it; its path."""
    library = server.dir / f'{name}.so'
    include = subprocess.check_output(['pg_config', '--includedir-server'], text=True).strip()
    done = subprocess.run(['gcc', '-Wall', '-O1', '-fPIC', '-shared', f'-I{include}', '-o', library, LIBRARIES / f'{name}.c'], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    library.chmod(0o755)
    return library


def make_database(server, db, storage=True, realtime=True, vault=True, cron=False):
    """Fill an empty database with what Supabase's migrations make."""
    server.psql(f'ALTER DATABASE {db} OWNER TO postgres', db=db)
    server.psql(PUBLIC + AUTH + (storage_sql('postgres', 'dashboard_user') if storage else '') + (REALTIME if realtime else '') + (VAULT if vault else '')
                + (CRON if cron else ''), db=db)


def make_server(server, **parts):
    """Roles, libraries and the main database, on a fresh server whose superuser is supabase_admin."""
    server.auth_user = 'supabase_auth_admin'
    server.account_columns = {'instance_id': '00000000-0000-0000-0000-000000000000', 'aud': 'authenticated', 'role': 'authenticated',
                              'email_confirmed_at': 'now', 'raw_app_meta_data': '{"provider": "email", "providers": ["email"]}',
                              'raw_user_meta_data': '{}', 'created_at': 'now', 'updated_at': 'now'}
    privileged, safeupdate = build(server, 'privileged'), build(server, 'safeupdate')
    server.psql(ROLES + f"ALTER ROLE authenticator SET session_preload_libraries = '{privileged}', '{safeupdate}';")
    server.reload(f"session_preload_libraries = '{privileged}'", "privileged.extensions = 'pg_cron, supabase_vault, sparky'")
    make_database(server, 'postgres', **parts)


def shape(storage, **parts):
    """Options of Server: the shape, and sparky made in it by postgres; storage: with Storage's tables and its API over them, else photos are embedded."""
    def prepare(server):
        make_server(server, storage=storage, **parts)
        if storage:
            attach_storage(server)
        server.psql('CREATE EXTENSION sparky', user='postgres')
    return {'superuser': 'supabase_admin', 'prepare': prepare, 'storage': 'as prepared', **({'environment': {'STORAGE_SERVICE_KEY': SERVICE_KEY}} if storage else {})}


SHAPE = shape(storage=os.environ.get('SPARKY_STORAGE') == 'supabase')
