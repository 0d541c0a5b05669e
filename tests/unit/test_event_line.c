/* JSON lines read back: what the library writes comes back as it was, and nothing else is taken for an event. */
#include "event_line.h"
#include "event_match.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct hf_event_line line;
static const struct timespec when = {1795458205, 721000000};

static bool reads(const char *text)
{
	return hf_event_line_read(&line, text, strlen(text));
}

static void address(struct sockaddr_storage *out, const char *text, unsigned port, uint32_t scope)
{
	struct sockaddr_in *in = (struct sockaddr_in *)(void *)out;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)out;

	memset(out, 0, sizeof *out);
	if (inet_pton(AF_INET, text, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		in->sin_port = htons((uint16_t)port);
		return;
	}
	assert_int_equal(inet_pton(AF_INET6, text, &in6->sin6_addr), 1);
	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons((uint16_t)port);
	in6->sin6_scope_id = scope;
}

/* Formatted, read, formatted: the same text in both formats. */
static void there_and_back(const struct hf_event *event, const char *prog)
{
	char json[HF_LINE], again[HF_LINE], text[HF_LINE], sentence[HF_LINE];
	size_t n = hf_report_format(json, sizeof json, HF_JSON, event, prog, 4711, &when);

	assert_true(hf_event_line_read(&line, json, n - 1));
	hf_report_format(again, sizeof again, HF_JSON, &line.event, line.prog, line.pid, &when);
	assert_string_equal(json, again);
	hf_report_format(text, sizeof text, HF_TEXT, event, prog, 4711, &when);
	hf_event_line_sentence(&line, sentence, sizeof sentence);
	assert_string_equal(text, sentence);
}

static void every_kind(void **state)
{
	(void)state;
	for (int kind = 0; kind < HF_EV_COUNT; kind++) {
		struct hf_event event;

		hf_event_init(&event, (enum hf_event_kind)kind);
		there_and_back(&event, "nc");
		assert_int_equal(line.event.kind, kind);
	}
	for (int reason = 0; reason < HF_WHY_COUNT; reason++) {
		struct hf_event event;

		hf_event_init(&event, HF_EV_DEAD);
		event.reason = (enum hf_reason)reason;
		there_and_back(&event, "nc");
		assert_int_equal(line.level, reason == HF_WHY_RESET ? HF_INFO : HF_ERROR);
	}
}

static void every_field(void **state)
{
	struct hf_event event;

	(void)state;
	hf_event_init(&event, HF_EV_RESUMED);
	event.fd = 1048575;
	event.conn = UINT64_MAX;
	event.has_mode = event.has_role = event.client = event.has_action = true;
	event.mode = HF_MODE_WRAP;
	event.action = HF_RECONNECT;
	event.reason = HF_WHY_HUNG;
	event.silent_ms = event.rtt_us = event.unacked = 0;
	event.unread = event.sent = event.received = event.down_ms = event.resent = INT64_MAX;
	event.peer_pid = 1;
	event.peer_prog = "caf\xc3\xa9 \"q\" \\ \x1b[0m\n";
	event.peer_host = "host.example";
	event.peer_info = "\xe2\x80\xae\xf0\x9f\x98\x80";
	event.detail = "tab\there";
	event.suppressed = UINT32_MAX;
	address(&event.local, "10.0.0.1", 65535, 0);
	address(&event.peer, "fe80::1", 1, 7);
	there_and_back(&event, "pr\xc3\xb6g");
	assert_memory_equal(&line.event.peer, &event.peer, sizeof(struct sockaddr_in6));
	assert_string_equal(line.event.peer_prog, event.peer_prog);
	assert_true(line.event.client && line.event.conn == UINT64_MAX);
	assert_string_equal(hf_event_line_field(&line, "resent"), "9223372036854775807");
	assert_null(hf_event_line_field(&line, "none"));
}

#define HEAD "{\"ts\":\"2026-11-23T17:23:25.721Z\",\"event\":\"dead\",\"pid\":1,\"prog\":\"p\""

