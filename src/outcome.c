/*
 * outcome.c: the two tables of endings.
 *
 * error_texts: every error a user can meet.  The word is the app's i18n key and
 * never changes; SQLSTATE PTxyz becomes HTTP xyz in PostgREST, which puts the
 * message on the status line as it is: so it is ASCII, one line, fixed, and all
 * that varies goes to detail and hint.
 *
 * outcome_rules: what follows from each ending of a provider call.  A call is
 * repeated only where it cannot have been paid for, or where nobody knows; it
 * counts against the user only where his request or his photo was the cause.
 * The credits themselves never depend on this table: only OUTCOME_OK is charged.
 */
#include <string.h>

#include "outcome.h"

/* A word, its HTTP status, its sentence: SQLSTATE and message are made of them. */
#define TEXT(word, status, sentence) { word, "PT" #status, status, word ": " sentence }

static const ErrorText error_texts[WORD_COUNT] = {
	[WORD_NONE] = {"", "00000", 200, ""},

	[WORD_NOT_SIGNED_IN] = TEXT("not_signed_in", 401, "sign in to use this function"),
	[WORD_ACCOUNT_GONE] = TEXT("account_gone", 401, "this account does not exist any more"),

	[WORD_INSUFFICIENT_CREDITS] = TEXT("insufficient_credits", 402, "not enough credits for this request"),

	[WORD_FORBIDDEN] = TEXT("forbidden", 403, "this does not belong to you"),
	[WORD_PRO_REQUIRED] = TEXT("pro_required", 403, "this choice needs a paid plan"),

	[WORD_TOOL_NOT_FOUND] = TEXT("tool_not_found", 404, "there is no such tool"),
	[WORD_IMAGE_NOT_FOUND] = TEXT("image_not_found", 404, "there is no such image"),
	[WORD_JOB_NOT_FOUND] = TEXT("job_not_found", 404, "there is no such job"),
	[WORD_PRODUCT_NOT_FOUND] = TEXT("product_not_found", 404, "there is no such product"),

	[WORD_IDEMPOTENCY_CONFLICT] = TEXT("idempotency_conflict", 409, "this idempotency key belongs to a different request"),
	[WORD_TOO_LATE] = TEXT("too_late", 409, "the job has gone too far to be cancelled"),
	[WORD_PLAN_DOWNGRADE] = TEXT("plan_downgrade", 409, "a higher plan is still running"),

	[WORD_IMAGE_TOO_LARGE] = TEXT("image_too_large", 413, "the image is too large"),
	[WORD_STORAGE_QUOTA] = TEXT("storage_quota", 413, "the storage of this account is full"),

	[WORD_IMAGE_TYPE] = TEXT("image_type", 415, "the file is not a sound image of a supported type"),

	[WORD_BAD_PARAMETERS] = TEXT("bad_parameters", 422, "the parameters are not valid"),
	[WORD_WRONG_KIND] = TEXT("wrong_kind", 422, "this tool belongs to another function"),
	[WORD_REFUSED] = TEXT("refused", 422, "the safety filter of the model refused this request"),

	[WORD_DAILY_LIMIT] = TEXT("daily_limit", 429, "the daily credits of this plan are used up"),
	[WORD_TOO_MANY_JOBS] = TEXT("too_many_jobs", 429, "too many jobs are under way"),
	[WORD_TOO_MANY_FAILURES] = TEXT("too_many_failures", 429, "too many requests failed today"),
	[WORD_TOO_MANY_UPLOADS] = TEXT("too_many_uploads", 429, "too many uploads in the last hour"),
	[WORD_TOO_MANY_CHECKOUTS] = TEXT("too_many_checkouts", 429, "too many checkouts in the last hour"),
	[WORD_RATE_LIMITED] = TEXT("rate_limited", 429, "the image service is at its limit, try again later"),

	[WORD_PROVIDER_FAILED] = TEXT("provider_failed", 502, "the image service gave no usable answer"),

	[WORD_NOT_CONFIGURED] = TEXT("not_configured", 503, "this server is not completely configured"),
	[WORD_WORKER_DOWN] = TEXT("worker_down", 503, "the background worker is not running"),
	[WORD_OVERLOADED] = TEXT("overloaded", 503, "the server is busy, try again"),
	[WORD_SPEND_LIMIT] = TEXT("spend_limit", 503, "the daily limit of this service is reached"),

	[WORD_PROVIDER_TIMEOUT] = TEXT("provider_timeout", 504, "the image service did not answer in time"),
};

