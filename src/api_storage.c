/*
 * api_storage.c: upload_image, download_image, delete_upload, delete_generation.
 *
 * An upload is named by its content, so that the same photo sent twice is one
 * object: it is neither counted nor stored again.  One advisory lock for each
 * user makes quota and rate exact; it is not the user's row, which the worker
 * must be able to lock while an upload is under way.
 *
 * A download is the owner's by his JWT, or anybody's who holds a live signature.
 *
 * Where the bytes are behind the Storage API the worker carries them, through a
 * segment of shared memory that this side makes and takes away.  What is
 * uploaded there stays, even if the caller's transaction is rolled back.
 */
#include "postgres.h"

#include <time.h>

#include "access/detoast.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/dsm.h"
#include "utils/builtins.h"

#include "caller.h"
#include "compat.h"
#include "crypto.h"
#include "history.h"
#include "mailbox.h"
#include "owner.h"
#include "paths.h"
#include "postgrest.h"
#include "raise.h"
#include "result.h"
#include "settings.h"
#include "storage.h"

#define MAX_PATH_CHARACTERS 500
#define DELETED "{\"deleted\":true}"
/* A file that is overwritten while it is read is asked for again so often. */
#define MOST_READS 3

typedef struct Photo
{
	bytea	   *bytes;
	ImageInfo	info;
	char		sha256[65];
	char	   *path;
} Photo;

static void read_photo(FunctionCallInfo fcinfo, const char *uid, Photo *photo);
static bool store_photo(const pg_uuid_t *user, const Photo *photo);
static void send_photo(const Caller *caller, const Photo *photo);
static void check_reader(FunctionCallInfo fcinfo, const char *path, const Caller *caller);
static bytea *fetch_file(const char *path, int size, bool *again);
static void ask(Submission *errand, SubmissionAnswer *answer);
static void path_argument(FunctionCallInfo fcinfo, char path[SPARKY_PATH_BYTES]);
static void check_link(FunctionCallInfo fcinfo, const char *path);

SPARKY_FACE(sparky_upload_image, upload_image);
static Datum
upload_image(PG_FUNCTION_ARGS)
{
	OwnerScope	scope;
	Photo		photo;
	Caller		caller;
	bool		done;

	sparky_caller(&caller);
	PreventCommandIfReadOnly("upload_image");
	read_photo(fcinfo, caller.uid, &photo);

	sparky_owner_enter(&scope);
	sparky_storage_require();
	done = store_photo(&caller.id, &photo);
	sparky_owner_leave(&scope);
	if (!done)
		send_photo(&caller, &photo);
	return sparky_jsonb(psprintf("{\"path\":\"%s\",\"sha256\":\"%s\",\"mime_type\":\"%s\",\"width\":%u,\"height\":%u}",
								 photo.path, photo.sha256, sparky_image_mime(photo.info.type),
								 photo.info.width, photo.info.height));
}

/* An argument too large is refused before it is decompressed. */
static void
read_photo(FunctionCallInfo fcinfo, const char *uid, Photo *photo)
{
	const char *why = NULL;
	Size		size;

	if (PG_ARGISNULL(0))
		sparky_raise(WORD_IMAGE_TYPE, "There is no image.", NULL, 0);
	size = toast_raw_datum_size(PG_GETARG_DATUM(0)) - VARHDRSZ;
	if (size > (Size) sparky_max_image_bytes)
		sparky_raise(WORD_IMAGE_TOO_LARGE, psprintf("At most %d bytes are accepted.", sparky_max_image_bytes), NULL, 0);
	photo->bytes = PG_GETARG_BYTEA_P(0);
	if (!sparky_image_read((const uint8_t *) VARDATA(photo->bytes), size, &photo->info, &why))
		sparky_raise(WORD_IMAGE_TYPE, why, "JPEG, PNG, WebP, HEIC and HEIF are accepted.", 0);
	if (!sparky_sha256_hex(VARDATA(photo->bytes), size, photo->sha256))
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	photo->path = psprintf("%s/%s/%s.%s", SPARKY_UPLOADS, uid, photo->sha256,
						   sparky_image_extension(photo->info.type));
}

