#include "state/slot.h"
#include "sys.h"

#include <string.h>
#include <sys/mman.h>

enum { GEN_MASK = (1 << (30 - HF_SLOT_BITS)) - 1 };

_Atomic(struct hf_slot *) hf_slot_chunks[HF_SLOT_MAX / HF_SLOT_CHUNK];
static _Atomic uint32_t used; /* slots ever handed out */

/* Free slots: a stack whose head carries a counter, so that a pop cannot mistake a slot that went and came back. */
static _Atomic uint64_t free_head;

uint32_t hf_slot_end(void)
{
	uint32_t end = atomic_load_explicit(&used, memory_order_acquire);

	return end < HF_SLOT_MAX ? end : HF_SLOT_MAX;
}

static struct hf_slot *pop_free(void)
{
	uint64_t head = atomic_load_explicit(&free_head, memory_order_acquire);

	while ((uint32_t)head != 0) {
		struct hf_slot *slot = hf_slot_at((uint32_t)head - 1);
		uint64_t next = atomic_load_explicit(&slot->next, memory_order_relaxed);

		if (atomic_compare_exchange_weak(&free_head, &head, ((head >> 32) + 1) << 32 | next))
			return slot;
	}
	return NULL;
}

static struct hf_slot *fresh(void)
{
	size_t size = HF_SLOT_CHUNK * (sizeof(struct hf_slot) + sizeof(struct hf_slot_rare) + HF_SCRATCH_SIZE);
	uint32_t index = atomic_load(&used);
	struct hf_slot *chunk, *expected = NULL;

	do {
		if (index >= HF_SLOT_MAX)
			return NULL;
	} while (!atomic_compare_exchange_weak(&used, &index, index + 1));
	if (hf_slot_at(index) == NULL) {
		chunk = hf_sys_mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
				    0);
		if (hf_sys_failed(chunk))
			return NULL; /* this number stays unused; memory is short, so be it */
		if (!atomic_compare_exchange_strong(&hf_slot_chunks[index / HF_SLOT_CHUNK], &expected, chunk))
			hf_sys_munmap(chunk, size);
	}
	hf_slot_at(index)->index = index;
	return hf_slot_at(index);
}

/* What an earlier connection has left.  Where none has left anything it is only read: else it would become memory. */
static void clear_rare(struct hf_slot *slot)
{
	static const char none[sizeof(struct hf_slot_rare)];
	char *rare = (char *)hf_rare(slot); /* bytes, whatever they mean */

	if (memcmp(rare, none, sizeof(none)) != 0)
		memset(rare, 0, sizeof(none));
}

struct hf_slot *hf_slot_new(void)
{
	struct hf_slot *slot = pop_free();
	uint32_t gen, index;

	if (slot == NULL && (slot = fresh()) == NULL)
		return NULL;
	gen = atomic_load(&slot->gen);
	index = slot->index;
	memset(slot, 0, sizeof(*slot));
	slot->index = index;
	clear_rare(slot);
	atomic_store(&slot->gen, (gen + 1) & GEN_MASK);
	atomic_store(&slot->refs, 1);
	atomic_store(&slot->stage, HF_STAGE_IDLE);
	return slot;
}

hf_fd_entry hf_slot_entry(struct hf_slot *slot)
{
	return hf_fd_entry_slot(slot->index, atomic_load_explicit(&slot->gen, memory_order_relaxed));
}

bool hf_slot_hold(struct hf_slot *slot)
{
	uint32_t refs = atomic_load(&slot->refs);

	while (refs != 0)
		if (atomic_compare_exchange_weak(&slot->refs, &refs, refs + 1))
			return true;
	return false;
}

bool hf_slot_drop(struct hf_slot *slot)
{
	uint32_t refs = atomic_load(&slot->refs);

	while (refs != 0)
		if (atomic_compare_exchange_weak(&slot->refs, &refs, refs - 1))
			return refs == 1;
	return false;
}

void hf_slot_free(struct hf_slot *slot)
{
	uint64_t head = atomic_load(&free_head);

	atomic_store(&slot->stage, HF_STAGE_FREE);
	atomic_store(&slot->cookie, 0);
	atomic_store(&slot->guard, 0);
	do
		atomic_store_explicit(&slot->next, (uint32_t)head, memory_order_relaxed);
	while (!atomic_compare_exchange_weak(&free_head, &head, ((head >> 32) + 1) << 32 | (slot->index + 1)));
}

struct hf_slot *hf_slot_find(uint64_t cookie)
{
	for (uint32_t i = 0; cookie != 0 && i < hf_slot_end(); i++) {
		struct hf_slot *slot = hf_slot_at(i);

		if (slot != NULL && atomic_load_explicit(&slot->cookie, memory_order_relaxed) == cookie &&
		    atomic_load(&slot->refs) != 0)
			return slot;
	}
	return NULL;
}

void hf_slot_push(struct hf_slot_stack *stack, struct hf_slot *slot)
{
	uint32_t head = atomic_load(&stack->head);

	do
		atomic_store_explicit(&slot->next, head, memory_order_relaxed);
	while (!atomic_compare_exchange_weak(&stack->head, &head, slot->index + 1));
}

uint32_t hf_slot_take_all(struct hf_slot_stack *stack)
{
	return atomic_exchange(&stack->head, 0);
}
