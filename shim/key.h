/*
 * The file of HOLDFAST_KEY_FILE: read by the constructor, and beforehand by "holdfast run", which has no use for the
 * bytes.  No state, no lock; system calls only, so that it works before libc is initialised.
 */
#ifndef HOLDFAST_KEY_H
#define HOLDFAST_KEY_H

#include <stddef.h>
#include <stdint.h>

enum { HF_KEY_ROOM = 4096 }; /* what a secret is cut to */

/*
 * The secret in PATH, into BYTES of ROOM: without the line ends at its end.  Its size, never 0, or -errno: of open(2)
 * and read(2), -ENODATA when nothing is in it, -EINVAL when it is no regular file (a pipe would hold up the program,
 * and have nothing left for the next).
 */
long hf_key_read(const char *path, uint8_t *bytes, size_t room);

/* ERROR of hf_key_read(), positive, in words that go on after "expected ". */
const char *hf_key_expected(int error);

#endif
