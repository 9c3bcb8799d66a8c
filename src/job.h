/* job.h: a job's life; decisions are pure functions of (job, outcome, now). */
#ifndef SPARKY_JOB_H
#define SPARKY_JOB_H

#include "queue.h"

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
