/*
 * storage.c: the Storage API of Supabase, below /storage/v1/.
 *
 * As with Gemini: reading never fails; then the strict checks, the script, the
 * work.  The work is done when the latency has passed, or when held calls are
 * released: what a test does in the meantime comes first, as it would there.
 *
 * Most errors leave with HTTP 400; what happened stands in the body.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common_fault.h"
#include "log.h"
#include "script.h"
#include "server.h"
#include "storage.h"

StorageSettings storage_settings = {
	.jwt_secret = "emulator-jwt-secret-with-at-least-32-characters",
	.file_limit = 52428800
};

/* What may be in a key beside letters, digits, '_' and '/'. */
#define KEY_PUNCTUATION "!-.*'() &$@=;:+,?"

typedef struct RouteRule
{
	const char *method;
	const char *path;			/* behind the prefix */
	StorageRoute route;
	bool		has_key;
} RouteRule;

/* The first that fits decides. */
static const RouteRule route_rules[] = {
	{"GET", "object/authenticated/", STORAGE_DOWNLOAD, true},
	{"HEAD", "object/authenticated/", STORAGE_DOWNLOAD, true},
	{"GET", "object/info/authenticated/", STORAGE_INFO, true},
	{"GET", "object/info/", STORAGE_INFO, true},
	{"GET", "object/public/", STORAGE_PUBLIC, true},
	{"HEAD", "object/public/", STORAGE_PUBLIC, true},
	{"POST", "object/sign/", STORAGE_SIGN, true},
	{"GET", "object/sign/", STORAGE_OPEN, true},
	{"HEAD", "object/sign/", STORAGE_OPEN, true},
	{"POST", "object/list/", STORAGE_LIST, false},
	{"GET", "object/", STORAGE_DOWNLOAD, true},
	{"HEAD", "object/", STORAGE_DOWNLOAD, true},
	{"POST", "object/", STORAGE_UPLOAD, true},
	{"PUT", "object/", STORAGE_UPLOAD, true},
	{"DELETE", "object/", STORAGE_DELETE_ONE, true},
	{"DELETE", "object/", STORAGE_DELETE, false},
};

static const char *const kinds[] = {"other", "download", "public", "info", "upload", "sign", "open", "delete", "delete", "list"};

static void find_route(StorageCall *call);
static void note_call(const StorageCall *call, json_t *note);
static bool check(StorageCall *call, Reply *reply);
static bool key_valid(const char *key);
static bool check_body(const StorageCall *call, Reply *reply);

bool
storage_option(const char *name, const char *value)
{
	char	   *end;

	if (strcmp(name, "storage-key") == 0)
		storage_settings.key = value;
	else if (strcmp(name, "storage-jwt-secret") == 0)
		storage_settings.jwt_secret = value;
	else if (strcmp(name, "storage-db") == 0)
		storage_settings.db = value;
	else
	{
		storage_settings.file_limit = strtoull(value, &end, 10);
		return *end == '\0' && storage_settings.file_limit > 0;
	}
	return *value != '\0';
}

static bool
owns(const Request *request)
{
	return strncmp(request->path, STORAGE_PREFIX, strlen(STORAGE_PREFIX)) == 0;
}

static void *
read_request(const Request *request, json_t *note)
{
	StorageCall *call = xalloc(sizeof *call);
	json_error_t error;

	call->request = request;
	find_route(call);
	call->kind = kinds[call->route];
	call->chunked = pairs_get(&request->headers, "transfer-encoding") != NULL;
	if (call->route != STORAGE_UPLOAD && request->body.len > 0)
		call->body = json_loadb(request->body.data, request->body.len, JSON_REJECT_DUPLICATES, &error);
	note_call(call, note);
	return call;
}

/* What is decided when the call comes in. */
static void
prepare(void *state, const Request *request, Reply *reply)
{
	StorageCall *call = state;
	ScriptCall	question = {
		.service = "storage", .nth = request->n - stats.base, .kind = call->kind, .path = call->object, .prompt = call->object
	};

	if (!check(call, reply))
	{
		call->answered = true;
		return;
	}
	call->rule = script_take(&question);
	if (call->rule != NULL)
		reply->delay_ms = fault_delay(call->rule);
}

