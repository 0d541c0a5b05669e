/* Formatting of events, as a sentence and as JSON, and the way from an event to the sinks. */
#include "report.h"

#include "fmt.h"
#include "sink.h"
#include "sys.h"

#include <string.h>

/* Longest output of untrusted strings, in bytes: what they add up to is within HF_LINE. */
enum { MAX_PROG = 64, MAX_HOST = 64, MAX_INFO = 192, MAX_DETAIL = 400 };

static const struct hf_config *settings;
static const char *program;

static const struct {
	const char *name;
	enum hf_level level;
} kinds[HF_EV_COUNT] = {
#define X(e, name, level) [HF_EV_##e] = {name, level},
	HF_EVENTS(X)
#undef X
};

static const char *const reasons[HF_WHY_COUNT] = {
#define X(e, name) [HF_WHY_##e] = (name),
	HF_REASONS(X)
#undef X
};

static const char *const actions[] = {[HF_REPORT] = "report", [HF_ABORT] = "abort", [HF_RECONNECT] = "reconnect"};
static const char *const modes[] = {[HF_MODE_OFF] = "off", [HF_MODE_PROBE] = "probe", [HF_MODE_WRAP] = "wrap"};

/* A sentence: what is the case, how its time is attached (" for 3.0 s"), and what comes after the time. */
struct sentence {
	const char *says, *span, *tail;
};

static const struct sentence sentences[HF_EV_COUNT] = {
	[HF_EV_OPEN] = {"watched", NULL, ""},
	[HF_EV_WRAPPED] = {"the peer speaks holdfast, heartbeats run inside the connection", NULL, ""},
	[HF_EV_PLAIN] = {"the peer does not speak holdfast, going on without heartbeats", NULL, ""},
	[HF_EV_LATE] = {"nothing heard from the peer's host", " for ", ", still waiting"},
	[HF_EV_DEAD] = {"the peer is gone", ", silent for ", ""},
	[HF_EV_STALLED] = {"the peer's host is alive but the peer has not taken what was sent", " for ", ""},
	[HF_EV_FLOWING] = {"bytes move again", " after ", ""},
	[HF_EV_HALF_CLOSED] = {"one direction has ended, the other may still carry data", NULL, ""},
	[HF_EV_HALF_CLOSE_TIMEOUT] = {"one direction has ended and the other has been silent", " for ", ""},
	[HF_EV_VANISHED] = {"the peer ended the connection without saying so", NULL, ""},
	[HF_EV_BROKEN] = {"the connection broke, trying to reconnect", NULL, ""},
	[HF_EV_RESUMED] = {"connected again", " after ", ", nothing was lost"},
	[HF_EV_GAVE_UP] = {"could not reconnect", " within ", ""},
	[HF_EV_CLOSED] = {"closed", NULL, ""},
	[HF_EV_CORRUPT] = {"bytes are missing or not ours, the stream cannot be trusted", NULL, ""},
	[HF_EV_CONFIG] = {"", NULL, ""},
};

static const struct sentence deaths[HF_WHY_COUNT] = {
	[HF_WHY_PATH] = {"no answer from the peer's host", " for ", ""},
	[HF_WHY_HUNG] = {"the peer's program has been silent", " for ", " though its host answers"},
	[HF_WHY_UNANSWERED] = {"no reply", " for ", " though the peer's host has received everything sent"},
	[HF_WHY_RESET] = {"the peer's host has reset the connection", NULL, ""},
	[HF_WHY_CONNECT] = {"no answer to the attempt to connect", " for ", ""},
};

/* In probe mode: no session that goes on, but another one (io/redial.h). */
static const struct sentence anew = {"connected anew", " after ", ", as another client"};

void hf_event_init(struct hf_event *event, enum hf_event_kind kind)
{
	memset(event, 0, sizeof(*event));
	event->kind = kind;
	event->fd = -1;
	event->silent_ms = event->rtt_us = event->unacked = event->unread = -1;
	event->sent = event->received = event->down_ms = event->resent = event->peer_pid = -1;
}

/* Text */

