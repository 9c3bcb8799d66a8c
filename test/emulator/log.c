/*
 * log.c: the append-only log (see log.h for the rules).
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "log.h"

static int	log_fd = -1;
static _Atomic off_t log_start = 0;

bool
log_open(const char *path)
{
	log_fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
	if (log_fd < 0)
		return false;
	log_mark();
	return true;
}

double
log_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

void
log_event(json_t *event)
{
	char	   *text = json_dumps(event, JSON_COMPACT | JSON_REAL_PRECISION(17));
	Buf			line = {0};

	json_decref(event);
	if (text == NULL)
		abort();
	buf_puts(&line, text);
	buf_puts(&line, "\n");
	free(text);
	if (log_fd >= 0 && write(log_fd, line.data, line.len) != (ssize_t) line.len)
	{
		/* A log with holes would let wrong tests pass. */
		perror("emulator: log");
		abort();
	}
	buf_free(&line);
}

void
log_mark(void)
{
	if (log_fd >= 0)
		log_start = lseek(log_fd, 0, SEEK_END);
}

bool
log_read(Buf *out)
{
	off_t		at = log_start;
	ssize_t		got;

	if (log_fd < 0)
		return false;
	do
	{
		buf_reserve(out, 1 << 16);
		got = pread(log_fd, out->data + out->len, 1 << 16, at);
		if (got > 0)
		{
			out->len += (size_t) got;
			at += got;
		}
	} while (got > 0);
	return got == 0;
}

json_t *
log_text(const char *text, size_t len)
{
	json_t	   *string = json_stringn(text, len);

	if (string == NULL)
	{
		Buf			hex = {0};

		buf_puts(&hex, "hex:");
		for (size_t i = 0; i < len; i++)
			buf_printf(&hex, "%02x", (unsigned char) text[i]);
		string = json_stringn(hex.data, hex.len);
		buf_free(&hex);
	}
	return string;
}
