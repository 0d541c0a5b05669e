/* holdfast run: set the environment, check all of it, execute the command. */
#include "command.h"
#include "elf_look.h"
#include "preload.h"
#include "run_options.h"
#include "text.h"

#include "config_internal.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char our_prefix[] = "HOLDFAST_";

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* How many letters differ: Levenshtein's distance, for names shorter than LONGEST_NAME. */
enum { LONGEST_NAME = 64 };

static size_t distance(const char *a, const char *b)
{
	size_t row[LONGEST_NAME], length = strlen(b);

	for (size_t j = 0; j <= length; j++)
		row[j] = j;
	for (size_t i = 1; a[i - 1]; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= length; j++) {
			size_t replaced = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			row[j] = least(replaced, least(row[j], row[j - 1]) + 1);
		}
	}
	return row[length];
}

/* The variable NAME was probably meant to be, or NULL when none is near. */
static const char *nearest(const char *name)
{
	size_t best = 4; /* more than three letters off is another word */
	const char *found = NULL, *candidate;

	for (size_t i = 0; (candidate = hf_config_name(i)); i++) {
		size_t d = distance(name, candidate);

		if (d < best) {
			best = d;
			found = candidate;
		}
	}
	return found;
}

static bool is_reserved(const char *name)
{
	return strncmp(name, "HOLDFAST_FD_", 12) == 0 || strncmp(name, "HOLDFAST_ARENA", 14) == 0 ||
	       strncmp(name, "HOLDFAST_EVENT_", 15) == 0; /* of "holdfast events --exec" */
}

/* Tell of every HOLDFAST_* variable that no setting has: the library would silently go without it. */
static int complain_about_unknown(void)
{
	int complaints = 0;

	for (char **entry = environ; *entry; entry++) {
		size_t length = strcspn(*entry, "=");
		char name[LONGEST_NAME];
		const char *meant = NULL;

		if (strncmp(*entry, our_prefix, sizeof our_prefix - 1) != 0)
			continue;
		if (length < sizeof name) {
			memcpy(name, *entry, length);
			name[length] = '\0';
			if (hf_config_known(name) || is_reserved(name))
				continue;
			meant = nearest(name);
		}
		hf_tell("%.*s: unknown setting; %s%s", (int)least(length, 100), *entry,
			meant ? "did you mean " : "see ", meant ? meant : "holdfast run --help");
		complaints++;
	}
	return complaints;
}

static const char *from_environment(const char *name, void *arg)
{
	(void)arg;
	return getenv(name);
}

static void complain(const char *line, void *arg)
{
	(void)arg;
	hf_tell("%s", line);
}

/* Put the settings into our own environment, which the command inherits, and judge the whole. */
static bool set_and_check(const struct hf_run_options *options)
{
	static struct hf_config config; /* too large for a stack */
	int complaints;

	for (size_t i = 0; i < options->nsettings; i++) {
		if (setenv(options->settings[i].name, options->settings[i].value, 1) != 0) {
			hf_tell("%s: %s", options->settings[i].name, strerror(errno));
			return false;
		}
	}
	complaints = complain_about_unknown();
	complaints += hf_config_read(&config, from_environment, complain, NULL);
	return complaints == 0;
}

static void print_variable(const char *name, const char *value)
{
	printf("%s=", name);
	hf_print_quoted(value);
	putchar('\n');
}

/* --dry-run: one variable a line, then the command. */
static int show(const struct hf_run_options *options, const char *preload)
{
	for (size_t i = 0; i < options->nsettings; i++)
		print_variable(options->settings[i].name, options->settings[i].value);
	print_variable("LD_PRELOAD", preload);
	for (char **word = options->command; *word; word++) {
		hf_print_quoted(*word);
		putchar(word[1] ? ' ' : '\n');
	}
	return hf_flushed() ? 0 : 1;
}

static void warn_if_useless(const char *command)
{
	char where[PATH_MAX];
	const char *problem = hf_elf_preload_problem(command, where, sizeof where);

	if (problem)
		hf_tell("warning: %s: %s: the library will not be loaded into it", where, problem);
}

static int execute(char **command, const char *preload)
{
	int error;

	if (setenv("LD_PRELOAD", preload, 1) != 0) {
		hf_tell("LD_PRELOAD: %s", strerror(errno));
		return HF_EXIT_USAGE;
	}
	execvp(command[0], command);
	error = errno;
	hf_tell("%s: %s", command[0], strerror(error));
	return error == ENOENT ? HF_EXIT_NOT_FOUND : HF_EXIT_CANNOT_EXECUTE;
}

int hf_run(int argc, char **argv)
{
	struct hf_run_options options;
	char library[PATH_MAX], *preload;
	int status;

	if (!hf_run_options_parse(&options, argc, argv))
		return HF_EXIT_USAGE;
	if (options.help) {
		hf_run_options_help();
		return 0;
	}
	if (options.version) {
		puts("holdfast " HF_VERSION);
		return 0;
	}
	if (!set_and_check(&options))
		return HF_EXIT_USAGE;
	if (!options.command[0]) {
		hf_tell("a program to run is missing; try: holdfast run -- nc example.org 80, or holdfast run --help");
		return HF_EXIT_USAGE;
	}
	if (!hf_preload_find(options.library, library, sizeof library) ||
	    !hf_preload_append(getenv("LD_PRELOAD"), library, &preload))
		return HF_EXIT_USAGE;
	warn_if_useless(options.command[0]);
	status = options.dry_run ? show(&options, preload) : execute(options.command, preload);
	free(preload);
	return status;
}
