#include "view_json.h"

#include "fmt.h"
#include "view_state.h"
#include "view_text.h"

#include <inttypes.h>
#include <string.h>

void hf_json_text(FILE *out, const char *name, const char *text, size_t size)
{
	if (size == 0 || text[0] == '\0')
		return;
	fprintf(out, ",\"%s\":", name);
	hf_put_json(out, text, size);
}

void hf_json_number(FILE *out, const char *name, uint64_t value)
{
	fprintf(out, ",\"%s\":%" PRIu64, name, value);
}

static void word(FILE *out, const char *name, const char *text)
{
	hf_json_text(out, name, text, strlen(text));
}

static void time_text(char *text, size_t size, uint64_t ms)
{
	struct timespec at = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
	struct hf_fmt fmt;

	hf_fmt_init(&fmt, text, size, 0);
	hf_fmt_time(&fmt, &at);
	hf_fmt_boundary(&fmt);
	hf_fmt_end(&fmt, "");
}

static void put_policy(FILE *out, const struct hf_arena_view *view)
{
	hf_json_number(out, "interval_ms", view->interval);
	hf_json_number(out, "timeout_ms", view->timeout);
	hf_json_number(out, "reply_timeout_ms", view->reply_timeout);
	hf_json_number(out, "stall_timeout_ms", view->stall_timeout);
	hf_json_number(out, "half_close_timeout_ms", view->half_close_timeout);
}

/* Nothing for a connection over which no verdict can fall any more. */
static void put_verdict(FILE *out, const struct hf_arena_view *view, uint64_t now)
{
	struct hf_timer timers[HF_TIMERS];
	int next;

	hf_view_timers(view, timers);
	next = hf_next_timer(timers);
	if (next < 0)
		return;
	word(out, "verdict", hf_timer_name((enum hf_timer_kind)next));
	hf_json_number(out, "verdict_in_ms", timers[next].at > now ? timers[next].at - now : 0);
	word(out, "verdict_action", timers[next].ends ? "abort" : "report");
}

static void put_peer(FILE *out, const struct hf_arena_view *view)
{
	hf_json_text(out, "peer_prog", view->more.peer_prog, sizeof view->more.peer_prog);
	if (view->more.peer_prog[0] != '\0')
		hf_json_number(out, "peer_pid", view->more.peer_pid);
	hf_json_text(out, "peer_host", view->more.peer_host, sizeof view->more.peer_host);
	hf_json_text(out, "peer_info", view->more.peer_info, sizeof view->more.peer_info);
}

static void put_round_trips(FILE *out, const struct hf_arena_view *view)
{
	uint32_t us[HF_VIEW_RTTS];
	size_t count = hf_last_rtts(view->rtts, HF_VIEW_RTTS, view->rtt_count, us, HF_VIEW_RTTS);

	hf_json_number(out, "rtt_us", view->rtt_us);
	fputs(",\"rtts_us\":[", out);
	for (size_t i = 0; i < count; i++)
		fprintf(out, "%s%" PRIu32, i > 0 ? "," : "", us[i]);
	fputc(']', out);
}

static void put_events(FILE *out, const struct hf_arena_view *view)
{
	struct hf_view_event events[HF_VIEW_EVENTS];
	size_t count = hf_last_events(view, events, HF_VIEW_EVENTS);
	char at[40];

	fputs(",\"events\":[", out);
	for (size_t i = 0; i < count; i++) {
		time_text(at, sizeof at, events[i].at);
		fprintf(out, "%s{\"ts\":\"%s\",\"event\":\"%s\"", i > 0 ? "," : "", at, hf_event_of(events[i].kind));
		if (events[i].reason != HF_WHY_NONE)
			word(out, "reason", hf_reason_of(events[i].reason));
		fprintf(out, ",\"ended\":%s}", events[i].ended != 0 ? "true" : "false");
	}
	fputc(']', out);
}

void hf_view_json(FILE *out, const struct hf_snapshot *snapshot, const struct hf_seen *seen)
{
	const struct hf_arena_view *view = &seen->view;
	struct hf_address_text local = hf_end_text(&view->names, false), peer = hf_end_text(&view->names, true);
	char at[40];

	time_text(at, sizeof at, snapshot->wall);
	fprintf(out, "\"ts\":\"%s\",\"conn\":\"%" PRIx64 "\",\"pid\":%d,\"prog\":", at, view->cookie, seen->pid);
	hf_put_json(out, seen->prog, sizeof seen->prog);
	fprintf(out, ",\"fd\":%d", view->fd);
	word(out, "mode", hf_mode_of(view));
	word(out, "role", hf_role_of(view));
	word(out, "state", hf_view_state(view));
	word(out, "tcp_state", hf_tcp_name(view->state));
	word(out, "session", hf_session_name(view));
	word(out, "local", local.text);
	word(out, "peer", peer.text);
	put_peer(out, view);
	put_verdict(out, view, snapshot->now);
	hf_json_number(out, "idle_ms", hf_view_idle(view, snapshot->now));
	hf_json_number(out, "heard_ms", hf_since(snapshot->now, view->heard_at));
	put_round_trips(out, view);
	hf_json_number(out, "sent", view->sent);
	hf_json_number(out, "received", view->received);
	hf_json_number(out, "unread", view->unread);
	hf_json_number(out, "unacked", view->unacked);
	if (view->more.beats_sent + view->more.beats_received != 0) {
		hf_json_number(out, "beats_sent", view->more.beats_sent);
		hf_json_number(out, "beats_received", view->more.beats_received);
		hf_json_number(out, "beat_rtt_us", view->more.beat_rtt_us);
		hf_json_number(out, "peer_unread", view->more.peer_unread);
		hf_json_number(out, "peer_unread_ms", view->more.peer_unread_ms);
	}
	hf_json_number(out, "age_ms", hf_since(snapshot->now, view->since));
	put_policy(out, view);
	put_events(out, view);
	if (seen->torn)
		fputs(",\"torn\":true", out);
}
