/*
 * gemini.c: what an answer of generateContent means.
 *
 * Rules.  Exactly one ending is a success: HTTP 200, complete JSON, finishReason
 * STOP, and an image whose structure is sound (or JSON that satisfies the tool's
 * schema).  Everything else is an Outcome that charges nothing.  New finish
 * reasons will come: what is unknown is "no image", and its name is kept.
 *
 * The answer is judged in this order, each step only if the one before was fine:
 * transport, HTTP status, content type, an error member even under 200, the
 * candidates.  Texts of the provider go to tables and logs: they are valid
 * UTF-8, capped, and never hold the key.
 *
 * The API's facts, with their sources, are in doc/gemini.md.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "gemini_reader.h"
#include "json_schema.h"

#define SECRET_LEAST_BYTES 3	/* a letter or two are in any text: shorter ones are not struck out */
#define MESSAGE_MAX_BYTES 500
#define NAME_MAX_BYTES 200		/* a model version, a response id, a finish reason */
#define USAGE_MAX_BYTES 8000
#define SECRET_REPLACEMENT "***"

/* What the answer is read with. */
typedef struct Reading
{
	GeminiReader *reader;
	const char *response_schema;
	const char *secret;
	GeminiAnswer *answer;
} Reading;

typedef struct FinishRule
{
	const char *reason;
	Outcome		outcome;
} FinishRule;

static const FinishRule finish_rules[] = {
	{"STOP", OUTCOME_OK},
	{"MAX_TOKENS", OUTCOME_TRUNCATED},
	{"CONTINUATION", OUTCOME_TRUNCATED},
	{"SAFETY", OUTCOME_BLOCKED_OUTPUT},
	{"IMAGE_SAFETY", OUTCOME_BLOCKED_OUTPUT},
	{"PROHIBITED_CONTENT", OUTCOME_BLOCKED_OUTPUT},
	{"IMAGE_PROHIBITED_CONTENT", OUTCOME_BLOCKED_OUTPUT},
	{"BLOCKLIST", OUTCOME_BLOCKED_OUTPUT},
	{"SPII", OUTCOME_BLOCKED_OUTPUT},
	{"RECITATION", OUTCOME_BLOCKED_OUTPUT},
	{"IMAGE_RECITATION", OUTCOME_BLOCKED_OUTPUT},
	{"NO_IMAGE", OUTCOME_NO_IMAGE},
	{"IMAGE_OTHER", OUTCOME_NO_IMAGE},
	{"OTHER", OUTCOME_NO_IMAGE},
	{"LANGUAGE", OUTCOME_NO_IMAGE},
	/* The model tripped over itself: no fault of the user's photo. */
	{"MALFORMED_FUNCTION_CALL", OUTCOME_INVALID_OUTPUT},
	{"UNEXPECTED_TOOL_CALL", OUTCOME_INVALID_OUTPUT},
	{"TOO_MANY_TOOL_CALLS", OUTCOME_INVALID_OUTPUT},
	{"MISSING_THOUGHT_SIGNATURE", OUTCOME_INVALID_OUTPUT},
	{"MALFORMED_RESPONSE", OUTCOME_INVALID_OUTPUT},
};

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static Outcome read_answer(Reading *reading, TransportResult transport, const char *content_type);
static Outcome outcome_of_transport(TransportResult transport);
static bool is_json_type(const char *content_type);
static JsonValue *parse_text(GeminiReader *reader);
static Outcome read_error(Reading *reading, int status, const JsonValue *error);
static Outcome outcome_of_status(int status);
static Outcome outcome_of_400(const JsonValue *error);
static Outcome outcome_of_429(const JsonValue *error);
static const JsonValue *next_detail(const JsonValue *error, const char *type, size_t *index);
static double parse_seconds(const char *duration);
static bool mentions(const char *text, const char *word);

