/*
 * queue.c: the rows of a job's life between acceptance and settlement.
 *
 * Rules.  Every write is preceded by sparky_queue_lock(), which is the fence:
 * it finds the row only if attempt and status are still what this worker
 * committed, and never waits.  A hold ends in the statement that ends the job.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "broadcast.h"
#include "notify.h"
#include "owner.h"
#include "queue.h"
#include "settings.h"

#define ACTIVE "('queued', 'fetching', 'generating', 'answered', 'storing')"
/* The columns read_job() reads, of generation_jobs j. */
#define JOB_COLUMNS "j.id, j.user_id, j.kind, j.tool_id, j.source_path, j.tool_parameters::text, j.image_hash, j.cache_key," \
	" j.credits_held, j.attempt, j.retries, j.lost_claims, j.deadline"
#define JOB_COLUMN_COUNT 13

static void read_job(uint64 row, Job *job);
static bool answered_since(const Job *job, TimestampTz since);
static int	read_answered(uint64 count, Job **jobs);

static Datum
text_or_null(const char *text, char *null)
{
	*null = text == NULL ? 'n' : ' ';
	return text == NULL ? (Datum) 0 : CStringGetTextDatum(text);
}

int
sparky_queue_ready(int limit, TimestampTz now, const char *paused_models, Job **jobs)
{
	static SPIPlanPtr plan;
	Oid			types[] = {TIMESTAMPTZOID, INT4OID, TEXTOID};
	Datum		values[] = {TimestampTzGetDatum(now), Int32GetDatum(limit), CStringGetTextDatum(paused_models)};
	uint64		count;

	/* A user's turn is the number of his jobs before this one, those in flight included. */
	sparky_plan(&plan,
				"WITH busy AS (SELECT user_id, count(*) AS calls FROM public.generation_jobs"
				"   WHERE status IN ('fetching', 'generating') GROUP BY user_id),"
				" ready AS (SELECT q.id, coalesce(busy.calls, 0)"
				"   + row_number() OVER (PARTITION BY q.user_id ORDER BY q.created_at, q.id) AS turn"
				"   FROM public.generation_jobs q LEFT JOIN busy ON busy.user_id = q.user_id"
				"   WHERE q.status = 'queued' AND q.run_after <= $1"
				"   AND NOT EXISTS (SELECT FROM sparky.tool_settings s WHERE s.tool_id = q.tool_id"
				"     AND s.model = ANY (string_to_array($3, ',')))"
				"   ORDER BY 2, q.created_at LIMIT $2)"
				" SELECT " JOB_COLUMNS " FROM ready JOIN public.generation_jobs j ON j.id = ready.id"
				" ORDER BY ready.turn, j.created_at", 3, types);
	count = sparky_execute(plan, values, NULL, 0);
	*jobs = palloc0(sizeof(Job) * Max(count, 1));
	for (uint64 i = 0; i < count; i++)
		read_job(i, &(*jobs)[i]);
	return (int) count;
}

static void
read_job(uint64 row, Job *job)
{
	bool		isnull;

	memset(job, 0, sizeof(*job));
	job->id = *DatumGetUUIDP(sparky_column(row, 1, &isnull));
	job->user_id = *DatumGetUUIDP(sparky_column(row, 2, &isnull));
	job->kind = strcmp(sparky_column_text(row, 3), "image") == 0 ? KIND_IMAGE : KIND_ANALYSIS;
	job->tool_id = sparky_column_text(row, 4);
	job->source_path = sparky_column_text(row, 5);
	job->parameters = sparky_column_text(row, 6);
	sparky_column_copy(row, 7, job->image_hash, sizeof(job->image_hash));
	sparky_column_copy(row, 8, job->cache_key, sizeof(job->cache_key));
	job->price = sparky_column_int(row, 9, 0);
	job->attempt = sparky_column_int(row, 10, 0);
	job->retries = sparky_column_int(row, 11, 0);
	job->lost_claims = sparky_column_int(row, 12, 0);
	job->deadline = DatumGetTimestampTz(sparky_column(row, 13, &isnull));
}

void
sparky_job_copy(Job *to, const Job *from, MemoryContext context)
{
	*to = *from;
	to->tool_id = MemoryContextStrdup(context, from->tool_id);
	to->source_path = MemoryContextStrdup(context, from->source_path);
	to->parameters = MemoryContextStrdup(context, from->parameters);
}

