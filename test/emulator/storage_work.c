/*
 * storage_work.c: does what was asked of Storage, and answers.
 *
 * An upload writes the file first and the row after it; a deletion the other
 * way round: a row with a file of its version is what a reader sees, always.
 * Limits hold only where the length was told before the body, as in the real
 * service: with chunked encoding neither limit is applied.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "storage.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static json_t *counters = NULL;

static void upload(StorageCall *call, Reply *reply);
static bool upload_allowed(const StorageCall *call, const json_t *bucket, const char *mime, Reply *reply);
static void download(StorageCall *call, Reply *reply);
static void send_file(const StorageCall *call, const json_t *row, Reply *reply);
static bool send_part(const char *range, Reply *reply);
static void info(StorageCall *call, Reply *reply);
static void sign(StorageCall *call, Reply *reply);
static void open_link(StorageCall *call, Reply *reply);
static void delete_one(StorageCall *call, Reply *reply);
static void delete_many(StorageCall *call, Reply *reply);
static void list(StorageCall *call, Reply *reply);
static bool find_bucket(const StorageCall *call, json_t **bucket, Reply *reply);
static bool find_row(const StorageCall *call, const StorageCaller *caller, json_t **row, Reply *reply);
static void failed(RowResult result, Reply *reply);
static const char *text_of(const json_t *object, const char *name, const char *fallback);
static void http_date(char *out, size_t size, const char *iso);

static const StorageCaller the_service = {.service = true};

void
storage_work(StorageCall *call, Reply *reply)
{
	storage_count(call->kind);
	switch (call->route)
	{
		case STORAGE_UPLOAD: upload(call, reply); break;
		case STORAGE_DOWNLOAD: download(call, reply); break;
		case STORAGE_PUBLIC: download(call, reply); break;
		case STORAGE_INFO: info(call, reply); break;
		case STORAGE_SIGN: sign(call, reply); break;
		case STORAGE_OPEN: open_link(call, reply); break;
		case STORAGE_DELETE: delete_many(call, reply); break;
		case STORAGE_DELETE_ONE: delete_one(call, reply); break;
		case STORAGE_LIST: list(call, reply); break;
		case STORAGE_NOWHERE: break;
	}
}

/* ---- writing ---- */

static void
upload(StorageCall *call, Reply *reply)
{
	const Pairs *headers = &call->request->headers;
	const Buf  *body = &call->request->body;
	const char *mime = pairs_get(headers, "content-type");
	const char *cache = pairs_get(headers, "cache-control");
	const char *upsert = pairs_get(headers, "x-upsert");
	bool		overwrite = strcmp(call->request->method, "PUT") == 0 || (upsert != NULL && strcmp(upsert, "true") == 0);
	char		version[37];
	char		now[40];
	char		hex[65];
	char		etag[40];
	json_t	   *bucket;
	json_t	   *metadata;
	json_t	   *old = NULL;
	json_t	   *row = NULL;
	RowResult	result;

	if (mime == NULL)
		mime = "application/octet-stream";
	if (!find_bucket(call, &bucket, reply))
		return;
	if (!upload_allowed(call, bucket, mime, reply))
	{
		json_decref(bucket);
		return;
	}
	json_decref(bucket);
	storage_uuid(version);
	storage_now(now);
	sha256_hex(body->data ? body->data : "", body->len, hex);
	snprintf(etag, sizeof etag, "\"%.32s\"", hex);
	metadata = json_pack("{s:s, s:I, s:s, s:s, s:s, s:I, s:i}", "eTag", etag, "size", (json_int_t) body->len, "mimetype", mime,
						 "cacheControl", cache != NULL ? cache : "no-cache", "lastModified", now,
						 "contentLength", (json_int_t) body->len, "httpStatusCode", 200);
	storage_rows()->find(&the_service, call->bucket, call->key, &old);
	storage_file_put(call->object, version, body->data ? body->data : "", body->len);
	result = storage_rows()->put(&call->caller, call->bucket, call->key, version, metadata, overwrite, &row);
	json_decref(metadata);
	if (result != ROW_OK)
	{
		storage_file_drop(call->object, version);
		failed(result, reply);
	}
	else
	{
		if (old != NULL)
			storage_file_drop(call->object, text_of(old, "version", ""));
		storage_json(reply, 200, json_pack("{s:s, s:O}", "Key", call->object, "Id", json_object_get(row, "id")));
	}
	json_decref(old);
	json_decref(row);
}

