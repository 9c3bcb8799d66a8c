/*
 * http.c: many HTTP transfers in one process.  Libcurl is known here and in
 * http_request.c, which says what a single request may be and do.
 *
 * Waiting.  Nothing here waits.  Libcurl's sockets hang on one epoll
 * descriptor, its timer is one noted deadline, and sparky_http_drive() does
 * what is due and returns.  Finished transfers are collected in the same call,
 * so that the caller can settle and refill before it waits again.
 *
 * Owners.  The client lies in a memory context whose reset callback, registered
 * before the first handle exists, closes everything.  All the rest is malloc'd
 * and hangs on the client's lists, because libcurl's callbacks may neither
 * palloc nor ereport.
 *
 * Names.  A transfer whose name is not in libcurl's cache would start a thread,
 * and removing it in mid-lookup (a cancel, its timeout) would block the whole
 * loop until that thread ends.  So transfers never look up names: one handle
 * for each host does, without a body, a key or a timeout, and breaks off as
 * soon as the name is in the cache; the transfers wait for it in a list of
 * ours, where forgetting one costs nothing.
 *
 * Paid requests are never repeated behind the caller's back.  Libcurl repeats a
 * request when a reused connection dies without an answer.  That is allowed
 * only while the server cannot have the whole request: as long as no byte of
 * the body was handed out, or for methods that may be repeated.  Else the
 * result is TRANSPORT_RESET, and the caller, who records calls, decides.
 * CONNECT_FAILED and TLS_FAILED are therefore promises: no server got it.
 *
 * Secrets.  A key is in a header, and headers are in no message: messages are
 * curl_easy_strerror()'s fixed words.  No CURLOPT_VERBOSE, no redirects (they
 * carry headers to other hosts), no proxies from the environment.
 */
#include "postgres.h"

#include <signal.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "storage/fd.h"

#include "http_internal.h"

#define SPARKY_HTTP_NAME_RETRY_MS	(10 * 1000)		/* a name whose host was not reached is believed for so long */
#define SPARKY_HTTP_ROUNDS			8	/* rounds of one drive(): the caller's latch is never far */
#define SPARKY_HTTP_EVENTS			64	/* events of one round */
#define SPARKY_HTTP_OWN_DESCRIPTORS 3	/* epoll, and libcurl's own pair for waking a multi handle */
#define SPARKY_HTTP_LOOKUPS			16	/* connections that libcurl counts for lookups, beside the transfers */

static bool set_up_libcurl(HttpClient *client);
static void close_client(void *arg);
static bool refuse(HttpResult *refusal, TransportResult transport, const char *message);
static HttpTransfer *new_transfer(HttpClient *client, const HttpRequest *request, const HttpTarget *target);
static bool begin(HttpClient *client, HttpTransfer *transfer);
static HttpHost *find_host(HttpClient *client, const char *name);
static bool start_lookup(HttpClient *client, HttpHost *host);
static void end_lookup(HttpClient *client, HttpHost *host, CURLcode code);
static bool launch(HttpClient *client, HttpTransfer *transfer);
static int	serve_events(HttpClient *client);
static void collect_finished(HttpClient *client);
static void expire_waiting(HttpClient *client);
static int64 waiting_deadline(const HttpTransfer *transfer);
static void finish(HttpClient *client, HttpTransfer *transfer, CURLcode code);
static void free_transfer(HttpClient *client, HttpTransfer *transfer);
static CURL *take_easy(HttpClient *client);
static void give_easy(HttpClient *client, CURL *easy);
static void balance_descriptors(HttpClient *client);
static int64 now_ms(void);
static int	watch_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known);
static int	note_timer(CURLM *multi, long timeout_ms, void *arg);
static int	name_resolved(void *arg, curl_socket_t fd, curlsocktype purpose);

/*
 * A client in CurrentMemoryContext.  Throws when memory or descriptors are out.
 */
HttpClient *
sparky_http_create(int max_connections)
{
	static bool initialized = false;
	HttpClient *client;

	if (!initialized && curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		ereport(ERROR, (errcode(ERRCODE_SYSTEM_ERROR), errmsg("could not initialize libcurl")));
	initialized = true;

	/* The order is crucial: the owner and its callback first, then what it owns. */
	client = palloc0(sizeof(HttpClient));
	client->epoll = -1;
	client->deadline = -1;
	client->max_connections = max_connections;
	dlist_init(&client->hosts);
	dlist_init(&client->waiting);
	dlist_init(&client->active);
	dlist_init(&client->finished);
	client->reset.func = close_client;
	client->reset.arg = client;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &client->reset);

	client->spare = palloc0(max_connections * sizeof(CURL *));
	if (!AcquireExternalFD())
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES), errmsg("too many open files: no descriptor for HTTP transfers")));
	client->descriptors = 1;
	client->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (client->epoll < 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not create an epoll descriptor: %m")));
	if (!set_up_libcurl(client))
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not set up libcurl")));
	balance_descriptors(client);
	return client;
}

