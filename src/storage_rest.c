/*
 * storage_rest.c: what an answer of Supabase Storage means.
 *
 * Rules.  Storage answers nearly every error with HTTP 400; what happened stands
 * in the body: first its code, a word that stays; where the word is unknown its
 * statusCode, a number written as a string; only without either the status of
 * HTTP.  A body that is not JSON (a gateway's page) leaves the status of HTTP.
 * A good status with a body that is not this API's is no success.
 *
 * Every operation may be repeated: a deletion leaves out what is gone, an upload
 * that overwrites lands on the same object.
 *
 * Texts of the service go to logs and tables: ASCII, one line, capped, and the
 * key is struck out before they are cut.  A link is made here from its token
 * alone: what the answer says of host and path is compared, never used.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "storage_rest.h"

#define SECRET_LEAST_BYTES 3	/* a letter or two are in any text: shorter ones are not struck out */
#define SECRET_REPLACEMENT "***"
#define SIGN_PATH "/object/sign/"
#define TOKEN_PARAMETER "?token="
#define TOKEN_MAX_BYTES 8192
#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static const StorageRule rules[STORAGE_OUTCOME_COUNT] = {
	[STORAGE_OK] = {"ok", RETRY_NEVER, STORAGE_MATTER_NONE},

	/* Facts about one object, which a repeat would only hear again. */
	[STORAGE_MISSING] = {"missing", RETRY_NEVER, STORAGE_MATTER_OBJECT},
	[STORAGE_EXISTS] = {"exists", RETRY_NEVER, STORAGE_MATTER_OBJECT},
	[STORAGE_TOO_LARGE] = {"too_large", RETRY_NEVER, STORAGE_MATTER_OBJECT},
	[STORAGE_WRONG_TYPE] = {"wrong_type", RETRY_NEVER, STORAGE_MATTER_OBJECT},
	[STORAGE_BAD_KEY] = {"bad_key", RETRY_NEVER, STORAGE_MATTER_OBJECT},
	[STORAGE_CUT] = {"cut", RETRY_NEVER, STORAGE_MATTER_OBJECT},
	/* Most likely the file is gone for good; once more, since the same words are used for a disk that stumbled. */
	[STORAGE_FILE_GONE] = {"file_gone", RETRY_ONCE, STORAGE_MATTER_OBJECT},

	/* Somebody must set something right; until then nothing gets through. */
	[STORAGE_NO_BUCKET] = {"no_bucket", RETRY_NEVER, STORAGE_MATTER_OPERATOR},
	[STORAGE_AUTH] = {"auth", RETRY_NEVER, STORAGE_MATTER_OPERATOR},
	[STORAGE_REDIRECT] = {"redirect", RETRY_NEVER, STORAGE_MATTER_OPERATOR},

	[STORAGE_BAD_REQUEST] = {"bad_request", RETRY_NEVER, STORAGE_MATTER_OURS},

	/* It passes. */
	[STORAGE_THROTTLED] = {"throttled", RETRY_SAFE, STORAGE_MATTER_TEMPORARY},
	[STORAGE_SERVER] = {"server", RETRY_SAFE, STORAGE_MATTER_TEMPORARY},
	[STORAGE_NETWORK] = {"network", RETRY_SAFE, STORAGE_MATTER_TEMPORARY},
	[STORAGE_TIMEOUT] = {"timeout", RETRY_SAFE, STORAGE_MATTER_TEMPORARY},
	[STORAGE_CONNECT] = {"connect", RETRY_SAFE, STORAGE_MATTER_TEMPORARY},
	[STORAGE_INVALID] = {"invalid", RETRY_ONCE, STORAGE_MATTER_TEMPORARY},
};

typedef struct CodeRule
{
	const char *code;
	StorageOutcome outcome;
} CodeRule;

