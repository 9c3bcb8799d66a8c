/*
 * owned.h: what the plain-C rows malloc, owned by a memory context.
 *
 * Any palloc can longjmp past a free(), so the owner is made and registered
 * first and the malloc'd thing is put into it afterwards.  Everything lives in
 * CurrentMemoryContext and goes with it; nothing here is freed by hand.
 */
#ifndef SPARKY_OWNED_H
#define SPARKY_OWNED_H

#include "postgres.h"

#include "json.h"

/* NULL when the text is no JSON: why says so. */
extern JsonValue *sparky_owned_json(const char *text, char *why, size_t why_size);
/* An empty growing text. */
extern JsonText *sparky_owned_text(void);
/* Lower-case hex SHA-256 of the RFC 8785 form of a JSON text; false when it has none. */
extern bool sparky_jcs_sha256(const char *json, char hex[65]);

#endif
