/*
 * file_job.c: a job's two ways to the Storage API: its photo comes, its result goes.
 *
 * fetching: the claim is committed, no call is recorded yet.  The photo is
 * compared with the digest that the job was accepted for; if it is the same,
 * one transaction makes it generating and records the call, which the loop
 * starts after the commit.
 *
 * storing: the answer is committed, and the picture goes to a path that follows
 * from the job.  When storage has it, one transaction charges, and ends the
 * job; before, nothing is charged, however often it is tried.  If the job is
 * gone by then, so must the file be.
 *
 * What waits for somebody's lock, or for a repair, waits with no claim: workers
 * that end meanwhile are no lost claims of it.
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "credits.h"
#include "crypto.h"
#include "file_errand.h"
#include "job.h"
#include "settings.h"
#include "tools.h"

/* A picture that storage does not take is offered again after half the time that it has waited. */
#define FIRST_PAUSE_MS 100
#define LONGEST_PAUSE_MS 60000
/* The same for one that only a lock keeps from being charged. */
#define LONGEST_LOCK_PAUSE_MS 5000
/* Within one claim; then the claim is handed back. */
#define FETCH_TRIES 1
#define STORE_TRIES 1

static Outcome outcome_of(StorageOutcome outcome);
static bool call_begins(Errand *errand, TimestampTz now, Outcome *why);
static void fetch_failed(FetchErrand *state, Outcome outcome, TimestampTz now);
static bool settle_job(StoreErrand *state, TimestampTz now);
static void store_failed(StoreErrand *state, TimestampTz now);
static TimestampTz store_later(const Job *job, TimestampTz now, int64 longest_ms);

/* ---- fetching ---- */

Errand *
sparky_fetch_create(const Job *job, int64 incarnation)
{
	Errand	   *errand = sparky_errand_create(&sparky_fetch_errand, NULL);
	FetchErrand *state = sparky_file_state(errand, sizeof(FetchErrand));

	sparky_job_copy(&state->job, job, errand->context);
	state->incarnation = incarnation;
	errand->limit = sparky_max_image_bytes;
	return errand;
}

static bool
fetch_request(Errand *errand, HttpRequest *request)
{
	FetchErrand *state = errand->state;
	int64		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), state->job.deadline);

	if (!sparky_file_download(errand, state->job.source_path, request))
		return false;
	request->total_timeout_ms = (int) Max(1, Min(request->total_timeout_ms, left));
	return true;
}

static void
fetch_read(Errand *errand, const HttpResult *result)
{
	FetchErrand *state = errand->state;

	sparky_file_read(errand, result, FETCH_TRIES);
	if (state->exchange.answer.outcome == STORAGE_OK &&
		!sparky_sha256_hex(errand->length ? errand->body : "", errand->length, state->sha256))
		state->exchange.answer.outcome = STORAGE_SERVER;
}

static bool
fetch_settle(Errand *errand, TimestampTz now)
{
	FetchErrand *state = errand->state;
	RowStep		step = sparky_queue_lock(&state->job, "fetching");
	Outcome		outcome = outcome_of(state->exchange.answer.outcome);

	if (state->call != NULL)
	{
		/* The batch was aborted, and this runs again. */
		sparky_call_free(state->call);
		state->call = NULL;
	}
	if (step == ROW_STEP_BUSY)
		return false;
	errand->over = true;
	state->ended = true;
	if (step == ROW_STEP_GONE)
		return true;
	/* The cache key stands for these very bytes: a photo that was replaced meanwhile is another one. */
	if (outcome == OUTCOME_OK && strcmp(state->sha256, state->job.image_hash) != 0)
		outcome = OUTCOME_IMAGE_GONE;
	if (now >= state->job.deadline)
		outcome = OUTCOME_DEADLINE;
	if (outcome != OUTCOME_OK || !call_begins(errand, now, &outcome))
		fetch_failed(state, outcome, now);
	return true;
}

static bool
call_begins(Errand *errand, TimestampTz now, Outcome *why)
{
	FetchErrand *state = errand->state;
	Call	   *call = state->call = sparky_call_create(&state->job);
	TimestampTz lease;

	call->photo_bytes = (const uint8 *) errand->body;
	call->photo_length = errand->length;
	*why = sparky_call_prepare(call, now);
	if (*why != OUTCOME_OK)
	{
		sparky_call_free(call);
		state->call = NULL;
		return false;
	}
	lease = TimestampTzPlusMilliseconds(now, (int64) call->timeout_ms + sparky_lease_time);
	call->call_id = sparky_queue_start_call(&call->job, call->model, state->incarnation, now, lease);
	call->claimed = true;
	state->ended = false;
	return true;
}

