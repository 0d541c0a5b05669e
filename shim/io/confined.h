/*
 * A process that has entered a seccomp sandbox (seccomp(2)) with wrapped connections.
 *
 * The filter was written for the program's own calls, and for any other it may kill the process.  But without us frames
 * would reach the program.  So the hooks go on with what every program that uses a connection must be allowed: read,
 * write, close, futex and the clock.  All other raw system calls of the library answer -EPERM from here on (sys.h).
 * Nothing is reported, nobody watches here: another process that holds the connection goes on beating; if there is
 * none, the peer has been told to expect no beats (HF_BEAT_SILENT).
 */
#ifndef HOLDFAST_IO_CONFINED_H
#define HOLDFAST_IO_CONFINED_H

#include "sys.h"

#include <stdbool.h>
#include <sys/socket.h>

/* Before the sandbox: handshakes are brought to their end, and what can no longer be asked is noted. */
void hf_confined_enter(void);

/* The sandbox was not entered after all. */
void hf_confined_failed(void);

/* O_NONBLOCK of FD as it was when the sandbox was entered. */
bool hf_confined_nonblocking(int fd);

/* As sendmsg(2) and recvmsg(2) with these FLAGS, perhaps of fewer bytes; *ASKED: of how many. */
ssize_t hf_confined_send(int fd, const struct iovec *iov, size_t count, int flags, size_t *asked);
ssize_t hf_confined_receive(int fd, const struct iovec *iov, int flags, size_t *asked);

#endif
