/*
 * What the library may do while it is fuzzed, checked at each system call it makes: memory that the kernel reads or
 * writes for it is a buffer of its own or of the program's, never a place an index led to; a descriptor that it closes,
 * ends or changes is its own; it comes to an end, and where it waits it sleeps.  Time does not pass: whoever sleeps
 * wakes at once, as late as he likes.  Anything else is abort(3).
 *
 * Off until hf_guard_begin().  One thread.
 */
#ifndef FUZZ_GUARD_H
#define FUZZ_GUARD_H

#include <stdbool.h>
#include <stddef.h>

/* Before each call: where a sibling that writes to shared memory at that very moment is played.  NULL: nobody. */
void hf_guard_begin(void (*between)(void));

/* All that the library has opened must have been closed by now, but for KEPT (-1: nothing). */
void hf_guard_end(int kept);

/* The kernel may read or write SIZE bytes at AT for the library, until the end. */
void hf_guard_allow(const void *at, size_t size);

/* FD is the library's to act upon; CLOSE: to close as well. */
void hf_guard_lend(int fd, bool close);

/* How often it has slept; and it just has, in a call that is none of the system's. */
unsigned hf_guard_sleeps(void);
void hf_guard_slept(void);

/* The library's calls of the C library (preload/real.h), guarded in the same way. */
void hf_guard_real(void);

#endif