Job *
sparky_jobs_copy(const Job *jobs, int count, MemoryContext context)
{
	Job		   *copies = MemoryContextAlloc(context, sizeof(Job) * Max(count, 1));

	for (int i = 0; i < count; i++)
		sparky_job_copy(&copies[i], &jobs[i], context);
	return copies;
}

/* A locked job becomes this claim's. */
static void
claim_job(Job *job, const char *status, int64 incarnation, TimestampTz now, TimestampTz lease_until)
{
	static SPIPlanPtr plan;
	Oid			types[] = {UUIDOID, TEXTOID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		values[] = {UUIDPGetDatum(&job->id), CStringGetTextDatum(status), Int64GetDatum(incarnation), TimestampTzGetDatum(now),
		TimestampTzGetDatum(lease_until)};

	sparky_plan(&plan,
				"UPDATE public.generation_jobs SET status = $2, attempt = attempt + 1, incarnation = $3,"
				" started_at = coalesce(started_at, $4), lease_until = $5 WHERE id = $1 RETURNING attempt", 5, types);
	if (sparky_execute(plan, values, NULL, 0) != 1)
		elog(ERROR, "a locked job vanished");
	job->attempt = sparky_column_int(0, 1, 0);
}

int64
sparky_queue_start_call(Job *job, const char *model, int64 incarnation, TimestampTz now, TimestampTz lease_until)
{
	static SPIPlanPtr plan;
	Oid			types[] = {UUIDOID, UUIDOID, TEXTOID, INT4OID, TEXTOID, TIMESTAMPTZOID};
	Datum		values[] = {UUIDPGetDatum(&job->id), UUIDPGetDatum(&job->user_id), CStringGetTextDatum(job->tool_id),
	(Datum) 0, CStringGetTextDatum(model), TimestampTzGetDatum(now)};

	claim_job(job, "generating", incarnation, now, lease_until);
	values[3] = Int32GetDatum(job->attempt);
	sparky_plan(&plan,
				"INSERT INTO sparky.provider_calls (job_id, user_id, tool_id, attempt, model, started_at)"
				" VALUES ($1, $2, $3, $4, $5, $6) RETURNING id", 6, types);
	(void) sparky_execute(plan, values, NULL, 0);
	return sparky_column_int(0, 1, 0);
}

void
sparky_queue_start_fetch(Job *job, int64 incarnation, TimestampTz now, TimestampTz lease_until)
{
	claim_job(job, "fetching", incarnation, now, lease_until);
}

RowStep
sparky_queue_lock(const Job *job, const char *status)
{
	static SPIPlanPtr lock,
				look;
	Oid			types[] = {UUIDOID, INT4OID, TEXTOID};
	Datum		values[] = {UUIDPGetDatum(&job->id), Int32GetDatum(job->attempt), CStringGetTextDatum(status)};

	sparky_plan(&lock,
				"SELECT 1 FROM public.generation_jobs WHERE id = $1 AND attempt = $2 AND status = $3 FOR UPDATE SKIP LOCKED", 3, types);
	if (sparky_execute(lock, values, NULL, 1) > 0)
		return ROW_STEP_DONE;
	sparky_plan(&look, "SELECT 1 FROM public.generation_jobs WHERE id = $1 AND attempt = $2 AND status = $3", 3, types);
	return sparky_execute(look, values, NULL, 1) > 0 ? ROW_STEP_BUSY : ROW_STEP_GONE;
}

void
sparky_queue_retry(const Job *job, bool counted, TimestampTz run_after)
{
	static SPIPlanPtr plan;
	Oid			types[] = {UUIDOID, INT4OID, TIMESTAMPTZOID};
	Datum		values[] = {UUIDPGetDatum(&job->id), Int32GetDatum(counted ? 1 : 0), TimestampTzGetDatum(run_after)};

	sparky_plan(&plan,
				"UPDATE public.generation_jobs SET status = 'queued', retries = retries + $2, run_after = $3,"
				" incarnation = NULL, lease_until = NULL WHERE id = $1", 3, types);
	(void) sparky_execute(plan, values, NULL, 0);
}

void
sparky_queue_fail(const Job *job, Outcome final, int retry_after, TimestampTz now)
{
	static SPIPlanPtr plan,
				drop;
	const OutcomeRule *rule = sparky_outcome_rule(final);
	const ErrorText *text = sparky_error_text(rule->word);
	bool		cancelled = final == OUTCOME_CANCELLED;
	Oid			types[] = {UUIDOID, TEXTOID, TEXTOID, TEXTOID, INT4OID, TIMESTAMPTZOID};
	Datum		values[] = {UUIDPGetDatum(&job->id), CStringGetTextDatum(cancelled ? "cancelled" : "failed"),
		CStringGetTextDatum(text->word), CStringGetTextDatum(text->message), Int32GetDatum(retry_after), TimestampTzGetDatum(now)};
	char		nulls[] = {' ', ' ', cancelled ? 'n' : ' ', cancelled ? 'n' : ' ', retry_after > 0 ? ' ' : 'n', ' '};

	sparky_plan(&plan,
				"UPDATE public.generation_jobs SET status = $2, error_code = $3, error_message = $4, retry_after = $5,"
				" credits_held = 0, incarnation = NULL, lease_until = NULL, finished_at = $6 WHERE id = $1", 6, types);
	(void) sparky_execute(plan, values, nulls, 0);
	sparky_plan(&drop, "DELETE FROM sparky.answers WHERE job_id = $1", 1, types);
	(void) sparky_execute(drop, values, NULL, 0);
	if (!cancelled)
		sparky_notify_failed(&job->user_id, now);
	sparky_broadcast_job(job, cancelled ? "cancelled" : "failed", 0, cancelled ? NULL : text->word);
}

void
sparky_queue_note_call(const CallReport *report, TimestampTz now)
{
	static SPIPlanPtr plan;
	Oid			types[] = {INT8OID, TIMESTAMPTZOID, TEXTOID, BOOLOID, INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, FLOAT8OID, INT8OID, INT8OID};
	Datum		values[13];
	char		nulls[13];

	if (report->call_id == 0)
		return;
	memset(nulls, ' ', sizeof(nulls));
	values[0] = Int64GetDatum(report->call_id);
	values[1] = TimestampTzGetDatum(now);
	values[2] = CStringGetTextDatum(sparky_outcome_name(report->outcome));
	values[3] = BoolGetDatum(report->charged);
	values[4] = Int32GetDatum(report->http_status);
	nulls[4] = report->http_status > 0 ? ' ' : 'n';
	values[5] = text_or_null(report->finish_reason, &nulls[5]);
	values[6] = text_or_null(report->message, &nulls[6]);
	values[7] = text_or_null(report->model_version, &nulls[7]);
	values[8] = text_or_null(report->response_id, &nulls[8]);
	values[9] = text_or_null(report->usage, &nulls[9]);
	values[10] = Float8GetDatum(report->retry_after);
	nulls[10] = report->retry_after >= 0 ? ' ' : 'n';
	values[11] = Int64GetDatum(report->bytes_sent);
	values[12] = Int64GetDatum(report->bytes_received);
	sparky_plan(&plan,
				"UPDATE sparky.provider_calls SET finished_at = $2, outcome = $3, charged = $4, http_status = $5, finish_reason = $6,"
				" message = $7, model_version = $8, response_id = $9, usage = $10::jsonb, retry_after = $11, bytes_sent = $12,"
				" bytes_received = $13 WHERE id = $1", 13, types);
	(void) sparky_execute(plan, values, nulls, 0);
}

void
sparky_queue_forget_call(int64 call_id)
{
	static SPIPlanPtr plan;
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(call_id)};

	sparky_plan(&plan, "DELETE FROM sparky.provider_calls WHERE id = $1", 1, types);
	(void) sparky_execute(plan, values, NULL, 0);
}

