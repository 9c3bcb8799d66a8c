/*
 * Digests of Paymob's callbacks, for tests and operators. What a callback does is
 * public.paymob_webhooks.
 */
CREATE FUNCTION sparky.paymob_hmac(body text, secret text)
RETURNS text LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'sparky_paymob_hmac_sql';
COMMENT ON FUNCTION sparky.paymob_hmac(text, text) IS
'The digest that Paymob sends with a TRANSACTION callback: lower-case hex HMAC-SHA512, 128 characters.

Over the twenty signed values under obj, joined as they stand in the body: plain integers, true and false, unescaped strings; null and missing as nothing. secret: as the dashboard shows it; of two, comma-separated, the first.
NULL for a body that is no such callback (another type, a signed field of another form, a key of the signed path twice, more than 64 levels or 256 kB) and for a blank secret.';

CREATE FUNCTION sparky.paymob_verify(body text, hmac text, secret text)
RETURNS boolean LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'sparky_paymob_verify_sql';
COMMENT ON FUNCTION sparky.paymob_verify(text, text, text) IS
'Is hmac the digest of a TRANSACTION callback? Compared in constant time.

hmac: 128 hex digits, either case. secret: one, or two comma-separated while it is changed; a blank one never verifies. False for NULL and for whatever paymob_hmac() has no digest for; never raises.
True proves the twenty values joined, not where one ends: compare integration_id and owner, too.';