static bool
set_up_libcurl(HttpClient *client)
{
	client->multi = curl_multi_init();
	client->share = curl_share_init();
	return client->multi != NULL && client->share != NULL &&
		curl_share_setopt(client->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION) == CURLSHE_OK &&
		curl_multi_setopt(client->multi, CURLMOPT_SOCKETFUNCTION, watch_socket) == CURLM_OK &&
		curl_multi_setopt(client->multi, CURLMOPT_SOCKETDATA, client) == CURLM_OK &&
		curl_multi_setopt(client->multi, CURLMOPT_TIMERFUNCTION, note_timer) == CURLM_OK &&
		curl_multi_setopt(client->multi, CURLMOPT_TIMERDATA, client) == CURLM_OK &&
		curl_multi_setopt(client->multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING) == CURLM_OK &&
		curl_multi_setopt(client->multi, CURLMOPT_MAXCONNECTS, (long) client->max_connections) == CURLM_OK &&
		curl_multi_setopt(client->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long) client->max_connections + SPARKY_HTTP_LOOKUPS) == CURLM_OK;
}

int
sparky_http_descriptor(HttpClient *client)
{
	return client->epoll;
}

long
sparky_http_timeout(HttpClient *client)
{
	int64		deadline = client->deadline;
	int64		now;
	dlist_iter	iter;

	if (!dlist_is_empty(&client->finished))
		return 0;
	dlist_foreach(iter, &client->waiting)
	{
		int64		other = waiting_deadline(dlist_container(HttpTransfer, link, iter.cur));

		if (deadline < 0 || other < deadline)
			deadline = other;
	}
	if (deadline < 0)
		return -1;
	now = now_ms();
	return deadline > now ? (long) (deadline - now) : 0;
}

/*
 * Do what is due.  Callbacks run in here and nowhere else.
 *
 * Signals are blocked, because the thread of a lookup inherits the mask, and
 * PostgreSQL's handlers must not run in a thread.
 */
