/*
 * The judge: what the kernel's evidence says of one connection, and what to do about it.
 *
 * Pure: takes times and evidence in, gives events, an action and the time of the next look out.  No system call, no
 * clock, no lock, no socket header; one struct per connection, touched by one thread (the watchdog).
 * All times are milliseconds on one monotonic clock chosen by the caller; ages are milliseconds before "now".
 *
 * The terms are those of RFC 9293 and of tcp(7), struct tcp_info.
 */
#ifndef HOLDFAST_CORE_JUDGE_H
#define HOLDFAST_CORE_JUDGE_H

#include <holdfast/event.h>
#include <stdbool.h>
#include <stdint.h>

/* TCP states as Linux numbers them (linux/tcp_states.h); repeated so that core includes no socket header. */
enum hf_tcp_state {
	HF_TCP_ESTABLISHED = 1,
	HF_TCP_SYN_SENT,
	HF_TCP_SYN_RECV,
	HF_TCP_FIN_WAIT1,
	HF_TCP_FIN_WAIT2,
	HF_TCP_TIME_WAIT,
	HF_TCP_CLOSE,
	HF_TCP_CLOSE_WAIT,
	HF_TCP_LAST_ACK,
	HF_TCP_LISTEN,
	HF_TCP_CLOSING,
};

/* Whether the peer's FIN has come to a connection in that state, and it is not over. */
static inline bool hf_tcp_peer_ended(int state)
{
	return state == HF_TCP_CLOSE_WAIT || state == HF_TCP_LAST_ACK || state == HF_TCP_CLOSING;
}

/* Which of the program's calls moved bytes last, as far as the library saw it. */
enum hf_last_call { HF_LAST_UNKNOWN, HF_LAST_READ, HF_LAST_WRITE };

/* One look at a connection: TCP_INFO (tcpi_ names), SIOCINQ, and what the hooks saw. */
struct hf_evidence {
	enum hf_tcp_state state;
	uint32_t probes; /* tcpi_probes: keepalive or zero-window probes not yet answered */
	uint32_t backoff, retransmits;
	uint32_t unacked; /* segments sent and not acknowledged */
	uint32_t notsent; /* bytes written and not yet sent once */
	uint32_t snd_wnd; /* bytes the peer is ready to take; meaningful if has_snd_wnd */
	bool has_snd_wnd;
	uint32_t rtt_us, rto_us;
	uint32_t age_data_sent; /* tcpi_last_data_sent */
	uint32_t age_data_recv; /* tcpi_last_data_recv */
	uint32_t age_ack_recv;  /* tcpi_last_ack_recv */
	uint64_t bytes_acked, bytes_received;
	uint32_t segs_in, data_segs_in;
	uint32_t unread; /* SIOCINQ: bytes our program has not read */
	enum hf_last_call last_call;
	int error_seen;     /* errno a hook saw the kernel deliver on this connection, 0 for none */
	bool quiet;         /* set by others, not looked at here: nothing but a sign of life since the last look */
	bool error_pending; /* poll(2) says POLLERR: an error nobody has collected yet; looked at in CLOSE only */
};

/* What the operator asked for, in milliseconds; 0 switches an optional timeout off. */
struct hf_policy {
	uint32_t interval;     /* silence before a probe */
	uint32_t timeout;      /* silence after which the peer is dead */
	uint32_t data_timeout; /* the program's own TCP_USER_TIMEOUT, kept for it: bound on unanswered data; 0: none */
	bool abort_on_dead;
	uint32_t reply_timeout;
	bool abort_on_unanswered;
	uint32_t connect_timeout;
	uint32_t stall_timeout;
	bool abort_on_stall;
	uint32_t half_close_timeout;
	bool abort_on_half_close;
};

