/*
 * payment_book.c: an order's events become credits, plan, order and payment.
 *
 * What is booked already is read from the ledger (kind and reference), never from
 * orders.status: so an emptied ledger is filled again by the same events.  Credits
 * that are taken back are booked as kind refund under <order>:<cents given back in
 * all>; where a second payment brings them back, and they are taken once more, the
 * key has a counter behind it.
 *
 * Statements run under the latest snapshot: a caller in REPEATABLE READ began
 * before he got the lock, and must see what others did until then.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "credits.h"
#include "notify.h"
#include "owner.h"
#include "payment_book.h"
#include "plans.h"
#include "settings.h"

typedef struct Order
{
	pg_uuid_t	id;
	char	   *id_text;
	pg_uuid_t	user_id;
	bool		has_user;		/* with a profile, whose row is locked once it is paid */
	bool		is_plan;
	int64		plan_id;
	int			credits;
	int			period_days;
	int			amount;
	char	   *currency;
	char	   *merchant_order_id;
} Order;

/* What an event's row says of it until now. */
typedef struct Logged
{
	PaymentOutcome outcome;
	bool		matched;
} Logged;

static bool lock_order(int64 paymob_order_id, Order *order);
static void lock_account(int64 paymob_order_id);
static void lock_user(Order *order);
static int	load_facts(int64 paymob_order_id, PaymentFact **facts, Logged **before);
static void book_credits(const Order *order, const PaymentDecision *decision, bool quiet, TimestampTz now);
static void book_plan(const Order *order, const PaymentDecision *decision, bool quiet, TimestampTz now);
static bool purchase_booked(const Order *order);
static int	taken_back(const Order *order, int *movements);
static void plan_state(const Order *order, bool *bought, bool *reversed);
static void update_order(const Order *order, const PaymentDecision *decision, PaymentAsk ask, TimestampTz now);
static void project(int64 paymob_order_id, const Order *order, const PaymentFact *facts, const PaymentDecision *decision, TimestampTz now);
static void write_outcomes(const PaymentFact *facts, const Logged *before, int count, const Order *order);

PaymentOutcome
sparky_payment_book(int64 paymob_order_id, int64 event, PaymentAsk ask, bool quiet, TimestampTz now)
{
	PaymentOutcome result = PAYMENT_UNMATCHED;
	Logged	   *before;
	PaymentFact *facts;
	PaymentDecision decision;
	Order		order;
	bool		known;
	int			count;

	lock_account(paymob_order_id);
	known = lock_order(paymob_order_id, &order);
	count = load_facts(paymob_order_id, &facts, &before);
	if (!known)
		sparky_payment_unmatched(facts, count, &decision);
	else
	{
		sparky_payment_decide(facts, count, order.amount, order.currency, &decision);
		if (decision.paid)
			lock_user(&order);
		for (int i = 0; i < count; i++)
		{
			/* Once fulfilled, always: the account may have been deleted since. */
			if (facts[i].outcome == PAYMENT_FULFILLED && !order.has_user && before[i].outcome != PAYMENT_FULFILLED)
				facts[i].outcome = PAYMENT_ACCOUNT_GONE;
		}
		if (decision.paid && order.has_user)
			(order.is_plan ? book_plan : book_credits) (&order, &decision, quiet, now);
		update_order(&order, &decision, ask, now);
	}
	project(paymob_order_id, known ? &order : NULL, facts, &decision, now);
	write_outcomes(facts, before, count, known ? &order : NULL);
	for (int i = 0; i < count; i++)
		if (facts[i].event == event)
			result = facts[i].outcome;
	return result;
}

/*
 * A deletion locks auth.users first and our rows after; so do we, or the two
 * would wait for each other.  Where the data owner may not lock that row, the
 * foreign keys do it later, and PostgreSQL ends a deadlock.
 */
