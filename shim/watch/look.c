/* One look at one connection, and what follows from it: see look.h. */
#include "watch/look.h"
#include "hand.h"
#include "io/adopt.h"
#include "io/bound.h"
#include "io/keep.h"
#include "io/redial.h"
#include "io/resume.h"
#include "io/wrap.h"
#include "runtime.h"
#include "state/proc.h"
#include "sys.h"
#include "watch/look_inner.h"
#include "watch/publish.h"
#include "watch/socket.h"
#include "watch/tell.h"
#include "watch/watch.h"

#include <errno.h>

enum {
	BLIND_MS = 100,
	MOST_PROBES = 100, /* left unanswered by a connection told dead and left alone; the kernel stops at 127 */
};

static uint32_t pauses; /* of ours, so far */

void hf_look_paused(void)
{
	pauses++;
}

void hf_look_first(struct hf_slot *slot, uint64_t now, int hand, const struct hf_evidence *evidence)
{
	bool connecting = atomic_load(&slot->connecting) != 0 && evidence->state == HF_TCP_SYN_SENT;
	uint64_t since = atomic_load(&slot->start);

	slot->looked = true;
	slot->timeout = hf_runtime.policy.timeout;
	slot->pause_seen = pauses;
	hf_judge_init(&slot->judge, since != 0 ? since : now, connecting);
	hf_socket_names(slot, hand);
}

void hf_look_pause_seen(struct hf_slot *slot, uint64_t now)
{
	if (slot->pause_seen == pauses)
		return;
	slot->pause_seen = pauses;
	hf_judge_pause(&slot->judge, now);
	hf_wrap_pause(slot, now);
}

void hf_look_lost(struct hf_slot *slot, int fd, uint64_t now)
{
	enum { AGAIN_MS = 100, MOST = 30 };

	/* The close may just be under way; its hook will tell.  A duplicate may be left. Either way look again. */
	hf_watch_schedule(slot, now + AGAIN_MS);
	hf_disown(fd, slot);
	if (atomic_load(&slot->stage) != HF_STAGE_WATCHED || hf_move_to_duplicate(slot, fd) || ++slot->tries < MOST)
		return;
	/* Nobody will tell: the thread was cancelled in its close (pthread_cancel(3)).  A close that still lingers
	 * finds the slot gone or another generation of it. */
	atomic_store(&slot->refs, 0);
	hf_watch_closed(slot);
}

/* It is open and cannot be had. The program's next connection brings us its table again; until then it is not seen. */
static void out_of_reach(struct hf_slot *slot, uint64_t now)
{
	hf_watch_want_shared();
	hf_tell_out_of_reach();
	hf_watch_schedule(slot, now + BLIND_MS);
}

/* What hf_hand_take() said of FD, where that is not SLOT's socket. */
static void not_had(struct hf_slot *slot, int fd, int hand, uint64_t now)
{
	if (hand >= 0 || hand == -EBADF)
		hf_look_lost(slot, fd, now);
	else
		out_of_reach(slot, now);
}

/*
 * While something is told nothing of the program's is in our hand: what reports are written to may block, and a close
 * of the program's waits for us no longer than hf_look_away() says.
 */
static void put_down(int *hand)
{
	hf_hand_drop(*hand);
	*hand = -1;
}

/* False: it cannot be had, or is another socket by now; that is seen to. */
static bool pick_up(struct hf_slot *slot, int fd, int *hand, uint64_t now)
{
	*hand = hf_hand_take(fd);
	if (*hand >= 0 && (!hf_hand_own() || hf_same_socket(*hand, slot)))
		return true;
	not_had(slot, fd, *hand, now);
	return false;
}

static bool established(struct hf_slot *slot, int fd, int *hand, uint64_t now, const struct hf_evidence *evidence)
{
	if (evidence->state == HF_TCP_SYN_SENT || evidence->state == HF_TCP_CLOSE)
		return true;
	hf_unbound(slot, *hand);
	if (atomic_load(&slot->tuned) != 0)
		return true;
	hf_socket_names(slot, *hand);
	hf_socket_tune(slot, *hand);
	put_down(hand);
	hf_tell_one(slot, HF_EV_OPEN, evidence);
	return pick_up(slot, fd, hand, now);
}

static void end(struct hf_slot *slot, int hand, uint64_t now, const struct hf_evidence *evidence,
		const struct hf_ruling *ruling)
{
	uint32_t more;

	hf_wrap_share_fate(slot, ETIMEDOUT);
	if (ruling->gone) {
		hf_watch_done(slot);
		return;
	}
	more = hf_socket_end(slot, hand, ruling->reason == HF_WHY_PATH, evidence, now);
	if (more != 0)
		hf_watch_schedule(slot, now + more);
	else
		hf_watch_done(slot);
}

