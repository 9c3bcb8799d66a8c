/*
 * common.c: tables, parameters and actions, for all services (common.h tells the rules).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"

static bool check_members(const json_t *body, const char *known, const MemberTypes *types, Buf *why);
static bool right_type(const json_t *value, const char *spaced, const MemberTypes *types);

const void *
find_named(const void *table, size_t row_size, const char *name)
{
	const char *const *row = table;

	while (*row != NULL && strcmp(*row, name) != 0)
		row = (const void *) ((const char *) row + row_size);
	return *row != NULL ? row : NULL;
}

json_int_t
parameter_number(const json_t *parameters, const char *name, json_int_t fallback)
{
	const json_t *value = json_object_get(parameters, name);

	return json_is_integer(value) ? json_integer_value(value) : fallback;
}

const char *
parameter_text(const json_t *parameters, const char *name, const char *fallback)
{
	const json_t *value = json_object_get(parameters, name);

	return json_is_string(value) ? json_string_value(value) : fallback;
}

void
dump_json(json_t *value, Buf *out)
{
	char	   *made = json_dumps(value, JSON_COMPACT);

	json_decref(value);
	buf_puts(out, made ? made : "null");
	free(made);
}

bool
run_action(const Action *actions, const MemberTypes *types, const json_t *body, Buf *out)
{
	const char *wanted = parameter_text(body, "do", "");
	const Action *action = find_named(actions, sizeof *actions, wanted);
	json_t	   *answer;

	if (action == NULL)
		buf_printf(out, "\"do\" is no action: \"%s\"", wanted);
	if (action == NULL || !check_members(body, action->members, types, out))
		return false;
	answer = action->act(body, out);
	if (answer == NULL)
		return false;
	dump_json(answer, out);
	return true;
}

static bool
check_members(const json_t *body, const char *known, const MemberTypes *types, Buf *why)
{
	const char *name;
	json_t	   *value;
	char		spaced[80];

	json_object_foreach((json_t *) body, name, value)
	{
		snprintf(spaced, sizeof spaced, " %s ", name);
		if (strcmp(name, "do") == 0 || strstr(types->any, spaced) != NULL)
			continue;
		if (strstr(known, spaced) == NULL)
			buf_printf(why, "this action has no member \"%s\"", name);
		else if (!right_type(value, spaced, types))
			buf_printf(why, "\"%s\" has the wrong type", name);
		if (why->len > 0)
			return false;
	}
	return true;
}

static bool
right_type(const json_t *value, const char *spaced, const MemberTypes *types)
{
	if (strstr(types->numbers, spaced) != NULL)
		return json_is_integer(value);
	if (strstr(types->objects, spaced) != NULL)
		return json_is_object(value);
	if (strstr(types->booleans, spaced) != NULL)
		return json_is_boolean(value);
	return json_is_string(value);
}
