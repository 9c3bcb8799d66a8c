/*
 * requests.c: a user's own requests as he may look at them.
 *
 * Reads are under the latest snapshot: the worker commits behind the caller's
 * own.  The only writes are a cancel and the key of a hit; neither waits for the
 * worker, which in turn never waits for a row that they hold.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "owner.h"
#include "requests.h"

/* generation_id, image_path and analysis of a jsonb column, as cache.c stores them. */
#define RESULT_PARTS(column) \
	" CASE WHEN " column " ->> 'generation_id' ~ '^[0-9]{1,18}$'" \
	" THEN (" column " ->> 'generation_id')::pg_catalog.int8 END," \
	" " column " ->> 'image_path', (" column " -> 'analysis')::pg_catalog.text"

static JobPhase phase_of(const char *status, bool late);
static void read_result(int column, CacheHit *hit);

bool
sparky_job_view(const pg_uuid_t *job_id, const pg_uuid_t *user_id, JobView *view)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {UUIDOID, UUIDOID};
	Datum		values[] = {UUIDPGetDatum(job_id), UUIDPGetDatum(user_id)};
	bool		late;

	sparky_plan(&plan,
				"SELECT j.status, j.deadline <= pg_catalog.clock_timestamp(), j.error_code, j.retry_after, j.credits_held,"
				RESULT_PARTS("j.result")
				" FROM public.generation_jobs j WHERE j.id = $1 AND j.user_id = $2",
				2, types);
	if (sparky_execute_latest(plan, values, NULL, 1) == 0)
		return false;

	memset(view, 0, sizeof(*view));
	view->id = *job_id;
	late = sparky_column_bool(0, 2);
	view->phase = phase_of(sparky_column_text(0, 1), late);
	read_result(6, &view->result);
	if (view->phase == PHASE_SUCCEEDED)
		view->credits_used = sparky_column_int(0, 5, 0);
	if (view->phase == PHASE_FAILED)
	{
		char	   *word = sparky_column_text(0, 3);

		view->error = word ? sparky_error_word(word) : WORD_PROVIDER_TIMEOUT;
		if (view->error == WORD_NONE)
			view->error = WORD_PROVIDER_FAILED;
		view->retry_after = (int) sparky_column_int(0, 4, 0);
	}
	return true;
}

bool
sparky_job_cancel(const pg_uuid_t *job_id, const pg_uuid_t *user_id)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {UUIDOID, UUIDOID};
	Datum		values[] = {UUIDPGetDatum(job_id), UUIDPGetDatum(user_id)};

	/* A claim that commits between our look and our lock is seen: the row is checked again once it is locked. */
	sparky_plan(&plan,
				"UPDATE public.generation_jobs j SET status = 'cancelled', credits_held = 0, lease_until = NULL,"
				" finished_at = pg_catalog.clock_timestamp()"
				" WHERE j.id = $1 AND j.user_id = $2 AND j.status IN ('queued', 'fetching')"
				" AND j.deadline > pg_catalog.clock_timestamp()",
				2, types);
	return sparky_execute_fresh(plan, values, NULL) > 0;
}

bool
sparky_request_find(const pg_uuid_t *user_id, const char *key, RequestKey *request)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {UUIDOID, TEXTOID};
	Datum		values[] = {UUIDPGetDatum(user_id), CStringGetTextDatum(key)};
	Datum		job;
	bool		isnull;

	sparky_plan(&plan,
				"SELECT k.fingerprint, k.job_id," RESULT_PARTS("k.result")
				" FROM sparky.request_keys k WHERE k.user_id = $1 AND k.key = $2"
				" AND " SPARKY_KEY_IS_LIVE("k", "pg_catalog.clock_timestamp()"),
				2, types);
	if (sparky_execute_latest(plan, values, NULL, 1) == 0)
		return false;
	strlcpy(request->fingerprint, sparky_column_text(0, 1), sizeof(request->fingerprint));
	job = sparky_column(0, 2, &isnull);
	request->has_job = !isnull;
	if (!isnull)
		request->job_id = *DatumGetUUIDP(job);
	read_result(3, &request->hit);
	return true;
}

bool
sparky_request_note_hit(const pg_uuid_t *user_id, const char *key, const char *fingerprint, const CacheHit *hit)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {UUIDOID, TEXTOID, TEXTOID, INT8OID, TEXTOID, TEXTOID};
	Datum		values[6];
	char		nulls[6] = {' ', ' ', ' ', ' ', ' ', ' '};

	values[0] = UUIDPGetDatum(user_id);
	values[1] = CStringGetTextDatum(key);
	values[2] = CStringGetTextDatum(fingerprint);
	values[3] = Int64GetDatum(hit->generation_id);
	values[4] = hit->image_path ? CStringGetTextDatum(hit->image_path) : (Datum) 0;
	nulls[4] = hit->image_path ? ' ' : 'n';
	values[5] = hit->analysis ? CStringGetTextDatum(hit->analysis) : (Datum) 0;
	nulls[5] = hit->analysis ? ' ' : 'n';
	sparky_plan(&plan,
				"INSERT INTO sparky.request_keys AS k (user_id, key, fingerprint, result)"
				" VALUES ($1, $2, $3, CASE WHEN $6 IS NULL"
				" THEN pg_catalog.jsonb_build_object('generation_id', $4, 'image_path', $5, 'credits_used', 0)"
				" ELSE pg_catalog.jsonb_build_object('generation_id', $4, 'analysis', $6::pg_catalog.jsonb, 'credits_used', 0) END)"
				" ON CONFLICT (user_id, key) DO UPDATE SET fingerprint = excluded.fingerprint, job_id = NULL,"
				" result = excluded.result, created_at = excluded.created_at"
				" WHERE NOT " SPARKY_KEY_IS_LIVE("k", "pg_catalog.clock_timestamp()"),
				6, types);
	return sparky_execute_fresh(plan, values, nulls) > 0;
}

static JobPhase
phase_of(const char *status, bool late)
{
	static const struct
	{
		const char *status;
		JobPhase	phase;
		bool		can_be_late;
	}			phases[] = {
		{"queued", PHASE_QUEUED, true},
		{"fetching", PHASE_RUNNING, true},
		{"generating", PHASE_RUNNING, true},
		{"answered", PHASE_RUNNING, false},
		{"storing", PHASE_RUNNING, false},
		{"succeeded", PHASE_SUCCEEDED, false},
		{"cancelled", PHASE_CANCELLED, false},
	};

	for (int i = 0; i < lengthof(phases); i++)
	{
		if (strcmp(phases[i].status, status) == 0)
			return late && phases[i].can_be_late ? PHASE_FAILED : phases[i].phase;
	}
	return PHASE_FAILED;
}

/* From three columns of RESULT_PARTS. */
static void
read_result(int column, CacheHit *hit)
{
	hit->generation_id = sparky_column_int(0, column, -1);
	hit->image_path = sparky_column_text(0, column + 1);
	hit->analysis = sparky_column_text(0, column + 2);
}
