/*
 * paymob_callback.c: reads Paymob's callbacks: bytes in, structs out. What they
 * are worth is paymob_event.c.
 *
 * Rules.  The parser is PostgreSQL's, which hands over every key and the raw text
 * of every number: 1e2 is not 100 here, and a key that comes twice is seen.  What
 * may be signed is read strictly: one form for each field, no second spelling of
 * a value.  Paymob signs a concatenation without separators, so each form that is
 * not taken is a cut of the same text that cannot be made.  What is not signed
 * and not used may be anything that is JSON.
 *
 * Bodies are cleaned first (json.h: broken characters become U+FFFD), so that a
 * paid event is read whatever the buyer typed as his name.  The digest is made
 * over what was read, never over the body: a signed text that cleaning changed
 * no longer has the digest that Paymob sent.
 *
 * The parser may throw when memory is out.  While it runs, everything that this
 * file holds is palloc'd; what is handed out is malloc'd afterwards, by code that
 * cannot throw.  Its recursion is bounded before it starts.
 *
 * Built with FRONTEND it needs no server: so the unit test and the fuzzer do it.
 */
#include "compat.h"

#include "common/jsonapi.h"
#include "mb/pg_wchar.h"

#include "json.h"
#include "paymob_callback.h"


/* Where in the body a key stands. */
typedef enum Place { ELSEWHERE = 0, IN_ROOT, IN_OBJ, IN_ORDER, IN_SOURCE } Place;

/* What a field may hold; null and missing may stand in each of them. */
typedef enum Form
{
	/* signed, or on the way to what is signed: anything else is refused */
	FORM_ID, FORM_AMOUNT, FORM_CURRENCY, FORM_DATE, FORM_BOOLEAN, FORM_TEXT, FORM_OBJECT,
	/* not signed: anything else counts as absent */
	FORM_LOOSE_INTEGER, FORM_LOOSE_BOOLEAN, FORM_LOOSE_TEXT, FORM_NAME,
	/* only its presence is asked for; it may come twice */
	FORM_MARKER
} Form;

typedef struct Field
{
	Place		place;
	const char *key;
	Form		form;
	size_t		offset;			/* in PaymobTransaction */
	Place		inner;			/* of FORM_OBJECT */
} Field;

#define SIGNED_FIELDS 20		/* the first ones below, in the order in which they are signed */

enum { FIELD_OBJ = SIGNED_FIELDS, FIELD_TYPE, FIELD_INTENTION, FIELD_TRANSACTION, FIELD_TRIGGER, FIELD_SUBSCRIPTION };

#define VALUE(place, key, form, member) {place, key, form, offsetof(PaymobTransaction, member), ELSEWHERE}
#define CONTAINER(place, key, inner) {place, key, FORM_OBJECT, 0, inner}

