/*
 * gemini_check.c: what the real service refuses (facts: doc/gemini.md).
 *
 * Stricter than the service in three places, on purpose: the key in the address
 * is refused (it would end in logs), temperature, topP and topK are refused as
 * announced for 3.x, and a Content-Type other than JSON is refused.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "gemini.h"
#include "picture.h"
#include "schema.h"

#define MAX_BODY_BYTES (100 * 1024 * 1024)
#define MAX_IMAGES 14
#define MAX_STOP_SEQUENCES 5

#define INVALID(...) (reply_error(reply, 400, "INVALID_ARGUMENT", NULL, __VA_ARGS__), false)

static const Model models[] = {
	{"gemini-nano-banana-2.1", true, "1K 2K 4K ", "MINIMAL MEDIUM HIGH ", true},
	{"gemini-3.1-flash-lite-image", true, "1K ", "MINIMAL LOW MEDIUM HIGH ", false},
	{"gemini-3-pro-image", true, "1K 2K 4K ", "LOW HIGH ", true},
	{"gemini-3.8-flash", false, "", "MINIMAL LOW MEDIUM HIGH ", true},
	{"gemini-3.5-flash-lite", false, "", "MINIMAL LOW MEDIUM HIGH ", false},
};
static const char *const input_types[] = {
	"image/png", "image/jpeg", "image/webp", "image/heic", "image/heif", NULL
};
static const char ratios[] = "1:1 2:3 3:2 3:4 4:3 4:5 5:4 9:16 16:9 21:9 1:4 4:1 1:8 8:1 ";

static bool check_key(const GeminiCall *call, Reply *reply);
static bool check_query(const GeminiCall *call, Reply *reply);
static bool check_address(const GeminiCall *call, Reply *reply);
static bool check_payload(GeminiCall *call, Reply *reply);
static bool check_contents(const GeminiCall *call, Reply *reply);
static bool check_content(const GeminiCall *call, const json_t *content, size_t turn, Reply *reply);
static bool check_images(const GeminiCall *call, Reply *reply);
static bool check_config(const GeminiCall *call, Reply *reply);
static bool check_output(const GeminiCall *call, Reply *reply);
static bool check_modalities(const GeminiCall *call, Reply *reply);
static bool check_image_config(const GeminiCall *call, Reply *reply);
static bool check_thinking(const GeminiCall *call, Reply *reply);
static bool check_safety(const GeminiCall *call, Reply *reply);

const Model *
gemini_model(const char *name)
{
	for (size_t i = 0; i < sizeof models / sizeof *models; i++)
		if (strcmp(models[i].name, name) == 0)
			return &models[i];
	return NULL;
}

bool
gemini_check(GeminiCall *call, Reply *reply)
{
	return check_address(call, reply) && check_key(call, reply) && check_query(call, reply) &&
		check_payload(call, reply) && check_contents(call, reply) && check_images(call, reply) &&
		check_config(call, reply) && check_output(call, reply) && check_modalities(call, reply) &&
		check_image_config(call, reply) && check_thinking(call, reply) && check_safety(call, reply);
}

/* The method first, as the front end does; the model only for who may ask. */
static bool
check_address(const GeminiCall *call, Reply *reply)
{
	if (call->known_method && strcmp(call->request->method, "POST") == 0)
		return true;
	reply_error(reply, 404, "NOT_FOUND", NULL, "Method or address not found.");
	return false;
}