/* The words whose statusCode would say something else, or less. */
static const CodeRule code_rules[] = {
	{"NoSuchKey", STORAGE_MISSING},
	{"NoSuchBucket", STORAGE_NO_BUCKET},
	{"InvalidBucketName", STORAGE_NO_BUCKET},
	{"Bucket not found", STORAGE_NO_BUCKET},	/* of versions without codes */
	{"KeyAlreadyExists", STORAGE_EXISTS},
	{"ResourceAlreadyExists", STORAGE_EXISTS},
	{"EntityTooLarge", STORAGE_TOO_LARGE},
	{"InvalidMimeType", STORAGE_WRONG_TYPE},
	{"InvalidKey", STORAGE_BAD_KEY},
	{"SlowDown", STORAGE_THROTTLED},
	{"DatabaseConnectionLimit", STORAGE_THROTTLED},
	/* The key: missing, wrong, expired, not allowed.  Without an Authorization header the word is InvalidRequest. */
	{"AccessDenied", STORAGE_AUTH},
	{"InvalidRequest", STORAGE_AUTH},
	{"InvalidJWT", STORAGE_AUTH},
	{"ExpiredToken", STORAGE_AUTH},
	{"InvalidSignature", STORAGE_AUTH},
	{"SignatureDoesNotMatch", STORAGE_AUTH},
	{"TenantNotFound", STORAGE_AUTH},
	/* 409 and 423: somebody else holds the row at this moment. */
	{"ResourceLocked", STORAGE_SERVER},
	{"TransactionError", STORAGE_SERVER},
	{"LockTimeout", STORAGE_SERVER},
	{"DatabaseTimeout", STORAGE_SERVER},
	{"DatabaseError", STORAGE_SERVER},
};

/* An InternalError that says one of these is the service's trouble, not a file that is gone. */
static const char *const passing_words[] = {
	"ECONN", "ETIMEDOUT", "EAI_AGAIN", "ENOTFOUND", "EMFILE", "ENFILE", "EBUSY", "EIO", "ENOSPC", "EPIPE",
	"timed out", "timeout", "socket hang up", "connect",
};

/* What the answer is read with. */
typedef struct Reading
{
	const StorageMessage *message;
	const char *secret;
	const char *public_base;
	StorageAnswer *answer;
} Reading;

static StorageOutcome outcome_of_transport(TransportResult transport);
static StorageOutcome read_body(const Reading *reading, const char *content_type, const char *body, size_t length);
static bool is_json_type(const char *content_type);
static JsonValue *parse(const char *body, size_t length);
static StorageOutcome read_error(const Reading *reading, const JsonValue *error);
static int	number_of(const JsonValue *value);
static StorageOutcome outcome_of_code(const char *code);
static StorageOutcome outcome_of_internal(const Reading *reading, const char *text);
static StorageOutcome outcome_of_backend(const Reading *reading, const char *text);
static StorageOutcome outcome_of_status(const Reading *reading, bool is_object);

static StorageOutcome read_good(const Reading *reading, const JsonValue *body);
static StorageOutcome read_upload(const Reading *reading, const JsonValue *body);
static StorageOutcome read_info(const Reading *reading, const JsonValue *body);
static StorageOutcome read_link(const Reading *reading, const JsonValue *body);
static bool link_names(const char *link, size_t length, const char *path);
static StorageOutcome read_deleted(const Reading *reading, const JsonValue *body);
static StorageOutcome read_list(const Reading *reading, const JsonValue *body);
static bool read_entry(StorageEntry *entry, const JsonValue *line);

static void keep_text(const Reading *reading, char *kept, size_t size, const char *text, size_t length);
static bool copy_text(char *kept, size_t size, const JsonValue *value);

const StorageRule *
sparky_storage_rest_rule(StorageOutcome outcome)
{
	if ((unsigned) outcome >= STORAGE_OUTCOME_COUNT)
		outcome = STORAGE_INVALID;
	return &rules[outcome];
}

const char *
sparky_storage_rest_name(StorageOutcome outcome)
{
	return sparky_storage_rest_rule(outcome)->name;
}

/* ---- the answer ---- */

void
sparky_storage_rest_read(const StorageMessage *message, TransportResult transport, int http_status, const char *content_type,
						 const char *body, size_t length, const char *secret, const char *public_base, StorageAnswer *answer)
{
	bool		strike = secret != NULL && strlen(secret) >= SECRET_LEAST_BYTES;
	Reading		reading = {message, strike ? secret : NULL, public_base, answer};

	memset(answer, 0, sizeof(*answer));
	answer->http_status = answer->status = http_status;
	answer->retry_after = -1;
	answer->size = -1;
	/* An error page that is larger than an answer may be: its status has told enough. */
	if (transport == TRANSPORT_STOPPED && http_status >= 300)
		transport = TRANSPORT_DONE;
	if (transport != TRANSPORT_DONE)
		answer->outcome = outcome_of_transport(transport);
	else if (http_status < 200)
		answer->outcome = STORAGE_NETWORK;
	else if (http_status >= 300 && http_status < 400)
		answer->outcome = STORAGE_REDIRECT;
	else
		answer->outcome = read_body(&reading, content_type, body, body != NULL ? length : 0);
}

