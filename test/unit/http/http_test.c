/*
 * http_test.c: the transport against a server that misbehaves (server.py).
 * Speaks TAP.  Arguments: NAME=VALUE lines of ./run: ports and certificates.
 */
#include "postgres.h"

#include <dirent.h>
#include <dlfcn.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "http.h"
#include "pg_shim.h"

#define KEY_HEADER "X-Goog-Api-Key: top-secret"

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

static HttpClient *client;
static const char *plain;		/* "http://127.0.0.1:1234" */
static int	open_before;		/* descriptors that are none of ours */
static double skipped = 0;		/* seconds by which our clock is ahead: see clock_gettime() */
static int	turns = 0;
static int	test_number = 0;
static int	failures = 0;

/* What our getaddrinfo() does: see below. */
static int	lookups = 0;
static int	lookups_at_once = 0;
static int	most_lookups_at_once = 0;
static int	lookup_ms = 0;
static bool lookup_fails = false;
static bool lookup_was_unmasked = false;

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void
ok(bool good, const char *format,...)
{
	va_list		arguments;

	if (!good)
		failures++;
	fprintf(stdout, "%sok %d - ", good ? "" : "not ", ++test_number);
	va_start(arguments, format);
	vfprintf(stdout, format, arguments);
	va_end(arguments);
	fprintf(stdout, "\n");
	fflush(stdout);
}

static const char *
argument(int argc, char **argv, const char *name)
{
	size_t		length = strlen(name);

	for (int i = 1; i < argc; i++)
		if (strncmp(argv[i], name, length) == 0 && argv[i][length] == '=')
			return argv[i] + length + 1;
	fprintf(stderr, "no %s\n", name);
	exit(2);
}

/* Libcurl and http.c look at this clock: hours pass at our word. */
int
clock_gettime(clockid_t which, struct timespec *time)
{
	static int	(*real) (clockid_t, struct timespec *) = NULL;
	int			result;

	if (real == NULL)
		real = dlsym(RTLD_NEXT, "clock_gettime");
	result = real(which, time);
	if (which == CLOCK_MONOTONIC)
		time->tv_sec += (time_t) skipped;
	return result;
}

/*
 * Libcurl's resolver threads call this instead of the C library's: every name
 * is the loopback, after lookup_ms, unless lookup_fails.
 */
int
getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	int			(*real) (const char *, const char *, const struct addrinfo *, struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");
	sigset_t	mask;

	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	pthread_mutex_lock(&lock);
	if (!sigismember(&mask, SIGUSR1) || !sigismember(&mask, SIGTERM))
		lookup_was_unmasked = true;
	lookups++;
	if (++lookups_at_once > most_lookups_at_once)
		most_lookups_at_once = lookups_at_once;
	pthread_mutex_unlock(&lock);
	usleep(lookup_ms * 1000);
	pthread_mutex_lock(&lock);
	lookups_at_once--;
	pthread_mutex_unlock(&lock);
	return lookup_fails ? EAI_NONAME : real("127.0.0.1", service, hints, result);
}

static size_t
give(void *context, char *buffer, size_t size)
{
	Exchange   *x = context;
	size_t		left = x->body - x->short_by - x->given;

	if (size > left)
		size = left;
	memset(buffer, 'a', size);
	x->given += size;
	return size;
}

static bool
take(void *context, const char *bytes, size_t length)
{
	Exchange   *x = context;

	for (size_t i = 0; i < length && x->taken + i < sizeof(x->text) - 1; i++)
		x->text[x->taken + i] = bytes[i];
	x->taken += length;
	return x->stop_at == 0 || x->taken < x->stop_at;
}

static Exchange
exchange(const char *method, const char *base, const char *path)
{
	Exchange	x = {.method = method, .connect_ms = 5000, .total_ms = 10000};

	snprintf(x.url, sizeof(x.url), "%s%s", base, path);
	return x;
}

