/* holdfast events: follow the events of running programs from a sink. */
#include "command.h"
#include "event_exec.h"
#include "event_line.h"
#include "event_match.h"
#include "event_source.h"
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

enum {
	EVENT = 1,
	REASON,
	LEVEL,
	PROG,
	PID,
	CONN,
	LOCAL,
	PEER,
	UNTIL,
	COUNT,
	TIMEOUT,
	FROM_START,
	JSON,
	QUIET,
	EXEC,
	JOBS,
	HELP
};

static const struct hf_option lines[] = {
	{0, NULL, NULL, NULL, NULL, "Which events (an event has to pass all of these)", 0},
	{'e', "event", NULL, NULL, "LIST", "of these kinds: dead,stalled", EVENT},
	{0, "reason", NULL, NULL, "LIST", "dead for these reasons: path,hung,unanswered,reset,connect", REASON},
	{0, "level", NULL, NULL, "LEVEL", "at least that important: error, warn, info or debug", LEVEL},
	{0, "prog", NULL, NULL, "GLOB", "of programs of that name", PROG},
	{0, "pid", NULL, NULL, "PID", "of that process", PID},
	{0, "peer", NULL, NULL, "ADDRESS", "peer's address: 10.0.0.0/8, 10.0.0.1:80, :80, [::1]:80", PEER},
	{0, "local", NULL, NULL, "ADDRESS", "our own address, in the same forms", LOCAL},
	{0, "conn", NULL, NULL, "CONN", "of that connection, as the field conn names it", CONN},
	{0, NULL, NULL, NULL, NULL, "How long", 0},
	{0, "until", NULL, NULL, "LIST", "end after an event of these kinds", UNTIL},
	{0, "count", NULL, NULL, "N", "end after N events", COUNT},
	{'t', "timeout", NULL, NULL, "TIME", "end after that time", TIMEOUT},
	{0, "from-start", NULL, NULL, NULL, "file: begin with what is in it already", FROM_START},
	{0, NULL, NULL, NULL, NULL, "What to do with them", 0},
	{0, "json", NULL, NULL, NULL, "show the JSON, not the sentence", JSON},
	{'q', "quiet", NULL, NULL, NULL, "show nothing", QUIET},
	{'x', "exec", NULL, NULL, "COMMAND",
	 "sh -c COMMAND for each, the fields in its environment as\nHOLDFAST_EVENT_PEER and so on", EXEC},
	{0, "jobs", NULL, NULL, "N", "commands at a time (4)", JOBS},
	{'h', "help", NULL, NULL, NULL, "show this text", HELP},
};

static const struct hf_options table = {lines, NULL, sizeof lines / sizeof lines[0], 0, false};

enum { STATUS_SEEN = 0, STATUS_TIME_OUT = 1 };

struct wanted {
	struct hf_event_match match;
	uint32_t until;      /* kinds */
	unsigned long count; /* 0: no end */
	uint32_t timeout;    /* ms; 0: none */
	bool has_timeout, from_start, json, quiet, help;
};

static struct state {
	struct wanted wanted;
	struct hf_source source;
	struct hf_exec exec;
	struct hf_event_line line;
	unsigned long shown, strange;
	bool colour, seen; /* seen: the end that was waited for */
	int caught;        /* signal that ends us */
	bool no_reader;    /* of standard output */
} state;

static void usage(void)
{
	puts("Usage: holdfast events [OPTION...] SINK\n\n"
	     "Follows the events of programs run with HOLDFAST_FORMAT=json and HOLDFAST_REPORT=SINK.  SINK is\n"
	     "unix:PATH, a datagram socket that is made here and removed at the end; file:PATH, also while it is\n"
	     "rotated; or -, standard input.");
	hf_options_help(&table);
	puts("\nExit status: 0 the event of --until, or the number of --count, or with neither any event at all, was\n"
	     "seen; 1 it was not, and the time or the input is over; 2 wrong usage.\n\n"
	     "Examples:\n"
	     "  holdfast events unix:/run/holdfast.sock\n"
	     "  holdfast events --until dead --timeout 30s --prog nginx file:/var/log/holdfast.json\n"
	     "  holdfast events -q -e dead -x 'logger \"$HOLDFAST_EVENT_TEXT\"' unix:/run/holdfast.sock");
}

/* --- options --- */

