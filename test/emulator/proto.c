/*
 * proto.c: the fields that the Gemini API knows (see proto.h).
 *
 * Source of the tables: google/ai/generativelanguage/v1beta, as the official
 * clients carry it in autumn 2026.
 */
#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto.h"

static const char *const harm_categories[] = {
	"HARM_CATEGORY_HARASSMENT", "HARM_CATEGORY_HATE_SPEECH", "HARM_CATEGORY_SEXUALLY_EXPLICIT",
	"HARM_CATEGORY_DANGEROUS_CONTENT", "HARM_CATEGORY_CIVIC_INTEGRITY", NULL
};
static const char *const harm_thresholds[] = {
	"HARM_BLOCK_THRESHOLD_UNSPECIFIED", "BLOCK_LOW_AND_ABOVE", "BLOCK_MEDIUM_AND_ABOVE",
	"BLOCK_ONLY_HIGH", "BLOCK_NONE", "OFF", NULL
};
static const char *const schema_types[] = {
	"TYPE_UNSPECIFIED", "STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL", NULL
};
static const char *const thinking_levels[] = {
	"MINIMAL", "LOW", "MEDIUM", "HIGH", "minimal", "low", "medium", "high", NULL
};
static const char *const modalities[] = {"TEXT", "IMAGE", "AUDIO", NULL};
static const char *const resolutions[] = {
	"MEDIA_RESOLUTION_LOW", "MEDIA_RESOLUTION_MEDIUM", "MEDIA_RESOLUTION_HIGH", NULL
};

static const Message schema_message;

static const Field schema_fields[] = {
	{.name = "type", .type = FIELD_ENUM, .values = schema_types},
	{.name = "format", .type = FIELD_STRING},
	{.name = "title", .type = FIELD_STRING},
	{.name = "description", .type = FIELD_STRING},
	{.name = "nullable", .type = FIELD_BOOL},
	{.name = "default", .type = FIELD_ANY},
	{.name = "example", .type = FIELD_ANY},
	{.name = "enum", .type = FIELD_STRING, .shape = REPEATED},
	{.name = "items", .type = FIELD_MESSAGE, .message = &schema_message},
	{.name = "anyOf", .type = FIELD_MESSAGE, .shape = REPEATED, .message = &schema_message},
	{.name = "properties", .type = FIELD_MESSAGE, .shape = MAP, .message = &schema_message},
	{.name = "propertyOrdering", .type = FIELD_STRING, .shape = REPEATED},
	{.name = "required", .type = FIELD_STRING, .shape = REPEATED},
	{.name = "minItems", .type = FIELD_INT32},
	{.name = "maxItems", .type = FIELD_INT32},
	{.name = "minProperties", .type = FIELD_INT32},
	{.name = "maxProperties", .type = FIELD_INT32},
	{.name = "minLength", .type = FIELD_INT32},
	{.name = "maxLength", .type = FIELD_INT32},
	{.name = "minimum", .type = FIELD_NUMBER},
	{.name = "maximum", .type = FIELD_NUMBER},
	{.name = "pattern", .type = FIELD_STRING},
	{0}
};
static const Message schema_message = {"Schema", schema_fields};

static const Field blob_fields[] = {
	{.name = "mimeType", .type = FIELD_STRING},
	{.name = "data", .type = FIELD_BYTES},
	{0}
};
static const Message blob_message = {"Blob", blob_fields};

static const Field file_data_fields[] = {
	{.name = "mimeType", .type = FIELD_STRING},
	{.name = "fileUri", .type = FIELD_STRING},
	{0}
};
static const Message file_data_message = {"FileData", file_data_fields};

