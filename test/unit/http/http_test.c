/*
 * http_test.c: the transport against a server that misbehaves (server.py).
 * Speaks TAP.  Arguments: NAME=VALUE lines of ./run: ports and certificates.
 */
#include "postgres.h"

#include <signal.h>
#include <unistd.h>

#include "http_harness.h"

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
	ok(told_of_descriptors(), "and fd.c knows of it: %d open, %d told", open_descriptors(), shim_descriptors);
}

static void
expect(const char *path, size_t body, TransportResult transport, int status, const char *what)
{
	Exchange	x = exchange("POST", plain, path);

	x.body = body;
	x.total_ms = transport == TRANSPORT_TIMEOUT ? 1000 : 20000;
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
	await_hangup();
	sleep(2);					/* libcurl 8.23 takes one that it used within the last second unseen */
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
	ok(x.done && x.result.transport == TRANSPORT_CONNECT_FAILED && x.seconds < 8, "no connection in time: nothing was sent (%.3f s, %s)", x.seconds, x.result.message);
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
	ok(x.result.transport == TRANSPORT_CONNECT_FAILED && x.seconds < 8, "a TLS handshake without an answer: nothing was sent (%s)", x.result.message);
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
	test_many_at_once();
	shim_reset();
	ok(shim_descriptors == 0 && open_descriptors() == open_before, "everything is closed: %d told, %d open", shim_descriptors, open_descriptors());
	return finish();
}