static bool
start(Exchange *x)
{
	static const char *const headers[] = {KEY_HEADER, "Content-Type: application/json", NULL};
	HttpRequest request = {.method = x->method, .url = x->url, .headers = x->headers ? x->headers : headers,
		.has_body = x->body > 0, .content_length = x->body, .source = give, .sink = take, .context = x,
		.connect_timeout_ms = x->connect_ms, .total_timeout_ms = x->total_ms,
	.plain_http_hosts = x->plain_http_hosts, .ca_file = x->ca_file};

	x->started = now();
	return sparky_http_start(client, &request, x, &x->transfer, &x->result);
}

static void
collect(void)
{
	Exchange   *x;
	HttpResult	result;

	while ((x = sparky_http_take(client, &result)) != NULL)
	{
		x->result = result;
		x->done = true;
		x->seconds = now() - x->started;
	}
}

/* One turn of the loop, as the worker does it. */
static void
turn(int at_most_ms)
{
	struct pollfd ready = {.fd = sparky_http_descriptor(client), .events = POLLIN};
	long		timeout = sparky_http_timeout(client);

	if (timeout < 0 || timeout > at_most_ms)
		timeout = at_most_ms;
	turns++;
	poll(&ready, 1, timeout);
	sparky_http_drive(client);
	collect();
}

static void
turn_for(double seconds)
{
	for (double end = now() + seconds; now() < end;)
		turn(5);
}

static Exchange *
run(Exchange *x)
{
	if (!start(x))
	{
		x->done = false;
		return x;
	}
	while (!x->done)
		turn(1000);
	return x;
}

/* Complete requests that the server counted under this name. */
static int
count(const char *name)
{
	Exchange	x = exchange("GET", plain, "/count/");

	strlcat(x.url, name, sizeof(x.url));
	run(&x);
	return atoi(x.text);
}

static int
open_descriptors(void)
{
	DIR		   *dir = opendir("/proc/self/fd");
	int			count = -3;		/* ".", ".." and the directory itself */

	while (readdir(dir) != NULL)
		count++;
	closedir(dir);
	return count;
}

static void
new_client(int max_connections)
{
	shim_reset();
	client = sparky_http_create(max_connections);
}

static void
test_success(void)
{
	Exchange	x = exchange("POST", plain, "/ok/success");
	char		expected[64];

	x.body = 1000000;
	run(&x);
	ok(x.done && x.result.transport == TRANSPORT_DONE && x.result.status == 200, "a POST is answered");
	snprintf(expected, sizeof(expected), "\"length\": 1000000, \"sum\": %d,", 1000000 * 'a');
	ok(strstr(x.text, expected) != NULL, "the server has the body whole");
	ok(strstr(x.text, "\"content-length\": \"1000000\"") != NULL && strstr(x.text, "transfer-encoding") == NULL, "with its length");
	ok(strstr(x.text, "\"expect\"") == NULL && strstr(x.text, "\"accept-encoding\"") == NULL, "without Expect and Accept-Encoding");
	ok(strstr(x.text, "\"x-goog-api-key\": \"top-secret\"") != NULL, "with our headers");
	ok(strcmp(x.result.content_type, "application/json") == 0 && x.result.message[0] == '\0', "content type, no message");
	ok(x.result.bytes_sent == 1000000 && x.result.bytes_received == x.taken && x.taken > 0, "bytes are counted");

	x = exchange("GET", plain, "/ok/get");
	run(&x);
	ok(strstr(x.text, "\"method\": \"GET\", \"length\": 0") != NULL, "GET");
	x = exchange("PUT", plain, "/ok/put");
	x.body = 300000;
	run(&x);
	ok(strstr(x.text, "\"method\": \"PUT\", \"length\": 300000") != NULL, "PUT");
	x = exchange("DELETE", plain, "/ok/delete");
	run(&x);
	ok(strstr(x.text, "\"method\": \"DELETE\", \"length\": 0") != NULL, "DELETE");
	x = exchange("DELETE", plain, "/ok/delete");
	x.body = 30;
	run(&x);
	ok(strstr(x.text, "\"method\": \"DELETE\", \"length\": 30") != NULL, "DELETE with a body");
	x = exchange("POST", plain, "/ok/post");
	run(&x);
	ok(strstr(x.text, "\"method\": \"POST\", \"length\": 0") != NULL && strstr(x.text, "\"content-length\": \"0\"") != NULL, "POST without a body");
	x = exchange("GET", plain, "/nothing");
	run(&x);
	ok(x.result.transport == TRANSPORT_DONE && x.result.status == 404, "an error status is an answer");
}

