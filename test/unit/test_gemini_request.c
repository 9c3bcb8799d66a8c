/* test_gemini_request.c: the body that is sent, and what is refused before it is. */
#include "crypto.h"
#include "gemini.h"
#include "tap.h"

static const GeminiRequest plain = {
	.kind = KIND_IMAGE,
	.model = "gemini-nano-banana-2.1",
	.prompt = "Give \"her\" a bob,\nnothing else: \xC3\xA9",
	.image_mime = "image/jpeg",
	.image_bytes = 10,
	.base_url = "https://generativelanguage.googleapis.com",
};

/* The whole body, with a photo of that many bytes; malloc'd. */
static char *
whole_body(const GeminiRequest *request, const GeminiMessage *message)
{
	JsonText	body = {0};
	uint8_t    *photo = calloc(1, request->image_bytes);
	char	   *encoded = malloc(SPARKY_BASE64_LENGTH(request->image_bytes) + 1);

	sparky_json_text_add(&body, message->prefix, message->prefix_length);
	sparky_json_text_add(&body, encoded, sparky_base64_encode(photo, request->image_bytes, encoded));
	sparky_json_text_add(&body, message->suffix, message->suffix_length);
	free(photo);
	free(encoded);
	return body.data;
}

static void
sends(const GeminiRequest *request, const char *before, const char *name)
{
	GeminiMessage message;
	char		why[300] = "";
	JsonValue  *parsed;
	char	   *body;

	if (!ok(sparky_gemini_request(request, &message, why, sizeof(why)), "%s", name))
	{
		printf("# why: %s\n", why);
		return;
	}
	is_text(message.prefix, before, "  the text before the photo");
	is_text(message.suffix, "\"}}]}]}", "  the text after it");
	body = whole_body(request, &message);
	is_number(strlen(body), message.content_length, "  its length");
	parsed = sparky_json_parse(body, strlen(body), why, sizeof(why));
	ok(parsed != NULL, "  it is JSON");
	sparky_json_free(parsed);
	free(body);
	sparky_gemini_message_free(&message);
	ok(message.url == NULL && message.prefix == NULL, "  freed");
}

static void
refuses(const GeminiRequest *request, const char *reason, const char *name)
{
	GeminiMessage message;
	char		why[300] = "";

	ok(!sparky_gemini_request(request, &message, why, sizeof(why)) && message.url == NULL, "refused: %s", name);
	is_text(why, reason, "  reason");
	sparky_gemini_message_free(&message);
}

static void
test_bodies(void)
{
	GeminiRequest request = plain;
	GeminiMessage message;
	char		why[300];

#define TAIL(mime) ",\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":\"Give \\\"her\\\" a bob,\\nnothing else: \xC3\xA9\"},{\"inlineData\":{\"mimeType\":\"" mime "\",\"data\":\""
	sends(&request, "{\"generationConfig\":{\"responseModalities\":[\"TEXT\",\"IMAGE\"]}" TAIL("image/jpeg"), "an image request");

	request.generation_config = "{\"imageConfig\":{\"imageSize\":\"1K\"},\"seed\":7}";
	request.system_instruction = "Keep the face.";
	request.image_mime = "image/jpg";
	request.image_bytes = 11;
	sends(&request, "{\"systemInstruction\":{\"parts\":[{\"text\":\"Keep the face.\"}]},"
		  "\"generationConfig\":{\"responseModalities\":[\"TEXT\",\"IMAGE\"],\"imageConfig\":{\"imageSize\":\"1K\"},\"seed\":7}" TAIL("image/jpeg"),
		  "with instruction and config; image/jpg, which the API refuses, is sent as image/jpeg");

	request = plain;
	request.kind = KIND_ANALYSIS;
	request.image_mime = "image/heic";
	request.image_bytes = 12;
	request.response_schema = "{ \"type\":\"object\", \"properties\":{\"shape\":{\"enum\":[\"oval\",\"round\"]}} }";
	request.generation_config = "{}";
	sends(&request, "{\"generationConfig\":{\"responseMimeType\":\"application/json\",\"responseJsonSchema\":"
		  "{\"type\":\"object\",\"properties\":{\"shape\":{\"enum\":[\"oval\",\"round\"]}}}}" TAIL("image/heic"), "an analysis request");
	request.response_schema = NULL;
	sends(&request, "{\"generationConfig\":{\"responseMimeType\":\"application/json\"}" TAIL("image/heic"), "an analysis without a schema");

	request = plain;
	sparky_gemini_request(&request, &message, why, sizeof(why));
	is_text(message.url, "https://generativelanguage.googleapis.com/v1beta/models/gemini-nano-banana-2.1:generateContent", "URL");
	sparky_gemini_message_free(&message);
	request.base_url = "http://127.0.0.1:8080/gemini//";
	sparky_gemini_request(&request, &message, why, sizeof(why));
	is_text(message.url, "http://127.0.0.1:8080/gemini/v1beta/models/gemini-nano-banana-2.1:generateContent", "trailing slashes of the base go");
	sparky_gemini_message_free(&message);
}

