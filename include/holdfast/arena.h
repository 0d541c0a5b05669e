/*
 * The arena: memory shared by a family of processes (one that was preloaded, and those it forked and executed), so that
 * whoever has a connection's descriptor knows where its stream stands.
 *
 * A memfd named HF_ARENA_NAME, sealed against a change of its size, mapped MAP_SHARED.  Fixed-width fields, native byte
 * order, no pointers.  It begins with struct hf_arena; connection I stands at HF_ARENA_CONNS_AT + I *
 * HF_ARENA_CONN_SIZE and the bytes it queues before its handshake at HF_ARENA_QUEUES_AT + I * HF_ARENA_QUEUE_SIZE. Only
 * what has been touched is memory.
 *
 * Whoever can write here is one of the family and could do the same to its own connections; what is read is checked so
 * that it cannot make a reader crash or reach beyond the arena.
 */
#ifndef HOLDFAST_ARENA_H
#define HOLDFAST_ARENA_H

#include <stdatomic.h>
#include <stdint.h>

#define HF_ARENA_NAME  "holdfast"
#define HF_ARENA_MAGIC UINT64_C(0x31616e6572416668) /* "hfArena1" */

enum {
	HF_ARENA_PROCS = 1024,       /* entry 0 is never used */
	HF_ARENA_CONNS = 128 * 1024, /* connections */
	HF_ARENA_CONN_SIZE = 1280,
	HF_ARENA_QUEUE_SIZE = 64 * 1024,
	HF_ARENA_HOLDERS = 8,

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
	_Atomic uint32_t holders[HF_ARENA_HOLDERS]; /* handles of the processes that have it open */
	_Atomic uint32_t keeper;                    /* handle of the one whose watchdog speaks for it; 0: none */
	_Atomic uint32_t doubt;   /* somebody we do not know of may have it too: enum hf_arena_doubt */
	_Atomic uint64_t kept_at; /* ms, CLOCK_MONOTONIC: when the keeper last looked */
	_Atomic uint64_t left_at; /* when the last holder left it behind; 0: not left */
};

enum hf_arena_doubt {
	HF_DOUBT_NONE,
	HF_DOUBT_SPAWNED, /* inherited by a program that has not shown itself yet, or sent over a Unix socket */
	HF_DOUBT_MANY,    /* more holders than there is room for */
};

struct hf_arena {
	uint64_t magic;
	uint32_t version;           /* HF_ARENA_VERSION */
	uint32_t layout;            /* of what connections hold: another build of the library has another */
	_Atomic uint64_t free_head; /* of the free list: a count of its changes above, index + 1 below */
	_Atomic uint32_t used;      /* connections ever handed out */
	_Atomic uint32_t proc_hint; /* where to look for a free process entry next */
	_Atomic uint64_t swept_at;  /* ms */
	uint64_t reserved[58];
	struct hf_arena_proc procs[HF_ARENA_PROCS];
};

#define HF_ARENA_VERSION   1
#define HF_ARENA_CONNS_AT  ((uint64_t)1 << 20)
#define HF_ARENA_QUEUES_AT (HF_ARENA_CONNS_AT + (uint64_t)HF_ARENA_CONNS * HF_ARENA_CONN_SIZE)
#define HF_ARENA_SIZE      (HF_ARENA_QUEUES_AT + (uint64_t)HF_ARENA_CONNS * HF_ARENA_QUEUE_SIZE)

_Static_assert(sizeof(struct hf_arena) <= HF_ARENA_CONNS_AT, "the head reaches into the connections");
_Static_assert(sizeof(struct hf_arena_proc) == 64, "one cache line a process");

#endif
