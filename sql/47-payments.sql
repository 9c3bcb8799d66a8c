/*
 * Delta 2: money coming in.  Orders, the log of what Paymob reported, paid
 * periods of plans, callbacks that were refused.
 *
 * payment_events is the truth: every genuine event, appended, never changed but
 * for what was made of it.  payments and orders.status are projections of it,
 * users.credits of the ledger.  The key that keeps a purchase from being
 * fulfilled twice is the ledger's (kind, reference), not any id of Paymob's.
 */
CREATE FUNCTION sparky.delta_2() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM sparky.delta_2_orders();
	PERFORM sparky.delta_2_events();
	PERFORM sparky.delta_2_plans();
END
$$;
COMMENT ON FUNCTION sparky.delta_2() IS
'Delta 2 of sparky.schema_version: payments.

Called by install() only.';

CREATE FUNCTION sparky.delta_2_orders() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	CREATE TABLE public.orders (
		id					uuid PRIMARY KEY DEFAULT gen_random_uuid(),
		user_id				uuid REFERENCES auth.users (id) ON DELETE SET NULL,
		product_id			text NOT NULL,
		kind				text NOT NULL CONSTRAINT orders_kind_check CHECK (kind IN ('plan', 'credits')),
		plan_id				bigint REFERENCES public.plans (id),
		credits				integer CONSTRAINT orders_credits_check CHECK (credits > 0),
		period_days			integer NOT NULL CONSTRAINT orders_period_days_check CHECK (period_days > 0),
		amount_cents		integer NOT NULL CONSTRAINT orders_amount_cents_check CHECK (amount_cents > 0),
		currency			text NOT NULL,
		merchant_order_id	text NOT NULL CONSTRAINT orders_merchant_order_id_key UNIQUE,
		intention_order_id	bigint CONSTRAINT orders_intention_order_id_key UNIQUE,
		client_secret		text,
		checkout_url		text,
		status				text NOT NULL DEFAULT 'created' CONSTRAINT orders_status_check CHECK (status IN
			('created', 'open', 'failed', 'paid', 'refunded', 'voided')),
		error_code			text,
		created_at			timestamptz NOT NULL DEFAULT now(),
		paid_at				timestamptz,
		refunded_cents		integer NOT NULL DEFAULT 0 CONSTRAINT orders_refunded_cents_check CHECK (refunded_cents BETWEEN 0 AND amount_cents),
		inquire_at			timestamptz,
		inquiries			integer NOT NULL DEFAULT 0,
		CONSTRAINT orders_what_check CHECK (CASE kind
			WHEN 'plan' THEN plan_id IS NOT NULL AND credits IS NULL
			ELSE plan_id IS NULL AND credits IS NOT NULL END)
	);
	CREATE INDEX orders_user_id_created_at_idx ON public.orders (user_id, created_at DESC);
	CREATE INDEX orders_plan_id_idx ON public.orders (plan_id);
	CREATE INDEX orders_inquire_at_idx ON public.orders (inquire_at) WHERE inquire_at IS NOT NULL;
	PERFORM sparky.close_table('public.orders');
	CREATE POLICY "Users can view their own orders." ON public.orders FOR SELECT TO authenticated
		USING ((SELECT auth.uid()) = user_id);
	GRANT SELECT (id, user_id, product_id, kind, plan_id, credits, period_days, amount_cents, currency, merchant_order_id,
		intention_order_id, checkout_url, status, error_code, created_at, paid_at, refunded_cents) ON public.orders TO authenticated;
	GRANT SELECT ON public.orders TO service_role;
	COMMENT ON INDEX public.orders_user_id_created_at_idx IS 'For the foreign key, the policy and listing, newest first';
	COMMENT ON INDEX public.orders_plan_id_idx IS 'For the foreign key';
	COMMENT ON INDEX public.orders_inquire_at_idx IS 'Orders that Paymob is to be asked about';
	COMMENT ON POLICY "Users can view their own orders." ON public.orders IS 'Own rows only; column grants leave out the client secret';
	COMMENT ON TABLE public.orders IS 'Purchases, one row for each try; what is bought is copied from the product';
	COMMENT ON COLUMN public.orders.id IS 'The order';
	COMMENT ON COLUMN public.orders.user_id IS 'Who buys; NULL when the account is gone';
	COMMENT ON COLUMN public.orders.product_id IS 'What was asked for; the product itself may be gone';
	COMMENT ON COLUMN public.orders.kind IS 'plan: a period of a plan; credits: a pack of credits';
	COMMENT ON COLUMN public.orders.plan_id IS 'The plan, for kind plan; a plan that was sold stays';
	COMMENT ON COLUMN public.orders.credits IS 'Credits, for kind credits';
	COMMENT ON COLUMN public.orders.period_days IS 'Length of the period, days of 24 hours, for kind plan';
	COMMENT ON COLUMN public.orders.amount_cents IS 'Price in hundredths of the currency, chosen by the server';
	COMMENT ON COLUMN public.orders.currency IS 'ISO 4217 code';
	COMMENT ON COLUMN public.orders.merchant_order_id IS 'Our reference at Paymob (special_reference), new for each try';
	COMMENT ON COLUMN public.orders.intention_order_id IS 'Paymob''s order id: what its signed events carry';
	COMMENT ON COLUMN public.orders.client_secret IS 'Opens Paymob''s checkout for this order. Internal';
	COMMENT ON COLUMN public.orders.checkout_url IS 'Paymob''s page for this order';
	COMMENT ON COLUMN public.orders.status IS 'created, open or failed; then paid, refunded or voided';
	COMMENT ON COLUMN public.orders.error_code IS 'Why no checkout came of it: the word of error.<word>';
	COMMENT ON COLUMN public.orders.created_at IS 'When it was made';
	COMMENT ON COLUMN public.orders.paid_at IS 'When it was fulfilled';
	COMMENT ON COLUMN public.orders.refunded_cents IS 'How much of it was given back, as booked here';
	COMMENT ON COLUMN public.orders.inquire_at IS 'When Paymob is to be asked about it; NULL: never. Internal';
	COMMENT ON COLUMN public.orders.inquiries IS 'How often it was asked. Internal';

	ALTER TABLE public.payments ADD COLUMN order_id uuid REFERENCES public.orders (id) ON DELETE SET NULL;
	ALTER TABLE public.payments ADD COLUMN transaction_id bigint CONSTRAINT payments_transaction_id_key UNIQUE;
	ALTER TABLE public.payments ADD COLUMN refunded_cents integer NOT NULL DEFAULT 0;
	CREATE INDEX payments_order_id_idx ON public.payments (order_id);
	CREATE INDEX credit_ledger_refund_idx ON public.credit_ledger (reference text_pattern_ops) WHERE kind = 'refund';
	COMMENT ON INDEX public.credit_ledger_refund_idx IS 'What was taken back for an order: references begin with its id';
	COMMENT ON INDEX public.payments_order_id_idx IS 'For the foreign key';
	COMMENT ON COLUMN public.payments.order_id IS 'The order it pays; NULL while no order is known';
	COMMENT ON COLUMN public.payments.transaction_id IS 'Paymob''s transaction that paid it';
	COMMENT ON COLUMN public.payments.refunded_cents IS 'How much of it was given back';
