/*
 * picture.h: the only user of libgd: visibly changed pictures, and tiny ones.
 */
#ifndef EMULATOR_PICTURE_H
#define EMULATOR_PICTURE_H

#include "buf.h"

#define PICTURE_MIN_BYTES 1024
#define PICTURE_MAX_BYTES (64 * 1024 * 1024)

typedef struct PictureWish
{
	const char *label;			/* written into the frame, ASCII */
	uint64_t	seed;			/* another seed, another picture */
	int			max_side;
	int			ratio_w;		/* 0: keep the shape */
	int			ratio_h;
	const char *type;			/* image/png, image/jpeg or image/webp */
} PictureWish;

/* Once, before any thread. */
extern void picture_start(void);

/* The type by magic bytes: png, jpeg, webp, heic, heif, gif; NULL: none of them. */
extern const char *picture_type(const void *bytes, size_t len);

/* The transformed picture; false: these bytes do not decode. HEIC that this libgd cannot read becomes a made-up picture. */
extern bool picture_edit(const void *bytes, size_t len, const PictureWish *wish, Buf *out);

/* A made-up picture. */
extern void picture_make(int width, int height, const PictureWish *wish, Buf *out);

/* A 16 x 16 PNG, different for each seed. */
extern void picture_tiny(uint64_t seed, Buf *out);

/* The base64 of a valid PNG of exactly so many bytes (the rest is a private chunk). The same for each call. */
extern void picture_padded_base64(size_t bytes, Buf *out);

#endif
