/*
 * gemini_fault_content.c: sound HTTP and JSON, but not the answer one hoped for;
 * and the good answers that a script can order.
 */
#include <stdlib.h>
#include <string.h>

#include "gemini_fault.h"
#include "picture.h"

static void write_bytes(const GeminiCall *call, const char *mime, const Buf *bytes, Reply *reply);
static void write_escape(const GeminiCall *call, const json_t *parameters, const char *escape, Reply *reply);

/* Good, but as the parameters say: ms, bytes, tiny, format, declared, text, model_version, thoughts. */
void
fault_ok(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	Answer		answer = {0};

	reply->delay_ms = (int) parameter_number(parameters, "ms", reply->delay_ms);
	fault_write_good(&answer, call, parameters, reply);
}

void
fault_write_good(Answer *answer, const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	const char *finish = answer->finish;

	if (!answer_good(answer, call, parameters))
	{
		answer_undecodable(answer, reply);
		return;
	}
	if (finish != NULL)
		answer->finish = *finish ? finish : NULL;
	answer_write(answer, call, reply);
}

/* ---- no usable answer ---- */

void
fault_blocked_prompt(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	Answer		answer = {.no_candidate = true, .block_reason = parameter_text(parameters, "reason", "PROHIBITED_CONTENT")};

	answer_write(&answer, call, reply);
}

void
fault_refusal(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	Answer		answer = {
		.no_content = true,
		.finish = parameter_text(parameters, "finish", "IMAGE_SAFETY"),
		.finish_message = parameter_text(parameters, "message", "Unable to show the generated image. The model could not generate "
										 "the image based on the prompt provided. You will not be charged for this request.")
	};

	answer_write(&answer, call, reply);
}

void
fault_refusal_empty_content(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	Answer		answer = {.empty_content = true, .finish = parameter_text(parameters, "finish", "IMAGE_SAFETY")};

	answer_write(&answer, call, reply);
}

void
fault_no_candidates(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	Answer		answer = {.no_candidate = true};

	(void) parameters;
	answer_write(&answer, call, reply);
}

void
fault_empty_stop(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	Answer		answer = {.finish = "STOP"};

	(void) parameters;
	answer_write(&answer, call, reply);
}

void
fault_text_only(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	Answer		answer = {.finish = "STOP"};

	answer_text(&answer, false, parameter_text(parameters, "text", "I can't edit this photo, but I can describe a hairstyle for you."));
	answer_write(&answer, call, reply);
}

void
fault_max_tokens(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	Answer		answer = {.finish = "MAX_TOKENS"};

	fault_write_good(&answer, call, parameters, reply);
}

void
fault_unknown_finish(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	Answer		answer = {.finish = parameter_text(parameters, "finish", "SOMETHING_NEW")};

	fault_write_good(&answer, call, parameters, reply);
}

void
fault_no_finish(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	Answer		answer = {.finish = ""};

	fault_write_good(&answer, call, parameters, reply);
}

/* ---- pictures ---- */

/* JPEG bytes under the name of PNG: a client must take them. */
void
fault_wrong_type(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	json_t	   *jpeg = json_pack("{s:s, s:b}", "format", "jpeg", "tiny", 0);
	Buf			bytes = {0};

	if (answer_picture(call, jpeg, &bytes) != NULL)
		write_bytes(call, parameter_text(parameters, "declared", "image/png"), &bytes, reply);
	else
		answer_undecodable(&(Answer) {0}, reply);
	json_decref(jpeg);
	buf_free(&bytes);
}

void
fault_not_an_image(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	Buf			bytes = {0};

	buf_puts(&bytes, parameter_text(parameters, "text", "This is text and no picture at all, whatever its declared type may say."));
	write_bytes(call, parameter_text(parameters, "declared", "image/png"), &bytes, reply);
	buf_free(&bytes);
}

void
fault_bad_base64(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	Answer		answer = {.finish = "STOP"};
	Buf			png = {0};
	Buf		   *data;

	(void) parameters;
	picture_tiny(call->seed, &png);
	answer_text(&answer, false, "Here is your edited photo: ");
	data = answer_image(&answer, false, "image/png");
	buf_base64(data, png.data, png.len);
	data->data[data->len / 2] = '*';
	answer_write(&answer, call, reply);
	buf_free(&png);
}

void
fault_truncated_image(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	Buf			bytes = {0};
	const char *type = answer_picture(call, parameters, &bytes);

	if (type == NULL)
		answer_undecodable(&(Answer) {0}, reply);
	else
	{
		bytes.len = (size_t) parameter_number(parameters, "cut_at", (json_int_t) bytes.len / 2) < bytes.len
			? (size_t) parameter_number(parameters, "cut_at", (json_int_t) bytes.len / 2) : bytes.len;
		write_bytes(call, type, &bytes, reply);
	}
	buf_free(&bytes);
}

