/* Settings that are lists, sinks and programs; the key file; and random values for all. */
#include "config_case.h"

#include <stdlib.h>

static void sinks(void **state)
{
	char path[HF_MAX_PATH + 16];

	(void)state;
	assert_int_equal(read_one("HOLDFAST_REPORT", "stderr,syslog, file:/a b.log ,file:rel,unix:/run/x,fd:7"), 0);
	assert_int_equal(config.nsinks, 6);
	assert_int_equal(config.sinks[0].kind, HF_SINK_STDERR);
	assert_int_equal(config.sinks[1].kind, HF_SINK_SYSLOG);
	assert_int_equal(config.sinks[2].kind, HF_SINK_FILE);
	assert_string_equal(config.sinks[2].path, "/a b.log");
	assert_string_equal(config.sinks[3].path, "rel");
	assert_int_equal(config.sinks[4].kind, HF_SINK_UNIX);
	assert_string_equal(config.sinks[4].path, "/run/x");
	assert_int_equal(config.sinks[5].kind, HF_SINK_FD);
	assert_int_equal(config.sinks[5].fd, 7);
	assert_int_equal(read_one("HOLDFAST_REPORT", "none"), 0);
	assert_int_equal(config.nsinks, 0);

	memset(path, 'p', sizeof path);
	memcpy(path, "unix:", 5);
	path[5 + 107] = '\0';
	assert_int_equal(read_one("HOLDFAST_REPORT", path), 0);
	assert_int_equal(strlen(config.sinks[0].path), 107);
	path[5 + 107] = 'p';
	path[5 + 108] = '\0';
	assert_int_equal(read_one("HOLDFAST_REPORT", path), 1);
	assert_defaults();
	path[5 + 108] = 'p';
	memcpy(path, "file:", 5);
	path[5 + HF_MAX_PATH - 1] = '\0';
	assert_int_equal(read_one("HOLDFAST_REPORT", path), 0);
	path[5 + HF_MAX_PATH - 1] = 'p';
	path[5 + HF_MAX_PATH] = '\0';
	assert_int_equal(read_one("HOLDFAST_REPORT", path), 1);
	assert_defaults();
}

static void wrong_sinks(void **state)
{
	static const char *const bad[] = {"stdout",
					  "file",
					  "file:",
					  "unix:",
					  "fd:",
					  "fd:-1",
					  "fd:x",
					  "fd:2147483648",
					  "fd:1 2",
					  "stderr,",
					  ",stderr",
					  "stderr,,syslog",
					  "none,stderr",
					  "stderr,none",
					  "Stderr",
					  "syslog:x",
					  "fd:0,fd:0,fd:0,fd:0,fd:0,fd:0,fd:0,fd:0,fd:0",
					  ","};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		if (read_one("HOLDFAST_REPORT", bad[i]) != 1)
			fail_msg("\"%s\" was taken", bad[i]);
		assert_defaults();
	}
	read_one("HOLDFAST_REPORT", "stderr,stdout");
	assert_line("HOLDFAST_REPORT: \"stdout\": expected stderr, syslog, file:PATH, unix:PATH or fd:N, "
		    "several with commas, or none alone");
	read_one("HOLDFAST_REPORT", "stderr,,syslog");
	assert_line("HOLDFAST_REPORT: \"stderr,,syslog\": expected entries separated by commas, none of them empty");
	assert_int_equal(read_one("HOLDFAST_REPORT", "fd:0,fd:0,fd:0,fd:0,fd:0,fd:0,fd:0,fd:0"), 0);
	assert_int_equal(config.nsinks, HF_MAX_SINKS);
}

static void key_file_and_info(void **state)
{
	char path[HF_MAX_PATH + 1], info[HF_MAX_INFO + 2];

	(void)state;
	assert_int_equal(read_one("HOLDFAST_KEY_FILE", "/etc/holdfast, key"), 0);
	assert_string_equal(config.key_file, "/etc/holdfast, key");
	memset(path, 'k', sizeof path);
	path[HF_MAX_PATH] = '\0';
	assert_int_equal(read_one("HOLDFAST_KEY_FILE", path), 1);
	assert_defaults();
	path[HF_MAX_PATH - 1] = '\0';
	assert_int_equal(read_one("HOLDFAST_KEY_FILE", path), 0);

	assert_int_equal(read_one("HOLDFAST_INFO", "ops, pager 7 \xc3\xa9"), 0);
	assert_string_equal(config.info, "ops, pager 7 \xc3\xa9");
	memset(info, 'i', sizeof info);
	info[HF_MAX_INFO + 1] = '\0';
	assert_int_equal(read_one("HOLDFAST_INFO", info), 1);
	assert_non_null(strstr(lines[0], "expected at most 64 bytes"));
	assert_defaults();
	info[HF_MAX_INFO] = '\0';
	assert_int_equal(read_one("HOLDFAST_INFO", info), 0);
	assert_int_equal(strlen(config.info), HF_MAX_INFO);
	assert_int_equal(read_one("HOLDFAST_INFO", "a\tb"), 1);
	assert_line("HOLDFAST_INFO: \"a?b\": expected text without control characters");
	assert_int_equal(read_one("HOLDFAST_INFO", "a\x7f"), 1);
	assert_defaults();
}

