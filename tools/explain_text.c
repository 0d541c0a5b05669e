#include "explain_text.h"

#include "config.h"
#include "view_json.h"
#include "view_text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { EVIDENCE = 8 };

static const char *verdict_sentence(enum hf_reason reason)
{
	switch (reason) {
	case HF_WHY_PATH:
		return "the peer's host did not answer";
	case HF_WHY_HUNG:
		return "the peer's host answers, its program does not";
	case HF_WHY_UNANSWERED:
		return "the peer owed a reply and gave none";
	case HF_WHY_RESET:
		return "the peer's host has reset the connection";
	case HF_WHY_CONNECT:
		return "nobody answered the attempt to connect";
	default:
		return "the reason is no longer known";
	}
}

void hf_explain_state(FILE *out, const struct hf_arena_view *view, uint64_t now)
{
	const char *state = hf_view_state(view);
	struct hf_short heard = hf_short_ms(hf_since(now, view->heard_at > view->since ? view->heard_at : view->since));

	fprintf(out, "%s: ", state);
	if ((view->flags & HF_VIEW_DEAD) != 0)
		fprintf(out, "%s (%s); %s.", verdict_sentence(hf_view_dead_reason(view)),
			hf_reason_of(hf_view_dead_reason(view)),
			(view->flags & HF_VIEW_ENDED) != 0 ? "calls on it fail until the program closes it"
							   : "that was only told, and the connection left alone");
	else if ((view->flags & HF_VIEW_ENDED) != 0)
		fprintf(out, "it was ended; calls on it fail until the program closes it.");
	else if ((view->flags & HF_VIEW_BROKEN) != 0)
		fprintf(out, "the path is gone since %s, and another is tried: to the program it is a pause.",
			hf_short_ms(hf_since(now, view->more.broken_at)).text);
	else if ((view->flags & HF_VIEW_DRAINING) != 0)
		fprintf(out, "the program has closed it, and its last bytes are on their way.");
	else if ((view->flags & HF_VIEW_LATE) != 0)
		fprintf(out, "the peer's host was asked and has been silent for %s, more than half of %s.", heard.text,
			hf_short_ms(view->timeout).text);
	else if ((view->flags & HF_VIEW_STALLED) != 0)
		fprintf(out, "the peer lives (heard %s ago), and has not taken our data for %s.", heard.text,
			hf_short_ms(hf_since(now, view->more.stalled_since)).text);
	else if (hf_view_health(view) == HF_OPENING)
		fprintf(out, "it is being set up.");
	else if (hf_view_health(view) == HF_HALF)
		fprintf(out,
			"one direction has ended, the other may still carry data; the peer's host was heard %s ago.",
			heard.text);
	else
		fprintf(out, "the peer's host was heard %s ago.", heard.text);
}

/* Evidence: one sentence each, by number; false when there is none of that number. */

static void say_window(FILE *out, const struct hf_arena_view *view)
{
	fprintf(out,
		"The peer's window is %s; %" PRIu32 " probes unanswered, %" PRIu32 " retransmissions, backoff %" PRIu32
		".",
		hf_short_bytes(view->snd_wnd).text, view->probes, view->retransmits, view->backoff);
}

static void say_round_trips(FILE *out, const struct hf_arena_view *view)
{
	uint32_t us[HF_VIEW_RTTS], least = UINT32_MAX, most = 0;
	size_t count = hf_last_rtts(view->rtts, HF_VIEW_RTTS, view->rtt_count, us, HF_VIEW_RTTS);

	for (size_t i = 0; i < count; i++) {
		least = us[i] < least ? us[i] : least;
		most = us[i] > most ? us[i] : most;
	}
	fprintf(out, "Round trip %s", hf_short_us(view->rtt_us).text);
	if (count > 0)
		fprintf(out, ", the last %zu between %s and %s", count, hf_short_us(least).text,
			hf_short_us(most).text);
	if (view->more.beat_rtt_us != 0)
		fprintf(out, ", that of beats %s", hf_short_us(view->more.beat_rtt_us).text);
	fputc('.', out);
}

