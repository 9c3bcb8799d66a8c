/*
 * storage_outside.c: photos behind the Storage API of Supabase; one of the two
 * backends of storage.c.
 *
 * The rows of storage.objects belong to that service: they are read here, and
 * never written.  What the bytes are is remembered by object and version
 * (sparky.image_hashes).  A file that is to go is noted in sparky.erasures, in
 * the transaction that deletes it, and reads as gone from then on; one that was
 * written after it was noted is another file, and stays.
 *
 * Whose a file is is told by its folder: what the server uploads has no owner.
 * Folders are ranges of names in C order, which the service has an index for.
 */
#include "postgres.h"

#include <time.h>

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "mailbox.h"
#include "owner.h"
#include "raise.h"
#include "secrets.h"
#include "shmem.h"
#include "storage_backend.h"

/* A link is a comfort: nobody waits longer for one. */
#define SIGN_MS 2000

/* Of storage.objects o. */
#define IN_FOLDER(n) \
	"o.name COLLATE \"C\" >= " n " || '/' AND o.name COLLATE \"C\" < " n " || '0'"
#define SIZE "CASE WHEN pg_catalog.jsonb_typeof(o.metadata -> 'size') = 'number' THEN (o.metadata ->> 'size')::pg_catalog.int8 ELSE 0 END"
#define NOT_TO_BE_ERASED \
	" NOT EXISTS (SELECT FROM sparky.erasures e WHERE e.bucket_id = o.bucket_id AND e.name = o.name" \
	" AND e.created_at >= COALESCE(o.updated_at, o.created_at, '-infinity'))"

static void
require(void)
{
	if (sparky_storage_is_ours())
		sparky_raise(WORD_NOT_CONFIGURED, "sparky.storage_url is set, but storage.objects is sparky's own table, not the Storage API's.",
					 "Leave sparky.storage_url empty, or install sparky where Supabase Storage keeps its tables.", 0);
	sparky_secrets_refresh();
	if (sparky_secret(SECRET_STORAGE_SERVICE_KEY) == NULL)
		sparky_raise(WORD_NOT_CONFIGURED, psprintf("%s is not set", sparky_secret_setting(SECRET_STORAGE_SERVICE_KEY)), NULL, 0);
}

static bytea *
get_object(const char *path, StoredObject *object)
{
	elog(ERROR, "the bytes of %s are not in the database", path);
	return NULL;
}

static void
put_object(const char *path, const pg_uuid_t *owner, bytea *bytes, const ImageInfo *info, const char *sha256_hex)
{
	elog(ERROR, "the bytes of %s do not go into the database", path);
}

static bool
delete_object(const char *path)
{
	StoredObject object;

	if (!sparky_storage_stat(path, &object))
		return false;
	sparky_storage_note_erasure(path);
	return true;
}

/* Where nobody can answer, nobody is waited for. */
static bool
worker_lives(void)
{
	DatabaseEntry *entry;
	bool		lives;

	if (!sparky_shmem_present())
		return false;
	sparky_shmem_lock(false);
	entry = sparky_shmem_find(MyDatabaseId);
	lives = entry != NULL && entry->worker_pid != 0 && entry->ready;
	sparky_shmem_unlock();
	return lives;
}

static char *
sign_link(const char *path, int64 expires)
{
	Submission *submission;
	SubmissionAnswer *answer;
	char	   *link = NULL;

	if (!worker_lives())
		return NULL;
	submission = palloc0(sizeof(Submission));
	answer = palloc(sizeof(SubmissionAnswer));
	submission->purpose = PURPOSE_SIGN;
	submission->seconds = (int) Max(1, expires - (int64) time(NULL));
	strlcpy(submission->source_path, path, sizeof(submission->source_path));
	sparky_mailbox_errand_within(submission, SIGN_MS, answer);
	if (answer->result == SUBMISSION_ACCEPTED && answer->text[0] != '\0')
		link = pstrdup(answer->text);
	pfree(submission);
	pfree(answer);
	return link;
}

const StorageBackend sparky_storage_rest = {
	.require = require,
	.get = get_object,
	.put = put_object,
	.delete = delete_object,
	.sign = sign_link,
	.sql = {
		[STATEMENT_STAT] = "SELECT o.id, o.version, h.sha256, h.mime_type, " SIZE ", 0, 0"
		" FROM storage.objects o LEFT JOIN sparky.image_hashes h ON h.object_id = o.id AND h.version = COALESCE(o.version, '')"
		" WHERE o.bucket_id = $1 AND o.name = $2 AND" NOT_TO_BE_ERASED
		/* columns that only newer versions of the service have */
		" AND pg_catalog.to_jsonb(o) ->> 'archived_at' IS NULL"
		" AND pg_catalog.to_jsonb(o) ->> 'is_delete_marker' IS DISTINCT FROM 'true'",
		[STATEMENT_USED] = "SELECT COALESCE(pg_catalog.sum(" SIZE "), 0)::pg_catalog.int8 FROM storage.objects o"
		" WHERE o.bucket_id IN ('user_uploads', 'generations') AND " IN_FOLDER("$1") " AND" NOT_TO_BE_ERASED,
		[STATEMENT_RECENT_UPLOADS] = RECENT_UPLOADS_SQL("storage.objects o", IN_FOLDER("$1"), "o.created_at"),
	},
};

void
sparky_storage_note_hash(const StoredObject *object)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {UUIDOID, TEXTOID, TEXTOID, TEXTOID, INT8OID};
	Datum		values[] = {UUIDPGetDatum(&object->object_id), CStringGetTextDatum(object->version),
		CStringGetTextDatum(object->sha256), CStringGetTextDatum(object->mime), Int64GetDatum(object->size)};
	char		nulls[] = {' ', ' ', ' ', object->mime[0] ? ' ' : 'n', ' '};

	sparky_plan(&plan,
				"INSERT INTO sparky.image_hashes (object_id, version, sha256, mime_type, size) VALUES ($1, $2, $3, $4, $5)"
				" ON CONFLICT (object_id, version) DO UPDATE SET sha256 = excluded.sha256, mime_type = excluded.mime_type,"
				" size = excluded.size, noted_at = pg_catalog.clock_timestamp()",
				5, types);
	sparky_execute(plan, values, nulls, 0);
}
