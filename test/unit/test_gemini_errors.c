/*
 * test_gemini_errors.c: what an error of Gemini's means, from its status and its
 * details, and what is kept of its words.
 */
#include "gemini_answers.h"

static void
test_statuses(void)
{
	static const struct
	{
		int			status;
		Outcome		outcome;
	}			rows[] = {
		{300, OUTCOME_REDIRECT}, {301, OUTCOME_REDIRECT}, {302, OUTCOME_REDIRECT}, {307, OUTCOME_REDIRECT}, {308, OUTCOME_REDIRECT},
		{400, OUTCOME_BAD_REQUEST}, {401, OUTCOME_AUTH}, {402, OUTCOME_BILLING}, {403, OUTCOME_AUTH}, {404, OUTCOME_MODEL_GONE},
		{405, OUTCOME_BAD_REQUEST}, {408, OUTCOME_UPSTREAM}, {413, OUTCOME_BAD_REQUEST}, {429, OUTCOME_RATE_LIMITED}, {499, OUTCOME_NETWORK},
		{500, OUTCOME_UPSTREAM}, {501, OUTCOME_UPSTREAM}, {502, OUTCOME_OVERLOADED}, {503, OUTCOME_OVERLOADED}, {504, OUTCOME_UPSTREAM_TIMEOUT},
		{529, OUTCOME_UPSTREAM}, {600, OUTCOME_INVALID_OUTPUT}, {101, OUTCOME_INVALID_OUTPUT},
	};
	char	   *good = image_answer("gradient.png");

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
	{
		How			how = usual;
		Read		read;
		char	   *body = error_body(rows[i].status, "X", "what happened", "");

		how.status = rows[i].status;
		outcome(body, how, rows[i].outcome, text("HTTP %d", rows[i].status));
		outcome(good, how, rows[i].outcome, text("HTTP %d with an image", rows[i].status));
		how.content_type = "text/html";
		outcome("<html><title>Error</title></html>", how, rows[i].outcome, text("HTTP %d with HTML", rows[i].status));
		outcome("", how, rows[i].outcome, text("HTTP %d with nothing", rows[i].status));
		if (rows[i].status >= 400)
		{
			outcome(body, usual, rows[i].outcome, text("error %d under 200", rows[i].status));
			read = read_bytes(body, strlen(body), how);
			is_text(read.answer.finish_message, "what happened", "  its message is kept");
			is_number(read.answer.http_status, rows[i].status, "  its status too");
			end_read(&read);
		}
	}
	outcome("{\"error\":{}}", usual, OUTCOME_INVALID_OUTPUT, "an error under 200 without a code");
	outcome("{\"error\":\"x\"}", usual, OUTCOME_INVALID_OUTPUT, "an error under 200 that is a string");
	outcome("{\"error\":{\"code\":200}}", usual, OUTCOME_INVALID_OUTPUT, "an error under 200 of code 200");
	outcome(text("{\"error\":{\"code\":503},%s", good + 1), usual, OUTCOME_OVERLOADED, "an error under 200 beside an image");
	outcome(text("{\"error\":null,%s", good + 1), usual, OUTCOME_OK, "error null is none");
}

static void
error_is(int status, const char *body, Outcome expected, double retry_after, const char *name)
{
	How			how = usual;
	Read		read;

	how.status = status;
	read = read_bytes(body, strlen(body), how);
	if (!ok(read.answer.outcome == expected && read.answer.retry_after > retry_after - 1e-6 && read.answer.retry_after < retry_after + 1e-6,
			"%s: %s", sparky_outcome_name(expected), name))
		printf("# got: %s, retry after %f\n", sparky_outcome_name(read.answer.outcome), read.answer.retry_after);
	end_read(&read);
}

static void
test_error_details(void)
{
	error_is(400, error_body(400, "INVALID_ARGUMENT", "API key not valid.", KEY_INVALID), OUTCOME_AUTH, -1, "400 with API_KEY_INVALID");
	error_is(400, error_body(400, "INVALID_ARGUMENT", "API key expired. Please renew the API key.", ""), OUTCOME_AUTH, -1, "400, key expired");
	error_is(400, error_body(400, "INVALID_ARGUMENT", "Multiple authentication credentials received.", ""), OUTCOME_AUTH, -1, "400, two credentials");
	error_is(400, error_body(400, "FAILED_PRECONDITION", "Please enable Billing on project 1", ""), OUTCOME_BILLING, -1, "400, billing");
	error_is(400, error_body(400, "FAILED_PRECONDITION", "User location is not supported for the API use.", ""), OUTCOME_BILLING, -1, "400, location");
	error_is(400, error_body(400, "FAILED_PRECONDITION", "Something else", ""), OUTCOME_BAD_REQUEST, -1, "400, another precondition");
	error_is(400, error_body(400, "INVALID_ARGUMENT", "billing is mentioned", ""), OUTCOME_BAD_REQUEST, -1, "400, an argument");
	error_is(400, "{\"error\":{\"details\":[1,null,{},{\"@type\":5},{\"@type\":\"none\"}]}}", OUTCOME_BAD_REQUEST, -1, "400, details of the wrong kind");

	error_is(429, error_body(429, "RESOURCE_EXHAUSTED", EXHAUSTED, QUOTA("GenerateRequestsPerMinutePerProjectPerModel") "," RETRY("45.837906927s")),
			 OUTCOME_RATE_LIMITED, 45.837906927, "429 per minute");
	error_is(429, error_body(429, "RESOURCE_EXHAUSTED", EXHAUSTED, RETRY("36s") "," QUOTA("GenerateRequestsPerDayPerProjectPerModel-FreeTier")),
			 OUTCOME_QUOTA_DAY, 36, "429 per day, whatever RetryInfo says");
	error_is(429, error_body(429, "RESOURCE_EXHAUSTED", EXHAUSTED, ""), OUTCOME_RATE_LIMITED, -1, "429 without details");
	error_is(429, error_body(429, "RESOURCE_EXHAUSTED", "Your project has exceeded its monthly spending cap.", ""), OUTCOME_BILLING, -1, "429, spending cap");
	error_is(429, error_body(429, "RESOURCE_EXHAUSTED", EXHAUSTED, "{\"@type\":\"x.QuotaFailure\",\"violations\":[{\"quotaId\":\"PerMinute\"},{\"quotaId\":\"PerDay\"}]}"),
			 OUTCOME_QUOTA_DAY, -1, "429, the second violation is the day's");
	error_is(429, error_body(429, "", "", RETRY("0s")), OUTCOME_RATE_LIMITED, 0, "retry at once");
	error_is(429, error_body(429, "", "", RETRY("0.5s")), OUTCOME_RATE_LIMITED, 0.5, "in half a second");
	error_is(429, error_body(429, "", "", RETRY("12.s")), OUTCOME_RATE_LIMITED, 12, "12.s");
	error_is(503, error_body(503, "UNAVAILABLE", "overloaded", RETRY("3s")), OUTCOME_OVERLOADED, 3, "503 with RetryInfo");
	for (const char **bad = (const char *[]) {"", "s", "-1s", "1", "1m", "1s ", "0x10s", "inf", "nan s", "1e3s", "99999999999s", ".5s", "1.5.5s", NULL}; *bad != NULL; bad++)
		error_is(429, error_body(429, "", "", text("{\"@type\":\"t/google.rpc.RetryInfo\",\"retryDelay\":\"%s\"}", *bad)), OUTCOME_RATE_LIMITED, -1, text("a delay of '%s' is none", *bad));
}

