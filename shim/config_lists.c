/* Settings: program names, report sinks, and the two plain texts (HOLDFAST_KEY_FILE, HOLDFAST_INFO). */
#include "config_internal.h"

#include <limits.h>
#include <string.h>
#include <sys/un.h>

/* Copy SLICE with a NUL into TO, SIZE bytes; false when it does not fit. */
static bool copy(char *to, size_t size, struct hf_slice slice)
{
	if (slice.length >= size)
		return false;
	memcpy(to, slice.at, slice.length);
	to[slice.length] = '\0';
	return true;
}

/* --- HOLDFAST_PROGRAMS --- */

static bool add_program(struct hf_config *config, struct hf_slice entry, size_t *used, struct hf_problem *problem)
{
	struct hf_slice glob = entry;
	bool exclude = hf_slice_skip(&glob, "!");

	if (glob.length == 0 || memchr(glob.at, '/', glob.length))
		return hf_problem(
			problem, entry,
			"program names without a directory, separated by commas, such as nginx,redis-*,!sshd");
	if (config->nprograms == HF_MAX_PROGRAMS)
		return hf_problem(problem, entry, "at most 32 program names");
	if (!copy(config->programs_text + *used, sizeof config->programs_text - *used, glob))
		return hf_problem(problem, entry, "program names of at most 1023 bytes in all");
	config->programs[config->nprograms].offset = (uint16_t)*used;
	config->programs[config->nprograms].exclude = exclude;
	config->nprograms++;
	*used += glob.length + 1;
	return true;
}

bool hf_parse_programs(struct hf_config *config, const char *value, struct hf_problem *problem)
{
	struct hf_slice entry;
	size_t used = 0;

	config->nprograms = 0;
	while (hf_next_entry(&value, &entry)) {
		if (!add_program(config, entry, &used, problem))
			return false;
	}
	return true;
}

/*
 * Whether C is in the set that follows '[' at P: "a-z", "!a-z".  Returns the end of the set, past ']', or NULL when
 * there is no ']' and '[' stands for itself.
 */
static const char *match_set(const char *p, char c, bool *matches)
{
	bool negate = *p == '!' || *p == '^', found = false;
	const char *first;

	if (negate)
		p++;
	for (first = p; *p && (*p != ']' || p == first); p++) {
		char low = *p, high = *p;

		if (p[1] == '-' && p[2] && p[2] != ']') {
			high = p[2];
			p += 2;
		}
		found |= c >= low && c <= high;
	}
	*matches = found != negate;
	return *p ? p + 1 : NULL;
}

/* One name character against one element of the glob; the rest of the glob, or NULL when it does not match. */
static const char *match_one(const char *glob, char c)
{
	const char *end;
	bool matches;

	if (*glob == '[' && (end = match_set(glob + 1, c, &matches)))
		return matches ? end : NULL;
	return *glob == '?' || *glob == c ? glob + 1 : NULL;
}

/* fnmatch(3) for bytes: that one converts through the program's locale and may allocate. */
static bool glob_matches(const char *glob, const char *name)
{
	const char *star = NULL, *retry = NULL, *next;

	while (*name) {
		if (*glob == '*') {
			star = ++glob;
			retry = name;
		} else if (*glob && (next = match_one(glob, *name))) {
			glob = next;
			name++;
		} else if (star) {
			glob = star;
			name = ++retry;
		} else {
			return false;
		}
	}
	while (*glob == '*')
		glob++;
	return !*glob;
}

bool hf_config_acts_in(const struct hf_config *config, const char *name)
{
	bool any = false, included = false;

	for (size_t i = 0; i < config->nprograms; i++) {
		bool matches = glob_matches(config->programs_text + config->programs[i].offset, name);

		if (config->programs[i].exclude && matches)
			return false;
		any |= !config->programs[i].exclude;
		included |= matches;
	}
	return included || !any;
}

/* --- HOLDFAST_REPORT --- */

