/*
 * picture.c: libgd (see picture.h).
 *
 * The change must be visible to a person and to a test: four levels a channel, a
 * strong tint chosen by the seed, a frame, and a label that names model and
 * prompt, so that two prompts never give the same bytes.
 */
#include <gd.h>
#include <gdfontg.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "picture.h"

#define TINY_SIDE 16
#define MADE_UP_SIDE 768
#define JPEG_QUALITY 88
#define PNG_LEVEL 1

static gdImagePtr decode(const void *bytes, size_t len, const char *type);
static gdImagePtr fit(gdImagePtr image, const PictureWish *wish);
static void transform(gdImagePtr image, const PictureWish *wish);
static void choose_tint(gdImagePtr image, uint64_t seed, int tint[3]);
static void draw_frame(gdImagePtr image, int color);
static void draw_label(gdImagePtr image, const char *label);
static void encode(gdImagePtr image, const char *type, Buf *out);
static void pad_png(const Buf *png, size_t bytes, Buf *out);

static void
be_quiet(int priority, const char *format, va_list args)
{
	(void) priority;
	(void) format;
	(void) args;
}

void
picture_start(void)
{
	gdSetErrorMethod(be_quiet);
}

const char *
picture_type(const void *bytes, size_t len)
{
	const unsigned char *in = bytes;

	if (len >= 8 && memcmp(in, "\x89PNG\r\n\x1a\n", 8) == 0)
		return "image/png";
	if (len >= 3 && memcmp(in, "\xff\xd8\xff", 3) == 0)
		return "image/jpeg";
	if (len >= 12 && memcmp(in, "RIFF", 4) == 0 && memcmp(in + 8, "WEBP", 4) == 0)
		return "image/webp";
	if (len >= 6 && (memcmp(in, "GIF87a", 6) == 0 || memcmp(in, "GIF89a", 6) == 0))
		return "image/gif";
	if (len >= 12 && memcmp(in + 4, "ftyp", 4) == 0)
	{
		if (memcmp(in + 8, "heic", 4) == 0 || memcmp(in + 8, "heix", 4) == 0 || memcmp(in + 8, "hevc", 4) == 0)
			return "image/heic";
		if (memcmp(in + 8, "mif1", 4) == 0 || memcmp(in + 8, "msf1", 4) == 0)
			return "image/heif";
	}
	return NULL;
}

bool
picture_edit(const void *bytes, size_t len, const PictureWish *wish, Buf *out)
{
	const char *type = picture_type(bytes, len);
	gdImagePtr	image = decode(bytes, len, type);

	if (image == NULL)
	{
		if (type == NULL || strncmp(type, "image/hei", 9) != 0)
			return false;
		picture_make(MADE_UP_SIDE, MADE_UP_SIDE, wish, out);
		return true;
	}
	image = fit(image, wish);
	if (image == NULL)
		return false;
	transform(image, wish);
	encode(image, wish->type, out);
	gdImageDestroy(image);
	return true;
}

void
picture_make(int width, int height, const PictureWish *wish, Buf *out)
{
	gdImagePtr	image = gdImageCreateTrueColor(width, height);

	if (image == NULL)
		abort();
	for (int y = 0; y < height; y++)
		for (int x = 0; x < width; x++)
			image->tpixels[y][x] = gdTrueColor(x * 255 / width, y * 255 / height, 128);
	transform(image, wish);
	encode(image, wish->type, out);
	gdImageDestroy(image);
}

void
picture_tiny(uint64_t seed, Buf *out)
{
	gdImagePtr	image = gdImageCreateTrueColor(TINY_SIDE, TINY_SIDE);

	if (image == NULL)
		abort();
	for (int y = 0; y < TINY_SIDE; y++)
		for (int x = 0; x < TINY_SIDE; x++)
			image->tpixels[y][x] = (int) ((seed >> (y / 4 * 8)) & 0xffffff) ^ (x / 4 * 0x203040);
	encode(image, "image/png", out);
	gdImageDestroy(image);
}

