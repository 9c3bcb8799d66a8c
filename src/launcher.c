/*
 * launcher.c: one worker for each database that has the extension.
 *
 * The launcher has no database of its own: it reads pg_database, sends a probe
 * into each candidate (a process that looks for the extension and its data owner and
 * touches none of our tables), and starts a worker that connects as that owner.
 * It sees a worker die by the shared entry, and freeze by its heartbeat.
 *
 * DROP, RENAME, SET TABLESPACE and use as a TEMPLATE need a database without
 * sessions: the utility hook keeps worker and probe out while they run.
 * Who starts anything in a database first writes its pid into the entry, under
 * the lock, and gives way if the entry is suspended; so nothing slips in.
 */
#include "postgres.h"

#include <signal.h>

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "catalog/pg_namespace.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "compat.h"
#include "launcher.h"
#include "settings.h"
#include "shmem.h"

#define LAUNCHER_NAP_MS 1000
#define RESCAN_MS 60000
/* A worker that lives shorter than this is restarted later each time. */
#define SHORT_LIFE_MS 5000
#define FIRST_PAUSE_MS 200
#define LONGEST_PAUSE_MS 5000
#define PROBE_PAUSE_MS 2000

/* What this launcher knows of an entry beyond the shared struct. */
typedef struct Watch
{
	Oid			database;
	BackgroundWorkerHandle *worker;
	BackgroundWorkerHandle *probe;
	TimestampTz started_at;
	TimestampTz not_before;		/* of the next worker */
	TimestampTz probe_not_before;
	int			short_lives;
	bool		slot_trouble_logged;
} Watch;

/* Databases that a probe found without the extension: they take no place until somebody says that something changed. */
static List *absent;

static ProcessUtility_hook_type previous_utility;
static bool tell_at_commit = false;
static bool tell_created = false;
static bool callback_registered = false;
static Watch *watches;

static void utility_hook(PlannedStmt *statement, const char *text, bool read_only, ProcessUtilityContext context,
						 ParamListInfo params, QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion);
static Oid	database_to_empty(Node *statement);
static bool changes_databases(Node *statement);
static void suspend_database(Oid database);
static void resume_database(int code, Datum database);
static void on_commit(XactEvent event, void *arg);
static bool scan_databases(void);
static bool wanted(const char *name);
static void step_entry(int index);
static void release_entry(int index);
static void start_worker(int index);
static void start_probe(int index);
static bool start(int index, const char *kind, const char *function, BackgroundWorkerHandle **handle);
static void replace_frozen(int index);

void
sparky_launcher_define(void)
{
	BackgroundWorker worker = {0};

	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = utility_hook;
	if (IsBinaryUpgrade)
		return;
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 1;
	strlcpy(worker.bgw_library_name, "sparky", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "sparky_launcher_main", sizeof(worker.bgw_function_name));
	strlcpy(worker.bgw_name, "sparky launcher", sizeof(worker.bgw_name));
	strlcpy(worker.bgw_type, "sparky launcher", sizeof(worker.bgw_type));
	RegisterBackgroundWorker(&worker);
}

/* ---- the utility hook ---- */

static void
run_utility(PlannedStmt *statement, const char *text, bool read_only, ProcessUtilityContext context,
			ParamListInfo params, QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
	if (previous_utility)
		previous_utility(statement, text, read_only, context, params, environment, dest, completion);
	else
		standard_ProcessUtility(statement, text, read_only, context, params, environment, dest, completion);
}

static void
utility_hook(PlannedStmt *statement, const char *text, bool read_only, ProcessUtilityContext context,
			 ParamListInfo params, QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
	Node	   *node = statement->utilityStmt;
	volatile Oid database = sparky_shmem_present() ? database_to_empty(node) : InvalidOid;
	/* Asked before: a CALL that rolls back may have freed the statement when it returns. */
	bool		changes = sparky_shmem_present() && changes_databases(node);
	bool		creates = IsA(node, CreateExtensionStmt);

	if (OidIsValid(database))
	{
		PG_ENSURE_ERROR_CLEANUP(resume_database, ObjectIdGetDatum(database));
		{
			suspend_database(database);
			run_utility(statement, text, read_only, context, params, environment, dest, completion);
		}
		PG_END_ENSURE_ERROR_CLEANUP(resume_database, ObjectIdGetDatum(database));
		resume_database(0, ObjectIdGetDatum(database));
	}
	else
		run_utility(statement, text, read_only, context, params, environment, dest, completion);

	if (changes)
	{
		if (!callback_registered)
			RegisterXactCallback(on_commit, NULL);
		callback_registered = tell_at_commit = true;
		if (creates)
			tell_created = true;
	}
}

