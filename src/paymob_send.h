/*
 * paymob_send.h: a message of paymob.h on its way as an errand's request.
 *
 * A PaymobSending is the first member of the errand's state, so that what libcurl
 * calls for bytes finds it.  Whoever made the errand frees it, from a reset
 * callback of its context.
 */
#ifndef SPARKY_PAYMOB_SEND_H
#define SPARKY_PAYMOB_SEND_H

#include "errand.h"
#include "paymob.h"

typedef struct PaymobSending
{
	PaymobMessage message;
	size_t		sent;			/* of the body */
	const char *headers[6];
} PaymobSending;

/* How long an exchange may take: sparky.call_timeout, and at most half a minute. */
extern int	sparky_paymob_timeout_ms(void);
/* Fill the errand's request; the message must stay until the exchange has ended. */
extern void sparky_paymob_send(PaymobSending *sending, HttpRequest *request);
/* What the reader of the answer wants to know; secret may be NULL. */
extern void sparky_paymob_exchange(const Errand *errand, const HttpResult *result, const char *secret, PaymobExchange *exchange);
/* Wipe and free the message; safe to repeat. */
extern void sparky_paymob_sent(PaymobSending *sending);
/* A text of the server's as UTF-8; NULL stays NULL. */
extern char *sparky_paymob_utf8(const char *text);

#endif
