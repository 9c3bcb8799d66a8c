/*
 * gemini_reader.h: what gemini.c sees of the response filter in gemini_reader.c.
 *
 * After the last byte came, text is the response with each long base64 string
 * replaced by a marker, and blobs are what those strings decoded to.
 */
#ifndef SPARKY_GEMINI_READER_H
#define SPARKY_GEMINI_READER_H

#include "crypto.h"
#include "gemini.h"

#define BLOB_MIN_CHARACTERS 256		/* shorter strings stay in the text */
#define MARKER_PREFIX "sparky-blob:"

typedef struct Blob
{
	uint8_t    *data;			/* malloc'd: headroom, then the bytes; NULL: broken, or given away */
	size_t		length;			/* without the headroom */
	size_t		capacity;		/* without the headroom */
} Blob;

/* Where in the JSON text the filter is. */
typedef enum FilterState { OUTSIDE_STRING, IN_STRING, AFTER_BACKSLASH, IN_UNICODE_ESCAPE } FilterState;

/* What the current string has turned out to be. */
typedef enum StringKind
{
	STRING_MAYBE_BLOB,			/* base64 characters only, and few */
	STRING_BLOB,				/* base64 characters only, and many: being decoded */
	STRING_TEXT,				/* anything else */
	STRING_DROPPED				/* was a blob, broke, and is too long to be a text */
} StringKind;

struct GeminiReader
{
	GenerationKind kind;
	char		nonce[2 * 16 + 1];
	size_t		max_blob_bytes;
	size_t		max_text_bytes;
	size_t		headroom;
	bool		stopped;		/* a cap was reached, or memory ran out */

	JsonText	text;
	Blob	   *blobs;
	size_t		blob_count;
	size_t		blob_room;		/* elements of blobs */
	size_t		blob_bytes;		/* of all blobs together */

	FilterState state;
	StringKind	string;
	size_t		string_start;	/* in text, after the quote */
	char		escape[6];
	size_t		escape_length;
	char		staged[4096];	/* base64 characters not yet decoded; a multiple of 4 */
	size_t		staged_length;
	Base64Decoder *decoder;		/* of the current blob */
};

/* The blob that a string of the parsed text stands for, or NULL: an ordinary string. */
extern Blob *sparky_gemini_reader_blob(GeminiReader *reader, const char *string);
/* Decode a short base64 string into a blob of its own; NULL: not base64, a cap, or no memory. */
extern Blob *sparky_gemini_reader_decode(GeminiReader *reader, const char *base64, size_t length);
/* Free all blobs but one (which may be NULL). */
extern void sparky_gemini_reader_keep_only(GeminiReader *reader, const Blob *kept);

#endif
