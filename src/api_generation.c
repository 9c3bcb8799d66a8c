/*
 * api_generation.c: process_image and analyze_face.
 *
 * The order of the checks is part of the contract; each step is named in
 * prepare().  Nothing is promised to the caller before the worker has
 * committed it: this file only reads, asks, waits and reports.  The one thing it
 * writes is the idempotency key of a cache hit.
 *
 * All that is sent to the worker was true when it was read.  The worker looks
 * again and answers STALE or CACHED when it is true no more; then everything is
 * read anew.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "account.h"
#include "caller.h"
#include "compat.h"
#include "owned.h"
#include "owner.h"
#include "paths.h"
#include "postgrest.h"
#include "raise.h"
#include "result.h"
#include "shmem.h"
#include "storage.h"
#include "tools.h"

#define MAX_PARAMETER_BYTES 4096
#define MAX_PATH_CHARACTERS 500
#define MAX_KEY_CHARACTERS 200
#define DEFAULT_WAIT_SECONDS 25
/* How often a request is read anew because something changed below it. */
#define MAX_TRIES 3
/* What a client is told to wait where nothing better is known. */
#define RETRY_SOON_SECONDS 30

typedef struct Request
{
	const char *function;		/* "process_image" */
	Caller		caller;
	int			wait_seconds;
	Submission	submission;		/* filled step by step */
} Request;

typedef enum Prepared
{
	PREPARED_RESULT,			/* json is the answer */
	PREPARED_JOB,				/* the job of an idempotency key: wait for it */
	PREPARED_SUBMISSION,		/* ask the worker */
	PREPARED_AGAIN				/* somebody took the key meanwhile: read anew */
} Prepared;

static Datum generate(FunctionCallInfo fcinfo, GenerationKind kind);
static void read_arguments(FunctionCallInfo fcinfo, Request *request);
static char *text_argument(FunctionCallInfo fcinfo, int n, const char *name, int least, int most);
static void copy_argument(char *to, size_t size, const char *from, const char *name);
static char *parameters_argument(FunctionCallInfo fcinfo, int n);
static void make_fingerprint(Request *request);
static Prepared prepare(Request *request, char **json, pg_uuid_t *job);
static bool answer_by_key(Request *request, Prepared *prepared, char **json, pg_uuid_t *job);
static void check_tool(Request *request);
static void check_photo(Request *request);
static Prepared answer_by_cache(Request *request, char **json);
static bool submit(Request *request, pg_uuid_t *job);
static int	retry_after_of(const SubmissionAnswer *answer);
static void bad_argument(const char *detail) pg_attribute_noreturn();

SPARKY_FACE(sparky_process_image, process_image);
static Datum
process_image(PG_FUNCTION_ARGS)
{
	return generate(fcinfo, KIND_IMAGE);
}

SPARKY_FACE(sparky_analyze_face, analyze_face);
static Datum
analyze_face(PG_FUNCTION_ARGS)
{
	return generate(fcinfo, KIND_ANALYSIS);
}

static Datum
generate(FunctionCallInfo fcinfo, GenerationKind kind)
{
	Request    *request = palloc0(sizeof(Request));
	pg_uuid_t	job;
	char	   *json = NULL;
	bool		ended;
	bool		accepted = false;
	Datum		result;

	request->function = kind == KIND_IMAGE ? "process_image" : "analyze_face";
	request->submission.kind = kind;
	sparky_caller(&request->caller);
	request->submission.user_id = request->caller.id;
	read_arguments(fcinfo, request);

	for (int try = 0; !accepted; try++)
	{
		Prepared	prepared = prepare(request, &json, &job);

		if (prepared == PREPARED_RESULT)
			return sparky_jsonb(json);
		if (prepared == PREPARED_JOB)
			break;
		accepted = prepared == PREPARED_SUBMISSION && submit(request, &job);
		if (!accepted && try + 1 == MAX_TRIES)
			sparky_raise(WORD_OVERLOADED, "The request changed too often while it was handed over.", NULL, 0);
	}

	result = sparky_result_await(&request->caller.id, &job, request->wait_seconds, &ended);
	if (!ended && sparky_under_postgrest())
		sparky_response_status("202");
	return result;
}

