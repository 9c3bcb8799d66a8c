/*
 * file_errand.c: what every errand to the Storage API has in common: the
 * request with its key, the answer, and what operators are told.
 *
 * The key goes into two headers that lie in one buffer, which errand.c wipes as
 * soon as the transport has its copy.  What storage says is kept without it.
 *
 * While storage does not work, many exchanges fail alike: of each kind the
 * first is logged, then one a minute.  The last trouble stands in health().
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "file_errand.h"
#include "secrets.h"
#include "settings.h"
#include "shmem.h"
#include "stats.h"

#define LOG_EVERY_S 60
#define FORGET_FILE_S 150
/* Between two tries of one errand. */
#define FIRST_PAUSE_MS 100
#define LONGEST_PAUSE_MS 1000

static void free_exchange(void *arg);
static const char *public_base(Errand *errand);
static bool key_headers(Errand *errand, const char *key, const char **apikey, const char **authorization);
static void note_trouble(const StorageAnswer *answer, const char *what);
static void clear_trouble(void);

void *
sparky_file_state(Errand *errand, size_t size)
{
	FileExchange *exchange = MemoryContextAllocZero(errand->context, size);

	errand->state = exchange;
	exchange->callback.func = free_exchange;
	exchange->callback.arg = exchange;
	MemoryContextRegisterResetCallback(errand->context, &exchange->callback);
	return exchange;
}

static void
free_exchange(void *arg)
{
	sparky_file_reset(arg);
}

void
sparky_file_reset(FileExchange *exchange)
{
	sparky_storage_rest_message_free(&exchange->message);
	sparky_storage_rest_answer_free(&exchange->answer);
	memset(&exchange->message, 0, sizeof(exchange->message));
	memset(&exchange->answer, 0, sizeof(exchange->answer));
}

bool
sparky_file_request(Errand *errand, StorageOutcome made, HttpRequest *request)
{
	FileExchange *exchange = errand->state;
	const char **headers = MemoryContextAllocZero(errand->context, sizeof(char *) * (lengthof(exchange->message.headers) + 4));
	const char *key = sparky_secret(SECRET_STORAGE_SERVICE_KEY);
	int			count = 0;

	if (made == STORAGE_OK && (key == NULL || !key_headers(errand, key, &headers[0], &headers[1])))
	{
		made = STORAGE_AUTH;
		snprintf(exchange->why, sizeof(exchange->why), "%s is %s", sparky_secret_setting(SECRET_STORAGE_SERVICE_KEY),
				 key == NULL ? "not set" : "no key");
	}
	if (made != STORAGE_OK)
	{
		exchange->answer.outcome = made;
		exchange->answer.retry_after = -1;
		strlcpy(exchange->answer.message, exchange->why, sizeof(exchange->answer.message));
		if (sparky_storage_rest_rule(made)->matter == STORAGE_MATTER_OPERATOR || made == STORAGE_BAD_REQUEST)
			note_trouble(&exchange->answer, errand->type->name);
		errand->unsent = true;
		return false;
	}
	for (count = 2; count - 2 < lengthof(exchange->message.headers) && exchange->message.headers[count - 2] != NULL; count++)
		headers[count] = exchange->message.headers[count - 2];
	headers[count] = "User-Agent: sparky/" SPARKY_VERSION;
	request->method = exchange->message.method;
	request->url = exchange->message.url;
	request->headers = headers;
	request->has_body = exchange->message.has_body;
	errand->outgoing = exchange->message.body;
	errand->outgoing_length = exchange->message.content_length;
	request->total_timeout_ms = sparky_storage_timeout * 1000;
	request->plain_http_hosts = sparky_plain_http_hosts;
	exchange->tries++;
	return true;
}

bool
sparky_file_download(Errand *errand, const char *path, HttpRequest *request)
{
	FileExchange *exchange = errand->state;

	sparky_file_reset(exchange);
	return sparky_file_request(errand, sparky_storage_rest_download(sparky_storage_url, path, &exchange->message,
																	exchange->why, sizeof(exchange->why)), request);
}

