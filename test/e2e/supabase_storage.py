"""Supabase's Storage for a test's database: its tables as its migrations make them, and the emulator's API over them.

    make_storage(connection)        before CREATE EXTENSION sparky; sparky finds that another role owns storage.objects
    storage_sql('role')             the same as a script, with rights for who works on the tables beside the API
    StorageEmulator(dsn, key)       the API; conf: sparky.storage_url = its url, environment: STORAGE_SERVICE_KEY = key

The API writes as supabase_storage_admin, as the real one does; the bytes are in the emulator's memory.
"""

from emulator import Emulator

SERVICE_KEY = 'sb_secret_Zq8-test-key-not-real'
JWT_SECRET = 'a-secret-of-the-test-s-auth-server-with-32-characters'

# Roles are of the cluster: another database, or the rest of Supabase's shape, may have made them.
ROLES = """
DO $$
DECLARE r record;
BEGIN
	FOR r IN SELECT * FROM (VALUES ('anon', 'NOLOGIN'), ('authenticated', 'NOLOGIN'), ('service_role', 'NOLOGIN BYPASSRLS'), ('authenticator', 'LOGIN NOINHERIT'),
			('supabase_storage_admin', 'LOGIN NOINHERIT CREATEROLE')) v (name, options)
	LOOP
		IF to_regrole(r.name) IS NULL THEN
			EXECUTE format('CREATE ROLE %I %s', r.name, r.options);
		END IF;
	END LOOP;
	GRANT anon, authenticated, service_role TO authenticator;
	GRANT authenticator TO supabase_storage_admin;
	ALTER ROLE supabase_storage_admin SET search_path = storage;
END $$;
"""

TABLES = """
CREATE SCHEMA IF NOT EXISTS storage;
GRANT USAGE ON SCHEMA storage TO anon, authenticated, service_role;
GRANT ALL ON SCHEMA storage TO supabase_storage_admin;
SET ROLE supabase_storage_admin;
CREATE TYPE storage.buckettype AS ENUM ('STANDARD', 'ANALYTICS', 'VECTOR');
CREATE TABLE storage.buckets (id text PRIMARY KEY, name text NOT NULL CONSTRAINT bname UNIQUE, owner uuid, created_at timestamptz DEFAULT now(),
	updated_at timestamptz DEFAULT now(), public boolean DEFAULT false, avif_autodetection boolean DEFAULT false, file_size_limit bigint,
	allowed_mime_types text[], owner_id text, type storage.buckettype NOT NULL DEFAULT 'STANDARD', versioning_status text);
CREATE TABLE storage.objects (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), bucket_id text CONSTRAINT "objects_bucketId_fkey" REFERENCES storage.buckets,
	name text, owner uuid, created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now(), last_accessed_at timestamptz DEFAULT now(),
	metadata jsonb, path_tokens text[] GENERATED ALWAYS AS (string_to_array(name, '/')) STORED, version text, owner_id text, user_metadata jsonb,
	archived_at timestamptz, is_delete_marker boolean NOT NULL DEFAULT false, is_versioned boolean NOT NULL DEFAULT false);
CREATE UNIQUE INDEX bucketid_objname ON storage.objects (bucket_id, name);
CREATE INDEX idx_objects_bucket_id_name ON storage.objects (bucket_id, name COLLATE "C");
ALTER TABLE storage.buckets ENABLE ROW LEVEL SECURITY;
ALTER TABLE storage.objects ENABLE ROW LEVEL SECURITY;
CREATE FUNCTION storage.foldername(name text) RETURNS text[] LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
	parts text[] := string_to_array(name, '/');
BEGIN
	RETURN parts[1 : array_length(parts, 1) - 1];
END $$;
CREATE FUNCTION storage.filename(name text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
	parts text[] := string_to_array(name, '/');
BEGIN
	RETURN parts[array_length(parts, 1)];
END $$;
CREATE FUNCTION storage.extension(name text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
	parts text[] := string_to_array(storage.filename(name), '.');
BEGIN
	RETURN parts[array_length(parts, 1)];
END $$;
CREATE FUNCTION storage.update_updated_at_column() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.updated_at = now();
	RETURN NEW;
END $$;
CREATE FUNCTION storage.protect_delete() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF coalesce(current_setting('storage.allow_delete_query', true), 'false') <> 'true' THEN
		RAISE EXCEPTION 'Direct deletion from storage tables is not allowed. Use the Storage API instead.' USING ERRCODE = '42501';
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER update_objects_updated_at BEFORE UPDATE ON storage.objects FOR EACH ROW EXECUTE FUNCTION storage.update_updated_at_column();
CREATE TRIGGER protect_buckets_delete BEFORE DELETE ON storage.buckets FOR EACH STATEMENT EXECUTE FUNCTION storage.protect_delete();
CREATE TRIGGER protect_objects_delete BEFORE DELETE ON storage.objects FOR EACH STATEMENT EXECUTE FUNCTION storage.protect_delete();
GRANT ALL ON storage.buckets, storage.objects TO anon, authenticated, service_role;
RESET ROLE;
"""

