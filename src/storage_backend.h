/*
 * storage_backend.h: what storage.c and its two backends share.
 *
 * A backend is a table of functions; each means what storage.h says of the
 * function of its name.
 */
#ifndef SPARKY_STORAGE_BACKEND_H
#define SPARKY_STORAGE_BACKEND_H

#include "storage.h"

typedef struct StorageBackend
{
	void		(*require) (void);
	bool		(*stat) (const char *path, StoredObject *object);
	bytea	   *(*get) (const char *path, StoredObject *object);
	void		(*put) (const char *path, const pg_uuid_t *owner, bytea *bytes, const ImageInfo *info, const char *sha256_hex);
	bool		(*delete) (const char *path);
	int64		(*used) (const pg_uuid_t *owner);
	int64		(*recent_uploads) (const pg_uuid_t *owner, int *seconds);
	char	   *(*sign) (const char *path, int64 expires);
} StorageBackend;

extern const StorageBackend sparky_storage_embedded;	/* storage_embedded.c */
extern const StorageBackend sparky_storage_rest;		/* storage_outside.c */

/* "bucket/name"; a path without a slash names no bucket, and so no object. */
extern void sparky_storage_split(const char *path, Datum *bucket, Datum *name);
/* Is storage.objects our stand-in?  False also where there is none. */
extern bool sparky_storage_is_ours(void);
/* HMAC-SHA256 over path, newline, expiry, in hex; false where the instance has no key yet. */
extern bool sparky_storage_signature(const char *path, int64 expires, char hex[65]);

#endif
