/*
 * paymob.c: Paymob's HTTP APIs: what we ask, and what the answers mean.
 *
 * Rules.  Nothing here throws.  A request is refused before it is sent where
 * Paymob would refuse it.  An intention counts only if the answer is a 201 that
 * repeats our amount, currency and reference: a link to anything else is never
 * handed out.  Ids are read from integer tokens, exactly.  Texts of Paymob that
 * are kept are ASCII, one line, capped, and without the secret that was sent.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto.h"
#include "json.h"
#include "paymob.h"

#define ITEM_NAME_CHARACTERS 50	/* Paymob refuses longer ones */
#define SECRET_LEAST_BYTES 3	/* a letter or two are in any text: shorter ones are not struck out */
#define SECRET_REPLACEMENT "***"
#define ABSENT "NA"				/* what Paymob takes for a billing field that nobody knows */

static bool base_trouble(const char *base, char *why, size_t why_size);
static bool intention_trouble(const PaymobIntention *intention, char *why, size_t why_size);
static void add_url(JsonText *url, const char *base, const char *path);
static bool add_integers(JsonText *body, const char *list);
static void add_member(JsonText *body, const char *key, const char *value);
static void add_billing(JsonText *body, const PaymobIntention *intention);
static bool finish(PaymobMessage *message, const char *method, JsonText *url, JsonText *authorization, JsonText *body, char *why, size_t why_size);
static bool blank(const char *text);
static bool printable(const char *text);
static char *keep(const JsonText *text);
static void add_percent(JsonText *text, const char *value);

static Outcome outcome_of(const PaymobExchange *exchange);
static Outcome outcome_of_status(int status);
static JsonValue *parse_answer(const PaymobExchange *exchange);
static const char *judge_intention(const JsonValue *json, const PaymobIntention *sent);
static bool is_integer(const JsonValue *value, int64_t wanted);
static bool is_string(const JsonValue *value, const char *wanted);
static bool about_it(const PaymobTransaction *transaction, const PaymobQuestion *question);
static char *keep_string(const JsonValue *value);
static void free_secret(char *secret);
static void tell(char message[161], const PaymobExchange *exchange, const char *reason);
static void strike(JsonText *out, const char *text, size_t length, const char *secret);
static bool complain(char *why, size_t why_size, const char *reason);

/* ---- requests ---- */

void
sparky_paymob_message_free(PaymobMessage *message)
{
	free(message->url);
	free_secret(message->authorization);
	free_secret(message->body);
	memset(message, 0, sizeof(*message));
}

bool
sparky_paymob_intention_request(const PaymobIntention *intention, PaymobMessage *message, char *why, size_t why_size)
{
	JsonText	url = {0};
	JsonText	authorization = {0};
	JsonText	body = {0};
	const char *name = blank(intention->item_name) ? intention->reference : intention->item_name;
	size_t		name_length = 0;
	char		amount[32];

	memset(message, 0, sizeof(*message));
	if (intention_trouble(intention, why, why_size))
		return false;

	add_url(&url, intention->base_url, "/v1/intention/");
	sparky_json_text_puts(&authorization, "Authorization: Token ");
	sparky_json_text_puts(&authorization, intention->secret_key);

	snprintf(amount, sizeof(amount), "%" PRId64, intention->amount_cents);
	sparky_json_text_puts(&body, "{\"amount\":");
	sparky_json_text_puts(&body, amount);
	add_member(&body, ",\"currency\":", intention->currency);
	sparky_json_text_puts(&body, ",\"payment_methods\":[");
	add_integers(&body, intention->integration_ids);
	sparky_json_text_puts(&body, "]");
	/* One item: the items must add up to the amount, and sources differ on what a quantity does. */
	for (int i = 0; i < ITEM_NAME_CHARACTERS && name[name_length] != '\0'; i++)
		name_length += sparky_utf8_sequence(name + name_length, strlen(name + name_length));
	sparky_json_text_puts(&body, ",\"items\":[{\"name\":");
	sparky_json_text_add_string(&body, name, name_length);
	sparky_json_text_puts(&body, ",\"amount\":");
	sparky_json_text_puts(&body, amount);
	sparky_json_text_puts(&body, ",\"quantity\":1}]");
	add_billing(&body, intention);
	add_member(&body, ",\"special_reference\":", intention->reference);
	if (intention->expiration_seconds > 0)
	{
		snprintf(amount, sizeof(amount), ",\"expiration\":%d", intention->expiration_seconds);
		sparky_json_text_puts(&body, amount);
	}
	if (!blank(intention->notification_url))
		add_member(&body, ",\"notification_url\":", intention->notification_url);
	if (!blank(intention->redirection_url))
		add_member(&body, ",\"redirection_url\":", intention->redirection_url);
	sparky_json_text_puts(&body, "}");
	return finish(message, "POST", &url, &authorization, &body, why, why_size);
}

