/*
 * crypto.c: the only file that knows OpenSSL: SHA-256, HMAC with SHA-256 and
 * SHA-512, base64, hex.
 *
 * Rules.  Plain C: nothing here throws or pallocs, so that all of it may run in
 * a libcurl callback.  Digests are fetched once per process: in OpenSSL 3 each
 * implicit fetch of EVP_sha256() costs more than hashing a short text.  Who
 * starts a hash or a decoder frees it, also after a failure.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "crypto.h"

/* OpenSSL counts base64 text in int: longer texts go in slices, whole quanta each. */
#define BASE64_SLICE_QUANTA (1024 * 1024)

struct Sha256
{
	EVP_MD_CTX *context;
};

/* 1 for the 64 characters, 0 for all others, padding too. */
static const unsigned char base64_alphabet[256] = {
	['A' ... 'Z'] = 1, ['a' ... 'z'] = 1, ['0' ... '9'] = 1, ['+'] = 1, ['/'] = 1,
};

/*
 * Up to three characters wait for their quantum; once a padded quantum came
 * (ended), nothing may follow; broken is for ever.
 */
struct Base64Decoder
{
	char		waiting[4];
	int			waiting_count;
	bool		ended;
	bool		broken;
};

static const EVP_MD *sha256_method(void);
static const EVP_MD *sha512_method(void);
static bool make_hmac(const EVP_MD *method, const void *key, size_t key_length, const void *bytes, size_t length, uint8_t *digest);
static bool decode_quanta(const char *text, size_t quanta, uint8_t *out);
static size_t bytes_in_quantum(const char quantum[4]);
static bool all_in_alphabet(const char *text, size_t length);
static int	hex_digit(char c);

/* ---- SHA-256 and HMAC ---- */

/* Never freed: it lives as long as the process. */
static const EVP_MD *
sha256_method(void)
{
	static const EVP_MD *method = NULL;

	if (method == NULL)
	{
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
		method = EVP_MD_fetch(NULL, "SHA2-256", NULL);
#else
		method = EVP_sha256();
#endif
	}
	return method;
}

static const EVP_MD *
sha512_method(void)
{
	static const EVP_MD *method = NULL;

	if (method == NULL)
	{
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
		method = EVP_MD_fetch(NULL, "SHA2-512", NULL);
#else
		method = EVP_sha512();
#endif
	}
	return method;
}

Sha256 *
sparky_sha256_start(void)
{
	Sha256	   *hash = calloc(1, sizeof(Sha256));

	if (hash == NULL)
		return NULL;
	hash->context = EVP_MD_CTX_new();
	if (hash->context == NULL || sha256_method() == NULL ||
		EVP_DigestInit_ex(hash->context, sha256_method(), NULL) != 1)
	{
		sparky_sha256_free(hash);
		return NULL;
	}
	return hash;
}

bool
sparky_sha256_add(Sha256 *hash, const void *bytes, size_t length)
{
	return length == 0 || EVP_DigestUpdate(hash->context, bytes, length) == 1;
}

bool
sparky_sha256_finish(Sha256 *hash, uint8_t digest[SPARKY_SHA256_BYTES])
{
	return EVP_DigestFinal_ex(hash->context, digest, NULL) == 1;
}

void
sparky_sha256_free(Sha256 *hash)
{
	if (hash == NULL)
		return;
	EVP_MD_CTX_free(hash->context);
	free(hash);
}

bool
sparky_sha256(const void *bytes, size_t length, uint8_t digest[SPARKY_SHA256_BYTES])
{
	if (sha256_method() == NULL)
		return false;
	return EVP_Digest(length > 0 ? bytes : "", length, digest, NULL, sha256_method(), NULL) == 1;
}

bool
sparky_sha256_hex(const void *bytes, size_t length, char hex[SPARKY_SHA256_HEX + 1])
{
	uint8_t		digest[SPARKY_SHA256_BYTES];

	hex[0] = '\0';
	if (!sparky_sha256(bytes, length, digest))
		return false;
	sparky_hex(digest, sizeof(digest), hex);
	return true;
}

bool
sparky_hmac_sha256(const void *key, size_t key_length, const void *bytes, size_t length,
				   uint8_t digest[SPARKY_SHA256_BYTES])
{
	return make_hmac(sha256_method(), key, key_length, bytes, length, digest);
}

bool
sparky_hmac_sha512(const void *key, size_t key_length, const void *bytes, size_t length,
				   uint8_t digest[SPARKY_SHA512_BYTES])
{
	return make_hmac(sha512_method(), key, key_length, bytes, length, digest);
}

