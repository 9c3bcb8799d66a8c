/*
 * test_gemini.c: what an answer means, from its bytes: pictures, analyses,
 * refusals, and how much of it is taken.
 */
#include "gemini_answers.h"

/* ---- images ---- */

static void
test_image(void)
{
	static const size_t steps[] = {1, 2, 3, 5, 7, 64, 257, 1000, 4096, 100000};
	char	   *png = fixture64("gradient.png");
	char	   *jpeg = fixture64("gradient.jpg");
	char	   *progressive = fixture64("progressive.jpg");
	char	   *tiny = fixture64("lossless.webp");
	char	   *body = image_answer("gradient.png");
	Read		read;

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
	{
		How			how = usual;

		how.step = steps[i];
		gives(body, how, "gradient.png", IMAGE_PNG, text("an image in pieces of %zu bytes", steps[i]));
	}

	read = read_bytes(body, strlen(body), usual);
	is_text(read.answer.finish_reason, "STOP", "finish reason");
	is_text(read.answer.model_version, "gemini-nano-banana-2.1", "model version");
	is_text(read.answer.response_id, "Rm9vQmFy", "response id");
	is_text(read.answer.usage, "{\"promptTokenCount\":1290,\"candidatesTokenCount\":1120,\"totalTokenCount\":2410}", "usage");
	ok(read.answer.finish_message == NULL && read.answer.analysis == NULL && read.answer.retry_after == -1, "and nothing else");
	end_read(&read);

	gives(candidate("STOP", image_part("image/png", jpeg, "")), usual, "gradient.jpg", IMAGE_JPEG, "the sniffed type decides, not the declared one");
	gives(candidate("STOP", image_part("image/webp", tiny, "")), usual, "lossless.webp", IMAGE_WEBP, "an image of fewer than 256 characters");
	gives(candidate("STOP", text("{\"text\": \"Here is your \\\"photo\\\":\"}, %s, {\"text\": \"Enjoy.\"}", image_part("image/png", png, ""))),
		  usual, "gradient.png", IMAGE_PNG, "text before and after");
	gives(candidate("STOP", text("%s, %s, %s", image_part("image/png", jpeg, ", \"thought\": true"),
								 image_part("image/png", progressive, ", \"thought\": true"), image_part("image/png", png, ""))),
		  usual, "gradient.png", IMAGE_PNG, "thought images before the final one");
	gives(candidate("STOP", text("%s, %s", image_part("image/png", png, ""), image_part("image/png", jpeg, ", \"thought\": true"))),
		  usual, "gradient.png", IMAGE_PNG, "a thought image after it");
	gives(candidate("STOP", text("%s, %s", image_part("image/png", png, ""), image_part("image/jpeg", progressive, ""))),
		  usual, "progressive.jpg", IMAGE_JPEG, "of two the last");
	gives(candidate("STOP", text("%s, %s", image_part("image/png", jpeg, ", \"thought\": true"), image_part("image/png", png, ", \"thought\": true"))),
		  usual, "gradient.png", IMAGE_PNG, "only thoughts: the last of them");
	gives(candidate("STOP", text("%s, %s", image_part("image/png", png, text(", \"thoughtSignature\": \"%s\"", progressive)),
								 image_part("audio/wav", jpeg, ""))),
		  usual, "gradient.png", IMAGE_PNG, "a signature and a sound are no images");
	gives(candidate("STOP", text("{\"text\": \"%.*s and so on\"}, {\"text\": \"%s\"}, %s", 2000, png, jpeg, image_part("image/png", png, ""))),
		  usual, "gradient.png", IMAGE_PNG, "texts that look like base64");
	gives(candidate("STOP", text("{\"text\": \"\\u0000 \\ud800 \\ude00 \xFF \xC3 tab\there\"}, %s", image_part("image/png", png, ""))),
		  usual, "gradient.png", IMAGE_PNG, "a text that PostgreSQL could not take does not cost the image");

	gives(text("{\"counter\": 12345678901234567890123, %s", body + 1), usual, "gradient.png", IMAGE_PNG, "a number beyond int64 does not cost it either");

	gives(body, (How) {KIND_IMAGE, TRANSPORT_DONE, 200, NULL, NULL, NULL, 1000, 8 * MEGABYTE}, "gradient.png", IMAGE_PNG, "no content type at all");
	gives(body, (How) {KIND_IMAGE, TRANSPORT_DONE, 200, "Application/JSON", NULL, "", 1000, 8 * MEGABYTE}, "gradient.png", IMAGE_PNG, "a content type in capitals");
}