static void
test_kept_texts(void)
{
	JsonText	message = {0};
	How			how = usual;
	Read		read;
	char	   *body;

	/* The key is scrubbed before the cut, which must not cut a character. */
	for (int i = 0; i < 245; i++)
		sparky_json_text_puts(&message, "\xC3\xA9");
	sparky_json_text_puts(&message, SECRET " abc");
	for (int i = 0; i < 100; i++)
		sparky_json_text_puts(&message, "\xC3\xA9");
	body = error_body(400, "INVALID_ARGUMENT", message.data, "");
	how.status = 400;
	read = read_bytes(body, strlen(body), how);
	ok(read.answer.finish_message != NULL && strlen(read.answer.finish_message) <= 500 && strlen(read.answer.finish_message) >= 496 &&
	   sparky_utf8_valid(read.answer.finish_message, strlen(read.answer.finish_message)), "a message is cut to 500 bytes of whole characters");
	ok(strstr(read.answer.finish_message, "AQ.") == NULL && strstr(read.answer.finish_message, "***") != NULL, "the key in it is ***");
	end_read(&read);

	body = error_body(400, "INVALID_ARGUMENT", "key " SECRET " and " SECRET SECRET, "");
	read = read_bytes(body, strlen(body), how);
	is_text(read.answer.finish_message, "key *** and ******", "each of them");
	end_read(&read);

	body = "{\"candidates\":[{\"finishReason\":\"X" SECRET "\",\"finishMessage\":\"a\\u0000b \\ud800 \xFF" SECRET "\"}],"
		"\"modelVersion\":\"" SECRET "\",\"responseId\":\"" SECRET "\",\"usageMetadata\":{\"" SECRET "\":\"" SECRET "\"}}";
	read = read_bytes(body, strlen(body), usual);
	is_text(read.answer.finish_reason, "X***", "finish reason");
	is_text(read.answer.finish_message, "a\xEF\xBF\xBD" "b \xEF\xBF\xBD \xEF\xBF\xBD***", "finish message, cleaned");
	is_text(read.answer.model_version, "***", "model version");
	is_text(read.answer.response_id, "***", "response id");
	is_text(read.answer.usage, "{\"***\":\"***\"}", "usage");
	end_read(&read);

	how = usual;
	how.secret = "290";
	body = image_answer("gradient.png");
	read = read_bytes(body, strlen(body), how);
	is_number(read.answer.outcome, OUTCOME_OK, "a secret of digits does not break an answer");
	ok(read.answer.usage == NULL, "though a number with it in it is dropped, since *** is no number");
	end_read(&read);

	how.secret = "a\"b\\c";
	body = candidate("NO_IMAGE", "");
	body = text("{\"x\":1,\"usageMetadata\":{\"k\":\"1a\\\"b\\\\c2\"},\"candidates\":[{\"finishReason\":\"STOP\",\"finishMessage\":\"1a\\\"b\\\\c2\"}]}");
	read = read_bytes(body, strlen(body), how);
	is_text(read.answer.finish_message, "1***2", "a secret with quotes");
	is_text(read.answer.usage, "{\"k\":\"1***2\"}", "and as JSON escapes it");
	end_read(&read);

	body = "{\"candidates\":[{\"finishReason\":\"STOP\"}],\"usageMetadata\":\"x\",\"modelVersion\":5,\"responseId\":\"\"}";
	read = read_bytes(body, strlen(body), usual);
	ok(read.answer.usage == NULL && read.answer.model_version == NULL && read.answer.response_id == NULL, "members of the wrong kind are not kept");
	end_read(&read);
	sparky_json_text_free(&message);
}

int
main(void)
{
	static void (*const tests[]) (void) = {
		test_statuses, test_error_details, test_kept_texts,
	};

	return run_tests(tests, sizeof(tests) / sizeof(tests[0]));
}
