/*
 * http_harness.h: what the tests of the transport share: exchanges with the
 * server that misbehaves, a turn of the loop, and a clock and a resolver of ours.
 */
#ifndef HTTP_HARNESS_H
#define HTTP_HARNESS_H

#include "postgres.h"

#include "http.h"
#include "pg_shim.h"

typedef struct Exchange
{
	const char *method;
	char		url[300];
	size_t		body;			/* bytes to send, 0: no body */
	size_t		short_by;		/* the source ends so many bytes early */
	size_t		stop_at;		/* the sink says no at so many bytes, 0: never */
	int			connect_ms;
	int			total_ms;
	const char *ca_file;
	const char *plain_http_hosts;
	const char *const *headers;

	size_t		given;
	size_t		taken;
	uint64		sum;
	char		text[4096];		/* the body's beginning */
	HttpTransfer *transfer;
	HttpResult	result;
	bool		done;
	double		started;
	double		seconds;
} Exchange;

extern HttpClient *client;
extern const char *plain;		/* "http://127.0.0.1:1234" */
extern int	open_before;		/* descriptors that are none of ours */
extern double skipped;			/* seconds by which our clock is ahead: see clock_gettime() */
extern int	turns;

/* What our getaddrinfo() does: see http_harness.c. */
extern int	lookups;
extern int	lookups_at_once;
extern int	lookup_ms;
extern bool lookup_fails;
extern bool lookup_was_unmasked;

extern double now(void);
extern void ok(bool good, const char *format,...) pg_attribute_printf(2, 3);
/* The plan; what the program returns. */
extern int	finish(void);
extern const char *argument(int argc, char **argv, const char *name);
extern Exchange exchange(const char *method, const char *base, const char *path);
extern bool start(Exchange *x);
extern void collect(void);
/* One turn of the loop, as the worker does it. */
extern void turn(int at_most_ms);
extern void turn_for(double seconds);
extern Exchange *run(Exchange *x);
extern void await_hangup(void);
/* Complete requests that the server counted under this name. */
extern int	count(const char *name);
extern int	open_descriptors(void);
extern bool told_of_descriptors(void);
extern void new_client(int max_connections);

/* http_many_test.c */
extern void test_many_at_once(void);

#endif
