/* The timers of a connection in sentences, and what comes next. */
#include "explain_text.h"

#include "config.h"
#include "core/judge.h"
#include "core/session.h"
#include "view_text.h"

/* "3.2s ago" */
static struct hf_short ago(uint64_t now, uint64_t then)
{
	return hf_short_ms(hf_since(now, then));
}

static struct hf_short till(uint64_t now, uint64_t when)
{
	return hf_short_ms(when > now ? when - now : 0);
}

static const char *consequence(const struct hf_timer *timer)
{
	return timer->ends ? "the connection then ends with ETIMEDOUT"
			   : "that is then told, and the connection left alone";
}

static void outcome(FILE *out, const struct hf_timer *timer, uint64_t now)
{
	if (timer->told)
		fprintf(out, " It has run out, and that was told.");
	else if (timer->at <= now)
		fprintf(out, " It has run out: the verdict is due at the next look, if the evidence bears it out; %s.",
			consequence(timer));
	else
		fprintf(out, " It runs out in %s; %s.", till(now, timer->at).text, consequence(timer));
}

static void path(FILE *out, const struct hf_arena_view *view, const struct hf_timer *timer, uint64_t now)
{
	fprintf(out,
		"The peer's host has %s to give a sign of life: a byte or an acknowledgement. It is asked after %s of "
		"silence, late after %s, and dead (path) when three questions at least have gone unanswered.",
		hf_short_ms(view->timeout).text, hf_short_ms(view->interval).text, hf_short_ms(view->timeout / 2).text);
	if (!timer->runs)
		return;
	fprintf(out, " It was last heard %s ago.", ago(now, timer->since).text);
	if (view->asked_since != 0)
		fprintf(out, " A question has been open for %s.", ago(now, view->asked_since).text);
	else
		fprintf(out, " Nothing was being asked of it at the last look.");
	outcome(out, timer, now);
}

static void hung(FILE *out, const struct hf_arena_view *view, const struct hf_timer *timer, uint64_t now)
{
	if (view->mode != HF_MODE_WRAP) {
		fprintf(out, "A program that hangs while its host answers is not noticed: that needs wrap mode.");
		return;
	}
	fprintf(out,
		"The peer's holdfast owes a beat whenever nothing moves: silent for %s while its host answers, its "
		"program is dead (hung).",
		hf_short_ms(view->timeout).text);
	if (view->session == HF_VIEW_HANDSHAKE)
		fprintf(out, " The handshake is still going on: it does not run.");
	else if (view->session > HF_S_CLOSE_WAIT)
		fprintf(out, " Both directions have ended: no beat is owed.");
	else if (view->unread != 0)
		fprintf(out, " It does not run while %u bytes wait here unread: a beat may be behind them.",
			view->unread);
	if (!timer->runs)
		return;
	if (view->more.beat_heard_at != 0)
		fprintf(out, " It was last heard %s ago.", ago(now, view->more.beat_heard_at).text);
	outcome(out, timer, now);
}

static void reply(FILE *out, const struct hf_arena_view *view, const struct hf_timer *timer, uint64_t now)
{
	if (timer->length == 0) {
		fprintf(out, "Off (HOLDFAST_REPLY_TIMEOUT): a peer that owes a reply may take as long as it likes.");
		return;
	}
	fprintf(out, "After a request the peer has %s for the first byte of its reply.",
		hf_short_ms(timer->length).text);
	if (!timer->runs) {
		fprintf(out, view->unacked != 0 ? " None is waited for until its host has all of the request."
						: " None is waited for now.");
		return;
	}
	fprintf(out, " It has owed one for %s.", ago(now, timer->since).text);
	outcome(out, timer, now);
}

