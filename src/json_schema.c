/*
 * json_schema.c: a subset of JSON Schema (draft 2020-12), plus x-values.
 *
 * Rules.  A schema is first asked for its usability, where every keyword and
 * every keyword's argument is looked at: what the validator does not know is
 * refused there, never skipped here.  Patterns are left out on purpose: a
 * regular expression from a table, run on a user's text, is a way to stop the
 * server.  Schemas and values come from sparky_json_parse(), whose depth limit
 * bounds the recursion.
 *
 * why names the place by its JSON pointer, and the rule, and never the value.
 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "json_schema.h"

#define LARGEST_EXACT 9007199254740992.0	/* 2^53 */
#define POINTER_BYTES 160		/* of a pointer in why; a longer one is cut */

/* The way down to the current place, kept on the stack. */
typedef struct Place
{
	const struct Place *parent;
	const char *key;			/* or NULL: an array element */
	size_t		index;
} Place;

typedef struct Why
{
	char	   *text;
	size_t		size;
} Why;

typedef struct Check
{
	bool		strict_objects;
	SchemaLookup lookup;
	void	   *context;
	Why			why;
} Check;

/* How an argument of a keyword must look. */
typedef bool (*ArgumentTest) (const JsonValue *argument, const Place *place, Why *why);

typedef struct Keyword
{
	const char *name;
	ArgumentTest test;
	const char *must_be;		/* "must be ..." */
} Keyword;

static bool usable(const JsonValue *schema, const Place *place, Why *why);
static bool is_type(const JsonValue *argument, const Place *place, Why *why);
static bool is_schema(const JsonValue *argument, const Place *place, Why *why);
static bool is_schema_or_bool(const JsonValue *argument, const Place *place, Why *why);
static bool is_schema_map(const JsonValue *argument, const Place *place, Why *why);
static bool is_schema_list(const JsonValue *argument, const Place *place, Why *why);
static bool is_string_list(const JsonValue *argument, const Place *place, Why *why);
static bool is_filled_list(const JsonValue *argument, const Place *place, Why *why);
static bool is_number(const JsonValue *argument, const Place *place, Why *why);
static bool is_count(const JsonValue *argument, const Place *place, Why *why);
static bool is_string(const JsonValue *argument, const Place *place, Why *why);
static bool is_anything(const JsonValue *argument, const Place *place, Why *why);
static bool is_value_list(const JsonValue *argument, const Place *place, Why *why);

static bool accepts(Check *check, const JsonValue *schema, const JsonValue *value, const Place *place, bool own_members);
static bool accepts_constants(Check *check, const JsonValue *schema, const JsonValue *value, const Place *place);
static bool accepts_number(Check *check, const JsonValue *schema, const JsonValue *value, const Place *place);
static bool accepts_string(Check *check, const JsonValue *schema, const JsonValue *value, const Place *place);
static bool accepts_array(Check *check, const JsonValue *schema, const JsonValue *value, const Place *place);
static bool accepts_object(Check *check, const JsonValue *schema, const JsonValue *value, const Place *place,
						   bool own_members);
static bool accepts_member(Check *check, const JsonValue *schema, const JsonValue *object, const char *key,
						   const JsonValue *member, const Place *place, bool own_members);
static bool accepts_one_of_any(Check *check, const JsonValue *schema, const JsonValue *value, const Place *place);
static bool quietly_accepts(const Check *check, const JsonValue *schema, const JsonValue *value);
static bool names_member(const Check *check, const JsonValue *schema, const JsonValue *object, const char *key);
static bool has_type(const JsonValue *value, const JsonValue *type);
static bool is_integer(const JsonValue *value);
static bool within_count(const JsonValue *schema, const char *least, const char *most, size_t count);
static int	compare_numbers(const JsonValue *a, const JsonValue *b);
static bool equal(const JsonValue *a, const JsonValue *b);
static size_t code_points(const char *string, size_t length);
static bool refuse(Why *why, const Place *place, const char *format, ...) __attribute__((format(printf, 3, 4)));
static size_t add_pointer(char *buffer, size_t size, const Place *place);

