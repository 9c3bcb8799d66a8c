/*
 * canonical_json.c: the canonical form of RFC 8785 (JCS).
 *
 * Rules.  Any client in any language must be able to compute the same bytes, so
 * this is JavaScript's view of JSON and nothing else: members sorted by their
 * keys' UTF-16 code units, strings with the fewest escapes, and every number an
 * IEEE double as ECMAScript prints it (12345678901234567890 is
 * 12345678901234567000, 1e400 has no form).  No locale matters.
 */
#include <stdlib.h>
#include <string.h>

#include "canonical_json.h"

typedef struct Member
{
	const char *key;
	size_t		key_length;
	const JsonValue *value;
} Member;

static bool add_value(JsonText *out, const JsonValue *value, int depth);
static bool add_array(JsonText *out, const JsonValue *array, int depth);
static bool add_object(JsonText *out, const JsonValue *object, int depth);
static Member *sorted_members(const JsonValue *object);
static int	compare_members(const void *a, const void *b);

bool
sparky_jcs_add(JsonText *out, const JsonValue *value)
{
	return add_value(out, value, 0);
}

bool
sparky_jcs_add_text(JsonText *out, const char *json, size_t length, char *why, size_t why_size)
{
	JsonValue  *value = sparky_json_parse_doubles(json, length, why, why_size);
	bool		added;

	if (value == NULL)
		return false;
	added = sparky_jcs_add(out, value);
	sparky_json_free(value);
	return added;
}

static bool
add_value(JsonText *out, const JsonValue *value, int depth)
{
	size_t		length;
	const char *string;

	if (depth > SPARKY_JSON_MAX_DEPTH)
		return false;
	switch (sparky_json_kind(value))
	{
		case JSON_KIND_NULL:
			sparky_json_text_puts(out, "null");
			break;
		case JSON_KIND_BOOL:
			sparky_json_text_puts(out, sparky_json_bool(value, false) ? "true" : "false");
			break;
		case JSON_KIND_INTEGER:
		case JSON_KIND_REAL:
			sparky_json_text_add_number(out, sparky_json_number(value, 0));
			break;
		case JSON_KIND_STRING:
			string = sparky_json_string(value, &length);
			sparky_json_text_add_string(out, string, length);
			break;
		case JSON_KIND_ARRAY:
			return add_array(out, value, depth);
		case JSON_KIND_OBJECT:
			return add_object(out, value, depth);
	}
	return !out->failed;
}

static bool
add_array(JsonText *out, const JsonValue *array, int depth)
{
	sparky_json_text_puts(out, "[");
	for (size_t i = 0; i < sparky_json_size(array); i++)
	{
		if (i > 0)
			sparky_json_text_puts(out, ",");
		if (!add_value(out, sparky_json_at(array, i), depth + 1))
			return false;
	}
	sparky_json_text_puts(out, "]");
	return !out->failed;
}

static bool
add_object(JsonText *out, const JsonValue *object, int depth)
{
	size_t		count = sparky_json_size(object);
	Member	   *members;
	bool		added = true;

	if (count == 0)
	{
		sparky_json_text_puts(out, "{}");
		return !out->failed;
	}
	members = sorted_members(object);
	if (members == NULL)
		return false;
	for (size_t i = 0; i < count && added; i++)
	{
		sparky_json_text_puts(out, i == 0 ? "{" : ",");
		sparky_json_text_add_string(out, members[i].key, members[i].key_length);
		sparky_json_text_puts(out, ":");
		added = add_value(out, members[i].value, depth + 1);
	}
	sparky_json_text_puts(out, "}");
	free(members);
	return added && !out->failed;
}

/* The members of an object that has some, in canonical order; malloc'd, NULL when out of memory. */
static Member *
sorted_members(const JsonValue *object)
{
	size_t		count = sparky_json_size(object);
	Member	   *members = calloc(count, sizeof(Member));
	void	   *iterator = NULL;
	size_t		i = 0;
	const char *key;
	size_t		key_length;
	JsonValue  *value;

	if (members == NULL)
		return NULL;
	while (i < count && (key = sparky_json_next(object, &iterator, &key_length, &value)) != NULL)
		members[i++] = (Member) {key, key_length, value};
	qsort(members, i, sizeof(Member), compare_members);
	return members;
}

/*
 * UTF-16 order out of UTF-8 bytes.  The two agree but for one case: characters
 * beyond U+FFFF (lead byte from F0) are surrogates D800 to DFFF in UTF-16, and
 * so come before U+E000 to U+FFFF (lead bytes EE and EF).  Continuation bytes
 * are below C0, so two first differing bytes of EE and more are lead bytes.
 */
static int
compare_members(const void *a, const void *b)
{
	const Member *left = a;
	const Member *right = b;
	size_t		common = left->key_length < right->key_length ? left->key_length : right->key_length;

	for (size_t i = 0; i < common; i++)
	{
		unsigned char l = (unsigned char) left->key[i];
		unsigned char r = (unsigned char) right->key[i];

		if (l == r)
			continue;
		if (l >= 0xEE && r >= 0xEE && (l >= 0xF0) != (r >= 0xF0))
			return l >= 0xF0 ? -1 : 1;
		return l < r ? -1 : 1;
	}
	return (left->key_length > right->key_length) - (left->key_length < right->key_length);
}
