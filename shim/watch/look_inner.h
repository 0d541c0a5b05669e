/* Between the files of a look (look.c, look_drain.c, look_again.c); nobody else's business. */
#ifndef HOLDFAST_WATCH_LOOK_INNER_H
#define HOLDFAST_WATCH_LOOK_INNER_H

#include "core/judge.h"
#include "state/slot.h"

/* What is known of SLOT, which the watchdog has as HAND, begins with EVIDENCE. */
void hf_look_first(struct hf_slot *slot, uint64_t now, int hand, const struct hf_evidence *evidence);

/* If a pause of ours has ended since its last look, its peer gets a fresh timeout. */
void hf_look_pause_seen(struct hf_slot *slot, uint64_t now);

/* The number FD no longer leads to the socket: closed where we could not see it. */
void hf_look_lost(struct hf_slot *slot, int fd, uint64_t now);

/* Closed by the program: a look is that, and nothing else. */
void hf_look_drain(struct hf_slot *slot, uint64_t now);

/* Whether SLOT is broken and may be resumed, or is being made anew: then that is all there is to do, and is done. */
bool hf_look_resuming(struct hf_slot *slot, int fd, uint64_t now);
bool hf_look_redialling(struct hf_slot *slot, int fd, uint64_t now);

/* Whether the verdict on it, which may go on elsewhere, is told and not carried out. */
bool hf_look_resumed_instead(struct hf_slot *slot, uint64_t now, const struct hf_evidence *evidence,
			     struct hf_ruling *ruling);
bool hf_look_redialled_instead(struct hf_slot *slot, int fd, uint64_t now, const struct hf_evidence *evidence,
			       struct hf_ruling *ruling);

#endif