static const char *
template_of(CreatedbStmt *statement)
{
	ListCell   *cell;

	foreach(cell, statement->options)
	{
		DefElem    *option = lfirst(cell);

		if (strcmp(option->defname, "template") == 0 && option->arg != NULL)
			return defGetString(option);
	}
	return "template1";
}

/*
 * The database that a command needs without sessions, if it is one of ours and
 * the user may run the command at all: who may not, must not stop a worker.
 */
static Oid
database_to_empty(Node *node)
{
	const char *name = NULL;
	Oid			database;
	bool		known;

	if (IsA(node, DropdbStmt))
		name = ((DropdbStmt *) node)->dbname;
	else if (IsA(node, RenameStmt) && ((RenameStmt *) node)->renameType == OBJECT_DATABASE)
		name = ((RenameStmt *) node)->subname;
	else if (IsA(node, AlterDatabaseStmt))
	{
		ListCell   *cell;

		foreach(cell, ((AlterDatabaseStmt *) node)->options)
			if (strcmp(((DefElem *) lfirst(cell))->defname, "tablespace") == 0)
				name = ((AlterDatabaseStmt *) node)->dbname;
	}
	else if (IsA(node, CreatedbStmt))
		name = template_of((CreatedbStmt *) node);
	if (name == NULL || !OidIsValid(database = get_database_oid(name, true)) || !sparky_owns_database(database))
		return InvalidOid;
	sparky_shmem_lock(false);
	known = sparky_shmem_find(database) != NULL;
	sparky_shmem_unlock();
	return known ? database : InvalidOid;
}

static bool
changes_databases(Node *node)
{
	if (IsA(node, CreateExtensionStmt))
		return strcmp(((CreateExtensionStmt *) node)->extname, "sparky") == 0;
	if (IsA(node, DropStmt))
		return ((DropStmt *) node)->removeType == OBJECT_EXTENSION || ((DropStmt *) node)->removeType == OBJECT_SCHEMA;
	return IsA(node, CreatedbStmt) || IsA(node, DropdbStmt) || IsA(node, AlterDatabaseStmt) || IsA(node, DropOwnedStmt);
}

