/*
 * plans.c: which plan is in effect for whom, and what it grants.
 *
 * Rules.  A plan is in effect while a period of it runs; of several the highest
 * counts, by (monthly credits, daily credits, id); without one it is plan 1.
 * That, and what is due, is decided from timestamps whenever it matters.
 * users.plan_id and plan_expires_at only mirror it, and whoever is late with
 * them costs nobody a plan or a grant.
 *
 * Each period grants once, when it has begun, also when it was over before
 * anybody looked.  What it booked stands in plan_periods.granted, so that a
 * reversal takes back exactly that, and a replay books exactly that again.
 *
 * Periods of one user change only under the lock on his row in public.users.
 * Statements run under the latest snapshot, so that a caller in REPEATABLE READ,
 * who began before he had that lock, sees what was done until then.
 * Lengths are computed here, in microseconds: an interval of days would make
 * them depend on the session's time zone.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "common/int.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "credits.h"
#include "owner.h"
#include "plans.h"

/* A period that runs or waits: not reversed, and not over. */
typedef struct Period
{
	int64		id;
	int64		rank;			/* of its plan, 1 is the lowest */
	TimestampTz starts_at;
	TimestampTz ends_at;
	bool		granted;
} Period;

/* The period of an order. */
typedef struct Purchase
{
	pg_uuid_t	user_id;
	char	   *order;			/* its id as text */
	int			granted;		/* 0: nothing, or not yet */
	bool		reversed;
} Purchase;

/* What an SQL face does. */
typedef enum PlanAct
{
	REFRESH_USER, BUY_ORDER, REVERSE_ORDER, RESTORE_ORDER
} PlanAct;

#define RANKED "(SELECT r.id, row_number() OVER (ORDER BY r.monthly_credits, r.max_daily_credits, r.id) AS rank FROM public.plans r)"
#define EFFECTIVE "coalesce(e.plan_id, 1)"
#define EFFECTIVE_END "nullif(e.ends_at, 'infinity')"

static int64 rank_of(int64 plan_id);
static int	load_periods(const pg_uuid_t *user_id, TimestampTz now, Period **periods);
static void write_period(const Period *period);
static void make_period(const PlanOrder *order, TimestampTz now);
static void move_up(Period *periods, int count, TimestampTz now);
static void book_periods(const pg_uuid_t *user_id, TimestampTz now);
static void book_again(int64 period, const pg_uuid_t *user_id, int granted, TimestampTz now);
static bool find_purchase(const pg_uuid_t *order_id, Purchase *purchase);
static void book_clawback(const Purchase *purchase, int target, const char *reference, TimestampTz now);
static TimestampTz free_from(const Period *periods, int count, int64 rank, TimestampTz now);
static TimestampTz days_later(TimestampTz start, int days);
static void mirror(const pg_uuid_t *user_id, TimestampTz now);
static void put_plan(const pg_uuid_t *user_id, int64 plan_id, TimestampTz expires, TimestampTz now);
static void end_by_hand(Period *period, TimestampTz at, TimestampTz now);

bool
sparky_plans_have_periods(void)
{
	/* Both names are in the system caches: this costs nothing. */
	return OidIsValid(get_relname_relid("plan_periods", get_namespace_oid("sparky", true)));
}

const char *
sparky_plans_running(void)
{
	if (!sparky_plans_have_periods())
		return "(SELECT u.plan_id, coalesce(u.plan_expires_at, 'infinity') AS ends_at"
			" WHERE u.plan_expires_at IS NULL OR u.plan_expires_at > $2)";
	return "(SELECT q.plan_id, q.ends_at FROM sparky.plan_periods q JOIN public.plans o ON o.id = q.plan_id"
		" WHERE q.user_id = u.id AND q.ends_at > $2 AND q.starts_at <= $2 AND q.reversed_at IS NULL"
		" ORDER BY o.monthly_credits DESC, o.max_daily_credits DESC, o.id DESC, q.ends_at DESC LIMIT 1)";
}

