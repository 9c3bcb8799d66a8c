/*
 * buf.c: a growing byte buffer, base64 and SHA-256 (see buf.h for the rules).
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gnutls/gnutls.h>
#include <gnutls/crypto.h>

#include "buf.h"

void *
xalloc(size_t size)
{
	void	   *memory = calloc(1, size ? size : 1);

	if (memory == NULL)
		abort();
	return memory;
}

char *
xstrdup(const char *text)
{
	char	   *copy = strdup(text);

	if (copy == NULL)
		abort();
	return copy;
}

void
buf_reserve(Buf *buf, size_t more)
{
	size_t		cap = buf->cap ? buf->cap : 256;

	if (buf->len + more + 1 <= buf->cap)
		return;
	while (cap < buf->len + more + 1)
		cap *= 2;
	buf->data = realloc(buf->data, cap);
	if (buf->data == NULL)
		abort();
	buf->cap = cap;
}

void
buf_add(Buf *buf, const void *bytes, size_t len)
{
	buf_reserve(buf, len);
	if (len > 0)
		memcpy(buf->data + buf->len, bytes, len);
	buf->len += len;
	buf->data[buf->len] = '\0';
}

void
buf_puts(Buf *buf, const char *text)
{
	buf_add(buf, text, strlen(text));
}

void
buf_printf(Buf *buf, const char *format,...)
{
	va_list		args;
	char	   *text;
	int			len;

	va_start(args, format);
	len = vasprintf(&text, format, args);
	va_end(args);
	if (len < 0)
		abort();
	buf_add(buf, text, (size_t) len);
	free(text);
}

void
buf_fill(Buf *buf, char byte, size_t count)
{
	buf_reserve(buf, count);
	memset(buf->data + buf->len, byte, count);
	buf->len += count;
	buf->data[buf->len] = '\0';
}

void
buf_base64(Buf *buf, const void *bytes, size_t len)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const uint8_t *in = bytes;
	char	   *out;
	size_t		i;

	buf_reserve(buf, (len + 2) / 3 * 4);
	out = buf->data + buf->len;
	for (i = 0; i + 2 < len; i += 3)
	{
		uint32_t	three = (uint32_t) in[i] << 16 | (uint32_t) in[i + 1] << 8 | in[i + 2];

		*out++ = alphabet[three >> 18];
		*out++ = alphabet[three >> 12 & 63];
		*out++ = alphabet[three >> 6 & 63];
		*out++ = alphabet[three & 63];
	}
	if (i < len)
	{
		uint32_t	rest = (uint32_t) in[i] << 16 | (i + 1 < len ? (uint32_t) in[i + 1] << 8 : 0);

		*out++ = alphabet[rest >> 18];
		*out++ = alphabet[rest >> 12 & 63];
		*out++ = i + 1 < len ? alphabet[rest >> 6 & 63] : '=';
		*out++ = '=';
	}
	*out = '\0';
	buf->len = (size_t) (out - buf->data);
}

void
buf_json_escape(Buf *buf, const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) text[i];

		if (c == '"' || c == '\\')
			buf_printf(buf, "\\%c", c);
		else if (c == '\n')
			buf_puts(buf, "\\n");
		else if (c < 0x20)
			buf_printf(buf, "\\u%04x", c);
		else
			buf_add(buf, text + i, 1);
	}
}

void
buf_free(Buf *buf)
{
	free(buf->data);
	memset(buf, 0, sizeof *buf);
}

static int
base64_value(unsigned char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+' || c == '-')
		return 62;
	if (c == '/' || c == '_')
		return 63;
	return -1;
}

bool
base64_decode(const char *text, size_t len, Buf *out)
{
	static signed char values[256];
	static bool ready = false;
	uint32_t	bits = 0;
	unsigned	have = 0;
	size_t		whole = len;

	/* Two threads may fill the table at once: they write the same values. */
	if (!__atomic_load_n(&ready, __ATOMIC_ACQUIRE))
	{
		for (int c = 0; c < 256; c++)
			values[c] = (signed char) base64_value((unsigned char) c);
		__atomic_store_n(&ready, true, __ATOMIC_RELEASE);
	}

	while (len > 0 && whole - len < 2 && text[len - 1] == '=')
		len--;
	if (len % 4 == 1 || (whole != len && whole % 4 != 0))
		return false;
	if (out != NULL)
		buf_reserve(out, len / 4 * 3 + 3);
	for (size_t i = 0; i < len; i++)
	{
		int			value = values[(unsigned char) text[i]];

		if (value < 0)
			return false;
		bits = bits << 6 | (uint32_t) value;
		have += 6;
		if (have >= 8)
		{
			have -= 8;
			if (out != NULL)
				out->data[out->len++] = (char) (bits >> have);
		}
	}
	if (out != NULL)
		out->data[out->len] = '\0';
	return true;
}

void
sha256_hex(const void *bytes, size_t len, char hex[65])
{
	uint8_t		digest[32];

	if (gnutls_hash_fast(GNUTLS_DIG_SHA256, bytes ? bytes : "", len, digest) < 0)
		abort();
	for (int i = 0; i < 32; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

uint64_t
hash_bytes(uint64_t seed, const void *bytes, size_t len)
{
	const uint8_t *in = bytes;
	uint64_t	h = seed ^ 0xcbf29ce484222325u;

	for (size_t i = 0; i < len; i++)
		h = (h ^ in[i]) * 0x100000001b3u;
	h ^= h >> 33;
	h *= 0xff51afd7ed558ccdu;
	h ^= h >> 33;
	return h;
}