static bool say_evidence(FILE *out, const struct hf_arena_view *view, uint64_t now, int number)
{
	switch (number) {
	case 0:
		fprintf(out, "Watched for %s; last looked at %s ago", hf_short_ms(hf_since(now, view->since)).text,
			hf_short_ms(hf_since(now, view->looked_at)).text);
		if (view->looked_at + view->next_in > now)
			fprintf(out, ", next in %s", hf_short_ms(view->looked_at + view->next_in - now).text);
		fputc('.', out);
		return true;
	case 1:
		fprintf(out, "The kernel's state is %s", hf_tcp_name(view->state));
		if (view->mode == HF_MODE_WRAP)
			fprintf(out, ", that of the channel inside %s", hf_session_name(view));
		fputc('.', out);
		return true;
	case 2:
		if (view->heard_at == 0)
			return false;
		fprintf(out, "The peer's host was heard %s ago.", hf_short_ms(hf_since(now, view->heard_at)).text);
		return true;
	case 3:
		if (view->more.beats_sent + view->more.beats_received == 0)
			return false;
		fprintf(out, "%" PRIu64 " beats sent, %" PRIu64 " received; a byte of the peer's holdfast %s ago.",
			view->more.beats_sent, view->more.beats_received,
			hf_short_ms(hf_since(now, view->more.beat_heard_at)).text);
		return true;
	case 4:
		fprintf(out, "%s sent, %s received; bytes last moved %s ago.", hf_short_bytes(view->sent).text,
			hf_short_bytes(view->received).text, hf_short_ms(hf_view_idle(view, now)).text);
		return true;
	case 5:
		fprintf(out, "%s here that our program has not read, %s that the peer's host has not got",
			hf_short_bytes(view->unread).text, hf_short_bytes(view->unacked).text);
		if (view->more.beats_received != 0)
			fprintf(out, ", %s that its program had not read for %s at its last beat",
				hf_short_bytes(view->more.peer_unread).text,
				hf_short_ms(view->more.peer_unread_ms).text);
		fputc('.', out);
		return true;
	case 6:
		say_window(out, view);
		return true;
	case 7:
		say_round_trips(out, view);
		return true;
	default:
		return false;
	}
}

static void put_head(FILE *out, const struct hf_seen *seen)
{
	const struct hf_arena_view *view = &seen->view;
	const char *role = hf_role_of(view);

	fprintf(out, "Connection %" PRIx64 " of %s[%d], descriptor %d: %s to %s, %s mode%s%s.\n", view->cookie,
		hf_plain(seen->prog, sizeof seen->prog).text, seen->pid, view->fd,
		hf_end_text(&view->names, false).text, hf_end_text(&view->names, true).text, hf_mode_of(view),
		*role ? ", " : "", role);
	if (view->more.peer_prog[0] == '\0')
		return;
	fprintf(out, "The peer is %s[%" PRIu32 "]", hf_plain(view->more.peer_prog, sizeof view->more.peer_prog).text,
		view->more.peer_pid);
	if (view->more.peer_host[0] != '\0')
		fprintf(out, " on %s", hf_plain(view->more.peer_host, sizeof view->more.peer_host).text);
	if (view->more.peer_info[0] != '\0')
		fprintf(out, " (\"%s\")", hf_plain(view->more.peer_info, sizeof view->more.peer_info).text);
	fputs(".\n", out);
}

static void put_events(FILE *out, const struct hf_arena_view *view)
{
	struct hf_view_event events[HF_VIEW_EVENTS];
	size_t count = hf_last_events(view, events, HF_VIEW_EVENTS);

	fputs("\nLast events\n", out);
	if (count == 0)
		fputs("  none\n", out);
	for (size_t i = 0; i < count; i++) {
		time_t at = (time_t)(events[i].at / 1000);
		char text[32] = "?";
		struct tm tm;

		if (localtime_r(&at, &tm))
			strftime(text, sizeof text, "%F %T", &tm);
		fprintf(out, "  %s  %s", text, hf_event_of(events[i].kind));
		if (events[i].reason != HF_WHY_NONE)
			fprintf(out, " (%s)", hf_reason_of(events[i].reason));
		fprintf(out, "%s\n", events[i].ended != 0 ? ", ended" : "");
	}
}

