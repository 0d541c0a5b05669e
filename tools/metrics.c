/* holdfast metrics: what is watched, counted and measured, for Prometheus. */
#include "arena_read.h"
#include "command.h"
#include "config.h"
#include "metrics_serve.h"
#include "metrics_text.h"
#include "options.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { OUTPUT = 1, EVERY, LISTEN, FORMAT, HELP };
enum { STATUS_FAILED = 1 };

static const struct hf_option lines[] = {
	{0, NULL, NULL, NULL, NULL, "Options", 0},
	{'o', "output", NULL, NULL, "FILE",
	 "into FILE, which is replaced at once: for the textfile\ncollector of node_exporter", OUTPUT},
	{0, "every", NULL, NULL, "TIME", "again each TIME, until it is interrupted; with --output", EVERY},
	{'l', "listen", NULL, NULL, "WHERE",
	 "answer GET /metrics there: PORT (on 127.0.0.1), ADDRESS:PORT\nor [ADDRESS]:PORT", LISTEN},
	{0, "format", NULL, NULL, "FORMAT",
	 "openmetrics (default) or prometheus, the older text format\n(default with --output)", FORMAT},
	{'h', "help", NULL, NULL, NULL, "show this text", HELP},
};

static const struct hf_options table = {lines, NULL, sizeof lines / sizeof lines[0], 0, false};

struct wanted {
	const char *output, *listen;
	uint32_t every; /* ms; 0: once */
	bool openmetrics, has_form, help;
};

struct source {
	struct hf_reader *reader;
	struct hf_snapshot snapshot;
};

static void usage(void)
{
	puts("Usage: holdfast metrics [OPTION...]\n\n"
	     "Writes what preloaded processes watch, count and measure in the text format of Prometheus, summed by\n"
	     "program, mode and role: of your own processes; of all, as root.");
	hf_options_help(&table);
	puts("\nCounters and histograms count since each family of processes began.  With --listen or --every what "
	     "those\n"
	     "counted that have ended since this command began stays in them, as Prometheus expects; without, it does "
	     "not.\n\n"
	     "Exit status: 0; 1 if /proc cannot be read, the output not be written or the address not be used; 2 for "
	     "a\n"
	     "wrong option.\n\n"
	     "Examples:\n"
	     "  holdfast metrics\n"
	     "  holdfast metrics --listen 9747\n"
	     "  holdfast metrics --output /var/lib/prometheus/node-exporter/holdfast.prom --every 15s");
}

static bool take(const struct hf_option *option, struct wanted *wanted)
{
	switch (option->id) {
	case OUTPUT:
		wanted->output = optarg;
		return true;
	case LISTEN:
		wanted->listen = optarg;
		return true;
	case EVERY:
		if (hf_parse_time(optarg, &wanted->every) && wanted->every >= 100)
			return true;
		hf_tell("--every: \"%s\": expected a time of 100ms or more, such as 15s", optarg);
		return false;
	case FORMAT:
		wanted->has_form = true;
		wanted->openmetrics = strcmp(optarg, "openmetrics") == 0;
		if (wanted->openmetrics || strcmp(optarg, "prometheus") == 0)
			return true;
		hf_tell("--format: \"%s\": expected openmetrics or prometheus", optarg);
		return false;
	default:
		wanted->help = true;
		return true;
	}
}

static bool make(FILE *out, bool openmetrics, void *arg)
{
	struct source *source = arg;

	if (!hf_reader_look(source->reader, &source->snapshot)) {
		hf_tell("cannot read /proc: %s", strerror(errno));
		return false;
	}
	return hf_metrics_text(out, &source->snapshot, openmetrics) && !ferror(out);
}

/*
 * What FILE is to be called, in PLACE: what a link points to.  Only a file is replaced: /dev/null and the terminal
 * would go to everybody's loss.
 */
