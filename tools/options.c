#include "options.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

enum { LONG_ONLY = 256 }; /* getopt value of a long option: LONG_ONLY + its number */

static size_t count(const struct hf_options *options)
{
	return options->nown + options->nshared;
}

static const struct hf_option *at(const struct hf_options *options, size_t i)
{
	return i < options->nown ? &options->own[i] : &options->shared[i - options->nown];
}

/* As getopt_long(3) wants them. */
static void build(const struct hf_options *options, struct option longs[HF_MAX_OPTIONS + 1],
		  char letters[2 * HF_MAX_OPTIONS + 2])
{
	size_t n = 0;

	if (options->stop)
		*letters++ = '+';
	for (size_t i = 0; i < count(options) && n < HF_MAX_OPTIONS; i++) {
		const struct hf_option *option = at(options, i);

		if (!option->name)
			continue;
		longs[n++] = (struct option){option->name, option->argument ? required_argument : no_argument, NULL,
					     LONG_ONLY + (int)i};
		if (option->letter) {
			*letters++ = (char)option->letter;
			if (option->argument)
				*letters++ = ':';
		}
	}
	*letters = '\0';
	longs[n] = (struct option){0};
}

const struct hf_option *hf_options_next(const struct hf_options *options, int argc, char **argv, bool *wrong)
{
	struct option longs[HF_MAX_OPTIONS + 1];
	char letters[2 * HF_MAX_OPTIONS + 2];
	int found;

	build(options, longs, letters);
	*wrong = false;
	found = getopt_long(argc, argv, letters, longs, NULL);
	if (found >= LONG_ONLY)
		return at(options, (size_t)(found - LONG_ONLY));
	for (size_t i = 0; found != '?' && found != -1 && i < count(options); i++) {
		if (at(options, i)->letter == found)
			return at(options, i);
	}
	*wrong = found != -1;
	return NULL;
}

/* One option: its names, then the help from COLUMN on, further lines below. */
static void help_line(const struct hf_option *option)
{
	enum { COLUMN = 33 };
	const char *text = option->help, *end;
	int width = option->letter ? printf("  -%c, --%s", option->letter, option->name)
				   : printf("      --%s", option->name);

	if (option->argument)
		width += printf("=%s", option->argument);
	for (;; text = end + 1, width = 0) {
		end = strchrnul(text, '\n');
		printf("%*s%.*s\n", width < COLUMN ? COLUMN - width : 1, "", (int)(end - text), text);
		if (!*end)
			return;
	}
}

void hf_options_help(const struct hf_options *options)
{
	for (size_t i = 0; i < count(options); i++) {
		if (at(options, i)->name)
			help_line(at(options, i));
		else
			printf("\n%s:\n", at(options, i)->help);
	}
}
