/*
 * worker.c: one process, one loop, for one database.
 *
 * The loop: take submissions, claim ready jobs, drive the transfers, settle
 * what ended, sweep, and then wait in one place for all of it: the latch, the
 * postmaster, and libcurl's sockets behind one epoll descriptor.  No
 * transaction is open while it waits.
 *
 * The worker is the data owner, never a superuser unless that is the owner: a
 * trigger that the owner added runs as he would run it himself.  An error in a
 * step is caught there (batch.c); one that gets here ends the process, and the
 * launcher starts another, which takes over the leases.
 */
#include "postgres.h"

#include <malloc.h>
#include <signal.h>

#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "errand.h"
#include "launcher.h"
#include "mailbox.h"
#include "owner.h"
#include "settings.h"
#include "shmem.h"
#include "worker.h"

/* Longest wait, however idle: the heartbeat must be seen, and a row that nobody told of be found. */
#define IDLE_MS 1000
#define RESTORE_NAP_MS 500
/* Blocks up to this size, and this much free memory, stay with the process while it works. */
#define KEPT_CHUNK (32 * 1024 * 1024)
#define KEPT_MEMORY (256 * 1024 * 1024)

Worker		sparky_worker;

static void handle_lock_timeout(SIGNAL_ARGS);
static void enter(Oid database, Oid *owner);
static void leave(int code, Datum argument);
static void settle_in(void);
static void own_session_settings(void);
static void insist_on_commits(void);
static void own_memory_settings(void);
static void rest(void);
static bool look_for_home(void *arg);
static void exit_if_gone(void);
static void wait_until_complete(void);
static bool check_missing(void *arg);
static bool check_identity(void *arg);
static bool take_incarnation(void *arg);
static void loop(void);
static void beat(void);
static void collect(void);
static long nap(void);
static void wait_for_anything(WaitEventSet *events, bool more);

void
sparky_worker_main(Datum argument)
{
	Oid			database = DatumGetObjectId(argument);
	Oid			owner;

	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGINT, handle_lock_timeout);
	enter(database, &owner);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(database, owner, 0);
	settle_in();
	loop();
}

/* lock_timeout comes as a SIGINT of our own; an operator's pg_cancel_backend finds no statement of his here. */
static void
handle_lock_timeout(SIGNAL_ARGS)
{
	if (get_timeout_indicator(LOCK_TIMEOUT, false))
		StatementCancelHandler(postgres_signal_arg);
}

/* Write my pid into the entry before connecting: whoever empties the database will see it. */
static void
enter(Oid database, Oid *owner)
{
	DatabaseEntry *entry;
	bool		mine;

	before_shmem_exit(leave, ObjectIdGetDatum(database));
	sparky_shmem_lock(true);
	entry = sparky_shmem_find(database);
	mine = entry != NULL && entry->suspended == 0 && entry->served && entry->worker_pid == 0;
	if (mine)
	{
		entry->worker_pid = MyProcPid;
		entry->worker_proc = sparky_my_proc_number();
		entry->ready = false;
		entry->incarnation = 0;
		entry->heartbeat = entry->started_at = GetCurrentTimestamp();
		*owner = entry->owner;
	}
	sparky_shmem_unlock();
	if (!mine)
		proc_exit(0);
}

static void
leave(int code, Datum argument)
{
	DatabaseEntry *entry;

	sparky_shmem_lock(true);
	entry = sparky_shmem_find(DatumGetObjectId(argument));
	if (entry != NULL && entry->worker_pid == MyProcPid)
	{
		entry->worker_pid = 0;
		entry->ready = false;
		entry->incarnation = 0;
		entry->running_calls = 0;
		entry->memory_used = 0;
	}
	sparky_shmem_unlock();
	sparky_shmem_wake_launcher(false);
}

/* From a fresh connection to a worker that serves. */
static void
settle_in(void)
{
	DatabaseEntry *entry;

	own_session_settings();
	own_memory_settings();
	pgstat_report_appname("sparky worker");
	dlist_init(&sparky_worker.running);
	dlist_init(&sparky_worker.finished);
	wait_until_complete();
	if (!sparky_batch_once(BATCH_CLAIM, check_identity, NULL) ||
		!sparky_batch_once(BATCH_CLAIM, take_incarnation, &sparky_worker.incarnation))
		ereport(FATAL, (errmsg("sparky: the worker could not take up its work")));
	sparky_shmem_lock(true);
	entry = sparky_shmem_find(MyDatabaseId);
	if (entry != NULL && entry->worker_pid == MyProcPid)
	{
		entry->incarnation = sparky_worker.incarnation;
		entry->ready = true;
		entry->trouble[0] = '\0';
	}
	sparky_shmem_unlock();
	sparky_mailbox_recover();
	MemoryContextSwitchTo(TopMemoryContext);
	sparky_worker.http = sparky_http_create(SPARKY_MOST_CONCURRENT_CALLS);
	sparky_worker.claim_due = sparky_worker.answered_due = true;
	sparky_worker.next_run = DT_NOEND;
	ereport(LOG, (errmsg("sparky worker for database %u is ready (incarnation %lld)",
						 MyDatabaseId, (long long) sparky_worker.incarnation)));
}

