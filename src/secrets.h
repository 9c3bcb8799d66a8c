/* secrets.h: where the keys come from.  A secret is never logged, stored or shown. */
#ifndef SPARKY_SECRETS_H
#define SPARKY_SECRETS_H

#include <stdbool.h>

typedef enum Secret { SECRET_GEMINI_API_KEY, SECRET_COUNT } Secret;

/* The superuser-only GUC, else the server's environment. NULL when missing or blank. The text belongs to the process: do not free. */
extern const char *sparky_secret(Secret secret);
extern const char *sparky_secret_setting(Secret secret);	/* "sparky.gemini_api_key": what to name in a complaint */
extern void sparky_secrets_define(void);	/* at preload only: the GUCs are POSTMASTER */

#endif