static void stall(FILE *out, const struct hf_arena_view *view, const struct hf_timer *timer, uint64_t now)
{
	if (timer->length == 0) {
		fprintf(out, "Off (HOLDFAST_STALL_TIMEOUT).");
		return;
	}
	fprintf(out, "A peer that lives may leave our data untaken for %s before it is called stalled.",
		hf_short_ms(timer->length).text);
	if (!timer->runs) {
		fprintf(out, " Nothing of ours waits.");
		return;
	}
	if (view->more.peer_unread != 0)
		fprintf(out, " Its program has not read %u bytes.", view->more.peer_unread);
	if (view->unacked != 0)
		fprintf(out, " %u bytes have not reached its host.", view->unacked);
	fprintf(out, timer->exact ? " They have not moved for %s." : " Bytes last moved %s ago.",
		ago(now, timer->since).text);
	outcome(out, timer, now);
}

static void half_close(FILE *out, const struct hf_timer *timer, uint64_t now)
{
	if (timer->length == 0) {
		fprintf(out, "Off (HOLDFAST_HALF_CLOSE_TIMEOUT).");
		return;
	}
	fprintf(out, "When one direction has ended, the other may be silent for %s.", hf_short_ms(timer->length).text);
	if (!timer->runs) {
		fprintf(out, " Neither has ended alone.");
		return;
	}
	fprintf(out, " One has, and no byte has moved for %s.", ago(now, timer->since).text);
	outcome(out, timer, now);
}

static void resume(FILE *out, const struct hf_timer *timer, uint64_t now)
{
	if (!timer->runs) {
		fprintf(out, "The path is there: nothing is to be resumed.");
		return;
	}
	fprintf(out, "The path is gone since %s, and another is tried for %s (HOLDFAST_RECONNECT_WINDOW).",
		ago(now, timer->since).text, hf_short_ms(timer->length).text);
	outcome(out, timer, now);
}

void hf_explain_timer(FILE *out, const struct hf_arena_view *view, enum hf_timer_kind kind,
		      const struct hf_timer *timer, uint64_t now)
{
	switch (kind) {
	case HF_TIMER_PATH:
		path(out, view, timer, now);
		break;
	case HF_TIMER_HUNG:
		hung(out, view, timer, now);
		break;
	case HF_TIMER_REPLY:
		reply(out, view, timer, now);
		break;
	case HF_TIMER_STALL:
		stall(out, view, timer, now);
		break;
	case HF_TIMER_HALF_CLOSE:
		half_close(out, timer, now);
		break;
	case HF_TIMER_RESUME:
		resume(out, timer, now);
		break;
	case HF_TIMERS:
		break;
	}
}

void hf_explain_next(FILE *out, const struct hf_arena_view *view, uint64_t now)
{
	uint64_t heard = view->heard_at > view->since ? view->heard_at : view->since;
	struct hf_timer timers[HF_TIMERS];
	int next;

	hf_view_timers(view, timers);
	next = hf_next_timer(timers);
	if ((view->flags & HF_VIEW_ENDED) != 0) {
		fprintf(out, "Nothing: it is over, and its descriptor fails until the program closes it.");
		return;
	}
	if ((view->flags & HF_VIEW_DEAD) != 0) {
		fprintf(out, "It is watched on: if its peer is heard again, it counts as alive again.");
		return;
	}
	if (timers[HF_TIMER_PATH].runs && view->asked_since == 0 && heard + view->interval > now)
		fprintf(out, "The peer's host is asked for a sign of life in %s, if nothing moves till then. ",
			till(now, heard + view->interval).text);
	if (timers[HF_TIMER_PATH].runs && (view->flags & HF_VIEW_LATE) == 0 && heard + view->timeout / 2 > now)
		fprintf(out, "If it does not answer it is late in %s. ", till(now, heard + view->timeout / 2).text);
	if (next < 0)
		fprintf(out, "No timer runs that could lead to a verdict.");
	else if (timers[next].at <= now)
		fprintf(out, "The timer \"%s\" has run out: the verdict falls as soon as the evidence suffices.",
			hf_timer_name((enum hf_timer_kind)next));
	else
		fprintf(out, "The first timer to run out is \"%s\", in %s: %s.",
			hf_timer_name((enum hf_timer_kind)next), till(now, timers[next].at).text,
			consequence(&timers[next]));
}
