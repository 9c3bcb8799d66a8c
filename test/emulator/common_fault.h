/*
 * common_fault.h: the scripted faults that mean the same for every service.
 *
 * A service has tables of its own errors and faults, and falls back on these.
 * The answer that a common fault loses or bends is in the reply before.
 */
#ifndef EMULATOR_COMMON_FAULT_H
#define EMULATOR_COMMON_FAULT_H

#include "common.h"
#include "emulator.h"

typedef struct CommonFault
{
	const char *name;
	bool		works;			/* does the call do its work, unless "processed" says otherwise? */
	Delivery	delivery;		/* DELIVER_CHUNKED: as the answer would have left */
	void		(*act) (const json_t *parameters, Reply *reply);	/* or NULL */
} CommonFault;

extern const CommonFault *common_fault(const char *name);	/* NULL: none has this name */
extern void common_fault_act(const CommonFault *fault, const json_t *parameters, Reply *reply);

/* The delay that a rule wants, -1: none. */
extern int	fault_delay(const json_t *rule);
/* Does the call do its work? usual: what the fault does unless told otherwise. */
extern bool fault_works(const json_t *parameters, bool usual);
/* Nothing of the answer stays but its status. */
extern void fault_clear(Reply *reply);
/* The body goes on with so many megabytes, then the tail (static text). */
extern void fault_fill(const json_t *parameters, const char *tail, Reply *reply);
/* A body of many arrays, one in the other, between head and tail. */
extern void fault_nest(const json_t *parameters, const char *head, const char *tail, Reply *reply);

#endif
