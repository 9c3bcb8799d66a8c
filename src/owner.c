/*
 * owner.c: our own SQL runs as the data owner, under our own search_path.
 *
 * The public functions are SECURITY INVOKER and need no client grants: around
 * their SQL they switch to the owner of schema sparky.  The search_path is
 * pinned as well, since a caller could otherwise put an operator of his own in
 * front of pg_catalog's and have the owner run it.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "owner.h"
#include "raise.h"

Oid
sparky_data_owner(void)
{
	HeapTuple	tuple = SearchSysCache1(NAMESPACENAME, CStringGetDatum("sparky"));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		sparky_raise(WORD_NOT_CONFIGURED, "Schema sparky does not exist in this database.",
					 "Run CREATE EXTENSION sparky.", 0);
	owner = ((Form_pg_namespace) GETSTRUCT(tuple))->nspowner;
	ReleaseSysCache(tuple);
	return owner;
}

void
sparky_owner_enter(OwnerScope *scope)
{
	Oid			owner = sparky_data_owner();

	scope->caller_context = CurrentMemoryContext;
	GetUserIdAndSecContext(&scope->user, &scope->security_context);
	SetUserIdAndSecContext(owner, scope->security_context | SECURITY_LOCAL_USERID_CHANGE);
	scope->guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
}

void
sparky_owner_leave(OwnerScope *scope)
{
	SPI_finish();
	AtEOXact_GUC(false, scope->guc_level);
	SetUserIdAndSecContext(scope->user, scope->security_context);
	MemoryContextSwitchTo(scope->caller_context);
}

SPIPlanPtr
sparky_plan(SPIPlanPtr *plan, const char *sql, int nargs, const Oid *types)
{
	if (*plan == NULL)
	{
		SPIPlanPtr	fresh = SPI_prepare(sql, nargs, (Oid *) types);

		if (fresh == NULL)
			elog(ERROR, "could not prepare \"%s\": %s", sql, SPI_result_code_string(SPI_result));
		if (SPI_keepplan(fresh) != 0)
			elog(ERROR, "could not keep a plan");
		*plan = fresh;
	}
	return *plan;
}

static uint64
done(int result)
{
	if (result < 0)
		elog(ERROR, "could not execute a plan: %s", SPI_result_code_string(result));
	return SPI_processed;
}

uint64
sparky_execute(SPIPlanPtr plan, Datum *values, const char *nulls, long limit)
{
	return done(SPI_execute_plan(plan, values, nulls, false, limit));
}

uint64
sparky_execute_latest(SPIPlanPtr plan, Datum *values, const char *nulls, long limit)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	int			result = SPI_execute_snapshot(plan, values, nulls, snapshot, InvalidSnapshot, true, false, limit);

	UnregisterSnapshot(snapshot);
	return done(result);
}

uint64
sparky_execute_fresh(SPIPlanPtr plan, Datum *values, const char *nulls)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	int			result = SPI_execute_snapshot(plan, values, nulls, snapshot, InvalidSnapshot, false, true, 0);

	UnregisterSnapshot(snapshot);
	return done(result);
}

Datum
sparky_column(uint64 row, int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, isnull);
}

char *
sparky_column_text(uint64 row, int column)
{
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);
}

void
sparky_column_copy(uint64 row, int column, char *text, size_t size)
{
	const char *value = sparky_column_text(row, column);

	strlcpy(text, value != NULL ? value : "", size);
}

int64
sparky_column_int(uint64 row, int column, int64 otherwise)
{
	bool		isnull;
	Datum		value = sparky_column(row, column, &isnull);

	if (isnull)
		return otherwise;
	return SPI_gettypeid(SPI_tuptable->tupdesc, column) == INT8OID ? DatumGetInt64(value) : DatumGetInt32(value);
}

bool
sparky_column_bool(uint64 row, int column)
{
	bool		isnull;
	Datum		value = sparky_column(row, column, &isnull);

	return !isnull && DatumGetBool(value);
}

char *
sparky_uuid_text(const pg_uuid_t *id)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id)));
}