bool
sparky_paymob_token_request(const char *base_url, const char *api_key, PaymobMessage *message, char *why, size_t why_size)
{
	JsonText	url = {0};
	JsonText	authorization = {0};
	JsonText	body = {0};

	memset(message, 0, sizeof(*message));
	if (base_trouble(base_url, why, why_size))
		return false;
	if (blank(api_key) || !printable(api_key))
		return complain(why, why_size, "the API key is not valid");
	add_url(&url, base_url, "/api/auth/tokens");
	add_member(&body, "{\"api_key\":", api_key);
	sparky_json_text_puts(&body, "}");
	return finish(message, "POST", &url, &authorization, &body, why, why_size);
}

bool
sparky_paymob_inquiry_request(const char *base_url, const char *token, const PaymobQuestion *question,
							  PaymobMessage *message, char *why, size_t why_size)
{
	JsonText	url = {0};
	JsonText	authorization = {0};
	JsonText	body = {0};
	char		number[64];

	memset(message, 0, sizeof(*message));
	if (base_trouble(base_url, why, why_size))
		return false;
	if (blank(token) || !printable(token))
		return complain(why, why_size, "the token is not valid");
	if (question->transaction_id <= 0 && question->order_id <= 0 &&
		(blank(question->reference) || !sparky_utf8_valid(question->reference, strlen(question->reference))))
		return complain(why, why_size, "nothing is asked about");

	sparky_json_text_puts(&authorization, "Authorization: Bearer ");
	sparky_json_text_puts(&authorization, token);
	if (question->transaction_id > 0)
	{
		snprintf(number, sizeof(number), "/api/acceptance/transactions/%" PRId64, question->transaction_id);
		add_url(&url, base_url, number);
		return finish(message, "GET", &url, &authorization, &body, why, why_size);
	}
	add_url(&url, base_url, "/api/ecommerce/orders/transaction_inquiry");
	/* The documentation wants the token here, Paymob's own collection in the header: it gets both. */
	add_member(&body, "{\"auth_token\":", token);
	if (question->order_id > 0)
	{
		snprintf(number, sizeof(number), ",\"order_id\":%" PRId64, question->order_id);
		sparky_json_text_puts(&body, number);
	}
	else
		add_member(&body, ",\"merchant_order_id\":", question->reference);
	sparky_json_text_puts(&body, "}");
	return finish(message, "POST", &url, &authorization, &body, why, why_size);
}

char *
sparky_paymob_checkout_link(const char *checkout_url, const char *public_key, const char *client_secret)
{
	JsonText	link = {0};
	char	   *kept;

	if (base_trouble(checkout_url, NULL, 0) || blank(public_key) || blank(client_secret))
		return NULL;
	add_url(&link, checkout_url, "/?publicKey=");
	add_percent(&link, public_key);
	sparky_json_text_puts(&link, "&clientSecret=");
	add_percent(&link, client_secret);
	kept = keep(&link);
	return kept;
}

