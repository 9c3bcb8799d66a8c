/*
 * errand.h: what the worker does besides jobs: one exchange or a few with a
 * service, for a caller or for itself.
 *
 * An errand goes round: begin (a transaction) -> request, read (no transaction,
 * bytes on the network) -> settle (a transaction), and again from request as
 * long as settle asks for it.  Its caller is answered after the last commit.  A
 * type is a table of these four; the loop that drives them is worker_errands.c.
 */
#ifndef SPARKY_ERRAND_H
#define SPARKY_ERRAND_H

#include "lib/ilist.h"

#include "call.h"
#include "http.h"
#include "queue.h"
#include "mailbox.h"

typedef struct Errand Errand;

typedef struct ErrandType
{
	const char *name;			/* for the log */
	BatchKind	locks;			/* of begin and settle */
	/*
	 * In a transaction, SPI connected, the worker being the data owner.  False:
	 * a lock is in the way, it is called again.  Either the errand is over
	 * (errand->over, with errand->answer for the caller), or a request follows.
	 * An ERROR refuses it as overloaded.  It may run twice: after an aborted batch.
	 * NULL: it begins with a request.
	 */
	bool		(*begin) (Errand *errand, TimestampTz now);
	/*
	 * Outside: fill a zeroed request; its texts live in errand->context; source, sink, their context and content_length are the
	 * errand's own, which sends what errand->outgoing names.
	 * False: over; or, with errand->unsent set, straight to the settlement.
	 */
	bool		(*request) (Errand *errand, HttpRequest *request);
	/* Outside: the exchange ended; the response is in errand->body.  May set errand->again: another request before any settlement, at not_before. */
	void		(*read) (Errand *errand, const HttpResult *result);
	/* As begin.  errand->over false: another request follows the commit.  An ERROR is logged, and it is tried again until give_up.  NULL: none. */
	bool		(*settle) (Errand *errand, TimestampTz now);
	/*
	 * In a transaction of its own, after a begin or settle that a lock kept or, errand->failed, that raised an error: give back what must not
	 * wait with it.  True: the errand is over.  False, or NULL: the step is tried again.
	 */
	bool		(*stuck) (Errand *errand, TimestampTz now);
	BatchKind	stuck_locks;
	/* What it costs in memory beside its body, or NULL. */
	size_t		(*memory) (const Errand *errand);
	/* Would this submission be the same errand?  Then its caller gets this one's answer.  Or NULL: each has his own. */
	bool		(*joins) (const Errand *errand, const Submission *submission);
	/* The job whose claim it is, or NULL: the loop is told of its end, and does not take the claim for lost. */
	const Job  *(*job) (const Errand *errand);
} ErrandType;

typedef enum ErrandPhase { ERRAND_BEGIN, ERRAND_REQUEST, ERRAND_RUNNING, ERRAND_SETTLE } ErrandPhase;

struct Errand
{
	Exchange	exchange;		/* first: the transport gives it back */
	dlist_node	node;
	MemoryContext context;		/* owns all of it */
	const ErrandType *type;
	ErrandPhase phase;
	bool		over;
	bool		again;
	bool		unsent;			/* the request could not be made: the settlement knows why */
	bool		failed;			/* the last step raised an error, rather than meeting a lock */
	TimestampTz not_before;		/* of the next step, if it was postponed */
	TimestampTz give_up;		/* a settlement that fails is not tried after it */
	int			pause_ms;		/* before the next try */
	MailboxItem *mail;			/* NULL: nobody waits */
	dlist_head	followers;		/* Follower: more callers who want this very answer */
	SubmissionAnswer answer;	/* starts as ACCEPTED */
	HttpTransfer *transfer;
	char	   *secret;			/* header text with a key, in context: wiped when the transport has it */
	size_t		secret_size;
	/* The request's body; whoever names the bytes keeps them until read. */
	const char *outgoing;
	size_t		outgoing_length;
	size_t		sent;
	/* The response, malloc'd: lead bytes are left free before it (a varlena header). */
	char	   *body;
	size_t		length;
	size_t		capacity;
	size_t		limit;			/* a longer response stops the transfer */
	size_t		lead;
	void	   *state;			/* the type's own, in context */
};

typedef struct Follower
{
	dlist_node	node;
	MailboxItem mail;
} Follower;

/* A new errand with a context of its own; mail is copied, NULL: nobody waits. */
extern Errand *sparky_errand_create(const ErrandType *type, const MailboxItem *mail);
extern void sparky_errand_free(Errand *errand);
/* Answer this caller too, in the end. */
extern void sparky_errand_follow(Errand *errand, const MailboxItem *mail);
/* Forget the response of the last exchange. */
extern void sparky_errand_reset_body(Errand *errand);
extern size_t sparky_errand_memory(const Errand *errand);
/* End it with a refusal; detail (may be NULL) is for the caller's error. */
extern void sparky_errand_refuse(Errand *errand, ErrorWord error, const char *detail);
/* Hand it to the transport; false: it could not start, errand->read was called with why. */
extern bool sparky_errand_start(Errand *errand, HttpClient *client);
/* The transfer ended. */
extern void sparky_errand_finish(Errand *errand, const HttpResult *result);

/* ---- the worker's side, worker_errands.c; any row may ask for an errand ---- */

/* Put it into the worker's list; only in the worker, outside a transaction or in one (a rollback does not take it out). */
extern void sparky_errand_enlist(Errand *errand);

#endif
