/*
 * paymob.c: POST /v1/intention/, POST /api/auth/tokens,
 * GET /api/acceptance/transactions/{id},
 * POST /api/ecommerce/orders/transaction_inquiry.
 *
 * As with Gemini: reading never fails; then the strict checks, the script, the
 * good answer. What happens at Paymob besides (someone pays, a refund) is made
 * by control calls: paymob_control.c.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "paymob.h"
#include "script.h"
#include "server.h"

#define TRANSACTIONS "/api/acceptance/transactions/"

PaymobSettings paymob_settings = {
	.hmac_secret = "emulator-hmac-secret",
	.integrations = {4097558, 4097559, 4097560},
	.integration_count = 3,
	.owner = 302852,
	.currency = "EGP",
	.token_seconds = 3600
};

static PaymobRoute route_of(const char *path);
static void note_call(const PaymobCall *call, json_t *note);
static const char *scheme_of(const Request *request);
static void do_intention(PaymobCall *call, Reply *reply);
static json_t *intention_answer(const json_t *order, const json_t *request);
static void do_token(PaymobCall *call, Reply *reply);
static void do_inquiry(PaymobCall *call, Reply *reply);

bool
paymob_option(const char *name, const char *value)
{
	char	   *end;

	if (strcmp(name, "paymob-secret-key") == 0)
		paymob_settings.secret_key = value;
	else if (strcmp(name, "paymob-api-key") == 0)
		paymob_settings.api_key = value;
	else if (strcmp(name, "paymob-hmac-secret") == 0)
		paymob_settings.hmac_secret = value;
	else if (strcmp(name, "paymob-currency") == 0)
		paymob_settings.currency = value;
	else if (strcmp(name, "paymob-owner") == 0)
	{
		paymob_settings.owner = strtoll(value, &end, 10);
		return *end == '\0' && paymob_settings.owner > 0;
	}
	else
	{
		paymob_settings.integration_count = 0;
		for (end = (char *) value; paymob_settings.integration_count < PAYMOB_INTEGRATIONS; value = end + 1)
		{
			json_int_t	id = strtoll(value, &end, 10);

			if (end == value || id <= 0 || (*end != '\0' && *end != ','))
				return false;
			paymob_settings.integrations[paymob_settings.integration_count++] = id;
			if (*end == '\0')
				return true;
		}
		return false;
	}
	return *value != '\0';
}

static bool
owns(const Request *request)
{
	return strncmp(request->path, "/v1/intention", 13) == 0 || strncmp(request->path, "/api/auth/", 10) == 0 ||
		strncmp(request->path, "/api/acceptance/", 16) == 0 || strncmp(request->path, "/api/ecommerce/", 15) == 0;
}

static void *
read_request(const Request *request, json_t *note)
{
	static const char *const kinds[] = {"other", "intention", "token", "transaction", "inquiry"};
	PaymobCall *call = xalloc(sizeof *call);
	json_error_t error;

	call->request = request;
	call->route = route_of(request->path);
	call->kind = kinds[call->route];
	if (call->route == PAYMOB_TRANSACTION)
	{
		const char *text = request->path + strlen(TRANSACTIONS);

		if (*text != '\0' && strspn(text, "0123456789") == strlen(text) && strlen(text) < 19)
			call->transaction_id = strtoll(text, NULL, 10);
	}
	if (request->body.len > 0)
		call->body = json_loadb(request->body.data, request->body.len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
	if (call->body == NULL)
		call->parse_error = xstrdup(request->body.len > 0 ? error.text : "Expecting value");
	note_call(call, note);
	return call;
}

static void
answer(void *state, const Request *request, Reply *reply)
{
	PaymobCall *call = state;
	ScriptCall	question = {
		.service = "paymob", .nth = request->n - stats.base, .kind = call->kind,
		.prompt = request->body.data ? request->body.data : ""
	};
	json_t	   *rule;

	if (!paymob_check(call, reply))
		reply->refused = xstrdup(reply->body.len > 0 ? reply->body.data : "refused");
	else if ((rule = script_take(&question)) != NULL)
	{
		paymob_fault(call, rule, reply);
		json_decref(rule);
	}
	else
		paymob_good(call, reply);
}

static void
done(void *state)
{
	PaymobCall *call = state;

	json_decref(call->body);
	json_decref(call->made);
	free(call->parse_error);
	free(call);
}

const Service paymob_service = {"paymob", owns, read_request, answer, done, paymob_knows_fault, NULL};

static PaymobRoute
route_of(const char *path)
{
	if (strcmp(path, "/v1/intention/") == 0)
		return PAYMOB_INTENTION;
	if (strcmp(path, "/api/auth/tokens") == 0)
		return PAYMOB_TOKEN;
	if (strcmp(path, "/api/ecommerce/orders/transaction_inquiry") == 0)
		return PAYMOB_INQUIRY;
	return strncmp(path, TRANSACTIONS, strlen(TRANSACTIONS)) == 0 ? PAYMOB_TRANSACTION : PAYMOB_NOWHERE;
}

/* The body without the keys in it; of the Authorization header its scheme, and a digest to tell keys apart. */
static void
note_call(const PaymobCall *call, json_t *note)
{
	const char *authorization = pairs_get(&call->request->headers, "authorization");
	json_t	   *shown = json_deep_copy(call->body);
	static const char *const secret[] = {"api_key", "auth_token", NULL};
	char		hex[65];

	json_object_set_new(note, "kind", json_string(call->kind));
	json_object_set_new(note, "authorization", authorization ? json_string(scheme_of(call->request)) : json_null());
	if (authorization != NULL)
	{
		const char *key = strchr(authorization, ' ') ? strchr(authorization, ' ') + 1 : authorization;

		sha256_hex(key, strlen(key), hex);
		json_object_set_new(note, "key_sha256", json_stringn(hex, 12));
	}
	for (int i = 0; secret[i] != NULL; i++)
		if (json_object_get(shown, secret[i]) != NULL)
			json_object_set_new(shown, secret[i], json_string("(present)"));
	if (call->transaction_id > 0)
		json_object_set_new(note, "transaction_id", json_integer(call->transaction_id));
	json_object_set_new(note, "body", shown != NULL ? shown : json_null());
}

