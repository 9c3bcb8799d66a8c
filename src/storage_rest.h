/*
 * storage_rest.h: the REST API of Supabase Storage.  Structs in, structs out: no
 * I/O, no PostgreSQL; testable from bytes.
 *
 * A path is "<bucket>/<key>", as everywhere in sparky.  A message is what the
 * transport needs but for the key: the caller adds "apikey: K" and
 * "Authorization: Bearer K", both always, the same K.  An answer is read from
 * the transport's result and the body (for a download: only when the status is
 * not 200; a file's bytes never come here).
 */
#ifndef SPARKY_STORAGE_REST_H
#define SPARKY_STORAGE_REST_H

#include <stddef.h>
#include <stdint.h>

#include "json.h"
#include "outcome.h"

typedef enum StorageOperation
{
	STORAGE_DOWNLOAD = 0, STORAGE_UPLOAD, STORAGE_INFO, STORAGE_SIGN, STORAGE_DELETE, STORAGE_LIST
} StorageOperation;

typedef enum StorageOutcome
{
	STORAGE_OK = 0,
	STORAGE_MISSING,			/* no such object (or the key may not see it) */
	STORAGE_NO_BUCKET,
	STORAGE_EXISTS,				/* an upload without overwrite found an object */
	STORAGE_AUTH,				/* the service key is missing, wrong, expired or not allowed: the operator's trouble */
	STORAGE_TOO_LARGE,			/* over the limit of the bucket or of the server */
	STORAGE_WRONG_TYPE,			/* the bucket does not allow this media type */
	STORAGE_BAD_KEY,			/* characters or segments that Storage refuses; also found before a request is made */
	STORAGE_BAD_REQUEST,		/* any other 4xx */
	STORAGE_THROTTLED,			/* SlowDown, 429 */
	STORAGE_FILE_GONE,			/* a row without its file, as far as an InternalError on reading tells: see the retry rule */
	STORAGE_SERVER,				/* 5xx: try again */
	STORAGE_NETWORK,			/* broken after the request went out: an upload may have arrived, and may be repeated */
	STORAGE_TIMEOUT,
	STORAGE_CONNECT,			/* no server got the request */
	STORAGE_CUT,				/* our own cap stopped a body that is larger than any answer may be */
	STORAGE_REDIRECT,			/* 3xx: never followed, the key is in the headers */
	STORAGE_INVALID,			/* an answer that is none of this API's */
	STORAGE_OUTCOME_COUNT
} StorageOutcome;

/* Whose matter an outcome is. */
typedef enum StorageMatter
{
	STORAGE_MATTER_NONE = 0,	/* it went well */
	STORAGE_MATTER_OBJECT,		/* a fact about this object: final for it, says nothing of the service */
	STORAGE_MATTER_TEMPORARY,	/* the service is away or busy: wait, up to sparky.storage_deadline */
	STORAGE_MATTER_OPERATOR,	/* key, bucket or address are set up wrongly: wait too, and tell the operator */
	STORAGE_MATTER_OURS			/* our request was wrong: final */
} StorageMatter;

typedef struct StorageRule
{
	const char *name;			/* "missing", "no_bucket", ... */
	RetryRule	retry;			/* within one step: RETRY_NEVER, RETRY_ONCE, RETRY_SAFE; every operation here may be repeated */
	StorageMatter matter;
} StorageRule;

/* Never NULL. */
extern const StorageRule *sparky_storage_rest_rule(StorageOutcome outcome);
extern const char *sparky_storage_rest_name(StorageOutcome outcome);

/* ---- requests ---- */

#define SPARKY_STORAGE_KEY_BYTES 1024	/* the longest key */
#define SPARKY_STORAGE_BATCH 1000		/* keys in one deletion, entries in one listing */

typedef struct StorageMessage
{
	StorageOperation operation;
	const char *method;			/* static text */
	char	   *url;			/* malloc'd; never holds the key of the service */
	char	   *headers[4];		/* "Name: value", malloc'd, NULL-terminated: all but the two with the key */
	bool		has_body;
	size_t		content_length;	/* of the body; of the file for an upload */
	char	   *body;			/* malloc'd JSON, content_length bytes; NULL for an upload: the caller streams the file */
	/* what the answer is checked against; malloc'd, or NULL */
	char	   *path;			/* of the one object, as given */
} StorageMessage;