static void
test_reuse(void)
{
	Exchange	x;

	new_client(8);
	for (int i = 1; i <= 5; i++)
	{
		x = exchange("POST", plain, "/ok/reuse");
		x.body = 100000;
		run(&x);
	}
	ok(strstr(x.text, "\"number\": 5,") != NULL, "five requests go over one connection");
	ok(open_descriptors() == shim_descriptors + open_before, "and fd.c knows of it: %d open, %d told", open_descriptors(), shim_descriptors);
}

static void
expect(const char *path, size_t body, TransportResult transport, int status, const char *what)
{
	Exchange	x = exchange("POST", plain, path);

	x.body = body;
	x.total_ms = 1000;
	run(&x);
	ok(x.done && x.result.transport == transport && x.result.status == status,
	   "%s: transport %d, status %d, %.3f s (%s)", what, x.result.transport, x.result.status, x.seconds, x.result.message);
	ok((x.result.message[0] != '\0') == (transport != TRANSPORT_DONE) && strstr(x.result.message, "127.0.0.1") == NULL &&
	   strstr(x.result.message, "secret") == NULL, "... in words without URL or key");
}

static void
test_failures(void)
{
	Exchange	x;

	turns = 0;
	expect("/silent/1", 1000, TRANSPORT_TIMEOUT, 0, "silence until the timeout");
	ok(turns < 30, "and the loop sleeps meanwhile: %d turns", turns);
	expect("/trickle/1", 1000, TRANSPORT_TIMEOUT, 200, "a trickle until the timeout");
	expect("/reset/1", 1000, TRANSPORT_RESET, 0, "reset before the answer");
	expect("/resetinside/1", 1000, TRANSPORT_RESET, 200, "reset inside the body");
	expect("/empty/1", 1000, TRANSPORT_RESET, 0, "closed without an answer");
	expect("/cut/1", 1000, TRANSPORT_RESET, 200, "body shorter than its length");
	expect("/cutchunk/1", 1000, TRANSPORT_RESET, 200, "body cut in a chunk");
	expect("/hugehead/1", 1000, TRANSPORT_RESET, 200, "headers without end");
	expect("/oldhttp/1", 1000, TRANSPORT_RESET, 0, "an answer without a head");
	expect("/early/1", 10, TRANSPORT_DONE, 429, "an error before a small body");
	expect("/early/1", 5000000, TRANSPORT_DONE, 429, "an error before a big body");

	x = exchange("POST", plain, "/huge/1");
	x.stop_at = 3000000;
	run(&x);
	ok(x.result.transport == TRANSPORT_STOPPED && x.result.bytes_received >= 3000000 && x.result.bytes_received < 3100000,
	   "the sink stops a body without end after %lu bytes", (unsigned long) x.result.bytes_received);
	x = exchange("POST", plain, "/ok/short");
	x.body = 100000;
	x.short_by = 1;
	run(&x);
	ok(x.result.transport == TRANSPORT_STOPPED && count("short") == 0, "a source that ends early stops the transfer");
	x = exchange("GET", plain, "/gzip/1");
	run(&x);
	ok(x.result.transport == TRANSPORT_DONE && memcmp(x.text, "\x1f\x8b", 2) == 0 && x.taken < 200, "a packed body is not unpacked");
	x = exchange("POST", plain, "/redirect/1");
	run(&x);
	ok(x.result.transport == TRANSPORT_DONE && x.result.status == 302 && count("stolen") == 0, "a redirect is not followed");
}

