/* test_outcome.c: the two tables are complete, and each row keeps the rules of the design. */
#include "outcome.h"
#include "tap.h"

static void
every_word_is_well_formed(void)
{
	bool		complete = true;
	bool		formed = true;
	bool		found = true;
	bool		distinct = true;

	for (int i = WORD_NONE + 1; i < WORD_COUNT; i++)
	{
		const ErrorText *text = sparky_error_text(i);
		char		sqlstate[16];

		if (text->word == NULL || text->message == NULL)
		{
			printf("# word %d is missing\n", i);
			complete = false;
			continue;
		}
		snprintf(sqlstate, sizeof(sqlstate), "PT%d", text->http_status);
		formed = formed && strcmp(sqlstate, text->sqlstate) == 0 && strlen(sqlstate) == 5;
		formed = formed && strncmp(text->message, text->word, strlen(text->word)) == 0 &&
			strncmp(text->message + strlen(text->word), ": ", 2) == 0 && strlen(text->message) > strlen(text->word) + 10;
		for (const char *c = text->message; *c != '\0'; c++)
			formed = formed && *c >= ' ' && *c < 0x7F;
		found = found && sparky_error_word(text->word) == (ErrorWord) i;
		for (int j = i + 1; j < WORD_COUNT; j++)
			distinct = distinct && strcmp(text->word, sparky_error_text(j)->word) != 0;
	}
	ok(complete, "every word has a text");
	ok(formed, "SQLSTATE is PT and the status; message is the word and a sentence, one line of ASCII");
	ok(found, "every word is found by its name");
	ok(distinct, "no word twice");
	is_number(sparky_error_word("no_such_word"), WORD_NONE, "an unknown word is none");
	is_number(sparky_error_word(NULL), WORD_NONE, "no word is none");
	is_number(sparky_error_word(""), WORD_NONE, "an empty word is none");
	ok(sparky_error_text(WORD_COUNT) != NULL, "a word outside the table has a text too");
}

static void
words_have_the_status_of_the_design(void)
{
	static const struct
	{
		int			status;
		const char *words;
	}			rows[] = {
		{401, "not_signed_in account_gone"},
		{402, "insufficient_credits"},
		{403, "forbidden pro_required"},
		{404, "tool_not_found image_not_found job_not_found product_not_found"},
		{409, "idempotency_conflict too_late plan_downgrade"},
		{413, "image_too_large storage_quota"},
		{415, "image_type"},
		{422, "bad_parameters wrong_kind refused"},
		{429, "daily_limit too_many_jobs too_many_failures too_many_uploads too_many_checkouts rate_limited"},
		{502, "provider_failed"},
		{503, "not_configured worker_down overloaded spend_limit"},
		{504, "provider_timeout"},
	};
	int			count = 0;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
	{
		char		words[200];
		char	   *rest;

		snprintf(words, sizeof(words), "%s", rows[i].words);
		for (char *word = strtok_r(words, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest))
		{
			ErrorWord	number = sparky_error_word(word);

			ok(number != WORD_NONE && sparky_error_text(number)->http_status == rows[i].status,
			   "%s is %d", word, rows[i].status);
			count++;
		}
	}
	is_number(count, WORD_COUNT - 1, "and there are no others");
}

