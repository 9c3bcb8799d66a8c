/*
 * test_paymob_callback.c: callbacks: the published digests, and everything that
 * must not pass for a genuine one.
 */
#include "crypto.h"
#include "paymob_samples.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static PaymobKind
kind_of(const char *body, size_t length)
{
	PaymobCallback callback;
	char		why[100];
	PaymobKind	kind = sparky_paymob_read(body, length, &callback, why, sizeof(why));

	if ((kind == PAYMOB_UNREADABLE) != (why[0] != '\0') || kind != callback.kind || (callback.type == NULL) != (kind == PAYMOB_UNREADABLE))
		abort();
	sparky_paymob_callback_free(&callback);
	return kind;
}

/* Reads the docs' sample with one change. */
static PaymobKind
kind_with(const char *old, const char *new)
{
	char	   *body = changed(docs_body, old, new);
	PaymobKind	kind = kind_of(body, strlen(body));

	free(body);
	return kind;
}

static void
published(const char *name, const char *body, const char *text, const char *digest, const char *secret)
{
	PaymobCallback callback;
	char		hex[SPARKY_PAYMOB_HMAC_HEX + 1];

	sparky_paymob_read(body, strlen(body), &callback, NULL, 0);
	ok(callback.kind == PAYMOB_TRANSACTION, "%s is read", name);
	if (text != NULL)
		is_text(callback.signed_text, text, "  its signed text");
	if (digest != NULL)
	{
		ok(sparky_paymob_hmac(&callback, secret, hex), "  has a digest");
		is_text(hex, digest, "  the published one");
		ok(sparky_paymob_verify(&callback, digest, secret), "  verifies");
	}
	sparky_paymob_callback_free(&callback);
}

/* Values of Paymob's documentation and of three public implementations. */
static void
test_published(void)
{
	const char *sim_flags = "\"error_occured\":false,\"has_parent_transaction\":false,\"is_3d_secure\":false,\"pending\":false,\"success\":true";
	const char *sim_ids = "\"id\":900001,\"integration_id\":1001,\"order\":{\"id\":700001},\"owner\":500001";
	const char *sim_source = "{\"pan\":\"0010\",\"sub_type\":\"Visa\",\"type\":\"card\"}";
	const char *three_d = "\"error_occured\":false,\"has_parent_transaction\":false,\"is_3d_secure\":true,\"pending\":false,\"success\":true";
	char	   *body;
	char	   *other;
	uint8_t		digest[SPARKY_SHA512_BYTES];
	char		hex[129];
	const char *token = "Visa2026-08-14T12:00:00.000000test@example.com800001xxxx-xxxx-xxxx-0010500001700001tok_sim_01J5A7V8M8QK6R2D1N4B9C3E5F";

	published("the sample of Paymob's page", docs_body, DOCS_TEXT, DOCS_DIGEST, DOCS_SECRET);

	body = plain_body("50000", "2021-08-02T15:45:26.988117", three_d,
					  "\"id\":11113222,\"integration_id\":1111,\"order\":{\"id\":11112345},\"owner\":1188",
					  "{\"pan\":\"1234\",\"type\":\"card\",\"sub_type\":\"MasterCard\"}");
	published("a sample of 2021", body, NULL,
			  "62a79c8d174f39d114ded8ad4885af25889b53deeae91d2ff6ddb7202188043e4c492686ce0780c91afc3fd4beb7728d95d7afb64dafa0d522ccacb760cbb950",
			  "97A5B79200124C9E94E9D73763265D20");
	free(body);

	body = plain_body("10000", "2026-08-14T12:00:00.000000", sim_flags, sim_ids, sim_source);
	published("an emulator's success", body,
			  "100002026-08-14T12:00:00.000000EGPfalsefalse9000011001falsefalsefalsefalsetruefalse700001500001false0010Visacardtrue",
			  "033e0bca25918ecf037674c6f9e3ed1c11ba969f16b647f39cf0c404bdcf6db767e0fbe9dc8a523cbc8d19e459c3843222d167201f4705657002eb3671f2619b",
			  "sim_hmac_secret");
	other = changed(body, "\"success\":true", "\"success\":false");
	free(body);
	body = changed(other, "\"error_occured\":false", "\"error_occured\":true");
	published("its decline", body, NULL,
			  "3a2ddb6a531a6e457b0ad2a8bb0d535fc87ffc97d9f8180b3037a2635c0ce380a77c8d4f9cd2840374ffd3e4c1103a75ff293b28b3643caaaf9a6f6891fb1ddc",
			  "sim_hmac_secret");
	free(body);
	body = changed(other, "\"pending\":false", "\"pending\":true");
	published("its pending one", body, NULL,
			  "1f8f22b11fd177b0bdbd8052e0aafce007ebe4486252daf04be26f9fe2c1de68e22f169d4e934313c372eae8690df341c8e25677cc1a6906ac4613bb0059fda4",
			  "sim_hmac_secret");
	free(body);
	free(other);
	/* A TOKEN is not verified by us: its value only checks the digest itself. */
	sparky_hmac_sha512("sim_hmac_secret", 15, token, strlen(token), digest);
	sparky_hex(digest, sizeof(digest), hex);
	is_text(hex, "9492bf9da9bf2d3f31ffca5a1d6cbb08f01c8149a010edac20a96bd3d2b56e933a63ad3b53d4bafdfb92d4ba6a5b4a8713461c5e7b5b3a628351196da6476c32",
			"its token's digest");

	/* A redirect has the same twenty values; its published secret is masked, and the digest made with the masked text. */
	body = plain_body("200000", "2024-07-21T11:25:08.633747", sim_flags,
					  "\"id\":201972898,\"integration_id\":1996388,\"order\":{\"id\":228276342},\"owner\":310964",
					  "{\"pan\":\"01010101010\",\"sub_type\":\"wallet\",\"type\":\"wallet\"}");
	published("a wallet's redirect, as a body", body, NULL,
			  "a5a49f5009d3997bcd4b9ab60451b714c08cc4f197e0dffbaa885dd09bc77f10a36669cf8e324c8a0919f1cace1d348225ea7cdf11263a65b2951553668fa337",
			  "C36094BC5DCxxxxxxxxC8FDB9F83E49");
	free(body);

	/* Of the older sample only the text is published. */
	body = plain_body("100", "2020-03-25T18:39:44.719228", three_d,
					  "\"id\":2556706,\"integration_id\":6741,\"order\":{\"id\":4778239},\"owner\":4705",
					  "{\"pan\":\"2346\",\"sub_type\":\"MasterCard\",\"type\":\"card\"}");
	published("the sample of 2020", body,
			  "1002020-03-25T18:39:44.719228EGPfalsefalse25567066741truefalsefalsefalsetruefalse47782394705false2346MasterCardcardtrue", NULL, NULL);
	free(body);
}

