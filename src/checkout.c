/*
 * checkout.c: the errand of create_checkout.
 *
 * Begin commits the order; then Paymob is asked for an intention, once; settle
 * stores what it said.  One row is one call: a call whose end is not known is
 * never repeated, its order fails, and who asks again gets another order with
 * another reference.  Paymob is still asked later about an order that failed so,
 * and about each that is open (inquiry.c).
 *
 * An order that is `created` belongs to the errand that made it.  One that no
 * errand of this worker has in hand was left by a worker that died.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/timestamp.h"

#include "checkout.h"
#include "orders.h"
#include "owner.h"
#include "payments.h"
#include "paymob.h"
#include "paymob_send.h"
#include "secrets.h"
#include "settings.h"

/* More than a user can have: who asks many times at once makes no more than one. */
#define MOST_UNOPENED 16
/* A letter or two of a name are in any text. */
#define LEAST_PERSONAL 3

typedef struct Checkout
{
	PaymobSending sending;
	dlist_node	node;			/* of in_hand */
	pg_uuid_t	order_id;
	PaymobIntention intention;	/* what was asked for; texts in the errand's context */
	PaymobIntentionAnswer answer;
} Checkout;

/* Orders that this worker is making. */
static dlist_head in_hand = DLIST_STATIC_INIT(in_hand);

static bool begin_checkout(Errand *errand, TimestampTz now);
static bool send_intention(Errand *errand, HttpRequest *request);
static void read_intention(Errand *errand, const HttpResult *result);
static bool settle_checkout(Errand *errand, TimestampTz now);
static size_t memory_of(const Errand *errand);
static Checkout *state_of(Errand *errand);
static void release(void *arg);
static bool answer_known(Errand *errand, TimestampTz now, bool *busy);
static bool clear_unopened(const Submission *submission, TimestampTz now);
static bool make_message(Errand *errand, const Product *product);
static bool is_plain(const char *text);
static bool loggable(const Checkout *checkout);
static void open_order(Checkout *checkout, TimestampTz now);
static TimestampTz unknown_after(TimestampTz now);

const ErrandType sparky_checkout_errand = {
	.name = "checkout",
	.locks = BATCH_ORDERS,
	.begin = begin_checkout,
	.request = send_intention,
	.read = read_intention,
	.settle = settle_checkout,
	.memory = memory_of,
};

bool
sparky_checkout_in_hand(const pg_uuid_t *order_id)
{
	dlist_iter	iter;

	dlist_foreach(iter, &in_hand)
		if (memcmp(&dlist_container(Checkout, node, iter.cur)->order_id, order_id, sizeof(*order_id)) == 0)
			return true;
	return false;
}

char *
sparky_checkout_missing(void)
{
	static const Secret secrets[] = {SECRET_PAYMOB_SECRET_KEY, SECRET_PAYMOB_PUBLIC_KEY};
	StringInfoData missing;

	initStringInfo(&missing);
	for (int i = 0; i < lengthof(secrets); i++)
		if (sparky_secret(secrets[i]) == NULL)
			appendStringInfo(&missing, "%s%s", missing.len ? ", " : "", sparky_secret_setting(secrets[i]));
	if (sparky_paymob_integration_ids[strspn(sparky_paymob_integration_ids, " ,")] == '\0')
		appendStringInfo(&missing, "%ssparky.paymob_integration_ids", missing.len ? ", " : "");
	if (sparky_paymob_owner[strspn(sparky_paymob_owner, " ")] == '\0')
		appendStringInfo(&missing, "%ssparky.paymob_owner", missing.len ? ", " : "");
	return missing.len ? missing.data : NULL;
}

/* ---- the order ---- */

