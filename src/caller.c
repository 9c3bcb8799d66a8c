/* caller.c: see caller.h. */
#include "postgres.h"

#include "utils/timestamp.h"

#include "account.h"
#include "caller.h"
#include "owner.h"

void
sparky_caller(Caller *caller)
{
	OwnerScope	scope;
	Account		account;

	sparky_identity(&caller->id, caller->uid);
	sparky_owner_enter(&scope);
	sparky_account_require(&caller->id, GetCurrentTimestamp(), &account);
	sparky_owner_leave(&scope);
}
