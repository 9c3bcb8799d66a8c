/*
 * identity.c: who is signed in.
 *
 * The same answer as auth.uid(): request.jwt.claim.sub when it is not empty,
 * else sub of request.jwt.claims.  Where auth.uid() would raise, over claims
 * that are no JSON or a sub that is no uuid, nobody is signed in.
 */
#include "postgres.h"

#include <ctype.h>

#include "utils/builtins.h"
#include "utils/guc.h"

#include "identity.h"
#include "json.h"
#include "raise.h"

static bool subject(char text[SPARKY_UUID_TEXT]);
static bool is_uuid(const char *text);

void
sparky_identity(pg_uuid_t *user, char text[SPARKY_UUID_TEXT])
{
	if (!sparky_identity_known(user, text))
		sparky_raise(WORD_NOT_SIGNED_IN, NULL, NULL, 0);
}

bool
sparky_identity_known(pg_uuid_t *user, char text[SPARKY_UUID_TEXT])
{
	if (!subject(text) || !is_uuid(text))
		return false;
	for (char *c = text; *c != '\0'; c++)
		*c = tolower((unsigned char) *c);
	*user = *DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(text)));
	return true;
}

/* Copy the subject as it was claimed; false when there is none, or none that could be a uuid. */
static bool
subject(char text[SPARKY_UUID_TEXT])
{
	const char *legacy = GetConfigOption("request.jwt.claim.sub", true, false);
	const char *claims = GetConfigOption("request.jwt.claims", true, false);
	JsonValue  *parsed;
	const char *claimed;
	char		why[160];
	bool		found;

	if (legacy != NULL && legacy[0] != '\0')
		return strlcpy(text, legacy, SPARKY_UUID_TEXT) < SPARKY_UUID_TEXT;
	if (claims == NULL || claims[0] == '\0')
		return false;

	/* Nothing between parse and free can throw. */
	parsed = sparky_json_parse(claims, strlen(claims), why, sizeof(why));
	claimed = sparky_json_string(sparky_json_get(parsed, "sub"), NULL);
	found = claimed != NULL && strlcpy(text, claimed, SPARKY_UUID_TEXT) < SPARKY_UUID_TEXT;
	sparky_json_free(parsed);
	return found;
}

static bool
is_uuid(const char *text)
{
	for (int i = 0; i < SPARKY_UUID_TEXT - 1; i++)
	{
		bool		dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? text[i] != '-' : !isxdigit((unsigned char) text[i]))
			return false;
	}
	return text[SPARKY_UUID_TEXT - 1] == '\0';
}