static const char *
scheme_of(const Request *request)
{
	const char *authorization = pairs_get(&request->headers, "authorization");

	return strncmp(authorization, "Token ", 6) == 0 ? "Token" : strncmp(authorization, "Bearer ", 7) == 0 ? "Bearer" : "other";
}

void
paymob_good(PaymobCall *call, Reply *reply)
{
	if (call->route == PAYMOB_INTENTION)
		do_intention(call, reply);
	else if (call->route == PAYMOB_TOKEN)
		do_token(call, reply);
	else
		do_inquiry(call, reply);
}

static void
do_intention(PaymobCall *call, Reply *reply)
{
	const char *reference = json_string_value(json_object_get(call->body, "special_reference"));
	json_t	   *order;
	char		hex[33];

	paymob_lock();
	order = paymob_order_new(0, json_integer_value(json_object_get(call->body, "amount")),
							 json_string_value(json_object_get(call->body, "currency")), reference);
	if (order != NULL)
	{
		json_object_set_new(order, "request", json_deep_copy(call->body));
		paymob_random_hex(hex, 32);
		json_object_set_new(order, "intention", json_sprintf("pi_test_%s", hex));
		paymob_random_hex(hex, 32);
		json_object_set_new(order, "client_secret", json_sprintf("egy_csk_test_%s", hex));
		call->made = intention_answer(order, call->body);
	}
	paymob_unlock();
	if (call->made != NULL)
		paymob_reply(reply, 201, json_incref(call->made));
	else						/* another call with this reference was faster */
		paymob_reply(reply, 400, json_pack("{s:[s]}", "special_reference", "An order with this reference exists already."));
}

