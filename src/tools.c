/*
 * tools.c: a tool with its server-side settings.
 *
 * What reaches a prompt is what the operator wrote, values that his schema
 * enumerates, numbers, and names from his own tables, cut to 60 characters and
 * without control characters.  Free text of a user never does: a parameter that
 * the schema leaves open has no rendering, and the tool fails as not configured.
 *
 * A template is text with {name} for a parameter and [[ ... ]] for a part that
 * is left out when a parameter inside it has no value.  Braces around anything
 * that is no parameter of the tool are text.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "json_schema.h"
#include "owned.h"
#include "owner.h"
#include "settings.h"
#include "tools.h"

#define NAME_CHARACTERS 60

/*
 * An interval may reach beyond what a timestamp or an integer can hold.  A day is
 * the longest job_deadline; a thousand years are for ever.
 */
#define LONGEST_TIMEOUT_SECONDS INT64CONST(86400)
#define LONGEST_CACHE_TTL_SECONDS INT64CONST(31536000000)

/* The lists that x-values names, and how to look up a value in each. */
typedef struct ValueList
{
	const char *name;
	const char *sql;			/* $1 the value: name for the prompt, is it for payers only */
} ValueList;

static const ValueList value_lists[] = {
	{"hairstyles.id", "SELECT h.name, h.is_pro FROM public.hairstyles h WHERE h.id = $1"},
	{"hair_colors.hex_code", "SELECT c.hex_code, false FROM public.hair_colors c WHERE c.hex_code = $1"},
	{"skin_colors.hex_code", "SELECT c.name, false FROM public.skin_colors c WHERE c.hex_code = $1"},
};
static SPIPlanPtr value_plans[lengthof(value_lists)];

typedef struct Rendering
{
	JsonValue  *properties;		/* of the schema; NULL: none */
	JsonValue  *parameters;
	StringInfo	out;
	bool		missing;		/* a parameter in the current part has no value */
	bool		broken;			/* a value that has no rendering */
} Rendering;

static char *list_name(const char *list, const char *value, size_t length, bool *pro);
static bool value_listed(void *context, const char *list, const char *value, size_t length);
static void render_text(Rendering *r, const char *text, const char *end);
static const char *render_placeholder(Rendering *r, const char *text, const char *end);
static bool append_value(StringInfo out, const JsonValue *schema, const JsonValue *value);
static bool append_string(StringInfo out, const JsonValue *schema, const JsonValue *value);
static bool append_items(StringInfo out, const JsonValue *schema, const JsonValue *value);
static bool is_enumerated(const JsonValue *schema, const char *text, size_t length);
static void append_name(StringInfo out, const char *name);

bool
sparky_tool_read(const char *tool_id, Tool *tool)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(tool_id)};

	sparky_plan(&plan,
				"SELECT t.id, t.type::pg_catalog.text = 'ANALYSIS', t.is_active, COALESCE(t.credits, 1),"
				" t.parameter_schema::pg_catalog.text, s.revision, s.model, s.prompt, s.system_instruction,"
				" s.response_schema::pg_catalog.text, s.generation_config::pg_catalog.text,"
				" pg_catalog.ceil(EXTRACT(epoch FROM s.timeout))::pg_catalog.int8,"
				" pg_catalog.ceil(EXTRACT(epoch FROM s.cache_ttl))::pg_catalog.int8"
				" FROM public.tools t LEFT JOIN sparky.tool_settings s ON s.tool_id = t.id WHERE t.id = $1",
				1, types);
	if (sparky_execute_latest(plan, values, NULL, 1) == 0)
		return false;

	tool->id = sparky_column_text(0, 1);
	tool->kind = sparky_column_bool(0, 2) ? KIND_ANALYSIS : KIND_IMAGE;
	tool->active = sparky_column_bool(0, 3);
	tool->price = (int) sparky_column_int(0, 4, 1);
	tool->parameter_schema = sparky_column_text(0, 5);
	tool->revision = (int) sparky_column_int(0, 6, 1);
	tool->model = sparky_column_text(0, 7);
	tool->prompt = sparky_column_text(0, 8);
	tool->system_instruction = sparky_column_text(0, 9);
	tool->response_schema = sparky_column_text(0, 10);
	tool->generation_config = sparky_column_text(0, 11);
	tool->timeout_seconds = (int) Min(sparky_column_int(0, 12, sparky_call_timeout), LONGEST_TIMEOUT_SECONDS);
	tool->cache_ttl_seconds = Min(sparky_column_int(0, 13, sparky_cache_ttl), LONGEST_CACHE_TTL_SECONDS);
	return true;
}

