/*
 * inquiry.c: asking Paymob what became of an order, when no callback told.
 *
 * An order is asked about when its inquire_at has come: begin writes the next one
 * down before the question leaves, so that no crash makes it a loop.  By its paid
 * transaction where a refund is to be confirmed, else by Paymob's order id, else by
 * our reference.  What is found goes the way of a callback
 * (sparky_payments_record), so it can be asked at any time and any number of times.
 *
 * The token is kept in memory only, and wiped when it is too old or refused.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "checkout.h"
#include "errand.h"
#include "inquiry.h"
#include "orders.h"
#include "payments.h"
#include "paymob.h"
#include "paymob_send.h"
#include "secrets.h"
#include "settings.h"

/* Questions at once. */
#define MOST_IN_HAND 8
/* Paymob's token is good for an hour. */
#define TOKEN_LIFETIME_S (50 * 60)
#define TOKEN_BYTES 8192
/* The pause between two questions doubles up to this. */
#define LONGEST_PAUSE_S (24 * 60 * 60)

/* A transaction that was found, with its text. */
typedef struct Finding
{
	PaymobInquiryAnswer answer;
	char	   *body;			/* in the errand's context, in the server's encoding */
} Finding;

typedef struct Inquiry
{
	PaymobSending sending;
	dlist_node	node;			/* of in_hand */
	pg_uuid_t	order_id;
	TimestampTz next;			/* when it is asked about again, as begin wrote it down */
	PaymobQuestion question;	/* the reference is in the errand's context */
	bool		asking_token;
	uint64		token_number;	/* the one that was sent */
	bool		token_refused;	/* a fresh one once, not for ever */
	Finding		found[2];		/* what was asked for; the payment that it belongs to */
	int			count;
} Inquiry;

static dlist_head in_hand = DLIST_STATIC_INIT(in_hand);
static int	number_in_hand = 0;

static char token[TOKEN_BYTES];
static TimestampTz token_until = 0;
static uint64 token_number = 0;		/* counts them: an answer may be about the one before */

static bool is_in_hand(const pg_uuid_t *order_id);
static void enlist(const pg_uuid_t *order_id);
static void release(void *arg);
static bool begin_inquiry(Errand *errand, TimestampTz now);
static TimestampTz next_time(const Order *order, TimestampTz now);
static bool send_question(Errand *errand, HttpRequest *request);
static bool have_token(TimestampTz now);
static void forget_token(void);
static void read_answer(Errand *errand, const HttpResult *result);
static void read_token(Errand *errand, const PaymobExchange *exchange);
static void read_transaction(Errand *errand, const PaymobExchange *exchange);
static char *server_text(const char *body, size_t length);
static bool settle_inquiry(Errand *errand, TimestampTz now);
static bool record(Inquiry *inquiry, const Order *order, const Finding *finding, TimestampTz now);

static const ErrandType inquiry_errand = {
	.name = "inquiry",
	.locks = BATCH_ORDERS,
	.begin = begin_inquiry,
	.request = send_question,
	.read = read_answer,
	.settle = settle_inquiry,
};

/* ---- which orders ---- */

void
sparky_inquiry_enlist_due(TimestampTz now)
{
	bool		can_ask = sparky_secret(SECRET_PAYMOB_API_KEY) != NULL;
	/* The first one fetches the token for all. */
	int			room = (can_ask && !have_token(now) ? 1 : MOST_IN_HAND) - number_in_hand;
	pg_uuid_t	ids[2 * MOST_IN_HAND];
	int			count;

	if (room <= 0)
		return;
	count = sparky_orders_due(now, !can_ask, lengthof(ids), ids);
	for (int i = 0; i < count && room > 0; i++)
		if (!is_in_hand(&ids[i]) && !sparky_checkout_in_hand(&ids[i]))
		{
			enlist(&ids[i]);
			room--;
		}
}

static bool
is_in_hand(const pg_uuid_t *order_id)
{
	dlist_iter	iter;

	dlist_foreach(iter, &in_hand)
		if (memcmp(&dlist_container(Inquiry, node, iter.cur)->order_id, order_id, sizeof(*order_id)) == 0)
			return true;
	return false;
}

static void
enlist(const pg_uuid_t *order_id)
{
	Errand	   *errand = sparky_errand_create(&inquiry_errand, NULL);
	Inquiry    *inquiry = MemoryContextAllocZero(errand->context, sizeof(Inquiry));
	MemoryContextCallback *callback = MemoryContextAllocZero(errand->context, sizeof(MemoryContextCallback));

	inquiry->order_id = *order_id;
	errand->state = inquiry;
	errand->limit = SPARKY_PAYMOB_MAX_ANSWER;
	callback->func = release;
	callback->arg = inquiry;
	MemoryContextRegisterResetCallback(errand->context, callback);
	dlist_push_tail(&in_hand, &inquiry->node);
	number_in_hand++;
	sparky_errand_enlist(errand);
}