void
picture_padded_base64(size_t bytes, Buf *out)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static Buf	kept = {0};
	static size_t kept_bytes = 0;

	pthread_mutex_lock(&lock);
	if (kept_bytes != bytes)
	{
		Buf			png = {0};
		Buf			padded = {0};

		picture_tiny(bytes, &png);
		pad_png(&png, bytes, &padded);
		buf_free(&kept);
		buf_base64(&kept, padded.data, padded.len);
		kept_bytes = bytes;
		buf_free(&png);
		buf_free(&padded);
	}
	buf_add(out, kept.data, kept.len);
	pthread_mutex_unlock(&lock);
}

static gdImagePtr
decode(const void *bytes, size_t len, const char *type)
{
	void	   *data = (void *) bytes;

	if (type == NULL || len > INT32_MAX)
		return NULL;
	if (strcmp(type, "image/png") == 0)
		return gdImageCreateFromPngPtr((int) len, data);
	if (strcmp(type, "image/jpeg") == 0)
		return gdImageCreateFromJpegPtr((int) len, data);
	if (strcmp(type, "image/webp") == 0)
		return gdImageCreateFromWebpPtr((int) len, data);
	if (strcmp(type, "image/heic") == 0 || strcmp(type, "image/heif") == 0)
		return gdImageCreateFromHeifPtr((int) len, data);
	return NULL;
}

/* The asked shape by cutting, the asked size by shrinking; takes the image. */
static gdImagePtr
fit(gdImagePtr image, const PictureWish *wish)
{
	int			width = gdImageSX(image);
	int			height = gdImageSY(image);
	int			longest;
	gdImagePtr	made = image;

	if (!gdImageTrueColor(image) && !gdImagePaletteToTrueColor(image))
	{
		gdImageDestroy(image);
		return NULL;
	}
	if (wish->ratio_w > 0)
	{
		gdRect		part = {0, 0, width, height};

		if ((int64_t) width * wish->ratio_h > (int64_t) height * wish->ratio_w)
			part.width = (int) ((int64_t) height * wish->ratio_w / wish->ratio_h);
		else
			part.height = (int) ((int64_t) width * wish->ratio_h / wish->ratio_w);
		part.width = part.width > 0 ? part.width : 1;
		part.height = part.height > 0 ? part.height : 1;
		part.x = (width - part.width) / 2;
		part.y = (height - part.height) / 2;
		made = gdImageCrop(image, &part);
		gdImageDestroy(image);
		if (made == NULL)
			return NULL;
		width = part.width;
		height = part.height;
	}
	longest = width > height ? width : height;
	if (longest > wish->max_side)
	{
		gdImagePtr	small;
		int			new_width = (int) ((int64_t) width * wish->max_side / longest);
		int			new_height = (int) ((int64_t) height * wish->max_side / longest);

		gdImageSetInterpolationMethod(made, GD_BILINEAR_FIXED);
		small = gdImageScale(made, (unsigned) (new_width > 0 ? new_width : 1), (unsigned) (new_height > 0 ? new_height : 1));
		gdImageDestroy(made);
		made = small;
	}
	return made;
}

static void
transform(gdImagePtr image, const PictureWish *wish)
{
	int			tint[3];

	choose_tint(image, wish->seed, tint);
	for (int y = 0; y < gdImageSY(image); y++)
		for (int x = 0; x < gdImageSX(image); x++)
		{
			int			pixel = image->tpixels[y][x];
			int			r = (gdTrueColorGetRed(pixel) / 64 * 85 * 4 + tint[0] * 6) / 10;
			int			g = (gdTrueColorGetGreen(pixel) / 64 * 85 * 4 + tint[1] * 6) / 10;
			int			b = (gdTrueColorGetBlue(pixel) / 64 * 85 * 4 + tint[2] * 6) / 10;

			image->tpixels[y][x] = gdTrueColor(r, g, b);
		}
	draw_frame(image, gdTrueColor(255 - tint[0], 255 - tint[1], 255 - tint[2]));
	if (wish->label != NULL)
		draw_label(image, wish->label);
	gdImageSaveAlpha(image, 0);
}

/*
 * The channel of which the picture has least becomes the strongest, another one
 * weak: whatever the photo, its usual pixel changes by more than a fifth.
 */
