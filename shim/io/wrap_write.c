/*
 * Writing to a wrapped connection: a frame header and the program's bytes in one call of the kernel's own.
 */
#include "io/adopt.h"
#include "io/confined.h"
#include "io/gate.h"
#include "io/keep.h"
#include "io/resume.h"
#include "io/wrap_inner.h"
#include "runtime.h"
#include "sys.h"

#include <errno.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <string.h>

enum { MOST_IOV = 60, SMALL = HF_WRITE_SMALL };

ssize_t hf_broken_pipe(int flags)
{
	/* To the thread, by the kernel's number of it: that of its turns has a mark. */
	if ((flags & MSG_NOSIGNAL) == 0)
		hf_sys_tgkill(hf_sys_getpid(), hf_sys_gettid(), SIGPIPE);
	errno = EPIPE;
	return -1;
}

/* As io/wrap_overtaken.c says; SENT bytes of PLAN went.  How many of them are the program's; -1: errno. */
static ssize_t overtaken(struct hf_slot *slot, int fd, const struct hf_tx_plan *plan, ssize_t sent)
{
	uint32_t me = hf_turn_me();
	size_t done;

	if (sent < 0) {
		(void)hf_wrap_retake_tx(slot, fd, me);
		return sent;
	}
	return hf_wrap_overtaken_tx(slot, fd, me, plan, (size_t)sent, &done) ? (ssize_t)done : -1;
}

/* The call cannot go on for ERROR (> 0), and no other connection will do. */
static int refused(int error, int flags)
{
	if (error == EPIPE)
		return (int)hf_broken_pipe(flags);
	errno = error;
	return -1;
}

ssize_t hf_write_ended(struct hf_slot *slot, int fd, int flags)
{
	int error = atomic_exchange(&hf_wrap_of(slot)->error_taken, 0);
	socklen_t len = sizeof(error);

	if (error == 0 && hf_resume_of(slot) == NULL && !atomic_load(&hf_sys_confined))
		(void)hf_sys_getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
	return refused(error != 0 ? error : EPIPE, flags);
}

/* A small write copied behind its header: one piece is quicker for the kernel than two (measured).  0: not to be done
 * so. */
static ssize_t send_small(struct hf_slot *slot, int fd, const struct iovec *iov, size_t count, size_t total, int flags)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint8_t buf[HF_HEADER_SIZE + SMALL];
	size_t at = HF_HEADER_SIZE;
	struct hf_tx_plan plan;
	ssize_t sent;

	(void)hf_wrap_plan(wrap, total, false, &plan);
	if (!plan.header || plan.owed > 0 || plan.second != total)
		return 0; /* changed by another process at this very moment */
	memcpy(buf, plan.head, HF_HEADER_SIZE);
	for (size_t i = 0; i < count; i++) {
		if (iov[i].iov_len != 0) /* NULL may stand beside it */
			memcpy(buf + at, iov[i].iov_base, iov[i].iov_len);
		at += iov[i].iov_len;
	}
	if (hf_unlikely(atomic_load_explicit(&hf_sys_confined, memory_order_relaxed)))
		sent = hf_confined_send(fd, &(struct iovec){buf, at}, 1, flags, &at);
	else
		sent = hf_real.send(fd, buf, at, flags);
	if (hf_overtaken(&wrap->tx_turn, hf_turn_me())) {
		sent = overtaken(slot, fd, &plan, sent);
		if (sent > 0 && hf_resume_of(slot) != NULL)
			hf_resume_keep_if(slot, &(struct iovec){buf, at}, 1, HF_HEADER_SIZE, (size_t)sent);
		return sent;
	}
	if (sent > HF_HEADER_SIZE && hf_unlikely(hf_resume_of(slot) != NULL))
		hf_resume_keep(slot, &(struct iovec){buf, at}, 1, HF_HEADER_SIZE, (size_t)sent - HF_HEADER_SIZE);
	return sent < 0 ? sent : (ssize_t)hf_wrap_sent(wrap, &plan, (size_t)sent);
}

