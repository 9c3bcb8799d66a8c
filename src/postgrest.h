/*
 * postgrest.h: what PostgREST tells us of a request, and what we tell it of the response.
 *
 * Both are transaction-local settings, so outside PostgREST they are unset or
 * empty and what we set has no effect.  Call the setters outside an owner
 * scope: leaving one puts settings back.
 */
#ifndef SPARKY_POSTGREST_H
#define SPARKY_POSTGREST_H

#include "postgres.h"

/* Is this an HTTP request of PostgREST? */
extern bool sparky_under_postgrest(void);
/* The HTTP status of a response that is no error, such as "202". */
extern void sparky_response_status(const char *status);
/* The status 202 of a job that still runs, and where to ask for it: a link relative to the call's own. */
extern void sparky_response_running(const char *job_id);
/* A JSON array of one-member objects; replaces what was set before. */
extern void sparky_response_headers(const char *headers);

#endif
