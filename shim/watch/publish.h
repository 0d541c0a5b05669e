/*
 * What the watchdog shows of its connections to operators: `holdfast top` and its like read it through /proc, without
 * help from this process.  Watchdog thread only, except hf_publish_prepare() and hf_publish_end().
 */
#ifndef HOLDFAST_WATCH_PUBLISH_H
#define HOLDFAST_WATCH_PUBLISH_H

#include "state/slot.h"

/* Once a process, in the program's own thread, before the watchdog starts: the arena to publish in. */
void hf_publish_prepare(void);

/* A look at SLOT is over.  FD, EVIDENCE, POLICY, RULING as in that look. */
void hf_publish(struct hf_slot *slot, int hand, uint64_t now, const struct hf_policy *policy,
		const struct hf_evidence *evidence, const struct hf_ruling *ruling);

/* An event that no look gave; GIVES_UP_AT of a broken connection, else 0. */
void hf_publish_event(struct hf_slot *slot, enum hf_event_kind kind, enum hf_reason reason, uint64_t now,
		      uint64_t gives_up_at);

/* A broken connection is being seen to. */
void hf_publish_broken(struct hf_slot *slot, uint64_t now, uint64_t next);

/* Another process speaks for SLOT now, or it is no more. */
void hf_publish_end(struct hf_slot *slot);

#endif
