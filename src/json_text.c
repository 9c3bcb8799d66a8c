/*
 * json_text.c: writing JSON: growing texts, strings, numbers, and the cleaning
 * of texts from outside.  No jansson here.
 *
 * Rules.  A JsonText's failure is sticky: writers go on and look once, at the
 * end.  Numbers and strings are written as RFC 8785 and ECMAScript write them,
 * so that what is hashed and what is stored never differ.  No locale matters.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"

#define TEXT_FIRST_CAPACITY 256
#define DOUBLE_MAX_DIGITS 17	/* enough for any double to survive the round trip */
#define EXACT_INTEGER_LIMIT 9007199254740992.0	/* 2^53: below it every integer is itself */
#define REPLACEMENT_CHARACTER "\xEF\xBF\xBD"	/* U+FFFD */

/* A decimal number: digits d1 d2 ... dk with the value 0.d1d2...dk * 10^point. */
typedef struct Decimal
{
	char		digits[DOUBLE_MAX_DIGITS + 1];
	int			count;
	int			point;
} Decimal;

static Decimal shortest_decimal(double number);
static bool reads_back(const Decimal *decimal, double number);
static Decimal next_decimal(Decimal decimal);
static void add_decimal(JsonText *text, const Decimal *decimal);
static size_t clean_escape(JsonText *out, const char *text, size_t length);
static int	unicode_escape(const char *text, size_t length);

/* ---- growing texts ---- */

void
sparky_json_text_add(JsonText *text, const char *bytes, size_t length)
{
	if (text->failed)
		return;
	if (length >= SIZE_MAX / 2 - text->length)
	{
		text->failed = true;
		return;
	}
	if (text->data == NULL || text->length + length + 1 > text->capacity)
	{
		size_t		capacity = text->capacity > 0 ? text->capacity : TEXT_FIRST_CAPACITY;
		char	   *data;

		while (capacity < text->length + length + 1)
			capacity *= 2;
		data = realloc(text->data, capacity);
		if (data == NULL)
		{
			text->failed = true;
			return;
		}
		text->data = data;
		text->capacity = capacity;
	}
	if (length > 0)
		memcpy(text->data + text->length, bytes, length);
	text->length += length;
	text->data[text->length] = '\0';
}

void
sparky_json_text_puts(JsonText *text, const char *string)
{
	sparky_json_text_add(text, string, strlen(string));
}

/* The escapes of RFC 8785, 3.2.2.2: the seven short ones, \u00xx in lower case, all else as it is. */
void
sparky_json_text_add_string(JsonText *text, const char *utf8, size_t length)
{
	size_t		plain = 0;		/* start of the run that needs no escape */

	sparky_json_text_add(text, "\"", 1);
	for (size_t i = 0; i < length; i++)
	{
		unsigned char c = (unsigned char) utf8[i];
		static const char short_escapes[] = "btn\0fr";	/* for 8 to 13; 11 has none */
		char		escape[8];

		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		sparky_json_text_add(text, utf8 + plain, i - plain);
		plain = i + 1;
		if (c == '"' || c == '\\')
			snprintf(escape, sizeof(escape), "\\%c", c);
		else if (c >= 8 && c <= 13 && c != 11)
			snprintf(escape, sizeof(escape), "\\%c", short_escapes[c - 8]);
		else
			snprintf(escape, sizeof(escape), "\\u%04x", c);
		sparky_json_text_puts(text, escape);
	}
	sparky_json_text_add(text, utf8 + plain, length - plain);
	sparky_json_text_add(text, "\"", 1);
}

void
sparky_json_text_free(JsonText *text)
{
	free(text->data);
	memset(text, 0, sizeof(*text));
}

/* ---- numbers, as ECMA-262 Number::toString prints them ---- */

