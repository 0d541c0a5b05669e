/* HOLDFAST_RULES: what is accepted, what each rule matches, which rule wins. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "config_internal.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/un.h>

static struct hf_config config;
static const char *rules, *mode;
static char line[512];

static const char *lookup(const char *name, void *arg)
{
	(void)arg;
	if (strcmp(name, "HOLDFAST_RULES") == 0)
		return rules;
	return strcmp(name, "HOLDFAST_MODE") == 0 ? mode : NULL;
}

static void complain(const char *text, void *arg)
{
	(void)arg;
	assert_true(strlen(text) < sizeof line);
	strcpy(line, text);
}

static int read_rules(const char *value)
{
	rules = value;
	line[0] = '\0';
	memset(&config, 0xa5, sizeof config);
	return hf_config_read(&config, lookup, complain, NULL);
}

static enum hf_mode mode_for(const char *ip, uint16_t port)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};

	if (inet_pton(AF_INET, ip, &in.sin_addr) == 1)
		return hf_config_mode_for(&config, (struct sockaddr *)&in);
	assert_int_equal(inet_pton(AF_INET6, ip, &in6.sin6_addr), 1);
	return hf_config_mode_for(&config, (struct sockaddr *)&in6);
}

/* One rule "wrap=WHAT" over the default probe. */
static void assert_match(const char *what, const char *ip, uint16_t port, bool expected)
{
	char value[128] = "wrap=";

	strcat(value, what);
	if (read_rules(value) != 0)
		fail_msg("%s: %s", what, line);
	if ((mode_for(ip, port) == HF_MODE_WRAP) != expected)
		fail_msg("%s, %s port %u: %s", what, ip, port, expected ? "no match" : "match");
}

static void ipv4(void **state)
{
	(void)state;
	assert_match("10.0.0.1:5432", "10.0.0.1", 5432, true);
	assert_match("10.0.0.1:5432", "10.0.0.2", 5432, false);
	assert_match("10.0.0.1:5432", "10.0.0.1", 5433, false);
	assert_match("10.0.0.0/8:5432", "10.255.1.2", 5432, true);
	assert_match("10.0.0.0/8:5432", "11.0.0.0", 5432, false);
	assert_match("10.0.0.1/32:*", "10.0.0.1", 1, true);
	assert_match("10.0.0.1/32:*", "10.0.0.0", 1, false);
	assert_match("10.0.0.0/31:*", "10.0.0.1", 65535, true);
	assert_match("10.0.0.0/31:*", "10.0.0.2", 65535, false);
	assert_match("192.168.160.0/19:*", "192.168.191.255", 80, true);
	assert_match("192.168.160.0/19:*", "192.168.192.0", 80, false);
	assert_match("192.168.160.0/19:*", "192.168.159.255", 80, false);
	assert_match("0.0.0.0/0:80", "203.0.113.9", 80, true);
	assert_match("0.0.0.0/0:80", "2001:db8::1", 80, false);
	assert_match("128.0.0.0/1:80", "127.255.255.255", 80, false);
	assert_match("128.0.0.0/1:80", "128.0.0.0", 80, true);
}

static void ipv6(void **state)
{
	(void)state;
	assert_match("[::1]:*", "::1", 9, true);
	assert_match("[::1]:*", "::2", 9, false);
	assert_match("[::1]/128:*", "::1", 9, true);
	assert_match("[2001:db8::]/32:5432", "2001:db8:ffff::1", 5432, true);
	assert_match("[2001:db8::/32]:5432", "2001:db8:ffff::1", 5432, true);
	assert_match("[2001:db8::/32]:5432", "2001:db9::1", 5432, false);
	assert_match("[2001:db8::/33]:5432", "2001:db8:8000::1", 5432, false);
	assert_match("[2001:db8::/33]:5432", "2001:db8:7fff::1", 5432, true);
	assert_match("[::]/0:*", "2001:db8::1", 1, true);
	assert_match("[::]/0:*", "192.0.2.1", 1, false);
	assert_match("[2001:db8:1:2:3:4:5:6]/127:1", "2001:db8:1:2:3:4:5:7", 1, true);
}

