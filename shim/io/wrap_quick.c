/*
 * The usual read and the usual write of a wrapped connection, in few instructions: one piece of the program's memory,
 * frames flow, nobody is in the way, and nothing is broken, ended or owed.  Whatever else may be is for io/wrap_read.c
 * and io/wrap_write.c, which can do all of this too; what is done here is what they would do.
 */
#include "io/keep.h"
#include "io/resume.h"
#include "io/wrap_inner.h"
#include "preload/real.h"
#include "sys.h"
#include "watch/watch.h"

#include <errno.h>
#include <string.h>

enum {
	MOST = 0x7ffff000, /* MAX_RW_COUNT: the kernel moves no more in one call (read(2)) */
	SMALL_RUN = 16,    /* messages in a row, after which the next is expected to be small, too */
};

static bool frames_flow(const struct hf_wrap *wrap)
{
	return atomic_load_explicit(&wrap->phase, memory_order_acquire) == HF_PHASE_ON &&
	       !atomic_load_explicit(&hf_sys_confined, memory_order_relaxed);
}

/* The rx turn is ours: whether one call of the kernel's is all that is needed. */
static bool may_read(struct hf_slot *slot, const struct hf_wrap *wrap)
{
	return frames_flow(wrap) && !wrap->rx.fin && !wrap->rx.bye && !wrap->rx.proof_due &&
	       atomic_load_explicit(&wrap->shut_read, memory_order_relaxed) != HF_SHUT_ASKED &&
	       atomic_load_explicit(&wrap->ended, memory_order_relaxed) == 0 &&
	       atomic_load_explicit(&wrap->receive_limit, memory_order_relaxed) == 0 &&
	       atomic_load_explicit(&wrap->low_water, memory_order_relaxed) <= 1 &&
	       atomic_load_explicit(&wrap->low_raised, memory_order_relaxed) == 0 && hf_resume_inbox(slot) == 0;
}

static void count_small(struct hf_wrap *wrap, size_t message)
{
	if (message > HF_READ_SMALL)
		wrap->small_run = 0;
	else if (wrap->small_run < SMALL_RUN)
		wrap->small_run++;
}

/*
 * What came was a header and program bytes of its frame, or program bytes of a frame that was open: written down.
 * False: it was not, or there may be more of the SIZE bytes the program asked for.
 */
static bool as_usual(struct hf_wrap *wrap, const struct hf_received *first, size_t size)
{
	size_t got = (size_t)first->got;
	bool usual;

	if (hf_unlikely(got == first->asked && got < first->overhead + size)) {
		wrap->small_run = 0;
		return false;
	}
	if (hf_unlikely(first->spread.count != 0)) {
		if (got - first->overhead > first->spread.lead)
			return false;
		if (first->overhead != 0)
			wrap->rx_like = 0; /* one frame, for all that was expected */
	}
	hf_books_open(&wrap->rx_books_open);
	if (first->overhead == 0)
		usual = hf_rx_more(&wrap->rx, got);
	else
		usual = got > HF_HEADER_SIZE && hf_rx_one(&wrap->rx, wrap->rx_scratch, got - HF_HEADER_SIZE);
	if (hf_likely(usual))
		wrap->rx_raw += got;
	hf_books_close(&wrap->rx_books_open);
	if (first->overhead != 0)
		count_small(wrap, got - HF_HEADER_SIZE + hf_rx_open(&wrap->rx));
	return usual;
}

/* Whether no other process has the connection, who could not tell what a read has taken that was killed behind it. */
static bool ours_alone(const struct hf_wrap *wrap)
{
	typedef uint32_t handles __attribute__((vector_size(HF_ARENA_HOLDERS / 2 * sizeof(uint32_t))));
	uint32_t me = hf_family_me();
	handles seen[2], other;
	uint64_t any[2];

	/* All at a glance: the hot path. */
	memcpy(seen, (const void *)wrap->conn.holders, sizeof(seen));
	other = (handles)((seen[0] != 0) & (seen[0] != me)) | (handles)((seen[1] != 0) & (seen[1] != me));
	memcpy(any, &other, sizeof(any));
	return me != 0 && (any[0] | any[1]) == 0 &&
	       atomic_load_explicit(&wrap->conn.doubt, memory_order_relaxed) == HF_DOUBT_NONE;
}

/*
 * How many bytes to ask for in one piece, header and all; 0: in two.  Of a program that asks for more than a small
 * message that is where one is expected: a wait has seen it, or all the last ones were.  If that much comes, and the
 * program wants more, it takes another call.
 */
