/*
 * http_internal.h: what http.c and http_request.c share; the only include of
 * libcurl.  Nobody else includes this file.
 */
#ifndef SPARKY_HTTP_INTERNAL_H
#define SPARKY_HTTP_INTERNAL_H

#include <curl/curl.h>

#include "lib/ilist.h"

#include "http.h"

#if LIBCURL_VERSION_NUM < 0x075800
#error "sparky needs libcurl 7.88 or later"
#endif

/* A looked-up name is believed for so long. */
#define SPARKY_HTTP_NAME_MS (3600 * 1000)

/* Sets an option of the handle `easy`, unless an earlier one failed. */
#define SPARKY_HTTP_SET(option, value) \
	do { if (code == CURLE_OK) code = curl_easy_setopt(easy, option, value); } while (0)

/* One name and port that needs a lookup. Hosts come from settings, so they are few, and live as long as the client. */
typedef struct HttpHost
{
	dlist_node	link;
	CURL	   *lookup;			/* the lookup under way, or NULL */
	struct curl_slist *forget;	/* "-name:port": takes the old address out of the cache first */
	bool		resolved;		/* said by the lookup's callback */
	bool		known;			/* the cache holds an address */
	int64		known_at;		/* ms, of the last lookup's end */
	char		name[];			/* "name:port", lower case */
} HttpHost;

typedef enum TransferState
{
	TRANSFER_WAITING,			/* for its host's lookup */
	TRANSFER_ACTIVE,			/* in the multi handle */
	TRANSFER_FINISHED			/* to be taken; the easy handle is gone */
} TransferState;

struct HttpTransfer
{
	dlist_node	link;			/* in the list of its state */
	TransferState state;
	void	   *user;
	HttpHost   *host;			/* NULL: an address or localhost, no lookup */
	CURL	   *easy;
	struct curl_slist *headers;
	HttpBodySource source;
	HttpBodySink sink;
	void	   *context;
	uint64		body_length;
	uint64		body_given;		/* bytes that libcurl took from source; the server may have them */
	uint64		received;
	char		carry[SPARKY_HTTP_SOURCE_BYTES];	/* from source, for a libcurl with little room */
	size_t		carried;
	size_t		carry_given;
	int64		started_at;		/* ms */
	int			connect_timeout_ms;
	int			total_timeout_ms;
	bool		repeatable;		/* GET, HEAD, DELETE without a body */
	bool		begun;			/* a connection stood, and the request was put on it */
	bool		stopped;		/* by sink, or by a source that ended early */
	HttpResult	result;
};

struct HttpClient
{
	MemoryContextCallback reset;
	CURLM	   *multi;
	CURLSH	   *share;			/* TLS sessions, so that a new connection resumes an old one's */
	int			epoll;			/* -1: none */
	int			max_connections;
	int			running;		/* waiting and active */
	int			sockets;		/* open in libcurl, idle ones too */
	int			descriptors;	/* told to fd.c */
	int64		deadline;		/* libcurl's timer in ms, -1: none */
	CURL	  **spare;			/* easy handles to use again */
	int			spare_count;
	dlist_head	hosts;
	dlist_head	waiting;
	dlist_head	active;
	dlist_head	finished;
};

/* What was parsed out of a URL that is allowed. */
typedef struct HttpTarget
{
	char	   *url;			/* curl_free */
	bool		is_https;
	bool		needs_lookup;
	char		name[300];		/* "name:port" */
} HttpTarget;

/* NULL, and the target filled; or why the request is refused. target->url is to be freed with curl_free in both cases. */
extern const char *sparky_http_check(const HttpRequest *request, HttpTarget *target);
/* Everything but the timeouts, which launching sets. */
extern CURLcode sparky_http_set_request(HttpClient *client, HttpTransfer *transfer, const HttpRequest *request, const HttpTarget *target);
/* What transfers and lookups have in common. */
extern CURLcode sparky_http_set_common(HttpClient *client, CURL *easy, const char *protocol);
extern TransportResult sparky_http_transport(const HttpTransfer *transfer, CURLcode code);
extern void sparky_http_copy_ascii(char *to, size_t size, const char *from);

#endif
