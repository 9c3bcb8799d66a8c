/* account.h: a user's plan and credits, read only.  SPI connected, owner scope entered. */
#ifndef SPARKY_ACCOUNT_H
#define SPARKY_ACCOUNT_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/uuid.h"

#include "plans.h"

typedef struct Account
{
	int			credits;		/* as booked */
	int			debt;
	int			allowance;
	int64		plan_id;		/* the effective plan */
	char	   *plan_name;
	int			monthly_credits;
	int			max_daily_credits;
	bool		plan_expires;
	TimestampTz plan_expires_at;	/* of the effective plan */
	int64		held;
	int64		used_today;		/* UTC day */
	int64		balance_due;	/* credits less debt, every grant that is due counted */
	TimestampTz resets_at;		/* the next UTC midnight */
} Account;

/* Latest committed state as of now; false: no such profile. */
extern bool sparky_account_read(const pg_uuid_t *user, TimestampTz now, Account *account);
/* ERROR account_gone without a profile; looks at nothing else, since every call of a client begins with it. */
extern void sparky_account_check(const pg_uuid_t *user);
/* Read; ERROR account_gone without a profile. */
extern void sparky_account_require(const pg_uuid_t *user, TimestampTz now, Account *account);
/* What a new job may cost, due grants counted; 0 while there is debt. */
extern int64 sparky_account_available(const Account *account);
extern bool sparky_account_pro(const Account *account);
/* Seconds until the next UTC midnight, at least 1. */
extern int	sparky_seconds_to_utc_midnight(TimestampTz now);

typedef struct UsageRange
{
	bool		since_given;	/* else the start of since's UTC month */
	TimestampTz since;			/* inclusive */
	TimestampTz until;			/* exclusive */
} UsageRange;

/* Put rows of (day date, tool_id text, requests bigint, credits bigint), UTC days in order, into a store. */
extern void sparky_account_usage(const pg_uuid_t *user, const UsageRange *range, Tuplestorestate *store, TupleDesc columns);

#endif