/* true: there is one. */
static bool
base_trouble(const char *base, char *why, size_t why_size)
{
	bool		sound = base != NULL && (strncmp(base, "https://", 8) == 0 || strncmp(base, "http://", 7) == 0);

	for (const char *c = base; sound && *c != '\0'; c++)
		sound = *c > ' ' && *c < 0x7F && strchr("\"<>\\^`{|}?#@", *c) == NULL;
	return !sound && !complain(why, why_size, "the base URL is not valid");
}

static bool
intention_trouble(const PaymobIntention *intention, char *why, size_t why_size)
{
	const char *texts[] = {intention->item_name, intention->first_name, intention->last_name, intention->email,
	intention->phone_number, intention->notification_url, intention->redirection_url, intention->reference};
	JsonText	ids = {0};
	const char *trouble = NULL;

	if (base_trouble(intention->base_url, why, why_size))
		return true;
	if (blank(intention->secret_key) || !printable(intention->secret_key))
		trouble = "the secret key is not valid";
	else if (intention->amount_cents <= 0)
		trouble = "the amount is not positive";
	else if (intention->currency == NULL || strlen(intention->currency) != 3 ||
			 strspn(intention->currency, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != 3)
		trouble = "the currency is not three capital letters";
	else if (intention->integration_ids == NULL || !add_integers(&ids, intention->integration_ids))
		trouble = "the integration ids are not a list of integers";
	else if (blank(intention->reference))
		trouble = "the reference is missing";
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]) && trouble == NULL; i++)
	{
		if (texts[i] != NULL && !sparky_utf8_valid(texts[i], strlen(texts[i])))
			trouble = "a text is not UTF-8";
	}
	sparky_json_text_free(&ids);
	return trouble != NULL && !complain(why, why_size, trouble);
}

static void
add_url(JsonText *url, const char *base, const char *path)
{
	size_t		length = strlen(base);

	while (length > 0 && base[length - 1] == '/')
		length--;
	sparky_json_text_add(url, base, length);
	sparky_json_text_puts(url, path);
}

/* "1, 2" as 1,2; false: no list of plain integers, or an empty one. */
static bool
add_integers(JsonText *body, const char *list)
{
	size_t		count = 0;

	for (;;)
	{
		size_t		digits;

		list += strspn(list, " \t\r\n");
		digits = strspn(list, "0123456789");
		if (digits == 0 || digits > 18 || list[0] == '0')
			return false;
		if (count++ > 0)
			sparky_json_text_puts(body, ",");
		sparky_json_text_add(body, list, digits);
		list += digits;
		list += strspn(list, " \t\r\n");
		if (*list == '\0')
			return true;
		if (*list++ != ',')
			return false;
	}
}

/* key: with what stands before and after its name. */
static void
add_member(JsonText *body, const char *key, const char *value)
{
	sparky_json_text_puts(body, key);
	sparky_json_text_add_string(body, value, strlen(value));
}

static void
add_billing(JsonText *body, const PaymobIntention *intention)
{
	static const char *const unknown[] = {"apartment", "floor", "building", "street", "city", "state", "country", "postal_code"};

	add_member(body, ",\"billing_data\":{\"first_name\":", blank(intention->first_name) ? ABSENT : intention->first_name);
	add_member(body, ",\"last_name\":", blank(intention->last_name) ? ABSENT : intention->last_name);
	add_member(body, ",\"email\":", blank(intention->email) ? ABSENT : intention->email);
	add_member(body, ",\"phone_number\":", blank(intention->phone_number) ? ABSENT : intention->phone_number);
	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++)
	{
		add_member(body, ",", unknown[i]);
		add_member(body, ":", ABSENT);
	}
	sparky_json_text_puts(body, "}");
}

/* Takes the texts over; an empty one counts as none. */
static bool
finish(PaymobMessage *message, const char *method, JsonText *url, JsonText *authorization, JsonText *body, char *why, size_t why_size)
{
	bool		failed = url->failed || authorization->failed || body->failed;

	message->method = method;
	message->url = url->data;
	message->authorization = authorization->data;
	message->body = body->data;
	message->body_length = body->length;
	if (failed)
	{
		sparky_paymob_message_free(message);
		return complain(why, why_size, "out of memory");
	}
	return true;
}

