/*
 * paymob_check.c: what Paymob refuses: credentials first, then the form of the
 * request.  Where its documentation leaves a case open the strict reading holds,
 * so that a client which passes here passes there.
 */
#include <string.h>
#include <strings.h>

#include "paymob.h"

#define NAME_CHARACTERS 50
#define DESCRIPTION_CHARACTERS 255

typedef struct Errors
{
	json_t	   *fields;			/* name -> [text, ...] */
} Errors;

static bool check_credentials(PaymobCall *call, Reply *reply);
static bool check_form(PaymobCall *call, Reply *reply);
static bool check_intention(const json_t *body, Reply *reply);
static void check_names(const json_t *object, const char *const *known, Errors *errors);
static void check_methods(const json_t *methods, Errors *errors);
static void check_items(const json_t *items, Errors *errors);
static void check_billing(const json_t *billing, Errors *errors);
static void check_url(const json_t *body, const char *name, Errors *errors);
static bool items_add_up(const json_t *body);
static void wrong(Errors *errors, const char *field, const char *text);
static size_t characters(const json_t *string);
static bool is_text(const json_t *value, size_t least, size_t most);
static const char *bearer(const char *authorization, const char *scheme);

bool
paymob_check(PaymobCall *call, Reply *reply)
{
	const char *method = call->route == PAYMOB_TRANSACTION ? "GET" : "POST";

	if (call->route == PAYMOB_NOWHERE)
	{
		reply->status = 404;
		pairs_add(&reply->headers, "Content-Type", "text/html; charset=utf-8");
		buf_puts(&reply->body, "<h1>Not Found</h1><p>The requested resource was not found on this server.</p>");
		return false;
	}
	if (strcmp(call->request->method, method) != 0)
	{
		paymob_detail(reply, 405, "Method \"%s\" not allowed.", call->request->method);
		return false;
	}
	return check_credentials(call, reply) && check_form(call, reply);
}

bool
paymob_integration_known(json_int_t id)
{
	for (int i = 0; i < paymob_settings.integration_count; i++)
		if (paymob_settings.integrations[i] == id)
			return true;
	return false;
}

static bool
check_credentials(PaymobCall *call, Reply *reply)
{
	const char *authorization = pairs_get(&call->request->headers, "authorization");
	const char *key = bearer(authorization, "Token");
	const char *token = bearer(authorization, "Bearer");
	const char *in_body = json_string_value(json_object_get(call->body, "auth_token"));

	if (call->route == PAYMOB_TOKEN)
		return true;			/* its key is in the body */
	if (call->route == PAYMOB_INTENTION)
	{
		if (key != NULL && *key != '\0' && (paymob_settings.secret_key == NULL || strcmp(key, paymob_settings.secret_key) == 0))
			return true;
		paymob_detail(reply, 401, "%s", key == NULL ? "Authentication credentials were not provided." : "Invalid token.");
		return false;
	}
	/* Either place will do; where both are used, both must be right. */
	if ((token == NULL && in_body == NULL) || (token != NULL && !paymob_token_good(token)) ||
		(in_body != NULL && !paymob_token_good(in_body)))
	{
		paymob_detail(reply, 401, "%s", token == NULL && in_body == NULL ? "Authentication credentials were not provided."
					  : "Token is invalid or expired.");
		return false;
	}
	return true;
}

