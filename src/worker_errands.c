/*
 * worker_errands.c: the loop's part in errands: from the mailbox, through their
 * transactions and exchanges, to the answer.
 *
 * Rules as in worker_steps.c: an answer only after the commit that it tells of;
 * what a lock postpones comes again; an errand that fails hurts no other.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "checkout.h"
#include "errand.h"
#include "file_errand.h"
#include "inquiry.h"
#include "worker.h"

#define FIRST_PAUSE_MS 200
#define LONGEST_PAUSE_MS 60000
/* Exchanges at once of errands that work on the same tables, so that a service that is away does not stop another; more wait for their turn. */
#define MOST_EXCHANGES 64

/* Which errand a submission asks for; NULL: none is known. */
static const ErrandType *const types[PURPOSE_COUNT] = {
	[PURPOSE_GENERATION] = NULL,
	[PURPOSE_CHECKOUT] = &sparky_checkout_errand,
	[PURPOSE_HASH] = &sparky_hash_errand,
	[PURPOSE_SIGN] = &sparky_sign_errand,
	[PURPOSE_UPLOAD] = &sparky_upload_errand,
	[PURPOSE_DOWNLOAD] = &sparky_download_errand,
};

static dlist_head errands = DLIST_STATIC_INIT(errands);
static int	exchanges[BATCH_KINDS];
static TimestampTz step_now;

static void take(const ErrandType *type, const MailboxItem *mail);
static int	due_in_phase(ErrandPhase phase, BatchKind locks, TimestampTz now, Errand **due);
static void run_phase(ErrandPhase phase, Errand **due, int count);
static bool begin_item(void *arg);
static bool settle_item(void *arg);
static bool stuck_item(void *arg);
static void after_step(Errand *errand, ItemResult result);
static void end(Errand *errand);
static void exchange_ended(Errand *errand);

void
sparky_errand_enlist(Errand *errand)
{
	if (errand->type->begin == NULL && errand->phase == ERRAND_BEGIN)
		errand->phase = ERRAND_REQUEST;
	dlist_push_tail(&errands, &errand->node);
}

bool
sparky_worker_take_errand(const MailboxItem *mail)
{
	const ErrandType *type = mail->submission.purpose < PURPOSE_COUNT ? types[mail->submission.purpose] : NULL;

	if (mail->submission.purpose == PURPOSE_GENERATION)
		return false;
	if (type != NULL)
		take(type, mail);
	else
	{
		SubmissionAnswer answer = {.result = SUBMISSION_REFUSED, .error = WORD_NOT_CONFIGURED};

		sparky_mailbox_answer(mail, &answer);
	}
	return true;
}

static void
take(const ErrandType *type, const MailboxItem *mail)
{
	dlist_iter	iter;

	if (type->joins != NULL)
		dlist_foreach(iter, &errands)
		{
			Errand	   *errand = dlist_container(Errand, node, iter.cur);

			if (errand->type == type && type->joins(errand, &mail->submission))
			{
				sparky_errand_follow(errand, mail);
				return;
			}
		}
	sparky_errand_enlist(sparky_errand_create(type, mail));
}

/* One round: every transaction that is due, then every exchange that may start. True: some errand has something to do at once. */
bool
sparky_worker_errands(void)
{
	Errand	   *due[SPARKY_BATCH];
	dlist_mutable_iter iter;
	bool		more = false;

	if (dlist_is_empty(&errands))
		return false;
	step_now = GetCurrentTimestamp();
	for (BatchKind locks = 0; locks < BATCH_KINDS; locks++)
		for (ErrandPhase phase = ERRAND_BEGIN; phase <= ERRAND_SETTLE; phase += ERRAND_SETTLE - ERRAND_BEGIN)
		{
			int			count = due_in_phase(phase, locks, step_now, due);

			run_phase(phase, due, count);
			more |= count == SPARKY_BATCH;
		}
	dlist_foreach_modify(iter, &errands)
	{
		Errand	   *errand = dlist_container(Errand, node, iter.cur);

		if (errand->phase != ERRAND_REQUEST || errand->not_before > step_now || exchanges[errand->type->locks] >= MOST_EXCHANGES)
			continue;
		errand->phase = ERRAND_RUNNING;
		exchanges[errand->type->locks]++;
		if (!sparky_errand_start(errand, sparky_worker.http))
		{
			exchange_ended(errand);
			more = true;
		}
	}
	return more;
}

void
sparky_worker_errand_finished(Errand *errand, const HttpResult *result)
{
	sparky_errand_finish(errand, result);
	exchange_ended(errand);
}

/* What is done with an exchange that ended, or could not begin. */
static void
exchange_ended(Errand *errand)
{
	exchanges[errand->type->locks]--;
	if (errand->type->settle == NULL && !errand->again)
		errand->over = true;
	if (errand->over)
		end(errand);
	else
		errand->phase = errand->again ? ERRAND_REQUEST : ERRAND_SETTLE;
}

