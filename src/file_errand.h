/*
 * file_errand.h: errands to the Storage API.
 *
 * For callers: the digest of a photo, a link, a file up or down.  For jobs:
 * fetching the photo, storing the result.  For itself: erasing what was
 * deleted.  What they have in common is in file_errand.c.
 */
#ifndef SPARKY_FILE_ERRAND_H
#define SPARKY_FILE_ERRAND_H

#include "call.h"
#include "errand.h"
#include "storage.h"
#include "storage_rest.h"

/* ---- what every exchange with storage has; the first member of each errand's state ---- */

typedef struct FileExchange
{
	MemoryContextCallback callback; /* frees what the protocol allocated */
	StorageMessage message;
	StorageAnswer answer;
	int			tries;			/* exchanges so far */
	bool		tell_all;		/* operators hear of everything that is not well: it waits for them */
	char		why[160];		/* why no request could be made */
} FileExchange;

/* Zeroed state of an errand, with its exchange ready; size is that of the whole state. */
extern void *sparky_file_state(Errand *errand, size_t size);
/* Forget the last message and answer, before the next message is made. */
extern void sparky_file_reset(FileExchange *exchange);
/*
 * made: what the protocol said of the message.  Fills the request, with the key.  False: there can be none, errand->unsent is set, and
 * the answer says why.
 */
extern bool sparky_file_request(Errand *errand, StorageOutcome made, HttpRequest *request);
/* The same for a file: its message too. An upload of length bytes overwrites. */
extern bool sparky_file_download(Errand *errand, const char *path, HttpRequest *request);
extern bool sparky_file_upload(Errand *errand, const char *path, const char *mime, const char *bytes, size_t length, HttpRequest *request);
/* Read the exchange's end into the answer, tell operators, and ask for another try where that is safe and few have been made. */
extern void sparky_file_read(Errand *errand, const HttpResult *result, int most_tries);
/* As far as a caller is told; WORD_NONE: it went well. */
extern ErrorWord sparky_file_word(StorageOutcome outcome);
/* Refuse it, as the answer says. */
extern void sparky_file_refuse(Errand *errand);
/* Is it the service that does not work, rather than this one file? */
extern bool sparky_file_service_trouble(StorageOutcome outcome);
/* One line for an operator: "auth: InvalidKey (403) ...". In context. */
extern char *sparky_file_words(const StorageAnswer *answer);

/* ---- the types ---- */

/* file_caller.c: PURPOSE_HASH, _SIGN, _UPLOAD, _DOWNLOAD */
extern const ErrandType sparky_hash_errand;
extern const ErrandType sparky_sign_errand;
extern const ErrandType sparky_upload_errand;
extern const ErrandType sparky_download_errand;
/* Is this key of a bucket being uploaded for a caller? */
extern bool sparky_file_uploading(const char *bucket, const char *name);

/* file_job.c */
typedef struct FetchErrand
{
	FileExchange exchange;
	Job			job;
	int64		incarnation;
	char		sha256[65];
	bool		ended;			/* the job, or this claim of it */
	Call	   *call;			/* what came of it: claimed, to be started */
} FetchErrand;

typedef struct StoreErrand
{
	FileExchange exchange;
	Job			job;
	JobAnswer	answer;
	char	   *path;
	MemoryContext memory;		/* of the answer */
	bool		ended;			/* the job */
	bool		down;			/* the service does not work: the others need not try now */
	TimestampTz next;			/* when this one is tried again, 0: it is not */
} StoreErrand;

extern const ErrandType sparky_fetch_errand;
extern const ErrandType sparky_store_errand;
extern const ErrandType sparky_erase_errand;
/* After the claim's commit. */
extern Errand *sparky_fetch_create(const Job *job, int64 incarnation);
extern Errand *sparky_store_create(const Job *job);

/* file_erase.c: NULL if one is under way, or it is too early for another try. */
extern Errand *sparky_erase_create(TimestampTz now);
/* Is this key on its way to be erased? */
extern bool sparky_file_erasing(const char *path);

#endif