static bool
upload_allowed(const StorageCall *call, const json_t *bucket, const char *mime, Reply *reply)
{
	const json_t *limit = json_object_get(bucket, "file_size_limit");
	const json_t *types = json_object_get(bucket, "allowed_mime_types");
	uint64_t	length = call->request->body_length;
	bool		allowed = !json_is_array(types);
	size_t		at;
	json_t	   *type;
	Buf			message = {0};

	if (strncmp(mime, "multipart/", 10) == 0)
	{
		storage_error(reply, 400, 400, "NotSupported", "Error", "the emulator takes raw bodies only");
		return false;
	}
	json_array_foreach((json_t *) types, at, type)
		if (strcmp(json_string_value(type), mime) == 0)
			allowed = true;
	if (!allowed)
	{
		buf_printf(&message, "mime type %s is not supported", mime);
		storage_error(reply, 400, 415, "InvalidMimeType", "invalid_mime_type", message.data);
		buf_free(&message);
		return false;
	}
	if ((!call->chunked && (length > storage_settings.file_limit ||
							(json_is_integer(limit) && length > (uint64_t) json_integer_value(limit)))) ||
		length != call->request->body.len)
	{
		storage_error(reply, 400, 413, "EntityTooLarge", "Payload too large", "The object exceeded the maximum allowed size");
		return false;
	}
	return true;
}

static void
delete_one(StorageCall *call, Reply *reply)
{
	json_t	   *keys = json_pack("[s]", call->key);
	json_t	   *gone = NULL;
	json_t	   *bucket;
	RowResult	result;

	if (!find_bucket(call, &bucket, reply))
	{
		json_decref(keys);
		return;
	}
	json_decref(bucket);
	result = storage_rows()->drop(&call->caller, call->bucket, keys, &gone);
	if (result == ROW_OK && json_array_size(gone) == 0)
		result = ROW_NONE;
	if (result != ROW_OK)
		failed(result, reply);
	else
	{
		storage_file_drop(call->object, text_of(json_array_get(gone, 0), "version", ""));
		storage_json(reply, 200, json_pack("{s:s}", "message", "Successfully deleted"));
	}
	json_decref(keys);
	json_decref(gone);
}

/* What is not there is left out of the answer. */
static void
delete_many(StorageCall *call, Reply *reply)
{
	json_t	   *gone = NULL;
	json_t	   *bucket;
	json_t	   *row;
	size_t		at;
	RowResult	result;

	if (!find_bucket(call, &bucket, reply))
		return;
	json_decref(bucket);
	result = storage_rows()->drop(&call->caller, call->bucket, json_object_get(call->body, "prefixes"), &gone);
	if (result != ROW_OK)
	{
		failed(result, reply);
		json_decref(gone);
		return;
	}
	json_array_foreach(gone, at, row)
	{
		Buf			object = {0};

		buf_printf(&object, "%s/%s", call->bucket, text_of(row, "name", ""));
		storage_file_drop(object.data, text_of(row, "version", ""));
		buf_free(&object);
	}
	storage_json(reply, 200, gone);
}

/* ---- reading ---- */

static void
download(StorageCall *call, Reply *reply)
{
	bool		public = call->route == STORAGE_PUBLIC;
	json_t	   *bucket;
	json_t	   *row;

	if (!find_bucket(call, &bucket, reply))
		return;
	if (public && !json_is_true(json_object_get(bucket, "public")))
	{
		json_decref(bucket);
		storage_error(reply, 400, 404, "NoSuchBucket", "Bucket not found", "Bucket not found");
		return;
	}
	json_decref(bucket);
	if (!find_row(call, public ? &the_service : &call->caller, &row, reply))
		return;
	send_file(call, row, reply);
	json_decref(row);
}

/* The file of this version, whole, in part, or not at all if the client has it. */
static void
send_file(const StorageCall *call, const json_t *row, Reply *reply)
{
	const json_t *metadata = json_object_get(row, "metadata");
	const char *etag = text_of(metadata, "eTag", "\"\"");
	const char *known = pairs_get(&call->request->headers, "if-none-match");
	const char *range = pairs_get(&call->request->headers, "range");
	char		date[60];
	Buf			bytes = {0};

	if (!storage_file_get(call->object, text_of(row, "version", ""), &bytes))
	{
		storage_error(reply, 500, 500, "InternalError", "InternalError", "ENOENT: no such file or directory, stat '/mnt/stub'");
		return;
	}
	pairs_free(&reply->headers);
	buf_free(&reply->body);
	reply->body = bytes;
	reply->status = 200;
	reply->delivery = DELIVER_LENGTH;
	if (range != NULL && !send_part(range, reply))
		return;
	http_date(date, sizeof date, text_of(metadata, "lastModified", ""));
	pairs_add(&reply->headers, "Content-Type", text_of(metadata, "mimetype", "application/octet-stream"));
	pairs_add(&reply->headers, "ETag", etag);
	pairs_add(&reply->headers, "Last-Modified", date);
	pairs_add(&reply->headers, "Cache-Control", text_of(metadata, "cacheControl", "no-cache"));
	pairs_add(&reply->headers, "Accept-Ranges", "bytes");
	if (known != NULL && strcmp(known, etag) == 0)
	{
		reply->status = 304;
		buf_free(&reply->body);
	}
}

