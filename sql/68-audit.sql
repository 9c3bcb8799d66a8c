/*
 * audit(): every promise that the tables can be asked about.
 *
 * A check finds nothing in health: where data may rightly be gone (a deleted
 * account, rows past their retention, results a user deleted) it knows that.
 * What triggers and constraints already forbid is checked all the same: they
 * may have been switched off when it mattered.  All are STABLE, so one snapshot,
 * the calling statement's, serves them all.
 *
 * Speed.  A million charges mean five tables of a million rows, and joining
 * them takes long.  So each table is read once, in parallel, into a sum of 64-bit
 * hashes of the columns that must agree; equal sums mean equal sets of rows.
 * Only where two sums differ is the function called that joins and names the
 * rows.  Sums may differ in health too (at the edge of a retention time, after
 * results were deleted): then it finds nothing, and only took longer.
 */
CREATE FUNCTION sparky.audit_accounts(OUT "check" text, OUT subject text, OUT detail text) RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp SET work_mem = '96MB' SET jit = off AS $$
	SELECT 'credits_or_debt', u.id::text, format('credits %s, debt %s', u.credits, u.debt)
	FROM public.users u WHERE u.credits < 0 OR u.debt < 0 OR (u.credits > 0 AND u.debt > 0)
	UNION ALL
	SELECT 'allowance_within_credits', u.id::text, format('allowance %s, credits %s', u.allowance, u.credits)
	FROM public.users u WHERE u.allowance < 0 OR u.allowance > u.credits
	UNION ALL
	-- these two scan only where the unique key is not there to forbid it
	SELECT 'ledger_once', l.kind || ' ' || l.reference, format('booked %s times', count(*))
	FROM public.credit_ledger l WHERE NOT sparky.object_exists('constraint', 'public.credit_ledger', 'credit_ledger_kind_reference_key')
	GROUP BY l.kind, l.reference HAVING count(*) > 1
	UNION ALL
	SELECT 'one_charge_per_job', c.job_id::text, format('charged %s times', count(*))
	FROM public.credit_usage c WHERE c.job_id IS NOT NULL AND NOT sparky.object_exists('constraint', 'public.credit_usage', 'credit_usage_job_id_key')
	GROUP BY c.job_id HAVING count(*) > 1
	UNION ALL
	SELECT 'signup_has_grant', l.user_id::text, format('booked %s, not in signup_grants', l.delta)
	FROM public.credit_ledger l WHERE l.kind = 'signup' AND NOT EXISTS (SELECT FROM sparky.signup_grants g WHERE g.user_id = l.user_id)
	UNION ALL
	-- Plan 1 may give nothing: only since sign-ups have been booked at all.
	SELECT 'grant_has_signup', g.user_id::text, format('granted %s, nothing booked', g.granted_at)
	FROM sparky.signup_grants g LEFT JOIN public.credit_ledger l ON l.kind = 'signup' AND l.reference = g.user_id::text
	WHERE l.id IS NULL
		AND g.granted_at >= (SELECT min(f.created_at) FROM public.credit_ledger f WHERE f.kind = 'signup')
		AND (SELECT p.monthly_credits FROM public.plans p WHERE p.id = 1) > 0
	UNION ALL
	SELECT 'monthly_has_grant', l.reference, format('booked %s; last_month of the grant is %s', l.delta, coalesce(g.last_month, 'missing'))
	FROM public.credit_ledger l LEFT JOIN sparky.signup_grants g ON g.user_id = l.user_id
	WHERE l.kind = 'monthly' AND (g.user_id IS NULL OR g.last_month < split_part(l.reference, ':', 2))
	UNION ALL
	SELECT 'account_has_profile', a.id::text, 'no row in public.users: run SELECT sparky.repair()'
	FROM auth.users a WHERE NOT EXISTS (SELECT FROM public.users u WHERE u.id = a.id)
$$;
COMMENT ON FUNCTION sparky.audit_accounts(OUT text, OUT text, OUT text) IS
'The checks of audit() on accounts, balances, ledger and grants.

Called by audit() only, with the data owner''s rights.';

