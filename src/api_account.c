/* api_account.c: my_account and my_usage.  Both only read. */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "datatype/timestamp.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#include "account.h"
#include "caller.h"
#include "compat.h"
#include "owner.h"
#include "raise.h"
#include "result.h"

static void add_time(StringInfo json, const char *key, bool known, TimestampTz time);

SPARKY_FACE(sparky_my_account, my_account);
static Datum
my_account(PG_FUNCTION_ARGS)
{
	StringInfoData json;
	OwnerScope	scope;
	Account		account;
	Caller		caller;

	sparky_caller(&caller);
	initStringInfo(&json);
	sparky_owner_enter(&scope);
	sparky_account_require(&caller.id, GetCurrentTimestamp(), &account);
	appendStringInfo(&json,
					 "{\"credits\":%d,\"held\":" INT64_FORMAT ",\"available\":" INT64_FORMAT ",\"debt\":%d,\"allowance\":%d,\"plan\":",
					 account.credits, account.held, sparky_account_available(&account), account.debt, account.allowance);
	escape_json(&json, account.plan_name ? account.plan_name : "");
	add_time(&json, "plan_expires_at", account.plan_expires, account.plan_expires_at);
	appendStringInfo(&json, ",\"used_today\":" INT64_FORMAT ",\"max_daily_credits\":%d",
					 account.used_today, account.max_daily_credits);
	add_time(&json, "resets_at", true, account.resets_at);
	appendStringInfoChar(&json, '}');
	sparky_owner_leave(&scope);
	return sparky_jsonb(json.data);
}

SPARKY_FACE(sparky_my_usage, my_usage);
static Datum
my_usage(PG_FUNCTION_ARGS)
{
	TimestampTz now = GetCurrentTimestamp();
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	UsageRange	range;
	OwnerScope	scope;
	Caller		caller;

	sparky_caller(&caller);
	InitMaterializedSRF(fcinfo, 0);
	range.since_given = !PG_ARGISNULL(0);
	range.since = range.since_given ? PG_GETARG_TIMESTAMPTZ(0) : now;
	range.until = PG_ARGISNULL(1) ? now : PG_GETARG_TIMESTAMPTZ(1);

	sparky_owner_enter(&scope);
	sparky_account_usage(&caller.id, &range, rsinfo->setResult, rsinfo->setDesc);
	sparky_owner_leave(&scope);
	return (Datum) 0;
}

/* ISO 8601 in UTC; null when not known. */
static void
add_time(StringInfo json, const char *key, bool known, TimestampTz time)
{
	char		text[MAXDATELEN + 1];
	int			utc = 0;

	if (known)
		JsonEncodeDateTime(text, TimestampTzGetDatum(time), TIMESTAMPTZOID, &utc);
	appendStringInfo(json, ",\"%s\":%s%s%s", key, known ? "\"" : "", known ? text : "null", known ? "\"" : "");
}
