/*
 * paymob_control.c: /_control/paymob: makes things happen at "Paymob".
 *
 * {"do": one of the actions below, ...}. Each that changes a transaction answers
 * with the callback that Paymob would send: {order, transaction, body, hmac}.
 * A member that the action does not know is refused, as in scripts.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "paymob.h"

#define RENDER " set raw envelope "

static ActionFunction make_order, pay, complete, refund, void_it, capture, lapse, again, other,
	change_settings;

/* Each acts under the lock. */
static const Action actions[] = {
	{"order", " id amount_cents currency reference ", make_order},
	{"pay", " order reference outcome method auth id amount_cents currency integration_id owner created_at" RENDER, pay},
	{"complete", " transaction outcome" RENDER, complete},
	{"refund", " transaction amount_cents form flag id" RENDER, refund},
	{"void", " transaction form id" RENDER, void_it},
	{"capture", " transaction amount_cents form id" RENDER, capture},
	{"lapse", " transaction" RENDER, lapse},
	{"callback", " transaction responses" RENDER, again},
	{"other", " kind order ", other},
	{"settings", " token_seconds order_id transaction_id ", change_settings},
	{NULL, NULL, NULL}
};

static const MemberTypes member_types = {
	.numbers = " order transaction id amount_cents integration_id owner token_seconds order_id transaction_id ",
	.objects = RENDER,
	.booleans = " auth ",
	.any = " responses "
};

static json_t *find_order(const json_t *body, Buf *why);
static json_t *find_transaction(const json_t *body, Buf *why);
static json_t *make_child(json_t *parent, const json_t *body, json_int_t amount, const char *flag, Buf *why);
static json_t *parent_or_child(json_t *parent, json_t *child, const json_t *body, Buf *why);
static json_t *render(json_t *transaction, const json_t *body, Buf *why);
static bool set_outcome(json_t *transaction, const char *outcome, Buf *why);
static void set_flag(json_t *object, const char *name, bool value);

bool
paymob_control(const json_t *body, Buf *out)
{
	bool		done;

	paymob_lock();
	done = run_action(actions, &member_types, body, out);
	paymob_unlock();
	return done;
}

bool
paymob_control_show(const json_t *body, Buf *out)
{
	json_t	   *state;

	(void) body;
	paymob_lock();
	state = paymob_state_show();
	paymob_unlock();
	dump_json(state, out);
	return true;
}

/* An order that no call of the API made: for tests that write their own rows. */
static json_t *
make_order(const json_t *body, Buf *why)
{
	json_t	   *order = paymob_order_new(parameter_number(body, "id", 0), parameter_number(body, "amount_cents", 10000),
										 parameter_text(body, "currency", paymob_settings.currency), parameter_text(body, "reference", NULL));

	if (order == NULL)
		buf_puts(why, "this id or reference is taken");
	return order != NULL ? json_deep_copy(order) : NULL;
}

static json_t *
pay(const json_t *body, Buf *why)
{
	json_t	   *order = find_order(body, why);
	const char *method = parameter_text(body, "method", "card");
	PaymobPayment payment = {.method = method, .created_at = parameter_text(body, "created_at", NULL)};
	json_t	   *transaction;
	int			i = 0;

	if (order == NULL)
		return NULL;
	while (paymob_methods[i] != NULL && strcmp(paymob_methods[i], method) != 0)
		i++;
	if (paymob_methods[i] == NULL)
	{
		buf_printf(why, "no method is named \"%s\"", method);
		return NULL;
	}
	payment.id = parameter_number(body, "id", 0);
	if (payment.id == 0)
		payment.id = paymob_transaction_next();
	payment.amount = parameter_number(body, "amount_cents", json_integer_value(json_object_get(order, "amount_cents")));
	payment.currency = parameter_text(body, "currency", json_string_value(json_object_get(order, "currency")));
	payment.integration_id = parameter_number(body, "integration_id", paymob_settings.integrations[0]);
	payment.owner = parameter_number(body, "owner", paymob_settings.owner);
	transaction = paymob_transaction_make(order, &payment);
	set_flag(transaction, "is_auth", json_is_true(json_object_get(body, "auth")));
	/* A kiosk gives a reference number first: paid at the counter later. */
	if (!set_outcome(transaction, parameter_text(body, "outcome", strcmp(method, "kiosk") == 0 ? "pending" : "success"), why))
	{
		json_decref(transaction);
		return NULL;
	}
	if (!paymob_transaction_add(order, transaction))
	{
		buf_puts(why, "this transaction id is taken");
		return NULL;
	}
	return render(transaction, body, why);
}

