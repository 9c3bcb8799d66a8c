/* canonical_json.h: RFC 8785 (JCS).  Plain C. */
#ifndef SPARKY_CANONICAL_JSON_H
#define SPARKY_CANONICAL_JSON_H

#include "json.h"

/* Append the canonical form of a parsed value, or of a text; false when it has none (number out of IEEE double, lone surrogate). */
extern bool sparky_jcs_add(JsonText *out, const JsonValue *value);
/* Parse and canonicalise; why as in sparky_json_parse. */
extern bool sparky_jcs_add_text(JsonText *out, const char *json, size_t length, char *why, size_t why_size);

#endif
