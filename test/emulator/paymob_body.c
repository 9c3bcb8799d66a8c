/*
 * paymob_body.c: the transaction object with all its members, the callback
 * around it, and the digest of its twenty signed values.
 *
 * The list of signed values and their order stand here once more, apart from the
 * one of the code under test: two readings that must agree.
 */
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "paymob.h"

typedef struct Method
{
	const char *name;
	const char *source;			/* source_data as JSON */
	const char *klass;
} Method;

/* In the order of paymob_methods. */
static const Method methods[] = {
	{"card", "{\"type\":\"card\",\"pan\":\"2346\",\"sub_type\":\"MasterCard\",\"tenure\":null}", "MigsPayment"},
	{"wallet", "{\"type\":\"wallet\",\"pan\":\"01010101010\",\"sub_type\":\"wallet\",\"phone_number\":\"01010101010\",\"owner_name\":null}", "WalletPayment"},
	{"kiosk", "{\"type\":\"aggregator\",\"pan\":\"\",\"sub_type\":\"AGGREGATOR\"}", "CAGGPayment"},
	{"apple_pay", "{\"type\":\"apple pay\",\"pan\":\"1111\",\"sub_type\":\"APPLE_PAY\",\"tenure\":null}", "VPCPayment"},
	{"cash", "{\"type\":\"cash\",\"pan\":\"cash\",\"sub_type\":\"CASH\"}", "CashPayment"},
};
const char *const paymob_methods[] = {"card", "wallet", "kiosk", "apple_pay", "cash", NULL};

static const char *const signed_paths[] = {
	"amount_cents", "created_at", "currency", "error_occured", "has_parent_transaction", "id", "integration_id",
	"is_3d_secure", "is_auth", "is_capture", "is_refunded", "is_standalone_payment", "is_voided", "order.id", "owner",
	"pending", "source_data.pan", "source_data.sub_type", "source_data.type", "success", NULL
};

static json_t *order_part(const json_t *order, const PaymobPayment *payment);
static json_t *claims_part(const json_t *order, const PaymobPayment *payment);
static json_t *billing_of(const json_t *order);
static void add_flags(json_t *transaction, const char *names, bool value);
static const json_t *get(const json_t *object, const char *path);
static void add_signed(Buf *text, const json_t *transaction, const json_t *raw);
static void add_value(Buf *text, const json_t *value);
static void put_raw(Buf *body, const char *dump, const json_t *raw);

void
paymob_now(char out[40])
{
	struct timespec now;
	struct tm	parts;
	size_t		length;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &parts);
	length = strftime(out, 32, "%Y-%m-%dT%H:%M:%S", &parts);
	snprintf(out + length, 40 - length, ".%06ld", now.tv_nsec / 1000);
}

json_t *
paymob_transaction_make(const json_t *order, const PaymobPayment *payment)
{
	const Method *method = methods;
	char		now[40];
	json_t	   *made;

	for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
		if (strcmp(methods[i].name, payment->method) == 0)
			method = &methods[i];
	paymob_now(now);
	made = json_pack("{s:I, s:b, s:I, s:b}", "id", payment->id, "pending", 0, "amount_cents", payment->amount, "success", 0);
	add_flags(made, "is_auth is_capture", false);
	add_flags(made, "is_standalone_payment", true);
	add_flags(made, "is_voided is_refunded", false);
	add_flags(made, "is_3d_secure", strcmp(payment->method, "card") == 0);
	json_object_update_new(made, json_pack("{s:I, s:I, s:b, s:o, s:s, s:s}", "integration_id", payment->integration_id,
										   "profile_id", (json_int_t) 164295, "has_parent_transaction", 0,
										   "order", order_part(order, payment),
										   "created_at", payment->created_at ? payment->created_at : now, "currency", payment->currency));
	json_object_set_new(made, "transaction_processed_callback_responses", json_array());
	json_object_set_new(made, "source_data", json_loads(method->source, 0, NULL));
	json_object_update_new(made, json_pack("{s:s, s:n, s:s, s:n, s:n, s:n, s:n}", "api_source", "IFRAME", "terminal_id", "unique_ref", "",
										   "merchant_commission", "installment", "discount_details", "other_endpoint_reference"));
	add_flags(made, "is_void is_refund", false);
	json_object_set_new(made, "data", json_pack("{s:s, s:s, s:s, s:s, s:s, s:n, s:I, s:s, s:n}", "klass", method->klass,
												"gateway_integration_pk", "4097558", "created_at", now, "txn_response_code", "APPROVED",
												"message", "Approved", "acq_response_code", "amount", payment->amount,
												"currency", payment->currency, "bill_reference"));
	add_flags(made, "is_hidden", false);
	json_object_set_new(made, "payment_key_claims", claims_part(order, payment));
	add_flags(made, "error_occured is_live is_bill is_captured is_settled bill_balanced", false);
	json_object_update_new(made, json_pack("{s:n, s:i, s:i, s:n, s:s, s:I, s:n}", "other_endpoint_reference", "refunded_amount_cents", 0,
										   "captured_amount", 0, "merchant_staff_tag", "updated_at", now,
										   "owner", payment->owner, "parent_transaction"));
	return made;
}

