/*
 * result.c: the jsonb that the request functions return.
 *
 * Keys that have no value are left out.  Links are made when the result is
 * read, never stored: they die within the hour.  While a caller waits he is
 * outside the owner scope, with no SPI and no snapshot but his own statement's.
 */
#include "postgres.h"

#include <time.h>

#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#include "account.h"
#include "mailbox.h"
#include "owner.h"
#include "raise.h"
#include "result.h"
#include "storage.h"

#define MAX_WAIT_SECONDS 55
#define LINK_SECONDS 3600

static char *look(const pg_uuid_t *user_id, const pg_uuid_t *job_id, bool *ended);
static void add_text(StringInfo json, const char *key, const char *text);
static void add_output(StringInfo json, const CacheHit *output);
static void add_error(StringInfo json, ErrorWord word, int retry_after);
static void add_remaining(StringInfo json, const pg_uuid_t *user_id);

Datum
sparky_result_await(const pg_uuid_t *user_id, const pg_uuid_t *job_id, int wait_seconds, bool *ended)
{
	JobWait		wait;
	int			wait_ms = Min(Max(wait_seconds, 0), MAX_WAIT_SECONDS) * 1000;
	bool		more;
	char	   *json;

	more = sparky_wait_begin(&wait, job_id, user_id, wait_ms);
	while ((json = look(user_id, job_id, ended)), !*ended && more)
	{
		pfree(json);
		more = sparky_wait_step(&wait);
	}
	sparky_wait_end(&wait);
	return sparky_jsonb(json);
}

char *
sparky_result_of_job(const pg_uuid_t *user_id, const JobView *job)
{
	static const char *const phases[] = {"queued", "running", "succeeded", "failed", "cancelled"};
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfo(&json, "{\"job_id\":\"%s\",\"status\":\"%s\",\"cached\":false",
					 sparky_uuid_text(&job->id), phases[job->phase]);
	if (job->phase == PHASE_SUCCEEDED)
		add_output(&json, &job->result);
	if (SPARKY_PHASE_ENDED(job->phase))
		appendStringInfo(&json, ",\"credits_used\":" INT64_FORMAT, job->credits_used);
	add_remaining(&json, user_id);
	if (job->phase == PHASE_FAILED)
		add_error(&json, job->error, job->retry_after);
	appendStringInfoChar(&json, '}');
	return json.data;
}

char *
sparky_result_of_hit(const pg_uuid_t *user_id, const CacheHit *hit)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoString(&json, "{\"status\":\"succeeded\",\"cached\":true");
	add_output(&json, hit);
	appendStringInfoString(&json, ",\"credits_used\":0");
	add_remaining(&json, user_id);
	appendStringInfoChar(&json, '}');
	return json.data;
}

Datum
sparky_jsonb(const char *json)
{
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json));
}

/* The job's result as it is now, in the caller's memory. */
static char *
look(const pg_uuid_t *user_id, const pg_uuid_t *job_id, bool *ended)
{
	OwnerScope	scope;
	JobView		view;
	char	   *json;

	sparky_owner_enter(&scope);
	if (!sparky_job_view(job_id, user_id, &view))
	{
		/* A job goes with its account, also while somebody waits for it. */
		sparky_account_check(user_id);
		sparky_raise(WORD_JOB_NOT_FOUND, NULL, NULL, 0);
	}
	json = MemoryContextStrdup(scope.caller_context, sparky_result_of_job(user_id, &view));
	sparky_owner_leave(&scope);
	*ended = SPARKY_PHASE_ENDED(view.phase);
	return json;
}

static void
add_text(StringInfo json, const char *key, const char *text)
{
	appendStringInfo(json, ",\"%s\":", key);
	escape_json(json, text);
}

static void
add_output(StringInfo json, const CacheHit *output)
{
	if (output->generation_id >= 0)
		appendStringInfo(json, ",\"generation_id\":" INT64_FORMAT, output->generation_id);
	if (output->image_path != NULL)
	{
		char	   *link = sparky_storage_sign(output->image_path, (int64) time(NULL) + LINK_SECONDS);

		add_text(json, "image_path", output->image_path);
		if (link != NULL)
			add_text(json, "image_url", link);
	}
	if (output->analysis != NULL)
		appendStringInfo(json, ",\"analysis\":%s", output->analysis);
}

static void
add_error(StringInfo json, ErrorWord word, int retry_after)
{
	const ErrorText *text = sparky_error_text(word);

	appendStringInfo(json, ",\"error\":{\"code\":\"%s\"", text->word);
	add_text(json, "message", text->message);
	if (retry_after > 0)
		appendStringInfo(json, ",\"retry_after\":%d", retry_after);
	appendStringInfoChar(json, '}');
}

/* What is available now. */
static void
add_remaining(StringInfo json, const pg_uuid_t *user_id)
{
	Account		account;

	sparky_account_require(user_id, GetCurrentTimestamp(), &account);
	appendStringInfo(json, ",\"credits_remaining\":" INT64_FORMAT, sparky_account_available(&account));
}