static void
lock_account(int64 paymob_order_id)
{
	static SPIPlanPtr may,
				lock;
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(paymob_order_id)};

	sparky_plan(&may, "SELECT pg_catalog.has_table_privilege('auth.users', 'UPDATE')", 0, NULL);
	(void) sparky_execute(may, NULL, NULL, 1);
	if (!sparky_column_bool(0, 1))
		return;
	sparky_plan(&lock,
				"SELECT 1 FROM auth.users a WHERE a.id = (SELECT o.user_id FROM public.orders o WHERE o.intention_order_id = $1)"
				" FOR KEY SHARE", 1, types);
	(void) sparky_execute_fresh(lock, values, NULL);
}

static bool
lock_order(int64 paymob_order_id, Order *order)
{
	static SPIPlanPtr plan;
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(paymob_order_id)};
	bool		isnull;
	Datum		user;

	memset(order, 0, sizeof(*order));
	sparky_plan(&plan,
				"SELECT o.id, o.id::text, o.user_id, o.kind = 'plan', o.plan_id, o.credits, o.period_days, o.amount_cents, o.currency,"
				" o.merchant_order_id FROM public.orders o WHERE o.intention_order_id = $1 FOR NO KEY UPDATE", 1, types);
	if (sparky_execute_fresh(plan, values, NULL) == 0)
		return false;
	order->id = *DatumGetUUIDP(sparky_column(0, 1, &isnull));
	order->id_text = sparky_column_text(0, 2);
	user = sparky_column(0, 3, &isnull);
	order->has_user = !isnull;
	if (!isnull)
		order->user_id = *DatumGetUUIDP(user);
	order->is_plan = sparky_column_bool(0, 4);
	order->plan_id = sparky_column_int(0, 5, 0);
	order->credits = sparky_column_int(0, 6, 0);
	order->period_days = sparky_column_int(0, 7, 0);
	order->amount = sparky_column_int(0, 8, 0);
	order->currency = sparky_column_text(0, 9);
	order->merchant_order_id = sparky_column_text(0, 10);
	return true;
}

static void
lock_user(Order *order)
{
	static SPIPlanPtr plan;
	Oid			types[] = {UUIDOID};
	Datum		values[] = {UUIDPGetDatum(&order->user_id)};

	if (!order->has_user)
		return;
	sparky_plan(&plan, "SELECT 1 FROM public.users WHERE id = $1 FOR NO KEY UPDATE", 1, types);
	order->has_user = sparky_execute_fresh(plan, values, NULL) > 0;
}

static PaymentOutcome
outcome_named(const char *name)
{
	for (PaymentOutcome outcome = PAYMENT_UNMATCHED; outcome <= PAYMENT_REVERSAL; outcome++)
		if (strcmp(sparky_payment_outcome_name(outcome), name) == 0)
			return outcome;
	return PAYMENT_UNMATCHED;
}