static bool
check_key(const GeminiCall *call, Reply *reply)
{
	const char *key = pairs_get(&call->request->headers, "x-goog-api-key");
	const char *query_key = pairs_get(&call->request->query, "key");
	const char *authorization = pairs_get(&call->request->headers, "authorization");
	int			keys = 0;

	for (size_t i = 0; i < call->request->headers.count; i++)
		keys += strcasecmp(call->request->headers.items[i].name, "x-goog-api-key") == 0;
	if (keys + (query_key != NULL) + (authorization != NULL) > 1)
		return INVALID("Multiple authentication credentials received. Please pass only one.");
	if (query_key != NULL)
		return INVALID("API key in the address. Pass it in the x-goog-api-key header.");
	if (authorization != NULL)
	{
		reply_error(reply, 401, "UNAUTHENTICATED", detail_error_info("ACCESS_TOKEN_TYPE_UNSUPPORTED"),
					"Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or "
					"other valid authentication credential.");
		return false;
	}
	if (key == NULL)
	{
		reply_error(reply, 403, "PERMISSION_DENIED", NULL,
					"Method doesn't allow unregistered callers (callers without established identity). Please use "
					"API Key or other form of API consumer identity to call this API.");
		return false;
	}
	if (*key == '\0' || (settings.key != NULL && strcmp(key, settings.key) != 0))
	{
		reply_error(reply, 400, "INVALID_ARGUMENT", detail_error_info("API_KEY_INVALID"),
					"API key not valid. Please pass a valid API key.");
		return false;
	}
	return true;
}

static bool
check_query(const GeminiCall *call, Reply *reply)
{
	for (size_t i = 0; i < call->request->query.count; i++)
	{
		const Pair *one = &call->request->query.items[i];

		if ((strcmp(one->name, "alt") == 0 || strcmp(one->name, "$alt") == 0) && strncmp(one->value, "json", 4) == 0)
			continue;
		return INVALID("Invalid JSON payload received. Unknown name \"%s\": Cannot bind query parameter. "
					   "Field '%s' could not be found in request message.", one->name, one->name);
	}
	return true;
}

static bool
check_payload(GeminiCall *call, Reply *reply)
{
	const char *type = pairs_get(&call->request->headers, "content-type");

	if (call->model == NULL)
	{
		reply_error(reply, 404, "NOT_FOUND", NULL,
					"models/%s is not found for API version v1beta, or is not supported for generateContent. Call "
					"ListModels to see the list of available models and their supported methods.", call->model_name);
		return false;
	}
	if (call->request->body_length > MAX_BODY_BYTES)
		return INVALID("Request payload size exceeds the limit: %d bytes.", MAX_BODY_BYTES);
	if (type == NULL || strncasecmp(type, "application/json", 16) != 0)
		return INVALID("Invalid content type \"%s\": application/json is needed.", type ? type : "");
	if (call->body == NULL)
		return INVALID("%s", call->parse_error);
	if (call->violations.fields != NULL)
	{
		reply_error(reply, 400, "INVALID_ARGUMENT",
					json_pack("[{s:s, s:O}]", "@type", "type.googleapis.com/google.rpc.BadRequest",
							  "fieldViolations", call->violations.fields),
					"%s", call->violations.text.data);
		return false;
	}
	return true;
}

static bool
check_contents(const GeminiCall *call, Reply *reply)
{
	const json_t *contents = json_object_get(call->body, "contents");
	const json_t *system = json_object_get(call->body, "systemInstruction");
	const char *last_role = NULL;
	size_t		turn;
	json_t	   *content;

	if (json_array_size(contents) == 0)
		return INVALID("* GenerateContentRequest.contents: contents is not specified\n");
	json_array_foreach(contents, turn, content)
	{
		if (!check_content(call, content, turn, reply))
			return false;
		last_role = json_string_value(json_object_get(content, "role"));
	}
	if (last_role != NULL && strcmp(last_role, "model") == 0)
		return INVALID("Please ensure that the last turn of the conversation has the role user.");
	if (system != NULL && json_array_size(json_object_get(system, "parts")) == 0)
		return INVALID("* GenerateContentRequest.system_instruction.parts: contents.parts must not be empty.\n");
	return true;
}

static bool
check_content(const GeminiCall *call, const json_t *content, size_t turn, Reply *reply)
{
	const json_t *parts = json_object_get(content, "parts");
	const char *role = json_string_value(json_object_get(content, "role"));
	size_t		at;
	json_t	   *part;

	if (role != NULL && strcmp(role, "user") != 0 && strcmp(role, "model") != 0)
		return INVALID("Please use a valid role: user, model.");
	if (json_array_size(parts) == 0)
		return INVALID("* GenerateContentRequest.contents[%zu].parts: contents.parts must not be empty.\n", turn);
	json_array_foreach(parts, at, part)
	{
		const json_t *blob = json_object_get(part, "inlineData");

		if (json_object_get(part, "text") == NULL && blob == NULL && json_object_get(part, "fileData") == NULL &&
			json_object_get(part, "functionCall") == NULL && json_object_get(part, "functionResponse") == NULL)
			return INVALID("* GenerateContentRequest.contents[%zu].parts[%zu].data: required oneof field 'data' must "
						   "have one initialized field\n", turn, at);
		if (call->model->image && blob != NULL && role != NULL && strcmp(role, "model") == 0 &&
			json_object_get(part, "thoughtSignature") == NULL)
			return INVALID("Image part is missing a thought_signature in content position %zu, part position %zu.",
						   turn + 1, at + 1);
	}
	return true;
}

