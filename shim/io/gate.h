/*
 * The gate every interposed call passes: is this descriptor one of ours, may the call go through, and what does its
 * result mean?
 *
 * The common cases cost two or three loads and no system call: the library is off or the descriptor is not ours (go
 * through), or it is a watched connection in good health (go through, look at the result only if it is an error or
 * an end of file).  Everything else takes hf_gate_open().
 *
 * Async-signal-safe; errno is preserved.
 */
#ifndef HOLDFAST_IO_GATE_H
#define HOLDFAST_IO_GATE_H

#include "io/redial.h"
#include "io/wrap.h"
#include "preload/real.h"
#include "runtime.h"
#include "state/proc.h"
#include "state/slot.h"

#include <errno.h>

enum hf_way { HF_READS, HF_WRITES, HF_OTHER };

/*
 * The slow side of hf_gate(): adopts a descriptor met for the first time, hands the connection to this process's
 * watchdog after a fork, refuses calls on a connection that has been ended.  Returns the slot or NULL (go through);
 * *REFUSED is the errno with which to refuse the call, 0 to let it through.
 */
struct hf_slot *hf_gate_open(int fd, enum hf_way way, int *refused);

/*
 * In a forked child, before all else: it holds every wrapped connection that its slots name, and forgets those whose
 * place in the arena has gone to another meanwhile or whose end is the parent's business.
 */
void hf_gate_hold_wrapped(void);

/* And last: everything wrapped is looked after from here on, whether the child ever uses it or not. */
void hf_gate_claim_wrapped(void);

/*
 * In between, in a child of a process with threads: fork(2) copies the descriptors first and the memory later, and the
 * other threads do not stand still meanwhile.  Makes the map agree with the descriptors, as far as wrapped connections
 * go.
 */
void hf_gate_reconcile(void);

/* After a failed call or an end of file on SLOT: RESULT and errno as the program should see them. */
long hf_gate_after(struct hf_slot *slot, int fd, enum hf_way way, long result);

static inline bool hf_slot_calm(struct hf_slot *slot)
{
	return atomic_load_explicit(&slot->guard, memory_order_acquire) ==
	       atomic_load_explicit(hf_proc_epoch, memory_order_relaxed);
}

/* NULL and *REFUSED 0: not ours, go straight through. */
__attribute__((always_inline)) static inline struct hf_slot *hf_gate(int fd, enum hf_way way, int *refused)
{
	hf_fd_entry entry;
	struct hf_slot *slot;

	*refused = 0;
	if (hf_unlikely(!hf_on()))
		return NULL;
	entry = hf_fdmap_get(fd);
	if (HF_FD_KIND(entry) == HF_FD_PASS || HF_FD_KIND(entry) == HF_FD_BUSY || entry == HF_FD_LISTENER)
		return NULL;
	if (hf_likely(HF_FD_KIND(entry) == HF_FD_SLOT)) {
		slot = hf_slot_of(entry);
		if (hf_likely(slot != NULL && hf_slot_calm(slot)))
			return slot;
	}
	return hf_gate_open(fd, way, refused);
}

/* Whether FD is known to be none of ours to look at.  Then hf_real is complete, too. */
static inline bool hf_gate_passes(int fd)
{
	return hf_on() && HF_FD_KIND(hf_fdmap_get(fd)) == HF_FD_PASS;
}

/* Make sure FD, if it is a connection, is watched by this process; used where the result of the call needs no look. */
static inline void hf_gate_touch(int fd)
{
	int refused;

	(void)hf_gate(fd, HF_OTHER, &refused);
}

static inline void hf_note_moved(struct hf_slot *slot, enum hf_way way)
{
	if (hf_runtime.note_order && way != HF_OTHER)
		atomic_store_explicit(&slot->last_call, way == HF_READS ? HF_LAST_READ : HF_LAST_WRITE,
				      memory_order_relaxed);
}

/* A library call that finds nothing resolved yet (before our constructor). */
static inline void hf_real_ready(void)
{
	if (hf_unlikely(hf_real.read == NULL))
		hf_real_resolve();
}

/*
 * The body of a data call: NAME's next definition called with ARGS between the two looks.  On a wrapped connection
 * WRAPPED is evaluated instead, with slot_ and plain_ in reach; if it sets plain_ the call is made after all.  One
 * that may be made anew is told of it by AGAIN, a struct hf_redial_call.
 */
#define HF_THROUGH(type, fd, way, name, args, wrapped, again)                \
	do {                                                                 \
		int refused_;                                                \
		struct hf_slot *slot_ = hf_gate(fd, way, &refused_);         \
		bool plain_ = true;                                          \
		type result_ = 0;                                            \
		if (hf_unlikely(slot_ == NULL)) {                            \
			hf_real_ready();                                     \
			return hf_real.name args;                            \
		}                                                            \
		if (hf_unlikely(refused_ != 0)) {                            \
			errno = refused_;                                    \
			return -1;                                           \
		}                                                            \
		if (hf_unlikely(hf_wrap_of(slot_) != NULL)) {                \
			int error_ = errno;                                  \
			result_ = (type)(wrapped);                           \
			if (plain_ || result_ >= 0)                          \
				errno = error_;                              \
			if (hf_likely(!plain_ && result_ > 0)) {             \
				hf_note_moved(slot_, way);                   \
				return result_;                              \
			}                                                    \
		}                                                            \
		if (hf_unlikely(hf_redial_of(slot_) != NULL)) {              \
			struct hf_redial_call call_ = again;                 \
			do {                                                 \
				if (!hf_redial_enter(&call_))                \
					return -1;                           \
				result_ = hf_real.name args;                 \
			} while (hf_redial_again(&call_, result_));          \
		} else if (hf_likely(plain_)) {                              \
			result_ = hf_real.name args;                         \
		}                                                            \
		if (hf_unlikely(result_ <= 0))                               \
			return (type)hf_gate_after(slot_, fd, way, result_); \
		hf_note_moved(slot_, way);                                   \
		return result_;                                              \
	} while (0)

#endif