static const char *const type_words[] = {"null", "boolean", "integer", "number", "string", "array", "object"};
static const char *const value_lists[] = {"hairstyles.id", "hair_colors.hex_code", "skin_colors.hex_code"};

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static const Keyword keywords[] = {
	{"type", is_type, "a type, or a list of types"},
	{"properties", is_schema_map, "an object of schemas"},
	{"required", is_string_list, "a list of strings"},
	{"additionalProperties", is_schema_or_bool, "a boolean or a schema"},
	{"items", is_schema, "a schema"},
	{"anyOf", is_schema_list, "a list of schemas"},
	{"enum", is_filled_list, "a list of values"},
	{"const", is_anything, "a value"},
	{"minimum", is_number, "a number"},
	{"maximum", is_number, "a number"},
	{"minLength", is_count, "a count"},
	{"maxLength", is_count, "a count"},
	{"minItems", is_count, "a count"},
	{"maxItems", is_count, "a count"},
	{"x-values", is_value_list, "the name of a list"},
	{"title", is_string, "a string"},
	{"description", is_string, "a string"},
	{"default", is_anything, "a value"},
	{"format", is_string, "a string"},
	{"propertyOrdering", is_string_list, "a list of strings"},
};

/* ---- is a schema within the subset? ---- */

bool
sparky_schema_usable(const JsonValue *schema, char *why, size_t why_size)
{
	Why			reason = {why, why_size};

	if (why != NULL && why_size > 0)
		why[0] = '\0';
	return usable(schema, NULL, &reason);
}

static bool
usable(const JsonValue *schema, const Place *place, Why *why)
{
	void	   *iterator = NULL;
	const char *name;
	JsonValue  *argument;

	if (sparky_json_kind(schema) != JSON_KIND_OBJECT)
		return refuse(why, place, "a schema must be an object");
	while ((name = sparky_json_next(schema, &iterator, NULL, &argument)) != NULL)
	{
		Place		inside = {place, name, 0};
		const Keyword *keyword = NULL;

		for (size_t i = 0; i < LENGTH(keywords) && keyword == NULL; i++)
		{
			if (strcmp(keywords[i].name, name) == 0)
				keyword = &keywords[i];
		}
		if (keyword == NULL)
			return refuse(why, &inside, "this keyword is not supported");
		if (!keyword->test(argument, &inside, why))
		{
			/* A test that went deeper has told a better reason already. */
			if (why->text != NULL && why->size > 0 && why->text[0] == '\0')
				refuse(why, &inside, "must be %s", keyword->must_be);
			return false;
		}
	}
	return true;
}

static bool
is_type_word(const JsonValue *argument)
{
	const char *word = sparky_json_string(argument, NULL);

	for (size_t i = 0; word != NULL && i < LENGTH(type_words); i++)
	{
		if (strcmp(word, type_words[i]) == 0)
			return true;
	}
	return false;
}

static bool
is_type(const JsonValue *argument, const Place *place, Why *why)
{
	if (sparky_json_kind(argument) != JSON_KIND_ARRAY)
		return is_type_word(argument);
	for (size_t i = 0; i < sparky_json_size(argument); i++)
	{
		if (!is_type_word(sparky_json_at(argument, i)))
			return false;
	}
	return sparky_json_size(argument) > 0;
}

static bool
is_schema(const JsonValue *argument, const Place *place, Why *why)
{
	return sparky_json_kind(argument) == JSON_KIND_OBJECT && usable(argument, place, why);
}

static bool
is_schema_or_bool(const JsonValue *argument, const Place *place, Why *why)
{
	return sparky_json_kind(argument) == JSON_KIND_BOOL || is_schema(argument, place, why);
}

