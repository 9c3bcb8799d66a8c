/*
 * gemini_reader.c: takes the images out of a response while it arrives.
 *
 * Rules.  A 4K image is ten megabytes of base64 inside JSON: held as text, as
 * parsed text and as bytes it would cost three times its size.  So a string of
 * more than 256 base64 characters is decoded as it streams in, and the text
 * keeps a marker in its place.  The filter knows only where JSON strings begin
 * and end; what the strings mean is read from the small rest.
 *
 * Nothing is lost by guessing wrong: a string that turns out to be no base64
 * after all is encoded back into the text.  The marker holds a nonce, so that
 * no text of the model can pass for one.
 *
 * All of this runs in libcurl's write callback: malloc only, capped, no throw.
 * Once a cap is reached the reader stays stopped.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gemini_reader.h"

#define FIRST_BLOB_CAPACITY (64 * 1024)
#define ENCODE_SLICE 3000		/* bytes turned back into text at a time; a multiple of 3 */

static size_t take_outside(GeminiReader *reader, const char *bytes, size_t length);
static size_t take_string(GeminiReader *reader, const char *bytes, size_t length);
static size_t take_after_backslash(GeminiReader *reader, char c);
static size_t take_unicode_escape(GeminiReader *reader, char c);
static void begin_string(GeminiReader *reader);
static void end_string(GeminiReader *reader);
static void add_escape(GeminiReader *reader, int character);
static void add_base64(GeminiReader *reader, const char *characters, size_t length, const char *raw, size_t raw_length);
static bool begin_blob(GeminiReader *reader);
static void flush_staged(GeminiReader *reader);
static void break_blob(GeminiReader *reader);
static void end_blob(GeminiReader *reader);
static void keep_text(GeminiReader *reader, const char *bytes, size_t length);
static Blob *new_blob(GeminiReader *reader);
static bool make_room(GeminiReader *reader, Blob *blob, size_t more);
static void free_blob(GeminiReader *reader, Blob *blob);
static bool is_base64(char c);
static int	escaped_character(const char escape[6]);

/* ---- the reader's life ---- */

GeminiReader *
sparky_gemini_reader_start(GenerationKind kind, const uint8_t nonce[16], size_t max_bytes, size_t headroom)
{
	GeminiReader *reader = calloc(1, sizeof(GeminiReader));

	if (reader == NULL)
		return NULL;
	reader->kind = kind;
	reader->max_blob_bytes = max_bytes;
	reader->max_text_bytes = max_bytes / 4;
	reader->headroom = headroom;
	sparky_hex(nonce, 16, reader->nonce);
	return reader;
}

size_t
sparky_gemini_reader_memory(const GeminiReader *reader)
{
	size_t		bytes = sizeof(GeminiReader) + reader->text.capacity + reader->blob_room * sizeof(Blob);

	for (size_t i = 0; i < reader->blob_count; i++)
	{
		if (reader->blobs[i].data != NULL)
			bytes += reader->headroom + reader->blobs[i].capacity;
	}
	return bytes;
}

void
sparky_gemini_reader_free(GeminiReader *reader)
{
	if (reader == NULL)
		return;
	sparky_gemini_reader_keep_only(reader, NULL);
	free(reader->blobs);
	sparky_json_text_free(&reader->text);
	sparky_base64_decoder_free(reader->decoder);
	free(reader);
}

void
sparky_gemini_reader_keep_only(GeminiReader *reader, const Blob *kept)
{
	for (size_t i = 0; i < reader->blob_count; i++)
	{
		if (&reader->blobs[i] != kept)
			free_blob(reader, &reader->blobs[i]);
	}
}

/* ---- the filter ---- */

bool
sparky_gemini_reader_add(GeminiReader *reader, const char *bytes, size_t length)
{
	while (length > 0 && !reader->stopped)
	{
		size_t		taken = 0;

		switch (reader->state)
		{
			case OUTSIDE_STRING:
				taken = take_outside(reader, bytes, length);
				break;
			case IN_STRING:
				taken = take_string(reader, bytes, length);
				break;
			case AFTER_BACKSLASH:
				taken = take_after_backslash(reader, *bytes);
				break;
			case IN_UNICODE_ESCAPE:
				taken = take_unicode_escape(reader, *bytes);
				break;
		}
		bytes += taken;
		length -= taken;
	}
	return !reader->stopped;
}

