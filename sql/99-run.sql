/*
 * Now that the code stands: install, repair or leave the data alone, then
 * detach it.  See "Two kinds of objects" in the documentation.
 */
DO $run$
DECLARE
	owner	name := sparky.data_owner();
	mode	text := pg_catalog.current_setting('sparky.install', true);
	fresh	boolean;
	present	integer;
	absent	text;
	note	text;
	notes	text[] := '{}';
BEGIN
	PERFORM sparky.hand_over();

	-- We made schema sparky in this very script, if the extension owns it.
	fresh := EXISTS (SELECT FROM pg_catalog.pg_depend d
		WHERE d.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND d.objid = pg_catalog.to_regnamespace('sparky') AND d.deptype = 'e');
	SELECT pg_catalog.count(*) FILTER (WHERE t.here), pg_catalog.string_agg(t.name, ', ') FILTER (WHERE NOT t.here) INTO present, absent
	FROM (SELECT o.relation || '.' || o.name, sparky.object_exists(o.kind, o.relation, o.name)
		FROM sparky.objects() o WHERE o.kind = 'table'
			AND o.version <= coalesce(nullif(sparky.installed_version(), 0), sparky.latest_version())) t(name, here);

	IF mode = 'code' THEN
		NULL;
	ELSIF mode = 'full' OR fresh THEN
		IF NOT pg_catalog.has_schema_privilege(owner, 'public', 'CREATE') THEN
			RAISE EXCEPTION 'role % owns sparky''s data and may not create tables in schema public', owner
				USING ERRCODE = 'insufficient_privilege', HINT = pg_catalog.format('GRANT CREATE ON SCHEMA public TO %I', owner);
		END IF;
		-- Schemas need a right on the database, so they are made here and given to the owner.
		PERFORM sparky.stand_ins();
		-- Where another role owns storage.objects only a superuser may make its policies.  Before install(), which would
		-- do it as the owner: on Supabase that is allowed, and locks every table of auth and storage until the end.
		IF NOT sparky.storage_is_ours() THEN
			PERFORM sparky.make_storage_policies();
		END IF;
		PERFORM sparky.make_realtime_policy();
		notes := sparky.confined('install');
	ELSIF present = 0 THEN
		NULL;	-- a dump is being restored: its tables come next
	ELSIF absent IS NULL THEN
		notes := sparky.confined('install');
	ELSE
		RAISE EXCEPTION 'schema sparky exists, but some of its tables are missing: %', absent
			USING ERRCODE = 'undefined_table',
				HINT = 'Restore them from a dump; or rename what remains and drop schema sparky, then a new database is made.';
	END IF;
	IF mode IS DISTINCT FROM 'code' AND sparky.installed_version() > 0 AND NOT fresh THEN
		notes := notes || sparky.confined('repair_data');
	END IF;
	FOREACH note IN ARRAY notes LOOP
		RAISE WARNING 'sparky: %', note;
	END LOOP;
	PERFORM sparky.detach();
END
$run$;
