/*
 * gemini_fault.c: the scripted faults, by name (README.md tells the parameters).
 *
 * A fault that does not fit the call (an analysis fault on a picture call) is
 * answered with 418, so that a test with a wrong script fails loudly.
 */
#include <string.h>

#include "gemini_fault.h"

typedef struct Fault
{
	const char *name;
	const char *kind;			/* image or analysis; NULL: any call */
	FaultFunction act;
} Fault;

/* What only has a status and a text. */
typedef struct PlainError
{
	const char *name;
	int			code;
	const char *status;
	const char *message;
} PlainError;

static const PlainError plain_errors[] = {
	{"billing", 402, "RESOURCE_EXHAUSTED", "Your prepaid credits are depleted. Please go to AI Studio to manage your billing."},
	{"auth_401", 401, "UNAUTHENTICATED", "Request had invalid authentication credentials."},
	{"auth_403", 403, "PERMISSION_DENIED", "Your API key was reported as leaked. Please use another API key."},
	{"bad_request", 400, "INVALID_ARGUMENT", "Request contains an invalid argument."},
	{"failed_precondition", 400, "FAILED_PRECONDITION", "User location is not supported for the API use."},
	{"not_found", 404, "NOT_FOUND", "This model is no longer available. Please update your code to use a newer model."},
	{"cancelled", 499, "CANCELLED", "The operation was cancelled."},
	{"internal", 500, "INTERNAL", "An internal error has occurred. Please retry or report in https://developers.generativeai.google/guide/troubleshooting"},
	{"unavailable", 503, "UNAVAILABLE", "The model is overloaded. Please try again later."},
	{"deadline", 504, "DEADLINE_EXCEEDED", "Deadline expired before operation could complete."},
	{NULL, 0, NULL, NULL}
};

static const Fault faults[] = {
	{"ok", NULL, fault_ok},
	{"slow_ok", NULL, fault_ok},
	{"rate_limited", NULL, fault_rate_limited},
	{"rate_limited_bare", NULL, fault_rate_limited_bare},
	{"quota_day", NULL, fault_quota_day},
	{"key_invalid", NULL, fault_key_invalid},
	{"echo_key", NULL, fault_echo_key},
	{"bad_gateway_html", NULL, fault_instead},
	{"redirect", NULL, fault_instead},
	{"silence", NULL, fault_instead},
	{"reset_before", NULL, fault_instead},
	{"close_before", NULL, fault_instead},
	{"reset_inside", NULL, fault_after_ok},
	{"short_body", NULL, fault_after_ok},
	{"cut_json", NULL, fault_after_ok},
	{"trickle", NULL, fault_trickle},
	{"huge_body", NULL, fault_huge_body},
	{"gzip_bomb", NULL, fault_gzip_bomb},
	{"headers_flood", NULL, fault_instead},
	{"not_http", NULL, fault_instead},
	{"deep_json", NULL, fault_deep_json},
	{"duplicate_keys", NULL, fault_duplicate_keys},
	{"error_200", NULL, fault_error_200},
	{"blocked_prompt", NULL, fault_blocked_prompt},
	{"refusal", NULL, fault_refusal},
	{"refusal_empty_content", NULL, fault_refusal_empty_content},
	{"no_candidates", NULL, fault_no_candidates},
	{"empty_stop", NULL, fault_empty_stop},
	{"text_only", NULL, fault_text_only},
	{"max_tokens", NULL, fault_max_tokens},
	{"unknown_finish", NULL, fault_unknown_finish},
	{"no_finish", NULL, fault_no_finish},
	{"wrong_type", "image", fault_wrong_type},
	{"not_an_image", "image", fault_not_an_image},
	{"bad_base64", "image", fault_bad_base64},
	{"truncated_image", "image", fault_truncated_image},
	{"thought_only", "image", fault_thought_only},
	{"two_images", "image", fault_two_images},
	{"nul_text", "image", fault_nul_text},
	{"lone_surrogate", NULL, fault_lone_surrogate},
	{"bad_schema", "analysis", fault_bad_schema},
	{"analysis_nul", "analysis", fault_nul_text},
	{"analysis_cut", "analysis", fault_analysis_cut},
	{"analysis_split", "analysis", fault_analysis_split},
	{NULL, NULL, NULL}
};

bool
gemini_knows_fault(const char *name)
{
	return find_named(plain_errors, sizeof *plain_errors, name) != NULL || find_named(faults, sizeof *faults, name) != NULL;
}

void
gemini_fault(const GeminiCall *call, const json_t *parameters, Reply *reply)
{
	const char *name = parameter_text(parameters, "fault", "");
	const PlainError *error = find_named(plain_errors, sizeof *plain_errors, name);
	const Fault *fault = find_named(faults, sizeof *faults, name);

	if (error == NULL && fault == NULL)
	{
		reply->fault = "unfit";
		reply_error(reply, 418, "EMULATOR", NULL, "The scripted fault %s is of another service.", name);
		return;
	}
	reply->fault = error != NULL ? error->name : fault->name;
	reply->delay_ms = (int) parameter_number(parameters, "delay_ms", -1);
	if (error != NULL)
		reply_error(reply, (int) parameter_number(parameters, "status", error->code), error->status, NULL, "%s",
					parameter_text(parameters, "message", error->message));
	else if (fault->kind != NULL && strcmp(fault->kind, call->kind) != 0)
		reply_error(reply, 418, "EMULATOR", NULL, "The scripted fault %s does not fit a call of kind %s.", name, call->kind);
	else
		fault->act(call, parameters, reply);
}