static bool
check_form(PaymobCall *call, Reply *reply)
{
	const char *type = pairs_get(&call->request->headers, "content-type");
	const json_t *api_key = json_object_get(call->body, "api_key");
	const json_t *order = json_object_get(call->body, "order_id");
	const json_t *reference = json_object_get(call->body, "merchant_order_id");

	if (call->route == PAYMOB_TRANSACTION)
	{
		if (call->transaction_id <= 0)
			paymob_detail(reply, 404, "Not found.");
		return call->transaction_id > 0;
	}
	if (type == NULL || strncasecmp(type, "application/json", 16) != 0 || (type[16] != '\0' && type[16] != ';'))
	{
		paymob_detail(reply, 415, "Unsupported media type \"%s\" in request.", type ? type : "");
		return false;
	}
	if (!json_is_object(call->body))
	{
		paymob_detail(reply, 400, "JSON parse error - %s", call->parse_error ? call->parse_error : "not an object");
		return false;
	}
	if (call->route == PAYMOB_INTENTION)
		return check_intention(call->body, reply);
	if (call->route == PAYMOB_TOKEN)
	{
		if (!json_is_string(api_key) || json_object_size(call->body) != 1)
			paymob_reply(reply, 400, json_pack("{s:[s]}", "api_key", "This field is required, and no other."));
		else if (paymob_settings.api_key != NULL && strcmp(json_string_value(api_key), paymob_settings.api_key) != 0)
			paymob_detail(reply, 403, "incorrect credentials");
		else
			return true;
		return false;
	}
	if ((order == NULL) == (reference == NULL) || (order != NULL && !json_is_integer(order)) ||
		(reference != NULL && !is_text(reference, 1, 1000)))
	{
		paymob_reply(reply, 400, json_pack("{s:[s]}", "order_id", "One of order_id (integer) and merchant_order_id (text) is required."));
		return false;
	}
	return true;
}

