/*
 * storage.h: one interface to where photos live, two implementations: in the
 * database (storage_embedded.c), or behind the Storage API of Supabase
 * (storage_outside.c), where the bytes themselves go through the worker.
 *
 * Paths carry the bucket: "user_uploads/<uid>/...".  SPI connected, owner scope entered.
 */
#ifndef SPARKY_STORAGE_H
#define SPARKY_STORAGE_H

#include "postgres.h"
#include "utils/uuid.h"
#include "image.h"

typedef struct StoredObject
{
	pg_uuid_t	object_id;
	char		version[64];
	char		sha256[65];		/* '' where the bytes are outside: nobody has looked at this version yet */
	char		mime[32];		/* as the bytes show it; '' with a digest: they are no picture that we take */
	int			size;			/* outside: as storage says, 0 if it does not */
	int			width;			/* outside: 0 */
	int			height;
} StoredObject;

/* Are the bytes behind the Storage API?  Needs no SPI. */
extern bool sparky_storage_outside(void);
/* Is the backend usable? ERROR not_configured otherwise (storage_url empty beside a real storage.objects, or no key for it). */
extern void sparky_storage_require(void);
/* What is there, under the latest snapshot: false if no object, or a row without a file, or one that is to be erased. */
extern bool sparky_storage_stat(const char *path, StoredObject *object);
/* The bytes, detoasted into CurrentMemoryContext; NULL if gone. Embedded only. */
extern bytea *sparky_storage_get(const char *path, StoredObject *object);
/*
 * Write an object (upsert: the same path keeps its id).  bytes is a varlena whose
 * header is set.  owner: whose folder and quota it is.  Never checks quotas.  Embedded only.
 */
extern void sparky_storage_put(const char *path, const pg_uuid_t *owner, bytea *bytes, const ImageInfo *info, const char *sha256_hex);
/* Object and file, outside: from this commit on they count as gone, and the worker erases them; false if there was none. */
extern bool sparky_storage_delete(const char *path);
/* Bytes stored for a user in both buckets. */
extern int64 sparky_storage_used(const pg_uuid_t *owner);
/* Uploads of a user within the last hour, and the seconds until the oldest of them is an hour old. */
extern int64 sparky_storage_recent_uploads(const pg_uuid_t *owner, int *seconds);
/* One upload of a user at a time, until the end of the transaction. */
extern void sparky_storage_lock_uploads(const pg_uuid_t *owner);
/* A ready link, or NULL (public_url empty; outside: storage did not answer soon). palloc'd. expires: unix seconds. Outside it asks the worker, and waits. */
extern char *sparky_storage_sign(const char *path, int64 expires);
/* Does the signature belong to path and expires?  Constant time; says nothing about the clock. */
extern bool sparky_storage_signature_valid(const char *path, int64 expires, const char *signature);
/* Where a job's picture goes: derived from the job, so that a repeat lands on the same object. palloc'd. */
extern char *sparky_storage_result_path(const pg_uuid_t *user, const pg_uuid_t *job, ImageType type);

/* ---- outside only; storage_outside.c and erasures.c; in the worker ---- */

/* Remember what this version of the object is: sha256, mime ('' = no picture that we take), size. */
extern void sparky_storage_note_hash(const StoredObject *object);
/* From now on the path counts as gone, and its file is to be erased. */
extern void sparky_storage_note_erasure(const char *path);

typedef struct Erasure
{
	int64		id;
	char	   *name;			/* the key, without the bucket */
} Erasure;

/*
 * Up to limit files to erase, all of one bucket (palloc'd, as the names); those
 * that need no erasing any more, being gone or written anew since, are struck off first.
 */
extern int	sparky_erasures_next(int limit, char **bucket, Erasure **list);
/* Strike off those of them that are gone, or were written anew since; the list keeps the others, whose number is returned. */
extern int	sparky_erasures_strike(Erasure *list, int count);
/* Those that are still there could not be erased: why.  for_good: they are not tried again. */
extern void sparky_erasures_failed(const Erasure *list, int count, const char *why, bool for_good);

#endif
