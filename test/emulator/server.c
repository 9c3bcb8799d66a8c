/*
 * server.c: libmicrohttpd, and the life of a call (see emulator.h).
 *
 * libmicrohttpd runs one epoll thread: it only copies bytes.  Control calls are
 * answered in it at once, so that they work while everything else is held.
 */
#include <arpa/inet.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "log.h"
#include "server.h"

#define CONNECTION_LIMIT 8192
#define CONNECTION_MEMORY (128 * 1024)
#define BODY_KEPT_BYTES ((uint64_t) 100 * 1024 * 1024)
#define POOL_THREADS 2

Stats		stats;

const Service *const services[] = {&gemini_service, &paymob_service, &storage_service, NULL};
static struct MHD_Daemon *server = NULL;

static enum MHD_Result handle(void *cls, struct MHD_Connection *connection, const char *url,
							  const char *method, const char *version, const char *upload_data,
							  size_t *upload_data_size, void **con_cls);
static Call *call_begin(struct MHD_Connection *connection, const char *url, const char *method);
static enum MHD_Result call_received(Call *call);
static void call_ended(void *cls, struct MHD_Connection *connection, void **con_cls,
					   enum MHD_RequestTerminationCode code);
static void finish_work(Call *call, bool answer);
static json_t *received_event(const Call *call);
static void note_request(json_t *event, const Request *request);
static void not_found(Reply *reply);
static void log_ended(const Call *call, bool answered);

static void
quiet(void *cls, const char *format, va_list args)
{
	(void) cls;
	(void) format;
	(void) args;
}

int
server_start(const ServerOptions *options)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t) options->port)};
	unsigned	flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
	const union MHD_DaemonInfo *info;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	sched_start(POOL_THREADS);
	if (options->tls_cert != NULL)
		server = MHD_start_daemon(flags | MHD_USE_TLS, 0, NULL, NULL, handle, NULL,
								  MHD_OPTION_EXTERNAL_LOGGER, quiet, NULL,
								  MHD_OPTION_SOCK_ADDR, &address,
								  MHD_OPTION_NOTIFY_COMPLETED, call_ended, NULL,
								  MHD_OPTION_CONNECTION_LIMIT, (unsigned) CONNECTION_LIMIT,
								  MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t) CONNECTION_MEMORY,
								  MHD_OPTION_LISTEN_BACKLOG_SIZE, 4096u,
								  MHD_OPTION_HTTPS_MEM_CERT, options->tls_cert,
								  MHD_OPTION_HTTPS_MEM_KEY, options->tls_key,
								  MHD_OPTION_END);
	else
		server = MHD_start_daemon(flags, 0, NULL, NULL, handle, NULL,
								  MHD_OPTION_EXTERNAL_LOGGER, quiet, NULL,
								  MHD_OPTION_SOCK_ADDR, &address,
								  MHD_OPTION_NOTIFY_COMPLETED, call_ended, NULL,
								  MHD_OPTION_CONNECTION_LIMIT, (unsigned) CONNECTION_LIMIT,
								  MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t) CONNECTION_MEMORY,
								  MHD_OPTION_LISTEN_BACKLOG_SIZE, 4096u,
								  MHD_OPTION_END);
	if (server == NULL)
		return -1;
	info = MHD_get_daemon_info(server, MHD_DAEMON_INFO_BIND_PORT);
	return info != NULL ? info->port : -1;
}

void
server_stop(void)
{
	sched_stop();
	if (server != NULL)
		MHD_stop_daemon(server);
}

static enum MHD_Result
handle(void *cls, struct MHD_Connection *connection, const char *url, const char *method,
	   const char *version, const char *upload_data, size_t *upload_data_size, void **con_cls)
{
	Call	   *call = *con_cls;

	(void) cls;
	(void) version;
	if (call == NULL)
	{
		*con_cls = call_begin(connection, url, method);
		return MHD_YES;
	}
	if (*upload_data_size > 0)
	{
		call->request.body_length += *upload_data_size;
		if (call->request.body_length <= BODY_KEPT_BYTES)
			buf_add(&call->request.body, upload_data, *upload_data_size);
		*upload_data_size = 0;
		return MHD_YES;
	}
	if (call->state == CALL_READING)
		return call_received(call);
	return deliver(call);
}

