-- Sign-up, hand edits, and the ledger that always agrees with the balance.
\set tests 38
\ir setup.psql

CREATE VIEW tap.balances AS
	SELECT u.username, u.credits, u.allowance, u.debt, u.plan_id,
		u.credits - u.debt = (SELECT coalesce(sum(l.delta), 0) FROM public.credit_ledger l WHERE l.user_id = u.id)
		AND u.credits - u.debt IS NOT DISTINCT FROM coalesce((SELECT l.balance_after FROM public.credit_ledger l WHERE l.user_id = u.id ORDER BY l.id DESC LIMIT 1), 0) AS agrees
	FROM public.users u;

INSERT INTO auth.users (email, raw_user_meta_data) VALUES
	('ann@example.com', '{"username": " Ann\t"}'), ('ben@example.com', NULL), ('cem@example.com', '{"username": "  "}'),
	('dan@example.com', '{"username": {"a": 1}}'), (NULL, '{}'), (' @x', NULL),
	('eve@example.com', json_build_object('username', repeat('é', 100))::jsonb),
	('fay@example.com', json_build_object('username', repeat('f', 79) || ' f')::jsonb);
SELECT set_eq('SELECT username, credits, allowance, debt, plan_id, agrees FROM balances', $$VALUES
	('Ann', 10, 10, 0, 1::bigint, true), ('ben', 10, 10, 0, 1, true), ('cem', 10, 10, 0, 1, true), ('dan', 10, 10, 0, 1, true), ('user', 10, 10, 0, 1, true),
	(repeat('é', 80), 10, 10, 0, 1, true), (repeat('f', 79), 10, 10, 0, 1, true)$$, 'profiles and sign-up credits');
SELECT is((SELECT count(*) FROM public.users), 8::bigint, 'one for each');
SELECT results_eq($$SELECT l.kind, l.delta, l.balance_after, l.reference = u.id::text FROM public.credit_ledger l JOIN public.users u ON u.id = l.user_id WHERE u.username = 'Ann'$$,
	$$VALUES ('signup', 10, 10, true)$$, 'the ledger row');
