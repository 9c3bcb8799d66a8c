/*
 * mailbox.c: the mailbox, and who waits for which job.
 *
 * Rules.  Everything here is under the lock of shmem.c, whose rules hold.  A slot
 * belongs to the backend whose proc number it has; only that backend posts,
 * withdraws and frees, only the worker takes, answers and postpones.  Every
 * TAKEN slot names the worker's incarnation and its own sequence number, so that
 * a worker that was frozen and replaced answers nobody.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/shmem.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "mailbox.h"
#include "settings.h"
#include "shmem.h"

typedef enum SlotState
{
	SLOT_FREE, SLOT_POSTED, SLOT_TAKEN, SLOT_ANSWERED, SLOT_ABANDONED
} SlotState;

/* What is looked at often; the submissions themselves lie in an array of their own. */
typedef struct Slot
{
	SlotState	state;
	Oid			database;
	uint64		sequence;
	int64		incarnation;	/* of the worker that took it */
	TimestampTz not_before;		/* postponed until then */
	SubmissionAnswer answer;
	bool		waiting;
	bool		ended;			/* the job waited for has ended */
	pg_uuid_t	wait_job;
	pg_uuid_t	wait_user;
	Oid			wait_database;
} Slot;

/* How long a caller stays with a worker that took his submission and then froze, beyond its lease. */
#define TAKEN_PATIENCE_MS 5000
/* Such a caller looks this often whether it has been answered: the latch tells, this is for a worker that died. */
#define TAKEN_STEP_MS 100
/* Return this long before the statement timer fires. */
#define TIMER_MARGIN_MS 500
/* Look at the row at least this often: not every end of a job passes through the worker. */
#define WAIT_STEP_MS 1000

/* One each for each backend. */
static Slot *slots = NULL;
static Submission *submissions;
static int	slot_count;

static bool callbacks_registered = false;

static void register_callbacks(void);
static void leave_slot(void);
static void release_slot(Slot *slot);
static void on_transaction_end(XactEvent event, void *arg);
static void on_subtransaction_end(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg);
static void on_backend_exit(int code, Datum arg);
static void submit(const Submission *submission, TimestampTz until, TimestampTz patience, SubmissionAnswer *answer);
static bool post(const Submission *submission, Slot *slot);
static SlotState slot_state(Slot *slot, SubmissionAnswer *answer);
static bool withdraw(Slot *slot, bool taken_too);
static void refuse_unanswered(bool taken, SubmissionAnswer *answer);
static TimestampTz earliest_timer(void);

static Slot *
my_slot(void)
{
	return &slots[sparky_my_proc_number()];
}

/* ---- setting up ---- */

Size
sparky_mailbox_size(void)
{
	return add_size(MAXALIGN(mul_size(sizeof(Slot), MaxBackends)), MAXALIGN(mul_size(sizeof(Submission), MaxBackends)));
}

/* Zeroed: every slot is free. */
void
sparky_mailbox_attach(void *memory)
{
	slot_count = MaxBackends;
	slots = memory;
	submissions = (Submission *) ((char *) memory + MAXALIGN(mul_size(sizeof(Slot), slot_count)));
}

/* ---- the caller's side ---- */

void
sparky_mailbox_submit(const Submission *submission, SubmissionAnswer *answer)
{
	TimestampTz until = Min(TimestampTzPlusMilliseconds(GetCurrentTimestamp(), sparky_accept_timeout), earliest_timer());

	submit(submission, until, TimestampTzPlusMilliseconds(until, sparky_lease_time + TAKEN_PATIENCE_MS), answer);
}

void
sparky_mailbox_errand(const Submission *submission, int work_ms, SubmissionAnswer *answer)
{
	TimestampTz timer = earliest_timer();
	TimestampTz until = Min(TimestampTzPlusMilliseconds(GetCurrentTimestamp(), sparky_accept_timeout), timer);

	submit(submission, until, Min(TimestampTzPlusMilliseconds(until, work_ms), timer), answer);
}

void
sparky_mailbox_errand_within(const Submission *submission, int ms, SubmissionAnswer *answer)
{
	TimestampTz until = Min(TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms), earliest_timer());

	submit(submission, until, until, answer);
}