static void
read_arguments(FunctionCallInfo fcinfo, Request *request)
{
	Submission *s = &request->submission;
	char	   *tool_id = text_argument(fcinfo, 0, "tool_id", 0, INT_MAX);
	char	   *path = text_argument(fcinfo, 1, "original_image_storage_path", 0, MAX_PATH_CHARACTERS);
	char	   *key = text_argument(fcinfo, 4, "idempotency_key", 1, MAX_KEY_CHARACTERS);

	if (tool_id == NULL || path == NULL)
		bad_argument("tool_id and original_image_storage_path are required");
	/* An id that does not fit is no tool's. */
	if (strlcpy(s->tool_id, tool_id, sizeof(s->tool_id)) >= sizeof(s->tool_id))
		s->tool_id[0] = '\0';
	if (!sparky_path_normal(path, s->source_path, sizeof(s->source_path)))
		bad_argument("original_image_storage_path is too long");
	copy_argument(s->parameters, sizeof(s->parameters), parameters_argument(fcinfo, 2), "tool_parameters");
	request->wait_seconds = PG_ARGISNULL(3) ? DEFAULT_WAIT_SECONDS : PG_GETARG_INT32(3);
	copy_argument(s->idempotency_key, sizeof(s->idempotency_key), key ? key : "", "idempotency_key");
	s->refresh = !PG_ARGISNULL(5) && PG_GETARG_BOOL(5);
	make_fingerprint(request);
}

/* NULL for NULL; least and most count characters. */
static char *
text_argument(FunctionCallInfo fcinfo, int n, const char *name, int least, int most)
{
	char	   *value;
	int			length;

	if (PG_ARGISNULL(n))
		return NULL;
	value = text_to_cstring(PG_GETARG_TEXT_PP(n));
	length = pg_mbstrlen(value);
	if (length < least || length > most)
		bad_argument(psprintf("%s must have %d to %d characters", name, least, most));
	return value;
}

static void
copy_argument(char *to, size_t size, const char *from, const char *name)
{
	if (strlcpy(to, from, size) >= size)
		bad_argument(psprintf("%s is too long", name));
}

static char *
parameters_argument(FunctionCallInfo fcinfo, int n)
{
	Jsonb	   *given;
	char	   *text;

	if (PG_ARGISNULL(n))
		return "{}";
	given = PG_GETARG_JSONB_P(n);
	if (!JB_ROOT_IS_OBJECT(given))
		bad_argument("tool_parameters must be an object");
	text = JsonbToCString(NULL, &given->root, VARSIZE(given));
	if (strlen(text) > MAX_PARAMETER_BYTES)
		bad_argument("tool_parameters must not be larger than 4096 bytes");
	return text;
}

static void
make_fingerprint(Request *request)
{
	const Submission *s = &request->submission;
	StringInfoData array;

	initStringInfo(&array);
	appendStringInfo(&array, "[\"%s\",", request->function);
	escape_json(&array, s->source_path);
	appendStringInfoChar(&array, ',');
	escape_json(&array, s->tool_id);
	appendStringInfo(&array, ",%s,%s]", s->parameters, s->refresh ? "true" : "false");
	if (!sparky_jcs_sha256(array.data, request->submission.fingerprint))
		bad_argument("tool_parameters must be JSON that RFC 8785 can canonicalise");
}

/* The contract's checks in their order; what lives on is in request, json and job. */
static Prepared
prepare(Request *request, char **json, pg_uuid_t *job)
{
	OwnerScope	scope;
	Prepared	prepared;
	char	   *answer = NULL;

	sparky_owner_enter(&scope);
	if (!answer_by_key(request, &prepared, &answer, job))
	{
		check_tool(request);
		check_photo(request);
		prepared = answer_by_cache(request, &answer);
	}
	*json = answer ? MemoryContextStrdup(scope.caller_context, answer) : NULL;
	sparky_owner_leave(&scope);
	return prepared;
}

/* A known idempotency key answers before anything else is looked at. */
static bool
answer_by_key(Request *request, Prepared *prepared, char **json, pg_uuid_t *job)
{
	const Submission *s = &request->submission;
	RequestKey	known;

	if (s->idempotency_key[0] == '\0' || !sparky_request_find(&request->caller.id, s->idempotency_key, &known))
		return false;
	if (strcmp(known.fingerprint, s->fingerprint) != 0)
		sparky_raise(WORD_IDEMPOTENCY_CONFLICT, NULL, NULL, 0);
	if (known.has_job)
		*job = known.job_id;
	else
		*json = sparky_result_of_hit(&request->caller.id, &known.hit);
	*prepared = known.has_job ? PREPARED_JOB : PREPARED_RESULT;
	return true;
}