/* One call of the kernel's. *SHORT: it took less than it was given. */
static ssize_t send_frame(struct hf_slot *slot, int fd, const struct iovec *iov, size_t count, size_t done, size_t left,
			  int flags, bool *is_short)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	struct iovec out[MOST_IOV + 4], body[MOST_IOV];
	struct msghdr msg = {.msg_iov = out};
	struct hf_tx_plan plan;
	const uint8_t *owed;
	size_t bytes, n, total;
	ssize_t sent;

	n = hf_iov_slice(iov, count, done, left, body, MOST_IOV, &bytes);
	owed = hf_wrap_plan(wrap, bytes, false, &plan);
	total = plan.owed + plan.first + (plan.header ? HF_HEADER_SIZE : 0) + plan.second;
	if (total == 0) {
		errno = EPROTO; /* our direction has ended, and who may write has looked a moment ago */
		return -1;
	}
	if (plan.owed > 0)
		out[msg.msg_iovlen++] = (struct iovec){(void *)(uintptr_t)owed, plan.owed};
	if (plan.first > 0)
		msg.msg_iovlen += hf_iov_slice(body, n, 0, plan.first, out + msg.msg_iovlen, MOST_IOV, &bytes);
	if (plan.header)
		out[msg.msg_iovlen++] = (struct iovec){plan.head, HF_HEADER_SIZE};
	if (plan.second > 0)
		msg.msg_iovlen += hf_iov_slice(body, n, plan.first, plan.second, out + msg.msg_iovlen,
					       MOST_IOV + 3 - msg.msg_iovlen, &bytes);
	if (hf_unlikely(atomic_load_explicit(&hf_sys_confined, memory_order_relaxed)))
		sent = hf_confined_send(fd, out, msg.msg_iovlen, flags, &total);
	else
		sent = hf_real.sendmsg(fd, &msg, flags);
	if (sent >= 0)
		*is_short = (size_t)sent < total;
	if (hf_overtaken(&wrap->tx_turn, hf_turn_me()))
		return overtaken(slot, fd, &plan, sent);
	if (sent < 0)
		return sent;
	return (ssize_t)hf_wrap_sent(wrap, &plan, (size_t)sent);
}

/* What waited for the handshake goes first. 1: gone; 0: not yet (non-blocking); -1: errno. */
static int flush_first(struct hf_slot *slot, int fd, int flags)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);

	while (wrap->queued > wrap->flushed) {
		struct pollfd p = {.fd = fd, .events = POLLOUT};
		int flushed = hf_wrap_flush(slot, fd);

		if (flushed < 0) {
			errno = -flushed;
			return -1;
		}
		if (flushed > 0)
			break;
		if (hf_nonblocking(fd, flags))
			return 0;
		if (hf_resume_broken(wrap))
			(void)hf_resume_wait(slot, 0);
		if (hf_wrap_fate(slot) != 0) {
			errno = hf_wrap_fate(slot);
			return -1;
		}
		if (hf_real.poll(&p, 1, -1) < 0)
			return -1;
		if (hf_overtaken(&wrap->tx_turn, hf_turn_me()) && !hf_wrap_retake_tx(slot, fd, hf_turn_me())) {
			errno = EPROTO;
			return -1;
		}
	}
	return 1;
}

/* Left to the kernel, which answers with EFAULT, where a copy would crash. */
static bool any_wild(const struct iovec *iov, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (iov[i].iov_len != 0 && hf_kernels(iov[i].iov_base))
			return true;
	return false;
}

/* From byte DONE on, which is the first or within a frame. */
static ssize_t write_on(struct hf_slot *slot, int fd, const struct iovec *iov, size_t count, size_t total, size_t done,
			int flags)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	int first = flush_first(slot, fd, flags), error = errno;

	if (first < 0)
		return -1;
	if (first == 0) {
		done = hf_wrap_queue(slot, iov, count);
		if (done == 0)
			errno = EAGAIN; /* the flush met a full buffer, so the kernel will give the edge */
		return done > 0 ? (ssize_t)done : -1;
	}
	if (done == 0 && total <= SMALL && hf_tx_between(&wrap->tx) && !any_wild(iov, count)) {
		ssize_t sent = send_small(slot, fd, iov, count, total, flags);

		if (sent != 0)
			return sent;
	}
	fd = hf_number_of(slot, fd);
	while (done < total) {
		bool is_short = false;
		ssize_t sent = send_frame(slot, fd, iov, count, done, total - done, flags, &is_short);

		if (sent < 0) {
			if (done == 0)
				return -1;
			errno = error;
			break;
		}
		done += (size_t)sent;
		if (is_short && done > 0)
			break; /* interrupted, or a full buffer: as the kernel reports it */
		if (is_short && hf_nonblocking(fd, flags)) {
			errno = EAGAIN; /* only protocol bytes fitted */
			return -1;
		}
		fd = hf_number_again(slot, fd);
	}
	return (ssize_t)done;
}