static bool
blank(const char *text)
{
	return text == NULL || text[strspn(text, " \t\r\n")] == '\0';
}

/* Fit for a header: visible ASCII only. */
static bool
printable(const char *text)
{
	for (; *text != '\0'; text++)
	{
		if (*text <= ' ' || *text >= 0x7F)
			return false;
	}
	return true;
}

static char *
keep(const JsonText *text)
{
	if (text->failed)
	{
		free(text->data);
		return NULL;
	}
	return text->data;
}

/* RFC 3986: all but the unreserved characters. */
static void
add_percent(JsonText *text, const char *value)
{
	for (; *value != '\0'; value++)
	{
		unsigned char c = (unsigned char) *value;
		char		encoded[4];

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("-._~", c) != NULL)
			sparky_json_text_add(text, value, 1);
		else
		{
			snprintf(encoded, sizeof(encoded), "%%%02X", c);
			sparky_json_text_puts(text, encoded);
		}
	}
}

/* ---- answers ---- */

void
sparky_paymob_read_intention(const PaymobExchange *exchange, const PaymobIntention *sent, PaymobIntentionAnswer *answer)
{
	JsonValue  *json = NULL;
	const char *reason = NULL;

	memset(answer, 0, sizeof(*answer));
	answer->http_status = exchange->http_status;
	answer->outcome = outcome_of(exchange);
	if (answer->outcome == OUTCOME_OK && exchange->http_status != 201)
	{
		answer->outcome = OUTCOME_INVALID_OUTPUT;
		reason = "the intention was not created";
	}
	else if (answer->outcome == OUTCOME_OK)
	{
		const JsonValue *order;

		json = parse_answer(exchange);
		order = sparky_json_get(json, "intention_order_id");
		if (sparky_json_kind(order) == JSON_KIND_INTEGER && sparky_json_integer(order, 0) > 0)
			answer->intention_order_id = sparky_json_integer(order, 0);
		answer->intention_id = keep_string(sparky_json_get(json, "id"));
		reason = answer->intention_order_id == 0 ? "the answer has no intention_order_id" : judge_intention(json, sent);
		if (reason == NULL)
			answer->client_secret = keep_string(sparky_json_get(json, "client_secret"));
		if (reason == NULL && answer->client_secret == NULL)
			reason = "out of memory";
		if (reason != NULL)
			answer->outcome = OUTCOME_INVALID_OUTPUT;
	}
	if (answer->outcome != OUTCOME_OK)
		tell(answer->message, exchange, reason);
	sparky_json_free(json);
}

void
sparky_paymob_intention_answer_free(PaymobIntentionAnswer *answer)
{
	free_secret(answer->client_secret);
	free(answer->intention_id);
	memset(answer, 0, sizeof(*answer));
}

void
sparky_paymob_read_token(const PaymobExchange *exchange, PaymobTokenAnswer *answer)
{
	const char *reason = NULL;

	memset(answer, 0, sizeof(*answer));
	answer->http_status = exchange->http_status;
	answer->outcome = outcome_of(exchange);
	if (answer->outcome == OUTCOME_OK)
	{
		JsonValue  *json = parse_answer(exchange);

		answer->token = keep_string(sparky_json_get(json, "token"));
		sparky_json_free(json);
		if (answer->token == NULL || !printable(answer->token))
		{
			free_secret(answer->token);
			answer->token = NULL;
			answer->outcome = OUTCOME_INVALID_OUTPUT;
			reason = "the answer has no token";
		}
	}
	if (answer->outcome != OUTCOME_OK)
		tell(answer->message, exchange, reason);
}

void
sparky_paymob_token_answer_free(PaymobTokenAnswer *answer)
{
	free_secret(answer->token);
	memset(answer, 0, sizeof(*answer));
}

