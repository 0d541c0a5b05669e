/*
 * Settings: HOLDFAST_RULES, which mode for which address.
 *
 * A rule is MODE=ADDRESS[/PREFIX]:PORTS, where ADDRESS is IPv4, IPv6 in brackets or "*", PREFIX may stand inside or
 * behind the brackets, and PORTS is a number, LOW-HIGH or "*".
 */
#include "config_internal.h"

#include <arpa/inet.h>
#include <bsd/string.h>
#include <string.h>
#include <sys/socket.h>

static const char rule_form[] = "MODE=ADDRESS[/PREFIX]:PORT such as wrap=10.0.0.0/8:5432, probe=[::1]:* or off=*:22-23";

enum { MAPPED_BITS = 96 }; /* RFC 4291, 2.5.5.2: ::ffff:0:0/96 */

static const uint8_t mapped_prefix[MAPPED_BITS / 8] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

/* Split SLICE at the last C: what follows goes to TAIL, SLICE keeps what is before it. */
static bool cut(struct hf_slice *slice, char c, struct hf_slice *tail)
{
	const char *at = memrchr(slice->at, c, slice->length);

	if (!at)
		return false;
	*tail = (struct hf_slice){at + 1, slice->length - (size_t)(at + 1 - slice->at)};
	slice->length = (size_t)(at - slice->at);
	return true;
}

static bool parse_port(struct hf_slice text, uint16_t *port)
{
	uint32_t number;

	if (!hf_parse_number(text, &number) || number < 1 || number > UINT16_MAX)
		return false;
	*port = (uint16_t)number;
	return true;
}

static bool parse_ports(struct hf_slice text, struct hf_rule *rule)
{
	struct hf_slice high;

	if (hf_slice_is(text, "*")) {
		rule->port_low = 0;
		rule->port_high = UINT16_MAX;
		return true;
	}
	if (!cut(&text, '-', &high))
		high = text;
	return parse_port(text, &rule->port_low) && parse_port(high, &rule->port_high) &&
	       rule->port_low <= rule->port_high;
}

/* "[ADDR]", "[ADDR]/PREFIX" and "[ADDR/PREFIX]" to ADDR and PREFIX; PREFIX->at is NULL when there is none. */
static bool unbracket(struct hf_slice *text, struct hf_slice *prefix)
{
	struct hf_slice behind;
	bool has_prefix;

	if (!hf_slice_skip(text, "[") || !cut(text, ']', &behind))
		return false;
	has_prefix = cut(text, '/', prefix);
	if (behind.length == 0)
		return true;
	if (has_prefix || !hf_slice_skip(&behind, "/"))
		return false;
	*prefix = behind;
	return true;
}

static bool parse_prefix(struct hf_slice text, uint32_t bits, struct hf_rule *rule)
{
	uint32_t number = bits;

	if (text.at && (!hf_parse_number(text, &number) || number > bits))
		return false;
	rule->prefix = (uint8_t)number;
	return true;
}

static bool parse_ip(int family, struct hf_slice text, uint8_t *addr)
{
	char copy[INET6_ADDRSTRLEN];

	/* A blank or a NUL inside is refused by inet_pton(3) itself. */
	if (text.length >= sizeof copy)
		return false;
	memcpy(copy, text.at, text.length);
	copy[text.length] = '\0';
	return inet_pton(family, copy, addr) == 1;
}

/* Clear the host bits, so that the rule reads as it acts. */
static void mask(uint8_t *addr, unsigned prefix)
{
	for (unsigned i = 0; i < 16; i++, prefix -= prefix < 8 ? prefix : 8) {
		if (prefix < 8)
			addr[i] &= (uint8_t)(0xff00u >> prefix);
	}
}

/* A rule for IPv4-mapped addresses is a rule for IPv4: lookups are done with the IPv4 address. */
static void unmap(struct hf_rule *rule)
{
	if (rule->prefix < MAPPED_BITS || memcmp(rule->addr, mapped_prefix, sizeof mapped_prefix) != 0)
		return;
	rule->family = AF_INET;
	rule->prefix = (uint8_t)(rule->prefix - MAPPED_BITS);
	memmove(rule->addr, rule->addr + sizeof mapped_prefix, 4);
	memset(rule->addr + 4, 0, 12);
}

