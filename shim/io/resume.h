/*
 * HOLDFAST_ON_DEAD=reconnect: a wrapped connection whose path is gone goes on over another one, without a byte lost or
 * repeated, and its program sees a pause.
 *
 * What is kept for that, the ring of bytes that may not have arrived and the inbox of bytes that had arrived when the
 * connection broke, lies in memory that forked children share; an exec begins it anew.  Where it lies, how large it is
 * and which descriptors are ours is in each process's own slot: what stands in that memory may have been written by a
 * child that has been taken over, and leads nowhere else.  The ring is under the tx turn,
 * the inbox under the rx turn, the rest is the watchdog's: of several processes that have the connection, that of the
 * one that leads (io/resume_share.c).
 *
 *   armed     both sides want it: every byte written is in the ring until the peer's kernel has it
 *   broken    somebody has met the end of the path (hf_resume_lost()); calls wait, or say EAGAIN; the watchdog sees to
 *             it that nothing more is acknowledged on the old connection, gets everybody out of the kernel's calls and
 *             takes what has come into the inbox: then the phase is HF_PHASE_BROKEN
 *   the client connects the same socket again and says HELLO with RESUME; the server gets that from a listener
 *             (io/resume_accept.c) and puts the new socket under the program's descriptor
 *   over      both have said what they expect: what is missing is sent again, the phase is ON; or the time is up, or
 *             the peer knows nothing of the session: the ordinary error
 */
#ifndef HOLDFAST_IO_RESUME_H
#define HOLDFAST_IO_RESUME_H

#include "core/resume.h"
#include "io/wrap.h"
#include "runtime.h"

struct hf_wait;

enum hf_resume_step {
	HF_STEP_NONE,
	HF_STEP_BREAK, /* getting everybody out of the old connection */
	HF_STEP_REST,  /* client: until the next try; server: until the client comes */
	HF_STEP_CALL,  /* client: connecting */
	HF_STEP_GREET, /* client: HELLO said */
	HF_STEP_PROVE, /* server: HELLO answered, the client's PROOF is to come */
};

/* A process that has this memory. */
struct hf_sharer {
	_Atomic uint32_t handle; /* state/family.h; 0: none */
	_Atomic uint32_t link;   /* as hf_rare(slot)->link there */
	_Atomic uint64_t box;    /* where it takes mail; 0: nowhere */
};

struct hf_resume {
	struct hf_ring ring;                /* to be used by way of hf_resume_ring() */
	_Atomic size_t inbox_at, inbox_end; /* of the bytes where hf_rare(slot)->inbox or hf_rare(slot)->area is */
	uint64_t asked;                     /* how far it was sent when the kernel was last asked what has arrived */
	_Atomic uint32_t send_limit;        /* SO_SNDTIMEO in ms when it broke, 0: none; it is put to use in dialling */
	_Atomic uint32_t word;              /* a futex: changes whenever whoever waits should look again */
	_Atomic uint32_t leader; /* handle of the process whose watchdog sees to it while it is broken; 0: none */
	struct hf_sharer sharers[HF_ARENA_HOLDERS];
	uint8_t name[HF_SESSION_SIZE]; /* whose it is: as wrap->resume_name */
	_Atomic uint8_t armed;
	_Atomic uint8_t arrived;      /* the peer has said that it has everything, our end included */
	_Atomic uint8_t aborted;      /* the program has ended it by a reset */
	_Atomic uint8_t restored;     /* resumed at least once: the kernel's addresses are not those the program knew */
	union hf_address local, peer; /* as the program first saw them */

	/* The leader's watchdog's. */
	enum hf_resume_step step;
	uint64_t broken_at, until, next_at; /* ms */
	uint32_t tries;
	int error; /* the kernel's own word for the end of the path, 0: end of file */
	bool offer_fenced;
	uint64_t readable_since, listen_at;
	bool fenced; /* nothing more is acknowledged on the old connection */
	uint8_t nonce[HF_NONCE_SIZE], peer_nonce[HF_NONCE_SIZE];
	uint64_t peer_expects;
	uint8_t memory[]; /* the ring's */
};