static size_t
take_outside(GeminiReader *reader, const char *bytes, size_t length)
{
	const char *quote = memchr(bytes, '"', length);
	size_t		taken = quote != NULL ? (size_t) (quote - bytes) + 1 : length;

	keep_text(reader, bytes, taken);
	if (quote != NULL)
		begin_string(reader);
	return taken;
}

static size_t
take_string(GeminiReader *reader, const char *bytes, size_t length)
{
	size_t		run = 0;

	if (*bytes == '"')
	{
		end_string(reader);
		keep_text(reader, "\"", 1);
		return 1;
	}
	if (*bytes == '\\')
	{
		reader->escape[0] = '\\';
		reader->escape_length = 1;
		reader->state = AFTER_BACKSLASH;
		return 1;
	}
	if (reader->string == STRING_MAYBE_BLOB || reader->string == STRING_BLOB)
	{
		while (run < length && is_base64(bytes[run]))
			run++;
		if (run > 0)
			add_base64(reader, bytes, run, bytes, run);
		else
			break_blob(reader);	/* nothing taken: the byte is seen again as text */
		return run;
	}
	while (run < length && bytes[run] != '"' && bytes[run] != '\\')
		run++;
	if (reader->string == STRING_TEXT)
		keep_text(reader, bytes, run);
	return run;
}

static size_t
take_after_backslash(GeminiReader *reader, char c)
{
	reader->escape[reader->escape_length++] = c;
	if (c == 'u')
		reader->state = IN_UNICODE_ESCAPE;
	else
		add_escape(reader, c == '/' ? '/' : -1);
	return 1;
}

static size_t
take_unicode_escape(GeminiReader *reader, char c)
{
	if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')))
	{
		/* Not JSON; kept as it is for the parser to refuse, and the byte is seen again. */
		add_escape(reader, -1);
		return 0;
	}
	reader->escape[reader->escape_length++] = c;
	if (reader->escape_length == sizeof(reader->escape))
		add_escape(reader, escaped_character(reader->escape));
	return 1;
}

static void
begin_string(GeminiReader *reader)
{
	reader->state = IN_STRING;
	reader->string = STRING_MAYBE_BLOB;
	reader->string_start = reader->text.length;
	reader->staged_length = 0;
}

static void
end_string(GeminiReader *reader)
{
	if (reader->string == STRING_BLOB)
		end_blob(reader);
	reader->state = OUTSIDE_STRING;
}

/* An escape is complete; character is what it stands for if that may be base64, else -1. */
static void
add_escape(GeminiReader *reader, int character)
{
	char		c = (char) character;

	reader->state = IN_STRING;
	if (reader->string == STRING_MAYBE_BLOB || reader->string == STRING_BLOB)
	{
		if (character >= 0 && is_base64(c))
		{
			add_base64(reader, &c, 1, reader->escape, reader->escape_length);
			return;
		}
		break_blob(reader);
	}
	if (reader->string == STRING_TEXT)
		keep_text(reader, reader->escape, reader->escape_length);
}

/* ---- strings that look like base64 ---- */

/* characters are base64; raw is how they were written, for the text. */
static void
add_base64(GeminiReader *reader, const char *characters, size_t length, const char *raw, size_t raw_length)
{
	if (reader->string == STRING_MAYBE_BLOB)
	{
		if (reader->staged_length + length <= BLOB_MIN_CHARACTERS)
		{
			memcpy(reader->staged + reader->staged_length, characters, length);
			reader->staged_length += length;
			keep_text(reader, raw, raw_length);
			return;
		}
		if (!begin_blob(reader))
			return;
	}
	while (length > 0 && !reader->stopped && reader->string == STRING_BLOB)
	{
		size_t		part = sizeof(reader->staged) - reader->staged_length;

		if (part > length)
			part = length;
		memcpy(reader->staged + reader->staged_length, characters, part);
		reader->staged_length += part;
		characters += part;
		length -= part;
		if (reader->staged_length == sizeof(reader->staged))
			flush_staged(reader);
	}
	/* Broken on the way by a '=' in the middle: the rest is text. */
	if (length > 0 && reader->string == STRING_TEXT)
		keep_text(reader, characters, length);
}

