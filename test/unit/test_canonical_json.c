/* test_canonical_json.c: the published examples of RFC 8785. */
#include "canonical_json.h"
#include "tap.h"

static void
canonical(const char *json, const char *expected, const char *name)
{
	JsonText	text = {0};
	char		why[100] = "";
	bool		added = sparky_jcs_add_text(&text, json, strlen(json), why, sizeof(why));

	is_text(added ? text.data : NULL, expected, name);
	sparky_json_text_free(&text);
}

/* Appendix B, complete. */
static void
test_numbers(void)
{
	static const struct
	{
		uint64_t	bits;
		const char *text;
	}			rows[] = {
		{0x0000000000000000, "0"},
		{0x8000000000000000, "0"},
		{0x0000000000000001, "5e-324"},
		{0x8000000000000001, "-5e-324"},
		{0x7fefffffffffffff, "1.7976931348623157e+308"},
		{0xffefffffffffffff, "-1.7976931348623157e+308"},
		{0x4340000000000000, "9007199254740992"},
		{0xc340000000000000, "-9007199254740992"},
		{0x4430000000000000, "295147905179352830000"},
		{0x7fffffffffffffff, NULL},
		{0x7ff0000000000000, NULL},
		{0x44b52d02c7e14af5, "9.999999999999997e+22"},
		{0x44b52d02c7e14af6, "1e+23"},
		{0x44b52d02c7e14af7, "1.0000000000000001e+23"},
		{0x444b1ae4d6e2ef4e, "999999999999999700000"},
		{0x444b1ae4d6e2ef4f, "999999999999999900000"},
		{0x444b1ae4d6e2ef50, "1e+21"},
		{0x3eb0c6f7a0b5ed8c, "9.999999999999997e-7"},
		{0x3eb0c6f7a0b5ed8d, "0.000001"},
		{0x41b3de4355555553, "333333333.3333332"},
		{0x41b3de4355555554, "333333333.33333325"},
		{0x41b3de4355555555, "333333333.3333333"},
		{0x41b3de4355555556, "333333333.3333334"},
		{0x41b3de4355555557, "333333333.33333343"},
		{0xbecbf647612f3696, "-0.0000033333333333333333"},
		{0x43143ff3c1cb0959, "1424953923781206.2"},
		/* A power of two whose shortest digits are not the nearest of their length. */
		{0x3d30000000000000, "5.684341886080802e-14"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
	{
		JsonText	text = {0};
		char		name[40];
		double		number;

		memcpy(&number, &rows[i].bits, sizeof(number));
		sparky_json_text_add_number(&text, number);
		snprintf(name, sizeof(name), "number %016" PRIx64, rows[i].bits);
		is_text(text.failed ? NULL : text.data, rows[i].text, name);
		sparky_json_text_free(&text);
	}
}

static void
test_texts(void)
{
	JsonValue  *value;
	JsonText	text = {0};

	canonical("{\n  \"numbers\": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],\n"
			  "  \"string\": \"\\u20ac$\\u000F\\u000aA'\\u0042\\u0022\\u005c\\\\\\\"\\/\",\n"
			  "  \"literals\": [null, true, false]\n}",
			  "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],"
			  "\"string\":\"\xE2\x82\xAC$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}",
			  "the example of section 3.2.2");
	canonical("{\"\\u20ac\":\"Euro Sign\",\"\\r\":\"Carriage Return\",\"\\ufb33\":\"Hebrew Letter Dalet With Dagesh\","
			  "\"1\":\"One\",\"\\ud83d\\ude00\":\"Emoji: Grinning Face\",\"\\u0080\":\"Control\","
			  "\"\\u00f6\":\"Latin Small Letter O With Diaeresis\"}",
			  "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\xC2\x80\":\"Control\","
			  "\"\xC3\xB6\":\"Latin Small Letter O With Diaeresis\",\"\xE2\x82\xAC\":\"Euro Sign\","
			  "\"\xF0\x9F\x98\x80\":\"Emoji: Grinning Face\",\"\xEF\xAC\xB3\":\"Hebrew Letter Dalet With Dagesh\"}",
			  "the sorting example of section 3.2.3");
	canonical("{\"aa\":1,\"a\":2,\"\":3,\"b\":{\"z\":1,\"y\":[{\"d\":1,\"c\":2}]}}",
			  "{\"\":3,\"a\":2,\"aa\":1,\"b\":{\"y\":[{\"c\":2,\"d\":1}],\"z\":1}}", "prefixes first, all levels");
	canonical("{\"\\ud7ff\":1,\"\\ud800\\udc00\":2,\"\\ue000\":3,\"\\uffff\":4}",
			  "{\"\xED\x9F\xBF\":1,\"\xF0\x90\x80\x80\":2,\"\xEE\x80\x80\":3,\"\xEF\xBF\xBF\":4}",
			  "surrogates between D7FF and E000");
	canonical("12345678901234567890", "12345678901234567000", "an integer beyond int64, as ECMAScript prints it");
	canonical("9007199254740993", "9007199254740992", "an integer beyond 2^53 is a double");
	canonical("-0", "0", "minus zero");
	canonical("[-0.0,1.0,1E2,10,100e-2]", "[0,1,100,10,1]", "one number, one form");
	canonical("1e400", NULL, "1e400 has no form");
	canonical("\"\\ud800\"", NULL, "a lone surrogate has no form");
	canonical("{\"a\":1,\"a\":1}", NULL, "nor has a key twice");
	canonical("{}", "{}", "an empty object");
	canonical(" [ ] ", "[]", "an empty array");

	/* A parsed value, where integers are integers. */
	value = sparky_json_parse("{\"b\":9007199254740993,\"a\":1.50}", 31, NULL, 0);
	ok(sparky_jcs_add(&text, value), "a value");
	is_text(text.data, "{\"a\":1.5,\"b\":9007199254740992}", "gives the same form as its text");
	sparky_json_free(value);
	sparky_json_text_free(&text);
}

int
main(void)
{
	test_numbers();
	test_texts();
	return done();
}