/* Stop whatever of ours runs in a database and wait until it is gone. */
static void
suspend_database(Oid database)
{
	DatabaseEntry *entry;
	bool		empty = false;

	sparky_shmem_lock(true);
	entry = sparky_shmem_make(database);
	if (entry != NULL)
		entry->suspended++;
	sparky_shmem_unlock();
	if (entry == NULL)
		return;					/* all entries are taken, so nothing of ours is there */
	while (!empty)
	{
		sparky_shmem_lock(false);
		entry = sparky_shmem_find(database);
		empty = entry == NULL || (entry->worker_pid == 0 && entry->probe_pid == 0);
		if (!empty && entry->worker_pid != 0)
			kill(entry->worker_pid, SIGTERM);
		sparky_shmem_unlock();
		if (empty)
			break;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 10, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

static void
resume_database(int code, Datum argument)
{
	DatabaseEntry *entry;

	sparky_shmem_lock(true);
	entry = sparky_shmem_find(DatumGetObjectId(argument));
	if (entry != NULL)
	{
		entry->suspended = Max(0, entry->suspended - 1);
		entry->probe_due = true;
	}
	sparky_shmem_unlock();
	sparky_shmem_wake_launcher(true);
}

static void
on_commit(XactEvent event, void *arg)
{
	DatabaseEntry *entry;
	bool		created;

	if (!tell_at_commit || (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT))
		return;
	created = tell_created;
	tell_at_commit = tell_created = false;
	if (event == XACT_EVENT_ABORT)
		return;
	sparky_shmem_lock(true);
	entry = created ? sparky_shmem_make(MyDatabaseId) : sparky_shmem_find(MyDatabaseId);
	if (entry != NULL)
	{
		entry->probe_due = true;
		if (entry->worker_pid != 0)
			SetLatch(&ProcGlobal->allProcs[entry->worker_proc].procLatch);
	}
	sparky_shmem_unlock();
	sparky_shmem_wake_launcher(true);
}

/* ---- the launcher ---- */

static void
launcher_exit(int code, Datum arg)
{
	sparky_shmem_set_launcher(false);
}

void
sparky_launcher_main(Datum argument)
{
	TimestampTz scanned_at = 0;

	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	before_shmem_exit(launcher_exit, (Datum) 0);
	sparky_shmem_set_launcher(true);
	watches = MemoryContextAllocZero(TopMemoryContext, sizeof(Watch) * sparky_shmem_databases());
	pgstat_report_appname("sparky launcher");

	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();

		if (sparky_shmem_take_rescan() || TimestampDifferenceExceeds(scanned_at, now, RESCAN_MS))
			scanned_at = scan_databases() ? now : 0;
		for (int i = 0; i < sparky_shmem_databases(); i++)
			step_entry(i);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 Min(LAUNCHER_NAP_MS, sparky_lease_time / 4), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
}

/* Bring the shared entries in line with pg_database; false while somebody has yet to leave an entry that goes. */
static bool
scan_databases(void)
{
	Relation	relation;
	TableScanDesc scan;
	HeapTuple	tuple;
	bool	   *seen = palloc0(sparky_shmem_databases());
	bool		full = false,
				complete = true;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	relation = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(relation, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database row = (Form_pg_database) GETSTRUCT(tuple);
		DatabaseEntry *entry;

		if (row->datistemplate || !row->datallowconn || !wanted(NameStr(row->datname)))
		{
			absent = list_delete_oid(absent, row->oid);
			continue;
		}
		sparky_shmem_lock(true);
		entry = sparky_shmem_find(row->oid);
		if (entry == NULL && list_member_oid(absent, row->oid))
		{
			sparky_shmem_unlock();
			continue;
		}
		if (entry == NULL && (entry = sparky_shmem_make(row->oid)) != NULL)
			entry->probe_due = true;
		/* Its owner could not log in: perhaps he can now. */
		if (entry != NULL && !entry->served && entry->trouble[0] != '\0')
			entry->probe_due = true;
		if (entry != NULL)
			seen[entry - sparky_shmem_entry(0)] = true;
		else
			full = true;
		sparky_shmem_unlock();
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	CommitTransactionCommand();
	if (full)
		ereport(LOG, (errmsg("sparky: more databases than sparky.max_databases (%d): some are not looked at", sparky_max_databases)));

	sparky_shmem_lock(true);
	for (int i = 0; i < sparky_shmem_databases(); i++)
	{
		DatabaseEntry *entry = sparky_shmem_entry(i);

		if (seen[i] || !OidIsValid(entry->database) || entry->suspended > 0)
			continue;
		entry->served = entry->probe_due = false;
		if (entry->worker_pid != 0)
			kill(entry->worker_pid, SIGTERM);
		if (entry->worker_pid != 0 || entry->probe_pid != 0)
			complete = false;
		else
			entry->database = InvalidOid;
	}
	sparky_shmem_unlock();
	pfree(seen);
	return complete;
}

/* Is a database named by sparky.databases? */
static bool
wanted(const char *name)
{
	char	   *list = pstrdup(sparky_databases);
	List	   *names;
	ListCell   *cell;
	bool		found = strcmp(sparky_databases, "*") == 0;

	if (!found && SplitIdentifierString(list, ',', &names))
		foreach(cell, names)
			found = found || strcmp(lfirst(cell), name) == 0;
	pfree(list);
	return found;
}

static bool
handle_done(BackgroundWorkerHandle **handle)
{
	pid_t		pid;

	if (*handle == NULL)
		return true;
	if (GetBackgroundWorkerPid(*handle, &pid) != BGWH_STOPPED)
		return false;
	pfree(*handle);
	*handle = NULL;
	return true;
}

static void
step_entry(int index)
{
	DatabaseEntry *shared_entry = sparky_shmem_entry(index);
	DatabaseEntry entry;
	Watch	   *watch = &watches[index];
	bool		worker_done,
				probe_done;

	sparky_shmem_lock(false);
	entry = *shared_entry;
	sparky_shmem_unlock();
	if (watch->database != entry.database)
	{
		/* Another database moved into the entry: handles of the old one are let go. */
		memset(watch, 0, sizeof(*watch));
		watch->database = entry.database;
	}
	if (!OidIsValid(entry.database) || entry.suspended > 0)
		return;
	if (entry.worker_pid != 0)
	{
		if (entry.incarnation != 0 &&
			TimestampDifferenceExceeds(entry.heartbeat, GetCurrentTimestamp(), sparky_lease_time))
			replace_frozen(index);
		return;
	}
	worker_done = handle_done(&watch->worker);
	probe_done = handle_done(&watch->probe);
	if (!worker_done || !probe_done)
		return;
	if (entry.probe_due)
		start_probe(index);
	else if (!entry.looked && GetCurrentTimestamp() >= watch->probe_not_before)
		start_probe(index);
	else if (!entry.served && entry.looked && entry.trouble[0] == '\0')
		release_entry(index);
	else if (entry.served && GetCurrentTimestamp() >= watch->not_before)
		start_worker(index);
}

/* Probed, and nothing of ours is there: make room for a database that has the extension. */
static void
release_entry(int index)
{
	DatabaseEntry *entry = sparky_shmem_entry(index);
	MemoryContext previous = MemoryContextSwitchTo(TopMemoryContext);
	Oid			database = InvalidOid;

	sparky_shmem_lock(true);
	if (!entry->served && !entry->probe_due && entry->probe_pid == 0 && entry->worker_pid == 0 && entry->suspended == 0)
	{
		database = entry->database;
		entry->database = InvalidOid;
	}
	sparky_shmem_unlock();
	if (OidIsValid(database))
		absent = list_append_unique_oid(absent, database);
	MemoryContextSwitchTo(previous);
}

static void
start_worker(int index)
{
	Watch	   *watch = &watches[index];
	TimestampTz now = GetCurrentTimestamp();
	int			pause;

	if (watch->started_at != 0 && !TimestampDifferenceExceeds(watch->started_at, now, SHORT_LIFE_MS))
		watch->short_lives++;
	else
		watch->short_lives = 0;
	pause = watch->short_lives < 3 ? FIRST_PAUSE_MS : Min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS << Min(watch->short_lives - 2, 8));
	watch->started_at = now;
	watch->not_before = TimestampTzPlusMilliseconds(now, pause);
	absent = list_delete_oid(absent, watch->database);
	(void) start(index, "worker", "sparky_worker_main", &watch->worker);
}

static void
start_probe(int index)
{
	DatabaseEntry *entry = sparky_shmem_entry(index);

	if (!start(index, "probe", "sparky_probe_main", &watches[index].probe))
		return;
	/* Should it die before it has looked, another is sent, but not at once. */
	watches[index].probe_not_before = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), PROBE_PAUSE_MS);
	sparky_shmem_lock(true);
	entry->probe_due = entry->looked = false;
	sparky_shmem_unlock();
}

