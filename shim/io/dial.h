/*
 * Connecting a program's own socket again, which keeps its number, options, duplicates and epoll registrations: for a
 * plain peer that turned a HELLO away, a session that is resumed, an idle connection that is made anew.
 *
 * Raw system calls that do not wait; results are -errno.
 */
#ifndef HOLDFAST_IO_DIAL_H
#define HOLDFAST_IO_DIAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

/* connect(2), AF_UNSPEC: every sleeper in the kernel's calls wakes, and the state is CLOSE. */
int hf_hang_up(int fd);

/* What a dialling that failed has left to tell of itself: SO_ERROR, and the error queue (ip(7), MSG_ERRQUEUE), where
 * the kernel puts what was answered to a SYN whether asked for or not; poll(2) would say POLLERR of the next
 * connection. */
void hf_dial_forget(int fd);

/* connect(2) to ADDR that returns at once, whether FD is blocking or not: -EINPROGRESS as a rule. */
int hf_dial(int fd, const struct sockaddr *addr, socklen_t len);

/* Whether hf_dial() has begun something, or is done. */
bool hf_dialling(int error);

/* How long to rest after TRIES tries that failed, ms: twice as long each time, with up to a quarter more at random. */
uint32_t hf_dial_rest(uint32_t tries);

#endif
