/*
 * fuzz_gemini.c: libFuzzer over everything that reads bytes from outside.
 *
 * The first bytes choose kind, status, caps and the size of the pieces; the
 * rest is the body.  The same bytes also go through the image reader, the JSON
 * parser and printers, and as a schema.  Beyond what the sanitizers see, a few
 * promises are asserted: the end of this file says which.
 */
#include <stdlib.h>
#include <string.h>

#include "canonical_json.h"
#include "gemini.h"
#include "image.h"
#include "json_schema.h"

#define PROMISE(held) do { if (!(held)) abort(); } while (0)

static void fuzz_answer(const uint8_t *data, size_t size);
static void fuzz_json(const uint8_t *data, size_t size);
static void fuzz_image(const uint8_t *data, size_t size);
static void check_text(const char *text, size_t limit);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fuzz_answer(data, size);
	fuzz_json(data, size);
	fuzz_image(data, size);
	return 0;
}

static void
fuzz_answer(const uint8_t *data, size_t size)
{
	static const int statuses[] = {200, 200, 200, 200, 200, 200, 400, 429, 403, 500, 503, 302, 0};
	static const uint8_t nonce[16] = "fuzz";
	GeminiReader *reader;
	GeminiAnswer answer;
	size_t		headroom;
	size_t		step;
	const char *schema;
	bool		fed = true;

	if (size < 4)
		return;
	headroom = data[0] % 8;
	step = 1 + data[1];
	schema = data[2] % 2 ? "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":[\"string\",\"integer\"],\"maxLength\":3}}}" : NULL;
	reader = sparky_gemini_reader_start(data[3] % 2 ? KIND_ANALYSIS : KIND_IMAGE, nonce, data[3] % 4 ? 100000 : 1200, headroom);
	for (size_t at = 4; at < size && fed; at += step)
		fed = sparky_gemini_reader_add(reader, (const char *) data + at, size - at < step ? size - at : step);
	sparky_gemini_reader_memory(reader);
	sparky_gemini_read(reader, fed ? TRANSPORT_DONE : TRANSPORT_STOPPED, statuses[data[2] % 13], "application/json", schema, "key", &answer);

	PROMISE((answer.outcome == OUTCOME_OK) == (answer.image != NULL || answer.analysis != NULL));
	PROMISE(answer.outcome < OUTCOME_COUNT && (fed || answer.outcome != OUTCOME_OK));
	if (answer.image != NULL)
	{
		ImageInfo	info;

		PROMISE(sparky_image_read(answer.image, answer.image_length, &info, NULL) && info.type == answer.image_info.type);
		memset(answer.image - headroom, 0, headroom);
	}
	check_text(answer.finish_message, 500);
	check_text(answer.finish_reason, 200);
	check_text(answer.model_version, 200);
	check_text(answer.response_id, 200);
	check_text(answer.usage, 8000);
	check_text(answer.analysis, SIZE_MAX);
	sparky_gemini_answer_free(&answer);
	sparky_gemini_reader_free(reader);
}

static void
fuzz_json(const uint8_t *data, size_t size)
{
	JsonText	clean = {0};
	JsonText	canonical = {0};
	JsonText	again = {0};
	char		why[64];
	JsonValue  *value;

	sparky_json_clean(&clean, (const char *) data, size);
	PROMISE(clean.failed || sparky_utf8_valid(clean.data ? clean.data : "", clean.length));
	value = sparky_json_parse(clean.data, clean.length, why, sizeof(why));
	PROMISE(value != NULL || (why[0] != '\0' && sparky_utf8_valid(why, strlen(why))));
	if (value != NULL)
	{
		char	   *printed = sparky_json_print(value);
		JsonValue  *second = sparky_json_parse(printed, strlen(printed), why, sizeof(why));

		PROMISE(second != NULL);
		/* The canonical form of the canonical form is itself. */
		if (sparky_jcs_add(&canonical, value))
		{
			PROMISE(sparky_jcs_add_text(&again, canonical.data, canonical.length, why, sizeof(why)));
			PROMISE(strcmp(canonical.data, again.data) == 0);
		}
		if (sparky_schema_usable(value, why, sizeof(why)))
			sparky_schema_accepts(value, second, true, NULL, NULL, why, sizeof(why));
		PROMISE(sparky_utf8_valid(why, strlen(why)));
		sparky_json_free(second);
		sparky_json_free(value);
		free(printed);
	}
	sparky_json_text_free(&clean);
	sparky_json_text_free(&canonical);
	sparky_json_text_free(&again);
}

static void
fuzz_image(const uint8_t *data, size_t size)
{
	ImageInfo	info;
	const char *why;
	uint8_t    *exact = malloc(size > 0 ? size : 1);

	memcpy(exact, data, size);
	if (sparky_image_read(exact, size, &info, &why))
		PROMISE(info.type != IMAGE_NONE && (uint64_t) info.width * info.height - 1 < SPARKY_MAX_PIXELS);
	else
		PROMISE(why != NULL);
	free(exact);
}

/* What goes into tables: valid UTF-8, capped, without the key. */
static void
check_text(const char *text, size_t limit)
{
	if (text != NULL)
		PROMISE(strlen(text) <= limit && sparky_utf8_valid(text, strlen(text)) && strstr(text, "key") == NULL);
}
