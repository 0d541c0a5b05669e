/*
 * A read of a wrapped connection while it is under way: between io/wrap_read.c, which reads, and io/wrap_peek.c, which
 * looks without taking and throws away.  The rx turn is ours in all of this.
 */
#ifndef HOLDFAST_IO_WRAP_WANT_H
#define HOLDFAST_IO_WRAP_WANT_H

#include "io/wait.h"
#include "io/wrap_inner.h"

/* What one call is after. */
struct hf_want {
	const struct iovec *iov;
	size_t count, total, done;
	size_t least; /* no fewer, but for an end, an error, a signal or the time limit */
	int flags;
	uint64_t started; /* ms, if there is a limit */
	uint32_t limit;   /* SO_RCVTIMEO, ms */
	bool broken;      /* the path is gone: to be gone on with when the session does */
	bool quiet;       /* signals are let in by hf_want_wait() only */
	/* A call of the kernel's that has been made for it already (io/wrap_quick.c); NULL: none. */
	const struct hf_received *first;
	struct hf_quiet mask;
};

/* Whether the program has ended its reading and the kernel does not know: what is there, and then the end. */
static inline bool hf_want_heed_end(const struct hf_wrap *wrap, struct hf_want *want)
{
	bool asked = atomic_load_explicit(&wrap->shut_read, memory_order_relaxed) == HF_SHUT_ASKED;

	if (hf_unlikely(asked))
		want->flags |= MSG_DONTWAIT;
	return asked;
}

/* What a read at the end says: an error once, after what came before it (read(2)). */
ssize_t hf_want_end(struct hf_wrap *wrap, size_t done);

/* DONE bytes, or -1 and the errno of the connection's end. */
ssize_t hf_want_fate(struct hf_slot *slot, size_t done);

/* What has come so far, if that is enough; else the call goes on when the session does. */
ssize_t hf_want_broke(struct hf_want *want);

/*
 * Before a second sleep in one call.  Beats are no reason to wait longer than the program asked: one deadline for the
 * whole call.  And a call that has bytes already must come back from a signal, SA_RESTART or not: poll(2) does.
 * False: errno says why not to go on.
 */
bool hf_want_wait(int fd, struct hf_want *want);

/* Read until there is enough. */
ssize_t hf_want_read(struct hf_slot *slot, int fd, struct hf_want *want);

/* MSG_PEEK.  MSG_WAITALL and SO_RCVLOWAT hold for a look, too. */
ssize_t hf_want_peek(struct hf_slot *slot, int fd, struct hf_want *want);

/* MSG_TRUNC: the program bytes are thrown away (tcp(7)). */
ssize_t hf_want_discard(struct hf_slot *slot, int fd, struct hf_want *want);

#endif
