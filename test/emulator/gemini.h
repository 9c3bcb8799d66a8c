/*
 * gemini.h: the Gemini service of the emulator, between its own files.
 *
 *   gemini.c         reads a request, decides
 *   gemini_check.c   what the real service refuses
 *   gemini_answer.c  writes answers and errors
 *   gemini_fault*.c  the scripted faults
 */
#ifndef EMULATOR_GEMINI_H
#define EMULATOR_GEMINI_H

#include "common.h"
#include "emulator.h"
#include "proto.h"

typedef struct Model
{
	const char *name;
	bool		image;			/* makes pictures */
	const char *sizes;			/* allowed imageSize, each followed by a space */
	const char *levels;			/* allowed thinkingLevel, each followed by a space */
	bool		thinks;			/* thinks unless told MINIMAL */
} Model;

typedef struct InputImage
{
	char	   *declared;		/* mimeType or "" */
	Buf			bytes;
	char		sha256[65];
	char		path[64];		/* contents[0].parts[1].inline_data */
} InputImage;

typedef struct GeminiCall
{
	const Request *request;
	char	   *model_name;		/* as in the address */
	const Model *model;			/* NULL: no such model */
	bool		known_method;	/* generateContent */
	json_t	   *body;			/* rewritten to lowerCamelCase; NULL: not JSON */
	char	   *parse_error;
	Violations	violations;
	Buf			prompt;			/* the text of the user's turns */
	Buf			system;
	InputImage *images;
	size_t		image_count;
	const json_t *config;		/* generationConfig or NULL; borrowed */
	const json_t *schema;		/* the asked schema or NULL; borrowed */
	const char *kind;			/* image, analysis, text */
	uint64_t	seed;			/* of prompt, image and model */
} GeminiCall;

/* gemini_check.c: false: refused, and the reply says so. */
extern bool gemini_check(GeminiCall *call, Reply *reply);
extern const Model *gemini_model(const char *name);

/* gemini_answer.c */
#define ANSWER_PARTS 8

typedef struct Part
{
	const char *mime;			/* NULL: text */
	bool		thought;
	Buf			value;			/* inside of a JSON string: escaped text or base64 */
} Part;

typedef struct Answer
{
	Part		parts[ANSWER_PARTS];
	int			count;
	bool		no_candidate;
	bool		no_content;		/* candidate without "content" */
	bool		empty_content;	/* "content": {} */
	const char *finish;			/* NULL: left out */
	const char *finish_message;
	const char *block_reason;
	const char *model_version;	/* NULL: the model asked for */
	const char *duplicate;		/* raw JSON added after the candidates */
	bool		thinking;
} Answer;

extern void answer_text(Answer *answer, bool thought, const char *text);
extern void answer_raw_text(Answer *answer, bool thought, const char *escaped);	/* as it stands in the JSON */
extern Buf *answer_image(Answer *answer, bool thought, const char *mime);	/* fill in base64 */
/* Frees the parts. */
extern void answer_write(Answer *answer, const GeminiCall *call, Reply *reply);

extern void answer_drop(Answer *answer);

/* The parts of a good answer, as the parameters and settings want it; false: the photo does not decode. */
extern bool answer_good(Answer *answer, const GeminiCall *call, const json_t *parameters);
/* The refusal for that. */
extern void answer_undecodable(Answer *answer, Reply *reply);
/* The bytes of the good picture, and their type; NULL: the photo does not decode. */
extern const char *answer_picture(const GeminiCall *call, const json_t *parameters, Buf *bytes);
/* The JSON text of a good analysis; malloc'd. */
extern char *answer_analysis(const GeminiCall *call);

/* details: array (taken) or NULL. */
extern void reply_error(Reply *reply, int code, const char *status, json_t *details, const char *format,...)
			__attribute__((format(printf, 5, 6)));
extern json_t *detail_error_info(const char *reason);

/* gemini_fault.c */
extern bool gemini_knows_fault(const char *name);
extern void gemini_fault(const GeminiCall *call, const json_t *parameters, Reply *reply);

#endif
