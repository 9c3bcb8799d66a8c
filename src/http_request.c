/*
 * http_request.c: what one request may be and becomes: which URLs are allowed,
 * libcurl's options, the body both ways, and what libcurl's codes mean.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http_internal.h"

#define SPARKY_HTTP_BUFFER_BYTES	(64 * 1024L)	/* each way; measured: more saves no CPU, and each transfer holds two */
#define SPARKY_HTTP_KEEPALIVE_SECONDS 30L

static const char *check_parts(CURLU *parts, const HttpRequest *request, HttpTarget *target);
static bool is_loopback(const char *host);
static bool is_address(const char *host);
static bool in_host_list(const char *list, const char *host);
static const char *check_headers(const HttpRequest *request);
static CURLcode set_body(HttpTransfer *transfer, const HttpRequest *request);
static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address);
static int	close_socket(void *arg, curl_socket_t fd);
static int	begin_request(void *arg, char *peer, char *local, int peer_port, int local_port);
static size_t read_body(char *buffer, size_t size, size_t count, void *arg);
static size_t ask_source(HttpTransfer *transfer, char *buffer, size_t size);
static int	rewind_body(void *arg, curl_off_t offset, int origin);
static size_t write_body(char *bytes, size_t size, size_t count, void *arg);

const char *
sparky_http_check(const HttpRequest *request, HttpTarget *target)
{
	CURLU	   *parts = curl_url();
	const char *why;

	memset(target, 0, sizeof(*target));
	if (parts == NULL)
		return "out of memory";
	if (curl_url_set(parts, CURLUPART_URL, request->url, 0) != CURLUE_OK)
		why = "the URL is malformed or its scheme unknown";
	else
		why = check_parts(parts, request, target);
	curl_url_cleanup(parts);
	return why ? why : check_headers(request);
}

static const char *
check_parts(CURLU *parts, const HttpRequest *request, HttpTarget *target)
{
	char	   *scheme = NULL,
			   *host = NULL,
			   *port = NULL,
			   *user = NULL,
			   *password = NULL;
	const char *why = NULL;

	curl_url_get(parts, CURLUPART_SCHEME, &scheme, 0);
	curl_url_get(parts, CURLUPART_HOST, &host, 0);
	curl_url_get(parts, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT);
	curl_url_get(parts, CURLUPART_USER, &user, 0);
	curl_url_get(parts, CURLUPART_PASSWORD, &password, 0);
	curl_url_get(parts, CURLUPART_URL, &target->url, 0);

	if (scheme == NULL || (strcmp(scheme, "https") != 0 && strcmp(scheme, "http") != 0))
		why = "the URL is neither https nor http";
	else if (user != NULL || password != NULL)
		why = "the URL holds a user name or password";
	else if (host == NULL || port == NULL || target->url == NULL)
		why = "the URL has no host";
	else if (strlen(host) + strlen(port) + 2 > sizeof(target->name))
		why = "the URL's host name is too long";
	else
	{
		target->is_https = strcmp(scheme, "https") == 0;
		target->needs_lookup = !is_address(host) && pg_strcasecmp(host, "localhost") != 0;
		snprintf(target->name, sizeof(target->name), "%s:%s", host, port);
		for (char *c = target->name; *c != '\0'; c++)
		{
			*c = pg_ascii_tolower((unsigned char) *c);
			if ((unsigned char) *c >= 127)
				why = "the URL's host name is not ASCII";
		}
		if (!target->is_https && !is_loopback(host) && !in_host_list(request->plain_http_hosts, host))
			why = "plain http is allowed to loopback and listed hosts only";
	}
	curl_free(scheme);
	curl_free(host);
	curl_free(port);
	curl_free(user);
	curl_free(password);
	return why;
}

/* 127.0.0.0/8, [::1], and localhost, which libcurl never asks a name server for. */
static bool
is_loopback(const char *host)
{
	struct in_addr four;

	if (inet_pton(AF_INET, host, &four) == 1)
		return (ntohl(four.s_addr) >> 24) == 127;
	return strcmp(host, "[::1]") == 0 || pg_strcasecmp(host, "localhost") == 0;
}

static bool
is_address(const char *host)
{
	struct in_addr four;

	return host[0] == '[' || inet_pton(AF_INET, host, &four) == 1;
}

static bool
in_host_list(const char *list, const char *host)
{
	size_t		length = strlen(host);

	for (const char *item = list; item != NULL && *item != '\0';)
	{
		size_t		item_length;

		item += strspn(item, ", \t");
		item_length = strcspn(item, ", \t");
		if (item_length == length && pg_strncasecmp(item, host, length) == 0)
			return true;
		item += item_length;
	}
	return false;
}

