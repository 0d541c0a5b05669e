/*
 * Reading from a wrapped connection: the kernel's own call into the program's own buffer, headers squeezed out of it.
 */
#include "io/confined.h"
#include "io/gate.h"
#include "io/keep.h"
#include "io/resume.h"
#include "io/wrap_inner.h"
#include "io/wrap_want.h"
#include "sys.h"
#include "watch/watch.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>

enum { MOST_IOV = 62 };

ssize_t hf_want_end(struct hf_wrap *wrap, size_t done)
{
	int error = done == 0 ? atomic_exchange(&wrap->error_taken, 0) : 0;

	if (error == 0)
		return (ssize_t)done;
	errno = error;
	return -1;
}

ssize_t hf_want_fate(struct hf_slot *slot, size_t done)
{
	if (done > 0)
		return (ssize_t)done;
	errno = atomic_load(&slot->fate) != 0 ? atomic_load(&slot->fate) : EPROTO;
	return -1;
}

/*
 * One call of the kernel's: protocol bytes into rx_scratch, program bytes into the program's buffer.  Into one piece of
 * the program's buffer, unless all that is wanted belongs to the open frame.  OVERHEAD: hf_rx_overhead().  *PIECES of
 * IOV are the program's.
 */
static void receive(struct hf_wrap *wrap, int fd, struct hf_want *want, int flags, size_t overhead,
		    struct hf_received *received, struct iovec *iov, size_t *pieces)
{
	size_t left = want->total - want->done, bytes, n = overhead > 0;
	bool whole = hf_rx_open(&wrap->rx) >= left;
	struct msghdr msg = {.msg_iov = iov};

	*pieces = hf_iov_slice(want->iov, want->count, want->done, left, iov + n, whole ? MOST_IOV : 1, &bytes);
	received->overhead = overhead;
	received->spread.count = 0;
	received->asked = overhead + bytes;
	wrap->rx_scratched = (uint32_t)overhead;
	if (overhead > 0)
		iov[0] = (struct iovec){wrap->rx_scratch, overhead};
	if (hf_unlikely(atomic_load_explicit(&hf_sys_confined, memory_order_relaxed))) {
		received->got = hf_confined_receive(fd, iov, flags, &received->asked);
		return;
	}
	msg.msg_iovlen = n + *pieces;
	if (*pieces == 1)
		msg.msg_iovlen = hf_wrap_receive_plan(wrap, overhead, iov[n].iov_base, bytes, received, iov);
	received->got = msg.msg_iovlen == 1 ? hf_real.recv(fd, iov[0].iov_base, iov[0].iov_len, flags)
					    : hf_real.recvmsg(fd, &msg, flags);
}

/* It came as receive() asked for it, to TO and, if they are more, other PIECES: how many bytes are the program's. -1:
 * corrupt. */
static ssize_t take(struct hf_slot *slot, int fd, const struct hf_received *received, uint8_t *to, size_t pieces)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	struct hf_rx_news news;
	size_t got = (size_t)received->got, mine = got < received->overhead ? got : received->overhead;
	size_t theirs = got - mine, bytes, reach;

	hf_books_open(&wrap->rx_books_open);
	wrap->rx_raw += got;
	if (received->overhead == 0 && theirs <= hf_rx_open(&wrap->rx)) {
		hf_rx_passed(&wrap->rx, theirs);
		hf_books_close(&wrap->rx_books_open);
		return (ssize_t)theirs;
	}
	if (pieces != 1) { /* cannot be: more than one piece is asked for inside a frame only */
		hf_wrap_fail(slot, EPROTO);
		return -1;
	}
	bytes = hf_rx_squeeze_spread(&wrap->rx, wrap->rx_scratch, mine, &received->spread, to, theirs, &news, &reach);
	if (!hf_wrap_news(slot, fd, &news) && bytes == 0)
		return -1;
	wrap->rx_like = news.frames > 1 && news.even ? news.length : 0;
	hf_books_close(&wrap->rx_books_open);
	/* Programs that cleared their buffer first count on the end of what they read being a zero. */
	if (bytes < reach)
		memset(to + bytes, 0, reach - bytes);
	return (ssize_t)bytes;
}

