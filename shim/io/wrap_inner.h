/*
 * Between the files of the wrapped connection; nobody else's business.
 *
 * Everything here takes the number of the calling thread (ME), uses raw system calls only and leaves errno alone, for
 * the watchdog calls it too.  Results are -errno.
 */
#ifndef HOLDFAST_IO_WRAP_INNER_H
#define HOLDFAST_IO_WRAP_INNER_H

#include "io/turn.h"
#include "io/wrap.h"
#include "runtime.h"
#include "state/hold.h"

/* Where a handshake stands after a step. */
enum hf_shake {
	HF_SHAKE_ON,     /* frames from here on */
	HF_SHAKE_PLAIN,  /* the connection is plain: make the program's own call */
	HF_SHAKE_WAIT,   /* nothing new; wait for input */
	HF_SHAKE_AGAIN,  /* something is there but not all of it: wait a moment */
	HF_SHAKE_REDIAL, /* connecting again: wait until it can be written to */
	HF_SHAKE_BROKEN, /* it was on, and may be again: wait for that */
	HF_SHAKE_FAILED, /* ended: slot->fate says how */
};

/* One step of the handshake; the rx turn must be ours. */
enum hf_shake hf_wrap_shake(struct hf_slot *slot, int fd, uint32_t me);

/* After that step, whether poll(2) would find what has come of the handshake already, or the program's SHUT_RD, and not
 * sleep. */
static inline bool hf_shake_unsleeping(struct hf_wrap *wrap, enum hf_shake shake)
{
	return atomic_load(&wrap->phase) != HF_PHASE_ON &&
	       (shake == HF_SHAKE_AGAIN || (shake == HF_SHAKE_WAIT && atomic_load(&wrap->shut_read) != 0));
}

/* Client: the HELLO, once. */
int hf_wrap_say_hello(struct hf_slot *slot, int fd);

/* Act on what hf_rx_squeeze() came across. False: the stream is corrupt, the connection has been failed. */
bool hf_wrap_news(struct hf_slot *slot, int fd, const struct hf_rx_news *news);

/* How this process lets go of the connection, once: hf_hold_leave(). */
enum hf_left hf_wrap_let_go(struct hf_slot *slot);

/* The connection is plain from here on: hf_wrap_marked() is false again. */
void hf_wrap_unmark(int fd);

/* The same, but not while a child is being forked that may have it or not: HF_LEFT_EXPECTED, ask again. */
enum hf_left hf_wrap_try_let_go(struct hf_slot *slot);

/* Whether SLOT's place in the arena is still its own, and remains so for now: after it has been let go of, to be asked
 * before it is touched. */
bool hf_wrap_stays(struct hf_slot *slot);

/* SLOT is wrapped and its state is out of reach: every call of this process's fails, the connection is left alone. */
void hf_wrap_stranded(struct hf_slot *slot, int fd);

/* Fail-stop: every later call gives ERROR, the watchdog ends the connection and tells. */
void hf_wrap_fail(struct hf_slot *slot, int error);

/* Swallow header and control bytes that have come, never program bytes; the rx turn must be ours.  1: program bytes
 * or an end are next; 0: nothing is there; -errno: an error is. */
int hf_wrap_swallow(struct hf_slot *slot, int fd);

/* Send what is owed and queued as far as the kernel takes it now; the tx turn must be ours. 1: all gone; 0: not yet;
 * -errno. */
int hf_wrap_flush(struct hf_slot *slot, int fd);

/*
 * Queue a BEAT with STATE (enum hf_beat_state) besides the session's own, if one may be said now; OWED_AT: only if it
 * is owed at that time, 0: in any case.  UNREAD, UNREAD_MS as in the frame.  The tx turn must be ours.
 */
void hf_wrap_queue_beat(struct hf_wrap *wrap, uint32_t me, uint64_t owed_at, uint32_t state, uint32_t unread,
			uint32_t unread_ms);

/* The last beat before this process, the only one to hold the connection, can beat no more (io/confined.h). */
void hf_wrap_fall_silent(struct hf_slot *slot, int fd);

/* Until frames flow or SLOT is plain, at the latest until UNTIL; the handshake knows its own time limits, which are
 * over by hf_wrap_settle_by(). */
