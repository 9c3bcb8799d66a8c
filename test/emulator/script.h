/*
 * script.h: which calls are answered wrongly, and how.
 *
 * A script is a list of rules.  The first rule that matches a call and is not
 * used up decides; without one the call is answered well.  A rule is never used
 * by a call that a strict check refuses.  Names are checked when the script is
 * set: a misspelt fault must not become a test that passes.
 */
#ifndef EMULATOR_SCRIPT_H
#define EMULATOR_SCRIPT_H

#include <jansson.h>

#include "buf.h"

/* What a rule can match. */
typedef struct ScriptCall
{
	const char *service;
	unsigned long nth;			/* of the calls since the last reset */
	const char *model;
	const char *kind;			/* image, analysis, text */
	const char *prompt;
	const char *image_sha256;
	const char *path;			/* of an object: bucket/key */
} ScriptCall;

/* Replaces or extends the script; false: nothing changed, why says what is wrong. */
extern bool script_set(const json_t *rules, bool append, Buf *why);
extern void script_clear(void);

/* The rule that decides, or NULL; the caller drops the reference. */
extern json_t *script_take(const ScriptCall *call);

/* All rules, each with "used". */
extern json_t *script_show(void);

#endif
