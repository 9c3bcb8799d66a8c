/*
 * install() makes the data, or brings older data forward; repair() puts back
 * what DROP EXTENSION CASCADE took and makes up for what was missed meanwhile.
 *
 * Data changes by numbered deltas, each applied once: a fresh database runs
 * them all, so fresh and upgraded are the same.  Triggers, publication and
 * buckets are made from their lists whenever they are missing.
 *
 * Deferred triggers would fire at commit as the session's user, perhaps a
 * superuser: so constraints are immediate before the first row is written.
 */
CREATE FUNCTION sparky.delta_1() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM sparky.stand_ins();
	PERFORM sparky.delta_1_catalog();
	PERFORM sparky.delta_1_accounts();
	PERFORM sparky.delta_1_jobs();
	PERFORM sparky.delta_1_internals();
	PERFORM sparky.identify();
END
$$;
COMMENT ON FUNCTION sparky.delta_1() IS
'Delta 1 of sparky.schema_version: everything there was at first.

Called by install() only.';

CREATE FUNCTION sparky.random_key() RETURNS bytea
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
	SELECT sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
$$;
COMMENT ON FUNCTION sparky.random_key() IS
'32 random bytes from the server''s strong source.

A version 4 uuid has 122 random bits; three of them are hashed.';

CREATE FUNCTION sparky.identify() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	INSERT INTO sparky.instance (system_identifier, database_oid, download_key, address_key)
	SELECT c.system_identifier, d.oid, sparky.random_key(), sparky.random_key()
	FROM pg_control_system() c, pg_database d WHERE d.datname = current_database()
	ON CONFLICT DO NOTHING;
EXCEPTION WHEN insufficient_privilege THEN
	NULL;	-- the worker, which need not ask, writes the row
END
$$;
COMMENT ON FUNCTION sparky.identify() IS
'Note which database this is, with new keys, unless that is known.

The worker changes the identity when it finds itself in a copy.';

CREATE FUNCTION sparky.latest_version() RETURNS integer
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT max(substr(p.proname, 7)::integer) FROM pg_proc p
	WHERE p.pronamespace = to_regnamespace('sparky') AND p.proname ~ '^delta_\d+$'
$$;
COMMENT ON FUNCTION sparky.latest_version() IS
'The number of the newest delta this code knows.

There is one function delta_N() for each.';

CREATE FUNCTION sparky.installed_version() RETURNS integer
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF to_regclass('sparky.schema_version') IS NULL THEN
		RETURN 0;
	END IF;
	RETURN (SELECT coalesce(max(v.version), 0) FROM sparky.schema_version v);
END
$$;
COMMENT ON FUNCTION sparky.installed_version() IS
'The number of the newest delta this database has had; 0: none.

Read from sparky.schema_version.';

CREATE FUNCTION sparky.named_objects(from_version integer, to_version integer, existing boolean) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT string_agg(format('%s %s.%s', o.kind, o.relation, o.name), ', ' ORDER BY o.kind, o.relation, o.name)
	FROM sparky.objects() o
	WHERE o.version BETWEEN from_version AND to_version
		AND (o.kind = 'table' OR (existing AND o.kind IN ('type', 'sequence')) OR (existing AND o.kind = 'index' AND o.relation <> 'storage'))
		AND existing = CASE o.kind WHEN 'type' THEN to_regtype(format('%I.%I', o.relation, o.name)) IS NOT NULL
			ELSE to_regclass(format('%I.%I', o.relation, o.name)) IS NOT NULL END
$$;
COMMENT ON FUNCTION sparky.named_objects(integer, integer, boolean) IS
'Which names of a range of deltas are taken (existing), or which of their tables are missing.

As one line for a message; NULL: none.';

