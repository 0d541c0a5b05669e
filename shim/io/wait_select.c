/*
 * select(2) and pselect(2): see io/wait.c.
 */
#include "io/gate.h"
#include "io/resume.h"
#include "io/wait.h"
#include "io/wrap_inner.h"
#include "sys.h"

#include <string.h>

static void touch_set(int count, const fd_set *set)
{
	const unsigned bits = sizeof(fd_mask) * 8;

	/* select(getdtablesize(), ...): the kernel itself reads no further than the process's table of descriptors
	 * reaches, and the program's sets seldom are larger than fd_set. */
	if (count > FD_SETSIZE)
		count = FD_SETSIZE;
	for (unsigned base = 0; set != NULL && (int)base < count; base += bits) {
		/* The program's set may be larger than fd_set (select(2), BUGS). */
		unsigned long word = (unsigned long)((const fd_mask *)set)[base / bits];

		for (; word != 0; word &= word - 1) {
			int fd = (int)base + __builtin_ctzl(word);

			if (fd < count)
				hf_gate_touch(fd);
		}
	}
}

static void touch_sets(int count, const fd_set *in, const fd_set *out, const fd_set *err)
{
	if (!hf_on())
		return;
	touch_set(count, in);
	touch_set(count, out);
	touch_set(count, err);
}

static bool wrapped_in_set(int count, const fd_set *set)
{
	for (int fd = 0; set != NULL && fd < count && fd < FD_SETSIZE && hf_on() && !hf_wait_confined(); fd++) {
		hf_fd_entry entry = FD_ISSET(fd, set) ? hf_fdmap_get(fd) : HF_FD_PASS;
		struct hf_slot *slot = hf_slot_named_by(entry);

		if ((slot != NULL && (hf_wrap_of(slot) != NULL || hf_redial_of(slot) != NULL)) ||
		    (entry == HF_FD_LISTENER && hf_resume_serving()))
			return true;
	}
	return false;
}

/* How many bits select(2) would report after what only protocol made ready is taken back. */
static int sift_sets(int count, int ready, fd_set *in, fd_set *out, struct hf_sieve *sieve)
{
	for (int fd = 0; fd < count && fd < FD_SETSIZE; fd++) {
		bool reads = in != NULL && FD_ISSET(fd, in), writes = out != NULL && FD_ISSET(fd, out);
		short seen = (short)((reads ? POLLIN : 0) | (writes ? POLLOUT : 0)), kept;

		if (seen == 0)
			continue;
		kept = hf_sift(fd, seen, seen, false, sieve);
		if (reads && (kept & (POLLIN | POLLHUP)) == 0) {
			FD_CLR(fd, in);
			ready--;
		}
		if (writes && (kept & POLLOUT) == 0) {
			FD_CLR(fd, out);
			ready--;
		}
	}
	return ready;
}

/* What the kernel does not know of: bytes taken out of a connection that broke. */
static int add_inboxes(int count, int ready, fd_set *in, const fd_set *asked)
{
	for (int fd = 0; in != NULL && fd < count && fd < FD_SETSIZE; fd++) {
		hf_fd_entry entry = FD_ISSET(fd, asked) ? hf_fdmap_get(fd) : HF_FD_PASS;
		struct hf_slot *slot = hf_slot_named_by(entry);

		if (FD_ISSET(fd, in) ||
		    (slot != NULL ? hf_resume_inbox(slot) == 0 : entry != HF_FD_LISTENER || !hf_resume_has_waiting(fd)))
			continue;
		FD_SET(fd, in);
		ready++;
	}
	return ready;
}

static bool any_inbox(int count, const fd_set *in)
{
	fd_set found;

	FD_ZERO(&found);
	return in != NULL && (atomic_load(&hf_resume_inboxes) != 0 || atomic_load(&hf_resume_waiting) != 0) &&
	       add_inboxes(count, 0, &found, in) > 0;
}

static bool may_sift(int count, const fd_set *in, const fd_set *out)
{
	/* Sets that reach further than fd_set cannot be kept for a second look; the kernel reads no further than the
	 * process has ever had descriptors. */
	if (count > FD_SETSIZE && hf_fdmap_end() > FD_SETSIZE)
		return false;
	return wrapped_in_set(count, in) || wrapped_in_set(count, out);
}

