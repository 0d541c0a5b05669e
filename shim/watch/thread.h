/*
 * A bare kernel thread for the watchdog (clone(2)), unknown to the program's C library.
 *
 * A pthread would be seen by the program: pthread_create(3) allocates (and may be called from a signal handler that
 * interrupted the allocator), ends libc's single-threaded fast paths for good, counts as a thread when main calls
 * pthread_exit(3), and answers setuid(3)'s signals.  This one does none of that.  The price: its code must not use
 * thread-local storage, errno or any libc function that does; only system calls (sys.h) and the mem and str functions.
 * As a seat belt it gets a zeroed TLS area of its own, so that a stray errno lands there.
 *
 * All signals are blocked in it.  One at a time; not for use in a vfork(2) child.
 */
#ifndef HOLDFAST_WATCH_THREAD_H
#define HOLDFAST_WATCH_THREAD_H

#include <stdbool.h>
#include <stdint.h>

/* Start BODY in a new thread; it ends when BODY returns, with that exit status (which is the process's, should it be
 * the last thread). 0 or -errno (EAGAIN: RLIMIT_NPROC; ENOMEM). */
int hf_thread_start(int (*body)(void));

/* Wait until the thread has ended and the kernel no longer counts it in the process. BODY must be on its way out. */
void hf_thread_join(void);

/*
 * Run FN(ARG) where the descriptors it opens are not the program's: on the watchdog's thread, in a short-lived second
 * thread with a descriptor table of its own that holds 0 to 2 only; on any other thread, right here.  POSIX promises a
 * program the lowest free number, and a daemon that closes 0 to 2 and opens them again counts on it: a descriptor of
 * ours must not stand there for even a microsecond.
 */
void hf_thread_aside(void (*fn)(void *), void *arg);

/* The watchdog's: the same, in such a thread or not at all.  False: not at all. */
bool hf_thread_apart(void (*fn)(void *), void *arg);

/* The watchdog's: for how long, ms, this thread has waited for a processor in its life; UINT64_MAX: not to be known. */
uint64_t hf_thread_queued_ms(void);

/* The watchdog's, when the program's first thread is gone: whether all others are, too.  *STATUS: what the first one
 * ended with. */
bool hf_thread_last(int *status);

/* In a forked child: the parent's thread did not come along. */
void hf_thread_forget(void);

#endif