/* A paid request must not be repeated, and one that cannot have arrived may. */
static void
test_repeats(void)
{
	const char *methods[] = {"POST", "PUT"};
	Exchange	x;

	for (int i = 0; i < 2; i++)
		for (size_t body = 0; body <= 200000; body += 100000)
		{
			char		name[40];
			char		path[60];

			new_client(8);
			snprintf(name, sizeof(name), "%s%zu", methods[i], body);
			snprintf(path, sizeof(path), "/once/%s", name);
			x = exchange(methods[i], plain, path);
			x.body = body;
			run(&x);
			ok(x.result.transport == TRANSPORT_DONE && count(name) == 1, "%s of %zu bytes, first request", methods[i], body);
			new_client(8);
			x = exchange(methods[i], plain, path);
			x.body = body;
			run(&x);
			x = exchange(methods[i], plain, path);
			x.body = body;
			run(&x);
			ok(x.result.transport == TRANSPORT_RESET && x.result.status == 0, "second request, line dead: reset (%s)", x.result.message);
			turn_for(0.1);
			ok(count(name) == 3, "the server had it once: %d", count(name));
		}

	new_client(8);
	x = exchange("GET", plain, "/once/again");
	run(&x);
	x = exchange("GET", plain, "/once/again");
	run(&x);
	ok(x.result.transport == TRANSPORT_DONE && count("again") == 3, "a GET is repeated");

	new_client(8);
	x = exchange("POST", plain, "/idle/idle");
	x.body = 100000;
	run(&x);
	usleep(100000);
	x = exchange("POST", plain, "/idle/idle");
	x.body = 100000;
	run(&x);
	ok(x.result.transport == TRANSPORT_DONE && count("idle") == 2, "a connection that died idle costs nothing");

	new_client(8);
	x = exchange("POST", plain, "/headonly/headonly");
	x.body = 100000;
	run(&x);
	x = exchange("POST", plain, "/headonly/headonly");
	x.body = 5000000;
	run(&x);
	ok(count("headonly-died") == 1 && (x.result.transport == TRANSPORT_RESET ? count("headonly") == 1 : count("headonly") == 2),
	   "dead after the head: transport %d, received %d times", x.result.transport, count("headonly"));
}

static void
test_refusals(void)
{
	static const char *const split[] = {"X-Note: a\r\nX-Other: b", NULL};
	static const struct
	{
		const char *url;
		const char *hosts;
		const char *words;
	}			bad[] = {
		{"http://192.0.2.1/ok", NULL, "plain http"},
		{"http://example.com/ok", NULL, "plain http"},
		{"http://example.com/ok", "example.co,xample.com, example.com.evil", "plain http"},
		{"http://localhost.example.com/", NULL, "plain http"},
		{"http://127.0.0.1.example.com/", NULL, "plain http"},
		{"http://128.0.0.1/", NULL, "plain http"},
		{"http://0.0.0.0/", NULL, "plain http"},
		{"http://[::2]/", NULL, "plain http"},
		{"file:///etc/passwd", NULL, "neither"},
		{"ftp://127.0.0.1/x", NULL, "neither"},
		{"gopher://127.0.0.1/x", NULL, "neither"},
		{"nonsense://127.0.0.1/", NULL, "scheme"},
		{"https://user:word@127.0.0.1/", NULL, "user name"},
		{"https://user@127.0.0.1/", NULL, "user name"},
		{"https://a b/", NULL, "malformed"},
		{"https://", NULL, "malformed"},
		{"", NULL, "malformed"},
		{"https://127.0.0.1/\r\nX: y", NULL, "malformed"},
		{"https://b\xc3\xbc" "cher.example/", NULL, "ASCII"},
	};
	Exchange	x;

	for (int i = 0; i < lengthof(bad); i++)
	{
		x = exchange("GET", bad[i].url, "");
		x.plain_http_hosts = bad[i].hosts;
		ok(!start(&x) && x.result.transport == TRANSPORT_STOPPED && strstr(x.result.message, bad[i].words) != NULL && x.transfer == NULL,
		   "refused, case %d: %s", i, x.result.message);
	}
	x = exchange("GET", plain, "/ok/split");
	x.headers = split;
	ok(!start(&x) && strstr(x.result.message, "line break") != NULL, "a header with a line break is refused");
	ok(sparky_http_running(client) == 0, "nothing runs");

	x = exchange("GET", "HTTP://LOCALHOST:", strrchr(plain, ':') + 1);
	run(&x);
	ok(x.result.transport == TRANSPORT_DONE && x.result.status == 404, "localhost is loopback");
	x = exchange("GET", "http://127.9.8.7:1", "/");
	run(&x);
	ok(x.done && x.result.transport == TRANSPORT_CONNECT_FAILED, "so is 127.9.8.7, where nobody listens (%s)", x.result.message);
	x = exchange("GET", "http://[::1]:1", "/");
	run(&x);
	ok(x.done && x.result.transport == TRANSPORT_CONNECT_FAILED, "and ::1 (%s)", x.result.message);
	x = exchange("GET", "https://192.0.2.1", "/");
	x.connect_ms = 300;
	run(&x);
	ok(x.done && x.result.transport == TRANSPORT_CONNECT_FAILED && x.seconds < 1, "no connection in time: nothing was sent (%.3f s, %s)", x.seconds, x.result.message);
}

