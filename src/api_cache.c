/* api_cache.c: sparky.cache_key, the key as any client can compute it.  No SQL, no snapshot: immutable. */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "cache.h"
#include "compat.h"
#include "raise.h"

/* cache_key(user_id uuid, tool_id text, original_image_hash text, tool_parameters jsonb, tool_revision int = 1) → text */
SPARKY_FUNCTION(sparky_cache_key);
Datum
sparky_cache_key(PG_FUNCTION_ARGS)
{
	const char *parameters = "{}";
	char		key[65];

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2) || PG_ARGISNULL(4))
		PG_RETURN_NULL();
	if (!PG_ARGISNULL(3))
	{
		Jsonb	   *given = PG_GETARG_JSONB_P(3);

		parameters = JsonbToCString(NULL, &given->root, VARSIZE(given));
	}
	if (!sparky_cache_key_make(PG_GETARG_UUID_P(0), text_to_cstring(PG_GETARG_TEXT_PP(1)),
							   text_to_cstring(PG_GETARG_TEXT_PP(2)), parameters,
							   PG_GETARG_INT32(4), key))
		sparky_raise(WORD_BAD_PARAMETERS, "tool_parameters must be JSON that RFC 8785 can canonicalise", NULL, 0);
	PG_RETURN_TEXT_P(cstring_to_text(key));
}
