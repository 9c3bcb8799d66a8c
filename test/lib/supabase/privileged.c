/*
 * privileged.c: for tests, the two things that Supabase's own hook lets the role
 * postgres do although it is no superuser: CREATE EXTENSION of those that are
 * on the operator's list, and policies on the tables of auth, storage and
 * realtime (which lock all of these tables until the end of the transaction).
 *
 * As there, the command runs as supabase_admin in a security-restricted
 * operation while the session's user stays postgres.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/varlena.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

static ProcessUtility_hook_type next = NULL;
static char *extensions = NULL;

static bool
on_the_list(const char *name)
{
	List	   *names = NIL;
	ListCell   *cell;

	if (!SplitIdentifierString(pstrdup(extensions), ',', &names))
		return false;
	foreach(cell, names)
		if (strcmp(lfirst(cell), name) == 0)
			return true;
	return false;
}

static bool
of_supabase(const RangeVar *table)
{
	return table->schemaname != NULL
		&& (strcmp(table->schemaname, "auth") == 0 || strcmp(table->schemaname, "storage") == 0 || strcmp(table->schemaname, "realtime") == 0);
}

static bool
granted(Node *statement)
{
	const char *user = GetUserNameFromId(GetUserId(), false);

	if (strcmp(user, "postgres") != 0 || superuser())
		return false;
	if (IsA(statement, CreateExtensionStmt))
		return on_the_list(((CreateExtensionStmt *) statement)->extname);
	if (IsA(statement, AlterExtensionStmt))
		return on_the_list(((AlterExtensionStmt *) statement)->extname);
	if (IsA(statement, CreatePolicyStmt))
		return of_supabase(((CreatePolicyStmt *) statement)->table);
	if (IsA(statement, AlterPolicyStmt))
		return of_supabase(((AlterPolicyStmt *) statement)->table);
	return false;
}

/* A policy statement of postgres's takes these until the transaction ends, whichever table it is about. */
static void
lock_all(void)
{
	static const char *const tables[][2] = {{"auth", "users"}, {"auth", "sessions"}, {"storage", "buckets"}, {"storage", "objects"}, {"realtime", "messages"}};

	for (int i = 0; i < lengthof(tables); i++)
		(void) RangeVarGetRelid(makeRangeVar(pstrdup(tables[i][0]), pstrdup(tables[i][1]), -1), AccessExclusiveLock, true);
}

static void
pass_on(PlannedStmt *statement, const char *text, bool read_only, ProcessUtilityContext context, ParamListInfo parameters,
		QueryEnvironment *environment, DestReceiver *receiver, QueryCompletion *completion)
{
	if (next)
		next(statement, text, read_only, context, parameters, environment, receiver, completion);
	else
		standard_ProcessUtility(statement, text, read_only, context, parameters, environment, receiver, completion);
}

static void
utility(PlannedStmt *statement, const char *text, bool read_only, ProcessUtilityContext context, ParamListInfo parameters,
		QueryEnvironment *environment, DestReceiver *receiver, QueryCompletion *completion)
{
	Oid			user;
	int			security;

	if (!granted(statement->utilityStmt))
	{
		pass_on(statement, text, read_only, context, parameters, environment, receiver, completion);
		return;
	}
	if (IsA(statement->utilityStmt, CreatePolicyStmt) || IsA(statement->utilityStmt, AlterPolicyStmt))
		lock_all();
	GetUserIdAndSecContext(&user, &security);
	SetUserIdAndSecContext(get_role_oid("supabase_admin", false), security | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	pass_on(statement, text, read_only, context, parameters, environment, receiver, completion);
	SetUserIdAndSecContext(user, security);
}

void
_PG_init(void)
{
	DefineCustomStringVariable("privileged.extensions", "What postgres may create.", NULL, &extensions, "", PGC_SIGHUP, GUC_LIST_INPUT, NULL, NULL, NULL);
	next = ProcessUtility_hook;
	ProcessUtility_hook = utility;
}