/* libcurl would obey these for every host but those in no_proxy. */
static void
test_proxy(void)
{
	Exchange	x;

	setenv("http_proxy", "http://127.0.0.1:1", 1);
	setenv("all_proxy", "http://127.0.0.1:1", 1);
	setenv("https_proxy", "http://127.0.0.1:1", 1);
	new_client(8);
	x = exchange("GET", plain, "/ok/proxy");
	run(&x);
	ok(x.result.transport == TRANSPORT_DONE && x.result.status == 200, "proxies of the environment are ignored");
	unsetenv("http_proxy");
	unsetenv("all_proxy");
	unsetenv("https_proxy");
}

static void
test_tls(int argc, char **argv)
{
	const char *port = argument(argc, argv, "TLS");
	char		base[60];
	Exchange	x;

	new_client(8);
	snprintf(base, sizeof(base), "https://127.0.0.1:%s", port);
	x = exchange("POST", base, "/ok/tls");
	x.body = 2000000;
	x.ca_file = argument(argc, argv, "CA");
	run(&x);
	ok(x.result.transport == TRANSPORT_DONE && strstr(x.text, "\"length\": 2000000") != NULL, "TLS with our authority (%s)", x.result.message);
	x = exchange("POST", base, "/once/tls");
	x.body = 200000;
	x.ca_file = argument(argc, argv, "CA");
	run(&x);
	ok(x.result.transport == TRANSPORT_RESET && count("tls") == 2, "a dead line under TLS: not repeated (%s)", x.result.message);

	new_client(8);
	x = exchange("POST", base, "/ok/untrusted");
	x.body = 1000;
	run(&x);
	ok(x.result.transport == TRANSPORT_TLS_FAILED && x.given == 0, "an unknown authority (%s)", x.result.message);
	x.done = false;
	x.ca_file = argument(argc, argv, "OTHER_CA");
	run(&x);
	ok(x.result.transport == TRANSPORT_TLS_FAILED && x.given == 0, "another authority (%s)", x.result.message);
	x.done = false;
	x.ca_file = "/nonexistent.pem";
	run(&x);
	ok(x.result.transport == TRANSPORT_TLS_FAILED, "an authority's file that is missing (%s)", x.result.message);
	snprintf(base, sizeof(base), "https://localhost:%s", port);
	x = exchange("POST", base, "/ok/untrusted");
	x.ca_file = argument(argc, argv, "CA");
	run(&x);
	ok(x.result.transport == TRANSPORT_TLS_FAILED && count("untrusted") == 0, "a name that the certificate does not hold (%s)", x.result.message);
	snprintf(base, sizeof(base), "https://%s", plain + strlen("http://"));
	x = exchange("POST", base, "/ok/1");
	x.connect_ms = 300;
	run(&x);
	ok(x.result.transport == TRANSPORT_CONNECT_FAILED && x.seconds < 2, "a TLS handshake without an answer: nothing was sent (%s)", x.result.message);
}

