/* owned.c: see owned.h. */
#include "postgres.h"

#include "utils/memutils.h"

#include "canonical_json.h"
#include "crypto.h"
#include "owned.h"

typedef struct OwnedJson
{
	MemoryContextCallback callback;
	JsonValue  *value;
} OwnedJson;

typedef struct OwnedText
{
	MemoryContextCallback callback;
	JsonText	text;
} OwnedText;

static void free_json(void *arg);
static void free_text(void *arg);

JsonValue *
sparky_owned_json(const char *text, char *why, size_t why_size)
{
	OwnedJson  *owned = palloc0(sizeof(OwnedJson));

	owned->callback.func = free_json;
	owned->callback.arg = owned;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &owned->callback);
	owned->value = sparky_json_parse(text, strlen(text), why, why_size);
	return owned->value;
}

JsonText *
sparky_owned_text(void)
{
	OwnedText  *owned = palloc0(sizeof(OwnedText));

	owned->callback.func = free_text;
	owned->callback.arg = owned;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &owned->callback);
	return &owned->text;
}

bool
sparky_jcs_sha256(const char *json, char hex[65])
{
	JsonText   *canonical = sparky_owned_text();
	char		why[160];

	if (!sparky_jcs_add_text(canonical, json, strlen(json), why, sizeof(why)))
		return false;
	if (canonical->failed || !sparky_sha256_hex(canonical->data, canonical->length, hex))
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	return true;
}

static void
free_json(void *arg)
{
	sparky_json_free(((OwnedJson *) arg)->value);
}

static void
free_text(void *arg)
{
	sparky_json_text_free(&((OwnedText *) arg)->text);
}
