-- What a client can really do, tried out: every verb on every column of every
-- table, with rows of two users in all of them.
\set tests 71
\ir setup.psql

\set alice '''00000000-0000-0000-0000-00000000000a'''
\set bob '''00000000-0000-0000-0000-00000000000b'''
INSERT INTO auth.users (id, email) VALUES (:alice, 'alice@example.com'), (:bob, 'bob@example.com');
INSERT INTO public.generations (user_id, tool_id, image_url) SELECT id, 'cartoon', 'generations/' || id || '/x.png' FROM auth.users;
INSERT INTO public.credit_usage (user_id, tool_id, job_id) SELECT id, 'cartoon', gen_random_uuid() FROM auth.users;
INSERT INTO public.notifications (user_id, type, title_key, message_key) SELECT id, 'general', 't', 'm' FROM auth.users;
INSERT INTO public.payments (user_id, paymob_order_id, merchant_order_id, amount_cents, currency, status)
	SELECT id, row_number() OVER (), 'm', 1, 'EGP', 'SUCCESS' FROM auth.users;
INSERT INTO public.orders (user_id, product_id, kind, credits, period_days, amount_cents, currency, merchant_order_id, intention_order_id)
	SELECT id, 'credits-20', 'credits', 20, 30, 3900, 'EGP', id::text, row_number() OVER () FROM auth.users;
INSERT INTO public.generation_jobs (id, user_id, tool_id, kind, source_path, tool_revision, image_hash, cache_key, credits_held, deadline)
	SELECT gen_random_uuid(), id, 'cartoon', 'image', 'p', 1, 'h', id::text, 1, now() FROM auth.users;
INSERT INTO sparky.answers (job_id) SELECT id FROM public.generation_jobs;
INSERT INTO sparky.request_keys (user_id, key, fingerprint) SELECT id, 'k', 'f' FROM auth.users;
INSERT INTO cache.kv_store (key, value, expires_at) VALUES ('k', '{}', 'infinity');
INSERT INTO storage.objects (bucket_id, name) SELECT b.id, u.id || '/x.png' FROM storage.buckets b, auth.users u;
INSERT INTO storage.objects (bucket_id, name) SELECT 'user_uploads', 'x.png';

-- reading: own rows only, public data, nothing else
CREATE FUNCTION tap.visible(role text, user_id uuid) RETURNS TABLE (name text, seen text) LANGUAGE plpgsql AS $$
BEGIN
	FOR name IN SELECT full_name FROM our_tables t WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = t.oid AND d.deptype = 'e') LOOP
		seen := tap.attempt(role, user_id, format('SELECT %s FROM %s', coalesce((SELECT quote_ident(a.attname) FROM pg_attribute a
			WHERE a.attrelid = name::regclass AND a.attnum > 0 AND has_column_privilege(role, name::regclass, a.attnum, 'SELECT') LIMIT 1), '*'), name));
		CONTINUE WHEN seen = '42501';
		IF seen = (SELECT c || ' rows' FROM tap.count_of(name) c) THEN seen := 'all'; END IF;
		RETURN NEXT;
	END LOOP;
