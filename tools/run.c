/* holdfast run: set the environment, check all of it, execute the command. */
#include "command.h"
#include "elf_look.h"
#include "preload.h"
#include "run_options.h"
#include "text.h"

#include "config_internal.h"
#include "key.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Tell of every HOLDFAST_* variable that no setting has: the library would go without it. */
static int complain_about_unknown(void)
{
	char line[HF_UNKNOWN_LINE];
	int complaints = 0;
	bool slip;

	for (char **entry = environ; *entry; entry++) {
		if (!hf_config_unknown(*entry, line, &slip))
			continue;
		hf_tell("%s", line);
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

static bool wraps(const struct hf_config *config)
{
	bool wraps = config->mode == HF_MODE_WRAP;

	for (size_t i = 0; i < config->nrules; i++)
		wraps = wraps || config->rules[i].mode == HF_MODE_WRAP;
	return wraps;
}

/* With a secret that cannot be had nothing would connect; with one that all can have, whoever likes. */
static bool check_key(const struct hf_config *config)
{
	static uint8_t bytes[HF_KEY_ROOM];
	const char *path = config->key_file;
	struct stat status;
	long size;

	if (!*path || !wraps(config))
		return true;
	size = hf_key_read(path, bytes, sizeof bytes);
	explicit_bzero(bytes, sizeof bytes);
	if (size < 0) {
		hf_config_wrong("HOLDFAST_KEY_FILE", path, hf_key_expected((int)-size), complain, NULL);
		return false;
	}
	if (stat(path, &status) == 0 && (status.st_mode & (S_IROTH | S_IWOTH)) != 0)
		hf_tell("warning: HOLDFAST_KEY_FILE: \"%s\": every user may read or change it; expected mode 0600",
			path);
	return true;
}

/* Settings that are right by themselves, and between them do nothing. */
static void warn_of_no_effect(const struct hf_config *config)
{
	if (config->on_dead == HF_RECONNECT && !wraps(config) && config->redial == HF_REDIAL_OFF)
		hf_tell("warning: HOLDFAST_ON_DEAD: \"reconnect\" acts as abort: expected wrap mode (--wrap, or a "
			"rule) at "
			"both ends, or HOLDFAST_REDIAL");
	if (config->redial != HF_REDIAL_OFF && config->on_dead != HF_RECONNECT)
		hf_tell("warning: HOLDFAST_REDIAL: \"idle\" has no effect: expected HOLDFAST_ON_DEAD=reconnect with "
			"it");
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
	if (complaints == 0 && !check_key(&config))
		complaints++;
	if (complaints == 0)
		warn_of_no_effect(&config);
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
