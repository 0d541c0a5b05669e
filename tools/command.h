/*
 * The subcommands of the holdfast tool.  Each gets its own argument vector, argv[0] being "holdfast NAME" for
 * messages, and returns the exit status: 0, or 2 for a wrong option or setting, after one line on standard error.
 */
#ifndef HOLDFAST_COMMAND_H
#define HOLDFAST_COMMAND_H

#include <stdbool.h>

/* Exit statuses of "holdfast run" for a command that cannot be executed; those of the shell, and of env(1). */
enum { HF_EXIT_USAGE = 2, HF_EXIT_CANNOT_EXECUTE = 126, HF_EXIT_NOT_FOUND = 127 };

/* "holdfast: " and one line on standard error. */
void hf_tell(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Whether all of standard output could be written; tells if not. */
bool hf_flushed(void);

/* holdfast run [options] [--] COMMAND [ARG...]; returns only when the command could not be executed. */
int hf_run(int argc, char **argv);

/* holdfast check [options] PROGRAM... */
int hf_check(int argc, char **argv);

/* holdfast enable [options] UNIT..., holdfast disable [options] UNIT... */
int hf_enable(int argc, char **argv);
int hf_disable(int argc, char **argv);

/* holdfast explain [options] CONN|PID:FD */
int hf_explain_command(int argc, char **argv);

/* holdfast top [options] */
int hf_top(int argc, char **argv);

/* holdfast metrics [options] */
int hf_metrics(int argc, char **argv);

/* holdfast events [options] SINK */
int hf_events(int argc, char **argv);

#endif
