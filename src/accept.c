/*
 * accept.c: a submission becomes a job, with its credits held.
 *
 * The caller checked tool, parameters, path and cache under his own snapshot;
 * what can change meanwhile, and everything about money, is decided here, by
 * the only process that inserts jobs.  Order: a repeat of the same submission,
 * idempotency key, cache, a job in flight to join, then the user's row under
 * lock: funds and limits, then the insert.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "cache.h"
#include "credits.h"
#include "owner.h"
#include "plans.h"
#include "queue.h"
#include "requests.h"
#include "secrets.h"
#include "settings.h"
#include "storage.h"
#include "tools.h"

static bool known_job(const Submission *submission, SubmissionAnswer *answer);
static bool known_key(const Submission *submission, TimestampTz now, SubmissionAnswer *answer);
static bool join_active(const Submission *submission, TimestampTz now, SubmissionAnswer *answer, bool *busy);
static ErrorWord check_tool(const Submission *submission, Tool *tool, bool *stale);
static ErrorWord check_funds(const Submission *submission, const Tool *tool, TimestampTz now, int *retry_after);
static ErrorWord check_breaker(AcceptBatch *batch, TimestampTz now);
static int64 calls_spoken_for(TimestampTz now);
static void insert_job(const Submission *submission, int price, TimestampTz now);
static void remember_key(const Submission *submission, const pg_uuid_t *job_id, TimestampTz now);

static void
refuse(SubmissionAnswer *answer, ErrorWord error, int retry_after)
{
	answer->result = SUBMISSION_REFUSED;
	answer->error = error;
	answer->retry_after = retry_after;
}

bool
sparky_queue_accept(const Submission *submission, TimestampTz now, AcceptBatch *batch, SubmissionAnswer *answer)
{
	Tool		tool;
	CacheHit	hit;
	ErrorWord	error;
	bool		stale = false;
	bool		busy = false;
	int			retry_after = 0;

	memset(answer, 0, sizeof(*answer));
	answer->job_id = submission->job_id;
	if (known_job(submission, answer) || known_key(submission, now, answer))
		return true;
	error = check_tool(submission, &tool, &stale);
	if (stale)
	{
		answer->result = SUBMISSION_STALE;
		return true;
	}
	if (error != WORD_NONE)
	{
		refuse(answer, error, 0);
		return true;
	}
	if (!submission->refresh && sparky_cache_lookup(submission->cache_key, &hit))
	{
		answer->result = SUBMISSION_CACHED;
		return true;
	}
	if (join_active(submission, now, answer, &busy))
		return true;
	if (busy)
		return false;

	switch (sparky_credits_lock(&submission->user_id))
	{
		case ROW_BUSY:
			return false;
		case ROW_GONE:
			refuse(answer, WORD_ACCOUNT_GONE, 0);
			return true;
		case ROW_LOCKED:
			break;
	}
	error = check_funds(submission, &tool, now, &retry_after);
	if (error == WORD_NONE)
		error = check_breaker(batch, now);
	sparky_secrets_refresh();
	if (error == WORD_NONE && sparky_secret(SECRET_GEMINI_API_KEY) == NULL)
		error = WORD_NOT_CONFIGURED;
	if (error != WORD_NONE)
	{
		refuse(answer, error, retry_after);
		return true;
	}
	insert_job(submission, tool.price, now);
	remember_key(submission, &submission->job_id, now);
	batch->calls_today++;
	answer->result = SUBMISSION_ACCEPTED;
	return true;
}

/* The worker before me committed this very submission and died before it could say so. */
static bool
known_job(const Submission *submission, SubmissionAnswer *answer)
{
	static SPIPlanPtr plan;
	Oid			types[] = {UUIDOID};
	Datum		values[] = {UUIDPGetDatum(&submission->job_id)};

	sparky_plan(&plan, "SELECT 1 FROM public.generation_jobs WHERE id = $1", 1, types);
	if (sparky_execute(plan, values, NULL, 1) == 0)
		return false;
	answer->result = SUBMISSION_ACCEPTED;
	return true;
}

