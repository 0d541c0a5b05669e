/*
 * Pauses of the watching side: was a late wake-up one (stopped, suspended), or was the machine busy?
 *
 * What the judge goes by is the kernel's own evidence, which is gathered while a busy machine lets the watchdog wait
 * for a processor.  So such a wait puts no verdict off: on a machine that is always busy none would ever fall.  After a
 * real pause the peer gets a fresh timeout.
 *
 * Pure: times in, answers out.  One struct, the watchdog's.  Times are in milliseconds.
 */
#ifndef HOLDFAST_CORE_PAUSE_H
#define HOLDFAST_CORE_PAUSE_H

#include <stdbool.h>
#include <stdint.h>

enum {
	HF_PAUSE_LATE_MS = 500, /* woken so much later than asked for, or the interval if that is more: look into it */
};

struct hf_pause {
	uint64_t asleep; /* how far CLOCK_BOOTTIME may be ahead of CLOCK_MONOTONIC: grows while the machine sleeps */
	uint64_t queued; /* of the thread's waits for a processor: what is accounted for */
	uint64_t small;  /* at least what it may have waited since then without being called late */
	uint64_t late;   /* what is to be explained now */
};

/* The thread begins.  The three are read one after the other: CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC. */
void hf_pause_init(struct hf_pause *pause, uint64_t before, uint64_t boot, uint64_t after);

/* Whether the machine has been suspended since the last call. */
bool hf_pause_suspended(struct hf_pause *pause, uint64_t before, uint64_t boot, uint64_t after);

/* Woken at NOW; it was due at DUE.  True: so late that hf_pause_stopped() must tell why. */
bool hf_pause_late(struct hf_pause *pause, uint64_t due, uint64_t now, uint32_t interval);

/*
 * Why that was: true for a pause.  QUEUED: how long the thread has waited for a processor in all its life
 * (/proc/PID/task/TID/schedstat, second field), UINT64_MAX where the kernel does not say: then it counts as a pause,
 * for a wrong verdict is worse than a late one.
 */
bool hf_pause_stopped(struct hf_pause *pause, uint64_t queued);

/* It was awake for MS, and may have waited for a processor meanwhile. */
void hf_pause_awake(struct hf_pause *pause, uint64_t ms);

#endif
