/*
 * Telling what happened to a connection.  Watchdog thread only, except hf_tell_now(), hf_tell_failed(),
 * hf_tell_reset() and hf_tell_alone().
 */
#ifndef HOLDFAST_WATCH_TELL_H
#define HOLDFAST_WATCH_TELL_H

#include "state/slot.h"

/* Tell every event of RULING that the level lets through, in order. */
void hf_tell(struct hf_slot *slot, uint64_t now, const struct hf_evidence *evidence, const struct hf_ruling *ruling);

/* Tell one event that no ruling gave: open, closed. EVIDENCE may be NULL. */
void hf_tell_one(struct hf_slot *slot, enum hf_event_kind kind, const struct hf_evidence *evidence);

/* The same from any thread, through FD; DETAIL may be NULL. */
void hf_tell_now(struct hf_slot *slot, int fd, enum hf_event_kind kind, const char *detail);

/* A wrapped connection has just been failed: corrupt, or what was wrong with its handshake.  Any thread, at once, for
 * the program may close it or end before the watchdog comes round. */
void hf_tell_failed(struct hf_slot *slot, int fd, int error);

/* A hook saw the peer's reset through FD: told at once, for the program may end before the watchdog comes round. */
void hf_tell_reset(struct hf_slot *slot, int fd);

/* The dead event of a connection that is not ended but may be resumed (io/resume.h). */
void hf_tell_reconnecting(struct hf_slot *slot, uint64_t now, const struct hf_evidence *evidence,
			  struct hf_ruling *ruling);

/* Of one that is resumed (io/resume.h) or made anew (io/redial.h): broken (REASON), resumed (DOWN ms, RESENT bytes),
 * gave-up (DOWN). */
void hf_tell_resume(struct hf_slot *slot, enum hf_event_kind kind, enum hf_reason reason, uint64_t down,
		    uint64_t resent);

/* There is no thread for the watchdog: told once a process. */
void hf_tell_alone(void);

/* It cannot get hold of a socket (hand.h): told once a process. */
void hf_tell_out_of_reach(void);

#endif
