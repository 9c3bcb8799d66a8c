/*
 * erasures.c: files that are to be erased through the Storage API: sparky.erasures.
 *
 * A row is struck off when its file is gone, which storage.objects tells, or
 * when the path was written again after the row was noted: that file is
 * somebody's new one.  Rows that another transaction holds are left for later.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "owner.h"
#include "storage_backend.h"

/* What is not tried again stands there for the operator, with this before its reason. */
#define GIVEN_UP "given up: "
#define IS_GIVEN_UP "COALESCE(e.last_error, '') LIKE '" GIVEN_UP "%'"
/* Of sparky.erasures e. */
#define HAS_ITS_FILE \
	" EXISTS (SELECT FROM storage.objects o WHERE o.bucket_id = e.bucket_id AND o.name = e.name" \
	" AND COALESCE(o.updated_at, o.created_at, '-infinity') <= e.created_at)"

static Datum ids_of(const Erasure *list, int count);
static void strike(Datum ids);

void
sparky_storage_note_erasure(const char *path)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID, TEXTOID};
	Datum		values[2];

	sparky_storage_split(path, &values[0], &values[1]);
	sparky_plan(&plan,
				"INSERT INTO sparky.erasures AS e (bucket_id, name, user_id, created_at) VALUES ($1, $2,"
				" pg_catalog.substring($2, '^([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/')::pg_catalog.uuid, pg_catalog.clock_timestamp())"
				" ON CONFLICT (bucket_id, name) DO UPDATE SET created_at = excluded.created_at, attempts = 0, last_error = NULL",
				2, types);
	sparky_execute_fresh(plan, values, NULL);
}

int
sparky_erasures_next(int limit, char **bucket, Erasure **list)
{
	static SPIPlanPtr look = NULL;
	static const Oid types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(limit)};
	int			count = 0;
	int			found;

	sparky_plan(&look,
				"SELECT e.id, e.bucket_id, e.name FROM sparky.erasures e WHERE NOT (" IS_GIVEN_UP ")"
				" ORDER BY e.attempts, e.id LIMIT $1",
				1, types);
	found = (int) sparky_execute(look, values, NULL, 0);
	*list = palloc(sizeof(Erasure) * Max(found, 1));
	*bucket = found > 0 ? sparky_column_text(0, 2) : NULL;
	for (int i = 0; i < found; i++)
	{
		if (strcmp(sparky_column_text(i, 2), *bucket) != 0)
			continue;
		(*list)[count].id = sparky_column_int(i, 1, 0);
		(*list)[count++].name = sparky_column_text(i, 3);
	}
	return count;
}

int
sparky_erasures_strike(Erasure *list, int count)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT8ARRAYOID};
	Datum		ids = ids_of(list, count);
	int			left = 0;
	uint64		rows;

	strike(ids);
	/* What is left, in the order of the list, which is the order of attempts and ids. */
	sparky_plan(&plan, "SELECT e.id FROM sparky.erasures e WHERE e.id = ANY ($1) AND" HAS_ITS_FILE " ORDER BY e.attempts, e.id", 1, types);
	rows = sparky_execute(plan, &ids, NULL, 0);
	for (int i = 0; i < count; i++)
		for (uint64 row = 0; row < rows; row++)
			if (sparky_column_int(row, 1, 0) == list[i].id)
			{
				list[left++] = list[i];
				break;
			}
	return left;
}

void
sparky_erasures_failed(const Erasure *list, int count, const char *why, bool for_good)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT8ARRAYOID, TEXTOID};
	Datum		values[] = {ids_of(list, count), CStringGetTextDatum(psprintf("%s%s", for_good ? GIVEN_UP : "", why))};

	sparky_plan(&plan,
				"UPDATE sparky.erasures u SET attempts = u.attempts + 1, last_error = pg_catalog.left($2, 500) WHERE u.id IN"
				" (SELECT e.id FROM sparky.erasures e WHERE e.id = ANY ($1) FOR UPDATE SKIP LOCKED)",
				2, types);
	sparky_execute(plan, values, NULL, 0);
}

static void
strike(Datum ids)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT8ARRAYOID};

	sparky_plan(&plan,
				"DELETE FROM sparky.erasures d WHERE d.id IN"
				" (SELECT e.id FROM sparky.erasures e WHERE e.id = ANY ($1) AND NOT" HAS_ITS_FILE " FOR UPDATE OF e SKIP LOCKED)",
				1, types);
	sparky_execute(plan, &ids, NULL, 0);
}

static Datum
ids_of(const Erasure *list, int count)
{
	Datum	   *ids = palloc(sizeof(Datum) * Max(count, 1));

	for (int i = 0; i < count; i++)
		ids[i] = Int64GetDatum(list[i].id);
	return PointerGetDatum(construct_array(ids, count, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}