static int
load_facts(int64 paymob_order_id, PaymentFact **facts, Logged **before)
{
	static SPIPlanPtr plan;
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(paymob_order_id)};
	int			count;

	sparky_plan(&plan,
				"SELECT e.id, e.transaction_id, e.integration_id, coalesce(e.parent_transaction, 0),"
				" CASE WHEN e.amount_cents BETWEEN 0 AND 9223372036854775807 AND e.amount_cents = pg_catalog.trunc(e.amount_cents)"
				"  THEN e.amount_cents::pg_catalog.int8 ELSE -1 END,"
				" e.currency, e.ours, e.child, e.pays, e.voids, e.refunds, e.confirmed,"
				" least(e.refunded_cents, 9223372036854775807)::pg_catalog.int8, e.status, e.outcome, e.order_id IS NOT NULL"
				" FROM public.payment_events e WHERE e.paymob_order_id = $1 ORDER BY e.id", 1, types);
	count = (int) sparky_execute_fresh(plan, values, NULL);
	*facts = palloc0(sizeof(PaymentFact) * Max(count, 1));
	*before = palloc0(sizeof(Logged) * Max(count, 1));
	for (int i = 0; i < count; i++)
	{
		PaymentFact *fact = &(*facts)[i];

		fact->event = sparky_column_int(i, 1, 0);
		fact->transaction = sparky_column_int(i, 2, 0);
		fact->integration = sparky_column_int(i, 3, 0);
		fact->parent = sparky_column_int(i, 4, 0);
		fact->amount = sparky_column_int(i, 5, -1);
		strlcpy(fact->currency, sparky_column_text(i, 6), sizeof(fact->currency));
		fact->ours = sparky_column_bool(i, 7);
		fact->child = sparky_column_bool(i, 8);
		fact->pays = sparky_column_bool(i, 9);
		fact->voids = sparky_column_bool(i, 10);
		fact->refunds = sparky_column_bool(i, 11);
		fact->confirmed = sparky_column_bool(i, 12);
		fact->refunded = sparky_column_int(i, 13, 0);
		fact->status = sparky_payment_status(sparky_column_text(i, 14));
		(*before)[i].outcome = outcome_named(sparky_column_text(i, 15));
		(*before)[i].matched = sparky_column_bool(i, 16);
	}
	return count;
}

static void
book_credits(const Order *order, const PaymentDecision *decision, bool quiet, TimestampTz now)
{
	int			movements;
	int			target,
				taken;

	if (!purchase_booked(order))
	{
		sparky_credits_move(&order->user_id, order->credits, 0, "purchase", order->id_text, now);
		if (!quiet)
			sparky_notify_payment(&order->user_id, "payment_received", now);
	}
	taken = taken_back(order, &movements);
	target = sparky_payment_take_back(order->credits, (int32) decision->reversed, order->amount);
	if (target == taken)
		return;
	sparky_credits_move(&order->user_id, taken - target, 0, "refund",
						movements == 0 ? psprintf("%s:%lld", order->id_text, (long long) decision->reversed)
						: psprintf("%s:%lld:%d", order->id_text, (long long) decision->reversed, movements), now);
	if (target > taken && !quiet)
		sparky_notify_payment(&order->user_id, "payment_refunded", now);
}

static bool
purchase_booked(const Order *order)
{
	static SPIPlanPtr plan;
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(order->id_text)};

	sparky_plan(&plan, "SELECT 1 FROM public.credit_ledger WHERE kind = 'purchase' AND reference = $1", 1, types);
	return sparky_execute_fresh(plan, values, NULL) > 0;
}

/* Credits taken back for the order so far; movements: in how many. Byte order, whatever the collation: ';' follows ':'. */
static int
taken_back(const Order *order, int *movements)
{
	static SPIPlanPtr plan;
	Oid			types[] = {TEXTOID, TEXTOID};
	Datum		values[] = {CStringGetTextDatum(psprintf("%s:", order->id_text)), CStringGetTextDatum(psprintf("%s;", order->id_text))};

	sparky_plan(&plan,
				"SELECT -coalesce(pg_catalog.sum(l.delta), 0), pg_catalog.count(*) FROM public.credit_ledger l"
				" WHERE l.kind = 'refund' AND l.reference ~>=~ $1 AND l.reference ~<~ $2", 2, types);
	(void) sparky_execute_fresh(plan, values, NULL);
	*movements = (int) sparky_column_int(0, 2, 0);
	return (int) sparky_column_int(0, 1, 0);
}

