/*
 * outcome.h: every way a call can end, and every error a user can meet.
 *
 * Plain C: no PostgreSQL here.  Protocol code returns an Outcome; only the SQL
 * faces and the worker's edge turn an ErrorWord into ereport or into a row.
 */
#ifndef SPARKY_OUTCOME_H
#define SPARKY_OUTCOME_H

#include <stdbool.h>

/* The words of DESIGN 3: error.<word> is the i18n key, the first word of MESSAGE, and error.code of a failed job. */
typedef enum ErrorWord
{
	WORD_NONE = 0,
	WORD_NOT_SIGNED_IN, WORD_ACCOUNT_GONE,
	WORD_INSUFFICIENT_CREDITS,
	WORD_FORBIDDEN, WORD_PRO_REQUIRED,
	WORD_TOOL_NOT_FOUND, WORD_IMAGE_NOT_FOUND, WORD_JOB_NOT_FOUND, WORD_PRODUCT_NOT_FOUND,
	WORD_IDEMPOTENCY_CONFLICT, WORD_TOO_LATE, WORD_PLAN_DOWNGRADE,
	WORD_IMAGE_TOO_LARGE, WORD_STORAGE_QUOTA,
	WORD_IMAGE_TYPE,
	WORD_BAD_PARAMETERS, WORD_WRONG_KIND, WORD_REFUSED,
	WORD_DAILY_LIMIT, WORD_TOO_MANY_JOBS, WORD_TOO_MANY_FAILURES, WORD_TOO_MANY_UPLOADS,
	WORD_TOO_MANY_CHECKOUTS, WORD_RATE_LIMITED,
	WORD_PROVIDER_FAILED,
	WORD_NOT_CONFIGURED, WORD_WORKER_DOWN, WORD_OVERLOADED, WORD_SPEND_LIMIT,
	WORD_PROVIDER_TIMEOUT,
	WORD_COUNT
} ErrorWord;

typedef struct ErrorText
{
	const char *word;			/* "insufficient_credits" */
	const char *sqlstate;		/* "PT402" */
	int			http_status;	/* 402 */
	const char *message;		/* "insufficient_credits: not enough credits for this request"; ASCII, one line */
} ErrorText;

extern const ErrorText *sparky_error_text(ErrorWord word);
extern ErrorWord sparky_error_word(const char *word);	/* WORD_NONE if unknown */

/* What the transport saw of an HTTP exchange. */
typedef enum TransportResult
{
	TRANSPORT_DONE,
	TRANSPORT_CONNECT_FAILED,	/* no server got the request */
	TRANSPORT_RESET,			/* broken after the request went out: nobody knows */
	TRANSPORT_TIMEOUT,
	TRANSPORT_STOPPED,			/* by the sink, or by our own rules */
	TRANSPORT_TLS_FAILED		/* no server got the request */
} TransportResult;

/* How a call to the provider ended (facts/gemini.md, 7). */
typedef enum Outcome
{
	OUTCOME_OK = 0,
	OUTCOME_BLOCKED_PROMPT,		/* promptFeedback.blockReason */
	OUTCOME_BLOCKED_OUTPUT,		/* SAFETY, IMAGE_SAFETY, PROHIBITED_CONTENT, BLOCKLIST, SPII, RECITATION, ... */
	OUTCOME_NO_IMAGE,			/* NO_IMAGE, IMAGE_OTHER, OTHER, text only, empty STOP, unknown reasons */
	OUTCOME_TRUNCATED,			/* MAX_TOKENS, CONTINUATION */
	OUTCOME_INVALID_OUTPUT,		/* schema, base64, type, JSON */
	OUTCOME_BAD_REQUEST,		/* 400: our bug or the user's image */
	OUTCOME_AUTH,				/* key refused: the operator's trouble */
	OUTCOME_BILLING,			/* prepaid credit or spend cap used up: the operator's */
	OUTCOME_MODEL_GONE,			/* 404 */
	OUTCOME_RATE_LIMITED,		/* 429 per minute, with seconds if told */
	OUTCOME_QUOTA_DAY,			/* 429 per day */
	OUTCOME_OVERLOADED,			/* 502, 503 */
	OUTCOME_UPSTREAM,			/* 500 and other 5xx */
	OUTCOME_UPSTREAM_TIMEOUT,	/* 504 from the provider */
	OUTCOME_TIMEOUT,			/* our own total timeout */
	OUTCOME_CONNECT,			/* never connected: nothing was spent */
	OUTCOME_NETWORK,			/* reset, empty reply, short body */
	OUTCOME_TOO_LARGE,			/* body cap */
	OUTCOME_REDIRECT,			/* 3xx: never followed */
	OUTCOME_NOT_CONFIGURED,		/* no key, no model: found before the call */
	OUTCOME_IMAGE_GONE,			/* the original vanished before the call */
	OUTCOME_FETCH,				/* the original could not be had from storage now */
	OUTCOME_CANCELLED,			/* user's cancel, user deleted, job voided in a copy */
	OUTCOME_UNKNOWN,			/* the worker died while calling */
	OUTCOME_LOST,				/* too many claims lost, second unknown call */
	OUTCOME_DEADLINE,			/* the job's own deadline passed */
	OUTCOME_STORAGE,			/* storage refused the answer for storage_deadline */
	OUTCOME_COUNT
} Outcome;

typedef enum RetryRule
{
	RETRY_NEVER, RETRY_ONCE, RETRY_SAFE		/* SAFE: up to two more attempts, full jitter, RetryInfo honoured */
} RetryRule;

typedef struct OutcomeRule
{
	const char *name;			/* as in sparky.provider_calls.outcome: "blocked_prompt" */
	RetryRule	retry;
	ErrorWord	word;			/* what the user is told when it is final */
	bool		counts;			/* counts against the user (max_uncharged_calls_per_day) */
} OutcomeRule;

extern const OutcomeRule *sparky_outcome_rule(Outcome outcome);
extern const char *sparky_outcome_name(Outcome outcome);

#endif
