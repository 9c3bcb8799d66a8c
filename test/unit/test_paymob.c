/* test_paymob.c: Paymob's APIs: what is sent, and every way an answer can end. */
#include "json.h"
#include "paymob.h"
#include "paymob_samples.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static PaymobIntention
usual(void)
{
	PaymobIntention intention = {
		.base_url = "https://accept.paymob.com/", .secret_key = "egy_sk_test_42", .amount_cents = 9900, .currency = "EGP",
		.integration_ids = "4097558, 11", .reference = "ref-1", .item_name = "100 credits", .email = "a@b.c",
		.expiration_seconds = 1800, .notification_url = "https://x/hook", .redirection_url = "",
	};

	return intention;
}

static void
test_intention_request(void)
{
	PaymobIntention intention = usual();
	PaymobMessage message;
	char		why[100];
	JsonValue  *json;

	ok(sparky_paymob_intention_request(&intention, &message, why, sizeof(why)), "an intention");
	is_text(message.url, "https://accept.paymob.com/v1/intention/", "  its URL");
	is_text(message.authorization, "Authorization: Token egy_sk_test_42", "  its key");
	is_text(message.body, "{\"amount\":9900,\"currency\":\"EGP\",\"payment_methods\":[4097558,11],"
			"\"items\":[{\"name\":\"100 credits\",\"amount\":9900,\"quantity\":1}],"
			"\"billing_data\":{\"first_name\":\"NA\",\"last_name\":\"NA\",\"email\":\"a@b.c\",\"phone_number\":\"NA\",\"apartment\":\"NA\",\"floor\":\"NA\","
			"\"building\":\"NA\",\"street\":\"NA\",\"city\":\"NA\",\"state\":\"NA\",\"country\":\"NA\",\"postal_code\":\"NA\"},"
			"\"special_reference\":\"ref-1\",\"expiration\":1800,\"notification_url\":\"https://x/hook\"}", "  its body");
	ok(message.body_length == strlen(message.body), "  its length");
	sparky_paymob_message_free(&message);

	intention.item_name = "\xC3\xA9\"123456789012345678901234567890123456789012345678901234567890";
	sparky_paymob_intention_request(&intention, &message, why, sizeof(why));
	json = sparky_json_parse(message.body, message.body_length, why, sizeof(why));
	is_text(sparky_json_string(sparky_json_get(sparky_json_at(sparky_json_get(json, "items"), 0), "name"), NULL),
			"\xC3\xA9\"123456789012345678901234567890123456789012345678", "a long name is cut at 50 characters");
	sparky_json_free(json);
	sparky_paymob_message_free(&message);

#define REFUSED(member, value) \
	do { \
		intention = usual(); \
		intention.member = value; \
		ok(!sparky_paymob_intention_request(&intention, &message, why, sizeof(why)) && message.body == NULL && why[0] != '\0', "refused: " #member " " #value); \
	} while (0)
	REFUSED(amount_cents, 0);
	REFUSED(amount_cents, -1);
	REFUSED(currency, "egp");
	REFUSED(currency, NULL);
	REFUSED(integration_ids, "");
	REFUSED(integration_ids, "1,");
	REFUSED(integration_ids, "1 2");
	REFUSED(integration_ids, "01");
	REFUSED(integration_ids, "1;drop");
	REFUSED(secret_key, " ");
	REFUSED(secret_key, "a\r\nX: y");
	REFUSED(base_url, "ftp://x");
	REFUSED(base_url, "https://x/?a");
	REFUSED(reference, "");
	REFUSED(email, "\xff");
}

#define GOOD "{\"id\":\"pi_1\",\"client_secret\":\"egy_csk_1\",\"intention_order_id\":9007199254740993,\"payment_keys\":[],\"status\":\"intended\"," \
	"\"intention_detail\":{\"amount\":9900,\"currency\":\"EGP\",\"items\":[]},\"special_reference\":\"ref-1\"}"

static void
test_intention_answer(void)
{
	static const struct
	{
		TransportResult transport;
		int			status;
		const char *body;
		Outcome		outcome;
		const char *message;
	}			rows[] = {
		{TRANSPORT_CONNECT_FAILED, 0, "", OUTCOME_CONNECT, "there was no whole answer"},
		{TRANSPORT_TLS_FAILED, 0, "", OUTCOME_CONNECT, "there was no whole answer"},
		{TRANSPORT_TIMEOUT, 0, "", OUTCOME_TIMEOUT, "there was no whole answer"},
		{TRANSPORT_RESET, 201, GOOD, OUTCOME_NETWORK, "there was no whole answer"},
		{TRANSPORT_STOPPED, 201, GOOD, OUTCOME_TOO_LARGE, "there was no whole answer"},
		{TRANSPORT_STOPPED, 500, "", OUTCOME_UPSTREAM, "there was no whole answer"},
		{TRANSPORT_DONE, 400, "{\"amount\":[\"must be \\u00e9 positive\"]}", OUTCOME_BAD_REQUEST, "{\"amount\":[\"must be ?? positive\"]}"},
		{TRANSPORT_DONE, 401, "{\"detail\":\"bad key egy_sk_test_42, egy_sk_test_42\\n\"}", OUTCOME_AUTH, "bad key ***, *** "},
		{TRANSPORT_DONE, 403, "<html>", OUTCOME_AUTH, "the answer is not JSON"},
		{TRANSPORT_DONE, 404, "{\"detail\":\"Integration ID does not exist\"}", OUTCOME_BAD_REQUEST, "Integration ID does not exist"},
		{TRANSPORT_DONE, 406, "{\"message\":\"sums\"}", OUTCOME_BAD_REQUEST, "sums"},
		{TRANSPORT_DONE, 429, "{\"detail\":\"slow\"}", OUTCOME_RATE_LIMITED, "slow"},
		{TRANSPORT_DONE, 500, "", OUTCOME_UPSTREAM, "the answer is not JSON"},
		{TRANSPORT_DONE, 503, "", OUTCOME_OVERLOADED, "the answer is not JSON"},
		{TRANSPORT_DONE, 504, "", OUTCOME_UPSTREAM_TIMEOUT, "the answer is not JSON"},
		{TRANSPORT_DONE, 302, "", OUTCOME_REDIRECT, "the answer is not JSON"},
		{TRANSPORT_DONE, 200, GOOD, OUTCOME_INVALID_OUTPUT, "the intention was not created"},
		{TRANSPORT_DONE, 201, "", OUTCOME_INVALID_OUTPUT, "the answer has no intention_order_id"},
		{TRANSPORT_DONE, 201, "[]", OUTCOME_INVALID_OUTPUT, "the answer has no intention_order_id"},
		{TRANSPORT_DONE, 201, "{\"intention_order_id\":\"5\"}", OUTCOME_INVALID_OUTPUT, "the answer has no intention_order_id"},
		{TRANSPORT_DONE, 201, "{\"intention_order_id\":5.0}", OUTCOME_INVALID_OUTPUT, "the answer has no intention_order_id"},
		{TRANSPORT_DONE, 201, "{\"intention_order_id\":-5}", OUTCOME_INVALID_OUTPUT, "the answer has no intention_order_id"},
	};
	static const char *const changes[][3] = {
		{"\"amount\":9900", "\"amount\":9901", "the answer is for another amount"},
		{"\"amount\":9900", "\"amount\":9900.0", "the answer is for another amount"},
		{"\"amount\":9900", "\"amount\":\"9900\"", "the answer is for another amount"},
		{"\"currency\":\"EGP\"", "\"currency\":\"OMR\"", "the answer is for another currency"},
		{"\"special_reference\":\"ref-1\"", "\"special_reference\":\"ref-2\"", "the answer is for another reference"},
		{",\"special_reference\":\"ref-1\"", "", "the answer is for another reference"},
		{"\"client_secret\":\"egy_csk_1\"", "\"client_secret\":null", "the answer has no client_secret"},
	};
	PaymobIntention intention = usual();
	PaymobExchange exchange = {TRANSPORT_DONE, 201, GOOD, strlen(GOOD), "egy_sk_test_42"};
	PaymobIntentionAnswer answer;
	char	   *link;

	sparky_paymob_read_intention(&exchange, &intention, &answer);
	ok(answer.outcome == OUTCOME_OK && answer.intention_order_id == 9007199254740993 && answer.message[0] == '\0', "a good answer, its order id exact");
	is_text(answer.client_secret, "egy_csk_1", "  its client secret");
	is_text(answer.intention_id, "pi_1", "  its id");
	sparky_paymob_intention_answer_free(&answer);

	for (size_t i = 0; i < LENGTH(rows); i++)
	{
		PaymobExchange bad = {rows[i].transport, rows[i].status, rows[i].body, strlen(rows[i].body), "egy_sk_test_42"};

		sparky_paymob_read_intention(&bad, &intention, &answer);
		is_text(sparky_outcome_name(answer.outcome), sparky_outcome_name(rows[i].outcome), rows[i].body);
		is_text(answer.message, rows[i].message, "  its message");
		ok(answer.client_secret == NULL && answer.http_status == rows[i].status, "  and nothing to pay with");
		sparky_paymob_intention_answer_free(&answer);
	}
	for (size_t i = 0; i < LENGTH(changes); i++)
	{
		char	   *body = changed(GOOD, changes[i][0], changes[i][1]);
		PaymobExchange bad = {TRANSPORT_DONE, 201, body, strlen(body), NULL};

		sparky_paymob_read_intention(&bad, &intention, &answer);
		ok(answer.outcome == OUTCOME_INVALID_OUTPUT && answer.client_secret == NULL && answer.intention_order_id == 9007199254740993,
		   "refused, its order id kept: %s", changes[i][1]);
		is_text(answer.message, changes[i][2], "  its message");
		sparky_paymob_intention_answer_free(&answer);
		free(body);
	}

	link = sparky_paymob_checkout_link("https://accept.paymob.com/unifiedcheckout/", "egy pk&1", "csk/\xC3\xA9=~");
	is_text(link, "https://accept.paymob.com/unifiedcheckout/?publicKey=egy%20pk%261&clientSecret=csk%2F%C3%A9%3D~", "the link is percent-encoded");
	free(link);
	ok(sparky_paymob_checkout_link("https://x", "", "s") == NULL && sparky_paymob_checkout_link("x", "p", "s") == NULL, "no link without its parts");
}

static void
test_inquiry(void)
{
	const char *obj = strstr(docs_body, "\"obj\":") + 6;
	char	   *bare = strndup(obj, strstr(obj, ",\"issuer_bank\"") - obj);
	PaymobQuestion by_id = {192036465, 0, NULL};
	PaymobQuestion by_order = {0, 217503754, NULL};
	PaymobQuestion by_reference = {0, 0, "ref \"1\""};
	PaymobQuestion other = {0, 217503755, NULL};
	PaymobExchange exchange = {TRANSPORT_DONE, 200, bare, strlen(bare), "tok"};
	PaymobInquiryAnswer answer;
	PaymobTokenAnswer token;
	PaymobMessage message;
	char		why[100];

	ok(sparky_paymob_token_request("https://x", "api\"key", &message, why, sizeof(why)), "a token is asked for");
	is_text(message.url, "https://x/api/auth/tokens", "  its URL");
	is_text(message.body, "{\"api_key\":\"api\\\"key\"}", "  its body");
	ok(message.authorization == NULL, "  without a header");
	sparky_paymob_message_free(&message);
	ok(!sparky_paymob_token_request("https://x", "", &message, why, sizeof(why)) && message.body == NULL, "not without a key");
	ok(!sparky_paymob_inquiry_request("https://x", "tok", &(PaymobQuestion) {0}, &message, why, sizeof(why)), "nor about nothing");

	sparky_paymob_inquiry_request("https://x", "tok", &by_id, &message, why, sizeof(why));
	is_text(message.url, "https://x/api/acceptance/transactions/192036465", "by transaction");
	ok(strcmp(message.method, "GET") == 0 && message.body == NULL, "  a GET");
	is_text(message.authorization, "Authorization: Bearer tok", "  its token");
	sparky_paymob_message_free(&message);
	sparky_paymob_inquiry_request("https://x", "tok", &by_order, &message, why, sizeof(why));
	is_text(message.url, "https://x/api/ecommerce/orders/transaction_inquiry", "by order");
	is_text(message.body, "{\"auth_token\":\"tok\",\"order_id\":217503754}", "  its body");
	sparky_paymob_message_free(&message);
	sparky_paymob_inquiry_request("https://x", "tok", &by_reference, &message, why, sizeof(why));
	is_text(message.body, "{\"auth_token\":\"tok\",\"merchant_order_id\":\"ref \\\"1\\\"\"}", "by reference");
	sparky_paymob_message_free(&message);

	sparky_paymob_read_inquiry(&exchange, &by_order, &answer);
	ok(answer.outcome == OUTCOME_OK && answer.found && answer.callback.transaction.id == 192036465, "the order's transaction is found");
	sparky_paymob_inquiry_answer_free(&answer);
	sparky_paymob_read_inquiry(&exchange, &by_id, &answer);
	ok(answer.outcome == OUTCOME_OK && answer.found, "and by its id");
	sparky_paymob_inquiry_answer_free(&answer);
	sparky_paymob_read_inquiry(&exchange, &other, &answer);
	ok(answer.outcome == OUTCOME_INVALID_OUTPUT && !answer.found && answer.callback.kind == PAYMOB_UNREADABLE, "another order's is refused");
	is_text(answer.message, "the answer is about another transaction", "  its message");
	sparky_paymob_inquiry_answer_free(&answer);
	sparky_paymob_read_inquiry(&exchange, &by_reference, &answer);
	ok(answer.outcome == OUTCOME_INVALID_OUTPUT, "another reference's too");
	sparky_paymob_inquiry_answer_free(&answer);
	exchange.http_status = 404;
	sparky_paymob_read_inquiry(&exchange, &by_order, &answer);
	ok(answer.outcome == OUTCOME_OK && !answer.found, "404: none yet");
	sparky_paymob_inquiry_answer_free(&answer);
	exchange.http_status = 401;
	sparky_paymob_read_inquiry(&exchange, &by_order, &answer);
	ok(answer.outcome == OUTCOME_AUTH && !answer.found, "401: the token is too old");
	sparky_paymob_inquiry_answer_free(&answer);
	exchange.http_status = 200;
	exchange.length = 40;
	sparky_paymob_read_inquiry(&exchange, &by_order, &answer);
	ok(answer.outcome == OUTCOME_INVALID_OUTPUT && answer.message[0] != '\0', "what is cut is refused");
	sparky_paymob_inquiry_answer_free(&answer);

	exchange = (PaymobExchange) {TRANSPORT_DONE, 201, "{\"token\":\"abc\",\"profile\":{}}", 28, "key"};
	sparky_paymob_read_token(&exchange, &token);
	ok(token.outcome == OUTCOME_OK, "a token");
	is_text(token.token, "abc", "  is read");
	sparky_paymob_token_answer_free(&token);
	exchange = (PaymobExchange) {TRANSPORT_DONE, 201, "{\"token\":\"a\\nb\"}", 16, "key"};
	sparky_paymob_read_token(&exchange, &token);
	ok(token.outcome == OUTCOME_INVALID_OUTPUT && token.token == NULL, "one that breaks a header is refused");
	sparky_paymob_token_answer_free(&token);
	free(bare);
}

int
main(void)
{
	test_intention_request();
	test_intention_answer();
	test_inquiry();
	return done();
}
