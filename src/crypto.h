/* crypto.h: the only door to OpenSSL.  Plain C: no PostgreSQL here. */
#ifndef SPARKY_CRYPTO_H
#define SPARKY_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SPARKY_SHA256_BYTES 32
#define SPARKY_SHA256_HEX 64		/* without the terminator */
#define SPARKY_SHA512_BYTES 64

typedef struct Sha256 Sha256;		/* incremental */
extern Sha256 *sparky_sha256_start(void);	/* NULL: out of memory */
extern bool sparky_sha256_add(Sha256 *hash, const void *bytes, size_t length);
extern bool sparky_sha256_finish(Sha256 *hash, uint8_t digest[SPARKY_SHA256_BYTES]);	/* may be called once */
extern void sparky_sha256_free(Sha256 *hash);		/* NULL is fine */
extern bool sparky_sha256(const void *bytes, size_t length, uint8_t digest[SPARKY_SHA256_BYTES]);
extern bool sparky_sha256_hex(const void *bytes, size_t length, char hex[SPARKY_SHA256_HEX + 1]);
extern bool sparky_hmac_sha256(const void *key, size_t key_length, const void *bytes, size_t length, uint8_t digest[SPARKY_SHA256_BYTES]);
extern bool sparky_hmac_sha512(const void *key, size_t key_length, const void *bytes, size_t length, uint8_t digest[SPARKY_SHA512_BYTES]);
extern void sparky_wipe(void *bytes, size_t length);	/* zeros that no optimiser takes away; NULL with 0 is fine */
extern void sparky_hex(const uint8_t *bytes, size_t length, char *hex);			/* 2*length characters and a terminator, lower case */
extern bool sparky_unhex(const char *hex, size_t length, uint8_t *bytes);		/* length characters; upper case accepted */
extern bool sparky_same_bytes(const void *a, const void *b, size_t length);		/* constant time */

/* Streaming base64 (RFC 4648, padded, no white space). */
typedef struct Base64Decoder Base64Decoder;
extern Base64Decoder *sparky_base64_decoder_start(void);
/* Decodes into out, which must have room for 3*length/4 + 3 bytes. false: not base64. */
extern bool sparky_base64_decoder_add(Base64Decoder *decoder, const char *text, size_t length, uint8_t *out, size_t *written);
extern bool sparky_base64_decoder_finish(Base64Decoder *decoder);	/* false: the text ended in mid-quantum or went on after its padding */
extern void sparky_base64_decoder_free(Base64Decoder *decoder);
/* Encode length bytes (a multiple of 3 except at the end of the data) into out, which has room for 4*((length+2)/3)+1. */
extern size_t sparky_base64_encode(const uint8_t *bytes, size_t length, char *out);
#define SPARKY_BASE64_LENGTH(n) (((n) + 2) / 3 * 4)

#endif
