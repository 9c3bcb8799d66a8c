/*
 * storage_embedded.c: photos in the database itself; one of the two backends of storage.c.
 *
 * The metadata is a row of storage.objects, so that its policies and clients
 * see what they would see on Supabase; the bytes are in sparky.stored_files,
 * which goes with its object by ON DELETE CASCADE.  A row without a file reads
 * as no object: a client may have inserted it by hand.
 *
 * Only where storage.objects is our own stand-in may rows be written by SQL:
 * on a real Supabase they would be objects without files.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"

#include "compat.h"
#include "crypto.h"
#include "owner.h"
#include "raise.h"
#include "settings.h"
#include "storage_backend.h"

#define FILES "storage.objects o JOIN sparky.stored_files f ON f.object_id = o.id"

static void append_encoded(StringInfo out, const char *text);

static void
require(void)
{
	if (!sparky_storage_is_ours())
		sparky_raise(WORD_NOT_CONFIGURED, "storage.objects belongs to Supabase Storage, and sparky.storage_url is empty.",
					 "Set sparky.storage_url.", 0);
}

static bytea *
get_object(const char *path, StoredObject *object)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {UUIDOID};
	MemoryContext into = CurrentMemoryContext;	/* SPI's calls change it */
	Datum		values[1];
	Datum		bytes;
	bytea	   *copy;
	bool		isnull;

	if (!sparky_storage_stat(path, object))
		return NULL;
	values[0] = UUIDPGetDatum(&object->object_id);
	sparky_plan(&plan, "SELECT f.bytes FROM sparky.stored_files f WHERE f.object_id = $1", 1, types);
	if (sparky_execute_latest(plan, values, NULL, 1) == 0)
		return NULL;
	bytes = sparky_column(0, 1, &isnull);
	MemoryContextSwitchTo(into);
	copy = DatumGetByteaPCopy(bytes);
	SPI_freetuptable(SPI_tuptable);
	return copy;
}

static void
put_object(const char *path, const pg_uuid_t *owner, bytea *bytes, const ImageInfo *info, const char *sha256_hex)
{
	static SPIPlanPtr object_plan = NULL;
	static SPIPlanPtr file_plan = NULL;
	static const Oid object_types[] = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT4OID, TEXTOID};
	static const Oid file_types[] = {UUIDOID, BYTEAOID, TEXTOID, TEXTOID, INT4OID, INT4OID, INT4OID};
	int			size = VARSIZE_ANY_EXHDR(bytes);
	Datum		mime = CStringGetTextDatum(sparky_image_mime(info->type));
	Datum		hash = CStringGetTextDatum(sha256_hex);
	Datum		object_values[6];
	Datum		file_values[7];
	bool		isnull;

	sparky_storage_split(path, &object_values[0], &object_values[1]);
	object_values[2] = CStringGetTextDatum(sparky_uuid_text(owner));
	object_values[3] = mime;
	object_values[4] = Int32GetDatum(size);
	object_values[5] = hash;
	sparky_plan(&object_plan,
				"INSERT INTO storage.objects AS o (bucket_id, name, owner_id, version, metadata)"
				" VALUES ($1, $2, $3, pg_catalog.gen_random_uuid()::pg_catalog.text,"
				" pg_catalog.jsonb_build_object('eTag', pg_catalog.concat('\"', $6, '\"'), 'size', $5, 'mimetype', $4,"
				" 'contentLength', $5, 'cacheControl', 'max-age=3600', 'httpStatusCode', 200, 'lastModified',"
				" pg_catalog.to_char(pg_catalog.timezone('UTC', pg_catalog.clock_timestamp()), 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')))"
				" ON CONFLICT (bucket_id, name) DO UPDATE SET owner_id = excluded.owner_id, version = excluded.version,"
				" metadata = excluded.metadata, updated_at = pg_catalog.clock_timestamp()"
				" RETURNING o.id",
				6, object_types);
	sparky_execute(object_plan, object_values, NULL, 0);

	file_values[0] = sparky_column(0, 1, &isnull);
	file_values[1] = PointerGetDatum(bytes);
	file_values[2] = hash;
	file_values[3] = mime;
	file_values[4] = Int32GetDatum(size);
	file_values[5] = Int32GetDatum((int32) info->width);
	file_values[6] = Int32GetDatum((int32) info->height);
	sparky_plan(&file_plan,
				"INSERT INTO sparky.stored_files (object_id, bytes, sha256, mime_type, size, width, height)"
				" VALUES ($1, $2, $3, $4, $5, $6, $7)"
				" ON CONFLICT (object_id) DO UPDATE SET bytes = excluded.bytes, sha256 = excluded.sha256,"
				" mime_type = excluded.mime_type, size = excluded.size, width = excluded.width, height = excluded.height,"
				" created_at = pg_catalog.clock_timestamp()",
				7, file_types);
	sparky_execute(file_plan, file_values, NULL, 0);
}

static bool
delete_object(const char *path)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {TEXTOID, TEXTOID};
	Datum		values[2];

	sparky_storage_split(path, &values[0], &values[1]);
	sparky_plan(&plan, "DELETE FROM storage.objects o WHERE o.bucket_id = $1 AND o.name = $2", 2, types);
	return sparky_execute(plan, values, NULL, 0) > 0;
}

static char *
sign_link(const char *path, int64 expires)
{
	StringInfoData link;
	char		hex[SPARKY_SHA256_HEX + 1];
	int			length = strlen(sparky_public_url);

	while (length > 0 && sparky_public_url[length - 1] == '/')
		length--;
	if (length == 0 || !sparky_storage_signature(path, expires, hex))
		return NULL;
	initStringInfo(&link);
	appendBinaryStringInfo(&link, sparky_public_url, length);
	appendStringInfoString(&link, "/rpc/download_image?path=");
	append_encoded(&link, path);
	appendStringInfo(&link, "&expires=" INT64_FORMAT "&signature=%s", expires, hex);
	return link.data;
}

/* RFC 3986: all but the unreserved characters, and the slash, which a query may hold as it is. */
static void
append_encoded(StringInfo out, const char *text)
{
	for (const unsigned char *c = (const unsigned char *) text; *c != '\0'; c++)
	{
		if ((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9')
			|| strchr("-._~/", *c) != NULL)
			appendStringInfoChar(out, (char) *c);
		else
			appendStringInfo(out, "%%%02X", *c);
	}
}

const StorageBackend sparky_storage_embedded = {
	.require = require,
	.get = get_object,
	.put = put_object,
	.delete = delete_object,
	.sign = sign_link,
	.sql = {
		[STATEMENT_STAT] = "SELECT o.id, o.version, f.sha256, f.mime_type, f.size, f.width, f.height FROM " FILES
		" WHERE o.bucket_id = $1 AND o.name = $2",
		[STATEMENT_USED] = "SELECT COALESCE(pg_catalog.sum(f.size), 0)::pg_catalog.int8 FROM " FILES
		" WHERE o.bucket_id IN ('user_uploads', 'generations') AND o.owner_id = $1",
		[STATEMENT_RECENT_UPLOADS] = RECENT_UPLOADS_SQL(FILES, "o.owner_id = $1", "f.created_at"),
	},
};