static void text_connection(struct hf_fmt *fmt, const struct hf_event *event)
{
	const struct sockaddr *peer = (const struct sockaddr *)&event->peer;

	if (peer->sa_family == AF_UNSPEC && event->fd < 0 && event->conn == 0)
		return;
	hf_fmt_str(fmt, ": connection");
	if (peer->sa_family != AF_UNSPEC) {
		hf_fmt_str(fmt, !event->has_role ? " with " : event->client ? " to " : " from ");
		if (!hf_fmt_addr(fmt, peer))
			hf_fmt_str(fmt, "an unknown address");
	}
	if (event->fd >= 0) {
		hf_fmt_str(fmt, " (fd ");
		hf_fmt_i64(fmt, event->fd);
		hf_fmt_str(fmt, ")");
	}
	hf_fmt_boundary(fmt);
}

static void text_sentence(struct hf_fmt *fmt, const struct hf_event *event)
{
	const struct sentence *is = &sentences[event->kind];
	int64_t ms = event->down_ms >= 0 ? event->down_ms : event->silent_ms;

	if (event->kind == HF_EV_DEAD && deaths[event->reason].says != NULL)
		is = &deaths[event->reason];
	if (event->kind == HF_EV_RESUMED && event->has_mode && event->mode == HF_MODE_PROBE)
		is = &anew;
	if (is->says[0] == '\0')
		return;
	hf_fmt_str(fmt, ": ");
	hf_fmt_str(fmt, is->says);
	if (event->kind == HF_EV_OPEN && event->has_mode) {
		hf_fmt_str(fmt, " in ");
		hf_fmt_str(fmt, modes[event->mode]);
		hf_fmt_str(fmt, " mode");
	}
	if (is->span != NULL && ms >= 0) {
		hf_fmt_str(fmt, is->span);
		hf_fmt_span(fmt, (uint64_t)ms);
	}
	hf_fmt_str(fmt, is->tail);
	if (event->reason != HF_WHY_NONE) {
		hf_fmt_str(fmt, " (");
		hf_fmt_str(fmt, reasons[event->reason]);
		hf_fmt_str(fmt, ")");
	}
	hf_fmt_boundary(fmt);
}

static void text_action(struct hf_fmt *fmt, const struct hf_event *event)
{
	if (!event->has_action)
		return;
	if (event->action == HF_REPORT)
		hf_fmt_str(fmt, "; left alone");
	else if (event->action == HF_RECONNECT)
		hf_fmt_str(fmt, "; reconnecting");
	else if (event->reason == HF_WHY_RESET) /* the kernel's own ECONNRESET may have been the one delivered */
		hf_fmt_str(fmt, "; ended");
	else
		hf_fmt_str(fmt, "; ended with ETIMEDOUT");
	hf_fmt_boundary(fmt);
}

/* NAME VALUE as one more item of a bracketed list; *ANY says whether the bracket is open. */
static void text_item(struct hf_fmt *fmt, const char *name, int64_t value, const char *unit, bool *any)
{
	if (value < 0)
		return;
	hf_fmt_str(fmt, *any ? ", " : " [");
	hf_fmt_str(fmt, name);
	hf_fmt_i64(fmt, value);
	hf_fmt_str(fmt, unit);
	*any = true;
}

static void text_numbers(struct hf_fmt *fmt, const struct hf_event *event)
{
	bool any = false;

	text_item(fmt, "sent ", event->sent, " B", &any);
	text_item(fmt, "received ", event->received, " B", &any);
	text_item(fmt, "unacknowledged ", event->unacked, " B", &any);
	text_item(fmt, "unread ", event->unread, " B", &any);
	text_item(fmt, "sent again ", event->resent, " B", &any);
	text_item(fmt, "round trip ", event->rtt_us, " us", &any);
	if (any)
		hf_fmt_str(fmt, "]");
	hf_fmt_boundary(fmt);
}

static void text_peer(struct hf_fmt *fmt, const struct hf_event *event)
{
	if (event->peer_prog != NULL || event->peer_pid >= 0 || event->peer_host != NULL) {
		hf_fmt_str(fmt, " [peer program ");
		hf_fmt_plain(fmt, event->peer_prog != NULL ? event->peer_prog : "?", MAX_PROG);
		if (event->peer_pid >= 0) {
			hf_fmt_str(fmt, ", pid ");
			hf_fmt_i64(fmt, event->peer_pid);
		}
		if (event->peer_host != NULL) {
			hf_fmt_str(fmt, ", on ");
			hf_fmt_plain(fmt, event->peer_host, MAX_HOST);
		}
		hf_fmt_str(fmt, "]");
		hf_fmt_boundary(fmt);
	}
	if (event->peer_info != NULL) {
		hf_fmt_str(fmt, " [peer info: ");
		hf_fmt_plain(fmt, event->peer_info, MAX_INFO);
		hf_fmt_str(fmt, "]");
		hf_fmt_boundary(fmt);
	}
}

