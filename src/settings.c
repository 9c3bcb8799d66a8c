/*
 * settings.c: every sparky.* setting.
 *
 * All but sparky.install are PGC_SIGHUP or PGC_POSTMASTER: only the conf file
 * and ALTER SYSTEM set them, so that no tenant can point the key at a host of
 * his own.  Secrets are not here but in secrets.c.
 */
#include "postgres.h"

#include <limits.h>

#include "utils/guc.h"

#include "settings.h"

char	   *sparky_databases;
int			sparky_max_databases;
char	   *sparky_gemini_base_url;
char	   *sparky_tls_ca_file;
char	   *sparky_plain_http_hosts;
int			sparky_max_concurrent_calls;
int			sparky_memory_budget;
int			sparky_accept_timeout;
int			sparky_connect_timeout;
int			sparky_call_timeout;
int			sparky_job_deadline;
int			sparky_lease_time;
int			sparky_storage_deadline;
int			sparky_cache_ttl;
int			sparky_max_jobs_per_user;
int			sparky_max_waiting_calls;
int			sparky_max_waiting_calls_per_user;
int			sparky_max_uncharged_calls_per_day;
int			sparky_max_provider_calls_per_day;
int			sparky_max_image_bytes;
int			sparky_max_stored_bytes_per_user;
int			sparky_uploads_per_hour;
int			sparky_job_retention;
int			sparky_provider_call_retention;
int			sparky_cron_history_retention;
char	   *sparky_storage_url;
int			sparky_storage_timeout;
char	   *sparky_storage_public_url;
char	   *sparky_public_url;
char	   *sparky_paymob_base_url;
char	   *sparky_paymob_checkout_url;
char	   *sparky_paymob_integration_ids;
char	   *sparky_paymob_owner;
char	   *sparky_paymob_notification_url;
char	   *sparky_paymob_redirection_url;
int			sparky_inquiry_delay;

static int	install_mode;

enum { INSTALL_AUTO, INSTALL_CODE, INSTALL_FULL };

static const struct config_enum_entry install_modes[] = {
	{"auto", INSTALL_AUTO, false},
	{"code", INSTALL_CODE, false},
	{"full", INSTALL_FULL, false},
	{NULL, 0, false}
};

typedef struct IntSetting
{
	const char *name;
	const char *what;
	int		   *variable;
	int			value;
	int			least;
	int			most;
	int			unit;
} IntSetting;

typedef struct TextSetting
{
	const char *name;
	const char *what;
	char	  **variable;
	const char *value;
} TextSetting;

static const IntSetting int_settings[] = {
	{"sparky.max_concurrent_calls", "Calls to the provider in flight at once.",
	&sparky_max_concurrent_calls, 256, 1, SPARKY_MOST_CONCURRENT_CALLS, 0},
	{"sparky.memory_budget", "Memory for the bodies of all calls together; new calls wait beyond it.",
	&sparky_memory_budget, 512, 16, INT_MAX / 1024 / 1024, GUC_UNIT_MB},
	{"sparky.accept_timeout", "How long a caller waits for the worker to accept his request.",
	&sparky_accept_timeout, 5000, 100, 60000, GUC_UNIT_MS},
	{"sparky.connect_timeout", "How long a connection to a service may take to open.",
	&sparky_connect_timeout, 10000, 100, 300000, GUC_UNIT_MS},
	{"sparky.call_timeout", "How long one call to the provider may take, unless its tool says otherwise.",
	&sparky_call_timeout, 120, 1, 3600, GUC_UNIT_S},
	{"sparky.job_deadline", "How long a job may take from acceptance to answer, all attempts together.",
	&sparky_job_deadline, 600, 1, 86400, GUC_UNIT_S},
	{"sparky.lease_time", "How long a worker may be silent before it is replaced.",
	&sparky_lease_time, 30000, 500, 3600000, GUC_UNIT_MS},
	{"sparky.storage_deadline", "How long an answer waits for storage before it is given up, uncharged.",
	&sparky_storage_deadline, 86400, 1, 2592000, GUC_UNIT_S},
	{"sparky.storage_timeout", "How long one exchange with the Supabase Storage API may take.",
	&sparky_storage_timeout, 60, 1, 3600, GUC_UNIT_S},
	{"sparky.inquiry_delay", "How long an order may be open before Paymob is asked about it, and the pause between two such questions.",
	&sparky_inquiry_delay, 900, 1, 86400, GUC_UNIT_S},
	{"sparky.cache_ttl", "How long a result stays in the cache, unless its tool says otherwise.",
	&sparky_cache_ttl, 86400, 0, 31536000, GUC_UNIT_S},
	{"sparky.max_jobs_per_user", "Active jobs of one user.",
	&sparky_max_jobs_per_user, 16, 1, 100000, 0},
	{"sparky.max_waiting_calls", "Calls that wait for their job at once, in one database.",
	&sparky_max_waiting_calls, 6, 0, 100000, 0},
	{"sparky.max_waiting_calls_per_user", "Calls of one user that wait for their job at once.",
	&sparky_max_waiting_calls_per_user, 2, 0, 100000, 0},
	{"sparky.max_uncharged_calls_per_day", "Provider calls of one user a UTC day that ended without a charge through his doing.",
	&sparky_max_uncharged_calls_per_day, 20, 1, INT_MAX, 0},
	{"sparky.max_provider_calls_per_day", "Provider calls of the whole database a UTC day; 0 means no limit.",
	&sparky_max_provider_calls_per_day, 0, 0, INT_MAX, 0},
	{"sparky.max_image_bytes", "Size of an uploaded photo.",
	&sparky_max_image_bytes, 7340032, 1024, 7340032, GUC_UNIT_BYTE},
	{"sparky.max_stored_bytes_per_user", "Size of all stored objects of one user.",
	&sparky_max_stored_bytes_per_user, 209715200, 1024, INT_MAX, GUC_UNIT_BYTE},
	{"sparky.uploads_per_hour", "Uploads of one user within an hour.",
	&sparky_uploads_per_hour, 60, 1, INT_MAX, 0},
	/* Read by the clean-up's SQL. Two days at least: an idempotency key must find its job, a day's limits its calls. */
	{"sparky.job_retention", "How long ended jobs are kept.",
	&sparky_job_retention, 90 * 86400, 2 * 86400, INT_MAX, GUC_UNIT_S},
	{"sparky.provider_call_retention", "How long provider calls are kept.",
	&sparky_provider_call_retention, 400 * 86400, 2 * 86400, INT_MAX, GUC_UNIT_S},
	{"sparky.cron_history_retention", "How long pg_cron's notes on runs of sparky's jobs are kept.",
	&sparky_cron_history_retention, 7 * 86400, 3600, INT_MAX, GUC_UNIT_S},
};

