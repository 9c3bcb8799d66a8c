/* history.h: a user takes back what he has: a result or a photo.  SPI connected, owner scope entered. */
#ifndef SPARKY_HISTORY_H
#define SPARKY_HISTORY_H

#include "postgres.h"
#include "utils/uuid.h"

/* The row, the file, and every copy of the result; false: no such row of this user. */
extern bool sparky_history_delete(const pg_uuid_t *user_id, int64 generation_id);
/* The photo at a path of his own, and the cache entries made from it; false: there was none. */
extern bool sparky_upload_delete(const pg_uuid_t *user_id, const char *path);

#endif
