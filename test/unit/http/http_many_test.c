/*
 * http_many_test.c: many transfers at once: descriptors, cancelling, lookups that
 * they share, a context that goes in the middle, and what a call costs.
 */
#include "postgres.h"

#include <poll.h>
#include <signal.h>
#include <sys/resource.h>

#include "http_harness.h"

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
		many[i].connect_ms = many[i].total_ms = 60000;
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
	ok(good == MANY && now() - began < 30, "300 at once: %d good, %.2f s, %d descriptors", good, now() - began, most_descriptors);
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
	for (double end = now() + 20; now() < end && (x[1].taken == 0 || x[2].taken <= 100000);)
		turn(5);
	ok(x[1].taken > 0 && x[2].taken > 100000 && sparky_http_running(client) == 3, "three are under way");
	for (int i = 0; i < 3; i++)
		sparky_http_cancel(client, x[i].transfer);
	taken = x[1].taken + x[2].taken;
	ok(sparky_http_running(client) == 0, "none after the cancel");
	turn_for(0.2);
	ok(taken == x[1].taken + x[2].taken && !x[0].done && !x[1].done && !x[2].done, "their sinks are not called again, they are never taken");
	ok(told_of_descriptors(), "their connections are closed: %d open, %d told", open_descriptors(), shim_descriptors);

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
	int			good = 0,
				ended;

	snprintf(base, sizeof(base), "http://slow.test%s", strrchr(plain, ':'));
	new_client(MANY);
	lookups = 0;
	lookup_ms = 1500;
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
	ok(good == MANY && lookups == lookups_at_once, "a transfer whose name is being looked up is cancelled at once");
	while (sparky_http_running(client) > 0)
		turn(1000);
	for (int i = 1; i < MANY - 1; i++)
		good -= x[i].result.transport == TRANSPORT_DONE && x[i].result.status == 200;
	ok(good == 2 && !x[0].done && !x[MANY - 1].done, "the others are answered");
	ok(lookups == 1, "60 transfers, one lookup (%d)", lookups);
	ok(x[1].seconds >= 1.5 && x[MANY - 2].seconds < 4.5, "they start when it ends: %.3f and %.3f s", x[1].seconds, x[MANY - 2].seconds);
	ok(!lookup_was_unmasked, "the lookup's thread takes no signals");
	run(&x[1]);
	x[0].done = false;
	run(&x[0]);
	ok(lookups == 1 && x[0].result.transport == TRANSPORT_DONE, "later ones know the name");

	snprintf(base, sizeof(base), "http://slow.test:1");
	x[0] = exchange("POST", base, "/");
	x[0].plain_http_hosts = "slow.test";
	x[0].connect_ms = 100;
	ended = lookups - lookups_at_once;
	run(&x[0]);
	ok(x[0].result.transport == TRANSPORT_CONNECT_FAILED && x[0].seconds > 0.09 && lookups - lookups_at_once == ended, "a slow lookup ends at the connect timeout: %.3f s (%s)", x[0].seconds, x[0].result.message);
	x[1] = exchange("POST", plain, "/ok/meanwhile");
	run(&x[1]);
	ok(x[1].result.transport == TRANSPORT_DONE && lookups - lookups_at_once == ended, "other hosts do not notice");
	while (lookups_at_once > 0)
		turn(5);

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

void
test_many_at_once(void)
{
	test_many();
	test_cancel();
	test_names();
	test_names_age();
	test_reset_of_context();
	measure();
}
