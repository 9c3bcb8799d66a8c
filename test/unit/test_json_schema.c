/* test_json_schema.c: which schemas are usable, and what they accept. */
#include "json_schema.h"
#include "tap.h"

static JsonValue *
parse(const char *text)
{
	char		why[100];
	JsonValue  *value = sparky_json_parse(text, strlen(text), why, sizeof(why));

	if (value == NULL)
	{
		printf("Bail out! the test's own JSON is broken: %s: %s\n", why, text);
		exit(1);
	}
	return value;
}

static void
usable(const char *schema)
{
	JsonValue  *value = parse(schema);
	char		why[200];

	if (!ok(sparky_schema_usable(value, why, sizeof(why)) && why[0] == '\0', "usable: %s", schema))
		printf("# why: %s\n", why);
	sparky_json_free(value);
}

static void
not_usable(const char *schema, const char *reason)
{
	JsonValue  *value = parse(schema);
	char		why[200];

	ok(!sparky_schema_usable(value, why, sizeof(why)), "not usable: %s", schema);
	is_text(why, reason, "  reason");
	sparky_json_free(value);
}

static bool
lookup(void *context, const char *list, const char *value, size_t length)
{
	*(int *) context += 1;
	return strcmp(list, "hairstyles.id") == 0 && length == 3 && memcmp(value, "bob", 3) == 0;
}

static bool
check(const char *schema_text, const char *value_text, bool strict, char *why, size_t why_size)
{
	JsonValue  *schema = parse(schema_text);
	JsonValue  *value = parse(value_text);
	int			asked = 0;
	bool		accepted = sparky_schema_accepts(schema, value, strict, lookup, &asked, why, why_size);

	sparky_json_free(schema);
	sparky_json_free(value);
	return accepted;
}

static void
accepts(const char *schema, const char *value, bool strict)
{
	char		why[200];

	if (!ok(check(schema, value, strict, why, sizeof(why)), "%s accepts %s%s", schema, value, strict ? " (strict)" : ""))
		printf("# why: %s\n", why);
}

static void
refuses(const char *schema, const char *value, bool strict, const char *reason)
{
	char		why[200];

	ok(!check(schema, value, strict, why, sizeof(why)), "%s refuses %s%s", schema, value, strict ? " (strict)" : "");
	is_text(why, reason, "  reason");
}

static void
test_usable(void)
{
	usable("{}");
	usable("{\"type\":\"object\",\"title\":\"t\",\"description\":\"d\",\"properties\":{\"a\":{\"type\":[\"string\",\"null\"],"
		   "\"enum\":[\"x\",null],\"default\":\"x\"},\"b\":{\"type\":\"array\",\"items\":{\"type\":\"number\",\"minimum\":0,"
		   "\"maximum\":1.5},\"minItems\":1,\"maxItems\":3},\"c\":{\"anyOf\":[{\"const\":1},{\"type\":\"string\",\"minLength\":1,"
		   "\"maxLength\":10,\"format\":\"date\"}]}},\"required\":[\"a\"],\"additionalProperties\":false,"
		   "\"propertyOrdering\":[\"a\",\"b\"]}");
	usable("{\"additionalProperties\":{\"type\":\"integer\"}}");
	usable("{\"properties\":{\"h\":{\"type\":\"string\",\"x-values\":\"hairstyles.id\"},\"c\":{\"x-values\":\"hair_colors.hex_code\"},"
		   "\"s\":{\"x-values\":\"skin_colors.hex_code\"}}}");
	not_usable("[]", "/: a schema must be an object");
	not_usable("true", "/: a schema must be an object");
	not_usable("{\"pattern\":\"a+\"}", "/pattern: this keyword is not supported");
	not_usable("{\"$ref\":\"#/x\"}", "/$ref: this keyword is not supported");
	not_usable("{\"type\":\"text\"}", "/type: must be a type, or a list of types");
	not_usable("{\"type\":[]}", "/type: must be a type, or a list of types");
	not_usable("{\"type\":[\"string\",1]}", "/type: must be a type, or a list of types");
	not_usable("{\"required\":\"a\"}", "/required: must be a list of strings");
	not_usable("{\"required\":[1]}", "/required: must be a list of strings");
	not_usable("{\"properties\":[]}", "/properties: must be an object of schemas");
	not_usable("{\"properties\":{\"a/b\":{\"oneOf\":[]}}}", "/properties/a~1b/oneOf: this keyword is not supported");
	not_usable("{\"properties\":{\"a\":true}}", "/properties/a: a schema must be an object");
	not_usable("{\"items\":[{}]}", "/items: must be a schema");
	not_usable("{\"items\":{\"items\":{\"multipleOf\":2}}}", "/items/items/multipleOf: this keyword is not supported");
	not_usable("{\"anyOf\":[]}", "/anyOf: must be a list of schemas");
	not_usable("{\"anyOf\":[{},{\"not\":{}}]}", "/anyOf/1/not: this keyword is not supported");
	not_usable("{\"enum\":[]}", "/enum: must be a list of values");
	not_usable("{\"minimum\":\"1\"}", "/minimum: must be a number");
	not_usable("{\"minLength\":-1}", "/minLength: must be a count");
	not_usable("{\"maxItems\":1.5}", "/maxItems: must be a count");
	not_usable("{\"additionalProperties\":1}", "/additionalProperties: must be a boolean or a schema");
	not_usable("{\"additionalProperties\":{\"x\":1}}", "/additionalProperties/x: this keyword is not supported");
	not_usable("{\"x-values\":\"users.email\"}", "/x-values: must be the name of a list");
	not_usable("{\"title\":1}", "/title: must be a string");
}

