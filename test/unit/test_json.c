/* test_json.c: what is parsed, what is refused, and how values are written. */
#include <locale.h>

#include "json.h"
#include "tap.h"

static bool
parses(const char *text)
{
	char		why[100];
	JsonValue  *value = sparky_json_parse(text, strlen(text), why, sizeof(why));

	sparky_json_free(value);
	return value != NULL;
}

static void
refuses(const char *text, const char *reason, const char *name)
{
	char		why[100] = "";
	JsonValue  *value = sparky_json_parse(text, strlen(text), why, sizeof(why));

	if (!ok(value == NULL && strstr(why, reason) != NULL, "refused: %s", name))
		printf("# why: %s\n", why);
	sparky_json_free(value);
}

static char *
nested(int levels, const char *open, const char *close, const char *inner)
{
	JsonText	text = {0};

	for (int i = 0; i < levels; i++)
		sparky_json_text_puts(&text, open);
	sparky_json_text_puts(&text, inner);
	for (int i = 0; i < levels; i++)
		sparky_json_text_puts(&text, close);
	return text.data;
}

static void
test_refusals(void)
{
	char		why[100];
	char	   *text;
	JsonValue  *value;

	refuses("", "", "nothing");
	refuses("{\"a\":1,\"a\":2}", "duplicate", "a key twice");
	refuses("{\"a\":{\"b\":1,\"b\":1}}", "duplicate", "a key twice, deeper");
	refuses("{} x", "after the end", "text after the end");
	refuses("{}{}", "after the end", "two values");
	refuses("{\"a\":1", "unexpected end", "a cut object");
	refuses("\"a\\u0000b\"", "null character", "\\u0000 in a string");
	refuses("{\"a\\u0000b\":1}", "null character", "\\u0000 in a key");
	refuses("\"\\ud800\"", "invalid", "a lone high surrogate");
	refuses("\"\\udc00\"", "invalid", "a lone low surrogate");
	refuses("\"\xC0\x80\"", "UTF-8", "overlong UTF-8");
	refuses("\"\xED\xA0\x80\"", "UTF-8", "a surrogate in UTF-8");
	refuses("\"a\nb\"", "invalid syntax", "a raw line feed in a string");
	refuses("1e400", "out of range", "a number out of range");
	refuses("9223372036854775808", "out of range", "an integer beyond int64");
	refuses("[1,]", "invalid syntax", "a comma too many");
	refuses("NaN", "invalid syntax", "NaN");

	ok(parses("{}") && parses("[]") && parses("null") && parses("\"x\"") && parses("-0.5e3") && parses(" 1 "),
	   "objects, arrays and scalars are read");
	value = sparky_json_parse("[1]xxx", 3, why, sizeof(why));
	ok(value != NULL && sparky_json_parse("[1]xxx", 4, why, sizeof(why)) == NULL, "the length given is the text's length");
	sparky_json_free(value);

	text = nested(SPARKY_JSON_MAX_DEPTH, "[", "]", "1");
	ok(parses(text), "64 levels");
	free(text);
	text = nested(SPARKY_JSON_MAX_DEPTH + 1, "[", "]", "1");
	refuses(text, "levels", "65 levels");
	free(text);
	text = nested(SPARKY_JSON_MAX_DEPTH + 1, "{\"a\":", "}", "1");
	refuses(text, "levels", "65 levels of objects");
	free(text);
	text = nested(100000, "[", "]", "");
	refuses(text, "levels", "100000 levels");
	free(text);
	text = nested(200, "x[", "", "");
	memcpy(text, "[\"", 2);
	memcpy(text + strlen(text) - 2, "\"]", 2);
	ok(parses(text), "brackets in a string are no levels");
	free(text);
	ok(parses("[\"\\\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"]"),
	   "nor are those after an escaped quote");

	value = sparky_json_parse("{\"secret-word\":", 15, why, sizeof(why));
	ok(value == NULL && strstr(why, "secret") == NULL, "the reason does not quote the text: %s", why);
}