static size_t format_text(char *buf, size_t size, const struct hf_event *event, const char *prog, int pid,
			  uint64_t suppressed, size_t *tag)
{
	struct hf_fmt fmt;

	hf_fmt_init(&fmt, buf, size, 1);
	hf_fmt_str(&fmt, "holdfast[");
	hf_fmt_i64(&fmt, pid);
	hf_fmt_str(&fmt, "] ");
	*tag = fmt.len;
	hf_fmt_plain(&fmt, prog, MAX_PROG);
	hf_fmt_str(&fmt, ": ");
	hf_fmt_str(&fmt, kinds[event->kind].name);
	hf_fmt_boundary(&fmt);
	text_connection(&fmt, event);
	text_sentence(&fmt, event);
	if (event->detail != NULL) {
		hf_fmt_str(&fmt, ": ");
		hf_fmt_plain(&fmt, event->detail, MAX_DETAIL);
		hf_fmt_boundary(&fmt);
	}
	text_action(&fmt, event);
	text_numbers(&fmt, event);
	text_peer(&fmt, event);
	if (suppressed > 0) {
		hf_fmt_str(&fmt, " [lines left out before this one: ");
		hf_fmt_u64(&fmt, suppressed);
		hf_fmt_str(&fmt, "]");
		hf_fmt_boundary(&fmt);
	}
	return hf_fmt_end(&fmt, "\n");
}

/* JSON */

static void json_name(struct hf_fmt *fmt, const char *name)
{
	hf_fmt_str(fmt, ",\"");
	hf_fmt_str(fmt, name);
	hf_fmt_str(fmt, "\":");
}

static void json_number(struct hf_fmt *fmt, const char *name, int64_t value)
{
	if (value < 0)
		return;
	json_name(fmt, name);
	hf_fmt_i64(fmt, value);
	hf_fmt_boundary(fmt);
}

/* VALUE may be NULL: left out. */
static void json_string(struct hf_fmt *fmt, const char *name, const char *value, size_t max)
{
	if (value == NULL)
		return;
	json_name(fmt, name);
	hf_fmt_str(fmt, "\"");
	hf_fmt_json(fmt, value, max);
	hf_fmt_str(fmt, "\"");
	hf_fmt_boundary(fmt);
}

static void json_address(struct hf_fmt *fmt, const char *name, const struct sockaddr_storage *addr)
{
	if (addr->ss_family != AF_INET && addr->ss_family != AF_INET6)
		return;
	json_name(fmt, name);
	hf_fmt_str(fmt, "\"");
	hf_fmt_addr(fmt, (const struct sockaddr *)addr);
	hf_fmt_str(fmt, "\"");
	hf_fmt_boundary(fmt);
}

static void json_head(struct hf_fmt *fmt, const struct hf_event *event, const char *prog, int pid,
		      const struct timespec *now)
{
	hf_fmt_str(fmt, "{\"ts\":\"");
	hf_fmt_time(fmt, now);
	hf_fmt_str(fmt, "\"");
	hf_fmt_boundary(fmt);
	json_string(fmt, "event", kinds[event->kind].name, MAX_PROG);
	json_number(fmt, "pid", pid);
	json_string(fmt, "prog", prog, MAX_PROG);
	json_number(fmt, "fd", event->fd);
	if (event->conn != 0) {
		json_name(fmt, "conn");
		hf_fmt_str(fmt, "\"");
		hf_fmt_hex(fmt, event->conn);
		hf_fmt_str(fmt, "\"");
		hf_fmt_boundary(fmt);
	}
	json_string(fmt, "mode", event->has_mode ? modes[event->mode] : NULL, MAX_PROG);
	json_string(fmt, "role", !event->has_role ? NULL : event->client ? "client" : "server", MAX_PROG);
	json_address(fmt, "local", &event->local);
	json_address(fmt, "peer", &event->peer);
}