CREATE FUNCTION sparky.audit_charges(OUT "check" text, OUT subject text, OUT detail text) RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp SET work_mem = '64MB' SET jit = off AS $$
	-- A movement of 0 has no ledger row; an account that is gone took its charges along.
	SELECT CASE WHEN l.id IS NULL THEN 'usage_has_ledger' WHEN c.id IS NULL THEN 'ledger_has_usage' ELSE 'usage_equals_ledger' END,
		coalesce(c.job_id::text, l.reference),
		format('user %s: usage %s, ledger %s of user %s', c.user_id, c.credits_used, l.delta, l.user_id)
	FROM (SELECT * FROM public.credit_usage u WHERE u.job_id IS NOT NULL) c
		FULL JOIN (SELECT * FROM public.credit_ledger k WHERE k.kind = 'usage') l ON l.reference = c.job_id::text
	WHERE (l.id IS NULL AND c.credits_used <> 0)
		OR (c.id IS NULL AND EXISTS (SELECT FROM public.users u WHERE u.id = l.user_id))
		OR l.delta <> -c.credits_used OR l.user_id <> c.user_id
	UNION ALL
	SELECT CASE WHEN c.id IS NULL THEN 'succeeded_job_has_usage' ELSE 'job_equals_usage' END,
		j.id::text, format('held %s, charged %s', j.credits_held, c.credits_used)
	FROM public.generation_jobs j LEFT JOIN public.credit_usage c ON c.job_id = j.id
	WHERE j.status = 'succeeded' AND (c.id IS NULL OR c.credits_used <> j.credits_held OR c.user_id <> j.user_id)
	UNION ALL
	SELECT 'charged_job_succeeded', j.id::text, j.status
	FROM public.generation_jobs j JOIN public.credit_usage c ON c.job_id = j.id WHERE j.status <> 'succeeded'
	UNION ALL
	SELECT CASE WHEN k.charged_bad > 0 THEN 'charged_call_is_good' WHEN k.charged > 1 THEN 'one_charged_call_per_job' ELSE 'charged_call_has_usage' END,
		k.job_id::text, format('%s charged calls, %s of them not good', k.charged, k.charged_bad)
	FROM (SELECT p.job_id, p.user_id, count(*) AS charged, count(*) FILTER (WHERE p.outcome IS DISTINCT FROM 'ok') AS charged_bad
			FROM sparky.provider_calls p WHERE p.charged GROUP BY p.job_id, p.user_id) k
		LEFT JOIN public.credit_usage c ON c.job_id = k.job_id
	WHERE k.charged_bad > 0 OR k.charged > 1 OR (c.id IS NULL AND EXISTS (SELECT FROM public.users u WHERE u.id = k.user_id))
	UNION ALL
	-- calls past their retention may be gone
	SELECT CASE WHEN EXISTS (SELECT FROM sparky.provider_calls p WHERE p.job_id = c.job_id AND p.outcome = 'ok')
			THEN 'usage_has_charged_call' ELSE 'success_has_good_call' END,
		c.job_id::text, format('charged %s, and no call says so', c.created_at)
	FROM public.credit_usage c
	WHERE c.job_id IS NOT NULL AND NOT EXISTS (SELECT FROM sparky.provider_calls p WHERE p.job_id = c.job_id AND p.charged)
		AND c.created_at > now() - sparky.setting_interval('sparky.provider_call_retention', '400 days') + interval '2 days'
$$;
COMMENT ON FUNCTION sparky.audit_charges(OUT text, OUT text, OUT text) IS
'The checks of audit() that a charge has its movement, job and call, and these their charge.

Called by audit() only, when sums differ.';

CREATE FUNCTION sparky.audit_balances(OUT "check" text, OUT subject text, OUT detail text) RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp SET work_mem = '64MB' SET jit = off AS $$
	SELECT 'balance_is_ledger_sum', u.id::text, format('credits %s - debt %s, ledger %s', u.credits, u.debt, coalesce(l.booked, 0))
	FROM public.users u LEFT JOIN (SELECT b.user_id, sum(b.delta) AS booked FROM public.credit_ledger b GROUP BY b.user_id) l ON l.user_id = u.id
	WHERE u.credits::bigint - u.debt <> coalesce(l.booked, 0)
	UNION ALL
	SELECT 'ledger_chain', c.id::text, format('user %s: balance_after %s, expected %s', c.user_id, c.balance_after, c.before::bigint + c.delta)
	FROM (SELECT l.id, l.user_id, l.delta, l.balance_after, lag(l.balance_after, 1, 0) OVER (PARTITION BY l.user_id ORDER BY l.id) AS before
		FROM public.credit_ledger l) c
	WHERE c.balance_after::bigint <> c.before::bigint + c.delta
$$;
COMMENT ON FUNCTION sparky.audit_balances(OUT text, OUT text, OUT text) IS
'The checks of audit() that a balance is the sum of its ledger, and each movement starts where the one before ended.

Called by audit() only, when sums differ.';