/* Base64 may be written with JSON's escapes: / as \/ or \u002f, + and = as \uXXXX. */
static void
test_escapes(void)
{
	static const char *const fixtures[] = {"gradient.png", "gradient.jpg", "lossless.webp"};

	for (int f = 0; f < 3; f++)
	{
		char	   *plain = fixture64(fixtures[f]);
		char	   *escaped = keep(calloc(1, 6 * strlen(plain) + 1));
		char	   *all = keep(calloc(1, 6 * strlen(plain) + 1));

		for (const char *c = plain; *c != '\0'; c++)
		{
			if (*c == '/')
				strcat(escaped, "\\/");
			else
				sprintf(escaped + strlen(escaped), strchr("+=Q", *c) != NULL ? "\\u%04X" : "%c", *c);
			sprintf(all + strlen(all), "\\u%04x", *c);
		}
		for (size_t step = 1; step < 9; step++)
		{
			How			how = usual;

			how.step = step;
			gives(candidate("STOP", image_part("image/png", escaped, "")), how, fixtures[f],
				  f == 0 ? IMAGE_PNG : f == 1 ? IMAGE_JPEG : IMAGE_WEBP, text("%s with escapes, in pieces of %zu", fixtures[f], step));
		}
		gives(candidate("STOP", image_part("image/png", all, "")), usual, fixtures[f],
			  f == 0 ? IMAGE_PNG : f == 1 ? IMAGE_JPEG : IMAGE_WEBP, text("%s in nothing but escapes", fixtures[f]));
	}
}

static void
test_bad_images(void)
{
	char	   *png = fixture64("gradient.png");
	size_t		length = strlen(png);
	char	   *bad;

	outcome(candidate("STOP", image_part("image/png", text("%.*s", (int) length - 1, png), "")), usual, OUTCOME_INVALID_OUTPUT, "base64 in mid-quantum");
	outcome(candidate("STOP", image_part("image/png", text("%.*s", (int) length / 2 / 4 * 4, png), "")), usual, OUTCOME_INVALID_OUTPUT, "half of an image");
	outcome(candidate("STOP", image_part("image/png", text("%s%s", png, png), "")), usual,
			strchr(png, '=') != NULL ? OUTCOME_INVALID_OUTPUT : OUTCOME_OK, "base64 after its padding");
	for (size_t at = 0; at < length; at += 311)
	{
		bad = keep(strdup(png));
		bad[at] = '-';
		outcome(candidate("STOP", image_part("image/png", bad, "")), usual, OUTCOME_INVALID_OUTPUT, text("a '-' at %zu", at));
		bad[at] = '=';
		outcome(candidate("STOP", image_part("image/png", bad, "")), usual, OUTCOME_INVALID_OUTPUT, text("a '=' at %zu", at));
		outcome(candidate("STOP", image_part("image/png", text("%.*s\\n%s", (int) at, png, png + at), "")), usual, OUTCOME_INVALID_OUTPUT,
				text("a line feed at %zu", at));
		outcome(candidate("STOP", image_part("image/png", text("%.*s\\u0000%s", (int) at, png, png + at), "")), usual, OUTCOME_INVALID_OUTPUT,
				text("a \\u0000 at %zu", at));
	}
	outcome(candidate("STOP", image_part("image/png", "", "")), usual, OUTCOME_INVALID_OUTPUT, "no data");
	outcome(candidate("STOP", "{\"inlineData\": {\"mimeType\": \"image/png\"}}"), usual, OUTCOME_NO_IMAGE, "no data member");
	outcome(candidate("STOP", "{\"inlineData\": {\"mimeType\": \"image/png\", \"data\": 5}}"), usual, OUTCOME_INVALID_OUTPUT, "data that is a number");
	outcome(candidate("STOP", image_part("image/png", base64((const uint8_t *) "this is no image at all", 23), "")), usual, OUTCOME_INVALID_OUTPUT, "base64 of no image");
	outcome(candidate("STOP", image_part("image/png", fixture64("gradient.gif"), "")), usual, OUTCOME_INVALID_OUTPUT, "a GIF");
	outcome(candidate("STOP", image_part("text/plain", png, "")), usual, OUTCOME_NO_IMAGE, "an attachment that is no image");
	/* A marker that the model wrote itself, with a nonce that it could not know, and one for a number that is none. */
	outcome(candidate("STOP", text("%s, %s", image_part("image/png", png, ""),
								   image_part("image/png", "sparky-blob:00000000000000000000000000000000:0", ""))), usual, OUTCOME_INVALID_OUTPUT, "a forged marker");
	outcome(candidate("STOP", text("%s, %s", image_part("image/png", png, ""),
								   image_part("image/png", "sparky-blob:30313233343536373839616263646500:99", ""))), usual, OUTCOME_INVALID_OUTPUT, "a marker out of range");
}