static bool
is_schema_map(const JsonValue *argument, const Place *place, Why *why)
{
	void	   *iterator = NULL;
	const char *key;
	JsonValue  *schema;

	if (sparky_json_kind(argument) != JSON_KIND_OBJECT)
		return false;
	while ((key = sparky_json_next(argument, &iterator, NULL, &schema)) != NULL)
	{
		Place		inside = {place, key, 0};

		if (!usable(schema, &inside, why))
			return false;
	}
	return true;
}

static bool
is_schema_list(const JsonValue *argument, const Place *place, Why *why)
{
	if (!is_filled_list(argument, place, why))
		return false;
	for (size_t i = 0; i < sparky_json_size(argument); i++)
	{
		Place		inside = {place, NULL, i};

		if (!usable(sparky_json_at(argument, i), &inside, why))
			return false;
	}
	return true;
}

static bool
is_string_list(const JsonValue *argument, const Place *place, Why *why)
{
	if (sparky_json_kind(argument) != JSON_KIND_ARRAY)
		return false;
	for (size_t i = 0; i < sparky_json_size(argument); i++)
	{
		if (sparky_json_kind(sparky_json_at(argument, i)) != JSON_KIND_STRING)
			return false;
	}
	return true;
}

static bool
is_filled_list(const JsonValue *argument, const Place *place, Why *why)
{
	return sparky_json_kind(argument) == JSON_KIND_ARRAY && sparky_json_size(argument) > 0;
}

static bool
is_number(const JsonValue *argument, const Place *place, Why *why)
{
	JsonKind	kind = sparky_json_kind(argument);

	return kind == JSON_KIND_INTEGER || kind == JSON_KIND_REAL;
}

static bool
is_count(const JsonValue *argument, const Place *place, Why *why)
{
	return sparky_json_integer(argument, -1) >= 0;
}

static bool
is_string(const JsonValue *argument, const Place *place, Why *why)
{
	return sparky_json_kind(argument) == JSON_KIND_STRING;
}

static bool
is_anything(const JsonValue *argument, const Place *place, Why *why)
{
	return true;
}

static bool
is_value_list(const JsonValue *argument, const Place *place, Why *why)
{
	const char *name = sparky_json_string(argument, NULL);

	for (size_t i = 0; name != NULL && i < LENGTH(value_lists); i++)
	{
		if (strcmp(name, value_lists[i]) == 0)
			return true;
	}
	return false;
}

/* ---- does a value satisfy a schema? ---- */

bool
sparky_schema_accepts(const JsonValue *schema, const JsonValue *value, bool strict_objects,
					  SchemaLookup lookup, void *context, char *why, size_t why_size)
{
	Check		check = {strict_objects, lookup, context, {why, why_size}};

	if (why != NULL && why_size > 0)
		why[0] = '\0';
	return accepts(&check, schema, value, NULL, true);
}

/*
 * own_members: this schema answers for the names of the object's members.  A
 * branch of anyOf does not: the schema around it knows the names of all of them.
 */
static bool
accepts(Check *check, const JsonValue *schema, const JsonValue *value, const Place *place, bool own_members)
{
	const JsonValue *type = sparky_json_get(schema, "type");

	if (sparky_json_kind(schema) != JSON_KIND_OBJECT)
		return refuse(&check->why, place, "the schema is not usable");
	if (type != NULL && !has_type(value, type))
		return refuse(&check->why, place, "wrong type");
	if (!accepts_constants(check, schema, value, place) ||
		!accepts_one_of_any(check, schema, value, place))
		return false;
	if (sparky_json_get(schema, "x-values") != NULL && sparky_json_kind(value) != JSON_KIND_STRING)
		return refuse(&check->why, place, "wrong type");

	switch (sparky_json_kind(value))
	{
		case JSON_KIND_INTEGER:
		case JSON_KIND_REAL:
			return accepts_number(check, schema, value, place);
		case JSON_KIND_STRING:
			return accepts_string(check, schema, value, place);
		case JSON_KIND_ARRAY:
			return accepts_array(check, schema, value, place);
		case JSON_KIND_OBJECT:
			return accepts_object(check, schema, value, place, own_members);
		case JSON_KIND_NULL:
		case JSON_KIND_BOOL:
			break;
	}
	return true;
}

