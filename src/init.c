/*
 * init.c: where the library begins.
 *
 * Loading succeeds without shared_preload_libraries too (pg_upgrade and a plain
 * CREATE EXTENSION load it so): then there are no settings of the postmaster,
 * no mailbox and no worker, and who asks for one is told so.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/guc.h"

#include "compat.h"
#include "launcher.h"
#include "secrets.h"
#include "settings.h"
#include "shmem.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	bool		preloading = process_shared_preload_libraries_in_progress;

	sparky_settings_define(preloading);
	if (preloading)
	{
		sparky_secrets_define();
		sparky_shmem_define();
		sparky_launcher_define();
	}
	MarkGUCPrefixReserved("sparky");
}
