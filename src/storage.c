/*
 * storage.c: where photos live: which of the two backends answers, and what
 * both have in common.
 *
 * sparky.storage_url decides at each call: empty, and the bytes are in the
 * database; else they are behind the Storage API, and only its worker touches
 * them.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "utils/builtins.h"

#include "compat.h"
#include "crypto.h"
#include "owner.h"
#include "settings.h"
#include "storage_backend.h"

/* First key of our advisory locks on uploads; the second is a hash of the user. */
#define UPLOAD_LOCK_CLASS 0x73706b75	/* "spku" */

static const StorageBackend *
backend(void)
{
	return sparky_storage_outside() ? &sparky_storage_rest : &sparky_storage_embedded;
}

bool
sparky_storage_outside(void)
{
	return sparky_storage_url[0] != '\0';
}

/* Run a statement of the backend in force, whose parameters are texts; false if there is no row. */
static bool
ask(StorageStatement statement, int count, Datum *values)
{
	static SPIPlanPtr plans[STATEMENT_COUNT][2];
	static const Oid types[] = {TEXTOID, TEXTOID};
	SPIPlanPtr *plan = &plans[statement][sparky_storage_outside()];

	Assert(count <= lengthof(types));
	sparky_plan(plan, backend()->sql[statement], count, types);
	return sparky_execute_latest(*plan, values, NULL, 1) > 0;
}

static void
ask_of_owner(StorageStatement statement, const pg_uuid_t *owner)
{
	Datum		values[] = {CStringGetTextDatum(sparky_uuid_text(owner))};

	(void) ask(statement, lengthof(values), values);
}

void
sparky_storage_require(void)
{
	backend()->require();
}

bool
sparky_storage_stat(const char *path, StoredObject *object)
{
	Datum		values[2];
	bool		isnull;

	sparky_storage_split(path, &values[0], &values[1]);
	if (!ask(STATEMENT_STAT, lengthof(values), values))
		return false;
	object->object_id = *DatumGetUUIDP(sparky_column(0, 1, &isnull));
	sparky_column_copy(0, 2, object->version, sizeof(object->version));
	sparky_column_copy(0, 3, object->sha256, sizeof(object->sha256));
	sparky_column_copy(0, 4, object->mime, sizeof(object->mime));
	/* The service's own word on a size may be anything. */
	object->size = (int) Min(Max(sparky_column_int(0, 5, 0), 0), PG_INT32_MAX);
	object->width = (int) sparky_column_int(0, 6, 0);
	object->height = (int) sparky_column_int(0, 7, 0);
	return true;
}

bytea *
sparky_storage_get(const char *path, StoredObject *object)
{
	return backend()->get(path, object);
}

void
sparky_storage_put(const char *path, const pg_uuid_t *owner, bytea *bytes, const ImageInfo *info, const char *sha256_hex)
{
	backend()->put(path, owner, bytes, info, sha256_hex);
}

bool
sparky_storage_delete(const char *path)
{
	return backend()->delete(path);
}

int64
sparky_storage_used(const pg_uuid_t *owner)
{
	ask_of_owner(STATEMENT_USED, owner);
	return sparky_column_int(0, 1, 0);
}

int64
sparky_storage_recent_uploads(const pg_uuid_t *owner, int *seconds)
{
	ask_of_owner(STATEMENT_RECENT_UPLOADS, owner);
	*seconds = (int) sparky_column_int(0, 2, 0);
	return sparky_column_int(0, 1, 0);
}

char *
sparky_storage_sign(const char *path, int64 expires)
{
	return backend()->sign(path, expires);
}

char *
sparky_storage_result_path(const pg_uuid_t *user, const pg_uuid_t *job, ImageType type)
{
	return psprintf("generations/%s/%s.%s", sparky_uuid_text(user), sparky_uuid_text(job), sparky_image_extension(type));
}

void
sparky_storage_lock_uploads(const pg_uuid_t *owner)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {INT4OID, INT4OID};
	Datum		values[] = {
		Int32GetDatum(UPLOAD_LOCK_CLASS),
		Int32GetDatum((int32) hash_bytes(owner->data, UUID_LEN))
	};

	sparky_plan(&plan, "SELECT pg_catalog.pg_advisory_xact_lock($1, $2)", 2, types);
	sparky_execute(plan, values, NULL, 0);
}

bool
sparky_storage_signature_valid(const char *path, int64 expires, const char *signature)
{
	char		hex[SPARKY_SHA256_HEX + 1];

	return strlen(signature) == SPARKY_SHA256_HEX
		&& sparky_storage_signature(path, expires, hex)
		&& sparky_same_bytes(hex, signature, SPARKY_SHA256_HEX);
}

bool
sparky_storage_signature(const char *path, int64 expires, char hex[SPARKY_SHA256_HEX + 1])
{
	static SPIPlanPtr plan = NULL;
	char	   *message = psprintf("%s\n" INT64_FORMAT, path, expires);
	uint8_t		digest[SPARKY_SHA256_BYTES];
	bytea	   *key;
	bool		isnull;

	sparky_plan(&plan, "SELECT i.download_key FROM sparky.instance i WHERE i.singleton", 0, NULL);
	if (sparky_execute_latest(plan, NULL, NULL, 1) == 0)
		return false;
	key = DatumGetByteaPP(sparky_column(0, 1, &isnull));
	if (!sparky_hmac_sha256(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key), message, strlen(message), digest))
		return false;
	sparky_hex(digest, sizeof(digest), hex);
	return true;
}

bool
sparky_storage_is_ours(void)
{
	static SPIPlanPtr plan = NULL;

	sparky_plan(&plan,
				"SELECT c.relowner = n.nspowner FROM pg_catalog.pg_class c, pg_catalog.pg_namespace n"
				" WHERE c.oid = pg_catalog.to_regclass('storage.objects') AND n.nspname = 'sparky'",
				0, NULL);
	return sparky_execute_latest(plan, NULL, NULL, 1) > 0 && sparky_column_bool(0, 1);
}

void
sparky_storage_split(const char *path, Datum *bucket, Datum *name)
{
	const char *slash = strchr(path, '/');

	*bucket = slash ? PointerGetDatum(cstring_to_text_with_len(path, slash - path)) : CStringGetTextDatum("");
	*name = CStringGetTextDatum(slash ? slash + 1 : path);
}
