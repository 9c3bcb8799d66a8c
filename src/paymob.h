/*
 * paymob.h: Paymob's HTTP APIs: intention, token, inquiry.
 * Structs in, structs out: no I/O; testable from bytes.
 *
 * Every message is a whole HTTP request; free it with sparky_paymob_message_free(),
 * which wipes what may hold a secret.  Every reader judges a whole answer: it is
 * told how the transport ended, and leaves one typed outcome.
 */
#ifndef SPARKY_PAYMOB_H
#define SPARKY_PAYMOB_H

#include "outcome.h"
#include "paymob_callback.h"

#define SPARKY_PAYMOB_MAX_ANSWER (1024 * 1024)	/* bytes: cap for the caller's sink */

typedef struct PaymobMessage
{
	const char *method;			/* "POST", "GET"; a literal */
	char	   *url;			/* malloc'd; holds no secret */
	char	   *authorization;	/* "Authorization: ..." or NULL; secret */
	char	   *body;			/* JSON, or NULL for a GET; may hold a secret */
	size_t		body_length;
} PaymobMessage;	/* the caller adds "Content-Type: application/json" where there is a body */

extern void sparky_paymob_message_free(PaymobMessage *message);	/* also one of zeros */

/* How an HTTP exchange ended, as http.h's HttpResult tells it, with the kept body. */
typedef struct PaymobExchange
{
	TransportResult transport;
	int			http_status;
	const char *body;			/* may be NULL when length is 0 */
	size_t		length;
	const char *secret;			/* struck out of messages: the key or token that was sent; or NULL */
} PaymobExchange;

/* ---- intentions ---- */

typedef struct PaymobIntention
{
	const char *base_url;		/* "https://accept.paymob.com" */
	const char *secret_key;
	int64_t		amount_cents;	/* > 0 */
	const char *currency;		/* three capitals */
	const char *integration_ids;	/* comma-separated integers: payment_methods */
	const char *reference;		/* special_reference: new for each try */
	const char *item_name;		/* UTF-8; cut to 50 characters; blank: the reference */
	const char *first_name;		/* NULL or blank: "NA", as for the other three */
	const char *last_name;
	const char *email;
	const char *phone_number;
	int			expiration_seconds;	/* > 0, else it is left to Paymob */
	const char *notification_url;	/* NULL or '': what Paymob's dashboard says */
	const char *redirection_url;	/* the same */
} PaymobIntention;

/* false: out of memory, or what Paymob would refuse; why says which. */
extern bool sparky_paymob_intention_request(const PaymobIntention *intention, PaymobMessage *message, char *why, size_t why_size);

typedef struct PaymobIntentionAnswer
{
	Outcome		outcome;		/* OUTCOME_OK only for a 201 that echoes amount, currency and reference */
	int			http_status;
	int64_t		intention_order_id;	/* the signed order.id of callbacks; also with OUTCOME_INVALID_OUTPUT if it could be read, else 0 */
	char	   *client_secret;	/* malloc'd; NULL unless OUTCOME_OK; secret */
	char	   *intention_id;	/* "pi_..."; malloc'd, or NULL */
	char		message[161];	/* why it failed: ASCII, one line, without secrets; '' if OUTCOME_OK */
} PaymobIntentionAnswer;

extern void sparky_paymob_read_intention(const PaymobExchange *exchange, const PaymobIntention *sent, PaymobIntentionAnswer *answer);
extern void sparky_paymob_intention_answer_free(PaymobIntentionAnswer *answer);	/* wipes the client secret */

/* {base}/?publicKey=...&clientSecret=..., percent-encoded, malloc'd; NULL: out of memory or something is blank. */
extern char *sparky_paymob_checkout_link(const char *checkout_url, const char *public_key, const char *client_secret);

/* ---- the token that the inquiry API wants; good for an hour ---- */

extern bool sparky_paymob_token_request(const char *base_url, const char *api_key, PaymobMessage *message, char *why, size_t why_size);

typedef struct PaymobTokenAnswer
{
	Outcome		outcome;
	int			http_status;
	char	   *token;			/* malloc'd; NULL unless OUTCOME_OK; secret */
	char		message[161];
} PaymobTokenAnswer;

extern void sparky_paymob_read_token(const PaymobExchange *exchange, PaymobTokenAnswer *answer);
extern void sparky_paymob_token_answer_free(PaymobTokenAnswer *answer);

/* ---- inquiries ---- */

/* What is asked about: the first of the three that is set. The last two give the order's last transaction. */
typedef struct PaymobQuestion
{
	int64_t		transaction_id;	/* > 0 */
	int64_t		order_id;		/* > 0: Paymob's, the intention_order_id */
	const char *reference;		/* our special_reference */
} PaymobQuestion;

extern bool sparky_paymob_inquiry_request(const char *base_url, const char *token, const PaymobQuestion *question,
										  PaymobMessage *message, char *why, size_t why_size);

typedef struct PaymobInquiryAnswer
{
	Outcome		outcome;		/* OUTCOME_AUTH: the token is too old, or the key is wrong */
	int			http_status;
	bool		found;			/* with OUTCOME_OK: false means that there is no transaction yet */
	PaymobCallback callback;	/* of kind PAYMOB_TRANSACTION when found; it is about what was asked */
	char		message[161];
} PaymobInquiryAnswer;

extern void sparky_paymob_read_inquiry(const PaymobExchange *exchange, const PaymobQuestion *question, PaymobInquiryAnswer *answer);
extern void sparky_paymob_inquiry_answer_free(PaymobInquiryAnswer *answer);

#endif