/* A line break would end the header and begin another: libcurl sends it as it is. */
static const char *
check_headers(const HttpRequest *request)
{
	for (const char *const *header = request->headers; header != NULL && *header != NULL; header++)
		if (strpbrk(*header, "\r\n") != NULL)
			return "a header holds a line break";
	return NULL;
}

CURLcode
sparky_http_set_request(HttpClient *client, HttpTransfer *transfer, const HttpRequest *request, const HttpTarget *target)
{
	CURL	   *easy = transfer->easy;
	CURLcode	code = sparky_http_set_common(client, easy, target->is_https ? "https" : "http");
	bool		has_all = true;

	for (const char *const *header = request->headers; header != NULL && *header != NULL; header++)
	{
		struct curl_slist *longer = curl_slist_append(transfer->headers, *header);

		has_all = has_all && longer != NULL;
		transfer->headers = longer ? longer : transfer->headers;
	}
	if (!has_all)
		return CURLE_OUT_OF_MEMORY;

	SPARKY_HTTP_SET(CURLOPT_PRIVATE, transfer);
	SPARKY_HTTP_SET(CURLOPT_URL, target->url);
	SPARKY_HTTP_SET(CURLOPT_HTTPHEADER, transfer->headers);
	SPARKY_HTTP_SET(CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	SPARKY_HTTP_SET(CURLOPT_FOLLOWLOCATION, 0L);
	SPARKY_HTTP_SET(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	if (request->single_use)
	{
		SPARKY_HTTP_SET(CURLOPT_FRESH_CONNECT, 1L);
		SPARKY_HTTP_SET(CURLOPT_FORBID_REUSE, 1L);
	}
	if (request->ca_file != NULL)
		SPARKY_HTTP_SET(CURLOPT_CAINFO, request->ca_file);

	/*
	 * No Accept-Encoding is sent and nothing is unpacked: images do not shrink,
	 * and a small packed body can grow without bound.  A server that packs all
	 * the same gives bytes that the parser refuses.
	 */
	SPARKY_HTTP_SET(CURLOPT_HTTP_CONTENT_DECODING, 0L);
	SPARKY_HTTP_SET(CURLOPT_BUFFERSIZE, SPARKY_HTTP_BUFFER_BYTES);
	SPARKY_HTTP_SET(CURLOPT_UPLOAD_BUFFERSIZE, SPARKY_HTTP_BUFFER_BYTES);
	SPARKY_HTTP_SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SPARKY_HTTP_SET(CURLOPT_TCP_KEEPIDLE, SPARKY_HTTP_KEEPALIVE_SECONDS);
	SPARKY_HTTP_SET(CURLOPT_TCP_KEEPINTVL, SPARKY_HTTP_KEEPALIVE_SECONDS);
	SPARKY_HTTP_SET(CURLOPT_WRITEFUNCTION, write_body);
	SPARKY_HTTP_SET(CURLOPT_WRITEDATA, transfer);
	SPARKY_HTTP_SET(CURLOPT_PREREQFUNCTION, begin_request);
	SPARKY_HTTP_SET(CURLOPT_PREREQDATA, transfer);
	return code == CURLE_OK ? set_body(transfer, request) : code;
}

/* The method, and the body with a Content-Length and without "Expect: 100-continue", which costs a second where servers ignore it. */
static CURLcode
set_body(HttpTransfer *transfer, const HttpRequest *request)
{
	CURL	   *easy = transfer->easy;
	CURLcode	code = CURLE_OK;
	bool		is_post = strcmp(request->method, "POST") == 0;
	bool		is_put = strcmp(request->method, "PUT") == 0;
	struct curl_slist *longer = curl_slist_append(transfer->headers, "Expect:");

	if (longer == NULL)
		return CURLE_OUT_OF_MEMORY;
	transfer->headers = longer;
	SPARKY_HTTP_SET(CURLOPT_HTTPHEADER, transfer->headers);
	if (transfer->body_length > 0)
	{
		SPARKY_HTTP_SET(CURLOPT_READFUNCTION, read_body);
		SPARKY_HTTP_SET(CURLOPT_READDATA, transfer);
		SPARKY_HTTP_SET(CURLOPT_SEEKFUNCTION, rewind_body);
		SPARKY_HTTP_SET(CURLOPT_SEEKDATA, transfer);
	}
	if (is_put && transfer->body_length > 0)
	{
		SPARKY_HTTP_SET(CURLOPT_UPLOAD, 1L);
		SPARKY_HTTP_SET(CURLOPT_INFILESIZE_LARGE, (curl_off_t) transfer->body_length);
	}
	else if (is_post || is_put || transfer->body_length > 0)
	{
		SPARKY_HTTP_SET(CURLOPT_POST, 1L);
		SPARKY_HTTP_SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) transfer->body_length);
		if (transfer->body_length == 0)
			SPARKY_HTTP_SET(CURLOPT_POSTFIELDS, "");
		if (!is_post)
			SPARKY_HTTP_SET(CURLOPT_CUSTOMREQUEST, request->method);
	}
	else if (strcmp(request->method, "HEAD") == 0)
		SPARKY_HTTP_SET(CURLOPT_NOBODY, 1L);
	else
	{
		SPARKY_HTTP_SET(CURLOPT_HTTPGET, 1L);
		if (strcmp(request->method, "GET") != 0)
			SPARKY_HTTP_SET(CURLOPT_CUSTOMREQUEST, request->method);
	}
	return code;
}

