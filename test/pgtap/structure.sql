-- The tables that the user asked for, to the letter, and what was added to them.
\set tests 40
\ir setup.psql

CREATE FUNCTION tap.columns_of(tables text[]) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT format('%s.%s %s%s%s', a.attrelid::regclass, a.attname, format_type(a.atttypid, a.atttypmod),
		CASE WHEN a.attnotnull THEN ' not null' ELSE '' END,
		CASE WHEN a.attidentity = 'd' THEN ' identity' ELSE coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '') END)
	FROM unnest(tables) t JOIN pg_attribute a ON a.attrelid = t::regclass AND a.attnum > 0 AND NOT a.attisdropped
		LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.attgenerated = ''
$$;

SELECT enum_has_labels('public', 'tool_type', ARRAY['TRANSFORMATION', 'FILTER', 'ANALYSIS']);
SELECT enum_has_labels('public', 'gender', ARRAY['male', 'female']);

-- the floor: every column of the brief, with type, NOT NULL and default
SELECT set_has('SELECT columns_of(ARRAY[''public.plans'', ''public.users'', ''public.generations'', ''public.credit_usage'',
		''public.notifications'', ''public.payments'', ''public.tools'', ''public.hairstyles'', ''public.hair_colors'',
		''public.skin_colors'', ''cache.kv_store''])', $$VALUES
	('public.plans.id bigint not null identity'), ('public.plans.name text not null'),
	('public.plans.monthly_credits integer not null'), ('public.plans.max_daily_credits integer not null'),
	('public.users.id uuid not null'), ('public.users.username text not null'), ('public.users.plan_id bigint not null default 1'),
	('public.users.credits integer not null default 10'),
	('public.users.notification_preferences jsonb not null default ''{"promotions": true, "generalAlerts": true, "featureUpdates": true}''::jsonb'),
	('public.generations.id bigint not null identity'), ('public.generations.user_id uuid not null'),
	('public.generations.tool_id text not null'), ('public.generations.image_url text'),
	('public.generations.created_at timestamp with time zone not null default now()'),
	('public.credit_usage.id bigint not null identity'), ('public.credit_usage.user_id uuid not null'),
	('public.credit_usage.tool_id text not null'), ('public.credit_usage.credits_used integer not null default 1'),
	('public.credit_usage.created_at timestamp with time zone not null default now()'),
	('public.notifications.id bigint not null identity'), ('public.notifications.user_id uuid not null'),
	('public.notifications.type text not null'), ('public.notifications.title_key text not null'),
	('public.notifications.message_key text not null'), ('public.notifications.read boolean not null default false'),
	('public.notifications.created_at timestamp with time zone not null default now()'),
	('public.payments.id bigint not null identity'), ('public.payments.user_id uuid'),
	('public.payments.paymob_order_id bigint not null'), ('public.payments.merchant_order_id text not null'),
	('public.payments.amount_cents integer not null'), ('public.payments.currency text not null'),
	('public.payments.status text not null'), ('public.payments.created_at timestamp with time zone not null default now()'),
	('public.payments.raw_response jsonb'),
	('public.tools.id text not null'), ('public.tools.name_key text not null'), ('public.tools.description_key text not null'),
	('public.tools.type public.tool_type not null'), ('public.tools.icon_name text not null'), ('public.tools.cover_image_url text'),
	('public.tools.is_active boolean default true'), ('public.tools.sort_order integer default 0'),
	('public.hairstyles.id text not null'), ('public.hairstyles.name text not null'), ('public.hairstyles.image_url text not null'),
	('public.hairstyles.gender public.gender not null'), ('public.hairstyles.is_pro boolean not null default false'),
	('public.hairstyles.category text not null'),
	('public.hair_colors.hex_code text not null'), ('public.hair_colors.sort_order integer not null default 0'),
	('public.skin_colors.hex_code text not null'), ('public.skin_colors.name text not null'),
	('public.skin_colors.sort_order integer not null default 0'),
	('cache.kv_store.key text not null'), ('cache.kv_store.value jsonb not null'),
	('cache.kv_store.created_at timestamp with time zone not null default now()'),
	('cache.kv_store.expires_at timestamp with time zone not null')$$, 'every column of the brief');

