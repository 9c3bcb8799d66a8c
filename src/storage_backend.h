/*
 * storage_backend.h: what storage.c and its two backends share.
 *
 * A backend is a table.  Its functions mean what storage.h says of those of
 * their names; its statements are what storage.c runs for them.
 */
#ifndef SPARKY_STORAGE_BACKEND_H
#define SPARKY_STORAGE_BACKEND_H

#include "storage.h"

typedef enum StorageStatement
{
	STATEMENT_STAT,				/* $1, $2: bucket, name; gives object, version, sha256, mime, size, width, height, NULL being '' or 0 */
	STATEMENT_USED,				/* $1: the owner's id as text; gives bytes */
	STATEMENT_RECENT_UPLOADS,		/* $1: the owner's id as text; gives number, seconds */
	STATEMENT_COUNT
} StorageStatement;

typedef struct StorageBackend
{
	void		(*require) (void);
	bytea	   *(*get) (const char *path, StoredObject *object);
	void		(*put) (const char *path, const pg_uuid_t *owner, bytea *bytes, const ImageInfo *info, const char *sha256_hex);
	bool		(*delete) (const char *path);
	char	   *(*sign) (const char *path, int64 expires);
	const char *sql[STATEMENT_COUNT];
} StorageBackend;

/* Of files o in storage.objects: who tells whose they are, and which column when they came. */
#define RECENT_UPLOADS_SQL(files, whose, came) \
	"SELECT pg_catalog.count(*), COALESCE(pg_catalog.ceil(EXTRACT(epoch FROM" \
	" pg_catalog.min(" came ") + '1 hour'::pg_catalog.interval - pg_catalog.clock_timestamp())), 0)::pg_catalog.int4" \
	" FROM " files " WHERE o.bucket_id = 'user_uploads' AND " whose \
	" AND " came " > pg_catalog.clock_timestamp() - '1 hour'::pg_catalog.interval"

extern const StorageBackend sparky_storage_embedded;	/* storage_embedded.c */
extern const StorageBackend sparky_storage_rest;		/* storage_outside.c */

/* "bucket/name"; a path without a slash names no bucket, and so no object. */
extern void sparky_storage_split(const char *path, Datum *bucket, Datum *name);
/* Is storage.objects our stand-in?  False also where there is none. */
extern bool sparky_storage_is_ours(void);
/* HMAC-SHA256 over path, newline, expiry, in hex; false where the instance has no key yet. */
extern bool sparky_storage_signature(const char *path, int64 expires, char hex[65]);

#endif
