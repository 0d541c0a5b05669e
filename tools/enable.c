/* holdfast enable, holdfast disable: a drop-in for a systemd service that preloads the library. */
#include "check_gather.h"
#include "command.h"
#include "preload.h"
#include "run_options.h"
#include "unit.h"
#include "unit_file.h"

#include "config.h"

#include <bsd/string.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DRY_RUN = 100, NOW, USER, ROOT, LIBRARY, HELP };

#define COMMON                                                                                                    \
	{'n', "dry-run", NULL, NULL, NULL, "show what would be done, and stop", DRY_RUN},                         \
		{0, "now", NULL, NULL, NULL, "also let systemd read its units and restart UNIT if it runs", NOW}, \
		{0, "user", NULL, NULL, NULL, "a unit of your own systemd (systemctl --user)", USER},             \
		{0, "root", NULL, NULL, "DIR", "work on the system below DIR", ROOT},                             \
	{                                                                                                         \
		'h', "help", NULL, NULL, NULL, "show this text", HELP                                             \
	}

static const struct hf_option enable_lines[] = {
	{0, NULL, NULL, NULL, NULL, "This command", 0},
	{0, "library", NULL, NULL, "PATH", "use this libholdfast.so (found beside the tool otherwise)", LIBRARY},
	COMMON,
};
static const struct hf_option disable_lines[] = {{0, NULL, NULL, NULL, NULL, "Options", 0}, COMMON};

enum {
	ENABLE_LINES = sizeof enable_lines / sizeof enable_lines[0],
	DISABLE_LINES = sizeof disable_lines / sizeof disable_lines[0],
};

/* The first line of our drop-ins: others are left alone. */
static const char mark[] = "# Written by \"holdfast enable\"; \"holdfast disable\" removes it.\n";

struct wanted {
	struct hf_run_options run; /* settings only */
	struct hf_unit_place place;
	const char *library;
	char root[PATH_MAX];
	bool dry_run, now, help;
};

static void enable_usage(const struct hf_options *table)
{
	puts("Usage: holdfast enable [OPTION...] UNIT...\n\n"
	     "Writes a drop-in, UNIT.d/" HF_DROP_IN
	     ", that preloads libholdfast.so into the systemd service UNIT with\n"
	     "the settings given.  An LD_PRELOAD the unit has already is added to.  systemd need not run.");
	hf_options_help(table);
	puts("\nExit status: 0 done, 1 not done, 2 wrong usage.\n\n"
	     "Examples:\n"
	     "  holdfast enable -i 5s -t 15s --report syslog nginx    takes effect when nginx is restarted\n"
	     "  holdfast enable --now --reply-timeout 30s myapp       at once\n"
	     "  holdfast enable --dry-run nginx                       only show the drop-in");
}

static void disable_usage(const struct hf_options *table)
{
	puts("Usage: holdfast disable [OPTION...] UNIT...\n\n"
	     "Removes what \"holdfast enable UNIT\" wrote.");
	hf_options_help(table);
	puts("\nExit status: 0 done, or there was nothing to do; 1 not done; 2 wrong usage.");
}

static bool take_root(struct wanted *wanted, const char *directory)
{
	struct stat st;
	size_t n;

	if (!realpath(directory, wanted->root) || stat(wanted->root, &st) != 0 || !S_ISDIR(st.st_mode)) {
		hf_tell("--root %s: %s", directory, strerror(errno ? errno : ENOTDIR));
		return false;
	}
	n = strlen(wanted->root);
	if (wanted->root[n - 1] == '/')
		wanted->root[n - 1] = '\0';
	return true;
}

