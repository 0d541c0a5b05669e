/*
 * What the watchdog asks of, and does to, one socket.  Every function takes the descriptor the slot says and trusts
 * it only as far as the cookie does.  Watchdog thread only, except those that tune and restore, which hooks call as
 * well.
 */
#ifndef HOLDFAST_WATCH_SOCKET_H
#define HOLDFAST_WATCH_SOCKET_H

#include "state/slot.h"

/* Read what is to be read once a process. Called in the program's own thread, before the watchdog starts. */
void hf_socket_prepare(void);

/* Gather the evidence of SLOT through FD. False: FD is no longer that socket, which is not asked if the evidence is
 * quiet: before anything is done hf_same_socket() must say it.  NOW: of a look of the watchdog's (ms, CLOCK_MONOTONIC),
 * which is spared what the last one makes known; 0 in hooks. */
bool hf_socket_look(struct hf_slot *slot, int fd, uint64_t now, struct hf_evidence *evidence);

/* Once a connection: the program's keepalive into the slot, the stricter one into the kernel, the retransmission
 * timer bounded.  Sets slot->timeout. */
void hf_socket_tune(struct hf_slot *slot, int fd);

/* The merged keepalive into the kernel again, after the program set its own or a spell of questions ended. */
void hf_socket_retune(struct hf_slot *slot, int fd);

/* The connection is over and its socket may see another: the kernel gets back what the program had set. */
void hf_socket_restore(struct hf_slot *slot, int fd);

/* Make the kernel send a keepalive probe now, if nothing was received for a second. */
void hf_socket_ask(struct hf_slot *slot, int fd);

/* The addresses of both ends into the slot. */
void hf_socket_names(struct hf_slot *slot, int fd);

/*
 * A duplicate of FD to act through: whatever the program does with its number meanwhile, it is the socket whose cookie
 * we have read.  A process that has run out of descriptors must be content with FD itself.  -1: it is gone.
 */
int hf_socket_grip(struct hf_slot *slot, int fd);
void hf_socket_let_go(int copy, int fd);

/*
 * End the connection, in steps that never sleep: start with hf_socket_end(), then hf_socket_end_more() whenever the
 * returned number of milliseconds has passed, until it is 0.  IDLE: nothing was on its way and only the path is dead.
 */
uint32_t hf_socket_end(struct hf_slot *slot, int fd, bool path, const struct hf_evidence *evidence, uint64_t now);
uint32_t hf_socket_end_more(struct hf_slot *slot, int fd, uint64_t now);

#endif
