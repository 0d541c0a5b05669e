/*
 * epoll(7): its waits.  An event that cannot be traced to its descriptor (io/registered.h), or not with certainty, goes
 * through as it is.
 */
#include "io/gate.h"
#include "io/registered.h"
#include "io/resume.h"
#include "io/wait.h"
#include "io/wrap_inner.h"
#include "sys.h"

/* Whether R is of a wrapped connection, or of one that may have been wrapped a moment ago.  False: it is not to be
 * told, or is none. */
static bool wrapped(struct hf_registration *r, const struct hf_sieve *sieve)
{
	struct hf_slot *slot;

	if (hf_fdmap_get(r->fd) == HF_FD_LISTENER)
		return hf_resume_serving();
	if (HF_FD_KIND(r->entry) != HF_FD_SLOT)
		return false;
	slot = hf_slot_of(r->entry);
	if (slot == NULL || (hf_wrap_of(slot) == NULL && hf_redial_of(slot) == NULL && !hf_sieve_stale(sieve)))
		return false;
	/* The number has been closed, but a duplicate keeps the connection and with it the registration (epoll(7)). */
	if (hf_fdmap_get(r->fd) != r->entry)
		r->fd = atomic_load(&slot->fd);
	return r->fd >= 0 && hf_fdmap_get(r->fd) == r->entry;
}

/* What is left of what EVENT says, of a connection registered as R. */
static uint32_t sift_event(const struct hf_registration *r, uint32_t seen, struct hf_sieve *sieve)
{
	const uint32_t poll_bits = 0x3fffU;
	short kept = hf_sift(r->fd, (short)(r->events & poll_bits), (short)(seen & poll_bits),
			     (r->events & (EPOLLET | EPOLLONESHOT)) != 0, sieve);

	if (hf_unlikely((r->events & EPOLLONESHOT) != 0)) {
		if (kept == 0)
			hf_registered_rearm(r);
		else
			hf_registered_fired(r);
	}
	return kept != 0 ? (seen & ~poll_bits) | (uint32_t)(unsigned short)kept : 0;
}

/* How many of COUNT events are left when those that are only protocol are taken out. */
static int sift_events(int epfd, struct epoll_event *events, int count, struct hf_sieve *sieve)
{
	struct hf_registration batch[HF_TRACE_MOST];
	uint32_t known = 0;
	int left = 0;

	for (int i = 0; i < count; i++) {
		struct hf_registration *r = &batch[i % HF_TRACE_MOST];
		struct epoll_event event = events[i];

		if (i % HF_TRACE_MOST == 0)
			known = hf_registered_trace(epfd, &events[i],
						    count - i < HF_TRACE_MOST ? count - i : HF_TRACE_MOST, batch);
		if ((known & 1U << i % HF_TRACE_MOST) != 0 && wrapped(r, sieve))
			event.events = sift_event(r, event.events, sieve);
		if (event.events != 0)
			events[left++] = event;
	}
	return left;
}

enum flavour { WAIT, PWAIT, PWAIT2 };

/* LEFT: NULL is for ever. */
static int wait_again(enum flavour flavour, int epfd, struct epoll_event *events, int room, const struct timespec *left,
		      const sigset_t *mask)
{
	long long ms = left == NULL ? -1 : left->tv_sec * 1000LL + (left->tv_nsec + 999999) / 1000000;

	if (flavour == PWAIT2)
		return hf_real.epoll_pwait2(epfd, events, room, left, mask);
	if (ms > INT32_MAX)
		ms = INT32_MAX;
	if (flavour == PWAIT || mask != NULL)
		return hf_real.epoll_pwait(epfd, events, room, (int)ms, mask);
	return hf_real.epoll_wait(epfd, events, room, (int)ms);
}

