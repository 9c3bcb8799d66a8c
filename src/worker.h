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

/*
 * batch.c: run work on every item in one transaction; on an error, each alone.
 * Relation locks are taken first, without waiting.  failed_with (may be NULL)
 * gets the SQLSTATE of each ITEM_FAILED.  SPI is connected inside.
 */
extern void sparky_batch_run(BatchKind kind, void **items, int count, BatchWork work, ItemResult *results, int *failed_with);
/* One piece of work in a transaction of its own; false when it failed or was postponed. */
extern bool sparky_batch_once(BatchKind kind, BatchWork work, void *item);

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
	bool		claim_due;		/* there may be ready jobs */
	bool		answered_due;	/* there may be answered jobs */
	TimestampTz next_run;		/* when the next queued job is ready */
	TimestampTz next_answered;	/* when answered jobs are tried again */
	int			answered_pause_ms;
	TimestampTz next_sweep;
	PausedModel paused[SPARKY_PAUSED_MODELS];
} Worker;

extern Worker sparky_worker;

/* worker.c: show that this worker moves, in long batches too; false: it was replaced while it did not. */
extern bool sparky_worker_beat(void);

/* worker_steps.c: the steps of the loop; each returns true if there may be more of its kind at once. */
extern bool sparky_worker_accept(void);
extern bool sparky_worker_claim(void);
extern bool sparky_worker_settle(void);
extern bool sparky_worker_settle_answered(void);
extern void sparky_worker_sweep(void);
extern size_t sparky_worker_memory(void);
extern void sparky_worker_pause_model(const char *model, double seconds);

#endif