static const Field fields[] = {
	VALUE(IN_OBJ, "amount_cents", FORM_AMOUNT, amount_text),
	VALUE(IN_OBJ, "created_at", FORM_DATE, created_at),
	VALUE(IN_OBJ, "currency", FORM_CURRENCY, currency),
	VALUE(IN_OBJ, "error_occured", FORM_BOOLEAN, error_occured),
	VALUE(IN_OBJ, "has_parent_transaction", FORM_BOOLEAN, has_parent_transaction),
	VALUE(IN_OBJ, "id", FORM_ID, id),
	VALUE(IN_OBJ, "integration_id", FORM_ID, integration_id),
	VALUE(IN_OBJ, "is_3d_secure", FORM_BOOLEAN, is_3d_secure),
	VALUE(IN_OBJ, "is_auth", FORM_BOOLEAN, is_auth),
	VALUE(IN_OBJ, "is_capture", FORM_BOOLEAN, is_capture),
	VALUE(IN_OBJ, "is_refunded", FORM_BOOLEAN, is_refunded),
	VALUE(IN_OBJ, "is_standalone_payment", FORM_BOOLEAN, is_standalone_payment),
	VALUE(IN_OBJ, "is_voided", FORM_BOOLEAN, is_voided),
	VALUE(IN_ORDER, "id", FORM_ID, order_id),
	VALUE(IN_OBJ, "owner", FORM_ID, owner),
	VALUE(IN_OBJ, "pending", FORM_BOOLEAN, pending),
	VALUE(IN_SOURCE, "pan", FORM_TEXT, source_pan),
	VALUE(IN_SOURCE, "sub_type", FORM_TEXT, source_sub_type),
	VALUE(IN_SOURCE, "type", FORM_TEXT, source_type),
	VALUE(IN_OBJ, "success", FORM_BOOLEAN, success),
	/* here the signed ones end */
	[FIELD_OBJ] = CONTAINER(IN_ROOT, "obj", IN_OBJ),
	[FIELD_TYPE] = {IN_ROOT, "type", FORM_NAME, 0, ELSEWHERE},
	[FIELD_INTENTION] = {IN_ROOT, "intention", FORM_MARKER, 0, ELSEWHERE},
	[FIELD_TRANSACTION] = {IN_ROOT, "transaction", FORM_MARKER, 0, ELSEWHERE},
	[FIELD_TRIGGER] = {IN_ROOT, "trigger_type", FORM_MARKER, 0, ELSEWHERE},
	[FIELD_SUBSCRIPTION] = {IN_ROOT, "subscription_data", FORM_MARKER, 0, ELSEWHERE},
	CONTAINER(IN_OBJ, "order", IN_ORDER),
	CONTAINER(IN_OBJ, "source_data", IN_SOURCE),
	VALUE(IN_OBJ, "is_refund", FORM_LOOSE_BOOLEAN, is_refund),
	VALUE(IN_OBJ, "is_void", FORM_LOOSE_BOOLEAN, is_void),
	VALUE(IN_OBJ, "refunded_amount_cents", FORM_LOOSE_INTEGER, refunded_amount_cents),
	VALUE(IN_OBJ, "captured_amount", FORM_LOOSE_INTEGER, captured_amount),
	VALUE(IN_OBJ, "parent_transaction", FORM_LOOSE_INTEGER, parent_transaction),
	VALUE(IN_ORDER, "merchant_order_id", FORM_LOOSE_TEXT, merchant_order_id),
};

#define FIELDS ((int) (sizeof(fields) / sizeof(fields[0])))
#define NO_FIELD (-1)

typedef enum Shape { SHAPE_MISSING = 0, SHAPE_NULL, SHAPE_FALSE, SHAPE_TRUE, SHAPE_NUMBER, SHAPE_STRING, SHAPE_OBJECT, SHAPE_ARRAY } Shape;

typedef struct Value
{
	Shape		shape;
	char	   *text;			/* of a number as it stands, of a string unescaped: palloc'd, else NULL */
} Value;

/* What the parser's actions know. */
typedef struct Reading
{
	Place		root;			/* what the outermost object is */
	bool		root_is_object;
	bool		duplicate;		/* some key of the table came twice */
	int			field;			/* whose value comes next, or NO_FIELD */
	int			depth;
	Place		places[SPARKY_PAYMOB_MAX_DEPTH + 1];	/* of the containers that are open */
	Value		values[FIELDS];
} Reading;

static PaymobKind read_body(const char *body, size_t length, Place root, PaymobCallback *out, char *why, size_t why_size);
static const char *parse_body(Reading *reading, const char *body, size_t length);
static bool parse(Reading *reading, char *text, size_t length);
static void forget_values(Reading *reading);

SPARKY_JSON_ACTION object_start(void *state);
SPARKY_JSON_ACTION array_start(void *state);
SPARKY_JSON_ACTION container_end(void *state);
SPARKY_JSON_ACTION field_start(void *state, char *key, bool is_null);
SPARKY_JSON_ACTION field_end(void *state, char *key, bool is_null);
SPARKY_JSON_ACTION scalar(void *state, char *token, JsonTokenType type);
static void enter(Reading *reading, Shape shape, Place place);

static const char *name_of_other(const Reading *reading);
static const char *keep_transaction(const Reading *reading, PaymobCallback *out);
static bool fits(Form form, const Value *value);
static bool keep_value(const Field *field, const Value *value, PaymobTransaction *transaction);
static bool plain_integer(const char *text);
static bool read_int64(const char *text, int64_t *number);
static bool is_date(const char *text);

/* ---- from bytes to a callback ---- */

PaymobKind
sparky_paymob_read(const char *body, size_t length, PaymobCallback *out, char *why, size_t why_size)
{
	return read_body(body, length, IN_ROOT, out, why, why_size);
}

PaymobKind
sparky_paymob_read_transaction(const char *body, size_t length, PaymobCallback *out, char *why, size_t why_size)
{
	return read_body(body, length, IN_OBJ, out, why, why_size);
}

