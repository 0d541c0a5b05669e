/*
 * The descriptor map: what the library knows of each descriptor number of this process.
 *
 * One 32-bit word a descriptor, zero meaning "unknown: look before you act", so that it needs no initialisation and
 * whatever happens behind our back is found at first use.  Private to the process, copied by fork.  Lock-free: every
 * change is one atomic operation, safe in signal handlers.  Numbers beyond the map stay unknown for ever and are
 * passed through unwatched.
 *
 *   UNKNOWN   nothing known; TCP_HINT set if socket(2) made it a TCP socket that is not connected yet; LISTENER if
 *             it listens: no connection, and no need to look again at every poll
 *   PASS      not ours: a file, a UDP socket, a connection the rules switch off; OURS: a duplicate the program knows
 *             nothing of (io/keep.h)
 *   BUSY      a close or dup2 of it is under way in some thread; calls go straight through
 *   SLOT      a watched connection: slot number and generation
 */
#ifndef HOLDFAST_STATE_FDMAP_H
#define HOLDFAST_STATE_FDMAP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum hf_fd_kind { HF_FD_UNKNOWN, HF_FD_PASS, HF_FD_BUSY, HF_FD_SLOT };

enum {
	HF_FDMAP_NEAR = 65536,  /* these are static, the rest is mapped when first needed */
	HF_FDMAP_MAX = 1048576, /* fs.nr_open of a stock kernel */
	HF_SLOT_BITS = 18,      /* slot number within an entry */
};

typedef uint32_t hf_fd_entry;

#define HF_FD_KIND(entry)  ((enum hf_fd_kind)((entry)&3U))
#define HF_FD_INDEX(entry) (((entry) >> 2) & ((1U << HF_SLOT_BITS) - 1))
#define HF_FD_GEN(entry)   ((entry) >> (2 + HF_SLOT_BITS))
#define HF_FD_TCP_HINT     4U /* with UNKNOWN */
#define HF_FD_OURS         (HF_FD_PASS | 4U)
#define HF_FD_LISTENER     (HF_FD_UNKNOWN | HF_FD_TCP_HINT | 8U)

extern _Atomic hf_fd_entry hf_fdmap_near[HF_FDMAP_NEAR];
extern _Atomic(_Atomic hf_fd_entry *) hf_fdmap_far;

/* The word for FD, or NULL if it is negative, beyond the map, or far and nothing far has ever been set. */
static inline _Atomic hf_fd_entry *hf_fdmap_word(int fd)
{
	_Atomic hf_fd_entry *far;

	if (__builtin_expect((unsigned)fd < HF_FDMAP_NEAR, 1))
		return &hf_fdmap_near[fd];
	far = atomic_load_explicit(&hf_fdmap_far, memory_order_acquire);
	if (far == NULL || (unsigned)fd >= HF_FDMAP_MAX)
		return NULL;
	return &far[fd - HF_FDMAP_NEAR];
}

static inline hf_fd_entry hf_fdmap_get(int fd)
{
	_Atomic hf_fd_entry *word = hf_fdmap_word(fd);

	return word != NULL ? atomic_load_explicit(word, memory_order_acquire) : HF_FD_UNKNOWN;
}

/* Set FD's entry and return what it was.  False: the number is beyond the map, nothing was set. */
bool hf_fdmap_set(int fd, hf_fd_entry entry, hf_fd_entry *old);

/* Set FD's entry to NEXT if it is still EXPECTED. */
bool hf_fdmap_replace(int fd, hf_fd_entry expected, hf_fd_entry next);

/* Mark FD busy; returns what it was and gives the mark that hf_fdmap_unbusy() takes. */
hf_fd_entry hf_fdmap_busy(int fd, hf_fd_entry *mark);

/* A mark for many, each to be set with hf_fdmap_replace(). */
hf_fd_entry hf_fdmap_mark(void);

/* End of the call that MARK stood for: set NEXT unless another thread has meanwhile been given the number. */
void hf_fdmap_unbusy(int fd, hf_fd_entry mark, hf_fd_entry next);

/* One more than the highest descriptor ever set: bounds scans. */
int hf_fdmap_end(void);

static inline hf_fd_entry hf_fd_entry_slot(uint32_t index, uint32_t gen)
{
	return HF_FD_SLOT | index << 2 | gen << (2 + HF_SLOT_BITS);
}

#endif
