/*
 * Sign-up: a profile for every account, and the sign-up credits once for an
 * account and once for an address, when the address is confirmed.  Whatever goes wrong here must not keep anybody from
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

CREATE FUNCTION sparky.normal_address(account jsonb) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT CASE
		WHEN a.email IS NOT NULL THEN
			CASE WHEN a.domain IN ('gmail.com', 'googlemail.com')
				THEN coalesce(nullif(replace(a.local, '.', ''), ''), a.local) || '@gmail.com'
				ELSE a.local || '@' || a.domain END
		WHEN a.phone <> '' THEN 'tel:' || a.phone END
	FROM (
		-- the local part ends at the last @; a tag is cut where something stands before it
		SELECT e.email, regexp_replace(regexp_replace(e.email, '@[^@]*$', ''), '^([^+]+)\+.*$', '\1') AS local,
			rtrim(substring(e.email FROM '[^@]*$'), '.') AS domain, e.phone
		FROM (
			SELECT CASE WHEN account ->> 'email_confirmed_at' IS NOT NULL
					THEN nullif(lower(btrim(account ->> 'email', E' \t\n\r') COLLATE "C"), '') END AS email,
				CASE WHEN account ->> 'phone_confirmed_at' IS NOT NULL
					THEN regexp_replace(account ->> 'phone', '[^0-9]', '', 'g') END AS phone
		) e
	) a
$$;
COMMENT ON FUNCTION sparky.normal_address(jsonb) IS
'The address by which an account counts, so written that one mailbox or telephone has one.

account: the row of auth.users. The confirmed e-mail address: trimmed, lower case, without +tag, for Gmail also without dots; else the confirmed number''s digits after tel:. NULL: none is known.';

CREATE FUNCTION sparky.address_digest(address text) RETURNS text
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'sparky_address_digest';
COMMENT ON FUNCTION sparky.address_digest(text) IS
'HMAC-SHA256 of an address under sparky.instance.address_key, lower-case hexadecimal.

address: as sparky.normal_address() returns it. NULL for NULL, and while the database has no key yet.';

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
	-- One for an account, one for an address: two unique keys decide, also between sign-ups at the same time.
	INSERT INTO sparky.signup_grants (user_id, last_month, address_digest)
	VALUES (account_id, to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM'), sparky.address_digest(sparky.normal_address(account)))
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
'Give an account the sign-up credits, once, and once for an address.

account: the row of auth.users. Nothing happens for an unconfirmed or anonymous account, nor where another account of its address had them, be it gone by now. They are plan 1''s grant of the month, whole credits.';

CREATE FUNCTION sparky.note_addresses() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	-- Two accounts of one address may both have had their grant: the older one stands for it.
	UPDATE sparky.signup_grants g SET address_digest = d.digest
	FROM (
		SELECT DISTINCT ON (k.digest) k.user_id, k.digest
		FROM (
			SELECT s.user_id, s.granted_at, sparky.address_digest(sparky.normal_address(to_jsonb(a))) AS digest
			FROM sparky.signup_grants s JOIN auth.users a ON a.id = s.user_id
			WHERE s.address_digest IS NULL
		) k
		WHERE k.digest IS NOT NULL
		ORDER BY k.digest, k.granted_at, k.user_id
	) d
	WHERE g.user_id = d.user_id AND NOT EXISTS (SELECT FROM sparky.signup_grants o WHERE o.address_digest = d.digest);
END
$$;
COMMENT ON FUNCTION sparky.note_addresses() IS
'Note the addresses of sign-up grants that have none yet.

Those from before addresses were kept, and those given while there was no key.';

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
	PERFORM sparky.note_addresses();
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
