/*
 * errand.c: an errand's memory and its exchanges.
 *
 * Everything of an errand lives in one context; what libcurl's callbacks write
 * into is malloc'd and freed by that context's reset callback.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "errand.h"
#include "settings.h"

/* A response of JSON has a few kB; whoever wants a file raises the limit. */
#define DEFAULT_LIMIT (1024 * 1024)
#define FIRST_CAPACITY 4096
/* A settlement that cannot be written is tried this long, then it is given up. */
#define GIVE_UP_S 3600

static void release(void *arg);
static size_t give_body(void *context, char *buffer, size_t size);
static bool take_body(void *context, const char *bytes, size_t length);

Errand *
sparky_errand_create(const ErrandType *type, const MailboxItem *mail)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "sparky errand", ALLOCSET_SMALL_SIZES);
	Errand	   *errand = MemoryContextAllocZero(context, sizeof(Errand));
	MemoryContextCallback *callback = MemoryContextAllocZero(context, sizeof(MemoryContextCallback));

	errand->exchange.of_errand = true;
	errand->context = context;
	errand->type = type;
	errand->limit = DEFAULT_LIMIT;
	errand->give_up = GetCurrentTimestamp() + GIVE_UP_S * USECS_PER_SEC;
	errand->answer.result = SUBMISSION_ACCEPTED;
	if (mail != NULL)
	{
		errand->mail = MemoryContextAlloc(context, sizeof(MailboxItem));
		*errand->mail = *mail;
		errand->answer.job_id = mail->submission.job_id;
	}
	dlist_init(&errand->followers);
	callback->func = release;
	callback->arg = errand;
	MemoryContextRegisterResetCallback(context, callback);
	return errand;
}

void
sparky_errand_follow(Errand *errand, const MailboxItem *mail)
{
	Follower   *follower = MemoryContextAlloc(errand->context, sizeof(Follower));

	follower->mail = *mail;
	dlist_push_tail(&errand->followers, &follower->node);
}

void
sparky_errand_free(Errand *errand)
{
	MemoryContextDelete(errand->context);
}

static void
release(void *arg)
{
	sparky_errand_reset_body(arg);
}

void
sparky_errand_reset_body(Errand *errand)
{
	free(errand->body);
	errand->body = NULL;
	errand->length = errand->capacity = 0;
}

size_t
sparky_errand_memory(const Errand *errand)
{
	return errand->capacity + (errand->type->memory ? errand->type->memory(errand) : 0);
}

void
sparky_errand_refuse(Errand *errand, ErrorWord error, const char *detail)
{
	errand->answer.result = SUBMISSION_REFUSED;
	errand->answer.error = error;
	strlcpy(errand->answer.text, detail ? detail : "", sizeof(errand->answer.text));
	errand->over = true;
}

bool
sparky_errand_start(Errand *errand, HttpClient *client)
{
	HttpRequest request = {0};
	HttpResult	refusal;
	MemoryContext previous = MemoryContextSwitchTo(errand->context);
	bool		wanted,
				started;

	sparky_errand_reset_body(errand);
	errand->again = errand->unsent = false;
	errand->outgoing = NULL;
	errand->outgoing_length = errand->sent = 0;
	request.source = give_body;
	request.sink = take_body;
	request.context = errand;
	request.connect_timeout_ms = sparky_connect_timeout;
	request.ca_file = sparky_tls_ca_file[0] ? sparky_tls_ca_file : NULL;
	wanted = errand->type->request(errand, &request);
	request.content_length = errand->outgoing_length;
	started = wanted && sparky_http_start(client, &request, errand, &errand->transfer, &refusal);
	if (errand->secret != NULL)
		explicit_bzero(errand->secret, errand->secret_size);
	if (wanted && !started)
		sparky_errand_finish(errand, &refusal);
	else if (!wanted && !errand->unsent)
		errand->over = true;
	MemoryContextSwitchTo(previous);
	return started;
}

void
sparky_errand_finish(Errand *errand, const HttpResult *result)
{
	MemoryContext previous = MemoryContextSwitchTo(errand->context);

	errand->transfer = NULL;
	errand->type->read(errand, result);
	MemoryContextSwitchTo(previous);
}

/* Called by libcurl: no palloc, no ereport. */
static size_t
give_body(void *context, char *buffer, size_t size)
{
	Errand	   *errand = context;
	size_t		given = Min(size, errand->outgoing_length - errand->sent);

	memcpy(buffer, errand->outgoing + errand->sent, given);
	errand->sent += given;
	return given;
}

/* As give_body. */
static bool
take_body(void *context, const char *bytes, size_t length)
{
	Errand	   *errand = context;
	size_t		needed = errand->lead + errand->length + length + 1;

	if (errand->length + length > errand->limit)
		return false;
	if (needed > errand->capacity)
	{
		size_t		capacity = Max(errand->capacity * 2, Max(needed, FIRST_CAPACITY));
		char	   *larger = realloc(errand->body, capacity);

		if (larger == NULL)
			return false;
		errand->body = larger;
		errand->capacity = capacity;
	}
	memcpy(errand->body + errand->lead + errand->length, bytes, length);
	errand->length += length;
	errand->body[errand->lead + errand->length] = '\0';
	return true;
}
