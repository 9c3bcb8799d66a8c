/*
 * credits.c: accounts, holds and movements.
 *
 * Rules.  users.credits - users.debt is the sum of the user's ledger, always;
 * both are written here, in one place, in the same transaction.  The row is
 * locked before anything about it is decided.  Time comes in as an argument.
 * While a write of ours runs, sparky.booking() is true and the triggers that
 * look for an owner's hand edits keep quiet.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "credits.h"
#include "outcome.h"
#include "owner.h"
#include "plans.h"

static bool booking = false;

static bool user_exists(const pg_uuid_t *user_id);
static char *outcomes_that_count(void);

TimestampTz
sparky_utc_day(TimestampTz now)
{
	/* TimestampTz counts microseconds from a UTC midnight. */
	TimestampTz into = now % USECS_PER_DAY;

	return now - (into < 0 ? into + USECS_PER_DAY : into);
}

RowLock
sparky_credits_lock(const pg_uuid_t *user_id)
{
	static SPIPlanPtr plan;
	Datum		values[] = {UUIDPGetDatum(user_id)};
	Oid			types[] = {UUIDOID};

	sparky_plan(&plan, "SELECT 1 FROM public.users WHERE id = $1 FOR NO KEY UPDATE SKIP LOCKED", 1, types);
	if (sparky_execute(plan, values, NULL, 1) > 0)
		return ROW_LOCKED;
	return user_exists(user_id) ? ROW_BUSY : ROW_GONE;
}

static bool
user_exists(const pg_uuid_t *user_id)
{
	static SPIPlanPtr plan;
	Datum		values[] = {UUIDPGetDatum(user_id)};
	Oid			types[] = {UUIDOID};

	sparky_plan(&plan, "SELECT 1 FROM public.users WHERE id = $1", 1, types);
	return sparky_execute(plan, values, NULL, 1) > 0;
}