/* Each signed field, changed to another value of its form. */
static void
test_twenty_fields(void)
{
	static const char *const rows[][2] = {
		{"\"amount_cents\":100000,\"success\"", "\"amount_cents\":100001,\"success\""},
		{"\"created_at\":\"2024-06-13T11:33:44.592345\"", "\"created_at\":\"2024-06-13T11:33:44.592346\""},
		{"\"currency\":\"EGP\"", "\"currency\":\"USD\""},
		{"\"error_occured\":false", "\"error_occured\":true"},
		{"\"has_parent_transaction\":false", "\"has_parent_transaction\":true"},
		{"\"id\":192036465", "\"id\":192036466"},
		{"\"integration_id\":4097558", "\"integration_id\":4097559"},
		{"\"is_3d_secure\":true", "\"is_3d_secure\":false"},
		{"\"is_auth\":false", "\"is_auth\":true"},
		{"\"is_capture\":false", "\"is_capture\":true"},
		{"\"is_refunded\":false", "\"is_refunded\":true"},
		{"\"is_standalone_payment\":true", "\"is_standalone_payment\":false"},
		{"\"is_voided\":false", "\"is_voided\":true"},
		{"\"order\":{\"id\":217503754", "\"order\":{\"id\":217503755"},
		{"\"owner\":302852", "\"owner\":302853"},
		{"\"pending\":false", "\"pending\":true"},
		{"\"pan\":\"2346\"", "\"pan\":\"2347\""},
		{"\"sub_type\":\"MasterCard\"", "\"sub_type\":\"mastercard\""},
		{"\"type\":\"card\"", "\"type\":\"Card\""},
		{"\"success\":true", "\"success\":false"},
	};

	for (size_t i = 0; i < LENGTH(rows); i++)
	{
		const char *colon = strchr(rows[i][0], ':');
		char	   *body = changed(docs_body, rows[i][0], rows[i][1]);

		ok(kind_of(body, strlen(body)) == PAYMOB_TRANSACTION && !verifies(body, DOCS_DIGEST, DOCS_SECRET),
		   "%.*s changed: read and refused", (int) (colon - rows[i][0]), rows[i][0]);
		free(body);
	}
	ok(LENGTH(rows) == 20, "all twenty");
}