static bool find_place(const char *file, char place[PATH_MAX])
{
	struct stat status;

	if (lstat(file, &status) < 0 && errno == ENOENT)
		return snprintf(place, PATH_MAX, "%s", file) < PATH_MAX || (errno = ENAMETOOLONG, false);
	if (!realpath(file, place) || stat(place, &status) < 0)
		return false;
	if (S_ISREG(status.st_mode))
		return true;
	errno = S_ISDIR(status.st_mode) ? EISDIR : 0;
	return false;
}

/* Into a file beside it that then takes its place: a reader sees the old one or the new one, whole. */
static bool write_file(const char *file, bool openmetrics, struct source *source)
{
	char path[PATH_MAX], temporary[PATH_MAX];
	int length, fd;
	mode_t mask = umask(022);
	bool good;
	FILE *out;

	umask(mask);
	if (!find_place(file, path)) {
		hf_tell("%s: %s", file,
			errno ? strerror(errno) : "not a regular file; without --output it goes to standard output");
		return false;
	}
	length = snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
	if (length < 0 || (size_t)length >= sizeof temporary) {
		hf_tell("%s: %s", path, strerror(ENAMETOOLONG));
		return false;
	}
	fd = mkostemp(temporary, O_CLOEXEC);
	out = fd >= 0 ? fdopen(fd, "w") : NULL;
	if (!out) {
		hf_tell("%s: %s", path, strerror(errno));
		if (fd >= 0) {
			close(fd);
			unlink(temporary);
		}
		return false;
	}
	/* The collector runs as another user. */
	good = make(out, openmetrics, source) && fchmod(fd, 0644 & ~mask) == 0;
	good = fclose(out) == 0 && good && rename(temporary, path) == 0;
	if (!good) {
		hf_tell("%s: %s", path, strerror(errno));
		unlink(temporary);
	}
	return good;
}

static int run(const struct wanted *wanted, struct source *source)
{
	struct timespec period = {wanted->every / 1000, (long)(wanted->every % 1000) * 1000000};
	int listener;
	bool good;

	if (wanted->listen) {
		listener = hf_metrics_listen(wanted->listen);
		if (listener >= 0)
			hf_metrics_serve(listener, make, source);
		return listener == HF_METRICS_WRONG ? HF_EXIT_USAGE : STATUS_FAILED;
	}
	if (!wanted->output) {
		good = make(stdout, wanted->openmetrics, source);
		return hf_flushed() && good ? 0 : STATUS_FAILED;
	}
	do {
		good = write_file(wanted->output, wanted->openmetrics, source);
		if (wanted->every != 0)
			nanosleep(&period, NULL);
	} while (wanted->every != 0);
	return good ? 0 : STATUS_FAILED;
}

int hf_metrics(int argc, char **argv)
{
	struct wanted wanted = {0};
	struct source source = {0};
	const struct hf_option *option;
	bool wrong;
	int status;

	while ((option = hf_options_next(&table, argc, argv, &wrong)) != NULL) {
		if (!take(option, &wanted))
			return HF_EXIT_USAGE;
	}
	if (wrong)
		return HF_EXIT_USAGE;
	if (wanted.help) {
		usage();
		return 0;
	}
	if (optind < argc || (wanted.listen && (wanted.output || wanted.has_form)) ||
	    (wanted.every != 0 && !wanted.output)) {
		hf_tell(optind < argc   ? "metrics takes no arguments"
			: wanted.listen ? "--listen goes without --output and --format: the client chooses"
					: "--every goes with --output");
		return HF_EXIT_USAGE;
	}
	if (!wanted.has_form)
		wanted.openmetrics = !wanted.output;
	source.reader = hf_reader_open();
	if (!source.reader) {
		hf_tell("cannot read /proc: %s", strerror(errno));
		return STATUS_FAILED;
	}
	status = run(&wanted, &source);
	hf_reader_close(source.reader);
	hf_snapshot_free(&source.snapshot);
	return status;
}
