/*
 * storage.h: one interface to where photos live, two implementations
 * (embedded here; Supabase Storage's REST API arrives with its own issue).
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
	char		sha256[65];
	char		mime[32];
	int			size;
	int			width;
	int			height;
} StoredObject;

/* Is the backend usable? ERROR not_configured otherwise (storage_url empty beside a real storage.objects). */
extern void sparky_storage_require(void);
/* What is there, under the latest snapshot: false if no object, or a row without a file. */
extern bool sparky_storage_stat(const char *path, StoredObject *object);
/* The bytes, detoasted into CurrentMemoryContext; NULL if gone. */
extern bytea *sparky_storage_get(const char *path, StoredObject *object);
/*
 * Write an object (upsert: the same path keeps its id).  bytes is a varlena whose
 * header is set.  owner: whose folder and quota it is.  Never checks quotas.
 */
extern void sparky_storage_put(const char *path, const pg_uuid_t *owner, bytea *bytes, const ImageInfo *info, const char *sha256_hex);
/* Object and file; false if there was none. */
extern bool sparky_storage_delete(const char *path);
/* Bytes stored for a user in both buckets. */
extern int64 sparky_storage_used(const pg_uuid_t *owner);
/* Uploads of a user within the last hour, and the seconds until the oldest of them is an hour old. */
extern int64 sparky_storage_recent_uploads(const pg_uuid_t *owner, int *seconds);
/* One upload of a user at a time, until the end of the transaction. */
extern void sparky_storage_lock_uploads(const pg_uuid_t *owner);
/* A ready link: public_url + signed download call, or NULL (public_url empty). palloc'd. expires: unix seconds. */
extern char *sparky_storage_sign(const char *path, int64 expires);
/* Does the signature belong to path and expires?  Constant time; says nothing about the clock. */
extern bool sparky_storage_signature_valid(const char *path, int64 expires, const char *signature);

#endif