static void
choose_tint(gdImagePtr image, uint64_t seed, int tint[3])
{
	uint64_t	sums[3] = {0};
	int			strong = 0;
	int			weak;

	for (int y = 0; y < gdImageSY(image); y += 4)
		for (int x = 0; x < gdImageSX(image); x += 4)
		{
			sums[0] += (uint64_t) gdTrueColorGetRed(image->tpixels[y][x]);
			sums[1] += (uint64_t) gdTrueColorGetGreen(image->tpixels[y][x]);
			sums[2] += (uint64_t) gdTrueColorGetBlue(image->tpixels[y][x]);
		}
	for (int c = 1; c < 3; c++)
		if (sums[c] < sums[strong])
			strong = c;
	weak = (strong + 1 + (int) (seed & 1)) % 3;
	for (int c = 0; c < 3; c++)
		tint[c] = (int) (seed >> (8 * c + 8) & 255);
	tint[strong] = 255 - tint[strong] / 8;
	tint[weak] /= 8;
}

static void
draw_frame(gdImagePtr image, int color)
{
	int			width = gdImageSX(image);
	int			height = gdImageSY(image);
	int			thick = (width < height ? width : height) / 24 + 1;

	gdImageFilledRectangle(image, 0, 0, width - 1, thick - 1, color);
	gdImageFilledRectangle(image, 0, height - thick, width - 1, height - 1, color);
	gdImageFilledRectangle(image, 0, 0, thick - 1, height - 1, color);
	gdImageFilledRectangle(image, width - thick, 0, width - 1, height - 1, color);
}

/* In letters as wide as the picture allows. */
static void
draw_label(gdImagePtr image, const char *label)
{
	gdFontPtr	font = gdFontGetGiant();
	int			text_width = (int) strlen(label) * font->w;
	int			width = gdImageSX(image) * 9 / 10;
	int			height = text_width > 0 ? width * font->h / text_width : 0;
	gdImagePtr	text;

	if (height < 2 || width < 16)
		return;
	text = gdImageCreateTrueColor(text_width, font->h);
	if (text == NULL)
		return;
	gdImageFilledRectangle(text, 0, 0, text_width, font->h, gdTrueColor(0, 0, 0));
	gdImageString(text, font, 0, 0, (unsigned char *) label, gdTrueColor(255, 255, 255));
	gdImageCopyResampled(image, text, gdImageSX(image) / 20, gdImageSY(image) / 20, 0, 0,
						 width, height, text_width, font->h);
	gdImageDestroy(text);
}

static void
encode(gdImagePtr image, const char *type, Buf *out)
{
	int			size = 0;
	void	   *bytes;

	if (strcmp(type, "image/jpeg") == 0)
		bytes = gdImageJpegPtr(image, &size, JPEG_QUALITY);
	else if (strcmp(type, "image/webp") == 0)
		bytes = gdImageWebpPtrEx(image, &size, JPEG_QUALITY);
	else
		bytes = gdImagePngPtrEx(image, &size, PNG_LEVEL);
	if (bytes == NULL)
		abort();
	buf_add(out, bytes, (size_t) size);
	gdFree(bytes);
}

static void
add_number(Buf *out, uint32_t number)
{
	unsigned char bytes[4] = {(unsigned char) (number >> 24), (unsigned char) (number >> 16),
	(unsigned char) (number >> 8), (unsigned char) number};

	buf_add(out, bytes, 4);
}

/* A private chunk of noise before IEND (the last 12 bytes) brings the file to the size. */
static void
pad_png(const Buf *png, size_t bytes, Buf *out)
{
	size_t		head = png->len - 12;
	size_t		noise = bytes - png->len - 12;
	uint64_t	state = 88172645463325252u;
	size_t		chunk;

	buf_reserve(out, bytes);
	buf_add(out, png->data, head);
	add_number(out, (uint32_t) noise);
	chunk = out->len;
	buf_add(out, "paDd", 4);
	for (size_t i = 0; i < noise; i++)
	{
		char		byte;

		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		byte = (char) state;
		buf_add(out, &byte, 1);
	}
	add_number(out, (uint32_t) crc32(0, (const Bytef *) out->data + chunk, (uInt) (noise + 4)));
	buf_add(out, png->data + head, 12);
}
