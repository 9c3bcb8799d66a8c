/*
 * read_body_test.c: the request body in the smallest pieces that a libcurl may
 * ask for, from a source that works in quanta of four (base64).  TAP.
 */
#include "../../../src/http_request.c"

#define LENGTH 1003				/* 1000 in quanta, then 3 */

typedef struct Source
{
	size_t		at;
	size_t		smallest;		/* the least room it was given while more was left than that */
	size_t		ends_at;
} Source;

static size_t
give(void *context, char *buffer, size_t size)
{
	Source	   *source = context;
	size_t		left = source->ends_at - source->at;
	size_t		given = Min(size, left);

	if (size < LENGTH - source->at)
		source->smallest = Min(source->smallest, size);
	if (given < left)
		given = given / 4 * 4;
	for (size_t i = 0; i < given; i++)
		buffer[i] = (char) ((source->at + i) * 7);
	source->at += given;
	return given;
}

int
main(void)
{
	static const size_t rooms[] = {1, 2, 3, 4, 5, 63, 64, 65, 500, 1003, 5000};
	int			test_number = 0;
	int			failures = 0;

	for (int i = 0; i < lengthof(rooms); i++)
		for (size_t cut = 0; cut <= 1; cut++)
		{
			Source		source = {.smallest = LENGTH, .ends_at = LENGTH - cut};
			HttpTransfer transfer = {.source = give, .context = &source, .body_length = LENGTH};
			char		body[LENGTH + 5000];
			size_t		length = 0;
			size_t		given;
			bool		good = true;

			/* The room changes from call to call, as it does in a buffer that is being emptied. */
			for (int call = 0;; call++)
			{
				given = read_body(body + length, 1, call % 3 == 2 ? 70 : rooms[i], &transfer);
				if (given == 0 || given == CURL_READFUNC_ABORT)
					break;
				length += given;
			}
			for (size_t at = 0; at < length; at++)
				good = good && body[at] == (char) (at * 7);
			if (cut == 0)
				good = good && length == LENGTH && given == 0 && !transfer.stopped && transfer.body_given == LENGTH;
			else
				good = good && length <= LENGTH - cut && given == CURL_READFUNC_ABORT && transfer.stopped;
			good = good && source.smallest >= SPARKY_HTTP_SOURCE_BYTES;
			failures += !good;
			printf("%sok %d - %s body in pieces of %zu\n", good ? "" : "not ", ++test_number, cut ? "short" : "whole", rooms[i]);
		}
	printf("1..%d\n", test_number);
	return failures > 0;
}
