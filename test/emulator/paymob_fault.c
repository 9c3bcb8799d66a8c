/*
 * paymob_fault.c: the scripted faults of the Paymob service (README.md tells the parameters).
 *
 * Some faults lose or bend an answer to a call that did its work, as a network
 * does: an order exists at Paymob then, and can be paid. "processed": false
 * makes them lose the call instead. Errors are the other way round.
 * What is not in the tables here may be in that of common_fault.c.
 */
#include <string.h>

#include "common_fault.h"
#include "paymob.h"

typedef void PaymobAct(PaymobCall *call, const json_t *parameters, Reply *reply);

typedef struct Fault
{
	const char *name;
	const char *kind;			/* of the call; NULL: any */
	bool		works;			/* does the call do its work, unless "processed" says otherwise? */
	PaymobAct  *act;			/* the good answer, if there is one, is in the reply */
} Fault;

typedef struct PlainError
{
	const char *name;
	int			status;
	const char *detail;
} PlainError;

static PaymobAct keep, edit, other_amount, other_currency, other_reference, other_status,
	odd_secret, expire, huge, deep, echo_key;

static const PlainError plain_errors[] = {
	{"bad_request", 400, "Bad request."},
	{"auth_401", 401, "Invalid token."},
	{"auth_403", 403, "You do not have permission to perform this action."},
	{"not_found", 404, "Not found."},
	{"rate_limited", 429, "Request was throttled. Expected available in 30 seconds."},
	{"internal", 500, "Internal server error."},
	{"unavailable", 503, "Service unavailable."},
	{"deadline", 504, "Gateway timeout."},
	{NULL, 0, NULL}
};

static const Fault faults[] = {
	{"ok", NULL, true, keep},
	{"slow_ok", NULL, true, keep},
	{"edit", NULL, true, edit},
	{"other_amount", "intention", true, other_amount},
	{"other_currency", "intention", true, other_currency},
	{"other_reference", "intention", true, other_reference},
	{"other_status", NULL, true, other_status},
	{"odd_secret", "intention", true, odd_secret},
	{"expire", NULL, false, expire},
	{"echo_key", NULL, false, echo_key},
	{"huge_body", NULL, true, huge},
	{"deep_json", NULL, true, deep},
	{NULL, NULL, false, NULL}
};

static void write_made(PaymobCall *call, Reply *reply);

bool
paymob_knows_fault(const char *name)
{
	return find_named(plain_errors, sizeof *plain_errors, name) != NULL || find_named(faults, sizeof *faults, name) != NULL ||
		common_fault(name) != NULL;
}

void
paymob_fault(PaymobCall *call, const json_t *parameters, Reply *reply)
{
	const char *name = parameter_text(parameters, "fault", "");
	const PlainError *error = find_named(plain_errors, sizeof *plain_errors, name);
	const Fault *fault = find_named(faults, sizeof *faults, name);
	const CommonFault *common = common_fault(name);

	reply->delay_ms = fault_delay(parameters);
	if ((error == NULL && fault == NULL && common == NULL) || (fault != NULL && fault->kind != NULL && strcmp(fault->kind, call->kind) != 0))
	{
		reply->fault = "unfit";
		paymob_detail(reply, 418, "The scripted fault %s does not fit a Paymob call of kind %s.", name, call->kind);
		return;
	}
	reply->fault = error != NULL ? error->name : fault != NULL ? fault->name : common->name;
	if (fault_works(parameters, fault != NULL ? fault->works : common != NULL && common->works))
		paymob_good(call, reply);
	if (error != NULL)
	{
		fault_clear(reply);
		paymob_detail(reply, (int) parameter_number(parameters, "status", error->status), "%s",
					  parameter_text(parameters, "message", error->detail));
	}
	else if (fault != NULL)
		fault->act(call, parameters, reply);
	else
	{
		/* The network loses some answer, also to a call that did nothing. */
		if (common->delivery != DELIVER_CHUNKED && reply->body.len == 0)
			paymob_detail(reply, 500, "Internal server error.");
		common_fault_act(common, parameters, reply);
	}
}

/* ---- answers that are not what was asked ---- */

static void
keep(PaymobCall *call, const json_t *parameters, Reply *reply)
{
	(void) call;
	reply->status = (int) parameter_number(parameters, "status", reply->status);
}

