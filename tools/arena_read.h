/*
 * What preloaded processes publish of their connections, read without help from them: their arenas are found through
 * /proc/PID/fd and read with pread(2).  Nothing is mapped: a hole that is only read stays a hole, and no fault can come
 * of it.  What is read may have been written by anybody who runs such a process: every number is checked before it is
 * used as an index or a size, and texts are escaped by whoever shows them.
 *
 * Used by top, explain and metrics; one thread.
 */
#ifndef HOLDFAST_ARENA_READ_H
#define HOLDFAST_ARENA_READ_H

#include <holdfast/arena.h>
#include <stdbool.h>
#include <stddef.h>

enum { HF_SEEN_MOST = 256 * 1024 }; /* connections in one snapshot */

/* A connection as its watchdog published it. */
struct hf_seen {
	struct hf_arena_view view; /* its own copy */
	char prog[48];             /* NUL-terminated */
	int pid;                   /* in our pid namespace; the view's own is in its process's */
	bool torn;                 /* its writer was caught, or has stopped, in the middle of writing it */
};

/* Sums over all arenas; the words of struct hf_arena_counts. */
enum { HF_COUNT_WORDS = sizeof(struct hf_arena_counts) / sizeof(uint64_t) };
union hf_sums {
	uint64_t word[HF_COUNT_WORDS];
	struct hf_arena_counts counts;
};

struct hf_snapshot {
	uint64_t now;  /* ms, CLOCK_MONOTONIC */
	uint64_t wall; /* ms, CLOCK_REALTIME */
	struct hf_seen *seen;
	size_t count, room;
	unsigned processes, arenas;
	unsigned hidden;  /* watched processes we may not look into */
	unsigned strange; /* arenas of another version */
	unsigned left;    /* connections left out: there are more than HF_SEEN_MOST */
	union hf_sums sums;
};

struct hf_reader;

/* NULL, errno set, without memory or /proc. */
struct hf_reader *hf_reader_open(void);
void hf_reader_close(struct hf_reader *reader);

/*
 * Look again; SNAPSHOT is zero the first time, and is filled anew each time.  Counts of arenas that are gone since
 * READER was opened stay in the sums, so that they never run backwards.  False, errno set, without memory or /proc.
 */
bool hf_reader_look(struct hf_reader *reader, struct hf_snapshot *snapshot);
void hf_snapshot_free(struct hf_snapshot *snapshot);

/* What was not shown and why, in at most two lines on standard error. */
void hf_snapshot_tell_hidden(const struct hf_snapshot *snapshot);

#endif