/* The signed text has no separators: which cuts of it can be made, and what they show. */
static void
test_moved_digits(void)
{
	static const struct
	{
		const char *old1, *new1, *old2, *new2;
	}			refused[] = {
		{"\"amount_cents\":100000,\"success\"", "\"amount_cents\":1000002,\"success\"", "\"created_at\":\"2024-06-13T11:33", "\"created_at\":\"024-06-13T11:33"},
		{"\"amount_cents\":100000,\"success\"", "\"amount_cents\":10000,\"success\"", "\"created_at\":\"2024-06-13T11:33", "\"created_at\":\"02024-06-13T11:33"},
		{"\"amount_cents\":100000,\"success\"", "\"amount_cents\":1000002024,\"success\"", "\"created_at\":\"2024-06-13T11:33", "\"created_at\":\"-06-13T11:33"},
		{"44.592345\"", "44.592345E\"", "\"currency\":\"EGP\"", "\"currency\":\"GP\""},
		{"44.592345\"", "44.592345EGP\"", "\"currency\":\"EGP\"", "\"currency\":\"\""},
		{"\"currency\":\"EGP\"", "\"currency\":\"EGPfalse\"", "\"error_occured\":false", "\"error_occured\":null"},
		{"44.592345\"", "44.59234\"", "\"currency\":\"EGP\"", "\"currency\":\"5EGP\""},
		{"\"owner\":302852", "\"owner\":0", "\"order\":{\"id\":217503754", "\"order\":{\"id\":02175037543"},
		{"\"id\":192036465", "\"id\":1920364654", "\"integration_id\":4097558", "\"integration_id\":097558"},
	};
	PaymobCallback callback;
	char	   *one;
	char	   *two;

	for (size_t i = 0; i < LENGTH(refused); i++)
	{
		one = changed(docs_body, refused[i].old1, refused[i].new1);
		two = changed(one, refused[i].old2, refused[i].new2);
		ok(kind_of(two, strlen(two)) == PAYMOB_UNREADABLE && !verifies(two, DOCS_DIGEST, DOCS_SECRET), "moved: %s is refused", refused[i].new1);
		free(one);
		free(two);
	}

	one = changed(docs_body, "\"id\":192036465", "\"id\":19203646");
	two = changed(one, "\"integration_id\":4097558", "\"integration_id\":54097558");
	sparky_paymob_read(two, strlen(two), &callback, NULL, 0);
	ok(sparky_paymob_verify(&callback, DOCS_DIGEST, DOCS_SECRET), "a digit moved from id to integration_id verifies: the text is the same");
	ok(callback.transaction.id == 19203646 && callback.transaction.integration_id == 54097558, "  and shows in integration_id, which callers compare");
	sparky_paymob_callback_free(&callback);
	free(one);
	free(two);
	one = changed(docs_body, "\"order\":{\"id\":217503754", "\"order\":{\"id\":21750375");
	two = changed(one, "\"owner\":302852", "\"owner\":4302852");
	sparky_paymob_read(two, strlen(two), &callback, NULL, 0);
	ok(sparky_paymob_verify(&callback, DOCS_DIGEST, DOCS_SECRET), "a digit moved from order.id to owner verifies");
	ok(callback.transaction.order_id == 21750375 && callback.transaction.owner == 4302852, "  and shows in owner, which callers compare");
	sparky_paymob_callback_free(&callback);
	free(one);
	free(two);
	one = changed(docs_body, "\"pending\":false", "\"pending\":null");
	two = changed(one, "\"pan\":\"2346\"", "\"pan\":\"false2346\"");
	sparky_paymob_read(two, strlen(two), &callback, NULL, 0);
	ok(sparky_paymob_verify(&callback, DOCS_DIGEST, DOCS_SECRET) && !sparky_paymob_paid(&callback.transaction),
	   "pending hidden in pan verifies, and is not paid: absent is not false");
	sparky_paymob_callback_free(&callback);
	free(one);
	free(two);
	one = changed(docs_body, "\"success\":true", "\"success\":null");
	two = changed(one, "\"type\":\"card\"", "\"type\":\"cardtrue\"");
	ok(verifies(two, DOCS_DIGEST, DOCS_SECRET), "success hidden in type verifies");
	sparky_paymob_read(two, strlen(two), &callback, NULL, 0);
	ok(!sparky_paymob_paid(&callback.transaction), "  and is not paid");
	sparky_paymob_callback_free(&callback);
	free(one);
	free(two);
}