/* False: all is well, and the worker must carry it. */
static bool
store_photo(const pg_uuid_t *user, const Photo *photo)
{
	StoredObject there;
	int64		size = VARSIZE_ANY_EXHDR(photo->bytes);
	int			seconds;

	sparky_storage_lock_uploads(user);
	if (sparky_storage_stat(photo->path, &there) && strcmp(there.sha256, photo->sha256) == 0)
		return true;
	if (sparky_storage_used(user) + size > sparky_max_stored_bytes_per_user)
		sparky_raise(WORD_STORAGE_QUOTA, psprintf("At most %d bytes are kept for one account.",
												  sparky_max_stored_bytes_per_user),
					 "Delete uploads or results that are not needed any more.", 0);
	if (sparky_storage_recent_uploads(user, &seconds) >= sparky_uploads_per_hour)
		sparky_raise(WORD_TOO_MANY_UPLOADS, NULL, NULL, seconds);
	if (sparky_storage_outside())
		return false;
	sparky_storage_put(photo->path, user, photo->bytes, &photo->info, photo->sha256);
	return true;
}

static void
send_photo(const Caller *caller, const Photo *photo)
{
	Submission *errand = palloc0(sizeof(Submission));
	SubmissionAnswer answer;
	dsm_segment *segment;

	errand->purpose = PURPOSE_UPLOAD;
	errand->user_id = caller->id;
	errand->size = VARSIZE_ANY_EXHDR(photo->bytes);
	strlcpy(errand->mime, sparky_image_mime(photo->info.type), sizeof(errand->mime));
	strlcpy(errand->source_path, photo->path, sizeof(errand->source_path));
	strlcpy(errand->image_hash, photo->sha256, sizeof(errand->image_hash));
	segment = dsm_create(errand->size, 0);
	memcpy(dsm_segment_address(segment), VARDATA_ANY(photo->bytes), errand->size);
	errand->segment = dsm_segment_handle(segment);
	ask(errand, &answer);
	dsm_detach(segment);
	pfree(errand);
}

/* Have the worker do it. Raises what it was refused for. */
static void
ask(Submission *errand, SubmissionAnswer *answer)
{
	sparky_mailbox_errand(errand, sparky_storage_timeout * 1000, answer);
	if (answer->result != SUBMISSION_REFUSED)
		return;
	if (answer->error == WORD_PROVIDER_TIMEOUT)
		sparky_raise(WORD_OVERLOADED, "Photo storage did not answer in time.", NULL, 0);
	sparky_raise(answer->error, answer->text[0] ? pstrdup(answer->text) : NULL, NULL, 0);
}

SPARKY_FACE(sparky_download_image, download_image);
static Datum
download_image(PG_FUNCTION_ARGS)
{
	bool		by_link = !PG_ARGISNULL(1) || !PG_ARGISNULL(2);
	OwnerScope	scope;
	StoredObject object;
	bytea	   *bytes = NULL;
	Caller		caller;
	char		path[SPARKY_PATH_BYTES];
	const char *mime;
	bool		again = true;

	if (!by_link)
		sparky_caller(&caller);
	path_argument(fcinfo, path);

	for (int reads = 0; again && reads < MOST_READS; reads++)
	{
		bool		found;

		sparky_owner_enter(&scope);
		check_reader(fcinfo, path, by_link ? NULL : &caller);
		sparky_storage_require();
		MemoryContextSwitchTo(scope.caller_context);
		if (!sparky_storage_outside())
			found = (bytes = sparky_storage_get(path, &object)) != NULL;
		else
			found = sparky_storage_stat(path, &object);
		if (!found)
			sparky_raise(WORD_IMAGE_NOT_FOUND, NULL, NULL, 0);
		sparky_owner_leave(&scope);
		again = false;
		if (bytes == NULL)
			bytes = fetch_file(path, object.size, &again);
	}
	if (bytes == NULL)
		sparky_raise(WORD_OVERLOADED, "The file is being overwritten.", NULL, 0);

	/* Anything may lie in one's own folder outside: it goes out as what its bytes are. */
	mime = object.mime;
	if (sparky_storage_outside())
		mime = sparky_image_mime(sparky_image_sniff((const uint8_t *) VARDATA(bytes), VARSIZE(bytes) - VARHDRSZ));
	sparky_response_headers(psprintf("[{\"Content-Type\":\"%s\"},{\"X-Content-Type-Options\":\"nosniff\"},"
									 "{\"Cache-Control\":\"private, max-age=3600\"},{\"Content-Disposition\":\"inline\"}]",
									 mime && mime[0] ? mime : "application/octet-stream"));
	PG_RETURN_BYTEA_P(bytes);
}

