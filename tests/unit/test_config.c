/* Settings: every variable, its default, its range, and what is said of a wrong value.  Lists of sinks and programs:
 * test_config_lists.c; rules: test_rules.c. */
#include "config_case.h"

#include <stdio.h>

static void defaults(void **state)
{
	const char *name;

	(void)state;
	memset(&config, 0xa5, sizeof config);
	hf_config_defaults(&config);
	assert_defaults();
	assert_int_equal(read_all(), 0);
	assert_defaults();
	/* Empty is unset, for each. */
	for (size_t i = 0; (name = hf_config_name(i)); i++) {
		assert_int_equal(read_one(name, ""), 0);
		assert_defaults();
	}
}

static void known_names(void **state)
{
	const char *name;
	size_t n = 0;

	(void)state;
	while ((name = hf_config_name(n))) {
		assert_true(hf_config_known(name));
		n++;
	}
	assert_int_equal(n, 25); /* the variables of DESIGN's table, and the two of redial */
	assert_false(hf_config_known("HOLDFAST_INTERVALS"));
	assert_false(hf_config_known("HOLDFAST_"));
	assert_false(hf_config_known("INTERVAL"));
	assert_false(hf_config_known(""));
}

static void misspelt_names(void **state)
{
	static const struct {
		const char *entry, *says;
		bool slip;
	} wrong[] = {{"HOLDFAST_TIMOUT=5s", "HOLDFAST_TIMOUT: unknown setting; did you mean HOLDFAST_TIMEOUT", true},
		     {"HOLDFAST_TIMEOUTS=", "HOLDFAST_TIMEOUTS: unknown setting; did you mean HOLDFAST_TIMEOUT", true},
		     {"HOLDFAST_INTREVAL", "HOLDFAST_INTREVAL: unknown setting; did you mean HOLDFAST_INTERVAL", true},
		     {"HOLDFAST_KEYFILE=/k", "HOLDFAST_KEYFILE: unknown setting; did you mean HOLDFAST_KEY_FILE", true},
		     {"HOLDFAST_MODE\n=wrap", "HOLDFAST_MODE?: unknown setting; did you mean HOLDFAST_MODE", true},
		     /* What Kubernetes sets for a service of that name. */
		     {"HOLDFAST_PORT=tcp://10.0.0.1:80", "HOLDFAST_PORT: unknown setting; did you mean HOLDFAST_REPORT",
		      false},
		     {"HOLDFAST_SERVICE_HOST=10.0.0.1",
		      "HOLDFAST_SERVICE_HOST: unknown setting; see holdfast run --help", false},
		     {"HOLDFAST_=x", "HOLDFAST_: unknown setting; see holdfast run --help", false}};
	static const char *const fine[] = {"HOLDFAST_TIMEOUT=5s", "HOLDFAST_TIMEOUT=", "HOLDFAST_EVENT_PEER=x",
					   "HOLDFAST_FD_3=x",     "HOLDFASTTIMEOUT=5", "PATH=HOLDFAST_TIMOUT=1",
					   "holdfast_timout=5s",  "HOLDFAST",          ""};
	char line[HF_UNKNOWN_LINE], name[3000];
	bool slip;

	(void)state;
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		assert_true(hf_config_unknown(wrong[i].entry, line, &slip));
		assert_string_equal(line, wrong[i].says);
		assert_int_equal(slip, wrong[i].slip);
	}
	for (size_t i = 0; i < sizeof fine / sizeof fine[0]; i++)
		assert_false(hf_config_unknown(fine[i], line, &slip));
	memset(name, 'x', sizeof name);
	memcpy(name, "HOLDFAST_", 9);
	name[sizeof name - 1] = '\0';
	assert_true(hf_config_unknown(name, line, &slip));
	assert_int_equal(strlen(line), 100 + strlen(": unknown setting; see holdfast run --help"));
	assert_false(slip);
}

