/*
 * worker_steps.c: what the loop does between two waits: accept, settle, sweep;
 * claiming is in worker_claim.c.
 *
 * Rules.  A caller is woken only after the commit that his answer tells of.
 * A call that ended is settled in one commit with everything it changes; if a
 * lock is in the way of that, a good answer is at least made durable, and the
 * rest follows.  A call that nobody can settle any more (its fence is gone) is
 * forgotten.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "credits.h"
#include "job.h"
#include "mailbox.h"
#include "owner.h"
#include "secrets.h"
#include "settings.h"
#include "storage.h"
#include "tools.h"
#include "worker.h"

#define ANSWERED_FIRST_PAUSE_MS 100
#define ANSWERED_LONGEST_PAUSE_MS 5000
#define SWEEP_MS 1000

typedef struct AcceptItem
{
	MailboxItem mail;
	SubmissionAnswer answer;
} AcceptItem;

typedef struct JobList
{
	MemoryContext context;
	Job		   *jobs;
	int			count;
	int			limit;
} JobList;

typedef struct AnsweredItem
{
	Job		   *job;
	bool		ended;
} AnsweredItem;

static AcceptBatch accept_batch;
static TimestampTz batch_now;

static bool accept_item(void *arg);
static ErrorWord word_of_failure(int sqlstate);
static bool settle_item(void *arg);
static bool keep_item(void *arg);
static void keep_answer(Call *call);
static void after_settlement(Call *call);
static bool read_answered(void *arg);
static bool answered_item(void *arg);
static bool hand_back_item(void *arg);
static bool read_overdue(void *arg);
static bool in_hand(const Job *job);
static bool end_overdue(void *arg);

static void
wake_job(const Job *job)
{
	sparky_wait_wake(&job->id, 1);
}

/* ---- accept ---- */

bool
sparky_worker_accept(void)
{
	static MailboxItem mails[SPARKY_BATCH];
	AcceptItem *items;
	void	   *pointers[SPARKY_BATCH];
	ItemResult	results[SPARKY_BATCH];
	int			failed_with[SPARKY_BATCH];
	int			taken = sparky_mailbox_take(mails, SPARKY_BATCH, sparky_worker.incarnation);
	int			count = 0;

	if (taken == 0)
		return false;
	items = palloc0(sizeof(AcceptItem) * taken);
	for (int i = 0; i < taken; i++)
	{
		if (sparky_worker_take_errand(&mails[i]))
			continue;
		items[count].mail = mails[i];
		pointers[count] = &items[count];
		count++;
	}
	accept_batch.counted_in = InvalidTransactionId;
	batch_now = GetCurrentTimestamp();
	sparky_batch_run(BATCH_ACCEPT, pointers, count, accept_item, results, failed_with);
	for (int i = 0; i < count; i++)
	{
		if (results[i] == ITEM_POSTPONED)
		{
			sparky_mailbox_postpone(&items[i].mail, SPARKY_POSTPONE_MS);
			continue;
		}
		if (results[i] == ITEM_FAILED)
		{
			items[i].answer.result = SUBMISSION_REFUSED;
			items[i].answer.error = word_of_failure(failed_with[i]);
		}
		if (items[i].answer.result == SUBMISSION_ACCEPTED)
			sparky_worker.claim_due = true;
		sparky_mailbox_answer(&items[i].mail, &items[i].answer);
	}
	return taken == SPARKY_BATCH;
}

static bool
accept_item(void *arg)
{
	AcceptItem *item = arg;

	return sparky_queue_accept(&item->mail.submission, batch_now, &accept_batch, &item->answer);
}

/* The user, or the tool, was deleted while his request was on its way. */
static ErrorWord
word_of_failure(int sqlstate)
{
	return sqlstate == ERRCODE_FOREIGN_KEY_VIOLATION ? WORD_ACCOUNT_GONE : WORD_OVERLOADED;
}

/* ---- settle ---- */