bool
sparky_file_upload(Errand *errand, const char *path, const char *mime, const char *bytes, size_t length, HttpRequest *request)
{
	FileExchange *exchange = errand->state;

	sparky_file_reset(exchange);
	if (!sparky_file_request(errand, sparky_storage_rest_upload(sparky_storage_url, path, mime, length, true, &exchange->message,
																exchange->why, sizeof(exchange->why)), request))
		return false;
	errand->outgoing = bytes;
	return true;
}

static bool
key_headers(Errand *errand, const char *key, const char **apikey, const char **authorization)
{
	size_t		first = strlen(key) + sizeof("apikey: "),
				second = strlen(key) + sizeof("Authorization: Bearer ");

	if (errand->secret_size < first + second)
	{
		errand->secret = MemoryContextAlloc(errand->context, first + second);
		errand->secret_size = first + second;
	}
	snprintf(errand->secret, first, "apikey: %s", key);
	snprintf(errand->secret + first, second, "Authorization: Bearer %s", key);
	*apikey = errand->secret;
	*authorization = errand->secret + first;
	return strpbrk(key, "\r\n") == NULL;
}

void
sparky_file_read(Errand *errand, const HttpResult *result, int most_tries)
{
	FileExchange *exchange = errand->state;
	StorageAnswer *answer = &exchange->answer;
	bool		is_file = exchange->message.operation == STORAGE_DOWNLOAD && result->status == 200;
	const StorageRule *rule;
	int			pause;

	sparky_storage_rest_read(&exchange->message, result->transport, result->status, result->content_type,
							 is_file || errand->body == NULL ? NULL : errand->body + errand->lead, is_file ? 0 : errand->length,
							 sparky_secret(SECRET_STORAGE_SERVICE_KEY), public_base(errand), answer);
	/* The transport did not even try: an address that is not allowed is no answer that was cut. */
	if (result->transport == TRANSPORT_STOPPED && result->status == 0)
		answer->outcome = STORAGE_REDIRECT;
	if (answer->message[0] == '\0' && result->transport != TRANSPORT_DONE)
		strlcpy(answer->message, result->message, sizeof(answer->message));
	if (answer->outcome == STORAGE_OK)
	{
		clear_trouble();
		return;
	}
	rule = sparky_storage_rest_rule(answer->outcome);
	if (exchange->tell_all || rule->matter != STORAGE_MATTER_OBJECT)
		note_trouble(answer, errand->type->name);
	if (rule->retry == RETRY_NEVER || exchange->tries >= Min(most_tries, rule->retry == RETRY_ONCE ? 2 : 3))
		return;
	pause = Min(FIRST_PAUSE_MS << exchange->tries, LONGEST_PAUSE_MS);
	if (answer->retry_after > 0)
		pause = (int) Min(answer->retry_after * 1000, LONGEST_PAUSE_MS);
	errand->again = true;
	errand->not_before = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), pause);
}

/* What a link begins with as clients reach it: the setting; else beside PostgREST, where Supabase's gateway has it; else as the server reaches it. */
static const char *
public_base(Errand *errand)
{
	static const char rest[] = "/rest/v1";
	size_t		length = strlen(sparky_public_url);

	if (sparky_storage_public_url[0] != '\0')
		return sparky_storage_public_url;
	while (length > 0 && sparky_public_url[length - 1] == '/')
		length--;
	if (length > strlen(rest) && strncmp(sparky_public_url + length - strlen(rest), rest, strlen(rest)) == 0)
	{
		char	   *base = MemoryContextAlloc(errand->context, length + sizeof("/storage/v1"));

		snprintf(base, length + sizeof("/storage/v1"), "%.*s/storage/v1", (int) (length - strlen(rest)), sparky_public_url);
		return base;
	}
	return sparky_storage_url;
}

