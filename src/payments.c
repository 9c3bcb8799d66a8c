/*
 * payments.c: the log of Paymob's events, and what sets their booking going.
 *
 * Rules.  Only genuine events get in here.  The key of an event is transaction_id
 * and state; state names all that is signed and acted upon, since Paymob signs a
 * concatenation: digits that were moved from one field into the next make another
 * key, and never take the place of the genuine event.  An event of an integration
 * or owner that is not in the settings is logged and does nothing; while the
 * settings are empty that is every event.
 *
 * Whoever is not Paymob costs us one bounded table: what is refused is kept ten
 * times a second, in a thousand places.
 */
#include "postgres.h"

#include <ctype.h>

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "owner.h"
#include "payment_book.h"
#include "payment_decision.h"
#include "payments.h"
#include "settings.h"

/* First keys of our advisory locks. */
#define ORDER_LOCK_CLASS 0x73706b6f		/* "spko"; the second is a hash of Paymob's order id */
#define REFUSED_LOCK_CLASS 0x73706b72	/* "spkr" */

#define REFUSED_PER_SECOND 10
#define REFUSED_BODY_BYTES 65536
#define REFUSED_DIGEST_CHARACTERS 200

/* What a transaction says of a payment to us. */
typedef struct Reading
{
	bool		ours;
	bool		child;
	bool		pays;
	bool		voids;
	bool		refunds;
	bool		confirmed;
	int64		refunded;		/* cents */
	PaymentStatus status;
	PaymentAsk	ask;
	char		state[SPARKY_PAYMOB_STATE_SIZE + 224];
} Reading;

static void read_transaction(const PaymobTransaction *transaction, PaymentSource source, Reading *reading);
static PaymentStatus status_of(const PaymobTransaction *transaction, const Reading *reading);
static bool is_ours(const PaymobTransaction *transaction);
static void name_state(const PaymobTransaction *transaction, Reading *reading);
static int64 log_event(const PaymobTransaction *transaction, const Reading *reading, const char *body, PaymentSource source,
					   TimestampTz now, bool *fresh);
static void judge_again(TimestampTz now);
static char *cut(const char *text, int bytes, int characters);

static int32
order_key(int64 paymob_order_id)
{
	return (int32) hash_bytes((const unsigned char *) &paymob_order_id, sizeof(paymob_order_id));
}

void
sparky_payments_lock(int64 paymob_order_id)
{
	static SPIPlanPtr plan;
	Oid			types[] = {INT4OID, INT4OID};
	Datum		values[] = {Int32GetDatum(ORDER_LOCK_CLASS), Int32GetDatum(order_key(paymob_order_id))};

	sparky_plan(&plan, "SELECT pg_catalog.pg_advisory_xact_lock($1, $2)", 2, types);
	(void) sparky_execute(plan, values, NULL, 1);
}

bool
sparky_payments_try_lock(int64 paymob_order_id)
{
	static SPIPlanPtr plan;
	Oid			types[] = {INT4OID, INT4OID};
	Datum		values[] = {Int32GetDatum(ORDER_LOCK_CLASS), Int32GetDatum(order_key(paymob_order_id))};

	sparky_plan(&plan, "SELECT pg_catalog.pg_try_advisory_xact_lock($1, $2)", 2, types);
	(void) sparky_execute(plan, values, NULL, 1);
	return sparky_column_bool(0, 1);
}

void
sparky_payments_record(const PaymobCallback *callback, const char *body, PaymentSource source, TimestampTz now, PaymentResult *result)
{
	const PaymobTransaction *transaction = &callback->transaction;
	PaymentOutcome outcome;
	Reading		reading;
	bool		fresh;

	Assert(callback->kind == PAYMOB_TRANSACTION);
	read_transaction(transaction, source, &reading);
	sparky_payments_lock(transaction->order_id);
	result->event_id = log_event(transaction, &reading, body, source, now, &fresh);
	outcome = sparky_payment_book(transaction->order_id, result->event_id, reading.ask, false, now);
	result->outcome = sparky_payment_outcome_name(outcome);
	if (!fresh)
		result->result = "duplicate";
	else if (outcome == PAYMENT_UNMATCHED)
		result->result = "unmatched";
	else
		result->result = reading.status == PAYMENT_STATUS_FAILED ? "declined" : "logged";
}

