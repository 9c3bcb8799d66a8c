/*
 * api_generation.c: process_image and analyze_face.
 *
 * The order of the checks is part of the contract; each step is named in
 * prepare().  Nothing is promised to the caller before the worker has
 * committed it: this file only reads, asks, waits and reports.  The one thing it
 * writes is the idempotency key of a cache hit.
 *
 * A photo whose bytes are outside and have never been read is read by the
 * worker first, and the checks begin anew: no job is born without its cache key.
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
#include "mailbox.h"
#include "owned.h"
#include "owner.h"
#include "paths.h"
#include "postgrest.h"
#include "raise.h"
#include "result.h"
#include "secrets.h"
#include "settings.h"
#include "stats.h"
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
	const char *bad_parameters; /* why tool_parameters cannot be used at all, NULL: they are well formed */
	const char *bad_path;		/* the same of original_image_storage_path */
	Submission	submission;		/* filled step by step */
} Request;

typedef enum Prepared
{
	PREPARED_RESULT,			/* json is the answer */
	PREPARED_JOB,				/* the job of an idempotency key: wait for it */
	PREPARED_SUBMISSION,		/* ask the worker */
	PREPARED_UNREAD,			/* nobody knows yet what the photo's bytes are: let the worker read them */
	PREPARED_AGAIN				/* somebody took the key meanwhile: read anew */
} Prepared;

static Datum generate(FunctionCallInfo fcinfo, GenerationKind kind);
static void read_arguments(FunctionCallInfo fcinfo, Request *request);
static void read_path(FunctionCallInfo fcinfo, int n, Request *request);
static void read_parameters(FunctionCallInfo fcinfo, int n, Request *request);
static void read_key(FunctionCallInfo fcinfo, int n, Submission *submission);
static void make_fingerprint(Request *request);
static Prepared prepare(Request *request, char **json, pg_uuid_t *job);
static bool answer_by_key(Request *request, Prepared *prepared, char **json, pg_uuid_t *job);
static void check_tool(Request *request);
static bool check_photo(Request *request);
static void have_photo_read(const Request *request);
static Prepared answer_by_cache(Request *request, char **json);
static bool submit(Request *request, pg_uuid_t *job);
static const char *detail_of(const SubmissionAnswer *answer);
static int	retry_after_of(const SubmissionAnswer *answer);
pg_noreturn static void bad_argument(const char *detail);

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
		if (prepared == PREPARED_UNREAD)
			have_photo_read(request);
		accepted = prepared == PREPARED_SUBMISSION && submit(request, &job);
		if (!accepted && try + 1 == MAX_TRIES)
			sparky_raise(WORD_OVERLOADED, "The request changed too often while it was handed over.", NULL, 0);
	}

	result = sparky_result_await(&request->caller.id, &job, request->wait_seconds, &ended);
	if (!ended)
		sparky_response_running(sparky_uuid_text(&job));
	return result;
}

/* What is wrong with an argument is only noted: the checks have an order, and each tells it in its turn. */
static void
read_arguments(FunctionCallInfo fcinfo, Request *request)
{
	Submission *s = &request->submission;

	if (PG_ARGISNULL(0))
		bad_argument("tool_id is required");
	/* An id that does not fit is no tool's. */
	if (strlcpy(s->tool_id, text_to_cstring(PG_GETARG_TEXT_PP(0)), sizeof(s->tool_id)) >= sizeof(s->tool_id))
		s->tool_id[0] = '\0';
	read_path(fcinfo, 1, request);
	read_parameters(fcinfo, 2, request);
	request->wait_seconds = PG_ARGISNULL(3) ? DEFAULT_WAIT_SECONDS : PG_GETARG_INT32(3);
	read_key(fcinfo, 4, s);
	s->refresh = !PG_ARGISNULL(5) && PG_GETARG_BOOL(5);
	make_fingerprint(request);
}

static void
read_path(FunctionCallInfo fcinfo, int n, Request *request)
{
	Submission *s = &request->submission;
	char	   *path;

	if (PG_ARGISNULL(n))
	{
		request->bad_path = "original_image_storage_path is required";
		return;
	}
	path = text_to_cstring(PG_GETARG_TEXT_PP(n));
	if (pg_mbstrlen(path) > MAX_PATH_CHARACTERS || !sparky_path_normal(path, s->source_path, sizeof(s->source_path)))
		request->bad_path = "original_image_storage_path must not have more than 500 characters";
}

static void
read_parameters(FunctionCallInfo fcinfo, int n, Request *request)
{
	Submission *s = &request->submission;
	const char *text = "{}";

	if (!PG_ARGISNULL(n))
	{
		Jsonb	   *given = PG_GETARG_JSONB_P(n);

		if (JB_ROOT_IS_OBJECT(given))
			text = JsonbToCString(NULL, &given->root, VARSIZE(given));
		else
			request->bad_parameters = "tool_parameters must be an object";
	}
	if (strlen(text) > MAX_PARAMETER_BYTES)
		request->bad_parameters = "tool_parameters must not be larger than 4096 bytes";
	strlcpy(s->parameters, text, sizeof(s->parameters));
}

