/*
 * Reading from a wrapped connection: the kernel's own call into the program's own buffer, headers squeezed out of it.
 */
#include "io/gate.h"
#include "io/wrap_inner.h"
#include "sys.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

enum { MOST_IOV = 62, PEEK_ROOM = 64 * 1024 };

/* What one call is after. */
struct want {
	const struct iovec *iov;
	size_t count, total, done;
	int flags;
	uint64_t started; /* ms, if there is a limit */
	uint32_t limit;   /* SO_RCVTIMEO, ms */
};

static bool at_end(const struct hf_wrap *wrap)
{
	return wrap->rx.fin || wrap->rx.bye || atomic_load_explicit(&wrap->ended, memory_order_relaxed) != 0;
}

static ssize_t fate_of(struct hf_slot *slot, size_t done)
{
	if (done > 0)
		return (ssize_t)done;
	errno = atomic_load(&slot->fate) != 0 ? atomic_load(&slot->fate) : EPROTO;
	return -1;
}

/*
 * One call of the kernel's: protocol bytes into SCRATCH, program bytes into the program's buffer.  Into one piece of
 * the program's buffer, unless all that is wanted belongs to the open frame.  *ASKED: how many bytes were asked for.
 */
static ssize_t receive(struct hf_wrap *wrap, int fd, struct want *want, int flags, uint8_t *scratch, struct iovec *iov,
		       size_t *pieces, size_t *asked)
{
	size_t overhead = hf_rx_overhead(&wrap->rx), left = want->total - want->done, bytes, n = 0;
	bool whole = hf_rx_open(&wrap->rx) >= left;
	struct msghdr msg = {.msg_iov = iov};

	if (overhead > 0)
		iov[n++] = (struct iovec){scratch, overhead};
	*pieces = hf_iov_slice(want->iov, want->count, want->done, left, iov + n, whole ? MOST_IOV : 1, &bytes);
	*asked = overhead + bytes;
	if (n + *pieces == 1)
		return hf_real.recv(fd, iov[0].iov_base, iov[0].iov_len, flags);
	msg.msg_iovlen = n + *pieces;
	return hf_real.recvmsg(fd, &msg, flags);
}

/* GOT bytes came as receive() asked for them: how many of them are the program's. -1: corrupt. */
static ssize_t take(struct hf_slot *slot, int fd, const uint8_t *scratch, const struct iovec *iov, size_t pieces,
		    size_t overhead, size_t got)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	struct hf_rx_news news;
	size_t mine = got < overhead ? got : overhead, theirs = got - mine, bytes;

	wrap->rx_raw += got;
	if (overhead == 0 && theirs <= hf_rx_open(&wrap->rx)) {
		hf_rx_passed(&wrap->rx, theirs);
		return (ssize_t)theirs;
	}
	if (pieces != 1) { /* cannot be: more than one piece is asked for inside a frame only */
		hf_wrap_fail(slot, EPROTO);
		return -1;
	}
	bytes = hf_rx_squeeze_split(&wrap->rx, (void *)(uintptr_t)scratch, mine, iov[overhead > 0].iov_base, theirs,
				    &news);
	if (!hf_wrap_news(slot, fd, &news) && bytes == 0)
		return -1;
	return (ssize_t)bytes;
}

/* Beats are no reason to wait longer than the program asked: one deadline for the whole call. */
static bool wait_within_limit(int fd, const struct want *want)
{
	uint64_t passed = hf_wrap_now_ms() - want->started;
	struct pollfd p = {.fd = fd, .events = POLLIN};

	if (passed >= want->limit)
		return false;
	return hf_real.poll(&p, 1, (int)(want->limit - passed)) > 0;
}

/* The flags for the next call: after the first bytes only what is there already, unless all is waited for. */
static int next_flags(const struct want *want)
{
	int flags = want->flags & ~(MSG_WAITALL | MSG_TRUNC);

	return want->done > 0 && (want->flags & MSG_WAITALL) == 0 ? flags | MSG_DONTWAIT : flags;
}

static ssize_t read_on(struct hf_slot *slot, int fd, struct want *want)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint8_t scratch[HF_RX_OVERHEAD_MOST];
	struct iovec iov[MOST_IOV + 1];

	while (want->done < want->total) {
		size_t overhead = hf_rx_overhead(&wrap->rx), pieces, asked;
		int error = errno;
		ssize_t got, bytes;

		if (at_end(wrap))
			return (ssize_t)want->done;
		got = receive(wrap, fd, want, next_flags(want), scratch, iov, &pieces, &asked);
		if (got < 0) {
			if (want->done == 0)
				return -1;
			errno = error;
			return (ssize_t)want->done;
		}
		if (got == 0) {
			atomic_store(&wrap->ended, 1);
			return (ssize_t)want->done;
		}
		bytes = take(slot, fd, scratch, iov, pieces, overhead, (size_t)got);
		if (bytes < 0)
			return fate_of(slot, want->done);
		want->done += (size_t)bytes;
		/* Less came than was asked for: the kernel's queue is empty.  An edge-triggered program counts on that.
		 */
		if (want->done > 0 && (size_t)got < asked && (want->flags & MSG_WAITALL) == 0)
			break;
		if (bytes == 0 && want->limit != 0 && (want->flags & MSG_DONTWAIT) == 0 &&
		    !wait_within_limit(fd, want)) {
			if (want->done > 0)
				break;
			if (errno != EINTR)
				errno = EAGAIN;
			return -1;
		}
	}
	return (ssize_t)want->done;
}

