/*
 * pg_shim.h: the few backend functions that http.c needs, so that it can be
 * tested without a server: compiled against the real headers, linked to these.
 */
#ifndef PG_SHIM_H
#define PG_SHIM_H

/* Descriptors that fd.c was told of, and how many it grants. */
extern int	shim_descriptors;
extern int	shim_descriptor_limit;

/* Run the reset callbacks and free everything palloc'd, as MemoryContextReset would. */
extern void shim_reset(void);

#endif