static bool take_number(const char *option, const char *text, unsigned long most, unsigned long *number)
{
	char *end;

	errno = 0;
	*number = strtoul(text, &end, 10);
	if (errno == 0 && *text >= '0' && *text <= '9' && !*end && *number >= 1 && *number <= most)
		return true;
	hf_tell("%s: \"%s\": expected a number from 1 to %lu", option, text, most);
	return false;
}

static bool take_conn(const char *text, uint64_t *conn)
{
	size_t n = strlen(text);

	if (n > 0 && n <= 16 && strspn(text, "0123456789abcdefABCDEF") == n)
		*conn = strtoull(text, NULL, 16);
	if (*conn == 0)
		hf_tell("--conn: \"%s\": expected a hexadecimal number", text);
	return *conn != 0;
}

static bool take_level(const char *text, int *level)
{
	*level = hf_event_level_named(text);
	if (*level < 0)
		hf_tell("--level: \"%s\": expected error, warn, info or debug", text);
	return *level >= 0;
}

static bool take_timeout(const char *text, struct wanted *wanted)
{
	wanted->has_timeout = hf_parse_time(text, &wanted->timeout);
	if (!wanted->has_timeout)
		hf_tell("--timeout: \"%s\": expected a time such as 500ms, 30s or 2m", text);
	return wanted->has_timeout;
}

static bool take_filter(struct hf_event_match *match, int id, const char *argument)
{
	unsigned long number = 0;

	switch (id) {
	case EVENT:
		return hf_event_kinds("--event", argument, &match->kinds);
	case REASON:
		return hf_event_reasons("--reason", argument, &match->reasons);
	case LEVEL:
		return take_level(argument, &match->level);
	case PROG:
		match->prog = argument;
		return true;
	case PID:
		if (!take_number("--pid", argument, INT32_MAX, &number))
			return false;
		match->pid = (int)number;
		return true;
	case CONN:
		return take_conn(argument, &match->conn);
	case LOCAL:
		free(match->local);
		return hf_event_address("--local", argument, &match->local);
	default:
		free(match->peer);
		return hf_event_address("--peer", argument, &match->peer);
	}
}

static bool take(struct wanted *wanted, int id, const char *argument)
{
	unsigned long number = 0;

	switch (id) {
	case UNTIL:
		return hf_event_kinds("--until", argument, &wanted->until);
	case COUNT:
		return take_number("--count", argument, INT32_MAX, &wanted->count);
	case TIMEOUT:
		return take_timeout(argument, wanted);
	case FROM_START:
		wanted->from_start = true;
		return true;
	case JSON:
		wanted->json = true;
		return true;
	case QUIET:
		wanted->quiet = true;
		return true;
	case EXEC:
		state.exec.command = argument;
		return true;
	case JOBS:
		if (!take_number("--jobs", argument, HF_EXEC_JOBS, &number))
			return false;
		state.exec.limit = (int)number;
		return true;
	case HELP:
		wanted->help = true;
		return true;
	default:
		return take_filter(&wanted->match, id, argument);
	}
}

static bool parse(int argc, char **argv)
{
	const struct hf_option *option;
	bool wrong;

	state.wanted.match.level = -1;
	state.exec.limit = 4;
	while ((option = hf_options_next(&table, argc, argv, &wrong))) {
		if (!take(&state.wanted, option->id, optarg))
			return false;
		if (state.wanted.help)
			return true;
	}
	if (wrong)
		return false;
	if (optind + 1 != argc)
		hf_tell("expected one sink; try: holdfast events unix:PATH, or holdfast events --help");
	return optind + 1 == argc;
}

/* --- one event --- */

static void show(const char *bytes, size_t length)
{
	static const char *const colours[] = {
		[HF_ERROR] = "\033[1;31m", [HF_WARN] = "\033[33m", [HF_INFO] = "", [HF_DEBUG] = "\033[2m"};
	const char *colour = state.colour ? colours[state.line.level] : "";
	char sentence[HF_LINE];
	size_t n;

	if (state.wanted.quiet)
		return;
	if (state.wanted.json) {
		fwrite(bytes, 1, length, stdout);
		putchar('\n');
	} else {
		n = hf_event_line_sentence(&state.line, sentence, sizeof sentence);
		printf("%s %s%.*s%s\n", state.line.ts, colour, (int)n - 1, sentence, *colour ? "\033[0m" : "");
	}
	if (fflush(stdout) != 0 || ferror(stdout))
		state.no_reader = true;
}

/* Lines that are no events: text format, most likely. */
static void strange(void)
{
	if (state.strange++ == 0)
		hf_tell("a line that is no event; the programs need HOLDFAST_FORMAT=json");
}