/* The marker takes the place of what the text holds of this string so far. */
static bool
begin_blob(GeminiReader *reader)
{
	char		marker[80];
	int			marker_length = snprintf(marker, sizeof(marker), MARKER_PREFIX "%s:%zu", reader->nonce, reader->blob_count);

	reader->decoder = sparky_base64_decoder_start();
	if (reader->decoder == NULL || new_blob(reader) == NULL)
	{
		reader->stopped = true;
		return false;
	}
	reader->text.length = reader->string_start;
	keep_text(reader, marker, marker_length);
	reader->string = STRING_BLOB;
	return !reader->stopped;
}

static void
flush_staged(GeminiReader *reader)
{
	Blob	   *blob = &reader->blobs[reader->blob_count - 1];
	size_t		written;

	if (!make_room(reader, blob, reader->staged_length / 4 * 3 + 3))
	{
		reader->stopped = true;
		return;
	}
	if (!sparky_base64_decoder_add(reader->decoder, reader->staged, reader->staged_length,
								   blob->data + reader->headroom + blob->length, &written))
	{
		break_blob(reader);
		return;
	}
	blob->length += written;
	reader->blob_bytes += written;
	reader->staged_length = 0;
	if (reader->blob_bytes > reader->max_blob_bytes)
		reader->stopped = true;
}

/*
 * Not base64 after all.  What was decoded is encoded again, which gives the same
 * characters, since only whole quanta were decoded; what is staged follows.  A
 * string too long to be kept as text stays a marker without a blob.
 */
static void
break_blob(GeminiReader *reader)
{
	Blob	   *blob;
	size_t		characters;

	if (reader->string == STRING_MAYBE_BLOB)
	{
		reader->string = STRING_TEXT;	/* the text has it already */
		return;
	}
	blob = &reader->blobs[reader->blob_count - 1];
	characters = SPARKY_BASE64_LENGTH(blob->length) + reader->staged_length;
	sparky_base64_decoder_free(reader->decoder);
	reader->decoder = NULL;
	if (characters > reader->max_text_bytes - reader->string_start)
		reader->string = STRING_DROPPED;
	else
	{
		reader->string = STRING_TEXT;
		reader->text.length = reader->string_start;
		for (size_t at = 0; at < blob->length; at += ENCODE_SLICE)
		{
			char		encoded[SPARKY_BASE64_LENGTH(ENCODE_SLICE) + 1];
			size_t		slice = blob->length - at < ENCODE_SLICE ? blob->length - at : ENCODE_SLICE;

			keep_text(reader, encoded,
					  sparky_base64_encode(blob->data + reader->headroom + at, slice, encoded));
		}
		keep_text(reader, reader->staged, reader->staged_length);
	}
	free_blob(reader, blob);
	if (reader->string == STRING_TEXT)
		reader->blob_count--;	/* the last one: its number is free again */
}

/* The string is complete: decode the rest and give back the room that doubling took too much. */
static void
end_blob(GeminiReader *reader)
{
	Blob	   *blob = &reader->blobs[reader->blob_count - 1];
	uint8_t    *exact;

	/* An incomplete quantum is no base64; seen before it is decoded, so that it can be given back. */
	if (reader->staged_length % 4 != 0)
		break_blob(reader);
	else
		flush_staged(reader);
	if (reader->stopped || reader->string != STRING_BLOB)
		return;
	exact = realloc(blob->data, reader->headroom + blob->length + 1);
	if (exact != NULL)
	{
		blob->data = exact;
		blob->capacity = blob->length + 1;
	}
	sparky_base64_decoder_free(reader->decoder);
	reader->decoder = NULL;
}