static size_t one_piece(const struct hf_slot *slot, const struct hf_wrap *wrap, size_t overhead, const void *buf,
			size_t size)
{
	size_t most = HF_HEADER_SIZE + HF_READ_SMALL + 1;

	if (overhead != HF_HEADER_SIZE ||
	    (size > HF_READ_SMALL && wrap->small_run < SMALL_RUN &&
	     (!hf_wrap_alone(wrap) || hf_wrap_ahead(wrap) > HF_HEADER_SIZE + HF_READ_SMALL)) ||
	    hf_kernels(buf) || !ours_alone(wrap) ||
	    atomic_load_explicit(&hf_rare(slot)->scratch_at, memory_order_relaxed) == HF_SCRATCH_LENT)
		return 0;
	return HF_HEADER_SIZE + size < most ? HF_HEADER_SIZE + size : most;
}

/* The same, should this never return to say (hf_wrap_ledger_rx()): to this process alone. */
static ssize_t receive_whole(struct hf_slot *slot, struct hf_wrap *wrap, int fd, uint32_t me, void *buf, size_t asked,
			     int flags)
{
	uint8_t *scratch = hf_scratch(slot);
	ssize_t got;

	wrap->rx_scratched = HF_RX_WHOLE;
	atomic_store_explicit(&hf_rare(slot)->scratch_at, wrap->rx_raw + 1, memory_order_relaxed);
	atomic_store_explicit(&hf_rare(slot)->scratch_epoch, atomic_load_explicit(hf_proc_epoch, memory_order_relaxed),
			      memory_order_relaxed);
	got = hf_real.recv(fd, scratch, asked, flags);
	if (hf_overtaken(&wrap->rx_turn, me))
		return got;
	memcpy(wrap->rx_scratch, scratch, HF_HEADER_SIZE);
	if (hf_likely(got > HF_HEADER_SIZE))
		memcpy(buf, scratch + HF_HEADER_SIZE, (size_t)got - HF_HEADER_SIZE);
	return got;
}

/* Whether more than a frame may come, of which some is worth a place of its own. */
static bool may_spread(const struct hf_wrap *wrap, size_t overhead, size_t size)
{
	return size > HF_SPREAD_LEAST &&
	       (overhead == 0 ? size - HF_SPREAD_LEAST > hf_rx_open(&wrap->rx) : hf_once(wrap->rx_like) != 0);
}

static size_t spread_over(struct hf_wrap *wrap, uint8_t *at, size_t size, struct hf_received *received,
			  struct iovec *iov)
{
	struct hf_spread *spread = &received->spread;
	size_t left = hf_spread_plan(spread, hf_rx_open(&wrap->rx), hf_once(wrap->rx_like), size), n = 0;

	received->asked = received->overhead + left;
	for (unsigned i = 0; i < spread->count; i++) {
		size_t piece = hf_spread_piece(spread, i, left);

		iov[n++] = (struct iovec){at, piece};
		iov[n++] = (struct iovec){spread->headers[i], HF_HEADER_SIZE};
		at += piece;
		left -= piece + HF_HEADER_SIZE;
	}
	iov[n++] = (struct iovec){at, left};
	return n;
}

size_t hf_wrap_receive_plan(struct hf_wrap *wrap, size_t overhead, void *buf, size_t size, struct hf_received *received,
			    struct iovec iov[HF_RECEIVE_MOST])
{
	size_t n = overhead > 0;

	wrap->rx_scratched = (uint32_t)overhead;
	received->overhead = overhead;
	received->asked = overhead + size;
	received->spread.count = 0;
	iov[0] = (struct iovec){wrap->rx_scratch, overhead};
	if (hf_unlikely(may_spread(wrap, overhead, size)))
		return n + spread_over(wrap, buf, size, received, iov + n);
	iov[n] = (struct iovec){buf, size};
	return n + 1;
}

/* The kernel's call for SIZE bytes at BUF. */
static void receive(struct hf_slot *slot, struct hf_wrap *wrap, int fd, uint32_t me, void *buf, size_t size, int flags,
		    struct hf_received *first)
{
	size_t asked = one_piece(slot, wrap, first->overhead, buf, size);
	struct iovec iov[HF_RECEIVE_MOST];
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};

	first->at = wrap->rx_raw;
	first->whole = asked != 0;
	first->spread.count = 0;
	if (asked != 0) {
		first->asked = asked;
		first->got = receive_whole(slot, wrap, fd, me, buf, asked, flags);
		return;
	}
	if (hf_unlikely(may_spread(wrap, first->overhead, size))) {
		msg.msg_iovlen = hf_wrap_receive_plan(wrap, first->overhead, buf, size, first, iov);
	} else {
		iov[0] = (struct iovec){wrap->rx_scratch, first->overhead};
		iov[1] = (struct iovec){buf, size};
		first->asked = first->overhead + size;
		wrap->rx_scratched = (uint32_t)first->overhead;
	}
	first->got = first->asked == size ? hf_real.recv(fd, buf, size, flags) : hf_real.recvmsg(fd, &msg, flags);
}

