/*
 * stats.c: what became of requests, counted where they are answered.
 *
 * A hit must not write a row, so it is counted in the database's entry in shared
 * memory: under the shared lock, which keeps the entry in place, by an atomic
 * add.  The counters live as long as the entry; a restart begins anew.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "stats.h"

static const char *const names[COUNTER_COUNT] = {
	[COUNTER_HIT] = "hits",
	[COUNTER_JOINED] = "joined",
	[COUNTER_ACCEPTED] = "accepted",
	[COUNTER_REPEATED] = "repeated",
	[COUNTER_REFUSED] = "refused",
	[COUNTER_STORAGE_ERROR] = "storage_errors",
};

void
sparky_stats_count(RequestCounter counter)
{
	DatabaseEntry *entry;

	if (!sparky_shmem_present())
		return;
	sparky_shmem_lock(false);
	entry = sparky_shmem_find(MyDatabaseId);
	if (entry != NULL)
		pg_atomic_fetch_add_u64(&entry->requests[counter], 1);
	sparky_shmem_unlock();
}

bool
sparky_stats_counters(Datum *result)
{
	DatabaseEntry *entry;
	uint64		counts[COUNTER_COUNT] = {0};
	TimestampTz since = 0;
	StringInfoData json;

	if (!sparky_shmem_present())
		return false;
	sparky_shmem_lock(false);
	entry = sparky_shmem_find(MyDatabaseId);
	if (entry != NULL)
	{
		since = entry->counting_since;
		for (int i = 0; i < COUNTER_COUNT; i++)
			counts[i] = pg_atomic_read_u64(&entry->requests[i]);
	}
	sparky_shmem_unlock();
	if (entry == NULL)
		return false;
	initStringInfo(&json);
	appendStringInfo(&json, "{\"since\":\"%s\"", timestamptz_to_str(since));
	for (int i = 0; i < COUNTER_COUNT; i++)
		appendStringInfo(&json, ",\"%s\":" UINT64_FORMAT, names[i], counts[i]);
	appendStringInfoChar(&json, '}');
	*result = DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
	return true;
}
