/*
 * http_harness.c: the tests' exchanges with the misbehaving server, in TAP.
 *
 * libcurl's clock and resolver are replaced: hours pass at our word, and a
 * lookup takes as long as a test wants.
 */
#include "postgres.h"

#include <curl/curlver.h>
#include <dirent.h>
#include <dlfcn.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "http_harness.h"

#define KEY_HEADER "X-Goog-Api-Key: top-secret"

HttpClient *client;
const char *plain;				/* "http://127.0.0.1:1234" */
int			open_before;		/* descriptors that are none of ours */
double		skipped = 0;		/* seconds by which our clock is ahead: see clock_gettime() */
int			turns = 0;
static int	test_number = 0;
static int	failures = 0;

/* What our getaddrinfo() does: see below. */
int			lookups = 0;
int			lookups_at_once = 0;
int			lookup_ms = 0;
bool		lookup_fails = false;
bool		lookup_was_unmasked = false;

double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

void
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

/* The plan; what the program returns. */
int
finish(void)
{
	fprintf(stdout, "1..%d\n", test_number);
	return failures > 0;
}

const char *
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

	/* Newer libcurls ask for both kinds of address at once: one lookup, which finds the older kind. */
	if (hints != NULL && hints->ai_family == AF_INET6)
		return EAI_NONAME;
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	pthread_mutex_lock(&lock);
	if (!sigismember(&mask, SIGUSR1) || !sigismember(&mask, SIGTERM))
		lookup_was_unmasked = true;
	lookups++;
	lookups_at_once++;
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

Exchange
exchange(const char *method, const char *base, const char *path)
{
	Exchange	x = {.method = method, .connect_ms = 5000, .total_ms = 10000};

	snprintf(x.url, sizeof(x.url), "%s%s", base, path);
	return x;
}

bool
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

void
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
void
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

void
turn_for(double seconds)
{
	for (double end = now() + seconds; now() < end;)
		turn(5);
}

Exchange *
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

/* Until the server has closed the connections that we keep. */
void
await_hangup(void)
{
	for (int descriptor = 0; descriptor < 256; descriptor++)
	{
		struct sockaddr_in peer;
		socklen_t	length = sizeof(peer);
		struct pollfd gone = {.fd = descriptor, .events = POLLRDHUP};

		if (getpeername(descriptor, (struct sockaddr *) &peer, &length) == 0 && peer.sin_family == AF_INET)
			poll(&gone, 1, 20000);
	}
}

/* Complete requests that the server counted under this name. */
int
count(const char *name)
{
	Exchange	x = exchange("GET", plain, "/count/");

	strlcat(x.url, name, sizeof(x.url));
	run(&x);
	return atoi(x.text);
}

int
open_descriptors(void)
{
	DIR		   *dir = opendir("/proc/self/fd");
	int			count = -3;		/* ".", ".." and the directory itself */

	while (readdir(dir) != NULL)
		count++;
	closedir(dir);
	return count;
}

/* What is open was told to fd.c.  Newer libcurls wake a multi handle with one descriptor, not the pair that is counted. */
bool
told_of_descriptors(void)
{
	int			more = shim_descriptors + open_before - open_descriptors();

	return more == 0 || (more == 1 && LIBCURL_VERSION_NUM >= 0x080a00);
}

void
new_client(int max_connections)
{
	shim_reset();
	client = sparky_http_create(max_connections);
}
