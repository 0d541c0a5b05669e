/* Settings: numbers, times, sizes, words and comma lists. */
#include "config_internal.h"

#include <bsd/string.h>
#include <string.h>

bool hf_problem(struct hf_problem *problem, struct hf_slice value, const char *expected)
{
	problem->value = value;
	strlcpy(problem->expected, expected, sizeof problem->expected);
	return false;
}

struct hf_slice hf_slice(const char *text)
{
	return (struct hf_slice){text, strlen(text)};
}

bool hf_slice_is(struct hf_slice slice, const char *text)
{
	return slice.length == strlen(text) && memcmp(slice.at, text, slice.length) == 0;
}

bool hf_slice_skip(struct hf_slice *slice, const char *prefix)
{
	size_t length = strlen(prefix);

	if (slice->length < length || memcmp(slice->at, prefix, length) != 0)
		return false;
	slice->at += length;
	slice->length -= length;
	return true;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

bool hf_next_entry(const char **rest, struct hf_slice *entry)
{
	const char *end;

	if (!*rest)
		return false;
	end = strchrnul(*rest, ',');
	*entry = (struct hf_slice){*rest, (size_t)(end - *rest)};
	*rest = *end ? end + 1 : NULL;
	while (entry->length && is_blank(entry->at[0])) {
		entry->at++;
		entry->length--;
	}
	while (entry->length && is_blank(entry->at[entry->length - 1]))
		entry->length--;
	return true;
}

/* isdigit(3) is a table of the program's locale; strtonum(3) needs a NUL-terminated text of its own. */
static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Read digits at *TEXT, before END, and step over them. */
static bool take_number(const char **text, const char *end, uint32_t *number)
{
	uint64_t n = 0;
	const char *p = *text;

	for (; p < end && is_digit(*p); p++) {
		n = n * 10 + (uint64_t)(*p - '0');
		if (n > UINT32_MAX)
			return false;
	}
	if (p == *text)
		return false;
	*text = p;
	*number = (uint32_t)n;
	return true;
}

bool hf_parse_number(struct hf_slice slice, uint32_t *number)
{
	const char *end = slice.at + slice.length;

	return take_number(&slice.at, end, number) && slice.at == end;
}

/* Read ".25" at *TEXT, if it is there, as *NUMERATOR / *DENOMINATOR; up to nine digits. */
static bool take_fraction(const char **text, uint64_t *numerator, uint64_t *denominator)
{
	const char *p = *text;

	*numerator = 0;
	*denominator = 1;
	if (*p != '.')
		return true;
	for (p++; is_digit(*p); p++) {
		if (*denominator >= 1000000000)
			return false;
		*numerator = *numerator * 10 + (uint64_t)(*p - '0');
		*denominator *= 10;
	}
	*text = p;
	return *denominator > 1;
}

bool hf_parse_time(const char *text, uint32_t *ms)
{
	static const struct hf_word units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"", 1000}, {0}};
	uint64_t numerator, denominator, total;
	uint32_t whole;
	unsigned unit;

	if (!take_number(&text, text + strlen(text), &whole) || !take_fraction(&text, &numerator, &denominator))
		return false;
	if (!hf_parse_word(units, hf_slice(text), &unit))
		return false;
	/* Below 2^32 * 3600000 + 10^9 * 3600000: fits.  Rounded up, so that a tiny time does not become 0, "off". */
	total = (uint64_t)whole * unit + (numerator * unit + denominator - 1) / denominator;
	if (total > UINT32_MAX)
		return false;
	*ms = (uint32_t)total;
	return true;
}

bool hf_parse_size(const char *text, uint32_t *bytes)
{
	static const struct hf_word units[] = {{"", 1}, {"K", 1 << 10}, {"M", 1 << 20}, {0}};
	uint32_t number;
	unsigned unit;

	if (!take_number(&text, text + strlen(text), &number) || !hf_parse_word(units, hf_slice(text), &unit))
		return false;
	return !__builtin_mul_overflow(number, unit, bytes);
}

bool hf_parse_word(const struct hf_word *words, struct hf_slice slice, unsigned *value)
{
	for (; words->text; words++) {
		if (hf_slice_is(slice, words->text)) {
			*value = words->value;
			return true;
		}
	}
	return false;
}

void hf_add_words(char *text, size_t size, const struct hf_word *words)
{
	for (size_t i = 0; words[i].text; i++) {
		if (i > 0)
			strlcat(text, words[i + 1].text ? ", " : " or ", size);
		strlcat(text, words[i].text, size);
	}
}

static void add_number(char *text, size_t size, uint32_t number)
{
	char digits[11];
	char *p = digits + sizeof digits;

	*--p = '\0';
	do
		*--p = (char)('0' + number % 10);
	while (number /= 10);
	strlcat(text, p, size);
}

void hf_add_time(char *text, size_t size, uint32_t ms)
{
	static const struct hf_word units[] = {{"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};
	const struct hf_word *unit = units;

	if (ms == 0)
		unit = &units[2];
	while (ms % unit->value != 0)
		unit++;
	add_number(text, size, ms / unit->value);
	strlcat(text, unit->text, size);
}

void hf_add_size(char *text, size_t size, uint32_t bytes)
{
	static const struct hf_word units[] = {{"M", 1 << 20}, {"K", 1 << 10}, {"", 1}};
	const struct hf_word *unit = units;

	if (bytes == 0)
		unit = &units[2];
	while (bytes % unit->value != 0)
		unit++;
	add_number(text, size, bytes / unit->value);
	strlcat(text, unit->text, size);
}
