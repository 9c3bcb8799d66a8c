/* credits.h: accounts, holds and movements.  SPI connected, owner scope entered. */
#ifndef SPARKY_CREDITS_H
#define SPARKY_CREDITS_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "executor/spi.h"
#include "utils/uuid.h"

typedef enum RowLock { ROW_LOCKED, ROW_BUSY, ROW_GONE } RowLock;

/* Lock a user's row without waiting. */
extern RowLock sparky_credits_lock(const pg_uuid_t *user_id);

typedef struct Funds
{
	int			credits;
	int			debt;
	int			allowance;
	int			max_daily;		/* of the effective plan */
	int			held;
	int			active_jobs;
	int			used_today;
	int			uncharged_calls;	/* today, counted against him, and jobs he cancelled */
} Funds;

/*
 * After the lock, so that what it reads cannot change below us, and after
 * sparky_plans_refresh(): then the row's plan is the one in effect.
 */
extern void sparky_credits_read(const pg_uuid_t *user_id, TimestampTz now, Funds *funds);
/* Plan 1's grant of this UTC month if it is due; true if something was booked. */
extern bool sparky_credits_grant_monthly(const pg_uuid_t *user_id, TimestampTz now);
/*
 * One movement: credits or debt, the allowance, and the ledger row, together.
 * What the credits cannot cover becomes debt; what pays a debt is no credit.
 * A movement of 0 writes no ledger row.
 */
extern void sparky_credits_move(const pg_uuid_t *user_id, int delta, int allowance_delta, const char *kind, const char *reference, TimestampTz now);
/*
 * Write public.users: the triggers that look for an owner's hand edits keep
 * quiet.  Returns how many rows; what they RETURN is in SPI_tuptable.
 */
extern uint64 sparky_credits_write(SPIPlanPtr plan, Datum *values);
/* Calls of the whole database today (for the breaker). */
extern int64 sparky_credits_calls_today(TimestampTz now);
/* Midnight UTC of the day of a moment. */
extern TimestampTz sparky_utc_day(TimestampTz now);

#endif