static void
test_access(void)
{
	const char *text = "{\"i\":42,\"r\":1.5,\"w\":3.0,\"s\":\"h\\u00e9\",\"t\":true,\"n\":null,\"a\":[1,2,3],\"o\":{\"x\":1}}";
	JsonValue  *value = sparky_json_parse(text, strlen(text), NULL, 0);
	void	   *iterator = NULL;
	const char *key;
	size_t		length;
	JsonValue  *member;
	char		keys[40] = "";
	char	   *printed;

	is_number(sparky_json_kind(value), JSON_KIND_OBJECT, "kind of an object");
	is_number(sparky_json_kind(NULL), JSON_KIND_NULL, "kind of nothing");
	is_number(sparky_json_size(value), 8, "members");
	is_number(sparky_json_size(sparky_json_get(value, "a")), 3, "elements");
	is_number(sparky_json_size(sparky_json_get(value, "s")), 0, "a string has no size");
	is_number(sparky_json_integer(sparky_json_get(value, "i"), -1), 42, "an integer");
	is_number(sparky_json_integer(sparky_json_get(value, "w"), -1), 3, "3.0 as an integer");
	is_number(sparky_json_integer(sparky_json_get(value, "r"), -1), -1, "1.5 is no integer");
	ok(sparky_json_number(sparky_json_get(value, "r"), 0) == 1.5, "a real");
	ok(sparky_json_number(sparky_json_get(value, "i"), 0) == 42, "an integer as a number");
	is_text(sparky_json_string(sparky_json_get(value, "s"), &length), "h\xC3\xA9", "a string");
	is_number(length, 3, "its length");
	ok(sparky_json_string(sparky_json_get(value, "i"), NULL) == NULL, "a number is no string");
	ok(sparky_json_bool(sparky_json_get(value, "t"), false), "true");
	ok(sparky_json_bool(sparky_json_get(value, "n"), true), "null is no boolean");
	ok(sparky_json_get(value, "zz") == NULL && sparky_json_get(sparky_json_get(value, "a"), "x") == NULL &&
	   sparky_json_get(NULL, "x") == NULL, "absent members");
	ok(sparky_json_at(sparky_json_get(value, "a"), 3) == NULL && sparky_json_at(value, 0) == NULL &&
	   sparky_json_at(NULL, 0) == NULL, "absent elements");
	while ((key = sparky_json_next(value, &iterator, &length, &member)) != NULL)
	{
		ok(length == strlen(key) && member != NULL, "walking: %s", key);
		strcat(keys, key);
	}
	is_text(keys, "irwstnao", "walked in the order of the text");
	iterator = NULL;
	ok(sparky_json_next(NULL, &iterator, NULL, NULL) == NULL, "walking nothing");
	printed = sparky_json_print(value);
	is_text(printed, "{\"i\":42,\"r\":1.5,\"w\":3,\"s\":\"h\xC3\xA9\",\"t\":true,\"n\":null,\"a\":[1,2,3],\"o\":{\"x\":1}}", "printed");
	free(printed);
	sparky_json_free(value);
	sparky_json_free(NULL);

	value = sparky_json_parse("[0.1,0.92,1e-9,-9223372036854775808,9007199254740993,{},[],\"\\u001f\\t\\/\"]", 72, NULL, 0);
	printed = value != NULL ? sparky_json_print(value) : NULL;
	is_text(printed, "[0.1,0.92,1e-9,-9223372036854775808,9007199254740993,{},[],\"\\u001f\\t/\"]",
			"numbers are printed as they were meant");
	free(printed);
	sparky_json_free(value);

	value = sparky_json_parse_doubles("[12345678901234567890,1]", 24, NULL, 0);
	is_number(sparky_json_kind(sparky_json_at(value, 1)), JSON_KIND_REAL, "parsed as doubles, 1 is one");
	is_number(sparky_json_kind(sparky_json_at(value, 0)), JSON_KIND_REAL, "and large integers are no error");
	sparky_json_free(value);
}