ErrorWord
sparky_file_word(StorageOutcome outcome)
{
	switch (outcome)
	{
		case STORAGE_OK:
			return WORD_NONE;
		case STORAGE_MISSING:
		case STORAGE_FILE_GONE:
		case STORAGE_BAD_KEY:
			return WORD_IMAGE_NOT_FOUND;
		case STORAGE_TOO_LARGE:
		case STORAGE_CUT:
			return WORD_IMAGE_TOO_LARGE;
		case STORAGE_WRONG_TYPE:
			return WORD_IMAGE_TYPE;
		case STORAGE_AUTH:
		case STORAGE_NO_BUCKET:
		case STORAGE_REDIRECT:
			return WORD_NOT_CONFIGURED;
		default:
			return WORD_OVERLOADED;
	}
}

void
sparky_file_refuse(Errand *errand)
{
	FileExchange *exchange = errand->state;
	ErrorWord	word = sparky_file_word(exchange->answer.outcome);

	/* What storage said is for operators, who find it in health() and in the log. */
	sparky_errand_refuse(errand, word, word == WORD_NOT_CONFIGURED ? "Photo storage is not set up: sparky.health() tells the operator why." :
						 word == WORD_OVERLOADED ? "Photo storage does not answer." : NULL);
}

bool
sparky_file_service_trouble(StorageOutcome outcome)
{
	StorageMatter matter = sparky_storage_rest_rule(outcome)->matter;

	switch (outcome)
	{
		case STORAGE_TOO_LARGE:
		case STORAGE_WRONG_TYPE:
			return false;		/* set up wrongly, but for this file only */
		default:
			return matter == STORAGE_MATTER_TEMPORARY || matter == STORAGE_MATTER_OPERATOR;
	}
}

char *
sparky_file_words(const StorageAnswer *answer)
{
	return psprintf("%s%s%s%s%s", sparky_storage_rest_name(answer->outcome), answer->code[0] ? ": " : "", answer->code,
					answer->message[0] ? ": " : "", answer->message);
}

/*
 * A trouble of the service stands until one exchange goes well; that of a file,
 * which is tried again every minute at most, until it has not come back for a while.
 */
static bool of_service;
static TimestampTz last_trouble;

static void
set_trouble(const char *text)
{
	DatabaseEntry *entry;

	sparky_shmem_lock(true);
	entry = sparky_shmem_find(MyDatabaseId);
	if (entry != NULL && entry->worker_pid == MyProcPid)
		strlcpy(entry->storage_trouble, text, sizeof(entry->storage_trouble));
	sparky_shmem_unlock();
}

static void
note_trouble(const StorageAnswer *answer, const char *what)
{
	static TimestampTz logged[STORAGE_OUTCOME_COUNT];
	static int	quiet[STORAGE_OUTCOME_COUNT];
	char	   *words = sparky_file_words(answer);
	StorageOutcome outcome = answer->outcome;

	sparky_stats_count(COUNTER_STORAGE_ERROR);
	set_trouble(psprintf("storage does not work (%s): %s", what, words));
	of_service = sparky_file_service_trouble(outcome);
	last_trouble = GetCurrentTimestamp();
	if (logged[outcome] != 0 && last_trouble - logged[outcome] < LOG_EVERY_S * USECS_PER_SEC)
	{
		quiet[outcome]++;
		return;
	}
	ereport(LOG, (errmsg("sparky: storage does not work (%s): %s", what, words),
				  quiet[outcome] > 0 ? errdetail("%d more of this kind since the last message.", quiet[outcome]) : 0));
	logged[outcome] = last_trouble;
	quiet[outcome] = 0;
}

static void
clear_trouble(void)
{
	if (last_trouble == 0 || (!of_service && GetCurrentTimestamp() - last_trouble < FORGET_FILE_S * USECS_PER_SEC))
		return;
	set_trouble("");
	last_trouble = 0;
}
