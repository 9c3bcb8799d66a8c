/*
 * image.c: is this a sound image, and how large?
 *
 * Rules.  No decoder: a decoder is a large attack surface inside a database
 * server.  Only the container is walked, each offset is checked against the
 * length before it is used, and a declared length never moves a cursor past the
 * end.  What is walked tells a whole file from one that was cut, which is the
 * damage that uploads and broken transfers make.  Bytes after the proper end are
 * fine: phones append films, depth maps and trailers there.
 *
 * Sources: JPEG ITU-T T.81 annex B; PNG W3C 3rd edition, 5; WebP RFC 9649;
 * HEIF ISO/IEC 23008-12 over the boxes of ISO/IEC 14496-12.
 */
#include <string.h>
#include <strings.h>

#include "image.h"

/* A cursor over bytes that are all there. */
typedef struct Bytes
{
	const uint8_t *data;
	size_t		length;
} Bytes;

/* A box of an ISO file: its type and what lies inside it. */
typedef struct Box
{
	char		type[5];
	Bytes		content;
} Box;

typedef struct TypeName
{
	ImageType	type;
	const char *mime;
	const char *extension;
} TypeName;

static const TypeName type_names[] = {
	{IMAGE_JPEG, "image/jpeg", "jpg"},
	{IMAGE_PNG, "image/png", "png"},
	{IMAGE_WEBP, "image/webp", "webp"},
	{IMAGE_HEIC, "image/heic", "heic"},
	{IMAGE_HEIF, "image/heif", "heif"},
};

#define TYPE_COUNT (sizeof(type_names) / sizeof(type_names[0]))

static const uint8_t png_signature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};

static ImageType heif_type(const uint8_t *bytes, size_t length);
static const char *read_jpeg(Bytes file, ImageInfo *info);
static bool is_start_of_frame(uint8_t marker);
static bool jpeg_end_after(Bytes file, size_t offset);
static const char *read_png(Bytes file, ImageInfo *info);
static const char *read_png_header(const uint8_t *header, ImageInfo *info);
static const char *read_webp(Bytes file, ImageInfo *info);
static const char *read_webp_chunk(const uint8_t *name, Bytes chunk, ImageInfo *info, bool *has_picture);
static const char *read_heif(Bytes file, ImageInfo *info);
static bool next_box(Bytes *rest, Box *box);
static bool find_box(Bytes where, const char *type, Bytes *content);
static const char *read_heif_size(Bytes meta, ImageInfo *info);

static inline uint32_t
big16(const uint8_t *b)
{
	return (uint32_t) b[0] << 8 | b[1];
}

static inline uint32_t
big32(const uint8_t *b)
{
	return (uint32_t) b[0] << 24 | (uint32_t) b[1] << 16 | (uint32_t) b[2] << 8 | b[3];
}

static inline uint32_t
little24(const uint8_t *b)
{
	return (uint32_t) b[2] << 16 | (uint32_t) b[1] << 8 | b[0];
}

static inline uint32_t
little32(const uint8_t *b)
{
	return (uint32_t) b[3] << 24 | little24(b);
}

/* ---- the five types ---- */

bool
sparky_image_read(const uint8_t *bytes, size_t length, ImageInfo *info, const char **why)
{
	Bytes		file = {bytes, length};
	const char *trouble = "not an image of a supported type";

	memset(info, 0, sizeof(*info));
	info->type = sparky_image_sniff(bytes, length);
	switch (info->type)
	{
		case IMAGE_JPEG:
			trouble = read_jpeg(file, info);
			break;
		case IMAGE_PNG:
			trouble = read_png(file, info);
			break;
		case IMAGE_WEBP:
			trouble = read_webp(file, info);
			break;
		case IMAGE_HEIC:
		case IMAGE_HEIF:
			trouble = read_heif(file, info);
			break;
		case IMAGE_NONE:
			break;
	}
	if (trouble == NULL && (info->width == 0 || info->height == 0))
		trouble = "the image has no size";
	if (trouble == NULL && (uint64_t) info->width * info->height > SPARKY_MAX_PIXELS)
		trouble = "the image has too many pixels";
	if (why != NULL)
		*why = trouble;
	return trouble == NULL;
}

ImageType
sparky_image_sniff(const uint8_t *bytes, size_t length)
{
	if (length >= 3 && memcmp(bytes, "\xFF\xD8\xFF", 3) == 0)
		return IMAGE_JPEG;
	if (length >= 8 && memcmp(bytes, png_signature, 8) == 0)
		return IMAGE_PNG;
	if (length >= 12 && memcmp(bytes, "RIFF", 4) == 0 && memcmp(bytes + 8, "WEBP", 4) == 0)
		return IMAGE_WEBP;
	if (length >= 16 && memcmp(bytes + 4, "ftyp", 4) == 0)
		return heif_type(bytes, length);
	return IMAGE_NONE;
}