void hf_wrap_settle(struct hf_slot *slot, uint64_t until);
uint64_t hf_wrap_settle_by(void);

/*
 * One step towards an end: 1: it may be closed; 0: not yet; -1: it must be closed as native (unread data: a reset).
 * LAST: nobody else has it.  The rx turn must be ours.  The second is of our direction alone: true when it is over.
 */
int hf_wrap_settled(struct hf_slot *slot, int fd, uint32_t me, bool last);
bool hf_wrap_settled_tx(struct hf_slot *slot, int fd, uint32_t me, bool last);

/*
 * Whether the slot is closed for good, its number perhaps another's by now.  Asked with a turn in hand: what is not
 * closed then is not given back to be reused before the turn is over (hf_wrap_busy()).
 */
bool hf_wrap_buried(struct hf_slot *slot);

/* To a peer that might resume: an end that comes without a word MAY be one, and no broken path; or it is one again. */
void hf_wrap_may_end(struct hf_slot *slot, int fd, uint32_t me, bool may);

/* Whether SO_LINGER is on, and for how long, s (socket(7)). */
bool hf_wrap_lingers(int fd, int *seconds);

/* A close or an end in a sandbox (io/confined.h): the last word, if nobody else will say it; for more there are no
 * means. -1: nothing is kept. */
int hf_wrap_part_confined(struct hf_slot *slot, int fd, uint32_t me);

/* Whether there is memory for the queue. */
bool hf_wrap_has_queue(struct hf_slot *slot);

/* Put program bytes into the queue: how many fitted. The tx turn must be ours. */
size_t hf_wrap_queue(struct hf_slot *slot, const struct iovec *iov, size_t count);

/* Before what the watchdog saw at its last visit is replaced: who owes whom a reply. */
void hf_wrap_note_reply(struct hf_wrap *wrap, uint64_t now, const struct hf_evidence *evidence);

static inline void hf_books_open(_Atomic uint8_t *open)
{
	atomic_store_explicit(open, 1, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst);
}

static inline void hf_books_close(_Atomic uint8_t *open)
{
	atomic_signal_fence(memory_order_seq_cst);
	atomic_store_explicit(open, 0, memory_order_relaxed);
}

/*
 * Plan for N program bytes, of the queue or of the program's own memory: into PLAN, to be acted upon, and into the
 * arena, for whoever finds the turn left behind.  Returns where the owed bytes stand.  The tx turn must be ours.
 */
const uint8_t *hf_wrap_plan(struct hf_wrap *wrap, size_t n, bool of_queue, struct hf_tx_plan *plan);

/* The kernel took TOOK bytes of PLAN: written down; how many of them were program bytes. The tx turn must be ours. */
size_t hf_wrap_sent(struct hf_wrap *wrap, const struct hf_tx_plan *plan, size_t took);

/*
 * A thread that waits in a call, for the handshake or for a turn, has neither turn in hand.  Meanwhile another may find
 * the peer to be plain and the connection may come to its end, or be closed: for as long as somebody waits the slot is
 * not given to another connection (hf_wrap_busy()), and who has waited asks whether it is still the one it knew.
 */
struct hf_wait {
	uint32_t gen;
};

void hf_wait_begin(struct hf_slot *slot, struct hf_wait *wait);
void hf_wait_end(struct hf_slot *slot, const struct hf_wait *wait);

/* Whether the program has closed it for good: *FD then is no number of it any more, otherwise it is made the one to use
 * (hf_number_of()).  errno is EBADF if so. */
bool hf_wait_in_vain(struct hf_slot *slot, const struct hf_wait *wait, int *fd);

/* After HF_TURN_LEFT: whether the kernel's ledger agrees with ours. */
bool hf_wrap_ledger_rx(struct hf_slot *slot, int fd);
bool hf_wrap_ledger_tx(struct hf_slot *slot, int fd);

/* Take a turn and settle what an abandoned one left behind. False: refused (busy after PATIENCE,
 * failed, or the connection is plain by now: hf_wrap_of() is NULL). */
bool hf_wrap_take_rx(struct hf_slot *slot, int fd, uint32_t me, int patience_ms);
bool hf_wrap_take_tx(struct hf_slot *slot, int fd, uint32_t me, int patience_ms);

