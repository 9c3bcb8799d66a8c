/*
 * schema.c: an instance of a JSON schema (see schema.h).
 *
 * Choices come from the seed and the place in the schema, so that one photo
 * always gets one answer and two photos mostly get two.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "schema.h"

#define MAX_DEPTH 24			/* of the instance */
#define OPTIONAL_DEPTH 6		/* below it, only what is required */
#define DEFAULT_SPAN 100

typedef struct Maker
{
	const json_t *root;
	uint64_t	seed;
	int			depth;
} Maker;

static const char *const supported[] = {
	"$id", "$defs", "$ref", "$anchor", "type", "format", "title", "description", "enum", "items", "prefixItems",
	"minItems", "maxItems", "minimum", "maximum", "anyOf", "oneOf", "properties", "additionalProperties", "required",
	"propertyOrdering", NULL
};

static bool supported_at(const json_t *schema, int depth, Buf *why);
static bool supported_children(const json_t *schema, int depth, Buf *why);
static json_t *make(Maker *maker, const json_t *schema, const char *name);
static json_t *make_type(Maker *maker, const json_t *schema, const char *type, const char *name);
static json_t *make_object(Maker *maker, const json_t *schema);
static json_t *make_array(Maker *maker, const json_t *schema, const char *name);
static json_t *make_number(Maker *maker, const json_t *schema, const char *name, bool whole);
static json_t *make_string(Maker *maker, const json_t *schema, const char *name);
static const json_t *resolve(const json_t *root, const char *reference);
static const char *pick_type(Maker *maker, const json_t *schema, const char *name);
static uint64_t chance(const Maker *maker, const char *name);
static json_int_t limit(const json_t *schema, const char *name, json_int_t fallback);

bool
schema_supported(const json_t *schema, Buf *why)
{
	return supported_at(schema, 0, why);
}

json_t *
schema_instance(const json_t *schema, uint64_t seed)
{
	Maker		maker = {schema, seed, 0};

	return make(&maker, schema, "");
}

static bool
supported_at(const json_t *schema, int depth, Buf *why)
{
	const char *name;
	json_t	   *value;
	bool		reference = json_object_get(schema, "$ref") != NULL;

	if (json_is_boolean(schema))
		return true;
	if (!json_is_object(schema) || depth > 64)
	{
		buf_puts(why, depth > 64 ? "schema is too deep" : "schema must be an object");
		return false;
	}
	json_object_foreach((json_t *) schema, name, value)
	{
		size_t		i = 0;

		while (supported[i] != NULL && strcmp(supported[i], name) != 0)
			i++;
		if (supported[i] == NULL)
		{
			buf_printf(why, "unsupported keyword \"%s\"", name);
			return false;
		}
		if (reference && name[0] != '$')
		{
			buf_printf(why, "\"%s\" beside \"$ref\"", name);
			return false;
		}
	}
	return supported_children(schema, depth, why);
}

static bool
supported_children(const json_t *schema, int depth, Buf *why)
{
	static const char *const maps[] = {"properties", "$defs", NULL};
	static const char *const lists[] = {"anyOf", "oneOf", "prefixItems", NULL};
	static const char *const ones[] = {"items", "additionalProperties", NULL};
	const char *name;
	json_t	   *value;
	size_t		at;

	for (int i = 0; maps[i] != NULL; i++)
		json_object_foreach(json_object_get(schema, maps[i]), name, value)
			if (!supported_at(value, depth + 1, why))
				return false;
	for (int i = 0; lists[i] != NULL; i++)
		json_array_foreach(json_object_get(schema, lists[i]), at, value)
			if (!supported_at(value, depth + 1, why))
				return false;
	for (int i = 0; ones[i] != NULL; i++)
		if ((value = json_object_get(schema, ones[i])) != NULL && !supported_at(value, depth + 1, why))
			return false;
	return true;
}