static bool
check_images(const GeminiCall *call, Reply *reply)
{
	if (call->model->image && call->image_count > MAX_IMAGES)
		return INVALID("Too many images: %zu, the model takes %d.", call->image_count, MAX_IMAGES);
	for (size_t i = 0; i < call->image_count; i++)
	{
		const InputImage *image = &call->images[i];
		const char *type = picture_type(image->bytes.data, image->bytes.len);
		bool		known = false;
		bool		heif;

		for (int t = 0; input_types[t] != NULL; t++)
			known = known || strcmp(image->declared, input_types[t]) == 0;
		if (*image->declared == '\0')
			return INVALID("* GenerateContentRequest.%s.inline_data.mime_type: must be specified\n", image->path);
		if (!known)
			return INVALID("Unsupported MIME type: %s", image->declared);
		if (image->bytes.len == 0)
			return INVALID("* GenerateContentRequest.%s.inline_data.data: must be specified\n", image->path);
		heif = type != NULL && strncmp(type, "image/hei", 9) == 0 && strncmp(image->declared, "image/hei", 9) == 0;
		if (type == NULL || (!heif && strcmp(type, image->declared) != 0))
			return INVALID("Provided image is not valid: the bytes are not %s.", image->declared);
	}
	return true;
}

static bool
check_config(const GeminiCall *call, Reply *reply)
{
	static const char *const sampling[] = {"temperature", "topP", "topK", NULL};
	const json_t *count = json_object_get(call->config, "candidateCount");
	const json_t *most = json_object_get(call->config, "maxOutputTokens");
	const char *tier = json_string_value(json_object_get(call->body, "serviceTier"));

	for (int i = 0; sampling[i] != NULL; i++)
	{
		char		snake[32];

		proto_snake(sampling[i], snake, sizeof snake);
		if (json_object_get(call->config, sampling[i]) != NULL)
			return INVALID("%s is not supported for this model.", snake);
	}
	if (count != NULL && (!json_is_integer(count) || json_integer_value(count) != 1))
		return INVALID("Multiple candidates is not enabled for this model");
	if (most != NULL && json_is_integer(most) && json_integer_value(most) < 1)
		return INVALID("* GenerateContentRequest.generation_config.max_output_tokens: max_output_tokens must be positive.\n");
	if (json_array_size(json_object_get(call->config, "stopSequences")) > MAX_STOP_SEQUENCES)
		return INVALID("* GenerateContentRequest.generation_config.stop_sequences: at most %d.\n", MAX_STOP_SEQUENCES);
	if (tier != NULL && strcmp(tier, "standard") != 0 && strcmp(tier, "flex") != 0 && strcmp(tier, "priority") != 0)
		return INVALID("Invalid value at 'service_tier' (TYPE_ENUM), \"%.40s\"", tier);
	return true;
}