void
sparky_storage_rest_answer_free(StorageAnswer *answer)
{
	free(answer->link);
	for (size_t i = 0; i < answer->count; i++)
	{
		free(answer->entries[i].name);
		free(answer->entries[i].id);
		free(answer->entries[i].created_at);
	}
	free(answer->entries);
	memset(answer, 0, sizeof(*answer));
}

static StorageOutcome
outcome_of_transport(TransportResult transport)
{
	switch (transport)
	{
		case TRANSPORT_CONNECT_FAILED:
		case TRANSPORT_TLS_FAILED:
			return STORAGE_CONNECT;
		case TRANSPORT_TIMEOUT:
			return STORAGE_TIMEOUT;
		case TRANSPORT_STOPPED:
			return STORAGE_CUT;
		case TRANSPORT_RESET:
		case TRANSPORT_DONE:
			break;
	}
	return STORAGE_NETWORK;
}

static StorageOutcome
read_body(const Reading *reading, const char *content_type, const char *body, size_t length)
{
	StorageAnswer *answer = reading->answer;
	JsonValue  *value;
	StorageOutcome outcome;

	/* A file's bytes are the caller's. */
	if (reading->message->operation == STORAGE_DOWNLOAD && answer->http_status == 200)
		return STORAGE_OK;
	value = parse(body, length);
	if (answer->http_status >= 300)
	{
		outcome = read_error(reading, value);
		/* A gateway's page is kept as far as it goes: the operator sees whose it is. */
		if (answer->message[0] == '\0' && length > 0 && value == NULL)
			keep_text(reading, answer->message, sizeof(answer->message), body, length);
	}
	else if (answer->http_status != 200 || !is_json_type(content_type))
		outcome = STORAGE_INVALID;
	else
		outcome = read_good(reading, value);
	sparky_json_free(value);
	return outcome;
}

static bool
is_json_type(const char *content_type)
{
	size_t		length = content_type != NULL ? strcspn(content_type, "; \t") : 0;

	return length == 0 || (length == strlen("application/json") && strncasecmp(content_type, "application/json", length) == 0);
}

static JsonValue *
parse(const char *body, size_t length)
{
	JsonText	clean = {0};
	JsonValue  *value = NULL;

	if (length == 0)
		return NULL;
	/* A broken character in some text must not hide the code beside it. */
	sparky_json_clean(&clean, body, length);
	if (!clean.failed)
		value = sparky_json_parse(clean.data, clean.length, NULL, 0);
	sparky_json_text_free(&clean);
	return value;
}

/* ---- errors ---- */

/* {"statusCode":"404","error":"not_found","message":"Object not found","code":"NoSuchKey"}, or anything else. */
static StorageOutcome
read_error(const Reading *reading, const JsonValue *error)
{
	StorageAnswer *answer = reading->answer;
	const JsonValue *code = sparky_json_get(error, "code");
	size_t		length = 0;
	const char *text = sparky_json_string(sparky_json_get(error, "message"), &length);
	int			status = number_of(sparky_json_get(error, "statusCode"));
	StorageOutcome outcome;

	if (text != NULL)
		keep_text(reading, answer->message, sizeof(answer->message), text, length);
	if (status >= 100 && status <= 999)
		answer->status = status;
	/* Older versions have the word, or a title of words, in "error". */
	if (sparky_json_kind(code) != JSON_KIND_STRING)
		code = sparky_json_get(error, "error");
	text = sparky_json_string(code, &length);
	if (text != NULL)
		keep_text(reading, answer->code, sizeof(answer->code), text, length);

	text = sparky_json_string(sparky_json_get(error, "message"), NULL);
	if (strcmp(answer->code, "InternalError") == 0)
		return outcome_of_internal(reading, text);
	if (strcmp(answer->code, "S3Error") == 0)
		return outcome_of_backend(reading, text);
	outcome = outcome_of_code(answer->code);
	if (outcome == STORAGE_OUTCOME_COUNT)
		outcome = outcome_of_status(reading, sparky_json_kind(error) == JSON_KIND_OBJECT);
	return outcome;
}

