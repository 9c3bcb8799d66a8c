/*
 * orders.c: rows of public.orders, from their making to the checkout link, and
 * when Paymob is to be asked about them.
 *
 * Only the worker inserts orders and opens them.  What is bought is copied from
 * the product in the transaction that inserts: a price that changes later changes
 * no order.  Time comes in as an argument.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "orders.h"
#include "owner.h"

#define COLUMNS "id, status, merchant_order_id, coalesce(intention_order_id, 0), inquire_at IS NOT NULL," \
	" coalesce(inquire_at, '-infinity'), inquiries"

static void take_order(Order *order);
static OrderStatus status_of(const char *text);
static int	take_ids(uint64 rows, pg_uuid_t *ids);

bool
sparky_product_read(const char *id, Product *product)
{
	static SPIPlanPtr plan;
	static const Oid types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(id)};

	sparky_plan(&plan,
				"SELECT id, kind = 'plan', plan_id, credits, period_days, amount_cents, currency FROM public.products"
				" WHERE id = $1 AND is_active", 1, types);
	if (sparky_execute(plan, values, NULL, 1) == 0)
		return false;
	product->id = sparky_column_text(0, 1);
	product->is_plan = sparky_column_bool(0, 2);
	product->plan_id = sparky_column_int(0, 3, 0);
	product->credits = sparky_column_int(0, 4, 0);
	product->period_days = sparky_column_int(0, 5, 0);
	product->amount_cents = sparky_column_int(0, 6, 0);
	product->currency = sparky_column_text(0, 7);
	return true;
}

void
sparky_orders_buyer(const pg_uuid_t *user_id, Buyer *buyer)
{
	static SPIPlanPtr plan;
	static const Oid types[] = {UUIDOID};
	Datum		values[] = {UUIDPGetDatum(user_id)};

	memset(buyer, 0, sizeof(*buyer));
	sparky_plan(&plan,
				"SELECT u.username, a.email::text, a.phone::text FROM public.users u JOIN auth.users a ON a.id = u.id WHERE u.id = $1", 1, types);
	if (sparky_execute(plan, values, NULL, 1) == 0)
		return;
	buyer->name = sparky_column_text(0, 1);
	buyer->email = sparky_column_text(0, 2);
	buyer->phone = sparky_column_text(0, 3);
}

/* ---- one order ---- */

bool
sparky_orders_read(const pg_uuid_t *id, Order *order)
{
	static SPIPlanPtr plan;
	static const Oid types[] = {UUIDOID};
	Datum		values[] = {UUIDPGetDatum(id)};

	sparky_plan(&plan, "SELECT " COLUMNS " FROM public.orders WHERE id = $1", 1, types);
	if (sparky_execute(plan, values, NULL, 1) == 0)
		return false;
	take_order(order);
	return true;
}

RowLock
sparky_orders_lock(const pg_uuid_t *id, Order *order)
{
	static SPIPlanPtr plan;
	static const Oid types[] = {UUIDOID};
	Datum		values[] = {UUIDPGetDatum(id)};
	Order		unlocked;

	sparky_plan(&plan, "SELECT " COLUMNS " FROM public.orders WHERE id = $1 FOR NO KEY UPDATE SKIP LOCKED", 1, types);
	if (sparky_execute(plan, values, NULL, 1) == 0)
		return sparky_orders_read(id, &unlocked) ? ROW_BUSY : ROW_GONE;
	take_order(order);
	return ROW_LOCKED;
}

static void
take_order(Order *order)
{
	bool		isnull;

	order->id = *DatumGetUUIDP(sparky_column(0, 1, &isnull));
	order->status = status_of(sparky_column_text(0, 2));
	order->reference = sparky_column_text(0, 3);
	order->intention_order_id = sparky_column_int(0, 4, 0);
	order->inquire = sparky_column_bool(0, 5);
	order->inquire_at = DatumGetTimestampTz(sparky_column(0, 6, &isnull));
	order->inquiries = sparky_column_int(0, 7, 0);
}

