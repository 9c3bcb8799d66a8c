/*
 * test_out_of_memory.c: each allocation fails once, the first, the second, and
 * so on to the last: nothing crashes or leaks (the asan lane sees that), and no
 * failure looks like a success.
 *
 * The linker's --wrap gives our files these allocators; jansson takes them by
 * its own hook.
 */
#include <jansson.h>

#include "canonical_json.h"
#include "crypto.h"
#include "gemini.h"
#include "storage_rest.h"
#include "tap.h"

void	   *__real_malloc(size_t size);
void	   *__real_calloc(size_t count, size_t size);
void	   *__real_realloc(void *memory, size_t size);
void	   *__wrap_malloc(size_t size);
void	   *__wrap_calloc(size_t count, size_t size);
void	   *__wrap_realloc(void *memory, size_t size);

static long allocations_left = -1;	/* -1: none fails */
static bool one_failed;

static bool
fails(void)
{
	if (allocations_left < 0 || allocations_left-- > 0)
		return false;
	one_failed = true;
	return true;
}

void *
__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *
__wrap_calloc(size_t count, size_t size)
{
	return fails() ? NULL : __real_calloc(count, size);
}

void *
__wrap_realloc(void *memory, size_t size)
{
	return fails() ? NULL : __real_realloc(memory, size);
}

/* Runs it with the first, second, ... allocation failing, until none is left to fail. */
static void
with_failures(bool (*sound) (void *context), void *context, const char *name)
{
	bool		all = true;
	long		n = 0;

	do
	{
		one_failed = false;
		allocations_left = n++;
		all = sound(context) && all;
		allocations_left = -1;
	} while (one_failed && n < 10000);
	ok(all && n > 1 && n < 10000, "%s, %ld allocations", name, n - 1);
}

typedef struct Case
{
	GenerationKind kind;
	const char *body;
	const uint8_t *image;
	size_t		length;
} Case;

static bool
answer_is_sound(void *context)
{
	Case	   *c = context;
	static const uint8_t nonce[16];
	GeminiReader *reader = sparky_gemini_reader_start(c->kind, nonce, 1 << 20, 8);
	GeminiAnswer answer;
	bool		fed = true;
	bool		sound;

	if (reader == NULL)
		return one_failed;
	for (const char *at = c->body; *at != '\0' && fed; at += strnlen(at, 100))
		fed = sparky_gemini_reader_add(reader, at, strnlen(at, 100));
	sparky_gemini_read(reader, fed ? TRANSPORT_DONE : TRANSPORT_STOPPED, 200, "application/json",
					   "{\"properties\":{\"a\":{\"type\":\"string\"}}}", "key", &answer);
	if (answer.outcome == OUTCOME_OK && c->kind == KIND_IMAGE)
		sound = fed && answer.image_length == c->length && memcmp(answer.image, c->image, c->length) == 0;
	else if (answer.outcome == OUTCOME_OK)
		sound = fed && answer.analysis != NULL && strcmp(answer.analysis, "{\"a\":\"***\"}") == 0;
	else
		sound = one_failed && answer.image == NULL && answer.analysis == NULL;
	sparky_gemini_answer_free(&answer);
	sparky_gemini_reader_free(reader);
	return sound;
}

static bool
request_is_sound(void *context)
{
	GeminiMessage message;
	char		why[300];
	bool		made = sparky_gemini_request(context, &message, why, sizeof(why));
	bool		sound = made ? message.prefix_length > 100 && strlen(message.prefix) == message.prefix_length &&
		strlen(message.suffix) == message.suffix_length && strstr(message.url, ":generateContent") != NULL &&
		strstr(message.prefix, "\"seed\":1") != NULL && strstr(message.prefix, "responseJsonSchema") != NULL
		: one_failed && why[0] != '\0';

	sparky_gemini_message_free(&message);
	return sound;
}

static bool
canonical_is_sound(void *context)
{
	JsonText	text = {0};
	bool		added = sparky_jcs_add_text(&text, context, strlen(context), NULL, 0);
	bool		sound = added ? strcmp(text.data, "{\"a\":[1,{}],\"b\":\"x\"}") == 0 : one_failed;

	sparky_json_text_free(&text);
	return sound;
}

static bool
hash_is_sound(void *context)
{
	Sha256	   *hash = sparky_sha256_start();

	sparky_sha256_free(hash);
	return hash != NULL || one_failed;
}

typedef struct StorageCase
{
	int			status;
	const char *body;
	StorageOutcome outcome;
} StorageCase;

