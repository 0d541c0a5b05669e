/*
 * One look at one connection: gather the evidence, ask the judge (and the hidden channel's), tell what happened, and
 * end, drain or put off until the next look.  Owns the second half of each slot while the thread is in it.
 * Watchdog thread only; no lock.
 */
#ifndef HOLDFAST_WATCH_LOOK_H
#define HOLDFAST_WATCH_LOOK_H

#include "state/slot.h"

/* Look at SLOT, which is watched and in no queue of the wheel.  NOW in ms, CLOCK_MONOTONIC. */
void hf_look(struct hf_slot *slot, uint64_t now);

/*
 * The program is about to close SLOT's last descriptor: no look is under way from the return on, and none begins before
 * hf_look_again().  A system call of ours would keep the socket open behind the program's close, and with it what it is
 * registered for: epoll_wait(2) would tell of a connection that the program has closed and forgotten.  Waits for a look
 * that is under way, a second at most (what reports are written to may block).  Any thread.
 */
void hf_look_away(struct hf_slot *slot);
void hf_look_again(struct hf_slot *slot);

/* A pause of ours (stopped, suspended) has ended: every peer gets a fresh timeout at its next look. */
void hf_look_paused(void);

/* What a look needs of the thread (watch.c). */

enum {
	HF_WATCH_TICK_MS = 4, /* a jiffy at CONFIG_HZ=250: the kernel's own ages are no finer */
};

/* The next look at SLOT is due at DUE, ms. */
void hf_watch_schedule(struct hf_slot *slot, uint64_t due);

/* The thread cannot do without the program's table of descriptors (hand.h): it gets it with the next connection. */
void hf_watch_want_shared(void);

/* Nothing more to watch, though the program still has it open. */
void hf_watch_done(struct hf_slot *slot);

#endif
