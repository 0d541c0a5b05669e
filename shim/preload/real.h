/*
 * The next definition of each interposed name: libc's, or that of another library preloaded behind this one.
 *
 * Found by walking the dynamic linker's own list of objects, not by dlsym(3): dlsym allocates when it fails and takes
 * locks, and the allocator, if it is itself preloaded, calls us.  The walk allocates nothing, takes no lock and works
 * before any constructor.  Written once by hf_real_resolve(); read-only afterwards.
 */
#ifndef HOLDFAST_PRELOAD_REAL_H
#define HOLDFAST_PRELOAD_REAL_H

#include "preload/names.h"

#include <link.h>
#include <stdbool.h>

struct hf_real {
/* NOLINTNEXTLINE(bugprone-macro-parentheses): RET is a type and NAME what is declared */
#define X(ret, name, params, args) ret(*name) params;
	HF_CALLS(X)
	HF_CALLS_SPECIAL(X)
#undef X
};

extern struct hf_real hf_real;

/* Fill hf_real; idempotent, callable from several threads at once (all write the same values).  A name the C library
 * does not have (an older glibc) stays NULL. */
void hf_real_resolve(void);

/* Something of the C library's that is used and not interposed. */
struct hf_symbol {
	void *at;    /* NULL: not there */
	size_t size; /* as its symbol says */
};

/*
 * Look for COUNT names, functions or data, in the first object behind us that defines the first of them: all from one
 * object, whatever other libraries define.  Returns that object, or NULL.  Allocates nothing, takes no lock.
 */
const struct link_map *hf_real_locate(const char *const *wanted, struct hf_symbol *found, size_t count);

/* A function of the kernel's own object in this process, which is AT (vdso(7), AT_SYSINFO_EHDR): NULL, not there. */
void *hf_real_vdso(uintptr_t at, const char *name);

/* Prototypes of the layer that does the work: hf_read() and so on, one for each name. */
#define X(ret, name, params, args) ret hf_##name params;
HF_CALLS(X)
#undef X

#endif
