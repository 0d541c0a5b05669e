/*
 * The clocks by which processes that share an arena understand each other.
 *
 * CLOCK_MONOTONIC and CLOCK_BOOTTIME differ from one time namespace to the next (time_namespaces(7)), and a connection
 * may be in processes of several: what one writes down there the other would take for long ago, or yet to come.  So the
 * library counts as outside of all of them, less what /proc says that this process's clocks are ahead.
 *
 * Any thread, signal handlers; no lock: hf_clock_find() is called when the process has just become what it is.
 */
#ifndef HOLDFAST_STATE_CLOCK_H
#define HOLDFAST_STATE_CLOCK_H

#include <stdint.h>
#include <time.h>

/* In which time namespace is this?  After an exec, in a forked child, after setns(2).  0 ahead where /proc cannot say.
 */
void hf_clock_find(void);

/* CLOCK_MONOTONIC or CLOCK_BOOTTIME. */
uint64_t hf_clock_us(clockid_t clock);
uint64_t hf_clock_ms(clockid_t clock);

/*
 * CLOCK_MONOTONIC without a system call, where the kernel offers that (vdso(7)): for how long a wait of the program's
 * may last, which has nothing to do with what is written down for others.  hf_clock_use(): how; NULL: by a system call.
 * Before the first thread is started.
 */
uint64_t hf_clock_wait_us(void);
void hf_clock_use(int (*gettime)(clockid_t clock, struct timespec *ts));

#endif