static enum MHD_Result
add_pair(void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
	(void) kind;
	pairs_add(cls, name, value ? value : "");
	return MHD_YES;
}

static Call *
call_begin(struct MHD_Connection *connection, const char *url, const char *method)
{
	Call	   *call = xalloc(sizeof *call);
	const char *length;

	call->connection = connection;
	call->fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
	call->request.method = xstrdup(method);
	call->request.path = xstrdup(url);
	MHD_get_connection_values(connection, MHD_GET_ARGUMENT_KIND, add_pair, &call->request.query);
	MHD_get_connection_values(connection, MHD_HEADER_KIND, add_pair, &call->request.headers);
	call->reply.delay_ms = -1;
	call->reply.status = 200;

	/* One allocation for a body whose length is told. */
	length = pairs_get(&call->request.headers, "content-length");
	if (length != NULL && strtoull(length, NULL, 10) <= BODY_KEPT_BYTES)
		buf_reserve(&call->request.body, (size_t) strtoull(length, NULL, 10));
	return call;
}

/* The whole request is here: to the pool with it. */
static enum MHD_Result
call_received(Call *call)
{
	Request    *request = &call->request;
	unsigned long now_in_flight;
	unsigned long seen;

	if (strncmp(request->path, "/_control/", 10) == 0)
	{
		call->state = CALL_DELIVERING;
		return control_answer(call->connection, request);
	}

	request->arrived = clock_us();
	request->n = ++stats.numbered;
	now_in_flight = ++stats.in_flight;
	seen = stats.max_in_flight;
	while (now_in_flight > seen &&
		   !atomic_compare_exchange_weak(&stats.max_in_flight, &seen, now_in_flight))
		;
	call->state = CALL_WORKING;
	return sched_work(call) ? MHD_YES : MHD_NO;
}

/* The received line is in the log before any byte of an answer can leave. */
void
server_work(Call *call, bool answer)
{
	json_t	   *event;
	void	   *state;

	if (call->prepared != NULL)
	{
		finish_work(call, answer);
		return;
	}
	event = received_event(call);
	for (size_t i = 0; services[i] != NULL && call->service == NULL; i++)
		if (services[i]->owns(&call->request))
			call->service = services[i];
	if (call->service == NULL)
	{
		log_event(event);
		not_found(&call->reply);
	}
	else
	{
		json_object_set_new(event, "service", json_string(call->service->name));
		state = call->service->read(&call->request, event);
		log_event(event);
		if (answer && call->service->prepare != NULL)
		{
			call->service->prepare(state, &call->request, &call->reply);
			call->prepared = state;
		}
		else
		{
			if (answer)
				call->service->answer(state, &call->request, &call->reply);
			call->service->done(state);
		}
	}
	if (call->prepared == NULL)
		buf_free(&call->request.body);
	call->due = call->request.arrived +
		(int64_t) (call->reply.delay_ms >= 0 ? call->reply.delay_ms : settings.latency_ms) * 1000;
}

/* The call's time has come: do what it asks for. */
static void
finish_work(Call *call, bool answer)
{
	if (answer)
		call->service->answer(call->prepared, &call->request, &call->reply);
	call->service->done(call->prepared);
	call->prepared = NULL;
	call->state = CALL_READY;
	buf_free(&call->request.body);
	call->due = clock_us();
}

static json_t *
received_event(const Call *call)
{
	json_t	   *event = json_object();

	json_object_set_new(event, "event", json_string("received"));
	json_object_set_new(event, "n", json_integer((json_int_t) call->request.n));
	json_object_set_new(event, "time", json_real(log_now()));
	note_request(event, &call->request);
	return event;
}

/* Names of headers and query parameters, but never their values: keys are among them. */
static void
note_request(json_t *event, const Request *request)
{
	json_t	   *headers = json_array();
	json_t	   *query = json_array();
	const char *timeout = pairs_get(&request->headers, "x-server-timeout");
	char		hex[65];

	json_object_set_new(event, "method", log_text(request->method, strlen(request->method)));
	json_object_set_new(event, "path", log_text(request->path, strlen(request->path)));
	for (size_t i = 0; i < request->query.count; i++)
		json_array_append_new(query, log_text(request->query.items[i].name, strlen(request->query.items[i].name)));
	json_object_set_new(event, "query", query);
	for (size_t i = 0; i < request->headers.count; i++)
		json_array_append_new(headers, log_text(request->headers.items[i].name, strlen(request->headers.items[i].name)));
	json_object_set_new(event, "headers", headers);
	if (timeout != NULL)
		json_object_set_new(event, "server_timeout", log_text(timeout, strlen(timeout)));
	json_object_set_new(event, "body_bytes", json_integer((json_int_t) request->body_length));
	sha256_hex(request->body.data, request->body.len, hex);
	json_object_set_new(event, "body_sha256", json_string(hex));
}