void
sparky_http_drive(HttpClient *client)
{
	sigset_t	all,
				before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	for (int round = 0; round < SPARKY_HTTP_ROUNDS; round++)
	{
		int			events = serve_events(client);

		collect_finished(client);
		expire_waiting(client);
		if (events == 0 && (client->deadline < 0 || client->deadline > now_ms()))
			break;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	balance_descriptors(client);
}

int
sparky_http_running(HttpClient *client)
{
	return client->running;
}

bool
sparky_http_start(HttpClient *client, const HttpRequest *request, void *user, HttpTransfer **started, HttpResult *refusal)
{
	HttpTransfer *transfer;
	HttpTarget		target;
	const char *why;

	*started = NULL;
	if ((why = sparky_http_check(request, &target)) != NULL)
	{
		curl_free(target.url);
		return refuse(refusal, TRANSPORT_STOPPED, why);
	}
	if (client->running >= client->max_connections)
		why = "too many transfers at once";
	else if (client->descriptors < SPARKY_HTTP_OWN_DESCRIPTORS + client->running + 1)
	{
		if (AcquireExternalFD())
			client->descriptors++;
		else
			why = "no file descriptor is free";
	}
	transfer = why == NULL ? new_transfer(client, request, &target) : NULL;
	curl_free(target.url);
	if (transfer == NULL)
		return refuse(refusal, TRANSPORT_CONNECT_FAILED, why ? why : "out of memory");

	transfer->user = user;
	transfer->state = TRANSFER_WAITING;
	dlist_push_tail(&client->waiting, &transfer->link);
	client->running++;
	if (!begin(client, transfer))
	{
		free_transfer(client, transfer);
		return refuse(refusal, TRANSPORT_CONNECT_FAILED, "out of memory");
	}
	*started = transfer;
	return true;
}

void *
sparky_http_take(HttpClient *client, HttpResult *result)
{
	HttpTransfer *transfer;
	void	   *user;

	if (dlist_is_empty(&client->finished))
		return NULL;
	transfer = dlist_head_element(HttpTransfer, link, &client->finished);
	*result = transfer->result;
	user = transfer->user;
	free_transfer(client, transfer);
	return user;
}

void
sparky_http_cancel(HttpClient *client, HttpTransfer *transfer)
{
	free_transfer(client, transfer);
	balance_descriptors(client);
}

/*
 * The memory context goes.  Only here may a lookup be removed under way, which
 * blocks until its thread ends: a worker that leaves does not reset contexts.
 */
static void
close_client(void *arg)
{
	HttpClient *client = arg;
	dlist_head *lists[] = {&client->waiting, &client->active, &client->finished};
	dlist_mutable_iter iter;

	for (int i = 0; i < lengthof(lists); i++)
		dlist_foreach_modify(iter, lists[i])
			free_transfer(client, dlist_container(HttpTransfer, link, iter.cur));
	dlist_foreach_modify(iter, &client->hosts)
	{
		HttpHost   *host = dlist_container(HttpHost, link, iter.cur);

		if (host->lookup != NULL)
			give_easy(client, host->lookup);
		curl_slist_free_all(host->forget);
		free(host);
	}
	while (client->spare_count > 0)
		curl_easy_cleanup(client->spare[--client->spare_count]);
	curl_multi_cleanup(client->multi);
	curl_share_cleanup(client->share);
	if (client->epoll >= 0)
		close(client->epoll);
	for (; client->descriptors > 0; client->descriptors--)
		ReleaseExternalFD();
}

static bool
refuse(HttpResult *refusal, TransportResult transport, const char *message)
{
	memset(refusal, 0, sizeof(*refusal));
	refusal->transport = transport;
	sparky_http_copy_ascii(refusal->message, sizeof(refusal->message), message);
	return false;
}

/* A transfer with its easy handle ready, in no list yet. NULL: out of memory. */
static HttpTransfer *
new_transfer(HttpClient *client, const HttpRequest *request, const HttpTarget *target)
{
	HttpTransfer *transfer = calloc(1, sizeof(HttpTransfer));

	if (transfer == NULL)
		return NULL;
	transfer->source = request->source;
	transfer->sink = request->sink;
	transfer->context = request->context;
	transfer->body_length = request->has_body ? request->content_length : 0;
	transfer->started_at = now_ms();
	transfer->connect_timeout_ms = request->connect_timeout_ms;
	transfer->total_timeout_ms = request->total_timeout_ms;
	transfer->repeatable = transfer->body_length == 0 &&
		(strcmp(request->method, "GET") == 0 || strcmp(request->method, "HEAD") == 0 || strcmp(request->method, "DELETE") == 0);
	transfer->easy = take_easy(client);
	if (target->needs_lookup)
		transfer->host = find_host(client, target->name);
	if (transfer->easy == NULL || (target->needs_lookup && transfer->host == NULL) ||
		sparky_http_set_request(client, transfer, request, target) != CURLE_OK)
	{
		curl_slist_free_all(transfer->headers);
		give_easy(client, transfer->easy);
		free(transfer);
		return NULL;
	}
	return transfer;
}

/* Off it goes, or it waits for its host's lookup. false: out of memory. */
static bool
begin(HttpClient *client, HttpTransfer *transfer)
{
	HttpHost	   *host = transfer->host;

	if (host != NULL && !start_lookup(client, host))
		return false;
	return host != NULL && host->lookup != NULL ? true : launch(client, transfer);
}

static HttpHost *
find_host(HttpClient *client, const char *name)
{
	dlist_iter	iter;
	HttpHost	   *host;
	char		forget[sizeof(((HttpTarget *) 0)->name) + 1];

	dlist_foreach(iter, &client->hosts)
	{
		host = dlist_container(HttpHost, link, iter.cur);
		if (strcmp(host->name, name) == 0)
			return host;
	}
	snprintf(forget, sizeof(forget), "-%s", name);
	host = calloc(1, offsetof(HttpHost, name) + strlen(name) + 1);
	if (host == NULL || (host->forget = curl_slist_append(NULL, forget)) == NULL)
	{
		free(host);
		return NULL;
	}
	memcpy(host->name, name, strlen(name) + 1);
	dlist_push_tail(&client->hosts, &host->link);
	return host;
}

/*
 * Start the host's lookup unless its address is known or one is under way.
 * false: out of memory.  Afterwards host->lookup says whether to wait.
 */
static bool
start_lookup(HttpClient *client, HttpHost *host)
{
	CURL	   *easy;
	CURLcode	code;
	char		url[sizeof(((HttpTarget *) 0)->name) + 16];

	if (host->lookup != NULL || (host->known && now_ms() - host->known_at < SPARKY_HTTP_NAME_MS))
		return true;
	easy = take_easy(client);
	if (easy == NULL)
		return false;
	snprintf(url, sizeof(url), "http://%s/", host->name);
	code = sparky_http_set_common(client, easy, "http");
	SPARKY_HTTP_SET(CURLOPT_URL, url);
	SPARKY_HTTP_SET(CURLOPT_RESOLVE, host->forget);
	SPARKY_HTTP_SET(CURLOPT_CONNECT_ONLY, 1L);
	SPARKY_HTTP_SET(CURLOPT_FRESH_CONNECT, 1L);
	SPARKY_HTTP_SET(CURLOPT_CONNECTTIMEOUT_MS, (long) SPARKY_HTTP_NAME_MS);	/* the transfers' timeouts count, not the lookup's */
	SPARKY_HTTP_SET(CURLOPT_SOCKOPTFUNCTION, name_resolved);
	SPARKY_HTTP_SET(CURLOPT_SOCKOPTDATA, host);
	if (code != CURLE_OK || curl_multi_add_handle(client->multi, easy) != CURLM_OK)
	{
		give_easy(client, easy);
		return false;
	}
	host->lookup = easy;
	host->resolved = false;
	return true;
}

/* Those who waited for a failed lookup share its failure: asked at once again, the name server would tell each the same. */
static void
end_lookup(HttpClient *client, HttpHost *host, CURLcode code)
{
	dlist_mutable_iter iter;

	give_easy(client, host->lookup);
	host->lookup = NULL;
	host->known = host->resolved;
	host->known_at = now_ms();
	dlist_foreach_modify(iter, &client->waiting)
	{
		HttpTransfer *transfer = dlist_container(HttpTransfer, link, iter.cur);

		if (transfer->host != host)
			continue;
		if (!host->known)
			finish(client, transfer, code);
		else if (!launch(client, transfer))
			finish(client, transfer, CURLE_OUT_OF_MEMORY);
	}
}

/* Give a waiting transfer to libcurl, with the time it has left. */
static bool
launch(HttpClient *client, HttpTransfer *transfer)
{
	CURL	   *easy = transfer->easy;
	CURLcode	code = CURLE_OK;
	long		waited = (long) (now_ms() - transfer->started_at);

	SPARKY_HTTP_SET(CURLOPT_CONNECTTIMEOUT_MS, Max(1L, transfer->connect_timeout_ms - waited));
	SPARKY_HTTP_SET(CURLOPT_TIMEOUT_MS, Max(1L, transfer->total_timeout_ms - waited));
	if (code != CURLE_OK || curl_multi_add_handle(client->multi, easy) != CURLM_OK)
		return false;
	dlist_delete(&transfer->link);
	dlist_push_tail(&client->active, &transfer->link);
	transfer->state = TRANSFER_ACTIVE;
	return true;
}

/*
 * One round: the sockets that are ready, and the timer.  Returns the number of
 * events.  The deadline stays as it is until libcurl names another: libcurl
 * does not repeat a timer that it believes is still set.
 */
static int
serve_events(HttpClient *client)
{
	struct epoll_event events[SPARKY_HTTP_EVENTS];
	int			running;
	int			count = epoll_wait(client->epoll, events, SPARKY_HTTP_EVENTS, 0);

	for (int i = 0; i < count; i++)
	{
		int			what = 0;

		if (events[i].events & EPOLLIN)
			what |= CURL_CSELECT_IN;
		if (events[i].events & EPOLLOUT)
			what |= CURL_CSELECT_OUT;
		if (events[i].events & (EPOLLERR | EPOLLHUP))
			what |= CURL_CSELECT_ERR;
		curl_multi_socket_action(client->multi, events[i].data.fd, what, &running);
	}
	if (client->deadline >= 0 && client->deadline <= now_ms())
		curl_multi_socket_action(client->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	return Max(count, 0);
}

static void
collect_finished(HttpClient *client)
{
	CURLMsg    *message;
	int			left;

	while ((message = curl_multi_info_read(client->multi, &left)) != NULL)
	{
		CURL	   *easy = message->easy_handle;
		CURLcode	code = message->data.result;
		HttpTransfer *transfer = NULL;
		dlist_iter	iter;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(easy, CURLINFO_PRIVATE, &transfer);
		if (transfer != NULL)
		{
			finish(client, transfer, code);
			continue;
		}
		dlist_foreach(iter, &client->hosts)
		{
			HttpHost	   *host = dlist_container(HttpHost, link, iter.cur);

			if (host->lookup == easy)
			{
				end_lookup(client, host, code);
				break;
			}
		}
	}
}

/* A slow lookup goes on, for those who come later; its transfers do not wait longer than they would for a connection. */
static void
expire_waiting(HttpClient *client)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &client->waiting)
	{
		HttpTransfer *transfer = dlist_container(HttpTransfer, link, iter.cur);

		if (waiting_deadline(transfer) <= now_ms())
			finish(client, transfer, CURLE_OPERATION_TIMEDOUT);
	}
}

