/* job.h: a job's life; decisions are pure functions of (job, outcome, now). */
#ifndef SPARKY_JOB_H
#define SPARKY_JOB_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "utils/uuid.h"

#include "gemini.h"
#include "outcome.h"

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

typedef enum JobStep { JOB_SETTLE, JOB_RETRY, JOB_FAIL, JOB_KEEP } JobStep;

typedef struct JobDecision
{
	JobStep		step;
	TimestampTz run_after;		/* JOB_RETRY */
	int			retry_after;	/* seconds the client is told, 0: nothing */
	Outcome		final;			/* JOB_FAIL: the outcome whose word the user is told */
} JobDecision;

#define SPARKY_MAX_RETRIES 2
#define SPARKY_MAX_LOST_CLAIMS 3
#define SPARKY_MAX_UNKNOWN_CALLS 2

/* jitter: uniform in [0, 1). retry_after: seconds the provider asked for, -1 if it did not. */
extern JobDecision sparky_job_after_call(const Job *job, Outcome outcome, double retry_after, double jitter, TimestampTz now);
/* A claim whose worker died. answered: the answer is committed; unknown_calls: calls of this job that nobody saw the end of. */
extern JobDecision sparky_job_after_loss(const Job *job, bool answered, int unknown_calls, TimestampTz now);

#endif
