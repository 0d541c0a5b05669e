#include "fmt.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

void hf_fmt_init(struct hf_fmt *fmt, char *buf, size_t size, size_t tail)
{
	*fmt = (struct hf_fmt){.buf = buf, .size = size};
	fmt->full = size <= tail;
	fmt->limit = fmt->full ? 0 : size - tail - 1;
}

void hf_fmt_boundary(struct hf_fmt *fmt)
{
	if (!fmt->full)
		fmt->safe = fmt->len;
}

size_t hf_fmt_end(struct hf_fmt *fmt, const char *tail)
{
	size_t n = strlen(tail);

	if (fmt->full)
		fmt->len = fmt->safe;
	if (fmt->size == 0)
		return 0;
	if (fmt->len == 0 || n >= fmt->size - fmt->len)
		n = fmt->len = 0;
	memcpy(fmt->buf + fmt->len, tail, n);
	fmt->len += n;
	fmt->buf[fmt->len] = '\0';
	return fmt->len;
}

static void append(struct hf_fmt *fmt, const char *bytes, size_t n)
{
	if (fmt->full || n > fmt->limit - fmt->len) {
		fmt->full = true;
		return;
	}
	memcpy(fmt->buf + fmt->len, bytes, n);
	fmt->len += n;
}

void hf_fmt_str(struct hf_fmt *fmt, const char *text)
{
	append(fmt, text, strlen(text));
}

static void number(struct hf_fmt *fmt, uint64_t value, unsigned base, size_t width)
{
	char digits[24];
	size_t at = sizeof(digits);

	do {
		digits[--at] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value != 0 || sizeof(digits) - at < width);
	append(fmt, digits + at, sizeof(digits) - at);
}

void hf_fmt_u64(struct hf_fmt *fmt, uint64_t value)
{
	number(fmt, value, 10, 1);
}

void hf_fmt_i64(struct hf_fmt *fmt, int64_t value)
{
	if (value < 0)
		append(fmt, "-", 1);
	number(fmt, value < 0 ? 0 - (uint64_t)value : (uint64_t)value, 10, 1);
}

void hf_fmt_hex(struct hf_fmt *fmt, uint64_t value)
{
	number(fmt, value, 16, 1);
}

/*
 * The UTF-8 sequence at TEXT: its length, and the code point in *POINT; 0 when it is none (RFC 3629: no overlong
 * forms, no surrogates, nothing above U+10FFFF).  Reads no byte past a NUL.
 */
static size_t utf8(const unsigned char *text, uint32_t *point)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t n = text[0] < 0x80   ? 1
		   : text[0] < 0xc2 ? 0
		   : text[0] < 0xe0 ? 2
		   : text[0] < 0xf0 ? 3
		   : text[0] < 0xf5 ? 4
				    : 0;

	if (n == 0)
		return 0;
	*point = n == 1 ? text[0] : text[0] & (0x7fu >> n);
	for (size_t i = 1; i < n; i++) {
		if ((text[i] & 0xc0) != 0x80)
			return 0;
		*point = *point << 6 | (text[i] & 0x3fu);
	}
	if (*point < least[n] || *point > 0x10ffff || (*point >= 0xd800 && *point <= 0xdfff))
		return 0;
	return n;
}

/* Characters that break a line, hide or reorder text on a terminal: C0, DEL, C1, LRM, RLM, separators, bidi, BOM. */
static bool unprintable(uint32_t point)
{
	return point < 0x20 || (point >= 0x7f && point < 0xa0) || point == 0x200e || point == 0x200f ||
	       (point >= 0x2028 && point <= 0x202e) || (point >= 0x2066 && point <= 0x2069) || point == 0xfeff;
}

/* An escape sequence, without a NUL: a backslash, KIND and N digits of VALUE. Its length. */
static size_t escape(char *out, char kind, uint32_t value, size_t n)
{
	out[0] = '\\';
	out[1] = kind;
	for (size_t i = n; i-- > 0; value >>= 4)
		out[2 + i] = "0123456789abcdef"[value & 15];
	return 2 + n;
}

/* One character of untrusted TEXT, made safe in OUT (6 bytes at most): its length there, and *USED bytes of TEXT. */
static size_t one_char(const char *text, bool json, char out[8], size_t *used)
{
	uint32_t point = 0;
	size_t n = utf8((const unsigned char *)text, &point);

	*used = n ? n : 1;
	if (n == 0 && json)
		return escape(out, 'u', 0xfffd, 4);
	if (n == 0 || (point < 0x100 && unprintable(point) && !json))
		return escape(out, 'x', n ? point : (unsigned char)text[0], 2);
	if (unprintable(point))
		return escape(out, 'u', point, 4);
	if (point == '\\' || (point == '"' && json)) {
		out[0] = '\\';
		out[1] = (char)point;
		return 2;
	}
	memcpy(out, text, n);
	return n;
}

