/*
 * Triggers: the one way in which data depends on code.  DROP EXTENSION CASCADE
 * takes them away, and repair() puts them back from this one list.
 *
 * Those that write another table are SECURITY DEFINER, so that whoever may
 * change the table need no right on the other one, and so that a trigger which
 * the data owner adds there runs as him.
 */
CREATE FUNCTION sparky.triggers(OUT version integer, OUT relation text, OUT name text, OUT definition text, OUT comment text)
RETURNS SETOF record LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT * FROM (VALUES
		(1, 'auth.users', 'sparky_on_auth_user_created', 'AFTER INSERT ON auth.users
			FOR EACH ROW EXECUTE FUNCTION sparky.on_auth_user()', 'Makes the profile and gives the sign-up credits'),
		(1, 'auth.users', 'sparky_on_auth_user_confirmed', 'AFTER UPDATE ON auth.users
			FOR EACH ROW WHEN (' || sparky.confirmation_changed() || ') EXECUTE FUNCTION sparky.on_auth_user()',
			'Gives the sign-up credits when the address is confirmed'),
		(2, 'auth.users', 'sparky_on_auth_user_address', 'AFTER UPDATE ON auth.users
			FOR EACH ROW WHEN (' || sparky.address_changed() || ') EXECUTE FUNCTION sparky.on_auth_user()',
			'Gives the sign-up credits for another address, if the account has had none'),
		(1, 'auth.users', 'sparky_on_auth_user_deleted', 'AFTER DELETE ON auth.users
			FOR EACH ROW EXECUTE FUNCTION sparky.on_auth_user_deleted()', 'Erases the photos of a deleted account'),
		(1, 'public.generation_jobs', 'sparky_jobs_deleted', 'AFTER DELETE ON public.generation_jobs REFERENCING OLD TABLE AS old_rows
			FOR EACH STATEMENT EXECUTE FUNCTION sparky.on_jobs_deleted()', 'Takes the cache entry along with the job that made it'),
		(1, 'public.users', 'sparky_users_allowance', 'BEFORE INSERT OR UPDATE ON public.users
			FOR EACH ROW WHEN (NEW.allowance > NEW.credits) EXECUTE FUNCTION sparky.on_users_allowance()',
			'Cuts allowance to credits'),
		(1, 'public.users', 'sparky_users_insert', 'AFTER INSERT ON public.users
			FOR EACH ROW EXECUTE FUNCTION sparky.on_users_hand_edit()', 'Books a balance set by hand as an adjustment'),
		(1, 'public.users', 'sparky_users_update', 'AFTER UPDATE ON public.users
			FOR EACH ROW WHEN (OLD.credits <> NEW.credits OR OLD.debt <> NEW.debt) EXECUTE FUNCTION sparky.on_users_hand_edit()',
			'Books a balance changed by hand as an adjustment'),
		(2, 'public.users', 'sparky_users_plan_insert', 'AFTER INSERT ON public.users
			FOR EACH ROW EXECUTE FUNCTION sparky.on_users_plan()', 'Makes the period of a plan set by hand'),
		(2, 'public.users', 'sparky_users_plan_update', 'AFTER UPDATE ON public.users
			FOR EACH ROW WHEN (OLD.plan_id <> NEW.plan_id OR OLD.plan_expires_at IS DISTINCT FROM NEW.plan_expires_at)
			EXECUTE FUNCTION sparky.on_users_plan()', 'Makes or ends periods where a plan is changed by hand'),
		(1, 'sparky.tool_settings', 'sparky_tool_settings_revision', 'BEFORE UPDATE ON sparky.tool_settings
			FOR EACH ROW WHEN (OLD.model IS DISTINCT FROM NEW.model OR OLD.prompt IS DISTINCT FROM NEW.prompt
				OR OLD.system_instruction IS DISTINCT FROM NEW.system_instruction OR OLD.response_schema IS DISTINCT FROM NEW.response_schema
				OR OLD.generation_config IS DISTINCT FROM NEW.generation_config)
			EXECUTE FUNCTION sparky.on_tool_settings()', 'Raises the revision when the answers would change'),
		(2, 'sparky.tool_settings', 'sparky_tool_settings_insert', 'BEFORE INSERT ON sparky.tool_settings
			FOR EACH ROW EXECUTE FUNCTION sparky.on_tool_settings()', 'Begins above the revisions that jobs had under an earlier row')
	) t
	UNION ALL
	SELECT 1, 'public.' || c.name, 'sparky_config_' || lower(e.event),
		format('AFTER %s ON public.%I %s FOR EACH STATEMENT EXECUTE FUNCTION sparky.on_config()', e.event, c.name, e.rows),
		'Raises the revision in public.config_versions'
	FROM unnest(ARRAY['plans', 'tools', 'hairstyles', 'hair_colors', 'skin_colors', 'products']) c(name),
		(VALUES ('INSERT', 'REFERENCING NEW TABLE AS new_rows'), ('UPDATE', 'REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows'),
			('DELETE', 'REFERENCING OLD TABLE AS old_rows'), ('TRUNCATE', '')) e(event, rows)
	UNION ALL
	SELECT 1, 'public.' || c.name, 'sparky_wording_' || lower(e.event),
		format('AFTER %s ON public.%I %s FOR EACH STATEMENT EXECUTE FUNCTION sparky.on_wording(%L)', e.event, c.name, e.rows,
			c.name || '.' || c.key),
		'Raises the revision of the tools whose prompts use this table'
	FROM (VALUES ('hairstyles', 'id'), ('hair_colors', 'hex_code'), ('skin_colors', 'hex_code')) c(name, key),
		(VALUES ('UPDATE', 'REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows'),
			('DELETE', 'REFERENCING OLD TABLE AS old_rows'), ('TRUNCATE', '')) e(event, rows)
$$;
COMMENT ON FUNCTION sparky.triggers() IS
'Every trigger of sparky: its table, name, definition and comment.

The list that install() and repair() make missing ones from.';

CREATE FUNCTION sparky.confirmation_changed() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	-- an older auth.users has not all of these columns
	SELECT coalesce(string_agg(format('OLD.%1$I IS DISTINCT FROM NEW.%1$I', attname), ' OR ' ORDER BY attname), 'false')
	FROM pg_attribute
	WHERE attrelid = to_regclass('auth.users') AND attname IN ('email_confirmed_at', 'phone_confirmed_at', 'is_anonymous') AND NOT attisdropped
$$;
COMMENT ON FUNCTION sparky.confirmation_changed() IS
'The condition under which an account may have been confirmed, as SQL over OLD and NEW.

Names only the columns that this auth.users has.';

CREATE FUNCTION sparky.address_changed() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT coalesce(string_agg(format('OLD.%1$I IS DISTINCT FROM NEW.%1$I', attname), ' OR ' ORDER BY attname), 'false')
	FROM pg_attribute
	WHERE attrelid = to_regclass('auth.users') AND attname IN ('email', 'phone') AND NOT attisdropped
$$;
COMMENT ON FUNCTION sparky.address_changed() IS
'The condition under which an account has another address, as SQL over OLD and NEW.

Names only the columns that this auth.users has.';

CREATE FUNCTION sparky.make_triggers(forgiving boolean DEFAULT false) RETURNS SETOF text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	t	record;
BEGIN
	FOR t IN SELECT * FROM sparky.triggers() tr
		WHERE to_regclass(tr.relation) IS NOT NULL
			AND NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = to_regclass(tr.relation) AND g.tgname = tr.name)
	LOOP
		BEGIN
			EXECUTE format('CREATE TRIGGER %I %s', t.name, t.definition);
		EXCEPTION WHEN insufficient_privilege THEN
			IF NOT forgiving THEN
				RAISE;
			END IF;
			CONTINUE;
		END;
		BEGIN
			EXECUTE format('COMMENT ON TRIGGER %I ON %s IS %L', t.name, t.relation, t.comment);
		EXCEPTION WHEN insufficient_privilege THEN
			NULL;	-- another role's table: TRIGGER is granted there, COMMENT cannot be
		END;
		RETURN NEXT t.relation || '.' || t.name;
	END LOOP;
END
$$;
COMMENT ON FUNCTION sparky.make_triggers(boolean) IS
'Make every trigger that is missing; returns their names.

forgiving: leave out those that the data owner may not make; missing_objects() tells them.
Errors: 42501 where he has no TRIGGER right on auth.users, unless forgiving.';

CREATE FUNCTION sparky.on_users_allowance() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	NEW.allowance := NEW.credits;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION sparky.on_users_allowance() IS
'Trigger: allowance is at most credits.

Whoever lowers credits by hand need not think of it.';

CREATE FUNCTION sparky.on_users_hand_edit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	booked	bigint;
	change	bigint;
BEGIN
	IF sparky.booking() THEN
		RETURN NULL;
	END IF;
	IF TG_OP = 'INSERT' THEN
		SELECT coalesce(sum(l.delta), 0) INTO booked FROM public.credit_ledger l WHERE l.user_id = NEW.id;
	ELSE
		booked := OLD.credits - OLD.debt;
	END IF;
	change := NEW.credits - NEW.debt - booked;
	IF change <> 0 THEN
		INSERT INTO public.credit_ledger (user_id, delta, balance_after, kind, reference)
		VALUES (NEW.id, change, NEW.credits - NEW.debt, 'adjustment', gen_random_uuid()::text);
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION sparky.on_users_hand_edit() IS
'Trigger: a balance set by hand gets its ledger row.

Keeps quiet while sparky.book() or the worker moves money.';

CREATE FUNCTION sparky.on_users_plan() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF sparky.booking() THEN
		RETURN NULL;
	END IF;
	-- A profile that is made anew, and whoever tidies plans that have ended, says nothing of what was paid.
	IF NEW.plan_id = 1 AND (TG_OP = 'INSERT' OR OLD.plan_expires_at <= now()) THEN
		IF TG_OP = 'INSERT' THEN	-- what was given by hand went with the row that it was written in
			UPDATE sparky.plan_periods p SET ends_at = greatest(p.starts_at, now())
			WHERE p.user_id = NEW.id AND p.order_id IS NULL AND p.ends_at > now();
		END IF;
		IF EXISTS (SELECT FROM sparky.plan_periods p WHERE p.user_id = NEW.id AND p.ends_at > now() AND p.reversed_at IS NULL) THEN
			PERFORM sparky.refresh_plans(NEW.id, now());
		END IF;
	ELSE
		PERFORM sparky.put_plan(NEW.id, NEW.plan_id, NEW.plan_expires_at, now());
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION sparky.on_users_plan() IS
'Trigger: a plan set by hand gets its period.

Without plan_expires_at it has no end. Plan 1 ends every period, paid ones too. Keeps quiet while sparky itself mirrors the plan.';

CREATE FUNCTION sparky.put_plans() RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
	SELECT sparky.put_plan(o.user_id, o.plan_id, o.plan_expires_at, now()) FROM sparky.plans_out_of_step() o
$$;
COMMENT ON FUNCTION sparky.put_plans() IS
'Do for every user whose plan was set by hand what the trigger would have done.

For repair(), where the trigger was gone.';

CREATE FUNCTION sparky.on_tool_settings() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF TG_OP = 'UPDATE' THEN
		NEW.revision := greatest(NEW.revision, OLD.revision + 1);
	ELSIF NOT EXISTS (SELECT FROM sparky.tool_settings s WHERE s.tool_id = NEW.tool_id) THEN
		-- A row that comes in the place of a deleted one: a cache entry goes no later than its job.
		NEW.revision := greatest(NEW.revision, (SELECT max(j.tool_revision) + 1 FROM public.generation_jobs j WHERE j.tool_id = NEW.tool_id));
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION sparky.on_tool_settings() IS
'Trigger: what changes a tool''s answers raises its revision, and so does a new row for a tool that had one.

The revision is part of the cache key, so older results are not used again.';

CREATE FUNCTION sparky.raise_config(VARIADIC names text[]) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
	INSERT INTO public.config_versions AS c (name)
	SELECT n FROM unnest(names) n ORDER BY n
	ON CONFLICT (name) DO UPDATE SET revision = c.revision + 1
$$;
COMMENT ON FUNCTION sparky.raise_config(text[]) IS
'Raise revisions in public.config_versions by one.

Always in the order of names, so that two such statements do not deadlock.';

CREATE FUNCTION sparky.raise_tools(list text) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
	UPDATE sparky.tool_settings s SET revision = s.revision + 1
	FROM public.tools t
	WHERE t.id = s.tool_id
		AND (list IS NULL OR jsonb_path_exists(t.parameter_schema, '$.**."x-values" ? (@ == $list)', jsonb_build_object('list', list)))
$$;
COMMENT ON FUNCTION sparky.raise_tools(text) IS
'Raise the revision of the tools whose parameter_schema takes x-values from a list.

list: hairstyles.id, hair_colors.hex_code or skin_colors.hex_code; NULL: of every tool.';

CREATE FUNCTION sparky.on_config() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	changed	boolean := true;	-- TRUNCATE tells nothing about rows
BEGIN
	IF TG_OP = 'INSERT' THEN
		changed := EXISTS (SELECT FROM new_rows);
	ELSIF TG_OP = 'UPDATE' THEN
		changed := EXISTS (TABLE new_rows EXCEPT ALL TABLE old_rows);
	ELSIF TG_OP = 'DELETE' THEN
		changed := EXISTS (SELECT FROM old_rows);
	END IF;
	IF changed THEN
		PERFORM sparky.raise_config(TG_TABLE_NAME);
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION sparky.on_config() IS
'Trigger: a catalogue table changed.

A statement that changed no row, or wrote the same values, raises nothing.';

CREATE FUNCTION sparky.on_wording() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	changed	boolean := true;
BEGIN
	-- only what can reach a prompt: sort_order and pictures do not
	IF TG_OP = 'UPDATE' THEN
		changed := EXISTS (
			SELECT to_jsonb(n) -> 'id', to_jsonb(n) -> 'hex_code', to_jsonb(n) -> 'name' FROM new_rows n
			EXCEPT
			SELECT to_jsonb(o) -> 'id', to_jsonb(o) -> 'hex_code', to_jsonb(o) -> 'name' FROM old_rows o);
	ELSIF TG_OP = 'DELETE' THEN
		changed := EXISTS (SELECT FROM old_rows);	-- it may come back under another name
	END IF;
	IF changed THEN
		PERFORM sparky.raise_tools(TG_ARGV[0]);
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION sparky.on_wording() IS
'Trigger: a name or colour that prompts use changed.

Its argument is the x-values list of the table.';