static void
test_grammar(void)
{
	static const char *const refused[][2] = {
		{"\"amount_cents\":100000,\"success\"", "\"amount_cents\":1e5,\"success\""},
		{"\"amount_cents\":100000,\"success\"", "\"amount_cents\":100000.0,\"success\""},
		{"\"amount_cents\":100000,\"success\"", "\"amount_cents\":\"100000\",\"success\""},
		{"\"amount_cents\":100000,\"success\"", "\"amount_cents\":-100000,\"success\""},
		{"\"amount_cents\":100000,\"success\"", "\"amount_cents\":0100000,\"success\""},
		{"\"amount_cents\":100000,\"success\"", "\"amount_cents\":+100000,\"success\""},
		{"\"amount_cents\":100000,\"success\"", "\"amount_cents\":true,\"success\""},
		{"\"amount_cents\":100000,\"success\"", "\"amount_cents\":[100000],\"success\""},
		{"\"amount_cents\":100000,\"success\"", "\"amount_cents\":1000000000000000000000000000000,\"success\""},
		{"\"id\":192036465", "\"id\":9223372036854775808"},
		{"\"id\":192036465", "\"id\":-0"},
		{"\"id\":192036465", "\"id\":{\"id\":192036465}"},
		{"\"pending\":false", "\"pending\":\"false\""},
		{"\"pending\":false", "\"pending\":0"},
		{"\"pending\":false", "\"pending\":False"},
		{"\"currency\":\"EGP\"", "\"currency\":\"egp\""},
		{"\"currency\":\"EGP\"", "\"currency\":\"EGPP\""},
		{"\"pan\":\"2346\"", "\"pan\":2346"},
		{"\"order\":{\"id\":217503754", "\"order\":[],\"ordre\":{\"id\":217503754"},
		{"\"order\":{\"id\":217503754", "\"order\":217503754,\"ordre\":{\"id\":217503754"},
		{"\"source_data\":{\"pan\"", "\"source_data\":\"x\",\"source\":{\"pan\""},
		{"\"obj\":{\"id\"", "\"object\":{\"id\""},
		{"\"type\":\"TRANSACTION\",", ""},
		{"\"type\":\"TRANSACTION\",", "\"type\":7,"},
		/* keys that come twice */
		{"\"pending\":false", "\"pending\":false,\"pending\":false"},
		{"\"pending\":false", "\"pending\":true,\"pend\\u0069ng\":false"},
		{"\"success\":true", "\"success\":true,\"success\":null"},
		{"\"type\":\"TRANSACTION\",", "\"type\":\"TRANSACTION\",\"type\":\"TRANSACTION\","},
		{"\"type\":\"TRANSACTION\",", "\"type\":\"TRANSACTION\",\"obj\":{},"},
		{"\"order\":{\"id\":217503754", "\"order\":null,\"order\":{\"id\":217503754"},
		{"\"order\":{\"id\":217503754", "\"order\":{\"id\":1,\"id\":217503754"},
		{"\"merchant_order_id\":null", "\"merchant_order_id\":\"a\",\"merchant_order_id\":\"b\""},
		{"\"pan\":\"2346\"", "\"pan\":\"2346\",\"pan\":\"2346\""},
		{"\"source_data\":{", "\"source_data\":{},\"source_data\":{"},
		{"\"is_refund\":false", "\"is_refund\":false,\"is_refund\":true"},
		{"\"is_void\":false", "\"is_void\":false,\"is_void\":true"},
		{"\"refunded_amount_cents\":null", "\"refunded_amount_cents\":null,\"refunded_amount_cents\":1"},
		{"\"captured_amount\":null", "\"captured_amount\":null,\"captured_amount\":1"},
		{"\"parent_transaction\":null", "\"parent_transaction\":null,\"parent_transaction\":1"},
	};
	static const char *const read[][2] = {
		{"\"collector\":null", "\"collector\":null,\"collector\":1"},
		{"\"message\":\"Approved\"", "\"id\":1,\"id\":2,\"order\":[{\"id\":9}]"},
		{"\"first_name\":\"buyer\"", "\"first_name\":\"bu\\u0000yer\""},
		{"\"first_name\":\"buyer\"", "\"first_name\":\"\\ud83d buyer \\udc00\""},
		{"\"first_name\":\"buyer\"", "\"first_name\":\"\xff\xc3 buyer\""},
		{"\"first_name\":\"buyer\"", "\"first_name\":\"\\ud83d\\ude00\n\t\x01\""},
		{"\"is_live\":false", "\"is_live\":123456789012345678901234567890.5e-400"},
		{"\"is_refund\":false", "\"is_refund\":\"false\""},
		{"\"refunded_amount_cents\":null", "\"refunded_amount_cents\":0.5"},
		{"\"merchant_order_id\":null", "\"merchant_order_id\":[1]"},
		{"\"type\":\"TRANSACTION\",", " \t\r\n\"hmac\":\"x\",\"type\":\"TRANSACTION\","},
	};
	char	   *body;

	for (size_t i = 0; i < LENGTH(refused); i++)
		ok(kind_with(refused[i][0], refused[i][1]) == PAYMOB_UNREADABLE, "refused: %s", refused[i][1]);
	for (size_t i = 0; i < LENGTH(read); i++)
	{
		body = changed(docs_body, read[i][0], read[i][1]);
		ok(verifies(body, DOCS_DIGEST, DOCS_SECRET), "read and verified: change %d of what is not signed", (int) i + 1);
		free(body);
	}

	/* What cleaning makes of a signed text is not what was signed. */
	body = changed(docs_body, "\"pan\":\"2346\"", "\"pan\":\"23\\u000046\"");
	ok(kind_of(body, strlen(body)) == PAYMOB_TRANSACTION && !verifies(body, DOCS_DIGEST, DOCS_SECRET), "\\u0000 in a signed text is not dropped");
	free(body);
	body = changed(docs_body, "\"obj\":{", "\"obj\\u0000\":{\"success\":false},\"obj\":{");
	ok(verifies(body, DOCS_DIGEST, DOCS_SECRET), "obj\\u0000 is not obj");
	free(body);
	body = changed(docs_body, "\"obj\":{", "\"ob\\u006a\":{");
	ok(verifies(body, DOCS_DIGEST, DOCS_SECRET), "an escaped key is the key");
	free(body);
}

