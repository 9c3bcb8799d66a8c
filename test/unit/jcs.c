/* jcs.c: reads JSON texts, one a line, writes the canonical form of each, or an empty line where it has none. */
#include <stdio.h>
#include <stdlib.h>

#include "canonical_json.h"

int
main(void)
{
	char	   *line = NULL;
	size_t		room = 0;
	ssize_t		length;

	while ((length = getline(&line, &room, stdin)) > 0)
	{
		JsonText	text = {0};

		if (line[length - 1] == '\n')
			length--;
		if (sparky_jcs_add_text(&text, line, length, NULL, 0))
			fwrite(text.data, 1, text.length, stdout);
		putchar('\n');
		sparky_json_text_free(&text);
	}
	free(line);
	return 0;
}
