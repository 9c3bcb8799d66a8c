/*
 * What sparky needs around its tables: buckets, policies on storage.objects,
 * membership in Realtime's publication.  Each may belong to another role, so
 * each function returns a note on what it may not do.
 */
CREATE FUNCTION sparky.make_buckets() RETURNS SETOF text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	bucket	text;
BEGIN
	INSERT INTO storage.buckets (id, name, public, file_size_limit, allowed_mime_types)
	SELECT b, b, false, 7340032, ARRAY['image/jpeg', 'image/png', 'image/webp', 'image/heic', 'image/heif']
	FROM unnest(ARRAY['user_uploads', 'generations']) b
	ON CONFLICT DO NOTHING;
	FOR bucket IN SELECT b.id FROM storage.buckets b WHERE b.id IN ('user_uploads', 'generations') AND b.public LOOP
		RETURN NEXT format('storage bucket %s is public: make it private', bucket);
	END LOOP;
EXCEPTION WHEN insufficient_privilege THEN
	RETURN NEXT format('storage buckets user_uploads and generations were not made (%s): make them, private', SQLERRM);
END
$$;
COMMENT ON FUNCTION sparky.make_buckets() IS
'Make the buckets user_uploads and generations: private, 7340032 bytes a file, the five image types.

Buckets that exist are left alone; returns notes.';

CREATE FUNCTION sparky.make_storage_policies() RETURNS SETOF text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	p	record;
BEGIN
	FOR p IN
		SELECT * FROM (VALUES
			('Sparky: users can upload to their own folder', 'INSERT', 'WITH CHECK (%3$s)', '= ''user_uploads'''),
			('Sparky: users can view their own photos', 'SELECT', 'USING (%3$s)', 'IN (''user_uploads'', ''generations'')'),
			('Sparky: users can overwrite their own uploads', 'UPDATE', 'USING (%3$s) WITH CHECK (%3$s)', '= ''user_uploads'''),
			('Sparky: users can delete their own uploads', 'DELETE', 'USING (%3$s)', '= ''user_uploads''')
		) v(name, verb, clause, bucket)
		WHERE NOT EXISTS (SELECT FROM pg_policy g WHERE g.polrelid = to_regclass('storage.objects') AND g.polname = v.name)
	LOOP
		EXECUTE format('CREATE POLICY %I ON storage.objects FOR %s TO authenticated ' || p.clause, p.name, p.verb,
			'bucket_id ' || p.bucket || ' AND (storage.foldername(name))[1] = (SELECT auth.uid())::text');
		BEGIN
			EXECUTE format('COMMENT ON POLICY %I ON storage.objects IS %L', p.name, 'The first folder of a path is its owner''s id');
		EXCEPTION WHEN insufficient_privilege THEN
			NULL;	-- Supabase lets postgres make policies there, not comment on them
		END;
	END LOOP;
EXCEPTION WHEN insufficient_privilege THEN
	RETURN NEXT format('policies on storage.objects were not made (%s): let a superuser run SELECT sparky.make_storage_policies()', SQLERRM);
END
$$;
COMMENT ON FUNCTION sparky.make_storage_policies() IS
'Make the policies on storage.objects: own folder of user_uploads, reading one''s own folder of generations.

Runs with the caller''s rights: the extension script calls it as superuser where another role owns the table. Returns notes.';

CREATE FUNCTION sparky.make_realtime_policy() RETURNS SETOF text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	title	text := 'Sparky: users can listen to their own topic';
BEGIN
	IF to_regclass('realtime.messages') IS NULL OR to_regprocedure('realtime.topic()') IS NULL
		OR EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = to_regclass('realtime.messages') AND p.polname = title)
	THEN
		RETURN;
	END IF;
	EXECUTE format('CREATE POLICY %I ON realtime.messages FOR SELECT TO authenticated'
		' USING ((SELECT realtime.topic()) = ''user:'' || (SELECT auth.uid())::text)', title);
	BEGIN
		EXECUTE format('COMMENT ON POLICY %I ON realtime.messages IS %L', title, 'What sparky tells a user goes to the topic user:<id>');
	EXCEPTION WHEN insufficient_privilege THEN
		NULL;	-- Supabase lets postgres make policies there, not comment on them
	END;
