#include "run_options.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

enum { LONG_ONLY = 256 }; /* getopt value of an option without a letter: LONG_ONLY + its place in the table */

static const struct option_line {
	int letter;           /* 0: none */
	const char *name;     /* NULL: a heading, its text in help */
	const char *variable; /* what it sets; NULL: handled by name in apply() */
	const char *value;    /* the fixed value of an option without argument */
	const char *argument; /* how the help calls the argument; NULL: takes none */
	const char *help;
} table[] = {
	{0, NULL, NULL, NULL, NULL, "Which connections, and how"},
	{'p', "probe", "HOLDFAST_MODE", "probe", NULL, "watch from this end only, with any peer (default)"},
	{'w', "wrap", "HOLDFAST_MODE", "wrap", NULL,
	 "heartbeats inside the connection; for peers that run\nholdfast too"},
	{0, "off", "HOLDFAST_MODE", "off", NULL, "watch only what --rules name"},
	{0, "rules", "HOLDFAST_RULES", NULL, "LIST",
	 "modes by peer address, or port listened on; first match\n"
	 "wins: wrap=10.0.0.0/8:5432,probe=[::1]:*,off=*:22-23"},
	{0, "programs", "HOLDFAST_PROGRAMS", NULL, "LIST",
	 "act only in programs of these names: nginx,redis-*,!ssh\n"
	 "(children of COMMAND inherit all settings)"},
	{0, NULL, NULL, NULL, NULL, "Dead peers (times: 500ms, 5s, 2m, 1h; a bare number is seconds)"},
	{'i', "interval", "HOLDFAST_INTERVAL", NULL, "TIME",
	 "silence before the peer is asked for a sign of life (5s)"},
	{'t', "timeout", "HOLDFAST_TIMEOUT", NULL, "TIME", "silence after which it is dead (3 x interval)"},
	{0, "on-dead", "HOLDFAST_ON_DEAD", NULL, "ACTION",
	 "abort (default): calls fail with ETIMEDOUT; report: only\n"
	 "tell; reconnect: resume (wrap mode)"},
	{0, "connect-timeout", "HOLDFAST_CONNECT_TIMEOUT", NULL, "TIME",
	 "longest wait for a connection (the kernel's)"},
	{0, NULL, NULL, NULL, NULL, "Peers that live but do not answer"},
	{0, "reply-timeout", "HOLDFAST_REPLY_TIMEOUT", NULL, "TIME", "longest wait for a reply to what was sent (off)"},
	{0, "on-unanswered", "HOLDFAST_ON_UNANSWERED", NULL, "ACTION", "abort (default) or report"},
	{0, "stall-timeout", "HOLDFAST_STALL_TIMEOUT", NULL, "TIME", "how long a peer may leave data unread (60s)"},
	{0, "on-stall", "HOLDFAST_ON_STALL", NULL, "ACTION", "report (default) or abort"},
	{0, "half-close-timeout", "HOLDFAST_HALF_CLOSE_TIMEOUT", NULL, "TIME",
	 "how long a half-closed connection may be\n"
	 "silent (60s)"},
	{0, "on-half-close", "HOLDFAST_ON_HALF_CLOSE", NULL, "ACTION", "report (default) or abort"},
	{0, NULL, NULL, NULL, NULL, "Wrap mode"},
	{0, "fallback", "HOLDFAST_FALLBACK", NULL, "WHAT",
	 "peer without holdfast: plain (default), go on in probe\n"
	 "mode; or fail"},
	{0, "hello-wait", "HOLDFAST_HELLO_WAIT", NULL, "TIME",
	 "how long the peer may take to show it has holdfast (1s)"},
	{0, "reconnect-window", "HOLDFAST_RECONNECT_WINDOW", NULL, "TIME", "how long to try to resume (60s)"},
	{0, "resume-buffer", "HOLDFAST_RESUME_BUFFER", NULL, "SIZE", "unacknowledged data kept per direction (1M)"},
	{0, "linger", "HOLDFAST_LINGER", NULL, "TIME", "at exit, longest wait to hand over what was written (2s)"},
	{0, "key-file", "HOLDFAST_KEY_FILE", NULL, "PATH", "shared secret to authenticate the peer with"},
	{0, "info", "HOLDFAST_INFO", NULL, "TEXT", "shown to the peer's operator, up to 64 bytes"},
	{0, NULL, NULL, NULL, NULL, "Reports"},
	{0, "report", "HOLDFAST_REPORT", NULL, "LIST",
	 "stderr (default), syslog, file:PATH, unix:PATH, fd:N; or\n"
	 "none; paths cannot contain commas"},
	{0, "format", "HOLDFAST_FORMAT", NULL, "FORMAT", "text (default) or json"},
	{0, "json", "HOLDFAST_FORMAT", "json", NULL, "the same as --format=json"},
	{0, "level", "HOLDFAST_LEVEL", NULL, "LEVEL", "error, warn (default), info or debug"},
	{'v', "verbose", NULL, NULL, NULL, "level info; twice: debug"},
	{0, NULL, NULL, NULL, NULL, "This command"},
	{0, "library", NULL, NULL, "PATH", "use this libholdfast.so (found beside the tool otherwise)"},
	{'n', "dry-run", NULL, NULL, NULL, "show what would be set and run, and stop"},
	{'h', "help", NULL, NULL, NULL, "show this text"},
	{'V', "version", NULL, NULL, NULL, "show the version"},
};