/* "404" or 404; 0 if neither. */
static int
number_of(const JsonValue *value)
{
	size_t		length = 0;
	const char *text = sparky_json_string(value, &length);

	if (text != NULL)
		return length == 3 && strspn(text, "0123456789") == 3 ? atoi(text) : 0;
	if (sparky_json_kind(value) == JSON_KIND_INTEGER)
	{
		int64_t		number = sparky_json_integer(value, 0);

		return number >= 100 && number <= 999 ? (int) number : 0;
	}
	return 0;
}

/* STORAGE_OUTCOME_COUNT: not a word that we know. */
static StorageOutcome
outcome_of_code(const char *code)
{
	for (size_t i = 0; i < LENGTH(code_rules); i++)
	{
		if (strcmp(code_rules[i].code, code) == 0)
			return code_rules[i].outcome;
	}
	return STORAGE_OUTCOME_COUNT;
}

/*
 * A file that is gone behind its row answers 500 InternalError on reading; so do
 * accidents.  Those that name themselves are temporary, the rest is the file.
 */
static StorageOutcome
outcome_of_internal(const Reading *reading, const char *text)
{
	if (reading->message->operation != STORAGE_DOWNLOAD || reading->answer->status != 500 || reading->answer->http_status != 500)
		return STORAGE_SERVER;
	for (size_t i = 0; text != NULL && i < LENGTH(passing_words); i++)
	{
		if (strcasestr(text, passing_words[i]) != NULL)
			return STORAGE_SERVER;
	}
	return STORAGE_FILE_GONE;
}

/* Storage keeps its files in an S3 store and passes on what that said: its word is in the message. */
static StorageOutcome
outcome_of_backend(const Reading *reading, const char *text)
{
	bool		reads = reading->message->operation == STORAGE_DOWNLOAD || reading->message->operation == STORAGE_INFO;

	if (text != NULL && strstr(text, "SlowDown") != NULL)
		return STORAGE_THROTTLED;
	if (reads && (reading->answer->status == 404 || (text != NULL && strstr(text, "NoSuchKey") != NULL)))
		return STORAGE_FILE_GONE;
	if (reading->answer->status == 401 || reading->answer->status == 403)
		return STORAGE_AUTH;	/* the service's own key to that store */
	return STORAGE_SERVER;
}

/* Without a word that we know; is_object: the body has the form of this API's errors. */
static StorageOutcome
outcome_of_status(const Reading *reading, bool is_object)
{
	int			status = reading->answer->status;

	switch (status)
	{
		case 401:
		case 403:
			return STORAGE_AUTH;
		case 404:
			/* Under a real 404 it is a gateway without a route, or a path of another version: nothing is said of the object. */
			return reading->answer->http_status == 404 ? STORAGE_INVALID : STORAGE_MISSING;
		case 408:
		case 423:
			return STORAGE_SERVER;
		case 409:
			if (reading->message->operation == STORAGE_UPLOAD)
				return STORAGE_EXISTS;
			break;
		case 413:
			return STORAGE_TOO_LARGE;
		case 415:
			return STORAGE_WRONG_TYPE;
		case 429:
			return STORAGE_THROTTLED;
	}
	/* 544 is its own number for a database that does not answer. */
	if (status >= 500)
		return STORAGE_SERVER;
	return is_object ? STORAGE_BAD_REQUEST : STORAGE_INVALID;
}

/* ---- good answers ---- */

static StorageOutcome
read_good(const Reading *reading, const JsonValue *body)
{
	switch (reading->message->operation)
	{
		case STORAGE_DOWNLOAD:
			break;
		case STORAGE_UPLOAD:
			return read_upload(reading, body);
		case STORAGE_INFO:
			return read_info(reading, body);
		case STORAGE_SIGN:
			return read_link(reading, body);
		case STORAGE_DELETE:
			return read_deleted(reading, body);
		case STORAGE_LIST:
			return read_list(reading, body);
	}
	return STORAGE_INVALID;
}