static bool
begin_checkout(Errand *errand, TimestampTz now)
{
	const Submission *submission = &errand->mail->submission;
	Checkout   *checkout = state_of(errand);
	Product		product;
	bool		busy = false;
	int			retry_after;

	errand->answer.job_id = submission->job_id;
	switch (sparky_credits_lock(&submission->user_id))
	{
		case ROW_BUSY:
			return false;
		case ROW_GONE:
			sparky_errand_refuse(errand, WORD_ACCOUNT_GONE, NULL);
			return true;
		case ROW_LOCKED:
			break;
	}
	if (answer_known(errand, now, &busy) || busy)
		return !busy;
	if (!sparky_product_read(submission->tool_id, &product))
	{
		sparky_errand_refuse(errand, WORD_PRODUCT_NOT_FOUND, NULL);
		return true;
	}
	if (!clear_unopened(submission, now))
		return false;
	if (sparky_orders_reusable(&submission->user_id, &product, now, &errand->answer.job_id))
		errand->over = true;
	else if (sparky_orders_too_many(&submission->user_id, now, &retry_after))
	{
		sparky_errand_refuse(errand, WORD_TOO_MANY_CHECKOUTS, NULL);
		errand->answer.retry_after = retry_after;
	}
	else if (make_message(errand, &product))
		sparky_orders_insert(&checkout->order_id, &submission->user_id, &product, now, unknown_after(now));
	return true;
}

static Checkout *
state_of(Errand *errand)
{
	Checkout   *checkout = errand->state;
	MemoryContextCallback *callback;

	if (checkout != NULL)
		return checkout;
	checkout = MemoryContextAllocZero(errand->context, sizeof(Checkout));
	checkout->order_id = errand->mail->submission.job_id;
	callback = MemoryContextAllocZero(errand->context, sizeof(MemoryContextCallback));
	callback->func = release;
	callback->arg = checkout;
	MemoryContextRegisterResetCallback(errand->context, callback);
	dlist_push_tail(&in_hand, &checkout->node);
	errand->state = checkout;
	errand->limit = SPARKY_PAYMOB_MAX_ANSWER;
	return checkout;
}

static void
release(void *arg)
{
	Checkout   *checkout = arg;

	dlist_delete(&checkout->node);
	sparky_paymob_sent(&checkout->sending);
	sparky_paymob_intention_answer_free(&checkout->answer);
}

static size_t
memory_of(const Errand *errand)
{
	const Checkout *checkout = errand->state;

	return checkout ? checkout->sending.message.body_length : 0;
}

/* When an order that is still `created` can have nobody who works on it. */
static TimestampTz
unknown_after(TimestampTz now)
{
	return TimestampTzPlusMilliseconds(now, (int64) sparky_paymob_timeout_ms() + sparky_lease_time);
}

static TimestampTz
first_inquiry(TimestampTz now)
{
	return now + (int64) sparky_inquiry_delay * USECS_PER_SEC;
}

/* This very submission again: its worker died between commit and answer. What became of the call is not known unless it is in the row. */
static bool
answer_known(Errand *errand, TimestampTz now, bool *busy)
{
	Order		order;

	if (!sparky_orders_read(&errand->mail->submission.job_id, &order))
		return false;
	if (order.status == ORDER_CREATED)
	{
		*busy = sparky_orders_lock(&order.id, &order) != ROW_LOCKED;
		if (!*busy && order.status == ORDER_CREATED)
			sparky_orders_fail(&order.id, WORD_PROVIDER_FAILED, first_inquiry(now));
	}
	errand->over = !*busy;
	return !*busy;
}

/* Another checkout of the same product: wait for its end (false) while it is under way; one that a dead worker left ends here. */
static bool
clear_unopened(const Submission *submission, TimestampTz now)
{
	pg_uuid_t	ids[MOST_UNOPENED];
	int			count = sparky_orders_unopened(&submission->user_id, submission->tool_id, ids, MOST_UNOPENED);
	Order		order;

	for (int i = 0; i < count; i++)
		if (sparky_checkout_in_hand(&ids[i]))
			return false;
	for (int i = 0; i < count; i++)
	{
		RowLock		lock = sparky_orders_lock(&ids[i], &order);

		if (lock == ROW_BUSY)
			return false;
		if (lock == ROW_LOCKED && order.status == ORDER_CREATED)
			sparky_orders_fail(&ids[i], WORD_PROVIDER_FAILED, first_inquiry(now));
	}
	return true;
}

/* ---- the call ---- */

