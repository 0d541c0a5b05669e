#include "watch/publish.h"
#include "io/wrap.h"
#include "runtime.h"
#include "state/family.h"
#include "state/view.h"
#include "sys.h"

#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>

/* What watching a connection costs in memory, if nothing has happened to it: the promise of README, "Cost". */
_Static_assert(sizeof(struct hf_slot) + HF_ARENA_VIEW_SIZE <= 512, "a hundred thousand connections in 50 MB");

void hf_publish_prepare(void)
{
	/* Where connections may be wrapped there is one arena for a family, made by who listens or connects: with one
	 * of its own this process could not take up what others pass to it. */
	if (hf_arena() == NULL && (hf_runtime.config.mode == HF_MODE_WRAP || hf_runtime.config.nrules != 0))
		return;
	if (hf_arena_make(hf_wrap_layout(), false))
		(void)hf_family_join(hf_runtime.prog);
}

/* Which of 2^b, b = 0..., VALUE is below. */
static unsigned bucket(uint64_t value)
{
	unsigned b = value == 0 ? 0 : 64 - (unsigned)__builtin_clzll(value);

	return b < HF_COUNT_BUCKETS ? b : HF_COUNT_BUCKETS - 1;
}

static void add(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static void count(const struct hf_ruling *ruling)
{
	struct hf_arena *head = hf_arena();

	for (uint32_t left = ruling->events; head != NULL && left != 0; left &= left - 1) {
		unsigned kind = (unsigned)__builtin_ctz(left);

		add(&head->counts.events[kind], 1);
		if (kind != HF_EV_DEAD)
			continue;
		add(&head->counts.dead[ruling->reason], 1);
		if (ruling->reason == HF_WHY_RESET)
			continue;
		add(&head->counts.detection_ms[bucket(ruling->silent)], 1);
		add(&head->counts.detection_sum, ruling->silent);
	}
}

static void note_events(struct hf_arena_view *view, uint32_t place, const struct hf_ruling *ruling)
{
	struct timespec ts = {0, 0};

	if (ruling->events != 0)
		hf_sys_clock_gettime(CLOCK_REALTIME, &ts);
	for (uint32_t left = ruling->events; left != 0; left &= left - 1) {
		const struct hf_view_event event = {
			.at = (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000,
			.kind = (uint8_t)__builtin_ctz(left),
			.reason = (uint8_t)ruling->reason,
			.ended = ruling->end,
		};

		hf_view_add_event(view, place, &event);
	}
}

static void note_rtt(struct hf_arena_view *view, uint32_t place, uint32_t rtt)
{
	struct hf_arena *head = hf_arena();

	if (rtt == 0)
		return;
	hf_view_add_rtt(view, place, rtt);
	add(&head->counts.rtt_us[bucket(rtt)], 1);
	add(&head->counts.rtt_sum, rtt);
}

/* What does not change while the connection lives. */
static void fill_once(struct hf_arena_view *view, struct hf_slot *slot, uint64_t now)
{
	struct hf_arena *head = hf_arena();

	view->since = now;
	view->cookie = atomic_load(&slot->cookie);
	add(&head->counts.watched, 1);
}

static void fill_policy(struct hf_arena_view *view, const struct hf_policy *policy)
{
	view->interval = policy->interval;
	view->timeout = policy->timeout;
	view->reply_timeout = policy->reply_timeout;
	view->stall_timeout = policy->stall_timeout;
	view->half_close_timeout = policy->half_close_timeout;
	view->ends = (uint8_t)((policy->abort_on_dead ? 1U : 0) | (policy->abort_on_unanswered ? 2U : 0) |
			       (policy->abort_on_stall ? 4U : 0) | (policy->abort_on_half_close ? 8U : 0));
}

/* What most connections never are: stalled, or half-closed with frames. */
static void set_since(struct hf_arena_view *view, uint32_t place, uint64_t stalled, uint64_t half)
{
	struct hf_arena_more *more;

	if (stalled == 0 && half == 0 && (view->apart & HF_APART_MORE) == 0)
		return;
	more = hf_view_more(place);
	if (more == NULL)
		return;
	more->stalled_since = stalled;
	more->half_since = half;
}

static void fill_kernel(struct hf_arena_view *view, struct hf_slot *slot, int fd, const struct hf_evidence *evidence)
{
	const struct hf_judge *judge = &slot->judge;
	int queued = 0;

	/* With nothing on its way and nothing waiting it is 0: that needs no system call. */
	if (evidence->state == HF_TCP_ESTABLISHED && evidence->unacked == 0 && evidence->notsent == 0)
		view->unacked = 0;
	else if (hf_sys_ioctl(fd, SIOCOUTQ, &queued) == 0 && queued >= 0)
		view->unacked = (uint32_t)queued;
	view->state = (uint8_t)evidence->state;
	view->rtt_us = evidence->rtt_us;
	view->unread = evidence->unread;
	view->probes = (uint8_t)evidence->probes;
	view->backoff = (uint8_t)evidence->backoff;
	view->retransmits = (uint8_t)evidence->retransmits;
	view->snd_wnd = evidence->snd_wnd;
	if (view->sent != evidence->bytes_acked || view->received != evidence->bytes_received)
		note_rtt(view, slot->view, evidence->rtt_us);
	view->sent = evidence->bytes_acked;
	view->received = evidence->bytes_received;
	view->heard_at = judge->life_at;
	view->moved_at = judge->moved_at;
	view->asked_since = judge->asked_since;
	view->owed_since = judge->owed_since;
	set_since(view, slot->view, judge->stalled_since, 0);
	view->flags = (uint16_t)((judge->late ? HF_VIEW_LATE : 0U) | (judge->stalled ? HF_VIEW_STALLED : 0U) |
				 (judge->half_closed ? HF_VIEW_HALF_CLOSED : 0U) | (judge->dead ? HF_VIEW_DEAD : 0U));
}

static void set_flags(struct hf_arena_view *view, unsigned flags)
{
	view->flags = (uint16_t)(view->flags | flags);
}

/* After a look that found the connection as the last one had left it: what may have changed all the same. */
static void fill_quiet(struct hf_arena_view *view, const struct hf_judge *judge, const struct hf_evidence *evidence)
{
	view->heard_at = judge->life_at;
	view->asked_since = judge->asked_since;
	view->rtt_us = evidence->rtt_us;
	view->snd_wnd = evidence->snd_wnd;
	view->probes = view->backoff = view->retransmits = 0;
}

static void copy_text(char *to, size_t room, const char *from)
{
	memcpy(to, from, strnlen(from, room));
}

static void fill_wrap(struct hf_arena_view *view, uint32_t place, const struct hf_wrap *wrap)
{
	const struct hf_session *session = &wrap->session;
	struct hf_arena_more *more;

	if (atomic_load(&wrap->phase) != HF_PHASE_ON) {
		view->session = HF_VIEW_HANDSHAKE;
		return;
	}
	more = hf_view_more(place);
	if (more == NULL)
		return;
	view->session = (uint8_t)session->state;
	view->unread = (uint32_t)session->unread; /* without the beats that stood before it */
	if (session->beats_received != more->beats_received)
		note_rtt(view, place, session->rtt_us);
	more->beats_sent = session->beats_sent;
	more->beats_received = session->beats_received;
	more->beat_rtt_us = session->rtt_us;
	more->beat_heard_at = session->heard_at;
	if (session->moved_at != 0)
		view->moved_at = session->moved_at;
	more->peer_unread = session->peer_unread;
	more->peer_unread_ms = session->peer_unread_ms;
	view->owed_since = wrap->owed_since;
	more->stalled_since = wrap->stalled_since;
	more->half_since = wrap->half_since;
	set_flags(view, (wrap->stalled_since != 0 ? HF_VIEW_STALLED : 0U) |
				(wrap->half_since != 0 ? HF_VIEW_HALF_CLOSED : 0U) | (wrap->hung ? HF_VIEW_DEAD : 0U));
	if (more->peer_pid == 0) {
		more->peer_pid = wrap->peer.pid;
		copy_text(more->peer_prog, sizeof(more->peer_prog), wrap->peer.prog);
		copy_text(more->peer_host, sizeof(more->peer_host), wrap->peer.host);
		copy_text(more->peer_info, sizeof(more->peer_info), wrap->peer.info);
	}
}

static void fill_names(struct hf_arena_view *view, struct hf_slot *slot, int fd)
{
	view->fd = fd;
	view->mode = hf_wrap_of(slot) != NULL ? HF_MODE_WRAP : HF_MODE_PROBE;
	view->role = atomic_load(&slot->has_role) == 0 ? 0 : atomic_load(&slot->client) != 0 ? 1 : 2;
	view->names = slot->ends;
}

static void set_times(struct hf_arena_view *view, uint64_t now, uint64_t next)
{
	uint64_t in = next > now ? next - now : 0;

	view->looked_at = now;
	view->next_in = in < UINT32_MAX ? (uint32_t)in : UINT32_MAX;
}

void hf_publish(struct hf_slot *slot, int hand, uint64_t now, const struct hf_policy *policy,
		const struct hf_evidence *evidence, const struct hf_ruling *ruling)
{
	struct hf_arena_view *view;
	const struct hf_wrap *wrap = hf_wrap_of(slot);
	int fd = atomic_load(&slot->fd);

	if (hf_arena() == NULL)
		return;
	count(ruling);
	view = hf_view_at(slot->view);
	if (view == NULL) {
		slot->view = hf_view_take();
		view = hf_view_at(slot->view);
		if (view == NULL)
			return;
		hf_view_begin(view);
		fill_once(view, slot, now);
		hf_view_end(view);
	}
	hf_view_begin(view);
	set_times(view, now, ruling->next);
	if (evidence->quiet && view->timeout == policy->timeout && view->fd == fd) {
		fill_quiet(view, &slot->judge, evidence);
		hf_view_end(view);
		return;
	}
	fill_names(view, slot, fd);
	fill_policy(view, policy);
	fill_kernel(view, slot, hand, evidence);
	if (wrap != NULL)
		fill_wrap(view, slot->view, wrap);
	if (ruling->end || ruling->gone)
		set_flags(view, HF_VIEW_ENDED | (ruling->reason != HF_WHY_NONE ? HF_VIEW_DEAD : 0U));
	if (atomic_load(&slot->draining) != 0)
		set_flags(view, HF_VIEW_DRAINING);
	note_events(view, slot->view, ruling);
	hf_view_end(view);
}

void hf_publish_end(struct hf_slot *slot)
{
	struct hf_arena *head = hf_arena();
	uint32_t place = slot->view;

	if (place == 0 || head == NULL)
		return;
	slot->view = 0;
	if (hf_view_at(place) == NULL)
		return;
	add(&head->counts.ended, 1);
	hf_view_give(place);
}

void hf_publish_broken(struct hf_slot *slot, uint64_t now, uint64_t next)
{
	struct hf_arena_view *view = hf_arena() != NULL ? hf_view_at(slot->view) : NULL;

	if (view == NULL)
		return;
	hf_view_begin(view);
	set_times(view, now, next);
	hf_view_end(view);
}

void hf_publish_event(struct hf_slot *slot, enum hf_event_kind kind, enum hf_reason reason, uint64_t now,
		      uint64_t gives_up_at)
{
	const struct hf_ruling ruling = {.events = 1U << kind, .reason = reason};
	struct hf_arena_view *view = hf_view_at(slot->view);
	struct hf_arena_more *more;

	if (hf_arena() == NULL)
		return;
	count(&ruling);
	if (view == NULL)
		return;
	hf_view_begin(view);
	more = hf_view_more(slot->view);
	if (more != NULL) {
		more->gives_up_at = gives_up_at;
		more->broken_at = gives_up_at != 0 ? now : 0;
	}
	view->flags = (uint16_t)(view->flags & ~(unsigned)HF_VIEW_BROKEN);
	set_flags(view, (gives_up_at != 0 ? HF_VIEW_BROKEN : 0U) | (kind == HF_EV_GAVE_UP ? HF_VIEW_ENDED : 0U));
	note_events(view, slot->view, &ruling);
	hf_view_end(view);
}