/* {"Key":"bucket/key","Id":"uuid"}: of the object that was sent. */
static StorageOutcome
read_upload(const Reading *reading, const JsonValue *body)
{
	const char *path = reading->message->path;
	size_t		length = 0;
	const char *key = sparky_json_string(sparky_json_get(body, "Key"), &length);

	if (key == NULL || strcmp(key, path) != 0)
		return STORAGE_INVALID;
	copy_text(reading->answer->object_id, sizeof(reading->answer->object_id), sparky_json_get(body, "Id"));
	return STORAGE_OK;
}

static StorageOutcome
read_info(const Reading *reading, const JsonValue *body)
{
	StorageAnswer *answer = reading->answer;
	const JsonValue *metadata = sparky_json_get(body, "metadata");
	char		etag[sizeof(answer->etag)];
	size_t		length;

	if (sparky_json_kind(body) != JSON_KIND_OBJECT || sparky_json_kind(sparky_json_get(body, "error")) != JSON_KIND_NULL)
		return STORAGE_INVALID;
	answer->size = sparky_json_integer(sparky_json_get(body, "size"), -1);
	if (answer->size < 0)
		answer->size = sparky_json_integer(sparky_json_get(metadata, "size"), -1);
	if (!copy_text(answer->mime, sizeof(answer->mime), sparky_json_get(body, "content_type")))
		copy_text(answer->mime, sizeof(answer->mime), sparky_json_get(metadata, "mimetype"));
	copy_text(answer->version, sizeof(answer->version), sparky_json_get(body, "version"));
	copy_text(answer->object_id, sizeof(answer->object_id), sparky_json_get(body, "id"));
	if (!copy_text(etag, sizeof(etag), sparky_json_get(body, "etag")) &&
		!copy_text(etag, sizeof(etag), sparky_json_get(metadata, "eTag")))
		return answer->size >= 0 ? STORAGE_OK : STORAGE_INVALID;
	length = strlen(etag);
	if (length >= 2 && etag[0] == '"' && etag[length - 1] == '"')
	{
		etag[length - 1] = '\0';
		memmove(etag, etag + 1, length - 1);
	}
	memcpy(answer->etag, etag, sizeof(etag));
	return STORAGE_OK;
}