static void
test_types(void)
{
	accepts("{\"type\":\"integer\"}", "1", false);
	accepts("{\"type\":\"integer\"}", "1.0", false);
	accepts("{\"type\":\"integer\"}", "1e3", false);
	refuses("{\"type\":\"integer\"}", "1.5", false, "/: wrong type");
	refuses("{\"type\":\"integer\"}", "\"1\"", false, "/: wrong type");
	accepts("{\"type\":\"number\"}", "1", false);
	accepts("{\"type\":\"number\"}", "-0.5", false);
	refuses("{\"type\":\"number\"}", "true", false, "/: wrong type");
	accepts("{\"type\":\"null\"}", "null", false);
	refuses("{\"type\":\"null\"}", "0", false, "/: wrong type");
	accepts("{\"type\":\"boolean\"}", "false", false);
	refuses("{\"type\":\"string\"}", "null", false, "/: wrong type");
	accepts("{\"type\":[\"string\",\"null\"]}", "null", false);
	refuses("{\"type\":[\"string\",\"null\"]}", "1", false, "/: wrong type");
	refuses("{\"type\":\"array\"}", "{}", false, "/: wrong type");
	refuses("{\"type\":\"object\"}", "[]", false, "/: wrong type");
	accepts("{}", "[1,\"x\",null]", false);
}

