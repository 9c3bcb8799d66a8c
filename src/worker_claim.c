/*
 * worker_claim.c: the loop takes ready jobs, and starts their calls.
 *
 * Rules.  The claim, with its lease and its row in provider_calls, is committed
 * before the network is touched.  Photos are read in the claim's transaction,
 * so a batch ends at so many bytes: the transfers under way must not wait long.
 * Photos that are outside are fetched first, under a claim of their own.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/timestamp.h"

#include "file_errand.h"
#include "settings.h"
#include "worker.h"

/* Expected size of an answer: what a new call is counted with beside its photo. */
#define EXPECTED_ANSWER_BYTES (2 * 1024 * 1024)
/* A rate limit without RetryInfo pauses its model this long. */
#define DEFAULT_PAUSE_S 1.0

typedef struct ClaimItem
{
	Job		   *job;
	Call	   *call;			/* NULL: no call came of it */
	Job			fetch;			/* as it was claimed for fetching */
	bool		fetching;
	bool		ended;
	bool		left;			/* for the next batch */
} ClaimItem;

typedef struct ReadyList
{
	MemoryContext context;
	Job		   *jobs;
	int			count;
	int			limit;
} ReadyList;

static TimestampTz batch_now;
static TransactionId claimed_in;	/* where claimed_bytes was counted */
static size_t claimed_bytes;

static int	calls_to_claim(void);
static char *paused_models(void);
static TimestampTz pauses_end(TimestampTz now);
static bool read_ready(void *arg);
static bool claim_item(void *arg);
static void claim_for_fetching(ClaimItem *item);
static bool claim_failed(void *arg);
static void start_claimed(ClaimItem *items, int count);


bool
sparky_worker_claim(void)
{
	ReadyList	ready = {CurrentMemoryContext, NULL, 0, calls_to_claim()};
	ClaimItem	items[SPARKY_BATCH];
	void	   *pointers[SPARKY_BATCH];
	ItemResult	results[SPARKY_BATCH];
	bool		postponed = false,
				left = false;

	if (ready.limit <= 0)
	{
		/* Full: a call that ends makes room and brings us back. */
		sparky_worker.claim_due = true;
		sparky_worker.next_run = DT_NOEND;
		return false;
	}
	sparky_worker.claim_due = false;
	if (!sparky_batch_once(BATCH_CLAIM, read_ready, &ready))
	{
		sparky_worker.next_run = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), SPARKY_POSTPONE_MS);
		return false;
	}
	memset(items, 0, sizeof(items));
	for (int i = 0; i < ready.count; i++)
	{
		items[i].job = &ready.jobs[i];
		pointers[i] = &items[i];
	}
	batch_now = GetCurrentTimestamp();
	sparky_batch_run(BATCH_CLAIM, pointers, ready.count, claim_item, results, NULL);
	for (int i = 0; i < ready.count; i++)
	{
		if (results[i] == ITEM_FAILED)
			(void) sparky_batch_once(BATCH_CLAIM, claim_failed, items[i].job);
		if (results[i] != ITEM_DONE && items[i].call != NULL)
		{
			sparky_call_free(items[i].call);
			items[i].call = NULL;
		}
		items[i].fetching &= results[i] == ITEM_DONE;
		postponed |= results[i] == ITEM_POSTPONED;
		left |= items[i].left;
	}
	start_claimed(items, ready.count);
	if (postponed)
		sparky_worker.next_run = Min(sparky_worker.next_run, TimestampTzPlusMilliseconds(batch_now, SPARKY_POSTPONE_MS));
	sparky_worker.claim_due |= left;
	return left || (ready.count == ready.limit && !postponed);
}

size_t
sparky_worker_memory(void)
{
	dlist_iter	iter;
	size_t		used = 0;

	dlist_foreach(iter, &sparky_worker.running)
		used += sparky_call_memory(dlist_container(Call, node, iter.cur));
	dlist_foreach(iter, &sparky_worker.finished)
		used += sparky_call_memory(dlist_container(Call, node, iter.cur));
	used += sparky_worker_errands_memory();
	return used;
}

static int
calls_to_claim(void)
{
	int64		budget = (int64) sparky_memory_budget * 1024 * 1024 - (int64) sparky_worker_memory();
	int			claimed = sparky_worker.running_count + sparky_worker.fetching_count;
	int64		room = budget / EXPECTED_ANSWER_BYTES - claimed;

	if (claimed + sparky_worker.finished_count == 0)
		room = Max(room, 1);
	/* Answers that cannot be settled now must not pile up without end. */
	if (sparky_worker.finished_count >= sparky_max_concurrent_calls)
		room = 0;
	return (int) Min(Min(room, sparky_max_concurrent_calls - claimed), SPARKY_BATCH);
}

static bool
read_ready(void *arg)
{
	ReadyList  *ready = arg;
	Job		   *jobs;
	TimestampTz now = GetCurrentTimestamp();

	ready->count = sparky_queue_ready(ready->limit, now, paused_models(), &jobs);
	ready->jobs = sparky_jobs_copy(jobs, ready->count, ready->context);
	if (ready->count < ready->limit)
	{
		sparky_worker.next_run = sparky_queue_next_run();
		/* Ready by the clock, but not for us now: its model is paused, or somebody holds its row. */
		if (sparky_worker.next_run <= now)
			sparky_worker.next_run = Max(pauses_end(now), TimestampTzPlusMilliseconds(now, SPARKY_POSTPONE_MS));
	}
	return true;
}

