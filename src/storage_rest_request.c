/*
 * storage_rest_request.c: the requests of Supabase Storage's REST API.
 *
 * Rules.  What Storage would refuse as a key is refused here, before a request is
 * made; so is what it would take but no path of ours can name (empty segments).
 * Each segment of a key is percent-encoded by itself, all but the unreserved
 * characters: '+', '?' and '&' are allowed in keys and mean other things in a URL.
 * The service's key is not known here: the caller puts it into two headers.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "storage_rest.h"

#define BUCKET_MAX_BYTES 100
#define MIME_MAX_BYTES 100
#define SIGN_MAX_SECONDS 31536000

/*
 * How long clients and caches may keep a file, stored as it stands here.  A path
 * of ours never gets other content under the same version, and buckets are private.
 */
#define CACHE_CONTROL "cache-control: max-age=3600"

/* Beside letters, digits, '_' and '/': what Storage allows in a key. */
#define KEY_PUNCTUATION "!-.*'() &$@=;:+,?"

static StorageOutcome start(StorageMessage *message, StorageOperation operation, const char *base_url, const char *path,
							const char *action, char *why, size_t why_size);
static StorageOutcome start_bucket(StorageMessage *message, StorageOperation operation, const char *base_url, const char *bucket,
								   const char *action, char *why, size_t why_size);
static StorageOutcome finish(StorageMessage *message, JsonText *body, char *why, size_t why_size);
static StorageOutcome refuse(StorageMessage *message, StorageOutcome outcome, char *why, size_t why_size, const char *reason);
static bool base_valid(const char *base_url);
static bool bucket_valid(const char *bucket, size_t length);
static bool mime_valid(const char *mime);
static void add_base(JsonText *url, const char *base_url);
static char *text_of(JsonText *text);

/* ---- the operations ---- */

StorageOutcome
sparky_storage_rest_download(const char *base_url, const char *path, StorageMessage *message, char *why, size_t why_size)
{
	StorageOutcome outcome = start(message, STORAGE_DOWNLOAD, base_url, path, "/object/authenticated/", why, why_size);

	message->method = "GET";
	return outcome;
}

StorageOutcome
sparky_storage_rest_upload(const char *base_url, const char *path, const char *mime, size_t bytes, bool overwrite,
						   StorageMessage *message, char *why, size_t why_size)
{
	StorageOutcome outcome = start(message, STORAGE_UPLOAD, base_url, path, "/object/", why, why_size);
	JsonText	type = {0};

	message->method = "POST";
	if (outcome != STORAGE_OK)
		return outcome;
	if (!mime_valid(mime))
		return refuse(message, STORAGE_BAD_REQUEST, why, why_size, "the media type is not valid");
	sparky_json_text_puts(&type, "Content-Type: ");
	sparky_json_text_puts(&type, mime);
	message->headers[0] = text_of(&type);
	message->headers[1] = strdup(CACHE_CONTROL);
	message->headers[2] = strdup(overwrite ? "x-upsert: true" : "x-upsert: false");
	if (message->headers[0] == NULL || message->headers[1] == NULL || message->headers[2] == NULL)
		return refuse(message, STORAGE_BAD_REQUEST, why, why_size, "out of memory");
	message->has_body = true;
	message->content_length = bytes;
	return STORAGE_OK;
}

StorageOutcome
sparky_storage_rest_info(const char *base_url, const char *path, StorageMessage *message, char *why, size_t why_size)
{
	StorageOutcome outcome = start(message, STORAGE_INFO, base_url, path, "/object/info/authenticated/", why, why_size);

	message->method = "GET";
	return outcome;
}

StorageOutcome
sparky_storage_rest_sign(const char *base_url, const char *path, int64_t seconds, StorageMessage *message, char *why, size_t why_size)
{
	StorageOutcome outcome = start(message, STORAGE_SIGN, base_url, path, "/object/sign/", why, why_size);
	JsonText	body = {0};

	message->method = "POST";
	if (outcome != STORAGE_OK)
		return outcome;
	if (seconds < 1 || seconds > SIGN_MAX_SECONDS)
		return refuse(message, STORAGE_BAD_REQUEST, why, why_size, "a link lives from one second to a year");
	sparky_json_text_puts(&body, "{\"expiresIn\":");
	sparky_json_text_add_number(&body, (double) seconds);
	sparky_json_text_puts(&body, "}");
	return finish(message, &body, why, why_size);
}

