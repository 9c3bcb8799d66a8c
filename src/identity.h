/* identity.h: who is signed in.  No SQL, no snapshot. */
#ifndef SPARKY_IDENTITY_H
#define SPARKY_IDENTITY_H

#include "postgres.h"
#include "utils/uuid.h"

#define SPARKY_UUID_TEXT 37		/* with the terminator */

/* The signed-in user, as id and as lower-case text; ERROR not_signed_in when there is none. */
extern void sparky_identity(pg_uuid_t *user, char text[SPARKY_UUID_TEXT]);
/* The same, false when there is none. */
extern bool sparky_identity_known(pg_uuid_t *user, char text[SPARKY_UUID_TEXT]);

#endif
