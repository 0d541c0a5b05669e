/*
 * Looking at what a wrapped connection has for the program without taking it (MSG_PEEK), and throwing it away
 * (MSG_TRUNC, tcp(7)).
 */
#include "io/adopt.h"
#include "io/keep.h"
#include "io/resume.h"
#include "io/wrap_inner.h"
#include "io/wrap_want.h"
#include "preload/real.h"
#include "sys.h"

#include <errno.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

enum { MOST_IOV = 62 };

/* Looking without taking: as far as the open frame goes in the program's buffer, further by way of one of our own. */
static ssize_t peek_frame(struct hf_wrap *wrap, int fd, struct hf_want *want)
{
	struct iovec iov[MOST_IOV];
	size_t bytes, most = hf_rx_open(&wrap->rx) < want->total ? hf_rx_open(&wrap->rx) : want->total;
	struct msghdr msg = {.msg_iov = iov};

	msg.msg_iovlen = hf_iov_slice(want->iov, want->count, 0, most, iov, MOST_IOV, &bytes);
	return hf_real.recvmsg(fd, &msg, want->flags & ~MSG_WAITALL);
}

/* How many of SIZE bytes the program's memory took. */
static size_t scatter(const struct hf_want *want, const uint8_t *from, size_t size)
{
	size_t done = 0;

	for (size_t i = 0; i < want->count && done < size; i++) {
		size_t n = want->iov[i].iov_len < size - done ? want->iov[i].iov_len : size - done;

		if (!hf_copy_out(want->iov[i].iov_base, from + done, n))
			break;
		done += n;
	}
	return done;
}

/* WAITING: what the kernel has.  All of it: no less than FIONREAD promises.  *ENDS: the peer's end is in it. */
static ssize_t peek_beyond(struct hf_wrap *wrap, int fd, struct hf_want *want, size_t waiting, bool *ends)
{
	uint8_t *room = hf_sys_mmap(NULL, waiting, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct hf_rx copy = wrap->rx;
	struct hf_rx_news news;
	long got;
	size_t bytes = 0;

	if (hf_sys_failed(room))
		return peek_frame(wrap, fd, want);
	got = hf_sys_recvfrom(fd, room, waiting, MSG_PEEK | MSG_DONTWAIT, NULL, NULL);
	if (got > 0) {
		bytes = hf_rx_squeeze(&copy, room, (size_t)got, &news);
		bytes = bytes < want->total ? bytes : want->total;
		*ends = *ends || copy.fin || copy.bye || copy.corrupt;
		if ((want->flags & MSG_TRUNC) == 0) /* else only counted (tcp(7)) */
			bytes = scatter(want, room, bytes);
	}
	hf_sys_munmap(room, waiting);
	return bytes > 0 ? (ssize_t)bytes : peek_frame(wrap, fd, want);
}

static ssize_t peek_once(struct hf_slot *slot, int fd, struct hf_want *want, bool *ends)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	int waiting = 0;
	char byte;

	for (;;) {
		int ready;

		fd = hf_number_of(slot, fd);
		if (hf_overtaken(&wrap->rx_turn, hf_turn_me()) && !hf_wrap_retake_rx(slot, fd, hf_turn_me()))
			return hf_want_fate(slot, 0);
		ready = hf_wrap_swallow(slot, fd);

		if (ready < 0) {
			errno = -ready;
			return ready == -EPROTO ? hf_want_fate(slot, 0) : -1;
		}
		if (ready > 0)
			break;
		/* The peer's end had come before the path went: there is no more to wait for. */
		if (hf_resume_broken(wrap) || atomic_load(&wrap->phase) == HF_PHASE_BROKEN)
			return hf_wrap_at_end(wrap) ? hf_want_end(wrap, 0) : hf_want_broke(want);
		/* Nothing is there: wait as long as is left, or let the kernel wait, or say that it would. */
		(void)hf_want_heed_end(wrap, want);
		if (want->limit != 0 && !hf_want_wait(fd, want))
			return -1;
		if ((want->limit == 0 || hf_nonblocking(fd, want->flags)) &&
		    hf_real.recv(fd, &byte, 1, (want->flags & MSG_DONTWAIT) | MSG_PEEK) < 0)
			return -1;
		fd = hf_number_again(slot, fd);
	}
	if (hf_unlikely(hf_resume_inbox(slot) != 0))
		return (ssize_t)hf_resume_from_inbox(slot, want->iov, want->count, 0, want->total, false);
	if (hf_wrap_at_end(wrap))
		return hf_want_end(wrap, 0);
	if (hf_rx_open(&wrap->rx) < want->total && hf_sys_ioctl(fd, FIONREAD, &waiting) == 0 &&
	    (size_t)waiting > hf_rx_open(&wrap->rx))
		return peek_beyond(wrap, fd, want, (size_t)waiting, ends);
	return peek_frame(wrap, fd, want);
}

/* For what may come behind bytes that are there, which keep poll(2) from waiting.  False: the time is over, or a signal
 * came. */
static bool wait_behind(struct hf_wrap *wrap, struct hf_want *want)
{
	enum { NAP_NS = 2000000 };
	const struct timespec nap = {0, NAP_NS};

	if (want->limit != 0 && hf_wrap_now_ms() - want->started >= want->limit)
		return false;
	if (!want->quiet)
		(void)hf_quiet_begin(&want->mask, NULL);
	want->quiet = true;
	wrap->rx_scratched = HF_RX_HELD;
	return hf_real.ppoll(NULL, 0, &nap, &want->mask.own) == 0;
}

static bool nothing_more(struct hf_slot *slot, int fd)
{
	int state;

	if (atomic_load(&hf_sys_confined))
		return true; /* not to be asked */
	state = hf_tcp_state(fd);

	return state == HF_TCP_CLOSE || hf_tcp_peer_ended(state) || atomic_load(&hf_wrap_of(slot)->shut_read) != 0;
}

ssize_t hf_want_peek(struct hf_slot *slot, int fd, struct hf_want *want)
{
	for (;;) {
		/* Before what has come is looked at. */
		bool ends = want->least > 1 && nothing_more(slot, hf_number_of(slot, fd));
		int error;
		ssize_t got = peek_once(slot, fd, want, &ends);

		error = errno;
		if (got <= 0 || (size_t)got >= want->least || ends || want->broken ||
		    hf_want_heed_end(hf_wrap_of(slot), want) || hf_nonblocking(hf_number_of(slot, fd), want->flags) ||
		    !wait_behind(hf_wrap_of(slot), want)) {
			errno = error;
			return got;
		}
	}
}

ssize_t hf_want_discard(struct hf_slot *slot, int fd, struct hf_want *want)
{
	char buf[1024] = {0}; /* the stack may be that of a signal handler */
	size_t total = 0;

	while (total < want->total) {
		struct iovec iov = {buf, want->total - total < sizeof(buf) ? want->total - total : sizeof(buf)};
		struct hf_want part = *want;
		ssize_t got;

		part.iov = &iov;
		part.count = 1;
		part.total = iov.iov_len;
		part.done = 0;
		part.least = want->least > total ? want->least - total : 1;
		part.least = part.least < part.total ? part.least : part.total;
		if (total > 0 && total >= want->least)
			part.flags |= MSG_DONTWAIT;
		got = hf_want_read(slot, fd, &part);
		want->quiet = part.quiet;
		want->mask = part.mask;
		want->broken = part.broken && total == 0;
		if (got <= 0)
			return total > 0 ? (ssize_t)total : got;
		total += (size_t)got;
		if ((size_t)got < part.total)
			break;
	}
	return (ssize_t)total;
}