static inline struct hf_resume *hf_resume_of(struct hf_slot *slot)
{
	return atomic_load_explicit(&slot->resume, memory_order_acquire);
}

/* Frames flow, and both sides would resume: keep what is sent from here on.  FD is asked for its addresses. */
void hf_resume_arm(struct hf_slot *slot, int fd);

/* Memory for it; NULL: there is none. */
struct hf_resume *hf_resume_room_new(void);
void hf_resume_room_drop(struct hf_resume *room);

/* Its ring as it stands now, of the size that its memory has. */
static inline struct hf_ring hf_resume_ring(const struct hf_resume *resume)
{
	struct hf_ring ring = resume->ring;

	ring.size = hf_runtime.config.resume_buffer;
	return ring;
}

/* With the slot. */
void hf_resume_free(struct hf_slot *slot);

/* Whether the path is gone and the session may go on over another. */
static inline bool hf_resume_broken(const struct hf_wrap *wrap)
{
	return __builtin_expect(atomic_load_explicit(&wrap->broken, memory_order_acquire) != 0, 0);
}

/*
 * A call on SLOT has met the end of the path: ERROR, or 0 for an end of file that no frame announced.  True: the
 * session may go on elsewhere, and the call is to wait for that (hf_resume_wait()) with no turn in hand.
 */
bool hf_resume_lost(struct hf_slot *slot, int error);

/* Errors by which the kernel says that the path is gone. */
bool hf_resume_fatal(int error);

/* The kernel's end of the peer's direction has come on FD: whether no frame said so, and none that is unread may.  Both
 * turns are ours, or nobody writes: else our own last word may have arrived before it is known to have been sent. */
bool hf_resume_unannounced(struct hf_slot *slot, int fd);

/*
 * Wait until SLOT's session goes on or has ended; call again and look.  LIMIT ms, 0: for ever.  False: errno is EINTR
 * or EAGAIN, as of the call that waits.
 */
bool hf_resume_wait(struct hf_slot *slot, uint32_t limit);

/* Such a limit for who writes. */
static inline uint32_t hf_resume_send_limit(struct hf_slot *slot)
{
	struct hf_resume *resume = hf_resume_of(slot);

	return resume != NULL ? atomic_load(&resume->send_limit) : 0;
}

/* The ring; the tx turn is ours.  How many bytes may be sent now: it asks the kernel what has arrived if need be. */
size_t hf_resume_room(struct hf_slot *slot, int fd);

/* Whether there is room for N bytes without asking: it was asked not long ago. */
enum { HF_RESUME_PIECE = 64 * 1024 };
static inline bool hf_resume_ample(const struct hf_resume *resume, size_t n)
{
	const struct hf_ring ring = hf_resume_ring(resume);
	size_t room = hf_ring_room(&ring);

	return room >= n && room > ring.size / 4 &&
	       (ring.end - ring.start < HF_RESUME_PIECE ||
		(ring.end >= resume->asked && ring.end - resume->asked < HF_RESUME_PIECE));
}

/* N program bytes of IOV from byte SKIP on have been given to the kernel. */
void hf_resume_keep(struct hf_slot *slot, const struct iovec *iov, size_t count, size_t skip, size_t n);

/* The same of one piece. */
void hf_resume_stretch(struct hf_resume *resume, struct hf_ring *ring, size_t n);
static inline void hf_resume_keep_one(struct hf_resume *resume, const void *bytes, size_t n)
{
	struct hf_ring ring = hf_resume_ring(resume);

	if (__builtin_expect(!hf_ring_fits(&ring, n), 0))
		hf_resume_stretch(resume, &ring, n);
	hf_ring_put(&ring, resume->memory, bytes, n);
	resume->ring.base = ring.base;
	resume->ring.end = ring.end;
}