static void
test_many(void)
{
	enum { MANY = 300 };
	Exchange   *many = calloc(MANY, sizeof(Exchange));
	Exchange	extra;
	int			good = 0,
				left = MANY,
				most_descriptors = 0;
	double		began;

	new_client(MANY);
	began = now();
	for (int i = 0; i < MANY; i++)
	{
		many[i] = exchange("POST", plain, "/down/100000-500");
		many[i].body = 50000;
		many[i].total_ms = 30000;
		start(&many[i]);
	}
	ok(sparky_http_running(client) == MANY, "300 are running");
	extra = exchange("POST", plain, "/ok/extra");
	ok(!start(&extra) && extra.result.transport == TRANSPORT_CONNECT_FAILED, "one more is refused (%s)", extra.result.message);
	while (left > 0)
	{
		turn(1000);
		left = 0;
		for (int i = 0; i < MANY; i++)
			left += !many[i].done;
		most_descriptors = Max(most_descriptors, open_descriptors());
	}
	for (int i = 0; i < MANY; i++)
		good += many[i].result.transport == TRANSPORT_DONE && many[i].taken == 100000 && many[i].result.bytes_sent == 50000;
	ok(good == MANY && now() - began < 10, "300 at once: %d good, %.2f s, %d descriptors", good, now() - began, most_descriptors);
	ok(most_descriptors >= MANY, "each on a connection of its own");
	ok(sparky_http_running(client) == 0 && sparky_http_take(client, &extra.result) == NULL, "none is left");

	shim_descriptor_limit = shim_descriptors;
	for (int i = 0; i < 8; i++)
	{
		many[i] = exchange("POST", plain, "/ok/fds");
		good += start(&many[i]);
	}
	ok(good == MANY + 8, "idle connections' descriptors are used again");
	while (sparky_http_running(client) > 0)
		turn(1000);
	new_client(8);
	shim_descriptor_limit = shim_descriptors + 2;
	extra = exchange("POST", plain, "/silent/1");
	good = start(&extra) && start(&many[0]) && !start(&many[1]);
	ok(good && many[1].result.transport == TRANSPORT_CONNECT_FAILED, "no descriptor free: %s", many[1].result.message);
	shim_descriptor_limit = 1000;
	sparky_http_cancel(client, extra.transfer);
	while (sparky_http_running(client) > 0)
		turn(1000);
	free(many);
}

static void
test_cancel(void)
{
	Exchange	x[4];
	const char *paths[] = {"/silent/1", "/trickle/1", "/huge/1", "/ok/1"};
	size_t		taken;

	new_client(8);
	for (int i = 0; i < 4; i++)
	{
		x[i] = exchange("POST", plain, paths[i]);
		x[i].body = 100000;
		start(&x[i]);
	}
	while (!x[3].done)
		turn(100);
	turn_for(0.2);
	ok(x[1].taken > 0 && x[2].taken > 100000 && sparky_http_running(client) == 3, "three are under way");
	for (int i = 0; i < 3; i++)
		sparky_http_cancel(client, x[i].transfer);
	taken = x[1].taken + x[2].taken;
	ok(sparky_http_running(client) == 0, "none after the cancel");
	turn_for(0.2);
	ok(taken == x[1].taken + x[2].taken && !x[0].done && !x[1].done && !x[2].done, "their sinks are not called again, they are never taken");
	ok(open_descriptors() == shim_descriptors + open_before, "their connections are closed: %d open, %d told", open_descriptors(), shim_descriptors);

	x[0] = exchange("POST", plain, "/ok/1");
	start(&x[0]);
	while (sparky_http_running(client) > 0)
	{
		poll(NULL, 0, 1);
		sparky_http_drive(client);
	}
	ok(sparky_http_timeout(client) == 0, "a finished transfer asks for attention");
	sparky_http_cancel(client, x[0].transfer);
	collect();
	ok(!x[0].done, "a finished transfer can still be cancelled");

	x[0] = exchange("POST", plain, "/ok/1");
	start(&x[0]);
	sparky_http_cancel(client, x[0].transfer);
	turn_for(0.1);
	ok(!x[0].done && x[0].given == 0, "cancelled before the first drive");
}