static json_t *
make(Maker *maker, const json_t *schema, const char *name)
{
	const json_t *options;
	const char *reference;
	json_t	   *made = NULL;

	if (maker->depth > MAX_DEPTH)
		return NULL;
	maker->depth++;
	reference = json_string_value(json_object_get(schema, "$ref"));
	options = json_object_get(schema, "anyOf");
	if (options == NULL)
		options = json_object_get(schema, "oneOf");
	if (json_is_boolean(schema))
		made = json_is_true(schema) ? json_string("anything") : NULL;
	else if (reference != NULL)
	{
		schema = resolve(maker->root, reference);
		made = schema != NULL ? make(maker, schema, name) : NULL;
	}
	else if (json_array_size(json_object_get(schema, "enum")) > 0)
	{
		options = json_object_get(schema, "enum");
		made = json_deep_copy(json_array_get(options, chance(maker, name) % json_array_size(options)));
	}
	else if (json_array_size(options) > 0)
	{
		/* Where the chosen one cannot be made, another may. */
		size_t		first = chance(maker, name) % json_array_size(options);

		for (size_t i = 0; made == NULL && i < json_array_size(options); i++)
			made = make(maker, json_array_get(options, (first + i) % json_array_size(options)), name);
	}
	else
		made = make_type(maker, schema, pick_type(maker, schema, name), name);
	maker->depth--;
	return made;
}

static json_t *
make_type(Maker *maker, const json_t *schema, const char *type, const char *name)
{
	if (strcasecmp(type, "object") == 0)
		return make_object(maker, schema);
	if (strcasecmp(type, "array") == 0)
		return make_array(maker, schema, name);
	if (strcasecmp(type, "integer") == 0)
		return make_number(maker, schema, name, true);
	if (strcasecmp(type, "number") == 0)
		return make_number(maker, schema, name, false);
	if (strcasecmp(type, "boolean") == 0)
		return json_boolean(chance(maker, name) & 1);
	if (strcasecmp(type, "null") == 0)
		return json_null();
	return make_string(maker, schema, name);
}

static bool
is_required(const json_t *schema, const char *name)
{
	size_t		at;
	json_t	   *one;

	json_array_foreach(json_object_get(schema, "required"), at, one)
		if (json_is_string(one) && strcmp(json_string_value(one), name) == 0)
			return true;
	return false;
}

static json_t *
make_object(Maker *maker, const json_t *schema)
{
	json_t	   *object = json_object();
	const char *name;
	json_t	   *property;
	json_t	   *one;
	size_t		at;

	json_object_foreach(json_object_get(schema, "properties"), name, property)
	{
		json_t	   *value;

		if (maker->depth > OPTIONAL_DEPTH && !is_required(schema, name))
			continue;
		value = make(maker, property, name);
		if (value != NULL)
			json_object_set_new(object, name, value);
		else if (is_required(schema, name))
		{
			json_decref(object);
			return NULL;
		}
	}
	/* Required, but told nothing about. */
	json_array_foreach(json_object_get(schema, "required"), at, one)
		if (json_is_string(one) && json_object_get(object, json_string_value(one)) == NULL)
			json_object_set_new(object, json_string_value(one), json_string("unspecified"));
	return object;
}

static json_t *
make_array(Maker *maker, const json_t *schema, const char *name)
{
	const json_t *first = json_object_get(schema, "prefixItems");
	const json_t *items = json_object_get(schema, "items");
	json_int_t	least = limit(schema, "minItems", 0);
	json_int_t	most = limit(schema, "maxItems", least > 3 ? least : 3);
	json_int_t	count = least;
	json_t	   *array = json_array();

	if (most > least + 3)
		most = least + 3;
	if (most > least)
		count += (json_int_t) (chance(maker, name) % (uint64_t) (most - least + 1));
	if (count == 0 && most > 0)
		count = 1;
	if (count < (json_int_t) json_array_size(first) && (json_int_t) json_array_size(first) <= limit(schema, "maxItems", INT32_MAX))
		count = (json_int_t) json_array_size(first);
	for (json_int_t i = 0; i < count; i++)
	{
		const json_t *schema_of_item = i < (json_int_t) json_array_size(first) ? json_array_get(first, (size_t) i) : items;
		char		place[96];
		json_t	   *value;

		snprintf(place, sizeof place, "%.64s %lld", name, (long long) i);
		value = schema_of_item != NULL ? make(maker, schema_of_item, place) : json_string("item");
		if (value == NULL && i >= least)
			break;
		if (value == NULL)
		{
			json_decref(array);
			return NULL;
		}
		json_array_append_new(array, value);
	}
	return array;
}