bool
sparky_worker_settle(void)
{
	Call	   *calls[SPARKY_BATCH];
	void	   *pointers[SPARKY_BATCH];
	ItemResult	results[SPARKY_BATCH];
	dlist_mutable_iter iter;
	TimestampTz now = GetCurrentTimestamp();
	size_t		bytes = 0;
	int			count = 0;
	bool		more = false;

	dlist_foreach_modify(iter, &sparky_worker.finished)
	{
		Call	   *call = dlist_container(Call, node, iter.cur);

		if (call->not_before > now)
			continue;
		if (count == SPARKY_BATCH || bytes >= SPARKY_BATCH_BYTES)
		{
			more = true;
			break;
		}
		pointers[count] = calls[count] = call;
		bytes += call->gemini.image_length;
		count++;
	}
	if (count == 0)
		return false;
	batch_now = now;
	sparky_batch_run(BATCH_SETTLE, pointers, count, settle_item, results, NULL);
	for (int i = 0; i < count; i++)
	{
		Call	   *call = calls[i];

		if (results[i] != ITEM_DONE && call->outcome == OUTCOME_OK && sparky_batch_once(BATCH_KEEP, keep_item, call))
		{
			results[i] = ITEM_DONE;
			sparky_worker.answered_due = true;
			sparky_worker.next_answered = TimestampTzPlusMilliseconds(now, ANSWERED_FIRST_PAUSE_MS);
		}
		if (results[i] == ITEM_DONE && call->kept)
			sparky_worker.answered_due = true;
		if (results[i] == ITEM_DONE)
			after_settlement(call);
		else
			call->not_before = TimestampTzPlusMilliseconds(now, results[i] == ITEM_FAILED ? SWEEP_MS : SPARKY_POSTPONE_MS);
	}
	return more;
}

/* Ended, retried, kept, or no longer ours: in every case the call is done with. */
static void
after_settlement(Call *call)
{
	dlist_delete(&call->node);
	sparky_worker.finished_count--;
	sparky_worker.claim_due = true;
	wake_job(&call->job);
	sparky_call_free(call);
}

static bool
settle_item(void *arg)
{
	Call	   *call = arg;
	JobDecision decision;
	RowStep		step = sparky_queue_lock(&call->job, "generating");

	if (step == ROW_STEP_BUSY)
		return false;
	if (step == ROW_STEP_GONE)
	{
		call->report.charged = false;	/* a batch that was undone may have said so */
		sparky_queue_note_call(&call->report, batch_now);
		return true;
	}
	if (call->hand_back)
	{
		sparky_queue_forget_call(call->call_id);
		sparky_queue_retry(&call->job, false, TimestampTzPlusMilliseconds(batch_now, SWEEP_MS));
		return true;
	}
	decision = sparky_job_after_call(&call->job, call->outcome, call->gemini.retry_after,
									 pg_prng_double(&pg_global_prng_state), GetCurrentTimestamp());
	if (decision.step == JOB_SETTLE)
	{
		/* From its deadline on the job reads as failed: it must not be charged after that. */
		sparky_batch_commit_before(call->job.deadline);
		if (call->answer.image != NULL && sparky_storage_outside())
		{
			/* Charged when storage has it. */
			keep_answer(call);
			return true;
		}
		if (sparky_credits_lock(&call->job.user_id) != ROW_LOCKED)
			return false;
		call->report.charged = true;
		sparky_queue_note_call(&call->report, batch_now);
		sparky_queue_settle(&call->job, &call->answer, call->cache_ttl_seconds, batch_now);
		return true;
	}
	call->report.charged = false;
	sparky_queue_note_call(&call->report, batch_now);
	/* With or without a try left for this job, the others of its model wait; but for no pause that outlasts any of them. */
	if (call->outcome == OUTCOME_RATE_LIMITED && call->gemini.retry_after < sparky_job_deadline)
		sparky_worker_pause_model(call->model, call->gemini.retry_after);
	if (decision.step == JOB_RETRY && sparky_queue_breaker_open(batch_now))
		sparky_queue_fail(&call->job, call->outcome, 0, batch_now);
	else if (decision.step == JOB_RETRY)
		sparky_queue_retry(&call->job, true, decision.run_after);
	else
		sparky_queue_fail(&call->job, decision.final, decision.retry_after, batch_now);
	return true;
}