/* Looking without taking: as far as the open frame goes in the program's buffer, further by way of one of our own. */
static ssize_t peek_frame(struct hf_wrap *wrap, int fd, struct want *want)
{
	struct iovec iov[MOST_IOV];
	size_t bytes, most = hf_rx_open(&wrap->rx) < want->total ? hf_rx_open(&wrap->rx) : want->total;
	struct msghdr msg = {.msg_iov = iov};

	msg.msg_iovlen = hf_iov_slice(want->iov, want->count, 0, most, iov, MOST_IOV, &bytes);
	return hf_real.recvmsg(fd, &msg, want->flags & ~(MSG_WAITALL | MSG_TRUNC));
}

static void scatter(const struct want *want, const uint8_t *from, size_t size)
{
	for (size_t i = 0; i < want->count && size > 0; i++) {
		size_t n = want->iov[i].iov_len < size ? want->iov[i].iov_len : size;

		memcpy(want->iov[i].iov_base, from, n);
		from += n;
		size -= n;
	}
}

static ssize_t peek_beyond(struct hf_wrap *wrap, int fd, struct want *want)
{
	uint8_t *room = hf_sys_mmap(NULL, PEEK_ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct hf_rx copy = wrap->rx;
	struct hf_rx_news news;
	long got;
	size_t bytes = 0;

	if (hf_sys_failed(room))
		return peek_frame(wrap, fd, want);
	got = hf_sys_recvfrom(fd, room, PEEK_ROOM, MSG_PEEK | MSG_DONTWAIT, NULL, NULL);
	if (got > 0) {
		bytes = hf_rx_squeeze(&copy, room, (size_t)got, &news);
		bytes = bytes < want->total ? bytes : want->total;
		scatter(want, room, bytes);
	}
	hf_sys_munmap(room, PEEK_ROOM);
	return bytes > 0 ? (ssize_t)bytes : peek_frame(wrap, fd, want);
}

static ssize_t peek(struct hf_slot *slot, int fd, struct want *want)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	int waiting = 0;
	char byte;

	for (;;) {
		int ready = hf_wrap_swallow(slot, fd);

		if (ready < 0) {
			errno = -ready;
			return ready == -EPROTO ? fate_of(slot, 0) : -1;
		}
		if (ready > 0)
			break;
		/* Nothing is there: let the kernel wait, or say that it would. */
		if (hf_real.recv(fd, &byte, 1, (want->flags & MSG_DONTWAIT) | MSG_PEEK) < 0)
			return -1;
	}
	if (at_end(wrap))
		return 0;
	if (hf_rx_open(&wrap->rx) < want->total && hf_sys_ioctl(fd, FIONREAD, &waiting) == 0 &&
	    (size_t)waiting > hf_rx_open(&wrap->rx))
		return peek_beyond(wrap, fd, want);
	return peek_frame(wrap, fd, want);
}

/* MSG_TRUNC: the program bytes are thrown away (tcp(7)). */
static ssize_t discard(struct hf_slot *slot, int fd, struct want *want)
{
	char buf[4096];
	size_t total = 0;

	while (total < want->total) {
		struct iovec iov = {buf, want->total - total < sizeof(buf) ? want->total - total : sizeof(buf)};
		struct want part = *want;
		ssize_t got;

		part.iov = &iov;
		part.count = 1;
		part.total = iov.iov_len;
		part.done = 0;
		if (total > 0)
			part.flags |= MSG_DONTWAIT;
		got = read_on(slot, fd, &part);
		if (got <= 0)
			return total > 0 ? (ssize_t)total : got;
		total += (size_t)got;
		if ((size_t)got < part.total)
			break;
	}
	return (ssize_t)total;
}