void
sparky_json_text_add_number(JsonText *text, double number)
{
	Decimal		decimal;
	char		whole[32];

	if (!isfinite(number))
	{
		text->failed = true;
		return;
	}
	if (fabs(number) < EXACT_INTEGER_LIMIT && floor(number) == number)
	{
		/* This also makes 0 of -0, as ECMAScript does. */
		snprintf(whole, sizeof(whole), "%" PRId64, (int64_t) number);
		sparky_json_text_puts(text, whole);
		return;
	}
	if (number < 0)
		sparky_json_text_puts(text, "-");
	decimal = shortest_decimal(fabs(number));
	add_decimal(text, &decimal);
}

/*
 * The fewest digits that read back as the same double, and of those the nearest
 * to it.  At each length the correctly rounded digits are tried first.  At a
 * power of two the gap above is twice the gap below, so digits just above may
 * read back where the nearer ones, below, do not: hence the second try.
 */
static Decimal
shortest_decimal(double number)
{
	Decimal		decimal = {0};

	for (int count = 1; count <= DOUBLE_MAX_DIGITS; count++)
	{
		char		printed[64];
		const char *p = printed;
		Decimal		above;

		snprintf(printed, sizeof(printed), "%.*e", count - 1, number);
		/* Take the digits only: the decimal point is the locale's. */
		decimal.count = 0;
		for (; *p != 'e' && *p != '\0'; p++)
		{
			if (*p >= '0' && *p <= '9')
				decimal.digits[decimal.count++] = *p;
		}
		decimal.digits[decimal.count] = '\0';
		decimal.point = atoi(p + 1) + 1;

		if (reads_back(&decimal, number))
			break;
		above = next_decimal(decimal);
		if (reads_back(&above, number))
			return above;
	}
	return decimal;
}

/* Written without a decimal point, so that no locale matters to strtod either. */
static bool
reads_back(const Decimal *decimal, double number)
{
	char		text[64];

	snprintf(text, sizeof(text), "%se%d", decimal->digits, decimal->point - decimal->count);
	return strtod(text, NULL) == number;
}

/* One more in the last digit. */
static Decimal
next_decimal(Decimal decimal)
{
	int			i = decimal.count - 1;

	while (i >= 0 && decimal.digits[i] == '9')
		decimal.digits[i--] = '0';
	if (i >= 0)
		decimal.digits[i]++;
	else
	{
		/* 99 became 100: the digits are 10 again, one place higher. */
		decimal.digits[0] = '1';
		decimal.point++;
	}
	return decimal;
}

/* The layout rules of Number::toString: plain from 1e-6 up to 1e21, else with an exponent. */
static void
add_decimal(JsonText *text, const Decimal *decimal)
{
	int			count = decimal->count;
	int			point = decimal->point;
	char		exponent[16];

	while (count > 1 && decimal->digits[count - 1] == '0')
		count--;

	if (point > 0 && point <= 21)
	{
		sparky_json_text_add(text, decimal->digits, point < count ? point : count);
		for (int i = count; i < point; i++)
			sparky_json_text_add(text, "0", 1);
		if (count > point)
		{
			sparky_json_text_add(text, ".", 1);
			sparky_json_text_add(text, decimal->digits + point, count - point);
		}
	}
	else if (point > -6 && point <= 0)
	{
		sparky_json_text_puts(text, "0.");
		for (int i = point; i < 0; i++)
			sparky_json_text_add(text, "0", 1);
		sparky_json_text_add(text, decimal->digits, count);
	}
	else
	{
		sparky_json_text_add(text, decimal->digits, 1);
		if (count > 1)
		{
			sparky_json_text_add(text, ".", 1);
			sparky_json_text_add(text, decimal->digits + 1, count - 1);
		}
		snprintf(exponent, sizeof(exponent), "e%+d", point - 1);
		sparky_json_text_puts(text, exponent);
	}
}

/* ---- UTF-8, and texts from outside ---- */

