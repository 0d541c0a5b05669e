/*
 * Included by shim/sys.h when the library is built to be fuzzed: every system call of its goes by hf_fuzz_call(), which
 * a target can have watched (guard.h).
 */
#ifndef FUZZ_CALLS_H
#define FUZZ_CALLS_H

/* As hf_sys6(). */
long hf_fuzz_call(long nr, long a, long b, long c, long d, long e, long f);

#define hf_sys6(nr, a, b, c, d, e, f) hf_fuzz_call((nr), (a), (b), (c), (d), (e), (f))

#endif
