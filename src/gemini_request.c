/*
 * gemini_request.c: the request of generateContent, as the text around a photo.
 *
 * Rules.  The body is text before the photo's base64, and text after it: the
 * transport streams the three and never holds the whole.  What the API would
 * answer with 400, or what its answer could not be checked against, is refused
 * here, before a call is made.  The key is not known here: it goes into a header.
 *
 * The API's facts, with their sources, are in doc/gemini.md.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto.h"
#include "gemini.h"
#include "json_schema.h"

#define MODEL_MAX_CHARACTERS 80

/*
 * Members of generationConfig that a tool may not set, compared without case and
 * underscores, since the API takes both spellings: the sampling ones are ignored
 * today and announced to become errors, candidateCount is an error, and the rest
 * is this file's to decide.
 */
static const char *const refused_config[] = {
	"temperature", "topp", "topk", "candidatecount",
	"responsemodalities", "responsemimetype", "responseschema", "responsejsonschema",
};

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static const char *request_trouble(const GeminiRequest *request);
static bool add_generation_config(JsonText *body, const GeminiRequest *request, char *why, size_t why_size);
static bool add_response_schema(JsonText *body, const char *schema, char *why, size_t why_size);
static bool mentions_value_lists(const JsonValue *schema);
static bool add_tool_config(JsonText *body, const char *config, char *why, size_t why_size);
static void squeeze_name(const char *name, char *squeezed, size_t size);
static void add_text_part(JsonText *body, const char *text);
static bool complain(char *why, size_t why_size, const char *reason);

bool
sparky_gemini_request(const GeminiRequest *request, GeminiMessage *message, char *why, size_t why_size)
{
	const char *trouble = request_trouble(request);
	const char *mime = sparky_image_mime(sparky_image_type_of_mime(request->image_mime));
	JsonText	url = {0};
	JsonText	prefix = {0};
	JsonText	suffix = {0};
	size_t		base_length;

	memset(message, 0, sizeof(*message));
	if (trouble != NULL)
		return complain(why, why_size, trouble);

	base_length = strlen(request->base_url);
	while (base_length > 0 && request->base_url[base_length - 1] == '/')
		base_length--;
	sparky_json_text_add(&url, request->base_url, base_length);
	sparky_json_text_puts(&url, "/v1beta/models/");
	sparky_json_text_puts(&url, request->model);
	sparky_json_text_puts(&url, ":generateContent");

	/* The photo comes last, so that all else is one text before it and one after it. */
	sparky_json_text_puts(&prefix, "{");
	if (request->system_instruction != NULL)
	{
		sparky_json_text_puts(&prefix, "\"systemInstruction\":{\"parts\":[");
		add_text_part(&prefix, request->system_instruction);
		sparky_json_text_puts(&prefix, "]},");
	}
	if (!add_generation_config(&prefix, request, why, why_size))
	{
		sparky_json_text_free(&url);
		sparky_json_text_free(&prefix);
		return false;
	}
	sparky_json_text_puts(&prefix, ",\"contents\":[{\"role\":\"user\",\"parts\":[");
	add_text_part(&prefix, request->prompt);
	sparky_json_text_puts(&prefix, ",{\"inlineData\":{\"mimeType\":\"");
	sparky_json_text_puts(&prefix, mime);
	sparky_json_text_puts(&prefix, "\",\"data\":\"");
	sparky_json_text_puts(&suffix, "\"}}]}]}");

	message->url = url.data;
	message->prefix = prefix.data;
	message->prefix_length = prefix.length;
	message->suffix = suffix.data;
	message->suffix_length = suffix.length;
	message->content_length = prefix.length + SPARKY_BASE64_LENGTH(request->image_bytes) + suffix.length;
	if (url.failed || prefix.failed || suffix.failed)
	{
		sparky_gemini_message_free(message);
		return complain(why, why_size, "out of memory");
	}
	return true;
}

void
sparky_gemini_message_free(GeminiMessage *message)
{
	free(message->url);
	free(message->prefix);
	free(message->suffix);
	memset(message, 0, sizeof(*message));
}

/* What is wrong with the plain members, or NULL. */
static const char *
request_trouble(const GeminiRequest *request)
{
	const char *allowed = "abcdefghijklmnopqrstuvwxyz0123456789.-";
	size_t		model_length = request->model != NULL ? strlen(request->model) : 0;
	const char *base = request->base_url != NULL ? request->base_url : "";

	if (model_length == 0 || model_length > MODEL_MAX_CHARACTERS || strspn(request->model, allowed) != model_length)
		return "the model name is not valid";
	if (strncmp(base, "https://", 8) != 0 && strncmp(base, "http://", 7) != 0)
		return "the base URL is not valid";
	for (const char *c = base; *c != '\0'; c++)
	{
		if (*c <= ' ' || *c == 0x7F || strchr("\"<>\\^`{|}?#@", *c) != NULL)
			return "the base URL is not valid";
	}
	if (request->prompt == NULL || request->prompt[0] == '\0' ||
		!sparky_utf8_valid(request->prompt, strlen(request->prompt)))
		return "the prompt is not valid";
	if (request->system_instruction != NULL &&
		!sparky_utf8_valid(request->system_instruction, strlen(request->system_instruction)))
		return "the system instruction is not valid";
	if (sparky_image_type_of_mime(request->image_mime) == IMAGE_NONE)
		return "the image type is not supported";
	if (request->image_bytes == 0 || request->image_bytes > SIZE_MAX / 4)
		return "the image is empty or too large";
	return NULL;
}

