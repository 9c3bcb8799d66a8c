/*
 * gemini_fault_transport.c: faults of HTTP and of the JSON around the answer.
 *
 * Those of HTTP that other services have too are in common_fault.c.
 */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "common_fault.h"
#include "gemini_fault.h"

#define MEGABYTE ((uint64_t) 1024 * 1024)

static json_t *quota_details(const GeminiCall *call, const char *quota_id, const char *delay);

/* ---- errors ---- */

void
fault_rate_limited(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	reply_error(reply, 429, "RESOURCE_EXHAUSTED",
				quota_details(call, "GenerateRequestsPerMinutePerProjectPerModel", parameter_text(parameters, "retryDelay", "1.5s")),
				"You exceeded your current quota, please check your plan and billing details.");
}

void
fault_rate_limited_bare(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	(void) call;
	(void) parameters;
	reply_error(reply, 429, "RESOURCE_EXHAUSTED", NULL, "Resource has been exhausted (e.g. check quota).");
}

void
fault_quota_day(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	reply_error(reply, 429, "RESOURCE_EXHAUSTED",
				quota_details(call, "GenerateRequestsPerDayPerProjectPerModel", parameter_text(parameters, "retryDelay", "36s")),
				"You exceeded your current quota, please check your plan and billing details.");
}

static json_t *
quota_details(const GeminiCall *call, const char *quota_id, const char *delay)
{
	return json_pack("[{s:s, s:[{s:s, s:s, s:{s:s, s:s}, s:s}]}, {s:s, s:[{s:s, s:s}]}, {s:s, s:s}]",
					 "@type", "type.googleapis.com/google.rpc.QuotaFailure", "violations",
					 "quotaMetric", "generativelanguage.googleapis.com/generate_requests_per_model",
					 "quotaId", quota_id,
					 "quotaDimensions", "location", "global", "model", call->model_name,
					 "quotaValue", "100",
					 "@type", "type.googleapis.com/google.rpc.Help", "links",
					 "description", "Learn more about Gemini API quotas",
					 "url", "https://ai.google.dev/gemini-api/docs/rate-limits",
					 "@type", "type.googleapis.com/google.rpc.RetryInfo", "retryDelay", delay);
}

void
fault_key_invalid(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	(void) call;
	(void) parameters;
	reply_error(reply, 400, "INVALID_ARGUMENT", detail_error_info("API_KEY_INVALID"),
				"API key not valid. Please pass a valid API key.");
}

/* To see that a client scrubs the key from what it keeps. */
void
fault_echo_key(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	reply_error(reply, (int) parameter_number(parameters, "status", 403), "PERMISSION_DENIED", NULL,
				"The key %s may not be used (%s).", pairs_get(&call->request->headers, "x-goog-api-key"),
				pairs_get(&call->request->headers, "x-goog-api-key"));
}

void
fault_error_200(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	(void) call;
	reply_error(reply, 503, "UNAVAILABLE", NULL, "%s", parameter_text(parameters, "message", "The model is overloaded."));
	reply->status = 200;
}

/* ---- the transport ---- */

/* A common fault that needs no answer. */
void
fault_instead(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	(void) call;
	common_fault_act(common_fault(reply->fault), parameters, reply);
}

/* A common fault that bends the good answer. */
void
fault_after_ok(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	fault_ok(call, parameters, reply);
	common_fault_act(common_fault(reply->fault), parameters, reply);
}

/* Its "ms" is no delay. */
void
fault_trickle(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	Answer		answer = {0};

	fault_write_good(&answer, call, parameters, reply);
	common_fault_act(common_fault(reply->fault), parameters, reply);
}

/* Complete JSON with a text of so many megabytes: only a cap on bytes stops it. */
void
fault_huge_body(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	bool		image = strcmp(parameter_text(parameters, "where", "text"), "image") == 0;

	(void) call;
	pairs_add(&reply->headers, "Content-Type", "application/json; charset=UTF-8");
	buf_puts(&reply->body, image ? "{\"candidates\":[{\"content\":{\"parts\":[{\"inlineData\":{\"mimeType\":\"image/png\",\"data\":\""
			 : "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"");
	fault_fill(parameters, image ? "\"}}],\"role\":\"model\"},\"finishReason\":\"STOP\",\"index\":0}]}\n"
			   : "\"}],\"role\":\"model\"},\"finishReason\":\"STOP\",\"index\":0}]}\n", reply);
}

void
fault_gzip_bomb(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	uint64_t	left = (uint64_t) parameter_number(parameters, "mb", 200) * MEGABYTE;
	static const char head[] = "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"";
	char	   *block = xalloc(MEGABYTE);
	char	   *packed = xalloc(MEGABYTE);
	z_stream	stream = {0};

	(void) call;
	/* 15 + 16: the largest window, with the frame of gzip. */
	if (deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
		abort();
	memset(block, 'A', MEGABYTE);
	memcpy(block, head, sizeof head - 1);
	for (; left > 0; left -= MEGABYTE)
	{
		stream.next_in = (Bytef *) block;
		stream.avail_in = MEGABYTE;
		do
		{
			stream.next_out = (Bytef *) packed;
			stream.avail_out = MEGABYTE;
			deflate(&stream, left == MEGABYTE ? Z_FINISH : Z_NO_FLUSH);
			buf_add(&reply->body, packed, MEGABYTE - stream.avail_out);
		} while (stream.avail_out == 0);
		memset(block, 'A', sizeof head);
	}
	deflateEnd(&stream);
	free(block);
	free(packed);
	pairs_add(&reply->headers, "Content-Type", "application/json; charset=UTF-8");
	pairs_add(&reply->headers, "Content-Encoding", "gzip");
}

/* ---- JSON that is hard to read ---- */

void
fault_deep_json(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	(void) call;
	pairs_add(&reply->headers, "Content-Type", "application/json; charset=UTF-8");
	fault_nest(parameters, "{\"candidates\":", "}\n", reply);
}

void
fault_duplicate_keys(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	Answer		answer = {.duplicate = "  \"candidates\": [],\n"};

	fault_write_good(&answer, call, parameters, reply);
}
