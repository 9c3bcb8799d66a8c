/*
 * Sign-up: a profile for every account, and the sign-up credits once, when the
 * address is confirmed.  Whatever goes wrong here must not keep anybody from
 * signing up: the trigger warns, and repair() makes up for it.
 */
CREATE FUNCTION sparky.profile_name(account jsonb) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT coalesce(
		nullif(rtrim(left(btrim(CASE jsonb_typeof(account #> '{raw_user_meta_data,username}')
			WHEN 'string' THEN account #>> '{raw_user_meta_data,username}' END, E' \t\n\r'), 80), E' \t\n\r'), ''),
		nullif(rtrim(left(btrim(split_part(account ->> 'email', '@', 1), E' \t\n\r'), 80), E' \t\n\r'), ''),
		'user')
$$;
COMMENT ON FUNCTION sparky.profile_name(jsonb) IS
'The name of a new profile: what the user told, else the local part of the e-mail address, else user.

account: the row of auth.users. 1 to 80 characters, without white space at the ends.';

CREATE FUNCTION sparky.make_profile(account jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	account_id	uuid := account ->> 'id';
	balance		bigint;
BEGIN
	-- A profile that was deleted by hand comes back with what the ledger says.
	SELECT coalesce(sum(l.delta), 0) INTO balance FROM public.credit_ledger l WHERE l.user_id = account_id;
	INSERT INTO public.users (id, username, credits, debt)
	VALUES (account_id, sparky.profile_name(account), greatest(balance, 0), greatest(-balance, 0))
	ON CONFLICT (id) DO NOTHING;
END
$$;
COMMENT ON FUNCTION sparky.make_profile(jsonb) IS
'Make the profile of an account, unless it has one.

account: the row of auth.users. A new profile has no credits.';

CREATE FUNCTION sparky.grant_sign_up(account jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	account_id	uuid := account ->> 'id';
	credits		integer;
BEGIN
	IF coalesce(account ->> 'email_confirmed_at', account ->> 'phone_confirmed_at') IS NULL
		OR coalesce((account ->> 'is_anonymous')::boolean, false)
	THEN
		RETURN;
	END IF;
	INSERT INTO sparky.signup_grants (user_id, last_month)
	VALUES (account_id, to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM'))
	ON CONFLICT DO NOTHING;
	IF FOUND THEN
		SELECT p.monthly_credits INTO credits FROM public.plans p WHERE p.id = 1;
		IF credits > 0 THEN
			PERFORM sparky.book(account_id, credits, 'signup', account_id::text, credits);
		END IF;
	END IF;
END
$$;
COMMENT ON FUNCTION sparky.grant_sign_up(jsonb) IS
'Give an account the sign-up credits, once.

account: the row of auth.users. Nothing happens for an unconfirmed or anonymous account. They are plan 1''s grant of the month, whole credits.';

CREATE FUNCTION sparky.on_auth_user() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	-- Two blocks: credits that cannot be given do not take the profile with them.
	BEGIN
		PERFORM sparky.make_profile(to_jsonb(NEW));
	EXCEPTION WHEN OTHERS THEN
		RAISE WARNING 'sparky made no profile for user %: %', NEW.id, SQLERRM USING HINT = 'Run SELECT sparky.repair().';
		RETURN NULL;
	END;
	BEGIN
		PERFORM sparky.grant_sign_up(to_jsonb(NEW));
	EXCEPTION WHEN OTHERS THEN
		RAISE WARNING 'sparky gave user % no sign-up credits: %', NEW.id, SQLERRM USING HINT = 'Run SELECT sparky.repair().';
	END;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION sparky.on_auth_user() IS
'Trigger: an account was made or confirmed.

Never raises: what fails is a WARNING.';

CREATE FUNCTION sparky.welcome_accounts() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	account	jsonb;
BEGIN
	FOR account IN
		SELECT to_jsonb(a) FROM auth.users a
		WHERE NOT EXISTS (SELECT FROM public.users u WHERE u.id = a.id)
			OR NOT EXISTS (SELECT FROM sparky.signup_grants g WHERE g.user_id = a.id)
		ORDER BY a.id
	LOOP
		PERFORM sparky.make_profile(account);
		PERFORM sparky.grant_sign_up(account);
	END LOOP;
END
$$;
COMMENT ON FUNCTION sparky.welcome_accounts() IS
'Do for every account what the sign-up trigger has not done.

Accounts older than sparky, and those that came while the trigger was gone.';
