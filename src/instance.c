/*
 * instance.c: whose database this is.
 *
 * sparky.instance names the system and the database that wrote it.  Where they
 * differ, this is a copy (a restored dump, a template copy): its jobs belong to
 * the original, which will make the calls and take the credits.  The copy voids
 * them, takes an identity and a download key of its own, and starts clean.
 * Answers that were already paid for are settled here as there.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "owner.h"
#include "queue.h"

#define KEY_BYTES 32
/* The delta of sparky.install() that this library needs; a test compares it with the SQL's latest_version(). */
#define SPARKY_SCHEMA_VERSION 2

int64
sparky_queue_next_incarnation(void)
{
	static SPIPlanPtr plan;

	sparky_plan(&plan, "SELECT nextval('sparky.incarnations')", 0, NULL);
	(void) sparky_execute(plan, NULL, NULL, 1);
	return sparky_column_int(0, 1, 0);
}

static Datum
random_key(void)
{
	bytea	   *key = palloc(VARHDRSZ + KEY_BYTES);

	SET_VARSIZE(key, VARHDRSZ + KEY_BYTES);
	if (!pg_strong_random(VARDATA(key), KEY_BYTES))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random bytes")));
	return PointerGetDatum(key);
}

bool
sparky_queue_check_identity(TimestampTz now, int *voided)
{
	static SPIPlanPtr look,
				write,
				cancel,
				calls;
	Oid			types[] = {INT8OID, OIDOID, TIMESTAMPTZOID, BYTEAOID, BYTEAOID};
	Datum		values[5];
	bool		known;

	*voided = 0;
	values[0] = Int64GetDatum((int64) GetSystemIdentifier());
	values[1] = ObjectIdGetDatum(MyDatabaseId);
	values[2] = TimestampTzGetDatum(now);
	sparky_plan(&look, "SELECT system_identifier = $1 AND database_oid = $2 FROM sparky.instance", 2, types);
	known = sparky_execute(look, values, NULL, 1) > 0;
	if (known && sparky_column_bool(0, 1))
		return false;

	values[3] = random_key();
	values[4] = random_key();
	sparky_plan(&write,
				"INSERT INTO sparky.instance AS i (singleton, system_identifier, database_oid, download_key, address_key, created_at)"
				" VALUES (true, $1, $2, $4, $5, $3) ON CONFLICT (singleton) DO UPDATE SET system_identifier = $1,"
				" database_oid = $2, download_key = $4, created_at = $3", 5, types);
	(void) sparky_execute(write, values, NULL, 0);
	sparky_plan(&cancel,
				"UPDATE public.generation_jobs SET status = 'cancelled', credits_held = 0, incarnation = NULL, lease_until = NULL,"
				" finished_at = $1 WHERE status IN ('queued', 'fetching', 'generating')", 1, &types[2]);
	*voided = (int) sparky_execute(cancel, &values[2], NULL, 0);
	/* Calls that were under way when the copy was made: the original sees their end. */
	sparky_plan(&calls, "UPDATE sparky.provider_calls SET outcome = 'unknown', finished_at = $1 WHERE outcome IS NULL", 1, &types[2]);
	(void) sparky_execute(calls, &values[2], NULL, 0);
	return known;
}

char *
sparky_queue_missing_objects(void)
{
	static SPIPlanPtr plan;

	sparky_plan(&plan,
				"SELECT CASE WHEN (SELECT max(v.version) FROM sparky.schema_version v) < " CppAsString2(SPARKY_SCHEMA_VERSION)
				" THEN 'what ALTER EXTENSION sparky UPDATE makes' ELSE array_to_string(sparky.missing_objects(), ', ') END", 0, NULL);
	if (sparky_execute(plan, NULL, NULL, 1) == 0)
		return NULL;
	{
		char	   *missing = sparky_column_text(0, 1);

		return missing == NULL || *missing == '\0' ? NULL : missing;
	}
}
