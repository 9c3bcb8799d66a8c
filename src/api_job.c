/*
 * api_job.c: generation_status and cancel_generation.
 *
 * A job that is not the caller's does not exist for him.  Cancelling is a write
 * of the caller's own transaction: it needs no worker, and undoes itself when
 * that transaction is rolled back.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "caller.h"
#include "compat.h"
#include "owner.h"
#include "postgrest.h"
#include "raise.h"
#include "result.h"

static pg_uuid_t job_argument(FunctionCallInfo fcinfo);

SPARKY_FACE(sparky_generation_status, generation_status);
static Datum
generation_status(PG_FUNCTION_ARGS)
{
	int			wait_seconds = PG_ARGISNULL(1) ? 0 : PG_GETARG_INT32(1);
	Caller		caller;
	pg_uuid_t	job;
	bool		ended;
	Datum		result;

	sparky_caller(&caller);
	job = job_argument(fcinfo);
	result = sparky_result_await(&caller.id, &job, wait_seconds, &ended);
	if (!ended)
		sparky_response_running(sparky_uuid_text(&job));
	return result;
}

SPARKY_FACE(sparky_cancel_generation, cancel_generation);
static Datum
cancel_generation(PG_FUNCTION_ARGS)
{
	OwnerScope	scope;
	JobView		view;
	Caller		caller;
	pg_uuid_t	job;
	char	   *json;

	sparky_caller(&caller);
	job = job_argument(fcinfo);
	PreventCommandIfReadOnly("cancel_generation");

	sparky_owner_enter(&scope);
	(void) sparky_job_cancel(&job, &caller.id);
	if (!sparky_job_view(&job, &caller.id, &view))
		sparky_raise(WORD_JOB_NOT_FOUND, NULL, NULL, 0);
	/* Cancelled, now or before; or past its deadline, which is told as it is. */
	if (view.phase != PHASE_CANCELLED && !(view.phase == PHASE_FAILED && view.error == WORD_PROVIDER_TIMEOUT))
		sparky_raise(WORD_TOO_LATE, NULL, NULL, 0);
	json = MemoryContextStrdup(scope.caller_context, sparky_result_of_job(&caller.id, &view));
	sparky_owner_leave(&scope);
	return sparky_jsonb(json);
}

static pg_uuid_t
job_argument(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		sparky_raise(WORD_BAD_PARAMETERS, "job_id is required", NULL, 0);
	return *PG_GETARG_UUID_P(0);
}