static void end_more(struct hf_slot *slot, uint64_t now)
{
	int hand = hf_hand_take(atomic_load(&slot->fd));
	uint32_t more = hand >= 0 ? hf_socket_end_more(slot, hand, now) : hand == -EBADF ? 0 : BLIND_MS;

	hf_hand_drop(hand);
	if (more != 0)
		hf_watch_schedule(slot, now + more);
	else
		hf_watch_done(slot);
}

static void act(struct hf_slot *slot, int fd, int *held, uint64_t now, const struct hf_evidence *evidence,
		const struct hf_ruling *ruling)
{
	int hand;

	/* What is to be ended is not let go of before it is. */
	if (ruling->events != 0 && !ruling->end)
		put_down(held);
	hf_tell(slot, now, evidence, ruling);
	if (*held < 0 && !pick_up(slot, fd, held, now))
		return;
	hand = *held;
	if (slot->judge.dead && !ruling->end && !ruling->gone && !slot->resting && evidence->probes > MOST_PROBES) {
		/* Told and left alone: the kernel's limit on unanswered probes must not end it in our place. */
		hf_socket_restore(slot, hand);
		slot->resting = true;
	} else if (slot->resting && ruling->silent < hf_runtime.policy.timeout) {
		slot->resting = false;
		hf_socket_retune(slot, hand);
	}
	if (ruling->end) {
		end(slot, hand, now, evidence, ruling);
		return;
	}
	if (ruling->gone) {
		hf_fd_entry entry = hf_slot_entry(slot);

		if (hf_wrap_of(slot) != NULL) {
			hf_watch_done(slot); /* still ours: what waits unread is frames, not the program's */
			return;
		}
		hf_socket_restore(slot, hand);
		/* From here on the slot may be another connection's, even one of the same number. */
		hf_watch_done(slot);
		if (hf_fdmap_replace(fd, entry, HF_FD_UNKNOWN))
			hf_release(entry, fd);
		return;
	}
	if (ruling->ask && !slot->resting) {
		hf_socket_ask(slot, hand);
	} else if (slot->asking && evidence->probes == 0) {
		slot->asking = false;
		hf_socket_retune(slot, hand);
	}
	hf_watch_schedule(slot, ruling->next);
}

/* The peer does not speak holdfast: from here on the connection is like any other, or a new one on the same socket. */
static void turned_plain(struct hf_slot *slot, uint64_t now)
{
	atomic_store(&slot->wrap_tried, 0);
	atomic_store(&slot->start, now);
	slot->looked = false;
	slot->turned_plain = true;
}

/* The handshake has connected the socket again: nothing known of its last life counts. */
static void look_redialed(struct hf_slot *slot, uint64_t now)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);

	if (wrap == NULL || atomic_exchange(&wrap->renew, 0) == 0)
		return;
	atomic_store(&slot->start, now);
	slot->looked = false;
}

/* The plain event, once it is connected again. */
static void look_plain(struct hf_slot *slot, uint64_t now, const struct hf_evidence *evidence, struct hf_ruling *ruling)
{
	bool turning = atomic_load(&slot->wrap_tried) != 0 && hf_wrap_of(slot) == NULL;

	if (slot->turned_plain && evidence->state == HF_TCP_ESTABLISHED) {
		slot->turned_plain = false;
		ruling->events |= 1U << HF_EV_PLAIN;
	}
	if ((turning || slot->turned_plain) && ruling->next > now + UINT64_C(4) * HF_WATCH_TICK_MS)
		ruling->next = now + UINT64_C(4) * HF_WATCH_TICK_MS;
}

/* The hidden channel's share of a look. */
static void look_wrapped(struct hf_slot *slot, int fd, uint64_t now, const struct hf_policy *policy,
			 const struct hf_evidence *evidence, struct hf_ruling *ruling)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint32_t phase;
	uint64_t next;

	if (wrap == NULL)
		return; /* plain since a moment ago */
	phase = atomic_load(&wrap->phase);
	if (ruling->gone && phase != HF_PHASE_ON) {
		/* A peer that does not understand our HELLO may well reset the connection: that is what the fallback
		 * is for, and the one that follows is judged afresh.  It may even be quicker than the thread that has
		 * just said it. */
		*ruling = (struct hf_ruling){.next = now + HF_WATCH_TICK_MS};
		slot->looked = false;
	}
	if (ruling->gone && ruling->reason == HF_WHY_RESET && !hf_resume_lost(slot, ECONNRESET))
		hf_wrap_vanished(slot, fd);
	if (ruling->end || ruling->gone)
		return;
	next = hf_wrap_tend(slot, fd, now, evidence);
	if (next < ruling->next)
		ruling->next = next;
	if (atomic_load(&wrap->phase) == HF_PHASE_ON && !wrap->told) {
		wrap->told = true;
		ruling->events |= 1U << HF_EV_WRAPPED;
	}
	hf_wrap_judge(slot, now, policy, evidence, ruling);
}