/* Made before the order is: what Paymob would refuse makes none. */
static bool
make_message(Errand *errand, const Product *product)
{
	Checkout   *checkout = errand->state;
	PaymobIntention *intention = &checkout->intention;
	char	   *missing = sparky_checkout_missing();
	MemoryContext previous;
	Buyer		buyer;
	char		why[160];
	bool		made;

	if (missing != NULL)
	{
		sparky_errand_refuse(errand, WORD_NOT_CONFIGURED, psprintf("Not set: %s.", missing));
		return false;
	}
	sparky_orders_buyer(&errand->mail->submission.user_id, &buyer);
	sparky_paymob_sent(&checkout->sending);
	previous = MemoryContextSwitchTo(errand->context);
	memset(intention, 0, sizeof(*intention));
	/* Copies: a reload frees the settings' texts. */
	intention->base_url = pstrdup(sparky_paymob_base_url);
	intention->secret_key = sparky_secret(SECRET_PAYMOB_SECRET_KEY);
	intention->amount_cents = product->amount_cents;
	intention->currency = pstrdup(product->currency);
	intention->integration_ids = pstrdup(sparky_paymob_integration_ids);
	intention->reference = sparky_uuid_text(&checkout->order_id);
	intention->item_name = sparky_paymob_utf8(product->id);
	intention->first_name = sparky_paymob_utf8(buyer.name);
	intention->email = sparky_paymob_utf8(buyer.email);
	intention->phone_number = sparky_paymob_utf8(buyer.phone);
	intention->expiration_seconds = SPARKY_CHECKOUT_LIFETIME_S;
	intention->notification_url = pstrdup(sparky_paymob_notification_url);
	intention->redirection_url = pstrdup(sparky_paymob_redirection_url);
	MemoryContextSwitchTo(previous);
	made = sparky_paymob_intention_request(intention, &checkout->sending.message, why, sizeof(why));
	intention->secret_key = NULL;
	if (made)
		return true;
	ereport(LOG, (errmsg("sparky: no checkout can be made of product \"%s\": %s", product->id, why)));
	sparky_errand_refuse(errand, WORD_NOT_CONFIGURED, why);
	return false;
}

static bool
send_intention(Errand *errand, HttpRequest *request)
{
	Checkout   *checkout = errand->state;

	sparky_paymob_send(errand, &checkout->sending, request);
	return true;
}

static void
read_intention(Errand *errand, const HttpResult *result)
{
	Checkout   *checkout = errand->state;
	PaymobExchange exchange;

	sparky_paymob_exchange(errand, result, sparky_secret(SECRET_PAYMOB_SECRET_KEY), &exchange);
	sparky_paymob_read_intention(&exchange, &checkout->intention, &checkout->answer);
	sparky_paymob_sent(&checkout->sending);
	/* The client secret was in it. */
	if (errand->body != NULL)
		explicit_bzero(errand->body, errand->capacity);
	/* Our own rules: this URL is not allowed, so nothing left. */
	if (result->transport == TRANSPORT_STOPPED && result->status == 0 && result->bytes_sent == 0)
		checkout->answer.outcome = OUTCOME_NOT_CONFIGURED;
	/* No integration, or no API at this URL. */
	else if (checkout->answer.http_status == 404)
		checkout->answer.outcome = OUTCOME_NOT_CONFIGURED;
	else if (checkout->answer.outcome == OUTCOME_OK && !is_plain(checkout->answer.client_secret))
	{
		checkout->answer.outcome = OUTCOME_INVALID_OUTPUT;
		strlcpy(checkout->answer.message, "the client secret is no plain text", sizeof(checkout->answer.message));
	}
	if (checkout->answer.outcome != OUTCOME_OK)
		ereport(LOG, (errmsg("sparky: checkout %s failed: %s (HTTP status %d)", checkout->intention.reference,
							 loggable(checkout) ? checkout->answer.message : "Paymob's words are about the buyer", checkout->answer.http_status)));
}

/* Printable ASCII: fit for a column of any encoding. */
static bool
is_plain(const char *text)
{
	for (; *text != '\0'; text++)
		if (*text < ' ' || *text >= 0x7F)
			return false;
	return true;
}

