#include "run_options.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

enum { VERBOSE = 1, LIBRARY, DRY_RUN, HELP, VERSION };

static const struct hf_option settings[] = {
	{0, NULL, NULL, NULL, NULL, "Which connections, and how", 0},
	{'p', "probe", "HOLDFAST_MODE", "probe", NULL, "watch from this end only, with any peer (default)", 0},
	{'w', "wrap", "HOLDFAST_MODE", "wrap", NULL,
	 "heartbeats inside the connection; for peers that run\nholdfast too", 0},
	{0, "off", "HOLDFAST_MODE", "off", NULL, "watch only what --rules name", 0},
	{0, "rules", "HOLDFAST_RULES", NULL, "LIST",
	 "modes by peer address, or port listened on; first match\n"
	 "wins: wrap=10.0.0.0/8:5432,probe=[::1]:*,off=*:22-23",
	 0},
	{0, "programs", "HOLDFAST_PROGRAMS", NULL, "LIST",
	 "act only in programs of these names: nginx,redis-*,!ssh\n"
	 "(children of COMMAND inherit all settings)",
	 0},
	{0, NULL, NULL, NULL, NULL, "Dead peers (times: 500ms, 5s, 2m, 1h; a bare number is seconds)", 0},
	{'i', "interval", "HOLDFAST_INTERVAL", NULL, "TIME", "silence before the peer is asked for a sign of life (5s)",
	 0},
	{'t', "timeout", "HOLDFAST_TIMEOUT", NULL, "TIME", "silence after which it is dead (3 x interval)", 0},
	{0, "on-dead", "HOLDFAST_ON_DEAD", NULL, "ACTION",
	 "abort (default): calls fail with ETIMEDOUT; report: only\n"
	 "tell; reconnect: resume (wrap mode)",
	 0},
	{0, "connect-timeout", "HOLDFAST_CONNECT_TIMEOUT", NULL, "TIME", "longest wait for a connection (the kernel's)",
	 0},
	{0, NULL, NULL, NULL, NULL, "Peers that live but do not answer", 0},
	{0, "reply-timeout", "HOLDFAST_REPLY_TIMEOUT", NULL, "TIME", "longest wait for a reply to what was sent (off)",
	 0},
	{0, "on-unanswered", "HOLDFAST_ON_UNANSWERED", NULL, "ACTION", "abort (default) or report", 0},
	{0, "stall-timeout", "HOLDFAST_STALL_TIMEOUT", NULL, "TIME", "how long a peer may leave data unread (60s)", 0},
	{0, "on-stall", "HOLDFAST_ON_STALL", NULL, "ACTION", "report (default) or abort", 0},
	{0, "half-close-timeout", "HOLDFAST_HALF_CLOSE_TIMEOUT", NULL, "TIME",
	 "how long a half-closed connection may be\n"
	 "silent (60s)",
	 0},
	{0, "on-half-close", "HOLDFAST_ON_HALF_CLOSE", NULL, "ACTION", "report (default) or abort", 0},
	{0, NULL, NULL, NULL, NULL, "Wrap mode", 0},
	{0, "fallback", "HOLDFAST_FALLBACK", NULL, "WHAT",
	 "peer without holdfast: plain (default), go on in probe\n"
	 "mode; or fail",
	 0},
	{0, "hello-wait", "HOLDFAST_HELLO_WAIT", NULL, "TIME",
	 "how long the peer may take to show it has holdfast (1s)", 0},
	{0, "reconnect-window", "HOLDFAST_RECONNECT_WINDOW", NULL, "TIME", "how long to try to resume (60s)", 0},
	{0, "resume-buffer", "HOLDFAST_RESUME_BUFFER", NULL, "SIZE", "unacknowledged data kept per direction (1M)", 0},
	{0, "linger", "HOLDFAST_LINGER", NULL, "TIME", "at exit, longest wait to hand over what was written (2s)", 0},
	{0, "key-file", "HOLDFAST_KEY_FILE", NULL, "PATH", "shared secret to authenticate the peer with", 0},
	{0, "info", "HOLDFAST_INFO", NULL, "TEXT", "shown to the peer's operator, up to 64 bytes", 0},
	{0, NULL, NULL, NULL, NULL, "Reports", 0},
	{0, "report", "HOLDFAST_REPORT", NULL, "LIST",
	 "stderr (default), syslog, file:PATH, unix:PATH, fd:N; or\n"
	 "none; paths cannot contain commas",
	 0},
	{0, "format", "HOLDFAST_FORMAT", NULL, "FORMAT", "text (default) or json", 0},
	{0, "json", "HOLDFAST_FORMAT", "json", NULL, "the same as --format=json", 0},
	{0, "level", "HOLDFAST_LEVEL", NULL, "LEVEL", "error, warn (default), info or debug", 0},
	{'v', "verbose", NULL, NULL, NULL, "level info; twice: debug", VERBOSE},
};

static const struct hf_option own[] = {
	{0, NULL, NULL, NULL, NULL, "This command", 0},
	{0, "library", NULL, NULL, "PATH", "use this libholdfast.so (found beside the tool otherwise)", LIBRARY},
	{'n', "dry-run", NULL, NULL, NULL, "show what would be set and run, and stop", DRY_RUN},
	{'h', "help", NULL, NULL, NULL, "show this text", HELP},
	{'V', "version", NULL, NULL, NULL, "show the version", VERSION},
};

enum { SETTINGS = sizeof settings / sizeof settings[0], OWN = sizeof own / sizeof own[0] };

static const struct hf_options table = {settings, own, SETTINGS, OWN, true};

const struct hf_option *hf_run_settings(size_t *n)
{
	*n = SETTINGS;
	return settings;
}

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

bool hf_run_apply(struct hf_run_options *options, const struct hf_option *option, const char *argument)
{
	if (option->variable)
		set(options, option->variable, option->argument ? argument : option->value);
	else if (option->id == VERBOSE)
		set(options, "HOLDFAST_LEVEL", options->verbose++ ? "debug" : "info");
	else
		return false;
	return true;
}

static void apply(struct hf_run_options *options, const struct hf_option *option, const char *argument)
{
	if (hf_run_apply(options, option, argument))
		return;
	switch (option->id) {
	case LIBRARY:
		options->library = argument;
		break;
	case DRY_RUN:
		options->dry_run = true;
		break;
	case HELP:
		options->help = true;
		break;
	default:
		options->version = true;
		break;
	}
}

bool hf_run_options_parse(struct hf_run_options *options, int argc, char **argv)
{
	const struct hf_option *option;
	bool wrong;

	memset(options, 0, sizeof *options);
	while ((option = hf_options_next(&table, argc, argv, &wrong)))
		apply(options, option, optarg);
	options->command = argv + optind;
	return !wrong;
}

void hf_run_options_help(void)
{
	puts("Usage: holdfast run [OPTION...] [--] COMMAND [ARGUMENT...]\n\n"
	     "Runs COMMAND with libholdfast.so preloaded: it watches every TCP connection the program and its\n"
	     "children have, and ends dead ones with ETIMEDOUT.  Peers that are only slow are left alone.");
	hf_options_help(&table);
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