CREATE FUNCTION sparky.audit_results(OUT "check" text, OUT subject text, OUT detail text) RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp SET work_mem = '64MB' SET jit = off AS $$
	-- a result that its user deleted has taken the job's own copy with it
	SELECT 'succeeded_job_has_result', j.id::text, format('result %s', j.result - 'analysis')
	FROM public.generation_jobs j
	WHERE j.status = 'succeeded' AND j.result ?| ARRAY['image_path', 'analysis'] AND NOT EXISTS (SELECT FROM public.generations g WHERE g.job_id = j.id)
	UNION ALL
	SELECT CASE WHEN c.id IS NULL THEN 'result_has_usage' ELSE 'result_equals_usage' END, g.id::text,
		format('job %s of user %s, charged to %s for result %s', g.job_id, g.user_id, c.user_id, c.generation_id)
	FROM public.generations g LEFT JOIN public.credit_usage c ON c.job_id = g.job_id
	WHERE g.job_id IS NOT NULL AND (c.id IS NULL OR c.generation_id IS DISTINCT FROM g.id OR c.user_id <> g.user_id)
$$;
COMMENT ON FUNCTION sparky.audit_results(OUT text, OUT text, OUT text) IS
'The checks of audit() that a result was charged, and a job that succeeded has its result.

Called by audit() only, when sums differ.';

CREATE FUNCTION sparky.audit_job_rows(OUT "check" text, OUT subject text, OUT detail text) RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp SET work_mem = '64MB' SET jit = off AS $$
	SELECT p.name, j.id::text, format('%s, holds %s, incarnation %s, lease_until %s, deadline %s, finished_at %s, error %s', j.status, j.credits_held,
		coalesce(j.incarnation::text, '-'), coalesce(j.lease_until::text, '-'), j.deadline, coalesce(j.finished_at::text, '-'), coalesce(j.error_code, '-'))
	FROM public.generation_jobs j,
		LATERAL (VALUES
			('ended_job_holds_nothing', j.status IN ('failed', 'cancelled') AND j.credits_held <> 0),
			('job_end_has_time', (j.status IN ('succeeded', 'failed', 'cancelled')) <> (j.finished_at IS NOT NULL)),
			('failed_job_has_error', j.status = 'failed' AND j.error_code IS NULL),
			('lease', CASE WHEN j.status IN ('fetching', 'generating') THEN j.incarnation IS NULL OR j.lease_until IS NULL
				WHEN j.status = 'storing' THEN j.incarnation IS NULL
				WHEN j.status = 'cancelled' THEN j.lease_until IS NOT NULL
				ELSE j.incarnation IS NOT NULL OR j.lease_until IS NOT NULL END),
			-- the worker ends them within a second, the job cleanup-jobs within five minutes
			('deadline', j.status IN ('queued', 'fetching', 'generating') AND j.deadline < now() - interval '10 minutes')) p(name, broken)
	WHERE p.broken
$$;
COMMENT ON FUNCTION sparky.audit_job_rows(OUT text, OUT text, OUT text) IS
'The checks of audit() that each job agrees with itself.

Called by audit() only, when one does not.';

CREATE FUNCTION sparky.audit_jobs(OUT "check" text, OUT subject text, OUT detail text) RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp SET work_mem = '64MB' SET jit = off AS $$
	SELECT 'one_active_job_per_key', j.cache_key, format('%s active jobs', count(*))
	FROM public.generation_jobs j WHERE j.status IN ('queued', 'fetching', 'generating', 'answered', 'storing')
	GROUP BY j.cache_key HAVING count(*) > 1
	UNION ALL
	SELECT 'storage_deadline', j.id::text, format('%s since %s', j.status, a.answered_at)
	FROM public.generation_jobs j JOIN sparky.answers a ON a.job_id = j.id
	WHERE j.status IN ('answered', 'storing')
		AND a.answered_at < now() - sparky.setting_interval('sparky.storage_deadline', '24 hours') - interval '10 minutes'
	UNION ALL
	SELECT 'answer_has_job', a.job_id::text, format('job is %s', coalesce(j.status, 'missing'))
	FROM sparky.answers a LEFT JOIN public.generation_jobs j ON j.id = a.job_id
	WHERE j.status IS NULL OR j.status NOT IN ('answered', 'storing')
	UNION ALL
	SELECT 'answered_job_has_answer', j.id::text, j.status
	FROM public.generation_jobs j
	WHERE j.status IN ('fetching', 'generating', 'answered', 'storing') AND j.status IN ('answered', 'storing')	-- as the partial index has it
		AND NOT EXISTS (SELECT FROM sparky.answers a WHERE a.job_id = j.id)
	UNION ALL
	SELECT 'request_key_has_job', r.user_id || ' ' || r.key, format('job %s is missing', r.job_id)
	FROM sparky.request_keys r WHERE r.job_id IS NOT NULL AND NOT EXISTS (SELECT FROM public.generation_jobs j WHERE j.id = r.job_id)
	UNION ALL
	SELECT 'call_has_end', p.id::text, format('call of job %s began %s', p.job_id, p.started_at)
	FROM sparky.provider_calls p
	WHERE p.outcome IS NULL AND p.started_at < now() - interval '10 minutes'
		AND NOT EXISTS (SELECT FROM public.generation_jobs j WHERE j.id = p.job_id AND j.status IN ('fetching', 'generating'))