/* What is done when its time has come. */
static void
answer(void *state, const Request *request, Reply *reply)
{
	StorageCall *call = state;

	(void) request;
	if (call->answered)
		return;
	if (call->rule != NULL)
		storage_fault(call, call->rule, reply);
	else
		storage_work(call, reply);
}

static void
done(void *state)
{
	StorageCall *call = state;

	free(call->bucket);
	free(call->key);
	free(call->object);
	json_decref(call->body);
	json_decref(call->rule);
	storage_caller_free(&call->caller);
	free(call);
}

const Service storage_service = {"storage", owns, read_request, answer, done, storage_knows_fault, prepare};

/* ---- reading ---- */

static void
find_route(StorageCall *call)
{
	const char *path = call->request->path + strlen(STORAGE_PREFIX);
	Buf			object = {0};

	for (size_t i = 0; i < sizeof route_rules / sizeof *route_rules && call->route == STORAGE_NOWHERE; i++)
	{
		const RouteRule *rule = &route_rules[i];
		const char *rest = path + strlen(rule->path);
		const char *slash;

		if (strcmp(rule->method, call->request->method) != 0 || strncmp(path, rule->path, strlen(rule->path)) != 0)
			continue;
		slash = strchr(rest, '/');
		if (*rest == '\0' || slash == rest || (slash != NULL) != rule->has_key || (slash != NULL && slash[1] == '\0'))
			continue;
		call->route = rule->route;
		call->bucket = strndup(rest, slash != NULL ? (size_t) (slash - rest) : strlen(rest));
		call->key = xstrdup(slash != NULL ? slash + 1 : "");
	}
	if (call->bucket == NULL)
		call->bucket = xstrdup("");
	if (call->key == NULL)
		call->key = xstrdup("");
	buf_puts(&object, call->bucket);
	if (call->key[0] != '\0')
		buf_printf(&object, "/%s", call->key);
	call->object = object.data ? object.data : xstrdup("");
}

static void
note_header(json_t *note, const char *name, const char *value)
{
	json_object_set_new(note, name, value != NULL ? log_text(value, strlen(value)) : json_null());
}

/* Keys are noted by a piece of their digest only. */
static void
note_call(const StorageCall *call, json_t *note)
{
	const Pairs *headers = &call->request->headers;
	const char *apikey = pairs_get(headers, "apikey");
	const char *authorization = pairs_get(headers, "authorization");
	const char *bearer = authorization != NULL && strncmp(authorization, "Bearer ", 7) == 0 ? authorization + 7 : NULL;
	char		hex[65];

	json_object_set_new(note, "kind", json_string(call->kind));
	json_object_set_new(note, "object", log_text(call->object, strlen(call->object)));
	note_header(note, "content_type", pairs_get(headers, "content-type"));
	note_header(note, "content_length", pairs_get(headers, "content-length"));
	json_object_set_new(note, "chunked", json_boolean(call->chunked));
	note_header(note, "x_upsert", pairs_get(headers, "x-upsert"));
	note_header(note, "cache_control", pairs_get(headers, "cache-control"));
	json_object_set_new(note, "has_apikey", json_boolean(apikey != NULL));
	json_object_set_new(note, "has_authorization", json_boolean(bearer != NULL));
	json_object_set_new(note, "keys_equal", json_boolean(apikey != NULL && bearer != NULL && strcmp(apikey, bearer) == 0));
	if (bearer != NULL)
	{
		sha256_hex(bearer, strlen(bearer), hex);
		json_object_set_new(note, "key_sha256", json_stringn(hex, 12));
	}
	if (call->body != NULL)
		json_object_set_new(note, "body", json_deep_copy(call->body));
}

/* ---- the strict checks ---- */

