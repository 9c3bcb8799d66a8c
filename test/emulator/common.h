/*
 * common.h: what the services and the control calls do alike.
 *
 * A table is an array of rows that begin with their name; the last one's is
 * NULL.  Parameters are the members of a rule or of a control call; one of
 * another type than asked counts as not given.
 */
#ifndef EMULATOR_COMMON_H
#define EMULATOR_COMMON_H

#include <jansson.h>

#include "buf.h"

/* The row of a table that has this name; NULL: none. */
extern const void *find_named(const void *table, size_t row_size, const char *name);

extern json_int_t parameter_number(const json_t *parameters, const char *name, json_int_t fallback);
extern const char *parameter_text(const json_t *parameters, const char *name, const char *fallback);

/* Adds the value (taken) as text; NULL: null. */
extern void dump_json(json_t *value, Buf *out);

/* What a control call of a service can order: {"do": name, member: value, ...} */
typedef json_t *ActionFunction(const json_t *body, Buf *why);
typedef struct Action
{
	const char *name;
	const char *members;		/* each between spaces */
	/* The answer, or NULL and why. */
	ActionFunction *act;
} Action;

/* The types of the members, each name between spaces; all others are text. */
typedef struct MemberTypes
{
	const char *numbers;
	const char *objects;
	const char *booleans;
	const char *any;			/* of any type, and every action takes them */
} MemberTypes;

/* Run the action that body names, its members checked; false: out has why it was not. */
extern bool run_action(const Action *actions, const MemberTypes *types, const json_t *body, Buf *out);

#endif