static int
due_in_phase(ErrandPhase phase, BatchKind locks, TimestampTz now, Errand **due)
{
	dlist_iter	iter;
	int			count = 0;

	dlist_foreach(iter, &errands)
	{
		Errand	   *errand = dlist_container(Errand, node, iter.cur);

		if (count < SPARKY_BATCH && errand->phase == phase && errand->type->locks == locks && errand->not_before <= now)
			due[count++] = errand;
	}
	return count;
}

static void
run_phase(ErrandPhase phase, Errand **due, int count)
{
	void	   *pointers[SPARKY_BATCH];
	ItemResult	results[SPARKY_BATCH];

	if (count == 0)
		return;
	for (int i = 0; i < count; i++)
		pointers[i] = due[i];
	sparky_batch_run(due[0]->type->locks, pointers, count, phase == ERRAND_BEGIN ? begin_item : settle_item, results, NULL);
	for (int i = 0; i < count; i++)
		after_step(due[i], results[i]);
}

/* A batch that was aborted runs again: what the first run decided is forgotten. */
static void
fresh_answer(Errand *errand)
{
	errand->over = false;
	errand->answer.result = SUBMISSION_ACCEPTED;
	errand->answer.error = WORD_NONE;
	errand->answer.text[0] = '\0';
	if (errand->mail != NULL)
		errand->answer.job_id = errand->mail->submission.job_id;
}

static bool
begin_item(void *arg)
{
	fresh_answer(arg);
	return ((Errand *) arg)->type->begin(arg, step_now);
}

static bool
settle_item(void *arg)
{
	fresh_answer(arg);
	return ((Errand *) arg)->type->settle(arg, step_now);
}

static bool
stuck_item(void *arg)
{
	return ((Errand *) arg)->type->stuck(arg, step_now);
}

static void
after_step(Errand *errand, ItemResult result)
{
	errand->failed = result == ITEM_FAILED;
	if (result != ITEM_DONE && errand->type->stuck != NULL && sparky_batch_once(errand->type->stuck_locks, stuck_item, errand))
		end(errand);
	else if (result == ITEM_DONE)
	{
		errand->pause_ms = 0;
		errand->not_before = 0;
		if (errand->over)
			end(errand);
		else
			errand->phase = ERRAND_REQUEST;
	}
	else if (result == ITEM_POSTPONED)
		/* From now: the step itself may have waited for the lock as long as it may. */
		errand->not_before = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), SPARKY_POSTPONE_MS);
	else if (errand->phase == ERRAND_BEGIN || step_now >= errand->give_up)
	{
		sparky_errand_refuse(errand, WORD_OVERLOADED, NULL);
		end(errand);
	}
	else
	{
		errand->pause_ms = Min(LONGEST_PAUSE_MS, Max(FIRST_PAUSE_MS, errand->pause_ms * 2));
		errand->not_before = TimestampTzPlusMilliseconds(step_now, errand->pause_ms);
	}
}

static void
end(Errand *errand)
{
	dlist_iter	iter;

	if (errand->mail != NULL)
		sparky_mailbox_answer(errand->mail, &errand->answer);
	dlist_foreach(iter, &errand->followers)
		sparky_mailbox_answer(&dlist_container(Follower, node, iter.cur)->mail, &errand->answer);
	dlist_delete(&errand->node);
	if (errand->type->job != NULL)
		sparky_worker_job_errand_ended(errand);
	sparky_errand_free(errand);
}

static bool
enlist_inquiries(void *arg)
{
	sparky_inquiry_enlist_due(step_now);
	return true;
}

/* Orders that Paymob is to be asked about become errands. */
void
sparky_worker_enlist_inquiries(void)
{
	step_now = GetCurrentTimestamp();
	(void) sparky_batch_once(BATCH_ORDERS, enlist_inquiries, NULL);
}

/* When the first postponed step is due; DT_NOEND: none. */
TimestampTz
sparky_worker_errands_due(void)
{
	TimestampTz first = DT_NOEND;
	dlist_iter	iter;

	dlist_foreach(iter, &errands)
	{
		Errand	   *errand = dlist_container(Errand, node, iter.cur);

		if (errand->phase == ERRAND_BEGIN || errand->phase == ERRAND_SETTLE ||
			(errand->phase == ERRAND_REQUEST && exchanges[errand->type->locks] < MOST_EXCHANGES))
			first = Min(first, errand->not_before);
	}
	return first;
}

/* A claim that an errand has in hand is not lost, however long a lock keeps it. */
bool
sparky_worker_errand_has(const Job *job)
{
	dlist_iter	iter;

	dlist_foreach(iter, &errands)
	{
		Errand	   *errand = dlist_container(Errand, node, iter.cur);
		const Job  *mine = errand->type->job ? errand->type->job(errand) : NULL;

		if (mine != NULL && mine->attempt == job->attempt && memcmp(&mine->id, &job->id, sizeof(job->id)) == 0)
			return true;
	}
	return false;
}

size_t
sparky_worker_errands_memory(void)
{
	dlist_iter	iter;
	size_t		used = 0;

	dlist_foreach(iter, &errands)
		used += sparky_errand_memory(dlist_container(Errand, node, iter.cur));
	return used;
}