static void assert_acts(const char *globs, const char *name, bool expected)
{
	assert_int_equal(read_one("HOLDFAST_PROGRAMS", globs), 0);
	if (hf_config_acts_in(&config, name) != expected)
		fail_msg("\"%s\" acts in %s: %d", globs, name, !expected);
}

static void programs(void **state)
{
	(void)state;
	assert_acts("", "anything", true);
	assert_acts("nginx", "nginx", true);
	assert_acts("nginx", "nginx2", false);
	assert_acts("nginx", "ngin", false);
	assert_acts("nginx, redis-*", "redis-cli", true);
	assert_acts("nginx,redis-*", "redis-", true);
	assert_acts("nginx,redis-*", "redis", false);
	assert_acts("!ssh", "ssh", false);
	assert_acts("!ssh", "sshd", true);
	assert_acts("!ssh,!sc*", "scp", false);
	/* An exclusion counts wherever it stands. */
	assert_acts("*,!ssh", "ssh", false);
	assert_acts("!ssh,*", "ssh", false);
	assert_acts("!ssh,*", "nc", true);
	assert_acts("redis-*,!redis-cli", "redis-server", true);
	assert_acts("redis-*,!redis-cli", "redis-cli", false);
	assert_acts("redis-*,!redis-cli", "nc", false);
	assert_acts("python3.?", "python3.9", true);
	assert_acts("python3.?", "python3.11", false);
	assert_acts("*a*b*c", "xxaxxbxbxc", true);
	assert_acts("*a*b*c", "xxaxxbxbx", false);
	assert_acts("p[a-cx]d", "pbd", true);
	assert_acts("p[a-cx]d", "pxd", true);
	assert_acts("p[a-cx]d", "pzd", false);
	assert_acts("p[!a-c]d", "pzd", true);
	assert_acts("p[!a-c]d", "pad", false);
	assert_acts("p[]]d", "p]d", true);
	assert_acts("[", "[", true);
	assert_acts("a[b", "a[b", true);
	assert_acts("*****a", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaab", false);
}

static void wrong_programs(void **state)
{
	static const char *const bad[] = {",", "a,", ",a", "a,,b", "!", "a,!", "/usr/bin/nc", "a,b/c"};
	char many[3 * HF_MAX_PROGRAMS + 4] = "", text[HF_PROGRAMS_TEXT + 1];

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		if (read_one("HOLDFAST_PROGRAMS", bad[i]) != 1)
			fail_msg("\"%s\" was taken", bad[i]);
		assert_defaults();
		assert_true(hf_config_acts_in(&config, "zzz"));
	}
	for (size_t i = 0; i < HF_MAX_PROGRAMS; i++)
		strcat(many, i ? ",p" : "p");
	assert_int_equal(read_one("HOLDFAST_PROGRAMS", many), 0);
	assert_int_equal(config.nprograms, HF_MAX_PROGRAMS);
	strcat(many, ",p");
	assert_int_equal(read_one("HOLDFAST_PROGRAMS", many), 1);
	assert_defaults();
	memset(text, 'p', sizeof text);
	text[HF_PROGRAMS_TEXT] = '\0';
	assert_int_equal(read_one("HOLDFAST_PROGRAMS", text), 1);
	text[HF_PROGRAMS_TEXT - 1] = '\0';
	assert_int_equal(read_one("HOLDFAST_PROGRAMS", text), 0);
	assert_true(hf_config_acts_in(&config, text));
}

/* Random values from the letters that mean something: no crash, no overrun (sanitizers), and sane results. */
static void random_values(void **state)
{
	static const char alphabet[] = "probewaf=*:,/[]!-.0159msKM \xff"
				       "df:ile:nux:";
	unsigned seed = 4711;
	const char *name;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		char *value = malloc(40); /* exact bounds for the address sanitizer */
		size_t n = (size_t)rand_r(&seed) % 39;

		assert_non_null(value);
		for (size_t i = 0; i < n; i++)
			value[i] = alphabet[(size_t)rand_r(&seed) % (sizeof alphabet - 1)];
		value[n] = '\0';
		name = hf_config_name((size_t)rand_r(&seed) % 25);
		if (read_one(name, value) != 0)
			assert_defaults();
		assert_true(config.interval >= 50 && config.timeout >= config.interval);
		assert_true(config.nsinks <= HF_MAX_SINKS && config.nprograms <= HF_MAX_PROGRAMS);
		hf_config_acts_in(&config, "redis");
		free(value);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sinks),    cmocka_unit_test(wrong_sinks),    cmocka_unit_test(key_file_and_info),
		cmocka_unit_test(programs), cmocka_unit_test(wrong_programs), cmocka_unit_test(random_values),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