static bool
check_intention(const json_t *body, Reply *reply)
{
	static const char *const known[] = {"amount", "currency", "payment_methods", "items", "billing_data", "extras",
	"special_reference", "expiration", "notification_url", "redirection_url", NULL};
	const json_t *amount = json_object_get(body, "amount");
	const json_t *currency = json_object_get(body, "currency");
	const json_t *reference = json_object_get(body, "special_reference");
	const json_t *expiration = json_object_get(body, "expiration");
	const json_t *extras = json_object_get(body, "extras");
	Errors		errors = {json_object()};
	const json_t *method;
	size_t		at;

	check_names(body, known, &errors);
	if (!json_is_integer(amount) || json_integer_value(amount) <= 0)
		wrong(&errors, "amount", "A valid positive integer is required.");
	if (!is_text(currency, 3, 3) || strspn(json_string_value(currency), "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != 3)
		wrong(&errors, "currency", "Three capital letters are required.");
	else if (strcmp(json_string_value(currency), paymob_settings.currency) != 0)
		wrong(&errors, "currency", "The currency is not the integration's.");
	if (reference != NULL && !is_text(reference, 1, 255))
		wrong(&errors, "special_reference", "Not a valid string.");
	else if (reference != NULL && paymob_reference_used(json_string_value(reference)))
		wrong(&errors, "special_reference", "An order with this reference exists already.");
	if (expiration != NULL && (!json_is_integer(expiration) || json_integer_value(expiration) <= 0))
		wrong(&errors, "expiration", "A valid positive integer is required.");
	if (extras != NULL && !json_is_object(extras))
		wrong(&errors, "extras", "Expected a dictionary.");
	check_methods(json_object_get(body, "payment_methods"), &errors);
	check_items(json_object_get(body, "items"), &errors);
	check_billing(json_object_get(body, "billing_data"), &errors);
	check_url(body, "notification_url", &errors);
	check_url(body, "redirection_url", &errors);
	if (json_object_size(errors.fields) > 0)
	{
		paymob_reply(reply, 400, errors.fields);
		return false;
	}
	json_decref(errors.fields);
	json_array_foreach(json_object_get(body, "payment_methods"), at, method)
		if (!paymob_integration_known(json_integer_value(method)))
		{
			paymob_detail(reply, 404, "Integration ID does not exist.");
			return false;
		}
	if (!items_add_up(body))
	{
		paymob_detail(reply, 406, "Sum of items amounts does not equal the amount.");
		return false;
	}
	return true;
}

/* The real service ignores a name that it does not know; a misspelt one shall not pass a test. */
static void
check_names(const json_t *object, const char *const *known, Errors *errors)
{
	const char *name;
	json_t	   *value;

	json_object_foreach((json_t *) object, name, value)
	{
		size_t		i = 0;

		while (known[i] != NULL && strcmp(known[i], name) != 0)
			i++;
		if (known[i] == NULL)
			wrong(errors, name, "Unknown field.");
		else if (json_is_null(value))
			wrong(errors, name, "This field may not be null.");
	}
}

static void
check_methods(const json_t *methods, Errors *errors)
{
	size_t		at;
	const json_t *method;

	if (!json_is_array(methods) || json_array_size(methods) == 0)
		wrong(errors, "payment_methods", "This list may not be empty.");
	json_array_foreach(methods, at, method)
		if (!json_is_integer(method))
			wrong(errors, "payment_methods", "A valid integer is required.");
}

static void
check_items(const json_t *items, Errors *errors)
{
	static const char *const known[] = {"name", "amount", "description", "quantity", NULL};
	size_t		at;
	const json_t *item;

	if (!json_is_array(items) || json_array_size(items) == 0)
		wrong(errors, "items", "This list may not be empty.");
	json_array_foreach(items, at, item)
	{
		const json_t *quantity = json_object_get(item, "quantity");
		const json_t *description = json_object_get(item, "description");

		if (!json_is_object(item))
		{
			wrong(errors, "items", "Expected a dictionary.");
			continue;
		}
		check_names(item, known, errors);
		if (!is_text(json_object_get(item, "name"), 1, NAME_CHARACTERS))
			wrong(errors, "items", "name: Ensure this field has no more than 50 characters.");
		if (!json_is_integer(json_object_get(item, "amount")) || json_integer_value(json_object_get(item, "amount")) <= 0)
			wrong(errors, "items", "amount: A valid positive integer is required.");
		/* Sources differ on whether a quantity multiplies. */
		if (quantity != NULL && (!json_is_integer(quantity) || json_integer_value(quantity) != 1))
			wrong(errors, "items", "quantity: only 1 is understood everywhere.");
		if (description != NULL && !is_text(description, 0, DESCRIPTION_CHARACTERS))
			wrong(errors, "items", "description: Not a valid string.");
	}
}

static void
check_billing(const json_t *billing, Errors *errors)
{
	static const char *const known[] = {"first_name", "last_name", "email", "phone_number", "apartment", "floor", "street",
	"building", "shipping_method", "postal_code", "city", "country", "state", NULL};

	if (!json_is_object(billing))
	{
		wrong(errors, "billing_data", "This field is required.");
		return;
	}
	check_names(billing, known, errors);
	for (int i = 0; known[i] != NULL; i++)
	{
		const json_t *value = json_object_get(billing, known[i]);

		if ((i < 4 && value == NULL) || (value != NULL && !is_text(value, 1, i == 2 ? 254 : NAME_CHARACTERS)))
			wrong(errors, "billing_data", known[i]);
	}
}

static void
check_url(const json_t *body, const char *name, Errors *errors)
{
	const json_t *url = json_object_get(body, name);
	const char *text = json_string_value(url);

	if (url != NULL && (!is_text(url, 10, 2000) || (strncmp(text, "http://", 7) != 0 && strncmp(text, "https://", 8) != 0) ||
						strpbrk(text, " \t\r\n\"<>") != NULL))
		wrong(errors, name, "Enter a valid URL.");
}

static bool
items_add_up(const json_t *body)
{
	json_int_t	sum = 0;
	size_t		at;
	const json_t *item;

	json_array_foreach(json_object_get(body, "items"), at, item)
		if (__builtin_add_overflow(sum, json_integer_value(json_object_get(item, "amount")), &sum))
			return false;
	return sum == json_integer_value(json_object_get(body, "amount"));
}

static void
wrong(Errors *errors, const char *field, const char *text)
{
	json_t	   *list = json_object_get(errors->fields, field);

	if (list == NULL)
		json_object_set_new(errors->fields, field, list = json_array());
	json_array_append_new(list, json_string(text));
}

static bool
is_text(const json_t *value, size_t least, size_t most)
{
	size_t		count = characters(value);

	return json_is_string(value) && count >= least && count <= most &&
		memchr(json_string_value(value), '\0', json_string_length(value)) == NULL;
}

static size_t
characters(const json_t *string)
{
	size_t		count = 0;

	for (size_t i = 0; i < json_string_length(string); i++)
		count += ((unsigned char) json_string_value(string)[i] & 0xC0) != 0x80;
	return count;
}

/* What follows "Token " or "Bearer "; NULL: another scheme, or none. */
static const char *
bearer(const char *authorization, const char *scheme)
{
	size_t		length = strlen(scheme);

	return authorization != NULL && strncmp(authorization, scheme, length) == 0 && authorization[length] == ' '
		? authorization + length + 1 : NULL;
}
