/*
 * json_schema.h: a named subset of JSON Schema, checked and validated.  Plain C.
 *
 * Keywords: type (string or array of strings), properties, required,
 * additionalProperties (boolean or schema), items, enum, const, minimum,
 * maximum, minLength, maxLength (code points), minItems, maxItems, title, description,
 * default, format (annotation), propertyOrdering (annotation), anyOf, and
 * x-values: 'hairstyles.id' | 'hair_colors.hex_code' | 'skin_colors.hex_code'.
 * Any other keyword makes a schema unusable: what cannot be checked must not look checked.
 */
#ifndef SPARKY_JSON_SCHEMA_H
#define SPARKY_JSON_SCHEMA_H

#include "json.h"

/* Asked for each string under an x-values keyword; true if the value is in that list. */
typedef bool (*SchemaLookup) (void *context, const char *list, const char *value, size_t length);

/* Is this schema within the subset?  why gets a one-line reason naming the JSON pointer. */
extern bool sparky_schema_usable(const JsonValue *schema, char *why, size_t why_size);
/*
 * Does the value satisfy the schema?  strict_objects: members that no schema
 * names are refused unless additionalProperties says otherwise (tool
 * parameters); without it JSON Schema's own rule holds (provider answers).
 * why names the JSON pointer and the rule, never the value.
 */
extern bool sparky_schema_accepts(const JsonValue *schema, const JsonValue *value, bool strict_objects,
								  SchemaLookup lookup, void *context, char *why, size_t why_size);
#endif