/* A call that cannot be recorded without an error must not be tried for ever. */
static bool
fetch_stuck(Errand *errand, TimestampTz now)
{
	FetchErrand *state = errand->state;
	RowStep		step;

	if (state->call != NULL)
	{
		/* Its claim was rolled back. */
		sparky_call_free(state->call);
		state->call = NULL;
	}
	if (!errand->failed || (step = sparky_queue_lock(&state->job, "fetching")) == ROW_STEP_BUSY)
		return false;
	if (step == ROW_STEP_DONE)
		sparky_queue_fail(&state->job, OUTCOME_LOST, 0, now);
	state->ended = true;
	return true;
}

static void
fetch_failed(FetchErrand *state, Outcome outcome, TimestampTz now)
{
	JobDecision decision = sparky_job_after_call(&state->job, outcome, state->exchange.answer.retry_after,
												 pg_prng_double(&pg_global_prng_state), now);

	if (decision.step == JOB_RETRY)
		sparky_queue_retry(&state->job, true, decision.run_after);
	else
		sparky_queue_fail(&state->job, decision.final, decision.retry_after, now);
}

/* Of a download that was to begin a call. */
static Outcome
outcome_of(StorageOutcome outcome)
{
	switch (outcome)
	{
		case STORAGE_OK:
			return OUTCOME_OK;
		case STORAGE_MISSING:
		case STORAGE_FILE_GONE:
		case STORAGE_BAD_KEY:
		case STORAGE_CUT:		/* larger than any photo that was accepted: another one */
			return OUTCOME_IMAGE_GONE;
		case STORAGE_AUTH:
		case STORAGE_NO_BUCKET:
		case STORAGE_REDIRECT:
			return OUTCOME_NOT_CONFIGURED;
		default:
			return OUTCOME_FETCH;
	}
}

static const Job *
fetch_job(const Errand *errand)
{
	return &((const FetchErrand *) errand->state)->job;
}

const ErrandType sparky_fetch_errand = {
	.name = "fetching a photo",
	.locks = BATCH_CLAIM,
	.request = fetch_request,
	.read = fetch_read,
	.settle = fetch_settle,
	.stuck = fetch_stuck,
	.stuck_locks = BATCH_CLAIM,
	.job = fetch_job,
};

/* ---- storing ---- */

Errand *
sparky_store_create(const Job *job)
{
	Errand	   *errand = sparky_errand_create(&sparky_store_errand, NULL);
	StoreErrand *state = sparky_file_state(errand, sizeof(StoreErrand));

	sparky_job_copy(&state->job, job, errand->context);
	state->exchange.tell_all = true;
	state->memory = AllocSetContextCreate(errand->context, "sparky answer", ALLOCSET_DEFAULT_SIZES);
	return errand;
}

static bool
past_deadline(const Job *job, TimestampTz now)
{
	return now >= TimestampTzPlusMilliseconds(job->answered_at, (int64) sparky_storage_deadline * 1000);
}

static bool
store_begin(Errand *errand, TimestampTz now)
{
	StoreErrand *state = errand->state;
	RowStep		step = sparky_queue_lock(&state->job, "storing");
	MemoryContext previous;
	bool		found;

	if (step == ROW_STEP_BUSY)
		return false;
	state->ended = false;
	if (step == ROW_STEP_GONE)
	{
		errand->over = true;
		return true;
	}
	if (past_deadline(&state->job, now))
	{
		sparky_queue_fail(&state->job, OUTCOME_STORAGE, 0, now);
		errand->over = state->ended = true;
		return true;
	}
	/* Who holds the user's row now keeps the charge waiting: nothing is sent for that. */
	if (sparky_credits_lock(&state->job.user_id) != ROW_LOCKED)
		return false;
	MemoryContextReset(state->memory);
	previous = MemoryContextSwitchTo(state->memory);
	found = sparky_queue_read_answer(&state->job, &state->answer);
	MemoryContextSwitchTo(previous);
	if (!found)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("an answered job has no answer")));
	if (state->answer.image == NULL)
	{
		if (!settle_job(state, now))
			return false;
		errand->over = true;
		return true;
	}
	state->path = MemoryContextStrdup(state->memory, sparky_storage_result_path(&state->job.user_id, &state->job.id, state->answer.info.type));
	return true;
}

