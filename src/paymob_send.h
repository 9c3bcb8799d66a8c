/*
 * paymob_send.h: a message of paymob.h on its way as an errand's request.
 *
 * Whoever made the errand frees the message, from a reset callback of its
 * context.
 */
#ifndef SPARKY_PAYMOB_SEND_H
#define SPARKY_PAYMOB_SEND_H

#include "errand.h"
#include "paymob.h"

typedef struct PaymobSending
{
	PaymobMessage message;
	const char *headers[6];
} PaymobSending;

/* How long an exchange may take: sparky.call_timeout, and at most half a minute. */
extern int	sparky_paymob_timeout_ms(void);
/* Fill the errand's request; the message must stay until the exchange has ended. */
extern void sparky_paymob_send(Errand *errand, PaymobSending *sending, HttpRequest *request);
/* What the reader of the answer wants to know; secret may be NULL. */
extern void sparky_paymob_exchange(const Errand *errand, const HttpResult *result, const char *secret, PaymobExchange *exchange);
/* Wipe and free the message; safe to repeat. */
extern void sparky_paymob_sent(PaymobSending *sending);
/* A text of the server's as UTF-8; NULL stays NULL. */
extern char *sparky_paymob_utf8(const char *text);

#endif