static void times(void **state)
{
	static const struct {
		const char *text;
		uint32_t ms;
	} good[] = {{"50ms", 50},
		    {"5s", 5000},
		    {"5", 5000},
		    {"2m", 120000},
		    {"1h", 3600000},
		    {"1.5s", 1500},
		    {"1.5", 1500},
		    {"0.05", 50},
		    {"0.5h", 1800000},
		    {"2.25m", 135000},
		    {"0", 0},
		    {"0.0ms", 0},
		    {"0.1ms", 1},
		    {"1.0001s", 1001},
		    {"0.000000001h", 1},
		    {"00005s", 5000},
		    {"4294967295ms", UINT32_MAX},
		    {"1193h", 1193u * 3600000}};
	static const char *const bad[] = {"",
					  " ",
					  "s",
					  "ms",
					  ".5s",
					  "5.",
					  "5.s",
					  "-1s",
					  "+1s",
					  " 5s",
					  "5 s",
					  "5s ",
					  "5S",
					  "5sec",
					  "5d",
					  "1e3",
					  "5,5",
					  "0x10",
					  "1.2.3",
					  "5ms1",
					  "1h30m",
					  "1194h",
					  "4294967296ms",
					  "4294967295.1ms",
					  "4294968",
					  "18446744073709551617ms",
					  "99999999999999999999999999999",
					  "1.0000000000s",
					  "inf",
					  "nan",
					  "\xd9\xa5s"};
	uint32_t ms;

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		ms = 12345;
		if (!hf_parse_time(good[i].text, &ms) || ms != good[i].ms)
			fail_msg("%s: %u", good[i].text, ms);
	}
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		if (hf_parse_time(bad[i], &ms))
			fail_msg("\"%s\" was taken as %u", bad[i], ms);
	}
}

static void sizes(void **state)
{
	static const struct {
		const char *text;
		uint32_t bytes;
	} good[] = {{"0", 0},        {"65536", 65536},       {"64K", 65536},
		    {"1M", 1 << 20}, {"4095M", 4095u << 20}, {"4294967295", UINT32_MAX}};
	static const char *const bad[] = {"",   "K",   "-1",    "1.5M",     "1 K",        "64k",
					  "1G", "1KB", "4096M", "4194304K", "4294967296", "99999999999999999999"};
	uint32_t bytes;

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		bytes = 12345;
		if (!hf_parse_size(good[i].text, &bytes) || bytes != good[i].bytes)
			fail_msg("%s: %u", good[i].text, bytes);
	}
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		if (hf_parse_size(bad[i], &bytes))
			fail_msg("\"%s\" was taken as %u", bad[i], bytes);
	}
}

/* Word settings: each word and no other, and the complaint lists them. */
static void words(void **state)
{
	static const struct {
		const char *name;
		const unsigned *field;
		const char *words[5];
		unsigned values[4], preset;
		const char *expected;
	} table[] = {
		{"HOLDFAST_MODE",
		 &config.mode,
		 {"probe", "wrap", "off"},
		 {HF_MODE_PROBE, HF_MODE_WRAP, HF_MODE_OFF},
		 HF_MODE_PROBE,
		 "probe, wrap or off"},
		{"HOLDFAST_ON_DEAD",
		 &config.on_dead,
		 {"abort", "report", "reconnect"},
		 {HF_ABORT, HF_REPORT, HF_RECONNECT},
		 HF_ABORT,
		 "abort, report or reconnect"},
		{"HOLDFAST_ON_UNANSWERED",
		 &config.on_unanswered,
		 {"abort", "report"},
		 {HF_ABORT, HF_REPORT},
		 HF_ABORT,
		 "abort or report"},
		{"HOLDFAST_ON_STALL",
		 &config.on_stall,
		 {"abort", "report"},
		 {HF_ABORT, HF_REPORT},
		 HF_REPORT,
		 "abort or report"},
		{"HOLDFAST_ON_HALF_CLOSE",
		 &config.on_half_close,
		 {"abort", "report"},
		 {HF_ABORT, HF_REPORT},
		 HF_REPORT,
		 "abort or report"},
		{"HOLDFAST_FALLBACK",
		 &config.fallback,
		 {"plain", "fail"},
		 {HF_FALLBACK_PLAIN, HF_FALLBACK_FAIL},
		 HF_FALLBACK_PLAIN,
		 "plain or fail"},
		{"HOLDFAST_FORMAT", &config.format, {"text", "json"}, {HF_TEXT, HF_JSON}, HF_TEXT, "text or json"},
		{"HOLDFAST_LEVEL",
		 &config.level,
		 {"error", "warn", "info", "debug"},
		 {HF_ERROR, HF_WARN, HF_INFO, HF_DEBUG},
		 HF_WARN,
		 "error, warn, info or debug"},
		{"HOLDFAST_REDIAL",
		 &config.redial,
		 {"off", "idle"},
		 {HF_REDIAL_OFF, HF_REDIAL_IDLE},
		 HF_REDIAL_OFF,
		 "off or idle"},
	};
	static const char *const wrong[] = {"ABORT", "reconnec", "abort ", "x", "1"};
	char line[256];

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		for (size_t w = 0; table[i].words[w]; w++) {
			assert_int_equal(read_one(table[i].name, table[i].words[w]), 0);
			assert_int_equal(*table[i].field, table[i].values[w]);
		}
		for (size_t w = 0; w < sizeof wrong / sizeof wrong[0]; w++) {
			assert_int_equal(read_one(table[i].name, wrong[w]), 1);
			snprintf(line, sizeof line, "%s: \"%s\": expected %s", table[i].name, wrong[w],
				 table[i].expected);
			assert_line(line);
			assert_int_equal(*table[i].field, table[i].preset);
			assert_defaults();
		}
	}
	/* Only a dead peer can be reconnected to. */
	assert_int_equal(read_one("HOLDFAST_ON_STALL", "reconnect"), 1);
	assert_int_equal(read_one("HOLDFAST_ON_UNANSWERED", "reconnect"), 1);
	assert_int_equal(read_one("HOLDFAST_ON_HALF_CLOSE", "reconnect"), 1);
}

