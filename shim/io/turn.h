/*
 * Turns: which thread is moving bytes in one direction of a wrapped connection.
 *
 * A word holding the thread's number and that of its process in the family, 0 for none.  Not a mutex: it may be held
 * while its thread sleeps in the kernel's own recv or send, it may lie in memory that processes share, and it survives
 * its holder: a thread or process that is gone, or a thread that comes again because siglongjmp(3) took it out of the
 * call, is recognised.
 */
#ifndef HOLDFAST_IO_TURN_H
#define HOLDFAST_IO_TURN_H

#include "state/arena.h"
#include "state/family.h"
#include "state/proc.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct hf_turn_word {
	_Atomic uint32_t owner;
	_Atomic uint32_t sleepers; /* threads asleep for it: whoever ends a turn knows whether to wake */
};

enum hf_turn {
	HF_TURN_OURS,
	HF_TURN_LEFT, /* ours, but whoever had it left without ending it: what it did is not recorded */
	HF_TURN_BUSY, /* somebody else's */
};

/* A thread number needs 22 bits: PID_MAX_LIMIT, proc(5). */
enum { HF_TURN_TID_BITS = 22 };
_Static_assert(HF_TURN_TID_BITS + HF_ARENA_INDEX_BITS == 32, "thread and process share a word");

/* The calling thread's number as it was last asked for, in the process of that epoch. */
struct hf_turn_self {
	uint32_t epoch, number;
};
extern __thread struct hf_turn_self hf_turn_self;
uint32_t hf_turn_ask(void);

/* The calling thread's mark, its number cached. Not on the watchdog's thread: it has no thread-local storage of ours.
 */
static inline uint32_t hf_turn_me(void)
{
	uint32_t epoch = atomic_load_explicit(hf_proc_epoch, memory_order_relaxed), number = hf_turn_self.number;

	/* After a fork the copy of the parent's number would be wrong. */
	if (__builtin_expect(number == 0 || hf_turn_self.epoch != epoch || epoch == 0, 0))
		number = hf_turn_ask();
	return number | hf_family_me() << HF_TURN_TID_BITS;
}

/* The same, asked of the kernel: for the watchdog. */
uint32_t hf_turn_watchdog(void);

/* Take it if it is free, or was left by the calling thread itself. */
static inline enum hf_turn hf_turn_try(struct hf_turn_word *word, uint32_t me)
{
	uint32_t owner = 0;

	if (atomic_compare_exchange_strong_explicit(&word->owner, &owner, me, memory_order_acquire,
						    memory_order_relaxed))
		return HF_TURN_OURS;
	return owner == me ? HF_TURN_LEFT : HF_TURN_BUSY;
}

/* Wait for it; never HF_TURN_BUSY unless PATIENCE_MS (-1: for ever) has passed. */
enum hf_turn hf_turn_take(struct hf_turn_word *word, uint32_t me, int patience_ms);

/* Somebody sleeps for it. */
void hf_turn_wake(struct hf_turn_word *word);

static inline void hf_turn_end(struct hf_turn_word *word)
{
	atomic_store_explicit(&word->owner, 0, memory_order_seq_cst);
	if (__builtin_expect(atomic_load(&word->sleepers) != 0, 0))
		hf_turn_wake(word);
}

/* Something has changed that WORD stands for: it counts, and whoever sleeps until it does (futex(2)) looks again. */
void hf_wake_all(_Atomic uint32_t *word);

/* Whether a thread that still exists has it. HERE: one of this process. */
bool hf_turn_held(struct hf_turn_word *word, bool here);

#endif
