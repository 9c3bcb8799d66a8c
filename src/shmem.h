/*
 * shmem.h: the shared struct: one entry per served database, for the launcher
 * and the worker; the slots of mailbox.h lie in it too.
 */
#ifndef SPARKY_SHMEM_H
#define SPARKY_SHMEM_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "port/atomics.h"

/* What became of a request; counted by its caller (stats.c). */
typedef enum RequestCounter
{
	COUNTER_HIT,				/* answered from the cache */
	COUNTER_JOINED,				/* shares a job in flight */
	COUNTER_ACCEPTED,			/* a new job */
	COUNTER_REPEATED,			/* its idempotency key was known */
	COUNTER_REFUSED,			/* by the worker: money, limits, no worker */
	COUNTER_STORAGE_ERROR,		/* an exchange with the Storage API that went wrong; counted by the worker */
	COUNTER_COUNT
} RequestCounter;

/*
 * One entry per database.  served: the last probe found extension and owner.
 * incarnation names the worker that owns the entry now: one that finds another
 * number there was replaced while it was frozen, and exits.
 */
typedef struct DatabaseEntry
{
	Oid			database;		/* InvalidOid: entry is free */
	Oid			owner;			/* data owner, as the probe found it */
	bool		served;
	bool		looked;			/* the last probe came to its end: served means something */
	bool		probe_due;		/* somebody said that something changed */
	int			suspended;		/* DROP, RENAME, TEMPLATE in progress: keep out */
	pid_t		worker_pid;		/* 0: none */
	int			worker_proc;	/* its index in ProcGlobal->allProcs */
	bool		ready;			/* takes submissions */
	int64		incarnation;
	TimestampTz heartbeat;
	pid_t		probe_pid;
	int			posted;			/* slots in SLOT_POSTED, so that an idle worker need not look at all slots */
	/* for health() */
	int			running_calls;
	int64		memory_used;
	TimestampTz started_at;
	/* for stats() */
	TimestampTz counting_since;
	pg_atomic_uint64 requests[COUNTER_COUNT];	/* added to under the shared lock */
	char		trouble[160];	/* why there is no worker, in words; never a secret */
	char		storage_trouble[200];	/* what the Storage API said last, if it did not work; never a secret */
} DatabaseEntry;

extern void sparky_shmem_define(void);
extern bool sparky_shmem_present(void);		/* preloaded? */
extern int	sparky_shmem_databases(void);	/* number of entries */
extern DatabaseEntry *sparky_shmem_entry(int index);
extern void sparky_shmem_lock(bool exclusive);
extern void sparky_shmem_unlock(void);
/* Both with the lock held. find: NULL if unknown; make: NULL if all entries are taken. */
extern DatabaseEntry *sparky_shmem_find(Oid database);
extern DatabaseEntry *sparky_shmem_make(Oid database);

/* The launcher's latch. */
extern void sparky_shmem_set_launcher(bool here);
extern void sparky_shmem_wake_launcher(bool rescan);
extern bool sparky_shmem_take_rescan(void);
/* The latch of the process with this index in ProcGlobal->allProcs; -1: nobody's. */
extern void sparky_shmem_wake(int proc);

#endif
