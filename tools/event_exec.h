/*
 * Commands run for events: a few at a time, some more waiting, the rest dropped and counted.
 *
 * The fields of the event are in the command's environment as HOLDFAST_EVENT_NAME, the sentence as HOLDFAST_EVENT_TEXT
 * and the line as HOLDFAST_EVENT_JSON.  Single-threaded; the caller waits for SIGCHLD and calls hf_exec_reap().
 */
#ifndef HOLDFAST_EVENT_EXEC_H
#define HOLDFAST_EVENT_EXEC_H

#include "event_line.h"

#include <signal.h>
#include <sys/types.h>

enum { HF_EXEC_JOBS = 64, HF_EXEC_QUEUE = 256 };

struct hf_exec {
	const char *command; /* for sh -c; NULL: none */
	int limit;           /* how many at a time */
	pid_t running[HF_EXEC_JOBS];
	int nrunning;
	char *queue[HF_EXEC_QUEUE]; /* lines, as received */
	size_t first, waiting;
	unsigned long dropped;
	bool told;        /* of dropping */
	sigset_t signals; /* the mask commands get */
};

/* Run the command for LINE, LENGTH bytes, or queue it. */
void hf_exec_event(struct hf_exec *exec, const char *line, size_t length);

/* Collect what has ended and start what waits. */
void hf_exec_reap(struct hf_exec *exec);

/* Whether something runs or waits. */
bool hf_exec_busy(const struct hf_exec *exec);

/* Forget what waits; tell how much was dropped in all. */
void hf_exec_end(struct hf_exec *exec);

#endif