static bool
add_generation_config(JsonText *body, const GeminiRequest *request, char *why, size_t why_size)
{
	sparky_json_text_puts(body, "\"generationConfig\":{");
	if (request->kind == KIND_ANALYSIS)
	{
		sparky_json_text_puts(body, "\"responseMimeType\":\"application/json\"");
		if (request->response_schema != NULL &&
			!add_response_schema(body, request->response_schema, why, why_size))
			return false;
	}
	else
		/* TEXT as well: a model that declines says why, instead of failing with nothing. */
		sparky_json_text_puts(body, "\"responseModalities\":[\"TEXT\",\"IMAGE\"]");
	if (request->generation_config != NULL &&
		!add_tool_config(body, request->generation_config, why, why_size))
		return false;
	sparky_json_text_puts(body, "}");
	return true;
}

/* Sent as it is stored.  One that the answer could not be checked against is refused before it costs money. */
static bool
add_response_schema(JsonText *body, const char *schema, char *why, size_t why_size)
{
	char		reason[200];
	JsonValue  *value = sparky_json_parse(schema, strlen(schema), reason, sizeof(reason));
	char	   *printed = NULL;

	if (value != NULL && sparky_schema_usable(value, reason, sizeof(reason)))
	{
		if (mentions_value_lists(value))
			snprintf(reason, sizeof(reason), "x-values is not for answers");
		else if ((printed = sparky_json_print(value)) == NULL)
			snprintf(reason, sizeof(reason), "out of memory");
	}
	sparky_json_free(value);
	if (printed == NULL)
	{
		char		message[240];

		snprintf(message, sizeof(message), "the response schema is not usable: %s", reason);
		return complain(why, why_size, message);
	}
	sparky_json_text_puts(body, ",\"responseJsonSchema\":");
	sparky_json_text_puts(body, printed);
	free(printed);
	return true;
}

/* The keyword is ours: the API answers 400 to it, and no look-up stands behind an answer. */
static bool
mentions_value_lists(const JsonValue *schema)
{
	void	   *iterator = NULL;
	const char *key;
	JsonValue  *member;

	if (sparky_json_kind(schema) == JSON_KIND_ARRAY)
	{
		for (size_t i = 0; i < sparky_json_size(schema); i++)
		{
			if (mentions_value_lists(sparky_json_at(schema, i)))
				return true;
		}
	}
	if (sparky_json_kind(schema) != JSON_KIND_OBJECT)
		return false;
	while ((key = sparky_json_next(schema, &iterator, NULL, &member)) != NULL)
	{
		if (strcmp(key, "x-values") == 0 && sparky_json_kind(member) == JSON_KIND_STRING)
			return true;
		if (mentions_value_lists(member))
			return true;
	}
	return false;
}

/* The tool's own members: imageConfig, seed, thinkingConfig, maxOutputTokens, ... */
static bool
add_tool_config(JsonText *body, const char *config, char *why, size_t why_size)
{
	JsonValue  *value = sparky_json_parse(config, strlen(config), NULL, 0);
	void	   *iterator = NULL;
	const char *key;
	size_t		key_length;
	JsonValue  *member;
	const char *trouble = NULL;

	if (sparky_json_kind(value) != JSON_KIND_OBJECT)
		trouble = "the generation config is not a JSON object";
	while (trouble == NULL && (key = sparky_json_next(value, &iterator, &key_length, &member)) != NULL)
	{
		char		squeezed[32];
		char	   *printed = sparky_json_print(member);

		squeeze_name(key, squeezed, sizeof(squeezed));
		for (size_t i = 0; i < LENGTH(refused_config); i++)
		{
			if (strcmp(squeezed, refused_config[i]) == 0)
				trouble = "the generation config has a member that is not allowed";
		}
		if (printed == NULL)
			trouble = "out of memory";
		else
		{
			sparky_json_text_puts(body, ",");
			sparky_json_text_add_string(body, key, key_length);
			sparky_json_text_puts(body, ":");
			sparky_json_text_puts(body, printed);
		}
		free(printed);
	}
	sparky_json_free(value);
	return trouble == NULL || complain(why, why_size, trouble);
}

/* "response_mime_type" and "responseMimeType" are one field to the API. */
static void
squeeze_name(const char *name, char *squeezed, size_t size)
{
	size_t		length = 0;

	for (; *name != '\0' && length + 1 < size; name++)
	{
		if (*name != '_')
			squeezed[length++] = *name >= 'A' && *name <= 'Z' ? *name - 'A' + 'a' : *name;
	}
	squeezed[length] = '\0';
}

static void
add_text_part(JsonText *body, const char *text)
{
	sparky_json_text_puts(body, "{\"text\":");
	sparky_json_text_add_string(body, text, strlen(text));
	sparky_json_text_puts(body, "}");
}

/* Always false. */
static bool
complain(char *why, size_t why_size, const char *reason)
{
	size_t		length = strlen(reason);

	if (why == NULL || why_size == 0)
		return false;
	length = sparky_utf8_cut(reason, length, why_size - 1);
	memcpy(why, reason, length);
	why[length] = '\0';
	return false;
}