/* The rx turn is held though there is something to read: for a pipe (splice(2)), or for more (MSG_PEEK). */
#define HF_RX_HELD (UINT32_MAX - 1)

/* The fast path: a turn that nobody has, of a stream that nobody has found to be broken, and of our own socket. */
static inline bool hf_wrap_take_free(struct hf_slot *slot, struct hf_wrap *wrap, struct hf_turn_word *word, uint32_t me)
{
	if (hf_turn_try(word, me) != HF_TURN_OURS)
		return false;
	if (hf_likely(atomic_load_explicit(&wrap->fate, memory_order_relaxed) == 0 &&
		      atomic_load_explicit(&hf_rare(slot)->link, memory_order_relaxed) ==
			      atomic_load_explicit(&wrap->link, memory_order_relaxed)))
		return true;
	hf_turn_end(word);
	return false;
}

/* The channel's session, for a few instructions. */
void hf_wrap_session_lock(struct hf_wrap *wrap, uint32_t me);
void hf_wrap_session_unlock(struct hf_wrap *wrap);

uint64_t hf_wrap_now_ms(void);
uint64_t hf_wrap_now_us(void);

size_t hf_iov_total(const struct iovec *iov, size_t count);

/* Copy IOV from byte SKIP, at most MOST bytes, into OUT of ROOM entries; returns how many entries. *BYTES: covered. */
size_t hf_iov_slice(const struct iovec *iov, size_t count, size_t skip, size_t most, struct iovec *out, size_t room,
		    size_t *bytes);

bool hf_nonblocking(int fd, int flags);

/* An address no buffer can have: the page at 0 and its neighbours.  Such a call is the kernel's to refuse. */
static inline bool hf_wild(const void *at)
{
	return (uintptr_t)at < 4096;
}

/* The kernel's half, or the first page: no memory of a program's. */
static inline bool hf_kernels(const void *at)
{
	return hf_wild(at) || (intptr_t)at < 0;
}

/* Whether the peer's direction has ended, as far as we have read. */
static inline bool hf_wrap_at_end(const struct hf_wrap *wrap)
{
	return wrap->rx.fin || wrap->rx.bye || atomic_load_explicit(&wrap->ended, memory_order_relaxed) != 0;
}

/*
 * For a read with FLAGS by ME: until frames flow.  True: they do, or what can be read meanwhile is there, and the rx
 * turn is ours.  *RESULT, errno and *PLAIN (the call is the kernel's) say what else to return.
 */
bool hf_wrap_reach_read(struct hf_slot *slot, int fd, uint32_t me, int flags, ssize_t *result, bool *plain);

/* Writes that are copied behind their header: one piece is quicker for the kernel than two (measured).  The small ones
 * on the stack, which may be that of a signal handler. */
enum { HF_WRITE_SMALL = 2048, HF_WRITE_MIDDLING = 4096 };

/* Nor has any memory this much room: more bits than a user's address has on any machine we know. */
static inline bool hf_endless(size_t size)
{
	return size >> 56 != 0;
}

/* Copy from or to program memory that may not be there: false instead of a crash. */
bool hf_copy_in(void *to, const void *program, size_t size);
bool hf_copy_out(void *program, const void *from, size_t size);

/* Whether the program may still send. The tx turn must be ours. */
static inline bool hf_may_write(const struct hf_wrap *wrap)
{
	return !wrap->tx.fin && !wrap->tx.bye && !wrap->shut_after_queue && atomic_load(&wrap->real_shut_write) == 0;
}

/*
 * Whether all is as usual: frames flow, no direction has ended, nothing is kept to be sent again.  The kernel's word on
 * writing is the program's then, and on reading too but for what is only protocol.  It was so a moment ago; of reading
 * it is so while the rx turn is ours.
 */
static inline bool hf_wrap_sailing(struct hf_slot *slot, const struct hf_wrap *wrap)
{
	return atomic_load_explicit(&wrap->phase, memory_order_acquire) == HF_PHASE_ON &&
	       atomic_load_explicit(&slot->resume, memory_order_relaxed) == NULL && !hf_wrap_at_end(wrap) &&
	       hf_may_write(wrap) && atomic_load_explicit(&wrap->shut_read, memory_order_relaxed) == 0 &&
	       atomic_load_explicit(&wrap->low_water, memory_order_relaxed) <= 1;
}