void
sparky_payments_match(int64 paymob_order_id, TimestampTz now)
{
	sparky_payments_lock(paymob_order_id);
	(void) sparky_payment_book(paymob_order_id, 0, PAYMENT_ASK, false, now);
}

int64
sparky_payments_replay(TimestampTz now)
{
	static SPIPlanPtr lock,
				orders,
				count;
	int64	   *ids;
	uint64		n;

	/* One lock for all orders: so many advisory ones would fill the lock table. */
	sparky_plan(&lock, "LOCK TABLE public.payment_events IN SHARE ROW EXCLUSIVE MODE", 0, NULL);
	(void) sparky_execute(lock, NULL, NULL, 0);
	judge_again(now);
	sparky_plan(&orders, "SELECT e.paymob_order_id FROM public.payment_events e GROUP BY 1 ORDER BY pg_catalog.min(e.id)", 0, NULL);
	n = sparky_execute_fresh(orders, NULL, NULL);
	ids = palloc(sizeof(int64) * Max(n, 1));
	for (uint64 i = 0; i < n; i++)
		ids[i] = sparky_column_int(i, 1, 0);
	SPI_freetuptable(SPI_tuptable);
	for (uint64 i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		/* Connected anew each time, so that the results of one order do not stay until the last. */
		if (SPI_connect() != SPI_OK_CONNECT)
			elog(ERROR, "could not connect to SPI");
		(void) sparky_payment_book(ids[i], 0, PAYMENT_ASK, true, now);
		SPI_finish();
	}
	sparky_plan(&count, "SELECT pg_catalog.count(*) FROM public.payment_events", 0, NULL);
	(void) sparky_execute_fresh(count, NULL, NULL);
	return sparky_column_int(0, 1, 0);
}

/*
 * Events that came while their integration or owner was not in the settings, and
 * is now: logged again, under the key they ought to have had.  Their digest was
 * verified when they came.
 */
static void
judge_again(TimestampTz now)
{
	static SPIPlanPtr plan;
	SPITupleTable *rows;
	uint64		n;

	sparky_plan(&plan, "SELECT e.body, e.source = 'inquiry' FROM public.payment_events e WHERE NOT e.ours ORDER BY e.id", 0, NULL);
	n = sparky_execute_fresh(plan, NULL, NULL);
	rows = SPI_tuptable;
	for (uint64 i = 0; i < n; i++)
	{
		char	   *body = SPI_getvalue(rows->vals[i], rows->tupdesc, 1);
		char	   *inquired = SPI_getvalue(rows->vals[i], rows->tupdesc, 2);
		PaymobCallback callback;
		PaymobTransaction transaction;
		Reading		reading;
		PaymentSource source = strcmp(inquired, "t") == 0 ? PAYMENT_INQUIRY : PAYMENT_WEBHOOK;
		PaymobKind	kind;
		bool		fresh;

		kind = (source == PAYMENT_INQUIRY ? sparky_paymob_read_transaction : sparky_paymob_read) (body, strlen(body), &callback, NULL, 0);
		transaction = callback.transaction;
		sparky_paymob_callback_free(&callback);
		if (kind != PAYMOB_TRANSACTION)
			continue;
		read_transaction(&transaction, source, &reading);
		if (reading.ours)
			(void) log_event(&transaction, &reading, body, source, now, &fresh);
	}
	SPI_freetuptable(rows);
}

/* ---- what an event says ---- */

