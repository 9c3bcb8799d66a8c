-- Plans. Plan 1 is the free one: its monthly credits are also the sign-up credits.
WITH given (id, name, monthly_credits, max_daily_credits) AS (VALUES
	(1, 'free', 10, 10),
	(2, 'pro', 200, 50),
	(3, 'premium', 600, 150)
), overwritten AS (
	UPDATE public.plans p
	SET name = g.name, monthly_credits = g.monthly_credits, max_daily_credits = g.max_daily_credits
	FROM given g WHERE overwrite AND p.id = g.id
)
INSERT INTO public.plans (id, name, monthly_credits, max_daily_credits)
SELECT * FROM given ON CONFLICT DO NOTHING;

-- The next plan made by hand gets a number of its own.
PERFORM setval('public.plans_id_seq', m.id)
FROM (SELECT max(p.id) AS id FROM public.plans p) m, public.plans_id_seq s
WHERE m.id >= s.last_value + s.is_called::integer;
