/*
 * Duplicates kept of connections that the program has closed and that are not over: what it wrote is still on its way,
 * or one of its threads still sleeps in a call on it.  Each stands at a high number, marked HF_FD_OURS in the
 * descriptor map, so that sweeps leave it alone.
 *
 * Called by the hooks of io/descriptor.c and by the watchdog, which drains them and lets them go.  Lock-free,
 * async-signal-safe; errno is preserved.
 */
#ifndef HOLDFAST_IO_KEEP_H
#define HOLDFAST_IO_KEEP_H

#include "state/slot.h"

/* Before the last close of FD: a duplicate to keep of SLOT, or -1 (no descriptor is to be had). */
int hf_keep(struct hf_slot *slot, int fd);

/* The program's last descriptor of ENTRY is closed: from here on its watchdog acts through KEPT. */
void hf_keep_draining(hf_fd_entry entry, int kept);

/* The call that was to close it has failed after all. */
void hf_keep_not(hf_fd_entry entry, int kept);

/* Watchdog: it is over.  False: a fork is under way, come again. */
bool hf_keep_end(struct hf_slot *slot);

/* Before and after a fork, in the parent. */
void hf_keep_forking(void);
void hf_keep_has_forked(void);

/* Watchdog: before and after a descriptor of ours comes or goes; no fork begins in between.  False: one is under way.
 * hf_keep_act_soon() waits for its end, but not for ever. */
bool hf_keep_act(void);
bool hf_keep_act_soon(void);
void hf_keep_acted(void);

/* While a fork is under way: whether the watchdog could not be waited for. */
bool hf_keep_acting(void);

/* A duplicate of FD, out of the way of programs that expect the lowest number; -errno.  And FD itself moved there, if
 * that can be. */
int hf_high_copy(int fd);
int hf_raise(int fd);

/* Whether FD is a duplicate of ours; the next such number from FROM on, or INT_MAX. */
bool hf_kept(int fd);
int hf_kept_next(int from);

/* The program is about to put something of its own at FD, where one of ours stands. */
void hf_keep_away(int fd);

/* A forked child: the parent's watchdog has them all. */
void hf_keep_forked(void);

/* The number to use for SLOT in a call that began with FD, which another thread may have closed meanwhile: the socket
 * the call began with, not what has come to stand there (close(2), "Multithreaded processes and close()"). */
static inline int hf_number_of(struct hf_slot *slot, int fd)
{
	int moved = atomic_load_explicit(&hf_rare(slot)->moved, memory_order_acquire);

	return __builtin_expect(moved == 0, 1) ? fd : moved - 1;
}

/* The same between two calls of the kernel's, of which the first may have slept: also where the program has closed FD
 * and has a duplicate, by which the connection lives on. */
int hf_number_again(struct hf_slot *slot, int fd);

#endif
