/*
 * cache.c: the result cache, cache.kv_store.
 *
 * An entry is a hint, never a promise: it is believed only when it is
 * unexpired, has the shape that we write, and its object still exists.
 * Anything else is a miss and is left alone; the next settlement replaces it.
 * Only the worker writes entries; the delete functions take them away.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/json.h"

#include "cache.h"
#include "owned.h"
#include "owner.h"
#include "storage.h"

bool
sparky_cache_key_make(const pg_uuid_t *user_id, const char *tool_id, const char *image_hash,
					  const char *parameters, int revision, char key[65])
{
	StringInfoData array;

	initStringInfo(&array);
	appendStringInfo(&array, "[\"%s\",", sparky_uuid_text(user_id));
	escape_json(&array, tool_id);
	appendStringInfoChar(&array, ',');
	escape_json(&array, image_hash);
	appendStringInfo(&array, ",%s,%d]", parameters, revision);
	return sparky_jcs_sha256(array.data, key);
}

bool
sparky_cache_lookup(const char *key, CacheHit *hit)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(key)};
	StoredObject object;

	sparky_plan(&plan,
				"SELECT CASE WHEN k.value ->> 'generation_id' ~ '^[0-9]{1,18}$'"
				" THEN (k.value ->> 'generation_id')::pg_catalog.int8 END,"
				" CASE WHEN pg_catalog.jsonb_typeof(k.value -> 'image_path') = 'string' THEN k.value ->> 'image_path' END,"
				" (k.value -> 'analysis')::pg_catalog.text"
				" FROM cache.kv_store k"
				" WHERE k.key = $1 AND k.expires_at > pg_catalog.clock_timestamp()",
				1, types);
	if (sparky_execute_latest(plan, values, NULL, 1) == 0)
		return false;

	hit->generation_id = sparky_column_int(0, 1, -1);
	hit->image_path = sparky_column_text(0, 2);
	hit->analysis = sparky_column_text(0, 3);
	if (hit->generation_id < 0 || (hit->image_path == NULL) == (hit->analysis == NULL))
		return false;
	return hit->image_path == NULL || sparky_storage_stat(hit->image_path, &object);
}

void
sparky_cache_put(const char *key, int64 generation_id, const char *image_path, const char *analysis, int64 ttl_seconds)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID, INT8OID, TEXTOID, TEXTOID, INT8OID};
	Datum		values[5];
	char		nulls[5] = {' ', ' ', ' ', ' ', ' '};

	values[0] = CStringGetTextDatum(key);
	values[1] = Int64GetDatum(generation_id);
	values[2] = image_path ? CStringGetTextDatum(image_path) : (Datum) 0;
	nulls[2] = image_path ? ' ' : 'n';
	values[3] = analysis ? CStringGetTextDatum(analysis) : (Datum) 0;
	nulls[3] = analysis ? ' ' : 'n';
	values[4] = Int64GetDatum(ttl_seconds);

	sparky_plan(&plan,
				"INSERT INTO cache.kv_store (key, value, created_at, expires_at)"
				" SELECT $1, CASE WHEN $4 IS NULL"
				" THEN pg_catalog.jsonb_build_object('generation_id', $2, 'image_path', $3)"
				" ELSE pg_catalog.jsonb_build_object('generation_id', $2, 'analysis', $4::pg_catalog.jsonb) END,"
				" t.now, t.now + pg_catalog.make_interval(secs => $5)"
				" FROM (SELECT pg_catalog.clock_timestamp() AS now) t"
				" ON CONFLICT (key) DO UPDATE SET value = excluded.value,"
				" created_at = excluded.created_at, expires_at = excluded.expires_at",
				5, types);
	sparky_execute(plan, values, nulls, 0);
}
