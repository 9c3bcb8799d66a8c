/* settings.h: every sparky.* setting as a variable; what each means stands in settings.c and doc/settings.md. */
#ifndef SPARKY_SETTINGS_H
#define SPARKY_SETTINGS_H

/* The most that sparky.max_concurrent_calls may be: the transport is made for that many. */
#define SPARKY_MOST_CONCURRENT_CALLS 10000

extern char *sparky_databases;				/* POSTMASTER */
extern int	sparky_max_databases;			/* POSTMASTER */
extern char *sparky_gemini_base_url;
extern char *sparky_tls_ca_file;			/* '' = the system's */
extern char *sparky_plain_http_hosts;
extern int	sparky_max_concurrent_calls;
extern int	sparky_memory_budget;			/* MB */
extern int	sparky_accept_timeout;			/* ms */
extern int	sparky_connect_timeout;			/* ms */
extern int	sparky_call_timeout;			/* s */
extern int	sparky_job_deadline;			/* s */
extern int	sparky_lease_time;				/* ms */
extern int	sparky_storage_deadline;		/* s */
extern int	sparky_cache_ttl;				/* s */
extern int	sparky_max_jobs_per_user;
extern int	sparky_max_waiting_calls;
extern int	sparky_max_waiting_calls_per_user;
extern int	sparky_max_uncharged_calls_per_day;
extern int	sparky_max_provider_calls_per_day;	/* 0 = no limit */
extern int	sparky_max_image_bytes;
extern int	sparky_max_stored_bytes_per_user;
extern int	sparky_uploads_per_hour;
extern int	sparky_job_retention;			/* s */
extern int	sparky_provider_call_retention;	/* s */
extern int	sparky_cron_history_retention;	/* s */
extern char *sparky_storage_url;			/* '' = embedded */
extern int	sparky_storage_timeout;			/* s */
extern char *sparky_storage_public_url;		/* '' = beside public_url, or storage_url */
extern char *sparky_public_url;
extern char *sparky_paymob_base_url;
extern char *sparky_paymob_checkout_url;
extern char *sparky_paymob_integration_ids;	/* comma-separated */
extern char *sparky_paymob_owner;
extern char *sparky_paymob_notification_url;	/* '' = what the dashboard says */
extern char *sparky_paymob_redirection_url;		/* the same */
extern int	sparky_inquiry_delay;			/* s */

/* preloading: true while shared_preload_libraries are read; POSTMASTER settings exist only then. */
extern void sparky_settings_define(bool preloading);

#endif
