/* test_crypto.c: published vectors, and base64 against itself in all pieces. */
#include "crypto.h"
#include "tap.h"

static void
test_sha256(void)
{
	char		hex[SPARKY_SHA256_HEX + 1];
	uint8_t		digest[SPARKY_SHA256_BYTES];
	uint8_t		other[SPARKY_SHA256_BYTES];
	uint8_t    *million = malloc(1000000);
	Sha256	   *hash;
	bool		same = true;

	/* FIPS 180-4 examples */
	sparky_sha256_hex("abc", 3, hex);
	is_text(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "SHA-256 of abc");
	sparky_sha256_hex(NULL, 0, hex);
	is_text(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "SHA-256 of nothing");
	memset(million, 'a', 1000000);
	sparky_sha256_hex(million, 1000000, hex);
	is_text(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0", "SHA-256 of a million a");

	sparky_sha256(million, 1000000, other);
	for (size_t step = 1; step < 5000; step = step * 3 + 1)
	{
		hash = sparky_sha256_start();
		for (size_t at = 0; at < 1000000; at += step)
			sparky_sha256_add(hash, million + at, at + step <= 1000000 ? step : 1000000 - at);
		same = same && sparky_sha256_add(hash, NULL, 0) && sparky_sha256_finish(hash, digest) && memcmp(digest, other, sizeof(digest)) == 0;
		sparky_sha256_free(hash);
	}
	ok(same, "in pieces of any size the same");
	sparky_sha256_free(NULL);
	free(million);
}

static void
test_hmac(void)
{
	uint8_t		key[131];
	uint8_t		digest[SPARKY_SHA256_BYTES];
	char		hex[SPARKY_SHA256_HEX + 1];

	/* RFC 4231, cases 1, 2 and 6 */
	memset(key, 0x0b, 20);
	sparky_hmac_sha256(key, 20, "Hi There", 8, digest);
	sparky_hex(digest, sizeof(digest), hex);
	is_text(hex, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7", "HMAC, RFC 4231 case 1");
	sparky_hmac_sha256("Jefe", 4, "what do ya want for nothing?", 28, digest);
	sparky_hex(digest, sizeof(digest), hex);
	is_text(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843", "HMAC, RFC 4231 case 2");
	memset(key, 0xaa, 131);
	sparky_hmac_sha256(key, 131, "Test Using Larger Than Block-Size Key - Hash Key First", 54, digest);
	sparky_hex(digest, sizeof(digest), hex);
	is_text(hex, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54", "HMAC, RFC 4231 case 6");
	ok(sparky_hmac_sha256(NULL, 0, NULL, 0, digest), "HMAC of nothing with nothing");
	sparky_hex(digest, sizeof(digest), hex);
	is_text(hex, "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad", "  is the known one");
}

static void
test_hmac_sha512(void)
{
	uint8_t		key[131];
	uint8_t		digest[SPARKY_SHA512_BYTES];
	char		hex[2 * SPARKY_SHA512_BYTES + 1];

	/* RFC 4231, cases 2 and 6 */
	sparky_hmac_sha512("Jefe", 4, "what do ya want for nothing?", 28, digest);
	sparky_hex(digest, sizeof(digest), hex);
	is_text(hex, "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
			"HMAC-SHA512, RFC 4231 case 2");
	memset(key, 0xaa, 131);
	sparky_hmac_sha512(key, 131, "Test Using Larger Than Block-Size Key - Hash Key First", 54, digest);
	sparky_hex(digest, sizeof(digest), hex);
	is_text(hex, "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f3526b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598",
			"HMAC-SHA512, RFC 4231 case 6");
	sparky_wipe(hex, sizeof(hex));
	ok(hex[0] == 0 && hex[127] == 0, "what is wiped is zero");
}

static void
test_hex(void)
{
	uint8_t		bytes[4] = {0x00, 0xff, 0x1a, 0xB2};
	uint8_t		back[4];
	char		hex[9];

	sparky_hex(bytes, 4, hex);
	is_text(hex, "00ff1ab2", "hex is lower case");
	ok(sparky_unhex("00FF1aB2", 8, back) && memcmp(back, bytes, 4) == 0, "upper case is read");
	ok(!sparky_unhex("00f", 3, back), "an odd length is refused");
	ok(!sparky_unhex("0g", 2, back) && !sparky_unhex(" 0", 2, back), "other characters are refused");
	ok(sparky_unhex("", 0, back), "nothing is fine");
	ok(sparky_same_bytes("abc", "abc", 3) && !sparky_same_bytes("abc", "abd", 3) && sparky_same_bytes(NULL, NULL, 0), "comparison");
}

/* Decodes in pieces of step characters; -1: refused. */
static int
decode(const char *text, size_t length, size_t step, uint8_t *out)
{
	Base64Decoder *decoder = sparky_base64_decoder_start();
	size_t		total = 0;
	bool		fine = true;

	for (size_t at = 0; at < length && fine; at += step)
	{
		size_t		part = length - at < step ? length - at : step;
		size_t		written;
		uint8_t    *exact = malloc(3 * part / 4 + 3);	/* the promised room, so that a byte too many is seen */

		fine = sparky_base64_decoder_add(decoder, text + at, part, exact, &written);
		if (fine)
		{
			memcpy(out + total, exact, written);
			total += written;
		}
		free(exact);
	}
	fine = fine && sparky_base64_decoder_finish(decoder);
	sparky_base64_decoder_free(decoder);
	return fine ? (int) total : -1;
}

static void
refuses(const char *text, const char *name)
{
	uint8_t		out[2000];
	bool		refused = true;

	for (size_t step = 1; step <= 9; step++)
		refused = refused && decode(text, strlen(text), step, out) == -1;
	ok(refused && decode(text, strlen(text), 1000, out) == -1, "base64 refuses %s", name);
}

static void
test_base64(void)
{
	/* RFC 4648, 10 */
	static const char *const rows[][2] = {
		{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"},
	};
	uint8_t		bytes[1000];
	uint8_t		back[1100];
	char		text[1400];
	bool		same = true;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
	{
		size_t		length = strlen(rows[i][0]);

		is_number(sparky_base64_encode((const uint8_t *) rows[i][0], length, text), SPARKY_BASE64_LENGTH(length), "length of base64");
		is_text(text, rows[i][1], "base64");
		ok(decode(text, strlen(text), 100, back) == (int) length && memcmp(back, rows[i][0], length) == 0, "and back");
	}
	for (size_t length = 0; length < sizeof(bytes); length += 1 + length / 10)
	{
		size_t		written;

		for (size_t i = 0; i < length; i++)
			bytes[i] = (uint8_t) next_random();
		written = sparky_base64_encode(bytes, length, text);
		for (size_t step = 1; step < 80; step++)
			same = same && decode(text, written, step, back) == (int) length && memcmp(back, bytes, length) == 0;
	}
	ok(same, "random bytes, encoded, decoded in pieces of any size, are the same");

	refuses("Zg", "a quantum cut in two");
	refuses("Zm9", "a quantum without its last");
	refuses("Z", "a single character");
	refuses("Zg=", "half a padding");
	refuses("Zg==Zg==", "text after padding");
	refuses("Zg==\n", "a line feed");
	refuses("Zm9v Zm9v", "a space");
	refuses("Zm9v-m9v", "'-'");
	refuses("Zm9v_m9v", "'_'");
	refuses("=Zm9", "padding first");
	refuses("Z===", "three paddings");
	refuses("====", "only padding");
	refuses("Zg=a", "a letter after padding");
	refuses("Zm9v\x80m9v", "a byte beyond ASCII");
}

int
main(void)
{
	test_sha256();
	test_hmac();
	test_hmac_sha512();
	test_hex();
	test_base64();
	return done();
}
