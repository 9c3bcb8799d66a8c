/*
 * storage_control.c: /_control/storage: what happens at "Storage" beside the API.
 *
 * {"do": one of the actions below, ...}; a member that the action does not know
 * is refused, as in scripts.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common.h"
#include "storage.h"

static ActionFunction put, get, delete, drop_file, list, token, clear, disconnect;

static const Action actions[] = {
	{"put", " object base64 text mime owner ", put},
	{"get", " object ", get},
	{"delete", " object ", delete},
	{"drop_file", " object ", drop_file},
	{"list", " bucket prefix ", list},
	{"token", " sub role seconds ", token},
	{"clear", " ", clear},
	{"disconnect", " ", disconnect},
	{NULL, NULL, NULL}
};

static const MemberTypes member_types = {.numbers = " seconds ", .objects = "", .booleans = "", .any = ""};

static bool split(const json_t *body, char **bucket, const char **key, Buf *why);
static json_t *row_of(const char *bucket, const char *key, Buf *why);

static const StorageCaller the_service = {.service = true};

bool
storage_control(const json_t *body, Buf *out)
{
	return run_action(actions, &member_types, body, out);
}

bool
storage_control_show(const json_t *body, Buf *out)
{
	json_t	   *answer = storage_counters();
	size_t		files;
	size_t		bytes;

	(void) body;
	storage_file_totals(&files, &bytes);
	json_object_set_new(answer, "files", json_integer((json_int_t) files));
	json_object_set_new(answer, "bytes", json_integer((json_int_t) bytes));
	dump_json(answer, out);
	return true;
}

/* A file and its row, as the API would have made them, without its limits. */
static json_t *
put(const json_t *body, Buf *why)
{
	const char *base64 = parameter_text(body, "base64", NULL);
	const char *plain = parameter_text(body, "text", "");
	const char *owner = parameter_text(body, "owner", NULL);
	StorageCaller caller = {.service = true, .sub = (char *) owner};
	char		version[37];
	char		now[40];
	char		hex[65];
	char		etag[40];
	char	   *bucket;
	const char *key;
	Buf			bytes = {0};
	json_t	   *metadata;
	json_t	   *row = NULL;

	if (!split(body, &bucket, &key, why))
		return NULL;
	if (base64 != NULL && !base64_decode(base64, strlen(base64), &bytes))
		buf_puts(why, "base64 is none");
	if (base64 == NULL)
		buf_puts(&bytes, plain);
	if (why->len == 0)
	{
		storage_uuid(version);
		storage_now(now);
		sha256_hex(bytes.data ? bytes.data : "", bytes.len, hex);
		snprintf(etag, sizeof etag, "\"%.32s\"", hex);
		metadata = json_pack("{s:s, s:I, s:s, s:s, s:s, s:I, s:i}", "eTag", etag, "size", (json_int_t) bytes.len,
							 "mimetype", parameter_text(body, "mime", "image/png"), "cacheControl", "max-age=3600", "lastModified", now,
							 "contentLength", (json_int_t) bytes.len, "httpStatusCode", 200);
		storage_file_put(parameter_text(body, "object", ""), version, bytes.data ? bytes.data : "", bytes.len);
		if (storage_rows()->put(&caller, bucket, key, version, metadata, true, &row) != ROW_OK)
			buf_puts(why, "the row was not written");
		json_decref(metadata);
	}
	buf_free(&bytes);
	free(bucket);
	return row;
}

/* {row, base64}: base64 null when the file is missing. */
static json_t *
get(const json_t *body, Buf *why)
{
	char	   *bucket;
	const char *key;
	json_t	   *row;
	Buf			bytes = {0};
	Buf			base64 = {0};

	if (!split(body, &bucket, &key, why))
		return NULL;
	row = row_of(bucket, key, why);
	free(bucket);
	if (row == NULL)
		return NULL;
	if (!storage_file_get(parameter_text(body, "object", ""), parameter_text(row, "version", ""), &bytes))
		return json_pack("{s:o, s:n}", "row", row, "base64");
	buf_base64(&base64, bytes.data ? bytes.data : "", bytes.len);
	row = json_pack("{s:o, s:s}", "row", row, "base64", base64.data ? base64.data : "");
	buf_free(&bytes);
	buf_free(&base64);
	return row;
}

static json_t *
delete(const json_t *body, Buf *why)
{
	char	   *bucket;
	const char *key;
	json_t	   *keys;
	json_t	   *gone = NULL;

	if (!split(body, &bucket, &key, why))
		return NULL;
	keys = json_pack("[s]", key);
	if (storage_rows()->drop(&the_service, bucket, keys, &gone) != ROW_OK)
		buf_puts(why, "the row was not deleted");
	storage_file_drop(parameter_text(body, "object", ""), NULL);
	json_decref(keys);
	free(bucket);
	return gone;
}

/* The row stays: what a disk that lost its files looks like. */
static json_t *
drop_file(const json_t *body, Buf *why)
{
	if (!storage_file_drop(parameter_text(body, "object", ""), NULL))
	{
		buf_puts(why, "there is no such file");
		return NULL;
	}
	return json_object();
}

static json_t *
list(const json_t *body, Buf *why)
{
	json_t	   *rows = NULL;

	if (storage_rows()->list(&the_service, parameter_text(body, "bucket", ""), parameter_text(body, "prefix", ""), &rows) != ROW_OK)
		buf_puts(why, "the rows were not read");
	return rows;
}

/* A token of a user, as Auth would give it. */
static json_t *
token(const json_t *body, Buf *why)
{
	const json_t *seconds = json_object_get(body, "seconds");
	const char *sub = parameter_text(body, "sub", NULL);
	json_int_t	now = (json_int_t) time(NULL);
	json_t	   *payload = json_pack("{s:s, s:s, s:I, s:I}", "role", parameter_text(body, "role", "authenticated"), "aud", "authenticated", "iat", now,
									"exp", now + (seconds != NULL ? json_integer_value(seconds) : 3600));
	char	   *made;
	json_t	   *answer;

	(void) why;
	if (sub != NULL)
		json_object_set_new(payload, "sub", json_string(sub));
	made = storage_token(payload, storage_settings.jwt_secret);
	answer = json_pack("{s:s}", "token", made);
	free(made);
	return answer;
}

/* Files, and the rows in memory; rows in a database are the test's. */
static json_t *
clear(const json_t *body, Buf *why)
{
	(void) body;
	(void) why;
	storage_file_clear();
	storage_memory_clear();
	return json_object();
}

static json_t *
disconnect(const json_t *body, Buf *why)
{
	(void) body;
	(void) why;
	storage_db_disconnect();
	return json_object();
}

static bool
split(const json_t *body, char **bucket, const char **key, Buf *why)
{
	const char *object = parameter_text(body, "object", "");
	const char *slash = strchr(object, '/');

	if (slash == NULL || slash == object || slash[1] == '\0')
	{
		buf_puts(why, "object is bucket/key");
		return false;
	}
	*bucket = strndup(object, (size_t) (slash - object));
	*key = slash + 1;
	return true;
}

static json_t *
row_of(const char *bucket, const char *key, Buf *why)
{
	json_t	   *row = NULL;

	if (storage_rows()->find(&the_service, bucket, key, &row) != ROW_OK)
		buf_puts(why, "there is no such object");
	return row;
}