static void
read_transaction(const PaymobTransaction *transaction, PaymentSource source, Reading *reading)
{
	bool		success = transaction->success == PAYMOB_FLAG_TRUE && transaction->pending != PAYMOB_FLAG_TRUE;
	int64		refunded = transaction->refunded_amount_cents;

	memset(reading, 0, sizeof(*reading));
	reading->ours = is_ours(transaction);
	reading->child = transaction->has_parent_transaction == PAYMOB_FLAG_TRUE;
	reading->confirmed = source == PAYMENT_INQUIRY;
	reading->ask = source == PAYMENT_INQUIRY ? PAYMENT_ASK_NOT : PAYMENT_ASK;
	if (reading->ours && success)
	{
		reading->pays = sparky_paymob_paid(transaction);
		if (reading->child)
		{
			/* Signed: a child, its amount, and that it neither authorises nor captures; so it takes something back. */
			reading->refunds = transaction->is_capture != PAYMOB_FLAG_TRUE && transaction->is_auth != PAYMOB_FLAG_TRUE;
			reading->voids = reading->refunds && transaction->is_void == PAYMOB_FLAG_TRUE;
			reading->refunded = reading->refunds ? Max(transaction->amount_cents, 0) : 0;
		}
		else
		{
			reading->voids = transaction->is_voided == PAYMOB_FLAG_TRUE;
			reading->refunds = transaction->is_refunded == PAYMOB_FLAG_TRUE;
			/* Its payment was never told; what Paymob itself says was paid and kept in part is delivered in part. */
			if (reading->refunds && source == PAYMENT_INQUIRY && refunded > 0 && refunded < transaction->amount_cents)
			{
				PaymobTransaction before = *transaction;

				before.is_refunded = PAYMOB_FLAG_FALSE;
				reading->pays = sparky_paymob_paid(&before);
			}
			if (refunded > 0 && !reading->refunds && reading->pays)
			{
				/* A partial refund can look like this; but so can a payment whose buyer changed the number. */
				if (source == PAYMENT_INQUIRY)
					reading->refunds = true;
				else
					reading->ask = PAYMENT_ASK_LATER;
			}
			if (reading->refunds)
				reading->refunded = Min(Max(refunded, 0), Max(transaction->amount_cents, 0));
		}
	}
	reading->status = reading->ours ? status_of(transaction, reading) : PAYMENT_STATUS_NONE;
	name_state(transaction, reading);
}

/* By itself; a success that is neither payment nor reversal is held. */
static PaymentStatus
status_of(const PaymobTransaction *transaction, const Reading *reading)
{
	if (reading->child || transaction->is_auth == PAYMOB_FLAG_TRUE || transaction->is_capture == PAYMOB_FLAG_TRUE)
		return PAYMENT_STATUS_NONE;
	if (reading->voids)
		return PAYMENT_STATUS_VOIDED;
	if (reading->refunds && reading->refunded > 0)
		return reading->refunded >= transaction->amount_cents ? PAYMENT_STATUS_REFUNDED : PAYMENT_STATUS_PARTIALLY_REFUNDED;
	if (reading->refunds)
		return PAYMENT_STATUS_NONE;
	if (transaction->pending == PAYMOB_FLAG_TRUE)
		return PAYMENT_STATUS_PENDING;
	return transaction->success == PAYMOB_FLAG_TRUE ? PAYMENT_STATUS_SUCCESS : PAYMENT_STATUS_FAILED;
}

static bool
is_ours(const PaymobTransaction *transaction)
{
	const char *lists[] = {sparky_paymob_integration_ids, sparky_paymob_owner};
	int64		ids[] = {transaction->integration_id, transaction->owner};

	if (transaction->id <= 0 || transaction->order_id <= 0)
		return false;
	for (int i = 0; i < lengthof(lists); i++)
	{
		bool		listed = false;

		for (const char *c = lists[i]; *c != '\0' && !listed;)
		{
			const char *start = c += strspn(c, " \t\r\n,");
			size_t		length = strcspn(c, " \t\r\n,");
			char		text[24];

			snprintf(text, sizeof(text), INT64_FORMAT, ids[i]);
			listed = ids[i] > 0 && length == strlen(text) && memcmp(start, text, length) == 0;
			c += length;
		}
		if (!listed)
			return false;
	}
	return true;
}

static void
name_state(const PaymobTransaction *transaction, Reading *reading)
{
	size_t		length;

	sparky_paymob_state(transaction, reading->state);
	length = strlen(reading->state);
	if (reading->pays && reading->refunds)
		length += snprintf(reading->state + length, sizeof(reading->state) - length, " refunded=" INT64_FORMAT, reading->refunded);
	length += snprintf(reading->state + length, sizeof(reading->state) - length, " %s%s order=" INT64_FORMAT,
					   transaction->amount_text, transaction->currency, transaction->order_id);
	if (!reading->ours)
		snprintf(reading->state + length, sizeof(reading->state) - length, " foreign=" INT64_FORMAT "/" INT64_FORMAT,
				 transaction->integration_id, transaction->owner);
}

