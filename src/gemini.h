/*
 * gemini.h: the Gemini generateContent protocol (facts: doc/gemini.md).
 * Structs in, structs out: no I/O, no PostgreSQL; testable from bytes.
 *
 * Request: the JSON text before the photo's base64, and the text after it; the
 * transport streams prefix, base64(photo), suffix and never holds the whole.
 *
 * Response: fed as it arrives.  Long base64 strings are decoded on the fly into
 * capped buffers and replaced in the kept text by a marker that the sender
 * cannot guess; the small rest is parsed by jansson at the end.  The filter
 * knows only where JSON strings begin and end.
 */
#ifndef SPARKY_GEMINI_H
#define SPARKY_GEMINI_H

#include "image.h"
#include "json.h"
#include "outcome.h"

typedef enum GenerationKind { KIND_IMAGE = 0, KIND_ANALYSIS } GenerationKind;

typedef struct GeminiRequest
{
	GenerationKind kind;
	const char *model;			/* ^[a-z0-9.-]{1,80}$, checked again here */
	const char *prompt;			/* UTF-8 */
	const char *system_instruction;	/* or NULL */
	const char *response_schema;	/* JSON text (responseJsonSchema), analysis only */
	const char *generation_config;	/* JSON object text merged into generationConfig, or NULL */
	const char *image_mime;
	size_t		image_bytes;
	const char *base_url;		/* "https://generativelanguage.googleapis.com" */
} GeminiRequest;

typedef struct GeminiMessage
{
	char	   *url;			/* malloc'd; never holds the key */
	char	   *prefix;			/* JSON before the base64 text */
	size_t		prefix_length;
	char	   *suffix;
	size_t		suffix_length;
	size_t		content_length;	/* of the whole body */
} GeminiMessage;

/* false: out of memory or a bad model, config or schema; why says which. */
extern bool sparky_gemini_request(const GeminiRequest *request, GeminiMessage *message, char *why, size_t why_size);
extern void sparky_gemini_message_free(GeminiMessage *message);

typedef struct GeminiReader GeminiReader;
/*
 * nonce: 16 unguessable bytes.  max_bytes caps the decoded blobs together, a
 * quarter of it the remaining text.  headroom: that many bytes are left free before
 * each blob (the caller puts a varlena header there).
 */
extern GeminiReader *sparky_gemini_reader_start(GenerationKind kind, const uint8_t nonce[16], size_t max_bytes, size_t headroom);
/* Called from the transport's write callback; false: stop the transfer (cap reached, out of memory). */
extern bool sparky_gemini_reader_add(GeminiReader *reader, const char *bytes, size_t length);
extern size_t sparky_gemini_reader_memory(const GeminiReader *reader);
extern void sparky_gemini_reader_free(GeminiReader *reader);

typedef struct GeminiAnswer
{
	Outcome		outcome;
	double		retry_after;	/* seconds, -1 unknown */
	/* an image: points into the reader, which keeps owning it */
	uint8_t    *image;			/* headroom bytes lie before it */
	size_t		image_length;
	ImageInfo	image_info;
	/* an analysis: JSON text, malloc'd, owned by the answer, safe for jsonb */
	char	   *analysis;
	/* for provider_calls: all malloc'd or NULL, valid UTF-8 without NUL, capped (finish_message 500 bytes) */
	int			http_status;
	char	   *finish_reason;	/* finishReason or blockReason */
	char	   *finish_message;	/* finishMessage, error.message; the key can never be in it: see scrub */
	char	   *model_version;
	char	   *response_id;
	char	   *usage;			/* usageMetadata as JSON text, safe for jsonb */
} GeminiAnswer;

/*
 * Read what came: one typed outcome.  response_schema (JSON text or NULL) is what an analysis must satisfy.
 * secret: when not NULL, any occurrence of it in a kept text is replaced by "***".
 */
extern void sparky_gemini_read(GeminiReader *reader, TransportResult transport, int http_status, const char *content_type,
							   const char *response_schema, const char *secret, GeminiAnswer *answer);
extern void sparky_gemini_answer_free(GeminiAnswer *answer);

#endif
