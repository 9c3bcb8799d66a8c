-- Every object of sparky says what it is.
\set tests 12
\ir setup.psql

SELECT is_empty($$SELECT nspname FROM our_schemas WHERE obj_description(oid, 'pg_namespace') IS NULL$$, 'schemas');
SELECT is_empty($$SELECT full_name FROM our_tables WHERE obj_description(oid, 'pg_class') IS NULL$$, 'tables');
SELECT is_empty($$SELECT t.full_name, a.attname FROM our_tables t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
	WHERE col_description(t.oid, a.attnum) IS NULL$$, 'columns');
SELECT is_empty($$SELECT full_name FROM our_functions WHERE obj_description(oid, 'pg_proc') IS NULL$$, 'functions');
SELECT is_empty($$SELECT t.oid::regtype FROM pg_type t JOIN our_schemas n ON n.oid = t.typnamespace
	WHERE t.typtype IN ('e', 'd') AND obj_description(t.oid, 'pg_type') IS NULL$$, 'types');
SELECT is_empty($$SELECT t.full_name, p.polname FROM pg_policy p JOIN our_tables t ON t.oid = p.polrelid
	WHERE obj_description(p.oid, 'pg_policy') IS NULL$$, 'policies');
SELECT is_empty($$SELECT t.full_name, g.tgname FROM pg_trigger g JOIN our_tables t ON t.oid = g.tgrelid
	WHERE NOT g.tgisinternal AND obj_description(g.oid, 'pg_trigger') IS NULL$$, 'triggers');
SELECT is_empty($$SELECT i.indexrelid::regclass FROM pg_index i JOIN our_tables t ON t.oid = i.indrelid
	WHERE NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid AND c.contype IN ('p', 'u'))
	AND obj_description(i.indexrelid, 'pg_class') IS NULL$$, 'indexes that are no constraint''s');
SELECT is_empty($$SELECT c.oid::regclass FROM pg_class c JOIN our_schemas n ON n.oid = c.relnamespace WHERE c.relkind = 'S'
	AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'i')
	AND obj_description(c.oid, 'pg_class') IS NULL$$, 'sequences that are no identity column''s');

-- PostgREST: the first line is the summary, what follows a blank line the description
SELECT is_empty($$SELECT full_name FROM our_functions WHERE schema IN ('public', 'sparky')
	AND obj_description(oid, 'pg_proc') !~ E'^[^\n]{10,200}\n\n[^\n].{10,}$'$$, 'comments of functions have two parts');
SELECT is_empty($$SELECT full_name FROM our_functions WHERE schema = 'public' AND obj_description(oid, 'pg_proc')
	!~ CASE proname WHEN 'paymob_webhooks' THEN E'\nErrors: PT503 ' ELSE E'\nErrors: PT401 ' END$$,
	'comments of public functions name their errors');
-- the check can fail
COMMENT ON COLUMN public.users.debt IS NULL;
SELECT isnt_empty($$SELECT FROM our_tables t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 WHERE col_description(t.oid, a.attnum) IS NULL$$, 'a missing comment is found');

SELECT * FROM finish();
ROLLBACK;
