/*
 * server.h: calls, and the threads they pass through (see emulator.h).
 */
#ifndef EMULATOR_SERVER_H
#define EMULATOR_SERVER_H

#include <microhttpd.h>

#include "emulator.h"

typedef enum CallState { CALL_READING = 0, CALL_WORKING, CALL_READY, CALL_DELIVERING } CallState;

typedef struct Call
{
	struct MHD_Connection *connection;
	int			fd;
	CallState	state;
	bool		gone;			/* the client left, or the server ends */
	bool		reset_due;		/* the bytes before a reset are out */
	Request		request;
	Reply		reply;
	const Service *service;
	void	   *prepared;		/* the service's state between prepare and answer */
	int64_t		due;			/* clock_us() */
	int64_t		next_tick;
	bool		held;			/* waits for release */
	size_t		heap_index;		/* plus 1; 0: not in the heap */
	struct Call *next;			/* in the pool's or the scheduler's queue */
} Call;

typedef struct Stats
{
	_Atomic unsigned long numbered;	/* calls ever; the next n */
	_Atomic unsigned long base;	/* numbered at the last reset */
	_Atomic unsigned long in_flight;
	_Atomic unsigned long max_in_flight;
	_Atomic unsigned long answered;
	_Atomic unsigned long aborted;
} Stats;

extern Stats stats;

typedef struct ServerOptions
{
	int			port;			/* 0: any free one */
	char	   *tls_cert;		/* PEM text or NULL */
	char	   *tls_key;
} ServerOptions;

/* The port, or -1. */
extern int	server_start(const ServerOptions *options);
extern void server_stop(void);
/*
 * Logs a call and makes its reply, or only logs it; runs in a pool thread.  A
 * second time, for a service that prepares, when the call is due.
 */
extern void server_work(Call *call, bool answer);

/* sched.c: the pool and the scheduler. */
extern void sched_start(int threads);
/*
 * Suspend the call's connection and hand the call to the pool, or to the
 * scheduler until call->due; false: the server ends, nothing was done.  Only
 * from the thread of libmicrohttpd.
 */
extern bool sched_work(Call *call);
extern bool sched_wait(Call *call);
extern void sched_hold(bool hold);
extern bool sched_holds(void);
/* Resumes every call as gone; returns when none is suspended any more. */
extern void sched_stop(void);

/* deliver.c: from a Reply to bytes. */
extern enum MHD_Result deliver(Call *call);
extern enum MHD_Result deliver_simple(struct MHD_Connection *connection, int status, const char *type, const Buf *body);

/* control.c: the control calls; the answer is written at once. */
extern enum MHD_Result control_answer(struct MHD_Connection *connection, const Request *request);

#endif