static bool
accepts_constants(Check *check, const JsonValue *schema, const JsonValue *value, const Place *place)
{
	const JsonValue *constant = sparky_json_get(schema, "const");
	const JsonValue *list = sparky_json_get(schema, "enum");

	if (constant != NULL && !equal(constant, value))
		return refuse(&check->why, place, "not the one allowed value");
	if (list == NULL)
		return true;
	for (size_t i = 0; i < sparky_json_size(list); i++)
	{
		if (equal(sparky_json_at(list, i), value))
			return true;
	}
	return refuse(&check->why, place, "not one of the allowed values");
}

static bool
accepts_number(Check *check, const JsonValue *schema, const JsonValue *value, const Place *place)
{
	const JsonValue *minimum = sparky_json_get(schema, "minimum");
	const JsonValue *maximum = sparky_json_get(schema, "maximum");

	if (minimum != NULL && compare_numbers(value, minimum) < 0)
		return refuse(&check->why, place, "less than the minimum");
	if (maximum != NULL && compare_numbers(value, maximum) > 0)
		return refuse(&check->why, place, "more than the maximum");
	return true;
}

static bool
accepts_string(Check *check, const JsonValue *schema, const JsonValue *value, const Place *place)
{
	const char *list = sparky_json_string(sparky_json_get(schema, "x-values"), NULL);
	size_t		length;
	const char *string = sparky_json_string(value, &length);

	if (!within_count(schema, "minLength", "maxLength", code_points(string, length)))
		return refuse(&check->why, place, "too short or too long");
	/* Without a look-up nothing can be in the list. */
	if (list != NULL && (check->lookup == NULL || !check->lookup(check->context, list, string, length)))
		return refuse(&check->why, place, "not in the list %s", list);
	return true;
}

static bool
accepts_array(Check *check, const JsonValue *schema, const JsonValue *value, const Place *place)
{
	const JsonValue *items = sparky_json_get(schema, "items");

	if (!within_count(schema, "minItems", "maxItems", sparky_json_size(value)))
		return refuse(&check->why, place, "too few or too many elements");
	for (size_t i = 0; items != NULL && i < sparky_json_size(value); i++)
	{
		Place		inside = {place, NULL, i};

		if (!accepts(check, items, sparky_json_at(value, i), &inside, true))
			return false;
	}
	return true;
}

static bool
accepts_object(Check *check, const JsonValue *schema, const JsonValue *value, const Place *place, bool own_members)
{
	const JsonValue *required = sparky_json_get(schema, "required");
	void	   *iterator = NULL;
	const char *key;
	JsonValue  *member;

	for (size_t i = 0; i < sparky_json_size(required); i++)
	{
		const char *wanted = sparky_json_string(sparky_json_at(required, i), NULL);
		Place		inside = {place, wanted, 0};

		if (wanted == NULL || sparky_json_get(value, wanted) == NULL)
			return refuse(&check->why, &inside, "required");
	}
	while ((key = sparky_json_next(value, &iterator, NULL, &member)) != NULL)
	{
		if (!accepts_member(check, schema, value, key, member, place, own_members))
			return false;
	}
	return true;
}

static bool
accepts_member(Check *check, const JsonValue *schema, const JsonValue *object, const char *key,
			   const JsonValue *member, const Place *place, bool own_members)
{
	const JsonValue *named = sparky_json_get(sparky_json_get(schema, "properties"), key);
	const JsonValue *additional = sparky_json_get(schema, "additionalProperties");
	Place		inside = {place, key, 0};

	if (named != NULL)
		return accepts(check, named, member, &inside, true);
	if (sparky_json_kind(additional) == JSON_KIND_OBJECT)
		return accepts(check, additional, member, &inside, true);
	if (additional != NULL ? !sparky_json_bool(additional, false) :
		check->strict_objects && own_members && !names_member(check, schema, object, key))
		return refuse(&check->why, &inside, "unknown member");
	return true;
}

