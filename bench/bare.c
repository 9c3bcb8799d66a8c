/*
 * bare.c: the limit that sparky is measured against.
 *
 * The same calls as sparky makes, by libcurl's multi interface and nothing
 * else: the request body is one shared buffer, made before; the answer is
 * collected in memory and thrown away.  No base64, no JSON, no hash, no
 * database.  What this program needs is what libcurl and the kernel need.
 *
 *   bare URL KEY BODY-FILE CALLS IN-FLIGHT
 *
 * Prints one JSON line: seconds, CPU seconds, bytes received, failures.
 */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

typedef struct Answer
{
	char	   *bytes;
	size_t		length;
	size_t		size;
} Answer;

typedef struct Body
{
	char	   *bytes;
	size_t		length;
} Body;

static struct curl_slist *headers;
static const char *url;
static Body body;

static void read_body(const char *name);
static void add_call(CURLM *multi);
static size_t take(char *bytes, size_t one, size_t length, void *context);
static double seconds_of(struct timeval t);
static double clock_seconds(void);

static void
die(const char *what)
{
	fprintf(stderr, "bare: %s\n", what);
	exit(1);
}

int
main(int argc, char **argv)
{
	char		key[512];
	int			calls,
				in_flight,
				started = 0,
				ended = 0,
				failed = 0,
				running;
	size_t		received = 0;
	struct rusage usage;
	double		begin;
	CURLM	   *multi;
	CURLMsg    *message;

	if (argc != 6)
		die("usage: bare URL KEY BODY-FILE CALLS IN-FLIGHT");
	url = argv[1];
	read_body(argv[3]);
	calls = atoi(argv[4]);
	in_flight = atoi(argv[5]);
	curl_global_init(CURL_GLOBAL_DEFAULT);
	snprintf(key, sizeof(key), "x-goog-api-key: %s", argv[2]);
	headers = curl_slist_append(NULL, key);
	headers = curl_slist_append(headers, "Content-Type: application/json");
	headers = curl_slist_append(headers, "Expect:");
	multi = curl_multi_init();
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long) in_flight);

	begin = clock_seconds();
	while (ended < calls)
	{
		/* Read what ended, fill up, then wait: in any other order slots stand empty. */
		while ((message = curl_multi_info_read(multi, &running)) != NULL)
		{
			Answer	   *answer;
			long		status;

			if (message->msg != CURLMSG_DONE)
				continue;
			curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **) &answer);
			curl_easy_getinfo(message->easy_handle, CURLINFO_RESPONSE_CODE, &status);
			if (message->data.result != CURLE_OK || status != 200)
				failed++;
			received += answer->length;
			free(answer->bytes);
			free(answer);
			curl_multi_remove_handle(multi, message->easy_handle);
			curl_easy_cleanup(message->easy_handle);
			ended++;
		}
		while (started < calls && started - ended < in_flight)
		{
			add_call(multi);
			started++;
		}
		curl_multi_perform(multi, &running);
		if (running > 0)
			curl_multi_poll(multi, NULL, 0, 1000, NULL);
	}
	getrusage(RUSAGE_SELF, &usage);
	printf("{\"seconds\": %.4f, \"cpu\": %.4f, \"received\": %zu, \"failed\": %d}\n", clock_seconds() - begin,
		   seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime), received, failed);
	return failed > 0;
}

static void
read_body(const char *name)
{
	FILE	   *file = fopen(name, "rb");
	long		length;

	if (file == NULL || fseek(file, 0, SEEK_END) != 0 || (length = ftell(file)) < 0)
		die("the body cannot be read");
	rewind(file);
	body.length = length;
	body.bytes = malloc(body.length + 1);
	if (body.bytes == NULL || fread(body.bytes, 1, body.length, file) != body.length)
		die("the body cannot be read");
	fclose(file);
}

static void
add_call(CURLM *multi)
{
	CURL	   *easy = curl_easy_init();
	Answer	   *answer = calloc(1, sizeof(Answer));

	if (easy == NULL || answer == NULL)
		die("out of memory");
	curl_easy_setopt(easy, CURLOPT_URL, url);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body.bytes);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) body.length);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, answer);
	curl_easy_setopt(easy, CURLOPT_PRIVATE, answer);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	if (curl_multi_add_handle(multi, easy) != CURLM_OK)
		die("a call cannot be added");
}

static size_t
take(char *bytes, size_t one, size_t length, void *context)
{
	Answer	   *answer = context;

	if (answer->length + length > answer->size)
	{
		size_t		size = answer->size ? answer->size * 2 : 65536;
		char	   *larger;

		while (size < answer->length + length)
			size *= 2;
		larger = realloc(answer->bytes, size);
		if (larger == NULL)
			return 0;
		answer->bytes = larger;
		answer->size = size;
	}
	memcpy(answer->bytes + answer->length, bytes, length);
	answer->length += length;
	return length;
}

static double
seconds_of(struct timeval t)
{
	return t.tv_sec + t.tv_usec / 1e6;
}

static double
clock_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}
