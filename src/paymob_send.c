/*
 * paymob_send.c: a message of paymob.h on its way as an errand's request.
 *
 * Each exchange has a connection of its own: a reset on a reused one would leave
 * an order of which nobody knows whether it was made.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "paymob_send.h"
#include "settings.h"

/* Paymob answers within a second or two. A buyer who waits holds a connection of PostgREST's: not for as long as a picture may take. */
#define LONGEST_EXCHANGE_MS 30000

int
sparky_paymob_timeout_ms(void)
{
	return (int) Min((int64) sparky_call_timeout * 1000, LONGEST_EXCHANGE_MS);
}

void
sparky_paymob_send(Errand *errand, PaymobSending *sending, HttpRequest *request)
{
	PaymobMessage *message = &sending->message;
	int			n = 0;

	if (message->authorization)
		sending->headers[n++] = message->authorization;
	if (message->body)
		sending->headers[n++] = "Content-Type: application/json";
	sending->headers[n++] = "Accept: application/json";
	sending->headers[n++] = "User-Agent: sparky/" SPARKY_VERSION;
	sending->headers[n] = NULL;
	errand->outgoing = message->body;
	errand->outgoing_length = message->body_length;
	request->method = message->method;
	request->url = message->url;
	request->headers = sending->headers;
	request->has_body = message->body != NULL;
	request->total_timeout_ms = sparky_paymob_timeout_ms();
	request->single_use = true;
}

void
sparky_paymob_exchange(const Errand *errand, const HttpResult *result, const char *secret, PaymobExchange *exchange)
{
	exchange->transport = result->transport;
	exchange->http_status = result->status;
	exchange->body = errand->body ? errand->body + errand->lead : NULL;
	exchange->length = errand->length;
	exchange->secret = secret;
}

void
sparky_paymob_sent(PaymobSending *sending)
{
	sparky_paymob_message_free(&sending->message);
	memset(sending, 0, sizeof(*sending));
}

char *
sparky_paymob_utf8(const char *text)
{
	return text == NULL ? NULL : pg_server_to_any(text, strlen(text), PG_UTF8);
}