#define REFUSES(member, value, reason, name) \
	do { GeminiRequest request = plain; request.member = (value); refuses(&request, reason, name); } while (0)

static void
test_refusals(void)
{
	static const char *const members[] = {
		"temperature", "topP", "topK", "candidateCount", "responseModalities", "responseMimeType", "responseSchema",
		"responseJsonSchema", "top_p", "candidate_count", "response_mime_type", "Response_Modalities",
	};
	char		long_model[90];
	GeminiRequest request = plain;
	char		why[10];
	GeminiMessage message;

	memset(long_model, 'a', 81);
	long_model[81] = '\0';
	REFUSES(model, "", "the model name is not valid", "no model");
	REFUSES(model, NULL, "the model name is not valid", "no model at all");
	REFUSES(model, long_model, "the model name is not valid", "a model of 81 characters");
	REFUSES(model, "a/b", "the model name is not valid", "a slash in the model");
	REFUSES(model, "a?key=1", "the model name is not valid", "a query in the model");
	REFUSES(model, "Gemini", "the model name is not valid", "upper case");
	REFUSES(model, "a\n", "the model name is not valid", "a line feed");
	REFUSES(base_url, "ftp://x", "the base URL is not valid", "another protocol");
	REFUSES(base_url, "https://x y", "the base URL is not valid", "a space in the base");
	REFUSES(base_url, "https://x?key=y", "the base URL is not valid", "a query in the base");
	REFUSES(base_url, "https://user:pw@x", "the base URL is not valid", "a user in the base");
	REFUSES(base_url, "https://x\r\nHost: y", "the base URL is not valid", "a header in the base");
	REFUSES(base_url, NULL, "the base URL is not valid", "no base");
	REFUSES(prompt, "", "the prompt is not valid", "no prompt");
	REFUSES(prompt, "a\xFF", "the prompt is not valid", "a prompt that is no UTF-8");
	REFUSES(system_instruction, "\xC0\x80", "the system instruction is not valid", "an instruction that is no UTF-8");
	REFUSES(image_mime, "image/gif", "the image type is not supported", "a GIF");
	REFUSES(image_mime, NULL, "the image type is not supported", "no type");
	REFUSES(image_bytes, 0, "the image is empty or too large", "no image");
	REFUSES(image_bytes, SIZE_MAX - 5, "the image is empty or too large", "an impossible image");
	REFUSES(generation_config, "[]", "the generation config is not a JSON object", "a config that is no object");
	REFUSES(generation_config, "{", "the generation config is not a JSON object", "a config that is no JSON");
	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
	{
		char		config[80];

		snprintf(config, sizeof(config), "{\"seed\":1,\"%s\":1}", members[i]);
		REFUSES(generation_config, config, "the generation config has a member that is not allowed", members[i]);
	}

	request.kind = KIND_ANALYSIS;
	request.response_schema = "{\"type\":";
	refuses(&request, "the response schema is not usable: unexpected end at byte 8", "a cut schema");
	request.response_schema = "{\"properties\":{\"a\":{\"pattern\":\"x\"}}}";
	refuses(&request, "the response schema is not usable: /properties/a/pattern: this keyword is not supported", "a schema that cannot be checked");
	request.response_schema = "{\"properties\":{\"a\":{\"anyOf\":[{\"x-values\":\"hairstyles.id\"}]}}}";
	refuses(&request, "the response schema is not usable: x-values is not for answers", "a schema with our own keyword");

	ok(!sparky_gemini_request(&request, &message, why, sizeof(why)) && strlen(why) == 9, "a small buffer for the reason is enough");
	ok(!sparky_gemini_request(&request, &message, NULL, 0), "and so is none");
}

int
main(void)
{
	test_bodies();
	test_refusals();
	return done();
}