static void refused(void **state)
{
	static const char *const texts[] = {
		"",
		"{}",
		"[]",
		"null",
		HEAD,
		HEAD "} ",
		" " HEAD "}",
		HEAD "}x",
		HEAD ",}",
		HEAD ",\"x\":}",
		HEAD ",\"x\":{}}",
		HEAD ",\"x\":[1]}",
		HEAD ",\"x\":true}",
		HEAD ",\"x\":-1}",
		HEAD ",\"x\":1.5}",
		HEAD ",\"x\":1e3}",
		HEAD ",\"x\":01}",
		HEAD ",\"x\":9223372036854775808}",
		HEAD ",\"x\": 1}",
		HEAD ",\"X\":1}",
		HEAD ",\"\":1}",
		HEAD ",\"a_name_that_is_longer_than_is_good\":1}",
		HEAD ",\"pid\":2}",
		HEAD ",\"x\":1,\"x\":1}",
		HEAD ",\"x\":\"\\u0000\"}",
		HEAD ",\"x\":\"\\ud800\"}",
		HEAD ",\"x\":\"\\udc00\"}",
		HEAD ",\"x\":\"\\ud800\\u0041\"}",
		HEAD ",\"x\":\"\\x41\"}",
		HEAD ",\"x\":\"\\u12g4\"}",
		HEAD ",\"x\":\"\t\"}",
		HEAD ",\"x\":\"\x7f\"}",
		HEAD ",\"x\":\"\xc2\x9b\"}",
		HEAD ",\"x\":\"open",
		HEAD ",\"fd\":\"3\"}",
		HEAD ",\"fd\":2147483648}",
		HEAD ",\"conn\":7}",
		HEAD ",\"conn\":\"0\"}",
		HEAD ",\"conn\":\"xyz\"}",
		HEAD ",\"conn\":\"11111111111111111\"}",
		HEAD ",\"mode\":\"fast\"}",
		HEAD ",\"role\":\"both\"}",
		HEAD ",\"reason\":\"\"}",
		HEAD ",\"reason\":\"age\"}",
		HEAD ",\"action\":1}",
		HEAD ",\"peer\":\"10.0.0.1\"}",
		HEAD ",\"peer\":\"10.0.0.1:\"}",
		HEAD ",\"peer\":\"10.0.0.1:65536\"}",
		HEAD ",\"peer\":\"10.0.0.1:-1\"}",
		HEAD ",\"peer\":\"10.0.0:1\"}",
		HEAD ",\"peer\":\"::1:1\"}",
		HEAD ",\"peer\":\"[::1:1\"}",
		HEAD ",\"peer\":\"[::1%x]:1\"}",
		HEAD ",\"peer\":\"[10.0.0.1]:1\"}",
		HEAD ",\"prog\":1}",
		"{\"ts\":\"2026-11-23 17:23:25.721Z\",\"event\":\"dead\",\"pid\":1,\"prog\":\"p\"}",
		"{\"ts\":\"2026\",\"event\":\"dead\",\"pid\":1,\"prog\":\"p\"}",
		"{\"event\":\"dead\",\"pid\":1,\"prog\":\"p\"}",
		"{\"ts\":\"2026-11-23T17:23:25.721Z\",\"event\":\"died\",\"pid\":1,\"prog\":\"p\"}",
		"{\"ts\":\"2026-11-23T17:23:25.721Z\",\"event\":\"dead\",\"pid\":0,\"prog\":\"p\"}",
		"{\"ts\":\"2026-11-23T17:23:25.721Z\",\"event\":\"dead\",\"pid\":1}",
	};

	(void)state;
	assert_true(reads(HEAD "}"));
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		if (reads(texts[i]))
			fail_msg("taken: %s", texts[i]);
	}
}

/* Further fields of a later version do not make it unreadable; but their number is bounded. */
static void later_versions(void **state)
{
	char text[HF_EVENT_LINE] = HEAD;
	size_t n = strlen(text);

	(void)state;
	assert_true(reads(HEAD ",\"later\":\"x\\u00e9\",\"more2\":7}"));
	assert_string_equal(hf_event_line_field(&line, "later"), "x\xc3\xa9");
	for (int i = 4; i < HF_EVENT_FIELDS; i++)
		n += (size_t)snprintf(text + n, sizeof text - n, ",\"f%d\":%d", i, i);
	strcpy(text + n, "}");
	assert_true(reads(text));
	strcpy(text + n, ",\"one_more\":1}");
	assert_false(reads(text));
}

static void bounded(void **state)
{
	static char text[HF_EVENT_LINE + 64];
	size_t n;

	(void)state;
	n = (size_t)snprintf(text, sizeof text, "%s,\"detail\":\"", HEAD);
	memset(text + n, 'x', HF_EVENT_LINE - 2 - n);
	strcpy(text + HF_EVENT_LINE - 2, "\"}");
	assert_true(reads(text));
	memset(text + n, 'x', HF_EVENT_LINE - 1 - n);
	strcpy(text + HF_EVENT_LINE - 1, "\"}");
	assert_false(reads(text));
}

/* Every beginning of a line is none, and every changed byte gives an answer. */
static void torn(void **state)
{
	static const char whole[] = HEAD ",\"peer\":\"[::1%2]:443\",\"conn\":\"7ae\",\"x\":\"\\ud83d\\ude00\\n\"}";
	char copy[sizeof whole];

	(void)state;
	assert_true(reads(whole));
	for (size_t n = 0; n < sizeof whole - 1; n++) {
		assert_false(hf_event_line_read(&line, whole, n));
		for (int c = 0; c < 256; c++) {
			memcpy(copy, whole, sizeof copy);
			copy[n] = (char)c;
			hf_event_line_read(&line, copy, sizeof copy - 1);
		}
	}
}

static void matching(void **state)
{
	struct hf_event_match match = {.level = -1};

	(void)state;
	assert_true(reads(HEAD ",\"reason\":\"path\",\"conn\":\"7ae\",\"peer\":\"[::ffff:10.0.0.1]:80\"}"));
	assert_true(hf_event_matches(&match, &line));
	assert_true(hf_event_address("--peer", "10.0.0.0/8:80", &match.peer));
	assert_true(hf_event_matches(&match, &line)); /* a mapped address is the one it maps */
	assert_true(hf_event_address("--local", "::", &match.local));
	assert_false(hf_event_matches(&match, &line)); /* it has no local address */
	free(match.local);
	match.local = NULL;
	match.level = HF_ERROR;
	match.prog = "p*";
	match.conn = 0x7ae;
	match.pid = 1;
	assert_true(hf_event_reasons("--reason", "hung,path", &match.reasons));
	assert_true(hf_event_matches(&match, &line));
	match.conn = 0x7af;
	assert_false(hf_event_matches(&match, &line));
	free(match.peer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_kind),     cmocka_unit_test(every_field), cmocka_unit_test(refused),
		cmocka_unit_test(later_versions), cmocka_unit_test(bounded),     cmocka_unit_test(torn),
		cmocka_unit_test(matching),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
