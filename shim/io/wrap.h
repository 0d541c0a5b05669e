/*
 * Wrapped connections: the hidden channel inside the program's own TCP stream (holdfast/wire.h).
 *
 * Owns the protocol state of each connection in wrap mode.  It lies in the arena (state/arena.h), so that all processes
 * that have the connection open share it.  The program's own calls carry the protocol: a write goes out behind a frame
 * header, a read takes headers and beats out of what came; the watchdog of one of the processes, the keeper, does what
 * no call does (beats, handshakes nobody reads, deadlines).
 *
 * Two turns, one for each direction, keep order: a word that holds the number of the thread that is moving bytes, 0
 * for none.  Whoever has a direction's turn may block in the kernel's own call, so that a read or write is one system
 * call with the kernel's own semantics for signals, time limits and cancellation; the watchdog only ever tries.  A
 * thread that left by siglongjmp(3), was cancelled or killed leaves its number behind: it is recognised (own number, or
 * no such thread), and the kernel's ledger tells what it moved; what cannot be told ends the connection: no guessing.
 *
 * Lock order: rx before tx.  The session has a word of its own, held for a few instructions, never while another is
 * waited for.
 */
#ifndef HOLDFAST_IO_WRAP_H
#define HOLDFAST_IO_WRAP_H

#include "core/frame.h"
#include "core/hello.h"
#include "core/session.h"
#include "io/turn.h"
#include "state/arena.h"
#include "state/slot.h"

#include <sys/socket.h>
#include <sys/uio.h>

enum hf_phase {
	HF_PHASE_NONE,    /* not wrapped: probe mode */
	HF_PHASE_CONNECT, /* client: connect(2) is under way */
	HF_PHASE_HELLO,   /* client: HELLO sent; server: nothing has come yet */
	HF_PHASE_ON,      /* frames in both directions */
	HF_PHASE_REDIAL,  /* client: peer is plain, connecting again */
	HF_PHASE_BROKEN,  /* frames flowed, and may again on another connection (io/resume.h) */
};

enum hf_wrap_why {
	HF_WRAP_WHY_NONE,
	HF_WRAP_WHY_KEY,     /* the peer has another key, or none, or one and we have none */
	HF_WRAP_WHY_VERSION, /* the peer speaks a version we do not */
	HF_WRAP_WHY_BROKEN,  /* its HELLO makes no sense */
	HF_WRAP_WHY_REFUSED, /* it refused ours */
	HF_WRAP_WHY_PLAIN,   /* it does not speak holdfast, and HOLDFAST_FALLBACK is fail */
};

enum { HF_QUEUE_SIZE = HF_ARENA_QUEUE_SIZE };

/* A message of so many bytes is read in one piece with its header, and copied from behind it: that is quicker for the
 * kernel than two (measured). */
enum { HF_READ_SMALL = 1024 };
#define HF_RX_WHOLE UINT32_MAX /* in rx_scratched: that is how */
_Static_assert(HF_SCRATCH_SIZE > HF_HEADER_SIZE + HF_READ_SMALL, "one that is alone must not fill it");

/*
 * What each read, write and wait asks for stands together at the beginning: a server of many connections finds none of
 * them in the cache, and each line costs it.
 */