void hf_explain(FILE *out, const struct hf_snapshot *snapshot, const struct hf_seen *seen)
{
	const struct hf_arena_view *view = &seen->view;
	struct hf_timer timers[HF_TIMERS];

	put_head(out, seen);
	fputs("\nState\n  ", out);
	hf_explain_state(out, view, snapshot->now);
	fputs("\n\nEvidence\n", out);
	for (int i = 0; i < EVIDENCE; i++) {
		char *text = NULL;
		size_t size;
		FILE *line = open_memstream(&text, &size);

		if (line && say_evidence(line, view, snapshot->now, i) && fflush(line) == 0)
			fprintf(out, "  %s\n", text);
		if (line)
			fclose(line);
		free(text);
	}
	fputs("\nTimers\n", out);
	hf_view_timers(view, timers);
	for (int i = 0; i < HF_TIMERS; i++) {
		if (i == HF_TIMER_RESUME && !timers[i].runs)
			continue; /* nothing is to be resumed */
		fprintf(out, "  %s: ", hf_timer_name((enum hf_timer_kind)i));
		hf_explain_timer(out, view, (enum hf_timer_kind)i, &timers[i], snapshot->now);
		fputc('\n', out);
	}
	fputs("\nNext\n  ", out);
	hf_explain_next(out, view, snapshot->now);
	fputc('\n', out);
	put_events(out, view);
}

/* JSON */

typedef bool (*teller)(FILE *out, const struct hf_arena_view *view, uint64_t now, int number);

static bool tell_state(FILE *out, const struct hf_arena_view *view, uint64_t now, int number)
{
	(void)number;
	hf_explain_state(out, view, now);
	return true;
}

static bool tell_next(FILE *out, const struct hf_arena_view *view, uint64_t now, int number)
{
	(void)number;
	hf_explain_next(out, view, now);
	return true;
}

static bool tell_timer(FILE *out, const struct hf_arena_view *view, uint64_t now, int number)
{
	struct hf_timer timers[HF_TIMERS];

	hf_view_timers(view, timers);
	hf_explain_timer(out, view, (enum hf_timer_kind)number, &timers[number], now);
	return true;
}

/* What TELL says, as a JSON string after BEFORE.  Our own words only: of texts of others there are none in it. */
static bool quoted(FILE *out, const char *before, teller tell, const struct hf_arena_view *view, uint64_t now,
		   int number)
{
	char *text = NULL;
	size_t size;
	FILE *line = open_memstream(&text, &size);
	bool said = line && tell(line, view, now, number) && fflush(line) == 0;

	if (said) {
		fprintf(out, "%s\"", before);
		for (const char *c = text; *c; c++)
			fprintf(out, *c == '"' ? "\\\"" : "%c", *c);
		fputc('"', out);
	}
	if (line)
		fclose(line);
	free(text);
	return said;
}

static void put_timers(FILE *out, const struct hf_arena_view *view, uint64_t now)
{
	struct hf_timer timers[HF_TIMERS];

	hf_view_timers(view, timers);
	fputs(",\"timers\":[", out);
	for (int i = 0; i < HF_TIMERS; i++) {
		if (i == HF_TIMER_RESUME && !timers[i].runs)
			continue;
		fprintf(out, "%s{\"name\":\"%s\",\"length_ms\":%" PRIu32 ",\"runs\":%s,\"action\":\"%s\"",
			i > 0 ? "," : "", hf_timer_name((enum hf_timer_kind)i), timers[i].length,
			timers[i].runs ? "true" : "false", timers[i].ends ? "abort" : "report");
		if (timers[i].runs) {
			hf_json_number(out, "since_ms", hf_since(now, timers[i].since));
			hf_json_number(out, "due_in_ms", timers[i].at > now ? timers[i].at - now : 0);
			fprintf(out, ",\"exact\":%s,\"told\":%s", timers[i].exact ? "true" : "false",
				timers[i].told ? "true" : "false");
		}
		quoted(out, ",\"text\":", tell_timer, view, now, i);
		fputc('}', out);
	}
	fputc(']', out);
}

void hf_explain_json(FILE *out, const struct hf_snapshot *snapshot, const struct hf_seen *seen)
{
	const struct hf_arena_view *view = &seen->view;
	const char *comma = "";

	fputc('{', out);
	hf_view_json(out, snapshot, seen);
	quoted(out, ",\"why\":", tell_state, view, snapshot->now, 0);
	fputs(",\"evidence\":[", out);
	for (int i = 0; i < EVIDENCE; i++) {
		if (quoted(out, comma, say_evidence, view, snapshot->now, i))
			comma = ",";
	}
	fputc(']', out);
	put_timers(out, view, snapshot->now);
	quoted(out, ",\"next\":", tell_next, view, snapshot->now, 0);
	fputc('}', out);
}