/* Per-connection memory.  Zero it through hf_judge_init() only.  Times are absolute, 0 meaning "not". */
struct hf_judge {
	uint64_t since;       /* nothing from before this counts: start of the connection, or end of a pause of ours */
	uint64_t life_at;     /* when the peer's kernel was last heard, as of the last look */
	uint64_t asked_since; /* when the oldest question still unanswered was put */
	uint64_t progress_at; /* when our bytes last moved towards the peer, or nothing waited */
	uint64_t moved_at;    /* when bytes last moved in either direction */
	uint64_t owed_since;  /* since when the peer owes a reply */
	uint64_t last_look;
	uint64_t bytes_acked, bytes_received;
	uint64_t stalled_since;
	uint32_t segs_in, data_segs_in;
	uint8_t state; /* enum hf_tcp_state at the last look */
	bool seen : 1, repeats : 1, connecting : 1, sent : 1, late : 1, dead : 1, stalled : 1, half_closed : 1;
	bool half_close_told : 1;
	bool unanswered : 1; /* a missing reply was told: only more bytes arm the next */
};

/* What one look led to. */
struct hf_ruling {
	uint32_t events;       /* bits 1u << enum hf_event_kind, to be told in enumerator order */
	enum hf_reason reason; /* with the dead event */
	bool end;              /* end the connection: every later call fails with ETIMEDOUT */
	bool gone;             /* the kernel has ended it already: nothing left to watch */
	bool reconnects;       /* set by others: not ended, it may go on over another connection */
	bool ask;              /* put a question now: force a keepalive probe */
	uint64_t silent; /* how long the peer has been silent, or has taken nothing, moved nothing, owed a reply */
	uint64_t next;   /* when to look again, absolute; always later than now */
};

/* A connection first looked at NOW; CONNECTING if its SYN may still be unanswered. */
void hf_judge_init(struct hf_judge *judge, uint64_t now, bool connecting);

/* The watching side itself was paused until NOW (stopped, suspended): every timer starts afresh. */
void hf_judge_pause(struct hf_judge *judge, uint64_t now);

/* Look at EVIDENCE taken at NOW. NOW never runs backwards. */
void hf_judge_look(struct hf_judge *judge, const struct hf_policy *policy, uint64_t now,
		   const struct hf_evidence *evidence, struct hf_ruling *ruling);

/*
 * Whether the peer's kernel itself may be gone, as of the last look: a question to it is open, and it has been silent
 * for a quarter of the timeout.  A peer whose kernel answers is called hung; this one is not, before the path is
 * judged.
 */
bool hf_judge_path_in_doubt(const struct hf_judge *judge, const struct hf_policy *policy, uint64_t now,
			    const struct hf_evidence *evidence);

/*
 * The longest time, in ms, between the moment a verdict is due and the look that gives it, for this policy: the tick
 * of README, "How verdicts are made".
 */
uint32_t hf_judge_tick(const struct hf_policy *policy);

/* Keepalive as setsockopt takes it: seconds and a count (tcp(7)). */
struct hf_keepalive {
	bool on;              /* SO_KEEPALIVE */
	uint32_t idle, intvl; /* TCP_KEEPIDLE, TCP_KEEPINTVL: 1..32767 s */
	uint32_t cnt;         /* TCP_KEEPCNT: 1..127 */
};

/*
 * The keepalive to give the kernel: the stricter of what the program set and what the operator wants, in each of:
 * first probe, probe spacing, time of death.  The operator's time of death is a backstop behind the watchdog's own
 * (timeout + 2 intervals) when policy->abort_on_dead, and never otherwise.
 */
struct hf_keepalive hf_keepalive_merge(const struct hf_keepalive *program, const struct hf_policy *policy);

/* The time of death in ms that a keepalive setting promises on an idle connection; UINT64_MAX when off. */
uint64_t hf_keepalive_death(const struct hf_keepalive *keepalive);

/*
 * TCP_RTO_MAX_MS (Linux 6.15) for a watched connection, or 0 to leave it alone.  Low enough that retransmissions and
 * zero-window probes come several times a timeout, high enough that the kernel's own limit of RETRIES2
 * (net.ipv4.tcp_retries2) retransmissions comes well after the timeout.
 */
uint32_t hf_rto_max(const struct hf_policy *policy, uint32_t retries2);

#endif