/* As io/wrap_overtaken.c says. */
static ssize_t recv_overtaken(struct hf_slot *slot, int fd, uint32_t me, void *buf, size_t size, int flags,
			      struct hf_received *first, bool *plain)
{
	struct iovec iov = {buf, size};
	bool open, kept = hf_resume_of(slot) != NULL;
	ssize_t bytes;

	if (first->got <= 0 && !(kept && (first->got == 0 || hf_resume_fatal(errno))))
		return first->got;
	if (first->got > 0) {
		bytes = hf_wrap_overtaken_rx(slot, fd, me, first, buf, size, &open);
		if (open)
			return hf_wrap_recv_held(slot, fd, me, &iov, flags, first, plain);
		if (bytes != 0)
			return bytes;
	}
	return hf_wrap_recv(slot, fd, &iov, 1, flags, plain);
}

ssize_t hf_wrap_recv_one(struct hf_slot *slot, int fd, void *buf, size_t size, int flags, bool *plain)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	struct hf_received first;
	struct iovec iov = {buf, size};
	uint32_t me = hf_turn_me();
	ssize_t bytes;

	if (hf_unlikely(wrap == NULL || size - 1 >= MOST || (flags & ~MSG_DONTWAIT) != 0 || !frames_flow(wrap) ||
			!hf_wrap_take_free(slot, wrap, &wrap->rx_turn, me)))
		return hf_wrap_recv(slot, fd, &iov, 1, flags, plain);
	*plain = false;
	if (hf_unlikely(!may_read(slot, wrap)))
		return hf_wrap_recv_held(slot, fd, me, &iov, flags, NULL, plain);
	first.overhead = hf_rx_overhead(&wrap->rx);
	receive(slot, wrap, hf_number_of(slot, fd), me, buf, size, flags, &first);
	if (hf_overtaken(&wrap->rx_turn, me))
		return recv_overtaken(slot, hf_number_of(slot, fd), me, buf, size, flags, &first, plain);
	bytes = first.got - (ssize_t)first.overhead;
	if (hf_unlikely(first.got <= 0 || !as_usual(wrap, &first, size))) {
		if (first.got >= 0 || (errno != EAGAIN && errno != EINTR))
			return hf_wrap_recv_held(slot, fd, me, &iov, flags, &first, plain);
		bytes = -1;
	}
	hf_turn_end(&wrap->rx_turn);
	if (hf_unlikely(atomic_load_explicit(&slot->left, memory_order_relaxed) != 0))
		hf_watch_poke(slot); /* closed meanwhile, and now nobody is in it */
	return bytes;
}

/* The tx turn is ours: whether a header and SIZE program bytes can go out in one call of the kernel's. */
static bool may_send(struct hf_slot *slot, const struct hf_wrap *wrap, struct hf_resume *resume, int fd, size_t size)
{
	if (!frames_flow(wrap) || !hf_tx_between(&wrap->tx) || wrap->queued != wrap->flushed || !hf_may_write(wrap))
		return false;
	return resume == NULL || (!hf_resume_broken(wrap) && resume->ring.end == wrap->tx.sent &&
				  (hf_resume_ample(resume, size) || hf_resume_room(slot, fd) >= size));
}

/* The call did not take all it was given: SENT, or errno. */
static ssize_t send_less(struct hf_slot *slot, int fd, uint32_t me, const struct iovec *iov, int flags,
			 const struct hf_tx_plan *plan, ssize_t sent)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	bool kept = hf_resume_of(slot) != NULL;
	size_t done = 0;

	if (sent >= 0) {
		done = hf_wrap_sent(wrap, plan, (size_t)sent);
		if (kept)
			hf_resume_keep(slot, iov, 1, 0, done);
	} else if (kept && hf_resume_fatal(errno)) {
		if (!hf_resume_lost(slot, errno)) {
			sent = errno == EPIPE ? hf_broken_pipe(flags) : -1;
			hf_turn_end(&wrap->tx_turn);
			return sent;
		}
	} else {
		hf_turn_end(&wrap->tx_turn);
		return -1;
	}
	/* Interrupted, or a full buffer: as the kernel reports it. */
	if (done == 0 || (kept && hf_resume_broken(wrap)))
		return hf_wrap_send_held(slot, fd, me, iov, done, flags);
	hf_turn_end(&wrap->tx_turn);
	return (ssize_t)done;
}

/* Rooms for middling writes, each taken for one call.  A thread that jumps out of the call, or a fork beside it, loses
 * the room: then such writes go in two pieces. */
enum { ROOMS = 4 };
static uint8_t rooms[ROOMS][HF_HEADER_SIZE + HF_WRITE_MIDDLING];
static _Atomic bool room_taken[ROOMS];