static bool
check(StorageCall *call, Reply *reply)
{
	if (call->route == STORAGE_NOWHERE)
	{
		Buf			message = {0};

		buf_printf(&message, "Route %s:%s not found", call->request->method, call->request->path + strlen("/storage/v1"));
		storage_json(reply, 404, json_pack("{s:o, s:s, s:i}", "message", log_text(message.data, message.len),
										   "error", "Not Found", "statusCode", 404));
		reply->refused = message.data;
		return false;
	}
	/* Public and signed files are fetched without a header. */
	if (call->route != STORAGE_PUBLIC && call->route != STORAGE_OPEN && !storage_authenticate(call, reply))
		return false;
	if (call->key[0] != '\0' && !key_valid(call->key))
	{
		storage_error(reply, 400, 400, "InvalidKey", "InvalidKey", "Invalid key");
		return false;
	}
	return check_body(call, reply);
}

static bool
key_valid(const char *key)
{
	for (const char *c = key; *c != '\0'; c++)
	{
		bool		plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') || *c == '_' || *c == '/';

		if (!plain && strchr(KEY_PUNCTUATION, *c) == NULL)
			return false;
	}
	/* The service takes "//"; here it is the mistake of a client that joined two texts. */
	if (strstr(key, "//") != NULL || key[0] == '/')
		return false;
	return strcmp(key, "..") != 0 && strncmp(key, "../", 3) != 0 && strstr(key, "/../") == NULL &&
		(strlen(key) < 3 || strcmp(key + strlen(key) - 3, "/..") != 0);
}

static bool
bad_body(Reply *reply, const char *message)
{
	storage_error(reply, 400, 400, NULL, "Error", message);
	return false;
}

static bool
check_body(const StorageCall *call, Reply *reply)
{
	const json_t *prefixes = json_object_get(call->body, "prefixes");
	const json_t *seconds = json_object_get(call->body, "expiresIn");
	const char *type = pairs_get(&call->request->headers, "content-type");
	bool		has_json = call->route == STORAGE_SIGN || call->route == STORAGE_DELETE || call->route == STORAGE_LIST;
	size_t		at;
	json_t	   *one;

	if (!has_json)
		return true;
	if (type == NULL || strncmp(type, "application/json", strlen("application/json")) != 0)
	{
		storage_error(reply, 415, 415, NULL, "FST_ERR_CTP_INVALID_MEDIA_TYPE", "Unsupported Media Type");
		return false;
	}
	if (!json_is_object(call->body))
		return bad_body(reply, "body must be object");
	if (call->route == STORAGE_SIGN && (!json_is_integer(seconds) || json_integer_value(seconds) < 1))
		return bad_body(reply, "body/expiresIn must be >= 1");
	if (call->route == STORAGE_LIST && !json_is_string(json_object_get(call->body, "prefix")))
		return bad_body(reply, "body must have required property 'prefix'");
	if (call->route != STORAGE_DELETE)
		return true;
	if (!json_is_array(prefixes) || json_array_size(prefixes) < 1 || json_array_size(prefixes) > 1000)
		return bad_body(reply, "body/prefixes must NOT have fewer than 1 or more than 1000 items");
	json_array_foreach((json_t *) prefixes, at, one)
		if (!json_is_string(one))
			return bad_body(reply, "body/prefixes must be strings");
	return true;
}

/* ---- replies ---- */

void
storage_json(Reply *reply, int status, json_t *body)
{
	char	   *text = json_dumps(body, JSON_COMPACT);

	json_decref(body);
	if (text == NULL)
		abort();
	pairs_free(&reply->headers);
	buf_free(&reply->body);
	reply->status = status;
	reply->delivery = DELIVER_LENGTH;
	pairs_add(&reply->headers, "Content-Type", "application/json; charset=utf-8");
	buf_puts(&reply->body, text);
	free(text);
}

void
storage_error(Reply *reply, int http, int status, const char *code, const char *error, const char *message)
{
	char		number[12];
	json_t	   *body;
	Buf			why = {0};

	snprintf(number, sizeof number, "%d", status);
	body = json_pack("{s:s, s:s, s:o}", "statusCode", number, "error", error, "message", log_text(message, strlen(message)));
	if (code != NULL)
		json_object_set_new(body, "code", json_string(code));
	storage_json(reply, http, body);
	buf_printf(&why, "%s: %s", code != NULL ? code : error, message);
	free(reply->refused);
	reply->refused = why.data;
}