static int64
waiting_deadline(const HttpTransfer *transfer)
{
	return transfer->started_at + Min(transfer->connect_timeout_ms, transfer->total_timeout_ms);
}

/* The result is known: give the handle back and keep the result for take. */
static void
finish(HttpClient *client, HttpTransfer *transfer, CURLcode code)
{
	HttpResult *result = &transfer->result;
	long		status = 0;
	curl_off_t	sent = 0;
	char	   *type = NULL;

	curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(transfer->easy, CURLINFO_SIZE_UPLOAD_T, &sent);
	curl_easy_getinfo(transfer->easy, CURLINFO_CONTENT_TYPE, &type);
	result->transport = sparky_http_transport(transfer, code);
	result->status = status >= 200 ? (int) status : 0;	/* 1xx is not the answer */
	result->bytes_sent = sent;
	result->bytes_received = transfer->received;
	sparky_http_copy_ascii(result->content_type, sizeof(result->content_type), type);
	sparky_http_copy_ascii(result->message, sizeof(result->message), code == CURLE_OK ? "" : curl_easy_strerror(code));

	/* Perhaps the host moved: the next transfer asks again, but not in a storm. */
	if (result->transport == TRANSPORT_CONNECT_FAILED && transfer->host != NULL &&
		now_ms() - transfer->host->known_at > SPARKY_HTTP_NAME_RETRY_MS)
		transfer->host->known = false;

	give_easy(client, transfer->easy);
	transfer->easy = NULL;
	curl_slist_free_all(transfer->headers);
	transfer->headers = NULL;
	dlist_delete(&transfer->link);
	dlist_push_tail(&client->finished, &transfer->link);
	transfer->state = TRANSFER_FINISHED;
	client->running--;
}