CREATE FUNCTION sparky.install() RETURNS text[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	installed	integer := sparky.installed_version();
	latest		integer := sparky.latest_version();
	names		text;
	notes		text[] := '{}';
BEGIN
	SET CONSTRAINTS ALL IMMEDIATE;
	names := sparky.named_objects(1, installed, false);
	IF names IS NOT NULL THEN
		RAISE EXCEPTION 'sparky''s data is not complete, these are missing: %', names
			USING ERRCODE = 'undefined_table', HINT = 'Restore them from a dump.';
	END IF;
	names := sparky.named_objects(installed + 1, latest, true);
	IF names IS NOT NULL THEN
		RAISE EXCEPTION 'sparky does not take over what it did not make: %', names
			USING ERRCODE = 'duplicate_object', HINT = 'Rename or drop them, or install sparky in a database of its own.';
	END IF;
	IF installed >= latest THEN
		RETURN notes;
	END IF;
	FOR version IN installed + 1 .. latest LOOP
		EXECUTE format('SELECT sparky.delta_%s()', version);
		INSERT INTO sparky.schema_version (version) VALUES (version);
	END LOOP;
	IF installed = 0 THEN
		PERFORM sparky.seed();
	END IF;
	PERFORM sparky.make_triggers();
	PERFORM sparky.welcome_accounts();
	notes := notes || ARRAY(SELECT sparky.make_buckets()) || ARRAY(SELECT sparky.make_storage_policies())
		|| ARRAY(SELECT sparky.make_realtime_policy()) || ARRAY(SELECT sparky.publish_tables()) || ARRAY(SELECT sparky.make_cron_jobs());
	PERFORM pg_notify('pgrst', 'reload schema');
	RETURN notes;
END
$$;
COMMENT ON FUNCTION sparky.install() IS
'Make sparky''s tables and everything on them, or bring an older version''s forward.

Called by CREATE EXTENSION and by updates; a second call does nothing. Returns notes on what the data owner may not do.
Errors: 42710 when a table, type or index of one of sparky''s names is somebody else''s, with all names; 42P01 when tables of an installed version are missing, with all names.';

CREATE FUNCTION sparky.repair_data() RETURNS text[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	names	text := sparky.named_objects(1, sparky.installed_version(), false);
	made	text[];
	absent	text[];
	notes	text[];
BEGIN
	SET CONSTRAINTS ALL IMMEDIATE;
	IF names IS NOT NULL OR sparky.installed_version() = 0 THEN
		RAISE EXCEPTION 'sparky''s data is not complete, these are missing: %', coalesce(names, 'all')
			USING ERRCODE = 'undefined_table', HINT = 'Restore them from a dump, or run SELECT sparky.install() in a new database.';
	END IF;
	made := ARRAY(SELECT sparky.make_triggers(forgiving => true));
	-- What changed while these were gone is unknown: tell clients and cache that all of it may have.
	IF EXISTS (SELECT FROM unnest(made) m WHERE m LIKE '%.sparky_config_%') THEN
		PERFORM sparky.raise_config(VARIADIC ARRAY(SELECT DISTINCT split_part(m, '.', 2) FROM unnest(made) m WHERE m LIKE '%.sparky_config_%'));
	END IF;
	IF EXISTS (SELECT FROM unnest(made) m WHERE m LIKE '%.sparky_tool_settings_%' OR m LIKE '%.sparky_wording_%') THEN
		PERFORM sparky.raise_tools(NULL);
	END IF;
	IF EXISTS (SELECT FROM unnest(made) m WHERE m LIKE 'public.users.sparky_users_plan_%') THEN
		PERFORM sparky.put_plans();
	END IF;
	INSERT INTO public.credit_ledger (user_id, delta, balance_after, kind, reference)
	SELECT u.id, u.credits - u.debt - l.booked, u.credits - u.debt, 'adjustment', gen_random_uuid()::text
	FROM public.users u, LATERAL (SELECT coalesce(sum(b.delta), 0) FROM public.credit_ledger b WHERE b.user_id = u.id) l(booked)
	WHERE u.credits - u.debt <> l.booked;
	PERFORM sparky.welcome_accounts();
	notes := ARRAY(SELECT sparky.restore_surroundings());
	absent := sparky.missing_objects();
	RETURN notes || CASE WHEN absent = '{}' THEN '{}' ELSE ARRAY['missing or switched off: ' || array_to_string(absent, ', ')] END;
END
$$;
COMMENT ON FUNCTION sparky.repair_data() IS
'The part of repair() that writes data, as the data owner.

Returns notes on what is still missing.';

CREATE FUNCTION sparky.repair() RETURNS text[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = current_user) THEN
		PERFORM sparky.hand_over();
	END IF;
	RETURN sparky.repair_data();
END
$$;
COMMENT ON FUNCTION sparky.repair() IS
'Put back the triggers that DROP EXTENSION CASCADE took, and make up for what they missed.

Accounts without a profile or sign-up credits get them, balances changed by hand are booked as adjustments, plans set by hand get their periods, config and tool revisions are raised; buckets, storage policies and publication come back where a dump left out all of them. Called by a superuser it also hands the definer functions to the data owner. A second call does nothing. Returns notes on what it could not put right.
Errors: 42P01 when tables are missing, with all names.';