static bool one(const char *bytes, size_t length, void *arg)
{
	const struct wanted *wanted = &state.wanted;
	uint32_t kind;

	(void)arg;
	if (!hf_event_line_read(&state.line, bytes, length)) {
		strange();
		return true;
	}
	kind = UINT32_C(1) << state.line.event.kind;
	if (!hf_event_matches(&wanted->match, &state.line) ||
	    (wanted->match.kinds && !((wanted->match.kinds | wanted->until) & kind)))
		return true;
	show(bytes, length);
	hf_exec_event(&state.exec, bytes, length);
	state.shown++;
	state.seen = (wanted->until & kind) || (wanted->count && state.shown >= wanted->count);
	return !state.seen && !state.no_reader;
}

/* --- the loop --- */

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* The time poll(2) may take: until DEADLINE (-1: none), at most LIMIT (-1: none). */
static int until(int64_t deadline, int limit)
{
	int64_t left = deadline < 0 ? -1 : deadline - now_ms();

	if (deadline < 0)
		return limit;
	if (left < 0)
		left = 0;
	if (left > INT32_MAX)
		left = INT32_MAX;
	return limit >= 0 && limit < left ? limit : (int)left;
}

static int catch_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, &state.exec.signals);
	signal(SIGPIPE, SIG_IGN); /* the socket has to be removed first */
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void take_signals(int fd)
{
	struct signalfd_siginfo info;

	while (read(fd, &info, sizeof info) == (ssize_t)sizeof info) {
		if (info.ssi_signo != SIGCHLD)
			state.caught = (int)info.ssi_signo;
	}
	hf_exec_reap(&state.exec);
}

/* Events until the end, or DEADLINE. */
static void follow(int signals, int64_t deadline)
{
	while (!state.seen && !state.caught && !state.no_reader && !state.source.ended) {
		struct pollfd fds[2] = {{.fd = signals, .events = POLLIN}};
		int limit = hf_source_poll(&state.source, &fds[1]);

		if (hf_source_more(&state.source))
			limit = 0;
		if (deadline >= 0 && now_ms() >= deadline)
			return;
		if (poll(fds, 2, until(deadline, limit)) < 0 && errno != EINTR)
			return;
		take_signals(signals);
		if (fds[1].revents || state.source.kind == HF_SOURCE_FILE)
			hf_source_read(&state.source, one, NULL);
	}
}

/* Commands are waited for, but not longer than the time given. */
static void finish(int signals, int64_t deadline)
{
	while (hf_exec_busy(&state.exec) && !state.caught && (deadline < 0 || now_ms() < deadline)) {
		struct pollfd fd = {.fd = signals, .events = POLLIN};

		poll(&fd, 1, until(deadline, -1));
		take_signals(signals);
	}
	hf_exec_end(&state.exec);
}

static int end(void)
{
	if (state.strange > 1)
		hf_tell("%lu lines were no events", state.strange);
	if (state.caught || state.no_reader) { /* end as if it had not been caught */
		sigset_t set;

		sigemptyset(&set);
		sigaddset(&set, state.caught ? state.caught : SIGPIPE);
		signal(state.caught ? state.caught : SIGPIPE, SIG_DFL);
		raise(state.caught ? state.caught : SIGPIPE);
		sigprocmask(SIG_UNBLOCK, &set, NULL);
	}
	if (state.wanted.until || state.wanted.count)
		return state.seen ? STATUS_SEEN : STATUS_TIME_OUT;
	return state.shown > 0 ? STATUS_SEEN : STATUS_TIME_OUT;
}

int hf_events(int argc, char **argv)
{
	const char *no_color = getenv("NO_COLOR");
	int64_t deadline;
	int signals, status;

	if (!parse(argc, argv))
		return HF_EXIT_USAGE;
	if (state.wanted.help) {
		usage();
		return 0;
	}
	state.colour = isatty(STDOUT_FILENO) && !(no_color && *no_color);
	signals = catch_signals();
	deadline = state.wanted.has_timeout ? now_ms() + state.wanted.timeout : -1;
	status = hf_source_open(&state.source, argv[optind], state.wanted.from_start);
	if (status != 0)
		return status;
	if (state.source.kind == HF_SOURCE_FILE)
		hf_source_read(&state.source, one, NULL);
	follow(signals, deadline);
	hf_source_close(&state.source);
	finish(signals, deadline);
	close(signals);
	free(state.wanted.match.local);
	free(state.wanted.match.peer);
	return end();
}
