/*
 * gemini_answers.h: answers of Gemini for the tests: made, fed to the reader in
 * pieces, and read.
 */
#ifndef SPARKY_GEMINI_ANSWERS_H
#define SPARKY_GEMINI_ANSWERS_H

#include "gemini.h"
#include "crypto.h"
#include "tap.h"

#define MEGABYTE (1024 * 1024)
#define HEADROOM 16
#define SECRET "AQ.secret-key-0123456789"

static const uint8_t nonce[16] = "0123456789abcde";
static const char analysis_schema[] =
	"{\"type\":\"object\",\"properties\":{\"shape\":{\"type\":\"string\"},\"sure\":{\"type\":\"number\",\"minimum\":0,\"maximum\":1}},"
	"\"required\":[\"shape\"]}";

/* One answer, read; the reader is kept, since it owns the image. */
typedef struct Read
{
	GeminiReader *reader;
	GeminiAnswer answer;
	bool		fed;			/* the reader took all of it */
} Read;

typedef struct How
{
	GenerationKind kind;
	TransportResult transport;
	int			status;
	const char *content_type;
	const char *schema;
	const char *secret;
	size_t		step;
	size_t		max_bytes;
} How;

static const How usual = {KIND_IMAGE, TRANSPORT_DONE, 200, "application/json; charset=UTF-8", NULL, SECRET, 1000, 8 * MEGABYTE};

static inline Read
read_bytes(const char *body, size_t length, How how)
{
	Read		read = {sparky_gemini_reader_start(how.kind, nonce, how.max_bytes, HEADROOM), {0}, true};

	for (size_t at = 0; at < length && read.fed; at += how.step)
	{
		size_t		part = length - at < how.step ? length - at : how.step;
		char	   *exact = malloc(part);	/* so that a sanitizer sees each byte too far */

		memcpy(exact, body + at, part);
		read.fed = sparky_gemini_reader_add(read.reader, exact, part);
		free(exact);
	}
	sparky_gemini_read(read.reader, read.fed ? how.transport : TRANSPORT_STOPPED, how.status, how.content_type,
					   how.schema, how.secret, &read.answer);
	return read;
}

static inline void
end_read(Read *read)
{
	sparky_gemini_answer_free(&read->answer);
	sparky_gemini_reader_free(read->reader);
}

static inline bool
outcome(const char *body, How how, Outcome expected, const char *name)
{
	Read		read = read_bytes(body, strlen(body), how);
	bool		same = read.answer.outcome == expected;

	if (!ok(same, "%s: %s", sparky_outcome_name(expected), name))
		printf("# got: %s\n", sparky_outcome_name(read.answer.outcome));
	if (expected != OUTCOME_OK && (read.answer.image != NULL || read.answer.analysis != NULL))
		ok(false, "  a failure must give nothing");
	end_read(&read);
	return same;
}

/* ---- bodies: malloc'd, kept, and freed together at the end of each test ---- */

static void *kept[20000];
static int	kept_count;

static inline void *
keep(void *memory)
{
	if (memory == NULL || kept_count == sizeof(kept) / sizeof(kept[0]))
		abort();
	return kept[kept_count++] = memory;
}

static inline void
free_kept(void)
{
	while (kept_count > 0)
		free(kept[--kept_count]);
}

__attribute__((format(printf, 1, 2)))
static inline char *
text(const char *format, ...)
{
	char	   *result;
	va_list		arguments;

	va_start(arguments, format);
	if (vasprintf(&result, format, arguments) < 0)
		abort();
	va_end(arguments);
	return keep(result);
}

static inline char *
base64(const uint8_t *bytes, size_t length)
{
	char	   *encoded = keep(malloc(SPARKY_BASE64_LENGTH(length) + 1));

	sparky_base64_encode(bytes, length, encoded);
	return encoded;
}

static inline char *
fixture64(const char *name)
{
	size_t		length;
	uint8_t    *bytes = read_fixture(name, &length);

	return base64(keep(bytes), length);
}

static inline char *
candidate(const char *finish, const char *parts)
{
	return text("{\n  \"candidates\": [\n    {\"content\": {\"parts\": [%s], \"role\": \"model\"}, \"finishReason\": \"%s\", \"index\": 0}\n  ],\n"
				"  \"usageMetadata\": {\"promptTokenCount\": 1290, \"candidatesTokenCount\": 1120, \"totalTokenCount\": 2410},\n"
				"  \"modelVersion\": \"gemini-nano-banana-2.1\",\n  \"responseId\": \"Rm9vQmFy\"\n}", parts, finish);
}

static inline char *
image_part(const char *mime, const char *data, const char *more)
{
	return text("{\"inlineData\": {\"mimeType\": \"%s\", \"data\": \"%s\"}%s}", mime, data, more);
}

static inline char *
image_answer(const char *fixture)
{
	return candidate("STOP", image_part("image/png", fixture64(fixture), ""));
}

static inline char *
error_body(int code, const char *status, const char *message, const char *details)
{
	return text("{\"error\":{\"code\":%d,\"message\":\"%s\",\"status\":\"%s\",\"details\":[%s]}}", code, message, status, details);
}

#define QUOTA(id) "{\"@type\":\"type.googleapis.com/google.rpc.QuotaFailure\",\"violations\":[{\"quotaMetric\":\"m\",\"quotaId\":\"" id "\"}]}"
#define RETRY(delay) "{\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\",\"retryDelay\":\"" delay "\"}"
#define KEY_INVALID "{\"@type\":\"type.googleapis.com/google.rpc.ErrorInfo\",\"reason\":\"API_KEY_INVALID\",\"domain\":\"googleapis.com\"}"
#define EXHAUSTED "You exceeded your current quota, please check your plan and billing details."

/* The bytes of the answer's image are those of the fixture, with room before them. */
static inline void
gives(const char *body, How how, const char *fixture, ImageType type, const char *name)
{
	Read		read = read_bytes(body, strlen(body), how);
	size_t		length;
	uint8_t    *bytes = read_fixture(fixture, &length);

	if (!ok(read.answer.outcome == OUTCOME_OK && read.answer.image_length == length &&
			memcmp(read.answer.image, bytes, length) == 0 && read.answer.image_info.type == type &&
			read.answer.image_info.width == 40 && read.answer.image_info.height == 30, "%s", name))
		printf("# outcome %s, %zu bytes\n", sparky_outcome_name(read.answer.outcome), read.answer.image_length);
	if (read.answer.image != NULL)
		memset(read.answer.image - HEADROOM, 0xAA, HEADROOM);
	end_read(&read);
	free(bytes);
}

/* Every test begins with nothing kept. */
static inline int
run_tests(void (*const *tests) (void), size_t count)
{
	for (size_t i = 0; i < count; i++)
	{
		tests[i] ();
		free_kept();
	}
	return done();
}

#endif