EXCEPTION WHEN insufficient_privilege THEN
	RETURN NEXT format('the policy on realtime.messages was not made (%s): let a superuser run SELECT sparky.make_realtime_policy()', SQLERRM);
END
$$;
COMMENT ON FUNCTION sparky.make_realtime_policy() IS
'Let users listen to what is broadcast to them, where Supabase Realtime is.

A policy for SELECT on realtime.messages, for the topic user:<id>. Runs with the caller''s rights, as make_storage_policies(). Returns notes.';

CREATE FUNCTION sparky.publish_tables() RETURNS SETOF text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	member	text;
	quiet	text := current_setting('client_min_messages');
BEGIN
	-- what wal_level lacks is no concern of install()
	PERFORM set_config('client_min_messages', 'error', true);
	IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = 'supabase_realtime') THEN
		CREATE PUBLICATION supabase_realtime;
		COMMENT ON PUBLICATION supabase_realtime IS 'What Supabase Realtime sends to clients';
	END IF;
	FOR member IN
		SELECT m FROM unnest(ARRAY['users', 'notifications', 'generations', 'generation_jobs', 'config_versions',
			'tools', 'hairstyles', 'hair_colors', 'skin_colors', 'plans']) m
		WHERE NOT EXISTS (SELECT FROM pg_publication_tables t
			WHERE t.pubname = 'supabase_realtime' AND t.schemaname = 'public' AND t.tablename = m)
	LOOP
		EXECUTE format('ALTER PUBLICATION supabase_realtime ADD TABLE public.%I', member);
	END LOOP;
	PERFORM set_config('client_min_messages', quiet, true);
EXCEPTION WHEN insufficient_privilege THEN
	PERFORM set_config('client_min_messages', quiet, true);
	RETURN NEXT format('publication supabase_realtime was not filled (%s): let its owner add sparky''s tables', SQLERRM);
END
$$;
COMMENT ON FUNCTION sparky.publish_tables() IS
'Put the tables that clients watch into publication supabase_realtime.

Makes the publication if it is missing. Returns notes.';

CREATE FUNCTION sparky.restore_surroundings() RETURNS SETOF text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN QUERY SELECT sparky.make_buckets();
	IF NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = to_regclass('storage.objects') AND p.polname LIKE 'Sparky: %') THEN
		RETURN QUERY SELECT sparky.make_storage_policies();
	END IF;
	RETURN QUERY SELECT sparky.make_realtime_policy();
	IF NOT EXISTS (SELECT FROM pg_publication_tables t WHERE t.pubname = 'supabase_realtime'
		AND t.schemaname = 'public' AND t.tablename IN ('users', 'generations', 'generation_jobs', 'notifications'))
	THEN
		RETURN QUERY SELECT sparky.publish_tables();
	END IF;
END
$$;
COMMENT ON FUNCTION sparky.restore_surroundings() IS
'Make buckets, policies on storage.objects and realtime.messages, and publication where all of them are gone.

Supabase''s own dump command leaves them out. What an operator took away in part stays as he wants it. Returns notes.';

CREATE FUNCTION sparky.broadcast_account(account uuid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM realtime.send(jsonb_build_object('credits', u.credits, 'plan_id', u.plan_id), 'account', 'user:' || u.id, true)
	FROM public.users u WHERE u.id = account;
EXCEPTION WHEN OTHERS THEN
	RAISE WARNING 'sparky told user % nothing of his new balance: %', account, SQLERRM;
END
$$;
COMMENT ON FUNCTION sparky.broadcast_account(uuid) IS
'Tell a user''s devices his credits and plan, over Supabase Realtime.

Event account on the private topic user:<id>. Never raises: what fails is a WARNING. Called where realtime.send() is trusted.';