static void
book_plan(const Order *order, const PaymentDecision *decision, bool quiet, TimestampTz now)
{
	PlanOrder	plan = {.order_id = order->id, .user_id = order->user_id, .plan_id = order->plan_id, .period_days = order->period_days};
	bool		whole = decision->reversed >= order->amount;
	bool		bought,
				reversed;

	plan_state(order, &bought, &reversed);
	sparky_plans_buy(&plan, now);
	if (!bought && !quiet)
		sparky_notify_payment(&order->user_id, "payment_received", now);
	if (whole)
	{
		sparky_plans_reverse(&order->id, now, psprintf("%s:%d", order->id_text, order->amount));
		if (!reversed && !quiet)
			sparky_notify_payment(&order->user_id, "payment_refunded", now);
	}
	else if (reversed)
		sparky_plans_restore(&plan, now);
}

/* Before anything is booked: has the order its period, and is that reversed? */
static void
plan_state(const Order *order, bool *bought, bool *reversed)
{
	static SPIPlanPtr plan;
	Oid			types[] = {UUIDOID};
	Datum		values[] = {UUIDPGetDatum(&order->id)};

	sparky_plan(&plan, "SELECT p.reversed_at IS NOT NULL FROM sparky.plan_periods p WHERE p.order_id = $1", 1, types);
	*bought = sparky_execute_fresh(plan, values, NULL) > 0;
	*reversed = *bought && sparky_column_bool(0, 1);
}

/* $4: when to ask Paymob about it at the latest; NULL: nothing new about that. */
static void
update_order(const Order *order, const PaymentDecision *decision, PaymentAsk ask, TimestampTz now)
{
	static SPIPlanPtr plan;
	bool		whole = decision->reversed >= order->amount;
	Oid			types[] = {UUIDOID, TEXTOID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, BOOLOID};
	Datum		values[] = {
		UUIDPGetDatum(&order->id),
		CStringGetTextDatum(!whole ? "paid" : decision->voided ? "voided" : "refunded"),
		Int32GetDatum((int32) decision->reversed),
		TimestampTzGetDatum(now),
		TimestampTzGetDatum(decision->ask ? now : TimestampTzPlusMilliseconds(now, (int64) sparky_inquiry_delay * 1000)),
		BoolGetDatum(whole),
	};
	char		nulls[] = "      ";

	if (!decision->paid)
		return;
	if (ask == PAYMENT_ASK_NOT || whole || (ask == PAYMENT_ASK && !decision->ask))
		nulls[4] = 'n';
	sparky_plan(&plan,
				"UPDATE public.orders o SET status = $2, refunded_cents = $3, paid_at = coalesce(o.paid_at, $4), error_code = NULL, inquire_at = n.inquire_at"
				" FROM (SELECT CASE WHEN $5 IS NOT NULL THEN least(p.inquire_at, $5)"
				"   WHEN $6 OR p.status IN ('created', 'open', 'failed') THEN NULL ELSE p.inquire_at END AS inquire_at"
				"  FROM public.orders p WHERE p.id = $1) n"
				" WHERE o.id = $1 AND (o.status, o.refunded_cents, o.inquire_at) IS DISTINCT FROM ($2, $3, n.inquire_at)", 6, types);
	(void) sparky_execute_fresh(plan, values, nulls);
}

