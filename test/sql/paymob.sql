-- paymob.sql: digests of Paymob's callbacks as SQL gives them; the protocol's own tests are in test/unit.
\set VERBOSITY terse
-- the sample of Paymob's documentation
\set body '{"type":"TRANSACTION","obj":{"id":192036465,"pending":false,"amount_cents":100000,"success":true,"is_auth":false,"is_capture":false,"is_standalone_payment":true,"is_voided":false,"is_refunded":false,"is_3d_secure":true,"integration_id":4097558,"has_parent_transaction":false,"order":{"id":217503754,"merchant_order_id":null,"shipping_data":{"first_name":"buyer"}},"created_at":"2024-06-13T11:33:44.592345","currency":"EGP","source_data":{"pan":"2346","type":"card","sub_type":"MasterCard"},"error_occured":false,"owner":302852}}'
\set secret '04DC1A9490B8CC2094C011FC055ADCDB'
SELECT sparky.paymob_hmac(:'body', :'secret');
SELECT sparky.paymob_verify(:'body', sparky.paymob_hmac(:'body', :'secret'), :'secret') AS verified,
	sparky.paymob_verify(:'body', upper(sparky.paymob_hmac(:'body', :'secret')), 'new, ' || :'secret') AS upper_case_and_rotating,
	sparky.paymob_verify(:'body', sparky.paymob_hmac(:'body', :'secret'), 'another') AS another_secret;
-- what the buyer typed cannot make a paid event unreadable
SELECT sparky.paymob_verify(replace(:'body', 'buyer', 'bu\u0000yer \ud800'), sparky.paymob_hmac(:'body', :'secret'), :'secret') AS verified;
-- a blank secret has no digest and verifies nothing, not even the digest under the empty key
\set forged '125d7399355c5785df823f6c5f0cf536853389d1de1232ce06b99d596f816fc509d762f389b0c8fe4a2de25f77e2733f9b69898536b1eafaf15084384e6dfc44'
SELECT sparky.paymob_hmac(:'body', s) IS NULL AS no_digest, sparky.paymob_verify(:'body', :'forged', s) AS verified
FROM (VALUES (''), (' '), (E'\t\n'), (','), (' , ')) v(s);
-- no callback: no digest, and never an error
SELECT n, sparky.paymob_hmac(b, :'secret') IS NULL AS no_digest, sparky.paymob_verify(b, repeat('0', 128), :'secret') AS verified
FROM (VALUES
	(1, NULL), (2, ''), (3, '{'), (4, '[]'), (5, '{"type":"TOKEN","obj":{}}'), (6, '{"type":"TRANSACTION"}'),
	(7, repeat('[', 200000)), (8, repeat('{"a":', 100000)), (9, repeat(' ', 300000)),
	(10, replace(:'body', '100000', '1e5')), (11, replace(:'body', '100000', '"100000"')), (12, :'body' || 'x'),
	(13, replace(:'body', '"pending":false', '"pending":true,"pending":false'))) v(n, b)
ORDER BY n;
SELECT sparky.paymob_verify(:'body', NULL, :'secret') AS no_hmac, sparky.paymob_verify(:'body', repeat('0', 128), NULL) AS no_secret,
	sparky.paymob_hmac(:'body', NULL) IS NULL AS no_digest, sparky.paymob_verify(:'body', 'fa8a', :'secret') AS short_hmac;
