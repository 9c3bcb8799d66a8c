-- The price list: prices are a first offer, change them as you like.
WITH given (id, kind, plan_id, credits, period_days, amount_cents, currency) AS (VALUES
	('plan-pro-month', 'plan', 2, NULL::integer, 30, 14900, 'EGP'),
	('plan-pro-year', 'plan', 2, NULL, 365, 149000, 'EGP'),
	('plan-premium-month', 'plan', 3, NULL, 30, 34900, 'EGP'),
	('plan-premium-year', 'plan', 3, NULL, 365, 349000, 'EGP'),
	('credits-20', 'credits', NULL, 20, 30, 3900, 'EGP'),
	('credits-60', 'credits', NULL, 60, 30, 9900, 'EGP'),
	('credits-200', 'credits', NULL, 200, 30, 24900, 'EGP')
), overwritten AS (
	UPDATE public.products p
	SET kind = g.kind, plan_id = g.plan_id, credits = g.credits, period_days = g.period_days, amount_cents = g.amount_cents,
		currency = g.currency, is_active = true
	FROM given g WHERE overwrite AND p.id = g.id
)
INSERT INTO public.products (id, kind, plan_id, credits, period_days, amount_cents, currency)
SELECT * FROM given ON CONFLICT DO NOTHING;