/* Bytes have been sent that were not kept: what is kept begins behind them, and a peer that lacks one is refused. */
void hf_resume_skip(struct hf_slot *slot);

/* The same, if they are the next to be kept; else as hf_resume_skip(). */
void hf_resume_keep_if(struct hf_slot *slot, const struct iovec *iov, size_t count, size_t skip, size_t n);

/* How many kept bytes have to be sent again, before anything else. */
static inline uint64_t hf_resume_backlog(struct hf_slot *slot, const struct hf_wrap *wrap)
{
	const struct hf_resume *resume = hf_resume_of(slot);

	return resume != NULL && resume->ring.end > wrap->tx.sent ? resume->ring.end - wrap->tx.sent : 0;
}

/* poll(2) says that FD has an error or an end: whether it is that of a path, and the session may go on. */
bool hf_resume_met(struct hf_slot *slot, int fd);

/* Whether there is no room to send anything now. */
bool hf_resume_full(struct hf_slot *slot, int fd);

/* The inbox; the rx turn is ours to take from it.  How many bytes wait there. */
static inline size_t hf_resume_inbox(struct hf_slot *slot)
{
	struct hf_resume *resume = hf_resume_of(slot);

	return __builtin_expect(resume != NULL, 0) ? atomic_load(&resume->inbox_end) - atomic_load(&resume->inbox_at)
						   : 0;
}

/* How many connections of this process have something there. */
extern _Atomic uint32_t hf_resume_inboxes;

/* Where it is, of *SIZE bytes; NULL, 0: nowhere yet. */
uint8_t *hf_resume_inbox_at(struct hf_slot *slot, size_t *size);

/* Nothing in it is wanted any more: its memory is let go of. */
void hf_resume_drop_inbox(struct hf_slot *slot, struct hf_resume *resume);

/* Where all who share the connection find what it brings, made when first asked for; NULL: there is no memory.  What is
 * in a mapping of one process's own, which that alone can let go of, goes there: unless it is too much. */
uint8_t *hf_resume_area(struct hf_slot *slot);
void hf_resume_move_inbox(struct hf_slot *slot, const struct hf_resume *resume, uint8_t *area);

/* Copy up to N bytes into IOV from byte SKIP on; TAKE: they are gone then. Returns how many. */
size_t hf_resume_from_inbox(struct hf_slot *slot, const struct iovec *iov, size_t count, size_t skip, size_t n,
			    bool take);

/* The watchdog's turn at a broken connection. Returns when to come again, ms; UINT64_MAX: it is over. */
uint64_t hf_resume_tend(struct hf_slot *slot, int fd, uint64_t now);

/* FD came from accept(2).  True: it was a RESUME and is taken care of; the program must not see it.  While a session of
 * the family waits for its client, one that has said nothing yet is given PATIENCE_MS to say it. */
bool hf_resume_take(int fd, int patience_ms);
enum { HF_RESUME_MOMENT = 20, HF_RESUME_PATIENCE = 250 };

/* A session of this process waits for its client. */
void hf_resume_suspended(uint64_t now);

/* Whether this process's connections, or its family's, may be resumed by who connects to a listener. */
bool hf_resume_serving(void);

/* Whether a connection of this process is broken: then waits of the kernel's are cut into slices, for what ends them
 * may come by other ways. */
extern _Atomic uint32_t hf_resume_count;
static inline bool hf_resume_stirring(void)
{
	return __builtin_expect(atomic_load(&hf_resume_count) != 0 || atomic_load(&hf_resume_inboxes) != 0, 0);
}