/* The same transaction, decided. */
static json_t *
complete(const json_t *body, Buf *why)
{
	json_t	   *transaction = find_transaction(body, why);

	if (transaction == NULL)
		return NULL;
	if (!json_is_true(json_object_get(transaction, "pending")))
	{
		buf_puts(why, "this transaction is not pending");
		return NULL;
	}
	return set_outcome(transaction, parameter_text(body, "outcome", "success"), why) ? render(transaction, body, why) : NULL;
}

static json_t *
refund(const json_t *body, Buf *why)
{
	json_t	   *parent = find_transaction(body, why);
	json_int_t	paid = json_integer_value(json_object_get(parent, "amount_cents"));
	json_int_t	back = json_integer_value(json_object_get(parent, "refunded_amount_cents"));
	json_int_t	part = parameter_number(body, "amount_cents", paid - back);
	json_t	   *child;

	if (parent == NULL)
		return NULL;
	if (!json_is_true(json_object_get(parent, "success")) || json_is_true(json_object_get(parent, "is_voided")) || part <= 0 || part > paid - back)
	{
		buf_puts(why, "nothing was paid, or not so much is left");
		return NULL;
	}
	child = make_child(parent, body, part, "is_refund", why);
	if (child == NULL)
		return NULL;
	json_object_set_new(parent, "refunded_amount_cents", json_integer(back + part));
	/* Recorded live: with the first part. Elsewhere: when all is back. */
	if (strcmp(parameter_text(body, "flag", "first"), "first") == 0 || back + part == paid)
		set_flag(parent, "is_refunded", true);
	return parent_or_child(parent, child, body, why);
}

static json_t *
void_it(const json_t *body, Buf *why)
{
	json_t	   *parent = find_transaction(body, why);
	json_t	   *child;

	if (parent == NULL)
		return NULL;
	if (!json_is_true(json_object_get(parent, "success")) || json_is_true(json_object_get(parent, "is_voided")))
	{
		buf_puts(why, "nothing to void");
		return NULL;
	}
	child = make_child(parent, body, json_integer_value(json_object_get(parent, "amount_cents")), "is_void", why);
	if (child == NULL)
		return NULL;
	set_flag(parent, "is_voided", true);
	return parent_or_child(parent, child, body, why);
}

static json_t *
capture(const json_t *body, Buf *why)
{
	json_t	   *parent = find_transaction(body, why);
	json_int_t	amount = parameter_number(body, "amount_cents", json_integer_value(json_object_get(parent, "amount_cents")));
	json_t	   *child;

	if (parent == NULL)
		return NULL;
	if (!json_is_true(json_object_get(parent, "is_auth")) || amount <= 0 || amount > json_integer_value(json_object_get(parent, "amount_cents")))
	{
		buf_puts(why, "no authorization of so much");
		return NULL;
	}
	child = make_child(parent, body, amount, "is_capture", why);
	if (child == NULL)
		return NULL;
	set_flag(parent, "is_captured", true);
	json_object_set_new(parent, "captured_amount", json_integer(amount));
	return parent_or_child(parent, child, body, why);
}

/* A kiosk reference that nobody paid. */
static json_t *
lapse(const json_t *body, Buf *why)
{
	json_t	   *transaction = find_transaction(body, why);

	if (transaction == NULL)
		return NULL;
	set_flag(transaction, "pending", false);
	set_flag(transaction, "is_voided", true);
	return render(transaction, body, why);
}

/* The callback once more, as the transaction is now. A later one may hold our earlier answers. */
static json_t *
again(const json_t *body, Buf *why)
{
	json_t	   *transaction = find_transaction(body, why);

	if (transaction != NULL && json_object_get(body, "responses") != NULL)
		json_object_set_new(transaction, "transaction_processed_callback_responses", json_deep_copy(json_object_get(body, "responses")));
	return transaction != NULL ? render(transaction, body, why) : NULL;
}