/* until: to be taken by the worker; patience: to be answered by him. */
static void
submit(const Submission *submission, TimestampTz until, TimestampTz patience, SubmissionAnswer *answer)
{
	Slot	   *slot;

	memset(answer, 0, sizeof(*answer));
	answer->result = SUBMISSION_REFUSED;
	if (slots == NULL)
	{
		answer->error = WORD_WORKER_DOWN;
		return;
	}
	register_callbacks();
	slot = my_slot();

	/* The abort callbacks withdraw if the wait below throws. */
	for (bool posted = false;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		TimestampTz look;
		SlotState	state;

		if (!posted)
			posted = post(submission, slot);
		state = slot_state(slot, answer);
		if (posted && state == SLOT_ANSWERED)
			break;
		if (now >= until && withdraw(slot, now >= patience))
		{
			refuse_unanswered(state == SLOT_TAKEN && submission->purpose != PURPOSE_GENERATION, answer);
			return;
		}
		look = now < until ? until : patience;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 posted && now < look ? Min(now < until ? WAIT_STEP_MS : TAKEN_STEP_MS, TimestampDifferenceMilliseconds(now, look) + 1) : 10,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	leave_slot();
}

/* False while the worker still has to free the slot of an earlier, abandoned submission. */
static bool
post(const Submission *submission, Slot *slot)
{
	DatabaseEntry *entry;
	bool		posted = false;

	sparky_shmem_lock(true);
	/* Nobody frees it any more whose worker has ended, perhaps with its database. */
	entry = sparky_shmem_find(slot->database);
	if (slot->state == SLOT_ABANDONED && (entry == NULL || entry->worker_pid == 0 || entry->incarnation != slot->incarnation))
		slot->state = SLOT_FREE;
	if (slot->state == SLOT_FREE)
	{
		submissions[slot - slots] = *submission;
		slot->state = SLOT_POSTED;
		slot->database = MyDatabaseId;
		slot->sequence++;
		slot->not_before = 0;
		posted = true;
		entry = sparky_shmem_find(MyDatabaseId);
		if (entry != NULL)
		{
			entry->posted++;
			if (entry->worker_pid != 0)
				sparky_shmem_wake(entry->worker_proc);
		}
	}
	sparky_shmem_unlock();
	return posted;
}

static SlotState
slot_state(Slot *slot, SubmissionAnswer *answer)
{
	SlotState	state;

	sparky_shmem_lock(false);
	state = slot->state;
	if (state == SLOT_ANSWERED)
		*answer = slot->answer;
	sparky_shmem_unlock();
	return state;
}

/* Give up waiting for acceptance; false if the worker has it in work, or answered in the last moment. */
static bool
withdraw(Slot *slot, bool taken_too)
{
	bool		given_up;

	sparky_shmem_lock(true);
	given_up = slot->state != SLOT_ANSWERED && (slot->state != SLOT_TAKEN || taken_too);
	if (given_up)
		release_slot(slot);
	sparky_shmem_unlock();
	return given_up;
}

static void
refuse_unanswered(bool taken, SubmissionAnswer *answer)
{
	DatabaseEntry *entry;

	sparky_shmem_lock(false);
	entry = sparky_shmem_find(MyDatabaseId);
	if (entry == NULL || entry->worker_pid == 0)
		answer->error = WORD_WORKER_DOWN;
	else
		answer->error = taken ? WORD_PROVIDER_TIMEOUT : WORD_OVERLOADED;
	sparky_shmem_unlock();
	answer->result = SUBMISSION_REFUSED;
	answer->retry_after = 5;
}

/* Whatever state my slot is in, I want nothing of it any more. */
static void
leave_slot(void)
{
	sparky_shmem_lock(true);
	release_slot(my_slot());
	sparky_shmem_unlock();
}

/* Lock held. */
static void
release_slot(Slot *slot)
{
	DatabaseEntry *entry;

	switch (slot->state)
	{
		case SLOT_POSTED:
			entry = sparky_shmem_find(slot->database);
			if (entry != NULL && entry->posted > 0)
				entry->posted--;
			slot->state = SLOT_FREE;
			break;
		case SLOT_TAKEN:
			/* An errand may be on the network for long, and the session wants its slot: the sequence number keeps the late answer out. */
			slot->state = submissions[slot - slots].purpose == PURPOSE_GENERATION ? SLOT_ABANDONED : SLOT_FREE;
			break;
		case SLOT_ANSWERED:
			slot->state = SLOT_FREE;
			break;
		case SLOT_FREE:
		case SLOT_ABANDONED:
			break;
	}
	slot->waiting = false;
}

static void
register_callbacks(void)
{
	if (callbacks_registered)
		return;
	before_shmem_exit(on_backend_exit, (Datum) 0);
	RegisterXactCallback(on_transaction_end, NULL);
	RegisterSubXactCallback(on_subtransaction_end, NULL);
	callbacks_registered = true;
}

static void
on_transaction_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT)
		leave_slot();
}