static const OutcomeRule outcome_rules[OUTCOME_COUNT] = {
	[OUTCOME_OK] = {"ok", RETRY_NEVER, WORD_NONE, false},

	/*
	 * The model said no, or said nothing useful, to this photo and this choice.
	 * Google may have billed it, and the same request would mostly end the same
	 * way: never repeated, and counted.  Only the filters are called a refusal;
	 * a model that answers without a picture has failed.
	 */
	[OUTCOME_BLOCKED_PROMPT] = {"blocked_prompt", RETRY_NEVER, WORD_REFUSED, true},
	[OUTCOME_BLOCKED_OUTPUT] = {"blocked_output", RETRY_NEVER, WORD_REFUSED, true},
	[OUTCOME_NO_IMAGE] = {"no_image", RETRY_NEVER, WORD_PROVIDER_FAILED, true},
	[OUTCOME_TRUNCATED] = {"truncated", RETRY_NEVER, WORD_PROVIDER_FAILED, true},
	/* Prompt and config are the operator's, but the photo is the user's, and it is what varies. */
	[OUTCOME_BAD_REQUEST] = {"bad_request", RETRY_NEVER, WORD_PROVIDER_FAILED, true},

	/* The answer was paid for and was broken: the provider's fault, and no second payment. */
	[OUTCOME_INVALID_OUTPUT] = {"invalid_output", RETRY_NEVER, WORD_PROVIDER_FAILED, false},
	[OUTCOME_TOO_LARGE] = {"too_large", RETRY_NEVER, WORD_PROVIDER_FAILED, false},

	/* The operator's trouble: a repeat cannot help, and the user is not to blame. */
	[OUTCOME_AUTH] = {"auth", RETRY_NEVER, WORD_PROVIDER_FAILED, false},
	[OUTCOME_BILLING] = {"billing", RETRY_NEVER, WORD_PROVIDER_FAILED, false},
	[OUTCOME_MODEL_GONE] = {"model_gone", RETRY_NEVER, WORD_PROVIDER_FAILED, false},
	[OUTCOME_REDIRECT] = {"redirect", RETRY_NEVER, WORD_PROVIDER_FAILED, false},
	[OUTCOME_NOT_CONFIGURED] = {"not_configured", RETRY_NEVER, WORD_NOT_CONFIGURED, false},

	/* The provider refused before it worked: nothing was spent, so a repeat is safe. */
	[OUTCOME_RATE_LIMITED] = {"rate_limited", RETRY_SAFE, WORD_RATE_LIMITED, false},
	[OUTCOME_OVERLOADED] = {"overloaded", RETRY_SAFE, WORD_PROVIDER_FAILED, false},
	[OUTCOME_UPSTREAM] = {"upstream", RETRY_SAFE, WORD_PROVIDER_FAILED, false},
	[OUTCOME_CONNECT] = {"connect", RETRY_SAFE, WORD_PROVIDER_FAILED, false},
	/* Until midnight Pacific no repeat can succeed, whatever RetryInfo says. */
	[OUTCOME_QUOTA_DAY] = {"quota_day", RETRY_NEVER, WORD_RATE_LIMITED, false},

	/* The connection broke after the request went out: it may have been paid, so one repeat only. */
	[OUTCOME_NETWORK] = {"network", RETRY_ONCE, WORD_PROVIDER_FAILED, false},

	/*
	 * Time ran out: the work goes on at the provider and is paid for.  A 504
	 * could only be repeated with a longer deadline, and ours is the same again.
	 */
	[OUTCOME_UPSTREAM_TIMEOUT] = {"upstream_timeout", RETRY_NEVER, WORD_PROVIDER_TIMEOUT, false},
	[OUTCOME_TIMEOUT] = {"timeout", RETRY_NEVER, WORD_PROVIDER_TIMEOUT, false},
	[OUTCOME_DEADLINE] = {"deadline", RETRY_NEVER, WORD_PROVIDER_TIMEOUT, false},

	/* No call was made: the photo went away between acceptance and fetch. */
	[OUTCOME_IMAGE_GONE] = {"image_gone", RETRY_NEVER, WORD_IMAGE_NOT_FOUND, false},
	/* No call was made either: storage is away, and a repeat costs nothing. */
	[OUTCOME_FETCH] = {"fetch", RETRY_SAFE, WORD_OVERLOADED, false},

	/* Ended from our side, without an error word; where a call had been made, it was the user's doing. */
	[OUTCOME_CANCELLED] = {"cancelled", RETRY_NEVER, WORD_NONE, true},

	/* The worker died while calling: nobody knows whether it was paid, so one repeat; then it is lost. */
	[OUTCOME_UNKNOWN] = {"unknown", RETRY_ONCE, WORD_PROVIDER_FAILED, false},
	[OUTCOME_LOST] = {"lost", RETRY_NEVER, WORD_PROVIDER_FAILED, false},

	/* The answer was good; our storage was away for too long. */
	[OUTCOME_STORAGE] = {"storage", RETRY_NEVER, WORD_PROVIDER_FAILED, false},
};

/* Never NULL: a number outside the enum reads as provider_failed. */
const ErrorText *
sparky_error_text(ErrorWord word)
{
	if ((unsigned) word >= WORD_COUNT)
		word = WORD_PROVIDER_FAILED;
	return &error_texts[word];
}

ErrorWord
sparky_error_word(const char *word)
{
	if (word == NULL || word[0] == '\0')
		return WORD_NONE;
	for (int i = WORD_NONE + 1; i < WORD_COUNT; i++)
	{
		if (strcmp(error_texts[i].word, word) == 0)
			return (ErrorWord) i;
	}
	return WORD_NONE;
}

/* Never NULL: a number outside the enum reads as lost, which is final and uncharged. */
const OutcomeRule *
sparky_outcome_rule(Outcome outcome)
{
	if ((unsigned) outcome >= OUTCOME_COUNT)
		outcome = OUTCOME_LOST;
	return &outcome_rules[outcome];
}

const char *
sparky_outcome_name(Outcome outcome)
{
	return sparky_outcome_rule(outcome)->name;
}
