/*
 * storage_fault.c: the scripted faults of the Storage service (README.md tells the parameters).
 *
 * Errors come instead of the work; what bends or loses an answer comes after it,
 * as in a network. "processed" turns that round.  What is not in the tables here
 * may be in that of common_fault.c.
 */
#include <stdlib.h>
#include <string.h>

#include "common_fault.h"
#include "storage.h"

typedef void StorageAct(StorageCall *call, const json_t *parameters, Reply *reply);

typedef struct Fault
{
	const char *name;
	const char *kind;			/* of the call; NULL: any */
	bool		works;			/* does the call do its work, unless "processed" says otherwise? */
	StorageAct  *act;			/* the good answer, if there is one, is in the reply */
} Fault;

typedef struct PlainError
{
	const char *name;
	int			http;
	int			status;
	const char *code;
	const char *error;
	const char *message;
} PlainError;

static StorageAct keep, error, route_not_found, echo_key, wrong_bytes, cut_file, other_link, huge;

static const PlainError plain_errors[] = {
	{"no_such_key", 400, 404, "NoSuchKey", "not_found", "Object not found"},
	{"no_such_bucket", 400, 404, "NoSuchBucket", "Bucket not found", "Bucket not found"},
	{"key_exists", 400, 409, "KeyAlreadyExists", "Duplicate", "The resource already exists"},
	{"invalid_request", 400, 400, "InvalidRequest", "Error", "headers must have required property 'authorization'"},
	{"access_denied", 400, 403, "AccessDenied", "Unauthorized", "signature verification failed"},
	{"too_large", 400, 413, "EntityTooLarge", "Payload too large", "The object exceeded the maximum allowed size"},
	{"mime_refused", 400, 415, "InvalidMimeType", "invalid_mime_type", "mime type is not supported"},
	{"invalid_key", 400, 400, "InvalidKey", "InvalidKey", "Invalid key"},
	{"slow_down", 429, 429, "SlowDown", "SlowDown", "Too many connections issued to the database"},
	{"internal", 500, 500, "InternalError", "InternalError", "Internal server error"},
	{"database_timeout", 544, 544, "DatabaseTimeout", "DatabaseTimeout", "The connection to the database timed out"},
	{"database_busy", 400, 503, "DatabaseConnectionLimit", "DatabaseConnectionLimit", "Too many connections"},
	{"unavailable", 503, 503, NULL, "Service Unavailable", "Service Unavailable"},
	{"deadline", 504, 504, NULL, "Gateway Timeout", "Gateway Timeout"},
	{NULL, 0, 0, NULL, NULL, NULL}
};

static const Fault faults[] = {
	{"ok", NULL, true, keep},
	{"slow_ok", NULL, true, keep},
	{"error", NULL, false, error},
	{"route_not_found", NULL, false, route_not_found},
	{"echo_key", NULL, false, echo_key},
	{"wrong_bytes", "download", true, wrong_bytes},
	{"cut_file", "download", true, cut_file},
	{"other_link", "sign", true, other_link},
	{"huge_body", NULL, true, huge},
	{NULL, NULL, false, NULL}
};

bool
storage_knows_fault(const char *name)
{
	return find_named(plain_errors, sizeof *plain_errors, name) != NULL || find_named(faults, sizeof *faults, name) != NULL ||
		common_fault(name) != NULL;
}

void
storage_fault(StorageCall *call, const json_t *parameters, Reply *reply)
{
	const char *name = parameter_text(parameters, "fault", "");
	const PlainError *plain = find_named(plain_errors, sizeof *plain_errors, name);
	const Fault *fault = find_named(faults, sizeof *faults, name);
	const CommonFault *common = common_fault(name);

	if ((plain == NULL && fault == NULL && common == NULL) || (fault != NULL && fault->kind != NULL && strcmp(fault->kind, call->kind) != 0))
	{
		storage_error(reply, 418, 418, "Emulator", "Emulator", "The scripted fault does not fit this call of Storage.");
		reply->fault = "unfit";
		return;
	}
	if (fault_works(parameters, fault != NULL ? fault->works : common != NULL && common->works))
		storage_work(call, reply);
	reply->fault = plain != NULL ? plain->name : fault != NULL ? fault->name : common->name;
	if (plain != NULL)
		storage_error(reply, plain->http, plain->status, plain->code, plain->error, parameter_text(parameters, "message", plain->message));
	else if (fault != NULL)
		fault->act(call, parameters, reply);
	else
	{
		/* The network loses some answer, also to a call that did nothing. */
		if (common->delivery != DELIVER_CHUNKED && reply->body.len == 0)
			storage_json(reply, 500, json_pack("{s:s}", "message", "Internal server error"));
		common_fault_act(common, parameters, reply);
	}
}

/* ---- answers ---- */

static void
keep(StorageCall *call, const json_t *parameters, Reply *reply)
{
	(void) call;
	(void) parameters;
	(void) reply;
}

/* Any code: what the service may come up with one day. */
static void
error(StorageCall *call, const json_t *parameters, Reply *reply)
{
	const char *code = parameter_text(parameters, "code", NULL);
	int			status = (int) parameter_number(parameters, "status", 400);

	(void) call;
	storage_error(reply, (int) parameter_number(parameters, "http", status == 429 || status >= 500 ? status : 400), status, code,
				  code != NULL ? code : "Error", parameter_text(parameters, "message", "scripted"));
}

/* A gateway without the route, or a server of another version. */
static void
route_not_found(StorageCall *call, const json_t *parameters, Reply *reply)
{
	(void) call;
	storage_json(reply, 404, json_pack("{s:s}", "message", parameter_text(parameters, "message", "no Route matched with those values")));
}

/* To see that a client strikes the key out. */
static void
echo_key(StorageCall *call, const json_t *parameters, Reply *reply)
{
	const char *key = pairs_get(&call->request->headers, "apikey");
	Buf			message = {0};

	buf_printf(&message, "The key %s may not be used (%s).", key ? key : "", key ? key : "");
	storage_error(reply, 400, (int) parameter_number(parameters, "status", 403), "AccessDenied", "Unauthorized", message.data);
	buf_free(&message);
	/* The log is no place for it either. */
	buf_puts(&message, "AccessDenied with the key");
	free(reply->refused);
	reply->refused = message.data;
}

/* As many bytes, and others. */
static void
wrong_bytes(StorageCall *call, const json_t *parameters, Reply *reply)
{
	(void) call;
	(void) parameters;
	for (size_t i = 0; i < reply->body.len; i++)
		reply->body.data[i] ^= 0x55;
}

/* Complete HTTP with fewer bytes than there are. */
static void
cut_file(StorageCall *call, const json_t *parameters, Reply *reply)
{
	(void) call;
	common_fault_act(common_fault("cut_json"), parameters, reply);
}

static void
other_link(StorageCall *call, const json_t *parameters, Reply *reply)
{
	(void) call;
	storage_json(reply, 200, json_pack("{s:s}", "signedURL",
									   parameter_text(parameters, "text", "https://evil.example/object/sign/generations/x.png?token=a.b.c")));
}

/* The answer with so many megabytes behind it. */
static void
huge(StorageCall *call, const json_t *parameters, Reply *reply)
{
	(void) call;
	fault_fill(parameters, "", reply);
}