/* A paid answer that cannot be settled now is made durable at once. */
static bool
keep_item(void *arg)
{
	Call	   *call = arg;
	RowStep		step = sparky_queue_lock(&call->job, "generating");

	if (step != ROW_STEP_DONE)
		return step == ROW_STEP_GONE;
	/* Too late to be kept: the settlement ends it, which has the locks that telling the user takes. */
	if (GetCurrentTimestamp() >= call->job.deadline)
		return false;
	sparky_batch_commit_before(call->job.deadline);
	keep_answer(call);
	return true;
}

static void
keep_answer(Call *call)
{
	call->report.charged = false;
	sparky_queue_note_call(&call->report, batch_now);
	sparky_queue_keep_answer(&call->job, &call->answer, batch_now);
	call->kept = true;
}

/* ---- answered jobs ---- */

bool
sparky_worker_settle_answered(void)
{
	JobList	list = {CurrentMemoryContext, NULL, 0, SPARKY_BATCH};
	AnsweredItem items[SPARKY_BATCH];
	void	   *pointers[SPARKY_BATCH];
	ItemResult	results[SPARKY_BATCH];
	int			ended = 0,
				waiting = 0;

	if (sparky_storage_outside())
		return sparky_worker_store_answered();
	sparky_worker.answered_due = false;
	if (sparky_batch_once(BATCH_SETTLE, read_answered, &list) && list.count == 0)
		return false;
	for (int i = 0; i < list.count; i++)
	{
		items[i].job = &list.jobs[i];
		pointers[i] = &items[i];
	}
	batch_now = GetCurrentTimestamp();
	/* Each alone: an answer has megabytes, and what is here has failed or been in the way once already. */
	for (int i = 0; i < list.count; i++)
		sparky_batch_run(BATCH_SETTLE, &pointers[i], 1, answered_item, &results[i], NULL);
	for (int i = 0; i < list.count; i++)
		if (results[i] == ITEM_DONE)
		{
			ended++;
			wake_job(items[i].job);
		}
		else
			pointers[waiting++] = &items[i];
	sparky_batch_run(BATCH_KEEP, pointers, waiting, hand_back_item, results, NULL);
	if (ended > 0)
		sparky_worker.answered_pause_ms = ANSWERED_FIRST_PAUSE_MS;
	else
		sparky_worker.answered_pause_ms = Min(ANSWERED_LONGEST_PAUSE_MS, Max(ANSWERED_FIRST_PAUSE_MS, sparky_worker.answered_pause_ms * 2));
	if (ended < list.count || list.count == SPARKY_BATCH || list.jobs == NULL)
	{
		sparky_worker.answered_due = true;
		sparky_worker.next_answered = TimestampTzPlusMilliseconds(batch_now, sparky_worker.answered_pause_ms);
	}
	return false;
}

static bool
read_answered(void *arg)
{
	JobList  *list = arg;
	Job		   *jobs;

	list->count = sparky_queue_answered(list->limit, sparky_worker.incarnation, &jobs);
	list->jobs = sparky_jobs_copy(jobs, list->count, list->context);
	return true;
}

static bool
answered_item(void *arg)
{
	AnsweredItem *item = arg;
	Job		   *job = item->job;
	JobAnswer	answer;
	Tool		tool;
	RowStep		step = sparky_queue_lock(job, "storing");

	if (step != ROW_STEP_DONE)
		return step == ROW_STEP_GONE;
	if (batch_now >= TimestampTzPlusMilliseconds(job->answered_at, (int64) sparky_storage_deadline * 1000))
	{
		sparky_queue_fail(job, OUTCOME_STORAGE, 0, batch_now);
		return true;
	}
	if (sparky_credits_lock(&job->user_id) != ROW_LOCKED)
		return false;
	if (!sparky_tool_read(job->tool_id, &tool) || !sparky_queue_read_answer(job, &answer))
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("an answered job has no answer")));
	sparky_queue_settle(job, &answer, tool.cache_ttl_seconds, batch_now);
	sparky_queue_mark_charged(job);
	return true;
}

