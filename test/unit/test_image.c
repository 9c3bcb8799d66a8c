/* test_image.c: sound images are read, cut and broken ones refused, and no byte beyond the end is touched. */
#include "image.h"
#include "tap.h"

/* Reads a copy of exactly this length, so that a sanitizer sees each byte too far. */
static bool
read_exactly(const uint8_t *bytes, size_t length, ImageInfo *info, const char **why)
{
	uint8_t    *copy = malloc(length > 0 ? length : 1);
	bool		sound;

	memcpy(copy, bytes, length);
	sound = sparky_image_read(copy, length, info, why);
	free(copy);
	return sound;
}

static void
test_sound(const char *name, ImageType type, uint32_t width, uint32_t height)
{
	size_t		length;
	uint8_t    *bytes = read_fixture(name, &length);
	uint8_t    *longer = calloc(1, length + 5000);
	ImageInfo	info;
	const char *why;
	bool		none = true;

	if (!ok(read_exactly(bytes, length, &info, &why) && info.type == type && info.width == width && info.height == height,
			"%s is read", name))
		printf("# type %d, %u x %u, why: %s\n", info.type, info.width, info.height, why ? why : "");
	ok(sparky_image_sniff(bytes, length) == type, "%s is known by its signature", name);
	for (size_t cut = 0; cut < length; cut++)
	{
		if (read_exactly(bytes, cut, &info, &why) || why == NULL)
		{
			printf("# accepted at %zu of %zu bytes\n", cut, length);
			none = false;
		}
	}
	ok(none, "%s cut at any byte is refused with a reason", name);
	if (type != IMAGE_HEIC)
	{
		memcpy(longer, bytes, length);
		ok(read_exactly(longer, length + 5000, &info, &why), "%s with bytes after its end is read", name);
	}
	for (int i = 0; i < 20000; i++)
	{
		/* What comes out does not matter here, only that nothing is read or counted wrongly. */
		memcpy(longer, bytes, length);
		for (uint64_t n = next_random() % 4; n < 4; n++)
			longer[next_random() % (i % 2 != 0 ? length : (length < 64 ? length : 64))] = (uint8_t) next_random();
		if (read_exactly(longer, length - next_random() % 3, &info, &why) &&
			(info.width == 0 || info.height == 0 || (uint64_t) info.width * info.height > SPARKY_MAX_PIXELS))
			none = false;
	}
	ok(none, "%s with random damage never gives an impossible size", name);
	free(longer);
	free(bytes);
}

static void
refuses(const void *bytes, size_t length, const char *reason, const char *name)
{
	ImageInfo	info;
	const char *why = NULL;

	ok(!read_exactly(bytes, length, &info, &why), "refused: %s", name);
	is_text(why, reason, "  reason");
}

#define REFUSES(bytes, reason, name) refuses(bytes, sizeof(bytes) - 1, reason, name)

static void
test_refused_fixture(const char *name)
{
	size_t		length;
	uint8_t    *bytes = read_fixture(name, &length);

	refuses(bytes, length, "not an image of a supported type", name);
	free(bytes);
}

#define JPEG_FRAME(h, w) "\xFF\xC0\x00\x0B\x08" h w "\x01\x01\x11\x00"
#define JPEG_SCAN "\xFF\xDA\x00\x08\x01\x01\x00\x00\x3F\x00"
#define PNG_SIGN "\x89PNG\r\n\x1A\n"
#define PNG_CHUNK(length, name, data) "\x00\x00\x00" length name data "\x00\x00\x00\x00"
#define PNG_HEADER(size, depth) PNG_CHUNK("\x0D", "IHDR", size depth "\x02\x00\x00\x00")

