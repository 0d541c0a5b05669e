/*
 * The arena: memory shared by a family of processes (one that was preloaded, and those it forked and executed), so that
 * whoever has a connection's descriptor knows where its stream stands.
 *
 * A memfd named HF_ARENA_NAME, sealed against a change of its size, mapped MAP_SHARED.  Fixed-width fields, native byte
 * order, no pointers.  It begins with struct hf_arena.  Wrapped connection I stands at HF_ARENA_CONNS_AT + I *
 * HF_ARENA_CONN_SIZE, the bytes it queues before its handshake at HF_ARENA_QUEUES_AT + I * HF_ARENA_QUEUE_SIZE.  What
 * an operator may see of a watched connection, of either mode, is one of the views at HF_ARENA_VIEWS_AT (and at
 * HF_ARENA_RTTS_AT and HF_ARENA_MORE_AT), with a numbering of their own.  Only what has been touched is memory.
 *
 * Whoever can write here is one of the family and could do the same to its own connections; what is read is checked so
 * that it cannot make a reader crash or reach beyond the arena.
 */
#ifndef HOLDFAST_ARENA_H
#define HOLDFAST_ARENA_H

#include <holdfast/event.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define HF_ARENA_NAME  "holdfast"
#define HF_ARENA_MAGIC UINT64_C(0x31616e6572416668) /* "hfArena1" */

enum {
	HF_ARENA_PROCS = 1024,       /* entry 0 is never used */
	HF_ARENA_CONNS = 128 * 1024, /* connections */
	HF_ARENA_CONN_SIZE = 1280,
	HF_ARENA_QUEUE_SIZE = 64 * 1024,
	HF_ARENA_HOLDERS = 8,
	HF_ARENA_TOMBS = 1024,
	HF_ARENA_VIEWS = 128 * 1024,
	HF_ARENA_VIEW_SIZE = 192, /* without what is kept apart */
	HF_ARENA_RTTS_SIZE = 64,
	HF_ARENA_MORE_SIZE = 384,
	HF_VIEW_RTTS = 16,
	HF_VIEW_EVENTS = 8,
	HF_COUNT_BUCKETS = 20,

	HF_ARENA_INDEX_BITS = 10, /* of a handle: the entry's number; above it its generation */
};

/*
 * A process of the family.  Its handle is its number and generation; a handle that no longer matches is of a process
 * that is gone.
 */
struct hf_arena_proc {
	_Atomic uint32_t handle; /* 0: free */
	_Atomic int32_t pid;     /* negative: of the parent that is about to fork it */
	_Atomic uint64_t pid_ns; /* inode of its pid namespace; 0: unknown */
	char prog[48];           /* NUL-terminated */
};

/* The part of a connection that does not depend on its mode. */
struct hf_arena_conn {
	_Atomic uint64_t cookie;                    /* SO_COOKIE; 0: free */
	_Atomic uint32_t gen;                       /* changes when it is given to another connection */
	_Atomic uint32_t next;                      /* link of the free list: index + 1 */
	_Atomic uint32_t holders[HF_ARENA_HOLDERS]; /* handles of the processes that have it open; with
						     * HF_HOLDER_LEAVING: that have closed it and are at its end */
	_Atomic uint32_t keeper;                    /* handle of the one whose watchdog speaks for it; 0: none */
	_Atomic uint32_t ender;      /* handle of the one that was told it is the last; 0: none since somebody joined */
	_Atomic uint32_t doubt;      /* somebody we do not know of may have it too: enum hf_arena_doubt */
	_Atomic uint64_t kept_at;    /* ms, CLOCK_MONOTONIC: when the keeper last looked */
	_Atomic uint64_t left_at;    /* when the last holder left it behind; 0: not left */
	_Atomic uint64_t crowded_at; /* when one that had closed it, and whose place went to another, was last at it; 1:
				      * not since then; 0: none has lost its place */
};

#define HF_HOLDER_LEAVING UINT32_C(0x80000000) /* no handle has this bit */

enum hf_arena_doubt {
	HF_DOUBT_NONE,
	HF_DOUBT_SPAWNED, /* inherited by a program that has not shown itself yet, or sent over a Unix socket */
	HF_DOUBT_MANY,    /* more holders than there is room for */
};

/*
 * What has happened in the family since the arena was made.  Bucket B counts what is below 2^B (ms or us), the last one
 * everything else.
 */
