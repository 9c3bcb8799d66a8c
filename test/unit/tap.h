/*
 * tap.h: the Test Anything Protocol in one page.  A test program calls ok() and
 * its friends and ends with "return done();", which is 0 if all of them held.
 */
#ifndef SPARKY_TAP_H
#define SPARKY_TAP_H

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int	tests_run;
static int	tests_failed;

__attribute__((format(printf, 2, 3)))
static inline bool
ok(bool held, const char *format, ...)
{
	va_list		arguments;

	printf("%sok %d - ", held ? "" : "not ", ++tests_run);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
	fflush(stdout);
	tests_failed += !held;
	return held;
}

static inline bool
is_text(const char *got, const char *expected, const char *name)
{
	bool		same = got != NULL && expected != NULL ? strcmp(got, expected) == 0 : got == expected;

	if (!ok(same, "%s", name))
		printf("#      got: %s\n# expected: %s\n", got != NULL ? got : "(none)", expected != NULL ? expected : "(none)");
	return same;
}

static inline bool
is_number(int64_t got, int64_t expected, const char *name)
{
	if (!ok(got == expected, "%s", name))
		printf("#      got: %" PRId64 "\n# expected: %" PRId64 "\n", got, expected);
	return got == expected;
}

static inline int
done(void)
{
	printf("1..%d\n", tests_run);
	fflush(stdout);
	return tests_failed > 0;
}

/* A repeatable generator: a run that failed can be run again. */
static uint64_t random_state = 88172645463325252u;

static inline uint64_t
next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

/* A file of test/unit/fixtures, malloc'd; ends the program if there is none. */
static inline uint8_t *
read_fixture(const char *name, size_t *length)
{
	char		path[1000];
	FILE	   *file;
	uint8_t    *bytes;
	long		size;

	snprintf(path, sizeof(path), "%s/%s", FIXTURES, name);
	file = fopen(path, "rb");
	if (file == NULL || fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) < 0)
	{
		printf("Bail out! cannot read the fixture %s\n", name);
		exit(1);
	}
	rewind(file);
	bytes = malloc(size > 0 ? size : 1);
	if (bytes == NULL || fread(bytes, 1, size, file) != (size_t) size)
	{
		printf("Bail out! cannot read the fixture %s\n", name);
		exit(1);
	}
	fclose(file);
	*length = size;
	return bytes;
}

#endif
