/*
 * gemini.c: POST /v1beta/models/{model}:generateContent.
 *
 * Reading never fails: what is wrong is noted and refused later, so that the log
 * shows what came in any case.  Then, in this order: the strict checks, the
 * script, the good answer.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gemini.h"
#include "log.h"
#include "picture.h"
#include "script.h"
#include "server.h"

#define MODELS "/v1beta/models/"

static void read_address(GeminiCall *call, const char *path);
static void read_body(GeminiCall *call, const Buf *body);
static void read_contents(GeminiCall *call);
static void read_part(GeminiCall *call, const json_t *part, const char *path);
static void note_call(const GeminiCall *call, json_t *note);
static void honour_server_timeout(const Request *request, Reply *reply);

static bool
owns(const Request *request)
{
	return strncmp(request->path, "/v1beta/", 8) == 0;
}

static void *
read_request(const Request *request, json_t *note)
{
	GeminiCall *call = xalloc(sizeof *call);

	call->request = request;
	read_address(call, request->path);
	read_body(call, &request->body);
	if (call->body != NULL)
		read_contents(call);
	call->kind = call->model != NULL && call->model->image ? "image" : call->schema != NULL ? "analysis" : "text";
	call->seed = hash_bytes(1, call->prompt.data, call->prompt.len);
	call->seed = hash_bytes(call->seed, call->model_name, strlen(call->model_name));
	if (call->image_count > 0)
		call->seed = hash_bytes(call->seed, call->images[0].sha256, 64);
	note_call(call, note);
	return call;
}

static void
answer(void *state, const Request *request, Reply *reply)
{
	GeminiCall *call = state;
	ScriptCall	question = {
		.service = "gemini", .nth = request->n - stats.base, .model = call->model_name, .kind = call->kind,
		.prompt = call->prompt.data, .image_sha256 = call->image_count > 0 ? call->images[0].sha256 : NULL
	};
	json_t	   *rule;
	Answer		good = {0};

	if (!gemini_check(call, reply))
	{
		json_t	   *error = json_loadb(reply->body.data, reply->body.len, 0, NULL);
		const char *message = json_string_value(json_object_get(json_object_get(error, "error"), "message"));

		reply->refused = xstrdup(message ? message : "refused");
		json_decref(error);
		return;
	}
	rule = script_take(&question);
	if (rule != NULL)
	{
		gemini_fault(call, rule, reply);
		json_decref(rule);
		return;
	}
	if (!answer_good(&good, call, NULL))
	{
		answer_undecodable(&good, reply);
		return;
	}
	answer_write(&good, call, reply);
	honour_server_timeout(request, reply);
}

static void
done(void *state)
{
	GeminiCall *call = state;

	free(call->model_name);
	free(call->parse_error);
	json_decref(call->body);
	violations_free(&call->violations);
	buf_free(&call->prompt);
	buf_free(&call->system);
	for (size_t i = 0; i < call->image_count; i++)
	{
		free(call->images[i].declared);
		buf_free(&call->images[i].bytes);
	}
	free(call->images);
	free(call);
}

const Service gemini_service = {"gemini", owns, read_request, answer, done, gemini_knows_fault, NULL};

static void
read_address(GeminiCall *call, const char *path)
{
	const char *name = strncmp(path, MODELS, strlen(MODELS)) == 0 ? path + strlen(MODELS) : "";
	const char *colon = strchr(name, ':');

	call->model_name = colon != NULL ? strndup(name, (size_t) (colon - name)) : strdup("");
	if (call->model_name == NULL)
		abort();
	call->known_method = colon != NULL && strcmp(colon, ":generateContent") == 0;
	call->model = gemini_model(call->model_name);
}

static void
read_body(GeminiCall *call, const Buf *body)
{
	json_error_t error;

	call->body = json_loadb(body->data ? body->data : "", body->len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
	if (call->body == NULL)
	{
		Buf			text = {0};

		buf_printf(&text, "Invalid JSON payload received. %s (line %d, column %d)", error.text, error.line, error.column);
		call->parse_error = text.data;
		return;
	}
	proto_check(call->body, &generate_content_request, "", &call->violations);
	call->config = json_object_get(call->body, "generationConfig");
	call->schema = json_object_get(call->config, "responseJsonSchema");
	if (call->schema == NULL)
		call->schema = json_object_get(call->config, "responseSchema");
}

static void
read_contents(GeminiCall *call)
{
	size_t		turn;
	size_t		at;
	json_t	   *content;
	json_t	   *part;

	json_array_foreach(json_object_get(call->body, "contents"), turn, content)
	{
		const char *role = json_string_value(json_object_get(content, "role"));

		json_array_foreach(json_object_get(content, "parts"), at, part)
		{
			char		path[64];

			snprintf(path, sizeof path, "contents[%zu].parts[%zu]", turn, at);
			if (role == NULL || strcmp(role, "user") == 0)
				read_part(call, part, path);
		}
	}
	content = json_object_get(call->body, "systemInstruction");
	json_array_foreach(json_object_get(content, "parts"), at, part)
	{
		const char *text = json_string_value(json_object_get(part, "text"));

		if (text != NULL)
			buf_puts(&call->system, text);
	}
}

static void
read_part(GeminiCall *call, const json_t *part, const char *path)
{
	const json_t *text = json_object_get(part, "text");
	const json_t *blob = json_object_get(part, "inlineData");
	const json_t *data = json_object_get(blob, "data");
	const char *mime = json_string_value(json_object_get(blob, "mimeType"));
	InputImage *image;

	if (json_is_string(text))
	{
		if (call->prompt.len > 0)
			buf_puts(&call->prompt, "\n");
		buf_add(&call->prompt, json_string_value(text), json_string_length(text));
	}
	if (!json_is_object(blob))
		return;
	call->images = realloc(call->images, (call->image_count + 1) * sizeof *call->images);
	if (call->images == NULL)
		abort();
	image = &call->images[call->image_count++];
	memset(image, 0, sizeof *image);
	image->declared = xstrdup(mime ? mime : "");
	snprintf(image->path, sizeof image->path, "%s", path);
	/* Bad base64 is among the violations already. */
	if (json_is_string(data) && !base64_decode(json_string_value(data), json_string_length(data), &image->bytes))
		buf_free(&image->bytes);
	sha256_hex(image->bytes.data, image->bytes.len, image->sha256);
}