/* {"signedURL":"/object/sign/bucket/key?token=..."}: relative, and of the object that was asked for. */
static StorageOutcome
read_link(const Reading *reading, const JsonValue *body)
{
	size_t		length = 0;
	const char *signed_url = sparky_json_string(sparky_json_get(body, "signedURL"), &length);
	const char *token = NULL;
	const char *base = reading->public_base;
	size_t		base_length;
	JsonText	link = {0};

	if (signed_url == NULL || strncmp(signed_url, SIGN_PATH, strlen(SIGN_PATH)) != 0)
		return STORAGE_INVALID;
	/* A key may hold a '?' that was not encoded: the last one begins the token. */
	for (const char *at = signed_url; (at = strstr(at, TOKEN_PARAMETER)) != NULL; at++)
		token = at;
	if (token == NULL || !link_names(signed_url + strlen(SIGN_PATH), token - signed_url - strlen(SIGN_PATH), reading->message->path))
		return STORAGE_INVALID;
	token += strlen(TOKEN_PARAMETER);
	length = strspn(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
	if (length == 0 || length > TOKEN_MAX_BYTES || token[length] != '\0')
		return STORAGE_INVALID;

	if (base != NULL)
		base_length = strlen(base);
	else
	{
		base = reading->message->url;
		base_length = (size_t) (strstr(base, SIGN_PATH) - base);
	}
	while (base_length > 0 && base[base_length - 1] == '/')
		base_length--;
	sparky_json_text_add(&link, base, base_length);
	sparky_json_text_puts(&link, SIGN_PATH);
	sparky_storage_rest_encode(&link, reading->message->path);
	sparky_json_text_puts(&link, TOKEN_PARAMETER);
	sparky_json_text_puts(&link, token);
	if (link.failed)
	{
		sparky_json_text_free(&link);
		return STORAGE_SERVER;	/* no memory: it passes */
	}
	reading->answer->link = link.data;
	return STORAGE_OK;
}

/* Does the path of a link, encoded, half encoded or not at all, name this object? */
static bool
link_names(const char *link, size_t length, const char *path)
{
	size_t		at = 0;

	for (size_t i = 0; i < length; i++, at++)
	{
		char		byte = link[i];
		char		digits[3];

		if (byte == '%')
		{
			if (i + 2 >= length || strspn(link + i + 1, "0123456789abcdefABCDEF") < 2)
				return false;
			memcpy(digits, link + i + 1, 2);
			digits[2] = '\0';
			byte = (char) strtol(digits, NULL, 16);
			i += 2;
		}
		if (path[at] == '\0' || path[at] != byte)
			return false;
	}
	return path[at] == '\0';
}

/* An array of the objects that were there. */
static StorageOutcome
read_deleted(const Reading *reading, const JsonValue *body)
{
	if (sparky_json_kind(body) != JSON_KIND_ARRAY)
		return STORAGE_INVALID;
	reading->answer->deleted = sparky_json_size(body);
	return STORAGE_OK;
}

static StorageOutcome
read_list(const Reading *reading, const JsonValue *body)
{
	StorageAnswer *answer = reading->answer;
	size_t		count = sparky_json_size(body);

	if (sparky_json_kind(body) != JSON_KIND_ARRAY || count > SPARKY_STORAGE_BATCH)
		return STORAGE_INVALID;
	if (count == 0)
		return STORAGE_OK;
	answer->entries = calloc(count, sizeof(*answer->entries));
	if (answer->entries == NULL)
		return STORAGE_SERVER;
	answer->count = count;
	for (size_t i = 0; i < count; i++)
	{
		if (!read_entry(&answer->entries[i], sparky_json_at(body, i)))
		{
			sparky_storage_rest_answer_free(answer);
			answer->retry_after = -1;
			answer->size = -1;
			answer->http_status = answer->status = 200;
			return STORAGE_INVALID;
		}
	}
	return STORAGE_OK;
}

static bool
read_entry(StorageEntry *entry, const JsonValue *line)
{
	const char *name = sparky_json_string(sparky_json_get(line, "name"), NULL);
	const char *id = sparky_json_string(sparky_json_get(line, "id"), NULL);
	const char *created_at = sparky_json_string(sparky_json_get(line, "created_at"), NULL);

	entry->size = sparky_json_integer(sparky_json_get(sparky_json_get(line, "metadata"), "size"), -1);
	if (name == NULL)
		return false;
	entry->name = strdup(name);
	entry->id = id != NULL ? strdup(id) : NULL;
	entry->created_at = created_at != NULL ? strdup(created_at) : NULL;
	return entry->name != NULL && (id == NULL || entry->id != NULL) && (created_at == NULL || entry->created_at != NULL);
}

/* ---- texts ---- */

/* As much of the text as fits, in visible ASCII and single spaces, with the secret struck out before the cut. */
static void
keep_text(const Reading *reading, char *kept, size_t size, const char *text, size_t length)
{
	const char *end = text + length;
	const char *secret = reading->secret;
	size_t		secret_length = secret != NULL ? strlen(secret) : 0;
	size_t		at = 0;

	while (text < end && at + 1 < size)
	{
		if (secret_length > 0 && (size_t) (end - text) >= secret_length && memcmp(text, secret, secret_length) == 0)
		{
			for (const char *c = SECRET_REPLACEMENT; *c != '\0' && at + 1 < size; c++)
				kept[at++] = *c;
			text += secret_length;
			continue;
		}
		if (*text > ' ' && *text < 0x7F)
			kept[at++] = *text;
		else if (*text >= 0 && *text <= ' ')
		{
			if (at > 0 && kept[at - 1] != ' ')
				kept[at++] = ' ';
		}
		else if (at == 0 || kept[at - 1] != '?')
			kept[at++] = '?';	/* one for any run of other bytes */
		text++;
	}
	while (at > 0 && kept[at - 1] == ' ')
		at--;
	kept[at] = '\0';
}

/* A short text as it stands, or nothing: false and "". */
static bool
copy_text(char *kept, size_t size, const JsonValue *value)
{
	size_t		length = 0;
	const char *text = sparky_json_string(value, &length);

	kept[0] = '\0';
	if (text == NULL || length >= size)
		return false;
	for (size_t i = 0; i < length; i++)
	{
		if (text[i] < ' ' || text[i] >= 0x7F)
			return false;
	}
	memcpy(kept, text, length + 1);
	return true;
}
