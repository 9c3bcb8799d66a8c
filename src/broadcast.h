/* broadcast.h: a word to the user's devices over Supabase Realtime, in the commit that it tells of. */
#ifndef SPARKY_BROADCAST_H
#define SPARKY_BROADCAST_H

#include "queue.h"

/*
 * Event 'generation' on the private topic user:<id>: job_id, tool_id, status, generation_id, error, credits.
 * Nothing happens where there is no realtime.send(). SPI connected, as the data owner.
 */
extern void sparky_broadcast_job(const Job *job, const char *status, int64 generation_id, const char *error);
/* Event 'account': credits and plan_id, after a payment or a grant. */
extern void sparky_broadcast_account(const pg_uuid_t *user_id);

#endif
