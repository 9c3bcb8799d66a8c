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
	LOCKMODE	mode[BATCH_KINDS];	/* by BatchKind */
} RelationNeed;

#define N NoLock				/* not needed */
#define A AccessShareLock
#define S RowShareLock
#define X RowExclusiveLock

/* In one order for all. Foreign-key checks take RowShareLock on the referenced table. */
static const RelationNeed needs[] = {
	/*								 accept  claim   settle  keep    orders  files */
	{"auth", "users",				{S, S, S, N, S, N}},
	{"public", "users",				{X, A, X, N, X, N}},
	{"public", "plans",				{S, A, S, N, S, N}},
	{"public", "products",			{N, N, N, N, A, N}},
	{"public", "tools",				{S, S, S, S, N, N}},
	{"public", "hairstyles",		{N, A, N, N, N, N}},
	{"public", "hair_colors",		{N, A, N, N, N, N}},
	{"public", "skin_colors",		{N, A, N, N, N, N}},
	{"public", "generation_jobs",	{X, X, X, X, N, A}},
	{"public", "generations",		{A, N, X, N, N, A}},
	{"public", "credit_usage",		{A, N, X, N, N, N}},
	{"public", "credit_ledger",		{X, N, X, N, X, N}},
	{"public", "notifications",		{X, X, X, N, X, N}},
	{"public", "orders",			{N, N, N, N, X, N}},
	{"public", "payment_events",	{N, N, N, N, X, N}},
	{"public", "payments",			{N, N, N, N, X, N}},
	{"cache", "kv_store",			{A, N, X, N, N, N}},
	{"sparky", "tool_settings",		{A, A, A, N, N, N}},
	{"sparky", "request_keys",		{X, N, N, N, N, N}},
	{"sparky", "signup_grants",		{X, N, N, N, X, N}},
	{"sparky", "plan_periods",		{X, A, A, N, X, N}},
	{"sparky", "provider_calls",	{A, X, X, X, N, N}},
	{"sparky", "answers",			{N, N, X, X, N, N}},
	{"sparky", "stored_files",		{A, A, X, N, N, A}},
	{"sparky", "image_hashes",		{A, A, A, N, N, X}},
	{"sparky", "erasures",			{A, N, X, N, N, X}},
	{"storage", "buckets",			{N, N, S, N, N, N}},
	{"storage", "objects",			{A, A, X, N, N, A}},
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
