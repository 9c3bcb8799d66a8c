/*
 * worker_files.c: the loop's part in what jobs need of the Storage API: photos
 * that came, results that wait for their place, files to be erased.
 *
 * While storage does not work one result at a time asks whether it does again,
 * after a pause that grows to a minute; as soon as one is taken all follow.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "file_errand.h"
#include "settings.h"
#include "worker.h"

/* Results on their way at once. */
#define MOST_STORES 16
/* Expected size of one. */
#define EXPECTED_BYTES (2 * 1024 * 1024)
#define FIRST_PAUSE_MS 100
#define LONGEST_PAUSE_MS 60000

typedef struct AnsweredList
{
	MemoryContext context;
	Job		   *jobs;
	int			count;
	int			limit;
	TimestampTz next;
} AnsweredList;

static int	storing;
static bool storage_down;
static int	pause_ms;
static TimestampTz store_again;

static int	stores_to_claim(void);
static bool claim_answered(void *arg);
static void fetched(Errand *errand);
static void stored(Errand *errand);

bool
sparky_worker_store_answered(void)
{
	TimestampTz now = GetCurrentTimestamp();
	AnsweredList list = {CurrentMemoryContext, NULL, 0, stores_to_claim(), DT_NOEND};

	sparky_worker.next_answered = Max(store_again, TimestampTzPlusMilliseconds(now, FIRST_PAUSE_MS));
	if (now < store_again)
		return false;
	/* Full: one that ends brings us back. */
	sparky_worker.answered_due = false;
	if (list.limit <= 0)
		return false;
	if (!sparky_batch_once(BATCH_SETTLE, claim_answered, &list))
	{
		sparky_worker.answered_due = true;
		return false;
	}
	for (int i = 0; i < list.count; i++)
	{
		sparky_errand_enlist(sparky_store_create(&list.jobs[i]));
		storing++;
	}
	/* While it is down the one that asks brings us back; but there may be none to ask now. */
	if (list.next != DT_NOEND && (!storage_down || list.count == 0))
	{
		sparky_worker.answered_due = true;
		sparky_worker.next_answered = Max(list.next, sparky_worker.next_answered);
	}
	return list.count > 0;
}

static int
stores_to_claim(void)
{
	int64		budget = (int64) sparky_memory_budget * 1024 * 1024 - (int64) sparky_worker_memory();
	int64		room = Min(MOST_STORES - storing, budget / EXPECTED_BYTES);

	if (storing == 0)
		room = storage_down ? 1 : Max(room, 1);
	else if (storage_down)
		room = 0;
	return (int) Max(room, 0);
}

static bool
claim_answered(void *arg)
{
	AnsweredList *list = arg;
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz lease = TimestampTzPlusMilliseconds(now, (int64) sparky_storage_timeout * 1000 + sparky_lease_time);
	Job		   *jobs;

	list->count = sparky_queue_claim_answered(list->limit, sparky_worker.incarnation, now, lease, &jobs);
	list->jobs = sparky_jobs_copy(jobs, list->count, list->context);
	list->next = sparky_queue_next_answered();
	return true;
}

void
sparky_worker_job_errand_ended(Errand *errand)
{
	if (errand->type == &sparky_fetch_errand)
		fetched(errand);
	else
		stored(errand);
	sparky_wait_wake(&errand->type->job(errand)->id, 1);
}

/* The claim became a call: committed, and now made. */
static void
fetched(Errand *errand)
{
	FetchErrand *state = errand->state;

	sparky_worker.fetching_count--;
	sparky_worker.claim_due = true;
	if (state->call == NULL)
		return;
	if (errand->answer.result != SUBMISSION_ACCEPTED)
	{
		/* The commit failed to the end: nobody has this call. */
		sparky_call_free(state->call);
		return;
	}
	state->call->fetched = errand->body;
	errand->body = NULL;
	errand->length = errand->capacity = 0;
	sparky_worker_start_call(state->call);
}

static void
stored(Errand *errand)
{
	StoreErrand *state = errand->state;

	storing--;
	if (state->down)
	{
		/* Those that were under way together fail together: that is one failure. */
		if (storing == 0 || pause_ms == 0)
			pause_ms = Min(LONGEST_PAUSE_MS, Max(FIRST_PAUSE_MS, pause_ms * 2));
		storage_down = true;
		store_again = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), pause_ms);
	}
	else if (state->exchange.tries > 0)
	{
		/* It answered, if only that it does not take this file. */
		storage_down = false;
		pause_ms = 0;
		store_again = 0;
	}
	sparky_worker.answered_due = true;
	sparky_worker.next_answered = store_again;
}

void
sparky_worker_erase(TimestampTz now)
{
	Errand	   *errand = sparky_storage_outside() ? sparky_erase_create(now) : NULL;

	if (errand != NULL)
		sparky_errand_enlist(errand);
}