/* ---- refusals and other endings ---- */

static void
test_finish_reasons(void)
{
	static const struct
	{
		const char *reason;
		Outcome		outcome;
	}			rows[] = {
		{"STOP", OUTCOME_OK}, {"MAX_TOKENS", OUTCOME_TRUNCATED}, {"CONTINUATION", OUTCOME_TRUNCATED},
		{"SAFETY", OUTCOME_BLOCKED_OUTPUT}, {"IMAGE_SAFETY", OUTCOME_BLOCKED_OUTPUT}, {"PROHIBITED_CONTENT", OUTCOME_BLOCKED_OUTPUT},
		{"IMAGE_PROHIBITED_CONTENT", OUTCOME_BLOCKED_OUTPUT}, {"BLOCKLIST", OUTCOME_BLOCKED_OUTPUT}, {"SPII", OUTCOME_BLOCKED_OUTPUT},
		{"RECITATION", OUTCOME_BLOCKED_OUTPUT}, {"IMAGE_RECITATION", OUTCOME_BLOCKED_OUTPUT},
		{"NO_IMAGE", OUTCOME_NO_IMAGE}, {"IMAGE_OTHER", OUTCOME_NO_IMAGE}, {"OTHER", OUTCOME_NO_IMAGE}, {"LANGUAGE", OUTCOME_NO_IMAGE},
		{"MALFORMED_FUNCTION_CALL", OUTCOME_INVALID_OUTPUT}, {"UNEXPECTED_TOOL_CALL", OUTCOME_INVALID_OUTPUT},
		{"TOO_MANY_TOOL_CALLS", OUTCOME_INVALID_OUTPUT}, {"MISSING_THOUGHT_SIGNATURE", OUTCOME_INVALID_OUTPUT},
		{"MALFORMED_RESPONSE", OUTCOME_INVALID_OUTPUT},
		{"FINISH_REASON_UNSPECIFIED", OUTCOME_NO_IMAGE}, {"SOMETHING_NEW_IN_2027", OUTCOME_NO_IMAGE}, {"", OUTCOME_NO_IMAGE}, {"stop", OUTCOME_NO_IMAGE},
	};
	char	   *part = image_part("image/png", fixture64("gradient.png"), "");
	Read		read;
	char	   *body;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
	{
		/* Even with a sound image: an image without STOP is not what was asked for. */
		outcome(candidate(rows[i].reason, part), usual, rows[i].outcome, text("finishReason %s with an image", rows[i].reason));
		body = text("{\"candidates\":[{\"finishReason\":\"%s\",\"finishMessage\":\"You will not be charged for this request.\"}]}", rows[i].reason);
		outcome(body, usual, rows[i].outcome == OUTCOME_OK ? OUTCOME_NO_IMAGE : rows[i].outcome, text("finishReason %s without content", rows[i].reason));
	}
	body = "{\"candidates\":[{\"finishReason\":\"SOMETHING_NEW\",\"finishMessage\":\"You will not be charged for this request.\"}],\"responseId\":\"r\"}";
	read = read_bytes(body, strlen(body), usual);
	is_text(read.answer.finish_reason, "SOMETHING_NEW", "an unknown finish reason is kept");
	is_text(read.answer.finish_message, "You will not be charged for this request.", "the finish message is kept");
	is_text(read.answer.response_id, "r", "a refusal's response id is kept");
	end_read(&read);
	outcome(text("{\"candidates\":[{\"content\":{\"parts\":[%s]}}]}", part), usual, OUTCOME_NO_IMAGE, "an image without a finishReason");
}

