/*
 * Any environment into hf_config_read(): what is refused is told in one line that names the setting, shows the value
 * and says what was expected, and leaves that setting as if it had not been given, and no other; what is accepted lies
 * in its range and means what it says.  The input is entries that end with a NUL: a byte that chooses the setting, then
 * its value.
 */
#include "config_internal.h"

#include <arpa/inet.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST_SETTINGS = 32, SHOWN = 96, HOUR = 3600000, WEEK = 168 * HOUR };

struct environment {
	const char *values[MOST_SETTINGS]; /* by number, NULL: not set */
	bool refused[MOST_SETTINGS];
	int complaints;
};

static void check(bool good)
{
	if (!good)
		abort();
}

static size_t number_of(const char *name)
{
	size_t i = 0;

	while (hf_config_name(i) && strcmp(hf_config_name(i), name) != 0)
		i++;
	check(hf_config_name(i) && i < MOST_SETTINGS);
	return i;
}

static const char *lookup(const char *name, void *arg)
{
	const struct environment *env = arg;

	check(hf_config_known(name));
	return env->values[number_of(name)];
}

/* Whether the LENGTH bytes at SHOWS, what stands between the quotes, are a part of VALUE, cut if CUT. */
static bool shows(const char *shown, size_t length, bool cut, const char *value)
{
	size_t have = strlen(value);

	if (length > SHOWN || (cut && length != SHOWN))
		return false;
	for (size_t at = 0; at + length <= have; at++) {
		size_t i = 0;

		while (i < length &&
		       (shown[i] == value[at + i] || (shown[i] == '?' && (value[at + i] < ' ' || value[at + i] > '~'))))
			i++;
		if (i == length)
			return true;
	}
	return false;
}

static void complain(const char *line, void *arg)
{
	static const char before[] = ": \"", after[] = "\": expected ";
	struct environment *env = arg;
	char name[64];
	size_t length = strcspn(line, ":"), setting;
	const char *value = line + length + sizeof before - 1, *end = NULL;
	bool cut;

	env->complaints++;
	for (const char *p = line; *p; p++)
		check(*p >= ' ' && *p <= '~');
	check(strlen(line) < 400 && length < sizeof name);
	memcpy(name, line, length);
	name[length] = '\0';
	setting = number_of(name);
	/* Told once, and only of what was set. */
	check(!env->refused[setting] && env->values[setting] && *env->values[setting]);
	env->refused[setting] = true;
	check(strncmp(line + length, before, sizeof before - 1) == 0);
	/* The value may hold the same words: what is expected stands last. */
	for (const char *p = value; (p = strstr(p, after)); p++)
		end = p;
	check(end && strlen(end) > sizeof after - 1 + 3);
	cut = end - value >= 3 && (size_t)(end - value) > SHOWN;
	check(shows(value, (size_t)(end - value) - (cut ? 3 : 0), cut, env->values[setting]));
}

/* The settings as values that can be compared: the texts and lists have no meaning behind their end. */
static bool same(const struct hf_config *a, const struct hf_config *b)
{
	bool same = a->mode == b->mode && a->nrules == b->nrules && a->nprograms == b->nprograms &&
		    a->interval == b->interval && a->timeout == b->timeout && a->on_dead == b->on_dead &&
		    a->reply_timeout == b->reply_timeout && a->on_unanswered == b->on_unanswered &&
		    a->connect_timeout == b->connect_timeout && a->stall_timeout == b->stall_timeout &&
		    a->on_stall == b->on_stall && a->half_close_timeout == b->half_close_timeout &&
		    a->on_half_close == b->on_half_close && a->hello_wait == b->hello_wait &&
		    a->hello_wait_accept == b->hello_wait_accept && a->fallback == b->fallback &&
		    a->reconnect_window == b->reconnect_window && a->resume_buffer == b->resume_buffer &&
		    a->linger == b->linger && a->nsinks == b->nsinks && a->format == b->format &&
		    a->level == b->level && strcmp(a->key_file, b->key_file) == 0 && strcmp(a->info, b->info) == 0 &&
		    a->redial == b->redial && a->redial_prologue == b->redial_prologue;

	for (size_t i = 0; same && i < a->nrules; i++)
		same = memcmp(&a->rules[i], &b->rules[i], sizeof a->rules[i]) == 0;
	for (size_t i = 0; same && i < a->nprograms; i++)
		same = a->programs[i].exclude == b->programs[i].exclude &&
		       strcmp(a->programs_text + a->programs[i].offset, b->programs_text + b->programs[i].offset) == 0;
	for (size_t i = 0; same && i < a->nsinks; i++)
		same = a->sinks[i].kind == b->sinks[i].kind && a->sinks[i].fd == b->sinks[i].fd &&
		       strcmp(a->sinks[i].path, b->sinks[i].path) == 0;
	return same;
}

