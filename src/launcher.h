/* launcher.h: who starts, watches and stops the workers. */
#ifndef SPARKY_LAUNCHER_H
#define SPARKY_LAUNCHER_H

#include "postgres.h"

extern void sparky_launcher_define(void);	/* at preload: registers the launcher and the utility hook */

PGDLLEXPORT void sparky_launcher_main(Datum argument);
PGDLLEXPORT void sparky_probe_main(Datum argument);
PGDLLEXPORT void sparky_worker_main(Datum argument);	/* in worker.c */

#endif