static Outcome read_envelope(Reading *reading, const JsonValue *envelope);
static Outcome read_candidate(Reading *reading, const JsonValue *candidate);
static Outcome outcome_of_finish(const char *reason);
static Outcome read_image(Reading *reading, const JsonValue *parts);
static const JsonValue *image_data(const JsonValue *part);
static Outcome read_analysis(Reading *reading, const JsonValue *parts);
static void add_part_text(GeminiReader *reader, JsonText *text, const JsonValue *part);
static Outcome accept_analysis(Reading *reading, const JsonValue *analysis);
static bool satisfies_schema(const char *schema_text, const JsonValue *analysis);

static char *keep_string(const Reading *reading, const JsonValue *value, size_t limit);
static char *keep_json(const Reading *reading, const JsonValue *value, size_t limit);
static bool scrub(JsonText *out, const char *text, size_t length, const char *secret, size_t secret_length);

/* ---- the answer: from the transport down to the envelope ---- */

void
sparky_gemini_read(GeminiReader *reader, TransportResult transport, int http_status, const char *content_type,
				   const char *response_schema, const char *secret, GeminiAnswer *answer)
{
	/* A few letters are in any text, and are no key. */
	bool		scrub_it = secret != NULL && strlen(secret) >= SECRET_LEAST_BYTES;
	Reading		reading = {reader, response_schema, scrub_it ? secret : NULL, answer};

	memset(answer, 0, sizeof(*answer));
	answer->retry_after = -1;
	answer->http_status = http_status;
	answer->outcome = read_answer(&reading, transport, content_type);
	if (answer->outcome != OUTCOME_OK)
	{
		sparky_gemini_reader_keep_only(reader, NULL);
		answer->image = NULL;
		answer->image_length = 0;
		memset(&answer->image_info, 0, sizeof(answer->image_info));
	}
}

void
sparky_gemini_answer_free(GeminiAnswer *answer)
{
	free(answer->analysis);
	free(answer->finish_reason);
	free(answer->finish_message);
	free(answer->model_version);
	free(answer->response_id);
	free(answer->usage);
	memset(answer, 0, sizeof(*answer));
}

static Outcome
read_answer(Reading *reading, TransportResult transport, const char *content_type)
{
	int			status = reading->answer->http_status;
	JsonValue  *envelope;
	const JsonValue *error;
	Outcome		outcome;

	/* An error page that is larger than an answer may be: its status has told enough. */
	if (transport == TRANSPORT_STOPPED && status >= 300)
		return read_error(reading, status, NULL);
	if (transport == TRANSPORT_DONE && reading->reader->stopped && status == 200)
		transport = TRANSPORT_STOPPED;
	if (transport != TRANSPORT_DONE)
		return outcome_of_transport(transport);
	if (status == 0)
		return OUTCOME_NETWORK;
	if (status >= 300 && status < 400)
		return OUTCOME_REDIRECT;
	if (status < 300 && (status != 200 || !is_json_type(content_type)))
		return OUTCOME_INVALID_OUTPUT;

	envelope = parse_text(reading->reader);
	error = sparky_json_get(envelope, "error");
	if (status != 200)
		outcome = read_error(reading, status, error);	/* whatever the body is */
	else if (sparky_json_kind(envelope) != JSON_KIND_OBJECT)
		outcome = OUTCOME_INVALID_OUTPUT;
	else if (sparky_json_kind(error) != JSON_KIND_NULL)
		outcome = read_error(reading, (int) sparky_json_integer(sparky_json_get(error, "code"), 0), error);
	else
		outcome = read_envelope(reading, envelope);
	sparky_json_free(envelope);
	return outcome;
}

static Outcome
outcome_of_transport(TransportResult transport)
{
	switch (transport)
	{
		case TRANSPORT_CONNECT_FAILED:
		case TRANSPORT_TLS_FAILED:
			return OUTCOME_CONNECT;		/* the request was never sent */
		case TRANSPORT_TIMEOUT:
			return OUTCOME_TIMEOUT;
		case TRANSPORT_STOPPED:
			return OUTCOME_TOO_LARGE;
		case TRANSPORT_RESET:
		case TRANSPORT_DONE:
			break;
	}
	return OUTCOME_NETWORK;
}