SELECT set_has('SELECT columns_of(ARRAY[''public.users'', ''public.tools'', ''public.generations'', ''public.credit_usage''])', $$VALUES
	('public.users.plan_expires_at timestamp with time zone'), ('public.users.allowance integer not null default 0'),
	('public.users.debt integer not null default 0'), ('public.tools.credits integer not null default 1'),
	('public.tools.parameter_schema jsonb'), ('public.generations.job_id uuid'), ('public.generations.analysis jsonb'),
	('public.credit_usage.job_id uuid'), ('public.credit_usage.generation_id bigint')$$, 'the columns that were added');

SELECT set_eq($$SELECT format('%s(%s) -> %s %s', c.conrelid::regclass,
		(SELECT string_agg(a.attname, ',' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)),
		c.confrelid::regclass, CASE c.confdeltype WHEN 'c' THEN 'cascade' WHEN 'n' THEN 'set null' ELSE 'restrict' END)
	FROM pg_constraint c JOIN our_tables t ON t.oid = c.conrelid WHERE c.contype = 'f'$$, $$VALUES
	('public.users(id) -> auth.users cascade'), ('public.users(plan_id) -> public.plans restrict'),
	('public.generations(user_id) -> auth.users cascade'), ('public.generations(tool_id) -> public.tools restrict'),
	('public.credit_usage(user_id) -> auth.users cascade'), ('public.credit_usage(tool_id) -> public.tools restrict'),
	('public.notifications(user_id) -> auth.users cascade'), ('public.payments(user_id) -> auth.users set null'),
	('public.products(plan_id) -> public.plans restrict'),
	('public.orders(user_id) -> auth.users set null'), ('public.orders(plan_id) -> public.plans restrict'),
	('public.payments(order_id) -> public.orders set null'),
	('public.payment_events(order_id) -> public.orders set null'), ('sparky.plan_periods(user_id) -> auth.users cascade'),
	('sparky.plan_periods(plan_id) -> public.plans restrict'), ('sparky.plan_periods(order_id) -> public.orders restrict'),
	('public.generation_jobs(user_id) -> auth.users cascade'), ('public.generation_jobs(tool_id) -> public.tools restrict'),
	('sparky.tool_settings(tool_id) -> public.tools cascade'), ('sparky.answers(job_id) -> public.generation_jobs cascade'),
	('sparky.request_keys(user_id) -> auth.users cascade'), ('sparky.stored_files(object_id) -> storage.objects cascade'),
	('storage.objects(bucket_id) -> storage.buckets restrict')$$, 'foreign keys and what a deletion does');

SELECT set_eq($$SELECT conrelid::regclass::text, (SELECT string_agg(a.attname, ',' ORDER BY k.n) FROM unnest(conkey) WITH ORDINALITY k(attnum, n)
		JOIN pg_attribute a ON a.attrelid = conrelid AND a.attnum = k.attnum)
	FROM pg_constraint c JOIN our_tables t ON t.oid = c.conrelid WHERE t.schema IN ('public', 'sparky', 'cache') AND c.contype = 'u'$$, $$VALUES
	('public.plans', 'name'), ('public.payments', 'paymob_order_id'), ('public.payments', 'transaction_id'),
	('public.orders', 'intention_order_id'), ('public.orders', 'merchant_order_id'), ('public.payment_events', 'transaction_id,state'),
	('sparky.plan_periods', 'order_id'), ('sparky.signup_grants', 'address_digest'),
	('public.generations', 'job_id'), ('public.credit_usage', 'job_id'),
	('public.credit_ledger', 'kind,reference'), ('sparky.erasures', 'bucket_id,name')$$, 'unique keys');

