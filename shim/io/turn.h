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

/* The calling thread's mark, its number cached. Not on the watchdog's thread: it has no thread-local storage of ours.
 */
uint32_t hf_turn_me(void);

/* The same, asked of the kernel: for the watchdog. */
uint32_t hf_turn_watchdog(void);

/* Take it if it is free or abandoned. */
enum hf_turn hf_turn_try(struct hf_turn_word *word, uint32_t me);

/* Wait for it; never HF_TURN_BUSY unless PATIENCE_MS (-1: for ever) has passed. */
enum hf_turn hf_turn_take(struct hf_turn_word *word, uint32_t me, int patience_ms);

void hf_turn_end(struct hf_turn_word *word);

/* Something has changed that WORD stands for: it counts, and whoever sleeps until it does (futex(2)) looks again. */
void hf_wake_all(_Atomic uint32_t *word);

/* Whether a thread that still exists has it. HERE: one of this process. */
bool hf_turn_held(struct hf_turn_word *word, bool here);

#endif