static void
test_jpeg(void)
{
	ImageInfo	info;
	const char *why;
	static const char fill[] = "\xFF\xD8\xFF\xFF\xFF\xE0\x00\x02\xFF\x01" JPEG_FRAME("\x00\x02", "\x00\x03") JPEG_SCAN "a\xFF\x00" "b\xFF\xD0" "c\xFF\xFF\xD9";
	static const char scans[] = "\xFF\xD8" JPEG_FRAME("\x00\x02", "\x00\x03") JPEG_SCAN "a\xFF\xC4\x00\x06\xFF\xD9zz" JPEG_SCAN "b";

	ok(read_exactly((const uint8_t *) fill, sizeof(fill) - 1, &info, &why) && info.width == 3 && info.height == 2,
	   "fill bytes, stuffed bytes, restarts");
	refuses(scans, sizeof(scans) - 1, "the JPEG is cut off", "an EOI that is only part of a segment");
	REFUSES("\xFF\xD8\xFF", "the JPEG is cut off", "a signature alone");
	REFUSES("\xFF\xD8\xFF\xE0\x00\x01", "a broken JPEG segment", "a segment of length 1");
	REFUSES("\xFF\xD8\xFF\xE0\xFF\xFF" "abc", "the JPEG is cut off", "a segment beyond the end");
	REFUSES("\xFF\xD8\xFF\xE0\x00\x02xx", "a broken JPEG marker", "no marker after a segment");
	REFUSES("\xFF\xD8\xFF\xD9", "a broken JPEG marker", "an end at once");
	REFUSES("\xFF\xD8" JPEG_SCAN "a\xFF\xD9", "the JPEG has no frame", "a scan without a frame");
	REFUSES("\xFF\xD8" JPEG_FRAME("\x00\x00", "\x00\x03") JPEG_SCAN "a\xFF\xD9", "the image has no size", "no lines");
	REFUSES("\xFF\xD8" JPEG_FRAME("\xFF\xFF", "\xFF\xFF") JPEG_SCAN "a\xFF\xD9", "the image has too many pixels", "4 gigapixels");
	REFUSES("\xFF\xD8\xFF\xC0\x00\x05\x08\x00\x01" JPEG_SCAN "a\xFF\xD9", "a broken JPEG frame", "a frame without a size");
	REFUSES("\xFF\xD8" JPEG_FRAME("\x00\x02", "\x00\x03") JPEG_SCAN "abc", "the JPEG is cut off", "no end");
}

static void
test_png(void)
{
	REFUSES(PNG_SIGN, "the PNG is cut off", "a signature alone");
	REFUSES(PNG_SIGN PNG_CHUNK("\x00", "IDAT", "") PNG_CHUNK("\x00", "IEND", ""), "the PNG does not begin with its header", "no header");
	REFUSES(PNG_SIGN PNG_CHUNK("\x01", "IHDR", "a"), "the PNG does not begin with its header", "a short header");
	REFUSES(PNG_SIGN PNG_HEADER("\x00\x00\x00\x01\x00\x00\x00\x01", "\x08") PNG_CHUNK("\x00", "IEND", ""), "the PNG has no picture", "no IDAT");
	REFUSES(PNG_SIGN PNG_HEADER("\x00\x00\x00\x01\x00\x00\x00\x01", "\x08") PNG_CHUNK("\x01", "IDAT", "x"), "the PNG is cut off", "no IEND");
	REFUSES(PNG_SIGN PNG_HEADER("\x00\x00\x00\x01\x00\x00\x00\x01", "\x03") PNG_CHUNK("\x01", "IDAT", "x") PNG_CHUNK("\x00", "IEND", ""),
			"a broken PNG header", "a depth that does not exist");
	REFUSES(PNG_SIGN PNG_HEADER("\x00\x00\x00\x00\x00\x00\x00\x01", "\x08") PNG_CHUNK("\x01", "IDAT", "x") PNG_CHUNK("\x00", "IEND", ""),
			"the image has no size", "no columns");
	REFUSES(PNG_SIGN PNG_HEADER("\x00\x00\xFF\xFF\x00\x00\xFF\xFF", "\x08") PNG_CHUNK("\x01", "IDAT", "x") PNG_CHUNK("\x00", "IEND", ""),
			"the image has too many pixels", "4 gigapixels");
	REFUSES(PNG_SIGN PNG_HEADER("\x00\x00\x00\x01\x00\x00\x00\x01", "\x08") PNG_HEADER("\x00\x00\x00\x01\x00\x00\x00\x01", "\x08"),
			"the PNG has two headers", "two headers");
	REFUSES(PNG_SIGN PNG_HEADER("\x00\x00\x00\x01\x00\x00\x00\x01", "\x08") "\xFF\xFF\xFF\xFFIDAT" "abcd", "the PNG is cut off", "a length of 4 GB");
	REFUSES(PNG_SIGN PNG_HEADER("\x00\x00\x00\x01\x00\x00\x00\x01", "\x08") PNG_CHUNK("\x00", "I\x01T\xFF", ""), "a broken PNG chunk", "a name that is none");
}

static void
test_webp(void)
{
	REFUSES("RIFF\x00\x00\x00\x00WEBP", "a broken WebP header", "a RIFF without content");
	REFUSES("RIFF\x04\x00\x00\x00WEBP", "the WebP has no picture", "a RIFF without chunks");
	REFUSES("RIFF\xFF\xFF\xFF\xFFWEBP", "the WebP is cut off", "a RIFF of 4 GB");
	REFUSES("RIFF\x0C\x00\x00\x00WEBPVP8 \xFF\xFF\xFF\xFF", "a broken WebP chunk", "a chunk of 4 GB");
	REFUSES("RIFF\x10\x00\x00\x00WEBPVP8L\x04\x00\x00\x00\x2F\x00\x00\x00", "a broken WebP picture", "a short VP8L");
	REFUSES("RIFF\x10\x00\x00\x00WEBPVP8 \x04\x00\x00\x00\x30\x00\x00\x00", "a broken WebP picture", "a short VP8");
	REFUSES("RIFF\x16\x00\x00\x00WEBPVP8X\x0A\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x01\x00\x00", "the WebP has no picture", "a canvas alone");
}