static void mapped(void **state)
{
	(void)state;
	assert_match("10.0.0.0/8:5432", "::ffff:10.1.2.3", 5432, true);
	assert_match("10.0.0.0/8:5432", "::ffff:11.1.2.3", 5432, false);
	assert_match("10.0.0.0/8:5432", "::10.1.2.3", 5432, false);
	/* Both ways: a rule written for the mapped form is one for IPv4, and IPv6 as a whole is not IPv4. */
	assert_match("[::ffff:10.0.0.0]/104:5432", "10.1.2.3", 5432, true);
	assert_match("[::ffff:10.0.0.0]/104:5432", "::ffff:10.1.2.3", 5432, true);
	assert_match("[::ffff:10.0.0.0]/104:5432", "11.1.2.3", 5432, false);
	assert_match("[::ffff:0:0]/96:*", "198.51.100.7", 5432, true);
	assert_match("[::]/0:*", "::ffff:10.1.2.3", 1, false);
}

static void host_bits_are_masked(void **state)
{
	static const uint8_t net4[16] = {10, 0xe0}, net6[16] = {0x20, 0x01, 0x0d, 0xb8, 0x80};

	(void)state;
	assert_match("10.255.3.4/11:*", "10.224.0.0", 1, true);
	assert_int_equal(config.rules[0].prefix, 11);
	assert_memory_equal(config.rules[0].addr, net4, 16);
	assert_match("10.1.2.3/0:*", "203.0.113.1", 1, true);
	assert_match("[2001:db8:ffff::1]/33:*", "2001:db8:8000::9", 1, true);
	assert_memory_equal(config.rules[0].addr, net6, 16);
}

static void ports(void **state)
{
	(void)state;
	assert_match("*:22", "10.0.0.1", 22, true);
	assert_match("*:22", "::1", 22, true);
	assert_match("*:22", "::1", 23, false);
	assert_match("*:*", "::1", 65535, true);
	assert_match("*:8000-8099", "10.0.0.1", 8000, true);
	assert_match("*:8000-8099", "10.0.0.1", 8099, true);
	assert_match("*:8000-8099", "10.0.0.1", 7999, false);
	assert_match("*:8000-8099", "10.0.0.1", 8100, false);
	assert_match("*:1-65535", "10.0.0.1", 65535, true);
	assert_match("*:7-7", "10.0.0.1", 7, true);
}

static void first_match_wins(void **state)
{
	(void)state;
	mode = "off";
	assert_int_equal(read_rules("wrap=10.0.0.0/8:5432, probe=[::1]:* ,off=*:22,\tprobe=10.0.0.0/8:*,wrap=*:9"), 0);
	mode = NULL;
	assert_int_equal(config.nrules, 5);
	assert_int_equal(mode_for("10.1.1.1", 5432), HF_MODE_WRAP);
	assert_int_equal(mode_for("10.1.1.1", 22), HF_MODE_OFF);
	assert_int_equal(mode_for("10.1.1.1", 9), HF_MODE_PROBE);
	assert_int_equal(mode_for("::1", 22), HF_MODE_PROBE);
	assert_int_equal(mode_for("::2", 9), HF_MODE_WRAP);
	/* No rule: HOLDFAST_MODE. */
	assert_int_equal(mode_for("::2", 10), HF_MODE_OFF);
}

static void other_families(void **state)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};

	(void)state;
	assert_int_equal(read_rules("wrap=*:*"), 0);
	assert_int_equal(hf_config_mode_for(&config, (struct sockaddr *)&un), HF_MODE_PROBE);
	assert_int_equal(hf_config_mode_for(&config, NULL), HF_MODE_PROBE);
}