/* Until frames flow.  True: they do, and the rx turn is ours. *RESULT and *PLAIN say what else to return. */
static bool reach_on(struct hf_slot *slot, int fd, uint32_t me, int flags, ssize_t *result, bool *plain)
{
	const struct timespec moment = {0, 1000000};
	struct hf_wrap *wrap = hf_wrap_of(slot);
	char byte;

	*result = -1;
	for (;;) {
		enum hf_shake shake;

		if (!hf_wrap_take_rx(slot, fd, me, hf_nonblocking(fd, flags) ? 20 : -1)) {
			errno = atomic_load(&slot->fate) != 0 ? atomic_load(&slot->fate) : EAGAIN;
			return false;
		}
		if (atomic_load(&wrap->phase) == HF_PHASE_ON)
			return true;
		shake = hf_wrap_shake(slot, fd, me, false);
		if (shake == HF_SHAKE_ON)
			return true;
		hf_turn_end(&wrap->rx_owner);
		if (shake == HF_SHAKE_PLAIN) {
			*plain = true;
			return false;
		}
		if (shake == HF_SHAKE_FAILED) {
			errno = atomic_load(&slot->fate);
			return false;
		}
		if (hf_nonblocking(fd, flags)) {
			errno = EAGAIN;
			return false;
		}
		if (shake == HF_SHAKE_AGAIN) {
			hf_sys_nanosleep(&moment, NULL);
		} else if (shake == HF_SHAKE_REDIAL) {
			struct pollfd p = {.fd = fd, .events = POLLOUT};

			(void)hf_real.poll(&p, 1, 100);
		} else if (hf_real.recv(fd, &byte, 1, MSG_PEEK) < 0 && (errno == EINTR || errno == EAGAIN)) {
			return false; /* a signal, or the program's own time limit */
		}
	}
}

ssize_t hf_wrap_recv(struct hf_slot *slot, int fd, const struct iovec *iov, size_t count, int flags, bool *plain)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	struct want want = {.iov = iov, .count = count, .total = hf_iov_total(iov, count), .flags = flags};
	uint32_t me = hf_turn_me();
	ssize_t result;

	*plain = false;
	if ((flags & MSG_OOB) != 0) {
		errno = EINVAL; /* urgent data has no place in frames; as when there is none */
		return -1;
	}
	if (wrap == NULL || (flags & MSG_ERRQUEUE) != 0 || want.total == 0 || count > IOV_MAX) {
		*plain = true;
		return 0;
	}
	if (atomic_load_explicit(&wrap->phase, memory_order_acquire) != HF_PHASE_ON ||
	    hf_turn_try(&wrap->rx_owner, me) != HF_TURN_OURS) {
		if (!reach_on(slot, fd, me, flags, &result, plain))
			return result;
	}
	want.limit = atomic_load_explicit(&wrap->receive_limit, memory_order_relaxed);
	if (want.limit != 0)
		want.started = hf_wrap_now_ms();
	if ((flags & MSG_PEEK) != 0)
		result = peek(slot, fd, &want);
	else if ((flags & MSG_TRUNC) != 0)
		result = discard(slot, fd, &want);
	else
		result = read_on(slot, fd, &want);
	hf_turn_end(&wrap->rx_owner);
	return result;
}

bool hf_wrap_ready(struct hf_slot *slot, int fd)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint32_t me = hf_turn_me();
	bool ready = true;

	if (wrap == NULL || atomic_load(&slot->fate) != 0)
		return true;
	/* Another thread is at it: whatever it leaves will be seen at the next look. */
	if (!hf_wrap_take_rx(slot, fd, me, 0))
		return atomic_load(&slot->fate) != 0;
	if (atomic_load(&wrap->phase) != HF_PHASE_ON) {
		enum hf_shake shake = hf_wrap_shake(slot, fd, me, false);

		if (shake == HF_SHAKE_PLAIN || shake == HF_SHAKE_FAILED) {
			struct pollfd p = {.fd = fd, .events = POLLIN};

			hf_turn_end(&wrap->rx_owner);
			return shake == HF_SHAKE_FAILED || hf_sys_poll(&p, 1, 0) > 0;
		}
		ready = shake == HF_SHAKE_ON;
	}
	if (ready)
		ready = hf_wrap_swallow(slot, fd) != 0;
	hf_turn_end(&wrap->rx_owner);
	return ready;
}

int hf_wrap_readable(struct hf_slot *slot, int fd)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint32_t me = hf_turn_me();
	uint8_t *room;
	int bytes = 0;

	if (!hf_wrap_ready(slot, fd) || (wrap = hf_wrap_of(slot)) == NULL || !hf_wrap_take_rx(slot, fd, me, 0))
		return wrap == NULL ? -1 : 0;
	room = hf_sys_mmap(NULL, PEEK_ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!hf_sys_failed(room)) {
		struct hf_rx copy = wrap->rx;
		struct hf_rx_news news;
		long got = hf_sys_recvfrom(fd, room, PEEK_ROOM, MSG_PEEK | MSG_DONTWAIT, NULL, NULL);

		if (got > 0)
			bytes = (int)hf_rx_squeeze(&copy, room, (size_t)got, &news);
		hf_sys_munmap(room, PEEK_ROOM);
	}
	hf_turn_end(&wrap->rx_owner);
	return bytes;
}
