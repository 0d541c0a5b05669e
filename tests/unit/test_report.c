/* Events as sentences and as JSON; cut lines; the rate limit.  Where lines go is test_sink.c. */
#include "report.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static const struct timespec NOW = {1763916053, 123999999};
#define TS "{\"ts\":\"2025-11-23T16:40:53.123Z\","

static void set_addr(struct sockaddr_storage *to, const char *addr, uint16_t port)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};

	if (inet_pton(AF_INET, addr, &in.sin_addr) == 1) {
		memcpy(to, &in, sizeof(in));
		return;
	}
	assert_int_equal(inet_pton(AF_INET6, addr, &in6.sin6_addr), 1);
	memcpy(to, &in6, sizeof(in6));
}

/* A client's connection in probe mode, as most reports have it. */
static struct hf_event usual(enum hf_event_kind kind)
{
	struct hf_event event;

	hf_event_init(&event, kind);
	event.fd = 3;
	event.conn = 0x1a2b;
	event.mode = HF_MODE_PROBE;
	event.has_mode = event.has_role = event.client = true;
	set_addr(&event.local, "10.9.0.1", 40000);
	set_addr(&event.peer, "10.9.0.2", 7000);
	return event;
}

static struct hf_event dead(enum hf_reason reason, enum hf_action action)
{
	struct hf_event event = usual(HF_EV_DEAD);

	event.reason = reason;
	event.has_action = true;
	event.action = action;
	event.silent_ms = 3000;
	return event;
}

#define CONN "connection to 10.9.0.2:7000 (fd 3): "

/* The sentence after "holdfast[4711] nc: ", and the JSON after the fields that all these have. */
static void check(const struct hf_event *event, const char *name, const char *sentence, const char *json)
{
	char expected[HF_LINE], got[HF_LINE];
	size_t len;

	snprintf(expected, sizeof(expected), "holdfast[4711] nc: %s: %s\n", name, sentence);
	len = hf_report_format(got, sizeof(got), HF_TEXT, event, "nc", 4711, &NOW);
	assert_string_equal(got, expected);
	assert_int_equal(len, strlen(expected));
	snprintf(expected, sizeof(expected),
		 TS "\"event\":\"%s\",\"pid\":4711,\"prog\":\"nc\",\"fd\":3,\"conn\":\"1a2b\",\"mode\":\"probe\","
		    "\"role\":\"client\",\"local\":\"10.9.0.1:40000\",\"peer\":\"10.9.0.2:7000\"%s}\n",
		 name, json);
	len = hf_report_format(got, sizeof(got), HF_JSON, event, "nc", 4711, &NOW);
	assert_string_equal(got, expected);
	assert_int_equal(len, strlen(expected));
}

static void every_kind(void **state)
{
	/* kind, silent_ms, down_ms, resent, sentence, JSON */
	static const struct {
		enum hf_event_kind kind;
		int64_t silent, down, resent;
		const char *name, *sentence, *json;
	} table[] = {
		{HF_EV_OPEN, -1, -1, -1, "open", "watched in probe mode", ""},
		{HF_EV_WRAPPED, -1, -1, -1, "wrapped", "the peer speaks holdfast, heartbeats run inside the connection",
		 ""},
		{HF_EV_PLAIN, -1, -1, -1, "plain", "the peer does not speak holdfast, going on without heartbeats", ""},
		{HF_EV_LATE, 1500, -1, -1, "late", "nothing heard from the peer's host for 1.5 s, still waiting",
		 ",\"silent_ms\":1500"},
		{HF_EV_STALLED, 60000, -1, -1, "stalled",
		 "the peer's host is alive but the peer has not taken what was sent for 60.0 s",
		 ",\"silent_ms\":60000"},
		{HF_EV_FLOWING, 61234, -1, -1, "flowing", "bytes move again after 61.2 s", ",\"silent_ms\":61234"},
		{HF_EV_HALF_CLOSED, -1, -1, -1, "half-closed",
		 "one direction has ended, the other may still carry data", ""},
		{HF_EV_HALF_CLOSE_TIMEOUT, 60000, -1, -1, "half-close-timeout",
		 "one direction has ended and the other has been silent for 60.0 s", ",\"silent_ms\":60000"},
		{HF_EV_VANISHED, -1, -1, -1, "vanished", "the peer ended the connection without saying so", ""},
		{HF_EV_BROKEN, -1, -1, -1, "broken", "the connection broke, trying to reconnect", ""},
		{HF_EV_RESUMED, -1, 2500, 100, "resumed",
		 "connected anew after 2.5 s, as another client [sent again 100 B]",
		 ",\"down_ms\":2500,\"resent\":100"},
		{HF_EV_GAVE_UP, -1, 60000, -1, "gave-up", "could not reconnect within 60.0 s", ",\"down_ms\":60000"},
		{HF_EV_CLOSED, -1, -1, -1, "closed", "closed", ""},
		{HF_EV_CORRUPT, -1, -1, -1, "corrupt", "bytes are missing or not ours, the stream cannot be trusted",
		 ""},
	};
	char sentence[512];

	(void)state;
	/* every kind but dead and config, which have tests of their own */
	assert_int_equal(sizeof(table) / sizeof(table[0]), HF_EV_COUNT - 2);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct hf_event event = usual(table[i].kind);

		event.silent_ms = table[i].silent;
		event.down_ms = table[i].down;
		event.resent = table[i].resent;
		snprintf(sentence, sizeof(sentence), CONN "%s", table[i].sentence);
		check(&event, table[i].name, sentence, table[i].json);
	}
}