static OrderStatus
status_of(const char *text)
{
	static const char *const names[] = {"created", "open", "failed", "paid", "refunded", "voided"};

	for (int i = 0; i < lengthof(names); i++)
		if (strcmp(names[i], text) == 0)
			return (OrderStatus) i;
	elog(ERROR, "an order has the unknown status \"%s\"", text);
}

/* ---- before a checkout ---- */

/* A link is good for one try: once Paymob has told the end of one, it is not given out again. */
bool
sparky_orders_reusable(const pg_uuid_t *user_id, const Product *product, TimestampTz now, pg_uuid_t *id)
{
	static SPIPlanPtr plan;
	static const Oid types[] = {UUIDOID, TEXTOID, INT4OID, TEXTOID, INT8OID, INT4OID, INT4OID, TIMESTAMPTZOID};
	Datum		values[] = {
		UUIDPGetDatum(user_id), CStringGetTextDatum(product->id), Int32GetDatum(product->amount_cents),
		CStringGetTextDatum(product->currency), Int64GetDatum(product->plan_id), Int32GetDatum(product->credits),
		Int32GetDatum(product->period_days), TimestampTzGetDatum(now - SPARKY_CHECKOUT_REUSE_S * USECS_PER_SEC),
	};

	sparky_plan(&plan,
				"SELECT o.id FROM public.orders o WHERE o.user_id = $1 AND o.product_id = $2 AND o.status = 'open'"
				" AND o.amount_cents = $3 AND o.currency = $4 AND coalesce(o.plan_id, 0) = $5 AND coalesce(o.credits, 0) = $6"
				" AND o.period_days = $7 AND o.created_at > $8 AND o.checkout_url IS NOT NULL"
				" AND NOT EXISTS (SELECT FROM public.payment_events e"
				"   WHERE e.paymob_order_id = o.intention_order_id AND e.state NOT LIKE '%pending%')"
				" ORDER BY o.created_at DESC", 8, types);
	return take_ids(sparky_execute(plan, values, NULL, 1), id) > 0;
}

int
sparky_orders_unopened(const pg_uuid_t *user_id, const char *product_id, pg_uuid_t *ids, int size)
{
	static SPIPlanPtr plan;
	static const Oid types[] = {UUIDOID, TEXTOID};
	Datum		values[] = {UUIDPGetDatum(user_id), CStringGetTextDatum(product_id)};

	sparky_plan(&plan,
				"SELECT id FROM public.orders WHERE user_id = $1 AND product_id = $2 AND status = 'created' ORDER BY created_at DESC", 2, types);
	return take_ids(sparky_execute(plan, values, NULL, size), ids);
}

static int
take_ids(uint64 rows, pg_uuid_t *ids)
{
	bool		isnull;

	for (uint64 i = 0; i < rows; i++)
		ids[i] = *DatumGetUUIDP(sparky_column(i, 1, &isnull));
	return (int) rows;
}

bool
sparky_orders_too_many(const pg_uuid_t *user_id, TimestampTz now, int *retry_after)
{
	static SPIPlanPtr plan;
	static const Oid types[] = {UUIDOID, TIMESTAMPTZOID, INT4OID};
	Datum		values[] = {UUIDPGetDatum(user_id), TimestampTzGetDatum(now - SECS_PER_HOUR * USECS_PER_SEC),
	Int32GetDatum(SPARKY_CHECKOUTS_PER_HOUR - 1)};
	bool		isnull;
	TimestampTz oldest;

	/* The last that counts: when it is an hour old, there is room for one. */
	sparky_plan(&plan,
				"SELECT created_at FROM public.orders WHERE user_id = $1 AND created_at > $2"
				" ORDER BY created_at DESC OFFSET $3 LIMIT 1", 3, types);
	if (sparky_execute(plan, values, NULL, 1) == 0)
		return false;
	oldest = DatumGetTimestampTz(sparky_column(0, 1, &isnull));
	*retry_after = (int) ((oldest - (now - SECS_PER_HOUR * USECS_PER_SEC)) / USECS_PER_SEC) + 1;
	return true;
}

