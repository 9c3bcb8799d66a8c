/* health.c: what the tables say about the worker's work. */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "health.h"
#include "owner.h"
#include "payments.h"

Datum
sparky_health_json(const DatabaseEntry *entry, bool preloaded, const char *problems)
{
	static SPIPlanPtr plan;
	Oid			types[] = {BOOLOID, INT4OID, BOOLOID, INT8OID, TIMESTAMPTZOID, INT4OID, TEXTOID, TEXTOID, INT8OID};
	bool		alive = entry != NULL && entry->worker_pid != 0;
	Datum		values[] = {
		BoolGetDatum(preloaded),
		Int32GetDatum(alive ? entry->worker_pid : 0),
		BoolGetDatum(alive && entry->ready),
		Int64GetDatum(alive ? entry->incarnation : 0),
		TimestampTzGetDatum(alive ? entry->heartbeat : 0),
		Int32GetDatum(alive ? entry->running_calls : 0),
		CStringGetTextDatum(problems),
		CStringGetTextDatum(SPARKY_VERSION),
		Int64GetDatum(sparky_payments_flagged()),
	};
	char		nulls[] = {' ', alive ? ' ' : 'n', ' ', alive ? ' ' : 'n', alive ? ' ' : 'n', ' ', ' ', ' ', ' '};
	bool		isnull;
	Datum		result;

	sparky_plan(&plan,
				"WITH p AS (SELECT string_to_array(nullif($7, ''), E'\\n') || CASE WHEN e.extversion IS DISTINCT FROM $8"
				"   THEN ARRAY['library ' || $8 || ' serves SQL version ' || coalesce(e.extversion, 'none') || ': run ALTER EXTENSION sparky UPDATE']"
				"   ELSE '{}'::text[] END AS problems, e.extversion"
				"   FROM (SELECT) one LEFT JOIN pg_catalog.pg_extension e ON e.extname = 'sparky'),"
				" q AS (SELECT count(*) FILTER (WHERE status = 'queued') AS queued,"
				"   count(*) FILTER (WHERE status IN ('answered', 'storing')) AS answered,"
				"   extract(epoch FROM clock_timestamp() - min(created_at) FILTER (WHERE status = 'queued')) AS oldest"
				"   FROM public.generation_jobs WHERE status IN ('queued', 'fetching', 'generating', 'answered', 'storing'))"
				" SELECT jsonb_build_object('ok', coalesce(cardinality(p.problems), 0) = 0 AND $3,"
				"  'version', $8, 'sql_version', p.extversion, 'preloaded', $1, 'worker_alive', $2 IS NOT NULL, 'worker_ready', $3,"
				"  'worker_pid', $2, 'incarnation', $4, 'heartbeat_age_seconds', round(extract(epoch FROM clock_timestamp() - $5), 3),"
				"  'in_flight', $6, 'queued', q.queued, 'answered_waiting', q.answered, 'oldest_queued_seconds', coalesce(round(q.oldest, 3), 0),"
				"  'payments_to_review', $9,"
				"  'problems', coalesce(to_jsonb(p.problems), '[]'::jsonb)) FROM p, q", 9, types);
	(void) sparky_execute_latest(plan, values, nulls, 1);
	result = sparky_column(0, 1, &isnull);
	return SPI_datumTransfer(result, false, -1);
}
