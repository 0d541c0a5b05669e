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

/* A pause of ours (stopped, suspended) has ended at NOW: every peer gets a fresh timeout at its next look. */
void hf_look_paused(uint64_t now);

/* What a look needs of the thread (watch.c). */

enum {
	HF_WATCH_TICK_MS = 4, /* a jiffy at CONFIG_HZ=250: the kernel's own ages are no finer */
};

/* The next look at SLOT is due at DUE, ms. */
void hf_watch_schedule(struct hf_slot *slot, uint64_t due);

/* Nothing more to watch, though the program still has it open. */
void hf_watch_done(struct hf_slot *slot);

#endif