/* The tx turn, for the queue. False: not yet, or the connection has been closed. */
static bool take_queue(struct hf_slot *slot, int *fd, uint32_t me, const struct hf_wait *wait)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);

	if (!hf_wrap_take_tx(slot, *fd, me, 20))
		return false;
	if (!hf_wait_in_vain(slot, wait, fd))
		return true;
	hf_turn_end(&wrap->tx_turn);
	return false;
}

static bool queue_until_on(struct hf_slot *slot, int fd, uint32_t me, const struct iovec *iov, size_t count, int flags,
			   const struct hf_wait *wait, ssize_t *result, bool *plain)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	const struct timespec moment = {0, 1000000};

	*plain = wrap == NULL;
	if (wrap == NULL)
		return false;
	atomic_store(&wrap->spoken, 1);
	for (;;) {
		enum hf_shake shake = HF_SHAKE_AGAIN; /* another has the turn */
		struct pollfd p = {.events = POLLIN};
		bool room = false;

		if (hf_wait_in_vain(slot, wait, &fd))
			return false;
		if (hf_wrap_of(slot) == NULL) {
			*plain = true;
			return false;
		}
		if (hf_wrap_take_rx(slot, fd, me, 0)) {
			if (!hf_wait_in_vain(slot, wait, &fd))
				shake = hf_wrap_shake(slot, fd, me);
			hf_turn_end(&wrap->rx_turn);
		}
		/* What is broken waits with the tx turn's owner. */
		if (shake == HF_SHAKE_ON || shake == HF_SHAKE_BROKEN || atomic_load(&wrap->phase) == HF_PHASE_ON)
			return true;
		if (shake == HF_SHAKE_PLAIN) {
			*plain = true;
			return false;
		}
		if (shake == HF_SHAKE_FAILED || atomic_load(&slot->fate) != 0) {
			errno = atomic_load(&slot->fate);
			return false;
		}
		if (wrap->shut_after_queue) {
			*result = hf_broken_pipe(flags);
			return false;
		}
		/* Not connected yet: as native, nothing is taken. */
		if (atomic_load(&wrap->phase) == HF_PHASE_CONNECT && hf_nonblocking(fd, flags)) {
			errno = EAGAIN;
			return false;
		}
		if (!take_queue(slot, &fd, me, wait))
			continue;
		/* It may have become ON while we waited for the turn. */
		if (atomic_load(&wrap->phase) != HF_PHASE_ON && hf_wrap_of(slot) != NULL) {
			room = hf_wrap_has_queue(slot);
			*result = room ? (ssize_t)hf_wrap_queue(slot, iov, count) : 0;
		}
		hf_turn_end(&wrap->tx_turn);
		if (*result > 0)
			return false;
		*result = -1;
		/* Without memory for the queue it is as if it were full. */
		if (room && wrap->queued < HF_QUEUE_SIZE && atomic_load(&wrap->phase) != HF_PHASE_ON) {
			errno = EFAULT; /* there is room, so it was the program's memory */
			return false;
		}
		if (hf_nonblocking(fd, flags)) {
			atomic_store(&wrap->starved, 1);
			/* Once more, or the flush might have been before the mark. */
			if (atomic_load(&wrap->phase) == HF_PHASE_ON || hf_wrap_of(slot) == NULL)
				continue;
			errno = EAGAIN;
			return false;
		}
		p.fd = fd;
		if (hf_shake_unsleeping(wrap, shake))
			hf_sys_nanosleep(&moment, NULL);
		else if (hf_real.poll(&p, 1, 50) < 0)
			return false;
	}
}

/* The path is gone: wait, with the turn in other hands.  1: look again; 0: not now; -1: errno. */
static int wait_broken(struct hf_slot *slot, int fd, uint32_t me, int flags)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	struct hf_wait wait;
	bool on;

	if (hf_nonblocking(fd, flags)) {
		atomic_store(&wrap->starved, 1);
		if (hf_resume_broken(wrap))
			return 0;
	}
	hf_turn_end(&wrap->tx_turn);
	hf_wait_begin(slot, &wait);
	on = hf_resume_wait(slot, hf_resume_send_limit(slot));
	(void)hf_wrap_take_tx(slot, fd, me, -1);
	hf_wait_end(slot, &wait);
	return on ? 1 : -1;
}

/*
 * In a sandbox (io/confined.h) there are no means to ask the kernel what has arrived: what fits into the ring is kept
 * there, for the others who have the connection, and what does not is sent without.
 */
