/*
 * raise.h: an ErrorWord becomes an ERROR of SQLSTATE PTxyz.
 *
 * detail and hint carry what varies and may be NULL; message is fixed, ASCII,
 * one line.  A 429 under PostgREST (request.method set and not empty) is raised
 * in the PGRST form with Retry-After (seconds; less than 1 reads as 1).
 */
#ifndef SPARKY_RAISE_H
#define SPARKY_RAISE_H

#include "postgres.h"
#include "fmgr.h"

#include "compat.h"
#include "outcome.h"

pg_noreturn extern void sparky_raise(ErrorWord word, const char *detail, const char *hint, int retry_after);

/* Run a face's body; a serialization failure or deadlock leaves it as overloaded, never as itself. */
extern Datum sparky_guarded(FunctionCallInfo fcinfo, PGFunction face);

/* A public function; its body is the static function of the second name. */
#define SPARKY_FACE(name, body) \
	static Datum body(PG_FUNCTION_ARGS); \
	PGDLLEXPORT Datum name(PG_FUNCTION_ARGS); \
	Datum name(PG_FUNCTION_ARGS) { return sparky_guarded(fcinfo, body); } \
	PG_FUNCTION_INFO_V1(name)

#endif