struct hf_wrap {
	struct hf_arena_conn conn;
	_Atomic uint32_t phase; /* enum hf_phase */
	_Atomic int fate;       /* errno for every later call, in every process; 0 while it lives */
	struct hf_turn_word rx_turn, tx_turn;
	_Atomic uint32_t link;     /* how often it has moved to another socket (io/resume_share.c) */
	_Atomic uint8_t shut_read; /* the real SHUT_RD has been done, or the program asked for it: HF_SHUT_ASKED */
	_Atomic uint8_t real_shut_write; /* the kernel has ended our direction */
	_Atomic uint8_t ended;           /* the kernel's end of file has been seen */
	_Atomic uint8_t low_raised;      /* the kernel has the mark below for the time of a wait */
	bool shut_after_queue;
	_Atomic uint8_t tx_file; /* what is sent comes from a file or a pipe, which may be waited for */
	/* What was moved is being written down: a thread that dies there leaves books that nobody can believe. */
	_Atomic uint8_t rx_books_open, tx_books_open;
	uint8_t small_run;              /* so many messages in a row that were read were small ones */
	bool plan_of_queue;             /* the plan's program bytes come from the queue */
	bool ahead_alone;               /* the next frame was all there was */
	_Atomic uint32_t receive_limit; /* SO_RCVTIMEO in ms, 0: none */
	_Atomic int low_water;          /* SO_RCVLOWAT as the program set it, 0: never; the kernel's is 1 */
	uint32_t queued, flushed;       /* of the program bytes that wait for the peer's HELLO, in the arena's queue */
	uint32_t rx_scratched;          /* how many were asked for there; HF_RX_WHOLE: all went to our own memory */
	/* The next frame, as it was seen in the kernel's queue: header and program bytes; at which program byte. */
	uint32_t ahead;
	uint64_t ahead_at;
	uint32_t rx_like;              /* the last read came across frames that were all so long; 0: it did not */
	_Atomic uint64_t lively_until; /* ms: no beat is due before; 0: one may be */
	uint64_t rx_raw, tx_raw;       /* bytes taken from the kernel and given to it, handshake included */
	struct hf_turn_word session_turn;
	struct hf_tx_plan plan; /* what the call under way gives the kernel, should it never return to say */
	struct hf_rx rx;
	/* Where a read puts the protocol bytes in front of the program's, should it never return to say. */
	uint8_t rx_scratch[HF_RX_OVERHEAD_MOST];
	struct hf_tx tx;
	/* What the last read that never came back to say so had taken: behind how many bytes, and program bytes. */
	uint64_t rx_caught_at, rx_caught;

	/* The program has shut reading; how many bytes had come when it had shut both, and one: 0: it has not. */
	_Atomic uint8_t reads_no_more;
	_Atomic uint64_t shut_at;
	uint64_t settled_at; /* ms: closed, and everything has arrived: see quiet() in io/wrap_close.c */
	/* either, under session_turn or before ON */
	struct hf_session session;
	uint8_t nonce[HF_NONCE_SIZE], id[HF_SESSION_SIZE]; /* what our HELLO said */
	struct hf_hello peer;
	_Atomic uint64_t deadline; /* of the handshake, ms */
	_Atomic uint64_t soon;     /* server: the same once the program has something to say */
	union hf_address dial;     /* whom the client connected to, for the fallback */
	socklen_t dial_len;
	bool client;
	_Atomic uint8_t starved; /* a write was refused for want of room in the queue: an edge is owed */
	/* The watchdog's: how far things were at its last visit, ms where they are times. */
	uint64_t seen_at, seen_sent, seen_received, seen_bytes, unread_since, ledger_at;
	uint64_t stalled_since, half_since, owed_since; /* 0: not */
	bool told;                                      /* the wrapped event */
	bool half_told;                                 /* the half-close-timeout event */
	bool hung;                                      /* told dead/hung and left alone */
	_Atomic uint8_t told_vanished;                  /* the vanished event */
	_Atomic uint8_t why;                            /* why a handshake failed, for the event: enum hf_wrap_why */
	_Atomic uint8_t renew;                          /* connected again: judge it afresh */
	_Atomic uint8_t spoken; /* server: the program has something to say: bytes, its end, a close */
	_Atomic uint8_t begun;  /* server: the first bytes of what may be a HELLO have come */
	_Atomic uint8_t broken; /* the path is gone, and the session may go on elsewhere (io/resume.h) */
	uint8_t resume_name[HF_SESSION_SIZE];
	/* What a process that takes part from now on would not have: program bytes that were read from the kernel and
	 * not by the program, and up to where written bytes may have to be sent again. */
	_Atomic uint64_t inbox_left;
	uint64_t kept_end;
	_Atomic uint64_t resume_box; /* of the process that sees to it (io/resume_family.c); 0: none */
	_Atomic int error_taken;     /* errno that a call of ours has met; the program has yet to be told */
};

