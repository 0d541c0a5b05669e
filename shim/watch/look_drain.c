/* A connection in wrap mode that the program has closed, until its last bytes have arrived. */
#include "io/keep.h"
#include "io/resume.h"
#include "io/wrap.h"
#include "runtime.h"
#include "watch/look.h"
#include "watch/look_inner.h"
#include "watch/socket.h"
#include "watch/tell.h"
#include "watch/watch.h"

#include <errno.h>

/* Closed by the program; its last bytes are on their way, for as long as the peer's kernel answers. */
void hf_look_drain(struct hf_slot *slot, uint64_t now)
{
	enum { AGAIN_MS = 8 };
	int fd = atomic_load(&slot->fd); /* of now: what it was when the look began the program may just have closed */
	struct hf_evidence evidence;
	struct hf_ruling ruling = {.gone = true};

	if (hf_socket_look(slot, fd, now, &evidence) && !hf_wrap_drained(slot, fd)) {
		struct hf_policy policy = hf_wrap_policy(slot, &hf_runtime.policy);

		/* What was looked at may have been the connection that a plain peer has turned away. */
		if (hf_wrap_calling(slot)) {
			hf_watch_schedule(slot, now + AGAIN_MS);
			return;
		}
		if (!slot->looked)
			hf_look_first(slot, now, fd, &evidence);
		hf_look_pause_seen(slot, now);
		policy.abort_on_dead = true;
		policy.stall_timeout = policy.half_close_timeout = 0;
		hf_judge_look(&slot->judge, &policy, now, &evidence, &ruling);
		/* What is on its way is sent again over another connection, if there may be one. */
		if ((ruling.end || ruling.gone) && hf_resume_lost(slot, ruling.gone ? ECONNRESET : ETIMEDOUT)) {
			hf_watch_schedule(slot, now + HF_WATCH_TICK_MS);
			return;
		}
		ruling.events &= 1U << HF_EV_DEAD;
		hf_tell(slot, now, &evidence, &ruling);
		if (!ruling.end && !ruling.gone) {
			if (ruling.ask)
				hf_socket_ask(slot, fd);
			hf_watch_schedule(slot, now + AGAIN_MS);
			return;
		}
	}
	hf_watch_schedule(slot, now + AGAIN_MS);
	if (hf_keep_end(slot))
		hf_watch_closed(slot);
}
