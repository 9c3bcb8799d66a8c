/*
 * file_erase.c: the worker erases what is noted in sparky.erasures, a batch at a
 * time, one batch after the other; when that does not work, later.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "file_errand.h"
#include "settings.h"

#define BATCH 200
#define FIRST_PAUSE_MS 500
#define LONGEST_PAUSE_MS 60000
#define TRIES 1

typedef struct EraseErrand
{
	FileExchange exchange;
	MemoryContextCallback leave;
	bool		under_way;		/* from the request to the settlement */
	char	   *bucket;
	Erasure    *list;
	int			count;
	int			listed;			/* in the request's batch, before the settlement struck any off */
} EraseErrand;

static EraseErrand *current;	/* the one that lives */
static TimestampTz not_before;
static int	pause_ms;

static int	leave_out(Erasure *list, int count, const char *bucket);

static void
leave(void *arg)
{
	current = NULL;
}

Errand *
sparky_erase_create(TimestampTz now)
{
	Errand	   *errand;

	if (current != NULL || now < not_before)
		return NULL;
	errand = sparky_errand_create(&sparky_erase_errand, NULL);
	current = sparky_file_state(errand, sizeof(EraseErrand));
	current->leave.func = leave;
	MemoryContextRegisterResetCallback(errand->context, &current->leave);
	return errand;
}

static bool
erase_begin(Errand *errand, TimestampTz now)
{
	EraseErrand *state = errand->state;
	char	   *bucket;
	Erasure    *list;

	state->count = sparky_erasures_next(BATCH, &bucket, &list);
	if (state->count > 0)
		state->count = sparky_erasures_strike(list, state->count);
	if (state->count > 0)
		state->count = leave_out(list, state->count, bucket);
	errand->over = state->count == 0;
	if (errand->over)
		return true;
	state->listed = state->count;
	state->bucket = MemoryContextStrdup(errand->context, bucket);
	state->list = MemoryContextAlloc(errand->context, sizeof(Erasure) * state->count);
	for (int i = 0; i < state->count; i++)
	{
		state->list[i].id = list[i].id;
		state->list[i].name = MemoryContextStrdup(errand->context, list[i].name);
	}
	return true;
}

/* What the API has no name for is left to the operator; what is being uploaded is another file in a moment. */
static int
leave_out(Erasure *list, int count, const char *bucket)
{
	int			left = 0;

	for (int i = 0; i < count; i++)
	{
		if (!sparky_storage_rest_key_valid(list[i].name, strlen(list[i].name)))
			sparky_erasures_failed(&list[i], 1, "the Storage API takes no such name", true);
		else if (!sparky_file_uploading(bucket, list[i].name))
			list[left++] = list[i];
	}
	return left;
}

static bool
erase_request(Errand *errand, HttpRequest *request)
{
	EraseErrand *state = errand->state;
	FileExchange *exchange = &state->exchange;
	const char **keys = MemoryContextAlloc(errand->context, sizeof(char *) * state->count);
	int			count = 0;

	/* An upload may have begun since: it did not wait for us. */
	for (int i = 0; i < state->count; i++)
		if (!sparky_file_uploading(state->bucket, state->list[i].name))
			keys[count++] = state->list[i].name;
	if (count == 0)
		return false;
	sparky_file_reset(exchange);
	state->under_way = sparky_file_request(errand, sparky_storage_rest_delete(sparky_storage_url, state->bucket, keys, count, &exchange->message,
																			  exchange->why, sizeof(exchange->why)), request);
	return state->under_way;
}

static void
erase_read(Errand *errand, const HttpResult *result)
{
	EraseErrand *state = errand->state;

	sparky_file_read(errand, result, TRIES);
	state->under_way = false;
}

static bool
erase_settle(Errand *errand, TimestampTz now)
{
	EraseErrand *state = errand->state;
	const StorageAnswer *answer = &state->exchange.answer;
	int			left = sparky_erasures_strike(state->list, state->listed);

	if (left > 0)
		sparky_erasures_failed(state->list, left, answer->outcome == STORAGE_OK ? "storage left it in place" : sparky_file_words(answer), false);
	state->count = left;
	/* As long as something goes, the next batch follows with the next sweep. */
	pause_ms = left == state->listed ? Min(Max(pause_ms * 2, FIRST_PAUSE_MS), LONGEST_PAUSE_MS) : 0;
	not_before = TimestampTzPlusMilliseconds(now, pause_ms);
	errand->over = true;
	return true;
}

const ErrandType sparky_erase_errand = {
	.name = "erasing files",
	.locks = BATCH_FILES,
	.begin = erase_begin,
	.request = erase_request,
	.read = erase_read,
	.settle = erase_settle,
};

bool
sparky_file_erasing(const char *path)
{
	size_t		length;

	if (current == NULL || !current->under_way)
		return false;
	length = strlen(current->bucket);
	if (strncmp(path, current->bucket, length) != 0 || path[length] != '/')
		return false;
	for (int i = 0; i < current->count; i++)
		if (strcmp(path + length + 1, current->list[i].name) == 0)
			return true;
	return false;
}