static json_t *
order_part(const json_t *order, const PaymobPayment *payment)
{
	json_t	   *billing = billing_of(order);
	json_t	   *part = json_pack("{s:O, s:O, s:b, s:{s:i, s:s, s:[s], s:[s], s:s, s:s, s:s, s:s, s:s, s:s}, s:n, s:O}",
								 "id", json_object_get(order, "id"), "created_at", json_object_get(order, "created_at"),
								 "delivery_needed", 0,
								 "merchant", "id", 164295, "created_at", "2022-03-24T21:13:47.852384", "phones", "+201000000000",
								 "company_emails", "shop@example.com", "company_name", "A shop", "state", "", "country", "EGY",
								 "city", "Cairo", "postal_code", "", "street", "",
								 "collector", "amount_cents", json_object_get(order, "amount_cents"));

	json_object_set_new(part, "shipping_data", billing);
	json_object_set_new(part, "currency", json_string(payment->currency));
	add_flags(part, "is_payment_locked is_return is_cancel is_returned is_canceled", false);
	json_object_set(part, "merchant_order_id", json_object_get(order, "reference"));
	json_object_update_new(part, json_pack("{s:n, s:i, s:b, s:[], s:s, s:i, s:i, s:i, s:s, s:n, s:s, s:{}, s:s}",
										   "wallet_notification", "paid_amount_cents", 0, "notify_user_with_email", 0, "items",
										   "order_url", "NA", "commission_fees", 0, "delivery_fees_cents", 0, "delivery_vat_cents", 0,
										   "payment_method", "tbc", "merchant_staff_tag", "api_source", "OTHER", "data",
										   "payment_status", "UNPAID"));
	if (json_object_get(order, "request") != NULL)
		json_object_set_new(part, "items", json_deep_copy(json_object_get(json_object_get(order, "request"), "items")));
	return part;
}

static json_t *
claims_part(const json_t *order, const PaymobPayment *payment)
{
	const json_t *request = json_object_get(order, "request");
	const json_t *extras = json_object_get(request, "extras");
	json_t	   *claims = json_pack("{s:I, s:O, s:s, s:I, s:O, s:o, s:b, s:o, s:b}", "user_id", payment->owner,
								   "amount_cents", json_object_get(order, "amount_cents"), "currency", payment->currency,
								   "integration_id", payment->integration_id, "order_id", json_object_get(order, "id"),
								   "billing_data", billing_of(order), "lock_order_when_paid", 0,
								   "extra", extras != NULL ? json_deep_copy(extras) : json_object(), "single_payment_attempt", 0);
	static const char *const copied[] = {"notification_url", "redirection_url", NULL};

	for (int i = 0; copied[i] != NULL; i++)
		if (json_object_get(request, copied[i]) != NULL)
			json_object_set_new(claims, copied[i], json_deep_copy(json_object_get(request, copied[i])));
	if (json_object_get(order, "intention") != NULL)
		json_object_set_new(claims, "next_payment_intention", json_deep_copy(json_object_get(order, "intention")));
	json_object_set_new(claims, "exp", json_integer((json_int_t) time(NULL) + 3600));
	json_object_set_new(claims, "pmk_ip", json_string("127.0.0.1"));
	return claims;
}

static json_t *
billing_of(const json_t *order)
{
	static const char *const names[] = {"first_name", "last_name", "email", "phone_number", "street", "building", "floor",
	"apartment", "city", "state", "country", "postal_code", NULL};
	const json_t *sent = json_object_get(json_object_get(order, "request"), "billing_data");
	json_t	   *billing = json_object();

	for (int i = 0; names[i] != NULL; i++)
	{
		const json_t *value = json_object_get(sent, names[i]);

		json_object_set_new(billing, names[i], value != NULL ? json_deep_copy(value) : json_string("NA"));
	}
	return billing;
}

/* names: separated by spaces. */
static void
add_flags(json_t *transaction, const char *names, bool value)
{
	char		name[40];
	int			used;

	for (; sscanf(names, " %39s%n", name, &used) == 1; names += used)
		json_object_set_new(transaction, name, json_boolean(value));
}

