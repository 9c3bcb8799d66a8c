/*
 * storage_db.c: buckets and objects in storage.* of a test's database.
 *
 * Written as the real service writes: by the role of the conninfo
 * (supabase_storage_admin), or, for a user's token, by the token's role with its
 * claims, so that policies decide.  Each operation is one transaction on a
 * connection of its own; connections are kept and shared.  One that died (a
 * server that was restarted) is made anew, once an operation.
 */
#include <libpq-fe.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "storage.h"

#define KEPT_CONNECTIONS 4

#define ROW \
	"jsonb_build_object('id', id, 'bucket_id', bucket_id, 'name', name, 'version', version, 'owner_id', owner_id," \
	" 'created_at', created_at, 'updated_at', updated_at, 'metadata', metadata)"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static PGconn *idle[KEPT_CONNECTIONS];
static int	idle_count = 0;

static RowResult run(const StorageCaller *caller, const char *settings, const char *sql, int count, const char *const *values, json_t **rows);
static PGconn *take(void);
static void give(PGconn *connection);
static bool command(PGconn *connection, const char *sql);
static bool become(PGconn *connection, const StorageCaller *caller);
static RowResult outcome_of(const PGresult *result);

static RowResult
one(RowResult result, json_t *rows, json_t **row)
{
	*row = NULL;
	if (result == ROW_OK)
	{
		*row = json_incref(json_array_get(rows, 0));
		if (*row == NULL)
			result = ROW_NONE;
	}
	json_decref(rows);
	return result;
}

static RowResult
find_bucket(const char *bucket, json_t **found)
{
	const char *values[] = {bucket};
	json_t	   *rows = NULL;
	RowResult	result = run(NULL, NULL, "SELECT jsonb_build_object('public', public, 'file_size_limit', file_size_limit,"
							 " 'allowed_mime_types', allowed_mime_types) FROM storage.buckets WHERE id = $1", 1, values, &rows);

	return one(result, rows, found);
}

static RowResult
find_row(const StorageCaller *caller, const char *bucket, const char *key, json_t **row)
{
	const char *values[] = {bucket, key};
	json_t	   *rows = NULL;
	RowResult	result = run(caller, NULL, "SELECT " ROW " FROM storage.objects WHERE bucket_id = $1 AND name = $2", 2, values, &rows);

	return one(result, rows, row);
}

static RowResult
put_row(const StorageCaller *caller, const char *bucket, const char *key, const char *version,
		const json_t *metadata, bool upsert, json_t **row)
{
	char	   *text = json_dumps(metadata, JSON_COMPACT);
	char		id[37];
	const char *values[] = {bucket, key, caller->sub, version, text, id};
	json_t	   *rows = NULL;
	RowResult	result;

	storage_uuid(id);
	/* A plain upload needs no more than the right to insert: nothing is read back. */
	result = run(caller, NULL, upsert ?
				 "INSERT INTO storage.objects (bucket_id, name, owner_id, version, metadata, id) VALUES ($1, $2, $3, $4, $5::jsonb, $6::uuid)"
				 " ON CONFLICT (bucket_id, name) DO UPDATE SET version = excluded.version, metadata = excluded.metadata,"
				 " owner_id = excluded.owner_id, updated_at = now() RETURNING jsonb_build_object('id', objects.id)" :
				 "INSERT INTO storage.objects (bucket_id, name, owner_id, version, metadata, id) VALUES ($1, $2, $3, $4, $5::jsonb, $6::uuid)",
				 6, values, &rows);
	free(text);
	if (!upsert && result == ROW_OK)
		json_array_append_new(rows, json_pack("{s:s}", "id", id));
	return one(result, rows, row);
}

static RowResult
drop_rows(const StorageCaller *caller, const char *bucket, const json_t *keys, json_t **gone)
{
	char	   *text = json_dumps(keys, JSON_COMPACT);
	const char *values[] = {bucket, text};
	RowResult	result;

	result = run(caller, "SET LOCAL storage.allow_delete_query = 'true'",
				 "DELETE FROM storage.objects WHERE bucket_id = $1 AND name IN (SELECT jsonb_array_elements_text($2::jsonb))"
				 " RETURNING " ROW, 2, values, gone);
	free(text);
	return result;
}

