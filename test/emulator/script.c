/*
 * script.c: the rules (see script.h).  Any thread, under one lock.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "emulator.h"
#include "script.h"

typedef struct Named
{
	const char *name;
	json_type	type;			/* JSON_TRUE: a boolean */
} Named;

static const Named matches[] = {
	{"service", JSON_STRING}, {"model", JSON_STRING}, {"kind", JSON_STRING}, {"prompt_contains", JSON_STRING},
	{"image_sha256", JSON_STRING}, {"path", JSON_STRING}, {"nth", JSON_INTEGER}, {"times", JSON_INTEGER}, {NULL, JSON_NULL}
};
static const Named parameters[] = {
	{"match", JSON_OBJECT}, {"fault", JSON_STRING}, {"times", JSON_INTEGER},
	{"delay_ms", JSON_INTEGER}, {"ms", JSON_INTEGER}, {"bytes", JSON_INTEGER}, {"mb", JSON_INTEGER},
	{"depth", JSON_INTEGER}, {"count", JSON_INTEGER}, {"cut_at", JSON_INTEGER}, {"status", JSON_INTEGER},
	{"retryDelay", JSON_STRING}, {"message", JSON_STRING}, {"finish", JSON_STRING}, {"reason", JSON_STRING},
	{"url", JSON_STRING}, {"format", JSON_STRING}, {"declared", JSON_STRING}, {"text", JSON_STRING},
	{"model_version", JSON_STRING}, {"where", JSON_STRING}, {"tiny", JSON_TRUE}, {"thoughts", JSON_TRUE},
	{"processed", JSON_TRUE}, {"amount_cents", JSON_INTEGER}, {"set", JSON_OBJECT}, {"drop", JSON_ARRAY},
	{"code", JSON_STRING}, {"http", JSON_INTEGER}, {NULL, JSON_NULL}
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static json_t *script = NULL;	/* array of {rule, left (-1: for ever), used} */

static bool check_rule(const json_t *rule, Buf *why);
static bool check_members(const json_t *object, const Named *known, Buf *why);
static json_int_t rule_times(const json_t *rule);
static bool rule_matches(const json_t *rule, const ScriptCall *call);
static bool same(const json_t *wanted, const char *actual);

bool
script_set(const json_t *rules, bool append, Buf *why)
{
	size_t		at;
	json_t	   *rule;

	if (!json_is_array(rules))
	{
		buf_puts(why, "a script is a list of rules");
		return false;
	}
	json_array_foreach(rules, at, rule)
		if (!check_rule(rule, why))
			return false;

	pthread_mutex_lock(&lock);
	if (script == NULL)
		script = json_array();
	if (!append)
		json_array_clear(script);
	json_array_foreach(rules, at, rule)
		json_array_append_new(script, json_pack("{s:O, s:I, s:i}", "rule", rule, "left", rule_times(rule), "used", 0));
	pthread_mutex_unlock(&lock);
	return true;
}

void
script_clear(void)
{
	pthread_mutex_lock(&lock);
	json_decref(script);
	script = NULL;
	pthread_mutex_unlock(&lock);
}

json_t *
script_take(const ScriptCall *call)
{
	size_t		at;
	json_t	   *entry;
	json_t	   *taken = NULL;

	pthread_mutex_lock(&lock);
	json_array_foreach(script, at, entry)
	{
		json_t	   *rule = json_object_get(entry, "rule");
		json_int_t	left = json_integer_value(json_object_get(entry, "left"));

		if (left == 0 || !rule_matches(rule, call))
			continue;
		if (left > 0)
			json_object_set_new(entry, "left", json_integer(left - 1));
		json_object_set_new(entry, "used", json_integer(json_integer_value(json_object_get(entry, "used")) + 1));
		/* A copy: reference counts are not safe across threads without the lock. */
		taken = json_deep_copy(rule);
		break;
	}
	pthread_mutex_unlock(&lock);
	return taken;
}

json_t *
script_show(void)
{
	json_t	   *copy;

	pthread_mutex_lock(&lock);
	copy = script != NULL ? json_deep_copy(script) : json_array();
	pthread_mutex_unlock(&lock);
	return copy;
}

static bool
check_rule(const json_t *rule, Buf *why)
{
	const json_t *match = json_object_get(rule, "match");
	const char *fault = json_string_value(json_object_get(rule, "fault"));

	if (!json_is_object(rule) || fault == NULL)
	{
		buf_puts(why, "a rule is an object with a \"fault\"");
		return false;
	}
	if (!check_members(rule, parameters, why) || (match != NULL && !check_members(match, matches, why)))
		return false;
	if (rule_times(rule) < -1)
	{
		buf_puts(why, "times is 0 (for ever) or more");
		return false;
	}
	for (size_t i = 0; services[i] != NULL; i++)
		if (services[i]->knows_fault(fault))
			return true;
	buf_printf(why, "no fault is named \"%s\"", fault);
	return false;
}

static bool
check_members(const json_t *object, const Named *known, Buf *why)
{
	const char *name;
	json_t	   *value;

	json_object_foreach((json_t *) object, name, value)
	{
		const Named *one = known;

		while (one->name != NULL && strcmp(one->name, name) != 0)
			one++;
		if (one->name == NULL)
		{
			buf_printf(why, "a rule has no member \"%s\"", name);
			return false;
		}
		if (one->type == JSON_TRUE ? !json_is_boolean(value) : json_typeof(value) != one->type)
		{
			buf_printf(why, "\"%s\" has the wrong type", name);
			return false;
		}
	}
	return true;
}

/* How often the rule applies: 1 unless told, -1 for ever. */
static json_int_t
rule_times(const json_t *rule)
{
	const json_t *times = json_object_get(rule, "times");

	if (times == NULL)
		times = json_object_get(json_object_get(rule, "match"), "times");
	if (times == NULL)
		return 1;
	return json_integer_value(times) == 0 ? -1 : json_integer_value(times) < 0 ? -2 : json_integer_value(times);
}

static bool
rule_matches(const json_t *rule, const ScriptCall *call)
{
	const json_t *match = json_object_get(rule, "match");
	const json_t *nth = json_object_get(match, "nth");
	const char *part = json_string_value(json_object_get(match, "prompt_contains"));

	if (nth != NULL && (unsigned long) json_integer_value(nth) != call->nth)
		return false;
	if (part != NULL && (call->prompt == NULL || strstr(call->prompt, part) == NULL))
		return false;
	return same(json_object_get(match, "service"), call->service) &&
		same(json_object_get(match, "model"), call->model) &&
		same(json_object_get(match, "kind"), call->kind) &&
		same(json_object_get(match, "image_sha256"), call->image_sha256) &&
		same(json_object_get(match, "path"), call->path);
}

static bool
same(const json_t *wanted, const char *actual)
{
	return wanted == NULL || (actual != NULL && strcmp(json_string_value(wanted), actual) == 0);
}