/* A link is asked for and read: made whole, or not made. */
static bool
link_is_sound(void *context)
{
	StorageCase *c = context;
	StorageMessage message;
	StorageAnswer answer;
	bool		sound;

	if (sparky_storage_rest_sign("http://x", "b/k.png", 60, &message, NULL, 0) != STORAGE_OK)
		return one_failed && message.url == NULL && message.body == NULL;
	sparky_storage_rest_read(&message, TRANSPORT_DONE, c->status, NULL, c->body, strlen(c->body), "secret", NULL, &answer);
	if (answer.outcome == STORAGE_OK)
		sound = c->outcome == STORAGE_OK && strcmp(answer.link, "http://x/object/sign/b/k.png?token=a.b") == 0;
	else
		sound = answer.link == NULL && (answer.outcome == c->outcome ||
										(one_failed && sparky_storage_rest_rule(answer.outcome)->matter == STORAGE_MATTER_TEMPORARY));
	sparky_storage_rest_answer_free(&answer);
	sparky_storage_rest_message_free(&message);
	return sound;
}

static bool
listing_is_sound(void *context)
{
	const char *keys[] = {"a", "b"};
	StorageMessage message;
	StorageAnswer answer;
	bool		sound;

	if (sparky_storage_rest_delete("http://x", "b", keys, 2, &message, NULL, 0) != STORAGE_OK)
		return one_failed;
	sparky_storage_rest_message_free(&message);
	if (sparky_storage_rest_list("http://x", "b", "f", 10, 0, &message, NULL, 0) != STORAGE_OK)
		return one_failed;
	sparky_storage_rest_read(&message, TRANSPORT_DONE, 200, NULL, context, strlen(context), NULL, NULL, &answer);
	sound = answer.outcome == STORAGE_OK ? answer.count == 2 && strcmp(answer.entries[1].name, "d") == 0 : one_failed && answer.entries == NULL;
	sparky_storage_rest_answer_free(&answer);
	sparky_storage_rest_message_free(&message);
	return sound;
}

int
main(void)
{
	Case		image = {KIND_IMAGE, NULL, NULL, 0};
	Case		analysis = {KIND_ANALYSIS, NULL, NULL, 0};
	GeminiRequest request = {
		.kind = KIND_ANALYSIS, .model = "m", .prompt = "p", .system_instruction = "s", .response_schema = "{\"type\":\"object\"}",
		.generation_config = "{\"seed\":1}", .image_mime = "image/png", .image_bytes = 5, .base_url = "https://x",
	};
	StorageCase link = {200, "{\"signedURL\":\"/object/sign/b/k.png?token=a.b\"}", STORAGE_OK};
	StorageCase missing = {400, "{\"statusCode\":\"404\",\"message\":\"no secret\",\"code\":\"NoSuchKey\"}", STORAGE_MISSING};
	uint8_t    *bytes;
	char	   *encoded;
	char	   *body;

	json_set_alloc_funcs(__wrap_malloc, free);
	image.image = bytes = read_fixture("gradient.png", &image.length);
	encoded = malloc(SPARKY_BASE64_LENGTH(image.length) + 1);
	sparky_base64_encode(image.image, image.length, encoded);
	if (asprintf(&body, "{\"candidates\":[{\"finishReason\":\"STOP\",\"content\":{\"parts\":[{\"text\":\"%.400s of\"},{\"thought\":true,\"inlineData\":"
				 "{\"mimeType\":\"image/png\",\"data\":\"%s\"}},{\"inlineData\":{\"mimeType\":\"image/png\",\"data\":\"%s\"}}]}}],"
				 "\"usageMetadata\":{\"a\":1},\"modelVersion\":\"m\",\"responseId\":\"r\"}", encoded, encoded, encoded) < 0)
		abort();
	image.body = body;
	analysis.body = "{\"candidates\":[{\"finishReason\":\"STOP\",\"content\":{\"parts\":[{\"text\":\"{\\\"a\\\":\"},{\"text\":\"\\\"key\\\"}\"}]}}]}";

	with_failures(answer_is_sound, &image, "an image");
	with_failures(answer_is_sound, &analysis, "an analysis");
	with_failures(request_is_sound, &request, "a request");
	with_failures(canonical_is_sound, "{\"b\":\"x\",\"a\":[1,{}]}", "a canonical form");
	with_failures(hash_is_sound, NULL, "a hash");
	/* jansson 2.14 does not notice that a token of more than its first buffer did not fit: here only our own allocations fail. */
	json_set_alloc_funcs(__real_malloc, free);
	with_failures(link_is_sound, &link, "a link");
	with_failures(link_is_sound, &missing, "an error of storage");
	with_failures(listing_is_sound, "[{\"name\":\"c\",\"id\":\"1\",\"created_at\":\"x\",\"metadata\":{\"size\":1}},{\"name\":\"d\",\"id\":null}]", "a listing");
	free(bytes);
	free(encoded);
	free(body);
	return done();
}
