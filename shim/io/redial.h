/*
 * HOLDFAST_REDIAL=idle: a connection in probe mode that dies while nothing is under way is made anew on the same
 * socket, and its program sees a pause.
 *
 * The peer knows nothing of it: to it that is another client.  So only a connection that this process alone has made
 * and holds, and of which the kernel's own counts say that nothing was on its way, unread or half-closed, and the
 * program that its last word was answered, is made anew; every other one ends as it would without.
 *
 *   whole     calls are counted on their way in and out, the first HOLDFAST_REDIAL_PROLOGUE bytes sent are kept
 *   broken    the judge (watch/look.c) or a call has met the end: whoever reads or writes waits here, or is told
 *             EAGAIN; waits show nothing; the watchdog disconnects the socket, connects it again, sends what is kept
 *             and throws away what the peer answers
 *   over      life is one more and everybody goes on; or the window is over: ETIMEDOUT to every call
 *
 * A record belongs to its slot's number and is never given back, so that whoever comes late finds one.  The first part
 * is open to every thread, without a lock; the second is the watchdog's.  Async-signal-safe.
 */
#ifndef HOLDFAST_IO_REDIAL_H
#define HOLDFAST_IO_REDIAL_H

#include "state/slot.h"

#include <sys/types.h>
#include <sys/uio.h>

enum hf_redial_step {
	HF_REDIAL_WHOLE,
	HF_REDIAL_BREAK,  /* getting everybody out of the old connection */
	HF_REDIAL_REST,   /* until the next try */
	HF_REDIAL_CALL,   /* connecting */
	HF_REDIAL_REPLAY, /* the prologue goes out, what is answered is thrown away */
};

/* DECIDING: a thread has met the end and asks whether nothing is under way; nothing is done to the socket before it has
 * said so.  Calls wait from there on. */
enum hf_redial_broken { HF_REDIAL_NOT_BROKEN, HF_REDIAL_DECIDED, HF_REDIAL_DECIDING };

struct hf_redialling {
	_Atomic uint32_t word;             /* a futex: changes whenever whoever waits should look again */
	_Atomic uint32_t life;             /* counts the connections of the socket */
	_Atomic uint32_t arms;             /* counts the slot's */
	_Atomic uint32_t readers, writers; /* calls of the program's that may be in the kernel */
	_Atomic uint32_t kept;             /* bytes of the prologue so far */
	_Atomic uint32_t sent;             /* of it, on this connection */
	_Atomic uint32_t send_limit;       /* SO_SNDTIMEO in ms, as the program set it, while it is broken */
	_Atomic uint8_t broken;            /* enum hf_redial_broken */
	_Atomic uint8_t owed;              /* the program's last call that moved bytes has sent them */
	_Atomic uint8_t heard;             /* it has read something */
	_Atomic uint8_t barred;            /* half-closed, or the prologue is not to be known: not to be made anew */
	_Atomic uint8_t ended;             /* the program disconnects it: the watchdog keeps off */
	_Atomic uint8_t tended;            /* the watchdog is at it right now */
	_Atomic int error;                 /* the kernel's word for the end, 0: not known */
	_Atomic uint64_t deciding_at;      /* ms: since when the watchdog has seen it undecided */
	union hf_address dial;             /* whom the program connected to; constant while armed */
	socklen_t dial_len;
	uint32_t forks, spawns; /* how many processes this one had started by then */
	uint8_t *memory;        /* the prologue */

	enum hf_redial_step step;
	uint32_t tries;
	uint64_t broken_at, until, next_at, moved_at; /* ms */
};

static inline struct hf_redialling *hf_redial_of(struct hf_slot *slot)
{
	return atomic_load_explicit(&slot->redial, memory_order_acquire);
}

static inline bool hf_redial_broken(struct hf_slot *slot)
{
	struct hf_redialling *redial = hf_redial_of(slot);

	return __builtin_expect(redial != NULL, 0) && atomic_load(&redial->broken) != 0;
}

/* SLOT is a connection in probe mode that this process makes to ADDR: one to be made anew, if the operator says so. */
void hf_redial_arm(struct hf_slot *slot, const struct sockaddr *addr, socklen_t len);

/* With the slot. */
void hf_redial_free(struct hf_slot *slot);

/* This process is about to fork: who forks shares its connections.  And in the child, at its first use of SLOT. */
void hf_redial_forking(void);
void hf_redial_forked(struct hf_slot *slot);

/*
 * A call of the program's that moves bytes, tried until it says something about a connection that lives.  FLAGS as in
 * recv(2) and send(2); IOV may be NULL where the bytes are not to be had.
 */
struct hf_redial_call {
	struct hf_slot *slot;
	struct hf_redialling *redial;
	const struct iovec *iov;
	size_t count;
	uint64_t since; /* us */
	hf_fd_entry entry;
	uint32_t life, arms;
	int fd, flags, before; /* BEFORE: errno, which a call that succeeds leaves alone */
	bool writes, owed;     /* OWED: before it already */
};

struct hf_redial_call hf_redial_call(struct hf_slot *slot, int fd, bool writes, const struct iovec *iov, size_t count,
				     int flags);

/* Before each try; waits while it is broken.  False: errno says why the call is refused. */
bool hf_redial_enter(struct hf_redial_call *call);

/* After it: whether to try again.  Otherwise errno is as the call left it. */
bool hf_redial_again(struct hf_redial_call *call, ssize_t result);

/* A call has met ERROR on FD, or poll(2) an end (0): whether the connection is being made anew, so that the program is
 * not to see it. */
bool hf_redial_met(struct hf_slot *slot, int fd, int error);

/* shutdown(2): true if the connection is broken, and it need not be made. */
bool hf_redial_shut(struct hf_slot *slot);

/* The program disconnects the socket: from the return on the watchdog does nothing to it. */
void hf_redial_leave(struct hf_slot *slot);

/* The watchdog's: its peer is dead, or it has ended (ENDED).  Whether it is to be made anew. */
bool hf_redial_lost(struct hf_slot *slot, int fd, bool ended);

/* Its turn at a broken connection.  Returns when to come again, ms; UINT64_MAX: it is whole again, or over (fate); 0:
 * FD is no longer that socket. */
uint64_t hf_redial_tend(struct hf_slot *slot, int fd, uint64_t now);

/* The watchdog's: whether a thread is still about to decide that it is broken.  Not for long: one that has been taken
 * out of that by siglongjmp(3) never will, and then it is not. */
bool hf_redial_undecided(struct hf_slot *slot, uint64_t now);

/* Since when it is broken, and until when it is tried. */
uint64_t hf_redial_since(struct hf_slot *slot);
uint64_t hf_redial_until(struct hf_slot *slot);

#endif
