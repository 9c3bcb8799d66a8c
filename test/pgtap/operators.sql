-- Operators: credits by hand, notifications, figures, the list of scheduled work.
\set tests 33
\ir setup.psql

INSERT INTO auth.users (id, email) SELECT ('00000000-0000-0000-0000-00000000000' || n)::uuid, n || '@example.com' FROM generate_series(1, 5) n;
\set u '''00000000-0000-0000-0000-000000000001''::uuid'

-- adjust_credits
CREATE TEMPORARY TABLE adjusted AS SELECT sparky.adjust_credits(:u, 5, '  goodwill ') AS a;
SELECT is((SELECT a - 'reference' FROM adjusted), jsonb_build_object('user_id', :u, 'delta', 5, 'reason', 'goodwill', 'credits', 15, 'debt', 0, 'allowance', 10), 'credits are added');
SELECT results_eq($$SELECT l.kind, l.delta, l.balance_after, l.note FROM public.credit_ledger l, adjusted WHERE l.reference = a ->> 'reference'$$,
	$$VALUES ('adjustment', 5, 15, 'goodwill')$$, 'with one ledger row that keeps the reason');
SELECT is(sparky.adjust_credits(:u, -12, 'taken back') - ARRAY['reference', 'user_id', 'reason', 'delta'], '{"credits": 3, "debt": 0, "allowance": 3}', 'and taken; the allowance is cut');
SELECT is(sparky.adjust_credits(:u, -5, 'more') - ARRAY['reference', 'user_id', 'reason', 'delta'], '{"credits": 0, "debt": 2, "allowance": 0}', 'what the balance does not cover is debt');
SELECT is(sparky.adjust_credits(:u, 3, 'again') - ARRAY['reference', 'user_id', 'reason', 'delta'], '{"credits": 1, "debt": 0, "allowance": 0}', 'a debt is paid first');
SELECT is((SELECT count(DISTINCT reference) FROM public.credit_ledger WHERE user_id = :u AND kind = 'adjustment'), 4::bigint, 'each with a reference of its own, and no other row');
SELECT throws_ok(format('SELECT sparky.adjust_credits(%L, 0, %L)', :u, 'why'), '22023', NULL, 'not by 0');
SELECT throws_ok(format('SELECT sparky.adjust_credits(%L, NULL, %L)', :u, 'why'), '22023', NULL, 'not by NULL');
SELECT throws_ok(format('SELECT sparky.adjust_credits(%L, 1, %L)', :u, reason), '22023', NULL, 'not without a reason: ' || left(coalesce(reason, 'NULL'), 10))
FROM (VALUES (' '), (NULL), (repeat('x', 501))) v(reason);
SELECT throws_ok($$SELECT sparky.adjust_credits(gen_random_uuid(), 1, 'why')$$, 'P0002', NULL, 'not for nobody');
SELECT throws_ok(format('SELECT sparky.adjust_credits(%L, 2147483647, %L)', :u, 'too much'), '22003', NULL, 'not beyond an integer');

-- notify: preferences of users 2 to 5
UPDATE public.users SET notification_preferences = p::jsonb FROM (VALUES
	(2, '{"promotions": false, "featureUpdates": true, "generalAlerts": false}'), (3, '{}'), (4, '{"promotions": "false", "generalAlerts": 0}'),
	(5, '{"promotions": null, "featureUpdates": false}')) v(n, p) WHERE id = ('00000000-0000-0000-0000-00000000000' || n)::uuid;
CREATE FUNCTION tap.told(key text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(right(user_id::text, 1), '' ORDER BY user_id) FROM public.notifications WHERE title_key = key || '.title' AND message_key = key || '.message' AND NOT read $$;
SELECT is(sparky.notify('offer', 'a.title', 'a.message'), 4::bigint, 'an offer to everybody, asks for promotions');
SELECT is(tap.told('a'), '1345', 'missing and what is no boolean mean yes');
SELECT is(sparky.notify('feature', 'b.title', 'b.message'), 4::bigint, 'a feature asks for featureUpdates');
SELECT is(tap.told('b'), '1234', 'of each');
SELECT is(sparky.notify('general', 'c.title', 'c.message'), 4::bigint, 'a general one asks for generalAlerts');
SELECT is(tap.told('c'), '1345', 'of each');
SELECT is(sparky.notify('offer', 'd.title', 'd.message', ARRAY[:u, :u, '00000000-0000-0000-0000-000000000002', gen_random_uuid(), NULL]), 1::bigint,
	'to some: once each, to nobody who is not there or does not want it');
SELECT is(tap.told('d'), '1', 'to him');
SELECT is(sparky.notify('offer', 'e.title', 'e.message', '{}'), 0::bigint, 'to none');
SELECT is((SELECT string_agg(DISTINCT type, ',') FROM public.notifications WHERE user_id = :u), 'feature,general,offer', 'the type is the one given');
SELECT throws_ok($$SELECT sparky.notify('news', 'a', 'b')$$, '22023', NULL, 'no other type');
SELECT throws_ok($$SELECT sparky.notify(NULL, 'a', 'b')$$, '22023', NULL, 'nor none');
SELECT throws_ok($$SELECT sparky.notify('offer', '', 'b')$$, '22023', NULL, 'nor an empty key');

-- the rest
SELECT is_empty('SELECT * FROM sparky.audit()', 'audit() has nothing to say');
SELECT set_has($$SELECT jsonb_object_keys(sparky.stats())$$, $$VALUES ('requests'), ('jobs'), ('errors'), ('outcomes'), ('latency_seconds'), ('provider'), ('credits_charged')$$,
	'what stats() tells of');
SELECT is(sparky.spread(ARRAY[1, 2, NULL, 3, 10]), '{"count": 4, "p50": 2.500, "p95": 8.950, "max": 10.000}', 'spread()');
SELECT is(sparky.setting_interval('sparky.job_retention', '1 day'), interval '90 days', 'a retention setting, read as SQL reads it');
SELECT is(sparky.setting_interval('sparky.no_such_setting', '1 day'), interval '1 day', 'and one that is not known');
SELECT is_empty($$SELECT name FROM sparky.cron_jobs() WHERE NOT EXISTS (SELECT FROM pg_proc p
	WHERE format(CASE p.prokind WHEN 'p' THEN 'CALL' ELSE 'SELECT' END || ' sparky.%s()', p.proname) = command
		AND p.pronamespace = 'sparky'::regnamespace)$$, 'every scheduled command calls a routine of ours');
-- Batches give way and never write without a condition.
SELECT is_empty($$SELECT full_name FROM our_functions WHERE proname ~ '^(remove_|erase_|end_plans)' AND prosrc !~ 'SKIP LOCKED' AND proname <> 'remove_cron_runs'$$, 'batches skip rows that are held');

SELECT * FROM finish();
ROLLBACK;