/* What we told of the buyer must not come back into the log. */
static bool
loggable(const Checkout *checkout)
{
	const char *personal[] = {checkout->intention.first_name, checkout->intention.email, checkout->intention.phone_number};

	for (int i = 0; i < lengthof(personal); i++)
		if (personal[i] != NULL && strlen(personal[i]) >= LEAST_PERSONAL && strstr(checkout->answer.message, personal[i]) != NULL)
			return false;
	return true;
}

/* ---- what came of it ---- */

static ErrorWord
word_of(Outcome outcome)
{
	switch (outcome)
	{
		case OUTCOME_OK:
			return WORD_NONE;
		case OUTCOME_AUTH:
		case OUTCOME_NOT_CONFIGURED:
			return WORD_NOT_CONFIGURED;
		case OUTCOME_TIMEOUT:
		case OUTCOME_UPSTREAM_TIMEOUT:
		case OUTCOME_DEADLINE:
			return WORD_PROVIDER_TIMEOUT;
		default:
			return WORD_PROVIDER_FAILED;
	}
}

/* May there be an intention at Paymob that we know nothing of? */
static bool
may_exist(Outcome outcome)
{
	switch (outcome)
	{
		case OUTCOME_CONNECT:
		case OUTCOME_AUTH:
		case OUTCOME_BAD_REQUEST:
		case OUTCOME_NOT_CONFIGURED:
		case OUTCOME_RATE_LIMITED:
			return false;
		default:
			return true;
	}
}

static bool
settle_checkout(Errand *errand, TimestampTz now)
{
	Checkout   *checkout = errand->state;
	PaymobIntentionAnswer *answer = &checkout->answer;
	int64		paymob_order = answer->intention_order_id;
	Order		order;

	/* Before the order's row, as everybody who has to do with its payments. */
	if (paymob_order > 0 && !sparky_payments_try_lock(paymob_order))
		return false;
	switch (sparky_orders_lock(&checkout->order_id, &order))
	{
		case ROW_BUSY:
			return false;
		case ROW_GONE:
			sparky_errand_refuse(errand, WORD_ACCOUNT_GONE, NULL);
			return true;
		case ROW_LOCKED:
			break;
	}
	errand->over = true;
	/* Two of ours cannot be one of Paymob's: then its answer is none. */
	if (paymob_order > 0 && order.intention_order_id != paymob_order && sparky_orders_has(paymob_order))
	{
		ereport(LOG, (errmsg("sparky: checkout %s failed: Paymob gave it the order of another one", order.reference)));
		answer->outcome = OUTCOME_INVALID_OUTPUT;
		paymob_order = 0;
	}
	if (order.status == ORDER_CREATED && answer->outcome == OUTCOME_OK)
		open_order(checkout, now);
	else if (order.status == ORDER_CREATED)
		sparky_orders_fail(&checkout->order_id, word_of(answer->outcome), may_exist(answer->outcome) ? first_inquiry(now) : 0);
	if (paymob_order > 0)
	{
		/* Also of an order that failed: its events are to be told from strangers'. */
		sparky_orders_learn(&checkout->order_id, paymob_order);
		sparky_payments_match(paymob_order, now);
	}
	return true;
}

static void
open_order(Checkout *checkout, TimestampTz now)
{
	const char *public_key = sparky_secret(SECRET_PAYMOB_PUBLIC_KEY);
	char	   *made = sparky_paymob_checkout_link(sparky_paymob_checkout_url, public_key, checkout->answer.client_secret);
	char	   *link = made ? pstrdup(made) : NULL;

	free(made);
	if (link == NULL)
	{
		ereport(LOG, (errmsg("sparky: no link can be made for checkout %s: see sparky.paymob_checkout_url", checkout->intention.reference)));
		sparky_orders_fail(&checkout->order_id, WORD_NOT_CONFIGURED, first_inquiry(now));
		return;
	}
	sparky_orders_open(&checkout->order_id, checkout->answer.intention_order_id, checkout->answer.client_secret, link, first_inquiry(now));
}
