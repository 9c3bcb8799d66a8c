/*
 * test_gemini_damage.c: answers fed in pieces of every size, cut at every byte,
 * damaged at random.
 */
#include "gemini_answers.h"

static void
test_cuts(void)
{
	char	   *bodies[] = {
		image_answer("gradient.jpg"),
		candidate("STOP", text("{\"text\":\"\\u00e9\\\\\"},%s", image_part("image/webp", fixture64("lossless.webp"), ""))),
		candidate("STOP", "{\"text\":\"{\\\"shape\\\": \\\"oval\\\", \\\"sure\\\": 0.92}\"}"),
	};

	for (int b = 0; b < 3; b++)
	{
		How			how = usual;
		bool		never = true;
		size_t		length = strlen(bodies[b]);

		how.kind = b == 2 ? KIND_ANALYSIS : KIND_IMAGE;
		outcome(bodies[b], how, OUTCOME_OK, "whole");
		for (size_t cut = 0; cut < length; cut++)
		{
			Read		read = read_bytes(bodies[b], cut, how);

			if (read.answer.outcome == OUTCOME_OK)
			{
				printf("# OK at %zu of %zu bytes\n", cut, length);
				never = false;
			}
			end_read(&read);
		}
		ok(never, "cut at any of its %zu bytes it is never OK", length);
	}
}

static void
test_damage(void)
{
	char	   *bodies[] = {
		image_answer("gradient.jpg"),
		candidate("STOP", "{\"text\":\"{\\\"shape\\\": \\\"oval\\\\u00e9\\\", \\\"sure\\\": 0.92}\"}"),
		error_body(429, "RESOURCE_EXHAUSTED", EXHAUSTED, QUOTA("PerDay") "," RETRY("45.837906927s")),
	};
	static const char special[] = "\"\\{}[]:,u0=\xFF\0\x80/A";
	bool		sound = true;

	for (int i = 0; i < 6000; i++)
	{
		char	   *body = bodies[i % 3];
		size_t		length = strlen(body);
		char	   *damaged = malloc(length);
		How			how = usual;
		Read		read;

		memcpy(damaged, body, length);
		for (uint64_t n = next_random() % 6; n < 6; n++)
			damaged[next_random() % length] = next_random() % 2 ? special[next_random() % (sizeof(special) - 1)] : (char) next_random();
		how.kind = i % 3 == 1 ? KIND_ANALYSIS : KIND_IMAGE;
		how.status = i % 3 == 2 ? 429 : 200;
		how.schema = i % 3 == 1 ? analysis_schema : NULL;
		how.step = 1 + next_random() % 300;
		how.max_bytes = next_random() % 4 ? MEGABYTE : next_random() % 5000;
		read = read_bytes(damaged, length - next_random() % 3, how);
		sound = sound && (read.answer.outcome == OUTCOME_OK) == (read.answer.image != NULL || read.answer.analysis != NULL);
		sound = sound && (read.answer.finish_message == NULL || sparky_utf8_valid(read.answer.finish_message, strlen(read.answer.finish_message)));
		sound = sound && (read.answer.analysis == NULL || sparky_utf8_valid(read.answer.analysis, strlen(read.answer.analysis)));
		end_read(&read);
		free(damaged);
	}
	ok(sound, "6000 damaged answers: an image or an analysis exactly with OK, and only sound texts");
}

/* However the bytes are cut into pieces, the answer is the same. */
static void
test_pieces(void)
{
	char	   *body = candidate("STOP", text("{\"text\":\"%.*s of \\u0041\\/ it\"},%s", 3000, fixture64("gradient.png"),
											  image_part("image/png", fixture64("progressive.jpg"), "")));
	size_t		length = strlen(body);
	bool		same = true;

	for (int i = 0; i < 300; i++)
	{
		Read		read = {sparky_gemini_reader_start(KIND_IMAGE, nonce, MEGABYTE, 0), {0}, true};

		for (size_t at = 0; at < length;)
		{
			size_t		part = 1 + next_random() % (i % 2 ? 20 : 5000);

			if (part > length - at)
				part = length - at;
			sparky_gemini_reader_add(read.reader, body + at, part);
			at += part;
		}
		sparky_gemini_read(read.reader, TRANSPORT_DONE, 200, "application/json", NULL, NULL, &read.answer);
		same = same && read.answer.outcome == OUTCOME_OK && read.answer.image_info.type == IMAGE_JPEG;
		end_read(&read);
	}
	ok(same, "in random pieces always the same");
}

int
main(void)
{
	static void (*const tests[]) (void) = {
		test_cuts, test_damage, test_pieces,
	};

	return run_tests(tests, sizeof(tests) / sizeof(tests[0]));
}