void
sparky_paymob_callback_free(PaymobCallback *callback)
{
	free(callback->signed_text);
	free(callback->transaction.source_type);
	free(callback->transaction.source_sub_type);
	free(callback->transaction.source_pan);
	free(callback->transaction.merchant_order_id);
	memset(callback, 0, sizeof(*callback));
}

static PaymobKind
read_body(const char *body, size_t length, Place root, PaymobCallback *out, char *why, size_t why_size)
{
	Reading		reading;
	const char *trouble;
	const Value *type = &reading.values[FIELD_TYPE];

	memset(out, 0, sizeof(*out));
	memset(&reading, 0, sizeof(reading));
	reading.root = root;
	reading.field = NO_FIELD;

	trouble = parse_body(&reading, body, length);
	/* From here on nothing throws. */
	if (trouble == NULL && (root == IN_OBJ || (type->shape == SHAPE_STRING && strcmp(type->text, "TRANSACTION") == 0)))
	{
		if (root == IN_ROOT && reading.values[FIELD_OBJ].shape != SHAPE_OBJECT)
			trouble = "the transaction has no obj";
		else
			trouble = keep_transaction(&reading, out);
		if (trouble == NULL)
		{
			out->kind = PAYMOB_TRANSACTION;
			out->type = "TRANSACTION";
		}
	}
	else if (trouble == NULL)
	{
		out->type = name_of_other(&reading);
		if (out->type != NULL)
			out->kind = PAYMOB_OTHER;
		else
			trouble = "the type is missing";
	}
	forget_values(&reading);
	if (trouble != NULL)
		sparky_paymob_callback_free(out);
	if (why_size > 0)
		snprintf(why, why_size, "%s", trouble != NULL ? trouble : "");
	return out->kind;
}

/* NULL if it was read, else what is wrong with it. */
static const char *
parse_body(Reading *reading, const char *body, size_t length)
{
	JsonText	clean = {0};
	char	   *text;
	size_t		clean_length;
	bool		parsed;

	if (length > SPARKY_PAYMOB_MAX_BODY)
		return "the body is too large";
	sparky_json_clean(&clean, body, length);
	if (clean.failed || clean.data == NULL || sparky_json_too_deep(clean.data, clean.length, SPARKY_PAYMOB_MAX_DEPTH))
	{
		const char *trouble = clean.failed ? "out of memory" : clean.data == NULL ? "the body is empty" : "the body has too many levels";

		sparky_json_text_free(&clean);
		return trouble;
	}

	/* The parser may throw, and then only what is palloc'd is freed. */
	clean_length = clean.length;
	text = palloc_extended(clean_length + 1, MCXT_ALLOC_NO_OOM);
	if (text != NULL)
		memcpy(text, clean.data, clean_length + 1);
	sparky_json_text_free(&clean);
	if (text == NULL)
		return "out of memory";
	parsed = parse(reading, text, clean_length);
	pfree(text);

	if (!parsed)
		return "the body is not JSON";
	if (!reading->root_is_object)
		return "the body is not a JSON object";
	return reading->duplicate ? "a key comes twice" : NULL;
}

static bool
parse(Reading *reading, char *text, size_t length)
{
	JsonLexContext *lexer = SPARKY_JSON_LEXER(text, length, PG_UTF8);
	JsonSemAction actions = {
		.semstate = reading,
		.object_start = object_start,
		.object_end = container_end,
		.array_start = array_start,
		.array_end = container_end,
		.object_field_start = field_start,
		.object_field_end = field_end,
		.scalar = scalar,
	};
	bool		parsed = pg_parse_json(lexer, &actions) == JSON_SUCCESS;

	SPARKY_JSON_LEXER_FREE(lexer);
	return parsed;
}

static void
forget_values(Reading *reading)
{
	for (int i = 0; i < FIELDS; i++)
	{
		if (reading->values[i].text != NULL)
			pfree(reading->values[i].text);
	}
}

/* ---- the parser's actions ---- */

SPARKY_JSON_ACTION
object_start(void *state)
{
	Reading    *reading = state;

	if (reading->depth == 0)
		reading->root_is_object = true;
	enter(reading, SHAPE_OBJECT, reading->depth == 0 ? reading->root :
		  reading->field != NO_FIELD ? fields[reading->field].inner : ELSEWHERE);
	SPARKY_JSON_GO_ON;
}