END
$$;
CREATE FUNCTION tap.count_of(name text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE n bigint; BEGIN EXECUTE 'SELECT count(*) FROM ' || name INTO n; RETURN n; END $$;
UPDATE public.tools SET is_active = false WHERE id = 'vintage';
UPDATE public.products SET is_active = false WHERE id = 'credits-20';

SELECT set_eq(format('SELECT * FROM visible(%L, %L)', 'authenticated', :alice), $$VALUES
	('public.plans', 'all'), ('public.hairstyles', 'all'), ('public.hair_colors', 'all'), ('public.skin_colors', 'all'), ('public.config_versions', 'all'),
	('public.tools', '9 rows'), ('public.products', '6 rows'),
	('public.users', '1 rows'), ('public.generations', '1 rows'), ('public.credit_usage', '1 rows'), ('public.notifications', '1 rows'),
	('public.payments', '1 rows'), ('public.orders', '1 rows'), ('public.generation_jobs', '1 rows'), ('public.credit_ledger', '1 rows'), ('storage.objects', '2 rows')$$, 'what a user sees');
SELECT set_eq($$SELECT * FROM visible('anon', NULL)$$, $$VALUES
	('public.plans', 'all'), ('public.hairstyles', 'all'), ('public.hair_colors', 'all'), ('public.skin_colors', 'all'), ('public.config_versions', 'all'),
	('public.tools', '9 rows'), ('public.products', '6 rows')$$, 'what anybody sees');
SELECT set_eq($$SELECT * FROM visible('service_role', NULL)$$, $$
	SELECT full_name, 'all' FROM our_tables WHERE schema = 'public' AND name NOT IN ('pg_all_foreign_keys', 'tap_funky')
	UNION ALL VALUES ('sparky.tool_settings', 'all'), ('storage.objects', 'all'), ('storage.buckets', 'all')$$, 'what the service role sees');
SELECT results_eq(format('SELECT seen_by(%L, %L, %L)', 'authenticated', :alice, 'SELECT ' || c || '::text FROM ' || t),
	ARRAY[:alice], t || ': the row is one''s own')
FROM (VALUES ('public.users', 'id'), ('public.generations', 'user_id'), ('public.credit_usage', 'user_id'), ('public.notifications', 'user_id'),
	('public.payments', 'user_id'), ('public.orders', 'user_id'), ('public.generation_jobs', 'user_id'), ('public.credit_ledger', 'user_id')) v(t, c);
SELECT set_eq(format('SELECT seen_by(%L, %L, %L)', 'authenticated', :alice, 'SELECT bucket_id || ''/'' || name FROM storage.objects'),
	ARRAY['user_uploads/' || :alice || '/x.png', 'generations/' || :alice || '/x.png'], 'photos: one''s own folders');
SELECT is(attempt('authenticated', :alice, 'SELECT ' || a.attname || ' FROM public.generation_jobs'),
	CASE WHEN a.attname IN ('id', 'user_id', 'tool_id', 'kind', 'status', 'tool_parameters', 'credits_held', 'error_code', 'error_message', 'result',
		'created_at', 'started_at', 'finished_at') THEN '1 rows' ELSE '42501' END, 'generation_jobs.' || a.attname)
FROM pg_attribute a WHERE a.attrelid = 'public.generation_jobs'::regclass AND a.attnum > 0;

-- writing: every column of every table by UPDATE, every table by INSERT, DELETE, TRUNCATE
CREATE FUNCTION tap.writable(role text, user_id uuid) RETURNS TABLE (what text, result text) LANGUAGE plpgsql AS $$
DECLARE
	t	record;
	a	record;
BEGIN
	FOR t IN SELECT * FROM our_tables o WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = o.oid AND d.deptype = 'e') LOOP
		FOR a IN SELECT attname FROM pg_attribute WHERE attrelid = t.oid AND attnum > 0 AND attgenerated = '' LOOP
			result := tap.attempt(role, user_id, format('UPDATE %s SET %2$I = %2$I', t.full_name, a.attname));
			what := format('UPDATE %s.%s', t.full_name, a.attname);
			IF result = '42501' THEN	-- also without reading the column
				result := tap.attempt(role, user_id, format('UPDATE %s SET %2$I = DEFAULT', t.full_name, a.attname));
			END IF;
			IF result <> '42501' THEN RETURN NEXT; END IF;
			result := tap.attempt(role, user_id, format('INSERT INTO %s (%I) VALUES (DEFAULT)', t.full_name, a.attname));
			what := format('INSERT %s.%s', t.full_name, a.attname);
			IF result <> '42501' THEN RETURN NEXT; END IF;
		END LOOP;
		result := tap.attempt(role, user_id, format('INSERT INTO %s DEFAULT VALUES', t.full_name));
		what := 'INSERT ' || t.full_name;
		IF result <> '42501' THEN RETURN NEXT; END IF;
		result := tap.attempt(role, user_id, format('TRUNCATE %s CASCADE', t.full_name));
		what := 'TRUNCATE ' || t.full_name;
		IF result <> '42501' THEN RETURN NEXT; END IF;
		result := tap.attempt(role, user_id, format('DELETE FROM %s', t.full_name));
		what := 'DELETE ' || t.full_name;
		IF result <> '42501' THEN RETURN NEXT; END IF;
	END LOOP;
