/* postgrest.c: see postgrest.h. */
#include "postgres.h"

#include "utils/guc.h"

#include "postgrest.h"

static void set_locally(const char *name, const char *value);

bool
sparky_under_postgrest(void)
{
	const char *method = GetConfigOption("request.method", true, false);

	return method != NULL && method[0] != '\0';
}

void
sparky_response_status(const char *status)
{
	set_locally("response.status", status);
}

void
sparky_response_headers(const char *headers)
{
	set_locally("response.headers", headers);
}

void
sparky_response_running(const char *job_id)
{
	if (!sparky_under_postgrest())
		return;
	sparky_response_status("202");
	sparky_response_headers(psprintf("[{\"Location\":\"generation_status?job_id=%s\"}]", job_id));
}

static void
set_locally(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}
