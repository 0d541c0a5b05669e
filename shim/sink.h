/*
 * Sinks: where finished lines go.
 *
 * Owns the descriptors of file:, unix: and syslog sinks, and the knowledge of which file standard error and fd:N are.
 * Called from shim/report.c only.  Any thread, signal handlers, after fork: raw system calls, no lock.  What threads
 * share is one 64-bit atomic per sink, descriptor and identity in one word, so that no torn pair is ever seen.
 *
 * Never blocks and never harms:
 *  - a line goes only to a descriptor whose device and inode are still those it was chosen for; the program may have
 *    closed it, and its next file or connection may have the number;
 *  - never to a network socket: it would become part of a conversation;
 *  - no SIGPIPE, SIGTTOU or SIGXFSZ for the program;
 *  - for standard error and fd:N no descriptor of our own is kept: a second write end of a pipe would hide the
 *    program's end of file from the reader.
 */
#ifndef HOLDFAST_SINK_H
#define HOLDFAST_SINK_H

#include "config.h"

/* One finished line. */
struct hf_line {
	const char *text; /* with its newline */
	size_t len;
	size_t tag; /* leading bytes that syslog leaves out because it says the same in its own form */
	enum hf_level level;
	int pid;
};

/* Choose COUNT sinks; SETTINGS must outlive the library. Tells on standard error what cannot work. */
void hf_sink_open(const struct hf_sink_setting *settings, size_t count);
size_t hf_sink_count(void);

/* Runs what opens a descriptor where that does not disturb the program's numbers; NULL: right here. Set once. */
extern void (*hf_sink_aside)(void (*fn)(void *), void *arg);

/* See hf_report_pin(). */
void hf_sink_pin(void);

/* Take over telling of the lines that sink I has lost: how many. hf_sink_put() gives them back if it fails too. */
uint32_t hf_sink_take_lost(size_t i);

/*
 * Give LINE, which tells of TOLD lost lines, to sink I.  If it is not taken, it counts as lost with the others.
 * Returns 0, or -errno for the reader of tests: nothing else is to be done.
 */
int hf_sink_put(size_t i, const struct hf_line *line, uint32_t told);

/* A raw line to standard error, newline added. Same care, no count. */
int hf_sink_stderr(const char *line);

/* Behind hf_report_owns(), hf_report_next_fd() and hf_report_stderr_replaced(). */
bool hf_sink_owns(int fd);
int hf_sink_next_fd(int from);
void hf_sink_stderr_replaced(void);

/*
 * Move FD, just opened by us, to a high close-on-exec number: low ones are the program's to predict.  Not above
 * 1023, whatever RLIMIT_NOFILE: the kernel sizes and, at fork, copies the table up to the highest number in use.
 * Returns the new number, FD closed; or FD itself when none is to be had.
 */
int hf_fd_raise(int fd);

#endif
