/*
 * paymob_callback.h: what Paymob sends to us, read from bytes: callbacks, and the
 * transaction objects of its inquiry API.
 *
 * Twenty values of a TRANSACTION are signed, nothing else of the body is, and they
 * are joined without separators.  A good signature therefore proves the
 * concatenation, not where one value ends: digits can be moved between id and
 * integration_id, and between order.id and owner.  Who acts on a verified
 * callback must compare integration_id and owner with the settings, decide on the
 * callback at hand (never on a row that an earlier one left), and trust no field
 * that is marked "not signed" beyond what is said there.
 *
 * Nothing here throws for what a body holds; in the server it may throw when
 * memory is out.  No memory of ours is lost then.
 */
#ifndef SPARKY_PAYMOB_CALLBACK_H
#define SPARKY_PAYMOB_CALLBACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SPARKY_PAYMOB_MAX_BODY (256 * 1024)		/* bytes; a genuine one has about 5,000 */
#define SPARKY_PAYMOB_MAX_DEPTH 64
#define SPARKY_PAYMOB_HMAC_HEX 128				/* characters, without the terminator */
#define SPARKY_PAYMOB_AMOUNT_DIGITS 30
#define SPARKY_PAYMOB_STATE_SIZE 160			/* of sparky_paymob_state()'s buffer */

typedef enum PaymobKind
{
	PAYMOB_UNREADABLE = 0,		/* no JSON, or not what Paymob sends: answer 422 */
	PAYMOB_TRANSACTION,
	PAYMOB_OTHER				/* read, and of no interest: answer 200, never fulfil */
} PaymobKind;

/* A signed boolean may be missing or null, which is not the same as false. */
typedef enum PaymobFlag { PAYMOB_FLAG_ABSENT = 0, PAYMOB_FLAG_FALSE, PAYMOB_FLAG_TRUE } PaymobFlag;

typedef struct PaymobTransaction
{
	/* signed */
	int64_t		id;				/* 0: absent, as for all ids here */
	int64_t		order_id;		/* order.id: the intention_order_id of our order */
	int64_t		integration_id;
	int64_t		owner;
	char		amount_text[SPARKY_PAYMOB_AMOUNT_DIGITS + 1];	/* amount_cents as sent, '' when absent: fit for numeric */
	int64_t		amount_cents;	/* -1: absent, or beyond int64 */
	char		currency[4];	/* three capitals, or '' */
	char		created_at[48];	/* as sent, '' when absent */
	PaymobFlag	success;
	PaymobFlag	pending;
	PaymobFlag	error_occured;
	PaymobFlag	has_parent_transaction;
	PaymobFlag	is_3d_secure;
	PaymobFlag	is_auth;
	PaymobFlag	is_capture;
	PaymobFlag	is_refunded;
	PaymobFlag	is_standalone_payment;
	PaymobFlag	is_voided;
	char	   *source_type;	/* malloc'd, UTF-8, never NULL once read: "card", "wallet", ... */
	char	   *source_sub_type;
	char	   *source_pan;		/* last four digits, or a wallet's phone number: personal */

	/* not signed: whoever has seen the redirect may have changed them */
	PaymobFlag	is_refund;		/* a refund child; of another type than boolean: absent */
	PaymobFlag	is_void;
	int64_t		refunded_amount_cents;	/* running total of the parent; -1: absent, null or no plain integer */
	int64_t		captured_amount;		/* the same */
	int64_t		parent_transaction;
	char	   *merchant_order_id;	/* order.merchant_order_id, text or number; malloc'd, NULL when absent or null */
} PaymobTransaction;

typedef struct PaymobCallback
{
	PaymobKind	kind;
	const char *type;			/* "TRANSACTION", "TOKEN", "DELIVERY_STATUS", "subscription", "flash", "unknown"; NULL when unreadable; a literal */
	char	   *signed_text;	/* of a TRANSACTION: the concatenation, malloc'd; else NULL */
	size_t		signed_length;
	PaymobTransaction transaction;	/* zeros unless kind is PAYMOB_TRANSACTION */
} PaymobCallback;

/*
 * Reads a callback's body.  out is always set and always to be freed; why gets a
 * short English reason when the body is unreadable (never quoting it), '' otherwise.
 */
extern PaymobKind sparky_paymob_read(const char *body, size_t length, PaymobCallback *out, char *why, size_t why_size);
/* The same for a bare transaction object, as the inquiry API answers: PAYMOB_TRANSACTION or PAYMOB_UNREADABLE. */
extern PaymobKind sparky_paymob_read_transaction(const char *body, size_t length, PaymobCallback *out, char *why, size_t why_size);
extern void sparky_paymob_callback_free(PaymobCallback *callback);	/* also one of zeros */

/*
 * Is hmac_hex (128 hex digits, either case; NULL is fine) the digest of a
 * TRANSACTION under one of the secrets?  secrets: one or two, comma-separated,
 * white space around each ignored; a blank one never verifies, a third is not looked at.
 */
extern bool sparky_paymob_verify(const PaymobCallback *callback, const char *hmac_hex, const char *secrets);
/* The digest under the first of the secrets that is not blank, in lower case. false: no TRANSACTION, or no secret. */
extern bool sparky_paymob_hmac(const PaymobCallback *callback, const char *secrets, char hex[SPARKY_PAYMOB_HMAC_HEX + 1]);

/*
 * Do id, order, amount, currency and the signed flags say "paid, and nothing but paid"?  The
 * caller compares order, amount, currency, integration and owner with ours.
 */
extern bool sparky_paymob_paid(const PaymobTransaction *transaction);
/* The opposite: a refund, a void, or a child of another transaction (which may be a capture too). Signed fields only. */
extern bool sparky_paymob_reversal(const PaymobTransaction *transaction);

/*
 * What the event says, as a text: two genuine events of one transaction are the
 * same if and only if their states are equal.  Words separated by a space, in this order: what is true of
 * success, pending, error (declined, where none of them is), auth, capture,
 * voided, child (it has a parent), linked (no stand-alone payment); then
 * refunded=<cents> where is_refunded is true, captured=<cents> where is_capture
 * is; then -<word> for each of these flags that is absent.  The two totals are
 * not signed, so they are capped at the amount.
 */
extern void sparky_paymob_state(const PaymobTransaction *transaction, char state[SPARKY_PAYMOB_STATE_SIZE]);

#endif