/*
 * By the brands of the ftyp box, the major one first.  An AVIF file also lists
 * mif1, so the general brands alone say nothing: any AV1 brand refuses.
 */
static ImageType
heif_type(const uint8_t *bytes, size_t length)
{
	static const char *const hevc_brands[] = {"heic", "heix", "hevc", "hevx", "heim", "heis", "hevm", "hevs"};
	static const char *const general_brands[] = {"mif1", "msf1", "heif"};
	size_t		end = big32(bytes);
	ImageType	type = IMAGE_NONE;

	if (end < 16 || end > length)
		end = length < 16 ? length : 16;	/* a size we cannot use: look at the major brand alone */
	for (size_t at = 8; at + 4 <= end; at += at == 8 ? 8 : 4)	/* bytes 12 to 15 are the minor version */
	{
		const char *brand = (const char *) bytes + at;

		if (memcmp(brand, "avif", 4) == 0 || memcmp(brand, "avis", 4) == 0 || memcmp(brand, "avio", 4) == 0)
			return IMAGE_NONE;
		for (size_t i = 0; i < sizeof(hevc_brands) / sizeof(hevc_brands[0]); i++)
		{
			if (memcmp(brand, hevc_brands[i], 4) == 0)
				type = IMAGE_HEIC;
		}
		for (size_t i = 0; i < sizeof(general_brands) / sizeof(general_brands[0]); i++)
		{
			if (type == IMAGE_NONE && memcmp(brand, general_brands[i], 4) == 0)
				type = IMAGE_HEIF;
		}
	}
	return type;
}

const char *
sparky_image_mime(ImageType type)
{
	for (size_t i = 0; i < TYPE_COUNT; i++)
	{
		if (type_names[i].type == type)
			return type_names[i].mime;
	}
	return "application/octet-stream";
}

const char *
sparky_image_extension(ImageType type)
{
	for (size_t i = 0; i < TYPE_COUNT; i++)
	{
		if (type_names[i].type == type)
			return type_names[i].extension;
	}
	return "bin";
}

/* Parameters after a semicolon are ignored, as is case; image/jpg is what some clients say. */
ImageType
sparky_image_type_of_mime(const char *mime)
{
	size_t		length;

	if (mime == NULL)
		return IMAGE_NONE;
	length = strcspn(mime, "; \t");
	for (size_t i = 0; i < TYPE_COUNT; i++)
	{
		if (strlen(type_names[i].mime) == length && strncasecmp(mime, type_names[i].mime, length) == 0)
			return type_names[i].type;
	}
	if (length == strlen("image/jpg") && strncasecmp(mime, "image/jpg", length) == 0)
		return IMAGE_JPEG;
	return IMAGE_NONE;
}

/* ---- JPEG: SOI, segments up to the frame and the scan, then EOI ---- */

static const char *
read_jpeg(Bytes file, ImageInfo *info)
{
	size_t		at = 2;
	bool		has_frame = false;

	for (;;)
	{
		uint8_t		marker;
		size_t		segment_length;

		if (at >= file.length || file.data[at] != 0xFF)
			return "a broken JPEG marker";
		while (at < file.length && file.data[at] == 0xFF)	/* fill bytes are allowed */
			at++;
		if (at >= file.length)
			return "the JPEG is cut off";
		marker = file.data[at++];
		if (marker == 0x01 || (marker >= 0xD0 && marker <= 0xD7))	/* no segment follows */
			continue;
		if (marker == 0x00 || marker == 0xD8 || marker == 0xD9)
			return "a broken JPEG marker";

		if (file.length - at < 2)
			return "the JPEG is cut off";
		segment_length = big16(file.data + at);
		if (segment_length < 2)
			return "a broken JPEG segment";
		if (segment_length > file.length - at)
			return "the JPEG is cut off";
		if (is_start_of_frame(marker))
		{
			if (segment_length < 8)
				return "a broken JPEG frame";
			info->height = big16(file.data + at + 3);
			info->width = big16(file.data + at + 5);
			has_frame = true;
		}
		at += segment_length;
		if (marker == 0xDA)
			break;
	}
	if (!has_frame)
		return "the JPEG has no frame";
	return jpeg_end_after(file, at) ? NULL : "the JPEG is cut off";
}

/* SOF0 to SOF15 without DHT, JPG and DAC, which share the range. */
static bool
is_start_of_frame(uint8_t marker)
{
	return marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
}

/*
 * From the first scan on: an EOI that is one.  Forwards, and over the segments
 * between scans, because a search from the end would find the EOI of a picture
 * in appended data, and one in a segment is only two bytes that look alike.
 */
