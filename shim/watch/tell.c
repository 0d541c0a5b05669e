#include "watch/tell.h"
#include "hand.h"
#include "io/redial.h"
#include "io/resume.h"
#include "runtime.h"
#include "state/proc.h"
#include "sys.h"
#include "watch/publish.h"
#include "watch/socket.h"

#include <errno.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>

/* What the peer has said of itself, out of memory that others may be writing to: with an end, whatever stands there. */
struct words {
	char prog[HF_PROG_SIZE + 1], host[HF_HOST_SIZE + 1], info[HF_INFO_SIZE + 1];
};

static const char *copy(char *to, const char *from, size_t size)
{
	memcpy(to, from, size);
	to[size - 1] = '\0';
	return to;
}

static void fill_peer(struct hf_event *event, const struct hf_hello *peer, struct words *words)
{
	event->peer_prog = copy(words->prog, peer->prog, sizeof(words->prog));
	event->peer_pid = peer->pid;
	event->peer_host = copy(words->host, peer->host, sizeof(words->host));
	event->peer_info = copy(words->info, peer->info, sizeof(words->info));
	if (words->host[0] == '\0')
		event->peer_host = NULL;
	if (words->info[0] == '\0')
		event->peer_info = NULL;
}

/* WORDS must live as long as EVENT. */
static void fill(struct hf_event *event, struct hf_slot *slot, const struct hf_evidence *evidence, struct words *words)
{
	union hf_address address;
	int queued = 0, hand;

	event->fd = atomic_load(&slot->fd);
	event->conn = atomic_load(&slot->cookie);
	event->mode = hf_wrap_of(slot) != NULL ? HF_MODE_WRAP : HF_MODE_PROBE;
	event->has_mode = true;
	event->client = atomic_load(&slot->client) != 0;
	event->has_role = atomic_load(&slot->has_role) != 0;
	(void)hf_ends_get(&slot->ends, false, &address);
	memcpy(&event->local, &address, sizeof(address));
	(void)hf_ends_get(&slot->ends, true, &address);
	memcpy(&event->peer, &address, sizeof(address));
	/* Believed only once the handshake is over. */
	if (hf_wrap_of(slot) != NULL && atomic_load(&hf_wrap_of(slot)->phase) == HF_PHASE_ON)
		fill_peer(event, &hf_wrap_of(slot)->peer, words);
	if (evidence == NULL || evidence->state == HF_TCP_SYN_SENT)
		return;
	event->rtt_us = evidence->rtt_us;
	hand = hf_hand_take(event->fd);
	if (hf_sys_ioctl(hand, SIOCOUTQ, &queued) == 0)
		event->unacked = queued;
	hf_hand_drop(hand);
	event->unread = evidence->unread;
	event->sent = (int64_t)evidence->bytes_acked;
	event->received = (int64_t)evidence->bytes_received;
}

/* What was done about the events that can have an action. */
static void fill_action(struct hf_event *event, const struct hf_ruling *ruling)
{
	switch (event->kind) {
	case HF_EV_DEAD:
		event->reason = ruling->reason;
		/* fall through */
	case HF_EV_STALLED:
	case HF_EV_HALF_CLOSE_TIMEOUT:
		/* A reset connection was ended by the peer; there is nothing to do or to leave. */
		event->has_action = ruling->reason != HF_WHY_RESET;
		event->action = ruling->end ? HF_ABORT : ruling->reconnects ? HF_RECONNECT : HF_REPORT;
		break;
	default:
		break;
	}
}

/* Once in a connection's life: a connection that flapped must not die untold. */
static bool once(enum hf_event_kind kind, const struct hf_ruling *ruling)
{
	return kind == HF_EV_OPEN || kind == HF_EV_CLOSED || (kind == HF_EV_DEAD && (ruling->end || ruling->gone));
}

void hf_tell(struct hf_slot *slot, uint64_t now, const struct hf_evidence *evidence, const struct hf_ruling *ruling)
{
	for (uint32_t left = ruling->events; left != 0; left &= left - 1) {
		enum hf_event_kind kind = (enum hf_event_kind)__builtin_ctz(left);
		struct hf_event event;
		struct words words;

		if (!hf_report_wanted(kind))
			continue;
		if (kind == HF_EV_DEAD && ruling->reason == HF_WHY_RESET && atomic_exchange(&slot->told_reset, 1) != 0)
			continue;
		hf_event_init(&event, kind);
		if (!once(kind, ruling) && !hf_rate_allow(&hf_rare(slot)->rate, now, &event.suppressed))
			continue;
		fill(&event, slot, evidence, &words);
		event.silent_ms = (int64_t)ruling->silent;
		fill_action(&event, ruling);
		hf_report(&event);
	}
}

void hf_tell_one(struct hf_slot *slot, enum hf_event_kind kind, const struct hf_evidence *evidence)
{
	struct hf_event event;
	struct words words;

	if (!hf_report_wanted(kind))
		return;
	hf_event_init(&event, kind);
	fill(&event, slot, evidence, &words);
	hf_report(&event);
}