/* Where a session goes on, nothing was lost; a connection that is made anew is another one. */
static void resumed_in_wrap_mode(void **state)
{
	struct hf_event event = usual(HF_EV_RESUMED);
	char got[HF_LINE];

	(void)state;
	event.mode = HF_MODE_WRAP;
	event.down_ms = 2500;
	event.resent = 100;
	(void)hf_report_format(got, sizeof(got), HF_TEXT, &event, "nc", 4711, &NOW);
	assert_string_equal(got, "holdfast[4711] nc: resumed: " CONN
				 "connected again after 2.5 s, nothing was lost [sent again 100 B]\n");
}

static void every_death(void **state)
{
	static const struct {
		enum hf_reason reason;
		enum hf_action action;
		const char *sentence, *json;
	} table[] = {
		{HF_WHY_NONE, HF_REPORT, CONN "the peer is gone, silent for 3.0 s; left alone",
		 ",\"action\":\"report\",\"silent_ms\":3000"},
		{HF_WHY_PATH, HF_ABORT, CONN "no answer from the peer's host for 3.0 s (path); ended with ETIMEDOUT",
		 ",\"reason\":\"path\",\"action\":\"abort\",\"silent_ms\":3000"},
		{HF_WHY_PATH, HF_REPORT, CONN "no answer from the peer's host for 3.0 s (path); left alone",
		 ",\"reason\":\"path\",\"action\":\"report\",\"silent_ms\":3000"},
		{HF_WHY_PATH, HF_RECONNECT, CONN "no answer from the peer's host for 3.0 s (path); reconnecting",
		 ",\"reason\":\"path\",\"action\":\"reconnect\",\"silent_ms\":3000"},
		{HF_WHY_HUNG, HF_ABORT,
		 CONN "the peer's program has been silent for 3.0 s though its host answers (hung); ended with "
		      "ETIMEDOUT",
		 ",\"reason\":\"hung\",\"action\":\"abort\",\"silent_ms\":3000"},
		{HF_WHY_UNANSWERED, HF_ABORT,
		 CONN "no reply for 3.0 s though the peer's host has received everything sent (unanswered); ended with "
		      "ETIMEDOUT",
		 ",\"reason\":\"unanswered\",\"action\":\"abort\",\"silent_ms\":3000"},
		{HF_WHY_RESET, HF_ABORT, CONN "the peer's host has reset the connection (reset); ended",
		 ",\"reason\":\"reset\",\"action\":\"abort\",\"silent_ms\":3000"},
		{HF_WHY_CONNECT, HF_ABORT,
		 CONN "no answer to the attempt to connect for 3.0 s (connect); ended with ETIMEDOUT",
		 ",\"reason\":\"connect\",\"action\":\"abort\",\"silent_ms\":3000"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct hf_event event = dead(table[i].reason, table[i].action);

		check(&event, "dead", table[i].sentence, table[i].json);
	}
}

static void every_field(void **state)
{
	struct hf_event event = dead(HF_WHY_PATH, HF_ABORT);

	(void)state;
	event.rtt_us = 1234;
	event.unacked = 5;
	event.unread = 0;
	event.sent = 120;
	event.received = 3;
	event.peer_prog = "redis-server";
	event.peer_pid = 77;
	event.peer_host = "db1.example.org";
	event.peer_info = "rack 4";
	event.down_ms = 0;
	event.resent = 9;
	event.suppressed = 2;
	check(&event, "dead",
	      CONN "no answer from the peer's host for 0 ms (path); ended with ETIMEDOUT [sent 120 B, received 3 B, "
		   "unacknowledged 5 B, unread 0 B, sent again 9 B, round trip 1234 us] [peer program redis-server, "
		   "pid 77, on db1.example.org] [peer info: rack 4] [lines left out before this one: 2]",
	      ",\"reason\":\"path\",\"action\":\"abort\",\"silent_ms\":3000,\"rtt_us\":1234,\"unacked\":5,"
	      "\"unread\":0,\"sent\":120,\"received\":3,\"peer_prog\":\"redis-server\",\"peer_pid\":77,"
	      "\"peer_host\":\"db1.example.org\",\"peer_info\":\"rack 4\",\"down_ms\":0,\"resent\":9,\"suppressed\":2");
}

static void check_text(const struct hf_event *event, const char *prog, const char *expected)
{
	char got[HF_LINE];

	hf_report_format(got, sizeof(got), HF_TEXT, event, prog, 1, &NOW);
	assert_string_equal(got, expected);
}

/* What little is known, and names that would forge a line of their own. */
static void odd_ones(void **state)
{
	struct hf_event event;
	char got[HF_LINE];

	(void)state;
	hf_event_init(&event, HF_EV_CONFIG);
	event.detail = "HOLDFAST_INTERVAL: \"5 parsecs\": expected a time";
	check_text(&event, "nc", "holdfast[1] nc: config: HOLDFAST_INTERVAL: \"5 parsecs\": expected a time\n");
	hf_report_format(got, sizeof(got), HF_JSON, &event, "nc", 1, &NOW);
	assert_string_equal(got, TS "\"event\":\"config\",\"pid\":1,\"prog\":\"nc\",\"detail\":\"HOLDFAST_INTERVAL: "
				    "\\\"5 parsecs\\\": expected a time\"}\n");

	hf_event_init(&event, HF_EV_DEAD);
	check_text(&event, "nc", "holdfast[1] nc: dead: the peer is gone\n");
	event.fd = 0;
	check_text(&event, "nc", "holdfast[1] nc: dead: connection (fd 0): the peer is gone\n");
	set_addr(&event.peer, "::ffff:10.9.0.2", 80);
	check_text(&event, "nc", "holdfast[1] nc: dead: connection with 10.9.0.2:80 (fd 0): the peer is gone\n");
	event.has_role = true;
	set_addr(&event.peer, "::1", 80);
	check_text(
		&event, "nc\nholdfast[2] x: \x1b[2J\xff",
		"holdfast[1] nc\\x0aholdfast[2] x: \\x1b[2J\\xff: dead: connection from [::1]:80 (fd 0): the peer is "
		"gone\n");
}

/* The most an event can hold: the longest of every field, strings that escape to six times their length. */
static struct hf_event largest(char filler[600])
{
	struct hf_event event = dead(HF_WHY_UNANSWERED, HF_RECONNECT);

	memset(filler, 1, 599);
	filler[599] = '\0';
	event.conn = UINT64_MAX;
	event.fd = INT_MAX;
	event.silent_ms = event.rtt_us = event.unacked = event.unread = INT64_MAX;
	event.sent = event.received = event.down_ms = event.resent = event.peer_pid = INT64_MAX;
	set_addr(&event.local, "1111:1111:1111:1111:1111:1111:1111:1111", 65535);
	set_addr(&event.peer, "1111:1111:1111:1111:1111:1111:1111:1111", 65535);
	((struct sockaddr_in6 *)&event.local)->sin6_scope_id = UINT32_MAX;
	((struct sockaddr_in6 *)&event.peer)->sin6_scope_id = UINT32_MAX;
	event.peer_prog = event.peer_host = event.peer_info = event.detail = filler;
	event.suppressed = UINT32_MAX;
	return event;
}

static void nothing_is_cut_in_a_full_line(void **state)
{
	char filler[600], got[HF_LINE], wide[8192];
	struct hf_event event = largest(filler);

	(void)state;
	for (int format = HF_TEXT; format <= HF_JSON; format++) {
		size_t len =
			hf_report_format(wide, sizeof(wide), (enum hf_format)format, &event, filler, INT_MAX, &NOW);

		print_message("# longest line, format %d: %zu bytes\n", format, len);
		assert_int_equal(
			hf_report_format(got, sizeof(got), (enum hf_format)format, &event, filler, INT_MAX, &NOW), len);
		assert_string_equal(got, wide);
	}
}

static void check_json_files(FILE *file, char *path)
{
	const char *top = getenv("TOP");
	char command[8192];

	fclose(file);
	snprintf(command, sizeof(command), "python3 %s/tests/check_report.py %s >&2", top ? top : ".", path);
	assert_int_equal(system(command), 0);
	unlink(path);
}

/* Every kind, reason, action; every cut of the largest event: each line is JSON as the schema has it. */
static void json_schema(void **state)
{
	char path[] = "/tmp/holdfast-report-XXXXXX", filler[600], got[HF_LINE];
	struct hf_event event;
	FILE *file;

	(void)state;
	if (system("python3 -c pass 2>/dev/null") != 0) {
		print_message("ok json_schema # SKIP no python3\n");
		return;
	}
	file = fdopen(mkstemp(path), "w");
	assert_non_null(file);
	for (int kind = 0; kind < HF_EV_COUNT; kind++)
		for (int reason = 0; reason < HF_WHY_COUNT; reason++)
			for (int action = 0; action <= HF_RECONNECT; action++) {
				event = dead((enum hf_reason)reason, (enum hf_action)action);
				event.kind = (enum hf_event_kind)kind;
				event.mode = (enum hf_mode)action;
				hf_report_format(got, sizeof(got), HF_JSON, &event, "\"\\\xc3\xbc\xff\n", 1, &NOW);
				fputs(got, file);
			}
	event = largest(filler);
	for (size_t size = 120; size <= sizeof(got); size++) {
		hf_report_format(got, size, HF_JSON, &event, "p", 1, &NOW);
		assert_true(strlen(got) > 0 && strlen(got) < size);
		fputs(got, file);
	}
	check_json_files(file, path);
}

static void tiny_buffers(void **state)
{
	char filler[600], got[64];
	struct hf_event event = largest(filler);

	(void)state;
	for (int format = HF_TEXT; format <= HF_JSON; format++)
		for (size_t size = 0; size < sizeof(got); size++) {
			size_t len;

			memset(got, '#', sizeof(got));
			len = hf_report_format(got, size, (enum hf_format)format, &event, "nc", 1, &NOW);
			assert_true(size == 0 ? len == 0 : len < size && got[len] == '\0');
			assert_true(len == 0 || got[len - 1] == '\n');
			for (size_t i = size; i < sizeof(got); i++)
				assert_int_equal(got[i], '#');
		}
}

static void rate(void **state)
{
	struct hf_rate limit = {0};
	uint32_t suppressed = 99;
	uint64_t now = 5; /* the clock may start at zero */

	(void)state;
	for (int i = 0; i < 10; i++) {
		assert_true(hf_rate_allow(&limit, now, &suppressed));
		assert_int_equal(suppressed, 0);
	}
	for (int i = 0; i < 7; i++)
		assert_false(hf_rate_allow(&limit, now + 9999, &suppressed));
	assert_true(hf_rate_allow(&limit, now + 10000, &suppressed));
	assert_int_equal(suppressed, 7);
	assert_false(hf_rate_allow(&limit, now + 10000, &suppressed));
	assert_true(hf_rate_allow(&limit, now + 20000, &suppressed));
	assert_int_equal(suppressed, 1);

	/* Left alone for long enough, it is as fresh as ever and no fresher. */
	now += 1000000;
	for (int i = 0; i < 10; i++)
		assert_true(hf_rate_allow(&limit, now, &suppressed));
	assert_false(hf_rate_allow(&limit, now, &suppressed));
	limit.suppressed = UINT32_MAX;
	assert_false(hf_rate_allow(&limit, now, &suppressed));
	assert_true(hf_rate_allow(&limit, now + 10000, &suppressed));
	assert_int_equal(suppressed, UINT32_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_kind),
		cmocka_unit_test(every_death),
		cmocka_unit_test(resumed_in_wrap_mode),
		cmocka_unit_test(every_field),
		cmocka_unit_test(odd_ones),
		cmocka_unit_test(json_schema),
		cmocka_unit_test(nothing_is_cut_in_a_full_line),
		cmocka_unit_test(tiny_buffers),
		cmocka_unit_test(rate),
	};

	return cmocka_run_group_tests_name("report", tests, NULL, NULL);
}