const char *
sparky_plans_due(void)
{
	if (!sparky_plans_have_periods())
		return "NULL::pg_catalog.int4[]";
	return "(SELECT array_agg(o.monthly_credits ORDER BY q.starts_at, q.id) FROM sparky.plan_periods q"
		" JOIN public.plans o ON o.id = q.plan_id"
		" WHERE q.user_id = u.id AND q.starts_at <= $2 AND q.granted IS NULL AND q.reversed_at IS NULL)";
}

void
sparky_plans_buy(const PlanOrder *order, TimestampTz now)
{
	static SPIPlanPtr plan;
	Oid			types[] = {UUIDOID};
	Datum		values[] = {UUIDPGetDatum(&order->order_id)};

	sparky_plan(&plan, "SELECT id, coalesce(granted, 0) FROM sparky.plan_periods WHERE order_id = $1", 1, types);
	if (sparky_execute_fresh(plan, values, NULL) == 0)
		make_period(order, now);
	else
		book_again(sparky_column_int(0, 1, 0), &order->user_id, (int) sparky_column_int(0, 2, 0), now);
	book_periods(&order->user_id, now);
	mirror(&order->user_id, now);
}

void
sparky_plans_reverse(const pg_uuid_t *order_id, TimestampTz now, const char *reference)
{
	static SPIPlanPtr plan;
	Oid			types[] = {UUIDOID, TIMESTAMPTZOID};
	Datum		values[] = {UUIDPGetDatum(order_id), TimestampTzGetDatum(now)};
	Period	   *periods;
	Purchase	purchase;
	int			count;

	if (!find_purchase(order_id, &purchase))
		return;
	sparky_plan(&plan,
				"UPDATE sparky.plan_periods SET reversed_at = $2, ends_at = least(ends_at, greatest(starts_at, $2))"
				" WHERE order_id = $1 AND reversed_at IS NULL", 2, types);
	(void) sparky_execute_fresh(plan, values, NULL);
	/* Not whether it was reversed already, but whether that was booked: a replay begins with an empty ledger. */
	book_clawback(&purchase, purchase.granted, reference, now);
	count = load_periods(&purchase.user_id, now, &periods);
	move_up(periods, count, now);
	book_periods(&purchase.user_id, now);
	mirror(&purchase.user_id, now);
}