static void
test_text(void)
{
	JsonText	text = {0};
	const char	all[] = "\b\t\n\v\f\r\x01\x1f\"\\/\x7f\xC3\xA9";

	sparky_json_text_add_string(&text, all, sizeof(all) - 1);
	is_text(text.data, "\"\\b\\t\\n\\u000b\\f\\r\\u0001\\u001f\\\"\\\\/\x7f\xC3\xA9\"", "escapes of RFC 8785");
	is_number(text.length, strlen(text.data), "length");
	sparky_json_text_free(&text);
	ok(text.data == NULL && text.length == 0, "freed");
	for (int i = 0; i < 5000; i++)
		sparky_json_text_add(&text, "abc", 3);
	ok(text.length == 15000 && !text.failed && strlen(text.data) == 15000, "grows");
	sparky_json_text_add(&text, "x", SIZE_MAX - 10);
	ok(text.failed, "an impossible length fails");
	sparky_json_text_add(&text, "abc", 3);
	ok(text.failed && text.length == 15000, "and stays failed");
	sparky_json_text_free(&text);
	sparky_json_text_add_number(&text, 1.0 / 0.0);
	ok(text.failed, "infinity has no text");
	sparky_json_text_free(&text);
}

static void
cleans(const char *from, size_t length, const char *to, const char *name)
{
	JsonText	text = {0};

	sparky_json_clean(&text, from, length);
	is_text(text.data, to, name);
	sparky_json_text_free(&text);
}

#define CLEANS(from, to, name) cleans(from, sizeof(from) - 1, to, name)

static void
test_clean(void)
{
	CLEANS("{\"a\":\"b\\n\\\"c\\\\\"}", "{\"a\":\"b\\n\\\"c\\\\\"}", "a sound text stays");
	CLEANS("\"a\\u0000b\"", "\"a\\ufffdb\"", "\\u0000");
	CLEANS("\"a\\\\u0000b\"", "\"a\\\\u0000b\"", "an escaped backslash before u0000");
	CLEANS("\"\\ud83d\\ude00\"", "\"\\ud83d\\ude00\"", "a surrogate pair stays");
	CLEANS("\"\\ud83d x\"", "\"\\ufffd x\"", "a lone high surrogate");
	CLEANS("\"\\ude00\\ud83d\"", "\"\\ufffd\\ufffd\"", "a pair in the wrong order");
	CLEANS("\"\\ud83d\\ud83d\\ude00\"", "\"\\ufffd\\ud83d\\ude00\"", "a lone one before a pair");
	CLEANS("\"\\uD83D\\uDE00\"", "\"\\uD83D\\uDE00\"", "upper case");
	CLEANS("\"\xFF\xC3\xA9\xE2\x82\"", "\"\xEF\xBF\xBD\xC3\xA9\xEF\xBF\xBD\xEF\xBF\xBD\"", "bad UTF-8, byte by byte");
	CLEANS("\"\xED\xA0\x80\"", "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"", "a surrogate in UTF-8");
	CLEANS("\"a\nb\0c\"", "\"a\\u000ab\\ufffdc\"", "raw control characters in a string");
	CLEANS("{\n\"a\" : 1\n}", "{\n\"a\" : 1\n}", "line feeds between tokens stay");
	CLEANS("\"\\\xC3\xA9\"", "\"\\\xC3\xA9\"", "a backslash before UTF-8 is left to the parser");
	CLEANS("\"\\u12", "\"\\u12", "a cut escape is left to the parser");
	CLEANS("\"\\", "\"\\", "a cut backslash too");
}

static void
test_utf8(void)
{
	ok(sparky_utf8_valid("aé€😀", strlen("aé€😀")), "one to four bytes");
	ok(sparky_utf8_valid("", 0), "nothing");
	ok(!sparky_utf8_valid("\xF4\x90\x80\x80", 4), "beyond U+10FFFF");
	ok(!sparky_utf8_valid("\xF0\x80\x80\x80", 4) && !sparky_utf8_valid("\xE0\x80\x80", 3), "overlong");
	ok(!sparky_utf8_valid("\xF8\x88\x80\x80\x80", 5) && !sparky_utf8_valid("\x80", 1), "no lead byte");
	ok(!sparky_utf8_valid("\xE2\x82", 2), "cut");
	is_number(sparky_utf8_cut("aé€", 6, 2), 1, "a cut before a character that does not fit");
	is_number(sparky_utf8_cut("aé€", 6, 3), 3, "a cut after one that fits");
	is_number(sparky_utf8_cut("aé€", 6, 10), 6, "no cut");
}

int
main(void)
{
	setlocale(LC_ALL, "");
	test_refusals();
	test_access();
	test_text();
	test_clean();
	test_utf8();
	return done();
}