static void
check_tool(Request *request)
{
	Submission *s = &request->submission;
	Tool		tool;
	Account		account;
	ErrorWord	word;
	char		why[200];

	if (!sparky_tool_read(s->tool_id, &tool) || !tool.active)
		sparky_raise(WORD_TOOL_NOT_FOUND, NULL, NULL, 0);
	if (tool.kind != s->kind)
		sparky_raise(WORD_WRONG_KIND, psprintf("Call %s for this tool.",
											   tool.kind == KIND_IMAGE ? "process_image" : "analyze_face"), NULL, 0);
	if (tool.model == NULL)
		sparky_raise(WORD_NOT_CONFIGURED, "The tool has no row in sparky.tool_settings.", NULL, 0);
	sparky_account_require(&request->caller.id, GetCurrentTimestamp(), &account);
	word = sparky_tool_check_parameters(&tool, s->parameters, sparky_account_pro(&account), why, sizeof(why));
	if (word != WORD_NONE)
		sparky_raise(word, why, NULL, 0);
	s->tool_revision = tool.revision;
}

static void
check_photo(Request *request)
{
	Submission *s = &request->submission;
	StoredObject photo;

	if (!sparky_path_owned(s->source_path, SPARKY_UPLOADS, request->caller.uid))
		sparky_raise(WORD_FORBIDDEN, "The path is not in your own folder of user_uploads.", NULL, 0);
	sparky_storage_require();
	if (!sparky_storage_stat(s->source_path, &photo))
		sparky_raise(WORD_IMAGE_NOT_FOUND, NULL, NULL, 0);
	strlcpy(s->image_hash, photo.sha256, sizeof(s->image_hash));
	if (!sparky_cache_key_make(&request->caller.id, s->tool_id, s->image_hash, s->parameters, s->tool_revision, s->cache_key))
		bad_argument("tool_parameters must be JSON that RFC 8785 can canonicalise");
}

static Prepared
answer_by_cache(Request *request, char **json)
{
	const Submission *s = &request->submission;
	CacheHit	hit;

	if (s->refresh || !sparky_cache_lookup(s->cache_key, &hit))
		return PREPARED_SUBMISSION;
	if (s->idempotency_key[0] != '\0' && !XactReadOnly && !RecoveryInProgress()
		&& !sparky_request_note_hit(&request->caller.id, s->idempotency_key, s->fingerprint, &hit))
		return PREPARED_AGAIN;
	*json = sparky_result_of_hit(&request->caller.id, &hit);
	return PREPARED_RESULT;
}

/* Hand the request to the worker; false: the world changed, read it anew. */
static bool
submit(Request *request, pg_uuid_t *job)
{
	SubmissionAnswer answer;

	PreventCommandIfReadOnly(request->function);
	request->submission.job_id = *DatumGetUUIDP(DirectFunctionCall1(gen_random_uuid, (Datum) 0));
	sparky_mailbox_submit(&request->submission, &answer);
	switch (answer.result)
	{
		case SUBMISSION_REFUSED:
			sparky_raise(answer.error, NULL, NULL, retry_after_of(&answer));
			break;
		case SUBMISSION_ACCEPTED:
		case SUBMISSION_JOINED:
			*job = answer.job_id;
			return true;
		case SUBMISSION_CACHED:
		case SUBMISSION_STALE:
			break;
	}
	return false;
}

static int
retry_after_of(const SubmissionAnswer *answer)
{
	if (answer->retry_after > 0)
		return answer->retry_after;
	if (answer->error == WORD_DAILY_LIMIT || answer->error == WORD_TOO_MANY_FAILURES)
		return sparky_seconds_to_utc_midnight(GetCurrentTimestamp());
	return RETRY_SOON_SECONDS;
}

static void
bad_argument(const char *detail)
{
	sparky_raise(WORD_BAD_PARAMETERS, detail, NULL, 0);
}
