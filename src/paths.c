/* paths.c: see paths.h. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "paths.h"

static bool starts_with(const char *text, const char *start);
static bool sound_character(const char *at);
static bool sound_segments(const char *name);

bool
sparky_path_normal(const char *path, char *normal, size_t size)
{
	bool		has_bucket = starts_with(path, SPARKY_UPLOADS "/") || starts_with(path, SPARKY_GENERATIONS "/");
	int			length = snprintf(normal, size, "%s%s", has_bucket ? "" : SPARKY_UPLOADS "/", path);

	return length >= 0 && (size_t) length < size;
}

bool
sparky_path_owned(const char *normal, const char *bucket, const char *uid)
{
	const char *at = normal;

	if (!starts_with(at, bucket) || at[strlen(bucket)] != '/')
		return false;
	at += strlen(bucket) + 1;
	if (!starts_with(at, uid) || at[strlen(uid)] != '/')
		return false;
	at += strlen(uid) + 1;
	for (const char *c = at; *c != '\0'; c++)
	{
		if (!sound_character(c))
			return false;
	}
	return sound_segments(at);
}

static bool
starts_with(const char *text, const char *start)
{
	return strncmp(text, start, strlen(start)) == 0;
}

static bool
sound_character(const char *at)
{
	static const char *const encoded[] = {"%2f", "%5c", "%2e", "%00"};
	unsigned char c = (unsigned char) at[0];

	if (c < 0x20 || c == 0x7f || c == '\\')
		return false;
	if (c == 0xc2 && (unsigned char) at[1] >= 0x80 && (unsigned char) at[1] <= 0x9f)
		return false;			/* U+0080 to U+009F */
	for (size_t i = 0; i < sizeof(encoded) / sizeof(encoded[0]); i++)
	{
		if (strncasecmp(at, encoded[i], 3) == 0)
			return false;
	}
	return true;
}

/* No empty, '.' or '..' segment, and at least one. */
static bool
sound_segments(const char *name)
{
	for (;;)
	{
		size_t		length = strcspn(name, "/");

		if (length == 0 || (length == 1 && name[0] == '.') || (length == 2 && name[0] == '.' && name[1] == '.'))
			return false;
		if (name[length] == '\0')
			return true;
		name += length + 1;
	}
}