/* No type at all is left to the parser: a proxy that drops a header must not cost a paid image. */
static bool
is_json_type(const char *content_type)
{
	size_t		length;

	if (content_type == NULL || content_type[0] == '\0')
		return true;
	length = strcspn(content_type, "; \t");
	return length == strlen("application/json") && strncasecmp(content_type, "application/json", length) == 0;
}

/*
 * The kept text, cleaned, its numbers as doubles: neither a broken character in
 * some text part nor a counter beyond int64 may cost a paid image.
 */
static JsonValue *
parse_text(GeminiReader *reader)
{
	JsonText	clean = {0};
	JsonValue  *value = NULL;

	sparky_json_clean(&clean, reader->text.data, reader->text.length);
	if (!clean.failed)
		value = sparky_json_parse_doubles(clean.data, clean.length, NULL, 0);
	sparky_json_text_free(&clean);
	return value;
}

/* ---- errors ---- */

/* status: of HTTP, or what an error under 200 says of itself; error may be NULL. */
static Outcome
read_error(Reading *reading, int status, const JsonValue *error)
{
	GeminiAnswer *answer = reading->answer;
	size_t		index = 0;
	const JsonValue *detail;

	answer->finish_message = keep_string(reading, sparky_json_get(error, "message"), MESSAGE_MAX_BYTES);
	detail = next_detail(error, "RetryInfo", &index);
	answer->retry_after = parse_seconds(sparky_json_string(sparky_json_get(detail, "retryDelay"), NULL));
	if (status == 400)
		return outcome_of_400(error);
	if (status == 429)
		return outcome_of_429(error);
	return outcome_of_status(status);
}

static Outcome
outcome_of_status(int status)
{
	switch (status)
	{
		case 401:
		case 403:
			return OUTCOME_AUTH;
		case 402:
			return OUTCOME_BILLING;
		case 404:
			return OUTCOME_MODEL_GONE;
		case 408:
			return OUTCOME_UPSTREAM;
		case 499:
			return OUTCOME_NETWORK;		/* the provider saw us hang up */
		case 502:
		case 503:
			return OUTCOME_OVERLOADED;
		case 504:
			return OUTCOME_UPSTREAM_TIMEOUT;
	}
	if (status >= 300 && status < 400)
		return OUTCOME_REDIRECT;
	if (status >= 400 && status < 500)
		return OUTCOME_BAD_REQUEST;
	if (status >= 500 && status < 600)
		return OUTCOME_UPSTREAM;
	return OUTCOME_INVALID_OUTPUT;	/* an error member that names no error */
}

/* A 400 is our request or the photo, unless it says that it is the key, the bill or the country. */
static Outcome
outcome_of_400(const JsonValue *error)
{
	const char *status = sparky_json_string(sparky_json_get(error, "status"), NULL);
	const char *message = sparky_json_string(sparky_json_get(error, "message"), NULL);
	size_t		index = 0;
	const JsonValue *detail;

	while ((detail = next_detail(error, "ErrorInfo", &index)) != NULL)
	{
		const char *reason = sparky_json_string(sparky_json_get(detail, "reason"), NULL);

		if (reason != NULL && strncmp(reason, "API_KEY_", 8) == 0)
			return OUTCOME_AUTH;
	}
	if (mentions(message, "API key not valid") || mentions(message, "API key expired") ||
		mentions(message, "authentication credentials"))
		return OUTCOME_AUTH;
	if (status != NULL && strcmp(status, "FAILED_PRECONDITION") == 0 &&
		(mentions(message, "billing") || mentions(message, "location")))
		return OUTCOME_BILLING;
	return OUTCOME_BAD_REQUEST;
}

/*
 * Per minute or per day?  The quota's id tells; RetryInfo does not, it names 36
 * seconds for a day's quota too.  The message cannot tell either: each of them
 * ends with "check your plan and billing details".
 */
