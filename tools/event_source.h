/*
 * Where events come from: a sink of HOLDFAST_REPORT, seen from its other end.
 *
 * unix:PATH binds the socket (and removes it again), file:PATH follows the file as "tail -F" does, "-" reads standard
 * input.  One source per process; never blocks but in poll(2), which the caller does.
 */
#ifndef HOLDFAST_EVENT_SOURCE_H
#define HOLDFAST_EVENT_SOURCE_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { HF_SOURCE_LINE = 16384 };

struct hf_source {
	enum { HF_SOURCE_UNIX, HF_SOURCE_FILE, HF_SOURCE_STDIN } kind;
	const char *path;
	int fd;     /* the socket, the file (-1: not there yet) or 0 */
	int notify; /* inotify(7), a hint only: the file is looked at every second anyway */
	int watch;
	bool ended;      /* end of standard input */
	bool from_start; /* file: what is in it already counts */
	bool bound;      /* the socket is ours to remove */
	dev_t device;
	ino_t inode;
	off_t offset;
	char buf[HF_SOURCE_LINE];
	size_t used;
	bool too_long; /* the line being read does not fit: its rest is dropped */
};

/* Open SINK, as in HOLDFAST_REPORT.  Returns 0, or an exit status after a message. */
int hf_source_open(struct hf_source *source, const char *sink, bool from_start);
void hf_source_close(struct hf_source *source);

/* What to poll, and how long at most (ms, -1: for ever). */
int hf_source_poll(const struct hf_source *source, struct pollfd *poll);

/* Read what is there, at most some kilobytes: each line, without its newline, goes to EACH until it returns false. */
typedef bool hf_source_each(const char *line, size_t length, void *arg);
bool hf_source_read(struct hf_source *source, hf_source_each *each, void *arg);

/* Whether there may be more to read at once. */
bool hf_source_more(const struct hf_source *source);

#endif
