/*
 * At load: the wrapped connections that a previous image of this process, or its parent, has left open for us (exec,
 * posix_spawn(3), inetd).
 */
#ifndef HOLDFAST_IO_INHERIT_H
#define HOLDFAST_IO_INHERIT_H

#include <stdbool.h>

/*
 * Find them, take part in them, start the watchdog for them and see to it that libc's stdio knows what they are.  The
 * arena must be there (hf_arena_inherit()), the library on.  False: there are none.
 */
bool hf_inherit(void);

#endif