bool hf_want_wait(int fd, struct hf_want *want)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	struct timespec left = {0, 0};
	int ready;

	if ((want->limit == 0 && want->done == 0) || hf_nonblocking(fd, want->flags))
		return true; /* the read itself waits, or says that it would */
	if (want->limit != 0) {
		uint64_t passed = hf_wrap_now_ms() - want->started;

		if (passed < want->limit)
			left = (struct timespec){(time_t)((want->limit - passed) / 1000),
						 (long)((want->limit - passed) % 1000) * 1000000};
	}
	/* One that comes with a beat, or while we look at it, is met by the next wait. */
	if (!want->quiet)
		(void)hf_quiet_begin(&want->mask, NULL);
	want->quiet = true;
	ready = hf_real.ppoll(&p, 1, want->limit != 0 ? &left : NULL, &want->mask.own);
	if (ready == 0)
		errno = EAGAIN;
	return ready > 0;
}

/* Whether the call may return with what it has. */
static bool enough(const struct hf_want *want)
{
	return want->done >= want->least;
}

/* The flags for the next call: after enough bytes only what is there already. */
static int next_flags(const struct hf_want *want)
{
	int flags = want->flags & ~(MSG_WAITALL | MSG_TRUNC);

	return want->done > 0 && enough(want) ? flags | MSG_DONTWAIT : flags;
}

ssize_t hf_want_broke(struct hf_want *want)
{
	if (want->done > 0 && enough(want))
		return (ssize_t)want->done;
	want->broken = true;
	errno = EAGAIN;
	return want->done > 0 ? (ssize_t)want->done : -1;
}

/* A call of the kernel's, as receive() makes it, has been made; errno was ERROR before.  False: *RESULT is that of the
 * program's call, true: it goes on. */
static bool goes_on(struct hf_slot *slot, int fd, struct hf_want *want, const struct hf_received *received, uint8_t *to,
		    size_t pieces, int error, ssize_t *result)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	ssize_t got = received->got, bytes;

	if (got < 0 && hf_resume_fatal(errno) && hf_resume_lost(slot, errno)) {
		*result = hf_want_broke(want);
		return false;
	}
	if (got < 0) {
		*result = want->done > 0 ? (ssize_t)want->done : -1;
		if (want->done > 0) {
			hf_wrap_took_error(wrap, -errno); /* told by the next call, as by the kernel's own */
			errno = error;
		}
		return false;
	}
	if (got == 0 && atomic_load(&wrap->shut_read) == 0 && hf_resume_lost(slot, 0)) {
		*result = hf_want_broke(want);
		return false;
	}
	if (got == 0) {
		hf_wrap_leave(slot, false); /* the watchdog may have met a reset and be about to say so */
		hf_wrap_kernel_end(wrap);
		*result = hf_want_end(wrap, want->done);
		return false;
	}
	bytes = take(slot, fd, received, to, pieces);
	if (bytes < 0) {
		*result = hf_want_fate(slot, want->done);
		return false;
	}
	want->done += (size_t)bytes;
	*result = (ssize_t)want->done;
	/* Less came than was asked for: the kernel's queue is empty.  An edge-triggered program counts on that. */
	if (want->done > 0 && (size_t)got < received->asked && enough(want))
		return false;
	error = errno;
	(void)hf_want_heed_end(wrap, want);
	if ((want->done > 0 && enough(want)) || hf_want_wait(fd, want))
		return true;
	if (want->done == 0)
		*result = -1;
	else
		errno = error;
	return false;
}

/* As io/wrap_overtaken.c says; it came to the SIZE bytes at TO.  False: the turn is not ours, *RESULT is that of the
 * program's call. */
static bool caught_up(struct hf_slot *slot, int fd, uint32_t me, struct hf_want *want, uint8_t *to, size_t size,
		      struct hf_received *received, ssize_t *result)
{
	bool open = false;