SELECT set_eq($$SELECT polrelid::regclass::text, polname::text FROM pg_policy p JOIN our_tables t ON t.oid = polrelid WHERE t.schema = 'public'$$, $$VALUES
	('public.plans', 'Plans are publicly viewable'), ('public.users', 'Users can view their own profile.'),
	('public.users', 'Users can update their own profile.'), ('public.generations', 'Users can view their own generations.'),
	('public.credit_usage', 'Users can view their own credit usage.'), ('public.notifications', 'Users can manage their own notifications.'),
	('public.payments', 'Users can view their own payments.'), ('public.orders', 'Users can view their own orders.'),
	('public.payment_events', 'Service role can read'), ('public.tools', 'Active tools are publicly readable'),
	('public.hairstyles', 'Hairstyles are publicly readable'), ('public.hair_colors', 'Hair colors are publicly readable'),
	('public.skin_colors', 'Skin colors are publicly readable'),
	('public.products', 'Active products are publicly readable'), ('public.config_versions', 'Config versions are publicly readable'),
	('public.credit_ledger', 'Users can view their own ledger.'), ('public.generation_jobs', 'Users can view their own jobs.')$$, 'policy names');

-- what the checks keep out
INSERT INTO auth.users (id, email) VALUES ('00000000-0000-0000-0000-00000000000a', 'a@example.com');
SELECT throws_ok('UPDATE public.users SET ' || bad, '23514', NULL, 'users: ' || bad) FROM (VALUES
	('credits = -1'), ('debt = -1'), ('debt = 1'), ('allowance = -1'), ('username = '''''), ('username = repeat(''x'', 81)'),
	('notification_preferences = ''[]'''), ('notification_preferences = jsonb_build_object(''x'', repeat(''y'', 2048))')) v(bad);
SELECT lives_ok('UPDATE public.users SET ' || good, 'users: ' || good) FROM (VALUES
	('username = repeat(''x'', 80)'), ('credits = 0, debt = 3'), ('credits = 7, debt = 0'), ('notification_preferences = ''{}''')) v(good);
SELECT throws_ok($$INSERT INTO public.products (id, kind, amount_cents) VALUES ('x', 'plan', 1)$$, '23514', NULL, 'a plan product names its plan');
SELECT throws_ok($$INSERT INTO public.products (id, kind, plan_id, credits, amount_cents) VALUES ('x', 'credits', 2, 5, 1)$$, '23514', NULL, 'a credits product has no plan');
SELECT throws_ok($$UPDATE sparky.tool_settings SET model = 'Gemini/../x' WHERE tool_id = 'cartoon'$$, '23514', NULL, 'a model id has no odd characters');
SELECT throws_ok($$INSERT INTO public.hairstyles (id, name, image_url, gender, category) VALUES ('x', E'a\nb', '', 'male', '')$$, '23514', NULL, 'no control character reaches a prompt');
SELECT throws_ok($$INSERT INTO public.hairstyles (id, name, image_url, gender, category) VALUES ('x', repeat('a', 61), '', 'male', '')$$, '23514', NULL, 'a name is at most 60 characters');

-- the constraints that carry the promises
CREATE FUNCTION tap.job(status text, cache_key text) RETURNS void LANGUAGE sql AS $$
	INSERT INTO public.generation_jobs (id, user_id, tool_id, kind, status, source_path, tool_revision, image_hash, cache_key, credits_held, deadline)
	VALUES (gen_random_uuid(), '00000000-0000-0000-0000-00000000000a', 'cartoon', 'image', status, 'p', 1, 'h', cache_key, 1, now())
$$;
SELECT lives_ok($$SELECT job('succeeded', 'k'), job('failed', 'k'), job('cancelled', 'k'), job('queued', 'k')$$, 'ended jobs do not count');
SELECT throws_ok(format('SELECT job(%L, %L)', s, 'k'), '23505', NULL, 'one active job for a cache key: ' || s)
FROM unnest(ARRAY['queued', 'fetching', 'generating', 'answered', 'storing']) s;
SELECT throws_ok($$SELECT job('running', 'k2')$$, '23514', NULL, 'no other states');