/* While it is: whether program bytes are seen to come next, or an error, which is the program's.  False: it is not
 * known, hf_wrap_look() has to be asked. */
bool hf_wrap_sees_bytes(struct hf_slot *slot, struct hf_wrap *wrap, int fd);

/* The kernel reported end of file, which our own SHUT_RD makes it do as well. */
void hf_wrap_kernel_end(struct hf_wrap *wrap);

/* A call of ours ended with RESULT and nobody else will be told: the kernel tells an error once (tcp(7), SO_ERROR), so
 * the program must learn of it from us. */
void hf_wrap_took_error(struct hf_wrap *wrap, int result);

/* EPIPE, and SIGPIPE unless FLAGS say no. Returns -1. */
ssize_t hf_broken_pipe(int flags);

/* The program has ended its direction and writes on: EPIPE, unless the socket has an error to tell, which goes before.
 */
ssize_t hf_write_ended(struct hf_slot *slot, int fd, int flags);

/* What a call of the kernel's gave, of ASKED bytes: OVERHEAD in the scratch, then what is spread; -1: errno. */
struct hf_received {
	size_t overhead, asked;
	ssize_t got;
	uint64_t at; /* how much had been taken from the kernel before */
	bool whole;  /* all of it went to the scratch (hf_scratch()) */
	struct hf_spread spread;
};

/*
 * After a call of the kernel's: whether the turn is ours no more, because the handler of a signal that came in it has
 * used the connection, too.
 */
static inline bool hf_overtaken(const struct hf_turn_word *word, uint32_t me)
{
	return hf_unlikely(atomic_load_explicit(&word->owner, memory_order_relaxed) != me);
}

/* The end of a turn that may have been overtaken, and be another thread's by now. */
static inline void hf_turn_end_ours(struct hf_turn_word *word, uint32_t me)
{
	if (!hf_overtaken(word, me))
		hf_turn_end(word);
}

/* Take it again.  errno is preserved. */
bool hf_wrap_retake_rx(struct hf_slot *slot, int fd, uint32_t me);
bool hf_wrap_retake_tx(struct hf_slot *slot, int fd, uint32_t me);

/*
 * A read that was overtaken has brought FIRST, its program bytes to the one piece BUF of SIZE bytes.  *OPEN: the turn
 * is ours again, and FIRST is to be taken as it says now.  Else the turn is not: the result is the number of program
 * bytes that stand in BUF (0: there was only protocol), or -1 and errno.
 */
ssize_t hf_wrap_overtaken_rx(struct hf_slot *slot, int fd, uint32_t me, struct hf_received *first, void *buf,
			     size_t size, bool *open);

/* A write that was overtaken has sent SENT bytes of PLAN, of which *DONE are the program's: now they are written down,
 * and the turn is ours again.  False: they cannot be, errno says so, and the turn is not. */
bool hf_wrap_overtaken_tx(struct hf_slot *slot, int fd, uint32_t me, const struct hf_tx_plan *plan, size_t sent,
			  size_t *done);

/* How many bytes the kernel has been given beyond those that are written down.  The tx turn must be ours. */
bool hf_wrap_given(struct hf_slot *slot, int fd, uint64_t *given);

/*
 * Prepare a call for OVERHEAD bytes to the scratch and at most SIZE program bytes to BUF: into RECEIVED, and into the
 * HF_RECEIVE_MOST of IOV; returns how many of these there are.
 */
enum { HF_RECEIVE_MOST = 2 + 2 * HF_SPREAD_MOST };
size_t hf_wrap_receive_plan(struct hf_wrap *wrap, size_t overhead, void *buf, size_t size, struct hf_received *received,
			    struct iovec iov[HF_RECEIVE_MOST]);

/* A read of one piece, the rx turn ours; FIRST: such a call has been made for it, NULL: not yet. */
ssize_t hf_wrap_recv_held(struct hf_slot *slot, int fd, uint32_t me, struct iovec *iov, int flags,
			  const struct hf_received *first, bool *plain);

/* A write of one piece, the tx turn ours, of which DONE bytes have gone. */
ssize_t hf_wrap_send_held(struct hf_slot *slot, int fd, uint32_t me, const struct iovec *iov, size_t done, int flags);

#endif
