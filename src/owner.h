/*
 * owner.h: our own SQL runs as the data owner, under a search_path that nobody
 * else chose.
 *
 * Row 5 brackets every call into row 3 with enter and leave; inside, SPI is
 * connected and CurrentMemoryContext is SPI's, which ends with leave: what must
 * live on is copied to scope.caller_context.  An ERROR in between needs no
 * clean-up of ours: the (sub)transaction's abort restores user, settings and SPI.
 */
#ifndef SPARKY_OWNER_H
#define SPARKY_OWNER_H

#include "executor/spi.h"
#include "utils/uuid.h"

typedef struct OwnerScope
{
	Oid			user;
	int			security_context;
	int			guc_level;
	MemoryContext caller_context;
} OwnerScope;

extern Oid	sparky_data_owner(void);		/* owner of schema sparky; ERROR not_configured where sparky is not installed */
extern void sparky_owner_enter(OwnerScope *scope);
extern void sparky_owner_leave(OwnerScope *scope);

/*
 * A plan prepared once per process: static SPIPlanPtr plan; sparky_plan(&plan, sql, n, types).
 * Every name in the SQL is qualified all the same.
 */
extern SPIPlanPtr sparky_plan(SPIPlanPtr *plan, const char *sql, int nargs, const Oid *types);
/* Runs it (limit 0 = all); SPI_processed and SPI_tuptable as usual. ERROR on failure. nulls: NULL or 'n'/' ' per value. */
extern uint64 sparky_execute(SPIPlanPtr plan, Datum *values, const char *nulls, long limit);
/* A SELECT under the latest snapshot: sees what has been committed by now even under REPEATABLE READ or in a STABLE context. */
extern uint64 sparky_execute_latest(SPIPlanPtr plan, Datum *values, const char *nulls, long limit);
/* A write under the latest snapshot: reaches rows that were committed after a REPEATABLE READ transaction of the caller's began. */
extern uint64 sparky_execute_fresh(SPIPlanPtr plan, Datum *values, const char *nulls);
/* Column n (from 1) of row r (from 0) of SPI_tuptable. */
extern Datum sparky_column(uint64 row, int column, bool *isnull);
extern char *sparky_column_text(uint64 row, int column);		/* NULL if null; palloc'd in CurrentMemoryContext */
extern void sparky_column_copy(uint64 row, int column, char *text, size_t size);	/* '' if null; cut to fit */
extern int64 sparky_column_int(uint64 row, int column, int64 otherwise);	/* of int4 or int8 */
extern bool sparky_column_bool(uint64 row, int column);
/* An id as text; palloc'd. Needs no SPI. */
extern char *sparky_uuid_text(const pg_uuid_t *id);

#endif