static void
every_outcome_has_its_rule(void)
{
	static const struct
	{
		Outcome		outcome;
		const char *name;
		RetryRule	retry;
		ErrorWord	word;
		bool		counts;
	}			rows[] = {
		{OUTCOME_OK, "ok", RETRY_NEVER, WORD_NONE, false},
		{OUTCOME_BLOCKED_PROMPT, "blocked_prompt", RETRY_NEVER, WORD_REFUSED, true},
		{OUTCOME_BLOCKED_OUTPUT, "blocked_output", RETRY_NEVER, WORD_REFUSED, true},
		{OUTCOME_NO_IMAGE, "no_image", RETRY_NEVER, WORD_PROVIDER_FAILED, true},
		{OUTCOME_TRUNCATED, "truncated", RETRY_NEVER, WORD_PROVIDER_FAILED, true},
		{OUTCOME_INVALID_OUTPUT, "invalid_output", RETRY_NEVER, WORD_PROVIDER_FAILED, false},
		{OUTCOME_BAD_REQUEST, "bad_request", RETRY_NEVER, WORD_PROVIDER_FAILED, true},
		{OUTCOME_AUTH, "auth", RETRY_NEVER, WORD_PROVIDER_FAILED, false},
		{OUTCOME_BILLING, "billing", RETRY_NEVER, WORD_PROVIDER_FAILED, false},
		{OUTCOME_MODEL_GONE, "model_gone", RETRY_NEVER, WORD_PROVIDER_FAILED, false},
		{OUTCOME_RATE_LIMITED, "rate_limited", RETRY_SAFE, WORD_RATE_LIMITED, false},
		{OUTCOME_QUOTA_DAY, "quota_day", RETRY_NEVER, WORD_RATE_LIMITED, false},
		{OUTCOME_OVERLOADED, "overloaded", RETRY_SAFE, WORD_PROVIDER_FAILED, false},
		{OUTCOME_UPSTREAM, "upstream", RETRY_SAFE, WORD_PROVIDER_FAILED, false},
		{OUTCOME_UPSTREAM_TIMEOUT, "upstream_timeout", RETRY_NEVER, WORD_PROVIDER_TIMEOUT, false},
		{OUTCOME_TIMEOUT, "timeout", RETRY_NEVER, WORD_PROVIDER_TIMEOUT, false},
		{OUTCOME_CONNECT, "connect", RETRY_SAFE, WORD_PROVIDER_FAILED, false},
		{OUTCOME_NETWORK, "network", RETRY_ONCE, WORD_PROVIDER_FAILED, false},
		{OUTCOME_TOO_LARGE, "too_large", RETRY_NEVER, WORD_PROVIDER_FAILED, false},
		{OUTCOME_REDIRECT, "redirect", RETRY_NEVER, WORD_PROVIDER_FAILED, false},
		{OUTCOME_NOT_CONFIGURED, "not_configured", RETRY_NEVER, WORD_NOT_CONFIGURED, false},
		{OUTCOME_IMAGE_GONE, "image_gone", RETRY_NEVER, WORD_IMAGE_NOT_FOUND, false},
		{OUTCOME_FETCH, "fetch", RETRY_SAFE, WORD_OVERLOADED, false},
		{OUTCOME_CANCELLED, "cancelled", RETRY_NEVER, WORD_NONE, true},
		{OUTCOME_UNKNOWN, "unknown", RETRY_ONCE, WORD_PROVIDER_FAILED, false},
		{OUTCOME_LOST, "lost", RETRY_NEVER, WORD_PROVIDER_FAILED, false},
		{OUTCOME_DEADLINE, "deadline", RETRY_NEVER, WORD_PROVIDER_TIMEOUT, false},
		{OUTCOME_STORAGE, "storage", RETRY_NEVER, WORD_PROVIDER_FAILED, false},
	};

	is_number(sizeof(rows) / sizeof(rows[0]), OUTCOME_COUNT, "the test knows every outcome");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
	{
		const OutcomeRule *rule = sparky_outcome_rule(rows[i].outcome);

		ok(rule->name != NULL && strcmp(rule->name, rows[i].name) == 0 &&
		   strcmp(sparky_outcome_name(rows[i].outcome), rows[i].name) == 0 &&
		   rule->retry == rows[i].retry && rule->word == rows[i].word && rule->counts == rows[i].counts,
		   "outcome %s", rows[i].name);
	}
	is_text(sparky_outcome_name(OUTCOME_COUNT), "lost", "an outcome outside the table is final and uncharged");
}

int
main(void)
{
	every_word_is_well_formed();
	words_have_the_status_of_the_design();
	every_outcome_has_its_rule();
	return done();
}
