/*
 * queue.h: the rows of a job's life.  SPI connected, owner scope entered (the
 * worker is the data owner); never begins or ends a transaction, never waits
 * for a lock: a row that somebody holds is skipped or reported as busy.
 */
#ifndef SPARKY_QUEUE_H
#define SPARKY_QUEUE_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "utils/uuid.h"

#include "gemini.h"
#include "outcome.h"
#include "mailbox.h"

/* A claimed row of public.generation_jobs, as far as its call needs it. */
typedef struct Job
{
	pg_uuid_t	id;
	pg_uuid_t	user_id;
	GenerationKind kind;
	char	   *tool_id;
	char	   *source_path;
	char	   *parameters;		/* JSON text */
	char		image_hash[65];
	char		cache_key[65];
	int			price;			/* credits_held */
	int			attempt;		/* the fence: of this claim */
	int			retries;		/* attempts handed back to the queue */
	int			lost_claims;
	TimestampTz deadline;
	TimestampTz answered_at;	/* of a job taken from sparky.answers, else 0 */
} Job;

/* Jobs with their texts live in SPI's context; these copies, in context. */
extern void sparky_job_copy(Job *to, const Job *from, MemoryContext context);
extern Job *sparky_jobs_copy(const Job *jobs, int count, MemoryContext context);

/* What a step did: ROW_STEP_GONE: the fence found the job elsewhere (or nowhere); nothing was written. */
typedef enum RowStep { ROW_STEP_DONE, ROW_STEP_BUSY, ROW_STEP_GONE } RowStep;

/* What is told of a call in sparky.provider_calls. */
typedef struct CallReport
{
	int64		call_id;		/* 0: no call was made */
	Outcome		outcome;
	bool		charged;
	int			http_status;
	double		retry_after;
	const char *finish_reason;
	const char *message;
	const char *model_version;
	const char *response_id;
	const char *usage;			/* JSON text */
	int64		bytes_sent;
	int64		bytes_received;
} CallReport;

/* An answer as it is kept or settled. */
typedef struct JobAnswer
{
	bytea	   *image;			/* or NULL */
	ImageInfo	info;
	char		sha256[65];
	char	   *analysis;		/* JSON text, or NULL */
} JobAnswer;

/* accept.c: money, limits, races; the insert with its hold. False: a lock is in the way, try again later. */
typedef struct AcceptBatch
{
	int64		calls_today;	/* those that this transaction accepted included */
	TransactionId counted_in;	/* where calls_today was read: a batch that is run again counts again */
} AcceptBatch;
/* The spend breaker: calls of today and those that jobs in the queue will make have used up the limit. ERROR if that cannot be read. */
extern bool sparky_queue_breaker_open(TimestampTz now);
extern bool sparky_queue_accept(const Submission *submission, TimestampTz now, AcceptBatch *batch, SubmissionAnswer *answer);

/* Ready jobs, round-robin by user, models on the pause list left out; nothing is locked. palloc'd array. */
extern int	sparky_queue_ready(int limit, TimestampTz now, const char *paused_models, Job **jobs);
/* The claim's commit makes it so: generating, attempt + 1, lease; returns the id of its provider_calls row. */
extern int64 sparky_queue_start_call(Job *job, const char *model, int64 incarnation, TimestampTz now, TimestampTz lease_until);
/* The same where the photo must be fetched first: fetching, no call yet. */
extern void sparky_queue_start_fetch(Job *job, int64 incarnation, TimestampTz now, TimestampTz lease_until);
/* Lock the job if it is still mine. status: what it must be. */
extern RowStep sparky_queue_lock(const Job *job, const char *status);
/* After sparky_queue_lock: back to the queue. counted: a retry after a call (else the claim is handed back as if it had not been). */
extern void sparky_queue_retry(const Job *job, bool counted, TimestampTz run_after);
/* After a lock: the end without a charge. */
extern void sparky_queue_fail(const Job *job, Outcome final, int retry_after, TimestampTz now);
/* A call that could not even be started was none. */
extern void sparky_queue_forget_call(int64 call_id);
extern void sparky_queue_note_call(const CallReport *report, TimestampTz now);
/* After a lock: keep a good answer; status answered. */
extern void sparky_queue_keep_answer(const Job *job, const JobAnswer *answer, TimestampTz now);

/* settle.c: after a lock on job and user: everything that a paid answer changes. */
extern void sparky_queue_settle(const Job *job, const JobAnswer *answer, int64 cache_ttl_seconds, TimestampTz now);

/* Jobs whose answer waits for its settlement, those that waited longest since their last try first, claimed (storing) by this incarnation. */
extern int	sparky_queue_answered(int limit, int64 incarnation, Job **jobs);
/* The same for those whose answer goes to storage one by one: only those that are due, each with a lease. */
extern int	sparky_queue_claim_answered(int limit, int64 incarnation, TimestampTz now, TimestampTz lease_until, Job **jobs);
/* When the next of them is due; DT_NOEND if none waits. */
extern TimestampTz sparky_queue_next_answered(void);
/* Did the job end without a result, or vanish? */
extern bool sparky_queue_ended_without(const Job *job);
/* After a lock: it could not be settled now; the claim is handed back, and others come first; not tried again before then. */
extern void sparky_queue_hand_back(const Job *job, TimestampTz then);
/* Its answer, into CurrentMemoryContext; false: gone. */
extern bool sparky_queue_read_answer(const Job *job, JobAnswer *answer);
/* The call of this claim turned out to be the paid one. */
extern void sparky_queue_mark_charged(const Job *job);
/*
 * What no event tells of: jobs whose claim's worker is not this one, or whose
 * lease ran out, and queued jobs past their deadline.  Nothing is locked or
 * written: each is then locked with the status told here.
 */
typedef struct OverdueJob
{
	Job			job;
	char		status[16];
	bool		lost;			/* a claim was lost; lost_claims counts it already */
} OverdueJob;
extern int	sparky_queue_overdue(int limit, int64 incarnation, TimestampTz now, OverdueJob **jobs);
/* After a lock: calls under way become unknown; returns how many unknown calls the job has now. */
extern int	sparky_queue_mark_unknown(const Job *job, TimestampTz now);
/* After a lock: count the loss and put the job back (answered jobs stay answered). */
extern void sparky_queue_recover(const Job *job, bool answered, TimestampTz now);
/* End the jobs that are past their deadline in every state, and answers that storage refused too long; by whoever asks, beside the worker or without one. */
extern int	sparky_queue_end_overdue(int limit, TimestampTz now);
/* When the next queued job may run; DT_NOEND if none. */
extern TimestampTz sparky_queue_next_run(void);

/* identity.c: whose database this is. */
extern int64 sparky_queue_next_incarnation(void);
/* True if this database is a copy (another system or database wrote its identity): active jobs were voided, a new identity written. */
extern bool sparky_queue_check_identity(TimestampTz now, int *voided);
/* Objects that are missing, as one text, NULL if none: a restore is in progress. */
extern char *sparky_queue_missing_objects(void);

/* locks.c: take every relation lock a kind of batch needs, without waiting; false: somebody holds one. */
typedef enum BatchKind { BATCH_ACCEPT, BATCH_CLAIM, BATCH_SETTLE, BATCH_KEEP, BATCH_ORDERS, BATCH_FILES, BATCH_KINDS } BatchKind;
extern bool sparky_lock_relations(BatchKind kind);

#endif