/* Whatever its state. Removing an active one closes its connection; it never blocks, as no transfer is in a lookup. */
static void
free_transfer(HttpClient *client, HttpTransfer *transfer)
{
	if (transfer->state != TRANSFER_FINISHED)
		client->running--;
	dlist_delete(&transfer->link);
	give_easy(client, transfer->easy);
	curl_slist_free_all(transfer->headers);
	free(transfer);
}

/* Used handles are kept, because a new one costs more than a reset. NULL: out of memory. */
static CURL *
take_easy(HttpClient *client)
{
	return client->spare_count > 0 ? client->spare[--client->spare_count] : curl_easy_init();
}

/* NULL is fine. A handle that is not in the multi handle is fine too. */
static void
give_easy(HttpClient *client, CURL *easy)
{
	if (easy == NULL)
		return;
	curl_multi_remove_handle(client->multi, easy);
	curl_easy_reset(easy);
	if (client->spare_count < client->max_connections)
		client->spare[client->spare_count++] = easy;
	else
		curl_easy_cleanup(easy);
}

/*
 * Tell fd.c what is really open.  Idle connections hold descriptors too, so
 * counting transfers alone would promise PostgreSQL files that it cannot open.
 */
static void
balance_descriptors(HttpClient *client)
{
	int			wanted = SPARKY_HTTP_OWN_DESCRIPTORS + Max(client->sockets, client->running);

	for (; client->descriptors < wanted; client->descriptors++)
		ReserveExternalFD();
	for (; client->descriptors > wanted; client->descriptors--)
		ReleaseExternalFD();
}

static int64
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/*
 * Libcurl's callbacks: plain C from here on.
 */

/* A socket that the kernel does not let us watch (it is out of memory) is left to its transfer's timeout. */
static int
watch_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
	HttpClient *client = arg;
	struct epoll_event event = {.data.fd = fd};

	if (what == CURL_POLL_REMOVE)
	{
		epoll_ctl(client->epoll, EPOLL_CTL_DEL, fd, NULL);
		return 0;
	}
	event.events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
	if (epoll_ctl(client->epoll, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) == 0 && known == NULL)
		curl_multi_assign(client->multi, fd, client);
	return 0;
}

static int
note_timer(CURLM *multi, long timeout_ms, void *arg)
{
	HttpClient *client = arg;

	client->deadline = timeout_ms < 0 ? -1 : now_ms() + timeout_ms;
	return 0;
}

/* Of a lookup: the cache holds the address now, and no connection is wanted. */
static int
name_resolved(void *arg, curl_socket_t fd, curlsocktype purpose)
{
	((HttpHost *) arg)->resolved = true;
	return CURL_SOCKOPT_ERROR;
}

