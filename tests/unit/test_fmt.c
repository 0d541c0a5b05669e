/* The append buffer: numbers, times, addresses, untrusted text, cutting. */
#include "fmt.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static char buf[256];
static struct hf_fmt fmt;

static void start(void)
{
	memset(buf, 'x', sizeof(buf));
	hf_fmt_init(&fmt, buf, sizeof(buf), 0);
}

static const char *done(void)
{
	size_t len;

	hf_fmt_boundary(&fmt);
	len = hf_fmt_end(&fmt, "");
	assert_int_equal(len, strlen(buf));
	return buf;
}

static void numbers(void **state)
{
	(void)state;
	start();
	hf_fmt_u64(&fmt, 0);
	hf_fmt_str(&fmt, " ");
	hf_fmt_u64(&fmt, UINT64_MAX);
	hf_fmt_str(&fmt, " ");
	hf_fmt_i64(&fmt, INT64_MIN);
	hf_fmt_str(&fmt, " ");
	hf_fmt_i64(&fmt, INT64_MAX);
	hf_fmt_str(&fmt, " ");
	hf_fmt_hex(&fmt, 0);
	hf_fmt_str(&fmt, " ");
	hf_fmt_hex(&fmt, UINT64_MAX);
	assert_string_equal(done(), "0 18446744073709551615 -9223372036854775808 9223372036854775807 0 "
				    "ffffffffffffffff");
}

static void spans(void **state)
{
	static const struct {
		uint64_t ms;
		const char *text;
	} table[] = {{0, "0 ms"},
		     {999, "999 ms"},
		     {1000, "1.0 s"},
		     {1049, "1.0 s"},
		     {1050, "1.1 s"},
		     {2996, "3.0 s"},
		     {59950, "60.0 s"},
		     {86400000, "86400.0 s"},
		     {12345, "12.3 s"},
		     {9999, "10.0 s"},
		     {UINT64_MAX, "18446744073709551.6 s"}};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		start();
		hf_fmt_span(&fmt, table[i].ms);
		assert_string_equal(done(), table[i].text);
	}
}

static void check_time(int64_t sec, long nsec, const char *expected)
{
	const struct timespec ts = {sec, nsec};

	start();
	hf_fmt_time(&fmt, &ts);
	assert_string_equal(done(), expected);
}

static void times(void **state)
{
	(void)state;
	check_time(0, 0, "1970-01-01T00:00:00.000Z");
	check_time(-1, 999999999, "1969-12-31T23:59:59.999Z");
	check_time(951782400, 1000000, "2000-02-29T00:00:00.001Z");
	check_time(951868799, 999999, "2000-02-29T23:59:59.000Z");
	check_time(4107542399, 0, "2100-02-28T23:59:59.000Z"); /* 2100 is no leap year */
	check_time(4107542400, 0, "2100-03-01T00:00:00.000Z");
	check_time(253402300799, 999999999, "9999-12-31T23:59:59.999Z");
	check_time(-62167219200, 0, "0000-01-01T00:00:00.000Z");
}

/* Every day from 1600 to 2400, against the C library. */
static void every_day(void **state)
{
	char expected[64];

	(void)state;
	for (int64_t sec = -11676096000; sec < 13569465600; sec += 86400 + 3661) {
		time_t t = (time_t)sec;
		struct tm tm;

		gmtime_r(&t, &tm);
		strftime(expected, sizeof(expected), "%Y-%m-%dT%H:%M:%S.000Z", &tm);
		check_time(sec, 0, expected);
	}
}

static void check_addr(const char *addr, uint32_t scope, const char *expected)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(65535)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(5), .sin6_scope_id = scope};

	start();
	if (inet_pton(AF_INET, addr, &in.sin_addr) == 1) {
		assert_true(hf_fmt_addr(&fmt, (const struct sockaddr *)&in));
	} else {
		assert_int_equal(inet_pton(AF_INET6, addr, &in6.sin6_addr), 1);
		assert_true(hf_fmt_addr(&fmt, (const struct sockaddr *)&in6));
	}
	assert_string_equal(done(), expected);
}

static void addresses(void **state)
{
	const struct sockaddr other = {.sa_family = AF_UNIX};

	(void)state;
	check_addr("0.0.0.0", 0, "0.0.0.0:65535");
	check_addr("10.9.0.255", 0, "10.9.0.255:65535");
	check_addr("::", 0, "[::]:5");
	check_addr("::1", 0, "[::1]:5");
	check_addr("1::", 0, "[1::]:5");
	check_addr("2001:db8::ff00:42:8329", 0, "[2001:db8::ff00:42:8329]:5");
	check_addr("2001:db8:0:1:1:1:1:1", 0, "[2001:db8:0:1:1:1:1:1]:5"); /* one zero group stays */
	check_addr("2001:0:0:1:0:0:0:1", 0, "[2001:0:0:1::1]:5");          /* the longest run */
	check_addr("2001:db8:0:0:1:0:0:1", 0, "[2001:db8::1:0:0:1]:5");    /* the first of equals */
	check_addr("1:2:3:4:5:6:0:0", 0, "[1:2:3:4:5:6::]:5");
	check_addr("fe80::1", 3, "[fe80::1%3]:5");
	check_addr("::ffff:1.2.3.4", 0, "1.2.3.4:5");
	start();
	assert_false(hf_fmt_addr(&fmt, &other));
	assert_int_equal(fmt.len, 0);
}

