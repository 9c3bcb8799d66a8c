/*
 * batch.c: the worker's transactions.
 *
 * Many items share one commit.  No subtransactions: an item that fails aborts
 * the batch, and each item is then run alone, so that only the bad one fails.
 * A lock that cannot be had at once is no failure: the item comes again.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "worker.h"

/* See sparky_batch_commit_before(); of the transaction that runs. */
static TimestampTz commit_before;

static int	run_in_transaction(BatchKind kind, void **items, int count, BatchWork work, ItemResult *results, bool log);
static void begin(void);
static void commit(void);
static void abort_after(int *sqlstate, bool log);
static bool lock_trouble(int sqlstate);

void
sparky_batch_run(BatchKind kind, void **items, int count, BatchWork work, ItemResult *results, int *failed_with)
{
	if (count == 0 || run_in_transaction(kind, items, count, work, results, count == 1) == 0)
		return;
	for (int i = 0; i < count; i++)
	{
		int			sqlstate = run_in_transaction(kind, &items[i], 1, work, &results[i], true);

		if (sqlstate == 0)
			continue;
		results[i] = lock_trouble(sqlstate) ? ITEM_POSTPONED : ITEM_FAILED;
		if (failed_with)
			failed_with[i] = sqlstate;
	}
}

bool
sparky_batch_once(BatchKind kind, BatchWork work, void *item)
{
	ItemResult	result = ITEM_FAILED;

	return run_in_transaction(kind, &item, 1, work, &result, true) == 0 && result == ITEM_DONE;
}

void
sparky_batch_commit_before(TimestampTz time)
{
	commit_before = Min(commit_before, time);
}

/* 0, or the SQLSTATE of the error that aborted it. */
static int
run_in_transaction(BatchKind kind, void **items, int count, BatchWork work, ItemResult *results, bool log)
{
	MemoryContext context = CurrentMemoryContext;
	volatile int sqlstate = 0;

	PG_TRY();
	{
		begin();
		if (sparky_lock_relations(kind))
			for (int i = 0; i < count; i++)
			{
				results[i] = work(items[i]) ? ITEM_DONE : ITEM_POSTPONED;
				(void) sparky_worker_beat();
			}
		else
			for (int i = 0; i < count; i++)
				results[i] = ITEM_POSTPONED;
		if (GetCurrentTimestamp() >= commit_before)
			ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE), errmsg("too late to commit")));
		commit();
	}
	PG_CATCH();
	{
		int			code;

		MemoryContextSwitchTo(context);
		abort_after(&code, log);
		sqlstate = code;
	}
	PG_END_TRY();
	/* A lock timeout that fired when the lock had just come must not end the next one's work, or the loop. */
	QueryCancelPending = false;
	MemoryContextSwitchTo(context);
	return sqlstate;
}

static void
begin(void)
{
	commit_before = DT_NOEND;
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
commit(void)
{
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_stat(false);
}

static void
abort_after(int *sqlstate, bool log)
{
	ErrorData  *error;

	HOLD_INTERRUPTS();
	error = CopyErrorData();
	FlushErrorState();
	AbortCurrentTransaction();
	RESUME_INTERRUPTS();
	*sqlstate = error->sqlerrcode;
	if (log && !lock_trouble(error->sqlerrcode))
		ereport(LOG, (errcode(error->sqlerrcode), errmsg("sparky: %s", error->message),
					  error->context ? errcontext("%s", error->context) : 0));
	FreeErrorData(error);
	pgstat_report_stat(false);
}

/* Another session is in the way; nothing is wrong. */
static bool
lock_trouble(int sqlstate)
{
	return sqlstate == ERRCODE_LOCK_NOT_AVAILABLE || sqlstate == ERRCODE_T_R_DEADLOCK_DETECTED ||
		sqlstate == ERRCODE_T_R_SERIALIZATION_FAILURE;
}
