-- Two kinds of objects: code is the extension's, data is not; each with the right owner and path.
\set tests 23
\ir setup.psql

CREATE VIEW tap.members AS
	SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
	WHERE e.extname = 'sparky' AND d.deptype = 'e';

SELECT set_eq('SELECT DISTINCT classid::regclass::text FROM members', ARRAY['pg_proc', 'pg_type'], 'members are functions and types');
SELECT set_eq($$SELECT objid::regtype::text FROM members WHERE classid = 'pg_type'::regclass$$, ARRAY['public."*/*"'], 'the only type is the media type');
SELECT is_empty($$SELECT full_name FROM our_functions f WHERE schema IN ('public', 'sparky')
	AND NOT EXISTS (SELECT FROM members m WHERE m.classid = 'pg_proc'::regclass AND m.objid = f.oid)$$, 'every function of public and sparky is a member');
SELECT is_empty($$SELECT full_name FROM our_functions f WHERE schema NOT IN ('public', 'sparky')
	AND EXISTS (SELECT FROM members m WHERE m.objid = f.oid)$$, 'no stand-in is a member');
SELECT is((SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'sparky'), 'pg_catalog', 'the extension''s schema');
SELECT is_empty('SELECT FROM pg_extension e WHERE e.extname = ''sparky'' AND (e.extconfig IS NOT NULL OR e.extrelocatable)', 'no configuration tables, not relocatable');

-- data depends on code only through triggers
SELECT is_empty($$
	SELECT pg_describe_object(d.classid, d.objid, d.objsubid), pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid)
	FROM pg_depend d JOIN members m ON m.classid = d.refclassid AND m.objid = d.refobjid
	WHERE d.classid <> 'pg_trigger'::regclass
		AND NOT EXISTS (SELECT FROM members o WHERE o.classid = d.classid AND o.objid = d.objid)
		AND NOT (d.classid = 'pg_type'::regclass AND d.deptype = 'i')	-- the domain's own array type
$$, 'nothing but triggers depends on code');
SELECT isnt_empty($$SELECT FROM pg_depend d JOIN members m ON m.classid = d.refclassid AND m.objid = d.refobjid WHERE d.classid = 'pg_trigger'::regclass$$,
	'and triggers do: the question is asked rightly');
-- code depends on no table or type of ours, so it can be made before them
SELECT is_empty($$
	SELECT pg_describe_object(d.classid, d.objid, 0), pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid)
	FROM pg_depend d JOIN members m ON m.classid = d.classid AND m.objid = d.objid
	WHERE d.refclassid IN ('pg_class'::regclass, 'pg_type'::regclass)
		AND NOT EXISTS (SELECT FROM members o WHERE o.classid = d.refclassid AND o.objid = d.refobjid)
$$, 'code depends on no table and no type of ours');
-- rights that pg_dump would take for the extension's own and leave out
SELECT is_empty($$SELECT pg_describe_object(i.classoid, i.objoid, i.objsubid) FROM pg_init_privs i WHERE i.privtype = 'e'
	AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = i.classoid AND d.objid = i.objoid AND d.deptype = 'e')$$,
	'no initial privileges are noted for what is no member');
SELECT is_empty($$SELECT f.full_name, f.proacl, i.initprivs FROM our_functions f JOIN members m ON m.objid = f.oid
	LEFT JOIN pg_init_privs i ON i.objoid = f.oid AND i.classoid = 'pg_proc'::regclass
	WHERE f.proacl::text IS DISTINCT FROM i.initprivs::text$$, 'rights on members are the initial ones: dumps need not repeat them');

-- functions
SELECT is_empty($$SELECT full_name FROM our_functions WHERE schema IN ('public', 'sparky') AND (prosecdef OR prolang <> (SELECT oid FROM pg_language WHERE lanname = 'c'))
	AND prokind <> 'p' AND NOT coalesce(proconfig @> ARRAY['search_path=pg_catalog, pg_temp'], false)$$, 'every definer function and every one not in C pins its search_path');
SELECT is_empty($$SELECT full_name FROM our_functions WHERE prokind = 'p' AND (prosecdef OR prosrc ~* '\m(insert|update|delete|merge|from|execute)\M')$$,
	'procedures, which could not commit with a path of their own, only call functions');
SELECT is_empty($$SELECT full_name FROM our_functions WHERE schema = 'public' AND prolang <> (SELECT oid FROM pg_language WHERE lanname = 'c')$$, 'public functions are C');
SELECT is_empty($$SELECT full_name FROM our_functions WHERE prosqlbody IS NOT NULL$$, 'no body that is parsed at creation');
SELECT set_eq($$SELECT proname::text, proconfig::text FROM our_functions WHERE schema = 'public' AND proconfig IS NOT NULL$$, $$VALUES
	('process_image', '{statement_timeout=60s}'), ('analyze_face', '{statement_timeout=60s}'), ('generation_status', '{statement_timeout=60s}'),
	('create_checkout', '{statement_timeout=60s}')$$,
	'functions that wait have a statement_timeout of their own');
SELECT set_eq($$SELECT full_name FROM our_functions WHERE schema = 'public'$$, ARRAY[
	'public.process_image(tool_id text, original_image_storage_path text, tool_parameters jsonb, wait_seconds integer, idempotency_key text, refresh boolean)',
	'public.analyze_face(tool_id text, original_image_storage_path text, tool_parameters jsonb, wait_seconds integer, idempotency_key text, refresh boolean)',
	'public.generation_status(job_id uuid, wait_seconds integer)', 'public.cancel_generation(job_id uuid)', 'public.delete_generation(id bigint)',
	'public.delete_upload(path text)', 'public.my_account()', 'public.my_usage(since timestamp with time zone, until timestamp with time zone)',
	'public.upload_image(bytea)', 'public.download_image(path text, expires bigint, signature text)', 'public.create_checkout(product_id text)',
	'public.paymob_webhooks(json)', 'public.paymob_webhooks(payload text, hmac text)'], 'the public functions and their arguments');
SELECT set_eq($$SELECT proname::text, provolatile::text FROM our_functions WHERE schema = 'public' AND provolatile <> 'v'$$,
	$$VALUES ('my_account', 's'), ('my_usage', 's'), ('download_image', 's')$$, 'what PostgREST may call by GET');
SELECT is_empty($$SELECT full_name FROM our_functions WHERE proisstrict$$, 'no function is strict: NULL means the default');

-- owners: data and definer functions belong to the owner of schema sparky
SELECT is_empty($$SELECT full_name FROM our_tables t JOIN pg_class c ON c.oid = t.oid WHERE c.relowner <> (SELECT nspowner FROM pg_namespace WHERE nspname = 'sparky')$$, 'tables');
SELECT is_empty($$SELECT full_name FROM our_functions WHERE (prosecdef OR schema IN ('auth', 'storage'))
	AND proowner <> (SELECT nspowner FROM pg_namespace WHERE nspname = 'sparky')$$, 'definer functions and stand-ins');

-- the data is complete for later versions
SELECT results_eq('SELECT version FROM sparky.schema_version ORDER BY 1', 'SELECT generate_series(1, sparky.latest_version())', 'every delta is noted');
SELECT results_eq('SELECT count(*), bool_and(system_identifier = (pg_control_system()).system_identifier), bool_and(database_oid = (SELECT oid FROM pg_database WHERE datname = current_database())),
	bool_and(octet_length(download_key) = 32 AND octet_length(address_key) = 32 AND download_key <> address_key) FROM sparky.instance',
	'VALUES (1::bigint, true, true, true)', 'the database knows itself');

SELECT * FROM finish();
ROLLBACK;
