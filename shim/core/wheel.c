#include "core/wheel.h"

#include <stddef.h>
#include <string.h>

enum { MASK = HF_WHEEL_BUCKETS - 1, READY = HF_WHEEL_LEVELS };

void hf_wheel_init(struct hf_wheel *wheel, uint64_t now, uint32_t tick)
{
	memset(wheel, 0, sizeof(*wheel));
	wheel->base = now;
	wheel->tick = tick;
}

static struct hf_wheel_node **list_of(struct hf_wheel *wheel, const struct hf_wheel_node *node)
{
	return node->level == READY ? &wheel->ready : &wheel->buckets[node->level][node->bucket];
}

static void link_in(struct hf_wheel *wheel, struct hf_wheel_node *node)
{
	struct hf_wheel_node **list = list_of(wheel, node);

	node->next = *list;
	if (node->next != NULL)
		node->next->prev = &node->next;
	node->prev = list;
	*list = node;
	if (node->level != READY)
		wheel->filled[node->level] |= UINT64_C(1) << node->bucket;
}

/* The first tick at which NODE is due: rounded up, so that it never fires early. */
static uint64_t tick_of(const struct hf_wheel *wheel, uint64_t due)
{
	return due <= wheel->base ? 0 : (due - wheel->base + wheel->tick - 1) / wheel->tick;
}

static void place(struct hf_wheel *wheel, struct hf_wheel_node *node)
{
	uint64_t tick = tick_of(wheel, node->due), ahead;
	unsigned level = 0;

	if (tick <= wheel->at) {
		node->level = READY;
		link_in(wheel, node);
		return;
	}
	/* The finest level on which the bucket is still to come in this turn of the wheel. */
	while (level < HF_WHEEL_LEVELS - 1 &&
	       (tick >> (level * HF_WHEEL_BITS)) - (wheel->at >> (level * HF_WHEEL_BITS)) >= HF_WHEEL_BUCKETS)
		level++;
	ahead = (tick >> (level * HF_WHEEL_BITS)) - (wheel->at >> (level * HF_WHEEL_BITS));
	if (ahead >= HF_WHEEL_BUCKETS) /* beyond the wheel: the farthest bucket, to be placed again from there */
		tick = ((wheel->at >> (level * HF_WHEEL_BITS)) + MASK) << (level * HF_WHEEL_BITS);
	node->level = (uint8_t)level;
	node->bucket = (uint8_t)((tick >> (level * HF_WHEEL_BITS)) & MASK);
	link_in(wheel, node);
}

void hf_wheel_insert(struct hf_wheel *wheel, struct hf_wheel_node *node, uint64_t due)
{
	node->due = (due < HF_WHEEL_LATEST ? due : HF_WHEEL_LATEST) & HF_WHEEL_LATEST;
	place(wheel, node);
}

void hf_wheel_remove(struct hf_wheel *wheel, struct hf_wheel_node *node)
{
	*node->prev = node->next;
	if (node->next != NULL)
		node->next->prev = node->prev;
	if (node->level != READY && *list_of(wheel, node) == NULL)
		wheel->filled[node->level] &= ~(UINT64_C(1) << node->bucket);
	node->next = NULL;
	node->prev = NULL;
}

/* How many steps of LEVEL lie between now and its next bucket that is not empty; 0: none. */
static unsigned steps_to_filled(const struct hf_wheel *wheel, unsigned level)
{
	unsigned here = (unsigned)(wheel->at >> (level * HF_WHEEL_BITS)) & MASK;
	uint64_t filled = wheel->filled[level];
	uint64_t turned;

	if (filled == 0)
		return 0;
	turned = here == MASK ? filled : filled >> (here + 1) | filled << (MASK - here);
	return (unsigned)__builtin_ctzll(turned) + 1;
}

/* The tick at which something is next to be done; UINT64_MAX: never. */
static uint64_t next_tick(const struct hf_wheel *wheel)
{
	uint64_t best = UINT64_MAX;

	if (wheel->ready != NULL)
		return wheel->at;
	for (unsigned level = 0; level < HF_WHEEL_LEVELS; level++) {
		unsigned shift = level * HF_WHEEL_BITS, steps = steps_to_filled(wheel, level);
		uint64_t tick;

		if (steps == 0)
			continue;
		tick = ((wheel->at >> shift) + steps) << shift;
		if (tick < best)
			best = tick;
	}
	return best;
}

/* Empty one bucket: what is due becomes ready, the rest goes to a finer level. */
static void spread(struct hf_wheel *wheel, unsigned level)
{
	unsigned bucket = (unsigned)(wheel->at >> (level * HF_WHEEL_BITS)) & MASK;
	struct hf_wheel_node *node = wheel->buckets[level][bucket];

	wheel->buckets[level][bucket] = NULL;
	wheel->filled[level] &= ~(UINT64_C(1) << bucket);
	while (node != NULL) {
		struct hf_wheel_node *next = node->next;

		place(wheel, node);
		node = next;
	}
}

struct hf_wheel_node *hf_wheel_pop(struct hf_wheel *wheel, uint64_t now)
{
	uint64_t target = now <= wheel->base ? 0 : (now - wheel->base) / wheel->tick;
	struct hf_wheel_node *node;

	while (wheel->ready == NULL) {
		uint64_t tick = next_tick(wheel);

		if (tick > target) {
			if (target > wheel->at)
				wheel->at = target;
			return NULL;
		}
		wheel->at = tick;
		for (unsigned level = HF_WHEEL_LEVELS; level-- > 0;)
			if ((tick & ((UINT64_C(1) << (level * HF_WHEEL_BITS)) - 1)) == 0)
				spread(wheel, level);
	}
	node = wheel->ready;
	hf_wheel_remove(wheel, node);
	return node;
}

uint64_t hf_wheel_next(const struct hf_wheel *wheel)
{
	uint64_t tick = next_tick(wheel);

	return tick == UINT64_MAX ? tick : wheel->base + tick * wheel->tick;
}
