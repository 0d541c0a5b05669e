/*
 * Wrapped connections passed from process to process over a Unix socket (SCM_RIGHTS, unix(7)).
 */
#ifndef HOLDFAST_IO_PASS_H
#define HOLDFAST_IO_PASS_H

#include <sys/socket.h>

/* Before MSG is sent on FD: who passes a wrapped connection on no longer knows that it is the last to have it.  A
 * receiver without the library, as far as can be told, is reported. */
void hf_pass_sending(int fd, const struct msghdr *msg);

/* After MSG was received: its descriptors are new numbers of which nothing known may be believed; a wrapped connection
 * among them is taken up at once, for the sender may close it now. */
void hf_pass_received(const struct msghdr *msg);

/* The same for a descriptor taken out of another process (pidfd_getfd(2)), which does not learn of it.  Returns FD. */
int hf_pass_taken(int fd);

#endif