static void
test_names(void)
{
	enum { MANY = 60 };
	Exchange	x[MANY];
	char		base[60];
	int			good = 0;
	double		began;

	snprintf(base, sizeof(base), "http://slow.test%s", strrchr(plain, ':'));
	new_client(MANY);
	lookups = 0;
	lookup_ms = 300;
	began = now();
	for (int i = 0; i < MANY; i++)
	{
		x[i] = exchange("POST", base, "/ok/named");
		x[i].body = 10000;
		x[i].plain_http_hosts = "other.test, Slow.Test";
		good += start(&x[i]);
		if (i == MANY / 2)
			turn(0);
	}
	sparky_http_cancel(client, x[0].transfer);
	sparky_http_cancel(client, x[MANY - 1].transfer);
	ok(good == MANY && now() - began < 0.2, "a transfer whose name is being looked up is cancelled at once");
	while (sparky_http_running(client) > 0)
		turn(1000);
	for (int i = 1; i < MANY - 1; i++)
		good -= x[i].result.transport == TRANSPORT_DONE && x[i].result.status == 200;
	ok(good == 2 && !x[0].done && !x[MANY - 1].done, "the others are answered");
	ok(lookups == 1, "60 transfers, one lookup (%d)", lookups);
	ok(x[1].seconds >= 0.3 && x[MANY - 2].seconds < 0.8, "they start when it ends: %.3f and %.3f s", x[1].seconds, x[MANY - 2].seconds);
	ok(!lookup_was_unmasked, "the lookup's thread takes no signals");
	run(&x[1]);
	x[0].done = false;
	run(&x[0]);
	ok(lookups == 1 && x[0].result.transport == TRANSPORT_DONE, "later ones know the name");

	snprintf(base, sizeof(base), "http://slow.test:1");
	x[0] = exchange("POST", base, "/");
	x[0].plain_http_hosts = "slow.test";
	x[0].connect_ms = 100;
	run(&x[0]);
	ok(x[0].result.transport == TRANSPORT_CONNECT_FAILED && x[0].seconds > 0.09 && x[0].seconds < 0.2, "a slow lookup ends at the connect timeout: %.3f s (%s)", x[0].seconds, x[0].result.message);
	began = now();
	x[1] = exchange("POST", plain, "/ok/meanwhile");
	run(&x[1]);
	ok(x[1].result.transport == TRANSPORT_DONE && now() - began < 0.15, "other hosts do not notice");
	turn_for(0.3);

	lookup_fails = true;
	snprintf(base, sizeof(base), "http://gone.test:1");
	lookups = 0;
	for (int i = 0; i < 10; i++)
	{
		x[i] = exchange("POST", base, "/");
		x[i].plain_http_hosts = "gone.test";
		start(&x[i]);
	}
	while (sparky_http_running(client) > 0)
		turn(1000);
	good = 0;
	for (int i = 0; i < 10; i++)
		good += x[i].result.transport == TRANSPORT_CONNECT_FAILED;
	ok(good == 10 && lookups <= 2, "a lookup's failure is shared (%d lookups, %s)", lookups, x[9].result.message);
	lookup_fails = false;
	lookup_ms = 0;
	x[0] = exchange("POST", "http://gone.test", strrchr(plain, ':'));
	x[0].plain_http_hosts = "gone.test";
	run(&x[0]);
	ok(x[0].result.transport == TRANSPORT_DONE, "the next one asks again");
}

/* An hour later one lookup renews a name; one whose host is not reached is asked for again after ten seconds. */
static void
test_names_age(void)
{
	enum { MANY = 20 };
	Exchange	x[MANY];
	char		base[60];
	int			good = 0;
	const int	ages[] = {3500, 3601, 3000, 3601};
	const int	expected[] = {1, 2, 2, 3};

	new_client(MANY);
	lookups = 0;
	lookup_ms = 20;
	snprintf(base, sizeof(base), "http://aging.test%s", strrchr(plain, ':'));
	x[0] = exchange("POST", base, "/ok/aging");
	x[0].plain_http_hosts = "aging.test";
	run(&x[0]);
	for (int age = 0; age < lengthof(ages); age++)
	{
		skipped += ages[age];
		for (int i = 0; i < MANY; i++)
		{
			x[i] = exchange("POST", base, "/ok/aging");
			x[i].plain_http_hosts = "aging.test";
			start(&x[i]);
		}
		while (sparky_http_running(client) > 0)
			turn(1000);
		for (int i = 0; i < MANY; i++)
			good += x[i].result.transport == TRANSPORT_DONE;
		ok(lookups == expected[age], "%d transfers, %d seconds later: %d lookups in all", MANY, ages[age], lookups);
	}
	ok(good == MANY * lengthof(ages), "all are answered");

	lookups = 0;
	for (int i = 0; i < 6; i++)
	{
		x[0] = exchange("POST", "http://aging.test", ":1/");
		x[0].plain_http_hosts = "aging.test";
		run(&x[0]);
		good -= x[0].result.transport == TRANSPORT_CONNECT_FAILED;
		if (i == 2)
			skipped += 11;
	}
	ok(good == MANY * lengthof(ages) - 6 && lookups == 2, "nobody listens: %d lookups", lookups);
	lookup_ms = 0;
}

