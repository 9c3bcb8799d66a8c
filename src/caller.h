/* caller.h: who calls a public function.  Outside of an owner scope. */
#ifndef SPARKY_CALLER_H
#define SPARKY_CALLER_H

#include "identity.h"

typedef struct Caller
{
	pg_uuid_t	id;
	char		uid[SPARKY_UUID_TEXT];	/* lower case: his folder's name */
} Caller;

/* The first two checks of every face: signed in, with a profile; ERROR not_signed_in or account_gone. */
extern void sparky_caller(Caller *caller);

#endif