$$;
COMMENT ON FUNCTION sparky.audit_jobs(OUT text, OUT text, OUT text) IS
'The checks of audit() on the state of jobs, answers, idempotency keys and calls.

Called by audit() only, with the data owner''s rights.';

CREATE FUNCTION sparky.audit_files(OUT "check" text, OUT subject text, OUT detail text) RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp SET work_mem = '64MB' SET jit = off AS $$
	SELECT 'file_has_object', f.object_id::text, format('%s bytes', f.size)
	FROM sparky.stored_files f WHERE NOT EXISTS (SELECT FROM storage.objects o WHERE o.id = f.object_id)
	UNION ALL
	-- embedded: row and bytes are one commit. The digest is not computed anew: that would read every photo.
	-- Rows of user_uploads a client may insert, rename and fill as he likes: what they say is no promise of ours.
	SELECT CASE WHEN f.object_id IS NULL THEN 'object_has_file' ELSE 'file_facts' END, o.bucket_id || '/' || o.name,
		format('metadata say %s bytes of %s, the file has %s of %s', o.metadata ->> 'size', o.metadata ->> 'mimetype', octet_length(f.bytes), f.mime_type)
	FROM storage.objects o LEFT JOIN sparky.stored_files f ON f.object_id = o.id
	WHERE o.bucket_id IN ('user_uploads', 'generations') AND sparky.storage_is_ours()
		AND (f.size <> octet_length(f.bytes) OR o.bucket_id = 'generations' AND (f.object_id IS NULL
			OR o.metadata ->> 'size' IS DISTINCT FROM f.size::text OR o.metadata ->> 'mimetype' IS DISTINCT FROM f.mime_type))
	UNION ALL
	SELECT 'result_has_object', m.id::text, m.image_url
	FROM (SELECT g.id, g.image_url, substr(g.image_url, 13) AS name FROM public.generations g
		WHERE g.image_url LIKE 'generations/%'
			AND NOT EXISTS (SELECT FROM storage.objects o WHERE o.bucket_id = 'generations' AND o.name = substr(g.image_url, 13)) OFFSET 0) m
	WHERE NOT EXISTS (SELECT FROM sparky.erasures e WHERE e.bucket_id = 'generations' AND e.name = m.name)
$$;
COMMENT ON FUNCTION sparky.audit_files(OUT text, OUT text, OUT text) IS
'The checks of audit() that a file has its object, an object its file, a result its object.

Called by audit() only, when sums differ.';

CREATE FUNCTION sparky.audit_cache(OUT "check" text, OUT subject text, OUT detail text) RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp SET work_mem = '64MB' SET jit = off AS $$
	SELECT 'cache_entry', k.key, CASE
			WHEN k.sound IS NOT TRUE THEN 'has neither a result nor the shape of one'
			WHEN g.id IS NULL THEN format('generation %s is gone', k.generation_id)
			ELSE format('it leads to %s, its result to %s', coalesce(k.image_path, 'an analysis'), coalesce(g.image_url, 'an analysis')) END
	FROM (SELECT c.key, c.value ->> 'image_path' AS image_path,
			CASE WHEN c.value ->> 'generation_id' ~ '^[0-9]{1,18}$' THEN (c.value ->> 'generation_id')::bigint END AS generation_id,
			c.value ->> 'generation_id' ~ '^[0-9]{1,18}$' AND (c.value ? 'image_path') <> (c.value ? 'analysis') AS sound
		FROM cache.kv_store c WHERE c.expires_at > now()) k
		LEFT JOIN public.generations g ON g.id = k.generation_id
	-- that the result's own object exists is result_has_object
	WHERE k.sound IS NOT TRUE OR g.id IS NULL OR k.image_path IS DISTINCT FROM g.image_url
$$;
COMMENT ON FUNCTION sparky.audit_cache(OUT text, OUT text, OUT text) IS
'The check of audit() that a cache entry leads to a result.

Called by audit() only, when a count is wrong.';