void
sparky_queue_keep_answer(const Job *job, const JobAnswer *answer, TimestampTz now)
{
	static SPIPlanPtr insert,
				update;
	Oid			types[] = {UUIDOID, TIMESTAMPTZOID, BYTEAOID, TEXTOID, INT4OID, INT4OID, TEXTOID, TEXTOID};
	Datum		values[8];
	char		nulls[8];
	bool		image = answer->image != NULL;

	memset(nulls, ' ', sizeof(nulls));
	values[0] = UUIDPGetDatum(&job->id);
	values[1] = TimestampTzGetDatum(now);
	values[2] = PointerGetDatum(answer->image);
	values[3] = image ? CStringGetTextDatum(sparky_image_mime(answer->info.type)) : (Datum) 0;
	values[4] = Int32GetDatum((int32) answer->info.width);
	values[5] = Int32GetDatum((int32) answer->info.height);
	values[6] = image ? CStringGetTextDatum(answer->sha256) : (Datum) 0;
	nulls[2] = nulls[3] = nulls[4] = nulls[5] = nulls[6] = image ? ' ' : 'n';
	values[7] = text_or_null(answer->analysis, &nulls[7]);
	sparky_plan(&insert,
				"INSERT INTO sparky.answers (job_id, answered_at, bytes, mime_type, width, height, sha256, analysis)"
				" VALUES ($1, $2, $3, $4, $5, $6, $7, $8::jsonb) ON CONFLICT (job_id) DO NOTHING", 8, types);
	(void) sparky_execute(insert, values, nulls, 0);
	sparky_plan(&update,
				"UPDATE public.generation_jobs SET status = 'answered', incarnation = NULL, lease_until = NULL WHERE id = $1", 1, types);
	(void) sparky_execute(update, values, NULL, 0);
}

