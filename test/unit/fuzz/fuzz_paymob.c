/*
 * fuzz_paymob.c: libFuzzer over the reader of Paymob's callbacks, and over the
 * readers of its answers, which see the same bytes.
 *
 * Beyond what the sanitizers see, promises are asserted: what is read verifies
 * with its own digest and no other, its signed text is what the struct says, and
 * nothing is paid that lacks a part.
 */
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "paymob.h"

#define PROMISE(held) do { if (!(held)) abort(); } while (0)

static void check_transaction(const PaymobCallback *callback);
static void fuzz_answers(const char *body, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char	   *exact = malloc(size > 0 ? size : 1);	/* so that a byte too far is seen */
	PaymobCallback callback;
	char		why[100];

	memcpy(exact, data, size);
	PROMISE(sparky_paymob_read(exact, size, &callback, why, sizeof(why)) == callback.kind);
	PROMISE((callback.kind == PAYMOB_UNREADABLE) == (why[0] != '\0') && (callback.type == NULL) == (why[0] != '\0'));
	if (callback.kind == PAYMOB_TRANSACTION)
		check_transaction(&callback);
	else
		PROMISE(callback.signed_text == NULL && callback.transaction.source_pan == NULL);
	sparky_paymob_callback_free(&callback);
	fuzz_answers(exact, size);
	free(exact);
	return 0;
}

static void
check_transaction(const PaymobCallback *callback)
{
	const PaymobTransaction *t = &callback->transaction;
	char		hex[SPARKY_PAYMOB_HMAC_HEX + 1];
	char		state[SPARKY_PAYMOB_STATE_SIZE];
	size_t		amount = strlen(t->amount_text);

	PROMISE(strlen(callback->signed_text) == callback->signed_length && sparky_utf8_valid(callback->signed_text, callback->signed_length));
	PROMISE(strncmp(callback->signed_text, t->amount_text, amount) == 0);
	PROMISE(strncmp(callback->signed_text + amount, t->created_at, strlen(t->created_at)) == 0);
	PROMISE(t->id >= 0 && t->order_id >= 0 && t->integration_id >= 0 && t->owner >= 0 && t->amount_cents >= -1);
	PROMISE(t->source_pan != NULL && t->source_type != NULL && t->source_sub_type != NULL);
	PROMISE(sparky_paymob_hmac(callback, "secret", hex) && sparky_paymob_verify(callback, hex, "old, secret"));
	PROMISE(!sparky_paymob_verify(callback, hex, "other") && !sparky_paymob_verify(callback, hex, " ,"));
	hex[127] = hex[127] == '0' ? '1' : '0';
	PROMISE(!sparky_paymob_verify(callback, hex, "secret"));
	sparky_paymob_state(t, state);
	PROMISE(state[0] != '\0' && strlen(state) + 1 < sizeof(state));
	if (sparky_paymob_paid(t))
		PROMISE(strcmp(state, "success") == 0 && !sparky_paymob_reversal(t) && t->order_id > 0 && t->amount_cents > 0 &&
				strlen(t->currency) == 3 && callback->signed_text[callback->signed_length - 1] == 'e');
}

static void
fuzz_answers(const char *body, size_t size)
{
	static const int statuses[] = {201, 200, 400, 401, 404, 500};
	PaymobIntention sent = {.amount_cents = 9900, .currency = "EGP", .reference = "ref-1"};
	PaymobQuestion question = {0, 217503754, NULL};
	PaymobExchange exchange = {TRANSPORT_DONE, statuses[size % 6], body, size, "token"};
	PaymobIntentionAnswer intention;
	PaymobTokenAnswer token;
	PaymobInquiryAnswer inquiry;

	sparky_paymob_read_intention(&exchange, &sent, &intention);
	PROMISE((intention.outcome == OUTCOME_OK) == (intention.client_secret != NULL) && strstr(intention.message, "token") == NULL);
	PROMISE((intention.outcome == OUTCOME_OK) == (intention.message[0] == '\0'));
	sparky_paymob_intention_answer_free(&intention);
	sparky_paymob_read_token(&exchange, &token);
	PROMISE((token.outcome == OUTCOME_OK) == (token.token != NULL));
	sparky_paymob_token_answer_free(&token);
	sparky_paymob_read_inquiry(&exchange, &question, &inquiry);
	PROMISE(!inquiry.found || (inquiry.outcome == OUTCOME_OK && inquiry.callback.transaction.order_id == 217503754));
	sparky_paymob_inquiry_answer_free(&inquiry);
}