END
$$;
COMMENT ON FUNCTION sparky.delta_2_orders() IS
'Delta 2: orders, and what payments lacked.

Called by install() only.';

CREATE FUNCTION sparky.delta_2_events() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	CREATE TABLE public.payment_events (
		id					bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
		transaction_id		bigint NOT NULL,
		state				text NOT NULL,
		paymob_order_id		bigint NOT NULL,
		order_id			uuid REFERENCES public.orders (id) ON DELETE SET NULL,
		amount_cents		numeric NOT NULL,
		currency			text NOT NULL,
		integration_id		bigint NOT NULL,
		owner				bigint NOT NULL,
		ours				boolean NOT NULL,
		child				boolean NOT NULL,
		pays				boolean NOT NULL,
		voids				boolean NOT NULL,
		refunds				boolean NOT NULL,
		status				text,
		refunded_cents		numeric NOT NULL DEFAULT 0,
		parent_transaction	bigint,
		source				text NOT NULL DEFAULT 'webhook' CONSTRAINT payment_events_source_check CHECK (source IN ('webhook', 'inquiry')),
		confirmed			boolean NOT NULL DEFAULT false,
		outcome				text NOT NULL,
		deliveries			integer NOT NULL DEFAULT 1,
		created_at			timestamptz NOT NULL DEFAULT now(),
		last_seen_at		timestamptz NOT NULL DEFAULT now(),
		body				text NOT NULL,
		payload				jsonb,
		CONSTRAINT payment_events_transaction_id_state_key UNIQUE (transaction_id, state)
	);
	CREATE INDEX payment_events_paymob_order_id_idx ON public.payment_events (paymob_order_id);
	CREATE INDEX payment_events_order_id_idx ON public.payment_events (order_id);
	CREATE INDEX payment_events_review_idx ON public.payment_events (id)
		WHERE outcome IN ('duplicate_payment', 'account_gone', 'held', 'mismatch');
	PERFORM sparky.close_internal_table('public.payment_events');
	GRANT SELECT ON public.payment_events TO service_role;
	COMMENT ON INDEX public.payment_events_review_idx IS 'What an operator may have to look at';
	COMMENT ON INDEX public.payment_events_paymob_order_id_idx IS 'All that is known of an order of Paymob''s';
	COMMENT ON INDEX public.payment_events_order_id_idx IS 'For the foreign key';
	COMMENT ON TABLE public.payment_events IS 'Every genuine event that Paymob reported, appended; holds personal data, so no client reads it';
	COMMENT ON COLUMN public.payment_events.id IS 'Order of arrival';
	COMMENT ON COLUMN public.payment_events.transaction_id IS 'Paymob''s transaction: one comes more than once, with different meaning';
	COMMENT ON COLUMN public.payment_events.state IS 'What is said of it; with transaction_id the key of an event';
	COMMENT ON COLUMN public.payment_events.paymob_order_id IS 'The signed order.id';
	COMMENT ON COLUMN public.payment_events.order_id IS 'Our order; NULL while none is known';
	COMMENT ON COLUMN public.payment_events.amount_cents IS 'Of this transaction; for the child of a refund the part given back';
	COMMENT ON COLUMN public.payment_events.currency IS 'ISO 4217 code';
	COMMENT ON COLUMN public.payment_events.integration_id IS 'Paymob''s integration';
	COMMENT ON COLUMN public.payment_events.owner IS 'Paymob''s owner of the account';
	COMMENT ON COLUMN public.payment_events.ours IS 'Integration and owner were those of the settings when it came; nothing is done with others';
	COMMENT ON COLUMN public.payment_events.child IS 'It is about a transaction that belongs to another: for a reversal the part given back';
	COMMENT ON COLUMN public.payment_events.pays IS 'Its flags, integration and owner are those of a payment to us; amount and currency are compared with the order';
	COMMENT ON COLUMN public.payment_events.voids IS 'It says that the payment was voided';
	COMMENT ON COLUMN public.payment_events.refunds IS 'It says that something was given back';
	COMMENT ON COLUMN public.payment_events.status IS 'What it says of the payment, by itself, as payments.status; NULL: nothing';
	COMMENT ON COLUMN public.payment_events.refunded_cents IS 'How much, at most the amount; counts once it is the whole, or confirmed';
	COMMENT ON COLUMN public.payment_events.parent_transaction IS 'The payment that a reversal belongs to';
	COMMENT ON COLUMN public.payment_events.source IS 'webhook: signed; inquiry: Paymob''s answer to a question of ours';
	COMMENT ON COLUMN public.payment_events.confirmed IS 'An inquiry of ours said the same';
	COMMENT ON COLUMN public.payment_events.outcome IS 'What was made of it: fulfilled, duplicate_payment, account_gone, held (paid, but not as payments are), reversal, not_paid, mismatch or unmatched';
	COMMENT ON COLUMN public.payment_events.deliveries IS 'How often it came';
	COMMENT ON COLUMN public.payment_events.created_at IS 'When it first came';
	COMMENT ON COLUMN public.payment_events.last_seen_at IS 'When it last came';
	COMMENT ON COLUMN public.payment_events.body IS 'As received, byte for byte';
	COMMENT ON COLUMN public.payment_events.payload IS 'The same as jsonb; NULL where jsonb cannot hold it';

	CREATE TABLE sparky.refused_callbacks (
		slot		integer PRIMARY KEY CONSTRAINT refused_callbacks_slot_check CHECK (slot BETWEEN 0 AND 999),
		received_at	timestamptz NOT NULL DEFAULT now(),
		reason		text NOT NULL,
		digest		text,
		body		text NOT NULL
	);
	CREATE INDEX refused_callbacks_received_at_idx ON sparky.refused_callbacks (received_at);
	CREATE SEQUENCE sparky.refused_callback_slots MINVALUE 0 MAXVALUE 999 START 0 CYCLE;
	REVOKE ALL ON SEQUENCE sparky.refused_callback_slots FROM PUBLIC, anon, authenticated, service_role;
	PERFORM sparky.close_internal_table('sparky.refused_callbacks');
	COMMENT ON INDEX sparky.refused_callbacks_received_at_idx IS 'How many were kept within the last second';
	COMMENT ON SEQUENCE sparky.refused_callback_slots IS 'The row to overwrite next';
	COMMENT ON TABLE sparky.refused_callbacks IS 'The last 1,000 callbacks that were not accepted, at most ten a second: a second chance where the mistake was ours';
	COMMENT ON COLUMN sparky.refused_callbacks.slot IS 'One of 1,000 places, used in turn';
	COMMENT ON COLUMN sparky.refused_callbacks.received_at IS 'When it came';
	COMMENT ON COLUMN sparky.refused_callbacks.reason IS 'Why it was refused';
	COMMENT ON COLUMN sparky.refused_callbacks.digest IS 'The digest it came with, at most 200 characters';
	COMMENT ON COLUMN sparky.refused_callbacks.body IS 'Its first 64 kB';