static void
test_whole_body(void)
{
	static const char *const refused[] = {
		"", " ", "null", "[]", "\"x\"", "7", "{}", "{", "{\"type\":\"TRANSACTION\"}", "{\"type\":\"TRANSACTION\",\"obj\":[]}", "{\"obj\":{}}",
		"{\"type\":\"TRANSACTION\",\"obj\":null}", "{\"type\":null,\"obj\":{}}", "[{\"type\":\"TRANSACTION\",\"obj\":{}}]", "{\"type\":\"TOKEN\"", "{\"type\":\"TOKEN\"}}",
	};
	static const char *const others[][2] = {
		{"{\"type\":\"TOKEN\",\"obj\":{\"id\":800001,\"token\":\"t\",\"order_id\":\"700001\",\"email\":\"a@b\"}}", "TOKEN"},
		{"{\"type\":\"DELIVERY_STATUS\",\"obj\":{\"order_id\":1}}", "DELIVERY_STATUS"},
		{"{\"trigger_type\":\"suspended\",\"subscription_data\":{\"id\":1},\"hmac\":\"x\"}", "subscription"},
		{"{\"intention\":{\"id\":\"pi_1\"},\"transaction\":{\"id\":1,\"success\":true},\"hmac\":\"x\"}", "flash"},
		{"{\"type\":\"transaction\",\"obj\":{}}", "unknown"},
		{"{\"type\":\"\"}", "unknown"},
	};
	static const int depths[] = {1, 62, 63, 64, 65, 100000};
	char	   *big = malloc(400000);
	char	   *body;
	PaymobCallback callback;

	for (size_t i = 0; i < LENGTH(refused); i++)
		ok(kind_of(refused[i], strlen(refused[i])) == PAYMOB_UNREADABLE, "no callback: '%s'", refused[i]);
	for (size_t i = 0; i < LENGTH(others); i++)
	{
		sparky_paymob_read(others[i][0], strlen(others[i][0]), &callback, NULL, 0);
		ok(callback.kind == PAYMOB_OTHER && !sparky_paymob_verify(&callback, DOCS_DIGEST, DOCS_SECRET), "another kind, never verified");
		is_text(callback.type, others[i][1], "  its name");
		sparky_paymob_callback_free(&callback);
	}
	ok(kind_of(docs_body, sizeof(docs_body)) == PAYMOB_UNREADABLE, "a NUL after the end is refused");
	ok(kind_of(docs_body, sizeof(docs_body) - 2) == PAYMOB_UNREADABLE, "a body that is cut is refused");
	ok(kind_with("{\"type\"", "\xEF\xBB\xBF{\"type\"") == PAYMOB_UNREADABLE, "a byte order mark is refused");
	snprintf(big, 400000, "%s \n", docs_body);
	ok(verifies(big, DOCS_DIGEST, DOCS_SECRET), "white space after the end is fine");
	snprintf(big, 400000, "%s{}", docs_body);
	ok(kind_of(big, strlen(big)) == PAYMOB_UNREADABLE, "text after the end is refused");
	for (size_t i = 0; i < LENGTH(depths); i++)
	{
		size_t		at = snprintf(big, 400000, "{\"type\":\"TOKEN\",\"deep\":");

		memset(big + at, '[', depths[i]);
		memset(big + at + depths[i], ']', depths[i]);
		at += 2 * depths[i];
		big[at++] = '}';
		ok((kind_of(big, at) == PAYMOB_OTHER) == (depths[i] < SPARKY_PAYMOB_MAX_DEPTH), "%d levels below the first", depths[i]);
	}
	memset(big, ' ', 300000);
	memcpy(big, docs_body, strlen(docs_body));
	ok(kind_of(big, 300000) == PAYMOB_UNREADABLE && kind_of(big, SPARKY_PAYMOB_MAX_BODY) == PAYMOB_TRANSACTION &&
	   kind_of(big, SPARKY_PAYMOB_MAX_BODY + 1) == PAYMOB_UNREADABLE, "256 kB are read, more are not");
	free(big);

	/* null and missing are nothing, in each place */
	body = changed(docs_body, "\"is_3d_secure\":true,", "\"is_3d_secure\":null,");
	sparky_paymob_read(body, strlen(body), &callback, NULL, 0);
	ok(strstr(callback.signed_text, "4097558falsefalse") != NULL && callback.transaction.is_3d_secure == PAYMOB_FLAG_ABSENT, "null is signed as nothing");
	sparky_paymob_callback_free(&callback);
	free(body);
	body = changed(docs_body, "\"is_3d_secure\":true,", "");
	sparky_paymob_read(body, strlen(body), &callback, NULL, 0);
	ok(strstr(callback.signed_text, "4097558falsefalse") != NULL, "and so is a missing field");
	sparky_paymob_callback_free(&callback);
	free(body);
	body = "{\"type\":\"TRANSACTION\",\"obj\":{\"order\":null,\"source_data\":null}}";
	sparky_paymob_read(body, strlen(body), &callback, NULL, 0);
	ok(callback.kind == PAYMOB_TRANSACTION && callback.signed_length == 0 && callback.transaction.amount_cents == -1 &&
	   strcmp(callback.transaction.source_type, "") == 0 && !sparky_paymob_paid(&callback.transaction), "nothing at all is read as nothing");
	sparky_paymob_callback_free(&callback);
}

