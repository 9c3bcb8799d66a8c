/*
 * payment_book.h: what was decided about an order of Paymob's, carried out.
 * SPI connected, owner scope entered; the Paymob order is locked by the caller.
 */
#ifndef SPARKY_PAYMENT_BOOK_H
#define SPARKY_PAYMENT_BOOK_H

#include "postgres.h"
#include "datatype/timestamp.h"

#include "payment_decision.h"

typedef enum PaymentAsk
{
	PAYMENT_ASK_NOT,			/* the caller sees to further inquiries */
	PAYMENT_ASK,				/* when a part given back is not confirmed */
	PAYMENT_ASK_LATER			/* also without: something that is not signed hints at a refund */
} PaymentAsk;

/*
 * Decide about all events of a Paymob order, and bring ledger, plan, order,
 * payment and the events' outcomes in step with it; what is in step already is
 * not written.  quiet: without notifications.  Returns the outcome of the
 * given event, PAYMENT_UNMATCHED where it is none of the order's.
 */
extern PaymentOutcome sparky_payment_book(int64 paymob_order_id, int64 event, PaymentAsk ask, bool quiet, TimestampTz now);

#endif