/*
 * A repeat is counted.  An inquiry that says the same confirms it, and knows
 * better what is not signed.
 */
static int64
log_event(const PaymobTransaction *transaction, const Reading *reading, const char *body, PaymentSource source, TimestampTz now, bool *fresh)
{
	static SPIPlanPtr plan;
	Oid			types[] = {INT8OID, TEXTOID, INT8OID, TEXTOID, TEXTOID, INT8OID, INT8OID, BOOLOID, BOOLOID, BOOLOID, BOOLOID, BOOLOID,
		TEXTOID, INT8OID, INT8OID, TEXTOID, BOOLOID, TIMESTAMPTZOID, TEXTOID};
	const char *status = sparky_payment_status_name(reading->status);
	Datum		values[] = {
		Int64GetDatum(transaction->id),
		CStringGetTextDatum(reading->state),
		Int64GetDatum(transaction->order_id),
		CStringGetTextDatum(transaction->amount_text),
		CStringGetTextDatum(transaction->currency),
		Int64GetDatum(transaction->integration_id),
		Int64GetDatum(transaction->owner),
		BoolGetDatum(reading->ours),
		BoolGetDatum(reading->child),
		BoolGetDatum(reading->pays),
		BoolGetDatum(reading->voids),
		BoolGetDatum(reading->refunds),
		CStringGetTextDatum(status != NULL ? status : ""),
		Int64GetDatum(reading->refunded),
		Int64GetDatum(transaction->parent_transaction),
		CStringGetTextDatum(source == PAYMENT_INQUIRY ? "inquiry" : "webhook"),
		BoolGetDatum(reading->confirmed),
		TimestampTzGetDatum(now),
		CStringGetTextDatum(body),
	};

	sparky_plan(&plan,
				"INSERT INTO public.payment_events AS e (transaction_id, state, paymob_order_id, amount_cents, currency, integration_id, owner,"
				"  ours, child, pays, voids, refunds, status, refunded_cents, parent_transaction, source, confirmed, outcome,"
				"  created_at, last_seen_at, body, payload)"
				" VALUES ($1, $2, $3, coalesce(nullif($4, '')::pg_catalog.numeric, 0), $5, $6, $7, $8, $9, $10, $11, $12, nullif($13, ''),"
				"  $14, nullif($15, 0), $16, $17, CASE WHEN $8 THEN 'unmatched' ELSE 'mismatch' END, $18, $18, $19, sparky.try_jsonb($19))"
				" ON CONFLICT (transaction_id, state) DO UPDATE SET deliveries = e.deliveries + 1,"
				"  last_seen_at = greatest(e.last_seen_at, excluded.last_seen_at), confirmed = e.confirmed OR excluded.confirmed,"
				"  parent_transaction = CASE WHEN excluded.confirmed THEN excluded.parent_transaction ELSE e.parent_transaction END,"
				"  voids = CASE WHEN excluded.confirmed THEN excluded.voids ELSE e.voids END"
				" RETURNING id, deliveries = 1", 19, types);
	(void) sparky_execute_fresh(plan, values, NULL);
	*fresh = sparky_column_bool(0, 2);
	return sparky_column_int(0, 1, 0);
}

/* ---- what was refused ---- */