/*
 * Names stay in libcurl's cache until a lookup of ours takes them out.  It is
 * given a time beyond ours, not for ever: from 8.14 on some versions take -1
 * for at once.
 */
CURLcode
sparky_http_set_common(HttpClient *client, CURL *easy, const char *protocol)
{
	CURLcode	code = CURLE_OK;

	SPARKY_HTTP_SET(CURLOPT_NOSIGNAL, 1L);
	SPARKY_HTTP_SET(CURLOPT_SHARE, client->share);	/* always: a handle that ran without it leaks its own sessions when it gets it */
	SPARKY_HTTP_SET(CURLOPT_PROTOCOLS_STR, protocol);
	SPARKY_HTTP_SET(CURLOPT_PROXY, "");
	SPARKY_HTTP_SET(CURLOPT_DNS_CACHE_TIMEOUT, 2 * SPARKY_HTTP_NAME_MS / 1000L);
	SPARKY_HTTP_SET(CURLOPT_OPENSOCKETFUNCTION, open_socket);
	SPARKY_HTTP_SET(CURLOPT_OPENSOCKETDATA, client);
	SPARKY_HTTP_SET(CURLOPT_CLOSESOCKETFUNCTION, close_socket);
	SPARKY_HTTP_SET(CURLOPT_CLOSESOCKETDATA, client);
	return code;
}

/*
 * The one table from libcurl's codes.  What is not in it is TRANSPORT_RESET,
 * the cautious reading: it may have arrived.
 */
TransportResult
sparky_http_transport(const HttpTransfer *transfer, CURLcode code)
{
	static const struct
	{
		CURLcode	code;
		TransportResult transport;
	}			table[] = {
		{CURLE_OK, TRANSPORT_DONE},
		{CURLE_OPERATION_TIMEDOUT, TRANSPORT_TIMEOUT},
		{CURLE_COULDNT_RESOLVE_HOST, TRANSPORT_CONNECT_FAILED},
		{CURLE_COULDNT_CONNECT, TRANSPORT_CONNECT_FAILED},
		{CURLE_SSL_CONNECT_ERROR, TRANSPORT_TLS_FAILED},
		{CURLE_PEER_FAILED_VERIFICATION, TRANSPORT_TLS_FAILED},
		{CURLE_SSL_CACERT_BADFILE, TRANSPORT_TLS_FAILED},
		{CURLE_SSL_CERTPROBLEM, TRANSPORT_TLS_FAILED},
		{CURLE_SSL_CIPHER, TRANSPORT_TLS_FAILED},
		{CURLE_SSL_ISSUER_ERROR, TRANSPORT_TLS_FAILED},
		{CURLE_SSL_CRL_BADFILE, TRANSPORT_TLS_FAILED},
		{CURLE_SSL_INVALIDCERTSTATUS, TRANSPORT_TLS_FAILED},
		{CURLE_PARTIAL_FILE, TRANSPORT_RESET},		/* 18: the body is shorter than it said */
		{CURLE_GOT_NOTHING, TRANSPORT_RESET},		/* 52 */
		{CURLE_SEND_ERROR, TRANSPORT_RESET},		/* 55 */
		{CURLE_RECV_ERROR, TRANSPORT_RESET},		/* 56 */
		{CURLE_SEND_FAIL_REWIND, TRANSPORT_RESET},	/* 65: rewind_body said no */
		{CURLE_ABORTED_BY_CALLBACK, TRANSPORT_RESET},	/* 42: begin_request said no */
		{CURLE_HTTP2, TRANSPORT_RESET},				/* 16 */
		{CURLE_HTTP2_STREAM, TRANSPORT_RESET},		/* 92 */
	};
	TransportResult transport = TRANSPORT_RESET;
	bool		may_have_arrived = transfer->body_length > 0 ? transfer->body_given > 0 : transfer->begun;

	if (transfer->stopped)
		return TRANSPORT_STOPPED;
	for (int i = 0; i < lengthof(table); i++)
		if (table[i].code == code)
			transport = table[i].transport;

	if (!transfer->begun && transport != TRANSPORT_TLS_FAILED)
		return TRANSPORT_CONNECT_FAILED;	/* whatever it was, timeouts too */
	if (may_have_arrived && (transport == TRANSPORT_CONNECT_FAILED || transport == TRANSPORT_TLS_FAILED))
		return TRANSPORT_RESET;	/* of a second connection: the first one may have brought it */
	return transport;
}