static bool
accepts_one_of_any(Check *check, const JsonValue *schema, const JsonValue *value, const Place *place)
{
	const JsonValue *branches = sparky_json_get(schema, "anyOf");

	if (branches == NULL)
		return true;
	for (size_t i = 0; i < sparky_json_size(branches); i++)
	{
		if (quietly_accepts(check, sparky_json_at(branches, i), value))
			return true;
	}
	return refuse(&check->why, place, "none of the alternatives fits");
}

/* As a branch: without a reason, and without a word on members that others may name. */
static bool
quietly_accepts(const Check *check, const JsonValue *schema, const JsonValue *value)
{
	Check		quiet = *check;

	quiet.why = (Why) {NULL, 0};
	return accepts(&quiet, schema, value, NULL, false);
}

/* Does this schema, or a branch of it that fits the object, speak of that member? */
static bool
names_member(const Check *check, const JsonValue *schema, const JsonValue *object, const char *key)
{
	const JsonValue *branches = sparky_json_get(schema, "anyOf");

	if (sparky_json_get(sparky_json_get(schema, "properties"), key) != NULL ||
		sparky_json_get(schema, "additionalProperties") != NULL)
		return true;
	for (size_t i = 0; i < sparky_json_size(branches); i++)
	{
		const JsonValue *branch = sparky_json_at(branches, i);

		if (names_member(check, branch, object, key) && quietly_accepts(check, branch, object))
			return true;
	}
	return false;
}

/* ---- small questions ---- */

static bool
has_type(const JsonValue *value, const JsonValue *type)
{
	const char *word = sparky_json_string(type, NULL);

	if (word == NULL)
	{
		for (size_t i = 0; i < sparky_json_size(type); i++)
		{
			if (has_type(value, sparky_json_at(type, i)))
				return true;
		}
		return false;
	}
	switch (sparky_json_kind(value))
	{
		case JSON_KIND_NULL:
			return strcmp(word, "null") == 0;
		case JSON_KIND_BOOL:
			return strcmp(word, "boolean") == 0;
		case JSON_KIND_INTEGER:
		case JSON_KIND_REAL:
			return strcmp(word, "number") == 0 || (strcmp(word, "integer") == 0 && is_integer(value));
		case JSON_KIND_STRING:
			return strcmp(word, "string") == 0;
		case JSON_KIND_ARRAY:
			return strcmp(word, "array") == 0;
		case JSON_KIND_OBJECT:
			return strcmp(word, "object") == 0;
	}
	return false;
}

/* 1.0 and 1e3 are integers: the value counts, not how it is written. */
static bool
is_integer(const JsonValue *value)
{
	double		number = sparky_json_number(value, 0.5);

	return sparky_json_kind(value) == JSON_KIND_INTEGER || floor(number) == number;
}

static bool
within_count(const JsonValue *schema, const char *least, const char *most, size_t count)
{
	int64_t		minimum = sparky_json_integer(sparky_json_get(schema, least), 0);
	int64_t		maximum = sparky_json_integer(sparky_json_get(schema, most), INT64_MAX);

	return (int64_t) count >= minimum && (int64_t) count <= maximum;
}

/* Exact also where an integer of 64 bits meets a double. */
static int
compare_numbers(const JsonValue *a, const JsonValue *b)
{
	double		left = sparky_json_number(a, 0);
	double		right = sparky_json_number(b, 0);
	int64_t		i;
	int64_t		j;

	if (left != right || fabs(left) < LARGEST_EXACT || sparky_json_kind(a) == sparky_json_kind(b))
	{
		if (sparky_json_kind(a) != JSON_KIND_INTEGER || sparky_json_kind(b) != JSON_KIND_INTEGER)
			return (left > right) - (left < right);
		i = sparky_json_integer(a, 0);
		j = sparky_json_integer(b, 0);
		return (i > j) - (i < j);
	}
	/* An integer and a real, alike as doubles and large: only the integer may have been rounded. */
	if (left >= 9223372036854775808.0)	/* 2^63, which no integer reaches */
		return sparky_json_kind(a) == JSON_KIND_REAL ? 1 : -1;
	i = sparky_json_kind(a) == JSON_KIND_INTEGER ? sparky_json_integer(a, 0) : (int64_t) left;
	j = sparky_json_kind(b) == JSON_KIND_INTEGER ? sparky_json_integer(b, 0) : (int64_t) right;
	return (i > j) - (i < j);
}