void
sparky_paymob_read_inquiry(const PaymobExchange *exchange, const PaymobQuestion *question, PaymobInquiryAnswer *answer)
{
	char		reason[100] = "";

	memset(answer, 0, sizeof(*answer));
	answer->http_status = exchange->http_status;
	if (exchange->transport == TRANSPORT_DONE && exchange->http_status == 404)
		return;					/* OUTCOME_OK, and nothing found */
	answer->outcome = outcome_of(exchange);
	if (answer->outcome == OUTCOME_OK)
	{
		if (sparky_paymob_read_transaction(exchange->body != NULL ? exchange->body : "", exchange->length, &answer->callback,
										   reason, sizeof(reason)) != PAYMOB_TRANSACTION)
			answer->outcome = OUTCOME_INVALID_OUTPUT;
		else if (!about_it(&answer->callback.transaction, question))
		{
			answer->outcome = OUTCOME_INVALID_OUTPUT;
			complain(reason, sizeof(reason), "the answer is about another transaction");
		}
		else
			answer->found = true;
	}
	if (answer->outcome != OUTCOME_OK)
	{
		sparky_paymob_callback_free(&answer->callback);
		tell(answer->message, exchange, reason[0] != '\0' ? reason : NULL);
	}
}

void
sparky_paymob_inquiry_answer_free(PaymobInquiryAnswer *answer)
{
	sparky_paymob_callback_free(&answer->callback);
	memset(answer, 0, sizeof(*answer));
}

/* OUTCOME_OK: a whole answer with a status of 2xx. */
static Outcome
outcome_of(const PaymobExchange *exchange)
{
	/* An error page that is larger than an answer may be: its status has told enough. */
	if (exchange->transport == TRANSPORT_STOPPED && exchange->http_status >= 300)
		return outcome_of_status(exchange->http_status);
	switch (exchange->transport)
	{
		case TRANSPORT_CONNECT_FAILED:
		case TRANSPORT_TLS_FAILED:
			return OUTCOME_CONNECT;
		case TRANSPORT_TIMEOUT:
			return OUTCOME_TIMEOUT;
		case TRANSPORT_STOPPED:
			return OUTCOME_TOO_LARGE;
		case TRANSPORT_RESET:
			return OUTCOME_NETWORK;
		case TRANSPORT_DONE:
			break;
	}
	return outcome_of_status(exchange->http_status);
}

static Outcome
outcome_of_status(int status)
{
	if (status == 0)
		return OUTCOME_NETWORK;
	if (status >= 200 && status < 300)
		return OUTCOME_OK;
	if (status >= 300 && status < 400)
		return OUTCOME_REDIRECT;
	switch (status)
	{
		case 401:
		case 403:
			return OUTCOME_AUTH;
		case 408:
			return OUTCOME_UPSTREAM;
		case 429:
			return OUTCOME_RATE_LIMITED;
		case 502:
		case 503:
			return OUTCOME_OVERLOADED;
		case 504:
			return OUTCOME_UPSTREAM_TIMEOUT;
	}
	if (status >= 400 && status < 500)
		return OUTCOME_BAD_REQUEST;
	return status >= 500 ? OUTCOME_UPSTREAM : OUTCOME_INVALID_OUTPUT;
}

/* NULL for what is no JSON. Broken characters in a text that we do not use cost no order. */
static JsonValue *
parse_answer(const PaymobExchange *exchange)
{
	JsonText	clean = {0};
	JsonValue  *json = NULL;

	if (exchange->body != NULL)
		sparky_json_clean(&clean, exchange->body, exchange->length);
	if (!clean.failed && clean.data != NULL)
		json = sparky_json_parse(clean.data, clean.length, NULL, 0);
	/* A client secret or a token is in it. */
	if (clean.data != NULL)
		sparky_wipe(clean.data, clean.length);
	sparky_json_text_free(&clean);
	return json;
}