static bool within(uint32_t value, uint32_t least, uint32_t most)
{
	return value >= least && value <= most;
}

static void check_numbers(const struct hf_config *config)
{
	check(within(config->interval, 50, 24 * HOUR) && within(config->timeout, 50, WEEK));
	check(config->timeout >= config->interval);
	check(config->reply_timeout == 0 || within(config->reply_timeout, 50, WEEK));
	check(config->connect_timeout == 0 || within(config->connect_timeout, 50, WEEK));
	check(config->stall_timeout == 0 || within(config->stall_timeout, 50, WEEK));
	check(config->half_close_timeout == 0 || within(config->half_close_timeout, 50, WEEK));
	check(within(config->hello_wait, 10, 60000) && config->hello_wait_accept <= 250);
	check(config->hello_wait_accept <= config->hello_wait && config->hello_wait_accept >= 10);
	check(within(config->reconnect_window, 100, WEEK) && config->linger <= 600000);
	check(within(config->resume_buffer, 4096, 1U << 30) && config->redial_prologue <= 1U << 20);
}

static void check_words(const struct hf_config *config)
{
	check(config->mode <= HF_MODE_WRAP && config->on_dead <= HF_RECONNECT && config->on_unanswered <= HF_ABORT);
	check(config->on_stall <= HF_ABORT && config->on_half_close <= HF_ABORT && config->format <= HF_JSON);
	check(config->fallback <= HF_FALLBACK_FAIL && config->level <= HF_DEBUG && config->redial <= HF_REDIAL_IDLE);
}

static void check_texts(const struct hf_config *config)
{
	check(config->nsinks <= HF_MAX_SINKS && config->nprograms <= HF_MAX_PROGRAMS);
	for (size_t i = 0; i < config->nsinks; i++) {
		const struct hf_sink_setting *sink = &config->sinks[i];
		size_t length = strnlen(sink->path, sizeof sink->path);
		bool path = sink->kind == HF_SINK_FILE || sink->kind == HF_SINK_UNIX;

		check(sink->kind <= HF_SINK_FD && (sink->kind == HF_SINK_FD) == (sink->fd >= 0));
		check(length < sizeof sink->path && (length > 0) == path);
		check(sink->kind != HF_SINK_UNIX || length < sizeof(((struct sockaddr_un *)0)->sun_path));
	}
	for (size_t i = 0; i < config->nprograms; i++) {
		size_t at = config->programs[i].offset;

		check(at < HF_PROGRAMS_TEXT);
		check(config->programs_text[at] &&
		      strnlen(config->programs_text + at, HF_PROGRAMS_TEXT - at) < HF_PROGRAMS_TEXT - at);
		check(!strchr(config->programs_text + at, '/'));
	}
	check(strnlen(config->key_file, sizeof config->key_file) < sizeof config->key_file);
	check(strnlen(config->info, sizeof config->info) <= HF_MAX_INFO);
	for (const char *p = config->info; *p; p++)
		check((unsigned char)*p >= ' ' && *p != 0x7f);
}

static bool bit(const uint8_t *bytes, unsigned i)
{
	return bytes[i / 8] >> (7 - i % 8) & 1;
}

/* Matching once more, slowly. */
static enum hf_mode mode_of(const struct hf_config *config, const uint8_t addr[16], bool v6, uint16_t port)
{
	for (size_t i = 0; i < config->nrules; i++) {
		const struct hf_rule *rule = &config->rules[i];
		bool matches = port >= rule->port_low && port <= rule->port_high;

		if (rule->family != AF_UNSPEC)
			matches &= rule->family == (v6 ? AF_INET6 : AF_INET);
		for (unsigned b = 0; matches && b < rule->prefix; b++)
			matches = bit(rule->addr, b) == bit(addr, b);
		if (matches)
			return rule->mode;
	}
	return config->mode;
}

static void ask(const struct hf_config *config, const uint8_t addr[16], bool v6, uint16_t port)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	enum hf_mode mode = mode_of(config, addr, v6, port);

	memcpy(&in.sin_addr, addr, 4);
	memcpy(&in6.sin6_addr, addr, 16);
	if (v6) {
		check(hf_config_mode_for(config, (struct sockaddr *)&in6) == mode ||
		      IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr));
		return;
	}
	check(hf_config_mode_for(config, (struct sockaddr *)&in) == mode);
	/* The same in its other form. */
	memset(&in6.sin6_addr, 0, 16);
	memset(in6.sin6_addr.s6_addr + 10, 0xff, 2);
	memcpy(in6.sin6_addr.s6_addr + 12, addr, 4);
	check(hf_config_mode_for(config, (struct sockaddr *)&in6) == mode);
}