static int wait_on(enum flavour flavour, int epfd, struct epoll_event *events, int room, const struct timespec *timeout,
		   const sigset_t *mask)
{
	uint64_t until = hf_deadline(timeout);
	struct timespec left;
	const struct timespec *limit = timeout;
	struct epoll_event probe;

	for (;;) {
		struct hf_sieve sieve = hf_sieve();
		const struct timespec none = {0, 0}, slice = {0, 50000000}, *asked = limit;
		bool kept = (atomic_load(&hf_resume_inboxes) != 0 || atomic_load(&hf_resume_waiting) != 0) &&
			    hf_registering() && room > 0 && room < INT32_MAX / (int)sizeof(*events);
		int error = errno, count;

		if (kept && hf_registered_inboxes(epfd, &probe, 0, 1, true) == 0)
			kept = false;
		if (kept)
			asked = &none;
		else if (hf_resume_stirring() && (limit == NULL || limit->tv_sec > 0 || limit->tv_nsec > slice.tv_nsec))
			asked = &slice;
		count = wait_again(flavour, epfd, events, room, asked, mask);
		/* Registered while we slept, perhaps. */
		if (count < 0 || (count == 0 && !kept && asked != &slice) || !hf_registering())
			return count;
		count = sift_events(epfd, events, count, &sieve);
		if (kept)
			count = hf_registered_inboxes(epfd, events, count, room, false);
		errno = error;
		if (count > 0 || hf_passed(until))
			return count;
		if (sieve.pause)
			hf_pause();
		if (timeout != NULL)
			limit = hf_left(until, &left);
	}
}

/*
 * Whether a thread's next wait is tried without sleeping first: a busy server finds what it waits for there already,
 * and need not be guarded against signals.  Not for a while after such a try was in vain.
 */
static __thread uint8_t in_vain; /* waits yet to come that need no try */

static bool eager(void)
{
	return in_vain == 0;
}

/* What came of a wait: COUNT descriptors; SLEPT: it was not, or no longer, a try. */
static void was(int count, bool slept)
{
	enum { WAITS = 8 };

	if (!slept)
		in_vain = count == 0 ? WAITS : 0;
	else
		in_vain = count > 1 || in_vain == 0 ? 0 : (uint8_t)(in_vain - 1);
}

static int wait_sifted(enum flavour flavour, int epfd, struct epoll_event *events, int room,
		       const struct timespec *timeout, const sigset_t *mask)
{
	const struct timespec none = {0, 0};
	struct hf_quiet quiet;
	int count;

	if (!hf_registering() || (timeout != NULL && timeout->tv_sec == 0 && timeout->tv_nsec == 0))
		return wait_on(flavour, epfd, events, room, timeout, mask);
	if (eager()) {
		count = wait_on(flavour, epfd, events, room, &none, mask);
		was(count, false);
		if (count != 0)
			return count;
	}
	count = wait_on(flavour, epfd, events, room, timeout, hf_quiet_begin(&quiet, mask));
	hf_quiet_end(&quiet);
	was(count, true);
	return count;
}

static struct timespec milliseconds(int timeout)
{
	return (struct timespec){timeout / 1000, (long)(timeout % 1000) * 1000000};
}

int hf_epoll_wait(int epfd, struct epoll_event *events, int room, int timeout)
{
	struct timespec limit = milliseconds(timeout);

	hf_real_ready();
	if (!hf_wrap_possible() || hf_proc_borrowed())
		return hf_real.epoll_wait(epfd, events, room, timeout);
	return wait_sifted(WAIT, epfd, events, room, timeout < 0 ? NULL : &limit, NULL);
}

int hf_epoll_pwait(int epfd, struct epoll_event *events, int room, int timeout, const sigset_t *mask)
{
	struct timespec limit = milliseconds(timeout);

	hf_real_ready();
	if (!hf_wrap_possible() || hf_proc_borrowed())
		return hf_real.epoll_pwait(epfd, events, room, timeout, mask);
	return wait_sifted(PWAIT, epfd, events, room, timeout < 0 ? NULL : &limit, mask);
}

int hf_epoll_pwait2(int epfd, struct epoll_event *events, int room, const struct timespec *timeout,
		    const sigset_t *mask)
{
	hf_real_ready();
	if (hf_real.epoll_pwait2 == NULL) {
		errno = ENOSYS;
		return -1;
	}
	if (!hf_wrap_possible() || hf_proc_borrowed() || !hf_sane(timeout))
		return hf_real.epoll_pwait2(epfd, events, room, timeout, mask);
	return wait_sifted(PWAIT2, epfd, events, room, timeout, mask);
}