/* Connections taken from LISTENER that are no resumptions wait for the program's accept(2). -1: none does. */
extern _Atomic uint32_t hf_resume_waiting;
bool hf_resume_has_waiting(int listener);
/*
 * A wait has found LISTENER readable: whether the program's accept(2) will find something there.  If all there is are
 * resumptions, accept(2) on a listener that is not non-blocking would wait, and with it a program that was told not to
 * have to: so what has come is taken, and waits here.  Only in a program that has taken connections from there itself.
 */
bool hf_resume_screen(int listener);

/* The program has taken a connection from LISTENER. */
void hf_resume_accepted(int listener);

/* Before an accept(2) that waits, and after it said EAGAIN: whether that was our time limit, put on the listener for a
 * moment by whoever looked there meanwhile, and not the program's. */
uint64_t hf_resume_hurried(void);
bool hf_resume_was_hurried(int listener, uint64_t before);

int hf_resume_accept(int listener, struct sockaddr *addr, socklen_t *len, int flags);

/* A forked child: all that waits, and where clients are waited for, is the parent's. */
void hf_resume_backlog_forked(void);

/* The watchdog of this process speaks for SLOT: a RESUME that another process of the family meets is to come to us. */
void hf_resume_claim(struct hf_slot *slot);

/* Whether such may come, and taking them: the watchdog's, several times a second. */
bool hf_resume_mail_expected(void);

/* Whether FD is ours: the program's close sweeps pass it over. -1: there is none. */
bool hf_resume_owns(int fd);
int hf_resume_box(void);
void hf_resume_read_mail(void);

/*
 * Several processes (io/resume_share.c).
 */

/* Room for what a shared connection may bring: more than a kernel keeps for one.  Memory only where it is used. */
#define HF_AREA_SIZE ((size_t)32 << 20)

/* Whether the connection has moved to another socket since this process's descriptors were last its own: nothing that
 * the kernel says of them counts. */
static inline bool hf_resume_stale(struct hf_slot *slot, struct hf_wrap *wrap)
{
	return __builtin_expect(atomic_load_explicit(&hf_rare(slot)->link, memory_order_acquire) !=
					atomic_load_explicit(&wrap->link, memory_order_acquire),
				0);
}

/* It seems to be: perhaps because frames have begun to flow in another process, which was forked from this one or the
 * other way round, and what is kept is kept from now on.  Whether there is something to go on with elsewhere. */
bool hf_resume_notice(struct hf_slot *slot);

/* Wait until it is not, for PATIENCE_MS (-1: for ever). False: it still is, or never will be. */
bool hf_resume_wait_fresh(struct hf_slot *slot, int patience_ms);

/* This process has the memory now, or no more; HANDLE is about to be forked and will have it; it has been. */
void hf_resume_share(struct hf_slot *slot);
void hf_resume_unshare(struct hf_slot *slot);
void hf_resume_expect(struct hf_slot *slot, uint32_t handle);
void hf_resume_forked(struct hf_slot *slot, int fd);

/* Every connection of this process, before it enters a sandbox, in which it can follow none, and if it does not. */
void hf_resume_share_none(void);
void hf_resume_share_all(void);

/* Whether SLOT's place in the arena is that of the connection it was forked with, which may have moved since. */
bool hf_resume_same(struct hf_slot *slot, const struct hf_wrap *wrap);

/* Whether everybody who has it has the memory too: then all can go on with it elsewhere. */
bool hf_resume_all_share(struct hf_slot *slot);

/* Whether there are sharers besides this process. */
bool hf_resume_shared(struct hf_slot *slot);

/* Whether this process leads; nobody else may while it lives and has it. */
bool hf_resume_leads(struct hf_slot *slot);

/* The watchdog: another process leads, or it has moved on and is to be followed.  When to come again; 0: neither. */
uint64_t hf_resume_follow(struct hf_slot *slot, int fd, uint64_t now);

/* The connection is that of FD from now on, in this process first. */
void hf_resume_moved(struct hf_slot *slot, int fd);