static void wrong_rules(void **state)
{
	static const char *const bad[] = {",",
					  "wrap=*:1,",
					  ",wrap=*:1",
					  "wrap=*:1,,off=*:2",
					  "wrap",
					  "wrap=",
					  "=*:1",
					  "wrap=*",
					  "wrap=*:",
					  "wrap=:1",
					  "warp=*:1",
					  "Wrap=*:1",
					  "wrap =*:1",
					  "wrap= *:1",
					  "wrap=**:1",
					  "wrap=*/0:1",
					  "wrap=*:0",
					  "wrap=*:65536",
					  "wrap=*:-1",
					  "wrap=*:1-",
					  "wrap=*:-",
					  "wrap=*:2-1",
					  "wrap=*:1-65536",
					  "wrap=*:0-5",
					  "wrap=*:*-5",
					  "wrap=*:http",
					  "wrap=*:1-2-3",
					  "wrap=*:1;",
					  "wrap=10.0.0.1",
					  "wrap=10.0.0:1",
					  "wrap=10/8:1",
					  "wrap=10.0.0.256:1",
					  "wrap=010.0.0.1:1",
					  "wrap=10.0.0.0/33:1",
					  "wrap=10.0.0.0/:1",
					  "wrap=10.0.0.0/-1:1",
					  "wrap=10.0.0.0/8/8:1",
					  "wrap=10.0.0.0/255.0.0.0:1",
					  "wrap=localhost:1",
					  "wrap=::1:22",
					  "wrap=[::1]",
					  "wrap=[::1]/128",
					  "wrap=[::1]:",
					  "wrap=[::1:22",
					  "wrap=::1]:22",
					  "wrap=[]:1",
					  "wrap=[[::1]]:1",
					  "wrap=[::1]/129:1",
					  "wrap=[::1/129]:1",
					  "wrap=[::1/64]/64:1",
					  "wrap=[::1]/:1",
					  "wrap=[::1/]:1",
					  "wrap=[::1]x:1",
					  "wrap=[fe80::1%lo]:1",
					  "wrap=[10.0.0.1]:1",
					  "wrap=[:::1]:1",
					  "wrap=[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000]:1",
					  "wrap=*:99999999999999999999"};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		if (read_rules(bad[i]) != 1)
			fail_msg("\"%s\" was taken", bad[i]);
		assert_int_equal(config.nrules, 0);
		assert_int_equal(strncmp(line, "HOLDFAST_RULES: \"", 17), 0);
		assert_non_null(strstr(line, "\": expected "));
	}
}

/* The complaint shows the rule that is wrong, not the whole list; none of the list counts then. */
static void complaint_lines(void **state)
{
	(void)state;
	assert_int_equal(read_rules("off=*:22,warp=10.0.0.0/8:5432,wrap=*:0"), 1);
	assert_string_equal(line, "HOLDFAST_RULES: \"warp=10.0.0.0/8:5432\": expected probe, wrap or off before the =");
	assert_int_equal(config.nrules, 0);
	assert_int_equal(mode_for("10.0.0.1", 22), HF_MODE_PROBE);
	read_rules("off=*:ssh");
	assert_string_equal(line, "HOLDFAST_RULES: \"off=*:ssh\": expected a port from 1 to 65535, a range such as "
				  "8000-8099, or * at the end");
	read_rules("off=10.0.0.0/40:1");
	assert_string_equal(line, "HOLDFAST_RULES: \"off=10.0.0.0/40:1\": expected a prefix from 0 to 32");
	read_rules("off=example.org:1");
	assert_string_equal(line, "HOLDFAST_RULES: \"off=example.org:1\": expected an IPv4 address, an IPv6 address in "
				  "brackets, or * before the port");
}

static void at_most_64(void **state)
{
	char value[(HF_MAX_RULES + 1) * 8] = "";

	(void)state;
	for (int i = 0; i < HF_MAX_RULES; i++)
		strcat(value, i ? ",off=*:1" : "off=*:1");
	assert_int_equal(read_rules(value), 0);
	assert_int_equal(config.nrules, HF_MAX_RULES);
	strcat(value, ",off=*:");
	strcat(value, "1");
	assert_int_equal(read_rules(value), 1);
	assert_non_null(strstr(line, "expected at most 64 rules"));
	assert_int_equal(config.nrules, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ipv4),
		cmocka_unit_test(ipv6),
		cmocka_unit_test(mapped),
		cmocka_unit_test(host_bits_are_masked),
		cmocka_unit_test(ports),
		cmocka_unit_test(first_match_wins),
		cmocka_unit_test(other_families),
		cmocka_unit_test(wrong_rules),
		cmocka_unit_test(complaint_lines),
		cmocka_unit_test(at_most_64),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
