/*
 * Stand-ins: what the app needs of Supabase's auth and storage, for a
 * PostgreSQL without them.  Real names, real behaviour; where the real tables
 * exist nothing of this is made or touched.
 *
 * Called by the extension script as superuser (the data owner may not be
 * allowed to make schemas), and by install() as the data owner: hence SECURITY
 * INVOKER, and everything made is handed to the data owner.
 */
CREATE FUNCTION sparky.data_owner() RETURNS name
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT r.rolname FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner WHERE n.nspname = 'sparky'
$$;
COMMENT ON FUNCTION sparky.data_owner() IS
'The role that owns sparky''s data: the owner of schema sparky.

Definer functions of sparky and the worker run as this role.';

CREATE FUNCTION sparky.own_schema(schema name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF to_regnamespace(quote_ident(schema)) IS NULL THEN
		EXECUTE format('CREATE SCHEMA %I AUTHORIZATION %I', schema, sparky.data_owner());
		EXECUTE format('REVOKE ALL ON SCHEMA %I FROM PUBLIC, anon, authenticated, service_role', schema);
		EXECUTE format('COMMENT ON SCHEMA %I IS %L', schema, CASE schema
			WHEN 'cache' THEN 'Results that need not be paid for twice'
			WHEN 'auth' THEN 'Accounts: a stand-in for Supabase Auth''s schema'
			ELSE 'Photo metadata: a stand-in for Supabase Storage''s schema' END);
		IF schema IN ('auth', 'storage') THEN
			EXECUTE format('GRANT USAGE ON SCHEMA %I TO anon, authenticated, service_role', schema);
		END IF;
	END IF;
END
$$;
COMMENT ON FUNCTION sparky.own_schema(name) IS
'Make one of the schemas cache, auth, storage, unless it exists.

A schema that exists is used as it is.';

CREATE FUNCTION sparky.stand_in_auth() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $make$
DECLARE
	claim	record;
BEGIN
	IF to_regclass('auth.users') IS NULL THEN
		CREATE TABLE auth.users (
			id					uuid PRIMARY KEY DEFAULT gen_random_uuid(),
			email				text UNIQUE,
			phone				text UNIQUE,
			email_confirmed_at	timestamptz DEFAULT now(),
			phone_confirmed_at	timestamptz,
			raw_app_meta_data	jsonb,
			raw_user_meta_data	jsonb,
			is_anonymous		boolean NOT NULL DEFAULT false,
			created_at			timestamptz DEFAULT now(),
			updated_at			timestamptz DEFAULT now()
		);
		EXECUTE format('ALTER TABLE auth.users OWNER TO %I', sparky.data_owner());
		ALTER TABLE auth.users ENABLE ROW LEVEL SECURITY;
		REVOKE ALL ON auth.users FROM PUBLIC, anon, authenticated, service_role;
		COMMENT ON TABLE auth.users IS 'Accounts: a stand-in for Supabase Auth''s table, filled by whoever issues the JWTs';
		COMMENT ON COLUMN auth.users.id IS 'The sub of the account''s JWTs';
		COMMENT ON COLUMN auth.users.email IS 'E-mail address';
		COMMENT ON COLUMN auth.users.phone IS 'Phone number';
		COMMENT ON COLUMN auth.users.email_confirmed_at IS 'When the address was confirmed: the sign-up credits come with it';
		COMMENT ON COLUMN auth.users.phone_confirmed_at IS 'When the number was confirmed: the sign-up credits come with it';
		COMMENT ON COLUMN auth.users.raw_app_meta_data IS 'What the auth server notes of the account';
		COMMENT ON COLUMN auth.users.raw_user_meta_data IS 'What the user told at sign-up; username becomes the profile''s name';
		COMMENT ON COLUMN auth.users.is_anonymous IS 'An account without address or number: gets no sign-up credits';
		COMMENT ON COLUMN auth.users.created_at IS 'When the account was made';
		COMMENT ON COLUMN auth.users.updated_at IS 'When the account was last changed';
	END IF;
	-- Supabase's own functions: an unset and an empty setting both count as absent.
	FOR claim IN SELECT * FROM (VALUES ('uid', 'sub', 'uuid', 'The signed-in user''s id, or NULL'),
		('role', 'role', 'text', 'The role of the request''s JWT, or NULL'),
		('email', 'email', 'text', 'The e-mail address in the request''s JWT, or NULL')) c(name, key, type, comment)
	LOOP
		CONTINUE WHEN to_regprocedure(format('auth.%I()', claim.name)) IS NOT NULL;
		EXECUTE format($f$CREATE FUNCTION auth.%1$I() RETURNS %3$s LANGUAGE sql STABLE AS $body$
  select coalesce(
    nullif(current_setting('request.jwt.claim.%2$s', true), ''),
    (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> '%2$s')
  )::%3$s
$body$
$f$, claim.name, claim.key, claim.type);
		EXECUTE format('ALTER FUNCTION auth.%I() OWNER TO %I', claim.name, sparky.data_owner());
		EXECUTE format('COMMENT ON FUNCTION auth.%I() IS %L', claim.name, claim.comment);
	END LOOP;
	IF to_regprocedure('auth.jwt()') IS NULL THEN
		CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE AS $body$
  select coalesce(
    nullif(current_setting('request.jwt.claim', true), ''),
    nullif(current_setting('request.jwt.claims', true), '')
  )::jsonb
$body$;
		EXECUTE format('ALTER FUNCTION auth.jwt() OWNER TO %I', sparky.data_owner());
		COMMENT ON FUNCTION auth.jwt() IS 'All claims of the request''s JWT, or NULL';
	END IF;
END
$make$;
COMMENT ON FUNCTION sparky.stand_in_auth() IS
'Make what is missing of auth.users, auth.uid(), auth.role(), auth.email(), auth.jwt().

What exists is left alone.';

CREATE FUNCTION sparky.stand_in_storage() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF to_regclass('storage.buckets') IS NULL THEN
		CREATE TABLE storage.buckets (
			id					text PRIMARY KEY,
			name				text NOT NULL CONSTRAINT bname UNIQUE,
			owner				uuid,
			owner_id			text,
			public				boolean DEFAULT false,
			file_size_limit		bigint,
			allowed_mime_types	text[],
			created_at			timestamptz DEFAULT now(),
			updated_at			timestamptz DEFAULT now()
		);
		EXECUTE format('ALTER TABLE storage.buckets OWNER TO %I', sparky.data_owner());
		ALTER TABLE storage.buckets ENABLE ROW LEVEL SECURITY;
		REVOKE ALL ON storage.buckets FROM PUBLIC, anon, authenticated, service_role;
		GRANT SELECT ON storage.buckets TO service_role;
		COMMENT ON TABLE storage.buckets IS 'Buckets: a stand-in for Supabase Storage''s table';
		COMMENT ON COLUMN storage.buckets.id IS 'The bucket, first part of every path';
		COMMENT ON COLUMN storage.buckets.name IS 'Its name, the same as id';
		COMMENT ON COLUMN storage.buckets.owner IS 'Unused, kept for Supabase''s shape';
		COMMENT ON COLUMN storage.buckets.owner_id IS 'Unused, kept for Supabase''s shape';
		COMMENT ON COLUMN storage.buckets.public IS 'True: readable by everybody; both of ours are private';
		COMMENT ON COLUMN storage.buckets.file_size_limit IS 'Largest object, bytes';
		COMMENT ON COLUMN storage.buckets.allowed_mime_types IS 'Media types that may be stored; NULL: all';
		COMMENT ON COLUMN storage.buckets.created_at IS 'When the bucket was made';
		COMMENT ON COLUMN storage.buckets.updated_at IS 'When the bucket was last changed';
	END IF;
	IF to_regclass('storage.objects') IS NULL THEN
		CREATE TABLE storage.objects (
			id					uuid PRIMARY KEY DEFAULT gen_random_uuid(),
			bucket_id			text CONSTRAINT "objects_bucketId_fkey" REFERENCES storage.buckets (id),
			name				text,
			owner				uuid,
			owner_id			text,
			created_at			timestamptz DEFAULT now(),
			updated_at			timestamptz DEFAULT now(),
			last_accessed_at	timestamptz DEFAULT now(),
			metadata			jsonb,
			path_tokens			text[] GENERATED ALWAYS AS (string_to_array(name, '/')) STORED,
			version				text,
			user_metadata		jsonb
		);
		CREATE UNIQUE INDEX bucketid_objname ON storage.objects (bucket_id, name);
		CREATE INDEX objects_owner_id_idx ON storage.objects (owner_id);
		EXECUTE format('ALTER TABLE storage.objects OWNER TO %I', sparky.data_owner());
		ALTER TABLE storage.objects ENABLE ROW LEVEL SECURITY;
		REVOKE ALL ON storage.objects FROM PUBLIC, anon, authenticated, service_role;
		-- As on Supabase: the policies decide. A row without bytes is no photo; whose quota an object uses is not his to say.
		GRANT SELECT, INSERT, DELETE ON storage.objects TO authenticated;
		GRANT UPDATE (bucket_id, name, metadata, user_metadata, version, last_accessed_at, updated_at) ON storage.objects TO authenticated;
		GRANT SELECT ON storage.objects TO service_role;
		COMMENT ON INDEX storage.bucketid_objname IS 'One object a path';
		COMMENT ON INDEX storage.objects_owner_id_idx IS 'For the quota of each user';
		COMMENT ON TABLE storage.objects IS 'Photo metadata: a stand-in for Supabase Storage''s table; the bytes are in sparky.stored_files';
		COMMENT ON COLUMN storage.objects.id IS 'The object; kept when it is overwritten';
		COMMENT ON COLUMN storage.objects.bucket_id IS 'Its bucket';
		COMMENT ON COLUMN storage.objects.name IS 'Its path in the bucket; the first folder is the user''s id';
		COMMENT ON COLUMN storage.objects.owner IS 'Unused, kept for Supabase''s shape';
		COMMENT ON COLUMN storage.objects.owner_id IS 'Who uploaded it, the sub of his JWT';
		COMMENT ON COLUMN storage.objects.created_at IS 'When it was first stored';
		COMMENT ON COLUMN storage.objects.updated_at IS 'When it was last written';
		COMMENT ON COLUMN storage.objects.last_accessed_at IS 'Unused, kept for Supabase''s shape';
		COMMENT ON COLUMN storage.objects.metadata IS 'size (bytes), mimetype, eTag, cacheControl, contentLength';
		COMMENT ON COLUMN storage.objects.path_tokens IS 'The parts of name';
		COMMENT ON COLUMN storage.objects.version IS 'Changes with every write';
		COMMENT ON COLUMN storage.objects.user_metadata IS 'Unused, kept for Supabase''s shape';
	END IF;
	IF to_regprocedure('storage.foldername(text)') IS NULL THEN
		CREATE FUNCTION storage.foldername(name text) RETURNS text[] LANGUAGE sql IMMUTABLE AS
			'select p[1 : array_length(p, 1) - 1] from string_to_array(name, ''/'') p';
		EXECUTE format('ALTER FUNCTION storage.foldername(text) OWNER TO %I', sparky.data_owner());
		COMMENT ON FUNCTION storage.foldername(text) IS 'The folders of a path: all its parts but the last';
	END IF;
	IF to_regprocedure('storage.filename(text)') IS NULL THEN
		CREATE FUNCTION storage.filename(name text) RETURNS text LANGUAGE sql IMMUTABLE AS
			'select p[array_length(p, 1)] from string_to_array(name, ''/'') p';
		EXECUTE format('ALTER FUNCTION storage.filename(text) OWNER TO %I', sparky.data_owner());
		COMMENT ON FUNCTION storage.filename(text) IS 'The last part of a path';
	END IF;
	IF to_regprocedure('storage.extension(text)') IS NULL THEN
		CREATE FUNCTION storage.extension(name text) RETURNS text LANGUAGE sql IMMUTABLE AS
			'select reverse(split_part(reverse(storage.filename(name)), ''.'', 1))';
		EXECUTE format('ALTER FUNCTION storage.extension(text) OWNER TO %I', sparky.data_owner());
		COMMENT ON FUNCTION storage.extension(text) IS 'What follows the last dot of a path';
	END IF;
END
$$;
COMMENT ON FUNCTION sparky.stand_in_storage() IS
'Make what is missing of storage.buckets, storage.objects, storage.foldername(), filename(), extension().

What exists is left alone.';

CREATE FUNCTION sparky.stand_ins() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM sparky.own_schema('cache');
	-- Only where the table is missing: the functions of a real auth or storage are its own affair.
	IF to_regclass('auth.users') IS NULL THEN
		PERFORM sparky.own_schema('auth');
		PERFORM sparky.stand_in_auth();
	END IF;
	IF to_regclass('storage.objects') IS NULL THEN
		PERFORM sparky.own_schema('storage');
		PERFORM sparky.stand_in_storage();
	END IF;
END
$$;
COMMENT ON FUNCTION sparky.stand_ins() IS
'Make schema cache and the stand-ins for auth and storage, where they are missing.

A second call makes nothing.';