void
sparky_payments_refuse(const char *reason, const char *digest, const char *body, TimestampTz now)
{
	static SPIPlanPtr lock,
				recent,
				keep;
	Oid			lock_types[] = {INT4OID};
	Datum		lock_values[] = {Int32GetDatum(REFUSED_LOCK_CLASS)};
	Oid			recent_types[] = {TIMESTAMPTZOID};
	Datum		recent_values[] = {TimestampTzGetDatum(now)};
	Oid			keep_types[] = {TIMESTAMPTZOID, TEXTOID, TEXTOID, TEXTOID};
	Datum		keep_values[4];
	char		nulls[] = "    ";

	/* Behind a lock that nobody waits for, so that ten are ten: who finds it taken is one too many. */
	sparky_plan(&lock, "SELECT pg_catalog.pg_try_advisory_xact_lock($1, 0)", 1, lock_types);
	(void) sparky_execute(lock, lock_values, NULL, 1);
	if (!sparky_column_bool(0, 1))
		return;
	sparky_plan(&recent,
				"SELECT pg_catalog.count(*) FROM sparky.refused_callbacks r WHERE r.received_at > $1 - pg_catalog.make_interval(secs => 1)",
				1, recent_types);
	(void) sparky_execute_fresh(recent, recent_values, NULL);
	if (sparky_column_int(0, 1, 0) >= REFUSED_PER_SECOND)
		return;
	keep_values[0] = TimestampTzGetDatum(now);
	keep_values[1] = CStringGetTextDatum(reason);
	keep_values[2] = digest != NULL ? CStringGetTextDatum(cut(digest, PG_INT32_MAX, REFUSED_DIGEST_CHARACTERS)) : (Datum) 0;
	nulls[2] = digest != NULL ? ' ' : 'n';
	keep_values[3] = CStringGetTextDatum(cut(body, REFUSED_BODY_BYTES, PG_INT32_MAX));
	sparky_plan(&keep,
				"INSERT INTO sparky.refused_callbacks (slot, received_at, reason, digest, body)"
				" VALUES (pg_catalog.nextval('sparky.refused_callback_slots'), $1, $2, $3, $4)"
				" ON CONFLICT (slot) DO UPDATE SET received_at = excluded.received_at, reason = excluded.reason, digest = excluded.digest,"
				"  body = excluded.body", 4, keep_types);
	(void) sparky_execute_fresh(keep, keep_values, nulls);
}

/* A text's beginning, ending between two characters. */
static char *
cut(const char *text, int bytes, int characters)
{
	int			length = strnlen(text, bytes);

	if (bytes < PG_INT32_MAX)
		length = pg_mbcliplen(text, strlen(text), bytes);
	else
		length = pg_mbcharcliplen(text, length, characters);
	return pnstrdup(text, length);
}

int64
sparky_payments_flagged(void)
{
	static SPIPlanPtr there,
				plan;

	/* Data that have not been brought forward yet have no events. */
	sparky_plan(&there, "SELECT pg_catalog.to_regclass('public.payment_events') IS NOT NULL", 0, NULL);
	(void) sparky_execute_latest(there, NULL, NULL, 1);
	if (!sparky_column_bool(0, 1))
		return 0;
	/*
	 * A mismatch that pays took money too, unless it is a genuine payment with its digits moved.  What was given back,
	 * told of the payment itself or of children that add up to it, took none.
	 */
	sparky_plan(&plan,
				"SELECT pg_catalog.count(*) FROM public.payment_events e WHERE e.outcome IN ('duplicate_payment', 'account_gone', 'held', 'mismatch')"
				" AND (e.outcome <> 'mismatch' OR e.pays AND NOT EXISTS (SELECT FROM public.payment_events f"
				"  WHERE f.transaction_id = e.transaction_id AND f.outcome IN ('fulfilled', 'duplicate_payment')))"
				" AND NOT EXISTS (SELECT FROM public.payment_events r WHERE r.paymob_order_id = e.paymob_order_id AND r.ours AND NOT r.child"
				"  AND r.transaction_id = e.transaction_id AND r.currency = e.currency"
				"  AND (r.voids OR r.refunds AND r.refunded_cents >= e.amount_cents))"
				" AND coalesce((SELECT pg_catalog.sum(c.amount_cents) FROM (SELECT DISTINCT ON (r.transaction_id) r.amount_cents"
				"  FROM public.payment_events r WHERE r.paymob_order_id = e.paymob_order_id AND r.ours AND r.child AND r.refunds"
				"  AND r.parent_transaction = e.transaction_id AND r.currency = e.currency ORDER BY r.transaction_id, r.id) c), 0) < e.amount_cents",
				0, NULL);
	(void) sparky_execute_latest(plan, NULL, NULL, 1);
	return sparky_column_int(0, 1, 0);
}
