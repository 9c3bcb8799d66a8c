/*
 * result.h: the jsonb that the request functions return (DESIGN 3).
 *
 * The builders want SPI connected and the owner scope entered and return JSON
 * text in CurrentMemoryContext; sparky_result_await is called outside of it.
 */
#ifndef SPARKY_RESULT_H
#define SPARKY_RESULT_H

#include "requests.h"

/* Wait up to wait_seconds for the job's end, then its result as jsonb; *ended says whether it ended. ERROR job_not_found. */
extern Datum sparky_result_await(const pg_uuid_t *user_id, const pg_uuid_t *job_id, int wait_seconds, bool *ended);
extern char *sparky_result_of_job(const pg_uuid_t *user_id, const JobView *job);
extern char *sparky_result_of_hit(const pg_uuid_t *user_id, const CacheHit *hit);
/* JSON text as a jsonb datum. */
extern Datum sparky_jsonb(const char *json);

#endif