static void
test_refusals(void)
{
	const char *body = "{\"promptFeedback\":{\"blockReason\":\"IMAGE_SAFETY\",\"blockReasonMessage\":\"no\"},\"usageMetadata\":{\"promptTokenCount\":5},\"modelVersion\":\"m\"}";
	Read		read = read_bytes(body, strlen(body), usual);

	is_number(read.answer.outcome, OUTCOME_BLOCKED_PROMPT, "(a) no candidates but promptFeedback");
	is_text(read.answer.finish_reason, "IMAGE_SAFETY", "  its reason");
	is_text(read.answer.finish_message, "no", "  its message");
	is_text(read.answer.usage, "{\"promptTokenCount\":5}", "  its cost");
	end_read(&read);
	outcome("{\"candidates\":[],\"promptFeedback\":{\"blockReason\":\"JAILBREAK\"}}", usual, OUTCOME_BLOCKED_PROMPT, "(a) with an empty list, an unknown reason");
	outcome("{\"candidates\":[{\"content\":{},\"finishReason\":\"IMAGE_SAFETY\",\"index\":0}]}", usual, OUTCOME_BLOCKED_OUTPUT, "(b) a reason with content {}");
	outcome("{\"candidates\":[{\"finishReason\":\"PROHIBITED_CONTENT\",\"index\":0}]}", usual, OUTCOME_BLOCKED_OUTPUT, "(b) a reason without content");
	outcome(candidate("STOP", "{\"text\":\"I cannot do that.\"}"), usual, OUTCOME_NO_IMAGE, "(c) STOP with text only");
	outcome(candidate("STOP", ""), usual, OUTCOME_NO_IMAGE, "(d) STOP with nothing");
	outcome("{\"candidates\":[{\"finishReason\":\"STOP\"}]}", usual, OUTCOME_NO_IMAGE, "(d) STOP without content");
	outcome("{\"candidates\":[{\"finishReason\":\"STOP\",\"content\":{\"parts\":null}}]}", usual, OUTCOME_NO_IMAGE, "(d) parts null");
	outcome("{}", usual, OUTCOME_NO_IMAGE, "an empty object");
	outcome("{\"candidates\":{\"0\":1},\"promptFeedback\":[]}", usual, OUTCOME_NO_IMAGE, "members of the wrong kind");
	outcome("{\"candidates\":[7]}", usual, OUTCOME_NO_IMAGE, "a candidate that is a number");
	outcome("{\"candidates\":[{\"finishReason\":\"STOP\",\"content\":{\"parts\":[1,null,\"x\",[],{\"inlineData\":3}]}}]}", usual, OUTCOME_NO_IMAGE, "parts of the wrong kind");
}