SELECT is((SELECT last_month FROM sparky.signup_grants LIMIT 1), to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM'), 'it is the month''s free grant');
DELETE FROM auth.users;
SELECT is_empty('SELECT FROM public.users', 'the profile goes with the account');
SELECT is((SELECT count(*) FROM public.credit_ledger), 8::bigint, 'the ledger stays');

-- the credits come with the confirmation, once
\set gus '''00000000-0000-0000-0000-000000000009'''
INSERT INTO auth.users (id, email, email_confirmed_at) VALUES (:gus, 'gus@example.com', NULL);
SELECT set_eq('TABLE balances', $$VALUES ('gus', 0, 0, 0, 1::bigint, true)$$, 'unconfirmed: a profile without credits');
UPDATE auth.users SET updated_at = now() WHERE id = :gus;
SELECT is((SELECT credits FROM balances), 0, 'nothing else confirms');
UPDATE auth.users SET phone_confirmed_at = now() WHERE id = :gus;
SELECT set_eq('TABLE balances', $$VALUES ('gus', 10, 10, 0, 1::bigint, true)$$, 'a confirmed phone does');
UPDATE auth.users SET email_confirmed_at = now() WHERE id = :gus;
UPDATE auth.users SET email_confirmed_at = NULL, phone_confirmed_at = NULL WHERE id = :gus;
UPDATE auth.users SET email_confirmed_at = now() WHERE id = :gus;
SELECT is((SELECT credits FROM balances), 10, 'once is once');
INSERT INTO auth.users (email, email_confirmed_at, is_anonymous) VALUES (NULL, now(), true);
SELECT is((SELECT credits FROM balances WHERE username = 'user'), 0, 'an anonymous account gets none');
UPDATE auth.users SET is_anonymous = false, email = 'hal@example.com' WHERE is_anonymous;
SELECT is((SELECT credits FROM balances WHERE username = 'user'), 10, 'until it is somebody''s');
UPDATE public.plans SET monthly_credits = 25 WHERE id = 1;
INSERT INTO auth.users (email) VALUES ('ida@example.com');
SELECT set_eq($$SELECT * FROM balances WHERE username = 'ida'$$, $$VALUES ('ida', 25, 25, 0, 1::bigint, true)$$, 'they are plan 1''s monthly credits');
UPDATE public.plans SET monthly_credits = 10 WHERE id = 1;

-- hand edits
UPDATE public.users SET credits = 3 WHERE id = :gus;
SELECT set_eq($$SELECT * FROM balances WHERE username = 'gus'$$, $$VALUES ('gus', 3, 3, 0, 1::bigint, true)$$, 'an edit is booked, the allowance cut');
UPDATE public.users SET credits = 50 WHERE id = :gus;
SELECT set_eq($$SELECT * FROM balances WHERE username = 'gus'$$, $$VALUES ('gus', 50, 3, 0, 1::bigint, true)$$, 'what is added is no allowance');
UPDATE public.users SET credits = 0, debt = 5 WHERE id = :gus;
SELECT set_eq($$SELECT * FROM balances WHERE username = 'gus'$$, $$VALUES ('gus', 0, 0, 5, 1::bigint, true)$$, 'a debt is booked');
UPDATE public.users SET username = 'Gus', plan_id = 2, credits = credits, debt = debt WHERE id = :gus;
SELECT results_eq(format($$SELECT kind, delta, balance_after FROM public.credit_ledger WHERE user_id = %L ORDER BY id$$, :gus),
	$$VALUES ('signup', 10, 10), ('adjustment', -7, 3), ('adjustment', 47, 50), ('adjustment', -55, -5)$$, 'a row for each change, none for none');
SELECT is((SELECT count(DISTINCT reference) FROM public.credit_ledger WHERE kind = 'adjustment'), 3::bigint, 'each with a reference of its own');
UPDATE public.users SET credits = u.credits + 1, debt = 0 FROM (SELECT id, credits FROM public.users) u WHERE u.id = users.id;
SELECT is_empty('SELECT FROM balances WHERE NOT agrees', 'many at once too');
SELECT lives_ok('MERGE INTO public.users u USING public.users v ON u.id = v.id WHEN MATCHED THEN UPDATE SET credits = 7', 'and by MERGE');
SELECT is_empty('SELECT FROM balances WHERE NOT agrees', 'all booked');

-- a profile made by hand takes the default of 10 credits, and that is booked
DELETE FROM public.users WHERE id = :gus;
INSERT INTO public.users (id, username) VALUES (:gus, 'again');
SELECT set_eq($$SELECT * FROM balances WHERE username = 'again'$$, $$VALUES ('again', 10, 0, 0, 1::bigint, true)$$, 'an INSERT by hand is booked against the ledger');
DELETE FROM public.users WHERE id = :gus;
SELECT is(sparky.repair(), '{}', 'repair() has nothing to say');
SELECT set_eq($$SELECT * FROM balances WHERE username = 'gus'$$, $$VALUES ('gus', 10, 0, 0, 1::bigint, true)$$, 'repair() makes a missing profile from the ledger');

-- sparky.book(): one movement, one row, no adjustment
SELECT sparky.book(:gus, 5, 'purchase', 'order-1', 0);
SELECT set_eq($$SELECT * FROM balances WHERE username = 'gus'$$, $$VALUES ('gus', 15, 0, 0, 1::bigint, true)$$, 'book() moves');
SELECT throws_ok(format('SELECT sparky.book(%L, 5, %L, %L, 0)', :gus, 'purchase', 'order-1'), '23505', NULL, 'the same movement is not booked twice');
SELECT throws_ok(format('SELECT sparky.book(%L, 5, %L, %L, 0)', :gus, 'gift', 'x'), '23514', NULL, 'kinds are a closed list');
SELECT is(sparky.booking(), false, 'the flag is down after an error');
UPDATE public.users SET credits = 1 WHERE id = :gus;
SELECT is((SELECT kind FROM public.credit_ledger ORDER BY id DESC LIMIT 1), 'adjustment', 'and edits are booked again');
SELECT is_empty('SELECT FROM balances WHERE NOT agrees', 'all agrees');

-- whatever fails here, the sign-up does not
SET LOCAL client_min_messages = error;
ALTER TABLE public.credit_ledger ADD CONSTRAINT planted CHECK (kind <> 'signup') NOT VALID;
SELECT lives_ok($$INSERT INTO auth.users (email) VALUES ('jan@example.com')$$, 'a sign-up without credits');
SELECT set_eq($$SELECT * FROM balances WHERE username = 'jan'$$, $$VALUES ('jan', 0, 0, 0, 1::bigint, true)$$, 'leaves the profile');
ALTER TABLE public.users ADD CONSTRAINT planted CHECK (username <> 'kim');
SELECT lives_ok($$INSERT INTO auth.users (email) VALUES ('kim@example.com')$$, 'a sign-up without a profile');
ALTER TABLE public.users RENAME TO hidden;
SELECT lives_ok($$INSERT INTO auth.users (email) VALUES ('lea@example.com')$$, 'a sign-up without even the table');
ALTER TABLE public.hidden RENAME TO users;
ALTER TABLE public.users DROP CONSTRAINT planted;
ALTER TABLE public.credit_ledger DROP CONSTRAINT planted;
SET LOCAL client_min_messages = warning;
SELECT is(sparky.repair(), '{}', 'repair() makes up for it');
SELECT set_eq($$SELECT * FROM balances WHERE username IN ('jan', 'kim', 'lea')$$, $$VALUES
	('jan', 10, 10, 0, 1::bigint, true), ('kim', 10, 10, 0, 1, true), ('lea', 10, 10, 0, 1, true)$$, 'profiles and credits are there');
CREATE TEMPORARY TABLE before AS SELECT * FROM public.credit_ledger;
SELECT is(sparky.repair(), '{}', 'a second repair()');
SELECT is_empty('TABLE public.credit_ledger EXCEPT TABLE before', 'books nothing');

SELECT * FROM finish();
ROLLBACK;