static void
test_values(void)
{
	PaymobCallback callback;
	PaymobTransaction *t = &callback.transaction;
	char	   *one = changed(docs_body, "\"id\":192036465", "\"id\":9007199254740993");
	char	   *two = changed(one, "\"order\":{\"id\":217503754", "\"order\":{\"id\":9223372036854775807");
	char	   *three = changed(two, "\"amount_cents\":100000,\"success\"", "\"amount_cents\":123456789012345678901234567890,\"success\"");
	char	   *four = changed(three, "\"merchant_order_id\":null", "\"merchant_order_id\":\"a\\u00e9\\ud83d\\ude00\"");
	char	   *five = changed(four, "\"refunded_amount_cents\":null", "\"refunded_amount_cents\":3000");
	const char *obj = strstr(docs_body, "\"obj\":") + 6;

	sparky_paymob_read(five, strlen(five), &callback, NULL, 0);
	ok(t->id == 9007199254740993 && t->order_id == INT64_MAX, "ids beyond 2^53 are exact");
	is_text(t->amount_text, "123456789012345678901234567890", "thirty digits are kept as text");
	is_number(t->amount_cents, -1, "and are no int64");
	is_text(t->merchant_order_id, "a\xC3\xA9\xF0\x9F\x98\x80", "texts are unescaped");
	is_number(t->refunded_amount_cents, 3000, "a total");
	ok(t->captured_amount == -1 && t->parent_transaction == 0, "null totals");
	ok(strncmp(callback.signed_text, "1234567890123456789012345678902024-", 35) == 0, "signed as sent");
	sparky_paymob_callback_free(&callback);

	sparky_paymob_read(docs_body, strlen(docs_body), &callback, NULL, 0);
	ok(t->id == 192036465 && t->order_id == 217503754 && t->integration_id == 4097558 && t->owner == 302852 && t->amount_cents == 100000, "numbers");
	is_text(t->currency, "EGP", "currency");
	is_text(t->created_at, "2024-06-13T11:33:44.592345", "time");
	is_text(t->source_type, "card", "source");
	ok(t->merchant_order_id == NULL && t->is_refund == PAYMOB_FLAG_FALSE, "what is not signed");
	ok(sparky_paymob_paid(t) && !sparky_paymob_reversal(t), "it is paid");
	sparky_paymob_callback_free(&callback);
	sparky_paymob_callback_free(&callback);

	free(one);
	one = strndup(obj, strstr(obj, ",\"issuer_bank\"") - obj);
	ok(sparky_paymob_read_transaction(one, strlen(one), &callback, NULL, 0) == PAYMOB_TRANSACTION && t->id == 192036465 &&
	   strcmp(callback.signed_text, DOCS_TEXT) == 0, "a bare transaction is read the same");
	sparky_paymob_callback_free(&callback);
	ok(sparky_paymob_read_transaction("[]", 2, &callback, NULL, 0) == PAYMOB_UNREADABLE, "and no list of them");
	free(one);
	free(two);
	free(three);
	free(four);
	free(five);
}