static void
test_broken_envelopes(void)
{
	char	   *good = image_answer("gradient.png");
	How			how = usual;
	JsonText	deep = {0};

	outcome("", usual, OUTCOME_INVALID_OUTPUT, "nothing");
	outcome("[]", usual, OUTCOME_INVALID_OUTPUT, "a list");
	outcome("null", usual, OUTCOME_INVALID_OUTPUT, "null");
	outcome("\"text\"", usual, OUTCOME_INVALID_OUTPUT, "a string");
	outcome(text("%s%s", good, good), usual, OUTCOME_INVALID_OUTPUT, "two answers");
	outcome(text("%s x", good), usual, OUTCOME_INVALID_OUTPUT, "text after the end");
	outcome(text("{\"candidates\":[],%s", good + 1), usual, OUTCOME_INVALID_OUTPUT, "a key twice");
	for (int i = 0; i < 100000; i++)
		sparky_json_text_puts(&deep, "[");
	outcome(deep.data, usual, OUTCOME_INVALID_OUTPUT, "100000 brackets");
	sparky_json_text_free(&deep);

	how.content_type = "text/html";
	outcome(good, how, OUTCOME_INVALID_OUTPUT, "a sound answer as text/html");
	how.content_type = "application/jsonp";
	outcome(good, how, OUTCOME_INVALID_OUTPUT, "a sound answer as application/jsonp");
	how = usual;
	how.status = 204;
	outcome("", how, OUTCOME_INVALID_OUTPUT, "204");
	how.status = 206;
	outcome(good, how, OUTCOME_INVALID_OUTPUT, "206");
	how.status = 0;
	outcome("", how, OUTCOME_NETWORK, "no status at all");
}