static void
not_found(Reply *reply)
{
	static const char page[] =
		"<!DOCTYPE html>\n<html lang=en>\n<title>Error 404 (Not Found)!!1</title>\n"
		"<p><b>404.</b> <ins>That's an error.</ins>\n<p>The requested URL was not found on this server.\n";

	reply->status = 404;
	reply->refused = xstrdup("no such address");
	pairs_add(&reply->headers, "Content-Type", "text/html; charset=UTF-8");
	buf_puts(&reply->body, page);
}

static void
call_ended(void *cls, struct MHD_Connection *connection, void **con_cls, enum MHD_RequestTerminationCode code)
{
	Call	   *call = *con_cls;
	bool		answered = code == MHD_REQUEST_TERMINATED_COMPLETED_OK;

	(void) cls;
	(void) connection;
	if (call == NULL)
		return;
	*con_cls = NULL;
	if (call->request.n > 0)
	{
		log_ended(call, answered);
		if (answered)
			stats.answered++;
		else
			stats.aborted++;
		stats.in_flight--;
	}
	else if (call->state == CALL_READING && !answered)
	{
		json_t	   *event = json_object();

		json_object_set_new(event, "event", json_string("upload_cut"));
		json_object_set_new(event, "time", json_real(log_now()));
		json_object_set_new(event, "path", log_text(call->request.path, strlen(call->request.path)));
		json_object_set_new(event, "body_bytes", json_integer((json_int_t) call->request.body_length));
		log_event(event);
	}
	if (call->prepared != NULL)
		call->service->done(call->prepared);
	free(call->request.method);
	free(call->request.path);
	pairs_free(&call->request.query);
	pairs_free(&call->request.headers);
	buf_free(&call->request.body);
	pairs_free(&call->reply.headers);
	buf_free(&call->reply.body);
	free(call->reply.refused);
	free(call);
}

static void
log_ended(const Call *call, bool answered)
{
	json_t	   *event = json_object();
	const Reply *reply = &call->reply;

	json_object_set_new(event, "event", json_string(answered ? "answered" : "aborted"));
	json_object_set_new(event, "n", json_integer((json_int_t) call->request.n));
	json_object_set_new(event, "time", json_real(log_now()));
	json_object_set_new(event, "status", json_integer(reply->status));
	json_object_set_new(event, "fault", reply->fault ? json_string(reply->fault) : json_null());
	if (reply->refused != NULL)
		json_object_set_new(event, "refused", log_text(reply->refused, strlen(reply->refused)));
	if (!answered)
		json_object_set_new(event, "by", json_string(!call->gone && reply->delivery >= DELIVER_SHORT ? "emulator" : "client"));
	json_object_set_new(event, "ms", json_real((double) (clock_us() - call->request.arrived) / 1000));
	log_event(event);
}

int64_t
clock_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void
pairs_add(Pairs *pairs, const char *name, const char *value)
{
	pairs->items = realloc(pairs->items, (pairs->count + 1) * sizeof *pairs->items);
	if (pairs->items == NULL)
		abort();
	pairs->items[pairs->count].name = xstrdup(name);
	pairs->items[pairs->count].value = xstrdup(value);
	pairs->count++;
}

const char *
pairs_get(const Pairs *pairs, const char *name)
{
	for (size_t i = 0; i < pairs->count; i++)
		if (strcasecmp(pairs->items[i].name, name) == 0)
			return pairs->items[i].value;
	return NULL;
}

void
pairs_free(Pairs *pairs)
{
	for (size_t i = 0; i < pairs->count; i++)
	{
		free(pairs->items[i].name);
		free(pairs->items[i].value);
	}
	free(pairs->items);
	memset(pairs, 0, sizeof *pairs);
}
