#include "io/stdio_table.h"
#include "sys.h"

#include <sys/mman.h>

/* Ours as well: a fork may have come in the middle of an earlier change. */
static bool holds(const uintptr_t *slots, const uintptr_t libc[HF_JUMPS], const uintptr_t ours[HF_JUMPS])
{
	for (size_t i = 0; i < HF_JUMPS; i++)
		if (slots[i] != libc[i] && (ours[i] == 0 || slots[i] != ours[i]))
			return false;
	return true;
}

size_t hf_jump_find(const struct hf_jump_region *region, const uintptr_t libc[HF_JUMPS], const uintptr_t ours[HF_JUMPS],
		    uintptr_t *found[HF_JUMP_TABLES_MOST])
{
	size_t count = 0;

	for (uintptr_t at = region->from; at + HF_JUMPS * sizeof(uintptr_t) <= region->to; at += sizeof(uintptr_t)) {
		uintptr_t *slots = (uintptr_t *)at; /* NOLINT(performance-no-int-to-ptr) */

		if (!holds(slots, libc, ours))
			continue;
		if (count == HF_JUMP_TABLES_MOST)
			return 0;
		found[count++] = slots;
	}
	return count;
}

/* The read-only pages from LOW to HIGH, if any: to RIGHTS. */
static bool protect(const struct hf_jump_region *region, uintptr_t low, uintptr_t high, int rights)
{
	uintptr_t mask = ~(uintptr_t)(region->page - 1), from = low & mask, to = (high + region->page - 1) & mask;

	if (to > region->sealed)
		to = region->sealed;
	return from >= to ||
	       hf_sys_mprotect((void *)from, to - from, rights) == 0; /* NOLINT(performance-no-int-to-ptr) */
}

bool hf_jump_swap(const struct hf_jump_region *region, uintptr_t *const *found, size_t count,
		  const uintptr_t libc[HF_JUMPS], const uintptr_t ours[HF_JUMPS])
{
	uintptr_t low = UINTPTR_MAX, high = 0;
	bool writable;

	for (size_t i = 0; i < count; i++) {
		uintptr_t at = (uintptr_t)found[i], end = at + HF_JUMPS * sizeof(uintptr_t);

		if (at < region->from || end > region->to || !holds(found[i], libc, ours))
			return false;
		low = at < low ? at : low;
		high = end > high ? end : high;
	}
	if (count == 0)
		return false;
	writable = protect(region, low, high, PROT_READ | PROT_WRITE);
	for (size_t i = 0; i < count && writable; i++)
		for (size_t j = 0; j < HF_JUMPS; j++)
			if (ours[j] != 0)
				__atomic_store_n(&found[i][j], ours[j], __ATOMIC_RELEASE);
	(void)protect(region, low, high, PROT_READ); /* a refusal may have come after a part of it was done */
	return writable;
}
