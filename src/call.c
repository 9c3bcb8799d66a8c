/*
 * call.c: one call to the provider, from claimed job to typed answer.
 *
 * The request is never held as text: the photo's base64 is made while libcurl
 * asks for bytes, and the answer's base64 is decoded while they arrive, into a
 * buffer that leaves room for a varlena header: what libcurl wrote is the bytea
 * that is stored.  The key is fetched when the call starts, lives in one buffer
 * that is wiped when libcurl has it, and is struck out of whatever the provider says.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "call.h"
#include "compat.h"
#include "crypto.h"
#include "secrets.h"
#include "settings.h"
#include "storage.h"
#include "tools.h"

/* Decoded pictures of one answer together (a 4K picture has 8 MB). */
#define MAX_ANSWER_BYTES (32 * 1024 * 1024)
/* The provider is told to give up this long before we do. */
#define SERVER_TIMEOUT_MARGIN_MS 1000

static void release(void *arg);
static const char *photo_type(Call *call);
static bool not_started(Call *call, const char *why, bool hand_back);
static size_t give_body(void *context, char *buffer, size_t size);
static size_t give_piece(Call *call, const char *piece, size_t length, size_t start, char *buffer, size_t size);
static bool take_body(void *context, const char *bytes, size_t length);
static void keep_image(Call *call);

Call *
sparky_call_create(const Job *job)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "sparky call", ALLOCSET_SMALL_SIZES);
	MemoryContext previous = MemoryContextSwitchTo(context);
	Call	   *call = palloc0(sizeof(Call));
	MemoryContextCallback *callback = palloc0(sizeof(MemoryContextCallback));

	call->context = context;
	callback->func = release;
	callback->arg = call;
	MemoryContextRegisterResetCallback(context, callback);
	sparky_job_copy(&call->job, job, context);
	MemoryContextSwitchTo(previous);
	return call;
}

void
sparky_call_free(Call *call)
{
	MemoryContextDelete(call->context);
}

static void
release(void *arg)
{
	Call	   *call = arg;

	free(call->fetched);
	call->fetched = NULL;
	sparky_gemini_answer_free(&call->gemini);
	sparky_gemini_message_free(&call->message);
	if (call->reader)
		sparky_gemini_reader_free(call->reader);
	call->reader = NULL;
}

size_t
sparky_call_memory(const Call *call)
{
	return call->photo_length + (call->reader ? sparky_gemini_reader_memory(call->reader) : 0);
}