static void
note_call(const GeminiCall *call, json_t *note)
{
	const char *key = pairs_get(&call->request->headers, "x-goog-api-key");
	json_t	   *images = json_array();
	char		hex[65];

	json_object_set_new(note, "model", log_text(call->model_name, strlen(call->model_name)));
	json_object_set_new(note, "kind", json_string(call->kind));
	if (key != NULL)
	{
		sha256_hex(key, strlen(key), hex);
		json_object_set_new(note, "key_sha256", json_stringn(hex, 12));
	}
	json_object_set_new(note, "prompt", log_text(call->prompt.data ? call->prompt.data : "", call->prompt.len));
	json_object_set_new(note, "system", log_text(call->system.data ? call->system.data : "", call->system.len));
	if (call->config != NULL)
		json_object_set_new(note, "generation_config", json_deep_copy(call->config));
	for (size_t i = 0; i < call->image_count; i++)
	{
		const char *type = picture_type(call->images[i].bytes.data, call->images[i].bytes.len);

		json_array_append_new(images, json_pack("{s:s, s:o, s:s?, s:I}",
												"sha256", call->images[i].sha256,
												"mime", log_text(call->images[i].declared, strlen(call->images[i].declared)),
												"type", type,
												"bytes", (json_int_t) call->images[i].bytes.len));
	}
	if (call->image_count > 0)
	{
		json_object_set_new(note, "image_sha256", json_string(call->images[0].sha256));
		json_object_set_new(note, "image_mime", log_text(call->images[0].declared, strlen(call->images[0].declared)));
		json_object_set_new(note, "image_bytes", json_integer((json_int_t) call->images[0].bytes.len));
	}
	json_object_set_new(note, "images", images);
}

/* The service gives up when the client said it would; scripted calls do what the script says. */
static void
honour_server_timeout(const Request *request, Reply *reply)
{
	const char *text = pairs_get(&request->headers, "x-server-timeout");
	double		seconds = text != NULL ? strtod(text, NULL) : 0;

	if (text == NULL || seconds * 1000 >= settings.latency_ms)
		return;
	pairs_free(&reply->headers);
	buf_free(&reply->body);
	reply_error(reply, 504, "DEADLINE_EXCEEDED", NULL, "Deadline expired before operation could complete.");
	reply->delay_ms = (int) (seconds * 1000);
	reply->fault = "server_timeout";
}