/* Two first uses of one idempotency key: the second gets the first one's job, or its conflict. */
static bool
known_key(const Submission *submission, TimestampTz now, SubmissionAnswer *answer)
{
	static SPIPlanPtr plan;
	Oid			types[] = {UUIDOID, TEXTOID, TEXTOID, TIMESTAMPTZOID};
	Datum		values[4];
	bool		isnull;
	Datum		job;

	if (submission->idempotency_key[0] == '\0')
		return false;
	values[0] = UUIDPGetDatum(&submission->user_id);
	values[1] = CStringGetTextDatum(submission->idempotency_key);
	values[2] = CStringGetTextDatum(submission->fingerprint);
	values[3] = TimestampTzGetDatum(now);
	sparky_plan(&plan,
				"SELECT k.fingerprint = $3, k.job_id FROM sparky.request_keys k WHERE k.user_id = $1 AND k.key = $2"
				" AND " SPARKY_KEY_IS_LIVE("k", "$4"), 4, types);
	if (sparky_execute(plan, values, NULL, 1) == 0)
		return false;
	if (!sparky_column_bool(0, 1))
	{
		refuse(answer, WORD_IDEMPOTENCY_CONFLICT, 0);
		return true;
	}
	job = sparky_column(0, 2, &isnull);
	if (isnull)
		answer->result = SUBMISSION_CACHED;
	else
	{
		answer->job_id = *DatumGetUUIDP(job);
		answer->result = SUBMISSION_JOINED;
	}
	return true;
}

/* An identical request in flight: share it. One that is past its deadline is nobody's: it is ended to make room. */
static bool
join_active(const Submission *submission, TimestampTz now, SubmissionAnswer *answer, bool *busy)
{
	static SPIPlanPtr plan;
	Oid			types[] = {TEXTOID, TIMESTAMPTZOID};
	Datum		values[] = {CStringGetTextDatum(submission->cache_key), TimestampTzGetDatum(now)};
	Job			dead = {0};
	bool		isnull;

	sparky_plan(&plan,
				"SELECT id, attempt, status, user_id, status IN ('answered', 'storing') OR deadline > $2"
				" FROM public.generation_jobs WHERE cache_key = $1"
				" AND status IN ('queued', 'fetching', 'generating', 'answered', 'storing')", 2, types);
	if (sparky_execute(plan, values, NULL, 1) == 0)
		return false;
	dead.id = *DatumGetUUIDP(sparky_column(0, 1, &isnull));
	if (sparky_column_bool(0, 5))
	{
		answer->job_id = dead.id;
		answer->result = SUBMISSION_JOINED;
		remember_key(submission, &dead.id, now);
		return true;
	}
	dead.attempt = sparky_column_int(0, 2, 0);
	dead.user_id = *DatumGetUUIDP(sparky_column(0, 4, &isnull));
	switch (sparky_queue_lock(&dead, sparky_column_text(0, 3)))
	{
		case ROW_STEP_DONE:
			sparky_queue_fail(&dead, OUTCOME_DEADLINE, 0, now);
			break;
		case ROW_STEP_BUSY:
			*busy = true;
			break;
		case ROW_STEP_GONE:
			break;
	}
	return false;
}

static ErrorWord
check_tool(const Submission *submission, Tool *tool, bool *stale)
{
	StoredObject object;

	if (!sparky_tool_read(submission->tool_id, tool) || !tool->active)
		return WORD_TOOL_NOT_FOUND;
	if (tool->model == NULL)
		return WORD_NOT_CONFIGURED;
	*stale = tool->revision != submission->tool_revision || tool->kind != submission->kind;
	/* Only what is committed counts: an upload of the caller's own open transaction is not there yet. */
	if (!sparky_storage_stat(submission->source_path, &object))
		return WORD_IMAGE_NOT_FOUND;
	if (strcmp(object.sha256, submission->image_hash) != 0)
		*stale = true;
	return WORD_NONE;
}

static ErrorWord
check_funds(const Submission *submission, const Tool *tool, TimestampTz now, int *retry_after)
{
	TimestampTz midnight = sparky_utc_day(now) + USECS_PER_DAY;
	int			until_midnight = (int) ((midnight - now) / USECS_PER_SEC) + 1;
	Funds		funds;
	int64		available;

	sparky_plans_refresh(&submission->user_id, now);
	sparky_credits_read(&submission->user_id, now, &funds);
	available = funds.debt > 0 ? 0 : (int64) funds.credits - funds.held;
	if (available < tool->price)
		return WORD_INSUFFICIENT_CREDITS;
	if ((int64) funds.used_today + funds.held + tool->price > funds.max_daily)
	{
		*retry_after = until_midnight;
		return WORD_DAILY_LIMIT;
	}
	if (funds.active_jobs >= sparky_max_jobs_per_user)
	{
		*retry_after = 30;
		return WORD_TOO_MANY_JOBS;
	}
	if (funds.uncharged_calls >= sparky_max_uncharged_calls_per_day)
	{
		*retry_after = until_midnight;
		return WORD_TOO_MANY_FAILURES;
	}
	if (sparky_storage_used(&submission->user_id) >= sparky_max_stored_bytes_per_user)
		return WORD_STORAGE_QUOTA;
	return WORD_NONE;
}

