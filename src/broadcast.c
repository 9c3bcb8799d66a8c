/*
 * broadcast.c: a word to the user's devices over Supabase Realtime.
 *
 * realtime.send() writes a row in the same commit, so nobody hears of what did
 * not happen.  It is not ours, and nothing of it may hurt a settlement.  By
 * itself it never raises: what goes wrong is its WARNING.  One that raises all
 * the same aborts its transaction, which is then run again: the mark that it
 * never came back is found, and for a minute nothing is sent.
 *
 * Only a function in a schema of a superuser's, or of our own owner's, is called:
 * it runs as the data owner.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "broadcast.h"
#include "owner.h"

/* For so long it is believed that realtime.send() is there, or is not, or is broken. */
#define BELIEF_MS 60000

static bool under_way = false;
static bool usable = false;
static TimestampTz decided_at = 0;

static bool can_send(void);
static bool find_send(void);

void
sparky_broadcast_job(const Job *job, const char *status, int64 generation_id, const char *error)
{
	static SPIPlanPtr plan;
	Oid			types[] = {UUIDOID, UUIDOID, TEXTOID, INT8OID, TEXTOID};
	Datum		values[] = {UUIDPGetDatum(&job->user_id), UUIDPGetDatum(&job->id), CStringGetTextDatum(status), Int64GetDatum(generation_id),
	error == NULL ? (Datum) 0 : CStringGetTextDatum(error)};
	char		nulls[] = {' ', ' ', ' ', generation_id > 0 ? ' ' : 'n', error == NULL ? 'n' : ' '};

	if (!can_send())
		return;
	under_way = true;
	/* Who ends a job may know no more of it than its id and its user. */
	sparky_plan(&plan,
				"SELECT realtime.send(jsonb_strip_nulls(jsonb_build_object('job_id', $2, 'tool_id', j.tool_id, 'status', $3,"
				"  'generation_id', $4, 'error', $5, 'credits', u.credits)), 'generation', 'user:' || u.id::text, true)"
				" FROM public.users u JOIN public.generation_jobs j ON j.id = $2 WHERE u.id = $1", 5, types);
	(void) sparky_execute(plan, values, nulls, 0);
	under_way = false;
}

void
sparky_broadcast_account(const pg_uuid_t *user_id)
{
	static SPIPlanPtr plan;
	Oid			types[] = {UUIDOID};
	Datum		values[] = {UUIDPGetDatum(user_id)};

	/* Also in a client's session, which cannot run again without it: so the SQL catches what it raises. */
	if (!can_send())
		return;
	sparky_plan(&plan, "SELECT sparky.broadcast_account($1)", 1, types);
	(void) sparky_execute(plan, values, NULL, 0);
}

static bool
can_send(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (under_way)
	{
		under_way = false;
		usable = false;
		decided_at = now;
		ereport(LOG,
				(errmsg("sparky: realtime.send() failed, nothing is broadcast for a minute"),
				 errhint("Clients that watch tables through Realtime are not affected.")));
	}
	else if (decided_at == 0 || TimestampDifferenceExceeds(decided_at, now, BELIEF_MS))
	{
		usable = find_send();
		decided_at = now;
	}
	return usable;
}

static bool
find_send(void)
{
	static SPIPlanPtr plan;

	sparky_plan(&plan,
				"SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_roles r ON r.oid = n.nspowner"
				" WHERE p.oid = to_regprocedure('realtime.send(jsonb,text,text,boolean)')"
				"  AND (r.rolsuper OR r.rolname = current_user) AND has_schema_privilege(n.oid, 'USAGE')"
				"  AND has_function_privilege(p.oid, 'EXECUTE')", 0, NULL);
	return sparky_execute(plan, NULL, NULL, 1) > 0;
}