void
sparky_credits_read(const pg_uuid_t *user_id, TimestampTz now, Funds *funds)
{
	static SPIPlanPtr plan;
	Oid			types[] = {UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		values[] = {UUIDPGetDatum(user_id), TimestampTzGetDatum(now), TimestampTzGetDatum(sparky_utc_day(now))};

	if (plan == NULL)
		sparky_plan(&plan, psprintf(
				"SELECT u.credits, u.debt, u.allowance, p.max_daily_credits, h.held, h.jobs,"
				" (SELECT coalesce(sum(c.credits_used), 0) FROM public.credit_usage c WHERE c.user_id = u.id AND c.created_at >= $3),"
				" (SELECT count(*) FROM sparky.provider_calls c WHERE c.user_id = u.id AND c.started_at >= $3 AND NOT c.charged"
				"   AND c.outcome = ANY ('{%s}'))"
				" + (SELECT count(*) FROM public.generation_jobs x WHERE x.user_id = u.id AND x.created_at >= $3 AND x.status = 'cancelled')"
				" FROM public.users u"
				" JOIN public.plans p ON p.id = CASE WHEN u.plan_expires_at <= $2 THEN 1 ELSE u.plan_id END,"
				" LATERAL (SELECT coalesce(sum(j.credits_held), 0) AS held, count(*) AS jobs FROM public.generation_jobs j"
				"   WHERE j.user_id = u.id AND (j.status IN ('answered', 'storing')"
				"     OR j.status IN ('queued', 'fetching', 'generating') AND j.deadline > $2)) h"
				" WHERE u.id = $1", outcomes_that_count()), 3, types);
	memset(funds, 0, sizeof(*funds));
	if (sparky_execute(plan, values, NULL, 1) == 0)
		return;
	funds->credits = sparky_column_int(0, 1, 0);
	funds->debt = sparky_column_int(0, 2, 0);
	funds->allowance = sparky_column_int(0, 3, 0);
	funds->max_daily = sparky_column_int(0, 4, 0);
	funds->held = sparky_column_int(0, 5, 0);
	funds->active_jobs = sparky_column_int(0, 6, 0);
	funds->used_today = sparky_column_int(0, 7, 0);
	funds->uncharged_calls = sparky_column_int(0, 8, 0);
}

/* The names of the outcomes that count against a user, as outcome.c has them. */
static char *
outcomes_that_count(void)
{
	StringInfoData names;

	initStringInfo(&names);
	for (Outcome outcome = 0; outcome < OUTCOME_COUNT; outcome++)
		if (sparky_outcome_rule(outcome)->counts)
			appendStringInfo(&names, "%s%s", names.len ? "," : "", sparky_outcome_name(outcome));
	return names.data;
}

/*
 * The free plan's monthly grant: while plan 1 is the effective plan, only after
 * a sign-up grant, once a UTC month.  Who missed months gets this one, not those.
 */
bool
sparky_credits_grant_monthly(const pg_uuid_t *user_id, TimestampTz now)
{
	static SPIPlanPtr mark,
				looks[2];
	SPIPlanPtr *look = &looks[sparky_plans_have_periods()];
	Oid			types[] = {UUIDOID, TIMESTAMPTZOID};
	Datum		values[] = {UUIDPGetDatum(user_id), TimestampTzGetDatum(now)};
	char	   *month,
			   *reference;
	int			delta;

	if (*look == NULL)
		sparky_plan(look, psprintf(
				"SELECT greatest(0, p.monthly_credits - u.allowance), to_char($2 AT TIME ZONE 'UTC', 'YYYY-MM')"
				" FROM public.users u LEFT JOIN LATERAL %s e ON true JOIN public.plans p ON p.id = 1"
				" JOIN sparky.signup_grants g ON g.user_id = u.id"
				" WHERE u.id = $1 AND coalesce(e.plan_id, 1) = 1"
				" AND g.last_month < to_char($2 AT TIME ZONE 'UTC', 'YYYY-MM')", sparky_plans_running()), 2, types);
	if (sparky_execute(*look, values, NULL, 1) == 0)
		return false;
	delta = sparky_column_int(0, 1, 0);
	month = sparky_column_text(0, 2);
	reference = psprintf("%s:%s", sparky_uuid_text(user_id), month);

	sparky_plan(&mark,
				"UPDATE sparky.signup_grants SET last_month = to_char($2 AT TIME ZONE 'UTC', 'YYYY-MM') WHERE user_id = $1", 2, types);
	(void) sparky_execute(mark, values, NULL, 0);
	sparky_credits_move(user_id, delta, delta, "monthly", reference, now);
	return true;
}

void
sparky_credits_move(const pg_uuid_t *user_id, int delta, int allowance_delta, const char *kind, const char *reference, TimestampTz now)
{
	static SPIPlanPtr update,
				ledger;
	Oid			update_types[] = {UUIDOID, INT4OID, INT4OID};
	Datum		update_values[] = {UUIDPGetDatum(user_id), Int32GetDatum(delta), Int32GetDatum(allowance_delta)};
	Oid			ledger_types[] = {UUIDOID, INT4OID, INT4OID, TEXTOID, TEXTOID, TIMESTAMPTZOID};
	Datum		ledger_values[6];

	if (delta == 0 && allowance_delta == 0)
		return;
	sparky_plan(&update,
				"UPDATE public.users SET credits = greatest(credits - debt + $2, 0), debt = greatest(debt - credits - $2, 0),"
				" allowance = least(greatest(allowance + $3, 0), greatest(credits - debt + $2, 0))"
				" WHERE id = $1 RETURNING credits - debt", 3, update_types);
	if (sparky_credits_write(update, update_values) != 1)
		ereport(ERROR, (errcode(ERRCODE_NO_DATA_FOUND), errmsg("there is no user to book a movement for")));
	if (delta == 0)
		return;
	ledger_values[0] = update_values[0];
	ledger_values[1] = update_values[1];
	ledger_values[2] = Int32GetDatum((int32) sparky_column_int(0, 1, 0));
	ledger_values[3] = CStringGetTextDatum(kind);
	ledger_values[4] = CStringGetTextDatum(reference);
	ledger_values[5] = TimestampTzGetDatum(now);
	sparky_plan(&ledger,
				"INSERT INTO public.credit_ledger (user_id, delta, balance_after, kind, reference, created_at)"
				" VALUES ($1, $2, $3, $4, $5, $6)", 6, ledger_types);
	(void) sparky_execute_fresh(ledger, ledger_values, NULL);
}

uint64
sparky_credits_write(SPIPlanPtr plan, Datum *values)
{
	volatile uint64 rows = 0;

	booking = true;
	PG_TRY();
	{
		rows = sparky_execute_fresh(plan, values, NULL);
	}
	PG_FINALLY();
	{
		booking = false;
	}
	PG_END_TRY();
	return rows;
}

int64
sparky_credits_calls_today(TimestampTz now)
{
	static SPIPlanPtr plan;
	Oid			types[] = {TIMESTAMPTZOID};
	Datum		values[] = {TimestampTzGetDatum(sparky_utc_day(now))};

	sparky_plan(&plan, "SELECT count(*) FROM sparky.provider_calls WHERE started_at >= $1", 1, types);
	(void) sparky_execute(plan, values, NULL, 1);
	return sparky_column_int(0, 1, 0);
}

/* sparky.booking(): is a write of ours under way? Asked by the triggers that look for hand edits. */
SPARKY_FUNCTION(sparky_booking);
Datum
sparky_booking(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(booking);
}

/* sparky.grant_monthly(user_id, at): as at an acceptance at that time. */
SPARKY_FUNCTION(sparky_grant_monthly);
Datum
sparky_grant_monthly(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan;
	Oid			types[] = {UUIDOID};
	Datum		values[1];
	OwnerScope	scope;
	pg_uuid_t	user_id;
	bool		granted;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	user_id = *PG_GETARG_UUID_P(0);
	values[0] = UUIDPGetDatum(&user_id);
	sparky_owner_enter(&scope);
	/* This one may wait: its caller is not the worker. */
	sparky_plan(&plan, "SELECT 1 FROM public.users WHERE id = $1 FOR NO KEY UPDATE", 1, types);
	(void) sparky_execute(plan, values, NULL, 1);
	granted = sparky_credits_grant_monthly(&user_id, PG_GETARG_TIMESTAMPTZ(1));
	sparky_owner_leave(&scope);
	PG_RETURN_BOOL(granted);
}

/* sparky.book(user_id, delta, kind, reference, allowance): a movement, for our own SQL functions. */
SPARKY_FUNCTION(sparky_book);
Datum
sparky_book(PG_FUNCTION_ARGS)
{
	OwnerScope	scope;
	pg_uuid_t	user_id;
	char	   *kind,
			   *reference;

	for (int i = 0; i < 5; i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("sparky.book takes no NULL")));
	user_id = *PG_GETARG_UUID_P(0);
	kind = text_to_cstring(PG_GETARG_TEXT_PP(2));
	reference = text_to_cstring(PG_GETARG_TEXT_PP(3));
	sparky_owner_enter(&scope);
	sparky_credits_move(&user_id, PG_GETARG_INT32(1), PG_GETARG_INT32(4), kind, reference, GetCurrentTransactionStartTimestamp());
	sparky_owner_leave(&scope);
	PG_RETURN_VOID();
}