enum { HF_SHUT_ASKED = 2 }; /* and the kernel does not know of it */

_Static_assert(sizeof(struct hf_wrap) <= HF_ARENA_CONN_SIZE, "a connection has this room in the arena");

/* The wrapped state of SLOT, or NULL in probe mode. One load. */
static inline struct hf_wrap *hf_wrap_of(struct hf_slot *slot)
{
	return atomic_load_explicit(&slot->wrap, memory_order_acquire);
}

/* What a look, a read or a write of SLOT's connection (NULL: none) will need of it, into the cache. */
static inline void hf_wrap_fetch(struct hf_slot *slot)
{
	enum { LINE = 64 };
	const char *wrap = slot != NULL ? (const char *)hf_wrap_of(slot) : NULL;

	for (size_t at = 0; wrap != NULL && at < offsetof(struct hf_wrap, rx_scratch) + LINE; at += LINE)
		__builtin_prefetch(wrap + at, 1);
}

/* Wrap a connection from its beginning. False: no memory; it is then probed. */
bool hf_wrap_begin(struct hf_slot *slot, int fd, bool client, const struct sockaddr *addr, socklen_t len);

/*
 * Whether FD, met for the first time, is a connection that some process of this machine has wrapped: the socket itself
 * tells (its TCP_NOTSENT_LOWAT has a value nobody else sets), across exec and descriptor passing.
 */
bool hf_wrap_marked(int fd);

/* The same, or the arena knows it. */
bool hf_wrap_known(int fd);
bool hf_wrap_is_mark(int value);

/*
 * The same mark as a limit that matters: what may wait unsent in the kernel of what a ring of SIZE bytes keeps.  A
 * writer then sleeps in the kernel, and is polled there, as ever; a full ring could only be asked again and again.
 */
void hf_wrap_mark_kept(int fd, uint32_t size);

/* Hold the connection of FD, a marked one that is about to be adopted.  False: its state is not in the arena. */
bool hf_wrap_hold(int fd);

/* Whether this process has or had wrapped connections: one load for all who need not care otherwise. */
extern _Atomic bool hf_wrap_used;
static inline bool hf_wrap_in_use(void)
{
	return atomic_load_explicit(&hf_wrap_used, memory_order_relaxed);
}

/* Of the arena: hf_arena_make(). */
uint32_t hf_wrap_layout(void);

/* SLOT is of such a connection: take part in it.  If its state is not to be found, every call fails
 * with EPROTO: frames are never read as data. */
void hf_wrap_adopt(struct hf_slot *slot, int fd);

/* After a fork, in the child: SLOT is its own now, and it holds what the parent held. */
void hf_wrap_claim(struct hf_slot *slot);

/* And SLOT is of a connection that the parent's program has closed and the parent is ending. */
void hf_wrap_leave_to_parent(struct hf_slot *slot);

/* The errno with which every call on SLOT is to fail, 0 if none; another process may have ended the connection. */
int hf_wrap_fate(struct hf_slot *slot);

/* SLOT is ended with ERROR, here and in every process that has it, unless it has been already. */
void hf_wrap_share_fate(struct hf_slot *slot, int error);

/* Whether this process's watchdog is the one that speaks for SLOT now. */
bool hf_wrap_keep(struct hf_slot *slot, uint64_t now);

/* Whether a peer with the library is at the other end of FD, just accepted, for which hf_wrap_begin() had no room.
 * Waits for its first bytes as long as the accepting side waits for a HELLO. */
bool hf_wrap_greeted(int fd);

/* No watchdog of this process can look at SLOT: the peer must not wait for beats. */
void hf_wrap_unwatched(struct hf_slot *slot);

/* connect(2) has succeeded: say HELLO. errno preserved. */
void hf_wrap_connected(struct hf_slot *slot, int fd);