struct hf_arena_counts {
	_Atomic uint64_t events[32];     /* by enum hf_event_kind, whether HOLDFAST_LEVEL lets them be told or not */
	_Atomic uint64_t dead[8];        /* by enum hf_reason */
	_Atomic uint64_t watched, ended; /* connections that were first looked at, and no longer are */
	_Atomic uint64_t detection_ms[HF_COUNT_BUCKETS]; /* silence at a dead verdict */
	_Atomic uint64_t detection_sum;                  /* ms */
	_Atomic uint64_t rtt_us[HF_COUNT_BUCKETS];       /* round trips, one a look at a connection that moved */
	_Atomic uint64_t rtt_sum;                        /* us */
	_Atomic uint64_t reserved[64];
};

struct hf_view_event {
	uint64_t at; /* ms, CLOCK_REALTIME; 0: none */
	uint8_t kind, reason, ended, pad[5];
};

enum hf_view_flag {
	HF_VIEW_LATE = 1,
	HF_VIEW_STALLED = 2,
	HF_VIEW_HALF_CLOSED = 4,
	HF_VIEW_DEAD = 8, /* told dead; ENDED too unless it was left alone */
	HF_VIEW_ENDED = 16,
	HF_VIEW_BROKEN = 64,   /* the path is gone, the session may go on over another */
	HF_VIEW_DRAINING = 32, /* closed by the program, last bytes on their way */
};

enum { HF_VIEW_HANDSHAKE = 255 }; /* for `session`: no frames yet */

enum { HF_ENDS_LOCAL = 1, HF_ENDS_PEER = 2 };

/* The addresses of both ends of a connection (state/ends.h); IPv4 in the first four bytes. */
struct hf_ends {
	uint8_t local[16], peer[16];
	uint16_t local_port, peer_port; /* network byte order */
	uint32_t scope;                 /* of link-local ones: sin6_scope_id */
	uint8_t family;                 /* 4 or 6 */
	uint8_t known;                  /* HF_ENDS_LOCAL, HF_ENDS_PEER */
	uint8_t pad[2];
};

/*
 * The part of a view that most connections never need: they are not wrapped, and nothing has happened to them.  It is
 * kept apart, so that it then takes no memory: a hundred thousand idle connections are a use to be served.
 * Texts come from the peer or the program: printable, NUL-padded, not necessarily terminated.
 */
struct hf_arena_more {
	uint64_t beat_heard_at;               /* wrap: last byte of the peer's shim */
	uint64_t beats_sent, beats_received;  /* wrap */
	uint32_t beat_rtt_us;                 /* the beats' */
	uint32_t peer_unread, peer_unread_ms; /* wrap: from the peer's last beat */
	uint32_t peer_pid;
	struct hf_view_event events[HF_VIEW_EVENTS]; /* a ring: the next goes to events[event_count % HF_VIEW_EVENTS] */
	char peer_prog[32], peer_host[64], peer_info[64];
	uint64_t stalled_since, half_since;
	uint64_t broken_at, gives_up_at; /* broken: since when, and until when another path is tried */
};

enum hf_apart { HF_APART_MORE = 1, HF_APART_RTTS = 2 };

/*
 * One watched connection as its watchdog last saw it.  Written by one thread; a reader copies it and believes the copy
 * if `seq` was even and the same before and after.  Times are ms of CLOCK_MONOTONIC, 0 meaning "not" or "not yet".
 * In the arena it ends where `rtts` begins; that and `more` are each in a row of their own.  Three cache lines of 64
 * bytes, of which a look that finds nothing new changes the first.
 */
struct hf_arena_view {
	_Atomic uint32_t seq;
	_Atomic uint32_t proc; /* handle of the process that writes it; 0: free */
	uint64_t looked_at;    /* last look */
	uint64_t heard_at;     /* last sign of life of the peer's kernel */
	uint64_t asked_since;  /* a question to the peer's kernel is open */
	uint32_t next_in;      /* ms from the last look to the one due next */
	uint32_t rtt_us;       /* the kernel's */
	uint32_t snd_wnd;
	uint16_t flags;                       /* enum hf_view_flag */
	uint8_t state;                        /* TCP's, as Linux numbers them: enum hf_tcp_state */
	uint8_t session;                      /* of a wrapped one: enum hf_session_state, or HF_VIEW_HANDSHAKE */
	uint8_t probes, backoff, retransmits; /* as struct tcp_info has them */
	uint8_t mode;                         /* enum hf_mode: probe or wrap */
	uint8_t role;                         /* 0 unknown, 1 client, 2 server */
	uint8_t ends;  /* what ends it: bits 1 dead, 2 unanswered, 4 stalled, 8 half-closed; else it is only told */
	uint8_t apart; /* enum hf_apart: something has been written to what is kept apart */
	uint8_t rtt_count, event_count; /* of all there were; once a ring is full: full rounds are left out */
	uint8_t reserved[3];
	uint32_t rtt_first; /* us */