void
sparky_orders_insert(const pg_uuid_t *id, const pg_uuid_t *user_id, const Product *product, TimestampTz now, TimestampTz inquire_at)
{
	static SPIPlanPtr plan;
	static const Oid types[] = {UUIDOID, UUIDOID, TEXTOID, TEXTOID, INT8OID, INT4OID, INT4OID, INT4OID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		values[] = {
		UUIDPGetDatum(id), UUIDPGetDatum(user_id), CStringGetTextDatum(product->id),
		CStringGetTextDatum(product->is_plan ? "plan" : "credits"), Int64GetDatum(product->plan_id), Int32GetDatum(product->credits),
		Int32GetDatum(product->period_days), Int32GetDatum(product->amount_cents), CStringGetTextDatum(product->currency),
		TimestampTzGetDatum(now), TimestampTzGetDatum(inquire_at),
	};
	char		nulls[] = {' ', ' ', ' ', ' ', product->is_plan ? ' ' : 'n', product->is_plan ? 'n' : ' ', ' ', ' ', ' ', ' ', ' '};

	sparky_plan(&plan,
				"INSERT INTO public.orders (id, user_id, product_id, kind, plan_id, credits, period_days, amount_cents, currency,"
				" merchant_order_id, status, created_at, inquire_at)"
				" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $1::text, 'created', $10, $11)", 11, types);
	(void) sparky_execute(plan, values, nulls, 0);
}

/* ---- after a checkout ---- */

bool
sparky_orders_has(int64 intention_order_id)
{
	static SPIPlanPtr plan;
	static const Oid types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(intention_order_id)};

	sparky_plan(&plan, "SELECT FROM public.orders WHERE intention_order_id = $1", 1, types);
	return sparky_execute(plan, values, NULL, 1) > 0;
}

void
sparky_orders_open(const pg_uuid_t *id, int64 intention_order_id, const char *client_secret, const char *checkout_url, TimestampTz inquire_at)
{
	static SPIPlanPtr plan;
	static const Oid types[] = {UUIDOID, INT8OID, TEXTOID, TEXTOID, TIMESTAMPTZOID};
	Datum		values[] = {UUIDPGetDatum(id), Int64GetDatum(intention_order_id), CStringGetTextDatum(client_secret),
	CStringGetTextDatum(checkout_url), TimestampTzGetDatum(inquire_at)};

	sparky_plan(&plan,
				"UPDATE public.orders SET status = 'open', intention_order_id = $2, client_secret = $3, checkout_url = $4,"
				" error_code = NULL, inquire_at = $5 WHERE id = $1", 5, types);
	(void) sparky_execute(plan, values, NULL, 0);
}

void
sparky_orders_fail(const pg_uuid_t *id, ErrorWord error, TimestampTz inquire_at)
{
	static SPIPlanPtr plan;
	static const Oid types[] = {UUIDOID, TEXTOID, TIMESTAMPTZOID};
	Datum		values[] = {UUIDPGetDatum(id), CStringGetTextDatum(sparky_error_text(error)->word), TimestampTzGetDatum(inquire_at)};
	char		nulls[] = {' ', ' ', inquire_at == 0 ? 'n' : ' '};

	sparky_plan(&plan, "UPDATE public.orders SET status = 'failed', error_code = $2, inquire_at = $3 WHERE id = $1", 3, types);
	(void) sparky_execute(plan, values, nulls, 0);
}

void
sparky_orders_learn(const pg_uuid_t *id, int64 intention_order_id)
{
	static SPIPlanPtr plan;
	static const Oid types[] = {UUIDOID, INT8OID};
	Datum		values[] = {UUIDPGetDatum(id), Int64GetDatum(intention_order_id)};

	sparky_plan(&plan, "UPDATE public.orders SET intention_order_id = $2 WHERE id = $1", 2, types);
	(void) sparky_execute(plan, values, NULL, 0);
}

/* ---- inquiries ---- */

/* Data of version 1 have no orders; a new library serves them all the same. */
static bool
orders_exist(void)
{
	Oid			schema = get_namespace_oid("public", true);

	return OidIsValid(schema) && OidIsValid(get_relname_relid("orders", schema));
}