	*result = 0;
	if (received->got > 0)
		*result = hf_wrap_overtaken_rx(slot, fd, me, received, to, size, &open);
	if (*result < 0) {
		*result = want->done > 0 ? (ssize_t)want->done : -1;
		return false;
	}
	want->done += (size_t)*result;
	*result = (ssize_t)want->done;
	if (open || (want->done == 0 && hf_wrap_retake_rx(slot, fd, me)))
		return true;
	if (want->done == 0)
		*result = -1;
	return false;
}

ssize_t hf_want_read(struct hf_slot *slot, int fd, struct hf_want *want)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	struct iovec iov[MOST_IOV + 1];
	uint32_t me = hf_turn_me();
	ssize_t result;
	uint8_t *to;

	if (want->first != NULL) {
		const struct hf_received *first = want->first;

		want->first = NULL;
		if (!goes_on(slot, hf_number_of(slot, fd), want, first, want->iov[0].iov_base, 1, errno, &result))
			return result;
		fd = hf_number_again(slot, fd);
	}
	while (want->done < want->total) {
		struct hf_received received;
		size_t pieces;
		int error = errno;

		fd = hf_number_of(slot, fd);
		/* In the wait before. */
		if (hf_overtaken(&wrap->rx_turn, me) && !hf_wrap_retake_rx(slot, fd, me))
			return want->done > 0 ? (ssize_t)want->done : hf_want_fate(slot, 0);
		if (hf_unlikely(hf_resume_inbox(slot) != 0)) {
			want->done += hf_resume_from_inbox(slot, want->iov, want->count, want->done,
							   want->total - want->done, true);
			if (want->done == 0) {
				errno = EFAULT;
				return -1;
			}
			continue;
		}
		if (hf_wrap_at_end(wrap))
			return hf_want_end(wrap, want->done);
		/* Broken, but not yet taken care of: what is in the kernel can be read. */
		if (atomic_load_explicit(&wrap->phase, memory_order_relaxed) == HF_PHASE_BROKEN)
			return hf_want_broke(want);
		(void)hf_want_heed_end(wrap, want);
		received.at = wrap->rx_raw;
		received.whole = false;
		receive(wrap, fd, want, next_flags(want), hf_rx_overhead(&wrap->rx), &received, iov, &pieces);
		to = iov[received.overhead > 0].iov_base;
		if (hf_overtaken(&wrap->rx_turn, me)) {
			bool taken = received.got > 0;
			size_t size = pieces != 1                  ? 0
				      : received.spread.count != 0 ? received.spread.room
								   : received.asked - received.overhead;

			if (!caught_up(slot, fd, me, want, to, size, &received, &result))
				return result;
			if (taken && wrap->rx_caught_at == received.at)
				continue;
		}
		if (!goes_on(slot, fd, want, &received, to, pieces, error, &result))
			return result;
		fd = hf_number_again(slot, fd);
	}
	return (ssize_t)want->done;
}

/* Memory that is never a program's buffer, so that a mistake is answered with EFAULT and not with a crash. */
static bool usual(const struct iovec *iov, size_t count)
{
	if (count > IOV_MAX || hf_wild(iov))
		return false;
	for (size_t i = 0; i < count; i++)
		if (hf_endless(iov[i].iov_len))
			return false;
	return true;
}

/* The kernel's low-water mark back to one byte: headers count there, and we count ourselves. */
static void lower(struct hf_wrap *wrap, int fd)
{
	int one = 1;

	if (atomic_exchange(&wrap->low_raised, 0) != 0)
		(void)hf_sys_setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof(one));
}

/* The path is gone; no turn is in hand.  False: not to be waited for any longer, and errno says why. */
static bool wait_broken(struct hf_slot *slot, int fd, const struct hf_want *want, ssize_t *result)
{
	const struct hf_wrap *wrap = hf_wrap_of(slot);
	struct hf_wait wait;
	bool on;
	int error;

	*result = -1;
	if (hf_nonblocking(fd, want->flags)) {
		errno = EAGAIN;
		return false;
	}
	hf_wait_begin(slot, &wait);
	on = hf_resume_wait(slot, want->limit) && !hf_wait_in_vain(slot, &wait, &fd);
	hf_wait_end(slot, &wait);
	if (!on || (error = hf_wrap_fate(slot)) == 0 || (wrap != NULL && hf_wrap_at_end(wrap)) ||
	    hf_resume_inbox(slot) != 0)
		return on;
	errno = error; /* ended, and nothing is left to be read */
	return false;
}

