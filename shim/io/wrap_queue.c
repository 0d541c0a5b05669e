/*
 * What a wrapped connection owes the kernel: frames half sent, bytes that waited for the handshake, the program's FIN.
 */
#include "io/confined.h"
#include "io/resume.h"
#include "io/wrap_inner.h"
#include "runtime.h"
#include "sys.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>

/* The queue, mapped into this process. NULL: no memory. */
static uint8_t *queue_of(struct hf_slot *slot)
{
	uint32_t conn = atomic_load(&hf_rare(slot)->conn);
	uint8_t *queue = atomic_load(&hf_rare(slot)->queue), *none = NULL;

	if (queue != NULL || conn == 0)
		return queue;
	queue = hf_arena_queue(conn - 1);
	if (queue != NULL && !atomic_compare_exchange_strong(&hf_rare(slot)->queue, &none, queue)) {
		hf_arena_queue_drop(conn - 1, queue, false);
		queue = none;
	}
	return queue;
}

bool hf_wrap_has_queue(struct hf_slot *slot)
{
	return queue_of(slot) != NULL;
}

/* All of it has gone, and nothing will be queued any more. */
static void queue_done(struct hf_slot *slot)
{
	uint8_t *queue = atomic_exchange(&hf_rare(slot)->queue, NULL);

	if (queue != NULL)
		hf_arena_queue_drop(atomic_load(&hf_rare(slot)->conn) - 1, queue, true);
}

/* What of the queue has yet to go, from FLUSHED to QUEUED.  False: no library has written these numbers. */
static bool queue_ends(const struct hf_wrap *wrap, uint32_t *flushed, uint32_t *queued)
{
	*flushed = hf_once(wrap->flushed);
	*queued = hf_once(wrap->queued);
	return *flushed <= *queued && *queued <= HF_QUEUE_SIZE;
}

size_t hf_wrap_queue(struct hf_slot *slot, const struct iovec *iov, size_t count)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint8_t *queue = queue_of(slot);
	uint32_t flushed, queued;
	size_t put = 0;

	if (queue == NULL || wrap == NULL)
		return 0;
	if (!queue_ends(wrap, &flushed, &queued)) {
		hf_wrap_fail(slot, EPROTO);
		return 0;
	}
	hf_books_open(&wrap->tx_books_open);
	if (flushed > 0) {
		queued -= flushed;
		memmove(queue, queue + flushed, queued);
		wrap->queued = queued;
		wrap->flushed = 0;
	}
	for (size_t i = 0; i < count && queued < HF_QUEUE_SIZE; i++) {
		size_t n = HF_QUEUE_SIZE - queued;

		if (n > iov[i].iov_len)
			n = iov[i].iov_len;
		if (!hf_copy_in(queue + queued, iov[i].iov_base, n))
			break;
		queued += (uint32_t)n;
		wrap->queued = queued;
		put += n;
	}
	hf_books_close(&wrap->tx_books_open);
	return put;
}

const uint8_t *hf_wrap_plan(struct hf_wrap *wrap, size_t n, bool of_queue, struct hf_tx_plan *plan)
{
	const uint8_t *owed;
	size_t size;

	hf_tx_plan(&wrap->tx, n, plan);
	owed = hf_tx_owed(&wrap->tx, &size);
	if (size < plan->owed)
		plan->owed = size;
	wrap->plan = *plan;
	wrap->plan_of_queue = of_queue;
	return owed;
}

size_t hf_wrap_sent(struct hf_wrap *wrap, const struct hf_tx_plan *plan, size_t took)
{
	size_t bytes;

	hf_books_open(&wrap->tx_books_open);
	wrap->tx_raw += took;
	bytes = hf_tx_took(&wrap->tx, plan, took);
	if (wrap->plan_of_queue)
		wrap->flushed += (uint32_t)bytes;
	hf_books_close(&wrap->tx_books_open);
	return bytes;
}

/* What was on its way when the connection broke, or the first piece of it. */
static size_t resend(struct hf_slot *slot, const struct hf_wrap *wrap, uint8_t **from)
{
	struct hf_resume *resume = hf_resume_of(slot);
	const struct hf_ring ring = hf_resume_ring(resume);
	const uint8_t *kept = NULL;
	size_t left = hf_ring_at(&ring, resume->memory, hf_once(wrap->tx.sent), &kept);

	*from = (uint8_t *)(uintptr_t)kept;
	return left;
}