static const Field part_fields[] = {
	{.name = "text", .type = FIELD_STRING, .oneof = "data"},
	{.name = "inlineData", .type = FIELD_MESSAGE, .message = &blob_message, .oneof = "data"},
	{.name = "fileData", .type = FIELD_MESSAGE, .message = &file_data_message, .oneof = "data"},
	{.name = "functionCall", .type = FIELD_ANY, .oneof = "data"},
	{.name = "functionResponse", .type = FIELD_ANY, .oneof = "data"},
	{.name = "executableCode", .type = FIELD_ANY, .oneof = "data"},
	{.name = "codeExecutionResult", .type = FIELD_ANY, .oneof = "data"},
	{.name = "thought", .type = FIELD_BOOL},
	{.name = "thoughtSignature", .type = FIELD_BYTES},
	{.name = "videoMetadata", .type = FIELD_ANY},
	{.name = "partMetadata", .type = FIELD_ANY},
	{.name = "mediaResolution", .type = FIELD_ANY},
	{0}
};
static const Message part_message = {"Part", part_fields};

static const Field content_fields[] = {
	{.name = "parts", .type = FIELD_MESSAGE, .shape = REPEATED, .message = &part_message},
	{.name = "role", .type = FIELD_STRING},
	{0}
};
static const Message content_message = {"Content", content_fields};

static const Field image_config_fields[] = {
	{.name = "aspectRatio", .type = FIELD_STRING},
	{.name = "imageSize", .type = FIELD_STRING},
	{0}
};
static const Message image_config_message = {"ImageConfig", image_config_fields};

static const Field thinking_config_fields[] = {
	{.name = "includeThoughts", .type = FIELD_BOOL},
	{.name = "thinkingBudget", .type = FIELD_INT32},
	{.name = "thinkingLevel", .type = FIELD_ENUM, .values = thinking_levels},
	{0}
};
static const Message thinking_config_message = {"ThinkingConfig", thinking_config_fields};

static const Field generation_config_fields[] = {
	{.name = "stopSequences", .type = FIELD_STRING, .shape = REPEATED},
	{.name = "responseMimeType", .type = FIELD_STRING},
	{.name = "responseSchema", .type = FIELD_MESSAGE, .message = &schema_message},
	{.name = "responseJsonSchema", .type = FIELD_ANY},
	{.name = "responseModalities", .type = FIELD_ENUM, .shape = REPEATED, .values = modalities},
	{.name = "candidateCount", .type = FIELD_INT32},
	{.name = "maxOutputTokens", .type = FIELD_INT32},
	{.name = "temperature", .type = FIELD_NUMBER},
	{.name = "topP", .type = FIELD_NUMBER},
	{.name = "topK", .type = FIELD_INT32},
	{.name = "seed", .type = FIELD_INT32},
	{.name = "presencePenalty", .type = FIELD_NUMBER},
	{.name = "frequencyPenalty", .type = FIELD_NUMBER},
	{.name = "responseLogprobs", .type = FIELD_BOOL},
	{.name = "logprobs", .type = FIELD_INT32},
	{.name = "enableEnhancedCivicAnswers", .type = FIELD_BOOL},
	{.name = "speechConfig", .type = FIELD_ANY},
	{.name = "thinkingConfig", .type = FIELD_MESSAGE, .message = &thinking_config_message},
	{.name = "imageConfig", .type = FIELD_MESSAGE, .message = &image_config_message},
	{.name = "mediaResolution", .type = FIELD_ENUM, .values = resolutions},
	{0}
};
static const Message generation_config_message = {"GenerationConfig", generation_config_fields};

static const Field safety_setting_fields[] = {
	{.name = "category", .type = FIELD_ENUM, .values = harm_categories},
	{.name = "threshold", .type = FIELD_ENUM, .values = harm_thresholds},
	{0}
};
static const Message safety_setting_message = {"SafetySetting", safety_setting_fields};