END
$$;
SELECT set_eq(format('SELECT * FROM writable(%L, %L)', 'authenticated', :alice), $$VALUES
	('UPDATE public.users.username', '1 rows'), ('UPDATE public.users.notification_preferences', '1 rows'),
	('UPDATE public.notifications.read', '1 rows'), ('DELETE public.notifications', '1 rows'),
	('UPDATE storage.objects.bucket_id', '1 rows'), ('UPDATE storage.objects.name', '1 rows'), ('UPDATE storage.objects.metadata', '1 rows'),
	('UPDATE storage.objects.user_metadata', '1 rows'), ('UPDATE storage.objects.version', '1 rows'), ('UPDATE storage.objects.updated_at', '1 rows'),
	('UPDATE storage.objects.last_accessed_at', '1 rows'), ('DELETE storage.objects', '1 rows')$$, 'all that a user can write: of photos, those in his own folder');
SELECT results_eq('SELECT user_id::text FROM public.notifications', ARRAY[:bob], 'another''s notification is still there');
SELECT is_empty($$SELECT * FROM writable('anon', NULL)$$, 'anybody can write nothing');
SELECT set_eq($$SELECT DISTINCT split_part(what, ' ', 1), (regexp_match(what, '^\w+ (\w+\.\w+)'))[1] FROM writable('service_role', NULL)$$, $$
	SELECT verb, t FROM unnest(ARRAY['INSERT', 'UPDATE', 'DELETE']) verb, unnest(ARRAY['public.plans', 'public.products', 'public.tools',
		'public.hairstyles', 'public.hair_colors', 'public.skin_colors', 'public.notifications', 'sparky.tool_settings']) t$$, 'what the service role can write');

-- somebody else's rows, by name
SELECT is(attempt('authenticated', :alice, format(s, :bob)), r, s) FROM (VALUES
	('UPDATE public.users SET username = ''x'' WHERE id = %L', '0 rows'),
	('UPDATE public.notifications SET read = true WHERE user_id = %L', '0 rows'),
	('DELETE FROM public.notifications WHERE user_id = %L', '0 rows'),
	('SELECT 1 FROM public.credit_ledger WHERE user_id = %L', '0 rows'),
	('UPDATE public.users SET credits = 1000 WHERE id = %L', '42501')) v(s, r);
SELECT is(attempt('authenticated', NULL, 'SELECT 1 FROM public.users'), '0 rows', 'no sub: no rows');
SELECT is(attempt('anon', :alice, 'SELECT 1 FROM public.users'), '42501', 'anon with a sub is still anon');

-- clients may write storage.objects themselves: the policies hold, on Supabase under the widest grants
GRANT INSERT, UPDATE, DELETE ON storage.objects TO authenticated;
SELECT is(attempt('authenticated', :alice, format(s, :alice, :bob)), r, s) FROM (VALUES
	('INSERT INTO storage.objects (bucket_id, name) VALUES (''user_uploads'', ''%1$s/new.jpg'')', '1 rows'),
	('INSERT INTO storage.objects (bucket_id, name) VALUES (''user_uploads'', ''%2$s/new.jpg'')', '42501'),
	('INSERT INTO storage.objects (bucket_id, name) VALUES (''user_uploads'', ''new.jpg'')', '42501'),
	('INSERT INTO storage.objects (bucket_id, name) VALUES (''generations'', ''%1$s/new.jpg'')', '42501'),
	('UPDATE storage.objects SET version = ''2'' WHERE name LIKE ''%1$s/%%''', '1 rows'),
	('UPDATE storage.objects SET version = ''2'' WHERE name LIKE ''%2$s/%%''', '0 rows'),
	('UPDATE storage.objects SET bucket_id = ''generations'' WHERE name = ''%1$s/new.jpg''', '42501'),
	('UPDATE storage.objects SET name = ''%2$s/y'' WHERE name = ''%1$s/new.jpg''', '42501'),
	('DELETE FROM storage.objects WHERE name LIKE ''%2$s/%%''', '0 rows'),
	('DELETE FROM storage.objects WHERE bucket_id = ''generations''', '0 rows'),
	('DELETE FROM storage.objects WHERE name = ''%1$s/new.jpg''', '1 rows')) v(s, r);
