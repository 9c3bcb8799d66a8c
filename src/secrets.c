/*
 * secrets.c: where the keys come from.
 *
 * First the GUC sparky.NAME: superuser-only, hidden from SHOW ALL, and
 * POSTMASTER because core logs the new value of a SIGHUP setting on reload.
 * Else the server's environment.  A role with pg_read_all_settings can read a
 * GUC; nobody can read the environment through SQL, so prefer that.
 * Else the secret NAME of Supabase Vault, read as the data owner.
 *
 * Vault needs SQL, and keys are wanted where there is no transaction: so
 * sparky_secrets_refresh() copies what is missing, in a transaction, and the
 * copy serves for a minute, or until the next reload.  One that was replaced
 * stays until the next refresh, for an errand that holds it; then it is wiped, and
 * its memory given back.  A vault that cannot be read is no error: what was
 * copied before stays in use, and health() tells.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "owner.h"
#include "secrets.h"

#define COPY_MS 60000
/* A vault that could not be read is tried again so soon. */
#define RETRY_MS 5000
#define WHITE_SPACE " \t\r\n"
#define PREFIX_LENGTH (sizeof("sparky.") - 1)

typedef struct SecretSource
{
	const char *setting;
	const char *what;
	const char *environment;
	char	   *value;			/* of the setting */
	char	   *vault;			/* our copy, in TopMemoryContext, or NULL */
	char	   *retired;		/* the one before it */
} SecretSource;

static SecretSource sources[SECRET_COUNT] = {
	[SECRET_GEMINI_API_KEY] = {"sparky.gemini_api_key", "Key of the Gemini API.", "GEMINI_API_KEY", NULL, NULL, NULL},
	[SECRET_STORAGE_SERVICE_KEY] = {"sparky.storage_service_key", "Service key of the Supabase Storage API.", "STORAGE_SERVICE_KEY", NULL, NULL, NULL},
	[SECRET_PAYMOB_HMAC_SECRET] = {"sparky.paymob_hmac_secret", "HMAC secret of Paymob's callbacks; two, comma-separated, while rotating.", "PAYMOB_HMAC_SECRET", NULL, NULL, NULL},
	[SECRET_PAYMOB_SECRET_KEY] = {"sparky.paymob_secret_key", "Secret key of Paymob's intention API.", "PAYMOB_SECRET_KEY", NULL, NULL, NULL},
	[SECRET_PAYMOB_PUBLIC_KEY] = {"sparky.paymob_public_key", "Public key of Paymob's checkout page.", "PAYMOB_PUBLIC_KEY", NULL, NULL, NULL},
	[SECRET_PAYMOB_API_KEY] = {"sparky.paymob_api_key", "API key of Paymob's inquiry API.", "PAYMOB_API_KEY", NULL, NULL, NULL},
};

static TimestampTz copied_at = 0;
static int	copied_for_ms = 0;
static char problem[64] = "";

static const char *configured(const SecretSource *source);
static bool vault_is_here(void);
static void copy_from_vault(void);
static void take(const char *name, text *secret, bool *seen);
static void forget(SecretSource *source);
static void wipe(char **copy);

static bool
blank(const char *text)
{
	return text == NULL || text[strspn(text, WHITE_SPACE)] == '\0';
}

const char *
sparky_secret(Secret secret)
{
	const char *value = configured(&sources[secret]);

	return value != NULL ? value : sources[secret].vault;
}