ErrorWord
sparky_tool_check_parameters(const Tool *tool, const char *parameters, bool pro, char *why, size_t why_size)
{
	JsonValue  *given = sparky_owned_json(parameters, why, why_size);
	JsonValue  *schema;
	bool		pro_value = false;

	if (given == NULL)
		return WORD_BAD_PARAMETERS;
	if (sparky_json_kind(given) != JSON_KIND_OBJECT)
	{
		snprintf(why, why_size, "tool_parameters must be an object");
		return WORD_BAD_PARAMETERS;
	}
	/* A tool without a schema takes no parameters. */
	schema = sparky_owned_json(tool->parameter_schema ? tool->parameter_schema : "{\"type\":\"object\"}", why, why_size);
	if (schema == NULL || !sparky_schema_usable(schema, why, why_size))
		return WORD_NOT_CONFIGURED;
	if (!sparky_schema_accepts(schema, given, true, value_listed, &pro_value, why, why_size))
		return WORD_BAD_PARAMETERS;
	if (pro_value && !pro)
	{
		snprintf(why, why_size, "the chosen hairstyle belongs to the paid plans");
		return WORD_PRO_REQUIRED;
	}
	return WORD_NONE;
}

char *
sparky_tool_render(const Tool *tool, const char *parameters)
{
	StringInfoData out;
	Rendering	r = {0};
	char		why[160];
	const char *text = tool->prompt;
	const char *open;
	const char *close;

	if (text == NULL || (r.parameters = sparky_owned_json(parameters, why, sizeof(why))) == NULL)
		return NULL;
	if (tool->parameter_schema != NULL)
		r.properties = sparky_json_get(sparky_owned_json(tool->parameter_schema, why, sizeof(why)), "properties");
	initStringInfo(&out);
	r.out = &out;

	while ((open = strstr(text, "[[")) != NULL && (close = strstr(open, "]]")) != NULL)
	{
		int			before;

		render_text(&r, text, open);
		before = out.len;
		r.missing = false;
		render_text(&r, open + 2, close);
		if (r.missing)
		{
			out.len = before;
			out.data[before] = '\0';
		}
		text = close + 2;
	}
	render_text(&r, text, text + strlen(text));
	return r.broken ? NULL : out.data;
}

/* The name that stands for a value of a list; NULL when the list has no such value. */
static char *
list_name(const char *list, const char *value, size_t length, bool *pro)
{
	static const Oid types[] = {TEXTOID};

	for (int i = 0; i < lengthof(value_lists); i++)
	{
		Datum		values[1];

		if (strcmp(value_lists[i].name, list) != 0)
			continue;
		values[0] = PointerGetDatum(cstring_to_text_with_len(value, (int) length));
		sparky_plan(&value_plans[i], value_lists[i].sql, 1, types);
		if (sparky_execute_latest(value_plans[i], values, NULL, 1) == 0)
			return NULL;
		*pro = sparky_column_bool(0, 2);
		return sparky_column_text(0, 1);
	}
	return NULL;
}

/* A SchemaLookup; context notes whether any value was one for payers. */
static bool
value_listed(void *context, const char *list, const char *value, size_t length)
{
	bool		pro = false;

	if (list_name(list, value, length, &pro) == NULL)
		return false;
	if (pro)
		*(bool *) context = true;
	return true;
}

static void
render_text(Rendering *r, const char *text, const char *end)
{
	while (text < end)
	{
		if (*text == '{')
			text = render_placeholder(r, text, end);
		else
			appendStringInfoChar(r->out, *text++);
	}
}