static void
keep_text(GeminiReader *reader, const char *bytes, size_t length)
{
	if (length > reader->max_text_bytes - reader->text.length)
	{
		reader->stopped = true;
		return;
	}
	sparky_json_text_add(&reader->text, bytes, length);
	if (reader->text.failed)
		reader->stopped = true;
}

/* ---- blobs ---- */

Blob *
sparky_gemini_reader_blob(GeminiReader *reader, const char *string)
{
	char		marker[80];
	unsigned long long number;
	char	   *end;
	int			length = snprintf(marker, sizeof(marker), MARKER_PREFIX "%s:", reader->nonce);

	if (string == NULL || strncmp(string, marker, length) != 0)
		return NULL;
	number = strtoull(string + length, &end, 10);
	if (*end != '\0' || number >= reader->blob_count)
		return NULL;
	return &reader->blobs[number];
}

Blob *
sparky_gemini_reader_decode(GeminiReader *reader, const char *base64, size_t length)
{
	Base64Decoder *decoder = sparky_base64_decoder_start();
	Blob	   *blob = decoder != NULL ? new_blob(reader) : NULL;
	size_t		written = 0;

	if (blob != NULL &&
		(!make_room(reader, blob, length / 4 * 3 + 3) ||
		 !sparky_base64_decoder_add(decoder, base64, length, blob->data + reader->headroom, &written) ||
		 !sparky_base64_decoder_finish(decoder) ||
		 written > reader->max_blob_bytes - reader->blob_bytes))
	{
		free_blob(reader, blob);
		blob = NULL;
	}
	if (blob != NULL)
	{
		blob->length = written;
		reader->blob_bytes += written;
	}
	sparky_base64_decoder_free(decoder);
	return blob;
}

/* Pointers to blobs are good until the next new one. */
static Blob *
new_blob(GeminiReader *reader)
{
	if (reader->blob_count == reader->blob_room)
	{
		size_t		room = reader->blob_room > 0 ? 2 * reader->blob_room : 4;
		Blob	   *blobs = realloc(reader->blobs, room * sizeof(Blob));

		if (blobs == NULL)
			return NULL;
		reader->blobs = blobs;
		reader->blob_room = room;
	}
	reader->blobs[reader->blob_count] = (Blob) {NULL, 0, 0};
	return &reader->blobs[reader->blob_count++];
}

static bool
make_room(GeminiReader *reader, Blob *blob, size_t more)
{
	size_t		capacity = blob->capacity > 0 ? blob->capacity : FIRST_BLOB_CAPACITY;
	size_t		limit = reader->max_blob_bytes + sizeof(reader->staged);
	uint8_t    *data;

	if (blob->data != NULL && blob->length + more <= blob->capacity)
		return true;
	while (capacity < blob->length + more)
		capacity *= 2;
	/* Doubling need not go far past what may come at all. */
	if (capacity > limit && limit >= blob->length + more)
		capacity = limit;
	data = realloc(blob->data, reader->headroom + capacity);
	if (data == NULL)
		return false;
	blob->data = data;
	blob->capacity = capacity;
	return true;
}

static void
free_blob(GeminiReader *reader, Blob *blob)
{
	reader->blob_bytes -= blob->length;
	free(blob->data);
	*blob = (Blob) {NULL, 0, 0};
}

/* ---- characters ---- */

static bool
is_base64(char c)
{
	/* A table, since this is asked of every character of every image. */
	static const unsigned char alphabet[256] = {
		['A' ... 'Z'] = 1, ['a' ... 'z'] = 1, ['0' ... '9'] = 1, ['+'] = 1, ['/'] = 1, ['='] = 1,
	};

	return alphabet[(unsigned char) c] != 0;
}

/* The ASCII character of a complete \uXXXX, else -1. */
static int
escaped_character(const char escape[6])
{
	char		digits[5] = {escape[2], escape[3], escape[4], escape[5], '\0'};
	long		unit = strtol(digits, NULL, 16);

	return unit > 0 && unit < 0x80 ? (int) unit : -1;
}