void hf_tell_now(struct hf_slot *slot, int fd, enum hf_event_kind kind, const char *detail)
{
	struct hf_evidence evidence;
	struct hf_event event;
	struct words words;

	if (!hf_report_wanted(kind))
		return;
	if ((slot->ends.known & HF_ENDS_LOCAL) == 0)
		hf_socket_names(slot, fd);
	hf_event_init(&event, kind);
	fill(&event, slot, hf_socket_look(slot, fd, 0, &evidence) ? &evidence : NULL, &words);
	event.detail = detail;
	hf_report(&event);
}

static const char *why_failed(struct hf_slot *slot)
{
	static const char *const texts[] = {
		[HF_WRAP_WHY_KEY] = "refused: the peer's HOLDFAST_KEY_FILE is another, or one side has none",
		[HF_WRAP_WHY_VERSION] = "refused: the peer speaks another version of holdfast",
		[HF_WRAP_WHY_BROKEN] = "refused: the peer's greeting makes no sense",
		[HF_WRAP_WHY_REFUSED] = "the peer refused us: another key or none, or another version of holdfast",
		[HF_WRAP_WHY_PLAIN] = "refused: the peer does not speak holdfast (HOLDFAST_FALLBACK=fail)",
	};
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint8_t why = wrap != NULL ? atomic_load(&wrap->why) : HF_WRAP_WHY_NONE;

	return why < sizeof(texts) / sizeof(texts[0]) ? texts[why] : NULL;
}

void hf_tell_failed(struct hf_slot *slot, int fd, int error)
{
	struct hf_evidence evidence;
	struct hf_event event;
	struct words words;
	const char *why = why_failed(slot);

	if (why == NULL && error != EPROTO)
		return;
	if (!hf_report_wanted(why != NULL ? HF_EV_CONFIG : HF_EV_CORRUPT))
		return;
	if ((slot->ends.known & HF_ENDS_LOCAL) == 0)
		hf_socket_names(slot, fd);
	hf_event_init(&event, why != NULL ? HF_EV_CONFIG : HF_EV_CORRUPT);
	fill(&event, slot, hf_socket_look(slot, fd, 0, &evidence) ? &evidence : NULL, &words);
	event.detail = why;
	hf_report(&event);
}

void hf_tell_reset(struct hf_slot *slot, int fd)
{
	struct hf_event event;
	struct hf_evidence evidence;
	struct words words;

	/* Only of connections that lived past the grace: their addresses are known, and short ones are none of ours. */
	if (!hf_report_wanted(HF_EV_DEAD) || atomic_load(&slot->tuned) == 0 ||
	    atomic_exchange(&slot->told_reset, 1) != 0)
		return;
	hf_event_init(&event, HF_EV_DEAD);
	fill(&event, slot, hf_socket_look(slot, fd, 0, &evidence) ? &evidence : NULL, &words);
	event.reason = HF_WHY_RESET;
	hf_report(&event);
}

void hf_tell_reconnecting(struct hf_slot *slot, uint64_t now, const struct hf_evidence *evidence,
			  struct hf_ruling *ruling)
{
	ruling->reconnects = true;
	hf_tell(slot, now, evidence, ruling);
}

void hf_tell_resume(struct hf_slot *slot, enum hf_event_kind kind, enum hf_reason reason, uint64_t down,
		    uint64_t resent)
{
	const struct hf_resume *resume = hf_resume_of(slot);
	uint64_t until = resume != NULL ? resume->until : hf_redial_until(slot);
	struct hf_event event;
	struct words words;

	hf_publish_event(slot, kind, reason, resume != NULL ? resume->broken_at : hf_redial_since(slot),
			 kind == HF_EV_BROKEN ? until : 0);
	if (!hf_report_wanted(kind))
		return;
	hf_event_init(&event, kind);
	fill(&event, slot, NULL, &words);
	event.unread = (int64_t)hf_resume_inbox(slot);
	if (kind == HF_EV_BROKEN)
		event.reason = reason;
	else
		event.down_ms = (int64_t)down;
	if (kind == HF_EV_RESUMED)
		event.resent = (int64_t)resent;
	hf_report(&event);
}

/* A config event of DETAIL, once in a process: TOLD is its epoch. */
static void tell_once(_Atomic uint32_t *told, const char *detail)
{
	uint32_t epoch = atomic_load(hf_proc_epoch);
	struct hf_event event;

	if (atomic_exchange(told, epoch) == epoch || !hf_report_wanted(HF_EV_CONFIG))
		return;
	hf_event_init(&event, HF_EV_CONFIG);
	event.detail = detail;
	hf_report(&event);
}

void hf_tell_alone(void)
{
	static _Atomic uint32_t told;

	tell_once(&told, "no thread or memory for the watchdog: only the kernel's keepalive watches connections here");
}

void hf_tell_out_of_reach(void)
{
	static _Atomic uint32_t told;

	tell_once(&told, "the watchdog may not look at a socket (too many open files, or a security module): "
			 "only the kernel's keepalive watches it until the next connection is made");
}
