/* Settings: the table of variables, their defaults and ranges. */
#include "config_internal.h"

#include <bsd/string.h>
#include <stddef.h>
#include <string.h>

enum {
	MS = 1,
	SECOND = 1000,
	MINUTE = 60 * SECOND,
	HOUR = 60 * MINUTE,
	LONGEST = 168 * HOUR, /* a week: three times the longest interval and more */
	K = 1024,
	M = 1024 * K,
	HELLO_WAIT_ACCEPT = 250 * MS,
};

enum kind {
	WORD,
	TIME,
	TIME_OR_OFF, /* "off" and 0 are 0 */
	SIZE,
	OTHER, /* parse() */
};

struct setting {
	const char *name;
	size_t offset; /* of a uint32_t (times, sizes) or an enum (words) in struct hf_config */
	enum kind kind;
	uint32_t preset, least, most;
	const struct hf_word *words;
	hf_setting_parser *parse;
};

const struct hf_word hf_mode_words[] = {{"probe", HF_MODE_PROBE}, {"wrap", HF_MODE_WRAP}, {"off", HF_MODE_OFF}, {0}};
static const struct hf_word dead_words[] = {
	{"abort", HF_ABORT}, {"report", HF_REPORT}, {"reconnect", HF_RECONNECT}, {0}};
static const struct hf_word action_words[] = {{"abort", HF_ABORT}, {"report", HF_REPORT}, {0}};
static const struct hf_word fallback_words[] = {{"plain", HF_FALLBACK_PLAIN}, {"fail", HF_FALLBACK_FAIL}, {0}};
static const struct hf_word format_words[] = {{"text", HF_TEXT}, {"json", HF_JSON}, {0}};
static const struct hf_word level_words[] = {
	{"error", HF_ERROR}, {"warn", HF_WARN}, {"info", HF_INFO}, {"debug", HF_DEBUG}, {0}};
static const struct hf_word redial_words[] = {{"off", HF_REDIAL_OFF}, {"idle", HF_REDIAL_IDLE}, {0}};

#define AT(field) offsetof(struct hf_config, field)
#define WORD_SETTING(name, field, preset, words)                          \
	{                                                                 \
		"HOLDFAST_" name, AT(field), WORD, preset, 0, 0, words, 0 \
	}
#define TIME_SETTING(name, field, kind, preset, least, most)                 \
	{                                                                    \
		"HOLDFAST_" name, AT(field), kind, preset, least, most, 0, 0 \
	}
#define SIZE_SETTING(name, field, preset, least, most)                       \
	{                                                                    \
		"HOLDFAST_" name, AT(field), SIZE, preset, least, most, 0, 0 \
	}
#define OTHER_SETTING(name, parse)                            \
	{                                                     \
		"HOLDFAST_" name, 0, OTHER, 0, 0, 0, 0, parse \
	}

