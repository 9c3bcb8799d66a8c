/* cache.h: the result cache, cache.kv_store.  SPI connected, owner scope entered. */
#ifndef SPARKY_CACHE_H
#define SPARKY_CACHE_H

#include "postgres.h"
#include "utils/uuid.h"

typedef struct CacheHit
{
	int64		generation_id;
	char	   *image_path;		/* or NULL */
	char	   *analysis;		/* JSON text, or NULL */
} CacheHit;

/* Lower-case hex SHA-256 of the JCS array (DESIGN 3); parameters is JSON text. false: parameters have no canonical form. */
extern bool sparky_cache_key_make(const pg_uuid_t *user_id, const char *tool_id, const char *image_hash, const char *parameters, int revision, char key[65]);
/* An unexpired entry that is whole (the object still exists); latest committed state. A broken one is a miss. */
extern bool sparky_cache_lookup(const char *key, CacheHit *hit);
/* Insert or replace; ttl_seconds from now. Only the worker calls it. */
extern void sparky_cache_put(const char *key, int64 generation_id, const char *image_path, const char *analysis, int64 ttl_seconds);

#endif