/* The context goes in the middle of everything. */
static void
test_reset_of_context(void)
{
	Exchange	x[4];
	const char *paths[] = {"/silent/1", "/huge/1", "/ok/1", "/ok/1"};

	new_client(8);
	for (int i = 0; i < 4; i++)
	{
		x[i] = exchange("POST", i == 3 ? "http://reset.test:1" : plain, paths[i]);
		x[i].plain_http_hosts = "reset.test";
		x[i].body = 100000;
		lookup_ms = 4000;
		start(&x[i]);
	}
	for (double end = now() + 3.6; now() < end && (sparky_http_running(client) > 3 || lookups_at_once == 0);)
		sparky_http_drive(client);
	ok(sparky_http_running(client) == 3 && lookups_at_once == 1, "one is done, two under way, one in its lookup");
	shim_reset();
	ok(shim_descriptors == 0 && open_descriptors() == open_before, "the context's reset closes everything: %d open", open_descriptors() - open_before);
	client = sparky_http_create(8);
	lookup_ms = 0;
}

/* What a call costs us: 1 MB up, 1.5 MB down. The server's own pace sets the wall time. */
static void
measure(void)
{
	enum { CALLS = 200, AT_ONCE = 20 };
	static Exchange x[AT_ONCE];
	struct rusage before,
				after;
	double		cpu;
	int			begun = 0,
				ended = 0;

	memset(x, 0, sizeof(x));
	new_client(AT_ONCE);
	getrusage(RUSAGE_SELF, &before);
	while (ended < CALLS)
	{
		for (int i = 0; i < AT_ONCE; i++)
		{
			ended += x[i].done;
			if (begun < CALLS && (x[i].done || x[i].method == NULL))
			{
				x[i] = exchange("POST", plain, "/down/1500000-0");
				x[i].body = 1000000;
				start(&x[i]);
				begun++;
			}
			x[i].done = false;
		}
		turn(1000);
	}
	getrusage(RUSAGE_SELF, &after);
	cpu = (after.ru_utime.tv_sec - before.ru_utime.tv_sec) * 1e3 + (after.ru_utime.tv_usec - before.ru_utime.tv_usec) / 1e3 +
		(after.ru_stime.tv_sec - before.ru_stime.tv_sec) * 1e3 + (after.ru_stime.tv_usec - before.ru_stime.tv_usec) / 1e3;
	fprintf(stdout, "# %.2f ms CPU a call of 1.0 MB up and 1.5 MB down\n", cpu / CALLS);
	ok(cpu / CALLS < 8, "a call costs less than 8 ms");
}

int
main(int argc, char **argv)
{
	char		base[60];

	signal(SIGPIPE, SIG_IGN);	/* as in every backend */
	snprintf(base, sizeof(base), "http://127.0.0.1:%s", argument(argc, argv, "PLAIN"));
	plain = base;
	open_before = open_descriptors();
	client = sparky_http_create(16);
	test_success();
	test_reuse();
	test_failures();
	test_repeats();
	test_refusals();
	test_proxy();
	test_tls(argc, argv);
	test_many();
	test_cancel();
	test_names();
	test_names_age();
	test_reset_of_context();
	measure();
	shim_reset();
	ok(shim_descriptors == 0 && open_descriptors() == open_before, "everything is closed: %d told, %d open", shim_descriptors, open_descriptors());
	fprintf(stdout, "1..%d\n", test_number);
	return failures > 0;
}
