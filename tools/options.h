/*
 * Command line options from one table: the parser, the help text, and (through the help text) the manual and the
 * completions that tests compare with it.  Used by every subcommand.
 */
#ifndef HOLDFAST_OPTIONS_H
#define HOLDFAST_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

/* In the order in which the tables are read.  NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding) */
struct hf_option {
	int letter;           /* 0: none */
	const char *name;     /* NULL: a heading, its text in help */
	const char *variable; /* the HOLDFAST_* setting it is; NULL: none, the subcommand knows what to do */
	const char *value;    /* the fixed value of a setting without argument */
	const char *argument; /* how the help calls the argument; NULL: takes none */
	const char *help;     /* further lines after newlines */
	int id;               /* for the subcommand; what a setting has it ignores */
};

enum { HF_MAX_OPTIONS = 64 };

/* The options of a subcommand: its own, and those it shares with another (N2 may be 0). */
struct hf_options {
	const struct hf_option *own, *shared;
	size_t nown, nshared;
	bool stop; /* options end at the first other word: what follows is a command's own */
};

/*
 * The next option of ARGV; its argument is in optarg (getopt_long(3)), as are optind and its messages.  NULL at the end
 * of the options or, with *WRONG, after a message on standard error.
 */
const struct hf_option *hf_options_next(const struct hf_options *options, int argc, char **argv, bool *wrong);

/* The options, on standard output. */
void hf_options_help(const struct hf_options *options);

#endif