/* FD, which is the connection, to all who have not followed yet: they may find nobody to ask when we are gone. */
void hf_resume_hand_round(struct hf_slot *slot, int fd);

/* FD, from another process, is the connection called NAME, which has moved. False: not taken. */
bool hf_resume_caught_up(const uint8_t name[HF_SESSION_SIZE], int fd);

/* This process takes mail for SLOT at BOX; whether a living process does that shares it. */
void hf_resume_box_is(struct hf_slot *slot, uint64_t box);
bool hf_resume_takes_mail(struct hf_slot *slot, uint64_t box);

/* Whether this process can take mail. */
bool hf_resume_can_mail(void);

/* Ask the process that takes mail at BOX for the socket of the session called NAME. */
void hf_resume_ask(uint64_t box, const uint8_t name[HF_SESSION_SIZE]);

/* And send FD, the socket of the session called NAME, to who asked. */
void hf_resume_give(uint64_t box, const uint8_t name[HF_SESSION_SIZE], int fd);

/* Counting, in this process: it is broken or may be, it has an inbox. */
void hf_resume_stir(struct hf_slot *slot, bool on);
void hf_resume_count_inbox(struct hf_slot *slot);

/* Between the files of the resumption. */

struct hf_slot *hf_resume_named(const uint8_t name[HF_SESSION_SIZE]);

/* NEW under every number the program has for SLOT, of which FD is one. */
void hf_resume_replace(struct hf_slot *slot, int fd, int new);

/* This process's own mail is expected soon, until UNTIL; how long to sleep at most, ms. */
void hf_resume_mail_soon(uint64_t until);
uint64_t hf_resume_mail_pace(uint64_t now);

/* This process was executed with connections that others had before. */
extern _Atomic bool hf_resume_inherited;

/* Whether HELLO is of the client that began WRAP's session; *PEER is what it says. */
bool hf_resume_genuine(const struct hf_wrap *wrap, const uint8_t hello[HF_HELLO_SIZE], struct hf_hello *peer);

/* SLOT's session is over. */
void hf_resume_bury(struct hf_slot *slot);

/* Hand FD, on which HELLO calls a session by NAME, to the process of the family that has it.  False: none has.  True,
 * too, if that cannot be done just now: to be hung up on, the client comes again. */
bool hf_resume_pass(int fd, const uint8_t name[HF_SESSION_SIZE], const uint8_t *hello);

/* Whether both programs have ended their direction, and ours has arrived to the last byte: nothing is left to do. */
bool hf_resume_complete(struct hf_slot *slot, const struct hf_wrap *wrap);

/* The watchdog looks at the listeners where the client may come. */
void hf_resume_look_around(struct hf_slot *slot, uint64_t now);

void hf_resume_hang_up(int fd);

/* The session's keys. */
void hf_resume_keys(const struct hf_wrap *wrap, uint8_t key[HF_CHECK_SIZE], uint8_t name[HF_SESSION_SIZE]);

/* A HELLO with RESUME as this side says it; FLAGS as in it. */
void hf_resume_hello(struct hf_slot *slot, uint8_t out[HF_HELLO_SIZE], uint32_t flags, const uint8_t *client_nonce);

/* Nothing more is acknowledged on FD, whatever comes: called before it is drained. */
void hf_resume_fence(int fd);
void hf_resume_unfence(int fd);

/* The session cannot go on: ERROR to every call; REFUSED: the peer said so. */
void hf_resume_give_up(struct hf_slot *slot, int fd, uint64_t now, int error);

/* Both turns are ours, FD is the new connection and the peer expects OFFSET on it.  False: it must not be. */
bool hf_resume_go_on(struct hf_slot *slot, int fd, uint64_t now, uint64_t offset);

/* Steps of either side: when to come again. */
uint64_t hf_resume_dial(struct hf_slot *slot, int fd, uint64_t now);
uint64_t hf_resume_serve(struct hf_slot *slot, int fd, uint64_t now);

#endif