StorageOutcome
sparky_storage_rest_delete(const char *base_url, const char *bucket, const char *const *keys, size_t count,
						   StorageMessage *message, char *why, size_t why_size)
{
	StorageOutcome outcome = start_bucket(message, STORAGE_DELETE, base_url, bucket, "/object/", why, why_size);
	JsonText	body = {0};

	message->method = "DELETE";
	if (outcome != STORAGE_OK)
		return outcome;
	if (count == 0 || count > SPARKY_STORAGE_BATCH)
		return refuse(message, STORAGE_BAD_REQUEST, why, why_size, "a deletion takes 1 to 1000 keys");
	sparky_json_text_puts(&body, "{\"prefixes\":[");
	for (size_t i = 0; i < count; i++)
	{
		if (keys[i] == NULL || !sparky_storage_rest_key_valid(keys[i], strlen(keys[i])))
		{
			sparky_json_text_free(&body);
			return refuse(message, STORAGE_BAD_KEY, why, why_size, "a key is not valid");
		}
		if (i > 0)
			sparky_json_text_puts(&body, ",");
		sparky_json_text_add_string(&body, keys[i], strlen(keys[i]));
	}
	sparky_json_text_puts(&body, "]}");
	return finish(message, &body, why, why_size);
}

StorageOutcome
sparky_storage_rest_list(const char *base_url, const char *bucket, const char *prefix, int limit, int64_t offset,
						 StorageMessage *message, char *why, size_t why_size)
{
	StorageOutcome outcome = start_bucket(message, STORAGE_LIST, base_url, bucket, "/object/list/", why, why_size);
	size_t		length = prefix != NULL ? strlen(prefix) : 0;
	JsonText	body = {0};

	message->method = "POST";
	if (outcome != STORAGE_OK)
		return outcome;
	/* A folder may be named with a slash at its end. */
	if (length > 0 && prefix[length - 1] == '/')
		length--;
	if (length > 0 && !sparky_storage_rest_key_valid(prefix, length))
		return refuse(message, STORAGE_BAD_KEY, why, why_size, "the folder is not valid");
	if (limit < 1 || limit > SPARKY_STORAGE_BATCH || offset < 0)
		return refuse(message, STORAGE_BAD_REQUEST, why, why_size, "a listing takes 1 to 1000 entries from an offset of 0 or more");
	sparky_json_text_puts(&body, "{\"prefix\":");
	sparky_json_text_add_string(&body, length > 0 ? prefix : "", length);
	sparky_json_text_puts(&body, ",\"limit\":");
	sparky_json_text_add_number(&body, limit);
	sparky_json_text_puts(&body, ",\"offset\":");
	sparky_json_text_add_number(&body, (double) offset);
	/* Without an order that is told, pages may overlap. */
	sparky_json_text_puts(&body, ",\"sortBy\":{\"column\":\"name\",\"order\":\"asc\"}}");
	return finish(message, &body, why, why_size);
}

void
sparky_storage_rest_message_free(StorageMessage *message)
{
	free(message->url);
	for (size_t i = 0; i < sizeof(message->headers) / sizeof(message->headers[0]); i++)
		free(message->headers[i]);
	free(message->body);
	free(message->path);
	memset(message, 0, sizeof(*message));
}

/* ---- what they share ---- */

/* A message about one object; path is "<bucket>/<key>". */
static StorageOutcome
start(StorageMessage *message, StorageOperation operation, const char *base_url, const char *path,
	  const char *action, char *why, size_t why_size)
{
	const char *slash = path != NULL ? strchr(path, '/') : NULL;
	JsonText	url = {0};

	memset(message, 0, sizeof(*message));
	message->operation = operation;
	if (!base_valid(base_url))
		return refuse(message, STORAGE_BAD_REQUEST, why, why_size, "the address of Storage is not valid");
	if (slash == NULL || !bucket_valid(path, slash - path) || !sparky_storage_rest_key_valid(slash + 1, strlen(slash + 1)))
		return refuse(message, STORAGE_BAD_KEY, why, why_size, "the path is not valid");
	add_base(&url, base_url);
	sparky_json_text_puts(&url, action);
	sparky_storage_rest_encode(&url, path);
	message->url = text_of(&url);
	message->path = strdup(path);
	if (message->url == NULL || message->path == NULL)
		return refuse(message, STORAGE_BAD_REQUEST, why, why_size, "out of memory");
	return STORAGE_OK;
}

/* A message about a bucket. */
static StorageOutcome
start_bucket(StorageMessage *message, StorageOperation operation, const char *base_url, const char *bucket,
			 const char *action, char *why, size_t why_size)
{
	JsonText	url = {0};

	memset(message, 0, sizeof(*message));
	message->operation = operation;
	if (!base_valid(base_url))
		return refuse(message, STORAGE_BAD_REQUEST, why, why_size, "the address of Storage is not valid");
	if (bucket == NULL || !bucket_valid(bucket, strlen(bucket)))
		return refuse(message, STORAGE_BAD_KEY, why, why_size, "the bucket's name is not valid");
	add_base(&url, base_url);
	sparky_json_text_puts(&url, action);
	sparky_storage_rest_encode(&url, bucket);
	message->url = text_of(&url);
	if (message->url == NULL)
		return refuse(message, STORAGE_BAD_REQUEST, why, why_size, "out of memory");
	return STORAGE_OK;
}

