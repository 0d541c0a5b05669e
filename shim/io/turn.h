/*
 * Turns: which thread is moving bytes in one direction of a wrapped connection.
 *
 * A word holding the thread's number, 0 for none.  Not a mutex: it may be held while its thread sleeps in the kernel's
 * own recv or send, and it survives its holder: a thread that is gone, or that comes again because siglongjmp(3) took
 * it out of the call, is recognised.
 */
#ifndef HOLDFAST_IO_TURN_H
#define HOLDFAST_IO_TURN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum hf_turn {
	HF_TURN_OURS,
	HF_TURN_LEFT, /* ours, but whoever had it left without ending it: what it did is not recorded */
	HF_TURN_BUSY, /* somebody else's */
};

/* The calling thread's number, cached. Not on the watchdog's thread: it has no thread-local storage of ours. */
uint32_t hf_turn_me(void);

/* Take it if it is free or abandoned. */
enum hf_turn hf_turn_try(_Atomic uint32_t *word, uint32_t me);

/* Wait for it; never HF_TURN_BUSY unless PATIENCE_MS (-1: for ever) has passed. */
enum hf_turn hf_turn_take(_Atomic uint32_t *word, uint32_t me, int patience_ms);

void hf_turn_end(_Atomic uint32_t *word);

/* Whether a thread that still exists has it. */
bool hf_turn_held(_Atomic uint32_t *word);

#endif