SELECT is(attstorage, 'e', attrelid::regclass || '.bytes is stored uncompressed')
FROM pg_attribute WHERE attrelid IN ('sparky.answers'::regclass, 'sparky.stored_files'::regclass) AND attname = 'bytes';
SELECT set_eq($$SELECT tablename::text FROM pg_publication_tables WHERE pubname = 'supabase_realtime'$$,
	ARRAY['users', 'notifications', 'generations', 'generation_jobs', 'config_versions', 'tools', 'hairstyles', 'hair_colors', 'skin_colors', 'plans'],
	'tables of the publication');
SELECT set_eq($$SELECT id, public, file_size_limit, allowed_mime_types::text FROM storage.buckets$$, $$VALUES
	('user_uploads', false, 7340032::bigint, '{image/jpeg,image/png,image/webp,image/heic,image/heif}'),
	('generations', false, 7340032, '{image/jpeg,image/png,image/webp,image/heic,image/heif}')$$, 'buckets');

-- objects() is the whole truth about constraints, indexes, triggers, tables, types
SELECT set_eq($$SELECT o.kind, CASE WHEN o.kind IN ('constraint', 'trigger') THEN o.relation || ' ' ELSE o.relation || '.' END || o.name FROM sparky.objects() o$$, $$
	SELECT 'table', full_name FROM our_tables WHERE schema IN ('public', 'sparky', 'cache')
	UNION ALL SELECT 'type', typnamespace::regnamespace || '.' || typname FROM pg_type WHERE typtype = 'e' AND typnamespace IN (SELECT oid FROM our_schemas)
	UNION ALL SELECT 'sequence', s FROM unnest(ARRAY['sparky.incarnations', 'sparky.refused_callback_slots']) s
	UNION ALL SELECT 'constraint', t.full_name || ' ' || c.conname FROM pg_constraint c JOIN our_tables t ON t.oid = c.conrelid
		WHERE t.schema IN ('public', 'sparky', 'cache') AND c.contype <> 'n'
	UNION ALL SELECT 'index', n.nspname || '.' || x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN our_schemas n ON n.oid = x.relnamespace
		WHERE n.nspname <> 'auth' AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid AND c.contype IN ('p', 'u'))
	UNION ALL SELECT 'trigger', t.full_name || ' ' || g.tgname FROM pg_trigger g JOIN our_tables t ON t.oid = g.tgrelid WHERE NOT g.tgisinternal$$,
	'sparky.objects() names every constraint, index and trigger there is');
SELECT is(sparky.missing_objects(), '{}', 'nothing is missing');
DROP INDEX public.generation_jobs_run_after_idx;
ALTER TABLE public.users DISABLE TRIGGER sparky_users_update;
ALTER TABLE public.credit_usage DROP CONSTRAINT credit_usage_job_id_key;
DROP TABLE sparky.erasures;
SELECT is(sparky.missing_objects(), ARRAY['constraint credit_usage_job_id_key on public.credit_usage',
	'constraint erasures_bucket_id_name_key on sparky.erasures', 'constraint erasures_pkey on sparky.erasures',
	'index public.generation_jobs_run_after_idx', 'index sparky.erasures_user_id_idx', 'table sparky.erasures', 'trigger sparky_users_update on public.users'],
	'what is missing or switched off is named');
SELECT throws_ok('SELECT sparky.install()', '42P01', 'sparky''s data is not complete, these are missing: table sparky.erasures', 'install() names missing tables');
SELECT throws_ok('SELECT sparky.repair()', '42P01', 'sparky''s data is not complete, these are missing: table sparky.erasures', 'so does repair()');

SELECT * FROM finish();
ROLLBACK;
