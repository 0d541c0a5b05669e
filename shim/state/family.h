/*
 * The family: the processes that share an arena, and which of them still live.
 *
 * A process joins when it first needs the arena; a forked child is entered by its parent before the fork, so that there
 * is no moment at which nobody speaks for it.  Nobody leaves: an entry whose process is gone is found out and used
 * again, and its handle with the new generation no longer matches.
 *
 * A process that is gone is one the kernel no longer knows or that is a zombie, asked without any privilege.  Where
 * that cannot be told (another pid namespace), it lives.
 *
 * Lock-free and async-signal-safe; errno untouched.
 */
#ifndef HOLDFAST_STATE_FAMILY_H
#define HOLDFAST_STATE_FAMILY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* This process's handle; 0: not entered. */
extern _Atomic uint32_t hf_family_self;

static inline uint32_t hf_family_me(void)
{
	return atomic_load_explicit(&hf_family_self, memory_order_relaxed);
}

/* Enter this process, called PROG, if it is not yet.  The arena must be there.  False: the table is full. */
bool hf_family_join(const char *prog);

/* Before a fork: a handle for the child; 0 if there is none.  After it: in the parent, where PID is what fork returned
 * (-1: there is no child after all), and in the child. */
uint32_t hf_family_expect(void);
void hf_family_forked_parent(uint32_t child, int pid);
void hf_family_forked_child(uint32_t child);

/* CHILD knows which connections it has: said by itself, or by its parent if that is certain at once. Until then it may
 * hold some in the arena of which it has no descriptor: a thread of the parent closed them while another forked. */
void hf_family_sorted(uint32_t child);

/* Whether this process was forked from one that had the library. */
bool hf_family_forked(void);

/* This is a new image of its process (exec): whatever an image before it was entered as is no more. */
void hf_family_succeed(void);

/* Whether the process of HANDLE lives, as far as can be told. */
bool hf_family_lives(uint32_t handle);

/* Whether PID, as this process's namespace numbers it, has entered itself as one of the family and not left. */
bool hf_family_has(int pid);

/* Whether HANDLE is of a child that is being forked, or has not sorted out yet what it has open. */
bool hf_family_expected(uint32_t handle);

/* Whether thread TID of the process in entry INDEX (0: any of this pid namespace) lives, as far as can be told. */
bool hf_family_thread_lives(uint32_t index, int tid);

#endif