static void
test_values(void)
{
	accepts("{\"enum\":[1,\"a\",null,[1,{\"b\":2}]]}", "1.0", false);
	accepts("{\"enum\":[1,\"a\",null,[1,{\"b\":2}]]}", "[1.0,{\"b\":2}]", false);
	refuses("{\"enum\":[1,\"a\",null,[1,{\"b\":2}]]}", "[1,{\"b\":3}]", false, "/: not one of the allowed values");
	refuses("{\"enum\":[1,\"a\"]}", "\"secret\"", false, "/: not one of the allowed values");
	refuses("{\"enum\":[1]}", "true", false, "/: not one of the allowed values");
	accepts("{\"const\":{\"a\":1,\"b\":[]}}", "{\"b\":[],\"a\":1}", false);
	refuses("{\"const\":{\"a\":1}}", "{\"a\":1,\"b\":2}", false, "/: not the one allowed value");
	refuses("{\"const\":{\"a\":1,\"b\":2}}", "{\"a\":1,\"c\":2}", false, "/: not the one allowed value");
	accepts("{\"const\":null}", "null", false);
	refuses("{\"const\":null}", "0", false, "/: not the one allowed value");
	refuses("{\"const\":9007199254740993}", "9007199254740992", false, "/: not the one allowed value");
	accepts("{\"const\":9007199254740993}", "9007199254740993", false);
	refuses("{\"const\":9007199254740993}", "9007199254740992.0", false, "/: not the one allowed value");

	accepts("{\"minimum\":0,\"maximum\":1}", "0", false);
	accepts("{\"minimum\":0,\"maximum\":1}", "1.0", false);
	refuses("{\"minimum\":0,\"maximum\":1}", "-0.001", false, "/: less than the minimum");
	refuses("{\"minimum\":0,\"maximum\":1}", "1.001", false, "/: more than the maximum");
	refuses("{\"maximum\":9223372036854775806}", "9223372036854775807", false, "/: more than the maximum");
	refuses("{\"minimum\":9223372036854775807}", "9223372036854775806", false, "/: less than the minimum");
	refuses("{\"minimum\":9.3e18}", "9223372036854775807", false, "/: less than the minimum");
	refuses("{\"minimum\":9223372036854775808.0}", "9223372036854775807", false, "/: less than the minimum");
	accepts("{\"maximum\":9223372036854775808.0}", "9223372036854775807", false);
	accepts("{\"minimum\":5}", "\"no number, no minimum\"", false);

	accepts("{\"minLength\":2,\"maxLength\":3}", "\"\\u20ac\\ud83d\\ude00\"", false);
	refuses("{\"minLength\":2,\"maxLength\":3}", "\"\\ud83d\\ude00\"", false, "/: too short or too long");
	refuses("{\"maxLength\":3}", "\"abcd\"", false, "/: too short or too long");
	accepts("{\"minItems\":1,\"maxItems\":2}", "[1,2]", false);
	refuses("{\"minItems\":1}", "[]", false, "/: too few or too many elements");
	refuses("{\"maxItems\":2}", "[1,2,3]", false, "/: too few or too many elements");
	refuses("{\"items\":{\"type\":\"string\"}}", "[\"a\",1]", false, "/1: wrong type");
	refuses("{\"properties\":{\"a\":{\"items\":{\"properties\":{\"b\":{\"type\":\"string\"}}}}}}", "{\"a\":[{},{\"b\":1}]}", false,
			"/a/1/b: wrong type");

	accepts("{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"integer\",\"minimum\":5}]}", "5", false);
	refuses("{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"integer\",\"minimum\":5}]}", "4", false, "/: none of the alternatives fits");
}

static void
test_objects(void)
{
	const char *plain = "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}},\"required\":[\"a\"]}";

	accepts(plain, "{\"a\":1}", true);
	refuses(plain, "{}", true, "/a: required");
	refuses(plain, "{\"b\":1}", false, "/a: required");
	refuses(plain, "{\"a\":1,\"b\":2}", true, "/b: unknown member");
	accepts(plain, "{\"a\":1,\"b\":2}", false);
	refuses(plain, "{\"a\":\"x\"}", true, "/a: wrong type");
	refuses("{\"type\":\"object\"}", "{\"x\":1}", true, "/x: unknown member");
	accepts("{\"type\":\"object\"}", "{\"x\":1}", false);
	accepts("{\"type\":\"object\"}", "{}", true);
	accepts("{\"additionalProperties\":true}", "{\"x\":1}", true);
	refuses("{\"additionalProperties\":false}", "{\"x\":1}", false, "/x: unknown member");
	accepts("{\"additionalProperties\":{\"type\":\"integer\"}}", "{\"x\":1}", true);
	refuses("{\"additionalProperties\":{\"type\":\"integer\"}}", "{\"x\":\"1\"}", true, "/x: wrong type");
	refuses("{\"properties\":{\"o\":{\"type\":\"object\"}}}", "{\"o\":{\"deep\":1}}", true, "/o/deep: unknown member");
	accepts("{\"properties\":{\"o\":{\"type\":\"object\"}}}", "{\"o\":{\"deep\":1}}", false);

	/* Members may be named by a branch that fits, and by no other. */
	accepts("{\"properties\":{\"a\":{}},\"anyOf\":[{\"properties\":{\"b\":{\"type\":\"integer\"}}},{\"properties\":{\"c\":{\"type\":\"integer\"}}}]}",
			"{\"a\":1,\"b\":2}", true);
	refuses("{\"anyOf\":[{\"properties\":{\"b\":{\"type\":\"integer\"}},\"required\":[\"b\"]},"
			"{\"properties\":{\"c\":{\"type\":\"integer\"}},\"required\":[\"c\"]}]}",
			"{\"b\":2,\"d\":1}", true, "/d: unknown member");
	refuses("{\"anyOf\":[{\"properties\":{\"kind\":{\"const\":1},\"b\":{}},\"required\":[\"kind\"]},"
			"{\"properties\":{\"kind\":{\"const\":2},\"c\":{}},\"required\":[\"kind\"]}]}",
			"{\"kind\":1,\"c\":1}", true, "/c: unknown member");
	refuses("{\"anyOf\":[{\"properties\":{\"b\":{}},\"additionalProperties\":false}]}", "{\"b\":1,\"a\":1}", true,
			"/: none of the alternatives fits");
}