static bool
check_output(const GeminiCall *call, Reply *reply)
{
	const char *mime = json_string_value(json_object_get(call->config, "responseMimeType"));
	const json_t *schema = json_object_get(call->config, "responseSchema");
	const json_t *json_schema = json_object_get(call->config, "responseJsonSchema");
	bool		json_mode = mime != NULL && strcmp(mime, "application/json") == 0;
	Buf			why = {0};

	if (mime != NULL && !json_mode && strcmp(mime, "text/plain") != 0 && strcmp(mime, "text/x.enum") != 0)
		return INVALID("* GenerateContentRequest.generation_config.response_mime_type: allowed mimetypes are "
					   "`text/plain`, `application/json`, `application/xml`, `application/yaml` and `text/x.enum`.\n");
	if (call->model->image && (json_mode || schema != NULL || json_schema != NULL))
		return INVALID("JSON mode is not enabled for this model");
	if (schema != NULL && json_schema != NULL)
		return INVALID("* GenerateContentRequest.generation_config.response_json_schema: only one of response_schema "
					   "and response_json_schema can be set.\n");
	if ((schema != NULL || json_schema != NULL) && !json_mode)
		return INVALID("* GenerateContentRequest.generation_config.response_schema: only allowed with the "
					   "response_mime_type application/json.\n");
	if (json_schema != NULL && !schema_supported(json_schema, &why))
	{
		reply_error(reply, 400, "INVALID_ARGUMENT", NULL,
					"* GenerateContentRequest.generation_config.response_json_schema: %s\n", why.data);
		buf_free(&why);
		return false;
	}
	return true;
}

static bool
check_modalities(const GeminiCall *call, Reply *reply)
{
	size_t		at;
	json_t	   *one;

	json_array_foreach(json_object_get(call->config, "responseModalities"), at, one)
	{
		const char *name = json_string_value(one);

		if (strcmp(name, "AUDIO") == 0 || (strcmp(name, "IMAGE") == 0 && !call->model->image))
			return INVALID("Model does not support the requested response modalities: %s",
						   strcmp(name, "AUDIO") == 0 ? "audio" : "image");
	}
	return true;
}

/* Is the word in a list whose words each end in a space? */
static bool
listed(const char *list, const char *word)
{
	size_t		len = strlen(word);

	for (const char *at = list; *at; at = strchr(at, ' ') + 1)
		if (strncmp(at, word, len) == 0 && at[len] == ' ')
			return true;
	return false;
}

static bool
check_image_config(const GeminiCall *call, Reply *reply)
{
	const json_t *config = json_object_get(call->config, "imageConfig");
	const char *ratio = json_string_value(json_object_get(config, "aspectRatio"));
	const char *size = json_string_value(json_object_get(config, "imageSize"));

	if (config == NULL)
		return true;
	if (!call->model->image)
		return INVALID("Image config is not supported for this model.");
	if (ratio != NULL && !listed(ratios, ratio))
		return INVALID("* GenerateContentRequest.generation_config.image_config.aspect_ratio: aspect_ratio must be one of %s.\n", ratios);
	if (size != NULL && !listed(call->model->sizes, size))
		return INVALID("* GenerateContentRequest.generation_config.image_config.image_size: image_size must be one of %s.\n",
					   call->model->sizes);
	return true;
}

static bool
check_thinking(const GeminiCall *call, Reply *reply)
{
	const json_t *config = json_object_get(call->config, "thinkingConfig");
	const char *level = json_string_value(json_object_get(config, "thinkingLevel"));
	char		upper[16];
	size_t		i;

	if (level == NULL)
		return true;
	if (json_object_get(config, "thinkingBudget") != NULL)
		return INVALID("You can only set only one of thinking budget and thinking level.");
	for (i = 0; level[i] != '\0' && i + 1 < sizeof upper; i++)
		upper[i] = (char) (level[i] & ~0x20);
	upper[i] = '\0';
	if (!listed(call->model->levels, upper))
		return INVALID("Thinking level %s is not supported for this model.", upper);
	return true;
}

static bool
check_safety(const GeminiCall *call, Reply *reply)
{
	const json_t *list = json_object_get(call->body, "safetySettings");
	size_t		at;
	json_t	   *one;

	json_array_foreach(list, at, one)
	{
		const char *category = json_string_value(json_object_get(one, "category"));

		if (category == NULL || json_object_get(one, "threshold") == NULL)
			return INVALID("* GenerateContentRequest.safety_settings[%zu]: category and threshold must be specified\n", at);
		for (size_t before = 0; before < at; before++)
			if (strcmp(json_string_value(json_object_get(json_array_get(list, before), "category")), category) == 0)
				return INVALID("* GenerateContentRequest.safety_settings[%zu].category: more than one safety setting for %s\n",
							   at, category);
	}
	return true;
}