/* Another process's watchdog speaks for the connection (state/hold.h): all there is to do is to be there when it stops.
 */
static bool stand_aside(struct hf_slot *slot, uint64_t now)
{
	enum { AGAIN_MS = 200 };
	uint32_t half = hf_runtime.policy.interval / 2;

	if (hf_wrap_of(slot) == NULL || atomic_load(&slot->failed) != 0)
		return false;
	if (hf_wrap_fate(slot) != 0) {
		hf_watch_done(slot);
		return true;
	}
	if (!hf_wrap_keep(slot, now)) {
		slot->aside = true;
		hf_publish_end(slot);
		hf_watch_schedule(slot, now + (half < AGAIN_MS ? half : AGAIN_MS));
		return true;
	}
	if (slot->aside) {
		/* Taken over: nothing is known of what went before, and the peer gets a fresh timeout. */
		slot->aside = slot->looked = false;
		hf_wrap_pause(slot, now);
	}
	return false;
}

/* A hook has refused to go on: whatever was judged, this is the end. */
static void fail(struct hf_slot *slot, struct hf_ruling *ruling)
{
	atomic_store(&slot->failed, 0);
	ruling->events = 0; /* hf_tell_failed() has told */
	ruling->reason = HF_WHY_NONE;
	ruling->end = true;
	ruling->gone = false;
}

/*
 * Whether the ruling is not to be acted upon.  While we looked, a hook found the peer to be plain (WRAP is what there
 * was before): what was seen may be the end of the connection that the peer turned away, and the program has another
 * by now.  And a slot that a thread is waiting in is not let go of for another connection to have.
 */
static bool of_last_life(struct hf_slot *slot, const struct hf_wrap *wrap, const struct hf_ruling *ruling)
{
	return wrap != hf_wrap_of(slot) || (ruling->gone && hf_wrap_of(slot) == NULL && hf_wrap_busy(slot));
}

/*
 * When to look again if DUE is what the judge asks for: far ahead, a look waits for others, up to half a tick, for a
 * wake-up costs more than a look.  Looks that are near (verdicts, questions) are not moved.
 */
static uint64_t in_company(const struct hf_policy *policy, uint64_t now, uint64_t due)
{
	uint64_t grain = hf_judge_tick(policy) / 2;

	return due < now + 16 * grain ? due : (due + grain - 1) / grain * grain;
}

/* Quiet evidence never does; this is where that is made sure of. */
static bool leads_to_anything(const struct hf_ruling *ruling)
{
	return ruling->events != 0 || ruling->end || ruling->gone || ruling->ask;
}

/* Whether HAND is SLOT's socket, of whose quiet evidence that has not been asked. */
static bool proved(struct hf_slot *slot, int hand, struct hf_evidence *evidence)
{
	if (!evidence->quiet)
		return true;
	evidence->quiet = false;
	return hf_same_socket(hand, slot);
}

/*
 * The kernel has ended it, and before that the peer had ended its direction: to a read that is an end, whatever has
 * become of the connection (read(2)).  Of a wrapped one only the peer's frames tell.
 */
static bool ended_before(struct hf_slot *slot, const struct hf_ruling *ruling)
{
	const struct hf_wrap *wrap = hf_wrap_of(slot);

	if (!ruling->end || !ruling->gone || ruling->reason != HF_WHY_PATH)
		return false;
	return wrap != NULL ? wrap->rx.fin || wrap->rx.bye : hf_tcp_peer_ended(slot->judge.state);
}

