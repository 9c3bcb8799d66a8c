--
-- my_account and my_usage.
--
BEGIN;
SET LOCAL timezone = 'Africa/Cairo';	-- days are UTC days wherever the session is
CREATE FUNCTION pg_temp.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE result text;
BEGIN
	EXECUTE statement INTO result;
	RETURN result;
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
\set ana '''a0000000-0000-4000-8000-00000000000a'''
INSERT INTO auth.users (id, email) VALUES (:ana, 'a@api-account.test'), ('b0000000-0000-4000-8000-00000000000b', 'b@api-account.test');
INSERT INTO public.tools (id, name_key, description_key, type, icon_name) VALUES ('test-a', 'n', 'd', 'FILTER', 'i'), ('test-b', 'n', 'd', 'FILTER', 'i');
SET LOCAL request.jwt.claims = '{"sub": "a0000000-0000-4000-8000-00000000000a", "role": "authenticated"}';

SELECT jsonb_pretty(my_account() - 'resets_at');
SELECT (my_account() ->> 'resets_at')::timestamptz = date_trunc('day', now(), 'UTC') + interval '1 day' AS midnight, my_account() ->> 'resets_at' LIKE '%T00:00:00+00:00' AS utc;
-- what is shown of money
CREATE FUNCTION pg_temp.money() RETURNS text LANGUAGE sql AS $$
	SELECT format('credits %s held %s available %s debt %s allowance %s', a ->> 'credits', a ->> 'held', a ->> 'available', a ->> 'debt', a ->> 'allowance') FROM my_account() a
$$;

-- holds: active, and in time or answered
INSERT INTO public.generation_jobs (id, user_id, tool_id, kind, source_path, tool_revision, image_hash, cache_key, status, credits_held, deadline)
SELECT format('a0000000-0000-4000-8000-%s', lpad(n::text, 12, '0'))::uuid, :ana, 'test-a', 'image', 's', 1, 'h', 'key ' || n, status, 1,
	clock_timestamp() + CASE WHEN late THEN interval '-1 second' ELSE interval '1 hour' END
FROM (VALUES (1, 'queued', false), (2, 'fetching', false), (3, 'generating', false), (4, 'answered', true), (5, 'storing', true),
	(6, 'queued', true), (7, 'generating', true), (8, 'succeeded', false), (9, 'failed', false), (10, 'cancelled', false)) v(n, status, late);
SELECT pg_temp.money();
DELETE FROM public.generation_jobs WHERE user_id = :ana;

-- a plan that runs, that has ended, that does not end
UPDATE public.users SET plan_id = 2, plan_expires_at = date_trunc('day', now(), 'UTC') + interval '2 days 3 hours' WHERE id = :ana;
SELECT my_account() ->> 'plan' AS plan, (my_account() ->> 'plan_expires_at')::timestamptz = date_trunc('day', now(), 'UTC') + interval '2 days 3 hours' AS ends, my_account() ->> 'max_daily_credits' AS max_daily;
UPDATE public.users SET plan_expires_at = clock_timestamp() WHERE id = :ana;
SELECT my_account() ->> 'plan' AS plan, my_account() -> 'plan_expires_at' AS ends, my_account() ->> 'max_daily_credits' AS max_daily;
UPDATE public.users SET plan_expires_at = NULL WHERE id = :ana;
SELECT my_account() ->> 'plan' AS plan, my_account() -> 'plan_expires_at' AS ends;
UPDATE public.users SET plan_id = 1 WHERE id = :ana;

-- the free plan's grant of a new month counts before it is booked: up to ten, of what came from a plan
UPDATE sparky.signup_grants SET last_month = '2020-01' WHERE user_id = :ana;
SELECT pg_temp.money() AS full_allowance;
UPDATE public.users SET credits = 7, allowance = 3 WHERE id = :ana;
SELECT pg_temp.money() AS seven_more;
UPDATE public.users SET credits = 0, allowance = 0, debt = 4 WHERE id = :ana;
SELECT pg_temp.money() AS debt_first;
UPDATE public.users SET debt = 12 WHERE id = :ana;
SELECT pg_temp.money() AS all_for_debt;
UPDATE public.users SET debt = 10 WHERE id = :ana;
SELECT pg_temp.money() AS just_paid;
UPDATE public.users SET debt = 0, plan_id = 2 WHERE id = :ana;
SELECT pg_temp.money() AS other_plan;
UPDATE public.users SET plan_id = 1 WHERE id = :ana;
UPDATE sparky.signup_grants SET last_month = to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM') WHERE user_id = :ana;
SELECT pg_temp.money() AS had_it;
DELETE FROM sparky.signup_grants WHERE user_id = :ana;
SELECT pg_temp.money() AS never_granted;
UPDATE public.users SET debt = 3 WHERE id = :ana;
SELECT pg_temp.money() AS in_debt;

-- usage: UTC days, since inclusive, until exclusive, one's own
INSERT INTO public.credit_usage (user_id, tool_id, credits_used, created_at) VALUES
	(:ana, 'test-a', 1, '2024-02-28 23:59:59.999999+00'), (:ana, 'test-a', 2, '2024-02-29 00:00+00'), (:ana, 'test-b', 5, '2024-02-29 12:00+00'),
	(:ana, 'test-a', 3, '2024-02-29 23:59:59+00'), (:ana, 'test-a', 1, '2024-03-01 00:00+00'),
	('b0000000-0000-4000-8000-00000000000b', 'test-a', 9, '2024-02-29 12:00+00');
SELECT * FROM my_usage('2024-02-29 00:00+00', '2024-03-01 00:00+00');
SELECT * FROM my_usage('2024-02-28 00:00+00', '2024-03-01 00:00:00.000001+00');
SELECT count(*) FROM my_usage('2024-03-01', '2024-02-01');
SELECT sum(credits) FROM my_usage('-infinity', 'infinity');
INSERT INTO public.credit_usage (user_id, tool_id, credits_used, created_at) VALUES
	(:ana, 'test-a', 2, date_trunc('month', now(), 'UTC')), (:ana, 'test-a', 4, date_trunc('month', now(), 'UTC') - interval '1 microsecond');
SELECT sum(credits) AS this_month FROM my_usage();
SELECT sum(credits) AS this_month FROM my_usage(NULL, NULL);
INSERT INTO public.credit_usage (user_id, tool_id, credits_used, created_at) VALUES
	(:ana, 'test-b', 3, now()), (:ana, 'test-b', 4, date_trunc('day', now(), 'UTC') - interval '1 microsecond');
SELECT (my_account() ->> 'used_today')::int = 3 + CASE WHEN date_trunc('day', now(), 'UTC') = date_trunc('month', now(), 'UTC') THEN 2 ELSE 0 END AS today_only;

-- both only read
SAVEPOINT reading;
SET TRANSACTION READ ONLY;
SELECT pg_temp.money();
SELECT count(*) > 0 AS some FROM my_usage('2024-01-01');
ROLLBACK TO reading;
ROLLBACK;