static void
test_secrets(void)
{
	char		upper[129];
	PaymobCallback callback;
	char		hex[129];
	char		empty_digest[129];
	uint8_t		digest[64];

	for (int i = 0; i < 129; i++)
		upper[i] = DOCS_DIGEST[i] >= 'a' && DOCS_DIGEST[i] <= 'f' ? DOCS_DIGEST[i] - 32 : DOCS_DIGEST[i];
	sparky_hmac_sha512("", 0, DOCS_TEXT, strlen(DOCS_TEXT), digest);
	sparky_hex(digest, 64, empty_digest);

	ok(verifies(docs_body, upper, DOCS_SECRET), "an upper-case digest verifies");
	ok(verifies(docs_body, DOCS_DIGEST, " \t" DOCS_SECRET "\n"), "white space around a secret is nothing");
	ok(verifies(docs_body, DOCS_DIGEST, "new," DOCS_SECRET) && verifies(docs_body, DOCS_DIGEST, DOCS_SECRET " , new"), "either of two secrets verifies");
	ok(verifies(docs_body, DOCS_DIGEST, "," DOCS_SECRET), "also beside a blank one");
	ok(!verifies(docs_body, DOCS_DIGEST, "a,b," DOCS_SECRET), "a third does not");
	ok(!verifies(docs_body, DOCS_DIGEST, "04dc1a9490b8cc2094c011fc055adcdb"), "a secret is text, not hex");
	ok(!verifies(docs_body, empty_digest, "") && !verifies(docs_body, empty_digest, " \n") && !verifies(docs_body, empty_digest, ",") &&
	   !verifies(docs_body, empty_digest, ", ,") && !verifies(docs_body, empty_digest, DOCS_SECRET ",") && !verifies(docs_body, empty_digest, NULL),
	   "the digest under an empty secret never verifies");
	ok(!verifies(docs_body, NULL, DOCS_SECRET) && !verifies(docs_body, "", DOCS_SECRET), "no digest does not verify");
	snprintf(hex, sizeof(hex), "%.127s", DOCS_DIGEST);
	ok(!verifies(docs_body, hex, DOCS_SECRET), "a cut one does not");
	snprintf(hex, sizeof(hex), "%.126s", DOCS_DIGEST);
	ok(!verifies(docs_body, hex, DOCS_SECRET), "nor one of 63 bytes");
	ok(!verifies(docs_body, DOCS_DIGEST "00", DOCS_SECRET) && !verifies(docs_body, " " DOCS_DIGEST, DOCS_SECRET), "nor a longer one");
	snprintf(hex, sizeof(hex), "%.127sg", DOCS_DIGEST);
	ok(!verifies(docs_body, hex, DOCS_SECRET), "nor what is not hex");
	snprintf(hex, sizeof(hex), "%.127s1", DOCS_DIGEST);
	ok(!verifies(docs_body, hex, DOCS_SECRET), "nor one whose last digit differs");

	sparky_paymob_read(docs_body, strlen(docs_body), &callback, NULL, 0);
	ok(!sparky_paymob_hmac(&callback, " ", hex) && hex[0] == '\0' && !sparky_paymob_hmac(&callback, NULL, hex), "no digest under a blank secret");
	ok(sparky_paymob_hmac(&callback, " ," DOCS_SECRET, hex) && strcmp(hex, DOCS_DIGEST) == 0, "the first that is not blank makes it");
	sparky_paymob_callback_free(&callback);
}

