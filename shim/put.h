/*
 * Writing a line to a descriptor that may no longer be what it was, without harm to the program.
 *
 * Used by the sinks (sink.c) only; owns nothing, keeps nothing.  Raw system calls, async-signal-safe, errno untouched.
 */
#ifndef HOLDFAST_PUT_H
#define HOLDFAST_PUT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

/*
 * A descriptor and the identity of its file in one word, so that threads can share it as one atomic: 20 bits of
 * number, 44 bits made of device, inode and type.  0: none.
 */
enum { HF_PUT_ID_BITS = 44, HF_PUT_MAX_FD = (1 << (64 - HF_PUT_ID_BITS)) - 1 };

uint64_t hf_put_identity(int fd, const struct stat *st);

static inline int hf_put_fd(uint64_t own)
{
	return (int)(own >> HF_PUT_ID_BITS);
}

/*
 * FD, a descriptor of the program's, as one that lines may go to, into *OWN.  0 or -errno.  Sockets: AF_UNIX only
 * (journald), and not the one that is standard input too: that is a conversation (inetd style, ssh -s), not a log.
 */
int hf_put_choose(int fd, uint64_t *own);

/* Whether the descriptor in OWN is still the file it was chosen for; fills ST. */
bool hf_put_still(uint64_t own, struct stat *st);

/* The same by way of HAND (hand.h). */
bool hf_put_still_at(uint64_t own, int hand, struct stat *st);

/*
 * TEXT as a line of its own: a newline is added at the end if it has none, and in front if *TORN says that the line
 * before ended in the middle.  One system call, none that waits, no signal left behind.  MINE: FD was opened by us,
 * with O_NONBLOCK.  Returns 0, or -errno with nothing written, or -EIO after a part.
 */
int hf_put_line(int fd, const struct stat *st, _Atomic bool *torn, const char *text, size_t len, bool mine);

#endif