/* One send of owed bytes and, while framed, as much of the queue as the plan takes. */
static int flush_step(struct hf_slot *slot, struct hf_wrap *wrap, int fd, bool framed)
{
	struct hf_tx_plan plan;
	struct iovec iov[4];
	struct msghdr msg = {.msg_iov = iov};
	bool again = framed && hf_resume_backlog(slot, wrap) > 0;
	const uint8_t *owed;
	uint32_t flushed, queued;
	size_t left, bytes;
	uint8_t *from;
	long sent;

	if (!queue_ends(wrap, &flushed, &queued)) {
		hf_wrap_fail(slot, EPROTO);
		return -EPROTO;
	}
	left = queued - flushed;
	from = left > 0 && !again ? queue_of(slot) : NULL;
	if (left > 0 && !again && from == NULL)
		return -ENOMEM;
	if (from != NULL)
		from += flushed;
	if (again)
		left = resend(slot, wrap, &from);
	else if (framed && hf_resume_of(slot) != NULL && left > hf_resume_room(slot, fd))
		left = hf_resume_room(slot, fd);
	if (!framed) {
		sent = hf_sys_sendto(fd, from, left, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
		if (sent > 0)
			wrap->flushed = flushed + (uint32_t)sent;
		return sent < 0 ? (int)sent : 1;
	}
	owed = hf_wrap_plan(wrap, left, !again, &plan);
	if (plan.owed > 0)
		iov[msg.msg_iovlen++] = (struct iovec){(void *)(uintptr_t)owed, plan.owed};
	if (plan.first > 0)
		iov[msg.msg_iovlen++] = (struct iovec){from, plan.first};
	if (plan.header)
		iov[msg.msg_iovlen++] = (struct iovec){plan.head, HF_HEADER_SIZE};
	if (plan.second > 0)
		iov[msg.msg_iovlen++] = (struct iovec){from + plan.first, plan.second};
	if (msg.msg_iovlen == 0)
		return -EAGAIN;
	if (hf_unlikely(atomic_load_explicit(&hf_sys_confined, memory_order_relaxed))) {
		/* By a program's own call, which may block where it does. */
		size_t asked;
		int error = errno;

		sent = hf_confined_send(fd, iov, msg.msg_iovlen, 0, &asked);
		sent = sent < 0 ? -errno : sent;
		errno = error;
	} else {
		sent = hf_sys_sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
	if (sent < 0)
		return (int)sent;
	bytes = hf_wrap_sent(wrap, &plan, (size_t)sent);
	if (!again && hf_resume_of(slot) != NULL)
		hf_resume_keep(slot, &(struct iovec){from, bytes}, 1, 0, bytes);
	return 1;
}

/* The program's FIN, behind everything it wrote. */
static void end_of_writing(struct hf_slot *slot, int fd, uint32_t me)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	bool seen;

	/* A frame is open that the program never filled: where there can be another connection, the FIN goes there. */
	if (!wrap->session.peer_done && !hf_tx_between(&wrap->tx) && !wrap->tx.fin &&
	    hf_resume_lost(slot, ECONNRESET)) {
		wrap->shut_after_queue = true;
		return;
	}
	hf_books_open(&wrap->tx_books_open);
	hf_wrap_session_lock(wrap, me);
	seen = hf_session_fin_seen(&wrap->session);
	if (wrap->session.peer_done || !hf_tx_fin(&wrap->tx, seen)) {
		/* The peer is gone and a frame would meet a reset, or a frame is open that the program never filled:
		 * the kernel's own end is the only one left. */
		hf_sys_shutdown(fd, SHUT_WR);
		atomic_store(&wrap->real_shut_write, 1);
		hf_session_shut_sent(&wrap->session);
	} else {
		hf_session_fin_sent(&wrap->session, seen);
	}
	hf_wrap_session_unlock(wrap);
	hf_books_close(&wrap->tx_books_open);
}

/*
 * A program that was told EAGAIN for want of room in the queue waits for an edge (epoll(7)) that the kernel, which has
 * room, would never give.  Setting TCP_NOTSENT_LOWAT to what it is makes it tell every waiter afresh.
 */
static void give_edge(struct hf_wrap *wrap, int fd)
{
	uint32_t value;
	socklen_t len = sizeof(value);

	if (atomic_exchange(&wrap->starved, 0) != 0 &&
	    hf_sys_getsockopt(fd, SOL_TCP, TCP_NOTSENT_LOWAT, &value, &len) == 0)
		(void)hf_sys_setsockopt(fd, SOL_TCP, TCP_NOTSENT_LOWAT, &value, sizeof(value));
}

int hf_wrap_flush(struct hf_slot *slot, int fd)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	bool framed = atomic_load(&wrap->phase) == HF_PHASE_ON;
	uint32_t me = atomic_load_explicit(&wrap->tx_turn.owner, memory_order_relaxed);
	size_t owed = 0;

	for (;;) {
		int step;

		if (framed)
			(void)hf_tx_owed(&wrap->tx, &owed);
		if (framed && hf_resume_broken(wrap))
			return 0;
		if (owed == 0 && wrap->queued == wrap->flushed && (!framed || hf_resume_backlog(slot, wrap) == 0)) {
			give_edge(wrap, fd);
			if (atomic_load_explicit(&hf_rare(slot)->queue, memory_order_relaxed) != NULL)
				queue_done(slot);
			if (!wrap->shut_after_queue || atomic_load(&wrap->real_shut_write) != 0)
				return 1;
			wrap->shut_after_queue = false;
			if (framed) {
				end_of_writing(slot, fd, me);
				continue;
			}
			hf_sys_shutdown(fd, SHUT_WR);
			return 1;
		}
		step = flush_step(slot, wrap, fd, framed);
		if (step == -EAGAIN)
			return 0;
		if (step < 0)
			return step;
	}
}
