/*
 * file_caller.c: errands to the Storage API that a caller waits for: the digest
 * of a photo, a link, a file up, a file down.
 *
 * A file passes between caller and worker in a segment that the caller made and
 * keeps until he has his answer: one who has left has taken it along, and then
 * there is nobody to work for.  The digest is fetched to its end all the same:
 * it is remembered, and the caller's next try finds it.
 */
#include "postgres.h"

#include "storage/dsm.h"
#include "utils/timestamp.h"

#include "crypto.h"
#include "file_errand.h"
#include "image.h"
#include "settings.h"

/* An object that changes while it is read is read again so often. */
#define MOST_READS 3
#define TRIES 3

typedef struct HashErrand
{
	FileExchange exchange;
	char		path[SPARKY_PATH_BYTES];
	StoredObject object;		/* as it was when the request went out */
	int			reads;
	const char *why;			/* no picture that we take */
} HashErrand;

typedef struct UploadErrand
{
	FileExchange exchange;
	MemoryContextCallback leave;
	dlist_node	node;
	dsm_segment *segment;
} UploadErrand;

static dlist_head uploads = DLIST_STATIC_INIT(uploads);

static const Submission *
submission_of(const Errand *errand)
{
	return &errand->mail->submission;
}

/* ---- the digest of a photo ---- */

static bool
hash_begin(Errand *errand, TimestampTz now)
{
	HashErrand *state = errand->state ? errand->state : sparky_file_state(errand, sizeof(HashErrand));

	strlcpy(state->path, submission_of(errand)->source_path, sizeof(state->path));
	if (!sparky_storage_stat(state->path, &state->object))
		sparky_errand_refuse(errand, WORD_IMAGE_NOT_FOUND, NULL);
	else if (state->object.sha256[0] != '\0')
		errand->over = true;
	else if (state->object.size > sparky_max_image_bytes)
		sparky_errand_refuse(errand, WORD_IMAGE_TOO_LARGE, "The file is larger than sparky.max_image_bytes.");
	errand->limit = sparky_max_image_bytes;
	return true;
}

static bool
hash_request(Errand *errand, HttpRequest *request)
{
	HashErrand *state = errand->state;

	return sparky_file_download(errand, state->path, request);
}

static void
hash_read(Errand *errand, const HttpResult *result)
{
	HashErrand *state = errand->state;
	const uint8 *bytes = (const uint8 *) errand->body;
	ImageInfo	info;

	sparky_file_read(errand, result, TRIES);
	if (state->exchange.answer.outcome != STORAGE_OK)
		return;
	state->why = NULL;
	state->object.mime[0] = '\0';
	if (errand->length == 0)
		state->why = "the file is empty";
	else if (sparky_image_read(bytes, errand->length, &info, &state->why))
		strlcpy(state->object.mime, sparky_image_mime(info.type), sizeof(state->object.mime));
	if (!sparky_sha256_hex(errand->length ? errand->body : "", errand->length, state->object.sha256))
		state->exchange.answer.outcome = STORAGE_SERVER;
	state->object.size = (int) errand->length;
}

/* What was read is this version's only if the row told of it before and after. */
static bool
hash_settle(Errand *errand, TimestampTz now)
{
	HashErrand *state = errand->state;
	StoredObject object;

	if (state->exchange.answer.outcome != STORAGE_OK)
		sparky_file_refuse(errand);
	else if (!sparky_storage_stat(state->path, &object))
		sparky_errand_refuse(errand, WORD_IMAGE_NOT_FOUND, NULL);
	else if (memcmp(&object.object_id, &state->object.object_id, sizeof(object.object_id)) != 0 ||
			 strcmp(object.version, state->object.version) != 0)
	{
		if (++state->reads >= MOST_READS)
			sparky_errand_refuse(errand, WORD_OVERLOADED, "The photo is being overwritten.");
		else
		{
			state->object = object;
			state->exchange.tries = 0;
		}
	}
	else
	{
		sparky_storage_note_hash(&state->object);
		if (state->object.mime[0] == '\0')
			sparky_errand_refuse(errand, WORD_IMAGE_TYPE, state->why);
		errand->over = true;
	}
	return true;
}

static bool
hash_joins(const Errand *errand, const Submission *submission)
{
	return strcmp(submission_of(errand)->source_path, submission->source_path) == 0;
}

const ErrandType sparky_hash_errand = {
	.name = "reading a photo",
	.locks = BATCH_FILES,
	.begin = hash_begin,
	.request = hash_request,
	.read = hash_read,
	.settle = hash_settle,
	.joins = hash_joins,
};

/* Of an errand without a settlement: if there is no request, it is over. */
static bool
or_refused(Errand *errand, bool requested)
{
	if (!requested)
	{
		errand->unsent = false;
		sparky_file_refuse(errand);
	}
	return requested;
}

/* ---- a link ---- */

static bool
sign_request(Errand *errand, HttpRequest *request)
{
	FileExchange *exchange = errand->state ? errand->state : sparky_file_state(errand, sizeof(FileExchange));
	const Submission *submission = submission_of(errand);

	sparky_file_reset(exchange);
	return or_refused(errand, sparky_file_request(errand, sparky_storage_rest_sign(sparky_storage_url, submission->source_path, submission->seconds,
																				   &exchange->message, exchange->why, sizeof(exchange->why)), request));
}