SELECT is(attempt('anon', NULL, 'SELECT 1 FROM storage.objects'), '42501', 'anon sees no photos');

-- what the linter would say: tables without RLS or policy, slow and double policies, missing indexes
SELECT is_empty('SELECT full_name FROM our_tables WHERE NOT relrowsecurity AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = oid AND d.deptype = ''e'')', 'RLS is on everywhere');
SELECT is_empty($$SELECT full_name FROM our_tables t WHERE schema NOT IN ('auth', 'storage') AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = t.oid)
	AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = t.oid AND d.deptype = 'e')$$, 'every table has a policy');
SELECT is_empty($$SELECT polname FROM pg_policy p JOIN our_tables t ON t.oid = p.polrelid WHERE 0 = ANY (polroles)$$, 'every policy names its roles');
SELECT is_empty($$SELECT polname FROM pg_policy p JOIN our_tables t ON t.oid = p.polrelid
	WHERE regexp_replace(lower(concat_ws(' ', pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))), 'select auth\.(uid|role|jwt)\(\)', '', 'g')
		~ 'auth\.|current_setting'$$, 'policies ask who it is once, not for each row');
SELECT is_empty($$SELECT t.full_name, r.oid::regrole, v, count(*) FROM pg_policy p JOIN our_tables t ON t.oid = p.polrelid JOIN pg_roles r ON r.oid = ANY (p.polroles),
	unnest(ARRAY['r', 'a', 'w', 'd']) v WHERE p.polcmd::text IN (v, '*') GROUP BY 1, 2, 3 HAVING count(*) > 1$$, 'one policy for each action and role');
SELECT is_empty($$SELECT polname FROM pg_policy p JOIN our_tables t ON t.oid = p.polrelid WHERE polcmd <> 'r'
	AND (pg_get_expr(polqual, polrelid) = 'true' OR pg_get_expr(polwithcheck, polrelid) = 'true')$$, 'no write policy that is always true');
SELECT is_empty($$SELECT c.conname FROM pg_constraint c JOIN our_tables t ON t.oid = c.conrelid WHERE c.contype = 'f' AND NOT EXISTS (
	SELECT FROM pg_index i WHERE i.indrelid = c.conrelid AND i.indkey[0] = c.conkey[1] AND i.indpred IS NULL)
	AND t.schema <> 'storage'$$, 'every foreign key has an index');
SELECT is_empty($$SELECT t.full_name FROM our_tables t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attname = 'user_id'
	WHERE NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = t.oid AND i.indkey[0] = a.attnum AND i.indpred IS NULL)$$, 'every user_id has an index');
SELECT is_empty($$SELECT full_name FROM our_tables t WHERE NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = t.oid AND i.indisprimary)
	AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = t.oid AND d.deptype = 'e')$$, 'every table has a primary key');
SELECT is_empty($$SELECT a.indexrelid::regclass, b.indexrelid::regclass FROM pg_index a JOIN pg_index b ON a.indrelid = b.indrelid AND a.indexrelid < b.indexrelid
	AND a.indkey = b.indkey AND pg_get_expr(a.indpred, a.indrelid) IS NOT DISTINCT FROM pg_get_expr(b.indpred, b.indrelid) JOIN our_tables t ON t.oid = a.indrelid$$, 'no index twice');

SELECT * FROM finish();
ROLLBACK;