static bool
make_hmac(const EVP_MD *method, const void *key, size_t key_length, const void *bytes, size_t length, uint8_t *digest)
{
	/* A NULL key means "the key of last time" to OpenSSL. */
	if (key_length == 0)
		key = "";
	if (key_length > INT_MAX || method == NULL)
		return false;
	return HMAC(method, key, (int) key_length, length > 0 ? bytes : (const void *) "", length, digest, NULL) != NULL;
}

/* ---- hexadecimal and comparison ---- */

void
sparky_hex(const uint8_t *bytes, size_t length, char *hex)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < length; i++)
	{
		hex[2 * i] = digits[bytes[i] >> 4];
		hex[2 * i + 1] = digits[bytes[i] & 15];
	}
	hex[2 * length] = '\0';
}

bool
sparky_unhex(const char *hex, size_t length, uint8_t *bytes)
{
	if (length % 2 != 0)
		return false;
	for (size_t i = 0; i < length; i += 2)
	{
		int			high = hex_digit(hex[i]);
		int			low = hex_digit(hex[i + 1]);

		if (high < 0 || low < 0)
			return false;
		bytes[i / 2] = (uint8_t) (high * 16 + low);
	}
	return true;
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

bool
sparky_same_bytes(const void *a, const void *b, size_t length)
{
	return length == 0 || CRYPTO_memcmp(a, b, length) == 0;
}

void
sparky_wipe(void *bytes, size_t length)
{
	OPENSSL_cleanse(bytes, length);
}

/* ---- base64 ---- */

Base64Decoder *
sparky_base64_decoder_start(void)
{
	return calloc(1, sizeof(Base64Decoder));
}

/*
 * EVP_DecodeBlock does the work on whole quanta.  It would also take white space
 * and '-', and it counts padding as zero bytes: alphabet and padding are ours to
 * check.  EVP_DecodeUpdate is not used, since it keeps up to 63 characters back
 * and then writes more than 3/4 of what it was given.
 */
bool
sparky_base64_decoder_add(Base64Decoder *decoder, const char *text, size_t length, uint8_t *out, size_t *written)
{
	*written = 0;
	if (decoder->broken || (decoder->ended && length > 0))
		return !(decoder->broken = true);

	while (length > 0)
	{
		char		quantum[4];
		const char *last;
		size_t		quanta = 1;
		const char *source;
		size_t		bytes;

		if (decoder->ended)
			return !(decoder->broken = true);
		if (decoder->waiting_count > 0 || length < 4)
		{
			decoder->waiting[decoder->waiting_count++] = *text++;
			length--;
			if (decoder->waiting_count < 4)
				continue;
			decoder->waiting_count = 0;
			memcpy(quantum, decoder->waiting, 4);
			source = quantum;
		}
		else
		{
			quanta = length / 4 < BASE64_SLICE_QUANTA ? length / 4 : BASE64_SLICE_QUANTA;
			source = text;
			text += 4 * quanta;
			length -= 4 * quanta;
		}

		last = source + 4 * (quanta - 1);
		bytes = bytes_in_quantum(last);
		if (bytes == 0 || !all_in_alphabet(source, 4 * (quanta - 1) + bytes + 1) ||
			!decode_quanta(source, quanta, out + *written))
			return !(decoder->broken = true);
		decoder->ended = bytes < 3;
		*written += 3 * (quanta - 1) + bytes;
	}
	return true;
}

bool
sparky_base64_decoder_finish(Base64Decoder *decoder)
{
	return !decoder->broken && decoder->waiting_count == 0;
}

void
sparky_base64_decoder_free(Base64Decoder *decoder)
{
	free(decoder);
}

static bool
decode_quanta(const char *text, size_t quanta, uint8_t *out)
{
	return EVP_DecodeBlock(out, (const unsigned char *) text, (int) (4 * quanta)) >= 0;
}

/* 1, 2 or 3 by the padding; 0 where padding stands in the wrong place. */
static size_t
bytes_in_quantum(const char quantum[4])
{
	size_t		bytes = 3;

	if (quantum[3] == '=')
		bytes = quantum[2] == '=' ? 1 : 2;
	return memchr(quantum, '=', bytes + 1) == NULL ? bytes : 0;
}

static bool
all_in_alphabet(const char *text, size_t length)
{
	unsigned char all = 1;

	/* Without a branch for each character: images are millions of them. */
	for (size_t i = 0; i < length; i++)
		all &= base64_alphabet[(unsigned char) text[i]];
	return all != 0;
}

size_t
sparky_base64_encode(const uint8_t *bytes, size_t length, char *out)
{
	size_t		written = 0;

	out[0] = '\0';
	while (length > 0)
	{
		size_t		slice = length < 3 * BASE64_SLICE_QUANTA ? length : 3 * BASE64_SLICE_QUANTA;

		written += EVP_EncodeBlock((unsigned char *) out + written, bytes, (int) slice);
		bytes += slice;
		length -= slice;
	}
	return written;
}
