/*
 * log.h: the append-only log of what the emulator received and answered.
 *
 * It is the ground truth of the tests.  One JSON object a line, each written by
 * one write() to a descriptor opened with O_APPEND: lines are whole and in
 * order, also while the emulator is being killed.
 */
#ifndef EMULATOR_LOG_H
#define EMULATOR_LOG_H

#include <jansson.h>

#include "buf.h"

extern bool log_open(const char *path);
extern double log_now(void);	/* seconds since 1970 */

/* Writes the event and takes the reference to it. */
extern void log_event(json_t *event);

/* What was written since the last log_mark(). */
extern void log_mark(void);
extern bool log_read(Buf *out);

/* A JSON string of bytes that may not be UTF-8 (then: their hex). */
extern json_t *log_text(const char *text, size_t len);

#endif
