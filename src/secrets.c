/*
 * secrets.c: where the keys come from.
 *
 * First the GUC sparky.NAME: superuser-only, hidden from SHOW ALL, and
 * POSTMASTER because core logs the new value of a SIGHUP setting on reload.
 * Else the server's environment.  A role with pg_read_all_settings can read a
 * GUC; nobody can read the environment through SQL, so prefer that.
 */
#include "postgres.h"

#include "utils/guc.h"

#include "secrets.h"

typedef struct SecretSource
{
	const char *setting;
	const char *what;
	const char *environment;
	char	   *value;
} SecretSource;

static SecretSource sources[SECRET_COUNT] = {
	[SECRET_GEMINI_API_KEY] = {"sparky.gemini_api_key", "Key of the Gemini API.", "GEMINI_API_KEY", NULL},
};

static bool
blank(const char *text)
{
	return text == NULL || text[strspn(text, " \t\r\n")] == '\0';
}

const char *
sparky_secret(Secret secret)
{
	const SecretSource *source = &sources[secret];
	const char *value = source->value;

	if (blank(value))
		value = getenv(source->environment);
	return blank(value) ? NULL : value;
}

const char *
sparky_secret_setting(Secret secret)
{
	return sources[secret].setting;
}

void
sparky_secrets_define(void)
{
	for (int i = 0; i < SECRET_COUNT; i++)
		DefineCustomStringVariable(sources[i].setting, sources[i].what,
								   "Prefer the server's environment: pg_read_all_settings can read this.",
								   &sources[i].value, "", PGC_POSTMASTER,
								   GUC_SUPERUSER_ONLY | GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE, NULL, NULL, NULL);
}