/*
 * The program's calls.  FLAGS as in recv(2) and send(2); errno and result as native.  *PLAIN: the connection turned
 * out to be plain, nothing was consumed: make the program's own call.
 */
ssize_t hf_wrap_recv(struct hf_slot *slot, int fd, const struct iovec *iov, size_t count, int flags, bool *plain);
ssize_t hf_wrap_send(struct hf_slot *slot, int fd, const struct iovec *iov, size_t count, int flags, bool *plain);
int hf_wrap_shutdown(struct hf_slot *slot, int fd, int how, bool *plain);

/* The same of one piece, quicker. */
ssize_t hf_wrap_recv_one(struct hf_slot *slot, int fd, void *buf, size_t size, int flags, bool *plain);
ssize_t hf_wrap_send_one(struct hf_slot *slot, int fd, const void *buf, size_t size, int flags, bool *plain);

/*
 * The program is about to close FD, or to put something else in its place: from the return on the watchdog does not
 * use the number, which may be another connection's a moment later.  LAST: no duplicate is left.  hf_wrap_stay() if
 * FD stays open after all.
 */
void hf_wrap_leave(struct hf_slot *slot, bool last);
void hf_wrap_stay(struct hf_slot *slot);

/* Before the last close of FD: everything that must be said or swallowed first.  Returns a duplicate of FD that the
 * watchdog keeps until what is in flight has arrived, or -1 if none is needed. */
int hf_wrap_close(struct hf_slot *slot, int fd);

/* The program is about to disconnect FD: connect(2), AF_UNSPEC. */
void hf_wrap_abort(struct hf_slot *slot, int fd);

/* The watchdog's turn on such a duplicate: true when it may be closed. */
bool hf_wrap_drained(struct hf_slot *slot, int fd);

/* At exit: wait up to HOLDFAST_LINGER for what the program has written. */
void hf_wrap_exit(void);

/* Before an exec: the same for what will not survive it, and for the others no frame is left half sent. */
void hf_wrap_before_exec(void);

/* And, with the watchdog away: what will not survive the exec is others' from now on, who may end it; the next image,
 * which may know nothing of the family, must not seem to have it. */
void hf_wrap_leave_to_others(void);

/* The exec has failed: this process still has them. */
void hf_wrap_come_back(void);

/* What FIONREAD would say without us: program bytes that can be read now, or -1: it is plain. */
int hf_wrap_readable(struct hf_slot *slot, int fd);

enum hf_look {
	HF_LOOK_NOTHING, /* nothing but protocol had come, and it has been consumed */
	HF_LOOK_READY,   /* a read would return: program bytes, as many as SO_RCVLOWAT asks for, end of file or an error
			  */
	HF_LOOK_BUSY,    /* another thread is at it, or part of a handshake waits: not to be told now */
};

/* What a read would find now. Consumes control frames on the way, takes a handshake further. */
enum hf_look hf_wrap_look(struct hf_slot *slot, int fd);
static inline bool hf_wrap_ready(struct hf_slot *slot, int fd)
{
	return hf_wrap_look(slot, fd) == HF_LOOK_READY;
}

/*
 * Whether the next byte the kernel has is the program's: inside a frame nothing else can come but the end of the path,
 * which is the program's business too where the session cannot be resumed.  Then the kernel's word goes to the program
 * as it is.  Without the turn: another thread may be at it, and take the byte as it might natively.
 */
static inline bool hf_wrap_inside(const struct hf_wrap *wrap)
{
	return hf_rx_open(&wrap->rx) > 0 && atomic_load_explicit(&wrap->low_water, memory_order_relaxed) <= 1;
}

/* How many bytes the next frame has, header and all, if that has been seen; 0: not, or it has been read since. */
static inline uint32_t hf_wrap_ahead(const struct hf_wrap *wrap)
{
	return wrap->rx.type == 0 && wrap->ahead_at == wrap->rx.received ? wrap->ahead : 0;
}

