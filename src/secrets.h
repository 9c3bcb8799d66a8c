/* secrets.h: where the keys come from.  A secret is never logged, stored or shown. */
#ifndef SPARKY_SECRETS_H
#define SPARKY_SECRETS_H

#include <stdbool.h>

typedef enum Secret
{
	SECRET_GEMINI_API_KEY,
	SECRET_STORAGE_SERVICE_KEY,
	SECRET_PAYMOB_HMAC_SECRET,	/* two, comma-separated, while rotating */
	SECRET_PAYMOB_SECRET_KEY,	/* of the intention API */
	SECRET_PAYMOB_PUBLIC_KEY,	/* in the checkout link */
	SECRET_PAYMOB_API_KEY,		/* of the inquiry API */
	SECRET_COUNT
} Secret;

/*
 * The superuser-only GUC, else the server's environment, else our copy from Supabase Vault. NULL when missing or blank.
 * The text belongs to the process: do not free, nor keep it for longer than it takes to send a request.
 */
extern const char *sparky_secret(Secret secret);
extern const char *sparky_secret_setting(Secret secret);	/* "sparky.gemini_api_key": what to name in a complaint */
/* Renew the copy from Vault if it is a minute old. In a transaction, in an owner scope (or as the worker), SPI connected. */
extern void sparky_secrets_refresh(void);
extern const char *sparky_secrets_problem(void);	/* why Vault could not be read, or NULL */
extern void sparky_secrets_define(void);	/* at preload only: the GUCs are POSTMASTER */

#endif
