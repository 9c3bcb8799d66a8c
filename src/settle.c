/*
 * settle.c: one transaction for everything that a paid answer changes.
 *
 * Job and user are locked and the fence has held.  On embedded storage the
 * bytes are written here, once, in the same commit as the charge: the photo and
 * the credits it cost stand or fall together.  Behind the Storage API they are
 * there already.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "broadcast.h"
#include "cache.h"
#include "credits.h"
#include "notify.h"
#include "owner.h"
#include "queue.h"
#include "storage.h"

static int64 insert_generation(const Job *job, const char *path, const char *analysis, TimestampTz now);
static void insert_usage(const Job *job, int64 generation_id, TimestampTz now);
static void finish_job(const Job *job, int64 generation_id, const char *path, const char *analysis, TimestampTz now);

void
sparky_queue_settle(const Job *job, const JobAnswer *answer, int64 cache_ttl_seconds, TimestampTz now)
{
	char	   *path = NULL;
	int64		generation_id;

	if (answer->image != NULL)
	{
		path = sparky_storage_result_path(&job->user_id, &job->id, answer->info.type);
		if (!sparky_storage_outside())
			sparky_storage_put(path, &job->user_id, answer->image, &answer->info, answer->sha256);
	}
	sparky_credits_move(&job->user_id, -job->price, -job->price, "usage", sparky_uuid_text(&job->id), now);
	sparky_notify_low(&job->user_id, job->price, now);
	generation_id = insert_generation(job, path, answer->analysis, now);
	insert_usage(job, generation_id, now);
	if (cache_ttl_seconds > 0)
		sparky_cache_put(job->cache_key, generation_id, path, answer->analysis, cache_ttl_seconds);
	finish_job(job, generation_id, path, answer->analysis, now);
	sparky_broadcast_job(job, "succeeded", generation_id, NULL);
}

static int64
insert_generation(const Job *job, const char *path, const char *analysis, TimestampTz now)
{
	static SPIPlanPtr plan;
	Oid			types[] = {UUIDOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, UUIDOID, TEXTOID};
	Datum		values[] = {UUIDPGetDatum(&job->user_id), CStringGetTextDatum(job->tool_id),
		path == NULL ? (Datum) 0 : CStringGetTextDatum(path), TimestampTzGetDatum(now), UUIDPGetDatum(&job->id),
	analysis == NULL ? (Datum) 0 : CStringGetTextDatum(analysis)};
	char		nulls[] = {' ', ' ', path == NULL ? 'n' : ' ', ' ', ' ', analysis == NULL ? 'n' : ' '};

	sparky_plan(&plan,
				"INSERT INTO public.generations (user_id, tool_id, image_url, created_at, job_id, analysis)"
				" VALUES ($1, $2, $3, $4, $5, $6::jsonb) RETURNING id", 6, types);
	(void) sparky_execute(plan, values, nulls, 0);
	return sparky_column_int(0, 1, 0);
}

static void
insert_usage(const Job *job, int64 generation_id, TimestampTz now)
{
	static SPIPlanPtr plan;
	Oid			types[] = {UUIDOID, TEXTOID, INT4OID, TIMESTAMPTZOID, UUIDOID, INT8OID};
	Datum		values[] = {UUIDPGetDatum(&job->user_id), CStringGetTextDatum(job->tool_id), Int32GetDatum(job->price),
	TimestampTzGetDatum(now), UUIDPGetDatum(&job->id), Int64GetDatum(generation_id)};

	sparky_plan(&plan,
				"INSERT INTO public.credit_usage (user_id, tool_id, credits_used, created_at, job_id, generation_id)"
				" VALUES ($1, $2, $3, $4, $5, $6)", 6, types);
	(void) sparky_execute(plan, values, NULL, 0);
}

static void
finish_job(const Job *job, int64 generation_id, const char *path, const char *analysis, TimestampTz now)
{
	static SPIPlanPtr finish,
				drop;
	Oid			types[] = {UUIDOID, TIMESTAMPTZOID, INT8OID, INT4OID, TEXTOID, TEXTOID};
	Datum		values[] = {UUIDPGetDatum(&job->id), TimestampTzGetDatum(now), Int64GetDatum(generation_id), Int32GetDatum(job->price),
		path == NULL ? (Datum) 0 : CStringGetTextDatum(path),
	analysis == NULL ? (Datum) 0 : CStringGetTextDatum(analysis)};
	char		nulls[] = {' ', ' ', ' ', ' ', path == NULL ? 'n' : ' ', analysis == NULL ? 'n' : ' '};

	sparky_plan(&finish,
				"UPDATE public.generation_jobs SET status = 'succeeded', finished_at = $2, incarnation = NULL, lease_until = NULL,"
				" error_code = NULL, error_message = NULL, retry_after = NULL,"
				" result = jsonb_build_object('generation_id', $3, 'credits_used', $4)"
				" || CASE WHEN $5 IS NULL THEN jsonb_build_object('analysis', $6::jsonb)"
				"    ELSE jsonb_build_object('image_path', $5) END WHERE id = $1", 6, types);
	(void) sparky_execute(finish, values, nulls, 0);
	sparky_plan(&drop, "DELETE FROM sparky.answers WHERE job_id = $1", 1, types);
	(void) sparky_execute(drop, values, NULL, 0);
}
