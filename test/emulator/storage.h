/*
 * storage.h: the Storage service of the emulator, between its own files.
 *
 *   storage.c          reads a request, decides, takes a scripted fault
 *   storage_auth.c     who calls; tokens of users and of signed links
 *   storage_work.c     does what was asked, answers
 *   storage_rows.c     buckets and objects, when no database has them
 *   storage_db.c       buckets and objects in storage.* of a test's database
 *   storage_files.c    the bytes, by bucket, key and version
 *   storage_fault.c    the scripted faults
 *   storage_control.c  /_control/storage
 *
 * The bytes are in memory always.  An object is a row and a file, as in the real
 * service: either can be missing.
 */
#ifndef EMULATOR_STORAGE_H
#define EMULATOR_STORAGE_H

#include "emulator.h"

#define STORAGE_PREFIX "/storage/v1/"

typedef enum StorageRoute
{
	STORAGE_NOWHERE = 0, STORAGE_DOWNLOAD, STORAGE_PUBLIC, STORAGE_INFO, STORAGE_UPLOAD, STORAGE_SIGN, STORAGE_OPEN,
	STORAGE_DELETE, STORAGE_DELETE_ONE, STORAGE_LIST
} StorageRoute;

/* Who calls: the service itself, or what a user's token says. */
typedef struct StorageCaller
{
	bool		service;
	char	   *role;			/* NULL: service */
	char	   *sub;			/* or NULL */
	char	   *claims;			/* JSON text, or NULL */
} StorageCaller;

typedef struct StorageCall
{
	const Request *request;
	StorageRoute route;
	const char *kind;			/* upload, download, ...: for scripts and the log */
	char	   *bucket;			/* "" when not told */
	char	   *key;			/* "" when not told */
	char	   *object;			/* bucket/key */
	bool		chunked;
	json_t	   *body;			/* of what is JSON, or NULL */
	StorageCaller caller;
	json_t	   *rule;			/* the scripted fault, or NULL */
	bool		answered;		/* refused: the reply is complete */
} StorageCall;

typedef struct StorageSettings
{
	const char *key;			/* the service's; NULL: any, if apikey and Authorization agree */
	const char *jwt_secret;		/* of users' tokens */
	const char *db;				/* conninfo, or NULL */
	uint64_t	file_limit;		/* of the whole server */
} StorageSettings;

extern StorageSettings storage_settings;

/* The --storage-... options of the command line; false: not a good value. */
extern bool storage_option(const char *name, const char *value);

/* Replaces the reply by an error as the service writes it, and notes why. */
extern void storage_error(Reply *reply, int http, int status, const char *code, const char *error, const char *message);
extern void storage_json(Reply *reply, int status, json_t *body);	/* takes the body */

/* storage_auth.c */
/* false: refused, and the reply says so. */
extern bool storage_authenticate(StorageCall *call, Reply *reply);
extern void storage_caller_free(StorageCaller *caller);
/* HS256 with the emulator's secret; takes the payload. */
extern char *storage_token(json_t *payload, const char *secret);
/* The payload, or NULL and why (static text). */
extern json_t *storage_token_read(const char *token, const char *secret, const char **why);
extern const char *storage_link_secret(void);

/* storage_work.c */
extern void storage_work(StorageCall *call, Reply *reply);
extern void storage_count(const char *name);
extern json_t *storage_counters(void);
extern void storage_counters_reset(void);

/* ---- rows: JSON objects {id, name, version, owner_id, created_at, updated_at, metadata} ---- */

typedef enum RowResult { ROW_OK = 0, ROW_NONE, ROW_EXISTS, ROW_REFUSED, ROW_FAILED } RowResult;

typedef struct StorageRows
{
	/* {public, file_size_limit, allowed_mime_types}; new reference */
	RowResult	(*bucket) (const char *bucket, json_t **found);
	RowResult	(*find) (const StorageCaller *caller, const char *bucket, const char *key, json_t **row);
	/* metadata is borrowed; *row: as written, new reference. upsert false: ROW_EXISTS if there is one. */
	RowResult	(*put) (const StorageCaller *caller, const char *bucket, const char *key, const char *version,
						const json_t *metadata, bool upsert, json_t **row);
	/* keys: array of text; *gone: array of rows that were there. */
	RowResult	(*drop) (const StorageCaller *caller, const char *bucket, const json_t *keys, json_t **gone);
	/* All whose name begins with prefix, by name; bucket and prefix may be "". */
	RowResult	(*list) (const StorageCaller *caller, const char *bucket, const char *prefix, json_t **rows);
} StorageRows;

extern const StorageRows storage_memory_rows;
extern const StorageRows storage_db_rows;
extern const StorageRows *storage_rows(void);	/* the one in use */
extern void storage_memory_clear(void);
extern void storage_db_disconnect(void);	/* the connections that nobody uses */
extern void storage_uuid(char out[37]);
extern void storage_now(char out[40]);

/* ---- files ---- */

extern void storage_file_put(const char *object, const char *version, const void *bytes, size_t len);
/* A copy in out; false: no such file. */
extern bool storage_file_get(const char *object, const char *version, Buf *out);
extern bool storage_file_drop(const char *object, const char *version);	/* version NULL: all of the object */
extern void storage_file_clear(void);
extern void storage_file_totals(size_t *files, size_t *bytes);

/* storage_fault.c */
extern bool storage_knows_fault(const char *name);
extern void storage_fault(StorageCall *call, const json_t *parameters, Reply *reply);

/* storage_control.c */
extern bool storage_control(const json_t *body, Buf *out);
extern bool storage_control_show(const json_t *body, Buf *out);

#endif
