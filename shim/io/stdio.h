/*
 * libc's own stdio on wrapped connections: fprintf, fgets, fclose and all others, std::cout, dprintf, freopen.
 *
 * stdio reaches the kernel past the interposed names, and a byte that does so on a framed connection breaks it.  So
 * that none does, the jump tables of its streams (io/stdio_table.h) get a read, a write and a close of ours, which
 * hand the calls on our descriptors to the hooks and all others to libc's own functions.  In a process without wrapped
 * connections nothing is changed.
 *
 * hf_stdio_arm() may be called from any thread and from signal handlers; it blocks signals while it works and others
 * wait for it.  errno is preserved.
 */
#ifndef HOLDFAST_IO_STDIO_H
#define HOLDFAST_IO_STDIO_H

#include <stdbool.h>

/*
 * A wrapped connection begins, or one that was inherited has been recognised: from the return on stdio passes through
 * the library, or it has been told, once, that it cannot (event config).  Idempotent; one load when it is done.  Needs
 * hf_real to be resolved and reports to be open; callable before main.
 */
void hf_stdio_arm(void);

/* Whether stdio passes through the library. */
bool hf_stdio_armed(void);

/*
 * At exit, before connections are ended: what streams on our connections still hold is written.  libc does that too,
 * but after everything else, when a wrapped connection has already said its last word.
 */
void hf_stdio_exit(void);

#endif