/* set {path: value}, drop [path, ...]: of the good answer. */
static void
edit(PaymobCall *call, const json_t *parameters, Reply *reply)
{
	const char *path;
	json_t	   *value;
	size_t		at;

	if (call->made == NULL)
		return;
	json_object_foreach(json_object_get(parameters, "set"), path, value)
		paymob_set(call->made, path, value);
	json_array_foreach(json_object_get(parameters, "drop"), at, value)
	{
		const char *name = json_string_value(value);
		const char *dot = name ? strchr(name, '.') : NULL;
		char		outer[64];

		if (name == NULL)
			continue;
		snprintf(outer, sizeof outer, "%.*s", dot ? (int) (dot - name) : 0, name);
		json_object_del(dot ? json_object_get(call->made, outer) : call->made, dot ? dot + 1 : name);
	}
	reply->status = (int) parameter_number(parameters, "status", reply->status);
	write_made(call, reply);
}

static void
other_amount(PaymobCall *call, const json_t *parameters, Reply *reply)
{
	json_t	   *detail = json_object_get(call->made, "intention_detail");
	json_int_t	amount = json_integer_value(json_object_get(detail, "amount"));

	json_object_set_new(detail, "amount", json_integer(parameter_number(parameters, "amount_cents", amount + 1)));
	write_made(call, reply);
}

static void
other_currency(PaymobCall *call, const json_t *parameters, Reply *reply)
{
	json_object_set_new(json_object_get(call->made, "intention_detail"), "currency", json_string(parameter_text(parameters, "text", "USD")));
	write_made(call, reply);
}

static void
other_reference(PaymobCall *call, const json_t *parameters, Reply *reply)
{
	json_object_set_new(call->made, "special_reference", json_string(parameter_text(parameters, "text", "somebody-elses-order")));
	write_made(call, reply);
}

static void
other_status(PaymobCall *call, const json_t *parameters, Reply *reply)
{
	(void) call;
	reply->status = (int) parameter_number(parameters, "status", reply->status == 201 ? 200 : 202);
}

/* A client secret with all that a URL gives a meaning to; the order keeps it. */
static void
odd_secret(PaymobCall *call, const json_t *parameters, Reply *reply)
{
	json_t	   *secret = json_string(parameter_text(parameters, "text", "egy_csk_a+b/c=d&e?f#g%41 h"));

	paymob_lock();
	json_object_set_new(paymob_order_find(json_integer_value(json_object_get(call->made, "intention_order_id"))),
						"client_secret", json_deep_copy(secret));
	paymob_unlock();
	json_object_set_new(call->made, "client_secret", secret);
	write_made(call, reply);
}

/* As if the token (or key) had ended in the middle. */
static void
expire(PaymobCall *call, const json_t *parameters, Reply *reply)
{
	(void) call;
	(void) parameters;
	fault_clear(reply);
	paymob_detail(reply, 401, "Token is invalid or expired.");
}

/* The key that was sent, twice in the error: to see that a client scrubs it. */
static void
echo_key(PaymobCall *call, const json_t *parameters, Reply *reply)
{
	const char *authorization = pairs_get(&call->request->headers, "authorization");
	const char *key = json_string_value(json_object_get(call->body, "api_key"));

	if (key == NULL && authorization != NULL && strchr(authorization, ' ') != NULL)
		key = strchr(authorization, ' ') + 1;
	fault_clear(reply);
	paymob_detail(reply, (int) parameter_number(parameters, "status", 403), "The key %s may not be used (%s).", key ? key : "", key ? key : "");
}

/* The good answer with a member of so many megabytes more. */
static void
huge(PaymobCall *call, const json_t *parameters, Reply *reply)
{
	(void) call;
	if (reply->body.len > 0 && reply->body.data[reply->body.len - 1] == '}')
		reply->body.len--;
	else
		buf_puts(&reply->body, "{\"detail\":\"Not found.\"");
	buf_puts(&reply->body, ",\"note\":\"");
	fault_fill(parameters, "\"}", reply);
}

static void
deep(PaymobCall *call, const json_t *parameters, Reply *reply)
{
	(void) call;
	fault_nest(parameters, "{\"intention_detail\":", "}", reply);
}

static void
write_made(PaymobCall *call, Reply *reply)
{
	int			status = reply->status;

	if (call->made == NULL)
		return;
	fault_clear(reply);
	paymob_reply(reply, status, json_deep_copy(call->made));
}
