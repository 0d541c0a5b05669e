/* Connections that may go on elsewhere: sessions that are resumed, idle connections that are made anew. */
#include "io/redial.h"
#include "io/resume.h"
#include "io/wrap.h"
#include "watch/look.h"
#include "watch/look_inner.h"
#include "watch/publish.h"
#include "watch/tell.h"

#include <errno.h>

/* Whether the connection is broken and may be resumed: then that is all there is to do. */
bool hf_look_resuming(struct hf_slot *slot, int fd, uint64_t now)
{
	uint64_t next;

	hf_resume_claim(slot);
	if (atomic_load(&hf_rare(slot)->offer) != 0)
		(void)hf_resume_lost(slot, ECONNRESET);
	/* Of several processes that have it one sees to it. */
	next = hf_resume_follow(slot, fd, now);
	if (next != 0) {
		hf_publish_end(slot);
		hf_watch_schedule(slot, next);
		return true;
	}
	if (!hf_resume_broken(hf_wrap_of(slot)) || hf_wrap_fate(slot) != 0)
		return false;
	next = hf_resume_tend(slot, fd, now);
	next = next != UINT64_MAX ? next : now + HF_WATCH_TICK_MS;
	hf_publish_broken(slot, now, next);
	hf_watch_schedule(slot, next);
	return true;
}

static bool path_ends(const struct hf_ruling *ruling)
{
	return ruling->end && ruling->reason == HF_WHY_PATH;
}

/* It is looked at again at once, for it is broken now. */
static void tell_instead(struct hf_slot *slot, uint64_t now, const struct hf_evidence *evidence,
			 struct hf_ruling *ruling)
{
	if (path_ends(ruling)) {
		ruling->end = false;
		ruling->events &= 1U << HF_EV_DEAD;
		hf_tell_reconnecting(slot, now, evidence, ruling);
	}
	hf_watch_schedule(slot, now + 1);
}

/* The verdict on a connection that may go on elsewhere: told, and not carried out. */
bool hf_look_resumed_instead(struct hf_slot *slot, uint64_t now, const struct hf_evidence *evidence,
			     struct hf_ruling *ruling)
{
	if (hf_wrap_of(slot) == NULL || hf_resume_of(slot) == NULL || (!path_ends(ruling) && !ruling->gone) ||
	    atomic_load(&slot->failed) != 0)
		return false;
	if (!hf_resume_lost(slot, path_ends(ruling) ? ETIMEDOUT : ECONNRESET))
		return false;
	tell_instead(slot, now, evidence, ruling);
	return true;
}

/* A connection in probe mode that is made anew: that is all there is to do. */
bool hf_look_redialling(struct hf_slot *slot, int fd, uint64_t now)
{
	uint64_t next;

	if (!hf_redial_broken(slot) || atomic_load(&slot->fate) != 0)
		return false;
	if (hf_redial_undecided(slot, now)) {
		hf_watch_schedule(slot, now + 1);
		return true;
	}
	next = hf_redial_tend(slot, fd, now);
	if (next == 0)
		hf_look_lost(slot, fd, now);
	else if (atomic_load(&slot->fate) != 0)
		hf_watch_done(slot);
	else
		hf_watch_schedule(slot, next != UINT64_MAX ? next : now + HF_WATCH_TICK_MS);
	return true;
}

/* The verdict on one that is to be: told, and not carried out. */
bool hf_look_redialled_instead(struct hf_slot *slot, int fd, uint64_t now, const struct hf_evidence *evidence,
			       struct hf_ruling *ruling)
{
	if (hf_redial_of(slot) == NULL || (!path_ends(ruling) && !ruling->gone) || atomic_load(&slot->failed) != 0 ||
	    !hf_redial_lost(slot, fd, ruling->gone))
		return false;
	tell_instead(slot, now, evidence, ruling);
	return true;
}
