/*
 * Forks and sandboxes by whichever door: prctl(2), seccomp(2), syscall(2).
 */
#ifndef HOLDFAST_IO_PROCESS_H
#define HOLDFAST_IO_PROCESS_H

#include <stdbool.h>

/* Before the call: the library stands aside. False: it was not acting, nothing was done. errno may change. */
bool hf_sandbox_enter(void);

/* The call failed after all: back to work. Only after hf_sandbox_enter() returned true. */
void hf_sandbox_failed(void);

/* Before exit_group(2). */
void hf_leaving_group(void);

/* fork(2) or clone(2) without CLONE_VM as a bare system call. */
long hf_raw_fork(long nr, long a, long b, long c, long d, long e, long f);

/* The watchdog cannot do without the program's table of descriptors any longer (hand.h): a thread is about to get one
 * of its own, and the watchdog's way leads to one only; or nothing more may be opened. */
void hf_share_table(void);

#endif
