/* stats.h: requests counted in shared memory, since a hit writes nothing. */
#ifndef SPARKY_STATS_H
#define SPARKY_STATS_H

#include "postgres.h"

#include "shmem.h"

/* One request of this database. Nothing happens where no worker has ever served it. */
extern void sparky_stats_count(RequestCounter counter);
/* As jsonb, in CurrentMemoryContext; false where nothing is counted. */
extern bool sparky_stats_counters(Datum *result);

#endif