/* No "model": it belongs into the address only. */
static const Field request_fields[] = {
	{.name = "contents", .type = FIELD_MESSAGE, .shape = REPEATED, .message = &content_message},
	{.name = "systemInstruction", .type = FIELD_MESSAGE, .message = &content_message},
	{.name = "generationConfig", .type = FIELD_MESSAGE, .message = &generation_config_message},
	{.name = "safetySettings", .type = FIELD_MESSAGE, .shape = REPEATED, .message = &safety_setting_message},
	{.name = "tools", .type = FIELD_ANY},
	{.name = "toolConfig", .type = FIELD_ANY},
	{.name = "cachedContent", .type = FIELD_STRING},
	{.name = "serviceTier", .type = FIELD_STRING},
	{.name = "store", .type = FIELD_BOOL},
	{0}
};
const Message generate_content_request = {"GenerateContentRequest", request_fields};

static const Field *find_field(const Message *message, const char *name);
static void check_names(json_t *object, const Message *message, const char *path, Violations *found);
static void check_field(json_t *value, const Field *field, const char *path, Violations *found);
static void check_one(json_t *value, const Field *field, const char *path, Violations *found);
static void wrong_value(json_t *value, const char *type, const char *path, Violations *found);
static bool is_int32(const json_t *value);
static bool is_number(const json_t *value);

void
violation(Violations *list, const char *path, const char *format,...)
{
	va_list		args;
	char	   *text;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		abort();
	va_end(args);
	/* Cut strings may end inside a character: keep the message ASCII. */
	for (char *c = text; *c; c++)
		if ((unsigned char) *c >= 0x80)
			*c = '?';
	if (list->fields == NULL)
		list->fields = json_array();
	else
		buf_puts(&list->text, "\n");
	buf_puts(&list->text, text);
	json_array_append_new(list->fields, *path ? json_pack("{s:s, s:s}", "field", path, "description", text)
						  : json_pack("{s:s}", "description", text));
	free(text);
}

void
violations_free(Violations *list)
{
	buf_free(&list->text);
	json_decref(list->fields);
	list->fields = NULL;
}

void
proto_snake(const char *camel, char *snake, size_t size)
{
	size_t		at = 0;

	for (; *camel && at + 2 < size; camel++)
	{
		if (isupper((unsigned char) *camel))
			snake[at++] = '_';
		snake[at++] = (char) tolower((unsigned char) *camel);
	}
	snake[at] = '\0';
}

void
proto_check(json_t *object, const Message *message, const char *path, Violations *found)
{
	const char *name;
	json_t	   *value;

	if (!json_is_object(object))
	{
		wrong_value(object, message->name, path, found);
		return;
	}
	check_names(object, message, path, found);
	json_object_foreach(object, name, value)
	{
		const Field *field = find_field(message, name);
		char		snake[64];
		Buf			inner = {0};

		if (field == NULL)
			continue;
		proto_snake(field->name, snake, sizeof snake);
		buf_printf(&inner, "%s%s%s", path, *path ? "." : "", snake);
		check_field(value, field, inner.data, found);
		buf_free(&inner);
	}
}

static const Field *
find_field(const Message *message, const char *name)
{
	for (const Field *field = message->fields; field->name != NULL; field++)
	{
		char		snake[64];

		proto_snake(field->name, snake, sizeof snake);
		if (strcmp(name, field->name) == 0 || strcmp(name, snake) == 0)
			return field;
	}
	return NULL;
}

/* Unknown names, both spellings, two members of a oneof; leaves lowerCamelCase without nulls. */
static void
check_names(json_t *object, const Message *message, const char *path, Violations *found)
{
	const char *name;
	const char *member = NULL;
	json_t	   *value;
	json_t	   *clean = json_object();

	json_object_foreach(object, name, value)
	{
		const Field *field = find_field(message, name);

		if (field == NULL)
		{
			if (*path)
				violation(found, path, "Invalid JSON payload received. Unknown name \"%s\" at '%s': Cannot find field.", name, path);
			else
				violation(found, path, "Invalid JSON payload received. Unknown name \"%s\": Cannot find field.", name);
			continue;
		}
		if (json_is_null(value) && field->type != FIELD_ANY)
			continue;
		if (json_object_get(clean, field->name) != NULL)
			violation(found, path, "Invalid value at '%s' (%s), field '%s' is already set. Cannot set '%s'",
					  path, message->name, field->name, name);
		if (field->oneof != NULL && member != NULL && strcmp(member, field->name) != 0)
			violation(found, path, "Invalid value at '%s' (oneof), oneof field '%s' is already set. Cannot set '%s'",
					  path, field->oneof, name);
		if (field->oneof != NULL)
			member = field->name;
		json_object_set(clean, field->name, value);
	}
	json_object_clear(object);
	json_object_update(object, clean);
	json_decref(clean);
}