/* What ALTER ROLE or ALTER DATABASE may have set for the owner's sessions is not meant for this one. */
static void
own_session_settings(void)
{
	static const char *const settings[][2] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"lock_timeout", "20ms"},
		{"statement_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
#ifdef SPARKY_HAVE_TRANSACTION_TIMEOUT
		{"transaction_timeout", "0"},
#endif
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"row_security", "on"},
		{"jit", "off"},
	};

	for (int i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_USERSET, PGC_S_SESSION);
	insist_on_commits();
}

/* A committed answer must survive a crash, whatever the role was given, or the conf file says by now. */
static void
insist_on_commits(void)
{
	if (synchronous_commit == SYNCHRONOUS_COMMIT_OFF)
		SetConfigOption("synchronous_commit", "local", PGC_USERSET, PGC_S_SESSION);
}

/*
 * Photos and answers come and go by the megabyte: giving each back to the
 * kernel costs a page fault for every 4 kB of the next.  They are kept while
 * there is work, and given back when there is none (rest()).
 */
static void
own_memory_settings(void)
{
#ifdef __GLIBC__
	(void) mallopt(M_MMAP_THRESHOLD, KEPT_CHUNK);
	(void) mallopt(M_TRIM_THRESHOLD, KEPT_MEMORY);
#endif
}

/* Once, when the last call has ended. */
static void
rest(void)
{
	static bool rested = false;
	bool		busy = sparky_worker.running_count > 0 || sparky_worker.finished_count > 0;

#ifdef __GLIBC__
	if (!busy && !rested)
		(void) malloc_trim(0);
#endif
	rested = !busy;
}

/* As every look at the tables: a lock on a catalogue, or any error, must not end the calls under way. */
static bool
look_for_home(void *arg)
{
	*(bool *) arg = OidIsValid(get_extension_oid("sparky", true)) && sparky_data_owner() == GetUserId();
	return true;
}

/* The extension was dropped: nothing of ours runs here until it comes back. Or the data are another's: a worker of his takes over. */
static void
exit_if_gone(void)
{
	DatabaseEntry *entry;
	bool		home = true;

	if (!sparky_batch_once(BATCH_FILES, look_for_home, &home) || home)
		return;
	sparky_shmem_lock(true);
	entry = sparky_shmem_find(MyDatabaseId);
	if (entry != NULL && entry->worker_pid == MyProcPid)
	{
		entry->served = false;
		entry->probe_due = true;
	}
	sparky_shmem_unlock();
	proc_exit(0);
}