FOR_A_ROLE = """
GRANT USAGE ON SCHEMA storage TO {role};
GRANT ALL ON storage.buckets, storage.objects TO {role};
"""


def storage_sql(*others):
    """The shape of Storage as a superuser makes it; others: roles of that database that may do anything with its tables."""
    return ROLES + TABLES + ''.join(FOR_A_ROLE.format(role=role) for role in others)


def make_storage(connection, *others):
    """The same, in the connection's database."""
    with connection.cursor() as cursor:
        cursor.execute(storage_sql(*others))


def storage_dsn(server, db='postgres'):
    """How the API reaches a test server's database."""
    return f'host={server.dir} port={server.port} user=supabase_storage_admin dbname={db}'


class StorageEmulator:
    """The API over the storage tables that dsn reaches; key: of the service role, which need be no JWT."""

    def __init__(self, dsn, key=SERVICE_KEY):
        self.key = key
        self.emulator = Emulator(latency_ms=5, storage_key=key, storage_jwt_secret=JWT_SECRET, storage_db=dsn)
        self.port, self.url = self.emulator.port, self.emulator.url + '/storage/v1'
        self.control, self.hold, self.release, self.reset, self.close = (
            self.emulator.storage, self.emulator.hold, self.emulator.release, self.emulator.reset, self.emulator.close)
        self.wait_idle = self.emulator.wait_idle

    def script(self, *rules):
        """Rules {op, key, times, code, http, status, fault, delay}: the first that matches and is not used up decides. times: 1 unless told, -1 for ever.
        key: bucket/key, of a deletion of many the bucket. fault: of the emulator, or reset: the request is lost."""
        self.emulator.script(*map(self._rule, rules))

    @staticmethod
    def _rule(rule):
        rule = dict(rule)
        made = {'match': {'service': 'storage'}, 'times': max(rule.pop('times', 1), 0)}
        for ours, theirs in (('op', 'kind'), ('key', 'path')):
            if ours in rule:
                made['match'][theirs] = rule.pop(ours)
        if 'delay' in rule:
            made['delay_ms'] = int(rule.pop('delay') * 1000)
        if 'code' in rule:
            made.update(fault='error', code=rule.pop('code'), status=int(rule.pop('status')), http=rule.pop('http', 400))
        elif rule.get('fault') == 'reset':
            made.update(fault='reset_before', processed=False)
            rule.pop('fault')
        return {'fault': 'slow_ok', **made, **rule}

    def calls(self, op=None):
        """What the API was asked since the last reset, oldest first."""
        return [{'op': c['kind'], 'key': c['object'], 'bytes': c['body_bytes'], 'sha': c['body_sha256'], 'chunked': c['chunked'], 'time': c['time'],
                 'type': c['content_type'], 'length': c['content_length'], 'upsert': c['x_upsert'], 'cache': c['cache_control'],
                 'keys_equal': c['keys_equal'], 'body': c.get('body')}
                for c in self.emulator.calls(service='storage') if op in (None, c['kind'])]

    def user_token(self, user, seconds=3600):
        """A token of a signed-in user."""
        return self.control('token', sub=str(user), seconds=seconds)['token']