size_t
sparky_utf8_sequence(const char *bytes, size_t length)
{
	const unsigned char *b = (const unsigned char *) bytes;
	unsigned char low = 0x80;
	unsigned char high = 0xBF;	/* bounds of the second byte: RFC 3629, 4 */
	size_t		size;

	if (b[0] < 0x80)
		return 1;
	if (b[0] >= 0xC2 && b[0] <= 0xDF)
		size = 2;
	else if ((b[0] & 0xF0) == 0xE0)
		size = 3;
	else if (b[0] >= 0xF0 && b[0] <= 0xF4)
		size = 4;
	else
		return 0;
	if (b[0] == 0xE0)
		low = 0xA0;				/* overlong */
	else if (b[0] == 0xED)
		high = 0x9F;			/* surrogates */
	else if (b[0] == 0xF0)
		low = 0x90;				/* overlong */
	else if (b[0] == 0xF4)
		high = 0x8F;			/* beyond U+10FFFF */
	if (length < size || b[1] < low || b[1] > high)
		return 0;
	for (size_t i = 2; i < size; i++)
	{
		if ((b[i] & 0xC0) != 0x80)
			return 0;
	}
	return size;
}

bool
sparky_utf8_valid(const char *bytes, size_t length)
{
	for (size_t i = 0, size; i < length; i += size)
	{
		size = sparky_utf8_sequence(bytes + i, length - i);
		if (size == 0)
			return false;
	}
	return true;
}

size_t
sparky_utf8_cut(const char *bytes, size_t length, size_t limit)
{
	if (length <= limit)
		return length;
	while (limit > 0 && ((unsigned char) bytes[limit] & 0xC0) == 0x80)
		limit--;
	return limit;
}

void
sparky_json_clean(JsonText *out, const char *text, size_t length)
{
	bool		in_string = false;
	size_t		size;

	for (size_t i = 0; i < length; i += size)
	{
		unsigned char c = (unsigned char) text[i];
		char		escape[8];

		size = sparky_utf8_sequence(text + i, length - i);
		if (size == 0)
		{
			sparky_json_text_puts(out, REPLACEMENT_CHARACTER);
			size = 1;
		}
		else if (in_string && c == '\\')
			size = clean_escape(out, text + i, length - i);
		else if (in_string && c < 0x20)
		{
			snprintf(escape, sizeof(escape), "\\u%04x", c == 0 ? 0xFFFD : c);
			sparky_json_text_puts(out, escape);
		}
		else
		{
			if (c == '"')
				in_string = !in_string;
			sparky_json_text_add(out, text + i, size);
		}
	}
}

/* At a backslash in a string; returns how many bytes of the text were dealt with. */
static size_t
clean_escape(JsonText *out, const char *text, size_t length)
{
	int			unit = unicode_escape(text, length);
	int			second;

	if (unit < 0)
	{
		/* A short escape, or none at all; \" and \\ must stay together or the string's end is missed. */
		size_t		size = length > 1 && text[1] > 0x20 && text[1] < 0x7F ? 2 : 1;

		sparky_json_text_add(out, text, size);
		return size;
	}
	if (unit >= 0xD800 && unit <= 0xDBFF)
	{
		second = unicode_escape(text + 6, length - 6);
		if (second >= 0xDC00 && second <= 0xDFFF)
		{
			sparky_json_text_add(out, text, 12);
			return 12;
		}
	}
	if (unit == 0 || (unit >= 0xD800 && unit <= 0xDFFF))
		sparky_json_text_puts(out, "\\ufffd");
	else
		sparky_json_text_add(out, text, 6);
	return 6;
}

/* The UTF-16 code unit of a \uXXXX at text, or -1. */
static int
unicode_escape(const char *text, size_t length)
{
	int			unit = 0;

	if (length < 6 || text[0] != '\\' || text[1] != 'u')
		return -1;
	for (int i = 2; i < 6; i++)
	{
		char		c = text[i];

		if (c >= '0' && c <= '9')
			unit = unit * 16 + (c - '0');
		else if (c >= 'a' && c <= 'f')
			unit = unit * 16 + (c - 'a' + 10);
		else if (c >= 'A' && c <= 'F')
			unit = unit * 16 + (c - 'A' + 10);
		else
			return -1;
	}
	return unit;
}
