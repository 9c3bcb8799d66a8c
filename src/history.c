/*
 * history.c: a user takes back what he has.
 *
 * A result has up to five homes: the history row, the stored file, the job's
 * result, the cache entry, the request key of a hit.  All go in one transaction.
 * Charges stay: credit_usage and the ledger say what was spent, not on what.
 *
 * Nothing here waits for the worker.  It may meet a short lock of the worker's
 * on a cache entry; the worker itself never waits for a row.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "history.h"
#include "owner.h"
#include "storage.h"

static void forget_result(const pg_uuid_t *user_id, int64 generation_id, Datum job_id, bool has_job);

bool
sparky_history_delete(const pg_uuid_t *user_id, int64 generation_id)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT8OID, UUIDOID};
	Datum		values[] = {Int64GetDatum(generation_id), UUIDPGetDatum(user_id)};
	Datum		job_id;
	char	   *path;
	bool		no_job;

	sparky_plan(&plan,
				"DELETE FROM public.generations g WHERE g.id = $1 AND g.user_id = $2 RETURNING g.job_id, g.image_url",
				2, types);
	if (sparky_execute_fresh(plan, values, NULL) == 0)
		return false;
	job_id = sparky_column(0, 1, &no_job);
	path = sparky_column_text(0, 2);
	forget_result(user_id, generation_id, job_id, !no_job);
	if (path != NULL)
		(void) sparky_storage_delete(path);
	return true;
}

bool
sparky_upload_delete(const pg_uuid_t *user_id, const char *path)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {UUIDOID, TEXTOID, TEXTOID};
	StoredObject object;
	bool		known = sparky_storage_stat(path, &object) && object.sha256[0] != '\0';
	Datum		values[3];
	const char *nulls = known ? NULL : "  n";

	if (!sparky_storage_delete(path))
		return false;
	values[0] = UUIDPGetDatum(user_id);
	values[1] = CStringGetTextDatum(path);
	values[2] = known ? CStringGetTextDatum(object.sha256) : (Datum) 0;
	/* The key of an entry is a hash; the job that made it knows which. */
	sparky_plan(&plan,
				"DELETE FROM cache.kv_store k USING public.generation_jobs j"
				" WHERE k.key = j.cache_key AND j.user_id = $1 AND (j.source_path = $2 OR j.image_hash = $3)",
				3, types);
	sparky_execute_fresh(plan, values, nulls);
	return true;
}

static void
forget_result(const pg_uuid_t *user_id, int64 generation_id, Datum job_id, bool has_job)
{
	static SPIPlanPtr cache_plan = NULL;
	static SPIPlanPtr job_plan = NULL;
	static SPIPlanPtr key_plan = NULL;
	static const Oid types[] = {UUIDOID, UUIDOID, TEXTOID};
	static const Oid key_types[] = {UUIDOID, TEXTOID};
	Datum		values[3];

	values[0] = UUIDPGetDatum(user_id);
	values[1] = job_id;
	values[2] = CStringGetTextDatum(psprintf(INT64_FORMAT, generation_id));
	if (has_job)
	{
		sparky_plan(&cache_plan,
					"DELETE FROM cache.kv_store k USING public.generation_jobs j"
					" WHERE k.key = j.cache_key AND j.user_id = $1 AND j.id = $2 AND k.value ->> 'generation_id' = $3",
					3, types);
		sparky_execute_fresh(cache_plan, values, NULL);
		sparky_plan(&job_plan,
					"UPDATE public.generation_jobs j SET result = NULL"
					" WHERE j.user_id = $1 AND j.id = $2 AND j.result ->> 'generation_id' = $3",
					3, types);
		sparky_execute_fresh(job_plan, values, NULL);
	}
	sparky_plan(&key_plan,
				"UPDATE sparky.request_keys k SET result = k.result - '{image_path,analysis}'::pg_catalog.text[]"
				" WHERE k.user_id = $1 AND k.result ->> 'generation_id' = $2",
				2, key_types);
	values[1] = values[2];
	sparky_execute_fresh(key_plan, values, NULL);
}
