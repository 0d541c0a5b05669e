#include "view_state.h"

#include "config.h"
#include "core/judge.h"
#include "core/session.h"

#include <string.h>

enum { ENDS_DEAD = 1, ENDS_UNANSWERED = 2, ENDS_STALLED = 4, ENDS_HALF_CLOSED = 8 };

uint64_t hf_since(uint64_t now, uint64_t then)
{
	return then != 0 && now > then ? now - then : 0;
}

static uint64_t later(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

const char *hf_timer_name(enum hf_timer_kind kind)
{
	static const char *const names[HF_TIMERS] = {"path", "hung", "reply", "stall", "half-close", "resume"};

	return names[kind];
}

static bool over(const struct hf_arena_view *view)
{
	return (view->flags & HF_VIEW_ENDED) != 0 || view->state == HF_TCP_CLOSE;
}

static bool framed(const struct hf_arena_view *view)
{
	return view->mode == HF_MODE_WRAP && view->session != HF_VIEW_HANDSHAKE;
}

static void start(struct hf_timer *timer, uint64_t since, bool exact)
{
	timer->runs = timer->length != 0;
	timer->since = since;
	timer->at = since + timer->length;
	timer->exact = exact;
}

static void time_path(const struct hf_arena_view *view, struct hf_timer *timer)
{
	timer->length = view->timeout;
	timer->ends = (view->ends & ENDS_DEAD) != 0;
	timer->told = (view->flags & HF_VIEW_DEAD) != 0;
	if (view->state != HF_TCP_SYN_SENT && view->state != HF_TCP_TIME_WAIT)
		start(timer, later(view->heard_at, view->since), true);
}

/* Not while the peer's bytes wait to be read here, nor after its last word. */
static void time_hung(const struct hf_arena_view *view, struct hf_timer *timer)
{
	if (!framed(view))
		return;
	timer->length = view->timeout;
	timer->ends = (view->ends & ENDS_DEAD) != 0;
	timer->told = (view->flags & HF_VIEW_DEAD) != 0 && hf_view_dead_reason(view) == HF_WHY_HUNG;
	if (view->session <= HF_S_CLOSE_WAIT && view->unread == 0)
		start(timer, later(view->since, later(view->more.beat_heard_at, view->moved_at)), true);
}

static void time_reply(const struct hf_arena_view *view, struct hf_timer *timer)
{
	timer->length = view->reply_timeout;
	timer->ends = (view->ends & ENDS_UNANSWERED) != 0;
	if (view->owed_since != 0)
		start(timer, view->owed_since, true);
}

static void time_stall(const struct hf_arena_view *view, struct hf_timer *timer)
{
	timer->length = view->stall_timeout;
	timer->ends = (view->ends & ENDS_STALLED) != 0;
	timer->told = (view->flags & HF_VIEW_STALLED) != 0;
	if (timer->told && view->more.stalled_since != 0)
		start(timer, view->more.stalled_since, true);
	else if (framed(view) && view->more.peer_unread != 0)
		start(timer,
		      view->looked_at - (view->looked_at < view->more.peer_unread_ms ? view->looked_at
										     : view->more.peer_unread_ms),
		      true);
	else if (view->unacked != 0) /* what moved last may have been the other direction */
		start(timer, later(view->since, view->moved_at), false);
}

static void time_half_close(const struct hf_arena_view *view, struct hf_timer *timer)
{
	timer->length = view->half_close_timeout;
	timer->ends = (view->ends & ENDS_HALF_CLOSED) != 0;
	/* Of the kernel's half-close the view has the flag only; to the judge bytes then moved. */
	if (view->more.half_since != 0 || (view->flags & HF_VIEW_HALF_CLOSED) != 0)
		start(timer, later(view->more.half_since, view->moved_at), true);
}

static bool broken(const struct hf_arena_view *view)
{
	return (view->flags & HF_VIEW_BROKEN) != 0 && (view->flags & HF_VIEW_ENDED) == 0;
}

static void time_resume(const struct hf_arena_view *view, struct hf_timer *timer)
{
	timer->ends = true;
	if (!broken(view) || view->more.gives_up_at <= view->more.broken_at)
		return;
	timer->length = (uint32_t)(view->more.gives_up_at - view->more.broken_at);
	start(timer, view->more.broken_at, true);
}

void hf_view_timers(const struct hf_arena_view *view, struct hf_timer timers[HF_TIMERS])
{
	memset(timers, 0, HF_TIMERS * sizeof *timers);
	time_path(view, &timers[HF_TIMER_PATH]);
	time_hung(view, &timers[HF_TIMER_HUNG]);
	time_reply(view, &timers[HF_TIMER_REPLY]);
	time_stall(view, &timers[HF_TIMER_STALL]);
	time_half_close(view, &timers[HF_TIMER_HALF_CLOSE]);
	for (int i = 0; i < HF_TIMERS; i++)
		timers[i].runs = timers[i].runs && !over(view) && !broken(view);
	time_resume(view, &timers[HF_TIMER_RESUME]);
	if (timers[HF_TIMER_HALF_CLOSE].runs && view->looked_at >= timers[HF_TIMER_HALF_CLOSE].at)
		timers[HF_TIMER_HALF_CLOSE].told = true;
}

int hf_next_timer(const struct hf_timer timers[HF_TIMERS])
{
	int next = -1;

	for (int i = 0; i < HF_TIMERS; i++) {
		if (timers[i].runs && !timers[i].told && (next < 0 || timers[i].at < timers[next].at))
			next = i;
	}
	return next;
}

static const char *const tcp_names[] = {
	[HF_TCP_ESTABLISHED] = "ESTABLISHED",
	[HF_TCP_SYN_SENT] = "SYN-SENT",
	[HF_TCP_SYN_RECV] = "SYN-RECV",
	[HF_TCP_FIN_WAIT1] = "FIN-WAIT-1",
	[HF_TCP_FIN_WAIT2] = "FIN-WAIT-2",
	[HF_TCP_TIME_WAIT] = "TIME-WAIT",
	[HF_TCP_CLOSE] = "CLOSED",
	[HF_TCP_CLOSE_WAIT] = "CLOSE-WAIT",
	[HF_TCP_LAST_ACK] = "LAST-ACK",
	[HF_TCP_LISTEN] = "LISTEN",
	[HF_TCP_CLOSING] = "CLOSING",
};

const char *hf_tcp_name(unsigned state)
{
	return state < sizeof tcp_names / sizeof tcp_names[0] && tcp_names[state] ? tcp_names[state] : "?";
}

const char *hf_session_name(const struct hf_arena_view *view)
{
	static const char *const names[] = {
		[HF_S_ESTABLISHED] = "ESTABLISHED", [HF_S_FIN_WAIT] = "FIN-WAIT", [HF_S_CLOSE_WAIT] = "CLOSE-WAIT",
		[HF_S_CLOSING] = "CLOSING",         [HF_S_LAST_ACK] = "LAST-ACK", [HF_S_TIME_WAIT] = "TIME-WAIT",
		[HF_S_CLOSED] = "CLOSED",
	};

	if (view->mode != HF_MODE_WRAP)
		return "";
	if (view->session == HF_VIEW_HANDSHAKE)
		return "handshake";
	return view->session < sizeof names / sizeof names[0] ? names[view->session] : "?";
}

const char *hf_view_state(const struct hf_arena_view *view)
{
	if ((view->flags & HF_VIEW_DEAD) != 0)
		return (view->flags & HF_VIEW_ENDED) != 0 ? "dead" : "kept";
	if ((view->flags & HF_VIEW_ENDED) != 0)
		return "ended";
	if (broken(view))
		return "resuming";
	if ((view->flags & HF_VIEW_DRAINING) != 0)
		return "draining";
	if ((view->flags & HF_VIEW_LATE) != 0)
		return "late";
	if ((view->flags & HF_VIEW_STALLED) != 0)
		return "stalled";
	if (view->mode == HF_MODE_WRAP && view->state == HF_TCP_ESTABLISHED)
		return hf_session_name(view);
	if (framed(view) && view->session != HF_S_ESTABLISHED)
		return hf_session_name(view);
	return hf_tcp_name(view->state);
}

enum hf_health hf_view_health(const struct hf_arena_view *view)
{
	if ((view->flags & (HF_VIEW_DEAD | HF_VIEW_ENDED)) != 0)
		return HF_DEAD;
	if ((view->flags & HF_VIEW_LATE) != 0 || broken(view))
		return HF_LATE;
	if ((view->flags & HF_VIEW_STALLED) != 0)
		return HF_STALLED;
	if (view->state == HF_TCP_SYN_SENT || view->state == HF_TCP_SYN_RECV ||
	    (view->mode == HF_MODE_WRAP && view->session == HF_VIEW_HANDSHAKE))
		return HF_OPENING;
	if (view->state != HF_TCP_ESTABLISHED || (view->flags & (HF_VIEW_HALF_CLOSED | HF_VIEW_DRAINING)) != 0 ||
	    (framed(view) && view->session != HF_S_ESTABLISHED))
		return HF_HALF;
	return HF_FINE;
}

const char *hf_mode_of(const struct hf_arena_view *view)
{
	return view->mode == HF_MODE_WRAP ? "wrap" : "probe";
}

const char *hf_role_of(const struct hf_arena_view *view)
{
	return view->role == 1 ? "client" : view->role == 2 ? "server" : "";
}

const char *hf_event_of(unsigned kind)
{
	static const char *const names[] = {
#define X(e, name, level) name,
		HF_EVENTS(X)
#undef X
	};

	return kind < HF_EV_COUNT ? names[kind] : "?";
}

const char *hf_reason_of(unsigned reason)
{
	static const char *const names[] = {
#define X(e, name) name,
		HF_REASONS(X)
#undef X
	};

	return reason < HF_WHY_COUNT ? names[reason] : "?";
}

size_t hf_last_events(const struct hf_arena_view *view, struct hf_view_event *events, size_t count)
{
	size_t have = view->event_count < HF_VIEW_EVENTS ? view->event_count : HF_VIEW_EVENTS;

	if (count > have)
		count = have;
	for (size_t i = 0; i < count; i++)
		events[i] = view->more.events[(view->event_count - (uint32_t)(count - i)) % HF_VIEW_EVENTS];
	return count;
}

enum hf_reason hf_view_dead_reason(const struct hf_arena_view *view)
{
	struct hf_view_event events[HF_VIEW_EVENTS];
	size_t count = hf_last_events(view, events, HF_VIEW_EVENTS);

	while (count-- > 0) {
		if (events[count].kind == HF_EV_DEAD && events[count].reason < HF_WHY_COUNT)
			return (enum hf_reason)events[count].reason;
	}
	return HF_WHY_NONE;
}

uint64_t hf_view_idle(const struct hf_arena_view *view, uint64_t now)
{
	return hf_since(now, later(view->moved_at, view->since));
}
