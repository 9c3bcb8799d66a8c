/*
 * paymob_state.c: what "Paymob" remembers: orders, transactions, tokens.
 *
 * A reset forgets all of it, but ids never come twice, neither after a reset nor
 * from two emulators on one machine: they go on from the time of the start.
 * They are beyond 2^53, where a reader that uses doubles goes wrong.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "paymob.h"

#define BEYOND_DOUBLES 9007199254740993LL	/* 2^53 + 1 */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static json_t *orders;			/* id as text -> {id, amount_cents, currency, reference, transactions: [id, ...], ...} */
static json_t *transactions;	/* id as text -> the transaction object */
static json_t *references;		/* special_reference -> order id */
static json_t *tokens;			/* token -> clock_us() of its end */
static json_int_t next_order;
static json_int_t next_transaction;
static unsigned long drawn;

static void ensure(void);
static const char *key_of(json_int_t id, char key[24]);

void
paymob_lock(void)
{
	pthread_mutex_lock(&lock);
	ensure();
}

void
paymob_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

void
paymob_reset(void)
{
	paymob_lock();
	json_object_clear(orders);
	json_object_clear(transactions);
	json_object_clear(references);
	json_object_clear(tokens);
	paymob_settings.token_seconds = 3600;
	paymob_unlock();
}

json_t *
paymob_order_new(json_int_t id, json_int_t amount, const char *currency, const char *reference)
{
	char		key[24];
	char		created[40];
	json_t	   *order;

	if (reference != NULL && json_object_get(references, reference) != NULL)
		return NULL;
	if (id == 0)
		id = next_order++;
	if (json_object_get(orders, key_of(id, key)) != NULL)
		return NULL;
	paymob_now(created);
	order = json_pack("{s:I, s:I, s:s, s:s?, s:s, s:[]}", "id", id, "amount_cents", amount, "currency", currency,
					  "reference", reference, "created_at", created, "transactions");
	if (order == NULL)
		abort();
	json_object_set_new(orders, key, order);
	if (reference != NULL)
		json_object_set_new(references, reference, json_integer(id));
	return order;
}

json_t *
paymob_order_find(json_int_t id)
{
	char		key[24];

	return json_object_get(orders, key_of(id, key));
}

json_t *
paymob_order_by_reference(const char *reference)
{
	const json_t *id = json_object_get(references, reference);

	return id != NULL ? paymob_order_find(json_integer_value(id)) : NULL;
}

bool
paymob_reference_used(const char *reference)
{
	bool		used;

	paymob_lock();
	used = json_object_get(references, reference) != NULL;
	paymob_unlock();
	return used;
}

bool
paymob_transaction_add(json_t *order, json_t *transaction)
{
	json_t	   *id = json_object_get(transaction, "id");
	char		key[24];

	key_of(json_integer_value(id), key);
	if (json_object_get(transactions, key) != NULL)
	{
		json_decref(transaction);
		return false;
	}
	json_array_append_new(json_object_get(order, "transactions"), json_integer(json_integer_value(id)));
	json_object_set_new(transactions, key, transaction);
	return true;
}

json_t *
paymob_transaction_find(json_int_t id)
{
	char		key[24];

	return json_object_get(transactions, key_of(id, key));
}

json_t *
paymob_transaction_last(const json_t *order)
{
	const json_t *all = json_object_get(order, "transactions");
	size_t		count = json_array_size(all);

	return count > 0 ? paymob_transaction_find(json_integer_value(json_array_get(all, count - 1))) : NULL;
}

json_int_t
paymob_transaction_next(void)
{
	return next_transaction++;
}

void
paymob_ids(json_int_t order, json_int_t transaction)
{
	if (order > 0)
		next_order = order;
	if (transaction > 0)
		next_transaction = transaction;
}

void
paymob_token_new(char token[65])
{
	paymob_random_hex(token, 64);
	json_object_set_new(tokens, token, json_integer(clock_us() + (int64_t) paymob_settings.token_seconds * 1000000));
}

bool
paymob_token_good(const char *token)
{
	const json_t *end;
	bool		good;

	paymob_lock();
	end = json_object_get(tokens, token);
	good = end != NULL && json_integer_value(end) > clock_us();
	paymob_unlock();
	return good;
}

/* Digits that differ each time; not secret. Under the lock. */
void
paymob_random_hex(char *out, size_t digits)
{
	struct timespec now;
	char		text[128];
	char		hex[65];

	clock_gettime(CLOCK_REALTIME, &now);
	snprintf(text, sizeof text, "%lld.%ld.%lu", (long long) now.tv_sec, now.tv_nsec, ++drawn);
	sha256_hex(text, strlen(text), hex);
	memcpy(out, hex, digits);
	out[digits] = '\0';
}

json_t *
paymob_state_show(void)
{
	return json_pack("{s:o, s:o}", "orders", json_deep_copy(orders), "transactions", json_deep_copy(transactions));
}

static void
ensure(void)
{
	struct timespec now;

	if (orders != NULL)
		return;
	orders = json_object();
	transactions = json_object();
	references = json_object();
	tokens = json_object();
	clock_gettime(CLOCK_REALTIME, &now);
	/* Microseconds of about a month; 10^14 apart, so that the two kinds of ids never meet. */
	next_order = BEYOND_DOUBLES + ((json_int_t) now.tv_sec % 2600000) * 1000000 + now.tv_nsec / 1000;
	next_transaction = next_order + 100000000000000LL;
}

static const char *
key_of(json_int_t id, char key[24])
{
	snprintf(key, 24, "%lld", (long long) id);
	return key;
}