static void
test_meaning(void)
{
	static const struct
	{
		const char *old, *new, *state;
		bool		paid, reversal;
	}			rows[] = {
		{"\"is_live\":false", "\"is_live\":true", "success", true, false},
		{"\"success\":true", "\"success\":false", "declined", false, false},
		{"\"pending\":false", "\"pending\":true", "success pending", false, false},
		{"\"error_occured\":false", "\"error_occured\":true", "success error", false, false},
		{"\"is_auth\":false", "\"is_auth\":true", "success auth", false, false},
		{"\"is_voided\":false", "\"is_voided\":true", "success voided", false, true},
		{"\"has_parent_transaction\":false", "\"has_parent_transaction\":true", "success child", false, true},
		{"\"is_standalone_payment\":true", "\"is_standalone_payment\":false", "success linked", false, false},
		{"\"refunded_amount_cents\":null", "\"refunded_amount_cents\":50", "success", true, false},
		{"\"captured_amount\":null", "\"captured_amount\":50", "success", true, false},
		{"\"is_refund\":false", "\"is_refund\":true", "success", true, false},
		{"\"is_refunded\":false", "\"is_refunded\":true", "success refunded=0", false, true},
		{"\"is_capture\":false", "\"is_capture\":true", "success capture captured=0", false, false},
		{"\"pending\":false", "\"pending\":null", "success -pending", false, false},
		{"\"is_refunded\":false,", "", "success -refunded", false, false},
		{"\"amount_cents\":100000,\"success\"", "\"amount_cents\":0,\"success\"", "success", false, false},
		{"\"currency\":\"EGP\"", "\"currency\":\"\"", "success", false, false},
		{"\"order\":{\"id\":217503754", "\"order\":{\"id\":0", "success", false, false},
	};
	static const char *const totals[][2] = {
		{"3000", "success refunded=3000"}, {"9900", "success refunded=9900"}, {"100000", "success refunded=100000"},
		{"100001", "success refunded=100000"}, {"9223372036854775807", "success refunded=100000"}, {"-5", "success refunded=0"},
		{"1e3", "success refunded=0"}, {"\"3000\"", "success refunded=0"},
	};
	char		state[SPARKY_PAYMOB_STATE_SIZE];
	PaymobCallback callback;
	PaymobTransaction none = {0};

	for (size_t i = 0; i < LENGTH(rows); i++)
	{
		char	   *body = changed(docs_body, rows[i].old, rows[i].new);

		sparky_paymob_read(body, strlen(body), &callback, NULL, 0);
		sparky_paymob_state(&callback.transaction, state);
		is_text(state, rows[i].state, rows[i].new);
		ok(sparky_paymob_paid(&callback.transaction) == rows[i].paid && sparky_paymob_reversal(&callback.transaction) == rows[i].reversal,
		   "  %s, %s", rows[i].paid ? "paid" : "not paid", rows[i].reversal ? "a reversal" : "no reversal");
		sparky_paymob_callback_free(&callback);
		free(body);
	}
	for (size_t i = 0; i < LENGTH(totals); i++)
	{
		char		member[80];
		char	   *refunded = changed(docs_body, "\"is_refunded\":false", "\"is_refunded\":true");
		char	   *body;

		snprintf(member, sizeof(member), "\"refunded_amount_cents\":%s", totals[i][0]);
		body = changed(refunded, "\"refunded_amount_cents\":null", member);
		sparky_paymob_read(body, strlen(body), &callback, NULL, 0);
		sparky_paymob_state(&callback.transaction, state);
		is_text(state, totals[i][1], member);
		sparky_paymob_callback_free(&callback);
		free(body);
		free(refunded);
	}
	sparky_paymob_state(&none, state);
	is_text(state, "declined -success -pending -error -auth -capture -voided -child -linked -refunded", "a state of nothing");
	ok(strlen(state) + 60 < SPARKY_PAYMOB_STATE_SIZE, "the longest state fits");
}

int
main(void)
{
	test_published();
	test_twenty_fields();
	test_moved_digits();
	test_grammar();
	test_whole_body();
	test_values();
	test_secrets();
	test_meaning();
	return done();
}