static bool keeps(struct hf_slot *slot, size_t total)
{
	struct hf_resume *resume = hf_resume_of(slot);
	struct hf_ring ring;

	if (hf_likely(resume == NULL || !atomic_load_explicit(&hf_sys_confined, memory_order_relaxed)))
		return resume != NULL;
	ring = hf_resume_ring(resume);
	return hf_ring_room(&ring) >= total;
}

/* A SIGPIPE that is none (a path that broke) must not come; in a sandbox nobody waits for another path. */
static int quietly(int flags)
{
	return atomic_load_explicit(&hf_sys_confined, memory_order_relaxed) ? flags : flags | MSG_NOSIGNAL;
}

/* One write that waits for room: since when, us, if there is a limit; and for how long it has slept for nothing, us. */
struct patience {
	uint64_t since, slept;
};

/* No room to keep what would be sent: the peer's kernel must take some first. It does in a moment, or not for long. */
static int wait_room(struct hf_slot *slot, int fd, int flags, struct patience *patience)
{
	enum { LEAST_US = 100, MOST_US = 5000 };
	struct timespec moment;
	struct timeval limit = {0, 0};
	socklen_t len = sizeof(limit);
	uint64_t now, nap;

	if (hf_nonblocking(fd, flags) || atomic_load(&hf_sys_confined)) {
		atomic_store(&hf_wrap_of(slot)->starved, 1);
		return 0;
	}
	if (hf_sys_getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, &len) == 0 &&
	    (limit.tv_sec != 0 || limit.tv_usec != 0)) {
		now = hf_wrap_now_us();
		if (patience->since == 0)
			patience->since = now;
		if (now - patience->since >= (uint64_t)limit.tv_sec * 1000000 + (uint64_t)limit.tv_usec)
			return 0;
	}
	/* Room that comes is found when an eighth more time has passed, at most. */
	nap = patience->slept / 8;
	nap = nap < LEAST_US ? LEAST_US : nap < MOST_US ? nap : MOST_US;
	patience->slept += nap;
	moment = (struct timespec){0, (long)nap * 1000};
	return hf_real.ppoll(NULL, 0, &moment, NULL) < 0 ? -1 : 1;
}

/* There is no room, and the kernel takes nothing any more: as it would say.  1: it goes on over another connection. */
static int over(struct hf_slot *slot, int fd, int flags)
{
	int error;
	socklen_t len = sizeof(error);

	if (hf_resume_met(slot, fd))
		return 1;
	error = atomic_exchange(&hf_wrap_of(slot)->error_taken, 0);
	if (error == 0)
		(void)hf_sys_getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
	return refused(error != 0 ? error : EPIPE, flags);
}

/* One step of write_kept().  1: go on; 0: full; -1: errno. */
static int keep_step(struct hf_slot *slot, int fd, uint32_t me, const struct iovec *iov, size_t count, size_t total,
		     size_t *done, int flags, struct patience *patience)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	bool is_short = false;
	size_t room;
	ssize_t sent;
	int error;

	if (hf_wrap_fate(slot) != 0) {
		errno = hf_wrap_fate(slot);
		return -1;
	}
	if (hf_resume_broken(wrap))
		return wait_broken(slot, fd, me, flags);
	hf_resume_skip(slot); /* another process may have written, that keeps what it writes to itself */
	error = hf_may_write(wrap) ? 0 : atomic_exchange(&wrap->error_taken, 0);
	if (error != 0) {
		errno = error;
		return -1;
	}
	if (!hf_may_write(wrap))
		return (int)hf_broken_pipe(flags);
	if (hf_resume_backlog(slot, wrap) > 0 || wrap->queued > wrap->flushed) {
		error = hf_wrap_flush(slot, fd);
		if (error < 0 && hf_resume_fatal(-error) && hf_resume_lost(slot, -error))
			return 1;
		if (error < 0)
			return refused(-error, flags);
		if (error == 0)
			return wait_room(slot, fd, flags, patience);
	}
	room = hf_resume_room(slot, fd);
	if (room == 0 && !atomic_load(&hf_sys_confined) && hf_tcp_state(fd) == TCP_CLOSE)
		return over(slot, fd, flags);
	if (room == 0)
		return wait_room(slot, fd, flags, patience);
	room = room < total - *done ? room : total - *done;
	if (*done == 0 && total <= SMALL && room == total && hf_tx_between(&wrap->tx) && !any_wild(iov, count)) {
		sent = send_small(slot, fd, iov, count, total, quietly(flags));
	} else {
		sent = send_frame(slot, fd, iov, count, *done, room, quietly(flags), &is_short);
		if (sent > 0)
			hf_resume_keep_if(slot, iov, count, *done, (size_t)sent);
	}
	if (sent < 0 && hf_resume_fatal(errno) && hf_resume_lost(slot, errno))
		return 1;
	if (sent < 0)
		return errno == EPIPE && quietly(flags) != flags ? (int)hf_broken_pipe(flags) : -1;
	*done += (size_t)sent;
	patience->slept = 0;
	/* Interrupted, or a full buffer: as the kernel reports it. */
	return is_short && !hf_resume_broken(wrap) && (*done > 0 || hf_nonblocking(fd, flags)) ? 0 : 1;
}

