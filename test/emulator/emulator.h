/*
 * emulator.h: what the parts of the emulator tell each other.
 *
 * A call passes from thread to thread and belongs to one of them at a time:
 *
 *   libmicrohttpd (reads the body) -> a pool thread (reads the request, makes
 *   the reply) -> the scheduler (waits until it is due, watches whether the
 *   client is still there) -> libmicrohttpd (delivers)
 *
 * While pool and scheduler have it, its connection is suspended: a waiting call
 * costs a descriptor and no thread.
 *
 * A service (Gemini, Paymob, Storage) knows nothing of this: it gets a
 * Request and fills in a Reply.
 */
#ifndef EMULATOR_EMULATOR_H
#define EMULATOR_EMULATOR_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "buf.h"

/* Names and values as received, order kept; also response headers. */
typedef struct Pair
{
	char	   *name;
	char	   *value;
} Pair;

typedef struct Pairs
{
	Pair	   *items;
	size_t		count;
} Pairs;

typedef struct Request
{
	unsigned long n;			/* 1, 2, ... over the process; 0: control */
	char	   *method;
	char	   *path;			/* without the query */
	Pairs		query;
	Pairs		headers;
	Buf			body;
	uint64_t	body_length;	/* as received; more than body.len: too large, not kept */
	int64_t		arrived;		/* clock_us() when the body was complete */
} Request;

/* How the bytes of a reply leave. */
typedef enum Delivery
{
	DELIVER_CHUNKED = 0,		/* as the real service does */
	DELIVER_LENGTH,				/* with Content-Length */
	DELIVER_SHORT,				/* Content-Length promises more than comes */
	DELIVER_RESET_INSIDE,		/* cut_at bytes, then RST */
	DELIVER_RESET_BEFORE,		/* RST instead of an answer */
	DELIVER_CLOSE,				/* closed without a byte */
	DELIVER_SILENCE,			/* nothing, until the client leaves */
	DELIVER_TRICKLE,			/* tick_bytes every tick_ms */
	DELIVER_FILLED,				/* body, then filler bytes, then tail */
	DELIVER_RAW					/* body is the whole answer, status line and all */
} Delivery;

typedef struct Reply
{
	int			status;
	Pairs		headers;
	Buf			body;
	Delivery	delivery;
	uint64_t	cut_at;
	uint64_t	filler;			/* DELIVER_FILLED: how many 'A' */
	const char *tail;
	int			tick_ms;
	uint64_t	tick_bytes;
	int			delay_ms;		/* -1: the latency set for all calls */
	const char *fault;			/* the scripted fault, static text, or NULL */
	char	   *refused;		/* why a strict check refused, or NULL */
} Reply;

typedef struct Service
{
	const char *name;
	bool		(*owns) (const Request *request);
	/* Reads the request and adds to note what the log shall show of it. */
	void	   *(*read) (const Request *request, json_t *note);
	/* May be called once after read. */
	void		(*answer) (void *state, const Request *request, Reply *reply);
	void		(*done) (void *state);
	/* May a script name this fault for this service? */
	bool		(*knows_fault) (const char *name);
	/* Or NULL: runs at once and may set the delay; answer then runs when the delay has passed and the call is not held. */
	void		(*prepare) (void *state, const Request *request, Reply *reply);
} Service;

extern const Service gemini_service;
extern const Service paymob_service;
extern const Service storage_service;
extern const Service *const services[];	/* ends with NULL */

/* How a good picture answer is made. */
typedef enum AnswerKind { ANSWER_PICTURE = 0, ANSWER_TINY, ANSWER_BYTES } AnswerKind;

typedef struct Settings
{
	const char *key;			/* the only accepted key; NULL: any */
	int			first_latency_ms;	/* what reset goes back to */
	AnswerKind	first_answer;
	size_t		first_answer_bytes;
	/* changed by control calls while others read them */
	_Atomic int latency_ms;
	_Atomic int answer;			/* AnswerKind */
	_Atomic size_t answer_bytes;	/* ANSWER_BYTES: raw size of the PNG */
} Settings;

extern Settings settings;

/* "picture", "tiny" or a number of bytes */
extern bool settings_parse_answer(const char *text, AnswerKind *kind, size_t *bytes);

extern int64_t clock_us(void);	/* monotonic */

extern void pairs_add(Pairs *pairs, const char *name, const char *value);
extern const char *pairs_get(const Pairs *pairs, const char *name);	/* any case; NULL */
extern void pairs_free(Pairs *pairs);

#endif