/* What else comes to the same URL: with its own signature, and never about money. */
static json_t *
other(const json_t *body, Buf *why)
{
	const char *kind = parameter_text(body, "kind", "TOKEN");
	json_int_t	order = parameter_number(body, "order", 264064419);
	char		joined[512];
	char		digest[129];
	json_t	   *made = NULL;
	json_t	   *answer;
	char	   *dump;

	if (strcmp(kind, "TOKEN") == 0)
	{
		made = json_pack("{s:s, s:{s:i, s:s, s:s, s:i, s:s, s:s, s:s, s:s, s:n}}", "type", kind, "obj", "id", 10463586,
						 "token", "e98aceb96f5a370ddc7646d23d9a2fd0", "masked_pan", "xxxx-xxxx-xxxx-2346", "merchant_id", 164295,
						 "card_subtype", "MasterCard", "created_at", "2024-11-13T12:32:23.859982", "email", "buyer@example.com",
						 "order_id", "", "user_added");
		snprintf(joined, sizeof joined, "%lld", (long long) order);
		json_object_set_new(json_object_get(made, "obj"), "order_id", json_string(joined));
		snprintf(joined, sizeof joined, "MasterCard2024-11-13T12:32:23.859982buyer@example.com10463586xxxx-xxxx-xxxx-2346164295%llde98aceb96f5a370ddc7646d23d9a2fd0",
				 (long long) order);
		paymob_hmac(joined, strlen(joined), digest);
	}
	else if (strcmp(kind, "subscription") == 0)
	{
		snprintf(joined, sizeof joined, "Successful Transactionfor%d", 1264);
		paymob_hmac(joined, strlen(joined), digest);
		made = json_pack("{s:s, s:{s:i, s:s, s:i, s:{s:s, s:s, s:s}}, s:I, s:s}", "trigger_type", "Successful Transaction",
						 "subscription_data", "id", 1264, "state", "active", "amount_cents", 10000, "client_info",
						 "full_name", "A Buyer", "email", "buyer@example.com", "phone_number", "+201000000000",
						 "transaction_id", (json_int_t) 241588374, "hmac", digest);
	}
	else if (strcmp(kind, "DELIVERY_STATUS") == 0)
	{
		made = json_pack("{s:s, s:{s:I, s:s, s:i}}", "type", kind, "obj", "order_id", order, "order_delivery_status", "Delivered", "merchant_id", 164295);
		paymob_hmac("Delivered", 9, digest);
	}
	else if (strcmp(kind, "flash") == 0)
	{
		snprintf(joined, sizeof joined, "100.00pi_test_flash");
		paymob_hmac(joined, strlen(joined), digest);
		made = json_pack("{s:{s:s, s:s, s:{s:s}}, s:{s:i, s:b}, s:s}", "intention", "id", "pi_test_flash", "amount", "100.00",
						 "extras", "creation_extras", "", "transaction", "id", 241588374, "success", 1, "hmac", digest);
	}
	else
	{
		buf_puts(why, "kind is TOKEN, subscription, DELIVERY_STATUS or flash");
		return NULL;
	}
	dump = json_dumps(made, JSON_COMPACT);
	answer = json_pack("{s:s, s:s}", "body", dump, "hmac", digest);
	free(dump);
	json_decref(made);
	return answer;
}

static json_t *
change_settings(const json_t *body, Buf *why)
{
	(void) why;
	paymob_settings.token_seconds = (int) parameter_number(body, "token_seconds", paymob_settings.token_seconds);
	paymob_ids(parameter_number(body, "order_id", 0), parameter_number(body, "transaction_id", 0));
	return json_pack("{s:i}", "token_seconds", (int) paymob_settings.token_seconds);
}

static json_t *
find_order(const json_t *body, Buf *why)
{
	const char *reference = parameter_text(body, "reference", NULL);
	json_t	   *order = reference != NULL ? paymob_order_by_reference(reference) : paymob_order_find(parameter_number(body, "order", 0));

	if (order == NULL)
		buf_puts(why, "no such order");
	return order;
}

static json_t *
find_transaction(const json_t *body, Buf *why)
{
	json_t	   *transaction = paymob_transaction_find(parameter_number(body, "transaction", 0));

	if (transaction == NULL)
		buf_puts(why, "no such transaction");
	return transaction;
}

