/* health.h: the state of the queue, as one JSON object.  SPI connected, owner scope entered. */
#ifndef SPARKY_HEALTH_H
#define SPARKY_HEALTH_H

#include "shmem.h"

/* entry: a copy of the database's entry, or NULL; problems: found so far, one a line. */
extern Datum sparky_health_json(const DatabaseEntry *entry, bool preloaded, const char *problems);

#endif
