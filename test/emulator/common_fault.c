/*
 * common_fault.c: faults of HTTP and of the bytes, for all services (README.md tells the parameters).
 *
 * They know nothing of what was asked: they take the answer that is in the reply.
 */
#include <string.h>

#include "common_fault.h"

static void html(const json_t *parameters, Reply *reply);
static void redirect(const json_t *parameters, Reply *reply);
static void garbage(const json_t *parameters, Reply *reply);
static void cut(const json_t *parameters, Reply *reply);
static void end_early(const json_t *parameters, Reply *reply);
static void trickle(const json_t *parameters, Reply *reply);
static void not_http(const json_t *parameters, Reply *reply);
static void headers_flood(const json_t *parameters, Reply *reply);

static const CommonFault faults[] = {
	{"bad_gateway_html", false, DELIVER_CHUNKED, html},
	{"redirect", false, DELIVER_CHUNKED, redirect},
	{"garbage", true, DELIVER_CHUNKED, garbage},
	{"cut_json", true, DELIVER_CHUNKED, cut},
	{"silence", true, DELIVER_SILENCE, NULL},
	{"reset_before", true, DELIVER_RESET_BEFORE, NULL},
	{"close_before", true, DELIVER_CLOSE, NULL},
	{"reset_inside", true, DELIVER_RESET_INSIDE, end_early},
	{"short_body", true, DELIVER_SHORT, end_early},
	{"trickle", true, DELIVER_TRICKLE, trickle},
	{"not_http", true, DELIVER_RAW, not_http},
	{"headers_flood", true, DELIVER_RAW, headers_flood},
	{NULL, false, DELIVER_CHUNKED, NULL}
};

const CommonFault *
common_fault(const char *name)
{
	return find_named(faults, sizeof *faults, name);
}

void
common_fault_act(const CommonFault *fault, const json_t *parameters, Reply *reply)
{
	if (fault->act != NULL)
		fault->act(parameters, reply);
	if (fault->delivery != DELIVER_CHUNKED)
		reply->delivery = fault->delivery;
}

/* "ms" of trickle is the time between its bytes. */
int
fault_delay(const json_t *rule)
{
	bool		ticks = strcmp(parameter_text(rule, "fault", ""), "trickle") == 0;
	json_int_t	delay = parameter_number(rule, "delay_ms", -1);

	return (int) (ticks ? delay : parameter_number(rule, "ms", delay));
}

bool
fault_works(const json_t *parameters, bool usual)
{
	const json_t *processed = json_object_get(parameters, "processed");

	return processed != NULL ? json_is_true(processed) : usual;
}

void
fault_clear(Reply *reply)
{
	pairs_free(&reply->headers);
	buf_free(&reply->body);
}

void
fault_fill(const json_t *parameters, const char *tail, Reply *reply)
{
	reply->tail = tail;
	reply->filler = (uint64_t) parameter_number(parameters, "mb", 100) * 1024 * 1024;
	reply->delivery = DELIVER_FILLED;
}

void
fault_nest(const json_t *parameters, const char *head, const char *tail, Reply *reply)
{
	size_t		depth = (size_t) parameter_number(parameters, "depth", 100000);

	buf_free(&reply->body);
	buf_puts(&reply->body, head);
	buf_fill(&reply->body, '[', depth);
	buf_fill(&reply->body, ']', depth);
	buf_puts(&reply->body, tail);
}

/* ---- another answer ---- */

static void
html(const json_t *parameters, Reply *reply)
{
	fault_clear(reply);
	reply->status = (int) parameter_number(parameters, "status", 502);
	pairs_add(&reply->headers, "Content-Type", "text/html; charset=UTF-8");
	buf_puts(&reply->body, "<!DOCTYPE html>\n<html lang=en>\n<title>Error 502 (Server Error)!!1</title>\n<p><b>502.</b> "
			 "<ins>That's an error.</ins>\n<p>The server encountered a temporary error and could not complete your request.\n");
}

static void
redirect(const json_t *parameters, Reply *reply)
{
	fault_clear(reply);
	reply->status = (int) parameter_number(parameters, "status", 302);
	pairs_add(&reply->headers, "Location", parameter_text(parameters, "url", "http://127.0.0.1:1/"));
	pairs_add(&reply->headers, "Content-Type", "text/html; charset=UTF-8");
	buf_puts(&reply->body, "<HTML><HEAD><TITLE>Moved</TITLE></HEAD><BODY>The document has moved.</BODY></HTML>\n");
}

static void
garbage(const json_t *parameters, Reply *reply)
{
	buf_free(&reply->body);
	buf_puts(&reply->body, parameter_text(parameters, "text", "\x01\x02 this is not JSON {]"));
}

/* Complete HTTP with fewer bytes than there are. */
static void
cut(const json_t *parameters, Reply *reply)
{
	size_t		at = (size_t) parameter_number(parameters, "cut_at", (json_int_t) reply->body.len / 2);

	if (at < reply->body.len)
		reply->body.len = at;
}

/* ---- the way of the bytes ---- */

static void
end_early(const json_t *parameters, Reply *reply)
{
	reply->cut_at = (uint64_t) parameter_number(parameters, "cut_at", (json_int_t) reply->body.len / 2);
}

static void
trickle(const json_t *parameters, Reply *reply)
{
	reply->tick_ms = (int) parameter_number(parameters, "ms", 100);
	reply->tick_bytes = (uint64_t) parameter_number(parameters, "count", 1);
	if (reply->tick_bytes < 1)
		reply->tick_bytes = 1;
}

static void
not_http(const json_t *parameters, Reply *reply)
{
	fault_clear(reply);
	buf_puts(&reply->body, parameter_text(parameters, "text", "SSH-2.0-OpenSSH_9.2\r\n"));
}

static void
headers_flood(const json_t *parameters, Reply *reply)
{
	json_int_t	count = parameter_number(parameters, "count", 2000);
	json_int_t	bytes = parameter_number(parameters, "bytes", 1000);

	fault_clear(reply);
	buf_puts(&reply->body, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n");
	for (json_int_t i = 0; i < count; i++)
	{
		buf_printf(&reply->body, "X-Flood-%lld: ", (long long) i);
		buf_fill(&reply->body, 'x', (size_t) bytes);
		buf_puts(&reply->body, "\r\n");
	}
	buf_puts(&reply->body, "Content-Length: 3\r\n\r\n{}\n");
}
