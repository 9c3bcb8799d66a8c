/*
 * control.c: the control calls under /_control/ (README.md lists them).
 *
 * Answered at once, also while calls are held.  Not in the log, not counted.
 */
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "log.h"
#include "paymob.h"
#include "script.h"
#include "server.h"
#include "storage.h"

typedef struct Control
{
	const char *method;
	const char *name;
	/* Adds the answer to out, or what is wrong (then false). */
	bool		(*act) (const json_t *body, Buf *out);
} Control;

static bool set_script(const json_t *body, Buf *out);
static bool show_script(const json_t *body, Buf *out);
static bool set_latency(const json_t *body, Buf *out);
static bool set_answer(const json_t *body, Buf *out);
static bool hold(const json_t *body, Buf *out);
static bool release(const json_t *body, Buf *out);
static bool show_log(const json_t *body, Buf *out);
static bool show_stats(const json_t *body, Buf *out);
static bool reset(const json_t *body, Buf *out);
static void add_json(Buf *out, json_t *value);

static const Control controls[] = {
	{"POST", "script", set_script},
	{"GET", "script", show_script},
	{"POST", "latency", set_latency},
	{"POST", "answer", set_answer},
	{"POST", "hold", hold},
	{"POST", "release", release},
	{"GET", "log", show_log},
	{"GET", "stats", show_stats},
	{"POST", "reset", reset},
	{"POST", "paymob", paymob_control},
	{"GET", "paymob", paymob_control_show},
	{"POST", "storage", storage_control},
	{"GET", "storage", storage_control_show},
};

enum MHD_Result
control_answer(struct MHD_Connection *connection, const Request *request)
{
	const char *name = request->path + strlen("/_control/");
	json_t	   *body = NULL;
	json_error_t error;
	Buf			out = {0};
	int			status = 404;
	enum MHD_Result result;

	if (request->body.len > 0)
		body = json_loadb(request->body.data, request->body.len, JSON_REJECT_DUPLICATES, &error);
	for (size_t i = 0; i < sizeof controls / sizeof *controls; i++)
	{
		if (strcmp(controls[i].name, name) != 0 || strcmp(controls[i].method, request->method) != 0)
			continue;
		if (request->body.len > 0 && body == NULL)
		{
			buf_printf(&out, "not JSON: %s", error.text);
			status = 400;
		}
		else
			status = controls[i].act(body, &out) ? 200 : 400;
	}
	if (status == 404)
		buf_puts(&out, "no such control call");
	if (status != 200)
	{
		json_t	   *why = json_pack("{s:s}", "error", out.data);

		out.len = 0;
		add_json(&out, why);
	}
	json_decref(body);
	result = deliver_simple(connection, status, "application/json", &out);
	buf_free(&out);
	return result;
}

static bool
set_script(const json_t *body, Buf *out)
{
	bool		append = json_is_true(json_object_get(body, "append"));
	const json_t *rules = json_is_object(body) ? json_object_get(body, "rules") : body;

	if (!script_set(rules, append, out))
		return false;
	return show_script(NULL, out);
}

static bool
show_script(const json_t *body, Buf *out)
{
	(void) body;
	add_json(out, script_show());
	return true;
}

static bool
set_latency(const json_t *body, Buf *out)
{
	const json_t *ms = json_object_get(body, "ms");

	if (!json_is_integer(ms) || json_integer_value(ms) < 0 || json_integer_value(ms) > 3600000)
	{
		buf_puts(out, "latency takes {\"ms\": 0 to 3600000}");
		return false;
	}
	settings.latency_ms = (int) json_integer_value(ms);
	return show_stats(NULL, out);
}

static bool
set_answer(const json_t *body, Buf *out)
{
	const json_t *wanted = json_object_get(body, "answer");
	AnswerKind	kind;
	size_t		bytes;
	char		text[32] = "";

	if (json_is_integer(wanted))
		snprintf(text, sizeof text, "%lld", (long long) json_integer_value(wanted));
	else if (json_is_string(wanted))
		snprintf(text, sizeof text, "%s", json_string_value(wanted));
	if (!settings_parse_answer(text, &kind, &bytes))
	{
		buf_puts(out, "answer takes {\"answer\": \"picture\", \"tiny\" or a number of bytes}");
		return false;
	}
	settings.answer_bytes = bytes;
	settings.answer = kind;
	return show_stats(NULL, out);
}

static bool
hold(const json_t *body, Buf *out)
{
	(void) body;
	sched_hold(true);
	return show_stats(NULL, out);
}

static bool
release(const json_t *body, Buf *out)
{
	(void) body;
	sched_hold(false);
	return show_stats(NULL, out);
}

static bool
show_log(const json_t *body, Buf *out)
{
	(void) body;
	return log_read(out);
}

static bool
show_stats(const json_t *body, Buf *out)
{
	(void) body;
	add_json(out, json_pack("{s:I, s:I, s:I, s:I, s:I, s:i, s:b}",
							"received", (json_int_t) (stats.numbered - stats.base),
							"in_flight", (json_int_t) stats.in_flight,
							"max_in_flight", (json_int_t) stats.max_in_flight,
							"answered", (json_int_t) stats.answered,
							"aborted", (json_int_t) stats.aborted,
							"latency_ms", (int) settings.latency_ms,
							"holding", (int) sched_holds()));
	return true;
}

/* Everything as at the start; calls under way go on, and the log file keeps what it has. */
static bool
reset(const json_t *body, Buf *out)
{
	script_clear();
	paymob_reset();
	storage_counters_reset();
	settings.latency_ms = settings.first_latency_ms;
	settings.answer_bytes = settings.first_answer_bytes;
	settings.answer = settings.first_answer;
	sched_hold(false);
	stats.base = stats.numbered;
	stats.max_in_flight = stats.in_flight;
	stats.answered = 0;
	stats.aborted = 0;
	log_mark();
	return show_stats(body, out);
}

static void
add_json(Buf *out, json_t *value)
{
	dump_json(value, out);
	buf_puts(out, "\n");
}
