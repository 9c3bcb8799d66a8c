/*
 * payments.h: from a genuine event of Paymob's to credits.  SPI connected, owner
 * scope entered; all of it is one transaction, the caller's.
 *
 * What an order is worth is decided anew with each event, from the set of all
 * events of its Paymob order (payment_decision.h).  So order of arrival and
 * repeats do not matter, and what is booked already is told by the ledger alone.
 *
 * Locks, always in this order: the Paymob order (advisory), the row in auth.users
 * (shared: before ours, as a deletion takes them), the order's row, the user's row.
 * Each may be waited for; in the worker lock_timeout makes an ERROR of it, and the
 * same call again later is all that is needed.  The worker that stores an
 * intention_order_id takes sparky_payments_lock() of it BEFORE it touches the
 * order's row, and calls sparky_payments_match() after, in the same transaction.
 */
#ifndef SPARKY_PAYMENTS_H
#define SPARKY_PAYMENTS_H

#include "postgres.h"
#include "datatype/timestamp.h"

#include "paymob_callback.h"

typedef enum PaymentSource
{
	PAYMENT_WEBHOOK,			/* its digest was verified */
	PAYMENT_INQUIRY				/* Paymob's answer to a question of ours, by TLS: confirms what is not signed */
} PaymentSource;

typedef struct PaymentResult
{
	const char *result;			/* a literal: "logged", "duplicate", "declined", "unmatched" */
	const char *outcome;		/* of the event, as in payment_events.outcome: a literal */
	int64		event_id;
} PaymentResult;

/* Everything about one order of Paymob's stands in one line behind this lock, until the transaction ends. */
extern void sparky_payments_lock(int64 paymob_order_id);
/* The same without waiting; false: somebody else holds it. */
extern bool sparky_payments_try_lock(int64 paymob_order_id);

/*
 * Log a genuine TRANSACTION and act upon it: the one path for webhooks and for
 * inquiries.  Nothing malloc'd in the callback is touched: a flat copy will do.
 * body: as received, a text in the server's encoding.  A partial
 * refund that came by webhook asks for an inquiry (orders.inquire_at = now; the
 * question to ask is payments.transaction_id: its answer has the running total).
 * An order that becomes paid, or is given back as a whole, has its inquire_at
 * cleared; otherwise PAYMENT_INQUIRY leaves it alone: when to ask again is its
 * caller's choice.
 */
extern void sparky_payments_record(const PaymobCallback *callback, const char *body, PaymentSource source, TimestampTz now, PaymentResult *result);
/* An order has just learned its intention_order_id: act upon events that came before. */
extern void sparky_payments_match(int64 paymob_order_id, TimestampTz now);
/* All events again, in the order of their arrival; how many there were. Notifies nobody. */
extern int64 sparky_payments_replay(TimestampTz now);

/* Keep what was refused, if there is room (ten a second, 1,000 in all). reason is a literal or of our making; digest may be NULL. */
extern void sparky_payments_refuse(const char *reason, const char *digest, const char *body, TimestampTz now);

/* Payments that an operator has to look at: paid twice, or for an account that is gone. */
extern int64 sparky_payments_flagged(void);

#endif
