/*
 * main.c: the emulator's command line.
 *
 *   emulator --port 0 --log FILE [--tls-cert F --tls-key F] [--latency-ms N]
 *            [--key KEY] [--answer picture|tiny|BYTES] [--die-with-stdin]
 *            [--paymob-secret-key KEY] [--paymob-...] [--storage-key KEY] [--storage-...]
 *
 * Listens on 127.0.0.1 only, prints "PORT n" when it is ready, ends on SIGTERM,
 * SIGINT, or (--die-with-stdin) when its standard input closes, so that no
 * emulator outlives the test that started it.  See README.md.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "log.h"
#include "paymob.h"
#include "picture.h"
#include "server.h"
#include "storage.h"

Settings	settings;

static const struct option options[] = {
	{"port", required_argument, NULL, 'p'},
	{"log", required_argument, NULL, 'l'},
	{"tls-cert", required_argument, NULL, 'c'},
	{"tls-key", required_argument, NULL, 'k'},
	{"latency-ms", required_argument, NULL, 'm'},
	{"key", required_argument, NULL, 'K'},
	{"answer", required_argument, NULL, 'a'},
	{"die-with-stdin", no_argument, NULL, 'd'},
	{"paymob-secret-key", required_argument, NULL, 'P'},
	{"paymob-api-key", required_argument, NULL, 'P'},
	{"paymob-hmac-secret", required_argument, NULL, 'P'},
	{"paymob-integrations", required_argument, NULL, 'P'},
	{"paymob-owner", required_argument, NULL, 'P'},
	{"paymob-currency", required_argument, NULL, 'P'},
	{"storage-key", required_argument, NULL, 'S'},
	{"storage-jwt-secret", required_argument, NULL, 'S'},
	{"storage-db", required_argument, NULL, 'S'},
	{"storage-file-limit", required_argument, NULL, 'S'},
	{NULL, 0, NULL, 0}
};

static void usage(const char *why) __attribute__((noreturn));
static int	number(const char *name, const char *text, int max);
static char *read_text(const char *path);
static void raise_descriptor_limit(void);
static void wait_for_end(int signals, bool watch_stdin);

int
main(int argc, char **argv)
{
	ServerOptions server = {0};
	const char *log_path = NULL;
	bool		watch_stdin = false;
	sigset_t	ends;
	int			signals;
	int			port;
	int			option;
	int			which;

	while ((option = getopt_long(argc, argv, "", options, &which)) != -1)
	{
		switch (option)
		{
			case 'p': server.port = number("--port", optarg, 65535); break;
			case 'l': log_path = optarg; break;
			case 'c': server.tls_cert = read_text(optarg); break;
			case 'k': server.tls_key = read_text(optarg); break;
			case 'm': settings.first_latency_ms = number("--latency-ms", optarg, 3600000); break;
			case 'K': settings.key = optarg; break;
			case 'a':
				if (!settings_parse_answer(optarg, &settings.first_answer, &settings.first_answer_bytes))
					usage("--answer takes picture, tiny, or a number of bytes");
				break;
			case 'd': watch_stdin = true; break;
			case 'P':
				if (!paymob_option(options[which].name, optarg))
					usage("a --paymob option has no good value");
				break;
			case 'S':
				if (!storage_option(options[which].name, optarg))
					usage("a --storage option has no good value");
				break;
			default: usage("unknown option");
		}
	}
	if (optind < argc || log_path == NULL || (server.tls_cert == NULL) != (server.tls_key == NULL))
		usage("--log FILE is needed; --tls-cert and --tls-key go together");
	settings.latency_ms = settings.first_latency_ms;
	settings.answer = settings.first_answer;
	settings.answer_bytes = settings.first_answer_bytes;

	/* Before any thread starts: all of them inherit the mask. */
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	sigprocmask(SIG_BLOCK, &ends, NULL);
	signals = signalfd(-1, &ends, SFD_CLOEXEC);

	raise_descriptor_limit();
	picture_start();
	if (!log_open(log_path))
	{
		fprintf(stderr, "emulator: %s: %s\n", log_path, strerror(errno));
		return 1;
	}
	port = server_start(&server);
	if (port <= 0)
	{
		fprintf(stderr, "emulator: cannot listen on 127.0.0.1:%d\n", server.port);
		return 1;
	}
	printf("PORT %d\n", port);
	fflush(stdout);

	wait_for_end(signals, watch_stdin);
	server_stop();
	free(server.tls_cert);
	free(server.tls_key);
	return 0;
}

static void
usage(const char *why)
{
	fprintf(stderr, "emulator: %s\n"
			"usage: emulator --log FILE [--port N] [--tls-cert FILE --tls-key FILE] [--latency-ms N]\n"
			"                [--key KEY] [--answer picture|tiny|BYTES] [--die-with-stdin]\n"
			"                [--paymob-secret-key KEY] [--paymob-api-key KEY] [--paymob-hmac-secret SECRET]\n"
			"                [--paymob-integrations ID,...] [--paymob-owner ID] [--paymob-currency EGP]\n"
			"                [--storage-key KEY] [--storage-jwt-secret SECRET] [--storage-db CONNINFO] [--storage-file-limit BYTES]\n", why);
	exit(2);
}

static int
number(const char *name, const char *text, int max)
{
	char	   *end;
	long		value = strtol(text, &end, 10);

	if (*text == '\0' || *end != '\0' || value < 0 || value > max)
	{
		fprintf(stderr, "emulator: %s: \"%s\" is not a number from 0 to %d\n", name, text, max);
		exit(2);
	}
	return (int) value;
}

bool
settings_parse_answer(const char *text, AnswerKind *kind, size_t *bytes)
{
	char	   *end;
	long		value = strtol(text, &end, 10);

	*bytes = 0;
	if (strcmp(text, "picture") == 0)
		*kind = ANSWER_PICTURE;
	else if (strcmp(text, "tiny") == 0)
		*kind = ANSWER_TINY;
	else if (*text != '\0' && *end == '\0' && value >= PICTURE_MIN_BYTES && value <= PICTURE_MAX_BYTES)
	{
		*kind = ANSWER_BYTES;
		*bytes = (size_t) value;
	}
	else
		return false;
	return true;
}

static char *
read_text(const char *path)
{
	FILE	   *file = fopen(path, "r");
	Buf			text = {0};
	char		part[4096];
	size_t		got;

	if (file == NULL)
	{
		fprintf(stderr, "emulator: %s: %s\n", path, strerror(errno));
		exit(1);
	}
	while ((got = fread(part, 1, sizeof part, file)) > 0)
		buf_add(&text, part, got);
	fclose(file);
	return text.data ? text.data : xstrdup("");
}

static void
raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max)
	{
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static void
wait_for_end(int signals, bool watch_stdin)
{
	struct pollfd watched[2] = {
		{.fd = signals, .events = POLLIN},
		{.fd = watch_stdin ? STDIN_FILENO : -1, .events = POLLIN}
	};
	char		ignored[256];

	for (;;)
	{
		if (poll(watched, 2, -1) < 0 && errno != EINTR)
			return;
		if (watched[0].revents != 0)
			return;
		if (watched[1].revents != 0 && read(STDIN_FILENO, ignored, sizeof ignored) <= 0)
			return;
	}
}