static bool
jpeg_end_after(Bytes file, size_t offset)
{
	size_t		at = offset;

	while (at < file.length)
	{
		const uint8_t *found = memchr(file.data + at, 0xFF, file.length - at);
		uint8_t		marker;

		if (found == NULL)
			return false;
		at = (size_t) (found - file.data) + 1;
		while (at < file.length && file.data[at] == 0xFF)
			at++;
		if (at >= file.length)
			return false;
		marker = file.data[at++];
		if (marker == 0xD9)
			return true;
		if (marker <= 0x01 || (marker >= 0xD0 && marker <= 0xD7))	/* stuffed data, restart */
			continue;
		if (file.length - at < 2 || big16(file.data + at) < 2)
			return false;
		at += big16(file.data + at);	/* a segment between scans; past the end ends the loop */
	}
	return false;
}

/* ---- PNG: IHDR, chunks, at least one IDAT, IEND ---- */

static const char *
read_png(Bytes file, ImageInfo *info)
{
	size_t		at = sizeof(png_signature);
	bool		has_data = false;

	for (bool first = true;; first = false)
	{
		size_t		chunk_length;
		const uint8_t *name;

		if (file.length - at < 12)	/* length, name, checksum */
			return "the PNG is cut off";
		chunk_length = big32(file.data + at);
		name = file.data + at + 4;
		if (chunk_length > 0x7FFFFFFF || chunk_length > file.length - at - 12)
			return "the PNG is cut off";
		for (int i = 0; i < 4; i++)
		{
			if (!((name[i] >= 'A' && name[i] <= 'Z') || (name[i] >= 'a' && name[i] <= 'z')))
				return "a broken PNG chunk";
		}
		if (first)
		{
			const char *trouble = "the PNG does not begin with its header";

			if (memcmp(name, "IHDR", 4) == 0 && chunk_length == 13)
				trouble = read_png_header(name + 4, info);
			if (trouble != NULL)
				return trouble;
		}
		else if (memcmp(name, "IHDR", 4) == 0)
			return "the PNG has two headers";
		else if (memcmp(name, "IDAT", 4) == 0)
			has_data = has_data || chunk_length > 0;
		else if (memcmp(name, "IEND", 4) == 0)
			return has_data ? NULL : "the PNG has no picture";
		at += 12 + chunk_length;
	}
}

/* The thirteen bytes of IHDR; only depths that exist for a colour type pass (table 11.1 of the specification). */
static const char *
read_png_header(const uint8_t *header, ImageInfo *info)
{
	uint8_t		depth = header[8];
	uint8_t		colour = header[9];
	bool		whole = depth == 8 || depth == 16;
	bool		part = depth == 1 || depth == 2 || depth == 4;
	bool		sound;

	switch (colour)
	{
		case 0:
			sound = whole || part;
			break;
		case 3:
			sound = part || depth == 8;
			break;
		case 2:
		case 4:
		case 6:
			sound = whole;
			break;
		default:
			sound = false;
	}
	info->width = big32(header);
	info->height = big32(header + 4);
	if (!sound || header[10] != 0 || header[11] != 0 || header[12] > 1 ||
		info->width > 0x7FFFFFFF || info->height > 0x7FFFFFFF)
		return "a broken PNG header";
	return NULL;
}

/* ---- WebP: a RIFF of chunks; the first tells the size ---- */

static const char *
read_webp(Bytes file, ImageInfo *info)
{
	uint64_t	riff_length = (uint64_t) little32(file.data + 4) + 8;
	bool		has_picture = false;
	size_t		at = 12;

	if (riff_length > file.length)
		return "the WebP is cut off";
	if (riff_length < 12)
		return "a broken WebP header";
	while (riff_length - at >= 8)
	{
		const uint8_t *name = file.data + at;
		Bytes		chunk = {file.data + at + 8, little32(file.data + at + 4)};
		const char *trouble;

		if (chunk.length > riff_length - at - 8)
			return "a broken WebP chunk";
		trouble = read_webp_chunk(name, chunk, info, &has_picture);
		if (trouble != NULL)
			return trouble;
		at += 8 + chunk.length;
		if (chunk.length % 2 != 0 && at < riff_length)	/* padding to an even length */
			at++;
	}
	return has_picture ? NULL : "the WebP has no picture";
}

