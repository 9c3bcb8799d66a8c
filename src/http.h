/*
 * http.h: the only door to libcurl: many transfers, one epoll descriptor.
 *
 * Used by one process with one loop.  All of libcurl's sockets hang on one
 * epoll descriptor; the caller waits on it together with its latch, then calls
 * sparky_http_drive(), then takes finished transfers until there are none.
 */
#ifndef SPARKY_HTTP_H
#define SPARKY_HTTP_H

#include <stddef.h>
#include <stdint.h>

#include "outcome.h"

typedef struct HttpClient HttpClient;
typedef struct HttpTransfer HttpTransfer;

/*
 * Gives bytes of the request body: fills at most size bytes, returns how many.  size is at least SPARKY_HTTP_SOURCE_BYTES or all
 * that is left, so that a source may work in quanta.  0, or fewer than content_length in all: TRANSPORT_STOPPED.  Plain C, must not throw.
 */
#define SPARKY_HTTP_SOURCE_BYTES 64
typedef size_t (*HttpBodySource) (void *context, char *buffer, size_t size);
/* Takes bytes of the response body; false stops the transfer (TRANSPORT_STOPPED). Plain C, must not throw. */
typedef bool (*HttpBodySink) (void *context, const char *bytes, size_t length);

typedef struct HttpRequest
{
	const char *method;			/* "POST", "GET", "PUT", "DELETE" */
	const char *url;
	const char *const *headers;	/* "Name: value", NULL-terminated; a secret may be in one, and is in no other place */
	bool		has_body;
	size_t		content_length;	/* of the request body */
	HttpBodySource source;
	HttpBodySink sink;			/* NULL: the body is dropped */
	void	   *context;		/* for both */
	int			connect_timeout_ms;
	int			total_timeout_ms;
	const char *plain_http_hosts;	/* comma-separated hosts that may be reached over http besides loopback, or NULL */
	const char *ca_file;		/* or NULL: the system's */
	bool		single_use;		/* a connection of its own, closed at the end: none is reused that may be dead, none stays open */
} HttpRequest;

typedef struct HttpResult
{
	TransportResult transport;
	int			status;			/* 0 when no status line came */
	char		content_type[128];
	uint64_t	bytes_sent;
	uint64_t	bytes_received;
	char		message[160];	/* libcurl's words on a failure, ASCII, without URL or headers */
} HttpResult;

/* Owned by a memory context: its reset closes every transfer, handle and descriptor. Throws only out-of-memory or out-of-descriptors. */
extern HttpClient *sparky_http_create(int max_connections);
extern int	sparky_http_descriptor(HttpClient *client);			/* the epoll descriptor, readable when there is work */
extern long sparky_http_timeout(HttpClient *client);			/* ms until drive() must be called, -1: no need */
/* The only function that calls source and sink; they call nothing of this file. */
extern void sparky_http_drive(HttpClient *client);
extern int	sparky_http_running(HttpClient *client);

/*
 * false: refusal->transport is TRANSPORT_CONNECT_FAILED when it cannot start now (no descriptor or connection is free), TRANSPORT_STOPPED
 * when the URL or a header is not allowed; its message says why.  user is given back by take.  The request's strings are copied; context is not.
 */
extern bool sparky_http_start(HttpClient *client, const HttpRequest *request, void *user, HttpTransfer **transfer, HttpResult *refusal);
/* The next finished transfer: its user pointer, or NULL. The transfer is freed. */
extern void *sparky_http_take(HttpClient *client, HttpResult *result);
/* Forget a transfer: it is never taken; source and sink are not called again after this returns. */
extern void sparky_http_cancel(HttpClient *client, HttpTransfer *transfer);

#endif