void
sparky_http_copy_ascii(char *to, size_t size, const char *from)
{
	strlcpy(to, from ? from : "", size);
	for (; *to != '\0'; to++)
		if (*to < ' ' || *to > '~')
			*to = '?';
}

/*
 * Libcurl's callbacks: plain C from here on.
 */

static curl_socket_t
open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	HttpClient *client = arg;
	int			fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);

	if (fd < 0)
		return CURL_SOCKET_BAD;
	client->sockets++;
	return fd;
}

static int
close_socket(void *arg, curl_socket_t fd)
{
	HttpClient *client = arg;

	client->sockets--;
	return close(fd);
}

/*
 * A connection stands and the request is about to go on it: for the first
 * time, or again, when libcurl found a reused connection dead.  Not again when
 * the first try may have arrived whole.  A body that was begun could not be
 * given again anyhow: sources have no way back.
 */
static int
begin_request(void *arg, char *peer, char *local, int peer_port, int local_port)
{
	HttpTransfer *transfer = arg;

	if (transfer->begun && !transfer->repeatable && (transfer->body_length == 0 || transfer->body_given > 0))
		return CURL_PREREQFUNC_ABORT;
	transfer->begun = true;
	return CURL_PREREQFUNC_OK;
}

/* Libcurl 8 fills what is left of its buffer, were it one byte: then the source fills carry instead. */
static size_t
read_body(char *buffer, size_t size, size_t count, void *arg)
{
	HttpTransfer *transfer = arg;
	uint64		left = transfer->body_length - transfer->body_given;
	size_t		room = Min((uint64) size * count, left);
	size_t		given;

	if (transfer->carry_given < transfer->carried || (room < SPARKY_HTTP_SOURCE_BYTES && room < left))
	{
		if (transfer->carry_given == transfer->carried)
		{
			transfer->carried = ask_source(transfer, transfer->carry, Min(left, SPARKY_HTTP_SOURCE_BYTES));
			transfer->carry_given = 0;
		}
		given = Min(room, transfer->carried - transfer->carry_given);
		memcpy(buffer, transfer->carry + transfer->carry_given, given);
		transfer->carry_given += given;
	}
	else
		given = room > 0 ? ask_source(transfer, buffer, room) : 0;
	transfer->body_given += given;
	return transfer->stopped ? CURL_READFUNC_ABORT : given;
}

/* 0, and stopped: shorter than its Content-Length, so that a server would wait for the rest. */
static size_t
ask_source(HttpTransfer *transfer, char *buffer, size_t size)
{
	size_t		given = transfer->source(transfer->context, buffer, size);

	transfer->stopped = given == 0 || given > size;
	return transfer->stopped ? 0 : given;
}

/* See begin_request: this one stops libcurl before it connects. */
static int
rewind_body(void *arg, curl_off_t offset, int origin)
{
	HttpTransfer *transfer = arg;

	return transfer->body_given == 0 && offset == 0 && origin == SEEK_SET ? CURL_SEEKFUNC_OK : CURL_SEEKFUNC_FAIL;
}

static size_t
write_body(char *bytes, size_t size, size_t count, void *arg)
{
	HttpTransfer *transfer = arg;
	size_t		length = size * count;

	transfer->received += length;
	if (transfer->sink == NULL || transfer->sink(transfer->context, bytes, length))
		return length;
	transfer->stopped = true;
	return CURL_WRITEFUNC_ERROR;
}