/* false after a message. */
static bool parse(struct wanted *wanted, const struct hf_options *table, int argc, char **argv)
{
	const struct hf_option *option;
	bool wrong;

	memset(wanted, 0, sizeof *wanted);
	wanted->place.root = wanted->root;
	while ((option = hf_options_next(table, argc, argv, &wrong))) {
		switch (option->id) {
		case DRY_RUN:
			wanted->dry_run = true;
			break;
		case NOW:
			wanted->now = true;
			break;
		case USER:
			wanted->place.user = true;
			break;
		case ROOT:
			if (!take_root(wanted, optarg))
				return false;
			break;
		case LIBRARY:
			wanted->library = optarg;
			break;
		case HELP:
			wanted->help = true;
			return true;
		default:
			hf_run_apply(&wanted->run, option, optarg);
			break;
		}
	}
	if (wrong)
		return false;
	if (wanted->now && wanted->root[0]) {
		hf_tell("--now: expected without --root: the systemd of another root directory cannot be asked");
		return false;
	}
	if (optind == argc)
		hf_tell("a unit is missing; try: %s nginx, or %s --help", argv[0], argv[0]);
	return optind < argc;
}

/* --- the settings --- */

static const char *from_options(const char *name, void *arg)
{
	const struct hf_run_options *run = arg;

	for (size_t i = 0; i < run->nsettings; i++) {
		if (strcmp(run->settings[i].name, name) == 0)
			return run->settings[i].value;
	}
	return NULL;
}

static void complain(const char *line, void *arg)
{
	(void)arg;
	hf_tell("%s", line);
}

static bool has_control(const char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			return true;
	}
	return false;
}

/* Unlike "holdfast run": what is in our own environment will not be in the service's. */
static bool settings_right(struct wanted *wanted)
{
	static struct hf_config config; /* too large for a stack */

	for (size_t i = 0; i < wanted->run.nsettings; i++) {
		if (has_control(wanted->run.settings[i].value)) {
			hf_tell("%s: expected no control characters", wanted->run.settings[i].name);
			return false;
		}
	}
	return hf_config_read(&config, from_options, complain, &wanted->run) == 0;
}

/* The library, as the service will see it: below root, if one is given. */
static bool find_library(const struct wanted *wanted, char *path, size_t size)
{
	char there[2 * PATH_MAX];
	const char *problem;

	if (!wanted->root[0])
		return hf_preload_find(wanted->library, path, size);
	if (!wanted->library) {
		if (!hf_preload_find(NULL, path, size))
			return false;
	} else if (wanted->library[0] != '/' || strpbrk(wanted->library, " :")) {
		hf_tell("--library %s: expected an absolute path without spaces and colons", wanted->library);
		return false;
	} else {
		strlcpy(path, wanted->library, size);
	}
	snprintf(there, sizeof there, "%s%s", wanted->root, path);
	problem = hf_elf_library_problem(there);
	if (problem)
		hf_tell("%s: %s; expected libholdfast.so built for this machine", there, problem);
	return !problem;
}

/* --- the unit --- */

/* Tell what speaks against it; false if it must not be. */
static bool program_right(const struct hf_unit *unit)
{
	static struct hf_gathered gathered; /* large */
	const char *problem = unit->program[0] ? hf_gather(&gathered, unit->program) : "";
	bool right = true;

	if (!unit->program[0]) {
		hf_tell("warning: %s: its program is not known from its files", unit->name);
		return true;
	}
	if (problem) {
		hf_tell("warning: %s: %s: %s", unit->name, unit->program, problem);
	} else if (gathered.found[HF_FOUND_MUSL]) {
		hf_tell("%s: %s: %s: with the library it would not start", unit->name, gathered.program.path,
			hf_means[HF_FOUND_MUSL].is);
		right = false;
	} else {
		for (int f = 0; f < HF_FOUND_COUNT; f++) {
			if (gathered.found[f] && hf_means[f].probe.weight == HF_USELESS)
				hf_tell("warning: %s: %s: %s; only its children may be watched", unit->name,
					gathered.program.path, hf_means[f].is);
		}
	}
	hf_gathered_free(&gathered);
	return right;
}

