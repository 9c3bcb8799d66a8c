/*
 * locks.c: the relation locks of a batch, taken without waiting.
 *
 * An operator's LOCK TABLE or ALTER TABLE must not stop the loop for everybody:
 * what cannot be had now postpones the batch.  A relation that is not there is
 * not locked; the statement that needs it will say so.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"

#include "queue.h"

typedef struct RelationNeed
{
	const char *schema;
	const char *name;
	LOCKMODE	mode[4];		/* by BatchKind; NoLock: not needed */
} RelationNeed;

#define A AccessShareLock
#define S RowShareLock
#define X RowExclusiveLock

/* In one order for all. Foreign-key checks take RowShareLock on the referenced table. */
static const RelationNeed needs[] = {
	/*								 accept claim settle keep */
	{"auth", "users",				{S, S, S, NoLock}},
	{"public", "users",				{X, A, X, NoLock}},
	{"public", "plans",				{S, A, S, NoLock}},
	{"public", "tools",				{S, S, S, S}},
	{"public", "hairstyles",		{NoLock, A, NoLock, NoLock}},
	{"public", "hair_colors",		{NoLock, A, NoLock, NoLock}},
	{"public", "skin_colors",		{NoLock, A, NoLock, NoLock}},
	{"public", "generation_jobs",	{X, X, X, X}},
	{"public", "generations",		{A, NoLock, X, NoLock}},
	{"public", "credit_usage",		{A, NoLock, X, NoLock}},
	{"public", "credit_ledger",		{X, NoLock, X, NoLock}},
	{"public", "notifications",		{X, X, X, NoLock}},
	{"cache", "kv_store",			{A, NoLock, X, NoLock}},
	{"sparky", "tool_settings",		{A, A, A, NoLock}},
	{"sparky", "request_keys",		{X, NoLock, NoLock, NoLock}},
	{"sparky", "signup_grants",		{X, NoLock, NoLock, NoLock}},
	{"sparky", "provider_calls",	{A, X, X, X}},
	{"sparky", "answers",			{NoLock, NoLock, X, X}},
	{"sparky", "stored_files",		{A, A, X, NoLock}},
	{"storage", "buckets",			{NoLock, NoLock, S, NoLock}},
	{"storage", "objects",			{A, A, X, NoLock}},
};

bool
sparky_lock_relations(BatchKind kind)
{
	for (int i = 0; i < lengthof(needs); i++)
	{
		Oid			schema,
					relation;

		if (needs[i].mode[kind] == NoLock || !OidIsValid(schema = get_namespace_oid(needs[i].schema, true)))
			continue;
		relation = get_relname_relid(needs[i].name, schema);
		if (OidIsValid(relation) && !ConditionalLockRelationOid(relation, needs[i].mode[kind]))
			return false;
	}
	return true;
}