SPARKY_JSON_ACTION
array_start(void *state)
{
	enter(state, SHAPE_ARRAY, ELSEWHERE);
	SPARKY_JSON_GO_ON;
}

SPARKY_JSON_ACTION
container_end(void *state)
{
	((Reading *) state)->depth--;
	SPARKY_JSON_GO_ON;
}

SPARKY_JSON_ACTION
field_start(void *state, char *key, bool is_null)
{
	Reading    *reading = state;
	Place		place = reading->places[reading->depth];

	reading->field = NO_FIELD;
	for (int i = 0; i < FIELDS && place != ELSEWHERE; i++)
	{
		if (fields[i].place != place || strcmp(fields[i].key, key) != 0)
			continue;
		if (reading->values[i].shape == SHAPE_MISSING)
			reading->field = i;
		else if (fields[i].form != FORM_MARKER)
			reading->duplicate = true;
		break;
	}
	SPARKY_JSON_GO_ON;
}

SPARKY_JSON_ACTION
field_end(void *state, char *key, bool is_null)
{
	((Reading *) state)->field = NO_FIELD;
	pfree(key);
	SPARKY_JSON_GO_ON;
}

SPARKY_JSON_ACTION
scalar(void *state, char *token, JsonTokenType type)
{
	Reading    *reading = state;
	Value	   *value = reading->field != NO_FIELD ? &reading->values[reading->field] : NULL;

	if (value != NULL)
	{
		value->shape = type == JSON_TOKEN_STRING ? SHAPE_STRING : type == JSON_TOKEN_NUMBER ? SHAPE_NUMBER :
			type == JSON_TOKEN_TRUE ? SHAPE_TRUE : type == JSON_TOKEN_FALSE ? SHAPE_FALSE : SHAPE_NULL;
		value->text = token;
	}
	else
		pfree(token);
	SPARKY_JSON_GO_ON;
}

/* Inside, no field is waited for before the next key. */
static void
enter(Reading *reading, Shape shape, Place place)
{
	if (reading->field != NO_FIELD)
		reading->values[reading->field].shape = shape;
	reading->field = NO_FIELD;
	reading->places[++reading->depth] = place;
}

/* ---- what it is ---- */

/* NULL: nothing that Paymob is known to send. */
static const char *
name_of_other(const Reading *reading)
{
	static const char *const known[] = {"TOKEN", "DELIVERY_STATUS"};
	const Value *type = &reading->values[FIELD_TYPE];

	for (size_t i = 0; i < lengthof(known) && type->shape == SHAPE_STRING; i++)
	{
		if (strcmp(type->text, known[i]) == 0)
			return known[i];
	}
	if (reading->values[FIELD_TRIGGER].shape != SHAPE_MISSING || reading->values[FIELD_SUBSCRIPTION].shape != SHAPE_MISSING)
		return "subscription";
	if (reading->values[FIELD_INTENTION].shape != SHAPE_MISSING && reading->values[FIELD_TRANSACTION].shape != SHAPE_MISSING)
		return "flash";
	return type->shape == SHAPE_STRING ? "unknown" : NULL;
}

/* NULL if all fields have their form, else what is wrong. */
static const char *
keep_transaction(const Reading *reading, PaymobCallback *out)
{
	JsonText	text = {0};

	out->transaction.amount_cents = -1;
	out->transaction.refunded_amount_cents = -1;
	out->transaction.captured_amount = -1;
	sparky_json_text_puts(&text, "");
	for (int i = 0; i < FIELDS; i++)
	{
		const Value *value = &reading->values[i];

		if (fields[i].place == IN_ROOT)
			continue;
		if (!fits(fields[i].form, value))
		{
			sparky_json_text_free(&text);
			return i < SIGNED_FIELDS ? "a signed field has the wrong form" : "order or source_data is no object";
		}
		if (!keep_value(&fields[i], value, &out->transaction))
			text.failed = true;
		if (i < SIGNED_FIELDS)
			sparky_json_text_puts(&text, value->shape == SHAPE_TRUE ? "true" : value->shape == SHAPE_FALSE ? "false" :
								  value->shape == SHAPE_NUMBER || value->shape == SHAPE_STRING ? value->text : "");
	}
	if (text.failed)
	{
		sparky_json_text_free(&text);
		return "out of memory";
	}
	out->signed_text = text.data;
	out->signed_length = text.length;
	return NULL;
}