/* NULL if the answer is about what we asked for. */
static const char *
judge_intention(const JsonValue *json, const PaymobIntention *sent)
{
	const JsonValue *detail = sparky_json_get(json, "intention_detail");

	if (!is_integer(sparky_json_get(detail, "amount"), sent->amount_cents))
		return "the answer is for another amount";
	if (!is_string(sparky_json_get(detail, "currency"), sent->currency))
		return "the answer is for another currency";
	if (!is_string(sparky_json_get(json, "special_reference"), sent->reference))
		return "the answer is for another reference";
	if (blank(sparky_json_string(sparky_json_get(json, "client_secret"), NULL)))
		return "the answer has no client_secret";
	return NULL;
}

static bool
is_integer(const JsonValue *value, int64_t wanted)
{
	return sparky_json_kind(value) == JSON_KIND_INTEGER && sparky_json_integer(value, 0) == wanted;
}

static bool
is_string(const JsonValue *value, const char *wanted)
{
	const char *string = sparky_json_string(value, NULL);

	return string != NULL && strcmp(string, wanted) == 0;
}

static bool
about_it(const PaymobTransaction *transaction, const PaymobQuestion *question)
{
	if (question->transaction_id > 0)
		return transaction->id == question->transaction_id;
	if (question->order_id > 0)
		return transaction->order_id == question->order_id;
	return transaction->merchant_order_id != NULL && question->reference != NULL &&
		strcmp(transaction->merchant_order_id, question->reference) == 0;
}

/* A copy; NULL for what is no string, is blank, or does not fit in memory. */
static char *
keep_string(const JsonValue *value)
{
	const char *string = sparky_json_string(value, NULL);

	return blank(string) ? NULL : strdup(string);
}

static void
free_secret(char *secret)
{
	if (secret != NULL)
		sparky_wipe(secret, strlen(secret));
	free(secret);
}

/* ---- messages ---- */

/* Our own reason, else what Paymob says: detail or message, else the whole body. */
static void
tell(char message[161], const PaymobExchange *exchange, const char *reason)
{
	JsonText	text = {0};
	JsonValue  *json = NULL;
	size_t		length = 0;
	const char *words = reason;
	char	   *printed = NULL;

	if (words == NULL && exchange->transport == TRANSPORT_DONE)
	{
		json = parse_answer(exchange);
		words = sparky_json_string(sparky_json_get(json, "detail"), NULL);
		if (words == NULL)
			words = sparky_json_string(sparky_json_get(json, "message"), NULL);
		if (words == NULL && json != NULL)
			words = printed = sparky_json_print(json);
	}
	if (words == NULL)
		words = exchange->transport != TRANSPORT_DONE ? "there was no whole answer" : "the answer is not JSON";

	/* Before the cut, which could leave half a secret. */
	strike(&text, words, strlen(words), exchange->secret);
	for (size_t i = 0; !text.failed && i < text.length && length < 160; i++)
	{
		unsigned char c = (unsigned char) text.data[i];

		message[length++] = c < ' ' ? ' ' : c >= 0x7F ? '?' : (char) c;
	}
	message[length] = '\0';
	if (length == 0)
		snprintf(message, 161, "status %d", exchange->http_status);
	sparky_json_text_free(&text);
	sparky_json_free(json);
	free(printed);
}

static void
strike(JsonText *out, const char *text, size_t length, const char *secret)
{
	size_t		secret_length = secret != NULL ? strlen(secret) : 0;
	const char *end = text + length;
	const char *hit;

	while (secret_length >= SECRET_LEAST_BYTES && (hit = memmem(text, end - text, secret, secret_length)) != NULL)
	{
		sparky_json_text_add(out, text, hit - text);
		sparky_json_text_puts(out, SECRET_REPLACEMENT);
		text = hit + secret_length;
	}
	sparky_json_text_add(out, text, end - text);
}

/* Always false. */
static bool
complain(char *why, size_t why_size, const char *reason)
{
	if (why != NULL && why_size > 0)
		snprintf(why, why_size, "%s", reason);
	return false;
}