void
sparky_plans_restore(const PlanOrder *order, TimestampTz now)
{
	static SPIPlanPtr plan;
	Oid			types[] = {UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		values[3];
	Period	   *periods;
	Purchase	purchase;
	TimestampTz start;
	int			count;

	if (!find_purchase(&order->order_id, &purchase) || !purchase.reversed)
		return;
	count = load_periods(&order->user_id, now, &periods);
	start = free_from(periods, count, rank_of(order->plan_id), now);
	values[0] = UUIDPGetDatum(&order->order_id);
	values[1] = TimestampTzGetDatum(start);
	values[2] = TimestampTzGetDatum(days_later(start, order->period_days));
	sparky_plan(&plan, "UPDATE sparky.plan_periods SET reversed_at = NULL, starts_at = $2, ends_at = $3 WHERE order_id = $1", 3, types);
	(void) sparky_execute_fresh(plan, values, NULL);
	book_clawback(&purchase, 0, psprintf("%s:0", purchase.order), now);
	book_periods(&order->user_id, now);
	mirror(&order->user_id, now);
}

/* Is the period of this row in effect rather than that one? As sparky_plans_running() orders them. */
static bool
is_above(const int64 *row, const int64 *other)
{
	for (int i = 0; i < 4; i++)
		if (row[i] != other[i])
			return row[i] > other[i];
	return false;
}

/* Every acceptance asks this: one look that needs no sort, and mostly finds nothing to do. */
void
sparky_plans_refresh(const pg_uuid_t *user_id, TimestampTz now)
{
	static SPIPlanPtr plan;
	Oid			types[] = {UUIDOID, TIMESTAMPTZOID};
	Datum		values[] = {UUIDPGetDatum(user_id), TimestampTzGetDatum(now)};
	int64		best[] = {-1, -1, SPARKY_FREE_PLAN, DT_NOEND};	/* monthly, daily, plan, end */
	bool		due = false,
				month,
				stale,
				isnull;
	uint64		rows;
	TimestampTz expires;

	if (!sparky_plans_have_periods())
	{
		(void) sparky_credits_grant_monthly(user_id, now);
		return;
	}
	sparky_plan(&plan,
				"SELECT u.plan_id, coalesce(u.plan_expires_at, 'infinity'), EXISTS (SELECT FROM sparky.signup_grants g WHERE g.user_id = u.id"
				"   AND g.last_month < to_char($2 AT TIME ZONE 'UTC', 'YYYY-MM')),"
				" o.monthly_credits, o.max_daily_credits, q.plan_id, q.ends_at, q.ends_at > $2, q.granted IS NULL"
				" FROM public.users u LEFT JOIN (sparky.plan_periods q JOIN public.plans o ON o.id = q.plan_id) ON q.user_id = u.id"
				"   AND q.reversed_at IS NULL AND q.starts_at <= $2 AND (q.ends_at > $2 OR q.granted IS NULL)"
				" WHERE u.id = $1", 2, types);
	rows = sparky_execute_fresh(plan, values, NULL);
	if (rows == 0)
		return;
	for (uint64 i = 0; i < rows; i++)
	{
		int64		row[4];

		row[2] = sparky_column_int(i, 6, 0);
		if (row[2] == 0)
			break;				/* he has none */
		row[0] = sparky_column_int(i, 4, 0);
		row[1] = sparky_column_int(i, 5, 0);
		row[3] = DatumGetTimestampTz(sparky_column(i, 7, &isnull));
		due |= sparky_column_bool(i, 9);
		if (sparky_column_bool(i, 8) && is_above(row, best))
			memcpy(best, row, sizeof(best));
	}
	month = best[2] == SPARKY_FREE_PLAN && sparky_column_bool(0, 3);
	expires = DatumGetTimestampTz(sparky_column(0, 2, &isnull));
	stale = sparky_column_int(0, 1, 0) != best[2] || expires != best[3];
	if (due)
		book_periods(user_id, now);
	if (month)
		(void) sparky_credits_grant_monthly(user_id, now);
	if (stale)
		mirror(user_id, now);
}

bool
sparky_plans_is_downgrade(const pg_uuid_t *user_id, int64 plan_id, TimestampTz now)
{
	static SPIPlanPtr plan;
	Oid			types[] = {UUIDOID, INT8OID, TIMESTAMPTZOID};
	Datum		values[] = {UUIDPGetDatum(user_id), Int64GetDatum(plan_id), TimestampTzGetDatum(now)};

	sparky_plan(&plan,
				"SELECT 1 FROM sparky.plan_periods e JOIN public.plans h ON h.id = e.plan_id, public.plans p"
				" WHERE e.user_id = $1 AND e.ends_at > $3 AND e.reversed_at IS NULL AND p.id = $2"
				" AND (h.monthly_credits, h.max_daily_credits, h.id) > (p.monthly_credits, p.max_daily_credits, p.id)", 3, types);
	return sparky_execute_latest(plan, values, NULL, 1) > 0;
}

static int64
rank_of(int64 plan_id)
{
	static SPIPlanPtr plan;
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(plan_id)};

	sparky_plan(&plan, "SELECT k.rank FROM " RANKED " k WHERE k.id = $1", 1, types);
	(void) sparky_execute_fresh(plan, values, NULL);
	return SPI_processed > 0 ? sparky_column_int(0, 1, 0) : 0;
}

/* The periods that run or wait, in the order in which they begin. */
static int
load_periods(const pg_uuid_t *user_id, TimestampTz now, Period **periods)
{
	static SPIPlanPtr plan;
	Oid			types[] = {UUIDOID, TIMESTAMPTZOID};
	Datum		values[] = {UUIDPGetDatum(user_id), TimestampTzGetDatum(now)};
	int			count;
	bool		isnull;

	sparky_plan(&plan,
				"SELECT e.id, k.rank, e.starts_at, e.ends_at, e.granted IS NOT NULL FROM sparky.plan_periods e"
				" JOIN " RANKED " k ON k.id = e.plan_id"
				" WHERE e.user_id = $1 AND e.reversed_at IS NULL AND e.ends_at > $2 ORDER BY e.starts_at, e.id", 2, types);
	count = (int) sparky_execute_fresh(plan, values, NULL);
	*periods = palloc(sizeof(Period) * Max(count, 1));
	for (int i = 0; i < count; i++)
	{
		Period	   *period = &(*periods)[i];

		period->id = sparky_column_int(i, 1, 0);
		period->rank = sparky_column_int(i, 2, 0);
		period->starts_at = DatumGetTimestampTz(sparky_column(i, 3, &isnull));
		period->ends_at = DatumGetTimestampTz(sparky_column(i, 4, &isnull));
		period->granted = sparky_column_bool(i, 5);
	}
	return count;
}