/* Every variable there is.  README, "Settings", and the options of "holdfast run" (tools/run.c) follow it. */
static const struct setting settings[] = {
	WORD_SETTING("MODE", mode, HF_MODE_PROBE, hf_mode_words),
	OTHER_SETTING("RULES", hf_parse_rules),
	OTHER_SETTING("PROGRAMS", hf_parse_programs),
	TIME_SETTING("INTERVAL", interval, TIME, 5 * SECOND, 50 * MS, 24 * HOUR),
	/* Preset 0: not given, three times the interval; see settle(). */
	TIME_SETTING("TIMEOUT", timeout, TIME, 0, 50 * MS, LONGEST),
	WORD_SETTING("ON_DEAD", on_dead, HF_ABORT, dead_words),
	TIME_SETTING("REPLY_TIMEOUT", reply_timeout, TIME_OR_OFF, 0, 50 * MS, LONGEST),
	WORD_SETTING("ON_UNANSWERED", on_unanswered, HF_ABORT, action_words),
	TIME_SETTING("CONNECT_TIMEOUT", connect_timeout, TIME_OR_OFF, 0, 50 * MS, LONGEST),
	TIME_SETTING("STALL_TIMEOUT", stall_timeout, TIME_OR_OFF, 60 * SECOND, 50 * MS, LONGEST),
	WORD_SETTING("ON_STALL", on_stall, HF_REPORT, action_words),
	TIME_SETTING("HALF_CLOSE_TIMEOUT", half_close_timeout, TIME_OR_OFF, 60 * SECOND, 50 * MS, LONGEST),
	WORD_SETTING("ON_HALF_CLOSE", on_half_close, HF_REPORT, action_words),
	TIME_SETTING("HELLO_WAIT", hello_wait, TIME, 1 * SECOND, 10 * MS, 1 * MINUTE),
	WORD_SETTING("FALLBACK", fallback, HF_FALLBACK_PLAIN, fallback_words),
	TIME_SETTING("RECONNECT_WINDOW", reconnect_window, TIME, 60 * SECOND, 100 * MS, LONGEST),
	SIZE_SETTING("RESUME_BUFFER", resume_buffer, 1 * M, 4 * K, 1024 * M),
	TIME_SETTING("LINGER", linger, TIME, 2 * SECOND, 0, 10 * MINUTE),
	OTHER_SETTING("REPORT", hf_parse_sinks),
	WORD_SETTING("FORMAT", format, HF_TEXT, format_words),
	WORD_SETTING("LEVEL", level, HF_WARN, level_words),
	OTHER_SETTING("KEY_FILE", hf_parse_key_file),
	OTHER_SETTING("INFO", hf_parse_info),
	WORD_SETTING("REDIAL", redial, HF_REDIAL_OFF, redial_words),
	SIZE_SETTING("REDIAL_PROLOGUE", redial_prologue, 0, 0, 1 * M),
};

enum { SETTINGS = sizeof settings / sizeof settings[0] };

/* Words are stored through their offset as unsigned: every enum of struct hf_config must be as wide. */
_Static_assert(sizeof(enum hf_mode) == sizeof(uint32_t) && sizeof(enum hf_action) == sizeof(uint32_t) &&
		       sizeof(enum hf_fallback) == sizeof(uint32_t) && sizeof(enum hf_format) == sizeof(uint32_t) &&
		       sizeof(enum hf_level) == sizeof(uint32_t) && sizeof(enum hf_redial) == sizeof(uint32_t),
	       "an enum of struct hf_config is not 32 bits wide");

static void store(struct hf_config *config, const struct setting *setting, uint32_t value)
{
	memcpy((char *)config + setting->offset, &value, sizeof value);
}

static void preset(struct hf_config *config, const struct setting *setting)
{
	if (setting->kind == OTHER)
		setting->parse(config, NULL, NULL);
	else
		store(config, setting, setting->preset);
}

/* What follows from other settings, once these are final. */
static void settle(struct hf_config *config)
{
	if (config->timeout == 0) {
		uint64_t timeout = 3 * (uint64_t)config->interval;
		config->timeout = timeout > LONGEST ? LONGEST : (uint32_t)timeout;
	}
	config->hello_wait_accept = config->hello_wait < HELLO_WAIT_ACCEPT ? config->hello_wait : HELLO_WAIT_ACCEPT;
}

void hf_config_defaults(struct hf_config *config)
{
	/* Not cleared as a whole: it is mostly paths, nine pages that most programs never need to touch. */
	for (size_t i = 0; i < SETTINGS; i++)
		preset(config, &settings[i]);
	settle(config);
}

/* "expected a time such as 500ms, 5s or 2m, from 50ms to 24h" */
static bool expect(struct hf_problem *problem, const struct setting *setting, const char *value)
{
	char *text = problem->expected;
	size_t size = sizeof problem->expected;

	problem->value = hf_slice(value);
	text[0] = '\0';
	if (setting->kind == WORD) {
		hf_add_words(text, size, setting->words);
	} else if (setting->kind == SIZE) {
		strlcat(text, "a size such as 65536, 64K or 1M, from ", size);
		hf_add_size(text, size, setting->least);
		strlcat(text, " to ", size);
		hf_add_size(text, size, setting->most);
	} else {
		strlcat(text, setting->kind == TIME_OR_OFF ? "off or a time" : "a time", size);
		strlcat(text, " such as 500ms, 5s or 2m, from ", size);
		hf_add_time(text, size, setting->least);
		strlcat(text, " to ", size);
		hf_add_time(text, size, setting->most);
	}
	return false;
}

static bool parse(struct hf_config *config, const struct setting *setting, const char *value,
		  struct hf_problem *problem)
{
	uint32_t number = 0;
	bool ok = false;

