/*
 * sparky: the extension script, made by sql/build from sql/NN-*.sql and seeds/.
 *
 * Rules of everything below:
 * - Two kinds of objects.  Functions and the media-type domain are code:
 *   extension members, replaced by every update.  Tables, types, policies,
 *   triggers, grants are data: made by sparky.install(), taken out of the
 *   extension at the end, so that pg_dump treats them as the user's own.
 * - The data owner is the owner of schema sparky.  The script runs as a
 *   superuser and itself touches no row of a table; all that does runs in
 *   SECURITY DEFINER functions that belong to the data owner.
 * - Code must be creatable while no table exists.
 * - Every name is qualified; search_path is pinned to pg_catalog, pg_temp.
 */
\echo Use "CREATE EXTENSION sparky" to load this file. \quit

DO $head$
DECLARE
	ours	text[];
	taken	text[];
	role	name;
BEGIN
	-- Roles are the cluster's: no dump holds them, so every way of installing makes them.
	FOREACH role IN ARRAY ARRAY['anon', 'authenticated', 'service_role'] LOOP
		IF pg_catalog.to_regrole(role) IS NULL THEN
			EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN %s', role,
				CASE role WHEN 'service_role' THEN 'BYPASSRLS' ELSE '' END);
			EXECUTE pg_catalog.format('COMMENT ON ROLE %I IS %L', role, CASE role
				WHEN 'anon' THEN 'API requests without a signed-in user'
				WHEN 'authenticated' THEN 'API requests of a signed-in user'
				ELSE 'API requests of the app''s own backend: sees all rows' END);
		END IF;
	END LOOP;

	-- A function of one of our names that is already there is somebody else's.
	ours := pg_catalog.regexp_split_to_array(pg_catalog.btrim($list$
@FUNCTIONS@
$list$, E' \n'), '\s+');
	SELECT pg_catalog.array_agg(found.name ORDER BY found.name) INTO taken
	FROM (
		SELECT p.oid::pg_catalog.regprocedure::text
		FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
		WHERE n.nspname || '.' || p.proname = ANY (ours)
		UNION ALL
		SELECT 'public."*/*"' WHERE pg_catalog.to_regtype('public."*/*"') IS NOT NULL
	) found(name);
	IF taken IS NOT NULL THEN
		RAISE EXCEPTION 'sparky does not take over what it did not make: %', pg_catalog.array_to_string(taken, ', ')
			USING ERRCODE = 'duplicate_object',
				HINT = 'Rename or drop them, or install sparky in a database of its own.';
	END IF;

	-- The sentinel.  One that exists already says: data is here, or is being restored.
	IF pg_catalog.to_regnamespace('sparky') IS NULL THEN
		EXECUTE pg_catalog.format('CREATE SCHEMA sparky AUTHORIZATION %I', session_user);
		COMMENT ON SCHEMA sparky IS 'Internals of sparky. Its owner is the data owner: everything of sparky belongs to him.';
	END IF;
END
$head$;