static void
release(void *arg)
{
	Inquiry    *inquiry = arg;

	dlist_delete(&inquiry->node);
	number_in_hand--;
	sparky_paymob_sent(&inquiry->sending);
	for (int i = 0; i < lengthof(inquiry->found); i++)
		sparky_paymob_inquiry_answer_free(&inquiry->found[i].answer);
}

/* ---- the question ---- */

static bool
begin_inquiry(Errand *errand, TimestampTz now)
{
	Inquiry    *inquiry = errand->state;
	Order		order;

	switch (sparky_orders_lock(&inquiry->order_id, &order))
	{
		case ROW_BUSY:
			return false;
		case ROW_GONE:
			errand->over = true;
			return true;
		case ROW_LOCKED:
			break;
	}
	/* Somebody else has seen to it meanwhile. */
	if (!order.inquire || order.inquire_at > now)
	{
		errand->over = true;
		return true;
	}
	/* Its worker died: what became of its call is what is asked now. */
	if (order.status == ORDER_CREATED)
		sparky_orders_fail(&order.id, WORD_PROVIDER_FAILED, now);
	if (sparky_secret(SECRET_PAYMOB_API_KEY) == NULL)
	{
		errand->over = true;
		return true;
	}
	inquiry->next = next_time(&order, now);
	sparky_orders_note_inquiry(&order.id, inquiry->next);
	memset(&inquiry->question, 0, sizeof(inquiry->question));
	if (order.intention_order_id > 0 && order.status >= ORDER_PAID)
		inquiry->question.transaction_id = sparky_orders_transaction(order.intention_order_id);
	inquiry->question.order_id = order.intention_order_id;
	inquiry->question.reference = MemoryContextStrdup(errand->context, order.reference);
	return true;
}

/* The delay, then twice that, up to a day; 0 when it was asked often enough. */
static TimestampTz
next_time(const Order *order, TimestampTz now)
{
	int64		pause = sparky_inquiry_delay;

	/* Whether it is paid is one matter, what was given back of it another. */
	if (order->inquiries + 1 >= (order->status >= ORDER_PAID ? 2 : 1) * SPARKY_MOST_INQUIRIES)
		return 0;
	for (int i = 0; i <= order->inquiries && pause < LONGEST_PAUSE_S; i++)
		pause *= 2;
	return now + Min(pause, LONGEST_PAUSE_S) * USECS_PER_SEC;
}

static bool
send_question(Errand *errand, HttpRequest *request)
{
	Inquiry    *inquiry = errand->state;
	char		why[160];
	const char *api_key = sparky_secret(SECRET_PAYMOB_API_KEY);
	bool		made;

	sparky_paymob_sent(&inquiry->sending);
	inquiry->asking_token = !have_token(GetCurrentTimestamp());
	inquiry->token_number = token_number;
	if (inquiry->asking_token)
		made = sparky_paymob_token_request(sparky_paymob_base_url, api_key ? api_key : "", &inquiry->sending.message, why, sizeof(why));
	else
		made = sparky_paymob_inquiry_request(sparky_paymob_base_url, token, &inquiry->question, &inquiry->sending.message, why, sizeof(why));
	if (!made)
	{
		ereport(LOG, (errmsg("sparky: Paymob cannot be asked about order %s: %s", inquiry->question.reference, why)));
		return false;
	}
	sparky_paymob_send(errand, &inquiry->sending, request);
	return true;
}

static bool
have_token(TimestampTz now)
{
	if (token[0] != '\0' && now >= token_until)
		forget_token();
	return token[0] != '\0';
}

static void
forget_token(void)
{
	explicit_bzero(token, sizeof(token));
	token_until = 0;
}

/* ---- the answer ---- */

static void
read_answer(Errand *errand, const HttpResult *result)
{
	Inquiry    *inquiry = errand->state;
	PaymobExchange exchange;

	sparky_paymob_exchange(errand, result, inquiry->asking_token ? sparky_secret(SECRET_PAYMOB_API_KEY) : token, &exchange);
	if (inquiry->asking_token)
		read_token(errand, &exchange);
	else
		read_transaction(errand, &exchange);
	sparky_paymob_sent(&inquiry->sending);
	/* The token was in it. */
	if (inquiry->asking_token && errand->body != NULL)
		explicit_bzero(errand->body, errand->capacity);
}