/* Right after hf_wrap_look(): whether it has seen that there is nothing behind the next frame's program bytes. */
static inline bool hf_wrap_alone(const struct hf_wrap *wrap)
{
	return wrap->ahead_alone && hf_wrap_ahead(wrap) != 0;
}

/* What poll(2) should say of the ends of the channel: POLLIN and POLLRDHUP when the peer's direction has ended, POLLOUT
 * when ours has (a write fails at once), POLLHUP when both have.  AHEAD: look for an end behind unread bytes too, as
 * far as a small peek reaches. */
short hf_wrap_ends(struct hf_slot *slot, int fd, bool ahead);

/* Whether both directions have ended, as far as hf_wrap_ends() sees: natively the socket would be closed (ENOTCONN). */
bool hf_wrap_over(struct hf_slot *slot, int fd);

/* Whether a plain peer is being called again. */
static inline bool hf_wrap_calling(struct hf_slot *slot)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);

	return wrap != NULL && atomic_load(&wrap->phase) == HF_PHASE_REDIAL;
}

/* Whether the peer has said BYE and we will write no more: a reset after that is the answer to a beat. */
bool hf_wrap_parted(struct hf_slot *slot);

/* What SIOCOUTQ should say: bytes of the program's, headers between them included, that the peer has not acknowledged;
 * OUTQ is the kernel's answer. */
int hf_wrap_outq(struct hf_slot *slot, int outq);

/* The watchdog's turn: handshake deadlines, what came unread, beats, queued bytes. Returns when to come again, ms. */
uint64_t hf_wrap_tend(struct hf_slot *slot, int fd, uint64_t now, const struct hf_evidence *evidence);

/*
 * What the channel adds to the judge's ruling, by the same policy: dead/hung (the peer's kernel answers, its shim does
 * not) and dead/unanswered, stalled and flowing by the peer's own word, half-closed sessions, vanished.  The judge
 * must be given hf_wrap_policy().
 */
void hf_wrap_judge(struct hf_slot *slot, uint64_t now, const struct hf_policy *policy,
		   const struct hf_evidence *evidence, struct hf_ruling *ruling);

/* POLICY without what beats would mislead the judge about: to it they are bytes like others. */
struct hf_policy hf_wrap_policy(struct hf_slot *slot, const struct hf_policy *policy);

/* The watching side was paused: a fresh timeout for the peer. */
void hf_wrap_pause(struct hf_slot *slot, uint64_t now);

/* The kernel's end of the stream has come: whether the peer's shim had announced it, told once. Any thread. */
void hf_wrap_vanished(struct hf_slot *slot, int fd);

/* How many connections have turned plain so far; counted before it shows in hf_wrap_of(). */
extern _Atomic uint32_t hf_wrap_turned;

/* Whether any connection of this process is wrapped. */
bool hf_wrap_any(void);

/* sendfile(2) and splice(2) into and out of frames. */
ssize_t hf_wrap_sendfile(struct hf_slot *slot, int out, int in, off_t *at, size_t size, bool *plain);
ssize_t hf_wrap_splice_out(struct hf_slot *slot, int in, off_t *in_at, int out, size_t size, unsigned flags,
			   bool *plain);
ssize_t hf_wrap_splice_in(struct hf_slot *slot, int in, int out, off_t *out_at, size_t size, unsigned flags,
			  bool *plain);

void hf_wrap_free(struct hf_slot *slot);

/* Whether a thread is still in a call on it, asleep on a descriptor another thread has closed: not to be freed. */
bool hf_wrap_busy(struct hf_slot *slot);

/* Whether both programs have ended their direction, or the peer has closed: a reset after that takes nothing away. */
bool hf_wrap_both_ended(struct hf_slot *slot);

/* Before a fork: a handle for the child, which then holds whatever is wrapped here; 0: nothing is. */
uint32_t hf_wrap_expect_child(void);

/* In a forked child: let go of what the parent closed while it forked. */
void hf_wrap_forget_unheld(void);

/* Now and then: give back what processes that are gone have left in the arena. */
void hf_wrap_sweep(uint64_t now);

#endif
