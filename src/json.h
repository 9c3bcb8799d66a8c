/*
 * json.h: the only door to jansson.  Plain C: no PostgreSQL here.
 *
 * A JsonValue is jansson's json_t; callers hold pointers and never include
 * jansson.h.  Who calls sparky_json_parse() frees with sparky_json_free();
 * everything reached from a value lives as long as the value.
 */
#ifndef SPARKY_JSON_H
#define SPARKY_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct json_t JsonValue;

/*
 * Parse exactly length bytes, an object, an array or a scalar: duplicate keys,
 * trailing text, bad UTF-8, lone surrogates, more than 64 levels, an integer
 * beyond int64 and a \u0000 anywhere are refused.
 * NULL on error, with a short English reason in why (never quoting input).
 */
#define SPARKY_JSON_MAX_DEPTH 64
extern JsonValue *sparky_json_parse(const char *text, size_t length, char *why, size_t why_size);
/* The same, with every number read as a double, as ECMAScript does: what an int64 cannot hold is no error here. */
extern JsonValue *sparky_json_parse_doubles(const char *text, size_t length, char *why, size_t why_size);
extern void sparky_json_free(JsonValue *value);
/* Are more than most brackets open at once? */
extern bool sparky_json_too_deep(const char *text, size_t length, size_t most);

typedef enum JsonKind { JSON_KIND_NULL, JSON_KIND_BOOL, JSON_KIND_INTEGER, JSON_KIND_REAL, JSON_KIND_STRING, JSON_KIND_ARRAY, JSON_KIND_OBJECT } JsonKind;

extern JsonKind sparky_json_kind(const JsonValue *value);		/* NULL reads as JSON_KIND_NULL */
extern JsonValue *sparky_json_get(const JsonValue *object, const char *key);	/* NULL: absent or no object */
extern JsonValue *sparky_json_at(const JsonValue *array, size_t index);
extern size_t sparky_json_size(const JsonValue *value);			/* members of an array or object, else 0 */
extern const char *sparky_json_string(const JsonValue *value, size_t *length);	/* NULL if no string */
extern bool sparky_json_bool(const JsonValue *value, bool otherwise);
extern int64_t sparky_json_integer(const JsonValue *value, int64_t otherwise);
extern double sparky_json_number(const JsonValue *value, double otherwise);
/* Walk an object: *iterator starts NULL; returns the key or NULL at the end. */
extern const char *sparky_json_next(const JsonValue *object, void **iterator, size_t *key_length, JsonValue **member);
/* Compact text, malloc'd; NULL when out of memory. */
extern char *sparky_json_print(const JsonValue *value);

/* A growing malloc'd text; failed is sticky, so that writers need not check each step. */
typedef struct JsonText
{
	char	   *data;			/* always terminated unless NULL */
	size_t		length;
	size_t		capacity;
	bool		failed;
} JsonText;

extern void sparky_json_text_add(JsonText *text, const char *bytes, size_t length);
extern void sparky_json_text_puts(JsonText *text, const char *string);	/* up to its terminator */
extern void sparky_json_text_add_string(JsonText *text, const char *utf8, size_t length);	/* quoted and escaped, as RFC 8785 wants it */
extern void sparky_json_text_add_number(JsonText *text, double number);	/* as ECMAScript prints it; not finite: failed */
extern void sparky_json_text_free(JsonText *text);

/* Length of the well-formed UTF-8 sequence at bytes, 0 if there is none (length > 0). */
extern size_t sparky_utf8_sequence(const char *bytes, size_t length);
extern bool sparky_utf8_valid(const char *bytes, size_t length);
/* The longest prefix of at most limit bytes that does not cut a character. */
extern size_t sparky_utf8_cut(const char *bytes, size_t length, size_t limit);
/*
 * Append a JSON text from outside, made fit for sparky_json_parse() and for
 * jsonb: bad UTF-8, \u0000 and lone surrogates become U+FFFD, raw control
 * characters in strings are escaped.  What is no JSON stays none.
 */
extern void sparky_json_clean(JsonText *out, const char *text, size_t length);

#endif
