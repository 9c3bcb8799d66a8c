/*
 * raise.c: an ErrorWord becomes an ERROR.
 *
 * The message is fixed: PostgREST puts it on the HTTP status line as it is, so
 * nothing from a user or a provider may ever get into it.  Detail and hint go
 * into the body, where they are JSON.
 *
 * PostgREST before 16 repeats a call that failed with 40001 or 40P01, without
 * limit; so the faces run under sparky_guarded(), which turns these two into a
 * 503 that the client may repeat at his own pace.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/json.h"

#include "postgrest.h"
#include "raise.h"

static int	five_letters(const char *sqlstate);
pg_noreturn static void raise_with_header(const ErrorText *text, const char *detail, const char *hint, int retry_after);

void
sparky_raise(ErrorWord word, const char *detail, const char *hint, int retry_after)
{
	const ErrorText *text = sparky_error_text(word);

	if (text->http_status == 429 && sparky_under_postgrest())
		raise_with_header(text, detail, hint, retry_after);
	ereport(ERROR,
			(errcode(five_letters(text->sqlstate)),
			 errmsg_internal("%s", text->message),
			 detail ? errdetail_internal("%s", detail) : 0,
			 hint ? errhint("%s", hint) : 0));
	pg_unreachable();
}

Datum
sparky_guarded(FunctionCallInfo fcinfo, PGFunction face)
{
	MemoryContext context = CurrentMemoryContext;
	Datum		result = (Datum) 0;

	PG_TRY();
	{
		result = face(fcinfo);
	}
	PG_CATCH();
	{
		int			code = geterrcode();

		if (code == ERRCODE_T_R_SERIALIZATION_FAILURE || code == ERRCODE_T_R_DEADLOCK_DETECTED)
		{
			MemoryContextSwitchTo(context);
			FlushErrorState();
			sparky_raise(WORD_OVERLOADED, "Another request changed the same data at the same time.", NULL, 0);
		}
		/* A new library over the tables of an older version, or over half a restored dump. */
		if (code == ERRCODE_UNDEFINED_TABLE || code == ERRCODE_UNDEFINED_COLUMN)
		{
			MemoryContextSwitchTo(context);
			FlushErrorState();
			sparky_raise(WORD_NOT_CONFIGURED, "The tables are not those that this version of sparky works with.",
						 "Run ALTER EXTENSION sparky UPDATE, or let the restore come to its end.", 0);
		}
		PG_RE_THROW();
	}
	PG_END_TRY();
	return result;
}

static int
five_letters(const char *sqlstate)
{
	return MAKE_SQLSTATE(sqlstate[0], sqlstate[1], sqlstate[2], sqlstate[3], sqlstate[4]);
}

/* PostgREST's own form: the only one that carries a header. */
static void
raise_with_header(const ErrorText *text, const char *detail, const char *hint, int retry_after)
{
	StringInfoData body;
	StringInfoData envelope;

	initStringInfo(&body);
	appendStringInfo(&body, "{\"code\":\"%s\",\"message\":", text->sqlstate);
	escape_json(&body, text->message);
	if (detail)
	{
		appendStringInfoString(&body, ",\"details\":");
		escape_json(&body, detail);
	}
	if (hint)
	{
		appendStringInfoString(&body, ",\"hint\":");
		escape_json(&body, hint);
	}
	appendStringInfoChar(&body, '}');

	initStringInfo(&envelope);
	appendStringInfo(&envelope, "{\"status\":%d,\"headers\":{\"Retry-After\":\"%d\"}}",
					 text->http_status, Max(retry_after, 1));
	ereport(ERROR,
			(errcode(five_letters("PGRST")),
			 errmsg_internal("%s", body.data),
			 errdetail_internal("%s", envelope.data)));
	pg_unreachable();
}
