/* caller.c: see caller.h. */
#include "postgres.h"

#include "account.h"
#include "caller.h"
#include "owner.h"

void
sparky_caller(Caller *caller)
{
	OwnerScope	scope;

	sparky_identity(&caller->id, caller->uid);
	sparky_owner_enter(&scope);
	sparky_account_check(&caller->id);
	sparky_owner_leave(&scope);
}