static RowResult
list_rows(const StorageCaller *caller, const char *bucket, const char *prefix, json_t **rows)
{
	const char *values[] = {bucket, prefix};

	return run(caller, NULL, "SELECT " ROW " FROM storage.objects WHERE ($1 = '' OR bucket_id = $1) AND starts_with(name, $2)"
			   " ORDER BY bucket_id, name COLLATE \"C\"", 2, values, rows);
}

const StorageRows storage_db_rows = {find_bucket, find_row, put_row, drop_rows, list_rows};

/* One transaction; rows: an array of the statement's first column. */
static RowResult
run(const StorageCaller *caller, const char *settings, const char *sql, int count, const char *const *values, json_t **rows)
{
	PGconn	   *connection = take();
	PGresult   *answer;
	RowResult	result = ROW_FAILED;

	*rows = NULL;
	if (connection == NULL)
		return ROW_FAILED;
	if (!command(connection, "BEGIN"))
	{
		/* The server was restarted since. */
		PQreset(connection);
		if (!command(connection, "BEGIN"))
		{
			PQfinish(connection);
			return ROW_FAILED;
		}
	}
	if ((settings == NULL || command(connection, settings)) && become(connection, caller))
	{
		answer = PQexecParams(connection, sql, count, NULL, values, NULL, NULL, 0);
		result = outcome_of(answer);
		if (result == ROW_OK)
		{
			*rows = json_array();
			for (int i = 0; i < PQntuples(answer); i++)
				json_array_append_new(*rows, json_loads(PQgetvalue(answer, i, 0), 0, NULL));
		}
		PQclear(answer);
	}
	if (!command(connection, result == ROW_OK ? "COMMIT" : "ROLLBACK"))
		result = ROW_FAILED;
	if (result != ROW_OK)
	{
		json_decref(*rows);
		*rows = NULL;
	}
	give(connection);
	return result;
}

static PGconn *
take(void)
{
	PGconn	   *connection = NULL;

	pthread_mutex_lock(&lock);
	if (idle_count > 0)
		connection = idle[--idle_count];
	pthread_mutex_unlock(&lock);
	if (connection == NULL)
	{
		connection = PQconnectdb(storage_settings.db);
		if (PQstatus(connection) != CONNECTION_OK)
		{
			PQfinish(connection);
			return NULL;
		}
		command(connection, "SET lock_timeout = '5s'; SET statement_timeout = '10s'; SET search_path = storage");
	}
	return connection;
}

static void
give(PGconn *connection)
{
	if (PQstatus(connection) == CONNECTION_OK && PQtransactionStatus(connection) == PQTRANS_IDLE)
	{
		pthread_mutex_lock(&lock);
		if (idle_count < KEPT_CONNECTIONS)
		{
			idle[idle_count++] = connection;
			connection = NULL;
		}
		pthread_mutex_unlock(&lock);
	}
	if (connection != NULL)
		PQfinish(connection);
}

void
storage_db_disconnect(void)
{
	pthread_mutex_lock(&lock);
	while (idle_count > 0)
		PQfinish(idle[--idle_count]);
	pthread_mutex_unlock(&lock);
}

static bool
command(PGconn *connection, const char *sql)
{
	PGresult   *answer = PQexec(connection, sql);
	bool		good = PQresultStatus(answer) == PGRES_COMMAND_OK || PQresultStatus(answer) == PGRES_TUPLES_OK;

	PQclear(answer);
	return good;
}

/* The service acts as the conninfo's role; a user as his token says. */
static bool
become(PGconn *connection, const StorageCaller *caller)
{
	const char *values[2];
	PGresult   *answer;
	bool		good;

	if (caller == NULL || caller->service)
		return true;
	values[0] = caller->role;
	values[1] = caller->claims;
	answer = PQexecParams(connection, "SELECT set_config('request.jwt.claims', $2, true), set_config('role', $1, true)",
						  2, NULL, values, NULL, NULL, 0);
	good = PQresultStatus(answer) == PGRES_TUPLES_OK;
	PQclear(answer);
	return good;
}

static RowResult
outcome_of(const PGresult *result)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	if (PQresultStatus(result) == PGRES_TUPLES_OK || PQresultStatus(result) == PGRES_COMMAND_OK)
		return ROW_OK;
	if (state != NULL && strcmp(state, "23505") == 0)
		return ROW_EXISTS;
	if (state != NULL && strcmp(state, "42501") == 0)
		return ROW_REFUSED;
	return ROW_FAILED;
}
