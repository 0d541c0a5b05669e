/*
 * HOLDFAST_CONNECT_TIMEOUT: a bound on connect(2).
 *
 * The watchdog ends an attempt that outlives it.  Behind it stands the kernel's own bound for a process whose watchdog
 * cannot run: TCP_USER_TIMEOUT also limits the SYN (tcp(7)), lent for the attempt and taken back as soon as it has
 * succeeded or failed, for on a live connection it kills slow peers.
 */
#ifndef HOLDFAST_IO_BOUND_H
#define HOLDFAST_IO_BOUND_H

#include "state/slot.h"

void hf_bound(struct hf_slot *slot, int fd);

/* The attempt is over, or known to have succeeded. Callable by hooks and watchdog alike; the first one does it. */
void hf_unbound(struct hf_slot *slot, int fd);

#endif