/* A restore makes indexes, constraints and triggers last: keep out of it until all are there. */
static void
wait_until_complete(void)
{
	char		missing[160];
	bool		told = false;

	for (;;)
	{
		DatabaseEntry *entry;

		exit_if_gone();
		missing[0] = '\0';
		if (sparky_batch_once(BATCH_CLAIM, check_missing, missing) && missing[0] == '\0')
			return;
		if (!told)
			ereport(LOG, (errmsg("sparky: waiting for a complete schema"), errdetail("Missing: %s", missing)));
		told = true;
		sparky_shmem_lock(true);
		entry = sparky_shmem_find(MyDatabaseId);
		if (entry != NULL && entry->worker_pid == MyProcPid)
			snprintf(entry->trouble, sizeof(entry->trouble), "waiting for a complete schema: %.100s", missing);
		sparky_shmem_unlock();
		pgstat_report_activity(STATE_IDLE, "waiting for a complete schema");
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, RESTORE_NAP_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

static bool
check_missing(void *arg)
{
	char	   *missing = sparky_queue_missing_objects();

	strlcpy(arg, missing ? missing : "", 160);
	return true;
}

static bool
check_identity(void *arg)
{
	int			voided;

	if (sparky_queue_check_identity(GetCurrentTimestamp(), &voided))
		ereport(LOG, (errmsg("sparky: this database is a copy: %d jobs of its original were voided", voided)));
	return true;
}

static bool
take_incarnation(void *arg)
{
	*(int64 *) arg = sparky_queue_next_incarnation();
	return true;
}

/* ---- the loop ---- */

static void
loop(void)
{
	MemoryContext round = AllocSetContextCreate(TopMemoryContext, "sparky round", ALLOCSET_DEFAULT_SIZES);
	WaitEventSet *events = sparky_create_wait_event_set(3);

	AddWaitEventToSet(events, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(events, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(events, WL_SOCKET_READABLE, sparky_http_descriptor(sparky_worker.http), NULL, NULL);

	for (;;)
	{
		bool		more;

		MemoryContextReset(round);
		MemoryContextSwitchTo(round);
		beat();
		while (sparky_worker_accept())
			CHECK_FOR_INTERRUPTS();
		if (GetCurrentTimestamp() >= sparky_worker.next_sweep)
		{
			exit_if_gone();
			sparky_worker_sweep();
			sparky_worker_enlist_inquiries();
			rest();
		}
		more = sparky_worker_errands();
		sparky_http_drive(sparky_worker.http);
		collect();
		/* The freed places are filled first: the next calls are on their way while the answers of the last are stored. */
		if (sparky_worker.claim_due || GetCurrentTimestamp() >= sparky_worker.next_run)
		{
			more |= sparky_worker_claim();
			sparky_http_drive(sparky_worker.http);
		}
		more |= sparky_worker_settle();
		if (sparky_worker.answered_due && GetCurrentTimestamp() >= sparky_worker.next_answered)
			more |= sparky_worker_settle_answered();
		wait_for_anything(events, more);
	}
}

/* Once a round: interrupts, the conf file, the heartbeat. */
static void
beat(void)
{
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		insist_on_commits();
		/* Errands begin without a transaction: the secrets that count from this reload on are read before the next one. */
		sparky_worker.next_sweep = 0;
	}
	if (!sparky_worker_beat())
	{
		ereport(LOG, (errmsg("sparky: worker %d was replaced and exits", MyProcPid)));
		proc_exit(0);
	}
}

bool
sparky_worker_beat(void)
{
	DatabaseEntry *entry;
	bool		mine;

	sparky_shmem_lock(true);
	entry = sparky_shmem_find(MyDatabaseId);
	mine = entry != NULL && entry->worker_pid == MyProcPid && entry->incarnation == sparky_worker.incarnation;
	if (mine)
	{
		entry->heartbeat = GetCurrentTimestamp();
		entry->running_calls = sparky_worker.running_count;
	}
	sparky_shmem_unlock();
	return mine;
}

/* Transfers that ended become calls to settle. */
static void
collect(void)
{
	HttpResult	result;
	Call	   *call;

	while ((call = sparky_http_take(sparky_worker.http, &result)) != NULL)
	{
		if (call->exchange.of_errand)
		{
			sparky_worker_errand_finished((Errand *) call, &result);
			continue;
		}
		dlist_delete(&call->node);
		sparky_worker.running_count--;
		sparky_call_finish(call, &result);
		dlist_push_tail(&sparky_worker.finished, &call->node);
		sparky_worker.finished_count++;
	}
}

static long
until(TimestampTz then, TimestampTz now, long most)
{
	return then <= now ? 0 : Min(most, TimestampDifferenceMilliseconds(now, then) + 1);
}

/* How long the loop may sleep if nothing happens. */
static long
nap(void)
{
	TimestampTz now = GetCurrentTimestamp();
	long		longest = Min(IDLE_MS, sparky_lease_time / 4);
	long		http = sparky_http_timeout(sparky_worker.http);
	int			posted = sparky_mailbox_due();
	dlist_iter	iter;

	if (http >= 0)
		longest = Min(longest, http);
	if (posted >= 0)
		longest = Min(longest, posted);
	longest = until(sparky_worker.next_sweep, now, longest);
	if (sparky_worker.next_run != DT_NOEND)
		longest = until(sparky_worker.next_run, now, longest);
	if (sparky_worker.answered_due)
		longest = until(sparky_worker.next_answered, now, longest);
	longest = until(sparky_worker_errands_due(), now, longest);
	dlist_foreach(iter, &sparky_worker.finished)
		longest = until(dlist_container(Call, node, iter.cur)->not_before, now, longest);
	return longest;
}

static void
wait_for_anything(WaitEventSet *events, bool more)
{
	WaitEvent	occurred[3];
	char		activity[80];

	snprintf(activity, sizeof(activity), "%d calls in flight, %d to settle", sparky_worker.running_count, sparky_worker.finished_count);
	pgstat_report_activity(STATE_IDLE, activity);
	(void) WaitEventSetWait(events, more ? 0 : nap(), occurred, lengthof(occurred), PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	pgstat_report_activity(STATE_RUNNING, activity);
}
