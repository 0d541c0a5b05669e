/*
 * Which process is this?  A preloaded library wakes up in forked children without being told (_Fork, clone, raw
 * system calls run no pthread_atfork handlers) and runs inside vfork children that share all its memory.
 *
 * The epoch is a number, never 0, that differs between a process and its forked children.  It lives in a page the
 * kernel wipes on fork (MADV_WIPEONFORK, madvise(2)), so that reading it is one load and a child finds 0.
 * Async-signal-safe; no lock.
 */
#ifndef HOLDFAST_STATE_PROC_H
#define HOLDFAST_STATE_PROC_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Points at the epoch; at a constant word before hf_proc_init(). */
extern _Atomic uint32_t *hf_proc_epoch;

/* Map the page and take the first epoch.  Returns false if the kernel refuses: forks are then told by getpid(2). */
bool hf_proc_init(void);

/* This process's epoch.  On the first call in a forked child a new one is taken and *FORKED set. */
uint32_t hf_proc_enter(bool *forked);

/* What process_vm_readv(2) says to a byte of task TID's memory: 1, or -errno.  A task that has exited has none: -ESRCH,
 * before it asks for permission. */
long hf_proc_ask_memory(int tid);

static inline bool hf_proc_task_gone(int tid)
{
	return hf_proc_ask_memory(tid) == -ESRCH;
}

/* How often this process has started a program or a child that may hold its descriptors and does not tell us of it at
 * once (posix_spawn(3), vfork(2), system(3)), as far as our wrappers saw. */
uint32_t hf_proc_spawns(void);
void hf_proc_count_spawn(void);

/*
 * Whether this is a vfork(2) child (or another process sharing our memory): the descriptors are its own, every table
 * of ours is its parent's and must not be changed.  hf_proc_elsewhere() asks the kernel.  hf_proc_borrowed() does once
 * this memory has been lent, as far as our wrappers of vfork(2) and clone(2) saw; until then it is one load.
 */
extern _Atomic uint8_t hf_proc_lent;
void hf_proc_lend(void);
bool hf_proc_elsewhere(void);

static inline bool hf_proc_borrowed(void)
{
	return __builtin_expect(atomic_load_explicit(&hf_proc_lent, memory_order_relaxed) != 0, 0) &&
	       hf_proc_elsewhere();
}

#endif