/* It waits for somebody's lock, or for a repair: with no claim, so that workers that end meanwhile are not counted. */
static bool
hand_back_item(void *arg)
{
	AnsweredItem *item = arg;
	RowStep		step = sparky_queue_lock(item->job, "storing");

	if (step == ROW_STEP_DONE)
		sparky_queue_hand_back(item->job, batch_now);
	return step != ROW_STEP_BUSY;
}

/* ---- sweep ---- */

typedef struct OverdueList
{
	MemoryContext context;
	OverdueJob *jobs;
	int			count;
} OverdueList;

/* What no event tells of: dead workers' claims, deadlines of queued jobs, the time of the next run. */
void
sparky_worker_sweep(void)
{
	OverdueList list = {CurrentMemoryContext, NULL, 0};
	void	   *pointers[2 * SPARKY_BATCH];
	ItemResult	results[2 * SPARKY_BATCH];
	int			count = 0;

	batch_now = GetCurrentTimestamp();
	sparky_worker.next_sweep = TimestampTzPlusMilliseconds(batch_now, SWEEP_MS);
	sparky_worker_erase(batch_now);
	if (!sparky_batch_once(BATCH_CLAIM, read_overdue, &list))
		return;
	for (int i = 0; i < list.count; i++)
		if (!in_hand(&list.jobs[i].job))
			pointers[count++] = &list.jobs[i];
	sparky_batch_run(BATCH_CLAIM, pointers, count, end_overdue, results, NULL);
	for (int i = 0; i < count; i++)
		if (results[i] == ITEM_DONE)
			wake_job(&((OverdueJob *) pointers[i])->job);
	if (count > 0)
		sparky_worker.claim_due = sparky_worker.answered_due = true;
}

static bool
read_overdue(void *arg)
{
	OverdueList *list = arg;
	OverdueJob *jobs;

	/* Errands that begin without a transaction use what is known then. */
	sparky_secrets_refresh();
	list->count = sparky_queue_overdue(SPARKY_BATCH, sparky_worker.incarnation, batch_now, &jobs);
	/* The texts of the jobs are not needed: only the structs outlive the transaction. */
	list->jobs = MemoryContextAlloc(list->context, sizeof(OverdueJob) * Max(list->count, 1));
	memcpy(list->jobs, jobs, sizeof(OverdueJob) * list->count);
	sparky_worker.next_run = sparky_queue_next_run();
	return true;
}

/* A call of mine whose lease ran out while a lock kept its answer from being written: it is not lost. */
static bool
in_hand(const Job *job)
{
	dlist_head *lists[] = {&sparky_worker.running, &sparky_worker.finished};

	for (int i = 0; i < lengthof(lists); i++)
	{
		dlist_iter	iter;

		dlist_foreach(iter, lists[i])
		{
			const Job  *mine = &dlist_container(Call, node, iter.cur)->job;

			if (mine->attempt == job->attempt && memcmp(&mine->id, &job->id, sizeof(job->id)) == 0)
				return true;
		}
	}
	return sparky_worker_errand_has(job);
}

static bool
end_overdue(void *arg)
{
	OverdueJob *overdue = arg;
	Job		   *job = &overdue->job;
	bool		answered = strcmp(overdue->status, "answered") == 0 || strcmp(overdue->status, "storing") == 0;
	JobDecision decision = {JOB_FAIL, 0, 0, OUTCOME_DEADLINE};
	RowStep		step = sparky_queue_lock(job, overdue->status);

	if (step != ROW_STEP_DONE)
		return step == ROW_STEP_GONE;
	if (overdue->lost)
		decision = sparky_job_after_loss(job, answered, sparky_queue_mark_unknown(job, batch_now), batch_now);
	if (decision.step == JOB_FAIL)
		sparky_queue_fail(job, decision.final, 0, batch_now);
	else if (!answered && sparky_queue_breaker_open(batch_now))
		sparky_queue_fail(job, OUTCOME_LOST, 0, batch_now);
	else
		sparky_queue_recover(job, answered, batch_now);
	return true;
}
