/*
 * Adoption: turning a descriptor into a watched connection, and letting go of it.
 *
 * Async-signal-safe; errno is preserved.
 */
#ifndef HOLDFAST_IO_ADOPT_H
#define HOLDFAST_IO_ADOPT_H

#include "state/slot.h"

#include <sys/socket.h>

/* What SO_DOMAIN, SO_TYPE and SO_PROTOCOL say: TCP over IPv4 or IPv6?  -errno if FD is no socket or not open. */
int hf_is_tcp(int fd);

/* Its state, as enum hf_tcp_state numbers them; -errno if it has none. */
int hf_tcp_state(int fd);

/*
 * Watch FD, a TCP socket just connected (CLIENT) or accepted.  ADDR is the address the rules look at: of the peer for
 * outgoing connections, NULL for accepted ones (the listening address is then asked for, if there are rules).
 * LEN: of ADDR; 0: the connection is not new, so it cannot be wrapped.  CONNECTING: connect(2) has not been seen to
 * succeed.  Replaces whatever the map said of FD.
 * Returns the slot, or NULL if the rules switch it off or there is no room.
 */
struct hf_slot *hf_adopt(int fd, bool client, bool connecting, const struct sockaddr *addr, socklen_t len);

/* Whether the rules say that FD is to be wrapped.  ADDR as in hf_adopt(). */
bool hf_wants_wrap(int fd, const struct sockaddr *addr);

/* FD was met for the first time: find out what it is.  Returns its slot if it is a connection, else NULL. */
struct hf_slot *hf_adopt_unknown(int fd, hf_fd_entry seen);

/* An entry that named a slot is gone (closed, replaced). FD is the number it stood at. */
void hf_release(hf_fd_entry entry, int fd);

/* The map says FD is SLOT but the kernel says otherwise: forget it. */
void hf_disown(int fd, struct hf_slot *slot);

/* SLOT's watchdog looks through FD, which is gone: another number of it.  False: the map has none. */
bool hf_move_to_duplicate(struct hf_slot *slot, int fd);

/* Whether FD is still the very socket SLOT watches. */
bool hf_same_socket(int fd, struct hf_slot *slot);

#endif
