/*
 * gemini_fault_transport.c: faults of HTTP and of the JSON around the answer.
 */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

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
fault_bad_gateway_html(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	(void) call;
	reply->status = (int) parameter_number(parameters, "status", 502);
	pairs_add(&reply->headers, "Content-Type", "text/html; charset=UTF-8");
	buf_puts(&reply->body, "<!DOCTYPE html>\n<html lang=en>\n<title>Error 502 (Server Error)!!1</title>\n<p><b>502.</b> "
			 "<ins>That's an error.</ins>\n<p>The server encountered a temporary error and could not complete your request.\n");
}

void
fault_redirect(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	(void) call;
	reply->status = (int) parameter_number(parameters, "status", 302);
	pairs_add(&reply->headers, "Location", parameter_text(parameters, "url", "http://127.0.0.1:1/"));
	pairs_add(&reply->headers, "Content-Type", "text/html; charset=UTF-8");
	buf_puts(&reply->body, "<HTML><HEAD><TITLE>Moved</TITLE></HEAD><BODY>The document has moved.</BODY></HTML>\n");
}

void
fault_error_200(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	(void) call;
	reply_error(reply, 503, "UNAVAILABLE", NULL, "%s", parameter_text(parameters, "message", "The model is overloaded."));
	reply->status = 200;
}

/* ---- the transport ---- */

void
fault_silence(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	(void) call;
	(void) parameters;
	reply->delivery = DELIVER_SILENCE;
}

void
fault_reset_before(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	(void) call;
	(void) parameters;
	reply->delivery = DELIVER_RESET_BEFORE;
}

void
fault_close_before(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	(void) call;
	(void) parameters;
	reply->delivery = DELIVER_CLOSE;
}

void
fault_reset_inside(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	fault_ok(call, parameters, reply);
	reply->delivery = DELIVER_RESET_INSIDE;
	reply->cut_at = (uint64_t) parameter_number(parameters, "cut_at", (json_int_t) reply->body.len / 2);
}

void
fault_short_body(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	fault_ok(call, parameters, reply);
	reply->delivery = DELIVER_SHORT;
	reply->cut_at = (uint64_t) parameter_number(parameters, "cut_at", (json_int_t) reply->body.len / 2);
}

void
fault_cut_json(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	size_t		cut;

	fault_ok(call, parameters, reply);
	cut = (size_t) parameter_number(parameters, "cut_at", (json_int_t) reply->body.len / 2);
	if (cut < reply->body.len)
		reply->body.len = cut;
}

void
fault_trickle(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	Answer		answer = {0};

	fault_write_good(&answer, call, parameters, reply);
	reply->delivery = DELIVER_TRICKLE;
	reply->tick_ms = (int) parameter_number(parameters, "ms", 100);
	reply->tick_bytes = (uint64_t) parameter_number(parameters, "count", 1);
	if (reply->tick_bytes < 1)
		reply->tick_bytes = 1;
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
	reply->tail = image ? "\"}}],\"role\":\"model\"},\"finishReason\":\"STOP\",\"index\":0}]}\n"
		: "\"}],\"role\":\"model\"},\"finishReason\":\"STOP\",\"index\":0}]}\n";
	reply->filler = (uint64_t) parameter_number(parameters, "mb", 100) * MEGABYTE;
	reply->delivery = DELIVER_FILLED;
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

void
fault_headers_flood(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	json_int_t	count = parameter_number(parameters, "count", 2000);
	json_int_t	bytes = parameter_number(parameters, "bytes", 1000);

	(void) call;
	reply->delivery = DELIVER_RAW;
	buf_puts(&reply->body, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n");
	for (json_int_t i = 0; i < count; i++)
	{
		buf_printf(&reply->body, "X-Flood-%lld: ", (long long) i);
		buf_fill(&reply->body, 'x', (size_t) bytes);
		buf_puts(&reply->body, "\r\n");
	}
	buf_puts(&reply->body, "Content-Length: 3\r\n\r\n{}\n");
}

void
fault_not_http(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	(void) call;
	reply->delivery = DELIVER_RAW;
	buf_puts(&reply->body, parameter_text(parameters, "text", "SSH-2.0-OpenSSH_9.2\r\n"));
}

/* ---- JSON that is hard to read ---- */

void
fault_deep_json(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	size_t		depth = (size_t) parameter_number(parameters, "depth", 100000);

	(void) call;
	pairs_add(&reply->headers, "Content-Type", "application/json; charset=UTF-8");
	buf_puts(&reply->body, "{\"candidates\":");
	buf_fill(&reply->body, '[', depth);
	buf_fill(&reply->body, ']', depth);
	buf_puts(&reply->body, "}\n");
}

void
fault_duplicate_keys(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	Answer		answer = {.duplicate = "  \"candidates\": [],\n"};

	fault_write_good(&answer, call, parameters, reply);
}