static bool add_path_sink(struct hf_sink_setting *sink, struct hf_slice path, struct hf_slice entry,
			  struct hf_problem *problem)
{
	/* unix(7): sun_path, with its NUL. */
	size_t size = sink->kind == HF_SINK_UNIX ? sizeof(((struct sockaddr_un *)0)->sun_path) : sizeof sink->path;

	if (path.length == 0)
		return hf_problem(problem, entry, "a path after the colon, such as file:/var/log/holdfast.log");
	if (!copy(sink->path, size, path))
		return hf_problem(problem, entry,
				  sink->kind == HF_SINK_UNIX ? "a socket path of at most 107 bytes"
							     : "a path of at most 4095 bytes");
	return true;
}

static bool add_fd_sink(struct hf_sink_setting *sink, struct hf_slice number, struct hf_slice entry,
			struct hf_problem *problem)
{
	uint32_t fd;

	if (!hf_parse_number(number, &fd) || fd > INT_MAX)
		return hf_problem(problem, entry, "a descriptor number after the colon, such as fd:3");
	sink->fd = (int)fd;
	return true;
}

static bool add_sink(struct hf_config *config, struct hf_slice entry, struct hf_problem *problem)
{
	static const struct hf_word kinds[] = {{"stderr", HF_SINK_STDERR}, {"syslog", HF_SINK_SYSLOG}, {0}};
	struct hf_sink_setting *sink = &config->sinks[config->nsinks];
	struct hf_slice rest = entry;
	unsigned kind;
	bool ok;

	if (config->nsinks == HF_MAX_SINKS)
		return hf_problem(problem, entry, "at most 8 sinks");
	sink->fd = -1;
	sink->path[0] = '\0';
	if (hf_parse_word(kinds, entry, &kind)) {
		sink->kind = (enum hf_sink_kind)kind;
		ok = true;
	} else if (hf_slice_skip(&rest, "file:")) {
		sink->kind = HF_SINK_FILE;
		ok = add_path_sink(sink, rest, entry, problem);
	} else if (hf_slice_skip(&rest, "unix:")) {
		sink->kind = HF_SINK_UNIX;
		ok = add_path_sink(sink, rest, entry, problem);
	} else if (hf_slice_skip(&rest, "fd:")) {
		sink->kind = HF_SINK_FD;
		ok = add_fd_sink(sink, rest, entry, problem);
	} else {
		return hf_problem(problem, entry,
				  "stderr, syslog, file:PATH, unix:PATH or fd:N, several with commas, or none alone");
	}
	config->nsinks += ok;
	return ok;
}

bool hf_parse_sinks(struct hf_config *config, const char *value, struct hf_problem *problem)
{
	struct hf_slice entry;

	config->nsinks = 0;
	if (!value)
		return add_sink(config, hf_slice("stderr"), problem);
	if (strcmp(value, "none") == 0)
		return true;
	/* A comma always separates: a path that contains one cannot be written. */
	while (hf_next_entry(&value, &entry)) {
		if (!add_sink(config, entry, problem))
			return false;
	}
	return true;
}

/* --- HOLDFAST_KEY_FILE, HOLDFAST_INFO --- */

bool hf_parse_key_file(struct hf_config *config, const char *value, struct hf_problem *problem)
{
	if (!value) {
		config->key_file[0] = '\0';
		return true;
	}
	return copy(config->key_file, sizeof config->key_file, hf_slice(value)) ||
	       hf_problem(problem, hf_slice(value), "a path of at most 4095 bytes");
}

bool hf_parse_info(struct hf_config *config, const char *value, struct hf_problem *problem)
{
	if (!value) {
		config->info[0] = '\0';
		return true;
	}
	for (const char *p = value; *p; p++) {
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return hf_problem(problem, hf_slice(value), "text without control characters");
	}
	return copy(config->info, sizeof config->info, hf_slice(value)) ||
	       hf_problem(problem, hf_slice(value), "at most 64 bytes of text");
}
