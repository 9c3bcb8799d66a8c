/*
 * pg_shim.c: see pg_shim.h.  An ereport(ERROR) ends the test: none is expected.
 */
#include "postgres.h"

#include "storage/fd.h"

#include "pg_shim.h"

typedef struct Chunk
{
	struct Chunk *next;
	max_align_t data[];
} Chunk;

int			shim_descriptors = 0;
int			shim_descriptor_limit = 1000;
MemoryContext CurrentMemoryContext = NULL;

static Chunk *chunks = NULL;
static MemoryContextCallback *callbacks = NULL;

void
shim_reset(void)
{
	for (; callbacks != NULL; callbacks = callbacks->next)
		callbacks->func(callbacks->arg);
	while (chunks != NULL)
	{
		Chunk	   *next = chunks->next;

		free(chunks);
		chunks = next;
	}
}

void *
palloc0(Size size)
{
	Chunk	   *chunk = calloc(1, sizeof(Chunk) + size);

	if (chunk == NULL)
		abort();
	chunk->next = chunks;
	chunks = chunk;
	return chunk->data;
}

void
MemoryContextRegisterResetCallback(MemoryContext context, MemoryContextCallback *callback)
{
	callback->next = callbacks;
	callbacks = callback;
}

bool
AcquireExternalFD(void)
{
	if (shim_descriptors >= shim_descriptor_limit)
		return false;
	shim_descriptors++;
	return true;
}

void
ReserveExternalFD(void)
{
	shim_descriptors++;
}

void
ReleaseExternalFD(void)
{
	if (--shim_descriptors < 0)
		abort();
}

bool
errstart(int elevel, const char *domain)
{
	return true;
}

bool
errstart_cold(int elevel, const char *domain)
{
	return true;
}

int
errcode(int sqlerrcode)
{
	return 0;
}

int
errcode_for_file_access(void)
{
	return 0;
}

int
errmsg(const char *format,...)
{
	va_list		arguments;

	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	return 0;
}

void
errfinish(const char *filename, int lineno, const char *funcname)
{
	abort();
}
