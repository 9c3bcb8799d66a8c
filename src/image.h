/*
 * image.h: what an image is, read from its headers only.  Plain C.
 *
 * No decoder runs in the server: magic bytes, container structure and the
 * declared size are read, with every offset checked against the length.
 */
#ifndef SPARKY_IMAGE_H
#define SPARKY_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum ImageType { IMAGE_NONE = 0, IMAGE_JPEG, IMAGE_PNG, IMAGE_WEBP, IMAGE_HEIC, IMAGE_HEIF } ImageType;

typedef struct ImageInfo
{
	ImageType	type;
	uint32_t	width;			/* pixels as stored, before any orientation */
	uint32_t	height;
} ImageInfo;

/*
 * True when the bytes are a sound image of one of the five types: signature,
 * chunk or marker chain up to the picture data, a size of at least 1 x 1, and
 * a proper end (JPEG: EOI within the tail; PNG: IEND; WebP: RIFF length fits;
 * HEIF: boxes add up).  Otherwise false, with a reason in *why (static text).
 */
extern bool sparky_image_read(const uint8_t *bytes, size_t length, ImageInfo *info, const char **why);
extern ImageType sparky_image_sniff(const uint8_t *bytes, size_t length);	/* by signature alone */
extern const char *sparky_image_mime(ImageType type);		/* "image/jpeg" */
extern const char *sparky_image_extension(ImageType type);	/* "jpg" */
extern ImageType sparky_image_type_of_mime(const char *mime);

#define SPARKY_MAX_PIXELS 100000000		/* 100 megapixels: more is no photo */

#endif