/* A period that is granted without ever having been so: nothing was booked, and nothing will be. */
static void
write_period(const Period *period)
{
	static SPIPlanPtr plan;
	Oid			types[] = {INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, BOOLOID};
	Datum		values[] = {
		Int64GetDatum(period->id), TimestampTzGetDatum(period->starts_at),
		TimestampTzGetDatum(period->ends_at), BoolGetDatum(period->granted)
	};

	sparky_plan(&plan,
				"UPDATE sparky.plan_periods SET starts_at = $2, ends_at = $3, granted = CASE WHEN $4 THEN coalesce(granted, 0) END"
				" WHERE id = $1", 4, types);
	(void) sparky_execute_fresh(plan, values, NULL);
}

/*
 * When a period of this rank may begin: when those of its own plan and of
 * higher ones have ended.  What was given by hand without an end is not waited
 * for, or a paid order would never be fulfilled.
 */
static TimestampTz
free_from(const Period *periods, int count, int64 rank, TimestampTz now)
{
	TimestampTz start = now;

	for (int i = 0; i < count; i++)
		if (periods[i].rank >= rank && !TIMESTAMP_IS_NOEND(periods[i].ends_at))
			start = Max(start, periods[i].ends_at);
	return start;
}

/* Further than a timestamp goes is for ever. */
static TimestampTz
days_later(TimestampTz start, int days)
{
	int64		length,
				end;

	if (pg_mul_s64_overflow(days, USECS_PER_DAY, &length) || pg_add_s64_overflow(start, length, &end) || !IS_VALID_TIMESTAMP(end))
		return DT_NOEND;
	return end;
}

