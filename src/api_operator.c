/* api_operator.c: what operators ask: sparky.version(), sparky.health(). */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "health.h"
#include "owner.h"
#include "queue.h"
#include "secrets.h"
#include "settings.h"
#include "shmem.h"

static void find_problems(StringInfo problems, const DatabaseEntry *entry);

/* sparky.version(): the version of the loaded library. */
SPARKY_FUNCTION(sparky_version);
Datum
sparky_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(SPARKY_VERSION));
}

/* sparky.health(): is all well, and if not, what is the matter. */
SPARKY_FUNCTION(sparky_health);
Datum
sparky_health(PG_FUNCTION_ARGS)
{
	OwnerScope	scope;
	DatabaseEntry copy = {0};
	const DatabaseEntry *entry = NULL;
	StringInfoData problems;
	Datum		result;

	if (sparky_shmem_present())
	{
		sparky_shmem_lock(false);
		entry = sparky_shmem_find(MyDatabaseId);
		if (entry != NULL)
			copy = *entry;
		sparky_shmem_unlock();
		entry = entry == NULL ? NULL : &copy;
	}
	initStringInfo(&problems);
	find_problems(&problems, entry);
	sparky_owner_enter(&scope);
	{
		char	   *missing = sparky_queue_missing_objects();

		if (missing != NULL)
			appendStringInfo(&problems, "%smissing: %s", problems.len ? "\n" : "", missing);
	}
	result = sparky_health_json(entry, sparky_shmem_present(), problems.data);
	sparky_owner_leave(&scope);
	PG_RETURN_DATUM(result);
}

static void
note(StringInfo problems, const char *text)
{
	appendStringInfo(problems, "%s%s", problems->len ? "\n" : "", text);
}

static void
find_problems(StringInfo problems, const DatabaseEntry *entry)
{
	if (!sparky_shmem_present())
	{
		note(problems, "sparky is not in shared_preload_libraries");
		return;
	}
	if (entry == NULL)
		note(problems, "the launcher does not serve this database: see sparky.databases and sparky.max_databases");
	else if (entry->trouble[0] != '\0')
		note(problems, entry->trouble);
	else if (entry->worker_pid == 0)
		note(problems, "no worker is running for this database");
	else if (TimestampDifferenceExceeds(entry->heartbeat, GetCurrentTimestamp(), sparky_lease_time))
		note(problems, "the worker does not move");
	for (Secret secret = 0; secret < SECRET_COUNT; secret++)
		if (sparky_secret(secret) == NULL)
			note(problems, psprintf("%s is not set", sparky_secret_setting(secret)));
}