static const TextSetting text_settings[] = {
	{"sparky.gemini_base_url", "Where the Gemini API is; https, or http on loopback.",
	&sparky_gemini_base_url, "https://generativelanguage.googleapis.com"},
	{"sparky.tls_ca_file", "File of certificate authorities for outgoing TLS; empty means the system's.",
	&sparky_tls_ca_file, ""},
	{"sparky.plain_http_hosts", "Comma-separated hosts besides loopback that storage may be reached at over plain http.",
	&sparky_plain_http_hosts, ""},
	{"sparky.storage_url", "Base URL of the Supabase Storage API; empty means embedded storage.",
	&sparky_storage_url, ""},
	{"sparky.storage_public_url", "Base URL at which clients reach the Storage API; empty means beside public_url, where Supabase has it, else storage_url.",
	&sparky_storage_public_url, ""},
	{"sparky.public_url", "Base URL at which clients reach PostgREST; needed for ready-to-load image links.",
	&sparky_public_url, ""},
	{"sparky.paymob_base_url", "Where Paymob's API is, by country; https, or http on loopback.",
	&sparky_paymob_base_url, "https://accept.paymob.com"},
	{"sparky.paymob_checkout_url", "Base of Paymob's checkout page.",
	&sparky_paymob_checkout_url, "https://accept.paymob.com/unifiedcheckout"},
	{"sparky.paymob_integration_ids", "Comma-separated ids of the Paymob integrations that may take money for us.",
	&sparky_paymob_integration_ids, ""},
	{"sparky.paymob_owner", "The owner id that Paymob's callbacks for this account carry.",
	&sparky_paymob_owner, ""},
	{"sparky.paymob_notification_url", "Where Paymob sends its callbacks; empty means what its dashboard says.",
	&sparky_paymob_notification_url, ""},
	{"sparky.paymob_redirection_url", "Where Paymob sends the buyer back to; empty means what its dashboard says.",
	&sparky_paymob_redirection_url, ""},
};

void
sparky_settings_define(bool preloading)
{
	for (int i = 0; i < lengthof(int_settings); i++)
	{
		const IntSetting *s = &int_settings[i];

		DefineCustomIntVariable(s->name, s->what, NULL, s->variable, s->value, s->least, s->most,
								PGC_SIGHUP, s->unit, NULL, NULL, NULL);
	}
	for (int i = 0; i < lengthof(text_settings); i++)
	{
		const TextSetting *s = &text_settings[i];

		DefineCustomStringVariable(s->name, s->what, NULL, s->variable, s->value,
								   PGC_SIGHUP, 0, NULL, NULL, NULL);
	}
	DefineCustomEnumVariable("sparky.install", "What CREATE EXTENSION makes: auto, code or full.", NULL,
							 &install_mode, INSTALL_AUTO, install_modes, PGC_SUSET, 0, NULL, NULL, NULL);
	if (!preloading)
		return;
	DefineCustomStringVariable("sparky.databases", "Comma-separated databases that get a worker; * means each one that has the extension, empty means none.",
							   NULL, &sparky_databases, "*", PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("sparky.max_databases", "Databases that may have a worker.", NULL,
							&sparky_max_databases, 8, 1, 1000, PGC_POSTMASTER, 0, NULL, NULL, NULL);
}