/* The spend breaker: reading its state is part of the acceptance, so that what cannot be read accepts nothing. */
static ErrorWord
check_breaker(AcceptBatch *batch, TimestampTz now)
{
	if (sparky_max_provider_calls_per_day == 0)
		return WORD_NONE;
	if (batch->counted_in != GetTopTransactionId())
	{
		batch->calls_today = calls_spoken_for(now);
		batch->counted_in = GetTopTransactionId();
	}
	return batch->calls_today >= sparky_max_provider_calls_per_day ? WORD_SPEND_LIMIT : WORD_NONE;
}

/* A repeat is a call as any other. */
bool
sparky_queue_breaker_open(TimestampTz now)
{
	return sparky_max_provider_calls_per_day > 0 && calls_spoken_for(now) >= sparky_max_provider_calls_per_day;
}

/* Calls made today, and those that jobs in the queue will make. */
static int64
calls_spoken_for(TimestampTz now)
{
	static SPIPlanPtr plan;
	int64		queued;

	sparky_plan(&plan, "SELECT count(*) FROM public.generation_jobs WHERE status IN ('queued', 'fetching')", 0, NULL);
	(void) sparky_execute(plan, NULL, NULL, 1);
	queued = sparky_column_int(0, 1, 0);
	return queued + sparky_credits_calls_today(now);
}

static void
insert_job(const Submission *submission, int price, TimestampTz now)
{
	static SPIPlanPtr plan;
	Oid			types[] = {UUIDOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT4OID, TEXTOID, TEXTOID, BOOLOID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		values[] = {
		UUIDPGetDatum(&submission->job_id),
		UUIDPGetDatum(&submission->user_id),
		CStringGetTextDatum(submission->tool_id),
		CStringGetTextDatum(submission->kind == KIND_IMAGE ? "image" : "analysis"),
		CStringGetTextDatum(submission->source_path),
		CStringGetTextDatum(submission->parameters),
		Int32GetDatum(submission->tool_revision),
		CStringGetTextDatum(submission->image_hash),
		CStringGetTextDatum(submission->cache_key),
		BoolGetDatum(submission->refresh),
		Int32GetDatum(price),
		TimestampTzGetDatum(now),
		TimestampTzGetDatum(now + (int64) sparky_job_deadline * USECS_PER_SEC),
	};

	sparky_plan(&plan,
				"INSERT INTO public.generation_jobs (id, user_id, tool_id, kind, source_path, tool_parameters, tool_revision,"
				" image_hash, cache_key, refresh, credits_held, created_at, run_after, deadline)"
				" VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7, $8, $9, $10, $11, $12, $12, $13)", 13, types);
	(void) sparky_execute(plan, values, NULL, 0);
}

static void
remember_key(const Submission *submission, const pg_uuid_t *job_id, TimestampTz now)
{
	static SPIPlanPtr plan;
	Oid			types[] = {UUIDOID, TEXTOID, TEXTOID, UUIDOID, TIMESTAMPTZOID};
	Datum		values[5];

	if (submission->idempotency_key[0] == '\0')
		return;
	values[0] = UUIDPGetDatum(&submission->user_id);
	values[1] = CStringGetTextDatum(submission->idempotency_key);
	values[2] = CStringGetTextDatum(submission->fingerprint);
	values[3] = UUIDPGetDatum(job_id);
	values[4] = TimestampTzGetDatum(now);
	sparky_plan(&plan,
				"INSERT INTO sparky.request_keys AS k (user_id, key, fingerprint, job_id, created_at)"
				" VALUES ($1, $2, $3, $4, $5) ON CONFLICT (user_id, key) DO UPDATE SET fingerprint = excluded.fingerprint,"
				" job_id = excluded.job_id, result = NULL, created_at = excluded.created_at"
				" WHERE NOT " SPARKY_KEY_IS_LIVE("k", "$5"), 5, types);
	(void) sparky_execute(plan, values, NULL, 0);
}
