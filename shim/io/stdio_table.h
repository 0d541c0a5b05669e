/*
 * The jump tables of libc's stdio: finding them, and putting calls of ours in place of libc's.
 *
 * Every stream of glibc's that stands on a descriptor reaches the kernel through a table of functions (struct
 * _IO_jump_t, libio/libioP.h): read, write, seek, close and stat are five consecutive slots of it.  The tables lie in
 * a part of libc that the dynamic linker makes read-only (RELRO); the functions in those slots are exported, so that a
 * slot can be compared with the very function it should hold.  The same from glibc 2.31 to 2.42: the section was
 * __libc_IO_vtables up to 2.36 and is one array since, the slots and their order have not changed since 2.1.
 *
 * Knows nothing of connections.  No lock: the caller sees to it that one thread at a time is here.
 */
#ifndef HOLDFAST_IO_STDIO_TABLE_H
#define HOLDFAST_IO_STDIO_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum hf_jump { HF_JUMP_READ, HF_JUMP_WRITE, HF_JUMP_SEEK, HF_JUMP_CLOSE, HF_JUMP_STAT, HF_JUMPS };

enum {
	HF_JUMP_FIRST = 14,      /* slots before read: two dummies, then finish to doallocate */
	HF_JUMP_TABLE = 21,      /* slots of a whole table */
	HF_JUMP_TABLES_MOST = 8, /* there are four: narrow and wide, each once more for streams that may be mapped */
};

/*
 * Where tables may be.  The dynamic linker has made whole pages read-only, so that the last part of it may be writable:
 * from SEALED on, where pages are larger than the linker thought.
 */
struct hf_jump_region {
	uintptr_t from, to, sealed;
	size_t page;
};

/*
 * Every place in REGION where the five functions of LIBC, or of OURS, stand in their order: the tables.  Returns how
 * many, and in FOUND the addresses of their read slots; 0 if there are more than HF_JUMP_TABLES_MOST, for then
 * something is not what it seems.
 */
size_t hf_jump_find(const struct hf_jump_region *region, const uintptr_t libc[HF_JUMPS], const uintptr_t ours[HF_JUMPS],
		    uintptr_t *found[HF_JUMP_TABLES_MOST]);

/*
 * In each of the COUNT tables FOUND (read slots) put OURS in place of LIBC, where OURS is not 0.  Each slot changes
 * with one store, so that other threads meet the one function or the other; the pages are writable meanwhile and
 * read-only afterwards.  False: nothing was changed.
 */
bool hf_jump_swap(const struct hf_jump_region *region, uintptr_t *const *found, size_t count,
		  const uintptr_t libc[HF_JUMPS], const uintptr_t ours[HF_JUMPS]);

#endif