static bool unit_right(const struct hf_unit *unit)
{
	if (!unit->fragment[0])
		hf_tell("%s: no such service", unit->name);
	else if (unit->masked)
		hf_tell("%s: is masked", unit->name);
	else if (unit->later[0])
		hf_tell("%s: %s sets LD_PRELOAD after our drop-in would: add the library there", unit->name,
			unit->later);
	else if (unit->root[0])
		hf_tell("%s: runs in %s, where the library would have to be: write the drop-in yourself", unit->name,
			unit->root);
	else
		return program_right(unit);
	return false;
}

/* Whether PATH is a drop-in of ours: 1; 0: there is none; -1: it is somebody else's. */
static int ours(const char *path)
{
	char *text = hf_unit_load(path);
	int found = !text ? (access(path, F_OK) == 0 ? -1 : 0) : strncmp(text, mark, sizeof mark - 1) == 0 ? 1 : -1;

	free(text);
	if (found < 0)
		hf_tell("%s: not written by holdfast enable: left alone", path);
	return found;
}

static void print_drop_in(FILE *out, const struct wanted *wanted, const char *preload)
{
	fputs(mark, out);
	fputs("[Service]\n", out);
	hf_unit_print_environment(out, "LD_PRELOAD", preload);
	for (size_t i = 0; i < wanted->run.nsettings; i++)
		hf_unit_print_environment(out, wanted->run.settings[i].name, wanted->run.settings[i].value);
}

static bool make_directories(char *path)
{
	for (char *slash = strchr(path + 1, '/');; slash = strchr(slash + 1, '/')) {
		if (slash)
			*slash = '\0';
		if (mkdir(path, 0755) != 0 && errno != EEXIST) {
			hf_tell("%s: %s", path, strerror(errno));
			return false;
		}
		if (!slash)
			return true;
		*slash = '/';
	}
}

/* By a rename: systemd reads the old drop-in or the new one. */
static bool write_drop_in(const struct wanted *wanted, char *directory, const char *path, const char *preload)
{
	char temporary[2 * PATH_MAX];
	bool good;
	FILE *out;
	int fd;

	if (!make_directories(directory))
		return false;
	snprintf(temporary, sizeof temporary, "%s/.%s.XXXXXX", directory, HF_DROP_IN);
	fd = mkstemp(temporary);
	out = fd >= 0 ? fdopen(fd, "w") : NULL;
	if (out) {
		print_drop_in(out, wanted, preload);
		good = fchmod(fd, 0644) == 0 && fflush(out) == 0 && fsync(fd) == 0;
		good = fclose(out) == 0 && good && rename(temporary, path) == 0;
		if (good)
			return true;
	} else if (fd >= 0) {
		close(fd);
	}
	hf_tell("%s: %s", path, strerror(errno));
	if (fd >= 0)
		unlink(temporary);
	return false;
}

/* --- systemd --- */

static bool systemctl(const struct wanted *wanted, const char *verb, const char *unit)
{
	const char *argv[] = {"systemctl", wanted->place.user ? "--user" : "--system", verb, unit, NULL};
	int status = -1;
	pid_t child;

	fflush(stdout);
	child = fork();
	if (child == 0) {
		execvp(argv[0], (char *const *)(void *)argv);
		hf_tell("systemctl: %s", strerror(errno));
		_exit(HF_EXIT_NOT_FOUND);
	}
	while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return true;
	hf_tell("systemctl %s failed", verb);
	return false;
}

static bool take_effect(const struct wanted *wanted, const char *unit)
{
	const char *user = wanted->place.user ? " --user" : "";

	if (wanted->now && !wanted->dry_run)
		return systemctl(wanted, "daemon-reload", NULL) && systemctl(wanted, "try-restart", unit);
	if (!wanted->root[0])
		printf("%s%s: systemctl%s daemon-reload && systemctl%s %s %s\n", wanted->dry_run ? "# " : "",
		       wanted->now ? "then" : "to take effect", user, user, wanted->now ? "try-restart" : "restart",
		       unit);
	return true;
}