static void untrusted(struct hf_fmt *fmt, const char *text, size_t max, bool json)
{
	char out[8];
	size_t used, n, total = 0;
	const char *end = text; /* where to stop if the whole does not fit */

	for (const char *p = text; *p != '\0'; p += used) {
		n = one_char(p, json, out, &used);
		if (total + n > max)
			break;
		total += n;
		if (total + 3 <= max)
			end = p + used;
		if (p[used] == '\0')
			end = NULL;
	}
	if (*text == '\0')
		return;
	for (const char *p = text; *p != '\0' && p != end; p += used) {
		n = one_char(p, json, out, &used);
		append(fmt, out, n);
	}
	if (end != NULL)
		append(fmt, "...", 3);
}

void hf_fmt_json(struct hf_fmt *fmt, const char *text, size_t max)
{
	untrusted(fmt, text, max, true);
}

void hf_fmt_plain(struct hf_fmt *fmt, const char *text, size_t max)
{
	untrusted(fmt, text, max, false);
}

static void ipv4(struct hf_fmt *fmt, const uint8_t addr[4])
{
	for (size_t i = 0; i < 4; i++) {
		if (i > 0)
			append(fmt, ".", 1);
		number(fmt, addr[i], 10, 1);
	}
}

/* RFC 5952: the first of the longest runs of two or more zero groups becomes "::". */
static void ipv6(struct hf_fmt *fmt, const uint8_t addr[16])
{
	size_t run_at = 8, run = 1;

	for (size_t i = 0, n; i < 8; i += n ? n : 1) {
		for (n = 0; i + n < 8 && addr[2 * (i + n)] == 0 && addr[2 * (i + n) + 1] == 0; n++)
			;
		if (n > run) {
			run_at = i;
			run = n;
		}
	}
	for (size_t i = 0; i < 8; i++) {
		if (i == run_at) {
			append(fmt, "::", 2);
			i += run - 1;
			continue;
		}
		if (i > 0 && i != run_at + run)
			append(fmt, ":", 1);
		number(fmt, (uint64_t)addr[2 * i] << 8 | addr[2 * i + 1], 16, 1);
	}
}

bool hf_fmt_addr(struct hf_fmt *fmt, const struct sockaddr *addr)
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;

	if (addr->sa_family == AF_INET) {
		memcpy(&in, addr, sizeof(in));
		ipv4(fmt, (const uint8_t *)&in.sin_addr);
		append(fmt, ":", 1);
		number(fmt, ntohs(in.sin_port), 10, 1);
		return true;
	}
	if (addr->sa_family != AF_INET6)
		return false;
	memcpy(&in6, addr, sizeof(in6));
	if (IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr)) {
		ipv4(fmt, in6.sin6_addr.s6_addr + 12);
		append(fmt, ":", 1);
	} else {
		append(fmt, "[", 1);
		ipv6(fmt, in6.sin6_addr.s6_addr);
		if (in6.sin6_scope_id != 0) {
			append(fmt, "%", 1);
			number(fmt, in6.sin6_scope_id, 10, 1);
		}
		append(fmt, "]:", 2);
	}
	number(fmt, ntohs(in6.sin6_port), 10, 1);
	return true;
}

void hf_fmt_time(struct hf_fmt *fmt, const struct timespec *ts)
{
	/* Days since 1 March of the year -400: the leap day is then a year's last (Hinnant's civil_from_days). */
	int64_t days = (ts->tv_sec >= 0 ? ts->tv_sec : ts->tv_sec - 86399) / 86400;
	uint64_t second = (uint64_t)(ts->tv_sec - days * 86400);
	uint64_t z = (uint64_t)(days + 719468 + 146097);
	uint64_t era = z / 146097, doe = z % 146097;
	uint64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	uint64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	uint64_t mp = (5 * doy + 2) / 153;
	uint64_t month = mp < 10 ? mp + 3 : mp - 9;

	number(fmt, era * 400 + yoe + (month <= 2 ? 1 : 0) - 400, 10, 4);
	append(fmt, "-", 1);
	number(fmt, month, 10, 2);
	append(fmt, "-", 1);
	number(fmt, doy - (153 * mp + 2) / 5 + 1, 10, 2);
	append(fmt, "T", 1);
	number(fmt, second / 3600, 10, 2);
	append(fmt, ":", 1);
	number(fmt, second / 60 % 60, 10, 2);
	append(fmt, ":", 1);
	number(fmt, second % 60, 10, 2);
	append(fmt, ".", 1);
	number(fmt, (uint64_t)ts->tv_nsec / 1000000, 10, 3);
	append(fmt, "Z", 1);
}

void hf_fmt_span(struct hf_fmt *fmt, uint64_t ms)
{
	uint64_t tenths = ms / 100 + (ms % 100 >= 50 ? 1 : 0);

	if (ms < 1000) {
		number(fmt, ms, 10, 1);
		append(fmt, " ms", 3);
		return;
	}
	number(fmt, tenths / 10, 10, 1);
	append(fmt, ".", 1);
	number(fmt, tenths % 10, 10, 1);
	append(fmt, " s", 2);
}