static void
make_period(const PlanOrder *order, TimestampTz now)
{
	static SPIPlanPtr plan;
	Oid			types[] = {UUIDOID, INT8OID, UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		values[6];
	Period	   *periods;
	int			count = load_periods(&order->user_id, now, &periods);
	TimestampTz start = free_from(periods, count, rank_of(order->plan_id), now);

	values[0] = UUIDPGetDatum(&order->user_id);
	values[1] = Int64GetDatum(order->plan_id);
	values[2] = UUIDPGetDatum(&order->order_id);
	values[3] = TimestampTzGetDatum(start);
	values[4] = TimestampTzGetDatum(days_later(start, order->period_days));
	values[5] = TimestampTzGetDatum(now);
	sparky_plan(&plan,
				"INSERT INTO sparky.plan_periods (user_id, plan_id, order_id, starts_at, ends_at, created_at)"
				" VALUES ($1, $2, $3, $4, $5, $6)", 6, types);
	(void) sparky_execute_fresh(plan, values, NULL);
}

/* Those that wait begin as early as those before them allow; none begins later than it would have. */
static void
move_up(Period *periods, int count, TimestampTz now)
{
	for (int i = 0; i < count; i++)
	{
		Period	   *period = &periods[i];
		TimestampTz start = free_from(periods, i, period->rank, now);

		if (period->granted || period->starts_at <= now || start >= period->starts_at)
			continue;
		if (!TIMESTAMP_IS_NOEND(period->ends_at))
			period->ends_at -= period->starts_at - start;
		period->starts_at = start;
		write_period(period);
	}
}

/* The grant of each period that has begun, in the order in which they did. */
static void
book_periods(const pg_uuid_t *user_id, TimestampTz now)
{
	static SPIPlanPtr look,
				mark;
	Oid			types[] = {UUIDOID, TIMESTAMPTZOID};
	Datum		values[] = {UUIDPGetDatum(user_id), TimestampTzGetDatum(now)};
	Oid			mark_types[] = {INT8OID};
	int			count;
	int64	   *ids;

	sparky_plan(&look,
				"SELECT id FROM sparky.plan_periods WHERE user_id = $1 AND starts_at <= $2 AND granted IS NULL AND reversed_at IS NULL"
				" ORDER BY starts_at, id", 2, types);
	count = (int) sparky_execute_fresh(look, values, NULL);
	if (count == 0)
		return;
	ids = palloc(sizeof(int64) * count);
	for (int i = 0; i < count; i++)
		ids[i] = sparky_column_int(i, 1, 0);
	sparky_plan(&mark,
				"UPDATE sparky.plan_periods e SET granted = greatest(0, p.monthly_credits - u.allowance)"
				" FROM public.plans p, public.users u WHERE e.id = $1 AND p.id = e.plan_id AND u.id = e.user_id RETURNING e.granted",
				1, mark_types);
	for (int i = 0; i < count; i++)
	{
		Datum		period[] = {Int64GetDatum(ids[i])};
		int			granted;

		if (sparky_execute_fresh(mark, period, NULL) == 0)
			continue;			/* no profile: nothing to book on */
		granted = (int) sparky_column_int(0, 1, 0);
		sparky_credits_move(user_id, granted, granted, "period", psprintf(INT64_FORMAT, ids[i]), now);
	}
}

/* The period is known.  If the ledger does not know what it granted, this is a replay: the same amount again. */
static void
book_again(int64 period, const pg_uuid_t *user_id, int granted, TimestampTz now)
{
	static SPIPlanPtr plan;
	Oid			types[] = {TEXTOID};
	char	   *reference = psprintf(INT64_FORMAT, period);
	Datum		values[] = {CStringGetTextDatum(reference)};

	sparky_plan(&plan, "SELECT 1 FROM public.credit_ledger WHERE kind = 'period' AND reference = $1", 1, types);
	if (granted > 0 && sparky_execute_fresh(plan, values, NULL) == 0)
		sparky_credits_move(user_id, granted, granted, "period", reference, now);
}

static bool
find_purchase(const pg_uuid_t *order_id, Purchase *purchase)
{
	static SPIPlanPtr plan;
	Oid			types[] = {UUIDOID};
	Datum		values[] = {UUIDPGetDatum(order_id)};
	bool		isnull;

	sparky_plan(&plan,
				"SELECT user_id, order_id::pg_catalog.text, coalesce(granted, 0), reversed_at IS NOT NULL FROM sparky.plan_periods WHERE order_id = $1",
				1, types);
	if (sparky_execute_fresh(plan, values, NULL) == 0)
		return false;
	purchase->user_id = *DatumGetUUIDP(sparky_column(0, 1, &isnull));
	purchase->order = sparky_column_text(0, 2);
	purchase->granted = (int) sparky_column_int(0, 3, 0);
	purchase->reversed = sparky_column_bool(0, 4);
	return true;
}

/*
 * Let what was taken back for a purchase come to target credits.  Where that was
 * not the first movement the reference gets a counter, so that it is a new one.
 */
static void
book_clawback(const Purchase *purchase, int target, const char *reference, TimestampTz now)
{
	static SPIPlanPtr plan;
	Oid			types[] = {UUIDOID, TEXTOID};
	Datum		values[] = {UUIDPGetDatum(&purchase->user_id), CStringGetTextDatum(purchase->order)};
	int			delta,
				movements;

	sparky_plan(&plan,
				"SELECT -coalesce(sum(delta), 0), count(*) FROM public.credit_ledger"
				" WHERE user_id = $1 AND kind = 'clawback' AND split_part(reference, ':', 1) = $2", 2, types);
	(void) sparky_execute_fresh(plan, values, NULL);
	delta = (int) sparky_column_int(0, 1, 0) - target;
	movements = (int) sparky_column_int(0, 2, 0);
	if (delta == 0)
		return;
	sparky_credits_move(&purchase->user_id, delta, delta, "clawback", movements == 0 ? reference : psprintf("%s:%d", reference, movements), now);
}

/* A plan that ended by time, with a lower one after it, is told; one that was taken back or ended by hand is not. */
static void
mirror(const pg_uuid_t *user_id, TimestampTz now)
{
	static SPIPlanPtr write,
				tell;
	Oid			types[] = {UUIDOID, TIMESTAMPTZOID};
	Datum		values[] = {UUIDPGetDatum(user_id), TimestampTzGetDatum(now)};

	if (write == NULL)
		sparky_plan(&write, psprintf(
				"UPDATE public.users w SET plan_id = " EFFECTIVE ", plan_expires_at = " EFFECTIVE_END
				" FROM public.users u LEFT JOIN LATERAL %s e ON true"
				" LEFT JOIN public.plans p ON p.id = " EFFECTIVE " LEFT JOIN public.plans o ON o.id = u.plan_id"
				" WHERE u.id = $1 AND w.id = u.id"
				" AND (u.plan_id <> " EFFECTIVE " OR u.plan_expires_at IS DISTINCT FROM " EFFECTIVE_END ")"
				" RETURNING u.plan_expires_at <= $2"
				" AND (o.monthly_credits, o.max_daily_credits, o.id) > (p.monthly_credits, p.max_daily_credits, p.id)",
				sparky_plans_running()), 2, types);
	if (sparky_credits_write(write, values) == 0 || !sparky_column_bool(0, 1))
		return;
	sparky_plan(&tell,
				"INSERT INTO public.notifications (user_id, type, title_key, message_key, created_at)"
				" VALUES ($1, 'general', 'notification.plan_expired.title', 'notification.plan_expired.message', $2)", 2, types);
	(void) sparky_execute_fresh(tell, values, NULL);
}

/*
 * The owner wrote a plan and its end into public.users.  It is as he says, from
 * now on: higher periods end, those of this plan end no later than he says,
 * lower ones stay as they are below it.  Plan 1 ends them all, paid ones too.
 */
static void
put_plan(const pg_uuid_t *user_id, int64 plan_id, TimestampTz expires, TimestampTz now)
{
	static SPIPlanPtr add;
	Oid			types[] = {UUIDOID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		values[] = {
		UUIDPGetDatum(user_id), Int64GetDatum(plan_id), TimestampTzGetDatum(expires), TimestampTzGetDatum(now)
	};
	int64		rank = plan_id == SPARKY_FREE_PLAN ? 0 : rank_of(plan_id);
	Period	   *periods;
	int			count = load_periods(user_id, now, &periods);
	bool		there = false;

	for (int i = 0; i < count; i++)
	{
		Period	   *period = &periods[i];

		if (period->rank > rank)
			end_by_hand(period, now, now);
		else if (period->rank == rank && (period->starts_at <= now || expires <= now))
		{
			if (period->ends_at > expires)
				end_by_hand(period, expires, now);
			there |= period->ends_at == expires;
		}
	}
	if (plan_id != SPARKY_FREE_PLAN && !there)
	{
		/* No beginning: it is as he says at every time that is asked about. created_at tells when he said it. */
		sparky_plan(&add,
					"INSERT INTO sparky.plan_periods (user_id, plan_id, starts_at, ends_at, granted, created_at)"
					" VALUES ($1, $2, '-infinity', $3, 0, $4)", 4, types);
		(void) sparky_execute_fresh(add, values, NULL);
	}
	count = load_periods(user_id, now, &periods);
	move_up(periods, count, now);
}

/* One that has not begun never will, and grants nothing. */
static void
end_by_hand(Period *period, TimestampTz at, TimestampTz now)
{
	if (period->starts_at > now)
		period->granted = true;
	period->ends_at = Max(period->starts_at, Min(period->ends_at, at));
	write_period(period);
}

/* The faces below may wait for the user's row: their callers are not the worker. */
static bool
lock_user(const pg_uuid_t *user_id)
{
	static SPIPlanPtr plan;
	Oid			types[] = {UUIDOID};
	Datum		values[] = {UUIDPGetDatum(user_id)};

	sparky_plan(&plan, "SELECT 1 FROM public.users WHERE id = $1 FOR NO KEY UPDATE", 1, types);
	return sparky_execute_fresh(plan, values, NULL) > 0;
}

/* The order of this id, if its buyer is still there; his row is locked then. */
static bool
lock_order(const pg_uuid_t *order_id, PlanOrder *order)
{
	static SPIPlanPtr plan;
	Oid			types[] = {UUIDOID};
	Datum		values[] = {UUIDPGetDatum(order_id)};
	bool		isnull;

	sparky_plan(&plan, "SELECT user_id, plan_id, period_days FROM public.orders WHERE id = $1 AND kind = 'plan' AND user_id IS NOT NULL",
				1, types);
	if (sparky_execute_fresh(plan, values, NULL) == 0)
		return false;
	order->order_id = *order_id;
	order->user_id = *DatumGetUUIDP(sparky_column(0, 1, &isnull));
	order->plan_id = sparky_column_int(0, 2, 0);
	order->period_days = (int) sparky_column_int(0, 3, 0);
	return lock_user(&order->user_id);
}

/* What the four faces do, each as the data owner and with the user's row locked; where an argument is NULL, nothing. */
static Datum
act(FunctionCallInfo fcinfo, PlanAct what)
{
	OwnerScope	scope;
	PlanOrder	order;
	TimestampTz at;

	for (int i = 0; i < PG_NARGS(); i++)
		if (PG_ARGISNULL(i))
			PG_RETURN_NULL();
	at = PG_GETARG_TIMESTAMPTZ(1);
	sparky_owner_enter(&scope);
	if (what == REFRESH_USER ? lock_user(PG_GETARG_UUID_P(0)) : lock_order(PG_GETARG_UUID_P(0), &order))
		switch (what)
		{
			case REFRESH_USER:
				sparky_plans_refresh(PG_GETARG_UUID_P(0), at);
				break;
			case BUY_ORDER:
				sparky_plans_buy(&order, at);
				break;
			case REVERSE_ORDER:
				sparky_plans_reverse(&order.order_id, at, text_to_cstring(PG_GETARG_TEXT_PP(2)));
				break;
			case RESTORE_ORDER:
				sparky_plans_restore(&order, at);
				break;
		}
	sparky_owner_leave(&scope);
	PG_RETURN_VOID();
}

/* sparky.refresh_plans(user_id, at): as at an acceptance at that time. */
SPARKY_FUNCTION(sparky_refresh_plans);
Datum
sparky_refresh_plans(PG_FUNCTION_ARGS)
{
	return act(fcinfo, REFRESH_USER);
}

/* sparky.buy_plan(order_id, at): as when its payment comes at that time. */
SPARKY_FUNCTION(sparky_buy_plan);
Datum
sparky_buy_plan(PG_FUNCTION_ARGS)
{
	return act(fcinfo, BUY_ORDER);
}

/* sparky.reverse_plan(order_id, at, reference): as when its refund comes at that time. */
SPARKY_FUNCTION(sparky_reverse_plan);
Datum
sparky_reverse_plan(PG_FUNCTION_ARGS)
{
	return act(fcinfo, REVERSE_ORDER);
}

/* sparky.restore_plan(order_id, at): as when another payment of a reversed order comes at that time. */
SPARKY_FUNCTION(sparky_restore_plan);
Datum
sparky_restore_plan(PG_FUNCTION_ARGS)
{
	return act(fcinfo, RESTORE_ORDER);
}

/* sparky.put_plan(user_id, plan_id, expires, at): the trigger's, whose statement holds the row; no end is NULL. */
SPARKY_FUNCTION(sparky_put_plan);
Datum
sparky_put_plan(PG_FUNCTION_ARGS)
{
	OwnerScope	scope;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(3))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("sparky.put_plan takes no NULL but for the end")));
	sparky_owner_enter(&scope);
	put_plan(PG_GETARG_UUID_P(0), PG_GETARG_INT64(1), PG_ARGISNULL(2) ? DT_NOEND : PG_GETARG_TIMESTAMPTZ(2), PG_GETARG_TIMESTAMPTZ(3));
	sparky_owner_leave(&scope);
	PG_RETURN_VOID();
}
