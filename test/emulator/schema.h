/*
 * schema.h: an instance of a JSON schema, for analysis answers.
 */
#ifndef EMULATOR_SCHEMA_H
#define EMULATOR_SCHEMA_H

#include <jansson.h>

#include "buf.h"

/* What the service's responseJsonSchema does not take; false: why says which. */
extern bool schema_supported(const json_t *schema, Buf *why);

/*
 * A value that satisfies the schema (JSON Schema as supported above, or the
 * OpenAPI subset of responseSchema).  The seed varies it; NULL: no value can be
 * made (an impossible or endless schema).
 */
extern json_t *schema_instance(const json_t *schema, uint64_t seed);

#endif
