/*
 * storage_files.c: the bytes, in memory, by "bucket/key" and version.
 *
 * A list is enough for what tests store.  Any thread, under one lock.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "storage.h"

typedef struct File
{
	char	   *object;
	char	   *version;
	Buf			bytes;
	struct File *next;
} File;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static File *files = NULL;

static File **find(const char *object, const char *version);
static void drop(File **place);

void
storage_file_put(const char *object, const char *version, const void *bytes, size_t len)
{
	File	   *file = xalloc(sizeof *file);
	File	  **old;

	file->object = xstrdup(object);
	file->version = xstrdup(version);
	buf_add(&file->bytes, bytes, len);
	pthread_mutex_lock(&lock);
	old = find(object, version);
	if (*old != NULL)
		drop(old);
	file->next = files;
	files = file;
	pthread_mutex_unlock(&lock);
}

bool
storage_file_get(const char *object, const char *version, Buf *out)
{
	File	   *file;

	pthread_mutex_lock(&lock);
	file = *find(object, version);
	if (file != NULL)
		buf_add(out, file->bytes.data, file->bytes.len);
	pthread_mutex_unlock(&lock);
	return file != NULL;
}

bool
storage_file_drop(const char *object, const char *version)
{
	File	  **place;
	bool		any = false;

	pthread_mutex_lock(&lock);
	while (*(place = find(object, version)) != NULL)
	{
		drop(place);
		any = true;
	}
	pthread_mutex_unlock(&lock);
	return any;
}

void
storage_file_clear(void)
{
	pthread_mutex_lock(&lock);
	while (files != NULL)
		drop(&files);
	pthread_mutex_unlock(&lock);
}

void
storage_file_totals(size_t *count, size_t *bytes)
{
	*count = *bytes = 0;
	pthread_mutex_lock(&lock);
	for (File *file = files; file != NULL; file = file->next)
	{
		(*count)++;
		*bytes += file->bytes.len;
	}
	pthread_mutex_unlock(&lock);
}

/* Where the file hangs; at the end of the list if there is none. */
static File **
find(const char *object, const char *version)
{
	File	  **place = &files;

	while (*place != NULL && (strcmp((*place)->object, object) != 0 ||
							  (version != NULL && strcmp((*place)->version, version) != 0)))
		place = &(*place)->next;
	return place;
}

static void
drop(File **place)
{
	File	   *file = *place;

	*place = file->next;
	free(file->object);
	free(file->version);
	buf_free(&file->bytes);
	free(file);
}
