/*
 * paymob_event.c: what a callback that was read is worth: its digest, whether it
 * says that money was paid, and which event it is.
 *
 * Rules.  Plain C, nothing throws.  An empty or blank secret verifies nothing,
 * and digests are compared as bytes, in constant time.  Only signed fields decide;
 * where an unsigned total is used, a signed flag must allow it.  A flag that is
 * absent is not false.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "crypto.h"
#include "paymob_callback.h"

#define SECRETS_MAX 2			/* the old and the new one, while they are changed */
#define WHITE_SPACE " \t\r\n\v\f"
#define HMAC_BYTES SPARKY_SHA512_BYTES
#define RESULT_WORDS 3			/* of a state: success, pending, error */

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

_Static_assert(SPARKY_PAYMOB_HMAC_HEX == 2 * HMAC_BYTES, "a digest is written in hex");

static const char *next_secret(const char **secrets, size_t *length);
static bool may_be_signed(const PaymobCallback *callback);
static void add_word(char *state, const char *format,...) __attribute__((format(printf, 2, 3)));
static long long capped(int64_t total, int64_t amount);

/* ---- digests ---- */

bool
sparky_paymob_verify(const PaymobCallback *callback, const char *hmac_hex, const char *secrets)
{
	uint8_t		claimed[HMAC_BYTES];
	uint8_t		digest[HMAC_BYTES];
	const char *secret;
	size_t		length;
	bool		same = false;

	if (!may_be_signed(callback) || hmac_hex == NULL || secrets == NULL)
		return false;
	if (strlen(hmac_hex) != SPARKY_PAYMOB_HMAC_HEX || !sparky_unhex(hmac_hex, SPARKY_PAYMOB_HMAC_HEX, claimed))
		return false;
	for (int i = 0; i < SECRETS_MAX && (secret = next_secret(&secrets, &length)) != NULL; i++)
	{
		if (length > 0 && sparky_hmac_sha512(secret, length, callback->signed_text, callback->signed_length, digest) &&
			sparky_same_bytes(digest, claimed, sizeof(digest)))
			same = true;
	}
	return same;
}

bool
sparky_paymob_hmac(const PaymobCallback *callback, const char *secrets, char hex[SPARKY_PAYMOB_HMAC_HEX + 1])
{
	uint8_t		digest[HMAC_BYTES];
	const char *secret;
	size_t		length;

	hex[0] = '\0';
	if (!may_be_signed(callback))
		return false;
	for (int i = 0; i < SECRETS_MAX && (secret = next_secret(&secrets, &length)) != NULL; i++)
	{
		if (length == 0)
			continue;
		if (!sparky_hmac_sha512(secret, length, callback->signed_text, callback->signed_length, digest))
			return false;
		sparky_hex(digest, sizeof(digest), hex);
		return true;
	}
	return false;
}

/* The next of a comma-separated list without the white space around it, perhaps of length 0; NULL at the end. */
static const char *
next_secret(const char **secrets, size_t *length)
{
	const char *start = *secrets;
	size_t		size;

	if (start == NULL)
		return NULL;
	size = strcspn(start, ",");
	*secrets = start[size] == ',' ? start + size + 1 : NULL;
	while (size > 0 && strchr(WHITE_SPACE, *start) != NULL)
		start++, size--;
	while (size > 0 && strchr(WHITE_SPACE, start[size - 1]) != NULL)
		size--;
	*length = size;
	return start;
}

static bool
may_be_signed(const PaymobCallback *callback)
{
	return callback->kind == PAYMOB_TRANSACTION && callback->signed_text != NULL;
}

/* ---- what it means ---- */

bool
sparky_paymob_paid(const PaymobTransaction *transaction)
{
	return transaction->id > 0 && transaction->order_id > 0 &&
		transaction->amount_cents > 0 && transaction->currency[0] != '\0' &&
		transaction->success == PAYMOB_FLAG_TRUE &&
		transaction->is_standalone_payment == PAYMOB_FLAG_TRUE &&
		transaction->pending == PAYMOB_FLAG_FALSE &&
		transaction->error_occured == PAYMOB_FLAG_FALSE &&
		transaction->is_auth == PAYMOB_FLAG_FALSE &&
		transaction->is_capture == PAYMOB_FLAG_FALSE &&
		transaction->is_voided == PAYMOB_FLAG_FALSE &&
		transaction->is_refunded == PAYMOB_FLAG_FALSE &&
		transaction->has_parent_transaction == PAYMOB_FLAG_FALSE;
}

bool
sparky_paymob_reversal(const PaymobTransaction *transaction)
{
	return transaction->is_refunded == PAYMOB_FLAG_TRUE ||
		transaction->is_voided == PAYMOB_FLAG_TRUE ||
		transaction->has_parent_transaction == PAYMOB_FLAG_TRUE;
}

void
sparky_paymob_state(const PaymobTransaction *transaction, char state[SPARKY_PAYMOB_STATE_SIZE])
{
	const PaymobTransaction *t = transaction;
	const struct
	{
		const char *word;
		PaymobFlag	flag;
		PaymobFlag	said;		/* the value at which the word is written */
	}			words[] = {
		{"success", t->success, PAYMOB_FLAG_TRUE},
		{"pending", t->pending, PAYMOB_FLAG_TRUE},
		{"error", t->error_occured, PAYMOB_FLAG_TRUE},
		{"auth", t->is_auth, PAYMOB_FLAG_TRUE},
		{"capture", t->is_capture, PAYMOB_FLAG_TRUE},
		{"voided", t->is_voided, PAYMOB_FLAG_TRUE},
		{"child", t->has_parent_transaction, PAYMOB_FLAG_TRUE},
		{"linked", t->is_standalone_payment, PAYMOB_FLAG_FALSE},
		{"refunded", t->is_refunded, PAYMOB_FLAG_ABSENT},	/* written below, with its total */
	};

	state[0] = '\0';
	for (size_t i = 0; i < LENGTH(words); i++)
	{
		if (i == RESULT_WORDS && state[0] == '\0')
			add_word(state, "declined");
		if (words[i].flag != PAYMOB_FLAG_ABSENT && words[i].flag == words[i].said)
			add_word(state, "%s", words[i].word);
	}
	if (t->is_refunded == PAYMOB_FLAG_TRUE)
		add_word(state, "refunded=%lld", capped(t->refunded_amount_cents, t->amount_cents));
	if (t->is_capture == PAYMOB_FLAG_TRUE)
		add_word(state, "captured=%lld", capped(t->captured_amount, t->amount_cents));
	for (size_t i = 0; i < LENGTH(words); i++)
	{
		if (words[i].flag == PAYMOB_FLAG_ABSENT)
			add_word(state, "-%s", words[i].word);
	}
}

static void
add_word(char *state, const char *format,...)
{
	size_t		length = strlen(state);
	va_list		arguments;

	if (length > 0 && length + 1 < SPARKY_PAYMOB_STATE_SIZE)
	{
		state[length++] = ' ';
		state[length] = '\0';
	}
	va_start(arguments, format);
	vsnprintf(state + length, SPARKY_PAYMOB_STATE_SIZE - length, format, arguments);
	va_end(arguments);
}

/* An unknown total is 0; an amount that int64 cannot hold is no cap. */
static long long
capped(int64_t total, int64_t amount)
{
	if (total < 0)
		return 0;
	return amount >= 0 && total > amount ? amount : total;
}
