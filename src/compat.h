/* compat.h: the only place that asks which PostgreSQL this is. */
#ifndef SPARKY_COMPAT_H
#define SPARKY_COMPAT_H

#ifdef FRONTEND
/* paymob_callback.c, as its unit test and the fuzzer build it: without a server. */
#include "postgres_fe.h"
#else
#include "postgres.h"
#include "fmgr.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/memutils.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif
#if PG_VERSION_NUM >= 170000
#include "storage/procnumber.h"
#endif
#endif							/* FRONTEND */

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 190000
#error "sparky is built for PostgreSQL 15 to 18"
#endif

/*
 * PostgreSQL's JSON parser: from 16 on its actions return whether to go on; from
 * 17 on it makes and frees its context itself.  Include common/jsonapi.h first.
 */
#if PG_VERSION_NUM >= 160000
#define SPARKY_JSON_ACTION static JsonParseErrorType
#define SPARKY_JSON_GO_ON return JSON_SUCCESS
#else
#define SPARKY_JSON_ACTION static void
#define SPARKY_JSON_GO_ON return
#endif

#if PG_VERSION_NUM >= 170000
#define SPARKY_JSON_LEXER(text, length, encoding) makeJsonLexContextCstringLen(NULL, text, length, encoding, true)
#define SPARKY_JSON_LEXER_FREE(lexer) freeJsonLexContext(lexer)
#else
#define SPARKY_JSON_LEXER(text, length, encoding) makeJsonLexContextCstringLen(text, length, encoding, true)
#define SPARKY_JSON_LEXER_FREE(lexer) \
	do { pfree((lexer)->strval->data); pfree((lexer)->strval); pfree(lexer); } while (0)
#endif

/* 18 has the word of C11, before the declaration, in the place of an attribute after it. */
#if PG_VERSION_NUM < 180000
#define pg_noreturn _Noreturn
#endif

#ifndef FRONTEND

/* Before 16, PG_FUNCTION_INFO_V1 does not export the function itself. */
#define SPARKY_FUNCTION(name) \
	PGDLLEXPORT Datum name(PG_FUNCTION_ARGS); \
	PG_FUNCTION_INFO_V1(name)

/* Index of this process in ProcGlobal->allProcs. */
static inline int
sparky_my_proc_number(void)
{
#if PG_VERSION_NUM >= 170000
	return MyProcNumber;
#else
	return MyProc->pgprocno;
#endif
}

static inline bool
sparky_owns_database(Oid database)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(DatabaseRelationId, database, GetUserId());
#else
	return pg_database_ownercheck(database, GetUserId());
#endif
}

/* A wait event set that lives as long as the process. */
static inline WaitEventSet *
sparky_create_wait_event_set(int size)
{
#if PG_VERSION_NUM >= 170000
	return CreateWaitEventSet(NULL, size);
#else
	return CreateWaitEventSet(TopMemoryContext, size);
#endif
}

#if PG_VERSION_NUM >= 170000
#define SPARKY_HAVE_TRANSACTION_TIMEOUT 1
#endif

#endif							/* !FRONTEND */

#endif