static Outcome
outcome_of_429(const JsonValue *error)
{
	const char *message = sparky_json_string(sparky_json_get(error, "message"), NULL);
	size_t		index = 0;
	const JsonValue *detail;

	while ((detail = next_detail(error, "QuotaFailure", &index)) != NULL)
	{
		const JsonValue *violations = sparky_json_get(detail, "violations");

		for (size_t i = 0; i < sparky_json_size(violations); i++)
		{
			const JsonValue *violation = sparky_json_at(violations, i);

			if (mentions(sparky_json_string(sparky_json_get(violation, "quotaId"), NULL), "PerDay"))
				return OUTCOME_QUOTA_DAY;
		}
	}
	/* A spend cap of the project: nothing changes before the operator, or the month, does. */
	if (mentions(message, "spending cap") || mentions(message, "spend cap") || mentions(message, "prepayment credits"))
		return OUTCOME_BILLING;
	return OUTCOME_RATE_LIMITED;
}

/* The next of error.details whose @type is google.rpc.<type>; *index starts at 0. */
static const JsonValue *
next_detail(const JsonValue *error, const char *type, size_t *index)
{
	const JsonValue *details = sparky_json_get(error, "details");

	while (*index < sparky_json_size(details))
	{
		const JsonValue *detail = sparky_json_at(details, (*index)++);
		const char *name = sparky_json_string(sparky_json_get(detail, "@type"), NULL);
		const char *last = name != NULL ? strrchr(name, '.') : NULL;

		if (last != NULL && strcmp(last + 1, type) == 0)
			return detail;
	}
	return NULL;
}

/* A protobuf duration, "45.837906927s"; -1 for anything else. By hand, since strtod takes hex, "inf" and a locale. */
static double
parse_seconds(const char *duration)
{
	double		seconds = 0;
	double		unit = 1;
	const char *c = duration;

	if (duration == NULL || *c < '0' || *c > '9')
		return -1;
	for (; *c >= '0' && *c <= '9'; c++)
	{
		seconds = seconds * 10 + (*c - '0');
		if (c - duration > 9)
			return -1;			/* more than 30 years is no delay */
	}
	if (*c == '.')
	{
		for (c++; *c >= '0' && *c <= '9'; c++)
		{
			unit /= 10;
			seconds += (*c - '0') * unit;
		}
	}
	return strcmp(c, "s") == 0 ? seconds : -1;
}

static bool
mentions(const char *text, const char *word)
{
	return text != NULL && strcasestr(text, word) != NULL;
}

/* ---- candidates ---- */

static Outcome
read_envelope(Reading *reading, const JsonValue *envelope)
{
	GeminiAnswer *answer = reading->answer;
	const JsonValue *feedback = sparky_json_get(envelope, "promptFeedback");
	const JsonValue *candidate = sparky_json_at(sparky_json_get(envelope, "candidates"), 0);

	answer->model_version = keep_string(reading, sparky_json_get(envelope, "modelVersion"), NAME_MAX_BYTES);
	answer->response_id = keep_string(reading, sparky_json_get(envelope, "responseId"), NAME_MAX_BYTES);
	answer->usage = keep_json(reading, sparky_json_get(envelope, "usageMetadata"), USAGE_MAX_BYTES);
	if (candidate != NULL)
		return read_candidate(reading, candidate);

	answer->finish_reason = keep_string(reading, sparky_json_get(feedback, "blockReason"), NAME_MAX_BYTES);
	answer->finish_message = keep_string(reading, sparky_json_get(feedback, "blockReasonMessage"), MESSAGE_MAX_BYTES);
	return answer->finish_reason != NULL ? OUTCOME_BLOCKED_PROMPT : OUTCOME_NO_IMAGE;
}

static Outcome
read_candidate(Reading *reading, const JsonValue *candidate)
{
	GeminiAnswer *answer = reading->answer;
	const JsonValue *reason = sparky_json_get(candidate, "finishReason");
	const JsonValue *parts = sparky_json_get(sparky_json_get(candidate, "content"), "parts");
	Outcome		outcome = outcome_of_finish(sparky_json_string(reason, NULL));

	answer->finish_reason = keep_string(reading, reason, NAME_MAX_BYTES);
	answer->finish_message = keep_string(reading, sparky_json_get(candidate, "finishMessage"), MESSAGE_MAX_BYTES);
	if (outcome != OUTCOME_OK)
		return outcome;
	return reading->reader->kind == KIND_ANALYSIS ? read_analysis(reading, parts) : read_image(reading, parts);
}