CREATE FUNCTION sparky.audit_orders(OUT "check" text, OUT subject text, OUT detail text) RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp SET work_mem = '64MB' SET jit = off AS $$
	-- what was booked for an account that is gone stays, without all that went with it
	SELECT 'order_state', o.id::text, format('%s, paid_at %s, %s of %s cents given back', o.status, coalesce(o.paid_at::text, '-'), o.refunded_cents, o.amount_cents)
	FROM public.orders o
	WHERE CASE WHEN o.status = 'paid' THEN o.paid_at IS NULL OR o.refunded_cents = o.amount_cents
		WHEN o.status IN ('refunded', 'voided') THEN o.paid_at IS NULL OR o.refunded_cents <> o.amount_cents
		ELSE o.paid_at IS NOT NULL OR o.refunded_cents <> 0 END
	UNION ALL
	SELECT CASE WHEN o.id IS NULL THEN 'purchase_has_order' WHEN l.id IS NULL THEN 'order_has_purchase' ELSE 'purchase_equals_order' END,
		coalesce(o.id::text, l.reference), format('%s credits for user %s, booked %s for user %s', o.credits, o.user_id, l.delta, l.user_id)
	FROM (SELECT * FROM public.orders s WHERE s.kind = 'credits' AND s.status IN ('paid', 'refunded', 'voided')) o
		FULL JOIN (SELECT * FROM public.credit_ledger k WHERE k.kind = 'purchase') l ON l.reference = o.id::text
	WHERE (l.id IS NULL AND EXISTS (SELECT FROM public.users u WHERE u.id = o.user_id))
		OR (o.id IS NULL AND EXISTS (SELECT FROM public.users u WHERE u.id = l.user_id))
		OR l.delta <> o.credits OR l.user_id <> o.user_id
	UNION ALL
	SELECT 'refund_equals_order', coalesce(o.id::text, r.reference), format('%s of %s cents given back for %s credits, %s taken back',
		o.refunded_cents, o.amount_cents, o.credits, coalesce(r.taken, 0))
	FROM (SELECT s.*, (s.credits::bigint * s.refunded_cents + s.amount_cents - 1) / s.amount_cents AS due FROM public.orders s WHERE s.kind = 'credits') o
		FULL JOIN (SELECT split_part(k.reference, ':', 1) AS reference, k.user_id, -sum(k.delta) AS taken FROM public.credit_ledger k
			WHERE k.kind = 'refund' GROUP BY 1, 2) r ON r.reference = o.id::text
	WHERE coalesce(o.due, 0) <> coalesce(r.taken, 0) AND EXISTS (SELECT FROM public.users u WHERE u.id IN (o.user_id, r.user_id))
	UNION ALL
	SELECT CASE WHEN o.id IS NULL THEN 'period_has_order' WHEN p.id IS NULL THEN 'order_has_period' ELSE 'period_equals_order' END,
		coalesce(o.id, p.order_id)::text, format('plan %s for user %s, %s, %s of %s cents given back; period of plan %s for user %s, reversed %s',
			o.plan_id, o.user_id, o.status, o.refunded_cents, o.amount_cents, p.plan_id, p.user_id, coalesce(p.reversed_at::text, '-'))
	FROM (SELECT * FROM public.orders s WHERE s.kind = 'plan' AND s.status IN ('paid', 'refunded', 'voided')) o
		FULL JOIN (SELECT * FROM sparky.plan_periods k WHERE k.order_id IS NOT NULL) p ON p.order_id = o.id
	WHERE (p.id IS NULL AND EXISTS (SELECT FROM public.users u WHERE u.id = o.user_id))
		OR o.id IS NULL OR p.plan_id <> o.plan_id OR p.user_id <> o.user_id
		OR p.reversed_at IS NULL AND p.id IS NOT NULL AND o.refunded_cents = o.amount_cents
		OR p.reversed_at IS NOT NULL AND o.refunded_cents <> o.amount_cents
$$;
COMMENT ON FUNCTION sparky.audit_orders(OUT text, OUT text, OUT text) IS
'The checks of audit() that what was paid was given, what was given back was taken back, and nothing else.

Called by audit() only, with the data owner''s rights.';

CREATE FUNCTION sparky.audit_plans(OUT "check" text, OUT subject text, OUT detail text) RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp SET work_mem = '64MB' SET jit = off AS $$
	SELECT 'plan_mirror', o.user_id::text, format('the row says plan %s until %s, the periods plan %s until %s', o.plan_id,
		coalesce(o.plan_expires_at::text, 'infinity'), o.period_plan_id, coalesce(o.period_ends_at::text, 'infinity'))
	FROM sparky.plans_out_of_step() o
	UNION ALL
	SELECT CASE WHEN p.id IS NULL THEN 'grant_has_period' WHEN l.id IS NULL THEN 'period_has_grant' ELSE 'grant_equals_period' END,
		coalesce(p.id::text, l.reference), format('period of user %s granted %s, booked %s for user %s', p.user_id, p.granted, l.delta, l.user_id)
	FROM (SELECT * FROM sparky.plan_periods k WHERE k.granted <> 0) p
		FULL JOIN (SELECT * FROM public.credit_ledger k WHERE k.kind = 'period') l ON l.reference = p.id::text
	WHERE l.id IS NULL OR (p.id IS NULL AND EXISTS (SELECT FROM public.users u WHERE u.id = l.user_id))
		OR l.delta <> p.granted OR l.user_id <> p.user_id
	UNION ALL
	SELECT 'clawback_equals_period', coalesce(p.order_id::text, c.reference), format('granted %s, reversed %s, taken back %s', p.granted,
		coalesce(p.reversed_at::text, '-'), coalesce(c.taken, 0))
	FROM (SELECT k.*, CASE WHEN k.reversed_at IS NOT NULL THEN coalesce(k.granted, 0) ELSE 0 END AS due FROM sparky.plan_periods k WHERE k.order_id IS NOT NULL) p
		FULL JOIN (SELECT split_part(k.reference, ':', 1) AS reference, k.user_id, -sum(k.delta) AS taken FROM public.credit_ledger k
			WHERE k.kind = 'clawback' GROUP BY 1, 2) c ON c.reference = p.order_id::text
	WHERE coalesce(p.due, 0) <> coalesce(c.taken, 0) AND EXISTS (SELECT FROM public.users u WHERE u.id IN (p.user_id, c.user_id))
	UNION ALL
	SELECT 'grant_once_per_address', g.address_digest, format('granted to %s accounts', count(*))
	FROM sparky.signup_grants g WHERE NOT sparky.object_exists('constraint', 'sparky.signup_grants', 'signup_grants_address_digest_key')
	GROUP BY g.address_digest HAVING count(*) > 1 AND g.address_digest IS NOT NULL