/* The rx turn is ours. */
static ssize_t read_any(struct hf_slot *slot, int fd, struct hf_want *want)
{
	if ((want->flags & MSG_PEEK) != 0)
		return hf_want_peek(slot, fd, want);
	if ((want->flags & MSG_TRUNC) != 0)
		return hf_want_discard(slot, fd, want);
	return hf_want_read(slot, fd, want);
}

/* The rx turn is ours, and is given back. */
static ssize_t read_held(struct hf_slot *slot, int fd, uint32_t me, struct hf_want *want, bool *plain)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	ssize_t result;
	int low;

	(void)hf_want_heed_end(wrap, want);
	want->limit = atomic_load_explicit(&wrap->receive_limit, memory_order_relaxed);
	if (want->limit != 0)
		want->started = hf_wrap_now_ms();
	low = atomic_load_explicit(&wrap->low_water, memory_order_relaxed);
	want->least = (want->flags & MSG_WAITALL) != 0 ? want->total : low > 1 ? (size_t)low : 1;
	if (want->least > want->total)
		want->least = want->total;
	if (hf_unlikely(atomic_load_explicit(&wrap->low_raised, memory_order_relaxed) != 0))
		lower(wrap, fd);
	result = read_any(slot, fd, want);
	while (hf_unlikely(want->broken)) {
		want->broken = false;
		hf_turn_end_ours(&wrap->rx_turn, me);
		if (!wait_broken(slot, fd, want, &result) ||
		    !hf_wrap_reach_read(slot, fd, me, want->flags, &result, plain)) {
			if (want->quiet)
				hf_quiet_end(&want->mask);
			*plain = false;
			return want->done > 0 ? (ssize_t)want->done : result;
		}
		result = read_any(slot, fd, want);
	}
	hf_turn_end_ours(&wrap->rx_turn, me);
	if (hf_unlikely(result < 0 && errno == EAGAIN && hf_want_heed_end(wrap, want)))
		result = 0;
	if (hf_unlikely(atomic_load_explicit(&slot->left, memory_order_relaxed) != 0))
		hf_watch_poke(slot); /* closed meanwhile, and now nobody is in it */
	if (hf_unlikely(want->quiet))
		hf_quiet_end(&want->mask);
	return result;
}

ssize_t hf_wrap_recv(struct hf_slot *slot, int fd, const struct iovec *iov, size_t count, int flags, bool *plain)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	struct hf_want want = {.iov = iov, .count = count, .flags = flags};
	uint32_t me = hf_turn_me();
	ssize_t result;

	*plain = wrap == NULL || (flags & MSG_ERRQUEUE) != 0 || !usual(iov, count);
	if (*plain || (want.total = hf_iov_total(iov, count)) == 0) {
		*plain = true; /* the kernel refuses it, or does nothing */
		return 0;
	}
	if ((flags & MSG_OOB) != 0) {
		errno = EINVAL; /* urgent data has no place in frames; as when there is none */
		return -1;
	}
	if (atomic_load_explicit(&wrap->phase, memory_order_acquire) != HF_PHASE_ON ||
	    !hf_wrap_take_free(slot, wrap, &wrap->rx_turn, me)) {
		if (!hf_wrap_reach_read(slot, fd, me, flags, &result, plain))
			return result;
	}
	return read_held(slot, fd, me, &want, plain);
}

ssize_t hf_wrap_recv_held(struct hf_slot *slot, int fd, uint32_t me, struct iovec *iov, int flags,
			  const struct hf_received *first, bool *plain)
{
	struct hf_want want = {.iov = iov, .count = 1, .total = iov->iov_len, .flags = flags, .first = first};

	return read_held(slot, fd, me, &want, plain);
}
