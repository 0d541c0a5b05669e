/*
 * A timer wheel: many timers, most of which are moved or cancelled before they fire.
 *
 * Four levels of 64 buckets, each level 64 times coarser than the one before, as in the timer wheels of kernels;
 * insertion, removal and moving are O(1), a timer cascades at most three times.  With a tick of 4 ms it spans 18
 * hours; what is due later waits in the last bucket and is put back.  Intrusive: the caller owns the nodes, nothing is
 * allocated.  Pure; one owner, no lock.
 */
#ifndef HOLDFAST_CORE_WHEEL_H
#define HOLDFAST_CORE_WHEEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zero is a node that is not queued. */
struct hf_wheel_node {
	struct hf_wheel_node *next, **prev;
	uint64_t due : 48; /* as given to hf_wheel_insert(); ten thousand years at most */
	uint64_t level : 8, bucket : 8;
};

#define HF_WHEEL_LATEST ((UINT64_C(1) << 48) - 1)

enum { HF_WHEEL_LEVELS = 4, HF_WHEEL_BITS = 6, HF_WHEEL_BUCKETS = 1 << HF_WHEEL_BITS };

struct hf_wheel {
	struct hf_wheel_node *buckets[HF_WHEEL_LEVELS][HF_WHEEL_BUCKETS];
	uint64_t filled[HF_WHEEL_LEVELS]; /* a bit for each bucket that is not empty */
	struct hf_wheel_node *ready;      /* due, not yet taken */
	uint64_t base;                    /* time of tick 0, ms */
	uint64_t at;                      /* ticks gone through */
	uint32_t tick;                    /* ms a tick */
};

/* An empty wheel whose time is NOW; TICK is its resolution: a node fires at most one tick late, never early. */
void hf_wheel_init(struct hf_wheel *wheel, uint64_t now, uint32_t tick);

/* Queue NODE, not queued now, for DUE ms. A time that has passed fires at the next hf_wheel_pop(). */
void hf_wheel_insert(struct hf_wheel *wheel, struct hf_wheel_node *node, uint64_t due);

/* Take NODE out; it must be queued. */
void hf_wheel_remove(struct hf_wheel *wheel, struct hf_wheel_node *node);

static inline bool hf_wheel_queued(const struct hf_wheel_node *node)
{
	return node->prev != NULL;
}

/* Advance to NOW and take out one node that is due, or NULL. Call until NULL. NOW never runs backwards. */
struct hf_wheel_node *hf_wheel_pop(struct hf_wheel *wheel, uint64_t now);

/* What hf_wheel_pop() will give next without going on in time, if there is something; then come those behind it. */
static inline const struct hf_wheel_node *hf_wheel_ready(const struct hf_wheel *wheel)
{
	return wheel->ready;
}

/*
 * When to call hf_wheel_pop() next, ms; UINT64_MAX if nothing is queued.  Never later than the earliest timer fires;
 * for a timer far away it may be earlier, when its bucket is to be spread over the finer level.
 */
uint64_t hf_wheel_next(const struct hf_wheel *wheel);

#endif
