/*
 * Arenas and the processes that hold them, found through /proc.  Used by arena_read.c only; one thread.
 */
#ifndef HOLDFAST_ARENA_FIND_H
#define HOLDFAST_ARENA_FIND_H

#include <dirent.h>
#include <holdfast/arena.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* A process that has an arena open. */
struct hf_holder {
	int pid, fd;
	int inner;   /* its number in its own pid namespace */
	uint64_t ns; /* inode of that; 0: unknown */
};

struct hf_found {
	dev_t dev;
	ino_t ino;
	int fd;      /* ours, read-only */
	bool usable; /* of our version and shape */
	struct hf_holder *holders;
	size_t nholders, room;
	uint64_t counts[sizeof(struct hf_arena_counts) / sizeof(uint64_t)]; /* as last read */
};

struct hf_finder {
	DIR *proc;
	struct hf_found *arenas;
	size_t count, room;
	unsigned turn;   /* searches so far */
	unsigned hidden; /* watched processes whose descriptors we may not see */
};

bool hf_finder_open(struct hf_finder *finder);
void hf_finder_close(struct hf_finder *finder);

/*
 * Search all processes.  GONE is called for each arena that nobody holds any more, before it is dropped.  False, errno
 * set, without memory.
 */
bool hf_finder_search(struct hf_finder *finder, void (*gone)(const struct hf_found *arena, void *arg), void *arg);

/* Whether there is a process PID and we may not see its descriptors. */
bool hf_finder_hidden(const struct hf_finder *finder, int pid);

/* Inode of our own pid namespace; 0: unknown. */
uint64_t hf_finder_ns(const struct hf_finder *finder);

#endif
