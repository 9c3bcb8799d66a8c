/*
 * plans.h: which plan is in effect for whom, decided from periods.
 *
 * SPI connected, owner scope entered.  But for what only reads, the user's row
 * is locked by the caller.  Time comes in as an argument.
 */
#ifndef SPARKY_PLANS_H
#define SPARKY_PLANS_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "utils/uuid.h"

#define SPARKY_FREE_PLAN 1

/* A paid order for a period of a plan. */
typedef struct PlanOrder
{
	pg_uuid_t	order_id;
	pg_uuid_t	user_id;
	int64		plan_id;
	int			period_days;	/* days of 24 hours */
} PlanOrder;

/*
 * Make the order's period, unless it has one, and book its grant if it has
 * begun.  The same plan again starts when its last period ends, a lower one
 * when the higher ones have ended, a higher one now.
 */
extern void sparky_plans_buy(const PlanOrder *order, TimestampTz now);
/*
 * The order was given back as a whole: end its period and take back what its
 * grant booked (ledger kind clawback, under this reference); what the balance
 * cannot cover becomes debt.  What waited for it to end moves forward.  An
 * order without a period changes nothing, nor does one reversed before.
 */
extern void sparky_plans_reverse(const pg_uuid_t *order_id, TimestampTz now, const char *reference);
/*
 * A reversed order stands after all: another payment of it is there.  Its period
 * begins anew, and what was taken back is given back.
 */
extern void sparky_plans_restore(const PlanOrder *order, TimestampTz now);
/*
 * Book every grant that is due, the free plan's too, bring users.plan_id and
 * plan_expires_at in step, and tell the user once when a plan of his has ended.
 */
extern void sparky_plans_refresh(const pg_uuid_t *user_id, TimestampTz now);
/* Is a plan above this one in effect, or still to come? Reads only. */
extern bool sparky_plans_is_downgrade(const pg_uuid_t *user_id, int64 plan_id, TimestampTz now);

/*
 * For the SQL of row 3: a subquery, to be joined LATERAL, of at most one row
 * (plan_id, ends_at), the period in effect of the user u at the time $2;
 * without one it is plan 1.  The text is different where the data are still
 * those of version 1 and have no periods: keep one prepared plan for each.
 */
extern const char *sparky_plans_running(void);
/* A subquery, an array of the monthly credits of the periods whose grant is due, in order; NULL: none is. */
extern const char *sparky_plans_due(void);
/* Have the data plan_periods? An index for those two plans. */
extern bool sparky_plans_have_periods(void);

#endif