static bool
start(int index, const char *kind, const char *function, BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker = {0};
	MemoryContext previous = MemoryContextSwitchTo(TopMemoryContext);
	Watch	   *watch = &watches[index];
	bool		registered;

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	worker.bgw_main_arg = ObjectIdGetDatum(watch->database);
	strlcpy(worker.bgw_library_name, "sparky", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, function, sizeof(worker.bgw_function_name));
	snprintf(worker.bgw_name, sizeof(worker.bgw_name), "sparky %s for database %u", kind, watch->database);
	snprintf(worker.bgw_type, sizeof(worker.bgw_type), "sparky %s", kind);
	registered = RegisterDynamicBackgroundWorker(&worker, handle);
	MemoryContextSwitchTo(previous);
	if (!registered && !watch->slot_trouble_logged)
		ereport(LOG, (errmsg("sparky: no free worker slot for the %s of database %u", kind, watch->database),
					  errhint("Raise max_worker_processes.")));
	watch->slot_trouble_logged = !registered;
	if (!registered)
		*handle = NULL;
	sparky_shmem_lock(true);
	if (!registered)
		strlcpy(sparky_shmem_entry(index)->trouble, "no free worker slot: raise max_worker_processes",
				sizeof(sparky_shmem_entry(index)->trouble));
	sparky_shmem_unlock();
	return registered;
}