	uint64_t cookie;          /* SO_COOKIE */
	uint64_t moved_at;        /* bytes last moved in either direction */
	uint64_t owed_since;      /* the peer owes a reply */
	uint64_t sent, received;  /* bytes, as the kernel counts */
	uint32_t unread, unacked; /* bytes our program has not read; bytes the peer's kernel has not got */
	int32_t fd;
	_Atomic uint32_t next; /* link of the free list: index + 1 */
	uint64_t since;        /* first look */

	uint32_t interval, timeout, reply_timeout, stall_timeout, half_close_timeout; /* ms, as they apply to it */
	struct hf_ends names;

	/* us, a ring: the next goes to rtts[rtt_count % HF_VIEW_RTTS].  The only one there is stands in rtt_first: a
	 * connection that was made, and no more, has one. */
	uint32_t rtts[HF_VIEW_RTTS];
	struct hf_arena_more more;
};

/*
 * A session that could have been resumed and is over, ended by both programs, with everything the peer sent received:
 * TIME-WAIT.  A peer that missed the last acknowledgement comes to say it all again, and is told; and one that missed
 * our last word hears it again.
 */
struct hf_arena_tomb {
	_Atomic uint64_t until; /* ms; 0: free; all ones: being written */
	uint8_t name[16], key[32];
	uint64_t expects, said; /* offsets: of the peer's direction; of what was said in ours, to the last byte */
};

struct hf_arena {
	uint64_t magic;
	uint32_t version;           /* HF_ARENA_VERSION */
	uint32_t layout;            /* of what connections hold: another build of the library has another */
	_Atomic uint64_t free_head; /* of the free list: a count of its changes above, index + 1 below */
	_Atomic uint32_t used;      /* connections ever handed out */
	_Atomic uint32_t proc_hint; /* where to look for a free process entry next */
	_Atomic uint64_t swept_at;  /* ms */
	_Atomic uint64_t view_free_head;
	_Atomic uint32_t views_used, pad;
	_Atomic uint32_t sorting[HF_ARENA_PROCS / 32]; /* a bit for each process: it has just been forked, and is
							* finding out which connections came along */
	/* How often a process of the family has taken a connection from a listener with a time limit of its own on it.
	 */
	_Atomic uint64_t hurried, unhurried; /* begun, ended */
	_Atomic uint64_t suspended_until;    /* ms: some process of the family waits for a client to come back, then at
					      * least; 0: none ever has */
	uint64_t reserved[37];
	struct hf_arena_counts counts;
	struct hf_arena_proc procs[HF_ARENA_PROCS];
	_Atomic uint32_t tomb_next; /* where the next goes, modulo their number */
	struct hf_arena_tomb tombs[HF_ARENA_TOMBS];
};

#define HF_ARENA_VERSION   3
#define HF_ARENA_CONNS_AT  ((uint64_t)1 << 20)
#define HF_ARENA_QUEUES_AT (HF_ARENA_CONNS_AT + (uint64_t)HF_ARENA_CONNS * HF_ARENA_CONN_SIZE)
#define HF_ARENA_VIEWS_AT  (HF_ARENA_QUEUES_AT + (uint64_t)HF_ARENA_CONNS * HF_ARENA_QUEUE_SIZE)
#define HF_ARENA_RTTS_AT   (HF_ARENA_VIEWS_AT + (uint64_t)HF_ARENA_VIEWS * HF_ARENA_VIEW_SIZE)
#define HF_ARENA_MORE_AT   (HF_ARENA_RTTS_AT + (uint64_t)HF_ARENA_VIEWS * HF_ARENA_RTTS_SIZE)
#define HF_ARENA_SIZE      (HF_ARENA_MORE_AT + (uint64_t)HF_ARENA_VIEWS * HF_ARENA_MORE_SIZE)

_Static_assert(sizeof(struct hf_arena) <= HF_ARENA_CONNS_AT, "the head reaches into the connections");
_Static_assert(offsetof(struct hf_arena_view, rtts) <= HF_ARENA_VIEW_SIZE, "a view has this room");
_Static_assert(sizeof(((struct hf_arena_view *)NULL)->rtts) <= HF_ARENA_RTTS_SIZE, "its round trips have this");
_Static_assert(sizeof(struct hf_arena_more) <= HF_ARENA_MORE_SIZE, "and what is kept apart has this");
_Static_assert(sizeof(struct hf_arena_proc) == 64, "one cache line a process");

#endif
