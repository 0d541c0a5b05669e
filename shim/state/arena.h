/*
 * The arena of this process's family (holdfast/arena.h): made when first needed, inherited by fork, found again after
 * exec.
 *
 * Owns the memfd (a high number without close-on-exec: the next program image looks for it there), the mapping of its
 * head, and the mappings of connections, made as they are needed and kept.  Where the kernel gives no memfd, or no file
 * of that size (RLIMIT_FSIZE), the memory is anonymous: shared by fork, not across exec.
 *
 * Lock-free and async-signal-safe; raw system calls only, errno untouched.  Everything read from shared memory is
 * bounded before it is used.
 */
#ifndef HOLDFAST_STATE_ARENA_H
#define HOLDFAST_STATE_ARENA_H

#include <holdfast/arena.h>
#include <stdbool.h>
#include <stddef.h>

enum { HF_CONN_NONE = 0xffffffff };

/* The head; NULL while this process has no arena. */
extern _Atomic(struct hf_arena *) hf_arena_head;

static inline struct hf_arena *hf_arena(void)
{
	return atomic_load_explicit(&hf_arena_head, memory_order_acquire);
}

/*
 * Make one if there is none.  LAYOUT: see struct hf_arena; the same for every process of one build.  SURVIVES: the next
 * image of this process must find it; until somebody wants that its descriptor is close-on-exec.  False: no memory.
 */
bool hf_arena_make(uint32_t layout, bool survives);

/* SIZE bytes of the arena from AT on, mapped; NULL: no memory. */
void *hf_arena_map(uint64_t at, size_t size);

/*
 * At load: whether a previous image of this process has left an arena of the same LAYOUT, which is then ours. THOROUGH:
 * look through /proc/self/fd if it is not where it should be; otherwise one system call tells that there is none.
 */
bool hf_arena_inherit(uint32_t layout, bool thorough);

/* The same from the parent process, if this one has none: its closing sweep may have met the descriptor. */
bool hf_arena_borrow(uint32_t layout);

/* The descriptor, or -1. */
int hf_arena_fd(void);

/* The program is about to put something else under its number: move it to another. */
void hf_arena_move(void);

/* Whether FD is the arena's; costs a system call only for the very number.  For close sweeps. */
bool hf_arena_owns(int fd);

/* Connection INDEX, mapped if need be.  NULL: out of range or no memory. */
struct hf_arena_conn *hf_arena_conn(uint32_t index);

/* A free connection: HF_ARENA_CONN_SIZE bytes, zero but for `gen`, which has a new value.  HF_CONN_NONE: full. */
uint32_t hf_arena_take(void);

/* Give it back: the caller must be the only one who still knows it. */
void hf_arena_give(uint32_t index);

/* The connection with this cookie, or HF_CONN_NONE.  A scan of eight bytes a connection ever used. */
uint32_t hf_arena_find(uint64_t cookie);

/* The HF_ARENA_QUEUE_SIZE bytes of connection INDEX, mapped for the caller; NULL: no memory. */
void *hf_arena_queue(uint32_t index);

/* Unmap it; DISCARD: the memory is given back, whoever maps it again finds zeroes. */
void hf_arena_queue_drop(uint32_t index, void *queue, bool discard);

#endif