/* From the settings or the environment, which go before Vault. */
static const char *
configured(const SecretSource *source)
{
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

const char *
sparky_secrets_problem(void)
{
	return problem[0] == '\0' ? NULL : problem;
}

void
sparky_secrets_refresh(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (copied_at != 0 && copied_at >= PgReloadTime && !TimestampDifferenceExceeds(copied_at, now, copied_for_ms))
		return;
	problem[0] = '\0';
	copied_for_ms = COPY_MS;
	for (int i = 0; i < SECRET_COUNT; i++)
		wipe(&sources[i].retired);
	if (vault_is_here())
		copy_from_vault();
	else
		for (int i = 0; i < SECRET_COUNT; i++)
			forget(&sources[i]);
	copied_at = now;
}

/* Looked up in the catalogue's caches: where there is no vault this costs nothing. */
static bool
vault_is_here(void)
{
	Oid			argument = TEXTARRAYOID;
	Oid			ours;

	if (!OidIsValid(get_namespace_oid("vault", true)))
		return false;
	ours = get_namespace_oid("sparky", true);
	/* An older version's SQL has no such function. */
	return OidIsValid(ours) &&
		SearchSysCacheExists3(PROCNAMEARGSNSP, CStringGetDatum("vault_secrets"), PointerGetDatum(buildoidvector(&argument, 1)), ObjectIdGetDatum(ours));
}

static void
copy_from_vault(void)
{
	static SPIPlanPtr plan;
	Oid			types[] = {TEXTARRAYOID};
	Datum		names[SECRET_COUNT];
	bool		seen[SECRET_COUNT] = {false};
	int			wanted = 0;
	Datum		value;
	bool		isnull;

	for (int i = 0; i < SECRET_COUNT; i++)
	{
		if (configured(&sources[i]) != NULL)
			forget(&sources[i]);
		else
			names[wanted++] = CStringGetTextDatum(sources[i].setting + PREFIX_LENGTH);
	}
	if (wanted == 0)
		return;
	value = PointerGetDatum(construct_array(names, wanted, TEXTOID, -1, false, TYPALIGN_INT));
	sparky_plan(&plan, "SELECT v.name, v.secret, v.problem FROM sparky.vault_secrets($1) v", 1, types);
	(void) sparky_execute_latest(plan, &value, NULL, 0);
	for (uint64 row = 0; row < SPI_processed; row++)
	{
		char	   *trouble = sparky_column_text(row, 3);

		if (trouble != NULL)
		{
			snprintf(problem, sizeof(problem), "secrets in vault cannot be read (%s)", trouble);
			copied_for_ms = RETRY_MS;
			continue;
		}
		value = sparky_column(row, 2, &isnull);
		take(sparky_column_text(row, 1), DatumGetTextPP(value), seen);
	}
	for (int i = 0; i < SECRET_COUNT; i++)
		if (!seen[i] && problem[0] == '\0')
			forget(&sources[i]);
}

/* Keep a copy without the white space around it, and leave none in memory that is given back. */
static void
take(const char *name, text *secret, bool *seen)
{
	const char *start = VARDATA_ANY(secret);
	size_t		length = VARSIZE_ANY_EXHDR(secret);

	/* What was pasted into a dashboard or read from a file often ends in a line break, which no header may hold. */
	while (length > 0 && strchr(WHITE_SPACE, *start) != NULL)
		start++, length--;
	while (length > 0 && strchr(WHITE_SPACE, start[length - 1]) != NULL)
		length--;
	for (int i = 0; i < SECRET_COUNT; i++)
	{
		SecretSource *source = &sources[i];
		char	   *copy;

		if (strcmp(name, source->setting + PREFIX_LENGTH) != 0)
			continue;
		seen[i] = true;
		if (source->vault != NULL && strlen(source->vault) == length && memcmp(source->vault, start, length) == 0)
			continue;
		copy = MemoryContextAlloc(TopMemoryContext, length + 1);
		memcpy(copy, start, length);
		copy[length] = '\0';
		forget(source);
		if (blank(copy))
			pfree(copy);
		else
			source->vault = copy;
	}
	explicit_bzero(VARDATA_ANY(secret), VARSIZE_ANY_EXHDR(secret));
}

static void
forget(SecretSource *source)
{
	if (source->vault == NULL)
		return;
	wipe(&source->retired);
	source->retired = source->vault;
	source->vault = NULL;
}

static void
wipe(char **copy)
{
	if (*copy == NULL)
		return;
	explicit_bzero(*copy, strlen(*copy));
	pfree(*copy);
	*copy = NULL;
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
