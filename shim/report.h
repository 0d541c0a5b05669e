/*
 * Reports: one line for each event, to every configured sink.
 *
 * Owns the sinks' descriptors.  Called from the watchdog and from hooks of any thread, possibly inside a signal
 * handler or a freshly forked child: async-signal-safe, no allocation, no stdio, no locale, no lock that can be held
 * by another thread across a system call that blocks.  Never blocks: a full pipe, a slow terminal or an absent
 * listener loses the line (counted, told with the next line that gets through), never the program's time.
 * errno is preserved by every call.
 */
#ifndef HOLDFAST_REPORT_H
#define HOLDFAST_REPORT_H

#include "config.h"

#include <time.h>
#include <holdfast/event.h>
#include <sys/socket.h>

/* What is known of one event; zero or -1 (as noted) means "does not apply" and the field is left out. */
struct hf_event {
	enum hf_event_kind kind;
	enum hf_reason reason;
	enum hf_action action;
	bool has_action;
	int fd;        /* -1: none */
	uint64_t conn; /* SO_COOKIE; 0: none */
	enum hf_mode mode;
	bool has_mode;
	bool client, has_role;               /* role: client or server */
	struct sockaddr_storage local, peer; /* ss_family 0: unknown */
	int64_t silent_ms;                   /* -1 here and below: does not apply */
	int64_t rtt_us, unacked, unread, sent, received, down_ms, resent, peer_pid;
	/* NULL: none; what the peer says of itself, told printable or escaped, never trusted */
	const char *peer_prog, *peer_host, *peer_info;
	const char *detail;  /* NULL: none; free text: what is wrong, for "config" and "vanished" */
	uint32_t suppressed; /* lines of this connection left out by the rate limit since the last one */
};

/* Enough for any event with the longest of every field; below PIPE_BUF, so that a pipe takes it whole or not at all. */
enum { HF_LINE = 1536 };

/* An event with every field marked "does not apply". */
void hf_event_init(struct hf_event *event, enum hf_event_kind kind);

/*
 * Choose the sinks of CONFIG.  Called once from the constructor; PROG is the program's name and must live for ever.
 * Opens nothing: descriptors are made with the first line a sink has to take (none for stderr and fd:N, ever).
 * A sink that cannot work is told on standard error once.  CONFIG must outlive the library.
 */
void hf_report_open(const struct hf_config *config, const char *prog);

/* Tell EVENT to every sink, if HOLDFAST_LEVEL allows. */
void hf_report(const struct hf_event *event);

/* Whether an event of this kind would be told at all: lets callers skip gathering its fields. */
bool hf_report_wanted(enum hf_event_kind kind);

/* One raw line on standard error (a newline is added), for what cannot wait for a sink: a wrong setting at load. */
void hf_report_stderr(const char *line);

/*
 * The program is about to change its user or its root directory: what file: sinks name may soon be out of reach.
 * They are opened and kept from here on; before, a descriptor lives for one line.
 */
void hf_report_pin(void);

/*
 * Whether FD belongs to a sink: close sweeps of the program skip it (TRAPS 18).  Plain loads for every other number;
 * on a match one fstat(2), so that a number the program has come to own meanwhile is never called ours.
 * Standard error and fd:0 to fd:2 are the program's.  Safe anywhere.
 */
bool hf_report_owns(int fd);

/* The lowest descriptor >= FROM owned by a sink, or INT_MAX: for close_range and closefrom. */
int hf_report_next_fd(int from);

/*
 * The program replaced standard error on purpose (dup2, dup3 onto 2): follow it, unless it is a network socket.
 * Never called, the stderr sink writes only while descriptor 2 is the very file it was at load.
 */
void hf_report_stderr_replaced(void);

/* Format EVENT as TEXT or JSON into BUF (always NUL-terminated, newline included); returns the length without NUL.
 * NOW is CLOCK_REALTIME. A line that does not fit is cut at a field boundary, never inside an escape; if not even
 * the first field fits, the result is empty. */
size_t hf_report_format(char *buf, size_t size, enum hf_format format, const struct hf_event *event, const char *prog,
			int pid, const struct timespec *now);

/*
 * The rate limit of one connection: ten lines at once, then one every ten seconds.  Zero is a fresh one.
 * Pure; the caller serialises (two racing calls at worst miscount a line).  Not for events that come once in a
 * connection's life (open, dead, closed): a connection that flapped before must not die untold.
 */
struct hf_rate {
	uint64_t owed_until; /* ms: each line adds ten seconds; none passes while this is over 90 s ahead of now */
	uint32_t suppressed;
};

/* Whether a line may be told at NOW_MS (monotonic). If so, *SUPPRESSED is how many were not since the last one. */
bool hf_rate_allow(struct hf_rate *rate, uint64_t now_ms, uint32_t *suppressed);

#endif