static double
bound(const json_t *schema, const char *name, double fallback)
{
	const json_t *value = json_object_get(schema, name);

	if (json_is_string(value))
		return strtod(json_string_value(value), NULL);
	return json_is_number(value) ? json_number_value(value) : fallback;
}

static json_t *
make_number(Maker *maker, const json_t *schema, const char *name, bool whole)
{
	double		low = bound(schema, "minimum", NAN);
	double		high = bound(schema, "maximum", NAN);
	double		value;

	if (isnan(low))
		low = isnan(high) ? 0 : high - DEFAULT_SPAN;
	if (isnan(high))
		high = low + DEFAULT_SPAN;
	if (whole)
	{
		low = ceil(low);
		high = floor(high);
		if (high < low)
			return NULL;
		return json_integer((json_int_t) (low + (double) (chance(maker, name) % (uint64_t) (high - low + 1))));
	}
	if (high < low)
		return NULL;
	/* Thousandths, kept inside the bounds. */
	value = low + (high - low) * (double) (chance(maker, name) % 1001) / 1000;
	return json_real(value < low ? low : value > high ? high : value);
}

static json_t *
make_string(Maker *maker, const json_t *schema, const char *name)
{
	static const char *const words[] = {"oval", "warm", "balanced", "soft", "clear", "even", "bright", "calm"};
	const char *format = json_string_value(json_object_get(schema, "format"));
	uint64_t	number = chance(maker, name);
	json_int_t	most = limit(schema, "maxLength", INT32_MAX);
	char		text[160];

	if (format != NULL && strcmp(format, "date-time") == 0)
		return json_sprintf("2026-%02d-%02dT10:00:00Z", (int) (number % 12 + 1), (int) (number / 12 % 28 + 1));
	if (format != NULL && strcmp(format, "date") == 0)
		return json_sprintf("2026-%02d-%02d", (int) (number % 12 + 1), (int) (number / 12 % 28 + 1));
	if (format != NULL && strcmp(format, "time") == 0)
		return json_sprintf("%02d:%02d:00Z", (int) (number % 24), (int) (number / 24 % 60));
	snprintf(text, sizeof text, "%s and %s (%.64s %04x)", words[number % 8], words[number / 8 % 8],
			 *name ? name : "value", (unsigned) (number >> 48));
	for (size_t len = strlen(text); (json_int_t) len < limit(schema, "minLength", 0) && len + 1 < sizeof text; len++)
		memcpy(text + len, ".", 2);
	if (most >= 0 && most < (json_int_t) strlen(text))
		text[most] = '\0';
	return json_string(text);
}

/* "#/$defs/name" and "#"; other forms are not resolved. */
static const json_t *
resolve(const json_t *root, const char *reference)
{
	char		path[256];
	char	   *rest;

	if (reference[0] != '#' || strlen(reference) >= sizeof path)
		return NULL;
	strcpy(path, reference + 1);
	for (char *step = strtok_r(path, "/", &rest); step != NULL && root != NULL; step = strtok_r(NULL, "/", &rest))
		root = json_is_array(root) ? json_array_get(root, (size_t) atol(step)) : json_object_get(root, step);
	return root;
}

static const char *
pick_type(Maker *maker, const json_t *schema, const char *name)
{
	const json_t *type = json_object_get(schema, "type");

	if (json_is_array(type) && json_array_size(type) > 0)
		type = json_array_get(type, chance(maker, name) % json_array_size(type));
	if (json_is_string(type))
		return json_string_value(type);
	if (json_object_get(schema, "properties") != NULL || json_object_get(schema, "required") != NULL)
		return "object";
	if (json_object_get(schema, "items") != NULL || json_object_get(schema, "prefixItems") != NULL)
		return "array";
	if (json_object_get(schema, "minimum") != NULL || json_object_get(schema, "maximum") != NULL)
		return "number";
	return "string";
}

static uint64_t
chance(const Maker *maker, const char *name)
{
	return hash_bytes(maker->seed + (uint64_t) maker->depth, name, strlen(name));
}

static json_int_t
limit(const json_t *schema, const char *name, json_int_t fallback)
{
	double		value = bound(schema, name, (double) fallback);

	return value < 0 ? 0 : value > INT32_MAX ? INT32_MAX : (json_int_t) value;
}
