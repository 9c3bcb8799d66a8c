/*
 * account.c: a user's plan and credits, read only.
 *
 * Everything is decided from timestamps, here and at acceptance alike: nothing
 * waits for a scheduled job to have run.  What is read here is for showing and
 * for refusing early; the worker reads again, under locks, before it takes money.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
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

bool
sparky_account_read(const pg_uuid_t *user, TimestampTz now, Account *account)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {UUIDOID, TIMESTAMPTZOID};
	Datum		values[] = {UUIDPGetDatum(user), TimestampTzGetDatum(now)};
	Datum		expires;
	bool		isnull;

	sparky_plan(&plan,
				"SELECT u.credits, u.debt, u.allowance, e.plan_id, p.name, COALESCE(p.monthly_credits, 0),"
				" COALESCE(p.max_daily_credits, 0), CASE WHEN e.plan_id = u.plan_id AND u.plan_expires_at > $2"
				" THEN u.plan_expires_at END, " HELD_CREDITS ", " USED_TODAY ", " MONTH_UNGRANTED ","
				" pg_catalog.date_trunc('day', $2, 'UTC')"
				" FROM public.users u CROSS JOIN LATERAL (SELECT " SPARKY_EFFECTIVE_PLAN("u", "$2") " AS plan_id) e"
				" LEFT JOIN public.plans p ON p.id = e.plan_id WHERE u.id = $1",
				2, types);
	if (sparky_execute_latest(plan, values, NULL, 1) == 0)
		return false;

	account->credits = (int) sparky_column_int(0, 1, 0);
	account->debt = (int) sparky_column_int(0, 2, 0);
	account->allowance = (int) sparky_column_int(0, 3, 0);
	account->plan_id = sparky_column_int(0, 4, SPARKY_FREE_PLAN);
	account->plan_name = sparky_column_text(0, 5);
	account->monthly_credits = (int) sparky_column_int(0, 6, 0);
	account->max_daily_credits = (int) sparky_column_int(0, 7, 0);
	expires = sparky_column(0, 8, &isnull);
	account->plan_expires = !isnull;
	account->plan_expires_at = isnull ? 0 : DatumGetTimestampTz(expires);
	account->held = sparky_column_int(0, 9, 0);
	account->used_today = sparky_column_int(0, 10, 0);
	account->month_ungranted = sparky_column_bool(0, 11);
	account->resets_at = DatumGetTimestampTz(sparky_column(0, 12, &isnull)) + USECS_PER_DAY;
	return true;
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

int
sparky_account_grant_due(const Account *account)
{
	if (account->plan_id != SPARKY_FREE_PLAN || !account->month_ungranted)
		return 0;
	return Max(0, account->monthly_credits - account->allowance);
}

int64
sparky_account_available(const Account *account)
{
	int64		grant = sparky_account_grant_due(account);
	int64		available;

	/* A grant pays debt first. */
	if (account->debt > 0 && grant <= account->debt)
		return 0;
	available = (int64) account->credits + grant - account->debt - account->held;
	return Max(available, 0);
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