/* FD, what the slot says, is HELD in our hand. */
static void examine(struct hf_slot *slot, int fd, int *held, uint64_t now)
{
	struct hf_policy policy = hf_runtime.policy, own;
	struct hf_evidence evidence;
	struct hf_ruling ruling;
	struct hf_wrap *wrap = hf_wrap_of(slot);
	int hand = *held;

	if (!hf_socket_look(slot, hand, now, &evidence) ||
	    (slot->pause_seen != pauses && slot->looked && !proved(slot, hand, &evidence))) {
		if (atomic_load(&slot->cookie) != 0 && hf_same_socket(hand, slot))
			hf_watch_schedule(slot, now + BLIND_MS); /* the kernel does not tell us of it: no verdict */
		else
			hf_look_lost(slot, fd, now);
		return;
	}
	slot->tries = 0;
	if (stand_aside(slot, now))
		return;
	if (atomic_load(&slot->wrap_tried) != 0 && hf_wrap_of(slot) == NULL)
		turned_plain(slot, now);
	look_redialed(slot, now);
	if (!slot->looked)
		hf_look_first(slot, now, hand, &evidence);
	if (!established(slot, fd, held, now, &evidence))
		return;
	hand = *held;
	hf_look_pause_seen(slot, now);
	if (slot->timeout != 0)
		policy.timeout = slot->timeout;
	if (atomic_load(&slot->lent) != 0)
		policy.data_timeout = atomic_load(&slot->program_user_timeout);
	own = hf_wrap_policy(slot, &policy);
	hf_judge_look(&slot->judge, &own, now, &evidence, &ruling);
	if (leads_to_anything(&ruling) && !proved(slot, hand, &evidence)) {
		hf_look_lost(slot, fd, now);
		return;
	}
	if (hf_wrap_of(slot) != NULL)
		look_wrapped(slot, fd, now, &policy, &evidence, &ruling);
	if (of_last_life(slot, wrap, &ruling)) {
		slot->looked = false;
		hf_watch_schedule(slot, now + UINT64_C(4) * HF_WATCH_TICK_MS);
		return;
	}
	if (hf_look_resumed_instead(slot, now, &evidence, &ruling) ||
	    hf_look_redialled_instead(slot, fd, now, &evidence, &ruling))
		return;
	look_plain(slot, now, &evidence, &ruling);
	if (hf_wrap_of(slot) == NULL)
		ruling.next = in_company(&policy, now, ruling.next);
	if (atomic_load(&slot->failed) != 0)
		fail(slot, &ruling);
	if (ruling.gone && ruling.reason == HF_WHY_RESET && hf_wrap_both_ended(slot))
		ruling.events &= ~(1U << HF_EV_DEAD); /* both had ended; a beat crossed the close */
	if (ended_before(slot, &ruling))
		ruling.end = false;
	hf_publish(slot, hand, now, &policy, &evidence, &ruling);
	act(slot, fd, held, now, &evidence, &ruling);
}

static void look(struct hf_slot *slot, uint64_t now)
{
	struct hf_wrap *wrap;
	int fd = atomic_load(&slot->fd), hand;

	if (atomic_load(&slot->stage) == HF_STAGE_CLOSED)
		return; /* just now: it is in the mail; its socket may be in its next life */
	/* Whoever slept in it when it was closed is out: now it is closed.  But the program's own close comes first. */
	if (atomic_load(&slot->left) != 0 && atomic_load(&slot->refs) == 0 && !hf_wrap_busy(slot)) {
		atomic_store(&slot->draining, 1);
		slot->dying = HF_DYING_NO;
	}
	if (slot->dying != HF_DYING_NO) {
		end_more(slot, now);
		return;
	}
	wrap = hf_wrap_of(slot);
	if (wrap != NULL && (hf_resume_of(slot) != NULL || (hf_resume_stale(slot, wrap) && hf_resume_notice(slot))) &&
	    atomic_load(&slot->failed) == 0 && hf_look_resuming(slot, fd, now))
		return;
	if (hf_redial_of(slot) != NULL && atomic_load(&slot->failed) == 0 && hf_look_redialling(slot, fd, now))
		return;
	if (atomic_load(&slot->draining) != 0) {
		hf_look_drain(slot, now);
		return;
	}
	hand = hf_hand_take(fd);
	if (hand >= 0)
		examine(slot, fd, &hand, now);
	else
		not_had(slot, fd, hand, now);
	hf_hand_drop(hand);
}

void hf_look(struct hf_slot *slot, uint64_t now)
{
	enum { MOST = 250 }; /* a second: a thread may have been cancelled in its close */
	uint32_t epoch = atomic_load(hf_proc_epoch);

	/* Announce, then ask; hf_look_away() does it the other way round. */
	atomic_store(&slot->looking, epoch);
	if (atomic_load(&slot->parting) != epoch)
		slot->put_off = 0;
	if (atomic_load(&slot->parting) != epoch || slot->put_off >= MOST) {
		look(slot, now);
	} else if (atomic_load(&slot->stage) != HF_STAGE_CLOSED) {
		slot->put_off++;
		hf_watch_schedule(slot, now + HF_WATCH_TICK_MS);
	}
	atomic_store(&slot->looking, 0);
}

void hf_look_away(struct hf_slot *slot)
{
	enum { MOST = 12000 };
	const struct timespec moment = {0, 20000};
	uint32_t epoch = atomic_load(hf_proc_epoch);

	atomic_store(&slot->parting, epoch);
	for (int i = 0; i < MOST && atomic_load(&slot->looking) == epoch; i++)
		hf_sys_nanosleep(&moment, NULL);
}

void hf_look_again(struct hf_slot *slot)
{
	atomic_store(&slot->parting, 0);
}