static void
test_value_lists(void)
{
	JsonValue  *schema = parse("{\"type\":\"string\",\"x-values\":\"hairstyles.id\"}");
	JsonValue  *value = parse("\"bob\"");
	char		why[200];
	char		small[8];

	accepts("{\"type\":\"string\",\"x-values\":\"hairstyles.id\"}", "\"bob\"", true);
	refuses("{\"type\":\"string\",\"x-values\":\"hairstyles.id\"}", "\"wig\"", true, "/: not in the list hairstyles.id");
	refuses("{\"properties\":{\"c\":{\"x-values\":\"hair_colors.hex_code\"}}}", "{\"c\":\"bob\"}", true, "/c: not in the list hair_colors.hex_code");
	refuses("{\"x-values\":\"hairstyles.id\"}", "1", true, "/: wrong type");
	refuses("{\"x-values\":\"hairstyles.id\"}", "null", true, "/: wrong type");
	ok(!sparky_schema_accepts(schema, value, true, NULL, NULL, why, sizeof(why)), "without a look-up nothing is in a list");
	ok(!sparky_schema_accepts(schema, value, true, NULL, NULL, NULL, 0), "a reason need not be asked for");
	ok(!sparky_schema_accepts(schema, value, true, NULL, NULL, small, sizeof(small)) && strlen(small) == 7, "a small buffer is filled and ended");
	sparky_json_free(schema);
	sparky_json_free(value);
}

/* Names of members come from outside: no control characters, no cut UTF-8, whatever the buffer. */
static void
test_reasons(void)
{
	JsonText	text = {0};
	JsonValue  *schema = parse("{}");
	JsonValue  *value;
	bool		sound = true;

	sparky_json_text_puts(&text, "{\"~\\n");
	for (int i = 0; i < 100; i++)
		sparky_json_text_puts(&text, "\xE2\x82\xAC");
	sparky_json_text_puts(&text, "\":1}");
	value = parse(text.data);
	for (size_t size = 1; size < 400; size++)
	{
		char		why[400];

		memset(why, 'x', sizeof(why));
		sparky_schema_accepts(schema, value, true, NULL, NULL, why, size);
		sound = sound && memchr(why, '\0', size) != NULL && sparky_utf8_valid(why, strlen(why)) && strchr(why, '\n') == NULL;
		if (size > 200)
			sound = sound && strstr(why, ": unknown member") != NULL && strncmp(why, "/~0?", 4) == 0;
	}
	ok(sound, "a reason is whole UTF-8 on one line in a buffer of any size");
	sparky_json_free(schema);
	sparky_json_free(value);
	sparky_json_text_free(&text);
}

int
main(void)
{
	test_usable();
	test_types();
	test_values();
	test_objects();
	test_value_lists();
	test_reasons();
	return done();
}