static void
on_subtransaction_end(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		leave_slot();
}

static void
on_backend_exit(int code, Datum arg)
{
	leave_slot();
}

/* ---- waiting for a job ---- */

/* The armed statement or transaction timer, less a margin; far away if none. */
static TimestampTz
earliest_timer(void)
{
	TimestampTz first = DT_NOEND;

	if (get_timeout_active(STATEMENT_TIMEOUT))
		first = get_timeout_finish_time(STATEMENT_TIMEOUT);
#ifdef SPARKY_HAVE_TRANSACTION_TIMEOUT
	if (get_timeout_active(TRANSACTION_TIMEOUT))
		first = Min(first, get_timeout_finish_time(TRANSACTION_TIMEOUT));
#endif
	return first == DT_NOEND ? first : TimestampTzPlusMilliseconds(first, -TIMER_MARGIN_MS);
}

bool
sparky_wait_begin(JobWait *wait, const pg_uuid_t *job_id, const pg_uuid_t *user_id, int wait_ms)
{
	Slot	   *slot;
	int			all = 0,
				own = 0;

	wait->job_id = *job_id;
	wait->user_id = *user_id;
	wait->until = Min(TimestampTzPlusMilliseconds(GetCurrentTimestamp(), wait_ms), earliest_timer());
	wait->registered = false;
	if (slots == NULL || wait_ms <= 0 || GetCurrentTimestamp() >= wait->until)
		return false;
	register_callbacks();
	slot = my_slot();
	sparky_shmem_lock(true);
	for (int i = 0; i < slot_count; i++)
	{
		if (!slots[i].waiting || slots[i].wait_database != MyDatabaseId || &slots[i] == slot)
			continue;
		all++;
		if (memcmp(&slots[i].wait_user, user_id, sizeof(*user_id)) == 0)
			own++;
	}
	if (all < sparky_max_waiting_calls && own < sparky_max_waiting_calls_per_user)
	{
		slot->waiting = wait->registered = true;
		slot->ended = false;
		slot->wait_job = *job_id;
		slot->wait_user = *user_id;
		slot->wait_database = MyDatabaseId;
	}
	sparky_shmem_unlock();
	return wait->registered;
}

bool
sparky_wait_step(JobWait *wait)
{
	Slot	   *slot = my_slot();
	TimestampTz look = Min(wait->until, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), WAIT_STEP_MS));

	if (!wait->registered)
		return false;
	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		bool		ended;

		sparky_shmem_lock(true);
		ended = slot->ended;
		slot->ended = false;
		sparky_shmem_unlock();
		if (ended)
			return true;
		if (now >= look)
			return now < wait->until;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 TimestampDifferenceMilliseconds(now, look) + 1, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

void
sparky_wait_end(JobWait *wait)
{
	if (!wait->registered)
		return;
	sparky_shmem_lock(true);
	my_slot()->waiting = false;
	sparky_shmem_unlock();
	wait->registered = false;
}

/* ---- the worker's side ---- */