static void
test_transport(void)
{
	char	   *good = image_answer("gradient.png");
	static const struct
	{
		TransportResult transport;
		Outcome		outcome;
	}			rows[] = {
		{TRANSPORT_CONNECT_FAILED, OUTCOME_CONNECT}, {TRANSPORT_TLS_FAILED, OUTCOME_CONNECT}, {TRANSPORT_RESET, OUTCOME_NETWORK},
		{TRANSPORT_TIMEOUT, OUTCOME_TIMEOUT}, {TRANSPORT_STOPPED, OUTCOME_TOO_LARGE},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
	{
		How			how = usual;

		how.transport = rows[i].transport;
		outcome(good, how, rows[i].outcome, text("a sound answer, transport %d", rows[i].transport));
		how.status = 0;
		outcome("", how, rows[i].outcome, text("no status, transport %d", rows[i].transport));
	}
}

static void
test_caps(void)
{
	char	   *png = fixture64("gradient.png");
	char	   *body = candidate("STOP", image_part("image/png", png, ""));
	How			how = usual;
	Read		read;
	char	   *space = malloc(3 * MEGABYTE);
	JsonText	many = {0};

	how.max_bytes = 2327;		/* exactly the image; a quarter of it is enough for the text */
	gives(body, how, "gradient.png", IMAGE_PNG, "an image as large as the cap");
	how.max_bytes = 2326;
	outcome(body, how, OUTCOME_TOO_LARGE, "an image of one byte more");
	read = read_bytes(body, strlen(body), how);
	ok(!read.fed && !sparky_gemini_reader_add(read.reader, "x", 1), "a stopped reader stays stopped");
	end_read(&read);
	/* The transport should stop; when it does not listen, the answer is still no image. */
	read.reader = sparky_gemini_reader_start(KIND_IMAGE, nonce, 2326, HEADROOM);
	sparky_gemini_reader_add(read.reader, body, strlen(body));
	sparky_gemini_read(read.reader, TRANSPORT_DONE, 200, "application/json", NULL, NULL, &read.answer);
	is_number(read.answer.outcome, OUTCOME_TOO_LARGE, "also when the transport went on");
	end_read(&read);

	how.max_bytes = 2 * 2327 + 2000;
	gives(candidate("STOP", text("%s,%s", image_part("image/png", png, ", \"thought\":true"), image_part("image/png", png, ""))), how,
		  "gradient.png", IMAGE_PNG, "two images within the cap");
	how.max_bytes = 2 * 2327 - 1;
	outcome(candidate("STOP", text("%s,%s", image_part("image/png", png, ", \"thought\":true"), image_part("image/png", png, ""))), how,
			OUTCOME_TOO_LARGE, "the cap is for all images together");

	memset(space, ' ', 3 * MEGABYTE);
	space[3 * MEGABYTE - 1] = '\0';
	outcome(text("{%s}", space), usual, OUTCOME_TOO_LARGE, "white space without end");
	outcome(candidate("STOP", text("{\"text\":\"%s\"}", space)), usual, OUTCOME_TOO_LARGE, "a text without end");
	memset(space, 'A', 3 * MEGABYTE - 1);
	outcome(candidate("STOP", text("{\"text\":\"%s*\"}", space)), usual, OUTCOME_NO_IMAGE, "nearly base64, too long to be a text: dropped");
	outcome(candidate("STOP", image_part("image/png", text("%s*", space), "")), usual, OUTCOME_INVALID_OUTPUT, "and as an image it is invalid");
	how = usual;
	how.status = 500;
	memset(space, ' ', 3 * MEGABYTE - 1);
	outcome(space, how, OUTCOME_UPSTREAM, "an endless error page: its status counts");

	/* Many small blobs: the text of their markers is capped too, and each number is its own. */
	for (int i = 0; i < 500; i++)
		sparky_json_text_puts(&many, text("%s,", image_part("image/png", fixture64("gradient.jpg"), "")));
	sparky_json_text_puts(&many, image_part("image/png", png, ""));
	gives(candidate("STOP", many.data), usual, "gradient.png", IMAGE_PNG, "the last of 501 images");
	sparky_json_text_free(&many);
	free(space);
}

static void
test_memory(void)
{
	size_t		length = 6 * MEGABYTE;
	uint8_t    *bytes = calloc(1, length);
	size_t		png_length;
	uint8_t    *png = read_fixture("gradient.png", &png_length);
	char	   *body;
	char	   *plain;
	char	   *escaped;
	Read		read;
	size_t		before;

	memcpy(bytes, png, png_length);		/* a sound image with a long tail */
	body = candidate("STOP", text("%s,%s", image_part("image/png", fixture64("gradient.jpg"), ", \"thought\":true"), image_part("image/png", base64(bytes, length), "")));
	read.reader = sparky_gemini_reader_start(KIND_IMAGE, nonce, 8 * MEGABYTE, HEADROOM);
	ok(sparky_gemini_reader_memory(read.reader) < 16384, "an empty reader is small");
	for (size_t at = 0; at < strlen(body); at += MEGABYTE)
		sparky_gemini_reader_add(read.reader, body + at, strlen(body + at) < MEGABYTE ? strlen(body + at) : MEGABYTE);
	before = sparky_gemini_reader_memory(read.reader);
	ok(before > length && before < length + 100000, "six megabytes are held once: %zu", before);
	sparky_gemini_read(read.reader, TRANSPORT_DONE, 200, "application/json", NULL, NULL, &read.answer);
	ok(read.answer.outcome == OUTCOME_OK && read.answer.image_length == length && memcmp(read.answer.image, bytes, length) == 0, "and are the same");
	ok(sparky_gemini_reader_memory(read.reader) < before, "the thought's image is freed");
	end_read(&read);

	/* Escapes must not make an image a text: this one is larger than a text may be. */
	memset(bytes + png_length, 0xFF, 1000);
	plain = base64(bytes, length);
	escaped = keep(calloc(1, 2 * strlen(plain) + 1));
	for (size_t from = 0, to = 0; plain[from] != '\0'; from++)
	{
		if (plain[from] == '/')
			escaped[to++] = '\\';
		escaped[to++] = plain[from];
	}
	body = candidate("STOP", image_part("image/png", escaped, ""));
	read = read_bytes(body, strlen(body), usual);
	ok(read.answer.outcome == OUTCOME_OK && read.answer.image_length == length && memcmp(read.answer.image, bytes, length) == 0,
	   "six megabytes with escaped slashes");
	end_read(&read);

	body = candidate("SAFETY", image_part("image/png", base64(bytes, length), ""));
	read = read_bytes(body, strlen(body), usual);
	ok(sparky_gemini_reader_memory(read.reader) < 100000, "a refused answer's image is freed");
	end_read(&read);
	sparky_gemini_reader_free(NULL);
	free(bytes);
	free(png);
}

/* ---- analysis ---- */

static void
analysis(const char *parts, const char *finish, Outcome expected, const char *json, const char *name)
{
	char	   *body = candidate(finish, parts);

	for (size_t step = 1; step < 2000; step = step * 10 + 1)
	{
		How			how = usual;
		Read		read;

		how.kind = KIND_ANALYSIS;
		how.schema = analysis_schema;
		how.step = step;
		read = read_bytes(body, strlen(body), how);
		if (read.answer.outcome != expected || (json != NULL) != (read.answer.analysis != NULL) ||
			(json != NULL && strcmp(json, read.answer.analysis) != 0) || step == 1111)
		{
			ok(read.answer.outcome == expected, "%s: %s", sparky_outcome_name(expected), name);
			is_text(read.answer.analysis, json, "  the analysis");
			end_read(&read);
			return;
		}
		end_read(&read);
	}
}

static void
test_analysis(void)
{
	char		letters[1201];
	How			how = usual;
	char	   *body;
	Read		read;

	memset(letters, 'a', 1200);
	letters[1200] = '\0';
	analysis("{\"text\":\"{\\\"shape\\\": \\\"oval\\\", \\\"sure\\\": 0.92}\"}", "STOP", OUTCOME_OK, "{\"shape\":\"oval\",\"sure\":0.92}", "JSON in one part");
	analysis("{\"text\":\"{\\\"sha\"},{\"text\":\"pe\\\":\\\"ov\"},{\"text\":\"al\\\"}\\n\"}", "STOP", OUTCOME_OK, "{\"shape\":\"oval\"}", "over three parts");
	analysis("{\"text\":\"Let me think\",\"thought\":true},{\"text\":\"{\\\"shape\\\":\\\"oval\\\"}\"}", "STOP", OUTCOME_OK, "{\"shape\":\"oval\"}", "after a thought");
	analysis("{\"text\":\"{\\\"shape\\\":\\\"oval\\\",\\\"more\\\":[1]}\",\"thoughtSignature\":\"AAAA\"}", "STOP", OUTCOME_OK, "{\"shape\":\"oval\",\"more\":[1]}", "with a member more");
	analysis("{\"text\":\"{\\\"shape\\\":\\\"a\\\\u0000b\\\\ud800\\\"}\"}", "STOP", OUTCOME_OK, "{\"shape\":\"a\xEF\xBF\xBD" "b\xEF\xBF\xBD\"}", "with characters that jsonb refuses, cleaned");
	analysis("{\"text\":\"{\\\"shape\\\":\\\"a\\u0000\xFF\\\"}\"}", "STOP", OUTCOME_OK, "{\"shape\":\"a\xEF\xBF\xBD\xEF\xBF\xBD\"}", "the same one level up");
	analysis(text("{\"text\":\"{\\\"shape\\\":\\\"\"},{\"text\":\"%s\"},{\"text\":\"\\\"}\"}", letters), "STOP", OUTCOME_OK,
			 text("{\"shape\":\"%s\"}", letters), "a part that looks like base64");
	analysis(text("{\"text\":\"{\\\"shape\\\":\\\"\"},{\"text\":\"%s\"},{\"text\":\"\\\"}\"}", letters + 1), "STOP", OUTCOME_OK,
			 text("{\"shape\":\"%s\"}", letters + 1), "one that would be in mid-quantum");
	analysis(text("{\"text\":\"{\\\"shape\\\":\\\"\"},{\"text\":\"%s of it\"},{\"text\":\"\\\"}\"}", letters), "STOP", OUTCOME_OK,
			 text("{\"shape\":\"%s of it\"}", letters), "one that turns out to be text late");
	analysis(text("{\"text\":\"{\\\"shape\\\":\\\"\"},{\"text\":\"%s=%s\"},{\"text\":\"\\\"}\"}", letters, letters), "STOP", OUTCOME_OK,
			 text("{\"shape\":\"%s=%s\"}", letters, letters), "one with '=' in its middle");
	analysis(text("{\"text\":\"{\\\"shape\\\":\\\"\"},{\"text\":\"%s=%s\"},{\"text\":\"\\\"}\"}", letters + 1, letters), "STOP", OUTCOME_OK,
			 text("{\"shape\":\"%s=%s\"}", letters + 1, letters), "one with a right padding in its middle");

	analysis("{\"text\":\"{\\\"sure\\\":0.5}\"}", "STOP", OUTCOME_INVALID_OUTPUT, NULL, "a required member is missing");
	analysis("{\"text\":\"{\\\"shape\\\":\\\"oval\\\",\\\"sure\\\":2}\"}", "STOP", OUTCOME_INVALID_OUTPUT, NULL, "a number out of range");
	analysis("{\"text\":\"{\\\"shape\\\":\\\"ov\"}", "STOP", OUTCOME_INVALID_OUTPUT, NULL, "cut JSON");
	analysis("{\"text\":\"{\\\"shape\\\":\\\"oval\\\"} done\"}", "STOP", OUTCOME_INVALID_OUTPUT, NULL, "text after the JSON");
	analysis("{\"text\":\"{\\\"shape\\\":\\\"a\\\",\\\"shape\\\":\\\"b\\\"}\"}", "STOP", OUTCOME_INVALID_OUTPUT, NULL, "a key twice");
	analysis("{\"text\":\"The face is oval.\"}", "STOP", OUTCOME_INVALID_OUTPUT, NULL, "prose");
	analysis("{\"text\":\"{\\\"shape\\\":\\\"ov\"}", "MAX_TOKENS", OUTCOME_TRUNCATED, NULL, "cut, and says so");
	analysis("{\"text\":\"{\\\"shape\\\":\\\"oval\\\"}\"}", "SAFETY", OUTCOME_BLOCKED_OUTPUT, NULL, "sound, but not STOP");
	analysis("{\"text\":\"{\\\"shape\\\":\\\"oval\\\"}\",\"thought\":true}", "STOP", OUTCOME_NO_IMAGE, NULL, "only a thought");
	analysis("", "STOP", OUTCOME_NO_IMAGE, NULL, "nothing");
	analysis("{\"text\":\"\"}", "STOP", OUTCOME_NO_IMAGE, NULL, "an empty text");
	analysis(image_part("image/png", fixture64("gradient.png"), ""), "STOP", OUTCOME_NO_IMAGE, NULL, "an image");
	analysis("{\"text\":{\"shape\":\"oval\"}}", "STOP", OUTCOME_NO_IMAGE, NULL, "a text that is no string");

	how.kind = KIND_ANALYSIS;
	outcome(candidate("STOP", "{\"text\":\"{\\\"any\\\":1}\"}"), how, OUTCOME_OK, "without a schema any object will do");
	outcome(candidate("STOP", "{\"text\":\"5\"}"), how, OUTCOME_INVALID_OUTPUT, "but no number");
	how.schema = "{\"pattern\":\"x\"}";
	outcome(candidate("STOP", "{\"text\":\"{\\\"any\\\":1}\"}"), how, OUTCOME_INVALID_OUTPUT, "a schema that cannot be checked accepts nothing");
	how.schema = "{";
	outcome(candidate("STOP", "{\"text\":\"{\\\"any\\\":1}\"}"), how, OUTCOME_INVALID_OUTPUT, "nor does one that is no JSON");
	how.schema = NULL;
	body = candidate("STOP", "{\"text\":\"{\\\"any\\\":\\\"" SECRET "\\\"}\"}");
	read = read_bytes(body, strlen(body), how);
	is_text(read.answer.analysis, "{\"any\":\"***\"}", "the key is never in an analysis");
	end_read(&read);
	outcome(image_answer("gradient.png"), how, OUTCOME_NO_IMAGE, "an image is no analysis");
}

int
main(void)
{
	static void (*const tests[]) (void) = {
		test_image, test_escapes, test_bad_images, test_finish_reasons, test_refusals, test_broken_envelopes,
		test_transport, test_caps, test_memory, test_analysis,
	};

	return run_tests(tests, sizeof(tests) / sizeof(tests[0]));
}
