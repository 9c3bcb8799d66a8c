/*
 * buf.h: a growing byte buffer, base64 and SHA-256.
 *
 * Memory that cannot be had ends the process: a test server has nothing better
 * to do.  A Buf that is all zeros is a valid empty one; data of a Buf that has
 * ever been written to ends in a zero byte that len does not count.
 */
#ifndef EMULATOR_BUF_H
#define EMULATOR_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Buf
{
	char	   *data;
	size_t		len;
	size_t		cap;
} Buf;

extern void *xalloc(size_t size);	/* zeroed */
extern char *xstrdup(const char *text);

extern void buf_reserve(Buf *buf, size_t more);
extern void buf_add(Buf *buf, const void *bytes, size_t len);
extern void buf_puts(Buf *buf, const char *text);
extern void buf_printf(Buf *buf, const char *format,...) __attribute__((format(printf, 2, 3)));
extern void buf_fill(Buf *buf, char byte, size_t count);
extern void buf_base64(Buf *buf, const void *bytes, size_t len);

/* The bytes as the inside of a JSON string; what is not UTF-8 passes as it is. */
extern void buf_json_escape(Buf *buf, const char *text, size_t len);
extern void buf_free(Buf *buf);

/* Both alphabets, with or without padding, as proto3 JSON reads bytes; out may be NULL. */
extern bool base64_decode(const char *text, size_t len, Buf *out);

extern void sha256_hex(const void *bytes, size_t len, char hex[65]);

/* A well-mixed number of some bytes, for choices that must vary but repeat. */
extern uint64_t hash_bytes(uint64_t seed, const void *bytes, size_t len);

#endif