static bool
fits(Form form, const Value *value)
{
	int64_t		number;

	if (value->shape == SHAPE_MISSING || value->shape == SHAPE_NULL)
		return true;
	switch (form)
	{
		case FORM_ID:
			return value->shape == SHAPE_NUMBER && plain_integer(value->text) && read_int64(value->text, &number);
		case FORM_AMOUNT:
			return value->shape == SHAPE_NUMBER && plain_integer(value->text) && strlen(value->text) <= SPARKY_PAYMOB_AMOUNT_DIGITS;
		case FORM_CURRENCY:
			return value->shape == SHAPE_STRING && (value->text[0] == '\0' ||
												 (strlen(value->text) == 3 && strspn(value->text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 3));
		case FORM_DATE:
			return value->shape == SHAPE_STRING && (value->text[0] == '\0' || is_date(value->text));
		case FORM_BOOLEAN:
			return value->shape == SHAPE_TRUE || value->shape == SHAPE_FALSE;
		case FORM_TEXT:
			return value->shape == SHAPE_STRING;
		case FORM_OBJECT:
			return value->shape == SHAPE_OBJECT;
		case FORM_LOOSE_INTEGER:
		case FORM_LOOSE_BOOLEAN:
		case FORM_LOOSE_TEXT:
		case FORM_NAME:
		case FORM_MARKER:
			break;
	}
	return true;
}

/* false: out of memory.  The value fits. */
static bool
keep_value(const Field *field, const Value *value, PaymobTransaction *transaction)
{
	void	   *member = (char *) transaction + field->offset;
	const char *text = value->shape == SHAPE_STRING || value->shape == SHAPE_NUMBER ? value->text : "";
	int64_t		number;

	switch (field->form)
	{
		case FORM_AMOUNT:
			snprintf(transaction->amount_text, sizeof(transaction->amount_text), "%s", text);
			if (read_int64(text, &number))
				transaction->amount_cents = number;
			break;
		case FORM_CURRENCY:
			snprintf(transaction->currency, sizeof(transaction->currency), "%s", text);
			break;
		case FORM_DATE:
			snprintf(transaction->created_at, sizeof(transaction->created_at), "%s", text);
			break;
		case FORM_ID:
		case FORM_LOOSE_INTEGER:
			if (value->shape == SHAPE_NUMBER && plain_integer(text) && read_int64(text, &number))
				*(int64_t *) member = number;
			break;
		case FORM_BOOLEAN:
		case FORM_LOOSE_BOOLEAN:
			*(PaymobFlag *) member = value->shape == SHAPE_TRUE ? PAYMOB_FLAG_TRUE :
				value->shape == SHAPE_FALSE ? PAYMOB_FLAG_FALSE : PAYMOB_FLAG_ABSENT;
			break;
		case FORM_LOOSE_TEXT:
			if (value->shape != SHAPE_STRING && value->shape != SHAPE_NUMBER)
				break;
			/* FALLTHROUGH */
		case FORM_TEXT:
			*(char **) member = strdup(text);
			return *(char **) member != NULL;
		case FORM_OBJECT:
		case FORM_NAME:
		case FORM_MARKER:
			break;
	}
	return true;
}

/* JSON allows more: signs, fractions, exponents. */
static bool
plain_integer(const char *text)
{
	size_t		digits = strspn(text, "0123456789");

	return digits > 0 && text[digits] == '\0' && (text[0] != '0' || digits == 1);
}

/* Of digits only; false for none, and for what int64 cannot hold. */
static bool
read_int64(const char *text, int64_t *number)
{
	int64_t		sum = 0;

	if (text[0] == '\0')
		return false;
	for (; *text != '\0'; text++)
	{
		if (__builtin_mul_overflow(sum, 10, &sum) || __builtin_add_overflow(sum, *text - '0', &sum))
			return false;
	}
	*number = sum;
	return true;
}

/*
 * A year and a minus, then what times are written with.  The amount before it in
 * the signed text ends in a digit, and the currency after it begins with a letter:
 * so no character can be moved across either border.
 */
static bool
is_date(const char *text)
{
	return strlen(text) < sizeof(((PaymobTransaction *) NULL)->created_at) && strspn(text, "0123456789") == 4 && text[4] == '-' &&
		text[strspn(text, "0123456789-:.+TZ ")] == '\0';
}