/* The row of public.payments; none for an amount that does not fit, or when there is nothing to tell. */
static void
project(int64 paymob_order_id, const Order *order, const PaymentFact *facts, const PaymentDecision *decision, TimestampTz now)
{
	static SPIPlanPtr plan;
	const PaymentFact *telling = decision->telling < 0 ? NULL : &facts[decision->telling];
	Oid			types[] = {INT8OID, UUIDOID, UUIDOID, TEXTOID, INT4OID, TEXTOID, TEXTOID, INT4OID, INT8OID, INT8OID, TIMESTAMPTZOID};
	Datum		values[11];
	char		nulls[] = "           ";
	int64		amount;

	if (decision->status == PAYMENT_STATUS_NONE)
		return;
	amount = order != NULL ? order->amount : telling->amount;
	if (amount < 0 || amount > PG_INT32_MAX)
		return;
	memset(values, 0, sizeof(values));
	values[0] = Int64GetDatum(paymob_order_id);
	if (order != NULL && order->has_user)
		values[1] = UUIDPGetDatum(&order->user_id);
	else
		nulls[1] = 'n';
	if (order != NULL)
		values[2] = UUIDPGetDatum(&order->id);
	else
		nulls[2] = 'n';
	values[3] = CStringGetTextDatum(order != NULL ? order->merchant_order_id : "");
	values[4] = Int32GetDatum((int32) amount);
	values[5] = CStringGetTextDatum(order != NULL ? order->currency : telling->currency);
	values[6] = CStringGetTextDatum(sparky_payment_status_name(decision->status));
	values[7] = Int32GetDatum((int32) decision->reversed);
	if (decision->fulfilling >= 0)
		values[8] = Int64GetDatum(facts[decision->fulfilling].transaction);
	else
		nulls[8] = 'n';
	if (telling != NULL)
		values[9] = Int64GetDatum(telling->event);
	else
		nulls[9] = 'n';
	values[10] = TimestampTzGetDatum(now);
	sparky_plan(&plan,
				"INSERT INTO public.payments AS p (paymob_order_id, user_id, order_id, merchant_order_id, amount_cents, currency, status,"
				"  refunded_cents, transaction_id, raw_response, created_at)"
				" SELECT $1, $2, $3, $4, $5, $6, $7, $8,"
				"  CASE WHEN NOT EXISTS (SELECT FROM public.payments o WHERE o.transaction_id = $9 AND o.paymob_order_id <> $1) THEN $9 END,"
				"  (SELECT e.payload FROM public.payment_events e WHERE e.id = $10), $11"
				" ON CONFLICT (paymob_order_id) DO UPDATE SET user_id = excluded.user_id, order_id = excluded.order_id,"
				"  merchant_order_id = excluded.merchant_order_id, amount_cents = excluded.amount_cents, currency = excluded.currency,"
				"  status = CASE WHEN sparky.payment_rank(excluded.status) > sparky.payment_rank(p.status) THEN excluded.status ELSE p.status END,"
				"  raw_response = CASE WHEN sparky.payment_rank(excluded.status) > sparky.payment_rank(p.status)"
				"    OR excluded.refunded_cents <> p.refunded_cents THEN excluded.raw_response ELSE p.raw_response END,"
				"  refunded_cents = excluded.refunded_cents, transaction_id = coalesce(p.transaction_id, excluded.transaction_id)"
				" WHERE (p.user_id, p.order_id, p.merchant_order_id, p.amount_cents, p.currency, p.refunded_cents)"
				"   IS DISTINCT FROM (excluded.user_id, excluded.order_id, excluded.merchant_order_id, excluded.amount_cents, excluded.currency,"
				"     excluded.refunded_cents)"
				"  OR sparky.payment_rank(excluded.status) > sparky.payment_rank(p.status)"
				"  OR p.transaction_id IS NULL AND excluded.transaction_id IS NOT NULL", 11, types);
	(void) sparky_execute_fresh(plan, values, nulls);
}

/* What was made of each event, and which order it is about. */
static void
write_outcomes(const PaymentFact *facts, const Logged *before, int count, const Order *order)
{
	static SPIPlanPtr plan;
	Oid			types[] = {INT8OID, TEXTOID, UUIDOID};

	sparky_plan(&plan, "UPDATE public.payment_events SET outcome = $2, order_id = $3 WHERE id = $1", 3, types);
	for (int i = 0; i < count; i++)
	{
		bool		matched = order != NULL;
		Datum		values[] = {
			Int64GetDatum(facts[i].event),
			CStringGetTextDatum(sparky_payment_outcome_name(facts[i].outcome)),
			matched ? UUIDPGetDatum(&order->id) : (Datum) 0,
		};

		if (before[i].outcome != facts[i].outcome || before[i].matched != matched)
			(void) sparky_execute_fresh(plan, values, matched ? "   " : "  n");
	}
}
