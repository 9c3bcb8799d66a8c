/* worker.h: what the loop (worker.c) and its steps (worker_steps.c, batch.c) share. */
#ifndef SPARKY_WORKER_H
#define SPARKY_WORKER_H

#include "call.h"
#include "http.h"
#include "queue.h"

/* What a batch did with an item. */
typedef enum ItemResult { ITEM_DONE, ITEM_POSTPONED, ITEM_FAILED } ItemResult;
/* Inside the transaction; false: a lock is in the way, postpone this item. */
typedef bool (*BatchWork) (void *item);

#define SPARKY_BATCH 50
/* Photos read, or pictures stored, by one batch: the network must not wait longer than for these. */
#define SPARKY_BATCH_BYTES (4 * 1024 * 1024)
/* When something is tried again that a lock was in the way of. */
#define SPARKY_POSTPONE_MS 50

/*
 * batch.c: run work on every item in one transaction; on an error, each alone.
 * Relation locks are taken first, without waiting.  failed_with (may be NULL)
 * gets the SQLSTATE of each ITEM_FAILED.  SPI is connected inside.
 */
extern void sparky_batch_run(BatchKind kind, void **items, int count, BatchWork work, ItemResult *results, int *failed_with);
/* One piece of work in a transaction of its own; false when it failed or was postponed. */
extern bool sparky_batch_once(BatchKind kind, BatchWork work, void *item);
/* Inside the transaction: what an item did holds only until then; a batch that takes longer is undone, and its items postponed one by one. */
extern void sparky_batch_commit_before(TimestampTz time);

typedef struct PausedModel
{
	char		model[96];
	TimestampTz until;
} PausedModel;

#define SPARKY_PAUSED_MODELS 16

typedef struct Worker
{
	int64		incarnation;
	HttpClient *http;
	dlist_head	running;		/* calls on the network */
	dlist_head	finished;		/* calls whose settlement is due */
	int			running_count;
	int			finished_count;
	int			fetching_count; /* claims whose photo is on its way from storage */
	bool		claim_due;		/* there may be ready jobs */
	bool		answered_due;	/* there may be answered jobs */
	TimestampTz next_run;		/* when the next queued job is ready */
	TimestampTz next_answered;	/* when answered jobs are tried again */
	int			answered_pause_ms;
	TimestampTz next_sweep;
	PausedModel paused[SPARKY_PAUSED_MODELS];
} Worker;

extern Worker sparky_worker;

/* worker_errands.c */
struct Errand;
/* A submission that is no generation becomes an errand; false: it is one. */
extern bool sparky_worker_take_errand(const MailboxItem *mail);
extern bool sparky_worker_errands(void);
/* With each sweep. */
extern void sparky_worker_enlist_inquiries(void);
extern void sparky_worker_errand_finished(struct Errand *errand, const HttpResult *result);
extern TimestampTz sparky_worker_errands_due(void);
extern size_t sparky_worker_errands_memory(void);
extern bool sparky_worker_errand_has(const Job *job);

/* worker_files.c */
/* An errand of a job came to its end. */
extern void sparky_worker_job_errand_ended(struct Errand *errand);
/* Answers that wait go to storage. */
extern bool sparky_worker_store_answered(void);
extern void sparky_worker_erase(TimestampTz now);

/* worker.c: show that this worker moves, in long batches too; false: it was replaced while it did not. */
extern bool sparky_worker_beat(void);

/* The steps of the loop; each returns true if there may be more of its kind at once. worker_claim.c: */
extern bool sparky_worker_claim(void);
extern void sparky_worker_start_call(Call *call);	/* its claim is committed */
extern void sparky_worker_pause_model(const char *model, double seconds);
/* worker_steps.c */
extern bool sparky_worker_accept(void);
extern bool sparky_worker_settle(void);
extern bool sparky_worker_settle_answered(void);
extern void sparky_worker_sweep(void);
extern size_t sparky_worker_memory(void);

#endif