int
sparky_mailbox_take(MailboxItem *items, int size, int64 incarnation)
{
	TimestampTz now = GetCurrentTimestamp();
	DatabaseEntry *entry;
	int			taken = 0;

	sparky_shmem_lock(true);
	entry = sparky_shmem_find(MyDatabaseId);
	if (entry != NULL && entry->posted > 0)
		for (int i = 0; i < slot_count && taken < size; i++)
		{
			Slot	   *slot = &slots[i];

			if (slot->state != SLOT_POSTED || slot->database != MyDatabaseId || slot->not_before > now)
				continue;
			slot->state = SLOT_TAKEN;
			slot->incarnation = incarnation;
			entry->posted--;
			items[taken].slot = i;
			items[taken].sequence = slot->sequence;
			items[taken++].submission = submissions[i];
		}
	sparky_shmem_unlock();
	return taken;
}

/* The slot still holds what this worker took; lock held. Frees it when its caller has left. */
static Slot *
still_mine(const MailboxItem *item)
{
	Slot	   *slot = &slots[item->slot];
	DatabaseEntry *entry = sparky_shmem_find(MyDatabaseId);

	if (slot->sequence != item->sequence || entry == NULL || entry->incarnation != slot->incarnation ||
		entry->worker_pid != MyProcPid)
		return NULL;
	if (slot->state == SLOT_ABANDONED)
	{
		slot->state = SLOT_FREE;
		sparky_shmem_wake(item->slot);
		return NULL;
	}
	return slot->state == SLOT_TAKEN ? slot : NULL;
}

void
sparky_mailbox_answer(const MailboxItem *item, const SubmissionAnswer *answer)
{
	Slot	   *slot;

	sparky_shmem_lock(true);
	slot = still_mine(item);
	if (slot != NULL)
	{
		slot->answer = *answer;
		slot->state = SLOT_ANSWERED;
		sparky_shmem_wake(item->slot);
	}
	sparky_shmem_unlock();
}

void
sparky_mailbox_postpone(const MailboxItem *item, int delay_ms)
{
	Slot	   *slot;

	sparky_shmem_lock(true);
	slot = still_mine(item);
	if (slot != NULL)
	{
		slot->state = SLOT_POSTED;
		slot->not_before = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), delay_ms);
		sparky_shmem_find(MyDatabaseId)->posted++;
	}
	sparky_shmem_unlock();
}

void
sparky_mailbox_recover(void)
{
	DatabaseEntry *entry;

	sparky_shmem_lock(true);
	entry = sparky_shmem_find(MyDatabaseId);
	if (entry != NULL)
		entry->posted = 0;
	for (int i = 0; i < slot_count; i++)
	{
		Slot	   *slot = &slots[i];

		if (slot->database != MyDatabaseId)
			continue;
		if (slot->state == SLOT_ABANDONED)
			slot->state = SLOT_FREE;
		if (slot->state == SLOT_TAKEN)
		{
			slot->state = SLOT_POSTED;
			slot->not_before = 0;
		}
		if (slot->state == SLOT_POSTED && entry != NULL)
			entry->posted++;
	}
	sparky_shmem_unlock();
}

int
sparky_mailbox_due(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz first = DT_NOEND;
	DatabaseEntry *entry;

	sparky_shmem_lock(false);
	entry = sparky_shmem_find(MyDatabaseId);
	if (entry != NULL && entry->posted > 0)
		for (int i = 0; i < slot_count; i++)
			if (slots[i].state == SLOT_POSTED && slots[i].database == MyDatabaseId)
				first = Min(first, slots[i].not_before);
	sparky_shmem_unlock();
	if (first == DT_NOEND)
		return -1;
	return first <= now ? 0 : (int) TimestampDifferenceMilliseconds(now, first) + 1;
}

void
sparky_wait_wake(const pg_uuid_t *jobs, int count)
{
	sparky_shmem_lock(true);
	for (int i = 0; i < slot_count; i++)
	{
		if (!slots[i].waiting || slots[i].wait_database != MyDatabaseId)
			continue;
		for (int j = 0; j < count; j++)
			if (memcmp(&slots[i].wait_job, &jobs[j], sizeof(pg_uuid_t)) == 0)
			{
				slots[i].ended = true;
				sparky_shmem_wake(i);
				break;
			}
	}
	sparky_shmem_unlock();
}
