--
-- create_checkout as far as it goes without a worker: what is refused, in its order.
--
BEGIN;
CREATE FUNCTION pg_temp.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE result text; detail text;
BEGIN
	EXECUTE statement INTO result;
	RETURN result;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN SQLSTATE || ' ' || SQLERRM || coalesce(' | ' || nullif(detail, ''), '');
END $$;
INSERT INTO auth.users (id, email) VALUES ('a0000000-0000-4000-8000-00000000000a', 'a@api-checkout.test');
INSERT INTO public.products (id, kind, credits, amount_cents, is_active) VALUES ('test-pack', 'credits', 5, 1000, true), ('test-gone', 'credits', 5, 1000, false);
SET LOCAL ROLE authenticated;
SELECT pg_temp.try($$SELECT public.create_checkout('test-pack')$$) AS nobody;
SET LOCAL request.jwt.claims = '{"sub": "b0000000-0000-4000-8000-00000000000b", "role": "authenticated"}';
SELECT pg_temp.try($$SELECT public.create_checkout('test-pack')$$) AS gone;
SET LOCAL request.jwt.claims = '{"sub": "a0000000-0000-4000-8000-00000000000a", "role": "authenticated"}';
SELECT pg_temp.try($$SELECT public.create_checkout(NULL)$$) AS no_product_named;
SELECT pg_temp.try($$SELECT public.create_checkout('test-none')$$) AS no_such_product;
SELECT pg_temp.try($$SELECT public.create_checkout('test-gone')$$) AS not_sold;
SELECT pg_temp.try($$SELECT public.create_checkout(repeat('x', 100000))$$) AS too_long;
-- Paymob is not set up here; every part that is missing is named, in order
SELECT pg_temp.try($$SELECT public.create_checkout('test-pack')$$) AS not_configured;
SET LOCAL transaction_read_only = on;
SELECT pg_temp.try($$SELECT public.create_checkout('test-none')$$) AS read_only;
ROLLBACK;
