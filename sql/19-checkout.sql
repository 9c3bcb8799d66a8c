/*
 * Buying. A buyer names a product; what it costs and what it gives is the server's
 * choice, copied into the order.
 */
CREATE FUNCTION public.create_checkout(product_id text)
RETURNS jsonb LANGUAGE c VOLATILE SET statement_timeout = '60s' AS 'MODULE_PATHNAME', 'sparky_create_checkout';
COMMENT ON FUNCTION public.create_checkout(text) IS
'Begin to buy a product: an order, and Paymob''s page to pay it at.

product_id: an active row of products. Returns merchant_order_id, order_id, product_id, status, amount_cents (hundredths), currency, checkout_url, client_secret (for Paymob''s SDK), expires_at. The open order of the same product is returned again for 30 minutes; at most 10 orders an hour. What was bought is there once Paymob has told that it is paid: watch orders.status.
Errors: PT401 not_signed_in, account_gone; PT404 product_not_found; PT409 plan_downgrade; PT422 bad_parameters; PT429 too_many_checkouts; PT502 provider_failed; PT503 not_configured, worker_down, overloaded; PT504 provider_timeout (the order goes on: ask again); 25006 in a read-only transaction.';
