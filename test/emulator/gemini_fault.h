/*
 * gemini_fault.h: the scripted faults that need code of their own.
 *
 *   gemini_fault.c            the table of names, plain errors
 *   gemini_fault_transport.c  errors with details, broken HTTP, broken JSON
 *   gemini_fault_content.c    sound JSON without a usable answer
 */
#ifndef EMULATOR_GEMINI_FAULT_H
#define EMULATOR_GEMINI_FAULT_H

#include "gemini.h"

typedef void (*FaultFunction) (const GeminiCall *call, const json_t *parameters, Reply *reply);

#define FAULT(name) \
	extern void fault_##name(const GeminiCall *call, const json_t *parameters, Reply *reply)

FAULT(ok);
FAULT(rate_limited);
FAULT(rate_limited_bare);
FAULT(quota_day);
FAULT(key_invalid);
FAULT(echo_key);
FAULT(instead);
FAULT(after_ok);
FAULT(trickle);
FAULT(huge_body);
FAULT(gzip_bomb);
FAULT(deep_json);
FAULT(duplicate_keys);
FAULT(error_200);
FAULT(blocked_prompt);
FAULT(refusal);
FAULT(refusal_empty_content);
FAULT(no_candidates);
FAULT(empty_stop);
FAULT(text_only);
FAULT(max_tokens);
FAULT(unknown_finish);
FAULT(no_finish);
FAULT(wrong_type);
FAULT(not_an_image);
FAULT(bad_base64);
FAULT(truncated_image);
FAULT(thought_only);
FAULT(two_images);
FAULT(nul_text);
FAULT(lone_surrogate);
FAULT(bad_schema);
FAULT(analysis_cut);
FAULT(analysis_split);

#undef FAULT

/* Writes a good answer; a finish reason set before stays, "" leaves it out. */
extern void fault_write_good(Answer *answer, const GeminiCall *call, const json_t *parameters, Reply *reply);

#endif
