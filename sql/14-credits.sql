/*
 * Credits: what the scheduled tidying calls beside the worker.
 */
CREATE FUNCTION sparky.grant_monthly(user_id uuid, at timestamptz DEFAULT pg_catalog.now())
RETURNS boolean LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'sparky_grant_monthly';
COMMENT ON FUNCTION sparky.grant_monthly(uuid, timestamptz) IS
'Give a user the free plan''s grant of a UTC month, if it is due.

at: the moment whose month and effective plan count. What an acceptance does by itself: nobody has to call this. Tops the allowance up to plan 1''s monthly credits, once a month, only while plan 1 is the effective plan and only for an account that had the sign-up credits; missed months are not made up for.
Returns true if the month was granted now, whatever the amount; false if it was not due; NULL for a NULL argument.';

CREATE FUNCTION sparky.refresh_plans(user_id uuid, at timestamptz DEFAULT pg_catalog.now())
RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'sparky_refresh_plans';
COMMENT ON FUNCTION sparky.refresh_plans(uuid, timestamptz) IS
'Book every grant of a user that is due, and bring users.plan_id and plan_expires_at in step with his periods.

at: the moment that counts. What an acceptance does by itself, and the job cleanup-plans for everybody. Notifies the user when a plan of his has ended. Nothing happens for a NULL.';

CREATE FUNCTION sparky.buy_plan(order_id uuid, at timestamptz DEFAULT pg_catalog.now())
RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'sparky_buy_plan';
COMMENT ON FUNCTION sparky.buy_plan(uuid, timestamptz) IS
'Make the period of a plan order, unless it has one, and book its grant once it has begun.

at: the moment of the payment. The part of a payment''s fulfilment that concerns plans; the order itself is not looked at further, nor changed. The same plan again starts when its last period ends, a lower one when the higher ones have ended, a higher one at once. Nothing happens where the buyer is gone, or for a NULL.';

CREATE FUNCTION sparky.reverse_plan(order_id uuid, at timestamptz, reference text)
RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'sparky_reverse_plan';
COMMENT ON FUNCTION sparky.reverse_plan(uuid, timestamptz, text) IS
'End the period of a plan order that was given back, and take back what its grant booked.

at: the moment of the reversal; reference: of the ledger row, order id:cents. Allowance goes first, then credits; the rest becomes debt. Periods that waited behind it move forward. A second call does nothing, nor does a NULL.';

CREATE FUNCTION sparky.restore_plan(order_id uuid, at timestamptz)
RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'sparky_restore_plan';
COMMENT ON FUNCTION sparky.restore_plan(uuid, timestamptz) IS
'Let the reversed period of a plan order begin anew, and give back what was taken back.

at: the moment of the other payment because of which the order stands after all. Nothing happens unless it was reversed, or for a NULL.';

CREATE FUNCTION sparky.put_plan(user_id uuid, plan_id bigint, expires timestamptz, at timestamptz)
RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'sparky_put_plan';
COMMENT ON FUNCTION sparky.put_plan(uuid, bigint, timestamptz, timestamptz) IS
'Make a user''s periods say what was written into his row by hand.

expires: NULL: no end. Higher periods end at that moment, those of the plan at expires at the latest; plan 1 ends all, paid ones too. Called by the trigger on public.users, which holds the row. Errors: 22004 for another NULL.';

CREATE FUNCTION sparky.plans_out_of_step()
RETURNS TABLE (user_id uuid, plan_id bigint, plan_expires_at timestamptz, period_plan_id bigint, period_ends_at timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT u.id, u.plan_id, u.plan_expires_at, coalesce(e.plan_id, 1), e.ends_at
	FROM public.users u
		LEFT JOIN (
			SELECT DISTINCT ON (p.user_id) p.user_id, p.plan_id, p.ends_at
			FROM sparky.plan_periods p JOIN public.plans k ON k.id = p.plan_id
			WHERE p.ends_at > now() AND p.starts_at <= now() AND p.reversed_at IS NULL
			ORDER BY p.user_id, k.monthly_credits DESC, k.max_daily_credits DESC, k.id DESC, p.ends_at DESC
		) e ON e.user_id = u.id
	-- One that has ended says nothing: what came after it is noted when somebody next looks.
	WHERE (u.plan_id = 1 OR u.plan_expires_at IS NULL OR u.plan_expires_at > now())
		AND (u.plan_id <> coalesce(e.plan_id, 1)
			OR u.plan_id <> 1 AND coalesce(u.plan_expires_at, 'infinity') <> e.ends_at)
$$;
COMMENT ON FUNCTION sparky.plans_out_of_step() IS
'Users whose row promises another plan, or another end of it, than their periods do.

Nobody, unless triggers were switched off. A plan on the row that has ended promises nothing.';