END
$$;
COMMENT ON FUNCTION sparky.delta_2_events() IS
'Delta 2: payment_events and refused_callbacks.

Called by install() only.';

CREATE FUNCTION sparky.delta_2_plans() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	CREATE TABLE sparky.plan_periods (
		id			bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
		user_id		uuid NOT NULL REFERENCES auth.users (id) ON DELETE CASCADE,
		plan_id		bigint NOT NULL REFERENCES public.plans (id),
		order_id	uuid CONSTRAINT plan_periods_order_id_key UNIQUE REFERENCES public.orders (id),
		starts_at	timestamptz NOT NULL,
		ends_at		timestamptz NOT NULL,
		granted		integer,
		reversed_at	timestamptz,
		created_at	timestamptz NOT NULL DEFAULT now(),
		CONSTRAINT plan_periods_ends_at_check CHECK (ends_at >= starts_at)
	);
	CREATE INDEX plan_periods_user_id_ends_at_idx ON sparky.plan_periods (user_id, ends_at DESC);
	CREATE INDEX plan_periods_plan_id_idx ON sparky.plan_periods (plan_id);
	CREATE INDEX plan_periods_ungranted_idx ON sparky.plan_periods (starts_at) WHERE granted IS NULL AND reversed_at IS NULL;
	PERFORM sparky.close_internal_table('sparky.plan_periods');
	COMMENT ON INDEX sparky.plan_periods_user_id_ends_at_idx IS 'For the foreign key, and which plan is in effect';
	COMMENT ON INDEX sparky.plan_periods_plan_id_idx IS 'For the foreign key';
	COMMENT ON INDEX sparky.plan_periods_ungranted_idx IS 'Periods whose grant is still to come';
	COMMENT ON TABLE sparky.plan_periods IS 'When which plan is in effect for whom: the highest running period counts, without one plan 1';
	COMMENT ON COLUMN sparky.plan_periods.id IS 'The period; the ledger''s reference of its grant';
	COMMENT ON COLUMN sparky.plan_periods.user_id IS 'Whose';
	COMMENT ON COLUMN sparky.plan_periods.plan_id IS 'Which plan';
	COMMENT ON COLUMN sparky.plan_periods.order_id IS 'The order that paid it; NULL: given by hand';
	COMMENT ON COLUMN sparky.plan_periods.starts_at IS 'In effect from; -infinity: given by hand';
	COMMENT ON COLUMN sparky.plan_periods.ends_at IS 'Not in effect from; infinity: given by hand without an end';
	COMMENT ON COLUMN sparky.plan_periods.granted IS 'Credits that its grant booked; NULL: the grant is still to come';
	COMMENT ON COLUMN sparky.plan_periods.reversed_at IS 'When its order was given back; it counts no more';
	COMMENT ON COLUMN sparky.plan_periods.created_at IS 'When it was made';

	-- Plans that were given by hand before there were periods.
	INSERT INTO sparky.plan_periods (user_id, plan_id, starts_at, ends_at, granted)
	SELECT u.id, u.plan_id, '-infinity', coalesce(u.plan_expires_at, 'infinity'), 0
	FROM public.users u WHERE u.plan_id <> 1;

	ALTER TABLE sparky.signup_grants ADD COLUMN address_digest text
		CONSTRAINT signup_grants_address_digest_key UNIQUE;
	COMMENT ON COLUMN sparky.signup_grants.address_digest IS 'HMAC of the normalised address, so that a second account of it gets nothing; NULL: unknown';
END
$$;
COMMENT ON FUNCTION sparky.delta_2_plans() IS
'Delta 2: plan_periods, and the address of a sign-up grant.

Called by install() only.';