static Outcome
outcome_of_finish(const char *reason)
{
	for (size_t i = 0; reason != NULL && i < LENGTH(finish_rules); i++)
	{
		if (strcmp(reason, finish_rules[i].reason) == 0)
			return finish_rules[i].outcome;
	}
	return OUTCOME_NO_IMAGE;
}

/*
 * The last image that is no thought: interim images come before the final one.
 * Where the only image is flagged as a thought, it is what was asked for.
 */
static Outcome
read_image(Reading *reading, const JsonValue *parts)
{
	GeminiAnswer *answer = reading->answer;
	const JsonValue *final = NULL;
	const JsonValue *thought = NULL;
	const char *string;
	size_t		length;
	Blob	   *blob;

	for (size_t i = 0; i < sparky_json_size(parts); i++)
	{
		const JsonValue *part = sparky_json_at(parts, i);
		const JsonValue *data = image_data(part);

		if (data == NULL)
			continue;
		if (sparky_json_bool(sparky_json_get(part, "thought"), false))
			thought = data;
		else
			final = data;
	}
	if (final == NULL)
		final = thought;
	if (final == NULL)
		return OUTCOME_NO_IMAGE;

	string = sparky_json_string(final, &length);
	blob = sparky_gemini_reader_blob(reading->reader, string);
	if (blob == NULL && string != NULL)
		blob = sparky_gemini_reader_decode(reading->reader, string, length);
	sparky_gemini_reader_keep_only(reading->reader, blob);
	if (blob == NULL || blob->data == NULL)
		return OUTCOME_INVALID_OUTPUT;

	answer->image = blob->data + reading->reader->headroom;
	answer->image_length = blob->length;
	/* The declared type may lie; what the bytes are decides. */
	return sparky_image_read(answer->image, answer->image_length, &answer->image_info, NULL) ?
		OUTCOME_OK : OUTCOME_INVALID_OUTPUT;
}

/* The data member of a part that holds an image, else NULL. */
static const JsonValue *
image_data(const JsonValue *part)
{
	const JsonValue *inline_data = sparky_json_get(part, "inlineData");
	const char *mime = sparky_json_string(sparky_json_get(inline_data, "mimeType"), NULL);

	if (mime != NULL && strncasecmp(mime, "image/", 6) != 0)
		return NULL;
	return sparky_json_get(inline_data, "data");
}

/* One JSON text, which may be spread over several parts; thoughts are none of it. */
static Outcome
read_analysis(Reading *reading, const JsonValue *parts)
{
	JsonText	text = {0};
	JsonText	clean = {0};
	JsonValue  *analysis = NULL;
	Outcome		outcome = OUTCOME_NO_IMAGE;

	for (size_t i = 0; i < sparky_json_size(parts); i++)
	{
		const JsonValue *part = sparky_json_at(parts, i);

		if (!sparky_json_bool(sparky_json_get(part, "thought"), false))
			add_part_text(reading->reader, &text, part);
	}
	if (text.length > 0)
	{
		/* The text is JSON inside JSON: its own \u0000 only shows now. */
		sparky_json_clean(&clean, text.data, text.length);
		if (!text.failed && !clean.failed)
			analysis = sparky_json_parse(clean.data, clean.length, NULL, 0);
		outcome = analysis != NULL ? accept_analysis(reading, analysis) : OUTCOME_INVALID_OUTPUT;
	}
	sparky_json_free(analysis);
	sparky_json_text_free(&clean);
	sparky_json_text_free(&text);
	return outcome;
}