static void
check_field(json_t *value, const Field *field, const char *path, Violations *found)
{
	size_t		at;
	const char *name;
	json_t	   *item;

	if (field->shape == ONE)
	{
		check_one(value, field, path, found);
		return;
	}
	if (field->shape == REPEATED ? !json_is_array(value) : !json_is_object(value))
	{
		violation(found, path, "Invalid JSON payload received. Proto field is %s, cannot start %s at '%s'.",
				  field->shape == REPEATED ? "repeating" : "a map", json_is_array(value) ? "list" : "object", path);
		return;
	}
	json_array_foreach(value, at, item)
	{
		Buf			inner = {0};

		buf_printf(&inner, "%s[%zu]", path, at);
		check_one(item, field, inner.data, found);
		buf_free(&inner);
	}
	json_object_foreach(value, name, item)
	{
		Buf			inner = {0};

		buf_printf(&inner, "%s[%zu].value", path, at++);
		check_one(item, field, inner.data, found);
		buf_free(&inner);
	}
}

static void
check_one(json_t *value, const Field *field, const char *path, Violations *found)
{
	switch (field->type)
	{
		case FIELD_ANY:
			return;
		case FIELD_MESSAGE:
			proto_check(value, field->message, path, found);
			return;
		case FIELD_STRING:
			if (!json_is_string(value))
				wrong_value(value, "TYPE_STRING", path, found);
			return;
		case FIELD_BYTES:
			if (!json_is_string(value))
				wrong_value(value, "TYPE_BYTES", path, found);
			else if (!base64_decode(json_string_value(value), json_string_length(value), NULL))
				violation(found, path, "Invalid value at '%s' (TYPE_BYTES), Base64 decoding failed for \"%.40s\"",
						  path, json_string_value(value));
			return;
		case FIELD_BOOL:
			if (!json_is_boolean(value))
				wrong_value(value, "TYPE_BOOL", path, found);
			return;
		case FIELD_INT32:
			if (!is_int32(value))
				wrong_value(value, "TYPE_INT32", path, found);
			return;
		case FIELD_NUMBER:
			if (!is_number(value))
				wrong_value(value, "TYPE_FLOAT", path, found);
			return;
		case FIELD_ENUM:
			for (size_t i = 0; json_is_string(value) && field->values[i] != NULL; i++)
				if (strcmp(field->values[i], json_string_value(value)) == 0)
					return;
			wrong_value(value, "TYPE_ENUM", path, found);
			return;
	}
}

static void
wrong_value(json_t *value, const char *type, const char *path, Violations *found)
{
	char	   *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);

	violation(found, path, "Invalid value at '%s' (%s), %.60s", path, type, text ? text : "?");
	free(text);
}

/* proto3 takes a number in a string as well. */
static bool
read_number(const json_t *value, double *number)
{
	char	   *end;

	if (json_is_number(value))
	{
		*number = json_number_value(value);
		return true;
	}
	if (!json_is_string(value) || json_string_length(value) == 0)
		return false;
	*number = strtod(json_string_value(value), &end);
	return *end == '\0';
}

static bool
is_int32(const json_t *value)
{
	double		number;

	return read_number(value, &number) && number == floor(number) && number >= INT32_MIN && number <= INT32_MAX;
}

static bool
is_number(const json_t *value)
{
	double		number;

	return read_number(value, &number) && isfinite(number);
}
