/*
 * Rights on code, and the way out of the extension for data.  Both run as
 * superuser and touch no table.
 */
CREATE FUNCTION sparky.hand_over() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	owner	name := sparky.data_owner();
	f		record;
	grantee	text;
BEGIN
	FOR f IN
		SELECT p.oid, p.oid::regprocedure AS name, p.prosecdef, n.nspname = 'public' AS public
		FROM pg_extension e
			JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e' AND d.classid = 'pg_proc'::regclass
			JOIN pg_proc p ON p.oid = d.objid
			JOIN pg_namespace n ON n.oid = p.pronamespace AND n.nspname IN ('public', 'sparky')
		WHERE e.extname = 'sparky'
		ORDER BY p.oid
	LOOP
		IF f.prosecdef THEN
			EXECUTE format('ALTER ROUTINE %s OWNER TO %I', f.name, owner);
		END IF;
		-- Default privileges hand EXECUTE out by name: taken from each name.
		EXECUTE format('REVOKE ALL ON ROUTINE %s FROM PUBLIC, anon, authenticated, service_role', f.name);
		FOR grantee IN
			SELECT DISTINCT r.rolname FROM pg_proc p, aclexplode(p.proacl) a JOIN pg_roles r ON r.oid = a.grantee
			WHERE p.oid = f.oid AND a.grantee <> p.proowner
		LOOP
			EXECUTE format('REVOKE ALL ON ROUTINE %s FROM %I', f.name, grantee);
		END LOOP;
		IF f.public THEN
			EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO anon, authenticated, service_role', f.name);
		END IF;
		EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO %I', f.name, owner);
	END LOOP;
END
$$;
COMMENT ON FUNCTION sparky.hand_over() IS
'Give the definer functions to the data owner and write every EXECUTE right anew.

Functions of schema public: anon, authenticated, service_role and the data owner; of schema sparky: the data owner alone. For superusers.';

CREATE FUNCTION sparky.detach() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	member	record;
BEGIN
	FOR member IN
		SELECT d.classid, d.objid, o.type, o.identity
		FROM pg_extension e
			JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e',
			LATERAL pg_identify_object(d.classid, d.objid, d.objsubid) o
		WHERE e.extname = 'sparky'
			AND NOT (d.classid = 'pg_proc'::regclass AND o.schema IN ('public', 'sparky'))
			AND NOT (d.classid = 'pg_type'::regclass AND d.objid = 'public."*/*"'::regtype)
		-- from PostgreSQL 17 on a table takes its row type along, and a type its array type
		ORDER BY d.classid <> 'pg_class'::regclass, o.identity LIKE '%[]', d.classid, d.objid
	LOOP
		CONTINUE WHEN NOT EXISTS (SELECT FROM pg_depend d
			WHERE d.classid = member.classid AND d.objid = member.objid AND d.deptype = 'e');
		EXECUTE format('ALTER EXTENSION sparky DROP %s %s', member.type, member.identity);
	END LOOP;
END
$$;
COMMENT ON FUNCTION sparky.detach() IS
'Take everything but code out of the extension.

The last step of the extension script and of every update: what is left in would be lost by dumps.';