static bool take_room(uint32_t me)
{
	return !atomic_exchange_explicit(&room_taken[me % ROOMS], true, memory_order_acquire);
}

/* Header and program bytes as one piece, put together in ROOM. */
static ssize_t send_from(uint8_t *room, int fd, const struct hf_tx_plan *plan, const void *buf, int flags)
{
	memcpy(room, plan->head, HF_HEADER_SIZE);
	memcpy(room + HF_HEADER_SIZE, buf, plan->second);
	return hf_real.send(fd, room, HF_HEADER_SIZE + plan->second, flags);
}

static ssize_t send_small(int fd, const struct hf_tx_plan *plan, const void *buf, int flags)
{
	uint8_t room[HF_HEADER_SIZE + HF_WRITE_SMALL];

	return send_from(room, fd, plan, buf, flags);
}

/* The room is ours, and given back. */
static ssize_t send_middling(int fd, const struct hf_tx_plan *plan, const void *buf, int flags, uint32_t me)
{
	ssize_t sent = send_from(rooms[me % ROOMS], fd, plan, buf, flags);

	atomic_store_explicit(&room_taken[me % ROOMS], false, memory_order_release);
	return sent;
}

/* As io/wrap_overtaken.c says. */
static ssize_t send_overtaken(struct hf_slot *slot, int fd, uint32_t me, const struct iovec *iov, int flags,
			      const struct hf_tx_plan *plan, ssize_t sent, bool *plain)
{
	size_t done;

	if (sent < 0)
		return hf_resume_of(slot) != NULL && hf_resume_fatal(errno)
			       ? hf_wrap_send(slot, fd, iov, 1, flags, plain)
			       : -1;
	if (!hf_wrap_overtaken_tx(slot, fd, me, plan, (size_t)sent, &done))
		return -1;
	if (hf_resume_of(slot) != NULL)
		hf_resume_keep_if(slot, iov, 1, 0, done);
	if (done == 0)
		return hf_wrap_send_held(slot, fd, me, iov, done, flags);
	hf_turn_end(&hf_wrap_of(slot)->tx_turn);
	return (ssize_t)done;
}

ssize_t hf_wrap_send_one(struct hf_slot *slot, int fd, const void *buf, size_t size, int flags, bool *plain)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	struct hf_resume *resume;
	struct hf_tx_plan plan;
	struct iovec iov[2] = {{plan.head, HF_HEADER_SIZE}, {(void *)(uintptr_t)buf, size}};
	struct msghdr msg;
	uint32_t me = hf_turn_me();
	int own_flags = flags;
	ssize_t sent;

	if (hf_unlikely(wrap == NULL || size - 1 >= HF_DATA_MOST ||
			(flags & ~(MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE)) != 0 || !frames_flow(wrap) ||
			!hf_wrap_take_free(slot, wrap, &wrap->tx_turn, me)))
		return hf_wrap_send(slot, fd, &iov[1], 1, flags, plain);
	*plain = false;
	resume = hf_resume_of(slot);
	fd = hf_number_of(slot, fd);
	if (hf_unlikely(!may_send(slot, wrap, resume, fd, size)))
		return hf_wrap_send_held(slot, fd, me, &iov[1], 0, flags);
	plan = (struct hf_tx_plan){.second = size, .header = true};
	hf_header_make(plan.head, HF_FRAME_DATA, (uint32_t)size);
	wrap->plan = plan;
	wrap->plan_of_queue = false;
	/* A SIGPIPE that is none (a path that broke) must not come. */
	if (resume != NULL)
		own_flags |= MSG_NOSIGNAL;
	if (size <= HF_WRITE_SMALL && !hf_kernels(buf)) {
		sent = send_small(fd, &plan, buf, own_flags);
	} else if (size <= HF_WRITE_MIDDLING && !hf_kernels(buf) && take_room(me)) {
		sent = send_middling(fd, &plan, buf, own_flags, me);
	} else {
		msg = (struct msghdr){.msg_iov = iov, .msg_iovlen = 2};
		sent = hf_real.sendmsg(fd, &msg, own_flags);
	}
	if (hf_overtaken(&wrap->tx_turn, me))
		return send_overtaken(slot, fd, me, &iov[1], flags, &plan, sent, plain);
	if (hf_unlikely(sent != (ssize_t)(HF_HEADER_SIZE + size)))
		return send_less(slot, fd, me, &iov[1], flags, &plan, sent);
	if (hf_unlikely(resume != NULL))
		hf_resume_keep_one(resume, buf, size);
	hf_books_open(&wrap->tx_books_open);
	wrap->tx_raw += HF_HEADER_SIZE + size;
	hf_tx_one(&wrap->tx, size);
	hf_books_close(&wrap->tx_books_open);
	hf_turn_end(&wrap->tx_turn);
	return (ssize_t)size;
}