/* As write_on(), keeping what is sent until it has arrived. */
static ssize_t write_kept(struct hf_slot *slot, int fd, uint32_t me, const struct iovec *iov, size_t count,
			  size_t total, size_t done, int flags)
{
	int error = errno, step = 1;
	struct patience patience = {0, 0};

	fd = hf_number_of(slot, fd);
	while (done < total && step > 0) {
		step = keep_step(slot, fd, me, iov, count, total, &done, flags, &patience);
		fd = hf_number_again(slot, fd);
	}
	if (done == 0 && step == 0)
		errno = EAGAIN;
	if (done == 0)
		return -1;
	errno = error;
	return (ssize_t)done;
}

/* The tx turn is ours, and DONE bytes have gone. */
static ssize_t write_any(struct hf_slot *slot, int fd, uint32_t me, const struct iovec *iov, size_t count, size_t total,
			 size_t done, int flags)
{
	if (hf_unlikely(keeps(slot, total)))
		return write_kept(slot, fd, me, iov, count, total, done, flags);
	if (!hf_may_write(hf_wrap_of(slot)))
		return hf_write_ended(slot, fd, flags);
	return write_on(slot, fd, iov, count, total, done, flags);
}

/* Before the peer has proved itself no program byte leaves: it waits in the queue.  True: it has, frames flow. */
static bool write_early(struct hf_slot *slot, int fd, uint32_t me, const struct iovec *iov, size_t count, int flags,
			ssize_t *result, bool *plain)
{
	struct hf_wait wait;
	bool on;

	*result = -1;
	hf_wait_begin(slot, &wait);
	on = queue_until_on(slot, fd, me, iov, count, flags, &wait, result, plain);
	hf_wait_end(slot, &wait);
	return on;
}

ssize_t hf_wrap_send(struct hf_slot *slot, int fd, const struct iovec *iov, size_t count, int flags, bool *plain)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint32_t me = hf_turn_me();
	ssize_t result;
	size_t total;

	*plain = wrap == NULL || count > IOV_MAX || hf_wild(iov);
	for (size_t i = 0; i < count && !*plain; i++)
		*plain = hf_endless(iov[i].iov_len);
	if (*plain || (total = hf_iov_total(iov, count)) == 0) {
		*plain = true; /* the kernel refuses it, or does nothing */
		return 0;
	}
	if ((flags & (MSG_OOB | MSG_ZEROCOPY)) != 0) {
		errno = EOPNOTSUPP; /* urgent and borrowed bytes have no place in frames */
		return -1;
	}
	if (atomic_load_explicit(&wrap->phase, memory_order_acquire) != HF_PHASE_ON &&
	    atomic_load(&wrap->phase) != HF_PHASE_BROKEN &&
	    !write_early(slot, fd, me, iov, count, flags, &result, plain))
		return result;
	if (!hf_wrap_take_free(slot, wrap, &wrap->tx_turn, me) &&
	    !hf_wrap_take_tx(slot, fd, me, hf_nonblocking(fd, flags) ? 20 : -1)) {
		*plain = hf_wrap_of(slot) == NULL;
		errno = atomic_load(&slot->fate) != 0 ? atomic_load(&slot->fate) : EAGAIN;
		return -1;
	}
	result = write_any(slot, fd, me, iov, count, total, 0, flags);
	hf_turn_end_ours(&wrap->tx_turn, me);
	return result;
}

ssize_t hf_wrap_send_held(struct hf_slot *slot, int fd, uint32_t me, const struct iovec *iov, size_t done, int flags)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	ssize_t result = write_any(slot, fd, me, iov, 1, iov->iov_len, done, flags);

	hf_turn_end_ours(&wrap->tx_turn, me);
	return result;
}
