/*
 * api_paymob.c: Paymob's digests for tests and operators.
 *
 * Rules.  No SQL, no snapshot, no settings: both functions are immutable.  They
 * never raise for what they are given, and neither text goes into a message.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "compat.h"
#include "paymob_callback.h"

static PaymobKind read_argument(FunctionCallInfo fcinfo, int argument, PaymobCallback *callback);

/* paymob_hmac(body text, secret text) → text */
SPARKY_FUNCTION(sparky_paymob_hmac_sql);
Datum
sparky_paymob_hmac_sql(PG_FUNCTION_ARGS)
{
	PaymobCallback callback;
	char		hex[SPARKY_PAYMOB_HMAC_HEX + 1];
	char	   *secret;
	bool		signed_by_it;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	/* What may throw comes before what is malloc'd. */
	secret = text_to_cstring(PG_GETARG_TEXT_PP(1));
	read_argument(fcinfo, 0, &callback);
	signed_by_it = sparky_paymob_hmac(&callback, secret, hex);
	sparky_paymob_callback_free(&callback);
	if (!signed_by_it)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(hex));
}

/* paymob_verify(body text, hmac text, secret text) → boolean */
SPARKY_FUNCTION(sparky_paymob_verify_sql);
Datum
sparky_paymob_verify_sql(PG_FUNCTION_ARGS)
{
	PaymobCallback callback;
	char	   *hmac;
	char	   *secret;
	bool		verified;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		PG_RETURN_BOOL(false);
	hmac = text_to_cstring(PG_GETARG_TEXT_PP(1));
	secret = text_to_cstring(PG_GETARG_TEXT_PP(2));
	read_argument(fcinfo, 0, &callback);
	verified = sparky_paymob_verify(&callback, hmac, secret);
	sparky_paymob_callback_free(&callback);
	PG_RETURN_BOOL(verified);
}

static PaymobKind
read_argument(FunctionCallInfo fcinfo, int argument, PaymobCallback *callback)
{
	text	   *body = PG_GETARG_TEXT_PP(argument);

	return sparky_paymob_read(VARDATA_ANY(body), VARSIZE_ANY_EXHDR(body), callback, NULL, 0);
}