static void
test_heif(void)
{
	ImageInfo	info;
	const char *why;
	size_t		length;
	uint8_t    *bytes = read_fixture("gradient.heic", &length);

	REFUSES("\x00\x00\x00\x10" "ftypheic\x00\x00\x00\x00", "the HEIF has no metadata", "a ftyp alone");
	REFUSES("\x00\x00\x00\x10" "ftypheic\x00\x00\x00\x00\x00\x00\x00\x08meta", "broken HEIF metadata", "an empty meta");
	REFUSES("\x00\x00\x00\x10" "ftypheic\x00\x00\x00\x00\x00\x00\x00\x0Cmeta\x00\x00\x00\x00", "the HEIF tells no size", "a meta without properties");
	REFUSES("\x00\x00\x00\x10" "ftypheic\x00\x00\x00\x00\x00\x00\x00\x04mdat", "the HEIF is cut off", "a box smaller than its head");
	REFUSES("\x00\x00\x00\x10" "ftypheic\x00\x00\x00\x00\x00\x00\x00\x01mdat\x00\x00\x00\x00\x00\x00\x00\x08", "the HEIF is cut off", "a long box smaller than its head");
	REFUSES("\x00\x00\x00\x10" "ftypheic\x00\x00\x00\x00\x00\x00\x00\x01mdat\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", "the HEIF is cut off", "a box of 2^64 bytes");
	REFUSES("\x00\x00\x00\x14" "ftypmif1\x00\x00\x00\x00" "avif", "not an image of a supported type", "AVIF under a general brand");
	REFUSES("\x00\x00\x00\x10" "ftypisom\x00\x00\x00\x00", "not an image of a supported type", "a film");
	ok(sparky_image_sniff((const uint8_t *) "\x00\x00\x00\x14" "ftypmif1\x00\x00\x00\x00" "heic", 20) == IMAGE_HEIC, "mif1 with heic is HEIC");
	ok(sparky_image_sniff((const uint8_t *) "\x00\x00\x00\x14" "ftypmif1\x00\x00\x00\x00" "miaf", 20) == IMAGE_HEIF, "mif1 alone is HEIF");
	/* Of several sizes the largest: a thumbnail's, or a tile's, may come first. */
	for (size_t i = 0; i + 16 < length; i++)
	{
		if (memcmp(bytes + i, "ispe", 4) == 0)
			memcpy(bytes + i + 8, "\x00\x00\x27\x10\x00\x00\x27\x11", 8);
	}
	ok(!read_exactly(bytes, length, &info, &why) && strcmp(why, "the image has too many pixels") == 0, "10000 x 10001 pixels are too many");
	free(bytes);
}

static void
test_names(void)
{
	is_text(sparky_image_mime(IMAGE_JPEG), "image/jpeg", "MIME type");
	is_text(sparky_image_extension(IMAGE_JPEG), "jpg", "extension");
	is_text(sparky_image_mime(IMAGE_NONE), "application/octet-stream", "MIME type of nothing");
	for (ImageType type = IMAGE_JPEG; type <= IMAGE_HEIF; type++)
		ok(sparky_image_type_of_mime(sparky_image_mime(type)) == type, "%s there and back", sparky_image_mime(type));
	ok(sparky_image_type_of_mime("image/jpg") == IMAGE_JPEG, "image/jpg");
	ok(sparky_image_type_of_mime("IMAGE/PNG; charset=x") == IMAGE_PNG, "case and parameters");
	ok(sparky_image_type_of_mime("image/pngx") == IMAGE_NONE && sparky_image_type_of_mime("image/pn") == IMAGE_NONE &&
	   sparky_image_type_of_mime("") == IMAGE_NONE && sparky_image_type_of_mime(NULL) == IMAGE_NONE, "others are none");
}

int
main(void)
{
	test_sound("gradient.jpg", IMAGE_JPEG, 40, 30);
	test_sound("progressive.jpg", IMAGE_JPEG, 40, 30);
	test_sound("gradient.png", IMAGE_PNG, 40, 30);
	test_sound("lossy.webp", IMAGE_WEBP, 40, 30);
	test_sound("lossless.webp", IMAGE_WEBP, 40, 30);
	test_sound("alpha.webp", IMAGE_WEBP, 40, 30);
	test_sound("gradient.heic", IMAGE_HEIC, 80, 64);	/* as stored: the encoder pads it, a clap property crops to 80 x 60 */
	test_refused_fixture("gradient.gif");
	test_refused_fixture("gradient.avif");
	REFUSES("", "not an image of a supported type", "nothing");
	REFUSES("<html>not an image</html>", "not an image of a supported type", "text");
	test_jpeg();
	test_png();
	test_webp();
	test_heif();
	test_names();
	return done();
}
