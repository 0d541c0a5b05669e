/* holdfast top: every watched connection, on the screen or as text. */
#include "arena_read.h"
#include "command.h"
#include "config.h"
#include "options.h"
#include "table.h"
#include "top_screen.h"
#include "view_json.h"

#include <errno.h>
#include <getopt.h>
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { ONCE = 1, JSON, WATCH, SORT, REVERSE, FILTER, DELAY, HELP };
enum { STATUS_FAILED = 1, PERIOD_MS = 1000, LINE = 4096 };

static const struct hf_option lines[] = {
	{0, NULL, NULL, NULL, NULL, "Which connections, and in what order", 0},
	{'f', "filter", NULL, NULL, "WORDS", "those whose row has all WORDS, and no word after \"!\"", FILTER},
	{'s', "sort", NULL, NULL, "COLUMN",
	 "program, pid, fd, role, mode, state (default), verdict, idle,\nrtt, unread, there, beats, sent, received, "
	 "age, "
	 "peer or\npeer-program",
	 SORT},
	{'r', "reverse", NULL, NULL, NULL, "the other way round", REVERSE},
	{0, NULL, NULL, NULL, NULL, "How to show them", 0},
	{'d', "delay", NULL, NULL, "TIME", "time between looks, 100ms at least (1s)", DELAY},
	{0, "once", NULL, NULL, NULL, "a table on standard output, and stop", ONCE},
	{0, "json", NULL, NULL, NULL, "the same as JSON, one object for each connection", JSON},
	{'w', "watch", NULL, NULL, "TIME", "a table (or JSON) every TIME, until it is interrupted", WATCH},
	{'h', "help", NULL, NULL, NULL, "show this text", HELP},
};

static const struct hf_options table_of_options = {lines, NULL, sizeof lines / sizeof lines[0], 0, false};

struct wanted {
	bool once, json, help;
	uint32_t watch, delay; /* ms; 0: not given */
};

static void usage(void)
{
	puts("Usage: holdfast top [OPTION...]\n\n"
	     "Shows the connections that preloaded processes watch: those of your own processes; of all, as root.  On "
	     "a\n"
	     "terminal as a live screen (press ? for its keys), or as text for scripts.");
	hf_options_help(&table_of_options);
	puts("\nColours are left out when NO_COLOR is set.\n\n"
	     "Exit status: 0; 1 if the screen or /proc cannot be used, or the output not be written; 2 for a wrong "
	     "option.\n\n"
	     "Examples:\n"
	     "  holdfast top\n"
	     "  holdfast top --once --filter 'postgres !ESTABLISHED' --sort idle\n"
	     "  holdfast top --json --watch 10s");
}

static bool parse_period(const char *name, const char *text, uint32_t *ms)
{
	if (hf_parse_time(text, ms) && *ms >= 100)
		return true;
	hf_tell("--%s: \"%s\": expected a time of 100ms or more, such as 2s", name, text);
	return false;
}

static bool take(const struct hf_option *option, struct wanted *wanted, struct hf_table *table)
{
	int column;

	switch (option->id) {
	case ONCE:
		wanted->once = true;
		return true;
	case JSON:
		wanted->json = true;
		return true;
	case WATCH:
		return parse_period(option->name, optarg, &wanted->watch);
	case DELAY:
		return parse_period(option->name, optarg, &wanted->delay);
	case SORT:
		column = hf_column_find(optarg);
		if (column < 0) {
			hf_tell("--sort: \"%s\": expected one of the columns in holdfast top --help", optarg);
			return false;
		}
		table->sort = (enum hf_column)column;
		return true;
	case REVERSE:
		table->reverse = true;
		return true;
	case FILTER:
		if (strlen(optarg) >= sizeof table->filter) {
			hf_tell("--filter: too long: at most %zu bytes", sizeof table->filter - 1);
			return false;
		}
		strcpy(table->filter, optarg); /* NOLINT(clang-analyzer-security.insecureAPI.strcpy): it fits */
		return true;
	default:
		wanted->help = true;
		return true;
	}
}

static void print_table(struct hf_table *table, const struct hf_snapshot *snapshot)
{
	char line[LINE];

	hf_table_layout(table, snapshot, 0);
	hf_table_head(table, line, sizeof line);
	puts(line);
	for (size_t i = 0; i < table->count; i++) {
		hf_table_row(table, snapshot, i, line, sizeof line);
		puts(line);
	}
}

static void print_json(const struct hf_table *table, const struct hf_snapshot *snapshot)
{
	for (size_t i = 0; i < table->count; i++) {
		putchar('{');
		hf_view_json(stdout, snapshot, &snapshot->seen[table->rows[i]]);
		puts("}");
	}
}

/* Tables or JSON on standard output. */
static int print(struct hf_reader *reader, struct hf_table *table, const struct wanted *wanted)
{
	struct timespec period = {wanted->watch / 1000, (long)(wanted->watch % 1000) * 1000000};
	struct hf_snapshot snapshot = {0};
	bool good = true;

	for (unsigned turn = 0; good; turn++) {
		good = hf_reader_look(reader, &snapshot) && hf_table_fill(table, &snapshot);
		if (!good) {
			hf_tell("cannot read /proc: %s", strerror(errno));
			break;
		}
		if (turn == 0)
			hf_snapshot_tell_hidden(&snapshot);
		else if (!wanted->json)
			putchar('\n');
		if (wanted->json)
			print_json(table, &snapshot);
		else
			print_table(table, &snapshot);
		good = hf_flushed();
		if (wanted->watch == 0)
			break;
		nanosleep(&period, NULL);
	}
	hf_snapshot_free(&snapshot);
	return good ? 0 : STATUS_FAILED;
}

int hf_top(int argc, char **argv)
{
	struct hf_table table = {.sort = HF_COL_STATE};
	struct wanted wanted = {0};
	const struct hf_option *option;
	struct hf_reader *reader;
	bool wrong;
	int status;

	while ((option = hf_options_next(&table_of_options, argc, argv, &wrong)) != NULL) {
		if (!take(option, &wanted, &table))
			return HF_EXIT_USAGE;
	}
	if (wrong)
		return HF_EXIT_USAGE;
	if (wanted.help) {
		usage();
		return 0;
	}
	if (optind < argc) {
		hf_tell("%s: unexpected argument; to choose connections: --filter", argv[optind]);
		return HF_EXIT_USAGE;
	}
	reader = hf_reader_open();
	if (!reader) {
		hf_tell("cannot read /proc: %s", strerror(errno));
		return STATUS_FAILED;
	}
	setlocale(LC_CTYPE, "");
	table.utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
	if (wanted.once || wanted.json || wanted.watch != 0)
		status = print(reader, &table, &wanted);
	else
		status = hf_top_screen(reader, &table, wanted.delay != 0 ? wanted.delay : PERIOD_MS);
	hf_reader_close(reader);
	free(table.rows);
	return status;
}