static void
sign_read(Errand *errand, const HttpResult *result)
{
	FileExchange *exchange = errand->state;

	sparky_file_read(errand, result, TRIES);
	if (errand->again)
		return;
	if (exchange->answer.outcome != STORAGE_OK || exchange->answer.link == NULL ||
		strlen(exchange->answer.link) >= sizeof(errand->answer.text))
		sparky_file_refuse(errand);
	else
		strlcpy(errand->answer.text, exchange->answer.link, sizeof(errand->answer.text));
	errand->over = true;
}

const ErrandType sparky_sign_errand = {
	.name = "signing a link",
	.locks = BATCH_FILES,
	.request = sign_request,
	.read = sign_read,
};

/* ---- a file up ---- */

static void
upload_leave(void *arg)
{
	UploadErrand *state = arg;

	dlist_delete(&state->node);
	if (state->segment != NULL)
		dsm_detach(state->segment);
}

/* What is on its way to be erased must be gone first: storage does not promise which of the two would win. */
static bool
upload_begin(Errand *errand, TimestampTz now)
{
	UploadErrand *state;

	if (sparky_file_erasing(submission_of(errand)->source_path))
		return false;
	if (errand->state != NULL)
		return true;
	state = sparky_file_state(errand, sizeof(UploadErrand));
	dlist_push_tail(&uploads, &state->node);
	state->leave.func = upload_leave;
	state->leave.arg = state;
	MemoryContextRegisterResetCallback(errand->context, &state->leave);
	return true;
}

static bool
upload_request(Errand *errand, HttpRequest *request)
{
	UploadErrand *state = errand->state;
	const Submission *submission = submission_of(errand);

	if (state->segment == NULL)
	{
		state->segment = dsm_attach(submission->segment);
		if (state->segment != NULL)
			dsm_pin_mapping(state->segment);
	}
	if (state->segment == NULL || dsm_segment_map_length(state->segment) < submission->size)
	{
		sparky_errand_refuse(errand, WORD_OVERLOADED, NULL);
		return false;
	}
	return sparky_file_upload(errand, submission->source_path, submission->mime, dsm_segment_address(state->segment), submission->size, request);
}

static void
file_read(Errand *errand, const HttpResult *result)
{
	sparky_file_read(errand, result, TRIES);
}

/* The caller has the digest; it is of the object that is there now if that has the same size. */
static bool
upload_settle(Errand *errand, TimestampTz now)
{
	UploadErrand *state = errand->state;
	const Submission *submission = submission_of(errand);
	StoredObject object;

	errand->over = true;
	if (state->exchange.answer.outcome != STORAGE_OK)
	{
		sparky_file_refuse(errand);
		return true;
	}
	if (sparky_storage_stat(submission->source_path, &object) && object.size == submission->size)
	{
		strlcpy(object.sha256, submission->image_hash, sizeof(object.sha256));
		strlcpy(object.mime, submission->mime, sizeof(object.mime));
		sparky_storage_note_hash(&object);
	}
	return true;
}

const ErrandType sparky_upload_errand = {
	.name = "storing an upload",
	.locks = BATCH_FILES,
	.begin = upload_begin,
	.request = upload_request,
	.read = file_read,
	.settle = upload_settle,
};

bool
sparky_file_uploading(const char *bucket, const char *name)
{
	dlist_iter	iter;
	size_t		length = strlen(bucket);

	dlist_foreach(iter, &uploads)
	{
		const UploadErrand *state = dlist_container(UploadErrand, node, iter.cur);
		const char *path = state->exchange.message.path;

		/* One that has no message yet has not begun: it waits for the erasure. */
		if (path != NULL && strncmp(path, bucket, length) == 0 && path[length] == '/' && strcmp(path + length + 1, name) == 0)
			return true;
	}
	return false;
}

/* ---- a file down ---- */

static bool
download_request(Errand *errand, HttpRequest *request)
{
	const Submission *submission = submission_of(errand);

	if (errand->state == NULL)
		sparky_file_state(errand, sizeof(FileExchange));
	errand->limit = submission->size;
	return or_refused(errand, sparky_file_download(errand, submission->source_path, request));
}

static void
download_read(Errand *errand, const HttpResult *result)
{
	FileExchange *exchange = errand->state;
	dsm_segment *segment;

	sparky_file_read(errand, result, TRIES);
	if (errand->again)
		return;
	errand->over = true;
	if (exchange->answer.outcome == STORAGE_CUT)
		errand->answer.result = SUBMISSION_STALE;	/* larger than the caller was told: it was overwritten */
	else if (exchange->answer.outcome != STORAGE_OK)
		sparky_file_refuse(errand);
	else if ((segment = dsm_attach(submission_of(errand)->segment)) != NULL)
	{
		if (dsm_segment_map_length(segment) >= errand->length)
		{
			memcpy(dsm_segment_address(segment), errand->body, errand->length);
			errand->answer.size = errand->length;
		}
		else
			errand->answer.result = SUBMISSION_STALE;
		dsm_detach(segment);
	}
}

const ErrandType sparky_download_errand = {
	.name = "reading a file",
	.locks = BATCH_FILES,
	.request = download_request,
	.read = download_read,
};