/* --- the commands --- */

static bool place_of(const struct wanted *wanted, const char *given, char *name, char *directory, char *path)
{
	if (!hf_unit_name(given, name, NAME_MAX + 1)) {
		hf_tell("%s: expected the name of a service", given);
		return false;
	}
	if (!hf_unit_drop_in_directory(&wanted->place, name, directory, PATH_MAX) ||
	    snprintf(path, PATH_MAX, "%s/" HF_DROP_IN, directory) >= PATH_MAX) {
		hf_tell("%s: no directory for its drop-in", name);
		return false;
	}
	return true;
}

static int enable(const struct wanted *wanted, const char *library, const char *given)
{
	char name[NAME_MAX + 1], directory[PATH_MAX], path[PATH_MAX], *preload;
	static struct hf_unit unit; /* large */
	bool done;

	if (!place_of(wanted, given, name, directory, path))
		return HF_EXIT_USAGE;
	hf_unit_read(&wanted->place, name, &unit);
	if (!unit_right(&unit) || ours(path) < 0 || !hf_preload_append(unit.preload, library, &preload))
		return 1;
	if (has_control(preload)) {
		hf_tell("%s: its LD_PRELOAD has control characters in it", name);
		done = false;
	} else if (wanted->dry_run) {
		printf("# %s\n", path);
		print_drop_in(stdout, wanted, preload);
		done = take_effect(wanted, name);
	} else {
		done = write_drop_in(wanted, directory, path, preload);
		if (done)
			printf("wrote %s\n", path);
		done = done && take_effect(wanted, name);
	}
	free(preload);
	return done ? 0 : 1;
}

static int disable(const struct wanted *wanted, const char *given)
{
	char name[NAME_MAX + 1], directory[PATH_MAX], path[PATH_MAX];
	int found;

	if (!place_of(wanted, given, name, directory, path))
		return HF_EXIT_USAGE;
	found = ours(path);
	if (found == 0)
		printf("%s: not enabled, nothing to do\n", name);
	if (found <= 0)
		return found < 0;
	if (wanted->dry_run) {
		printf("would remove %s\n", path);
	} else if (unlink(path) != 0) {
		hf_tell("%s: %s", path, strerror(errno));
		return 1;
	} else {
		rmdir(directory); /* stays if others have drop-ins there */
		printf("removed %s\n", path);
	}
	return take_effect(wanted, name) ? 0 : 1;
}

int hf_enable(int argc, char **argv)
{
	static struct wanted wanted;
	struct hf_options table = {NULL, enable_lines, 0, ENABLE_LINES, false};
	char library[PATH_MAX];
	int status = 0;

	table.own = hf_run_settings(&table.nown);
	if (!parse(&wanted, &table, argc, argv))
		return HF_EXIT_USAGE;
	if (wanted.help) {
		enable_usage(&table);
		return 0;
	}
	if (!settings_right(&wanted) || !find_library(&wanted, library, sizeof library))
		return HF_EXIT_USAGE;
	for (int i = optind; i < argc; i++) {
		int one = enable(&wanted, library, argv[i]);

		status = one > status ? one : status;
	}
	return hf_flushed() ? status : 1;
}

int hf_disable(int argc, char **argv)
{
	static struct wanted wanted;
	const struct hf_options table = {disable_lines, NULL, DISABLE_LINES, 0, false};
	int status = 0;

	if (!parse(&wanted, &table, argc, argv))
		return HF_EXIT_USAGE;
	if (wanted.help) {
		disable_usage(&table);
		return 0;
	}
	for (int i = optind; i < argc; i++) {
		int one = disable(&wanted, argv[i]);

		status = one > status ? one : status;
	}
	return hf_flushed() ? status : 1;
}
