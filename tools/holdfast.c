/* The holdfast tool: finds the subcommand and calls it. */
#include "command.h"

#include <stdio.h>
#include <string.h>

static int help(int argc, char **argv);
static int version(int argc, char **argv);

/* A new subcommand is a line here, a prototype in command.h and a file of its own. */
static const struct command {
	const char *name, *help;
	char *argv0; /* for the messages of getopt(3), which begin with it */
	int (*call)(int argc, char **argv);
} commands[] = {
	{"run", "run a program with its TCP connections watched", "holdfast run", hf_run},
	{"check", "say what holdfast can do for a program", "holdfast check", hf_check},
	{"top", "show the watched connections of running programs", "holdfast top", hf_top},
	{"explain", "say why a connection is judged as it is", "holdfast explain", hf_explain_command},
	{"metrics", "count and measure for Prometheus", "holdfast metrics", hf_metrics},
	{"events", "follow the events of running programs", "holdfast events", hf_events},
	{"enable", "preload it into a systemd service", "holdfast enable", hf_enable},
	{"disable", "undo that", "holdfast disable", hf_disable},
	{"help", "show this text, or the help of a command", "holdfast help", help},
	{"version", "show the version", "holdfast version", version},
};

enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void usage(void)
{
	puts("Usage: holdfast COMMAND [ARGUMENT...]\n\n"
	     "Keeps the TCP connections of unmodified programs alive and honest: a dead connection ends with\n"
	     "ETIMEDOUT within a time you choose, and a slow peer is left alone.\n\n"
	     "Commands:");
	for (size_t i = 0; i < COMMANDS; i++)
		printf("  %-9s %s\n", commands[i].name, commands[i].help);
	puts("\nTry:  holdfast run -i 5s -t 15s -- nc example.org 80\n"
	     "      holdfast run --help");
}

static const struct command *find(const char *name)
{
	for (size_t i = 0; i < COMMANDS; i++) {
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	}
	return NULL;
}

static int call(const char *name, int argc, char **argv)
{
	const struct command *command = find(name);

	if (!command) {
		hf_tell("%s: unknown command; expected one of those in holdfast --help", name);
		return HF_EXIT_USAGE;
	}
	argv[0] = command->argv0;
	return command->call(argc, argv);
}

static int help(int argc, char **argv)
{
	char *ask[] = {NULL, (char[]){"--help"}, NULL};

	if (argc < 2 || !find(argv[1]) || find(argv[1])->call == help || find(argv[1])->call == version) {
		usage();
		return 0;
	}
	return call(argv[1], 2, ask);
}

static int version(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	puts("holdfast " HF_VERSION);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		hf_tell("a command is missing; try: holdfast run -- PROGRAM, or holdfast --help");
		return HF_EXIT_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return help(0, NULL);
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
		return version(0, NULL);
	return call(argv[1], argc - 1, argv + 1);
}