static void
write_bytes(const GeminiCall *call, const char *mime, const Buf *bytes, Reply *reply)
{
	Answer		answer = {.finish = "STOP"};

	answer_text(&answer, false, "Here is your edited photo: ");
	buf_base64(answer_image(&answer, false, mime), bytes->data, bytes->len);
	answer_write(&answer, call, reply);
}

/* The only picture is marked as a thought. */
void
fault_thought_only(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	Answer		answer = {0};

	if (!answer_good(&answer, call, parameters))
	{
		answer_undecodable(&answer, reply);
		return;
	}
	answer.finish = parameter_text(parameters, "finish", "STOP");
	for (int i = 0; i < answer.count; i++)
		answer.parts[i].thought = true;
	answer_write(&answer, call, reply);
}

/* A thought picture, an interim one, and the one that counts, the last. */
void
fault_two_images(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	Answer		answer = {0};
	Buf			interim = {0};

	picture_tiny(call->seed + 1, &interim);
	buf_base64(answer_image(&answer, true, "image/png"), interim.data, interim.len);
	buf_free(&interim);
	picture_tiny(call->seed + 2, &interim);
	buf_base64(answer_image(&answer, false, "image/png"), interim.data, interim.len);
	buf_free(&interim);
	fault_write_good(&answer, call, parameters, reply);
}

/* ---- text that PostgreSQL does not take ---- */

void
fault_nul_text(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	write_escape(call, parameters, "\\u0000", reply);
}

void
fault_lone_surrogate(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	write_escape(call, parameters, "\\ud83d", reply);
}

/*
 * Before a good picture: a text with the escape.  In an analysis: the escape
 * inside the first free text of the value, escaped once more, as the model's own
 * JSON would hold it.
 */
static void
write_escape(const GeminiCall *call, const json_t *parameters, const char *escape, Reply *reply)
{
	Answer		answer = {0};
	Buf			text = {0};

	if (strcmp(call->kind, "image") == 0)
	{
		buf_printf(&text, "Before%safter", escape);
		answer_raw_text(&answer, false, text.data);
		buf_free(&text);
		fault_write_good(&answer, call, parameters, reply);
		return;
	}
	{
		char	   *good = answer_analysis(call);
		/* Free texts of schema.c hold this word, enumerated values hardly. */
		char	   *value = strstr(good, " and ");
		size_t		at = value != NULL ? (size_t) (value - good) : strlen(good);

		buf_json_escape(&text, good, at);
		buf_printf(&text, "\\%s", escape);
		buf_json_escape(&text, good + at, strlen(good + at));
		free(good);
	}
	answer_raw_text(&answer, false, text.data);
	answer.finish = "STOP";
	answer_write(&answer, call, reply);
	buf_free(&text);
}

/* ---- analysis ---- */

void
fault_bad_schema(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	Answer		answer = {.finish = "STOP"};
	const char *type = parameter_text(call->schema, "type", "object");

	answer_text(&answer, false, parameter_text(parameters, "text", strcmp(type, "object") == 0 || strcmp(type, "OBJECT") == 0
											   ? "[\"not\", \"what\", \"was\", \"asked\"]" : "{\"not\": \"what was asked\"}"));
	answer_write(&answer, call, reply);
}

/* MAX_TOKENS with half the JSON; with finish STOP where the script says so. */
void
fault_analysis_cut(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	Answer		answer = {.finish = parameter_text(parameters, "finish", "MAX_TOKENS")};
	char	   *text = answer_analysis(call);

	text[strlen(text) / 2] = '\0';
	answer_text(&answer, false, text);
	free(text);
	answer_write(&answer, call, reply);
}

/* Three text parts with a thought between them: joined without it, they are the JSON. */
void
fault_analysis_split(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	Answer		answer = {.finish = "STOP"};
	char	   *text = answer_analysis(call);
	size_t		third = strlen(text) / 3;

	(void) parameters;
	for (int i = 0; i < 3; i++)
	{
		char	   *part = i < 2 ? strndup(text + (size_t) i * third, third) : xstrdup(text + 2 * third);

		if (part == NULL)
			abort();
		answer_text(&answer, false, part);
		free(part);
		if (i == 0)
			answer_text(&answer, true, "{\"this\": \"is a thought, not the answer\"}");
	}
	free(text);
	answer_write(&answer, call, reply);
}