/* VP8X, if there is one, comes first and tells the canvas; the frames within it do not change that. */
static const char *
read_webp_chunk(const uint8_t *name, Bytes chunk, ImageInfo *info, bool *has_picture)
{
	const uint8_t *b = chunk.data;
	uint32_t	width;
	uint32_t	height;

	if (memcmp(name, "VP8X", 4) == 0)
	{
		if (chunk.length < 10 || info->width != 0)
			return "a broken WebP header";
		info->width = little24(b + 4) + 1;
		info->height = little24(b + 7) + 1;
		return NULL;
	}
	if (memcmp(name, "ANMF", 4) == 0)
	{
		*has_picture = *has_picture || (chunk.length > 24 && info->width != 0);
		return NULL;
	}
	if (memcmp(name, "VP8 ", 4) == 0)
	{
		/* a frame tag of a key frame, whose first partition fits; the start code; two sizes of 14 bits */
		if (chunk.length < 10 || (b[0] & 1) != 0 || memcmp(b + 3, "\x9D\x01\x2A", 3) != 0 ||
			little24(b) >> 5 > chunk.length - 10)
			return "a broken WebP picture";
		width = (b[6] | (uint32_t) b[7] << 8) & 0x3FFF;
		height = (b[8] | (uint32_t) b[9] << 8) & 0x3FFF;
	}
	else if (memcmp(name, "VP8L", 4) == 0)
	{
		/* a signature, two sizes of 14 bits less one, the alpha hint, version 0 */
		if (chunk.length < 6 || b[0] != 0x2F || b[4] >> 5 != 0)
			return "a broken WebP picture";
		width = (little32(b + 1) & 0x3FFF) + 1;
		height = (little32(b + 1) >> 14 & 0x3FFF) + 1;
	}
	else
		return NULL;			/* metadata, alpha, animation control */

	*has_picture = true;
	if (info->width == 0)
	{
		info->width = width;
		info->height = height;
	}
	return NULL;
}

/* ---- HEIF: boxes that add up, a meta box with the size, an mdat box with the picture ---- */

static const char *
read_heif(Bytes file, ImageInfo *info)
{
	const char *trouble = "the HEIF has no metadata";
	bool		has_data = false;
	Box			box;

	while (file.length > 0)
	{
		if (!next_box(&file, &box))
			return "the HEIF is cut off";
		if (strcmp(box.type, "meta") == 0)
		{
			trouble = read_heif_size(box.content, info);
			if (trouble != NULL)
				return trouble;
		}
		else if (strcmp(box.type, "mdat") == 0)
			has_data = has_data || box.content.length > 0;
	}
	if (trouble == NULL && !has_data)
		trouble = "the HEIF has no picture";
	return trouble;
}

/* Takes one box off the front; false when it does not fit. Size 0 means up to the end, 1 a size of 64 bits. */
static bool
next_box(Bytes *rest, Box *box)
{
	uint64_t	size;
	size_t		header = 8;

	if (rest->length < 8)
		return false;
	size = big32(rest->data);
	memcpy(box->type, rest->data + 4, 4);
	box->type[4] = '\0';
	if (size == 1)
	{
		if (rest->length < 16)
			return false;
		size = (uint64_t) big32(rest->data + 8) << 32 | big32(rest->data + 12);
		header = 16;
	}
	else if (size == 0)
		size = rest->length;
	if (size < header || size > rest->length)
		return false;
	box->content = (Bytes) {rest->data + header, (size_t) size - header};
	rest->data += size;
	rest->length -= (size_t) size;
	return true;
}

static bool
find_box(Bytes where, const char *type, Bytes *content)
{
	Box			box;

	while (where.length > 0 && next_box(&where, &box))
	{
		if (strcmp(box.type, type) == 0)
		{
			*content = box.content;
			return true;
		}
	}
	return false;
}

/*
 * The largest ispe property in meta/iprp/ipco.  A file has one for each tile
 * and each thumbnail too; the picture they make up is the largest, and for the
 * pixel limit the largest is what matters.
 */
static const char *
read_heif_size(Bytes meta, ImageInfo *info)
{
	Bytes		properties;
	Bytes		container;
	Box			box;

	if (meta.length < 4)		/* version and flags */
		return "broken HEIF metadata";
	meta.data += 4;
	meta.length -= 4;
	if (!find_box(meta, "iprp", &properties) || !find_box(properties, "ipco", &container))
		return "the HEIF tells no size";
	while (container.length > 0)
	{
		uint32_t	width;
		uint32_t	height;

		if (!next_box(&container, &box))
			return "broken HEIF metadata";
		if (strcmp(box.type, "ispe") != 0)
			continue;
		if (box.content.length < 12)
			return "broken HEIF metadata";
		width = big32(box.content.data + 4);
		height = big32(box.content.data + 8);
		if ((uint64_t) width * height > (uint64_t) info->width * info->height)
		{
			info->width = width;
			info->height = height;
		}
	}
	return info->width > 0 ? NULL : "the HEIF tells no size";
}