/* By a link, or the owner. */
static void
check_reader(FunctionCallInfo fcinfo, const char *path, const Caller *caller)
{
	if (caller == NULL)
		check_link(fcinfo, path);
	else if (!sparky_path_owned(path, SPARKY_UPLOADS, caller->uid) && !sparky_path_owned(path, SPARKY_GENERATIONS, caller->uid))
		sparky_raise(WORD_FORBIDDEN, "The path is not in your own folders.", NULL, 0);
}

/* NULL with *again: it has another size by now. size: as storage said, 0 if it did not. */
static bytea *
fetch_file(const char *path, int size, bool *again)
{
	Submission *errand = palloc0(sizeof(Submission));
	SubmissionAnswer answer;
	dsm_segment *segment;
	bytea	   *bytes = NULL;

	errand->purpose = PURPOSE_DOWNLOAD;
	errand->size = size > 0 ? size : sparky_max_image_bytes;
	strlcpy(errand->source_path, path, sizeof(errand->source_path));
	segment = dsm_create(errand->size, 0);
	errand->segment = dsm_segment_handle(segment);
	ask(errand, &answer);
	*again = answer.result == SUBMISSION_STALE;
	if (!*again)
	{
		bytes = palloc(VARHDRSZ + answer.size);
		SET_VARSIZE(bytes, VARHDRSZ + answer.size);
		memcpy(VARDATA(bytes), dsm_segment_address(segment), answer.size);
	}
	dsm_detach(segment);
	pfree(errand);
	return bytes;
}

/* A link is good while it lives and its signature is ours; otherwise nothing is said of the object. */
static void
check_link(FunctionCallInfo fcinfo, const char *path)
{
	if (PG_ARGISNULL(1) || PG_ARGISNULL(2)
		|| !sparky_storage_signature_valid(path, PG_GETARG_INT64(1), text_to_cstring(PG_GETARG_TEXT_PP(2)))
		|| PG_GETARG_INT64(1) <= (int64) time(NULL))
		sparky_raise(WORD_FORBIDDEN, "The link is not valid or not valid any more.", NULL, 0);
}

SPARKY_FACE(sparky_delete_upload, delete_upload);
static Datum
delete_upload(PG_FUNCTION_ARGS)
{
	OwnerScope	scope;
	Caller		caller;
	char		path[SPARKY_PATH_BYTES];

	sparky_caller(&caller);
	PreventCommandIfReadOnly("delete_upload");
	path_argument(fcinfo, path);
	if (!sparky_path_owned(path, SPARKY_UPLOADS, caller.uid))
		sparky_raise(WORD_FORBIDDEN, "The path is not in your own folder of user_uploads.", NULL, 0);

	sparky_owner_enter(&scope);
	sparky_storage_require();
	if (!sparky_upload_delete(&caller.id, path))
		sparky_raise(WORD_IMAGE_NOT_FOUND, NULL, NULL, 0);
	sparky_owner_leave(&scope);
	return sparky_jsonb(DELETED);
}

SPARKY_FACE(sparky_delete_generation, delete_generation);
static Datum
delete_generation(PG_FUNCTION_ARGS)
{
	OwnerScope	scope;
	Caller		caller;

	sparky_caller(&caller);
	PreventCommandIfReadOnly("delete_generation");
	if (PG_ARGISNULL(0))
		sparky_raise(WORD_BAD_PARAMETERS, "id is required", NULL, 0);

	sparky_owner_enter(&scope);
	sparky_storage_require();
	if (!sparky_history_delete(&caller.id, PG_GETARG_INT64(0)))
		sparky_raise(WORD_IMAGE_NOT_FOUND, NULL, NULL, 0);
	sparky_owner_leave(&scope);
	return sparky_jsonb(DELETED);
}

/* The path with its bucket. */
static void
path_argument(FunctionCallInfo fcinfo, char path[SPARKY_PATH_BYTES])
{
	char	   *given;

	if (PG_ARGISNULL(0))
		sparky_raise(WORD_BAD_PARAMETERS, "path is required", NULL, 0);
	given = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (pg_mbstrlen(given) > MAX_PATH_CHARACTERS || !sparky_path_normal(given, path, SPARKY_PATH_BYTES))
		sparky_raise(WORD_BAD_PARAMETERS, "path must not have more than 500 characters", NULL, 0);
}
