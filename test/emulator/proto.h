/*
 * proto.h: the fields that the Gemini API knows, and proto3's reading of JSON.
 *
 * proto3 JSON takes lowerCamelCase and snake_case, refuses names it does not
 * know, values of another type, and two members of one oneof.  What is missing
 * in the tables is refused: a field the Gemini API itself refuses (such as
 * imageConfig.personGeneration) is simply not there.
 */
#ifndef EMULATOR_PROTO_H
#define EMULATOR_PROTO_H

#include <jansson.h>

#include "buf.h"

typedef enum FieldType
{
	FIELD_STRING, FIELD_BYTES, FIELD_BOOL, FIELD_INT32, FIELD_NUMBER, FIELD_ENUM, FIELD_MESSAGE, FIELD_ANY
} FieldType;

typedef enum FieldShape { ONE = 0, REPEATED, MAP } FieldShape;

typedef struct Message Message;

typedef struct Field
{
	const char *name;			/* lowerCamelCase */
	FieldType	type;
	FieldShape	shape;
	const Message *message;		/* FIELD_MESSAGE */
	const char *const *values;	/* FIELD_ENUM, ends with NULL */
	const char *oneof;
} Field;

struct Message
{
	const char *name;
	const Field *fields;		/* ends with a NULL name */
};

extern const Message generate_content_request;

/* What is wrong with a request: lines of text, and google.rpc.BadRequest. */
typedef struct Violations
{
	Buf			text;
	json_t	   *fields;			/* array of {field, description}; NULL: none */
} Violations;

extern void violation(Violations *list, const char *path, const char *format,...) __attribute__((format(printf, 3, 4)));
extern void violations_free(Violations *list);

/*
 * Checks names and types, and rewrites the object to lowerCamelCase without
 * nulls, so that the caller need not know the other spellings.
 */
extern void proto_check(json_t *object, const Message *message, const char *path, Violations *found);

/* "systemInstruction" -> "system_instruction" */
extern void proto_snake(const char *camel, char *snake, size_t size);

#endif