/*
 * A worker that lives but does not move: another takes its place.  The old one
 * finds its entry in other hands when it thaws, and exits; the fences in the
 * tables see to it that it changes nothing before.
 */
static void
replace_frozen(int index)
{
	DatabaseEntry *entry = sparky_shmem_entry(index);
	Watch	   *watch = &watches[index];
	pid_t		pid;

	sparky_shmem_lock(true);
	pid = entry->worker_pid;
	entry->worker_pid = 0;
	entry->ready = false;
	entry->incarnation = 0;
	sparky_shmem_unlock();
	ereport(LOG, (errmsg("sparky: worker %d has not moved for %d ms and is replaced", (int) pid, sparky_lease_time)));
	if (pid != 0)
		kill(pid, SIGTERM);
	if (watch->worker != NULL)
		pfree(watch->worker);
	watch->worker = NULL;
	watch->not_before = 0;
}

/* ---- the probe ---- */

static void
probe_exit(int code, Datum argument)
{
	DatabaseEntry *entry;

	sparky_shmem_lock(true);
	entry = sparky_shmem_find(DatumGetObjectId(argument));
	if (entry != NULL && entry->probe_pid == MyProcPid)
		entry->probe_pid = 0;
	sparky_shmem_unlock();
	sparky_shmem_wake_launcher(false);
}

/* Extension there? Whose is schema sparky, and may he log in? */
static bool
look_around(Oid *owner, char *trouble, size_t size)
{
	HeapTuple	tuple;
	bool		served = false;

	*trouble = '\0';
	tuple = SearchSysCache1(NAMESPACENAME, CStringGetDatum("sparky"));
	if (HeapTupleIsValid(tuple) && OidIsValid(get_extension_oid("sparky", true)))
	{
		*owner = ((Form_pg_namespace) GETSTRUCT(tuple))->nspowner;
		served = true;
	}
	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	if (!served)
		return false;
	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(*owner));
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_authid role = (Form_pg_authid) GETSTRUCT(tuple);

		if (!role->rolcanlogin)
			snprintf(trouble, size, "the data owner %s has no LOGIN, so the worker cannot connect as him", NameStr(role->rolname));
		served = role->rolcanlogin;
		ReleaseSysCache(tuple);
	}
	return served;
}

void
sparky_probe_main(Datum argument)
{
	Oid			database = DatumGetObjectId(argument);
	Oid			owner = InvalidOid;
	DatabaseEntry *entry;
	char		trouble[160];
	bool		served,
				mine;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	before_shmem_exit(probe_exit, argument);
	sparky_shmem_lock(true);
	entry = sparky_shmem_find(database);
	mine = entry != NULL && entry->suspended == 0 && entry->probe_pid == 0;
	if (mine)
		entry->probe_pid = MyProcPid;
	sparky_shmem_unlock();
	if (!mine)
		proc_exit(0);

	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	served = look_around(&owner, trouble, sizeof(trouble));
	CommitTransactionCommand();

	sparky_shmem_lock(true);
	entry = sparky_shmem_find(database);
	if (entry != NULL)
	{
		entry->served = served;
		entry->looked = true;
		entry->owner = owner;
		strlcpy(entry->trouble, trouble, sizeof(entry->trouble));
	}
	sparky_shmem_unlock();
	proc_exit(0);
}
