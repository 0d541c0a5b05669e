/*
 * The options of "holdfast run": one table, from which come the parser and the help text.  Every option that is a
 * setting only names a HOLDFAST_* variable; what values it takes is known to shim/config.c alone.
 */
#ifndef HOLDFAST_RUN_OPTIONS_H
#define HOLDFAST_RUN_OPTIONS_H

#include "options.h"

#include <stdbool.h>
#include <stddef.h>

enum { HF_MAX_SETTINGS = 32 };

/* What the command line asks for.  Everything points into argv or to constants. */
struct hf_run_options {
	struct {
		const char *name, *value;
	} settings[HF_MAX_SETTINGS]; /* HOLDFAST_* variables to set, each once; a later option wins */
	size_t nsettings;
	const char *library; /* --library, or NULL */
	bool dry_run, help, version;
	int verbose;    /* how often -v was given */
	char **command; /* NULL-terminated; empty when no command was given */
};

/* Parse.  false after a message on standard error. */
bool hf_run_options_parse(struct hf_run_options *options, int argc, char **argv);

/* The options that are settings, which "holdfast enable" takes too: their lines, and what one of them does.  false: the
 * option is not one of them. */
const struct hf_option *hf_run_settings(size_t *n);
bool hf_run_apply(struct hf_run_options *options, const struct hf_option *option, const char *argument);

/* The help text, on standard output. */
void hf_run_options_help(void);

#endif
