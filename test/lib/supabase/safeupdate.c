/*
 * safeupdate.c: for tests, the rule that PostgREST's sessions live under on
 * Supabase: an UPDATE or DELETE without WHERE fails, in whatever function it
 * stands.  Loaded by session_preload_libraries of role authenticator.
 */
#include "postgres.h"

#include "fmgr.h"
#include "nodes/parsenodes.h"
#include "parser/analyze.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

static post_parse_analyze_hook_type next = NULL;

static void
refuse(ParseState *state, Query *query, JumbleState *jumble)
{
	if ((query->commandType == CMD_UPDATE || query->commandType == CMD_DELETE) && query->jointree->quals == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CARDINALITY_VIOLATION),
				 errmsg("%s requires a WHERE clause", query->commandType == CMD_UPDATE ? "UPDATE" : "DELETE")));
	if (next)
		next(state, query, jumble);
}

void
_PG_init(void)
{
	next = post_parse_analyze_hook;
	post_parse_analyze_hook = refuse;
}