/* Against inet_ntop(3) on random addresses rich in zeros; inet_ntop writes a lone zero group as glibc likes. */
static void random_addresses(void **state)
{
	(void)state;
	srand(7);
	for (int i = 0; i < 20000; i++) {
		struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(5)};
		char text[INET6_ADDRSTRLEN], expected[80];

		for (int g = 0; g < 8; g++)
			if (rand() % 2)
				in6.sin6_addr.s6_addr16[g] = htons((uint16_t)(rand() >> (rand() % 16)));
		if (in6.sin6_addr.s6_addr32[0] == 0 && in6.sin6_addr.s6_addr32[1] == 0)
			continue; /* ::1.2.3.4 is inet_ntop's own idea */
		inet_ntop(AF_INET6, &in6.sin6_addr, text, sizeof(text));
		snprintf(expected, sizeof(expected), "[%s]:5", text);
		start();
		hf_fmt_addr(&fmt, (const struct sockaddr *)&in6);
		assert_string_equal(done(), expected);
	}
}

static const struct {
	const char *in, *json, *plain;
} hostile[] = {
	{"", "", ""},
	{"redis-server", "redis-server", "redis-server"},
	{"a\"b\\c", "a\\\"b\\\\c", "a\"b\\\\c"},
	{"line\nholdfast[1] x: dead", "line\\u000aholdfast[1] x: dead", "line\\x0aholdfast[1] x: dead"},
	{"\x1b[2J\x7f\t", "\\u001b[2J\\u007f\\u0009", "\\x1b[2J\\x7f\\x09"},
	{"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\x9f", "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\x9f",
	 "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\x9f"},
	{"\xff\xfe", "\\ufffd\\ufffd", "\\xff\\xfe"},
	{"\xc3", "\\ufffd", "\\xc3"}, /* cut short by the NUL */
	{"\xe2\x82", "\\ufffd\\ufffd", "\\xe2\\x82"},
	{"\xc0\x80", "\\ufffd\\ufffd", "\\xc0\\x80"}, /* overlong NUL */
	{"\xe0\x80\xaf", "\\ufffd\\ufffd\\ufffd", "\\xe0\\x80\\xaf"},
	{"\xed\xa0\x80", "\\ufffd\\ufffd\\ufffd", "\\xed\\xa0\\x80"}, /* surrogate */
	{"\xf4\x90\x80\x80", "\\ufffd\\ufffd\\ufffd\\ufffd", "\\xf4\\x90\\x80\\x80"},
	{"\xc2\x9b", "\\u009b", "\\x9b"}, /* C1: CSI */
	{"\xe2\x80\xae"
	 "exe",
	 "\\u202eexe", "\\u202eexe"}, /* right-to-left override */
	{"\xe2\x80\xa8", "\\u2028", "\\u2028"},
};

static void untrusted(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
		start();
		hf_fmt_json(&fmt, hostile[i].in, 200);
		assert_string_equal(done(), hostile[i].json);
		start();
		hf_fmt_plain(&fmt, hostile[i].in, 200);
		assert_string_equal(done(), hostile[i].plain);
	}
}

static void long_text(void **state)
{
	(void)state;
	start();
	hf_fmt_json(&fmt, "0123456789", 10);
	assert_string_equal(done(), "0123456789");
	start();
	hf_fmt_json(&fmt, "0123456789a", 10);
	assert_string_equal(done(), "0123456...");
	start();
	hf_fmt_json(&fmt, "\xff\xff", 11); /* two escapes make 12 bytes: one and the dots fit */
	assert_string_equal(done(), "\\ufffd...");
	start();
	hf_fmt_json(&fmt, "\xff\xff", 8); /* not even one and the dots */
	assert_string_equal(done(), "...");
	start();
	hf_fmt_plain(&fmt, "abcdef\xe2\x82\xac\xe2\x82\xac", 11);
	assert_string_equal(done(), "abcdef...");
}

/* Whatever the room: NUL-terminated, never a byte beyond, and never more than whole fields. */
static void cut(void **state)
{
	char small[32];

	(void)state;
	for (size_t size = 0; size <= 20; size++) {
		struct hf_fmt f;
		size_t len;

		memset(small, '#', sizeof(small));
		hf_fmt_init(&f, small, size, 1);
		hf_fmt_str(&f, "one");
		hf_fmt_boundary(&f);
		hf_fmt_str(&f, " two");
		hf_fmt_str(&f, "two");
		hf_fmt_boundary(&f);
		hf_fmt_str(&f, " 3");
		hf_fmt_boundary(&f);
		len = hf_fmt_end(&f, "\n");
		for (size_t i = size; i < sizeof(small); i++)
			assert_int_equal(small[i], '#');
		if (size == 0) {
			assert_int_equal(len, 0);
			continue;
		}
		assert_int_equal(len, strlen(small));
		assert_string_equal(small, size < 5    ? ""
					   : size < 12 ? "one\n"
					   : size < 14 ? "one twotwo\n"
						       : "one twotwo 3\n");
	}
}

static void keeps_errno(void **state)
{
	(void)state;
	errno = 4711;
	check_addr("::1", 0, "[::1]:5");
	check_time(0, 0, "1970-01-01T00:00:00.000Z");
	start();
	hf_fmt_json(&fmt, "\xff", 100);
	assert_int_equal(errno, 4711);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers),     cmocka_unit_test(spans),     cmocka_unit_test(times),
		cmocka_unit_test(every_day),   cmocka_unit_test(addresses), cmocka_unit_test(random_addresses),
		cmocka_unit_test(untrusted),   cmocka_unit_test(long_text), cmocka_unit_test(cut),
		cmocka_unit_test(keeps_errno),
	};

	return cmocka_run_group_tests_name("fmt", tests, NULL, NULL);
}