/*
 * Each returns STORAGE_OK, or STORAGE_BAD_KEY (the path can never name an object), STORAGE_BAD_REQUEST (another argument or the
 * base URL is wrong; out of memory), and then why says which.  base_url: sparky.storage_url, "http://kong:8000/storage/v1", with or
 * without a slash at its end.  A message is freed with sparky_storage_rest_message_free(), also after a refusal.
 */
extern StorageOutcome sparky_storage_rest_download(const char *base_url, const char *path,
												   StorageMessage *message, char *why, size_t why_size);
/* mime exactly as the bucket allows it ("image/png"); overwrite: x-upsert, else a taken path answers STORAGE_EXISTS. */
extern StorageOutcome sparky_storage_rest_upload(const char *base_url, const char *path, const char *mime, size_t bytes, bool overwrite,
												 StorageMessage *message, char *why, size_t why_size);
/* Is it there, and which version: size, media type, etag. */
extern StorageOutcome sparky_storage_rest_info(const char *base_url, const char *path,
											   StorageMessage *message, char *why, size_t why_size);
/* A link that opens without a key for so many seconds, 1 to 31536000. */
extern StorageOutcome sparky_storage_rest_sign(const char *base_url, const char *path, int64_t seconds,
											   StorageMessage *message, char *why, size_t why_size);
/* Up to SPARKY_STORAGE_BATCH objects of one bucket; keys without the bucket.  Those that are gone already are no error. */
extern StorageOutcome sparky_storage_rest_delete(const char *base_url, const char *bucket, const char *const *keys, size_t count,
												 StorageMessage *message, char *why, size_t why_size);
/* One level of a folder ("" or "uid/..."), by name: files and folders. */
extern StorageOutcome sparky_storage_rest_list(const char *base_url, const char *bucket, const char *prefix, int limit, int64_t offset,
											   StorageMessage *message, char *why, size_t why_size);
extern void sparky_storage_rest_message_free(StorageMessage *message);

/* May Storage have an object of this key (without the bucket)?  No empty, '.' or '..' segments, only its allowed characters. */
extern bool sparky_storage_rest_key_valid(const char *key, size_t length);
/* Append a path as a URL has it: every segment percent-encoded by itself. */
extern void sparky_storage_rest_encode(JsonText *url, const char *path);

/* ---- answers ---- */

/* One line of a listing; all malloc'd. */
typedef struct StorageEntry
{
	char	   *name;			/* within the folder asked for */
	char	   *id;				/* uuid; NULL: a folder */
	char	   *created_at;		/* as the service writes it, or NULL */
	int64_t		size;			/* -1: not told */
} StorageEntry;

typedef struct StorageAnswer
{
	StorageOutcome outcome;
	int			http_status;
	int			status;			/* statusCode of the body when it has one, else http_status */
	char		code[40];		/* "NoSuchKey"; "" when not told */
	char		message[161];	/* for operators: ASCII, one line, at most 160 bytes, without secrets */
	double		retry_after;	/* seconds, -1: not told */
	/* an upload */
	char		object_id[40];	/* uuid; the same one when overwritten */
	/* an info */
	int64_t		size;			/* -1: not told */
	char		mime[128];
	char		etag[128];		/* without quotes */
	char		version[64];	/* another one after each overwrite */
	/* a sign: the whole link, malloc'd */
	char	   *link;
	/* a deletion: keys that were there and are gone now */
	size_t		deleted;
	/* a listing; fewer entries than the limit: the end */
	StorageEntry *entries;
	size_t		count;
} StorageAnswer;

/*
 * body: what came, capped by the caller, or NULL; a download with status 200 gives none.  content_type may be NULL.  secret: when not
 * NULL, any occurrence in the kept texts is struck out.  public_base: for a sign, what the link begins with, as clients reach it
 * ("https://example.com/storage/v1"); NULL: base of the message.
 */
extern void sparky_storage_rest_read(const StorageMessage *message, TransportResult transport, int http_status, const char *content_type,
									 const char *body, size_t length, const char *secret, const char *public_base, StorageAnswer *answer);
extern void sparky_storage_rest_answer_free(StorageAnswer *answer);

#endif
