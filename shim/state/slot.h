/*
 * Slots: one for each watched connection of this process.
 *
 * Mapped in chunks as they are needed and never given back, so that a stale pointer is at worst a pointer to another
 * connection's slot: every use that acts on a socket checks its cookie (SO_COOKIE, socket(7)) first.  Lock-free and
 * async-signal-safe: close(2) is called from signal handlers.
 *
 * Who may touch what: the fields of the first part are atomic and open to every thread; those of the second belong to
 * the watchdog.  What few connections need is kept apart (struct hf_slot_rare): a hundred thousand idle ones are a use
 * to be served.  A slot is held by the descriptor-map entries that name it (refs) and by the watchdog (stage); it is
 * free again when neither holds it.
 */
#ifndef HOLDFAST_STATE_SLOT_H
#define HOLDFAST_STATE_SLOT_H

#include "core/judge.h"
#include "core/wheel.h"
#include "report.h"
#include "state/ends.h"
#include "state/fdmap.h"

#include <netinet/in.h>
#include <stdatomic.h>

enum {
	HF_SLOT_CHUNK = 256, /* slots mapped at a time */
	HF_SLOT_MAX = 1 << HF_SLOT_BITS,
	HF_SCRATCH_SIZE = 1088, /* of room in each for bytes that are read for it */
};

/* Where a slot stands between the hooks and the watchdog. */
enum hf_stage {
	HF_STAGE_FREE,
	HF_STAGE_IDLE,    /* in use, not given to this process's watchdog (inherited by fork, or done with) */
	HF_STAGE_NEW,     /* handed over, the watchdog has not seen it */
	HF_STAGE_WATCHED, /* in the watchdog's wheel */
	HF_STAGE_CLOSED,  /* the program has closed it; the watchdog will free it */
};

/* In scratch_at: what a read has brought stands there still, and nobody knows whether it comes back for it. */
#define HF_SCRATCH_LENT UINT64_MAX

enum hf_dying { HF_DYING_NO, HF_DYING_NUDGED, HF_DYING_HELD, HF_DYING_BUSY };

struct hf_wrap;
struct hf_resume;
struct hf_redialling;

/* A turn that others wait for: who has it and leaves undone what could be done, behind how many bytes, since when (ms),
 * and how often that was seen. */
struct hf_idle {
	_Atomic uint64_t since, at;
	_Atomic uint32_t owner, times;
};

/*
 * The part of a slot that most connections never need: they are not wrapped, and nothing has happened to them.  It is
 * kept apart, so that it then takes no memory (what is only read is the kernel's page of zeroes): whoever writes to it
 * in the life of every connection undoes that.  Its first part is atomic, the second the watchdog's, as in the slot.
 */
struct hf_slot_rare {
	_Atomic(struct hf_resume *) room; /* before it is known what a connection keeps to be resumed (resume), what a
					   * child was forked with; NULL: none was */
	/* Where what a connection that broke had brought is: a mapping of HF_AREA_SIZE that all who share the memory
	 * have, NULL: nobody has been forked; or one of this process's own, of inbox_size, then it is there. */
	_Atomic(uint8_t *) area, inbox;
	size_t inbox_size;
	_Atomic(uint8_t *) queue; /* the arena's queue of it, mapped when needed */
	_Atomic int epolls[4];    /* epoll descriptors it is registered with, plus one; 0: none */
	_Atomic uint32_t conn;    /* its number in the arena, plus one; 0: none */
	_Atomic int moved;        /* the duplicate we keep, plus one, for calls that began before the close; 0: none */
	_Atomic int offer;        /* server: the connection a RESUME came on, plus one; 0: none */
	_Atomic uint32_t link;    /* how often it had moved to another socket when our descriptors were last its own */
	_Atomic uint32_t spawns;  /* hf_proc_spawns() when it was wrapped: else a program may share the socket */
	_Atomic uint32_t scratch_epoch; /* of the process that has read into the scratch last, and ... */
	_Atomic uint32_t tended;        /* the watchdog of the process of this epoch is at the descriptor right now */
	_Atomic uint64_t scratch_at;    /* ... how much of the connection it had read before, and one */
	_Atomic uint64_t waited_at;     /* ms: when the last of those that wait began */
	struct hf_idle idle_rx, idle_tx;
	_Atomic uint16_t waiting;  /* threads that wait in a call with no turn in hand: struct hf_wait */
	_Atomic uint8_t let_go;    /* it no longer holds its place in the arena: enum hf_left, plus one */
	_Atomic uint8_t stirring;  /* counted in hf_resume_count */
	_Atomic uint8_t has_inbox; /* counted in hf_resume_inboxes */