Outcome
sparky_call_prepare(Call *call, TimestampTz now)
{
	Tool		tool;
	GeminiRequest request = {0};
	const char *mime;
	uint8		nonce[16];
	char		why[200];
	char	   *prompt;
	MemoryContext previous;

	sparky_secrets_refresh();
	if (sparky_secret(SECRET_GEMINI_API_KEY) == NULL || !sparky_tool_read(call->job.tool_id, &tool) || tool.model == NULL)
		return OUTCOME_NOT_CONFIGURED;
	prompt = sparky_tool_render(&tool, call->job.parameters);
	if (prompt == NULL)
		return OUTCOME_BAD_REQUEST;
	previous = MemoryContextSwitchTo(call->context);
	mime = photo_type(call);
	call->model = pstrdup(tool.model);
	call->response_schema = tool.response_schema ? pstrdup(tool.response_schema) : NULL;
	MemoryContextSwitchTo(previous);
	if (mime == NULL)
		return OUTCOME_IMAGE_GONE;
	call->cache_ttl_seconds = tool.cache_ttl_seconds;
	call->timeout_ms = (int) Min((int64) tool.timeout_seconds * 1000, TimestampDifferenceMilliseconds(now, call->job.deadline));

	request.kind = call->job.kind;
	request.model = tool.model;
	request.prompt = prompt;
	request.system_instruction = tool.system_instruction;
	request.response_schema = tool.response_schema;
	request.generation_config = tool.generation_config;
	request.image_mime = mime;
	request.image_bytes = call->photo_length;
	request.base_url = sparky_gemini_base_url;
	if (!sparky_gemini_request(&request, &call->message, why, sizeof(why)))
	{
		ereport(LOG, (errmsg("sparky: no request can be made for tool \"%s\": %s", tool.id, why)));
		return OUTCOME_NOT_CONFIGURED;
	}
	if (!pg_strong_random(nonce, sizeof(nonce)))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random bytes")));
	call->reader = sparky_gemini_reader_start(call->job.kind, nonce, MAX_ANSWER_BYTES, VARHDRSZ);
	if (call->reader == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	return OUTCOME_OK;
}

/* Find the photo; its media type in CurrentMemoryContext, NULL if it is gone. */
static const char *
photo_type(Call *call)
{
	StoredObject object;

	if (call->photo_bytes != NULL)
		return sparky_image_mime(sparky_image_sniff(call->photo_bytes, call->photo_length));
	call->photo = sparky_storage_get(call->job.source_path, &object);
	/* The cache key stands for these very bytes: a photo that was replaced meanwhile is another one. */
	if (call->photo == NULL || strcmp(object.sha256, call->job.image_hash) != 0)
		return NULL;
	call->photo_bytes = (const uint8 *) VARDATA_ANY(call->photo);
	call->photo_length = VARSIZE_ANY_EXHDR(call->photo);
	return pstrdup(object.mime);
}

bool
sparky_call_start(Call *call, HttpClient *client)
{
	const char *key = sparky_secret(SECRET_GEMINI_API_KEY);
	size_t		size = sizeof("x-goog-api-key: ") + (key ? strlen(key) : 0);
	char	   *secret = MemoryContextAlloc(call->context, size);
	char		timeout[64];
	const char *headers[] = {secret, "Content-Type: application/json", "Accept: application/json",
	"User-Agent: sparky/" SPARKY_VERSION, timeout, NULL};
	HttpRequest request = {0};
	HttpResult	refusal;
	bool		started;

	/* Whoever was prepared after us may have found that it was taken out of the vault. */
	if (key == NULL)
		return not_started(call, "the key is gone", true);
	snprintf(secret, size, "x-goog-api-key: %s", key);
	snprintf(timeout, sizeof(timeout), "X-Server-Timeout: %d", Max(1, (call->timeout_ms - SERVER_TIMEOUT_MARGIN_MS) / 1000));
	request.method = "POST";
	request.url = call->message.url;
	request.headers = headers;
	request.has_body = true;
	request.content_length = call->message.content_length;
	request.source = give_body;
	request.sink = take_body;
	request.context = call;
	request.connect_timeout_ms = sparky_connect_timeout;
	request.total_timeout_ms = Max(1, call->timeout_ms);
	/* A call takes seconds, a handshake a fraction of one; a reset on a reused connection would cost a paid answer. */
	request.single_use = true;
	request.ca_file = sparky_tls_ca_file[0] ? sparky_tls_ca_file : NULL;
	started = sparky_http_start(client, &request, call, &call->transfer, &refusal);
	explicit_bzero(secret, size);
	if (started)
		return true;
	call->result = refusal;
	/* STOPPED: this URL is not allowed, ever; otherwise there was no room now. */
	return not_started(call, refusal.message, refusal.transport != TRANSPORT_STOPPED);
}

static bool
not_started(Call *call, const char *why, bool hand_back)
{
	call->report.message = MemoryContextStrdup(call->context, why);
	call->hand_back = hand_back;
	call->outcome = hand_back ? OUTCOME_CONNECT : OUTCOME_NOT_CONFIGURED;
	call->report.outcome = call->outcome;
	call->report.call_id = call->call_id;
	call->report.retry_after = -1;
	return false;
}

/* libcurl wants bytes of the request: prefix, base64 of the photo, suffix. */
static size_t
give_body(void *context, char *buffer, size_t size)
{
	Call	   *call = context;
	size_t		encoded = SPARKY_BASE64_LENGTH(call->photo_length);
	size_t		photo_end = call->message.prefix_length + encoded;
	size_t		given;

	if (call->sent < call->message.prefix_length)
		given = give_piece(call, call->message.prefix, call->message.prefix_length, 0, buffer, size);
	else if (call->sent < photo_end)
	{
		/* Whole quanta only; the encoder ends with a terminator that needs room too. */
		size_t		from = (call->sent - call->message.prefix_length) / 4 * 3;
		size_t		length = Min((size - 1) / 4 * 3, call->photo_length - from);

		given = sparky_base64_encode(call->photo_bytes + from, length, buffer);
	}
	else
		given = give_piece(call, call->message.suffix, call->message.suffix_length, photo_end, buffer, size);
	call->sent += given;
	return given;
}

static size_t
give_piece(Call *call, const char *piece, size_t length, size_t start, char *buffer, size_t size)
{
	size_t		from = call->sent - start;
	size_t		given = Min(size, length - from);

	memcpy(buffer, piece + from, given);
	return given;
}

static bool
take_body(void *context, const char *bytes, size_t length)
{
	return sparky_gemini_reader_add(((Call *) context)->reader, bytes, length);
}

void
sparky_call_finish(Call *call, const HttpResult *result)
{
	CallReport *report = &call->report;

	call->transfer = NULL;
	call->result = *result;
	sparky_gemini_read(call->reader, result->transport, result->status, result->content_type, call->response_schema,
					   sparky_secret(SECRET_GEMINI_API_KEY), &call->gemini);
	call->outcome = call->gemini.outcome;
	if (call->outcome == OUTCOME_OK && call->job.kind == KIND_IMAGE)
		keep_image(call);
	else if (call->outcome == OUTCOME_OK)
		call->answer.analysis = call->gemini.analysis;
	report->call_id = call->call_id;
	report->outcome = call->outcome;
	report->http_status = result->status;
	report->retry_after = call->gemini.retry_after;
	report->finish_reason = call->gemini.finish_reason;
	report->message = call->gemini.finish_message;
	if (report->message == NULL && result->transport != TRANSPORT_DONE)
		report->message = call->result.message;
	report->model_version = call->gemini.model_version;
	report->response_id = call->gemini.response_id;
	report->usage = call->gemini.usage;
	report->bytes_sent = (int64) result->bytes_sent;
	report->bytes_received = (int64) result->bytes_received;
}

static void
keep_image(Call *call)
{
	bytea	   *image = (bytea *) (call->gemini.image - VARHDRSZ);

	SET_VARSIZE(image, call->gemini.image_length + VARHDRSZ);
	call->answer.image = image;
	call->answer.info = call->gemini.image_info;
	if (!sparky_sha256_hex(call->gemini.image, call->gemini.image_length, call->answer.sha256))
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not hash an answer")));
}
