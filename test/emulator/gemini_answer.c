/*
 * gemini_answer.c: answers and errors in the real service's shape.
 *
 * Answers are written by hand, not through jansson: they hold megabytes of
 * base64, and some of them text that no JSON library would write.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gemini.h"
#include "picture.h"
#include "schema.h"

#define IMAGE_TOKENS 1120
#define INPUT_IMAGE_TOKENS 258
#define SIDE_1K 1024

static bool add_image(Answer *answer, const GeminiCall *call, const json_t *parameters);
static void add_analysis(Answer *answer, const GeminiCall *call, bool thoughts);
static void write_candidate(const Answer *answer, Buf *out);
static void write_part(const Part *part, bool signature, bool last, Buf *out);
static void write_usage(const Answer *answer, const GeminiCall *call, Buf *out);
static bool wants(const GeminiCall *call, const char *modality);
static bool thinks(const GeminiCall *call);
static int	asked_side(const GeminiCall *call);

void
answer_text(Answer *answer, bool thought, const char *text)
{
	Part	   *part = &answer->parts[answer->count++];

	part->thought = thought;
	buf_json_escape(&part->value, text, strlen(text));
}

void
answer_raw_text(Answer *answer, bool thought, const char *escaped)
{
	Part	   *part = &answer->parts[answer->count++];

	part->thought = thought;
	buf_puts(&part->value, escaped);
}

Buf *
answer_image(Answer *answer, bool thought, const char *mime)
{
	Part	   *part = &answer->parts[answer->count++];

	part->thought = thought;
	part->mime = mime;
	return &part->value;
}

bool
answer_good(Answer *answer, const GeminiCall *call, const json_t *parameters)
{
	const json_t *thoughts = json_object_get(parameters, "thoughts");
	bool		show_thoughts = thoughts != NULL ? json_is_true(thoughts)
		: json_is_true(json_object_get(json_object_get(call->config, "thinkingConfig"), "includeThoughts"));

	answer->finish = "STOP";
	answer->model_version = parameter_text(parameters, "model_version", NULL);
	answer->thinking = thinks(call);
	if (strcmp(call->kind, "image") != 0)
	{
		add_analysis(answer, call, show_thoughts);
		return true;
	}
	if (show_thoughts || (answer->thinking && (call->seed & 1)))
		answer_text(answer, true, "**Planning the edit**\n\nI keep the face and change only what was asked for.\n");
	if (wants(call, "TEXT") || !wants(call, "IMAGE"))
		answer_text(answer, false, parameter_text(parameters, "text", "Here is your edited photo: "));
	return !wants(call, "IMAGE") || add_image(answer, call, parameters);
}

const char *
answer_picture(const GeminiCall *call, const json_t *parameters, Buf *bytes)
{
	const char *format = parameter_text(parameters, "format", "png");
	const char *ratio = json_string_value(json_object_get(json_object_get(call->config, "imageConfig"), "aspectRatio"));
	const json_t *tiny = json_object_get(parameters, "tiny");
	PictureWish wish = {.seed = call->seed, .max_side = asked_side(call)};
	char		label[160];

	wish.type = strcmp(format, "jpeg") == 0 ? "image/jpeg" : strcmp(format, "webp") == 0 ? "image/webp" : "image/png";
	if (tiny != NULL ? json_is_true(tiny) : settings.answer == ANSWER_TINY)
	{
		picture_tiny(call->seed, bytes);
		return "image/png";
	}
	snprintf(label, sizeof label, "%.80s %016llx", call->model_name, (unsigned long long) call->seed);
	wish.label = label;
	if (ratio == NULL || sscanf(ratio, "%d:%d", &wish.ratio_w, &wish.ratio_h) != 2)
		wish.ratio_w = wish.ratio_h = 0;
	if (call->image_count == 0)
		picture_make(wish.ratio_w > 0 ? SIDE_1K * wish.ratio_w / (wish.ratio_w + wish.ratio_h) : SIDE_1K / 2,
					 wish.ratio_w > 0 ? SIDE_1K * wish.ratio_h / (wish.ratio_w + wish.ratio_h) : SIDE_1K / 2, &wish, bytes);
	else if (!picture_edit(call->images[0].bytes.data, call->images[0].bytes.len, &wish, bytes))
		return NULL;
	return wish.type;
}

char *
answer_analysis(const GeminiCall *call)
{
	json_t	   *value = call->schema != NULL ? schema_instance(call->schema, call->seed) : json_object();
	char	   *text = value != NULL ? json_dumps(value, JSON_INDENT(2) | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15)) : NULL;

	json_decref(value);
	return text != NULL ? text : xstrdup("null");
}

static bool
add_image(Answer *answer, const GeminiCall *call, const json_t *parameters)
{
	json_int_t	size = parameter_number(parameters, "bytes", 0);
	const char *type;
	Buf			bytes = {0};

	if (size == 0 && settings.answer == ANSWER_BYTES)
		size = (json_int_t) settings.answer_bytes;
	if (size >= PICTURE_MIN_BYTES && size <= PICTURE_MAX_BYTES)
	{
		picture_padded_base64((size_t) size, answer_image(answer, false, "image/png"));
		return true;
	}
	type = answer_picture(call, parameters, &bytes);
	if (type != NULL)
		buf_base64(answer_image(answer, false, parameter_text(parameters, "declared", type)), bytes.data, bytes.len);
	buf_free(&bytes);
	return type != NULL;
}

static void
add_analysis(Answer *answer, const GeminiCall *call, bool thoughts)
{
	const char *mime = json_string_value(json_object_get(call->config, "responseMimeType"));
	char	   *text;

	if (thoughts)
		answer_text(answer, true, "**Looking at the photo**\n\n{\"this\": \"is a thought, not the answer\"}\n");
	if (mime == NULL || strcmp(mime, "application/json") != 0)
	{
		answer_text(answer, false, "A photo of a person, looking at the camera.");
		return;
	}
	text = answer_analysis(call);
	answer_text(answer, false, text);
	free(text);
}

void
answer_write(Answer *answer, const GeminiCall *call, Reply *reply)
{
	Buf		   *out = &reply->body;
	char		id[32];

	buf_puts(out, "{\n");
	if (!answer->no_candidate)
		write_candidate(answer, out);
	if (answer->duplicate != NULL)
		buf_puts(out, answer->duplicate);
	if (answer->block_reason != NULL)
		buf_printf(out, "  \"promptFeedback\": {\n    \"blockReason\": \"%s\"\n  },\n", answer->block_reason);
	write_usage(answer, call, out);
	buf_printf(out, "  \"modelVersion\": \"%s\",\n", answer->model_version ? answer->model_version : call->model_name);
	snprintf(id, sizeof id, "em%06lu-%010llx", call->request->n, (unsigned long long) (call->seed & 0xffffffffffu));
	buf_printf(out, "  \"responseId\": \"%s\"\n}\n", id);

	reply->status = 200;
	pairs_add(&reply->headers, "Content-Type", "application/json; charset=UTF-8");
	pairs_add(&reply->headers, "x-gemini-service-tier", "standard");
	answer_drop(answer);
}

void
answer_drop(Answer *answer)
{
	for (int i = 0; i < answer->count; i++)
		buf_free(&answer->parts[i].value);
	answer->count = 0;
}

void
answer_undecodable(Answer *answer, Reply *reply)
{
	answer_drop(answer);
	reply_error(reply, 400, "INVALID_ARGUMENT", NULL, "Unable to process input image. Please retry or report in "
				"https://developers.generativeai.google/guide/troubleshooting");
	reply->refused = xstrdup("the input image does not decode");
}

static void
write_candidate(const Answer *answer, Buf *out)
{
	buf_puts(out, "  \"candidates\": [\n    {\n");
	if (answer->empty_content)
		buf_puts(out, "      \"content\": {},\n");
	else if (!answer->no_content)
	{
		buf_puts(out, "      \"content\": {\n");
		if (answer->count > 0)
		{
			buf_puts(out, "        \"parts\": [\n");
			for (int i = 0; i < answer->count; i++)
				write_part(&answer->parts[i], answer->thinking && i == answer->count - 1, i == answer->count - 1, out);
			buf_puts(out, "        ],\n");
		}
		buf_puts(out, "        \"role\": \"model\"\n      },\n");
	}
	if (answer->finish != NULL)
		buf_printf(out, "      \"finishReason\": \"%s\",\n", answer->finish);
	if (answer->finish_message != NULL)
	{
		buf_puts(out, "      \"finishMessage\": \"");
		buf_json_escape(out, answer->finish_message, strlen(answer->finish_message));
		buf_puts(out, "\",\n");
	}
	buf_puts(out, "      \"index\": 0\n    }\n  ],\n");
}

static void
write_part(const Part *part, bool signature, bool last, Buf *out)
{
	buf_puts(out, "          {\n");
	if (part->mime == NULL)
		buf_puts(out, "            \"text\": \"");
	else
		buf_printf(out, "            \"inlineData\": {\n              \"mimeType\": \"%s\",\n              \"data\": \"", part->mime);
	buf_add(out, part->value.data ? part->value.data : "", part->value.len);
	buf_puts(out, part->mime == NULL ? "\"" : "\"\n            }");
	if (part->thought)
		buf_puts(out, ",\n            \"thought\": true");
	if (signature)
		buf_puts(out, ",\n            \"thoughtSignature\": \"EtQBCtEBAb4+9vtLw5K0tGf3ZlJ1xq8mXo2hYtN0c2lnbmVkIHRob3VnaHQ=\"");
	buf_printf(out, "\n          }%s\n", last ? "" : ",");
}

static void
write_usage(const Answer *answer, const GeminiCall *call, Buf *out)
{
	size_t		text_tokens = (call->prompt.len + call->system.len) / 4 + 1;
	size_t		image_tokens = call->image_count * INPUT_IMAGE_TOKENS;
	size_t		output = 0;
	size_t		thoughts = answer->thinking ? 310 : 0;

	for (int i = 0; i < answer->count; i++)
		output += answer->parts[i].mime != NULL ? IMAGE_TOKENS : answer->parts[i].value.len / 4 + 1;
	buf_printf(out, "  \"usageMetadata\": {\n    \"promptTokenCount\": %zu,\n", text_tokens + image_tokens);
	if (output > 0)
		buf_printf(out, "    \"candidatesTokenCount\": %zu,\n", output);
	buf_printf(out, "    \"totalTokenCount\": %zu,\n", text_tokens + image_tokens + output + thoughts);
	if (thoughts > 0)
		buf_printf(out, "    \"thoughtsTokenCount\": %zu,\n", thoughts);
	buf_printf(out, "    \"promptTokensDetails\": [\n      {\n        \"modality\": \"TEXT\",\n        \"tokenCount\": %zu\n      }", text_tokens);
	if (image_tokens > 0)
		buf_printf(out, ",\n      {\n        \"modality\": \"IMAGE\",\n        \"tokenCount\": %zu\n      }", image_tokens);
	buf_puts(out, "\n    ]\n  },\n");
}

/* Nothing asked means both. */
static bool
wants(const GeminiCall *call, const char *modality)
{
	const json_t *list = json_object_get(call->config, "responseModalities");
	size_t		at;
	json_t	   *one;

	json_array_foreach(list, at, one)
		if (strcmp(json_string_value(one), modality) == 0)
			return true;
	return json_array_size(list) == 0;
}