static void
read_key(FunctionCallInfo fcinfo, int n, Submission *submission)
{
	char	   *key;
	int			length;

	if (PG_ARGISNULL(n))
		return;
	key = text_to_cstring(PG_GETARG_TEXT_PP(n));
	length = pg_mbstrlen(key);
	if (length < 1 || length > MAX_KEY_CHARACTERS
		|| strlcpy(submission->idempotency_key, key, sizeof(submission->idempotency_key)) >= sizeof(submission->idempotency_key))
		bad_argument("idempotency_key must have 1 to 200 characters");
}

/* A request that cannot be used has none: under a known key it is another request. */
static void
make_fingerprint(Request *request)
{
	const Submission *s = &request->submission;
	StringInfoData array;

	if (request->bad_parameters != NULL || request->bad_path != NULL)
		return;
	initStringInfo(&array);
	appendStringInfo(&array, "[\"%s\",", request->function);
	escape_json(&array, s->source_path);
	appendStringInfoChar(&array, ',');
	escape_json(&array, s->tool_id);
	appendStringInfo(&array, ",%s,%s]", s->parameters, s->refresh ? "true" : "false");
	if (!sparky_jcs_sha256(array.data, request->submission.fingerprint))
		request->bad_parameters = "tool_parameters must be JSON that RFC 8785 can canonicalise";
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
		prepared = check_photo(request) ? answer_by_cache(request, &answer) : PREPARED_UNREAD;
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
	sparky_stats_count(COUNTER_REPEATED);
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
	if (request->bad_parameters != NULL)
		bad_argument(request->bad_parameters);
	word = sparky_tool_check_parameters(&tool, s->parameters, false, why, sizeof(why));
	if (word == WORD_PRO_REQUIRED)
	{
		/* Only who chose something for payers has his plan looked up. */
		sparky_account_require(&request->caller.id, GetCurrentTimestamp(), &account);
		if (sparky_account_pro(&account))
			word = WORD_NONE;
	}
	if (word != WORD_NONE)
		sparky_raise(word, why, NULL, 0);
	s->tool_revision = tool.revision;
}

/* False: its bytes are outside, and must be read first. */
static bool
check_photo(Request *request)
{
	Submission *s = &request->submission;
	StoredObject photo;

	if (request->bad_path != NULL)
		bad_argument(request->bad_path);
	if (!sparky_path_owned(s->source_path, SPARKY_UPLOADS, request->caller.uid))
		sparky_raise(WORD_FORBIDDEN, "The path is not in your own folder of user_uploads.", NULL, 0);
	sparky_storage_require();
	if (!sparky_storage_stat(s->source_path, &photo))
		sparky_raise(WORD_IMAGE_NOT_FOUND, NULL, NULL, 0);
	if (photo.sha256[0] == '\0')
		return false;
	if (photo.mime[0] == '\0')
		sparky_raise(WORD_IMAGE_TYPE, "The file is not a sound image.", "JPEG, PNG, WebP, HEIC and HEIF are accepted.", 0);
	strlcpy(s->image_hash, photo.sha256, sizeof(s->image_hash));
	if (!sparky_cache_key_make(&request->caller.id, s->tool_id, s->image_hash, s->parameters, s->tool_revision, s->cache_key))
		bad_argument("tool_parameters must be JSON that RFC 8785 can canonicalise");
	return true;
}

/* The worker fetches the photo and remembers its digest, for us and for everybody after us; no job yet, and nothing held. */
static void
have_photo_read(const Request *request)
{
	Submission *errand = palloc0(sizeof(Submission));
	SubmissionAnswer answer;

	PreventCommandIfReadOnly(request->function);
	errand->purpose = PURPOSE_HASH;
	errand->user_id = request->caller.id;
	strlcpy(errand->source_path, request->submission.source_path, sizeof(errand->source_path));
	sparky_mailbox_errand_within(errand, sparky_accept_timeout, &answer);
	pfree(errand);
	if (answer.result != SUBMISSION_REFUSED)
		return;
	if (answer.error == WORD_PROVIDER_TIMEOUT || answer.error == WORD_OVERLOADED)
		sparky_raise(WORD_OVERLOADED, "The photo could not be read from storage in time.", NULL, RETRY_SOON_SECONDS);
	sparky_raise(answer.error, answer.text[0] ? pstrdup(answer.text) : NULL, NULL, 0);
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
	sparky_stats_count(COUNTER_HIT);
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
			sparky_stats_count(COUNTER_REFUSED);
			sparky_raise(answer.error, detail_of(&answer), NULL, retry_after_of(&answer));
			break;
		case SUBMISSION_ACCEPTED:
		case SUBMISSION_JOINED:
			*job = answer.job_id;
			sparky_stats_count(answer.result == SUBMISSION_ACCEPTED ? COUNTER_ACCEPTED : COUNTER_JOINED);
			return true;
		case SUBMISSION_CACHED:
		case SUBMISSION_STALE:
			break;
	}
	return false;
}

/* The worker's secrets are this process's too, since both are the server's: so the missing one can be named here. */
static const char *
detail_of(const SubmissionAnswer *answer)
{
	OwnerScope	scope;

	if (answer->error != WORD_NOT_CONFIGURED)
		return NULL;
	sparky_owner_enter(&scope);
	sparky_secrets_refresh();
	sparky_owner_leave(&scope);
	if (sparky_secret(SECRET_GEMINI_API_KEY) == NULL)
		return psprintf("%s is not set", sparky_secret_setting(SECRET_GEMINI_API_KEY));
	return NULL;
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
