/*
 * json.c: the only file that knows jansson.
 *
 * Rules.  Texts come from outside: they are parsed by explicit length, nested
 * no deeper than SPARKY_JSON_MAX_DEPTH (so that every walk over a value may
 * recurse), and an error message never quotes them, since they may hold what
 * must not be logged.  jansson keeps its own allocator: nothing here is palloc'd,
 * nothing throws, and all of it may run inside a libcurl callback.
 *
 * Printing is ours (the words are in json_text.c) and not jansson's, which
 * writes 0.1 as 0.10000000000000001.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "json.h"

#define EXACT_INTEGER_LIMIT 9007199254740992.0	/* 2^53: below it every integer is itself */

static JsonValue *parse(const char *text, size_t length, size_t flags, char *why, size_t why_size);
static const char *reason(enum json_error_code code);
static void print_value(JsonText *text, const json_t *value);
static void print_object(JsonText *text, const json_t *object);

/* ---- reading ---- */

JsonValue *
sparky_json_parse(const char *text, size_t length, char *why, size_t why_size)
{
	return parse(text, length, 0, why, why_size);
}

JsonValue *
sparky_json_parse_doubles(const char *text, size_t length, char *why, size_t why_size)
{
	return parse(text, length, JSON_DECODE_INT_AS_REAL, why, why_size);
}

void
sparky_json_free(JsonValue *value)
{
	json_decref(value);
}

