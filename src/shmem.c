/*
 * shmem.c: the shared struct: its lock, its entries, the launcher's latch.
 *
 * Rules.  One LWLock guards everything, mailbox.c's slots too; nobody throws,
 * allocates or does I/O while holding it.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "mailbox.h"
#include "settings.h"
#include "shmem.h"

typedef struct SharedState
{
	LWLock	   *lock;
	int			launcher_proc;	/* -1: none */
	bool		rescan;			/* the list of databases changed */
	int			databases;
	/* DatabaseEntry[databases] and the mailbox follow */
} SharedState;

static SharedState *shared = NULL;
static DatabaseEntry *entries;

static shmem_request_hook_type previous_request;
static shmem_startup_hook_type previous_startup;

static void request_shmem(void);
static void startup_shmem(void);
static Size shared_size(void);

void
sparky_shmem_wake(int proc)
{
	if (proc >= 0)
		SetLatch(&ProcGlobal->allProcs[proc].procLatch);
}

/* ---- setting up ---- */

void
sparky_shmem_define(void)
{
	previous_request = shmem_request_hook;
	shmem_request_hook = request_shmem;
	previous_startup = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
}

static Size
shared_size(void)
{
	Size		size = MAXALIGN(sizeof(SharedState));

	size = add_size(size, MAXALIGN(mul_size(sizeof(DatabaseEntry), sparky_max_databases)));
	return add_size(size, sparky_mailbox_size());
}

static void
request_shmem(void)
{
	if (previous_request)
		previous_request();
	RequestAddinShmemSpace(shared_size());
	RequestNamedLWLockTranche("sparky", 1);
}

static void
startup_shmem(void)
{
	bool		found;
	char	   *base;

	if (previous_startup)
		previous_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("sparky", shared_size(), &found);
	if (!found)
	{
		memset(shared, 0, shared_size());
		shared->lock = &(GetNamedLWLockTranche("sparky"))->lock;
		shared->launcher_proc = -1;
		shared->databases = sparky_max_databases;
	}
	base = (char *) shared + MAXALIGN(sizeof(SharedState));
	entries = (DatabaseEntry *) base;
	sparky_mailbox_attach(base + MAXALIGN(mul_size(sizeof(DatabaseEntry), shared->databases)));
	LWLockRelease(AddinShmemInitLock);
}

bool
sparky_shmem_present(void)
{
	return shared != NULL;
}

int
sparky_shmem_databases(void)
{
	return shared->databases;
}

DatabaseEntry *
sparky_shmem_entry(int index)
{
	return &entries[index];
}

void
sparky_shmem_lock(bool exclusive)
{
	LWLockAcquire(shared->lock, exclusive ? LW_EXCLUSIVE : LW_SHARED);
}

void
sparky_shmem_unlock(void)
{
	LWLockRelease(shared->lock);
}

DatabaseEntry *
sparky_shmem_find(Oid database)
{
	for (int i = 0; i < shared->databases; i++)
		if (entries[i].database == database)
			return &entries[i];
	return NULL;
}

DatabaseEntry *
sparky_shmem_make(Oid database)
{
	DatabaseEntry *entry = sparky_shmem_find(database);

	if (entry == NULL && (entry = sparky_shmem_find(InvalidOid)) != NULL)
	{
		memset(entry, 0, sizeof(*entry));
		entry->database = database;
		entry->counting_since = GetCurrentTimestamp();
		for (int i = 0; i < COUNTER_COUNT; i++)
			pg_atomic_init_u64(&entry->requests[i], 0);
	}
	return entry;
}

void
sparky_shmem_set_launcher(bool here)
{
	sparky_shmem_lock(true);
	shared->launcher_proc = here ? sparky_my_proc_number() : -1;
	sparky_shmem_unlock();
}

void
sparky_shmem_wake_launcher(bool rescan)
{
	sparky_shmem_lock(true);
	if (rescan)
		shared->rescan = true;
	sparky_shmem_wake(shared->launcher_proc);
	sparky_shmem_unlock();
}

bool
sparky_shmem_take_rescan(void)
{
	bool		rescan;

	sparky_shmem_lock(true);
	rescan = shared->rescan;
	shared->rescan = false;
	sparky_shmem_unlock();
	return rescan;
}