	/* The watchdog's. */
	struct hf_rate rate;
	uint64_t stale_since; /* ms: since when it has been behind; 0: it is not */
	uint64_t dying_since; /* ms */
	int offered;  /* while it leads: the connection a RESUME came on, and is to prove itself, plus one; 0: none */
	int listener; /* and one of ours, where the program has none any more, plus one; 0: none */
};

struct hf_slot {
	/* The epoch (state/proc.h) in which calls may go straight through; anything else sends them the long way:
	 * the process has forked, or the connection has been ended. */
	_Atomic uint32_t guard;
	_Atomic uint32_t epoch;     /* of the process whose watchdog has it */
	_Atomic int fate;           /* errno for every later call; 0 while it lives */
	_Atomic uint32_t refs;      /* descriptor-map entries */
	_Atomic uint32_t gen;       /* changes when the slot is reused */
	_Atomic int fd;             /* one of the descriptors, for the watchdog */
	_Atomic uint8_t stage;      /* enum hf_stage */
	_Atomic uint8_t last_call;  /* enum hf_last_call */
	_Atomic uint8_t connecting; /* connect(2) has not been seen to succeed */
	_Atomic uint8_t collected;  /* connect(2) has told the program that it succeeded */
	_Atomic uint8_t client;     /* we connected; otherwise we accepted */
	_Atomic uint8_t has_role;
	_Atomic uint8_t tuned; /* the kernel's keepalive is ours, the program's is in the four below */
	_Atomic uint8_t program_on;
	_Atomic uint16_t program_idle, program_intvl, program_cnt;
	_Atomic uint8_t lent;    /* the next is: for as long as it is watched (hf_socket_retune()) */
	_Atomic uint8_t bounded; /* TCP_USER_TIMEOUT holds a value of ours for now, the program sees its own */
	_Atomic uint32_t program_user_timeout;  /* TCP_USER_TIMEOUT as the program set it */
	_Atomic(struct hf_wrap *) wrap;         /* the hidden channel, NULL in probe mode (io/wrap.h) */
	_Atomic(struct hf_redialling *) redial; /* in probe mode: it may be made anew (io/redial.h); NULL: not */
	_Atomic(struct hf_resume *) resume;     /* what it keeps to be resumed; NULL: it will not be */
	_Atomic uint64_t cookie;                /* SO_COOKIE; 0 until first asked for */
	_Atomic uint64_t start;                 /* ms, monotonic: when it was handed over; 0: not yet looked at */
	_Atomic uint32_t looking;               /* the watchdog of the process of this epoch looks at it right now */
	_Atomic uint32_t parting; /* its last descriptor is being closed in the process of this epoch: no look begins */
	_Atomic uint32_t next;    /* link of the free list or of the watchdog's mail */
	_Atomic uint8_t closed;   /* the program is closing its last descriptor: the watchdog keeps off it */
	_Atomic uint8_t wrap_tried;  /* it began wrapped; with wrap NULL it has become plain */
	_Atomic uint8_t draining;    /* closed by the program; fd is a duplicate we keep (io/keep.h) */
	_Atomic uint8_t left;        /* the same, and a thread of the program still sleeps in a call on it */
	_Atomic uint8_t mailed;      /* it is in the watchdog's mail, or must not be put there any more */
	_Atomic uint8_t told_failed; /* the fail-stop has been told */
	_Atomic uint8_t told_reset;  /* the reset has been told, by a hook or by the watchdog */
	_Atomic uint8_t nonblocking; /* O_NONBLOCK, for hf_confined_nonblocking() */
	_Atomic uint8_t end_seen;    /* a read has met the end of file */
	_Atomic uint8_t error_seen;  /* errno the kernel delivered through a hook, 0 for none; none is above 255 */
	_Atomic uint8_t failed;      /* errno of a fail-stop the watchdog has yet to carry out */