int
sparky_queue_answered(int limit, int64 incarnation, Job **jobs)
{
	static SPIPlanPtr claim,
				plan;
	Oid			types[] = {INT4OID, INT8OID};
	Datum		values[] = {Int32GetDatum(limit), Int64GetDatum(incarnation)};

	/* A claim as any other: who crashes the worker here is counted too. */
	sparky_plan(&claim,
				"UPDATE public.generation_jobs SET status = 'storing', incarnation = $2, attempt = attempt + 1 WHERE id IN"
				" (SELECT j.id FROM public.generation_jobs j JOIN sparky.answers a ON a.job_id = j.id"
				"  WHERE j.status = 'answered' ORDER BY j.run_after, a.answered_at LIMIT $1 FOR UPDATE OF j SKIP LOCKED)", 2, types);
	(void) sparky_execute(claim, values, NULL, 0);
	sparky_plan(&plan,
				"SELECT " JOB_COLUMNS ", a.answered_at FROM public.generation_jobs j JOIN sparky.answers a ON a.job_id = j.id"
				" WHERE j.status = 'storing' AND j.incarnation = $2 ORDER BY j.run_after, a.answered_at LIMIT $1", 2, types);
	return read_answered(sparky_execute(plan, values, NULL, 0), jobs);
}

int
sparky_queue_claim_answered(int limit, int64 incarnation, TimestampTz now, TimestampTz lease_until, Job **jobs)
{
	static SPIPlanPtr plan;
	Oid			types[] = {INT4OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		values[] = {Int32GetDatum(limit), Int64GetDatum(incarnation), TimestampTzGetDatum(now), TimestampTzGetDatum(lease_until)};

	sparky_plan(&plan,
				"UPDATE public.generation_jobs j SET status = 'storing', incarnation = $2, attempt = j.attempt + 1, lease_until = $4"
				" FROM (SELECT w.id, a.answered_at FROM public.generation_jobs w JOIN sparky.answers a ON a.job_id = w.id"
				"  WHERE w.status = 'answered' AND w.run_after <= $3 ORDER BY w.run_after, a.answered_at LIMIT $1"
				"  FOR UPDATE OF w SKIP LOCKED) due"
				" WHERE j.id = due.id RETURNING " JOB_COLUMNS ", due.answered_at", 4, types);
	return read_answered(sparky_execute(plan, values, NULL, 0), jobs);
}

/* Rows of JOB_COLUMNS and answered_at. */
static int
read_answered(uint64 count, Job **jobs)
{
	bool		isnull;

	*jobs = palloc0(sizeof(Job) * Max(count, 1));
	for (uint64 i = 0; i < count; i++)
	{
		read_job(i, &(*jobs)[i]);
		(*jobs)[i].answered_at = DatumGetTimestampTz(sparky_column(i, JOB_COLUMN_COUNT + 1, &isnull));
	}
	return (int) count;
}

TimestampTz
sparky_queue_next_answered(void)
{
	static SPIPlanPtr plan;
	bool		isnull;
	Datum		next;

	sparky_plan(&plan, "SELECT min(run_after) FROM public.generation_jobs WHERE status = 'answered'"
				" AND status IN ('fetching', 'generating', 'answered', 'storing')", 0, NULL);
	(void) sparky_execute(plan, NULL, NULL, 1);
	next = sparky_column(0, 1, &isnull);
	return isnull ? DT_NOEND : DatumGetTimestampTz(next);
}

bool
sparky_queue_ended_without(const Job *job)
{
	static SPIPlanPtr plan;
	Oid			types[] = {UUIDOID};
	Datum		values[] = {UUIDPGetDatum(&job->id)};

	sparky_plan(&plan, "SELECT 1 FROM public.generation_jobs WHERE id = $1 AND status NOT IN ('failed', 'cancelled')", 1, types);
	return sparky_execute(plan, values, NULL, 1) == 0;
}

void
sparky_queue_hand_back(const Job *job, TimestampTz then)
{
	static SPIPlanPtr plan;
	Oid			types[] = {UUIDOID, TIMESTAMPTZOID};
	Datum		values[] = {UUIDPGetDatum(&job->id), TimestampTzGetDatum(then)};

	sparky_plan(&plan,
				"UPDATE public.generation_jobs SET status = 'answered', incarnation = NULL, lease_until = NULL, run_after = $2 WHERE id = $1", 2, types);
	(void) sparky_execute(plan, values, NULL, 0);
}

bool
sparky_queue_read_answer(const Job *job, JobAnswer *answer)
{
	static SPIPlanPtr plan;
	Oid			types[] = {UUIDOID};
	Datum		values[] = {UUIDPGetDatum(&job->id)};
	MemoryContext into = CurrentMemoryContext;	/* SPI's calls change it */
	bool		isnull;
	Datum		bytes;

	memset(answer, 0, sizeof(*answer));
	sparky_plan(&plan,
				"SELECT bytes, mime_type, width, height, sha256, analysis::text FROM sparky.answers WHERE job_id = $1", 1, types);
	if (sparky_execute(plan, values, NULL, 1) == 0)
		return false;
	MemoryContextSwitchTo(into);
	bytes = sparky_column(0, 1, &isnull);
	if (!isnull)
	{
		answer->image = DatumGetByteaPCopy(bytes);
		answer->info.type = sparky_image_type_of_mime(sparky_column_text(0, 2));
		answer->info.width = sparky_column_int(0, 3, 0);
		answer->info.height = sparky_column_int(0, 4, 0);
		sparky_column_copy(0, 5, answer->sha256, sizeof(answer->sha256));
	}
	answer->analysis = sparky_column_text(0, 6);
	return true;
}

void
sparky_queue_mark_charged(const Job *job)
{
	static SPIPlanPtr plan;
	Oid			types[] = {UUIDOID};
	Datum		values[] = {UUIDPGetDatum(&job->id)};

	sparky_plan(&plan, "UPDATE sparky.provider_calls SET charged = true WHERE job_id = $1 AND outcome = 'ok'", 1, types);
	(void) sparky_execute(plan, values, NULL, 0);
}

int
sparky_queue_overdue(int limit, int64 incarnation, TimestampTz now, OverdueJob **jobs)
{
	static SPIPlanPtr plan;
	Oid			types[] = {INT8OID, INT4OID, TIMESTAMPTZOID};
	Datum		values[] = {Int64GetDatum(incarnation), Int32GetDatum(limit), TimestampTzGetDatum(now)};
	uint64		count;

	sparky_plan(&plan,
				"(SELECT " JOB_COLUMNS ", j.status FROM public.generation_jobs j"
				"  WHERE j.status IN ('fetching', 'generating', 'answered', 'storing')"
				"  AND (j.incarnation <> $1 OR j.lease_until < $3) LIMIT $2)"
				" UNION ALL (SELECT " JOB_COLUMNS ", j.status FROM public.generation_jobs j"
				"  WHERE j.status = 'queued' AND j.deadline <= $3 LIMIT $2)", 3, types);
	count = sparky_execute(plan, values, NULL, 0);
	*jobs = palloc0(sizeof(OverdueJob) * Max(count, 1));
	for (uint64 i = 0; i < count; i++)
	{
		OverdueJob *overdue = &(*jobs)[i];

		read_job(i, &overdue->job);
		sparky_column_copy(i, JOB_COLUMN_COUNT + 1, overdue->status, sizeof(overdue->status));
		overdue->lost = strcmp(overdue->status, "queued") != 0;
		if (overdue->lost)
			overdue->job.lost_claims++;
	}
	return (int) count;
}

int
sparky_queue_mark_unknown(const Job *job, TimestampTz now)
{
	static SPIPlanPtr mark,
				count;
	Oid			types[] = {UUIDOID, TIMESTAMPTZOID};
	Datum		values[] = {UUIDPGetDatum(&job->id), TimestampTzGetDatum(now)};

	sparky_plan(&mark,
				"UPDATE sparky.provider_calls SET outcome = 'unknown', finished_at = $2 WHERE job_id = $1 AND outcome IS NULL", 2, types);
	(void) sparky_execute(mark, values, NULL, 0);
	sparky_plan(&count, "SELECT count(*) FROM sparky.provider_calls WHERE job_id = $1 AND outcome = 'unknown'", 1, types);
	(void) sparky_execute(count, values, NULL, 1);
	return (int) sparky_column_int(0, 1, 0);
}

void
sparky_queue_recover(const Job *job, bool answered, TimestampTz now)
{
	static SPIPlanPtr plan;
	Oid			types[] = {UUIDOID, TEXTOID, INT4OID, TIMESTAMPTZOID};
	Datum		values[] = {UUIDPGetDatum(&job->id), CStringGetTextDatum(answered ? "answered" : "queued"),
	Int32GetDatum(job->lost_claims), TimestampTzGetDatum(now)};

	sparky_plan(&plan,
				"UPDATE public.generation_jobs SET status = $2, lost_claims = $3, run_after = $4, incarnation = NULL,"
				" lease_until = NULL WHERE id = $1", 4, types);
	(void) sparky_execute(plan, values, NULL, 0);
}

int
sparky_queue_end_overdue(int limit, TimestampTz now)
{
	static SPIPlanPtr plan,
				mark;
	Oid			types[] = {TIMESTAMPTZOID, INT4OID, TIMESTAMPTZOID};
	Datum		values[] = {TimestampTzGetDatum(now), Int32GetDatum(limit),
	TimestampTzGetDatum(now - (int64) sparky_storage_deadline * USECS_PER_SEC)};
	Oid			mark_types[] = {UUIDOID, TIMESTAMPTZOID};
	SPITupleTable *rows;
	uint64		count;
	int			ended = 0;

	sparky_plan(&plan,
				"SELECT " JOB_COLUMNS ", j.status IN ('answered', 'storing') FROM public.generation_jobs j"
				" WHERE (j.status IN ('queued', 'fetching', 'generating') AND j.deadline <= $1)"
				" OR (j.status IN ('answered', 'storing') AND NOT EXISTS"
				"  (SELECT FROM sparky.answers a WHERE a.job_id = j.id AND a.answered_at > $3))"
				" LIMIT $2 FOR UPDATE OF j SKIP LOCKED", 3, types);
	count = sparky_execute(plan, values, NULL, 0);
	rows = SPI_tuptable;
	/* A worker that lives after all overwrites this with what it knows. */
	sparky_plan(&mark,
				"UPDATE sparky.provider_calls SET outcome = 'unknown', finished_at = $2 WHERE job_id = $1 AND outcome IS NULL", 2, mark_types);
	for (uint64 i = 0; i < count; i++)
	{
		Job			job;
		bool		answered;
		Datum		mark_values[] = {(Datum) 0, TimestampTzGetDatum(now)};

		SPI_tuptable = rows;
		read_job(i, &job);
		answered = sparky_column_bool(i, JOB_COLUMN_COUNT + 1);
		/* A row that was kept an answer for between our look and our lock comes as it is now, but its answer was looked for as of then. */
		if (answered && answered_since(&job, DatumGetTimestampTz(values[2])))
			continue;
		ended++;
		sparky_queue_fail(&job, answered ? OUTCOME_STORAGE : OUTCOME_DEADLINE, 0, now);
		mark_values[0] = UUIDPGetDatum(&job.id);
		(void) sparky_execute(mark, mark_values, NULL, 0);
	}
	return ended;
}

static bool
answered_since(const Job *job, TimestampTz since)
{
	static SPIPlanPtr plan;
	Oid			types[] = {UUIDOID, TIMESTAMPTZOID};
	Datum		values[] = {UUIDPGetDatum(&job->id), TimestampTzGetDatum(since)};

	sparky_plan(&plan, "SELECT 1 FROM sparky.answers WHERE job_id = $1 AND answered_at > $2", 2, types);
	return sparky_execute(plan, values, NULL, 1) > 0;
}

TimestampTz
sparky_queue_next_run(void)
{
	static SPIPlanPtr plan;
	bool		isnull;
	Datum		next;

	sparky_plan(&plan, "SELECT min(run_after) FROM public.generation_jobs WHERE status = 'queued'", 0, NULL);
	(void) sparky_execute(plan, NULL, NULL, 1);
	next = sparky_column(0, 1, &isnull);
	return isnull ? DT_NOEND : DatumGetTimestampTz(next);
}