static json_t *
intention_answer(const json_t *order, const json_t *request)
{
	json_t	   *keys = json_array();
	json_t	   *methods = json_array();
	const json_t *reference = json_object_get(order, "reference");
	const json_t *extras = json_object_get(request, "extras");
	json_t	   *made;
	json_t	   *own;
	size_t		at;
	json_t	   *method;

	json_array_foreach(json_object_get(request, "payment_methods"), at, method)
	{
		char		hex[65];

		paymob_random_hex(hex, 64);
		json_array_append_new(keys, json_pack("{s:I, s:s, s:s, s:n, s:O, s:b}", "integration", json_integer_value(method), "key", hex,
											  "gateway_type", "MIGS", "iframe_id", "order_id", json_object_get(order, "id"), "save_card", 0));
		json_array_append_new(methods, json_pack("{s:I, s:n, s:s, s:s, s:O, s:b}", "integration_id", json_integer_value(method), "alias",
												 "name", "card", "method_type", "online",
												 "currency", json_object_get(order, "currency"), "live", 0));
	}
	made = json_pack("{s:o, s:O, s:O, s:{s:O, s:o, s:O, s:o}, s:O, s:o}", "payment_keys", keys,
					 "intention_order_id", json_object_get(order, "id"), "id", json_object_get(order, "intention"),
					 "intention_detail", "amount", json_object_get(order, "amount_cents"),
					 "items", json_deep_copy(json_object_get(request, "items")), "currency", json_object_get(order, "currency"),
					 "billing_data", json_deep_copy(json_object_get(request, "billing_data")),
					 "client_secret", json_object_get(order, "client_secret"), "payment_methods", methods);
	json_object_update_new(made, json_pack("{s:O, s:{s:o, s:n}, s:b, s:s, s:O, s:n, s:[], s:s}", "special_reference", reference,
										   "extras", "creation_extras", extras != NULL ? json_deep_copy(extras) : json_null(),
										   "confirmation_extras", "confirmed", 0, "status", "intended",
										   "created", json_object_get(order, "created_at"), "card_detail", "card_tokens",
										   "object", "paymentintention"));
	/* Nothing of it is shared with the order: the caller uses it without the lock. */
	own = json_deep_copy(made);
	json_decref(made);
	return own;
}

static void
do_token(PaymobCall *call, Reply *reply)
{
	char		token[65];

	paymob_lock();
	paymob_token_new(token);
	paymob_unlock();
	call->made = json_pack("{s:{s:i, s:b}, s:s}", "profile", "id", 164295, "active", 1, "token", token);
	paymob_reply(reply, 201, json_incref(call->made));
}

static void
do_inquiry(PaymobCall *call, Reply *reply)
{
	const json_t *id = json_object_get(call->body, "order_id");
	json_t	   *found;

	paymob_lock();
	if (call->route == PAYMOB_TRANSACTION)
		found = paymob_transaction_find(call->transaction_id);
	else
		found = paymob_transaction_last(id != NULL ? paymob_order_find(json_integer_value(id))
										: paymob_order_by_reference(json_string_value(json_object_get(call->body, "merchant_order_id"))));
	call->made = json_deep_copy(found);
	paymob_unlock();
	if (call->made != NULL)
		paymob_reply(reply, 200, json_incref(call->made));
	else
		paymob_detail(reply, 404, "Not found.");
}

void
paymob_reply(Reply *reply, int status, json_t *body)
{
	char	   *text = json_dumps(body, JSON_COMPACT);

	json_decref(body);
	if (text == NULL)
		abort();
	reply->status = status;
	reply->delivery = DELIVER_LENGTH;
	pairs_add(&reply->headers, "Content-Type", "application/json");
	buf_puts(&reply->body, text);
	free(text);
}

void
paymob_detail(Reply *reply, int status, const char *format,...)
{
	char		text[512];
	va_list		args;
	json_t	   *detail;

	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	detail = json_string(text);
	paymob_reply(reply, status, json_pack("{s:o}", "detail", detail ? detail : json_string("?")));
}