int
sparky_orders_due(TimestampTz now, bool unopened_only, int limit, pg_uuid_t *ids)
{
	static SPIPlanPtr plan;
	static const Oid types[] = {TIMESTAMPTZOID, BOOLOID};
	Datum		values[] = {TimestampTzGetDatum(now), BoolGetDatum(unopened_only)};

	if (!orders_exist())
		return 0;
	sparky_plan(&plan,
				"SELECT id FROM public.orders WHERE inquire_at <= $1 AND (NOT $2 OR status = 'created') ORDER BY inquire_at", 2, types);
	return take_ids(sparky_execute(plan, values, NULL, limit), ids);
}

void
sparky_orders_note_inquiry(const pg_uuid_t *id, TimestampTz next)
{
	static SPIPlanPtr plan;
	static const Oid types[] = {UUIDOID, TIMESTAMPTZOID};
	Datum		values[] = {UUIDPGetDatum(id), TimestampTzGetDatum(next)};
	char		nulls[] = {' ', next == 0 ? 'n' : ' '};

	sparky_plan(&plan, "UPDATE public.orders SET inquire_at = $2, inquiries = inquiries + 1 WHERE id = $1", 2, types);
	(void) sparky_execute(plan, values, nulls, 0);
}

int64
sparky_orders_transaction(int64 intention_order_id)
{
	static SPIPlanPtr plan;
	static const Oid types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(intention_order_id)};

	sparky_plan(&plan, "SELECT transaction_id FROM public.payments WHERE paymob_order_id = $1 AND transaction_id IS NOT NULL", 1, types);
	return sparky_execute(plan, values, NULL, 1) == 0 ? 0 : sparky_column_int(0, 1, 0);
}

void
sparky_orders_ask_no_more(const pg_uuid_t *id)
{
	static SPIPlanPtr plan;
	static const Oid types[] = {UUIDOID};
	Datum		values[] = {UUIDPGetDatum(id)};

	sparky_plan(&plan, "UPDATE public.orders SET inquire_at = NULL WHERE id = $1", 1, types);
	(void) sparky_execute(plan, values, NULL, 0);
}

bool
sparky_orders_doubtful(const pg_uuid_t *id)
{
	static SPIPlanPtr plan;
	static const Oid types[] = {UUIDOID};
	Datum		values[] = {UUIDPGetDatum(id)};

	sparky_plan(&plan,
				"SELECT FROM public.orders o JOIN public.payment_events e ON e.paymob_order_id = o.intention_order_id"
				" WHERE o.id = $1 AND e.ours AND e.refunds AND NOT e.confirmed AND e.refunded_cents > o.refunded_cents", 1, types);
	return sparky_execute(plan, values, NULL, 1) > 0;
}

/* ---- for the caller ---- */

char *
sparky_orders_result(const pg_uuid_t *id, ErrorWord *error)
{
	static SPIPlanPtr plan;
	static const Oid types[] = {UUIDOID, INT4OID};
	Datum		values[] = {UUIDPGetDatum(id), Int32GetDatum(SPARKY_CHECKOUT_LIFETIME_S)};

	*error = WORD_NONE;
	sparky_plan(&plan,
				"SELECT status = 'failed' AND checkout_url IS NULL, error_code, jsonb_build_object('merchant_order_id', merchant_order_id,"
				" 'order_id', id, 'product_id', product_id, 'status', status, 'amount_cents', amount_cents, 'currency', currency,"
				" 'checkout_url', checkout_url, 'client_secret', client_secret,"
				" 'expires_at', created_at + make_interval(secs => $2))::text"
				" FROM public.orders WHERE id = $1", 2, types);
	if (sparky_execute_latest(plan, values, NULL, 1) == 0)
		return NULL;
	if (sparky_column_bool(0, 1))
	{
		const char *word = sparky_column_text(0, 2);

		*error = sparky_error_word(word);
		if (*error == WORD_NONE)
			*error = WORD_PROVIDER_FAILED;
		return NULL;
	}
	return sparky_column_text(0, 3);
}