/* Gives the message its JSON body, which is taken over. */
static StorageOutcome
finish(StorageMessage *message, JsonText *body, char *why, size_t why_size)
{
	message->content_length = body->length;
	message->body = text_of(body);
	message->headers[0] = strdup("Content-Type: application/json");
	if (message->body == NULL || message->headers[0] == NULL)
		return refuse(message, STORAGE_BAD_REQUEST, why, why_size, "out of memory");
	message->has_body = true;
	return STORAGE_OK;
}

static StorageOutcome
refuse(StorageMessage *message, StorageOutcome outcome, char *why, size_t why_size, const char *reason)
{
	sparky_storage_rest_message_free(message);
	if (why != NULL && why_size > 0)
		snprintf(why, why_size, "%s", reason);
	return outcome;
}

static bool
base_valid(const char *base_url)
{
	size_t		scheme;

	if (base_url == NULL)
		return false;
	scheme = strncmp(base_url, "https://", 8) == 0 ? 8 : strncmp(base_url, "http://", 7) == 0 ? 7 : 0;
	if (scheme == 0 || base_url[scheme] == '\0' || base_url[scheme] == '/')
		return false;
	for (const char *c = base_url; *c != '\0'; c++)
	{
		if (*c <= ' ' || *c >= 0x7F || strchr("\"<>\\^`{|}?#@%", *c) != NULL)
			return false;
	}
	return strstr(base_url + scheme, "/./") == NULL && strstr(base_url + scheme, "/../") == NULL;
}

/* Narrower than Storage's own rule, which lets a bucket's name hold almost anything. */
static bool
bucket_valid(const char *bucket, size_t length)
{
	if (length == 0 || length > BUCKET_MAX_BYTES || bucket[0] == '.')
		return false;
	for (size_t i = 0; i < length; i++)
	{
		if (strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.", bucket[i]) == NULL || bucket[i] == '\0')
			return false;
	}
	return true;
}

bool
sparky_storage_rest_key_valid(const char *key, size_t length)
{
	size_t		segment = 0;	/* where it begins */

	if (length == 0 || length > SPARKY_STORAGE_KEY_BYTES)
		return false;
	for (size_t i = 0; i <= length; i++)
	{
		if (i == length || key[i] == '/')
		{
			size_t		size = i - segment;

			if (size == 0 || (size == 1 && key[segment] == '.') || (size == 2 && memcmp(key + segment, "..", 2) == 0))
				return false;
			segment = i + 1;
		}
		else if (!((key[i] >= 'a' && key[i] <= 'z') || (key[i] >= 'A' && key[i] <= 'Z') || (key[i] >= '0' && key[i] <= '9') ||
				   key[i] == '_' || (key[i] != '\0' && strchr(KEY_PUNCTUATION, key[i]) != NULL)))
			return false;
	}
	return true;
}

/* A media type alone: Storage compares the whole header with the bucket's list. */
static bool
mime_valid(const char *mime)
{
	size_t		length = mime != NULL ? strlen(mime) : 0;
	size_t		slashes = 0;

	if (length == 0 || length > MIME_MAX_BYTES)
		return false;
	for (size_t i = 0; i < length; i++)
	{
		slashes += mime[i] == '/';
		if (strchr("abcdefghijklmnopqrstuvwxyz0123456789.+-/", mime[i]) == NULL)
			return false;
	}
	return slashes == 1 && mime[0] != '/' && mime[length - 1] != '/';
}

static void
add_base(JsonText *url, const char *base_url)
{
	size_t		length = strlen(base_url);

	while (length > 0 && base_url[length - 1] == '/')
		length--;
	sparky_json_text_add(url, base_url, length);
}

void
sparky_storage_rest_encode(JsonText *url, const char *path)
{
	static const char hex[] = "0123456789ABCDEF";

	for (const char *c = path; *c != '\0'; c++)
	{
		unsigned char byte = (unsigned char) *c;

		if ((byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9') ||
			strchr("-._~/", byte) != NULL)
			sparky_json_text_add(url, c, 1);
		else
		{
			char		encoded[3] = {'%', hex[byte >> 4], hex[byte & 15]};

			sparky_json_text_add(url, encoded, sizeof(encoded));
		}
	}
}

/* The text, or NULL when it failed; the JsonText is used up. */
static char *
text_of(JsonText *text)
{
	if (text->failed)
		sparky_json_text_free(text);
	return text->data;
}
