/* holdfast explain: why a connection is judged as it is. */
#include "arena_read.h"
#include "command.h"
#include "explain_text.h"
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { JSON = 1, HELP };
enum { STATUS_SHOWN = 0, STATUS_NONE = 1 };

static const struct hf_option lines[] = {
	{0, NULL, NULL, NULL, NULL, "Options", 0},
	{0, "json", NULL, NULL, NULL, "one JSON object for each connection", JSON},
	{'h', "help", NULL, NULL, NULL, "show this text", HELP},
};

static const struct hf_options table = {lines, NULL, sizeof lines / sizeof lines[0], 0, false};

static void usage(void)
{
	puts("Usage: holdfast explain [OPTION...] CONN|PID:FD\n\n"
	     "Says why a watched connection is judged as it is: the evidence, each timer, and what comes next.  CONN "
	     "is\n"
	     "the connection as events and \"holdfast top --json\" name it (field conn), PID:FD a descriptor of a "
	     "process.");
	hf_options_help(&table);
	puts("\nExit status: 0 if it was found; 1 if not, or it could not be shown; 2 for a wrong option.\n\n"
	     "Examples:\n"
	     "  holdfast explain 7ae\n"
	     "  holdfast explain --json 4711:3");
}

/* Which connections are meant. */
struct wanted {
	bool by_number;
	uint64_t cookie;
	unsigned long pid, fd;
};

static bool parse(const char *text, struct wanted *wanted)
{
	char *end;

	errno = 0;
	wanted->by_number = strchr(text, ':') != NULL;
	if (!wanted->by_number) {
		wanted->cookie = strtoull(text, &end, 16);
		return strspn(text, "0123456789abcdefABCDEF") == strlen(text) && *text != '\0' && errno == 0;
	}
	if (strspn(text, "0123456789:") != strlen(text) || text[0] == ':')
		return false;
	wanted->pid = strtoul(text, &end, 10);
	text = end + 1;
	wanted->fd = strtoul(text, &end, 10);
	return errno == 0 && *text != '\0' && *end == '\0';
}

static bool meant(const struct hf_seen *seen, const struct wanted *wanted)
{
	if (!wanted->by_number)
		return seen->view.cookie == wanted->cookie;
	return (unsigned long)seen->pid == wanted->pid && (unsigned long)seen->view.fd == wanted->fd;
}

static int show(const struct hf_snapshot *snapshot, const char *text, const struct wanted *wanted, bool json)
{
	unsigned shown = 0;

	for (size_t i = 0; i < snapshot->count; i++) {
		if (!meant(&snapshot->seen[i], wanted))
			continue;
		if (json) {
			hf_explain_json(stdout, snapshot, &snapshot->seen[i]);
			putchar('\n');
		} else {
			if (shown > 0)
				putchar('\n');
			hf_explain(stdout, snapshot, &snapshot->seen[i]);
		}
		shown++;
	}
	if (shown == 0) {
		hf_tell("%s: no watched connection of that name", text);
		hf_snapshot_tell_hidden(snapshot);
	}
	return hf_flushed() && shown > 0 ? STATUS_SHOWN : STATUS_NONE;
}

int hf_explain_command(int argc, char **argv)
{
	struct hf_snapshot snapshot = {0};
	const struct hf_option *option;
	struct hf_reader *reader;
	struct wanted wanted = {0};
	bool json = false, wrong;
	int status = STATUS_NONE;

	while ((option = hf_options_next(&table, argc, argv, &wrong)) != NULL) {
		if (option->id == HELP) {
			usage();
			return 0;
		}
		json = true;
	}
	if (wrong)
		return HF_EXIT_USAGE;
	if (optind + 1 != argc || !parse(argv[optind], &wanted)) {
		hf_tell("expected one connection: CONN (hexadecimal) or PID:FD; see holdfast top");
		return HF_EXIT_USAGE;
	}
	reader = hf_reader_open();
	if (reader && hf_reader_look(reader, &snapshot))
		status = show(&snapshot, argv[optind], &wanted, json);
	else
		hf_tell("cannot read /proc: %s", strerror(errno));
	if (reader)
		hf_reader_close(reader);
	hf_snapshot_free(&snapshot);
	return status;
}