bool
paymob_set(json_t *object, const char *path, const json_t *value)
{
	char		name[64];
	const char *dot;

	while ((dot = strchr(path, '.')) != NULL)
	{
		json_t	   *next;

		snprintf(name, sizeof name, "%.*s", (int) (dot - path), path);
		next = json_object_get(object, name);
		if (next == NULL || json_is_null(next))
			json_object_set_new(object, name, next = json_object());
		if (!json_is_object(next))
			return false;
		object = next;
		path = dot + 1;
	}
	return *path != '\0' && json_object_set_new(object, path, json_deep_copy(value)) == 0;
}

static const json_t *
get(const json_t *object, const char *path)
{
	char		name[64];
	const char *dot = strchr(path, '.');

	if (dot == NULL)
		return json_object_get(object, path);
	snprintf(name, sizeof name, "%.*s", (int) (dot - path), path);
	return get(json_object_get(object, name), dot + 1);
}

bool
paymob_callback(const json_t *transaction, const json_t *raw, const json_t *envelope, Buf *body, char hmac[129])
{
	json_t	   *copy = json_deep_copy(transaction);
	json_t	   *whole = json_pack("{s:s, s:o}", "type", "TRANSACTION", "obj", copy);
	Buf			text = {0};
	char	   *dump;
	const char *path;
	json_t	   *value;
	int			mark = 0;

	json_object_set_new(whole, "issuer_bank", json_null());
	json_object_set_new(whole, "transaction_processed_callback_responses",
						json_deep_copy(json_object_get(copy, "transaction_processed_callback_responses")));
	if (envelope != NULL)
		json_object_update_new(whole, json_deep_copy(envelope));
	add_signed(&text, transaction, raw);
	paymob_hmac(text.data ? text.data : "", text.len, hmac);
	buf_free(&text);

	json_object_foreach((json_t *) raw, path, value)
	{
		char		placeholder[32];
		json_t	   *string;

		snprintf(placeholder, sizeof placeholder, "@raw %d@", mark++);
		string = json_string(placeholder);
		if (!json_is_string(value) || !paymob_set(copy, path, string))
		{
			json_decref(string);
			json_decref(whole);
			return false;
		}
		json_decref(string);
	}
	dump = json_dumps(whole, JSON_COMPACT);
	json_decref(whole);
	if (dump == NULL)
		abort();
	put_raw(body, dump, raw);
	free(dump);
	return true;
}

/* Null and missing count as empty; numbers stand as they are written. */
static void
add_signed(Buf *text, const json_t *transaction, const json_t *raw)
{
	for (int i = 0; signed_paths[i] != NULL; i++)
	{
		const char *spelling = json_string_value(json_object_get(raw, signed_paths[i]));
		json_t	   *read;

		if (spelling == NULL)
		{
			add_value(text, get(transaction, signed_paths[i]));
			continue;
		}
		read = json_loads(spelling, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
		if (json_is_string(read) || json_is_null(read))
			add_value(text, read);
		else
			buf_puts(text, spelling);
		json_decref(read);
	}
}

static void
add_value(Buf *text, const json_t *value)
{
	if (json_is_string(value))
		buf_add(text, json_string_value(value), json_string_length(value));
	else if (json_is_integer(value))
		buf_printf(text, "%lld", (long long) json_integer_value(value));
	else if (json_is_boolean(value))
		buf_puts(text, json_is_true(value) ? "true" : "false");
	else if (value != NULL && !json_is_null(value))
	{
		char	   *dump = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);

		buf_puts(text, dump ? dump : "");
		free(dump);
	}
}

/* Each "@raw N@" becomes the Nth text of raw. */
static void
put_raw(Buf *body, const char *dump, const json_t *raw)
{
	const char *path;
	json_t	   *value;

	for (const char *mark; (mark = strstr(dump, "\"@raw ")) != NULL;)
	{
		int			wanted = atoi(mark + 6);
		int			at = 0;

		buf_add(body, dump, (size_t) (mark - dump));
		json_object_foreach((json_t *) raw, path, value)
			if (at++ == wanted)
				buf_puts(body, json_string_value(value));
		dump = strchr(mark + 1, '"') + 1;
	}
	buf_puts(body, dump);
}

void
paymob_hmac(const void *text, size_t len, char hex[129])
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned	size = 0;

	if (HMAC(EVP_sha512(), paymob_settings.hmac_secret, (int) strlen(paymob_settings.hmac_secret), text, len, digest, &size) == NULL || size != 64)
		abort();
	for (unsigned i = 0; i < size; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}