static void
read_token(Errand *errand, const PaymobExchange *exchange)
{
	PaymobTokenAnswer answer;

	sparky_paymob_read_token(exchange, &answer);
	if (answer.outcome == OUTCOME_OK && strlen(answer.token) < sizeof(token))
	{
		strlcpy(token, answer.token, sizeof(token));
		token_until = GetCurrentTimestamp() + TOKEN_LIFETIME_S * USECS_PER_SEC;
		token_number++;
		errand->again = true;
	}
	else
	{
		ereport(LOG, (errmsg("sparky: Paymob gave no token for inquiries: %s (HTTP status %d)", answer.message, answer.http_status)));
		errand->over = true;
	}
	sparky_paymob_token_answer_free(&answer);
}

static void
read_transaction(Errand *errand, const PaymobExchange *exchange)
{
	Inquiry    *inquiry = errand->state;
	Finding    *finding = &inquiry->found[inquiry->count];
	PaymobInquiryAnswer *answer = &finding->answer;

	sparky_paymob_read_inquiry(exchange, &inquiry->question, answer);
	if (answer->outcome == OUTCOME_AUTH && !inquiry->token_refused)
	{
		if (inquiry->token_number == token_number)
			forget_token();
		sparky_paymob_inquiry_answer_free(answer);
		inquiry->token_refused = errand->again = true;
		return;
	}
	if (answer->outcome != OUTCOME_OK)
		ereport(LOG, (errmsg("sparky: asking Paymob about order %s failed: %s (HTTP status %d)", inquiry->question.reference,
							 answer->message, answer->http_status)));
	if (answer->outcome != OUTCOME_OK || !answer->found)
	{
		sparky_paymob_inquiry_answer_free(answer);
		memset(answer, 0, sizeof(*answer));
		errand->over = inquiry->count == 0;
		return;
	}
	finding->body = server_text(exchange->body, exchange->length);
	inquiry->count++;
	/* The last transaction may be a refund: the payment that it belongs to may have been missed as well. */
	if (inquiry->count < lengthof(inquiry->found) && answer->callback.transaction.parent_transaction > 0)
	{
		inquiry->question.transaction_id = answer->callback.transaction.parent_transaction;
		errand->again = true;
	}
}

/* In the current (the errand's) context. JSON of a database in another encoding keeps its meaning, not its letters. */
static char *
server_text(const char *body, size_t length)
{
	char	   *text = pnstrdup(body, length);

	if (GetDatabaseEncoding() != PG_UTF8)
		for (char *c = text; *c != '\0'; c++)
			if ((unsigned char) *c > 127)
				*c = '?';
	return text;
}

/* ---- what it means ---- */

static bool
settle_inquiry(Errand *errand, TimestampTz now)
{
	Inquiry    *inquiry = errand->state;
	Order		order;

	/* The payment first, then what became of it. */
	for (int i = inquiry->count - 1; i >= 0; i--)
	{
		int64		paymob_order = inquiry->found[i].answer.callback.transaction.order_id;

		if (!sparky_payments_try_lock(paymob_order))
			return false;
	}
	switch (sparky_orders_lock(&inquiry->order_id, &order))
	{
		case ROW_BUSY:
			return false;
		case ROW_LOCKED:
			for (int i = inquiry->count - 1; i >= 0; i--)
				if (!record(inquiry, &order, &inquiry->found[i], now))
					break;
			/* What it was asked for has been told, and nothing new has come since. */
			if (order.status >= ORDER_PAID && order.inquire && order.inquire_at == inquiry->next && !sparky_orders_doubtful(&order.id))
				sparky_orders_ask_no_more(&order.id);
			break;
		case ROW_GONE:
			break;
	}
	errand->over = true;
	return true;
}

static bool
record(Inquiry *inquiry, const Order *order, const Finding *finding, TimestampTz now)
{
	int64		paymob_order = finding->answer.callback.transaction.order_id;
	PaymentResult result;

	if (order->intention_order_id == 0 && !sparky_orders_has(paymob_order))
	{
		/* Found by our reference: so this is the order whose making we did not hear of. */
		sparky_orders_learn(&order->id, paymob_order);
		sparky_payments_match(paymob_order, now);
	}
	else if (order->intention_order_id != 0 && order->intention_order_id != paymob_order)
	{
		ereport(LOG, (errmsg("sparky: Paymob answered about another order than %s", order->reference)));
		return false;
	}
	sparky_payments_record(&finding->answer.callback, finding->body, PAYMENT_INQUIRY, now, &result);
	return true;
}
