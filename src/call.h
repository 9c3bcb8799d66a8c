/*
 * call.h: one call to the provider, from claimed job to typed answer.
 *
 * A Call owns everything of it in one memory context; what the plain-C rows
 * malloc is freed by that context's reset callback.
 */
#ifndef SPARKY_CALL_H
#define SPARKY_CALL_H

#include "lib/ilist.h"

#include "http.h"
#include "queue.h"

/* What the transport gives back when a transfer ended: the first member of a Call and of an Errand. */
typedef struct Exchange
{
	bool		of_errand;
} Exchange;

typedef struct Call
{
	Exchange	exchange;
	dlist_node	node;
	MemoryContext context;
	Job			job;
	int64		call_id;
	bool		claimed;		/* the claim is committed */
	TimestampTz not_before;		/* a settlement that was postponed */
	/* request */
	char	   *model;
	char	   *response_schema;
	int64		cache_ttl_seconds;
	int			timeout_ms;
	bytea	   *photo;			/* of embedded storage */
	char	   *fetched;		/* of outside storage: malloc'd, the call's own */
	const uint8 *photo_bytes;	/* in one of the two */
	size_t		photo_length;
	GeminiMessage message;
	size_t		sent;			/* of the body */
	GeminiReader *reader;
	HttpTransfer *transfer;
	HttpResult	result;
	/* answer */
	bool		kept;			/* its answer is in sparky.answers */
	bool		hand_back;		/* the transfer could not even start: as if not claimed */
	Outcome		outcome;
	GeminiAnswer gemini;
	JobAnswer	answer;
	CallReport	report;
} Call;

extern Call *sparky_call_create(const Job *job);
extern void sparky_call_free(Call *call);
/*
 * Inside the claim's transaction: everything the request needs. OUTCOME_OK, or why there can be no call.
 * Where photo_bytes and photo_length are set before, those are the photo, compared already with what the job was accepted for.
 */
extern Outcome sparky_call_prepare(Call *call, TimestampTz now);
/* After the commit: hand it to the transport. Sets outcome on failure; false then. */
extern bool sparky_call_start(Call *call, HttpClient *client);
/* The transfer ended: read the answer into outcome, answer, report. */
extern void sparky_call_finish(Call *call, const HttpResult *result);
extern size_t sparky_call_memory(const Call *call);

#endif
