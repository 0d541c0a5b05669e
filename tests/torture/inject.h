/*
 * Included by shim/sys.h in the torture flavour only: every system call of the library's goes by hf_torture_call().
 */
#ifndef TORTURE_INJECT_H
#define TORTURE_INJECT_H

/* As hf_sys6().  From where it is called tells the site. */
__attribute__((visibility("hidden"))) long hf_torture_call(long nr, long a, long b, long c, long d, long e, long f);

#define hf_sys6(nr, a, b, c, d, e, f) hf_torture_call((nr), (a), (b), (c), (d), (e), (f))

#endif