/* "bytes=a-b", "bytes=a-", "bytes=-n"; false: not within the file, and the reply says so. */
static bool
send_part(const char *range, Reply *reply)
{
	size_t		size = reply->body.len;
	size_t		first;
	size_t		last = size > 0 ? size - 1 : 0;
	char		told[80];
	char	   *end;

	if (strncmp(range, "bytes=", 6) != 0)
		return true;
	range += 6;
	if (*range == '-')
	{
		size_t		tail = strtoul(range + 1, &end, 10);

		first = tail < size ? size - tail : 0;
		if (tail == 0)
			first = size;
	}
	else
	{
		first = strtoul(range, &end, 10);
		if (*end == '-' && end[1] != '\0')
			last = strtoul(end + 1, &end, 10);
	}
	if (first >= size || last < first)
	{
		storage_error(reply, 416, 416, "InvalidRange", "invalid_range", "invalid range provided");
		return false;
	}
	if (last >= size)
		last = size - 1;
	memmove(reply->body.data, reply->body.data + first, last - first + 1);
	reply->body.len = last - first + 1;
	reply->status = 206;
	snprintf(told, sizeof told, "bytes %zu-%zu/%zu", first, last, size);
	pairs_add(&reply->headers, "Content-Range", told);
	return true;
}

/* Of the row alone: a file that is missing is not noticed. */
static void
info(StorageCall *call, Reply *reply)
{
	json_t	   *bucket;
	json_t	   *row;
	json_t	   *metadata;

	if (!find_bucket(call, &bucket, reply))
		return;
	json_decref(bucket);
	if (!find_row(call, &call->caller, &row, reply))
		return;
	metadata = json_object_get(row, "metadata");
	storage_json(reply, 200, json_pack("{s:O, s:s, s:s, s:s, s:s, s:I, s:s, s:s, s:s, s:{}, s:s, s:s}",
									   "id", json_object_get(row, "id"), "name", call->key, "bucket_id", call->bucket,
									   "version", text_of(row, "version", ""), "content_type", text_of(metadata, "mimetype", ""),
									   "size", json_integer_value(json_object_get(metadata, "size")),
									   "etag", text_of(metadata, "eTag", ""), "cache_control", text_of(metadata, "cacheControl", ""),
									   "last_modified", text_of(metadata, "lastModified", ""), "metadata",
									   "created_at", text_of(row, "created_at", ""), "updated_at", text_of(row, "updated_at", "")));
	json_decref(row);
}

/* Files and folders of one level, by name. */
static void
list(StorageCall *call, Reply *reply)
{
	json_int_t	limit = json_integer_value(json_object_get(call->body, "limit"));
	json_int_t	offset = json_integer_value(json_object_get(call->body, "offset"));
	const char *asked = text_of(call->body, "prefix", "");
	json_t	   *bucket;
	json_t	   *rows = NULL;
	json_t	   *row;
	json_t	   *lines = json_array();
	char	   *last_folder = NULL;
	Buf			prefix = {0};
	size_t		at;
	RowResult	result;

	buf_puts(&prefix, asked);
	if (prefix.len > 0 && prefix.data[prefix.len - 1] != '/')
		buf_puts(&prefix, "/");
	if (!find_bucket(call, &bucket, reply))
	{
		json_decref(lines);
		buf_free(&prefix);
		return;
	}
	json_decref(bucket);
	result = storage_rows()->list(&call->caller, call->bucket, prefix.data, &rows);
	json_array_foreach(rows, at, row)
	{
		const char *name = text_of(row, "name", "") + prefix.len;
		const char *slash = strchr(name, '/');
		char	   *folder = slash != NULL ? strndup(name, (size_t) (slash - name)) : NULL;

		if (folder != NULL && last_folder != NULL && strcmp(folder, last_folder) == 0)
		{
			free(folder);
			continue;
		}
		if (offset-- <= 0 && json_array_size(lines) < (size_t) (limit > 0 ? limit : 100))
			json_array_append_new(lines, folder != NULL ?
								  json_pack("{s:s, s:n, s:n, s:n, s:n}", "name", folder, "id", "created_at", "updated_at", "metadata") :
								  json_pack("{s:s, s:O, s:O?, s:O?, s:O?}", "name", name, "id", json_object_get(row, "id"),
											"created_at", json_object_get(row, "created_at"), "updated_at", json_object_get(row, "updated_at"),
											"metadata", json_object_get(row, "metadata")));
		if (folder != NULL)
		{
			free(last_folder);
			last_folder = folder;
		}
	}
	free(last_folder);
	buf_free(&prefix);
	json_decref(rows);
	if (result == ROW_OK)
		storage_json(reply, 200, lines);
	else
	{
		json_decref(lines);
		failed(result, reply);
	}
}