static bool
store_request(Errand *errand, HttpRequest *request)
{
	StoreErrand *state = errand->state;

	return sparky_file_upload(errand, state->path, sparky_image_mime(state->answer.info.type),
							  VARDATA_ANY(state->answer.image), VARSIZE_ANY_EXHDR(state->answer.image), request);
}

static void
store_read(Errand *errand, const HttpResult *result)
{
	sparky_file_read(errand, result, STORE_TRIES);
}

static bool
store_settle(Errand *errand, TimestampTz now)
{
	StoreErrand *state = errand->state;
	bool		stored = state->exchange.answer.outcome == STORAGE_OK;
	RowStep		step = sparky_queue_lock(&state->job, "storing");

	if (step == ROW_STEP_BUSY)
		return false;
	state->ended = state->down = false;
	state->next = 0;
	if (step == ROW_STEP_GONE)
	{
		/* Not if another claim of the job is at it, or has delivered it: the file is that one's too. */
		if (stored && sparky_queue_ended_without(&state->job))
			sparky_storage_note_erasure(state->path);
	}
	else if (!stored)
		store_failed(state, now);
	else if (!settle_job(state, now))
		return false;
	errand->over = true;
	return true;
}

/* After the lock: the charge, and the end of the job. */
static bool
settle_job(StoreErrand *state, TimestampTz now)
{
	Tool		tool;

	if (sparky_credits_lock(&state->job.user_id) != ROW_LOCKED)
		return false;
	if (!sparky_tool_read(state->job.tool_id, &tool))
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("the tool of an answered job is gone")));
	sparky_queue_settle(&state->job, &state->answer, tool.cache_ttl_seconds, now);
	sparky_queue_mark_charged(&state->job);
	state->ended = true;
	return true;
}

/* Kept, and tried again until the deadline: whatever is wrong with storage, the answer was paid for. */
static void
store_failed(StoreErrand *state, TimestampTz now)
{
	if (past_deadline(&state->job, now))
	{
		sparky_queue_fail(&state->job, OUTCOME_STORAGE, 0, now);
		state->ended = true;
		return;
	}
	state->down = sparky_file_service_trouble(state->exchange.answer.outcome);
	/* If the service is down the loop tells when it is asked again; those that waited longest then go first. */
	state->next = state->down ? now : store_later(&state->job, now, LONGEST_PAUSE_MS);
	sparky_queue_hand_back(&state->job, state->next);
}

/* Stored or not, it could not be charged: it is offered again later, which writes the same file. */
static bool
store_stuck(Errand *errand, TimestampTz now)
{
	StoreErrand *state = errand->state;
	RowStep		step = sparky_queue_lock(&state->job, "storing");

	if (step == ROW_STEP_BUSY)
		return false;
	state->ended = state->down = false;
	state->next = store_later(&state->job, now, errand->failed ? LONGEST_PAUSE_MS : LONGEST_LOCK_PAUSE_MS);
	if (step == ROW_STEP_DONE)
		sparky_queue_hand_back(&state->job, state->next);
	return step == ROW_STEP_DONE;
}

static TimestampTz
store_later(const Job *job, TimestampTz now, int64 longest_ms)
{
	int64		waited = TimestampDifferenceMilliseconds(job->answered_at, now);

	return TimestampTzPlusMilliseconds(now, Min(Max(waited / 2, FIRST_PAUSE_MS), longest_ms));
}

static size_t
store_memory(const Errand *errand)
{
	const StoreErrand *state = errand->state;

	return state->answer.image ? VARSIZE_ANY(state->answer.image) : 0;
}

static const Job *
store_job(const Errand *errand)
{
	return &((const StoreErrand *) errand->state)->job;
}

const ErrandType sparky_store_errand = {
	.name = "storing a result",
	.locks = BATCH_SETTLE,
	.begin = store_begin,
	.request = store_request,
	.read = store_read,
	.settle = store_settle,
	.stuck = store_stuck,
	.stuck_locks = BATCH_KEEP,
	.memory = store_memory,
	.job = store_job,
};