/* A long run of letters may have been taken for base64: then the text is what encodes the blob. */
static void
add_part_text(GeminiReader *reader, JsonText *text, const JsonValue *part)
{
	size_t		length;
	const char *string = sparky_json_string(sparky_json_get(part, "text"), &length);
	Blob	   *blob = sparky_gemini_reader_blob(reader, string);
	char	   *encoded;

	if (string == NULL)
		return;
	if (blob == NULL)
	{
		sparky_json_text_add(text, string, length);
		return;
	}
	encoded = malloc(SPARKY_BASE64_LENGTH(blob->length) + 1);
	if (encoded == NULL || blob->data == NULL)
		text->failed = true;
	else
		sparky_json_text_add(text, encoded,
							 sparky_base64_encode(blob->data + reader->headroom, blob->length, encoded));
	free(encoded);
}

static Outcome
accept_analysis(Reading *reading, const JsonValue *analysis)
{
	if (reading->response_schema != NULL && !satisfies_schema(reading->response_schema, analysis))
		return OUTCOME_INVALID_OUTPUT;
	reading->answer->analysis = keep_json(reading, analysis, SIZE_MAX);
	return reading->answer->analysis != NULL ? OUTCOME_OK : OUTCOME_INVALID_OUTPUT;
}

static bool
satisfies_schema(const char *schema_text, const JsonValue *analysis)
{
	JsonValue  *schema = sparky_json_parse(schema_text, strlen(schema_text), NULL, 0);
	bool		satisfied = schema != NULL && sparky_schema_usable(schema, NULL, 0) &&
		sparky_schema_accepts(schema, analysis, false, NULL, NULL, NULL, 0);

	sparky_json_free(schema);
	return satisfied;
}

/* ---- texts that are kept ---- */

/* A copy without the key, at most limit bytes; NULL for what is no string, is empty, or does not fit in memory. */
static char *
keep_string(const Reading *reading, const JsonValue *value, size_t limit)
{
	size_t		length;
	const char *string = sparky_json_string(value, &length);
	JsonText	text = {0};

	if (string == NULL || length == 0)
		return NULL;
	/* Before the cut, which could leave half a key. */
	scrub(&text, string, length, reading->secret, reading->secret != NULL ? strlen(reading->secret) : 0);
	if (text.failed)
	{
		sparky_json_text_free(&text);
		return NULL;
	}
	text.data[sparky_utf8_cut(text.data, text.length, limit)] = '\0';
	return text.data;
}

/* The same for an object or array as JSON text, which is never cut: NULL if it is too long. */
static char *
keep_json(const Reading *reading, const JsonValue *value, size_t limit)
{
	char	   *printed;
	JsonText	secret = {0};
	JsonText	text = {0};

	if (sparky_json_kind(value) != JSON_KIND_OBJECT && sparky_json_kind(value) != JSON_KIND_ARRAY)
		return NULL;
	printed = sparky_json_print(value);
	if (printed == NULL)
		return NULL;
	if (reading->secret != NULL)
		sparky_json_text_add_string(&secret, reading->secret, strlen(reading->secret));
	/* As it is written inside a JSON string: without the quotes around it. */
	if (scrub(&text, printed, strlen(printed), secret.length > 2 ? secret.data + 1 : NULL,
			  secret.length > 2 ? secret.length - 2 : 0) && !text.failed)
	{
		/* A key of digits could have been part of a number, which *** is not. */
		JsonValue  *again = sparky_json_parse(text.data, text.length, NULL, 0);

		if (again == NULL)
			text.failed = true;
		sparky_json_free(again);
	}
	free(printed);
	if (text.failed || secret.failed || text.length > limit)
		sparky_json_text_free(&text);
	sparky_json_text_free(&secret);
	return text.data;
}

/* Copies text with every occurrence of the secret replaced; true if there was one. */
static bool
scrub(JsonText *out, const char *text, size_t length, const char *secret, size_t secret_length)
{
	const char *end = text + length;
	bool		found = false;

	while (secret_length > 0)
	{
		const char *hit = memmem(text, end - text, secret, secret_length);

		if (hit == NULL)
			break;
		sparky_json_text_add(out, text, hit - text);
		sparky_json_text_puts(out, SECRET_REPLACEMENT);
		text = hit + secret_length;
		found = true;
	}
	sparky_json_text_add(out, text, end - text);
	return found;
}