/* ---- signed links ---- */

static void
sign(StorageCall *call, Reply *reply)
{
	json_int_t	now = (json_int_t) time(NULL);
	json_t	   *bucket;
	json_t	   *row;
	char	   *token;
	Buf			link = {0};

	if (!find_bucket(call, &bucket, reply))
		return;
	json_decref(bucket);
	if (!find_row(call, &call->caller, &row, reply))
		return;
	json_decref(row);
	token = storage_token(json_pack("{s:s, s:I, s:I}", "url", call->object, "iat", now,
									"exp", now + json_integer_value(json_object_get(call->body, "expiresIn"))), storage_link_secret());
	buf_printf(&link, "/object/sign/%s?token=%s", call->object, token);
	storage_json(reply, 200, json_pack("{s:s}", "signedURL", link.data));
	buf_free(&link);
	free(token);
}

static void
open_link(StorageCall *call, Reply *reply)
{
	const char *token = pairs_get(&call->request->query, "token");
	const char *why = "Invalid Compact JWS";
	json_t	   *payload = token != NULL ? storage_token_read(token, storage_link_secret(), &why) : NULL;
	json_t	   *row;

	if (token == NULL)
		storage_error(reply, 400, 400, NULL, "Error", "querystring must have required property 'token'");
	else if (payload == NULL)
		storage_error(reply, 400, 400, "InvalidJWT", "InvalidJWT", why);
	else if (strcmp(text_of(payload, "url", ""), call->object) != 0)
		storage_error(reply, 400, 400, "InvalidSignature", "InvalidSignature", "The url do not match the signature");
	else if (find_row(call, &the_service, &row, reply))
	{
		send_file(call, row, reply);
		json_decref(row);
	}
	json_decref(payload);
}

/* ---- what they share ---- */

static bool
find_bucket(const StorageCall *call, json_t **bucket, Reply *reply)
{
	RowResult	result = storage_rows()->bucket(call->bucket, bucket);

	if (result == ROW_NONE)
		storage_error(reply, 400, 404, "NoSuchBucket", "Bucket not found", "Bucket not found");
	else if (result != ROW_OK)
		failed(result, reply);
	return result == ROW_OK;
}

static bool
find_row(const StorageCall *call, const StorageCaller *caller, json_t **row, Reply *reply)
{
	RowResult	result = storage_rows()->find(caller, call->bucket, call->key, row);

	/* One who may not ask at all is told no more than one who may not see this row. */
	if (result == ROW_REFUSED)
		result = ROW_NONE;
	if (result != ROW_OK)
		failed(result, reply);
	return result == ROW_OK;
}

static void
failed(RowResult result, Reply *reply)
{
	switch (result)
	{
		case ROW_OK:
			break;
		case ROW_NONE:
			storage_error(reply, 400, 404, "NoSuchKey", "not_found", "Object not found");
			break;
		case ROW_EXISTS:
			storage_error(reply, 400, 409, "KeyAlreadyExists", "Duplicate", "The resource already exists");
			break;
		case ROW_REFUSED:
			storage_error(reply, 400, 403, "AccessDenied", "Unauthorized", "new row violates row-level security policy");
			break;
		case ROW_FAILED:
			storage_error(reply, 500, 500, "DatabaseError", "DatabaseError", "the database did not do it");
			break;
	}
}

static const char *
text_of(const json_t *object, const char *name, const char *fallback)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text != NULL ? text : fallback;
}

static void
http_date(char *out, size_t size, const char *iso)
{
	struct tm	utc = {0};

	if (strptime(iso, "%Y-%m-%dT%H:%M:%S", &utc) == NULL)
	{
		time_t		now = time(NULL);

		gmtime_r(&now, &utc);
	}
	else
	{
		time_t		then = timegm(&utc);

		gmtime_r(&then, &utc);
	}
	strftime(out, size, "%a, %d %b %Y %H:%M:%S GMT", &utc);
}

/* ---- counters, for /_control/storage ---- */

void
storage_count(const char *name)
{
	pthread_mutex_lock(&lock);
	if (counters == NULL)
		counters = json_object();
	json_object_set_new(counters, name, json_integer(json_integer_value(json_object_get(counters, name)) + 1));
	pthread_mutex_unlock(&lock);
}

json_t *
storage_counters(void)
{
	json_t	   *copy;

	pthread_mutex_lock(&lock);
	copy = counters != NULL ? json_deep_copy(counters) : json_object();
	pthread_mutex_unlock(&lock);
	return copy;
}

void
storage_counters_reset(void)
{
	pthread_mutex_lock(&lock);
	json_decref(counters);
	counters = NULL;
	pthread_mutex_unlock(&lock);
}