static bool
claim_item(void *arg)
{
	ClaimItem  *item = arg;
	Outcome		outcome;
	TimestampTz lease;
	RowStep		step;

	if (item->call != NULL)
	{
		/* The batch was aborted and this item is run again, alone. */
		sparky_call_free(item->call);
		item->call = NULL;
	}
	item->ended = item->left = item->fetching = false;
	if (claimed_in != GetTopTransactionId())
	{
		claimed_in = GetTopTransactionId();
		claimed_bytes = 0;
	}
	if (claimed_bytes >= SPARKY_BATCH_BYTES)
	{
		item->left = true;
		return true;
	}
	step = sparky_queue_lock(item->job, "queued");
	if (step != ROW_STEP_DONE)
		return step == ROW_STEP_GONE;
	if (batch_now >= item->job->deadline)
		outcome = OUTCOME_DEADLINE;
	else if (sparky_storage_outside())
	{
		claim_for_fetching(item);
		return true;
	}
	else
	{
		item->call = sparky_call_create(item->job);
		outcome = sparky_call_prepare(item->call, batch_now);
		claimed_bytes += item->call->photo_length;
	}
	if (outcome != OUTCOME_OK)
	{
		sparky_queue_fail(item->job, outcome, 0, batch_now);
		item->ended = true;
		return true;
	}
	lease = TimestampTzPlusMilliseconds(batch_now, (int64) item->call->timeout_ms + sparky_lease_time);
	item->call->call_id = sparky_queue_start_call(&item->call->job, item->call->model, sparky_worker.incarnation, batch_now, lease);
	item->call->claimed = true;
	return true;
}

static void
claim_for_fetching(ClaimItem *item)
{
	TimestampTz lease = TimestampTzPlusMilliseconds(batch_now, (int64) sparky_storage_timeout * 1000 + sparky_lease_time);

	/* A copy: a batch that is aborted and run again must find the job as it was. */
	item->fetch = *item->job;
	sparky_queue_start_fetch(&item->fetch, sparky_worker.incarnation, batch_now, lease);
	item->fetching = true;
}

/* A job that cannot even be claimed without an error must not be tried for ever. */
static bool
claim_failed(void *arg)
{
	Job		   *job = arg;

	if (sparky_queue_lock(job, "queued") != ROW_STEP_DONE)
		return true;
	sparky_queue_fail(job, OUTCOME_LOST, 0, GetCurrentTimestamp());
	return true;
}

static void
start_claimed(ClaimItem *items, int count)
{
	for (int i = 0; i < count; i++)
	{
		Call	   *call = items[i].call;

		if (items[i].ended)
			sparky_wait_wake(&items[i].job->id, 1);
		if (items[i].fetching)
		{
			sparky_errand_enlist(sparky_fetch_create(&items[i].fetch, sparky_worker.incarnation));
			sparky_worker.fetching_count++;
		}
		if (call == NULL)
			continue;
		if (!call->claimed)
			sparky_call_free(call);
		else
			sparky_worker_start_call(call);
	}
}

void
sparky_worker_start_call(Call *call)
{
	if (sparky_call_start(call, sparky_worker.http))
	{
		dlist_push_tail(&sparky_worker.running, &call->node);
		sparky_worker.running_count++;
	}
	else
	{
		dlist_push_tail(&sparky_worker.finished, &call->node);
		sparky_worker.finished_count++;
	}
}

/* ---- models that asked for a pause ---- */

void
sparky_worker_pause_model(const char *model, double seconds)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz until = TimestampTzPlusMilliseconds(now, (int64) ((seconds > 0 ? seconds : DEFAULT_PAUSE_S) * 1000));
	PausedModel *place = &sparky_worker.paused[0];

	for (int i = 0; i < SPARKY_PAUSED_MODELS; i++)
	{
		PausedModel *paused = &sparky_worker.paused[i];

		if (strcmp(paused->model, model) == 0)
		{
			place = paused;
			break;
		}
		if (paused->until < place->until)
			place = paused;
	}
	if (strcmp(place->model, model) != 0 || place->until < until)
		place->until = until;
	strlcpy(place->model, model, sizeof(place->model));
	sparky_worker.next_run = Min(sparky_worker.next_run, until);
}

/* The first pause to end, or now. */
static TimestampTz
pauses_end(TimestampTz now)
{
	TimestampTz first = DT_NOEND;

	for (int i = 0; i < SPARKY_PAUSED_MODELS; i++)
		if (sparky_worker.paused[i].until > now)
			first = Min(first, sparky_worker.paused[i].until);
	return first == DT_NOEND ? now : first;
}

static char *
paused_models(void)
{
	TimestampTz now = GetCurrentTimestamp();
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < SPARKY_PAUSED_MODELS; i++)
		if (sparky_worker.paused[i].until > now)
			appendStringInfo(&list, "%s%s", list.len ? "," : "", sparky_worker.paused[i].model);
	return list.data;
}