static size_t format_json(char *buf, size_t size, const struct hf_event *event, const char *prog, int pid,
			  const struct timespec *now, uint64_t suppressed)
{
	struct hf_fmt fmt;

	hf_fmt_init(&fmt, buf, size, 2);
	json_head(&fmt, event, prog, pid, now);
	json_string(&fmt, "reason", event->reason != HF_WHY_NONE ? reasons[event->reason] : NULL, MAX_PROG);
	json_string(&fmt, "action", event->has_action ? actions[event->action] : NULL, MAX_PROG);
	json_number(&fmt, "silent_ms", event->silent_ms);
	json_number(&fmt, "rtt_us", event->rtt_us);
	json_number(&fmt, "unacked", event->unacked);
	json_number(&fmt, "unread", event->unread);
	json_number(&fmt, "sent", event->sent);
	json_number(&fmt, "received", event->received);
	json_string(&fmt, "peer_prog", event->peer_prog, MAX_PROG);
	json_number(&fmt, "peer_pid", event->peer_pid);
	json_string(&fmt, "peer_host", event->peer_host, MAX_HOST);
	json_string(&fmt, "peer_info", event->peer_info, MAX_INFO);
	json_number(&fmt, "down_ms", event->down_ms);
	json_number(&fmt, "resent", event->resent);
	json_string(&fmt, "detail", event->detail, MAX_DETAIL);
	json_number(&fmt, "suppressed", suppressed > 0 ? (int64_t)suppressed : -1);
	return hf_fmt_end(&fmt, "}\n");
}

size_t hf_report_format(char *buf, size_t size, enum hf_format format, const struct hf_event *event, const char *prog,
			int pid, const struct timespec *now)
{
	size_t tag;

	if (format == HF_JSON)
		return format_json(buf, size, event, prog, pid, now, event->suppressed);
	return format_text(buf, size, event, prog, pid, event->suppressed, &tag);
}

/* From an event to the sinks */

void hf_report_open(const struct hf_config *config, const char *prog)
{
	program = prog;
	hf_sink_open(config->sinks, config->nsinks);
	settings = config;
}

/* A reset is everyday business, and the program is told of it by the kernel itself. */
static enum hf_level level_of(const struct hf_event *event)
{
	return event->kind == HF_EV_DEAD && event->reason == HF_WHY_RESET ? HF_INFO : kinds[event->kind].level;
}

bool hf_report_wanted(enum hf_event_kind kind)
{
	return settings != NULL && hf_sink_count() > 0 && !atomic_load(&hf_sys_confined) &&
	       kinds[kind].level <= settings->level;
}

void hf_report_pin(void)
{
	if (settings != NULL)
		hf_sink_pin();
}

void hf_report(const struct hf_event *event)
{
	char text[HF_LINE];
	struct timespec now = {0, 0};
	struct hf_line line = {.text = text, .level = level_of(event)};
	uint32_t told = 0;

	if (!hf_report_wanted(event->kind) || line.level > settings->level)
		return;
	hf_sys_clock_gettime(CLOCK_REALTIME, &now);
	line.pid = hf_sys_getpid(); /* anew for each line: this may be a forked child */
	for (size_t i = 0; i < hf_sink_count(); i++) {
		uint32_t lost = hf_sink_take_lost(i);

		/* Formatted again only for a sink that has lost lines of its own to tell. */
		if (line.len == 0 || lost != told) {
			uint64_t suppressed = (uint64_t)event->suppressed + lost;

			line.len = settings->format == HF_JSON
					   ? format_json(text, sizeof(text), event, program, line.pid, &now, suppressed)
					   : format_text(text, sizeof(text), event, program, line.pid, suppressed,
							 &line.tag);
			told = lost;
		}
		hf_sink_put(i, &line, lost);
	}
}

void hf_report_stderr(const char *line)
{
	hf_sink_stderr(line);
}

bool hf_report_owns(int fd)
{
	return hf_sink_owns(fd);
}

int hf_report_next_fd(int from)
{
	return hf_sink_next_fd(from);
}

void hf_report_stderr_replaced(void)
{
	hf_sink_stderr_replaced();
}

bool hf_rate_allow(struct hf_rate *rate, uint64_t now_ms, uint32_t *suppressed)
{
	const uint64_t every = 10000, burst = 10;
	uint64_t until = rate->owed_until > now_ms ? rate->owed_until : now_ms;

	*suppressed = 0;
	if (until - now_ms > every * (burst - 1)) {
		if (rate->suppressed < UINT32_MAX)
			rate->suppressed++;
		return false;
	}
	rate->owed_until = until + every;
	*suppressed = rate->suppressed;
	rate->suppressed = 0;
	return true;
}
