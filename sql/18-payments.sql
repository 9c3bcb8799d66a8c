/*
 * Payments: the webhook in its two forms, and what operators do with the events.
 *
 * One name, two forms: PostgREST calls the one with an unnamed parameter for any
 * JSON body but that with exactly the keys payload and hmac.  The parameter must
 * have no name; the type is json, which keeps the body as it came.
 */
CREATE FUNCTION public.paymob_webhooks(json)
RETURNS jsonb LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'sparky_paymob_webhooks_json';
COMMENT ON FUNCTION public.paymob_webhooks(json) IS
'Receive a callback of Paymob''s, its digest in the header x-paymob-hmac.

The body is Paymob''s, as it came; a proxy makes the header of the query parameter hmac. Nobody need be signed in: the digest (HMAC-SHA512 over twenty values, hexadecimal) is what counts. Returns {"status", "result"}, status also being the HTTP status: 200 with result logged, duplicate, declined, unmatched, or ignored for other types of callbacks; 401 unauthorized, the digest is wrong or missing; 422 unreadable. Every repeat is counted and changes nothing.
Errors: PT503 not_configured (no HMAC secret), overloaded; 25006 in a read-only transaction.';

CREATE FUNCTION public.paymob_webhooks(payload text, hmac text)
RETURNS jsonb LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'sparky_paymob_webhooks_text';
COMMENT ON FUNCTION public.paymob_webhooks(text, text) IS
'Receive a callback of Paymob''s, body and digest as arguments.

payload: the body as it came, byte for byte. hmac: 128 hexadecimal digits. For an edge function, or plain SQL; otherwise as paymob_webhooks(json).
Errors: PT503 not_configured (no HMAC secret), overloaded; 25006 in a read-only transaction.';

CREATE FUNCTION sparky.replay_payments()
RETURNS bigint LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'sparky_replay_payments';
COMMENT ON FUNCTION sparky.replay_payments() IS
'Act upon all payment events again, in the order of their arrival.

What is booked already is not booked again; what is missing in the ledger is. Events that were logged while their integration or owner was missing in the settings are judged anew by the settings of now. New events wait until the end of the transaction. Notifies nobody. Returns the number of events.';

CREATE FUNCTION sparky.payments_to_review()
RETURNS bigint LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'sparky_payments_to_review';
COMMENT ON FUNCTION sparky.payments_to_review() IS
'How many payments took money and gave nothing: for an operator to look at.

Events with outcome duplicate_payment, account_gone or held, and payments with another amount or currency than their order; not those that were voided or refunded in full since.';

CREATE FUNCTION sparky.try_jsonb(body text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN body::jsonb;
EXCEPTION WHEN OTHERS THEN
	RETURN NULL;	-- \u0000, a lone surrogate, a number beyond numeric: json is fine with these
END
$$;
COMMENT ON FUNCTION sparky.try_jsonb(text) IS
'A JSON text as jsonb; NULL where jsonb cannot hold it.

body: any text. Never raises.';

CREATE FUNCTION sparky.payment_rank(status text) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
	SELECT array_position(ARRAY['PENDING', 'FAILED', 'SUCCESS', 'PARTIALLY_REFUNDED', 'REFUNDED', 'VOIDED'], status)
$$;
COMMENT ON FUNCTION sparky.payment_rank(text) IS
'The rank of a payment''s status, 1 to 6.

payments.status moves to a higher rank only.';