	/* The watchdog's.  Bit-fields share a word, which no other thread may touch. */
	uint8_t dying;   /* enum hf_dying */
	uint8_t put_off; /* so many looks in a row did not begin because its last descriptor is being closed */
	uint16_t tries;  /* of ending it, or of finding it again */
	bool looked : 1, asking : 1;
	bool aside : 1;        /* another process's watchdog has spoken for it */
	bool turned_plain : 1; /* the plain event is due */
	bool resting : 1;      /* told dead and left alone: the kernel has the program's own keepalive again */
	bool all_read : 1;     /* nothing waited to be read at the last look */
	bool counted : 1;      /* it is one of those the watchdog counts, and may be in its wheel */
	uint32_t timeout;      /* ms; below the policy's if the program's own keepalive is stricter */
	uint32_t pause_seen;   /* the last of our pauses that it knows of */
	uint32_t view;         /* its place among the views, plus one (state/view.h); 0: none */
	uint32_t index;        /* its own number; constant */
	struct hf_wheel_node node;
	struct hf_judge judge;
	struct hf_ends ends; /* the addresses */
};

/* Chunks: the slots, behind them what is kept apart of each, and behind that their scratches. */
static inline struct hf_slot_rare *hf_rare(const struct hf_slot *slot)
{
	uint32_t place = slot->index % HF_SLOT_CHUNK;
	const struct hf_slot *end = slot - place + HF_SLOT_CHUNK;

	return (struct hf_slot_rare *)(uintptr_t)end + place;
}

static inline uint8_t *hf_scratch(const struct hf_slot *slot)
{
	uint32_t place = slot->index % HF_SLOT_CHUNK;
	const struct hf_slot *end = slot - place + HF_SLOT_CHUNK;

	return (uint8_t *)((struct hf_slot_rare *)(uintptr_t)end + HF_SLOT_CHUNK) + (size_t)place * HF_SCRATCH_SIZE;
}

/* A slot in stage IDLE with one reference, or NULL when there is no memory or no room. */
struct hf_slot *hf_slot_new(void);

/* Where they are. */
extern _Atomic(struct hf_slot *) hf_slot_chunks[HF_SLOT_MAX / HF_SLOT_CHUNK];

static inline struct hf_slot *hf_slot_at(uint32_t index)
{
	struct hf_slot *chunk = atomic_load_explicit(&hf_slot_chunks[index / HF_SLOT_CHUNK], memory_order_acquire);

	return chunk != NULL ? &chunk[index % HF_SLOT_CHUNK] : NULL;
}

/* The slot an entry names, or NULL if the entry is stale. */
static inline struct hf_slot *hf_slot_of(hf_fd_entry entry)
{
	struct hf_slot *slot = hf_slot_at(HF_FD_INDEX(entry));

	if (slot == NULL || atomic_load_explicit(&slot->gen, memory_order_relaxed) != HF_FD_GEN(entry))
		return NULL;
	return slot;
}

/* The same of any entry of the map: NULL, too, if it says something else than a slot's name. */
static inline struct hf_slot *hf_slot_named_by(hf_fd_entry entry)
{
	return HF_FD_KIND(entry) == HF_FD_SLOT ? hf_slot_of(entry) : NULL;
}

/* The entry that names SLOT. */
hf_fd_entry hf_slot_entry(struct hf_slot *slot);

/* One more entry names it; false if it is being freed. */
bool hf_slot_hold(struct hf_slot *slot);

/* One entry fewer; true if that was the last. */
bool hf_slot_drop(struct hf_slot *slot);

/* Give it back.  Nobody may hold it. */
void hf_slot_free(struct hf_slot *slot);

/* One more than the highest slot number ever used. */
uint32_t hf_slot_end(void);

/* A slot of this process whose cookie is COOKIE and which is in use, or NULL.  A scan: only for the rare descriptor
 * that turns up unannounced. */
struct hf_slot *hf_slot_find(uint64_t cookie);

/* A stack of slots with any number of producers and one consumer, linked through `next` as index + 1 (0: the end). */
struct hf_slot_stack {
	_Atomic uint32_t head;
};

void hf_slot_push(struct hf_slot_stack *stack, struct hf_slot *slot);

/* Take the whole stack; walk it with hf_slot_at(link - 1). */
uint32_t hf_slot_take_all(struct hf_slot_stack *stack);

#endif