/* Number settings: the ends of the range belong to it, one beyond does not. */
static void ranges(void **state)
{
	static const struct {
		const char *name;
		const uint32_t *field;
		const char *least, *below, *most, *above;
		uint32_t low, high, preset;
		bool off; /* takes "off" and 0 */
	} table[] = {
		{"HOLDFAST_INTERVAL", &config.interval, "50ms", "49ms", "24h", "86400001ms", 50, 86400000, 5000, false},
		{"HOLDFAST_TIMEOUT", &config.timeout, "5s", "49ms", "168h", "604800001ms", 5000, 604800000, 15000,
		 false},
		{"HOLDFAST_REPLY_TIMEOUT", &config.reply_timeout, "50ms", "49ms", "168h", "169h", 50, 604800000, 0,
		 true},
		{"HOLDFAST_CONNECT_TIMEOUT", &config.connect_timeout, "50ms", "1ms", "168h", "169h", 50, 604800000, 0,
		 true},
		{"HOLDFAST_STALL_TIMEOUT", &config.stall_timeout, "50ms", "49ms", "168h", "169h", 50, 604800000, 60000,
		 true},
		{"HOLDFAST_HALF_CLOSE_TIMEOUT", &config.half_close_timeout, "50ms", "49ms", "168h", "169h", 50,
		 604800000, 60000, true},
		{"HOLDFAST_HELLO_WAIT", &config.hello_wait, "10ms", "9ms", "1m", "61s", 10, 60000, 1000, false},
		{"HOLDFAST_RECONNECT_WINDOW", &config.reconnect_window, "100ms", "99ms", "168h", "169h", 100, 604800000,
		 60000, false},
		{"HOLDFAST_RESUME_BUFFER", &config.resume_buffer, "4K", "4095", "1024M", "1025M", 4096, 1u << 30,
		 1 << 20, false},
		{"HOLDFAST_LINGER", &config.linger, "0", "-1", "10m", "601s", 0, 600000, 2000, false},
		{"HOLDFAST_REDIAL_PROLOGUE", &config.redial_prologue, "0", "-1", "1M", "1025K", 0, 1 << 20, 0, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		const char *wrong[] = {table[i].below, table[i].above, "soon", "99999999999999999999", "1x"};

		assert_int_equal(read_one(table[i].name, table[i].least), 0);
		assert_int_equal(*table[i].field, table[i].low);
		assert_int_equal(read_one(table[i].name, table[i].most), 0);
		assert_int_equal(*table[i].field, table[i].high);
		for (size_t w = 0; w < sizeof wrong / sizeof wrong[0]; w++) {
			if (read_one(table[i].name, wrong[w]) != 1)
				fail_msg("%s=%s: %zu complaints", table[i].name, wrong[w], nlines);
			assert_defaults();
		}
		assert_int_equal(read_one(table[i].name, "off"), !table[i].off);
		assert_int_equal(*table[i].field, table[i].off ? 0 : table[i].preset);
		if (table[i].off) {
			assert_int_equal(read_one(table[i].name, "0"), 0);
			assert_int_equal(*table[i].field, 0);
		}
	}
}

static void complaint_lines(void **state)
{
	char text[400];

	(void)state;
	read_one("HOLDFAST_INTERVAL", "5 parsecs");
	assert_line("HOLDFAST_INTERVAL: \"5 parsecs\": expected a time such as 500ms, 5s or 2m, from 50ms to 24h");
	read_one("HOLDFAST_REPLY_TIMEOUT", "never");
	assert_line("HOLDFAST_REPLY_TIMEOUT: \"never\": expected off or a time such as 500ms, 5s or 2m, "
		    "from 50ms to 168h");
	read_one("HOLDFAST_LINGER", "1d");
	assert_line("HOLDFAST_LINGER: \"1d\": expected a time such as 500ms, 5s or 2m, from 0s to 10m");
	read_one("HOLDFAST_RESUME_BUFFER", "lots");
	assert_line("HOLDFAST_RESUME_BUFFER: \"lots\": expected a size such as 65536, 64K or 1M, from 4K to 1024M");
	/* Nothing a terminal acts on gets through, and no length breaks the line. */
	read_one("HOLDFAST_MODE", "a\n\033[2J\x9b\x7f");
	assert_line("HOLDFAST_MODE: \"a??[2J??\": expected probe, wrap or off");
	memset(text, 'x', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	read_one("HOLDFAST_MODE", text);
	assert_int_equal(nlines, 1);
	assert_non_null(strstr(lines[0], "xxx...\": expected probe, wrap or off"));
	/* Each wrong value is told; the right ones among them count. */
	put("HOLDFAST_MODE", "x");
	put("HOLDFAST_INTERVAL", "1s");
	put("HOLDFAST_LEVEL", "loud");
	assert_int_equal(read_all(), 2);
	assert_int_equal(config.interval, 1000);
	assert_int_equal(config.timeout, 3000);
	assert_int_equal(config.mode, HF_MODE_PROBE);
	/* No one need listen. */
	put("HOLDFAST_MODE", "x");
	assert_int_equal(hf_config_read(&config, lookup, NULL, lines), 1);
	nvariables = 0;
}

static void timeout_follows_interval(void **state)
{
	(void)state;
	assert_int_equal(read_one("HOLDFAST_INTERVAL", "50ms"), 0);
	assert_int_equal(config.timeout, 150);
	assert_int_equal(read_one("HOLDFAST_INTERVAL", "24h"), 0);
	assert_int_equal(config.timeout, 72u * 3600000);

	put("HOLDFAST_INTERVAL", "2s");
	put("HOLDFAST_TIMEOUT", "2s");
	assert_int_equal(read_all(), 0);
	assert_int_equal(config.timeout, 2000);

	put("HOLDFAST_INTERVAL", "2s");
	put("HOLDFAST_TIMEOUT", "1999ms");
	assert_int_equal(read_all(), 1);
	assert_line("HOLDFAST_TIMEOUT: \"1999ms\": expected at least HOLDFAST_INTERVAL, which is 2s; "
		    "make the timeout longer or the interval shorter");
	assert_int_equal(config.interval, 2000);
	assert_int_equal(config.timeout, 6000);

	/* Against the default interval as well. */
	assert_int_equal(read_one("HOLDFAST_TIMEOUT", "3s"), 1);
	assert_defaults();
	assert_int_equal(read_one("HOLDFAST_TIMEOUT", "0"), 1);
	assert_defaults();
}

static void hello_wait(void **state)
{
	(void)state;
	assert_int_equal(read_one("HOLDFAST_HELLO_WAIT", "100ms"), 0);
	assert_int_equal(config.hello_wait_accept, 100);
	assert_int_equal(read_one("HOLDFAST_HELLO_WAIT", "10s"), 0);
	assert_int_equal(config.hello_wait, 10000);
	assert_int_equal(config.hello_wait_accept, 250);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),
		cmocka_unit_test(known_names),
		cmocka_unit_test(misspelt_names),
		cmocka_unit_test(times),
		cmocka_unit_test(sizes),
		cmocka_unit_test(words),
		cmocka_unit_test(ranges),
		cmocka_unit_test(complaint_lines),
		cmocka_unit_test(timeout_follows_interval),
		cmocka_unit_test(hello_wait),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