struct sets {
	fd_set in, out, err;
};

static void copy_set(fd_set *to, const fd_set *from, int count)
{
	/* The program's set has room for COUNT bits, not necessarily for FD_SETSIZE. */
	size_t bytes = ((size_t)(count < FD_SETSIZE ? count : FD_SETSIZE) + 63) / 64 * 8;

	if (from != NULL && to != NULL)
		memcpy(to, from, bytes);
}

/* pselect(2) with one deadline; *LEFT: what select(2) writes back. */
static int select_on(int count, fd_set *in, fd_set *out, fd_set *err, const struct timespec *timeout,
		     const sigset_t *mask, uint64_t *left_us)
{
	uint64_t until = hf_deadline(timeout);
	struct sets asked;

	copy_set(&asked.in, in, count);
	copy_set(&asked.out, out, count);
	copy_set(&asked.err, err, count);
	for (;;) {
		const struct timespec none = {0, 0}, slice = {0, 50000000}, *limit;
		struct timespec left;
		int error = errno, ready;
		struct hf_sieve sieve = hf_sieve();
		uint64_t now;
		bool kept;

		kept = any_inbox(count, in);
		limit = kept ? &none : timeout != NULL ? hf_left(until, &left) : NULL;
		if (hf_resume_stirring() && (limit == NULL || limit->tv_sec > 0 || limit->tv_nsec > slice.tv_nsec))
			limit = &slice;
		ready = hf_real.pselect(count, in, out, err, limit, mask);
		now = hf_clock_wait_us();
		*left_us = until > now ? until - now : 0;
		if (ready < 0 || (ready == 0 && !kept && limit != &slice))
			return ready;
		ready = sift_sets(count, ready, in, out, &sieve);
		if (kept)
			ready = add_inboxes(count, ready, in, &asked.in);
		errno = error;
		if (ready > 0 || (timeout != NULL && now >= until))
			return ready;
		if (sieve.pause)
			hf_pause();
		copy_set(in, &asked.in, count);
		copy_set(out, &asked.out, count);
		copy_set(err, &asked.err, count);
	}
}

static int select_wrapped(int count, fd_set *in, fd_set *out, fd_set *err, const struct timespec *timeout,
			  const sigset_t *mask, uint64_t *left_us)
{
	struct hf_quiet quiet;
	int ready;

	if (timeout != NULL && timeout->tv_sec == 0 && timeout->tv_nsec == 0)
		return select_on(count, in, out, err, timeout, mask, left_us);
	ready = select_on(count, in, out, err, timeout, hf_quiet_begin(&quiet, mask), left_us);
	hf_quiet_end(&quiet);
	return ready;
}

int hf_select(int count, fd_set *in, fd_set *out, fd_set *err, struct timeval *timeout)
{
	struct timespec limit = {0, 0};
	uint64_t left;
	int ready;

	hf_real_ready();
	touch_sets(count, in, out, err);
	if (timeout != NULL) {
		/* The kernel takes more than a million microseconds for seconds; what is negative it refuses. */
		limit = (struct timespec){timeout->tv_sec + timeout->tv_usec / 1000000,
					  timeout->tv_usec % 1000000 * 1000};
	}
	if (hf_likely(!may_sift(count, in, out)) || (timeout != NULL && !hf_sane(&limit)))
		return hf_real.select(count, in, out, err, timeout);
	ready = select_wrapped(count, in, out, err, timeout != NULL ? &limit : NULL, NULL, &left);
	if (timeout != NULL)
		*timeout = (struct timeval){(time_t)(left / 1000000), (suseconds_t)(left % 1000000)};
	return ready;
}

int hf___select(int count, fd_set *in, fd_set *out, fd_set *err, struct timeval *timeout)
{
	return hf_select(count, in, out, err, timeout);
}

int hf_pselect(int count, fd_set *in, fd_set *out, fd_set *err, const struct timespec *timeout, const sigset_t *mask)
{
	hf_real_ready();
	touch_sets(count, in, out, err);
	if (hf_unlikely(may_sift(count, in, out)) && hf_sane(timeout)) {
		uint64_t left;

		return select_wrapped(count, in, out, err, timeout, mask, &left);
	}
	return hf_real.pselect(count, in, out, err, timeout, mask);
}
