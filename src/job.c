/*
 * job.c: what becomes of a job, decided without looking at anything but the
 * arguments.
 *
 * queued -> fetching -> generating -> answered -> storing -> succeeded
 *    ^________ retry / lost lease ________|           \ failed, cancelled
 *
 * An answer in hand is always settled, unless the deadline passed before it was
 * committed: past it the hold is nobody's any more.  A retry must be able to
 * begin before the deadline, else the job fails now and the client is told how
 * long the provider wanted us to wait.
 */
#include "postgres.h"

#include <math.h>

#include "utils/timestamp.h"

#include "job.h"

/* Full jitter: between nothing and first * 2^n, at most the cap (seconds). */
#define RETRY_FIRST_S 1.0
#define RETRY_CAP_S 8.0

static JobDecision fail(Outcome final, double retry_after);

JobDecision
sparky_job_after_call(const Job *job, Outcome outcome, double retry_after, double jitter, TimestampTz now)
{
	const OutcomeRule *rule = sparky_outcome_rule(outcome);
	JobDecision decision = {JOB_SETTLE, 0, 0, OUTCOME_OK};
	int			allowed = rule->retry == RETRY_SAFE ? SPARKY_MAX_RETRIES : rule->retry == RETRY_ONCE ? 1 : 0;
	double		pause = jitter * Min(RETRY_CAP_S, RETRY_FIRST_S * (1 << Min(job->retries, 8)));

	if (now >= job->deadline)
		return fail(OUTCOME_DEADLINE, -1);
	if (outcome == OUTCOME_OK)
		return decision;
	if (outcome == OUTCOME_QUOTA_DAY)
		return fail(outcome, -1);	/* the seconds that come with it are those of the minute's quota */
	if (job->retries >= allowed)
		return fail(outcome, retry_after);
	if (retry_after > 0)
		pause += retry_after;
	decision.step = JOB_RETRY;
	decision.run_after = TimestampTzPlusMilliseconds(now, (int64) (pause * 1000));
	if (decision.run_after >= job->deadline)
		return fail(outcome, retry_after);
	return decision;
}

JobDecision
sparky_job_after_loss(const Job *job, bool answered, int unknown_calls, TimestampTz now)
{
	JobDecision decision = {answered ? JOB_KEEP : JOB_RETRY, now, 0, OUTCOME_OK};

	if (job->lost_claims >= SPARKY_MAX_LOST_CLAIMS)
		return fail(OUTCOME_LOST, -1);
	if (answered)
		return decision;
	if (now >= job->deadline)
		return fail(OUTCOME_DEADLINE, -1);
	if (unknown_calls >= SPARKY_MAX_UNKNOWN_CALLS)
		return fail(OUTCOME_LOST, -1);
	return decision;
}

static JobDecision
fail(Outcome final, double retry_after)
{
	JobDecision decision = {JOB_FAIL, 0, 0, final};

	if (retry_after > 0)
		decision.retry_after = (int) Min(86400, ceil(retry_after));
	return decision;
}
