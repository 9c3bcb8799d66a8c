/*
 * requests.h: a user's own requests as he may look at them: jobs, idempotency
 * keys, cancelling.  SPI connected, owner scope entered.
 */
#ifndef SPARKY_REQUESTS_H
#define SPARKY_REQUESTS_H

#include "postgres.h"
#include "utils/uuid.h"

#include "cache.h"
#include "outcome.h"

typedef enum JobPhase { PHASE_QUEUED, PHASE_RUNNING, PHASE_SUCCEEDED, PHASE_FAILED, PHASE_CANCELLED } JobPhase;

/* A job as its user sees it; texts live in CurrentMemoryContext. */
typedef struct JobView
{
	pg_uuid_t	id;
	JobPhase	phase;			/* past its deadline and not answered: failed, whatever the row says */
	ErrorWord	error;			/* of a failed one */
	int			retry_after;	/* seconds, 0: not told */
	CacheHit	result;			/* of one that succeeded; generation_id -1: none */
	int64		credits_used;
} JobView;

#define SPARKY_PHASE_ENDED(phase) ((phase) >= PHASE_SUCCEEDED)

/* Latest committed state; false: no such job of this user. */
extern bool sparky_job_view(const pg_uuid_t *job_id, const pg_uuid_t *user_id, JobView *view);
/* Cancel a job that is queued or fetching and in time; false: it was not one. */
extern bool sparky_job_cancel(const pg_uuid_t *job_id, const pg_uuid_t *user_id);

/*
 * An idempotency key is kept for a day, and until its job has ended; then it is
 * free again, whether or not the clean-up has been there.
 */
#define SPARKY_KEY_IS_LIVE(k, now) \
	"(" k ".created_at > " now " - interval '24 hours'" \
	" OR EXISTS (SELECT FROM public.generation_jobs kj WHERE kj.id = " k ".job_id" \
	" AND kj.status IN ('queued', 'fetching', 'generating', 'answered', 'storing')))"

/* What an idempotency key stands for. */
typedef struct RequestKey
{
	char		fingerprint[65];
	bool		has_job;
	pg_uuid_t	job_id;
	CacheHit	hit;			/* where there is no job */
} RequestKey;

extern bool sparky_request_find(const pg_uuid_t *user_id, const char *key, RequestKey *request);
/* Note a hit under a key; false: the key is taken. */
extern bool sparky_request_note_hit(const pg_uuid_t *user_id, const char *key, const char *fingerprint, const CacheHit *hit);

#endif
