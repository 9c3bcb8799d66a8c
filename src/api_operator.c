/* api_operator.c: what operators ask: sparky.version(), sparky.health(), sparky.counters(); and the end of overdue jobs. */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "health.h"
#include "owner.h"
#include "queue.h"
#include "secrets.h"
#include "settings.h"
#include "shmem.h"
#include "stats.h"

/* Rows of a batch that a caller commits. */
#define OVERDUE_BATCH 50

static void find_problems(StringInfo problems, const DatabaseEntry *entry);
static void find_payment_problems(StringInfo problems);
static const char *why_no_worker(void);
static bool is_needed(Secret secret);

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
	sparky_owner_enter(&scope);
	sparky_secrets_refresh();
	find_problems(&problems, entry);
	{
		char	   *missing = sparky_queue_missing_objects();

		if (missing != NULL)
			appendStringInfo(&problems, "%smissing: %s", problems.len ? "\n" : "", missing);
	}
	result = sparky_health_json(entry, sparky_shmem_present(), problems.data);
	sparky_owner_leave(&scope);
	PG_RETURN_DATUM(result);
}

/* sparky.counters(): what became of requests since the server started. */
SPARKY_FUNCTION(sparky_counters);
Datum
sparky_counters(PG_FUNCTION_ARGS)
{
	Datum		result;

	if (!sparky_stats_counters(&result))
		PG_RETURN_NULL();
	PG_RETURN_DATUM(result);
}

/* sparky.end_jobs(): jobs past their deadline, for when no worker ends them. */
SPARKY_FUNCTION(sparky_end_jobs);
Datum
sparky_end_jobs(PG_FUNCTION_ARGS)
{
	OwnerScope	scope;
	int			count;

	sparky_owner_enter(&scope);
	count = sparky_queue_end_overdue(OVERDUE_BATCH, GetCurrentTimestamp());
	sparky_owner_leave(&scope);
	PG_RETURN_INT32(count);
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
		note(problems, why_no_worker());
	else if (TimestampDifferenceExceeds(entry->heartbeat, GetCurrentTimestamp(), sparky_lease_time))
		note(problems, "the worker does not move");
	if (sparky_secrets_problem() != NULL)
		note(problems, sparky_secrets_problem());
	if (entry != NULL && entry->storage_trouble[0] != '\0' && sparky_storage_url[0] != '\0')
		note(problems, entry->storage_trouble);
	for (Secret secret = 0; secret < SECRET_COUNT; secret++)
		if (is_needed(secret) && sparky_secret(secret) == NULL)
			note(problems, psprintf("%s is not set", sparky_secret_setting(secret)));
	find_payment_problems(problems);
}

/* Half of a set-up sells nothing, and says so only to the buyer. */
static void
find_payment_problems(StringInfo problems)
{
	bool		integrations = sparky_paymob_integration_ids[0] != '\0';
	const char *wrong = sparky_paymob_integration_ids + strspn(sparky_paymob_integration_ids, "0123456789, ");

	if (integrations && *wrong != '\0')
		note(problems, "sparky.paymob_integration_ids is no comma-separated list of integers");
	if (integrations && sparky_paymob_owner[0] == '\0')
		note(problems, "sparky.paymob_owner is not set");
	if (!integrations && sparky_secret(SECRET_PAYMOB_SECRET_KEY) != NULL)
		note(problems, "sparky.paymob_integration_ids is not set");
	if (sparky_paymob_owner[strspn(sparky_paymob_owner, "0123456789 ")] != '\0')
		note(problems, "sparky.paymob_owner is no integer");
}

/* A secret is missed only where what it is for has been set up. */
static bool
is_needed(Secret secret)
{
	switch (secret)
	{
		case SECRET_STORAGE_SERVICE_KEY:
			return sparky_storage_url[0] != '\0';
		case SECRET_PAYMOB_HMAC_SECRET:
		case SECRET_PAYMOB_SECRET_KEY:
		case SECRET_PAYMOB_PUBLIC_KEY:
		case SECRET_PAYMOB_API_KEY:
			return sparky_paymob_integration_ids[0] != '\0';
		case SECRET_GEMINI_API_KEY:
		case SECRET_COUNT:
			break;
	}
	return true;
}

/* The probe looks at the owner before the first worker; he may have lost his LOGIN since. */
static const char *
why_no_worker(void)
{
	const char *why = "no worker is running for this database";
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(sparky_data_owner()));

	if (HeapTupleIsValid(tuple))
	{
		Form_pg_authid role = (Form_pg_authid) GETSTRUCT(tuple);

		if (!role->rolcanlogin)
			why = psprintf("the data owner %s has no LOGIN, so the worker cannot connect as him", NameStr(role->rolname));
		ReleaseSysCache(tuple);
	}
	return why;
}