static bool parse_address(struct hf_slice text, struct hf_slice entry, struct hf_rule *rule, struct hf_problem *problem)
{
	struct hf_slice prefix = {0};
	bool v6 = text.length && text.at[0] == '[';

	if (hf_slice_is(text, "*")) {
		rule->family = AF_UNSPEC;
		return true;
	}
	if (v6 ? !unbracket(&text, &prefix) : (cut(&text, '/', &prefix), false))
		return hf_problem(problem, entry, "an IPv6 address in brackets, such as [2001:db8::]/32 or [::1]");
	rule->family = v6 ? AF_INET6 : AF_INET;
	if (!parse_ip(rule->family, text, rule->addr))
		return hf_problem(problem, entry, "an IPv4 address, an IPv6 address in brackets, or * before the port");
	if (!parse_prefix(prefix, v6 ? 128 : 32, rule))
		return hf_problem(problem, entry, v6 ? "a prefix from 0 to 128" : "a prefix from 0 to 32");
	mask(rule->addr, rule->prefix);
	if (v6)
		unmap(rule);
	return true;
}

static bool parse_rule(struct hf_slice entry, struct hf_rule *rule, struct hf_problem *problem)
{
	struct hf_slice mode = entry, rest, ports;
	const char *equals = memchr(entry.at, '=', entry.length);
	unsigned value;

	memset(rule, 0, sizeof *rule);
	if (!equals)
		return hf_problem(problem, entry, rule_form);
	mode.length = (size_t)(equals - entry.at);
	rest = (struct hf_slice){equals + 1, entry.length - mode.length - 1};
	if (!hf_parse_word(hf_mode_words, mode, &value)) {
		hf_problem(problem, entry, "");
		hf_add_words(problem->expected, sizeof problem->expected, hf_mode_words);
		strlcat(problem->expected, " before the =", sizeof problem->expected);
		return false;
	}
	rule->mode = (enum hf_mode)value;
	/* A colon inside brackets belongs to the address, not to the port. */
	if (rest.length == 0 || rest.at[rest.length - 1] == ']' || !cut(&rest, ':', &ports) ||
	    memchr(ports.at, ']', ports.length))
		return hf_problem(problem, entry, rule_form);
	if (!parse_ports(ports, rule))
		return hf_problem(problem, entry, "a port from 1 to 65535, a range such as 8000-8099, or * at the end");
	return parse_address(rest, entry, rule, problem);
}

bool hf_parse_rules(struct hf_config *config, const char *value, struct hf_problem *problem)
{
	struct hf_slice entry;

	config->nrules = 0;
	while (hf_next_entry(&value, &entry)) {
		if (config->nrules == HF_MAX_RULES)
			return hf_problem(problem, entry, "at most 64 rules");
		if (!parse_rule(entry, &config->rules[config->nrules], problem))
			return false;
		config->nrules++;
	}
	return true;
}

/* --- Matching --- */

/* An address as rules see it. */
struct target {
	uint8_t family;
	const uint8_t *addr;
	uint16_t port; /* host order */
};

static bool find_target(const struct sockaddr *address, struct target *target)
{
	if (address->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)address;

		*target = (struct target){AF_INET, (const uint8_t *)&in->sin_addr, ntohs(in->sin_port)};
		return true;
	}
	if (address->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)address;
		const uint8_t *addr = in6->sin6_addr.s6_addr;
		bool mapped = memcmp(addr, mapped_prefix, sizeof mapped_prefix) == 0;

		target->family = mapped ? AF_INET : AF_INET6;
		target->addr = mapped ? addr + sizeof mapped_prefix : addr;
		target->port = ntohs(in6->sin6_port);
		return true;
	}
	return false;
}

static bool matches(const struct hf_rule *rule, const struct target *target)
{
	unsigned bytes = rule->prefix / 8, bits = rule->prefix % 8;

	if (target->port < rule->port_low || target->port > rule->port_high)
		return false;
	if (rule->family == AF_UNSPEC)
		return true;
	if (rule->family != target->family || memcmp(rule->addr, target->addr, bytes) != 0)
		return false;
	return bits == 0 || ((rule->addr[bytes] ^ target->addr[bytes]) & (0xff00u >> bits) & 0xff) == 0;
}

enum hf_mode hf_config_mode_for(const struct hf_config *config, const struct sockaddr *address)
{
	struct target target;

	if (!address || !find_target(address, &target))
		return config->mode;
	for (size_t i = 0; i < config->nrules; i++) {
		if (matches(&config->rules[i], &target))
			return config->rules[i].mode;
	}
	return config->mode;
}