	switch (setting->kind) {
	case OTHER:
		return setting->parse(config, value, problem);
	case WORD:
		ok = hf_parse_word(setting->words, hf_slice(value), &number);
		break;
	case TIME_OR_OFF:
		ok = strcmp(value, "off") == 0 || (hf_parse_time(value, &number) && number == 0);
		if (ok)
			break;
		/* fall through */
	case TIME:
		ok = hf_parse_time(value, &number) && number >= setting->least && number <= setting->most;
		break;
	case SIZE:
		ok = hf_parse_size(value, &number) && number >= setting->least && number <= setting->most;
		break;
	}
	if (!ok)
		return expect(problem, setting, value);
	store(config, setting, number);
	return true;
}

/* Append VALUE to LINE as plain ASCII, cut to a length that leaves room for the rest. */
static void add_quoted(char *line, size_t size, struct hf_slice value)
{
	enum { SHOWN = 96 };
	char quoted[SHOWN + sizeof "\"...\""];
	size_t n = 0;

	quoted[n++] = '"';
	for (size_t i = 0; i < value.length && i < SHOWN; i++) {
		char c = value.at[i];

		if (c < ' ' || c > '~')
			c = '?';
		quoted[n++] = c;
	}
	quoted[n] = '\0';
	strlcat(line, quoted, size);
	strlcat(line, value.length > SHOWN ? "...\"" : "\"", size);
}

static void complain_about(const char *name, const struct hf_problem *problem, hf_config_complain *complain, void *arg)
{
	char line[sizeof problem->expected + 192];

	strlcpy(line, name, sizeof line);
	strlcat(line, ": ", sizeof line);
	add_quoted(line, sizeof line, problem->value);
	strlcat(line, ": expected ", sizeof line);
	strlcat(line, problem->expected, sizeof line);
	if (complain)
		complain(line, arg);
}

void hf_config_wrong(const char *name, const char *value, const char *expected, hf_config_complain *complain, void *arg)
{
	struct hf_problem problem;

	problem.value = hf_slice(value);
	strlcpy(problem.expected, expected, sizeof problem.expected);
	complain_about(name, &problem, complain, arg);
}

/* A timeout below the interval: nothing would have been asked of the peer by then. */
static bool timeout_too_short(const struct hf_config *config, const char *value, struct hf_problem *problem)
{
	char *text = problem->expected;
	size_t size = sizeof problem->expected;

	if (config->timeout == 0 || config->timeout >= config->interval)
		return false;
	problem->value = hf_slice(value);
	strlcpy(text, "at least HOLDFAST_INTERVAL, which is ", size);
	hf_add_time(text, size, config->interval);
	strlcat(text, "; make the timeout longer or the interval shorter", size);
	return true;
}

int hf_config_read(struct hf_config *config, hf_config_lookup *lookup, hf_config_complain *complain, void *arg)
{
	struct hf_problem problem;
	int complaints = 0;

	for (size_t i = 0; i < SETTINGS; i++) {
		const struct setting *setting = &settings[i];
		const char *value = lookup(setting->name, arg);

		preset(config, setting);
		/* An empty variable is how shells and unit files say "not set". */
		if (!value || !*value || parse(config, setting, value, &problem))
			continue;
		/* Of a list: a comma too many.  The empty entry itself would show nothing. */
		if (problem.value.length == 0) {
			problem.value = hf_slice(value);
			strlcpy(problem.expected, "entries separated by commas, none of them empty",
				sizeof problem.expected);
		}
		complain_about(setting->name, &problem, complain, arg);
		complaints++;
		preset(config, setting);
	}
	if (timeout_too_short(config, lookup("HOLDFAST_TIMEOUT", arg), &problem)) {
		complain_about("HOLDFAST_TIMEOUT", &problem, complain, arg);
		complaints++;
		config->timeout = 0;
	}
	settle(config);
	return complaints;
}

const char *hf_config_name(size_t index)
{
	return index < SETTINGS ? settings[index].name : NULL;
}

bool hf_config_known(const char *name)
{
	for (size_t i = 0; i < SETTINGS; i++) {
		if (strcmp(settings[i].name, name) == 0)
			return true;
	}
	return false;
}