static bool
thinks(const GeminiCall *call)
{
	const char *level = json_string_value(json_object_get(json_object_get(call->config, "thinkingConfig"), "thinkingLevel"));

	if (level != NULL)
		return strcmp(level, "MINIMAL") != 0 && strcmp(level, "minimal") != 0;
	return call->model->thinks;
}

static int
asked_side(const GeminiCall *call)
{
	const char *size = json_string_value(json_object_get(json_object_get(call->config, "imageConfig"), "imageSize"));

	return SIDE_1K * (size != NULL && atoi(size) > 0 ? atoi(size) : 1);
}

void
reply_error(Reply *reply, int code, const char *status, json_t *details, const char *format,...)
{
	va_list		args;
	json_t	   *error;
	json_t	   *message;
	char	   *text;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		abort();
	va_end(args);
	message = json_string(text);
	/* What came from a request may not be UTF-8. */
	if (message == NULL)
	{
		for (char *c = text; *c; c++)
			if ((unsigned char) *c >= 0x80)
				*c = '?';
		message = json_string(text);
	}
	free(text);
	error = json_pack("{s:{s:i, s:o, s:s}}", "error", "code", code, "message", message, "status", status);
	if (details != NULL)
		json_object_set_new(json_object_get(error, "error"), "details", details);
	text = json_dumps(error, JSON_INDENT(2));
	json_decref(error);
	if (text == NULL)
		abort();
	reply->status = code;
	pairs_add(&reply->headers, "Content-Type", "application/json; charset=UTF-8");
	buf_puts(&reply->body, text);
	buf_puts(&reply->body, "\n");
	free(text);
}

json_t *
detail_error_info(const char *reason)
{
	return json_pack("[{s:s, s:s, s:s, s:{s:s}}]", "@type", "type.googleapis.com/google.rpc.ErrorInfo",
					 "reason", reason, "domain", "googleapis.com",
					 "metadata", "service", "generativelanguage.googleapis.com");
}