enum { LINES = sizeof table / sizeof table[0] };

static void set(struct hf_run_options *options, const char *name, const char *value)
{
	size_t i = 0;

	while (i < options->nsettings && strcmp(options->settings[i].name, name) != 0)
		i++;
	if (i == options->nsettings)
		options->nsettings++;
	options->settings[i].name = name;
	options->settings[i].value = value;
}

static void apply(struct hf_run_options *options, const struct option_line *line, const char *argument, int *verbose)
{
	if (line->variable)
		set(options, line->variable, line->argument ? argument : line->value);
	else if (strcmp(line->name, "verbose") == 0)
		set(options, "HOLDFAST_LEVEL", (*verbose)++ ? "debug" : "info");
	else if (strcmp(line->name, "library") == 0)
		options->library = argument;
	else if (strcmp(line->name, "dry-run") == 0)
		options->dry_run = true;
	else if (strcmp(line->name, "help") == 0)
		options->help = true;
	else
		options->version = true;
}

/* The table as getopt_long(3) wants it. */
static void build(struct option longs[LINES + 1], char letters[2 * LINES + 2])
{
	size_t n = 0;

	*letters++ = '+'; /* options end at COMMAND: what follows is its own */
	for (size_t i = 0; i < LINES; i++) {
		const struct option_line *line = &table[i];

		if (!line->name)
			continue;
		longs[n++] = (struct option){line->name, line->argument ? required_argument : no_argument, NULL,
					     LONG_ONLY + (int)i};
		if (line->letter) {
			*letters++ = (char)line->letter;
			if (line->argument)
				*letters++ = ':';
		}
	}
	*letters = '\0';
	longs[n] = (struct option){0};
}

static const struct option_line *find(int found)
{
	if (found >= LONG_ONLY)
		return &table[found - LONG_ONLY];
	for (size_t i = 0; i < LINES; i++) {
		if (table[i].letter == found)
			return &table[i];
	}
	return NULL;
}

bool hf_run_options_parse(struct hf_run_options *options, int argc, char **argv)
{
	struct option longs[LINES + 1];
	char letters[2 * LINES + 2];
	int found, verbose = 0;

	memset(options, 0, sizeof *options);
	build(longs, letters);
	while ((found = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
		const struct option_line *line = found == '?' ? NULL : find(found);

		if (!line)
			return false;
		apply(options, line, optarg, &verbose);
	}
	options->command = argv + optind;
	return true;
}

/* One option: its names, then the help from COLUMN on, further lines below. */
static void help_line(const struct option_line *line)
{
	enum { COLUMN = 33 };
	const char *text = line->help, *end;
	int width = line->letter ? printf("  -%c, --%s", line->letter, line->name) : printf("      --%s", line->name);

	if (line->argument)
		width += printf("=%s", line->argument);
	for (;; text = end + 1, width = 0) {
		end = strchrnul(text, '\n');
		printf("%*s%.*s\n", width < COLUMN ? COLUMN - width : 1, "", (int)(end - text), text);
		if (!*end)
			return;
	}
}

void hf_run_options_help(void)
{
	puts("Usage: holdfast run [OPTION...] [--] COMMAND [ARGUMENT...]\n\n"
	     "Runs COMMAND with libholdfast.so preloaded: it watches every TCP connection the program and its\n"
	     "children have, and ends dead ones with ETIMEDOUT.  Peers that are only slow are left alone.");
	for (size_t i = 0; i < LINES; i++) {
		if (table[i].name)
			help_line(&table[i]);
		else
			printf("\n%s:\n", table[i].help);
	}
	puts("\nAn option only sets an environment variable: --on-dead sets HOLDFAST_ON_DEAD and so on; --probe, "
	     "--wrap\n"
	     "and --off set HOLDFAST_MODE, --json HOLDFAST_FORMAT, -v HOLDFAST_LEVEL.  Variables already in the\n"
	     "environment count too, options go before them.\n\n"
	     "Exit status: that of COMMAND; 2 for a wrong option or setting, 126 if COMMAND cannot be executed, 127 "
	     "if\n"
	     "it is not found.\n\n"
	     "Examples:\n"
	     "  holdfast run -i 5s -t 15s -- nc example.org 80       a dead peer is noticed within 15 seconds\n"
	     "  holdfast run --reply-timeout 30s --json -- legacy    and one that owes a reply after 30\n"
	     "  holdfast run -n -v -- nc example.org 80              only show what would be done");
}
