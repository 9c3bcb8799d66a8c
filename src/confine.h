/* confine.h: a step of the installation, walled in as the data owner.  SPI connected, owner scope entered. */
#ifndef SPARKY_CONFINE_H
#define SPARKY_CONFINE_H

#include "postgres.h"

/* Runs sparky.<step>(); its notes (text[]), copied to the given context.  ERROR for a step that does not exist. */
extern Datum sparky_confine_run(const char *step, MemoryContext result_context);

#endif
