/*
 * paths.h: whose object a path names.  Plain C.
 *
 * A path is "<bucket>/<uid>/<name...>", or "<uid>/<name...>" in user_uploads, as
 * supabase-js returns it.  What is not plainly a name below the user's own
 * folder is refused whether it exists or not: empty, '.' and '..' segments,
 * backslashes, control characters, encoded separators and dots.
 */
#ifndef SPARKY_PATHS_H
#define SPARKY_PATHS_H

#include <stdbool.h>
#include <stddef.h>

#define SPARKY_UPLOADS "user_uploads"
#define SPARKY_GENERATIONS "generations"

/* With bucket, whoever's it is: what a fingerprint is made of. false: longer than size. */
extern bool sparky_path_normal(const char *path, char *normal, size_t size);
/* Is a normal path in this user's folder of the bucket? uid is lower-case text. */
extern bool sparky_path_owned(const char *normal, const char *bucket, const char *uid);

#endif
