/*
 * mailbox.h: one mailbox slot per backend, and who waits for which job.
 *
 * A caller posts a submission in its own slot and sleeps on its latch; the
 * worker takes it, commits, writes the answer, sets the latch.  States go
 * FREE -> POSTED -> TAKEN -> ANSWERED -> FREE; a caller that leaves makes
 * POSTED FREE (withdrawn: nothing happened) and TAKEN ABANDONED (the worker
 * frees it).  All under the one LWLock of shmem.h, held for copying only.
 */
#ifndef SPARKY_MAILBOX_H
#define SPARKY_MAILBOX_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "utils/uuid.h"

#include "gemini.h"
#include "outcome.h"

#define SPARKY_TOOL_ID_BYTES 128
#define SPARKY_PATH_BYTES 2048			/* 500 characters of UTF-8 */
#define SPARKY_KEY_BYTES 801			/* 200 characters */
#define SPARKY_PARAMETERS_BYTES 4097
#define SPARKY_ANSWER_BYTES 3072		/* a signed link: base, path, token */

/* What a caller asks of the worker.  All but a generation are errands: an exchange or two with a service, then an answer. */
typedef enum SubmissionPurpose
{
	PURPOSE_GENERATION,
	PURPOSE_CHECKOUT,			/* job_id: the order to make; tool_id: the product */
	PURPOSE_HASH,				/* source_path: the object whose digest is wanted */
	PURPOSE_SIGN,				/* source_path, seconds: a link; answer.text */
	PURPOSE_UPLOAD,				/* source_path, segment, size, mime */
	PURPOSE_DOWNLOAD,			/* source_path, segment of size bytes to fill; answer.size */
	PURPOSE_DELETE,				/* source_path */
	PURPOSE_COUNT
} SubmissionPurpose;

/* The caller has checked all of it; the worker checks money, limits and races. */
typedef struct Submission
{
	SubmissionPurpose purpose;
	pg_uuid_t	job_id;			/* made by the caller: a repeat is the same job */
	pg_uuid_t	user_id;
	uint32		segment;		/* dsm_handle of the caller's, for bytes on the way; the caller keeps it until he has his answer */
	int64		size;			/* of what is in it, or of the room there */
	int			seconds;
	char		mime[32];
	GenerationKind kind;
	bool		refresh;
	int			tool_revision;
	char		tool_id[SPARKY_TOOL_ID_BYTES];
	char		source_path[SPARKY_PATH_BYTES];		/* with bucket */
	char		image_hash[65];
	char		cache_key[65];
	char		idempotency_key[SPARKY_KEY_BYTES];	/* '' = none */
	char		fingerprint[65];
	char		parameters[SPARKY_PARAMETERS_BYTES];	/* JSON text as sent */
} Submission;

typedef enum SubmissionResult
{
	SUBMISSION_REFUSED,			/* error says why */
	SUBMISSION_ACCEPTED,		/* a new job, held and committed */
	SUBMISSION_JOINED,			/* somebody's identical job in flight, or the idempotency key's job */
	SUBMISSION_CACHED,			/* the result came into the cache meanwhile: look again */
	SUBMISSION_STALE			/* the tool changed since the caller read it: read again */
} SubmissionResult;

typedef struct SubmissionAnswer
{
	SubmissionResult result;
	ErrorWord	error;
	int			retry_after;	/* seconds, 0 = not told */
	pg_uuid_t	job_id;			/* the job to wait for */
	int64		size;			/* of an errand: bytes in the caller's segment */
	char		text[SPARKY_ANSWER_BYTES];	/* of an errand: a link, or why it was refused */
} SubmissionAnswer;

/*
 * Post a submission and wait until the worker answered, at most
 * sparky.accept_timeout.  Never returns with a submission still posted: it is
 * withdrawn on timeout (REFUSED, overloaded or worker_down) and on ERROR (cancel,
 * statement timeout, termination).  Call outside an owner scope's SPI work; no lock held.
 */
extern void sparky_mailbox_submit(const Submission *submission, SubmissionAnswer *answer);
/*
 * The same for an errand: once the worker has taken it, wait for its end, work_ms at most and never past the
 * armed timers.  Then REFUSED, provider_timeout: the worker still finishes it, and nobody hears of it.
 */
extern void sparky_mailbox_errand(const Submission *submission, int work_ms, SubmissionAnswer *answer);
/* The same with one time for everything, from now on. */
extern void sparky_mailbox_errand_within(const Submission *submission, int ms, SubmissionAnswer *answer);

/*
 * Wait until the job ended, but not past wait_ms nor past the armed statement or
 * transaction timer less 500 ms, nor at all when sparky.max_waiting_calls or
 * max_waiting_calls_per_user others wait.  Wakes at least every second so that the caller can
 * look at the row: returns true when the worker said that the job ended or when a second passed
 * (look, and call again with the same deadline), false when there is no more time or no place to wait.
 */
typedef struct JobWait
{
	pg_uuid_t	job_id;
	pg_uuid_t	user_id;
	TimestampTz until;
	bool		registered;
} JobWait;
extern bool sparky_wait_begin(JobWait *wait, const pg_uuid_t *job_id, const pg_uuid_t *user_id, int wait_ms);
extern bool sparky_wait_step(JobWait *wait);
extern void sparky_wait_end(JobWait *wait);		/* also done by abort and exit */

/* ---- what follows is for the worker ---- */

typedef struct MailboxItem
{
	int			slot;
	uint64		sequence;
	Submission	submission;
} MailboxItem;
/* Take up to size posted submissions of this database; returns how many. */
extern int	sparky_mailbox_take(MailboxItem *items, int size, int64 incarnation);
/* Answer a taken one (nothing happens if its caller or this worker has been given up). */
extern void sparky_mailbox_answer(const MailboxItem *item, const SubmissionAnswer *answer);
/* Put a taken one back: it is offered again not before delay_ms from now. */
extern void sparky_mailbox_postpone(const MailboxItem *item, int delay_ms);
/* At a worker's start: what a dead one had taken is posted again. */
extern void sparky_mailbox_recover(void);
/* ms until a postponed submission is due, -1: none. */
extern int	sparky_mailbox_due(void);
/* Wake everyone who waits for one of these jobs. After the commit. */
extern void sparky_wait_wake(const pg_uuid_t *jobs, int count);

/* ---- for shmem.c: where the slots lie in the shared struct, one for each backend ---- */

extern Size sparky_mailbox_size(void);
extern void sparky_mailbox_attach(void *memory);

#endif