/* A transaction of its own about part of another; it becomes the order's last one. */
static json_t *
make_child(json_t *parent, const json_t *body, json_int_t amount, const char *flag, Buf *why)
{
	json_t	   *order = paymob_order_find(json_integer_value(json_object_get(json_object_get(parent, "order"), "id")));
	json_t	   *child = json_deep_copy(parent);
	json_int_t	id = parameter_number(body, "id", 0);
	const char *form = parameter_text(body, "form", "parent");
	const char *when = parameter_text(body, "flag", "first");
	char		now[40];

	if ((strcmp(form, "parent") != 0 && strcmp(form, "child") != 0) || (strcmp(when, "first") != 0 && strcmp(when, "last") != 0))
	{
		buf_puts(why, "form is parent or child, flag is first or last");
		json_decref(child);
		return NULL;
	}
	paymob_now(now);
	json_object_set_new(child, "id", json_integer(id > 0 ? id : paymob_transaction_next()));
	json_object_set_new(child, "amount_cents", json_integer(amount));
	json_object_set_new(child, "created_at", json_string(now));
	json_object_set_new(child, "parent_transaction", json_integer(json_integer_value(json_object_get(parent, "id"))));
	json_object_set_new(child, "refunded_amount_cents", json_integer(0));
	json_object_set_new(child, "captured_amount", json_integer(0));
	set_flag(child, "has_parent_transaction", true);
	set_flag(child, "is_standalone_payment", false);
	set_flag(child, "is_auth", false);
	set_flag(child, "is_refunded", false);
	set_flag(child, flag, true);
	if (!paymob_transaction_add(order, child))
	{
		buf_puts(why, "this transaction id is taken");
		return NULL;
	}
	return child;
}

/* Both callbacks, and above them the one that the form names. */
static json_t *
parent_or_child(json_t *parent, json_t *child, const json_t *body, Buf *why)
{
	bool		is_child = strcmp(parameter_text(body, "form", "parent"), "child") == 0;
	json_t	   *chosen = render(is_child ? child : parent, body, why);
	json_t	   *unchosen = chosen != NULL ? render(is_child ? parent : child, NULL, why) : NULL;
	json_t	   *copy = json_deep_copy(chosen);

	if (chosen == NULL)
		return NULL;
	json_object_set_new(chosen, is_child ? "child" : "parent", copy);
	json_object_set_new(chosen, is_child ? "parent" : "child", unchosen);
	return chosen;
}

/* set stays with the transaction, raw and envelope are of this one callback. */
static json_t *
render(json_t *transaction, const json_t *body, Buf *why)
{
	const char *path;
	json_t	   *value;
	Buf			bytes = {0};
	char		hmac[129];
	json_t	   *answer;

	json_object_foreach(json_object_get(body, "set"), path, value)
		if (!paymob_set(transaction, path, value))
		{
			buf_printf(why, "set: no place for \"%s\"", path);
			return NULL;
		}
	if (!paymob_callback(transaction, json_object_get(body, "raw"), json_object_get(body, "envelope"), &bytes, hmac))
	{
		buf_puts(why, "raw takes paths with JSON as text");
		return NULL;
	}
	answer = json_pack("{s:O, s:O, s:o, s:s}", "order", json_object_get(json_object_get(transaction, "order"), "id"),
					   "transaction", json_object_get(transaction, "id"), "body", json_stringn(bytes.data, bytes.len), "hmac", hmac);
	buf_free(&bytes);
	if (answer == NULL)
		buf_puts(why, "the order lost its id, or the body is not UTF-8");
	return answer;
}

static bool
set_outcome(json_t *transaction, const char *outcome, Buf *why)
{
	bool		success = strcmp(outcome, "success") == 0;
	bool		pending = strcmp(outcome, "pending") == 0;
	bool		failed = strcmp(outcome, "error") == 0;
	json_t	   *order = json_object_get(transaction, "order");
	json_t	   *data = json_object_get(transaction, "data");

	if (!success && !pending && !failed && strcmp(outcome, "decline") != 0)
	{
		buf_printf(why, "outcome is success, decline, pending or error, not \"%s\"", outcome);
		return false;
	}
	set_flag(transaction, "success", success);
	set_flag(transaction, "pending", pending);
	set_flag(transaction, "error_occured", failed);
	json_object_set_new(data, "txn_response_code", json_string(success ? "APPROVED" : pending ? "PENDING" : "DECLINED"));
	json_object_set_new(data, "message", json_string(success ? "Approved" : pending ? "Pending" : "Do not honour"));
	if (success)
	{
		json_object_set_new(order, "paid_amount_cents", json_integer(json_integer_value(json_object_get(transaction, "amount_cents"))));
		json_object_set_new(order, "payment_status", json_string("PAID"));
	}
	return true;
}

static void
set_flag(json_t *object, const char *name, bool value)
{
	json_object_set_new(object, name, json_boolean(value));
}
