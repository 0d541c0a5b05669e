/*
 * What the held program says to the one that holds its system calls (seccomp_unotify(2)): closes of numbers that nobody
 * has.  The library sees nothing in them.
 */
#ifndef HOLDFAST_TESTS_HELD_H
#define HOLDFAST_TESTS_HELD_H

enum {
	HOLD_HIGH_CLOSE = 0x7e570001,  /* hold the next close(2) of a number from HOLD_FROM on */
	HOLD_CLOSE_RANGE = 0x7e570002, /* hold the close_range(2) after so many others: HOLD_PASS before */
	HOLD_PASS = 0x7e570003,        /* one more that passes first */
	HOLD_WHICH = 0x7e570004,       /* the first argument of the call that is held; EAGAIN: none is */
	HOLD_GO = 0x7e570005,          /* let it go on */
	HOLD_LOOK = 0x7e570006,        /* hold the next getsockopt(2) of TCP_INFO */
	HOLD_FIRST = HOLD_HIGH_CLOSE,
	HOLD_LAST = HOLD_LOOK,
	HOLD_FROM = 512, /* where the library puts its own (io/keep.c) */
};

#endif