$$;
COMMENT ON FUNCTION sparky.audit_plans(OUT text, OUT text, OUT text) IS
'The checks of audit() on plans: their periods, what these granted, and what the users'' rows say of them.

Called by audit() only, with the data owner''s rights.';

CREATE FUNCTION sparky.audit_payments(OUT "check" text, OUT subject text, OUT detail text) RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp SET work_mem = '64MB' SET jit = off AS $$
	SELECT 'event_is_matched', e.id::text, format('of Paymob''s order %s, which is %s; noted as of %s', e.paymob_order_id, coalesce(o.id::text, 'unknown'),
		coalesce(e.order_id::text, 'none'))
	FROM public.payment_events e LEFT JOIN public.orders o ON o.intention_order_id = e.paymob_order_id
	-- what is not ours need not be about an order of ours, whatever it claims
	WHERE e.order_id IS DISTINCT FROM o.id AND (e.ours OR e.order_id IS NOT NULL)
	UNION ALL
	SELECT 'fulfilled_event_has_order', e.id::text, format('of order %s, which is %s', coalesce(e.order_id::text, 'unknown'), coalesce(o.status, 'missing'))
	FROM public.payment_events e LEFT JOIN public.orders o ON o.id = e.order_id
	WHERE e.outcome IN ('fulfilled', 'account_gone') AND (o.id IS NULL OR o.status NOT IN ('paid', 'refunded', 'voided'))
	UNION ALL
	SELECT 'paid_order_has_event', o.id::text, format('%s since %s', o.status, o.paid_at)
	FROM public.orders o
	WHERE o.status IN ('paid', 'refunded', 'voided')
		AND NOT EXISTS (SELECT FROM public.payment_events e WHERE e.order_id = o.id AND e.outcome IN ('fulfilled', 'account_gone'))
	UNION ALL
	-- one is told of by more than one event; what is signed of it is both numbers, one after the other
	SELECT 'one_payment_per_order', e.order_id::text, format('fulfilled by transactions %s', string_agg(DISTINCT e.transaction_id::text, ', '))
	FROM (SELECT k.order_id FROM public.payment_events k WHERE k.outcome = 'fulfilled' AND k.order_id IS NOT NULL
			GROUP BY k.order_id HAVING min(k.transaction_id) <> max(k.transaction_id)) suspect
		JOIN public.payment_events e ON e.order_id = suspect.order_id AND e.outcome = 'fulfilled'
	GROUP BY e.order_id HAVING count(DISTINCT e.transaction_id::text || e.integration_id) > 1
	UNION ALL
	SELECT 'payment_has_event', p.id::text, format('%s of Paymob''s order %s', p.status, p.paymob_order_id)
	FROM public.payments p WHERE NOT EXISTS (SELECT FROM public.payment_events e WHERE e.paymob_order_id = p.paymob_order_id)
	UNION ALL
	SELECT 'payment_equals_order', o.id::text, format('%s, %s of %s %s given back; payment %s, %s of %s %s', o.status, o.refunded_cents, o.amount_cents, o.currency,
		coalesce(p.status, 'is missing'), p.refunded_cents, p.amount_cents, p.currency)
	FROM public.orders o LEFT JOIN public.payments p ON p.paymob_order_id = o.intention_order_id
	WHERE o.status IN ('paid', 'refunded', 'voided')
		AND (p.id IS NULL OR p.order_id IS DISTINCT FROM o.id OR p.user_id <> o.user_id OR p.merchant_order_id <> o.merchant_order_id
			OR p.refunded_cents <> o.refunded_cents OR p.amount_cents <> o.amount_cents OR p.currency <> o.currency
			-- it only moves forward: paid once more after a refund it stays what it was
			OR p.status NOT IN ('REFUNDED', 'VOIDED') AND (o.status <> 'paid' OR p.status NOT IN ('SUCCESS', 'PARTIALLY_REFUNDED')))
