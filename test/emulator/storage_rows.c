/*
 * storage_rows.c: buckets and objects in memory, when there is no database.
 *
 * The two buckets of sparky, private, with its limits.  No policies here: a
 * user's token may do what the service may.  Any thread, under one lock.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "storage.h"

#define BUCKET_LIMIT 7340032

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static json_t *rows = NULL;		/* "bucket/key" -> row */

static char *object_name(const char *bucket, const char *key);

const StorageRows *
storage_rows(void)
{
	return storage_settings.db != NULL ? &storage_db_rows : &storage_memory_rows;
}

void
storage_memory_clear(void)
{
	pthread_mutex_lock(&lock);
	json_decref(rows);
	rows = NULL;
	pthread_mutex_unlock(&lock);
}

static RowResult
find_bucket(const char *bucket, json_t **found)
{
	*found = NULL;
	if (strcmp(bucket, "user_uploads") != 0 && strcmp(bucket, "generations") != 0)
		return ROW_NONE;
	*found = json_pack("{s:b, s:i, s:[s,s,s,s,s]}", "public", 0, "file_size_limit", BUCKET_LIMIT, "allowed_mime_types",
					   "image/jpeg", "image/png", "image/webp", "image/heic", "image/heif");
	return ROW_OK;
}

static RowResult
find_row(const StorageCaller *caller, const char *bucket, const char *key, json_t **row)
{
	char	   *name = object_name(bucket, key);

	(void) caller;
	pthread_mutex_lock(&lock);
	*row = json_deep_copy(json_object_get(rows, name));
	pthread_mutex_unlock(&lock);
	free(name);
	return *row != NULL ? ROW_OK : ROW_NONE;
}

static RowResult
put_row(const StorageCaller *caller, const char *bucket, const char *key, const char *version,
		const json_t *metadata, bool upsert, json_t **row)
{
	char	   *name = object_name(bucket, key);
	char		id[37];
	char		now[40];
	json_t	   *there;

	storage_uuid(id);
	storage_now(now);
	*row = NULL;
	pthread_mutex_lock(&lock);
	if (rows == NULL)
		rows = json_object();
	there = json_object_get(rows, name);
	if (there == NULL)
	{
		there = json_pack("{s:s, s:s, s:s, s:s?, s:s}", "id", id, "name", key, "bucket_id", bucket, "owner_id", caller->sub, "created_at", now);
		json_object_set_new(rows, name, there);
	}
	else if (!upsert)
		there = NULL;
	if (there != NULL)
	{
		json_object_set_new(there, "version", json_string(version));
		json_object_set_new(there, "updated_at", json_string(now));
		json_object_set_new(there, "metadata", json_deep_copy(metadata));
		*row = json_deep_copy(there);
	}
	pthread_mutex_unlock(&lock);
	free(name);
	return *row != NULL ? ROW_OK : ROW_EXISTS;
}

static RowResult
drop_rows(const StorageCaller *caller, const char *bucket, const json_t *keys, json_t **gone)
{
	size_t		at;
	json_t	   *key;

	(void) caller;
	*gone = json_array();
	pthread_mutex_lock(&lock);
	json_array_foreach((json_t *) keys, at, key)
	{
		char	   *name = object_name(bucket, json_string_value(key));
		json_t	   *row = json_object_get(rows, name);

		if (row != NULL)
		{
			json_array_append_new(*gone, json_deep_copy(row));
			json_object_del(rows, name);
		}
		free(name);
	}
	pthread_mutex_unlock(&lock);
	return ROW_OK;
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(json_string_value(json_object_get(*(json_t *const *) a, "name")), json_string_value(json_object_get(*(json_t *const *) b, "name")));
}

static RowResult
list_rows(const StorageCaller *caller, const char *bucket, const char *prefix, json_t **found)
{
	json_t	  **sorted;
	size_t		count = 0;
	const char *name;
	json_t	   *row;

	(void) caller;
	*found = json_array();
	pthread_mutex_lock(&lock);
	sorted = xalloc((json_object_size(rows) + 1) * sizeof *sorted);
	json_object_foreach(rows, name, row)
	{
		if ((*bucket == '\0' || strcmp(json_string_value(json_object_get(row, "bucket_id")), bucket) == 0) &&
			strncmp(json_string_value(json_object_get(row, "name")), prefix, strlen(prefix)) == 0)
			sorted[count++] = row;
	}
	qsort(sorted, count, sizeof *sorted, by_name);
	for (size_t i = 0; i < count; i++)
		json_array_append_new(*found, json_deep_copy(sorted[i]));
	pthread_mutex_unlock(&lock);
	free(sorted);
	return ROW_OK;
}

const StorageRows storage_memory_rows = {find_bucket, find_row, put_row, drop_rows, list_rows};

static char *
object_name(const char *bucket, const char *key)
{
	Buf			name = {0};

	buf_printf(&name, "%s/%s", bucket, key);
	return name.data;
}

void
storage_uuid(char out[37])
{
	unsigned char b[16];

	if (getrandom(b, sizeof b, 0) != sizeof b)
		abort();
	b[6] = (unsigned char) ((b[6] & 0x0F) | 0x40);
	b[8] = (unsigned char) ((b[8] & 0x3F) | 0x80);
	snprintf(out, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
			 b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

void
storage_now(char out[40])
{
	struct timespec now;
	struct tm	utc;
	size_t		len;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &utc);
	len = strftime(out, 40, "%Y-%m-%dT%H:%M:%S", &utc);
	snprintf(out + len, 40 - len, ".%03ldZ", now.tv_nsec / 1000000);
}