static void check_rules(const struct hf_config *config)
{
	check(config->nrules <= HF_MAX_RULES);
	for (size_t i = 0; i < config->nrules; i++) {
		const struct hf_rule *rule = &config->rules[i];
		unsigned bits = rule->family == AF_INET6 ? 128 : rule->family == AF_INET ? 32 : 0;
		bool v6 = rule->family == AF_INET6;
		uint8_t addr[16];

		check(rule->mode <= HF_MODE_WRAP && rule->prefix <= bits && rule->port_low <= rule->port_high);
		check(bits != 0 || rule->family == AF_UNSPEC);
		for (unsigned b = rule->prefix; b < 128; b++)
			check(!bit(rule->addr, b)); /* it reads as it acts */
		memcpy(addr, rule->addr, sizeof addr);
		ask(config, addr, v6, rule->port_low);
		ask(config, addr, v6, rule->port_high);
		ask(config, addr, v6, (uint16_t)(rule->port_high + 1));
		if (rule->prefix > 0) {
			addr[(rule->prefix - 1) / 8] ^= (uint8_t)(0x80 >> (rule->prefix - 1) % 8);
			ask(config, addr, v6, rule->port_low);
			addr[(rule->prefix - 1) / 8] ^= (uint8_t)(0x80 >> (rule->prefix - 1) % 8);
		}
		if (rule->prefix < bits) {
			addr[bits / 8 - 1] ^= 1;
			ask(config, addr, v6, rule->port_low);
		}
	}
}

/* Without sets, which fnmatch(3) reads by the rules of a locale, both mean the same. */
static void check_glob(const struct hf_config *config, const char *name)
{
	bool any = false, included = false, excluded = false, sets = false;

	for (size_t i = 0; i < config->nprograms; i++) {
		const char *glob = config->programs_text + config->programs[i].offset;
		bool matches = fnmatch(glob, name, FNM_NOESCAPE) == 0;

		sets |= strchr(glob, '[') != NULL;
		excluded |= config->programs[i].exclude && matches;
		included |= !config->programs[i].exclude && matches;
		any |= !config->programs[i].exclude;
	}
	check(hf_config_acts_in(config, name) == (!excluded && (included || !any)) || sets);
}

/* A time that is accepted is what it says, to the millisecond above. */
static void check_time(const struct environment *env, const char *name, uint32_t value)
{
	const char *text = env->values[number_of(name)];
	uint32_t ms = 0;

	if (text && *text && !env->refused[number_of(name)])
		check(strcmp(text, "off") == 0 ? value == 0 : hf_parse_time(text, &ms) && value == ms);
}

static void read_env(struct hf_config *config, struct environment *env, int filling)
{
	int told;

	memset(config, filling, sizeof *config);
	memset(env->refused, 0, sizeof env->refused);
	env->complaints = 0;
	told = hf_config_read(config, lookup, complain, env);
	check(told == env->complaints);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct hf_config config, again;
	struct environment env = {{0}, {0}, 0};
	char *text = malloc(size + 1);
	size_t settings = 0;
	const char *last = "";

	check(text != NULL);
	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';
	while (hf_config_name(settings))
		settings++;
	check(settings > 0 && settings <= MOST_SETTINGS);
	for (size_t at = 0; at < size; at += strlen(text + at) + 1) {
		if (text[at])
			env.values[(uint8_t)text[at] % settings] = last = text + at + 1;
	}
	read_env(&config, &env, 0xa5);
	check_numbers(&config);
	check_words(&config);
	check_texts(&config);
	check_rules(&config);
	check_glob(&config, last);
	check_glob(&config, "nginx");
	check_time(&env, "HOLDFAST_INTERVAL", config.interval);
	check_time(&env, "HOLDFAST_TIMEOUT", config.timeout);
	check_time(&env, "HOLDFAST_REPLY_TIMEOUT", config.reply_timeout);
	check_time(&env, "HOLDFAST_LINGER", config.linger);
	/* Without what was refused it is the same, and nothing is told. */
	for (size_t i = 0; i < settings; i++) {
		if (env.refused[i])
			env.values[i] = i % 2 ? NULL : "";
	}
	read_env(&again, &env, 0x5a);
	check(env.complaints == 0 && same(&config, &again));
	free(text);
	return 0;
}
