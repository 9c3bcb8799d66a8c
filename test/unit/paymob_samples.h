/* paymob_samples.h: bodies as Paymob sends them, with published digests, and a way to change them. */
#ifndef SPARKY_PAYMOB_SAMPLES_H
#define SPARKY_PAYMOB_SAMPLES_H

#include "paymob_callback.h"
#include "tap.h"

/* The sample of Paymob's page on HMAC, less what is personal in it: none of that is signed. */
#define DOCS_SECRET "04DC1A9490B8CC2094C011FC055ADCDB"
#define DOCS_DIGEST "fa8ac0b7f3852e60c50e7fdd4ea5ef0bda96030c19dea1d55df8c76d6c08ab1877774662cbb04981dc84839ad4da560bcc8cb53b8973548657f7e8f8d2e79930"
#define DOCS_TEXT "1000002024-06-13T11:33:44.592345EGPfalsefalse1920364654097558truefalsefalsefalsetruefalse217503754302852false2346MasterCardcardtrue"

static const char docs_body[] =
	"{\"type\":\"TRANSACTION\",\"obj\":{\"id\":192036465,\"pending\":false,\"amount_cents\":100000,\"success\":true,\"is_auth\":false,"
	"\"is_capture\":false,\"is_standalone_payment\":true,\"is_voided\":false,\"is_refunded\":false,\"is_3d_secure\":true,"
	"\"integration_id\":4097558,\"profile_id\":164295,\"has_parent_transaction\":false,\"order\":{\"id\":217503754,"
	"\"created_at\":\"2024-06-13T11:32:09.628623\",\"merchant\":{\"id\":164295,\"phones\":[\"+20100\"]},\"collector\":null,"
	"\"shipping_data\":{\"id\":108010028,\"first_name\":\"buyer\",\"order_id\":217503754,\"order\":217503754},\"merchant_order_id\":null,"
	"\"items\":[],\"data\":{}},\"created_at\":\"2024-06-13T11:33:44.592345\",\"transaction_processed_callback_responses\":[],"
	"\"currency\":\"EGP\",\"source_data\":{\"pan\":\"2346\",\"type\":\"card\",\"tenure\":null,\"sub_type\":\"MasterCard\"},"
	"\"is_void\":false,\"is_refund\":false,\"data\":{\"klass\":\"MigsPayment\",\"migs_order\":{\"amount\":1000,\"id\":\"217503754\"},"
	"\"message\":\"Approved\"},\"payment_key_claims\":{\"extra\":{},\"user_id\":302852,\"order_id\":217503754,\"amount_cents\":100000},"
	"\"error_occured\":false,\"is_live\":false,\"refunded_amount_cents\":null,\"captured_amount\":null,"
	"\"updated_at\":\"2024-06-13T11:34:07.272638\",\"owner\":302852,\"parent_transaction\":null},\"issuer_bank\":null,"
	"\"transaction_processed_callback_responses\":\"\"}";

/* A body of the twenty signed values alone. */
__attribute__((unused)) static char *
plain_body(const char *amount, const char *created_at, const char *flags4, const char *ids, const char *source)
{
	char	   *body;

	if (asprintf(&body, "{\"type\":\"TRANSACTION\",\"obj\":{\"amount_cents\":%s,\"created_at\":\"%s\",\"currency\":\"EGP\",%s,%s,"
				 "\"is_auth\":false,\"is_capture\":false,\"is_refunded\":false,\"is_standalone_payment\":true,\"is_voided\":false,"
				 "\"source_data\":%s}}", amount, created_at, flags4, ids, source) < 0)
		abort();
	return body;
}

/* A copy with the first occurrence replaced; the test program ends where there is none. */
__attribute__((unused)) static char *
changed(const char *body, const char *old, const char *new)
{
	const char *at = strstr(body, old);
	size_t		size = strlen(body) + strlen(new) + 1;
	char	   *copy = malloc(size);

	if (at == NULL || copy == NULL)
	{
		printf("Bail out! the sample does not hold %s\n", old);
		exit(1);
	}
	snprintf(copy, size, "%.*s%s%s", (int) (at - body), body, new, at + strlen(old));
	return copy;
}

static inline bool
verifies(const char *body, const char *hmac, const char *secrets)
{
	PaymobCallback callback;
	bool		verified;

	sparky_paymob_read(body, strlen(body), &callback, NULL, 0);
	verified = sparky_paymob_verify(&callback, hmac, secrets);
	sparky_paymob_callback_free(&callback);
	return verified;
}

#endif
