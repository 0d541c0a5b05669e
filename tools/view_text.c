#include "view_text.h"

#include "fmt.h"
#include "state/ends.h"

#include <inttypes.h>
#include <netinet/in.h>
#include <string.h>

/* VALUE in units of UNIT: with one decimal below ten, rounded down. */
static struct hf_short scaled(uint64_t value, uint64_t unit, const char *name)
{
	struct hf_short result;

	if (value < 10 * unit)
		snprintf(result.text, sizeof result.text, "%" PRIu64 ".%" PRIu64 "%s", value / unit,
			 value % unit * 10 / unit, name);
	else
		snprintf(result.text, sizeof result.text, "%" PRIu64 "%s", value / unit, name);
	return result;
}

static struct hf_short counted(uint64_t value, const char *name)
{
	struct hf_short result;

	snprintf(result.text, sizeof result.text, "%" PRIu64 "%s", value, name);
	return result;
}

struct hf_short hf_short_ms(uint64_t ms)
{
	const uint64_t second = 1000, minute = 60 * second, hour = 60 * minute, day = 24 * hour;

	if (ms < second)
		return counted(ms, "ms");
	if (ms < 100 * second)
		return scaled(ms, second, "s");
	if (ms < 100 * minute)
		return counted(ms / minute, "m");
	if (ms < 72 * hour)
		return counted(ms / hour, "h");
	return ms < 10000 * day ? counted(ms / day, "d") : (struct hf_short){">9999d"};
}

struct hf_short hf_short_us(uint32_t us)
{
	if (us == 0)
		return (struct hf_short){"-"};
	if (us < 1000)
		return counted(us, "us");
	return us < 1000000 ? scaled(us, 1000, "ms") : scaled(us, 1000000, "s");
}

struct hf_short hf_short_bytes(uint64_t bytes)
{
	static const char *const units[] = {"K", "M", "G", "T", "P", "E"};
	uint64_t unit = 1024;
	size_t i = 0;

	if (bytes < 1000)
		return counted(bytes, "");
	while (i < 5 && bytes / unit >= 1000) {
		unit *= 1024;
		i++;
	}
	if (bytes < unit)
		return (struct hf_short){"0.9K"};
	/* Not by ten: the largest would overflow. */
	if (bytes / unit < 10) {
		struct hf_short result;

		snprintf(result.text, sizeof result.text, "%" PRIu64 ".%" PRIu64 "%s", bytes / unit,
			 bytes % unit / (unit / 10 + 1), units[i]);
		return result;
	}
	return counted(bytes / unit, units[i]);
}

struct hf_address_text hf_address(const uint8_t bytes[28])
{
	union {
		struct sockaddr any;
		struct sockaddr_in6 six;
		struct sockaddr_storage room;
	} address = {.room = {0}};
	struct hf_address_text result = {""};
	struct hf_fmt fmt;

	memcpy(&address, bytes, sizeof address.six);
	hf_fmt_init(&fmt, result.text, sizeof result.text, 0);
	if (!hf_fmt_addr(&fmt, &address.any))
		hf_fmt_str(&fmt, "?");
	hf_fmt_boundary(&fmt);
	hf_fmt_end(&fmt, "");
	return result;
}

struct hf_address_text hf_end_text(const struct hf_ends *ends, bool peer)
{
	uint8_t bytes[sizeof(union hf_address)];
	union hf_address address;

	(void)hf_ends_get(ends, peer, &address);
	memcpy(bytes, &address, sizeof bytes);
	return hf_address(bytes);
}

enum { TEXT_MOST = 128 };

/* With a NUL, which what is in an arena need not have. */
static void terminated(char copy[TEXT_MOST], const char *text, size_t size)
{
	size_t length = strnlen(text, size < TEXT_MOST - 1 ? size : TEXT_MOST - 1);

	memcpy(copy, text, length);
	copy[length] = '\0';
}

struct hf_plain hf_plain(const char *text, size_t size)
{
	char copy[TEXT_MOST];
	struct hf_plain result = {""};
	struct hf_fmt fmt;

	terminated(copy, text, size);
	hf_fmt_init(&fmt, result.text, sizeof result.text, 0);
	hf_fmt_plain(&fmt, copy, sizeof result.text - 1);
	hf_fmt_boundary(&fmt);
	hf_fmt_end(&fmt, "");
	return result;
}

void hf_put_json(FILE *out, const char *text, size_t size)
{
	char copy[TEXT_MOST], escaped[6 * TEXT_MOST + 8];
	struct hf_fmt fmt;

	terminated(copy, text, size);
	hf_fmt_init(&fmt, escaped, sizeof escaped, 0);
	hf_fmt_json(&fmt, copy, sizeof escaped - 1);
	hf_fmt_boundary(&fmt);
	hf_fmt_end(&fmt, "");
	fprintf(out, "\"%s\"", escaped);
}

size_t hf_last_rtts(const uint32_t *ring, size_t ring_size, uint32_t total, uint32_t *us, size_t count)
{
	size_t have = total < ring_size ? total : ring_size;

	if (count > have)
		count = have;
	for (size_t i = 0; i < count; i++)
		us[i] = ring[(total - (uint32_t)(count - i)) % ring_size];
	return count;
}

struct hf_spark hf_spark(const uint32_t *us, size_t count, bool utf8)
{
	static const char *const blocks[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
	static const char *const ascii[] = {"_", ".", "-", "~", "=", "+", "*", "#"};
	enum { STEPS = sizeof blocks / sizeof blocks[0] };
	struct hf_spark result = {""};
	uint32_t least = UINT32_MAX, most = 0;
	size_t length = 0;

	for (size_t i = 0; i < count; i++) {
		least = us[i] < least ? us[i] : least;
		most = us[i] > most ? us[i] : most;
	}
	for (size_t i = 0; i < count && length + 4 < sizeof result.text; i++) {
		uint64_t range = (uint64_t)most - least + 1;
		size_t step = (size_t)((us[i] - least) * (uint64_t)STEPS / range);
		const char *mark = (utf8 ? blocks : ascii)[step];

		memcpy(result.text + length, mark, strlen(mark));
		length += strlen(mark);
	}
	result.text[length] = '\0';
	return result;
}