/* At a brace: append the parameter's value, or the brace when it opens no placeholder; returns where to go on. */
static const char *
render_placeholder(Rendering *r, const char *text, const char *end)
{
	const char *close = memchr(text, '}', end - text);
	JsonValue  *schema = NULL;
	JsonValue  *value;
	char	   *name = NULL;

	if (close != NULL && close - text <= NAMEDATALEN)
	{
		name = pnstrdup(text + 1, close - text - 1);
		schema = sparky_json_get(r->properties, name);
	}
	if (schema == NULL)
	{
		appendStringInfoChar(r->out, '{');
		return text + 1;
	}

	value = sparky_json_get(r->parameters, name);
	if (value == NULL)
		value = sparky_json_get(schema, "default");
	if (sparky_json_kind(value) == JSON_KIND_NULL)
		r->missing = true;
	else if (!append_value(r->out, schema, value))
		r->broken = true;
	return close + 1;
}

/* false: the schema does not close the value in, or its row is gone. */
static bool
append_value(StringInfo out, const JsonValue *schema, const JsonValue *value)
{
	switch (sparky_json_kind(value))
	{
		case JSON_KIND_BOOL:
			appendStringInfoString(out, sparky_json_bool(value, false) ? "yes" : "no");
			return true;
		case JSON_KIND_INTEGER:
			appendStringInfo(out, INT64_FORMAT, (int64) sparky_json_integer(value, 0));
			return true;
		case JSON_KIND_REAL:
			appendStringInfo(out, "%g", sparky_json_number(value, 0));
			return true;
		case JSON_KIND_STRING:
			return append_string(out, schema, value);
		case JSON_KIND_ARRAY:
			return append_items(out, schema, value);
		default:
			return false;
	}
}

static bool
append_string(StringInfo out, const JsonValue *schema, const JsonValue *value)
{
	size_t		length;
	const char *text = sparky_json_string(value, &length);
	const char *list = sparky_json_string(sparky_json_get(schema, "x-values"), NULL);
	JsonValue  *branches = sparky_json_get(schema, "anyOf");
	bool		pro;

	if (list != NULL)
	{
		char	   *name = list_name(list, text, length, &pro);

		if (name != NULL)
			append_name(out, name);
		return name != NULL;
	}
	if (is_enumerated(schema, text, length))
	{
		append_name(out, text);
		return true;
	}
	for (size_t i = 0; i < sparky_json_size(branches); i++)
	{
		if (append_string(out, sparky_json_at(branches, i), value))
			return true;
	}
	return false;
}

static bool
append_items(StringInfo out, const JsonValue *schema, const JsonValue *value)
{
	JsonValue  *items = sparky_json_get(schema, "items");

	for (size_t i = 0; i < sparky_json_size(value); i++)
	{
		if (i > 0)
			appendStringInfoString(out, ", ");
		if (!append_value(out, items, sparky_json_at(value, i)))
			return false;
	}
	return true;
}

static bool
is_enumerated(const JsonValue *schema, const char *text, size_t length)
{
	JsonValue  *choices = sparky_json_get(schema, "enum");
	const char *choice;
	size_t		choice_length;

	choice = sparky_json_string(sparky_json_get(schema, "const"), &choice_length);
	if (choice != NULL && choice_length == length && memcmp(choice, text, length) == 0)
		return true;
	for (size_t i = 0; i < sparky_json_size(choices); i++)
	{
		choice = sparky_json_string(sparky_json_at(choices, i), &choice_length);
		if (choice != NULL && choice_length == length && memcmp(choice, text, length) == 0)
			return true;
	}
	return false;
}

static void
append_name(StringInfo out, const char *name)
{
	int			start = out->len;

	appendBinaryStringInfo(out, name, pg_mbcharcliplen(name, strlen(name), NAME_CHARACTERS));
	for (int i = start; i < out->len; i++)
	{
		unsigned char c = (unsigned char) out->data[i];
		unsigned char next = (unsigned char) out->data[i + 1];

		if (c == 0xc2 && next >= 0x80 && next <= 0x9f)	/* U+0080 to U+009F */
			out->data[i] = out->data[i + 1] = ' ';
		else if (c < 0x20 || c == 0x7f)
			out->data[i] = ' ';
	}
}
