/*
 * account.c: a user's plan and credits, read only.
 *
 * Everything is decided from timestamps, here and at acceptance alike: nothing
 * waits for a scheduled job to have run.  What is read here is for showing and
 * for refusing early; the worker reads again, under locks, before it takes money.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/timestamp.h"

#include "account.h"
#include "credits.h"
#include "owner.h"
#include "raise.h"

/*
 * Active jobs hold credits until their deadline; an answered one, whose result
 * is safe, until it is settled.
 */
#define HELD_CREDITS \
	"(SELECT COALESCE(pg_catalog.sum(j.credits_held), 0)::pg_catalog.int8 FROM public.generation_jobs j" \
	" WHERE j.user_id = u.id AND (j.status IN ('answered', 'storing')" \
	" OR (j.status IN ('queued', 'fetching', 'generating') AND j.deadline > $2)))"

#define USED_TODAY \
	"(SELECT COALESCE(pg_catalog.sum(c.credits_used), 0)::pg_catalog.int8 FROM public.credit_usage c" \
	" WHERE c.user_id = u.id AND c.created_at >= pg_catalog.date_trunc('day', $2, 'UTC'))"

#define MONTH_UNGRANTED \
	"EXISTS (SELECT FROM sparky.signup_grants g WHERE g.user_id = u.id" \
	" AND g.last_month < pg_catalog.to_char(pg_catalog.timezone('UTC', $2), 'YYYY-MM'))"

static int64 balance_due(const Account *account, Datum due, bool none_due, bool month_due);

bool
sparky_account_read(const pg_uuid_t *user, TimestampTz now, Account *account)
{
	static SPIPlanPtr plans[2];
	static const Oid types[] = {UUIDOID, TIMESTAMPTZOID};
	SPIPlanPtr *plan = &plans[sparky_plans_have_periods()];
	Datum		values[] = {UUIDPGetDatum(user), TimestampTzGetDatum(now)};
	Datum		value;
	bool		isnull;

	if (*plan == NULL)
		sparky_plan(plan, psprintf(
				"SELECT u.credits, u.debt, u.allowance, COALESCE(e.plan_id, 1), p.name, COALESCE(p.monthly_credits, 0),"
				" COALESCE(p.max_daily_credits, 0), NULLIF(e.ends_at, 'infinity'), " HELD_CREDITS ", " USED_TODAY ","
				" " MONTH_UNGRANTED ", pg_catalog.date_trunc('day', $2, 'UTC'), %s"
				" FROM public.users u LEFT JOIN LATERAL %s e ON true"
				" LEFT JOIN public.plans p ON p.id = COALESCE(e.plan_id, 1) WHERE u.id = $1",
				sparky_plans_due(), sparky_plans_running()), 2, types);
	if (sparky_execute_latest(*plan, values, NULL, 1) == 0)
		return false;

	account->credits = (int) sparky_column_int(0, 1, 0);
	account->debt = (int) sparky_column_int(0, 2, 0);
	account->allowance = (int) sparky_column_int(0, 3, 0);
	account->plan_id = sparky_column_int(0, 4, SPARKY_FREE_PLAN);
	account->plan_name = sparky_column_text(0, 5);
	account->monthly_credits = (int) sparky_column_int(0, 6, 0);
	account->max_daily_credits = (int) sparky_column_int(0, 7, 0);
	value = sparky_column(0, 8, &isnull);
	account->plan_expires = !isnull;
	account->plan_expires_at = isnull ? 0 : DatumGetTimestampTz(value);
	account->held = sparky_column_int(0, 9, 0);
	account->used_today = sparky_column_int(0, 10, 0);
	account->resets_at = DatumGetTimestampTz(sparky_column(0, 12, &isnull)) + USECS_PER_DAY;
	value = sparky_column(0, 13, &isnull);
	account->balance_due = balance_due(account, value, isnull, account->plan_id == SPARKY_FREE_PLAN && sparky_column_bool(0, 11));
	return true;
}

/* One grant: debt is paid first, and the allowance is filled up to what the plan gives. */
static void
grant(int64 *balance, int64 *allowance, int monthly_credits)
{
	int64		reached = Max(*allowance, monthly_credits);

	*balance += Max(0, monthly_credits - *allowance);
	*allowance = Min(reached, Max(*balance, 0));
}

/* The balance as the next acceptance will find it: what it books first, in its order. */
static int64
balance_due(const Account *account, Datum due, bool none_due, bool month_due)
{
	int64		balance = (int64) account->credits - account->debt;
	int64		allowance = account->allowance;

	if (!none_due)
	{
		Datum	   *credits;
		int			count;

		deconstruct_array(DatumGetArrayTypeP(due), INT4OID, sizeof(int32), true, TYPALIGN_INT, &credits, NULL, &count);
		for (int i = 0; i < count; i++)
			grant(&balance, &allowance, DatumGetInt32(credits[i]));
	}
	if (month_due)
		grant(&balance, &allowance, account->monthly_credits);
	return balance;
}

void
sparky_account_check(const pg_uuid_t *user)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {UUIDOID};
	Datum		values[] = {UUIDPGetDatum(user)};

	sparky_plan(&plan, "SELECT 1 FROM public.users u WHERE u.id = $1", 1, types);
	if (sparky_execute_latest(plan, values, NULL, 1) == 0)
		sparky_raise(WORD_ACCOUNT_GONE, NULL, NULL, 0);
}

void
sparky_account_require(const pg_uuid_t *user, TimestampTz now, Account *account)
{
	if (!sparky_account_read(user, now, account))
		sparky_raise(WORD_ACCOUNT_GONE, NULL, NULL, 0);
}

int64
sparky_account_available(const Account *account)
{
	return Max(account->balance_due - account->held, 0);
}

bool
sparky_account_pro(const Account *account)
{
	return account->plan_id != SPARKY_FREE_PLAN;
}

int
sparky_seconds_to_utc_midnight(TimestampTz now)
{
	return (int) ((sparky_utc_day(now) + USECS_PER_DAY - now + USECS_PER_SEC - 1) / USECS_PER_SEC);
}

void
sparky_account_usage(const pg_uuid_t *user, const UsageRange *range, Tuplestorestate *store, TupleDesc columns)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID, BOOLOID};
	Datum		values[] = {
		UUIDPGetDatum(user), TimestampTzGetDatum(range->since), TimestampTzGetDatum(range->until),
		BoolGetDatum(range->since_given)
	};
	uint64		rows;

	sparky_plan(&plan,
				"SELECT pg_catalog.timezone('UTC', c.created_at)::pg_catalog.date, c.tool_id,"
				" pg_catalog.count(*), pg_catalog.sum(c.credits_used)::pg_catalog.int8"
				" FROM public.credit_usage c WHERE c.user_id = $1 AND c.created_at < $3 AND c.created_at >="
				" CASE WHEN $4 THEN $2 ELSE pg_catalog.date_trunc('month', $2, 'UTC') END"
				" GROUP BY 1, 2 ORDER BY 1, 2",
				4, types);
	rows = sparky_execute_latest(plan, values, NULL, 0);
	for (uint64 row = 0; row < rows; row++)
	{
		Datum		cells[4];
		bool		nulls[4];

		for (int column = 0; column < 4; column++)
			cells[column] = sparky_column(row, column + 1, &nulls[column]);
		tuplestore_putvalues(store, columns, cells, nulls);
	}
}
