/*
 * What the waiting calls have in common: one deadline for a wait that is taken up again, and the sieve that takes back
 * readiness that is only protocol.
 */
#ifndef HOLDFAST_IO_WAIT_H
#define HOLDFAST_IO_WAIT_H

#include "runtime.h"
#include "state/clock.h"
#include "sys.h"

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

enum { HF_READABLE = POLLIN | POLLRDNORM };

/* When TIMEOUT from now is over, us; UINT64_MAX: never; 0: it is none, and no clock need be asked.  Only for one that
 * is hf_sane(). */
uint64_t hf_deadline(const struct timespec *timeout);
bool hf_passed(uint64_t until);

/* What is left until then; returns LEFT. */
const struct timespec *hf_left(uint64_t until, struct timespec *left);

/* Whether the kernel would take TIMEOUT; NULL is for ever. */
bool hf_sane(const struct timespec *timeout);

/*
 * A wait that takes up again what only protocol has ended must not lose a signal that comes meanwhile, or together with
 * the protocol: the program counts on EINTR.  So signals are let in by the kernel's own wait only, as in ppoll(2).
 * Returns the mask to wait with: MASK, or the thread's own if that is NULL.
 */
struct hf_quiet {
	sigset_t own;
};
const sigset_t *hf_quiet_begin(struct hf_quiet *quiet, const sigset_t *mask);
void hf_quiet_end(const struct hf_quiet *quiet);

/* In a sandbox: no other call than the program makes, and no mask of ours. */
static inline bool hf_wait_confined(void)
{
	return hf_unlikely(atomic_load_explicit(&hf_sys_confined, memory_order_relaxed));
}

/* A millisecond, where only time can bring something new. */
void hf_pause(void);

/* The watchdog's: SWAP puts another socket under FD; what epoll descriptors know of FD is moved along. */
void hf_epoll_around(int fd, void (*swap)(void *arg), void *arg);

/* The watchdog's: whoever waits for SLOT by epoll is told afresh of what it has; an edge may have been taken back. */
struct hf_slot;
void hf_epoll_again(struct hf_slot *slot);

struct hf_sieve {
	uint32_t turned; /* hf_wrap_turned before the kernel was asked */
	bool pause;      /* set where looking again at once would find the same */
};

/* Before the kernel is asked. */
struct hf_sieve hf_sieve(void);

/* Whether a connection has become plain since: what the kernel said may be of the one before it. */
bool hf_sieve_stale(const struct hf_sieve *sieve);

/*
 * The kernel says REVENTS of FD, for which the program asked EVENTS (as in poll(2)): what the program should see.
 * ONCE: the kernel will not say it again (edge-triggered, one-shot): nothing may be taken back unless what caused it
 * is known and gone.
 */
short hf_sift(int fd, short events, short revents, bool once, struct hf_sieve *sieve);

#endif