static bool
equal(const JsonValue *a, const JsonValue *b)
{
	void	   *iterator = NULL;
	const char *key;
	const char *left;
	const char *right;
	size_t		length;
	size_t		other_length;
	JsonValue  *member;

	if (is_number(a, NULL, NULL) && is_number(b, NULL, NULL))
		return compare_numbers(a, b) == 0;
	if (sparky_json_kind(a) != sparky_json_kind(b) || sparky_json_size(a) != sparky_json_size(b))
		return false;
	switch (sparky_json_kind(a))
	{
		case JSON_KIND_BOOL:
			return sparky_json_bool(a, false) == sparky_json_bool(b, false);
		case JSON_KIND_STRING:
			left = sparky_json_string(a, &length);
			right = sparky_json_string(b, &other_length);
			return length == other_length && memcmp(left, right, length) == 0;
		case JSON_KIND_ARRAY:
			for (size_t i = 0; i < sparky_json_size(a); i++)
			{
				if (!equal(sparky_json_at(a, i), sparky_json_at(b, i)))
					return false;
			}
			return true;
		case JSON_KIND_OBJECT:
			while ((key = sparky_json_next(a, &iterator, NULL, &member)) != NULL)
			{
				const JsonValue *twin = sparky_json_get(b, key);

				if (twin == NULL || !equal(member, twin))
					return false;
			}
			return true;
		default:
			return true;
	}
}

static size_t
code_points(const char *string, size_t length)
{
	size_t		count = 0;

	for (size_t i = 0; i < length; i++)
		count += ((unsigned char) string[i] & 0xC0) != 0x80;
	return count;
}

/* ---- reasons: "/style/0: wrong type" ---- */

/* Always false, so that a test can return it. */
static bool
refuse(Why *why, const Place *place, const char *format, ...)
{
	char		rule[120];
	char		pointer[POINTER_BYTES];
	size_t		length;
	va_list		arguments;

	if (why == NULL || why->text == NULL || why->size == 0)
		return false;
	va_start(arguments, format);
	vsnprintf(rule, sizeof(rule), format, arguments);
	va_end(arguments);
	length = add_pointer(pointer, why->size < sizeof(pointer) ? why->size : sizeof(pointer), place);
	pointer[length] = '\0';
	snprintf(why->text, why->size, "%s: %s", pointer[0] != '\0' ? pointer : "/", rule);
	return false;
}

/*
 * RFC 6901, with control characters as '?', since keys are from outside.  Returns
 * the length written, which never exceeds size - 1 and never cuts a character.
 */
static size_t
add_pointer(char *buffer, size_t size, const Place *place)
{
	char		index[24];
	const char *key;
	size_t		at;
	size_t		sequence;

	if (place == NULL)
		return 0;
	at = add_pointer(buffer, size, place->parent);
	snprintf(index, sizeof(index), "%zu", place->index);
	key = place->key != NULL ? place->key : index;

	if (at + 1 < size)
		buffer[at++] = '/';
	for (; *key != '\0'; key += sequence)
	{
		const char *written = key;
		size_t		length;

		sequence = length = sparky_utf8_sequence(key, strlen(key));
		if (length == 0)
			break;
		if (*key == '~' || *key == '/')
		{
			written = *key == '~' ? "~0" : "~1";
			length = 2;
		}
		else if ((unsigned char) *key < 0x20 || *key == 0x7F)
			written = "?";
		if (at + length >= size)
			break;
		memcpy(buffer + at, written, length);
		at += length;
	}
	return at;
}