static JsonValue *
parse(const char *text, size_t length, size_t flags, char *why, size_t why_size)
{
	json_error_t error;
	json_t	   *value;

	if (why != NULL && why_size > 0)
		why[0] = '\0';
	/* Before jansson sees it: its own limit is 2048 levels, each an allocation and a stack frame. */
	if (sparky_json_too_deep(text, length, SPARKY_JSON_MAX_DEPTH))
	{
		if (why != NULL)
			snprintf(why, why_size, "more than %d levels", SPARKY_JSON_MAX_DEPTH);
		return NULL;
	}
	value = json_loadb(length > 0 ? text : "", length,
					   flags | JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
	if (value == NULL && why != NULL)
		snprintf(why, why_size, "%s at byte %d", reason(json_error_code(&error)), error.position);
	return value;
}

/* Counts brackets outside strings; a text that is no JSON is left to the parser. */
bool
sparky_json_too_deep(const char *text, size_t length, size_t most)
{
	size_t		depth = 0;
	bool		in_string = false;

	for (size_t i = 0; i < length; i++)
	{
		char		c = text[i];

		if (in_string)
		{
			if (c == '\\')
				i++;
			else if (c == '"')
				in_string = false;
		}
		else if (c == '"')
			in_string = true;
		else if ((c == '[' || c == '{') && ++depth > most)
			return true;
		else if ((c == ']' || c == '}') && depth > 0)
			depth--;
	}
	return false;
}

/* jansson's own texts quote the input, so only its codes are used. */
static const char *
reason(enum json_error_code code)
{
	switch (code)
	{
		case json_error_out_of_memory:
			return "out of memory";
		case json_error_stack_overflow:
			return "too many levels";
		case json_error_invalid_utf8:
			return "invalid UTF-8";
		case json_error_premature_end_of_input:
			return "unexpected end";
		case json_error_end_of_input_expected:
			return "text after the end";
		case json_error_null_character:
		case json_error_null_byte_in_key:
			return "a null character";
		case json_error_duplicate_key:
			return "a duplicate key";
		case json_error_numeric_overflow:
			return "a number out of range";
		default:
			return "invalid syntax";
	}
}

JsonKind
sparky_json_kind(const JsonValue *value)
{
	if (value == NULL)
		return JSON_KIND_NULL;
	switch (json_typeof(value))
	{
		case JSON_OBJECT:
			return JSON_KIND_OBJECT;
		case JSON_ARRAY:
			return JSON_KIND_ARRAY;
		case JSON_STRING:
			return JSON_KIND_STRING;
		case JSON_INTEGER:
			return JSON_KIND_INTEGER;
		case JSON_REAL:
			return JSON_KIND_REAL;
		case JSON_TRUE:
		case JSON_FALSE:
			return JSON_KIND_BOOL;
		case JSON_NULL:
			break;
	}
	return JSON_KIND_NULL;
}

JsonValue *
sparky_json_get(const JsonValue *object, const char *key)
{
	return json_object_get(object, key);
}

JsonValue *
sparky_json_at(const JsonValue *array, size_t index)
{
	return json_array_get(array, index);
}

size_t
sparky_json_size(const JsonValue *value)
{
	return json_is_object(value) ? json_object_size(value) : json_array_size(value);
}

const char *
sparky_json_string(const JsonValue *value, size_t *length)
{
	if (length != NULL)
		*length = json_string_length(value);
	return json_string_value(value);
}

bool
sparky_json_bool(const JsonValue *value, bool otherwise)
{
	return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

/* 3.0 is an integer too, as long as the double can only mean one integer. */
int64_t
sparky_json_integer(const JsonValue *value, int64_t otherwise)
{
	if (json_is_integer(value))
		return json_integer_value(value);
	if (json_is_real(value))
	{
		double		number = json_real_value(value);

		if (fabs(number) <= EXACT_INTEGER_LIMIT && floor(number) == number)
			return (int64_t) number;
	}
	return otherwise;
}

double
sparky_json_number(const JsonValue *value, double otherwise)
{
	return json_is_number(value) ? json_number_value(value) : otherwise;
}

const char *
sparky_json_next(const JsonValue *object, void **iterator, size_t *key_length, JsonValue **member)
{
	/* jansson wants a mutable object for its iterators and changes nothing. */
	json_t	   *walked = (json_t *) object;
	const char *key;

	*iterator = *iterator == NULL ? json_object_iter(walked) : json_object_iter_next(walked, *iterator);
	if (*iterator == NULL)
		return NULL;
	key = json_object_iter_key(*iterator);
	if (key_length != NULL)
		*key_length = strlen(key);	/* a key with a null character was refused */
	if (member != NULL)
		*member = json_object_iter_value(*iterator);
	return key;
}

/* ---- printing ---- */

char *
sparky_json_print(const JsonValue *value)
{
	JsonText	text = {0};

	print_value(&text, value);
	if (text.failed)
	{
		sparky_json_text_free(&text);
		return NULL;
	}
	return text.data;
}

/* Recursion is bounded by the parser's depth. */
static void
print_value(JsonText *text, const json_t *value)
{
	char		number[32];

	switch (sparky_json_kind(value))
	{
		case JSON_KIND_NULL:
			sparky_json_text_puts(text, "null");
			break;
		case JSON_KIND_BOOL:
			sparky_json_text_puts(text, json_is_true(value) ? "true" : "false");
			break;
		case JSON_KIND_INTEGER:
			snprintf(number, sizeof(number), "%" PRId64, (int64_t) json_integer_value(value));
			sparky_json_text_puts(text, number);
			break;
		case JSON_KIND_REAL:
			sparky_json_text_add_number(text, json_real_value(value));
			break;
		case JSON_KIND_STRING:
			sparky_json_text_add_string(text, json_string_value(value), json_string_length(value));
			break;
		case JSON_KIND_ARRAY:
			sparky_json_text_puts(text, "[");
			for (size_t i = 0; i < json_array_size(value); i++)
			{
				if (i > 0)
					sparky_json_text_puts(text, ",");
				print_value(text, json_array_get(value, i));
			}
			sparky_json_text_puts(text, "]");
			break;
		case JSON_KIND_OBJECT:
			print_object(text, value);
			break;
	}
}

static void
print_object(JsonText *text, const json_t *object)
{
	const char *separator = "{";
	void	   *iterator = NULL;
	const char *key;
	size_t		key_length;
	JsonValue  *member;

	while ((key = sparky_json_next(object, &iterator, &key_length, &member)) != NULL)
	{
		sparky_json_text_puts(text, separator);
		sparky_json_text_add_string(text, key, key_length);
		sparky_json_text_puts(text, ":");
		print_value(text, member);
		separator = ",";
	}
	sparky_json_text_puts(text, *separator == '{' ? "{}" : "}");
}