$$;
COMMENT ON FUNCTION sparky.audit_payments(OUT text, OUT text, OUT text) IS
'The checks of audit() that orders, payments and what Paymob reported agree.

Called by audit() only, with the data owner''s rights.';

CREATE FUNCTION sparky.audit() RETURNS TABLE ("check" text, subject text, detail text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET work_mem = '64MB' SET jit = off AS $$
#variable_conflict use_column
DECLARE
	embedded	boolean := sparky.storage_is_ours();
	jobs_since	timestamptz := now() - sparky.setting_interval('sparky.job_retention', '90 days') + interval '1 day';
	calls_since	timestamptz := now() - sparky.setting_interval('sparky.provider_call_retention', '400 days') + interval '2 days';
BEGIN
	RETURN QUERY SELECT * FROM sparky.audit_accounts();
	RETURN QUERY SELECT * FROM sparky.audit_orders();
	RETURN QUERY SELECT * FROM sparky.audit_plans();
	RETURN QUERY SELECT * FROM sparky.audit_payments();
	RETURN QUERY SELECT * FROM sparky.audit_jobs();

	-- RETURN QUERY, because its plan may be parallel.
	RETURN QUERY
	SELECT d.* FROM
		(SELECT count(*) AS n FROM cache.kv_store c WHERE c.expires_at > now()) entries,
		(SELECT count(*) AS n
		FROM (SELECT CASE WHEN c.value ->> 'generation_id' ~ '^[0-9]{1,18}$' THEN (c.value ->> 'generation_id')::bigint END AS generation_id,
					c.value ->> 'image_path' AS image_path, c.value ? 'analysis' AS analysed
				FROM cache.kv_store c WHERE c.expires_at > now()) k
			JOIN public.generations g ON g.id = k.generation_id AND g.image_url IS NOT DISTINCT FROM k.image_path
				AND (g.image_url IS NULL) = k.analysed) sound,
		LATERAL sparky.audit_cache() d
	WHERE entries.n <> sound.n;

	RETURN QUERY
	SELECT 'erasure_done', e.bucket_id || '/' || e.name, format('asked for %s, %s tries: %s', e.created_at, e.attempts, coalesce(e.last_error, 'none yet'))
	FROM sparky.erasures e WHERE e.created_at < now() - interval '2 days';

	RETURN QUERY
	-- What a service key uploaded, results above all, has no owner_id: its folder tells, if that is of an account which was ours.
	WITH gone AS MATERIALIZED (
		SELECT o.owner, o.owned FROM (SELECT coalesce(s.owner_id, split_part(s.name, '/', 1)) AS owner, s.owner_id IS NOT NULL AS owned FROM storage.objects s
				WHERE s.bucket_id IN ('user_uploads', 'generations') GROUP BY 1, 2) o
			LEFT JOIN auth.users a ON a.id::text = o.owner
		WHERE a.id IS NULL AND (o.owned OR EXISTS (SELECT FROM public.credit_ledger l
			WHERE l.user_id = CASE WHEN o.owner ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN o.owner::uuid END))
	)
	SELECT 'file_has_owner', o.bucket_id || '/' || o.name, format('account %s is gone', gone.owner)
	FROM gone JOIN storage.objects o ON coalesce(o.owner_id, split_part(o.name, '/', 1)) = gone.owner AND (o.owner_id IS NOT NULL) = gone.owned
	WHERE o.bucket_id IN ('user_uploads', 'generations')
		AND (NOT embedded OR EXISTS (SELECT FROM sparky.stored_files f WHERE f.object_id = o.id))	-- a client may insert a row, but no file
		AND NOT EXISTS (SELECT FROM sparky.erasures e WHERE e.bucket_id = o.bucket_id AND e.name = o.name);

	RETURN QUERY
	SELECT d.* FROM (SELECT count(*) AS jobs FROM public.generation_jobs j
			WHERE CASE j.status WHEN 'succeeded' THEN j.finished_at IS NULL OR j.incarnation IS NOT NULL OR j.lease_until IS NOT NULL
				WHEN 'failed' THEN j.finished_at IS NULL OR j.incarnation IS NOT NULL OR j.lease_until IS NOT NULL OR j.credits_held <> 0 OR j.error_code IS NULL
				WHEN 'cancelled' THEN j.finished_at IS NULL OR j.lease_until IS NOT NULL OR j.credits_held <> 0
				ELSE true END) suspect,		-- active ones are few: each is looked at
		LATERAL sparky.audit_job_rows() d
	WHERE suspect.jobs > 0;

	-- A hash takes the columns before it as its seed.
	-- The balances before all movements, and the last one, are those after all movements, and the first, which is 0.
	RETURN QUERY
	SELECT d.* FROM (SELECT count(*) AS users FROM public.users u
			LEFT JOIN (SELECT k.user_id, sum(k.delta) AS booked, sum(hashint8extended(k.balance_after::bigint - k.delta, 0)) AS before,
					sum(hashint8extended(k.balance_after, 0)) AS after
				FROM public.credit_ledger k GROUP BY k.user_id) l ON l.user_id = u.id
			WHERE u.credits::bigint - u.debt <> coalesce(l.booked, 0)
				OR l.before + hashint8extended(u.credits::bigint - u.debt, 0) <> l.after + hashint8extended(0, 0)) wrong,
		LATERAL sparky.audit_balances() d
	WHERE wrong.users > 0;

	RETURN QUERY
	SELECT d.* FROM
		(SELECT sum(hashtextextended(u.job_id::text, uuid_hash_extended(u.user_id, -u.credits_used))) FILTER (WHERE u.credits_used <> 0) AS movements,
			sum(uuid_hash_extended(u.job_id, uuid_hash_extended(u.user_id, u.credits_used))) FILTER (WHERE u.created_at >= jobs_since) AS jobs,
			sum(uuid_hash_extended(u.job_id, uuid_hash_extended(u.user_id, 0))) FILTER (WHERE u.created_at >= calls_since) AS calls
		FROM public.credit_usage u WHERE u.job_id IS NOT NULL) c,
		(SELECT sum(hashtextextended(k.reference, uuid_hash_extended(k.user_id, k.delta))) AS movements
		FROM public.credit_ledger k JOIN public.users u ON u.id = k.user_id WHERE k.kind = 'usage') l,
		(SELECT sum(uuid_hash_extended(k.id, uuid_hash_extended(k.user_id, k.credits_held))) AS jobs
		FROM public.generation_jobs k WHERE k.status = 'succeeded' AND k.finished_at >= jobs_since) j,
		(SELECT sum(uuid_hash_extended(k.job_id, uuid_hash_extended(k.user_id, 0))) AS calls, count(*) FILTER (WHERE k.outcome IS DISTINCT FROM 'ok') AS bad
		FROM sparky.provider_calls k JOIN public.users u ON u.id = k.user_id WHERE k.charged AND k.finished_at >= calls_since) p,
		LATERAL sparky.audit_charges() d
	WHERE c.movements IS DISTINCT FROM l.movements OR c.jobs IS DISTINCT FROM j.jobs OR c.calls IS DISTINCT FROM p.calls OR p.bad > 0;

	RETURN QUERY
	SELECT d.* FROM
		(SELECT sum(uuid_hash_extended(u.job_id, uuid_hash_extended(u.user_id, u.generation_id))) AS results
		FROM public.credit_usage u WHERE u.job_id IS NOT NULL) c,
		(SELECT sum(uuid_hash_extended(k.job_id, uuid_hash_extended(k.user_id, k.id))) AS results
		FROM public.generations k WHERE k.job_id IS NOT NULL) g,
		LATERAL sparky.audit_results() d
	WHERE c.results IS DISTINCT FROM g.results;

	RETURN QUERY
	SELECT d.* FROM
		(SELECT sum(hashtextextended(k.metadata ->> 'mimetype', hashtextextended(k.metadata ->> 'size', uuid_hash_extended(k.id, 0)))) AS files, count(*) AS n,
			sum(hashtextextended(k.name, 0)) FILTER (WHERE k.bucket_id = 'generations') AS results
		FROM storage.objects k WHERE k.bucket_id IN ('user_uploads', 'generations')) o,
		(SELECT sum(hashtextextended(k.mime_type, hashtextextended(octet_length(k.bytes)::text, uuid_hash_extended(k.object_id, 0)))) AS files, count(*) AS n,
			count(*) FILTER (WHERE k.size <> octet_length(k.bytes)) AS bad
		FROM sparky.stored_files k) f,
		(SELECT sum(hashtextextended(substr(k.image_url, 13), 0)) AS results FROM public.generations k WHERE k.image_url LIKE 'generations/%') g,
		LATERAL sparky.audit_files() d
	WHERE (embedded AND (o.files IS DISTINCT FROM f.files OR o.n <> f.n OR f.bad > 0)) OR o.results IS DISTINCT FROM g.results;
END
$$;
COMMENT ON FUNCTION sparky.audit() IS
'Check every promise about money, payments, jobs, cache and storage; no rows in health.

check: the promise that is broken; subject: the id or path it is broken for; detail: what was found. Reads whole tables, a few seconds for a million charges, in one snapshot; photos'' digests are not computed anew.';
