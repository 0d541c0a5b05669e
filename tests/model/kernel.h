/*
 * A model of the two Linux kernels at the ends of one TCP connection, and of the path between them.
 *
 * As much of net/ipv4/tcp_{input,output,timer}.c as the watchdog's evidence depends on: which segment moves which age,
 * when keepalive, retransmission and window probes fire and back off, what is answered and what is rate-limited.
 * Times are milliseconds from NOW of the simulation, sizes bytes.  Static functions only, for one test program.
 */
#ifndef HOLDFAST_TESTS_MODEL_KERNEL_H
#define HOLDFAST_TESTS_MODEL_KERNEL_H

#include <stdbool.h>
#include <stdint.h>

#define NEVER UINT64_MAX

enum {
	MSS = 1460,
	CWND = 10,        /* segments in flight; congestion control decides nothing a verdict depends on */
	SNDBUF = 65536,   /* unacknowledged and unsent bytes a program may leave behind */
	RTO_MIN = 200,    /* TCP_RTO_MIN */
	RTO_MAX = 120000, /* TCP_RTO_MAX */
	OOW_MS = 500,     /* net.ipv4.tcp_invalid_ratelimit: one answer to keepalive and window probes in so long */
	FLIGHT = 512,     /* segments on the path in one direction */
};

struct segment {
	uint64_t at, seq, ack;
	uint32_t len, wnd;
};

/* One direction of the path: a constant delay keeps segments in order. */
struct wire {
	struct segment ring[FLIGHT];
	uint32_t head, tail;
	uint32_t delay;
	double loss;
	bool cut;
};

struct tcp {
	/* Sending. Sequence numbers start at 1, so that bytes_acked is snd_una - 1. */
	uint64_t snd_una, snd_nxt, write_seq, resend, lost_to;
	uint64_t retrans_stamp, lsndtime, sample_seq, sample_at;
	uint32_t snd_wnd, rtt, rto_base, rto, backoff, retransmits, probes, dupacks;
	uint64_t rto_at, probe0_at, keep_at;
	/* Receiving. */
	uint64_t rcv_nxt, read_seq, lrcvtime, rcv_tstamp, last_oow;
	uint32_t rcvbuf, advertised;
	/* Settings. */
	bool keepalive;
	uint32_t keepidle, keepintvl, keepcnt; /* ms, ms, count */
	uint32_t rto_max, retries2;
	bool closed;
	/* What really happened: the oracle's, hidden from the judge. */
	uint64_t life;     /* when the peer's kernel was last heard */
	uint64_t asked[3]; /* when the first, second, third transmission since then left; 0: not yet */
	uint32_t chances;  /* transmissions since then that a live peer would have answered had none been lost */
	uint64_t chance_at;
	struct wire *out;
};

static uint64_t now;
static uint64_t rng;

static inline uint64_t rnd(void)
{
	/* splitmix64 */
	uint64_t z = (rng += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* LOW to HIGH, both included. */
static inline uint32_t between(uint32_t low, uint32_t high)
{
	return low + (uint32_t)(rnd() % ((uint64_t)high - low + 1));
}

static inline bool chance(double p)
{
	return (double)(rnd() >> 11) < p * 9007199254740992.0;
}

static inline uint64_t min64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t max64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static inline bool flying(const struct tcp *tcp)
{
	return tcp->snd_nxt != tcp->snd_una;
}

static inline uint32_t unsent(const struct tcp *tcp)
{
	return (uint32_t)(tcp->write_seq - tcp->snd_nxt);
}

static inline void tcp_open(struct tcp *tcp, struct wire *out, uint32_t rcvbuf, uint32_t peer_rcvbuf, uint32_t rtt)
{
	*tcp = (struct tcp){.out = out, .rcvbuf = rcvbuf, .advertised = rcvbuf, .snd_wnd = peer_rcvbuf, .rtt = rtt};
	tcp->snd_una = tcp->snd_nxt = tcp->write_seq = tcp->rcv_nxt = tcp->read_seq = 1;
	tcp->lsndtime = tcp->lrcvtime = tcp->rcv_tstamp = tcp->life = now;
	tcp->rto_max = RTO_MAX;
	tcp->retries2 = 15;
	tcp->rto = tcp->rto_base = rtt + RTO_MIN;
	tcp->rto_at = tcp->probe0_at = tcp->keep_at = NEVER;
}

static inline void emit(struct tcp *tcp, uint64_t seq, uint32_t len)
{
	struct wire *wire = tcp->out;
	uint64_t held = tcp->rcv_nxt - tcp->read_seq;
	uint32_t wnd = held < tcp->rcvbuf ? tcp->rcvbuf - (uint32_t)held : 0;

	/* Silly window avoidance (RFC 9293, 3.8.6.2.2): no crumbs. */
	tcp->advertised = wnd < MSS && wnd < tcp->rcvbuf / 2 ? 0 : wnd;
	if (wire->cut || chance(wire->loss) || wire->tail - wire->head == FLIGHT)
		return;
	wire->ring[wire->tail++ % FLIGHT] =
		(struct segment){now + wire->delay, seq, tcp->rcv_nxt, len, tcp->advertised};
}

/* The oracle's note of a transmission that calls for an answer. */
static inline void asked(struct tcp *tcp, bool limited)
{
	for (int i = 0; i < 3; i++)
		if (tcp->asked[i] == 0) {
			tcp->asked[i] = now;
			break;
		}
	if (limited && tcp->chances != 0 && now - tcp->chance_at < OOW_MS)
		return;
	tcp->chances++;
	tcp->chance_at = now;
}

static inline void heard(struct tcp *tcp)
{
	tcp->life = now;
	tcp->asked[0] = flying(tcp) ? now : 0; /* what was on its way stays asked */
	tcp->asked[1] = tcp->asked[2] = 0;
	tcp->chances = 0;
}

static inline void send_data(struct tcp *tcp, uint64_t seq)
{
	/* A segment sent again does not grow. */
	uint64_t end = min64(seq + MSS, seq < tcp->snd_nxt ? tcp->snd_nxt : tcp->write_seq);

	tcp->lsndtime = now; /* tcp_event_data_sent(): retransmissions count */
	emit(tcp, seq, (uint32_t)(end - seq));
	asked(tcp, false);
	if (end > tcp->snd_nxt)
		tcp->snd_nxt = end;
}

static inline void send_probe(struct tcp *tcp)
{
	emit(tcp, tcp->snd_una - 1, 0); /* tcp_xmit_probe_skb() */
	asked(tcp, true);
}

static inline uint64_t probe0_when(const struct tcp *tcp)
{
	uint64_t base = max64(tcp->rto_base, RTO_MIN);

	return min64(base << (tcp->backoff < 10 ? tcp->backoff : 10), tcp->rto_max);
}

/* tcp_write_xmit() and tcp_check_probe_timer(): what the window allows; else the probe timer. */
static inline void transmit(struct tcp *tcp)
{
	if (tcp->closed)
		return;
	/* After a timeout the congestion window is one segment: nothing new until what was lost is through. */
	while (tcp->snd_nxt < tcp->write_seq && tcp->retransmits == 0) {
		uint64_t end = min64(tcp->snd_nxt + MSS, tcp->write_seq);

		if (end > tcp->snd_una + tcp->snd_wnd || end > tcp->snd_una + (uint64_t)CWND * MSS)
			break;
		if (!flying(tcp)) {
			tcp->rto_at = now + tcp->rto;
			tcp->sample_seq = end;
			tcp->sample_at = now;
		}
		send_data(tcp, tcp->snd_nxt);
	}
	if (flying(tcp) || unsent(tcp) == 0)
		tcp->probe0_at = NEVER;
	else if (tcp->probe0_at == NEVER)
		tcp->probe0_at = now + max64(tcp->rto_base, RTO_MIN);
}

static inline void new_rtt(struct tcp *tcp, uint32_t sample)
{
	tcp->rtt = (7 * tcp->rtt + sample) / 8;
	if (sample > tcp->rtt)
		tcp->rtt = sample;
	tcp->rto_base = (uint32_t)min64(tcp->rtt + RTO_MIN, tcp->rto_max); /* tcp_bound_rto() */
}

/* tcp_ack() */
static inline void take_ack(struct tcp *tcp, uint64_t ack, uint32_t wnd, bool pure)
{
	bool flew = flying(tcp);

	if (ack < tcp->snd_una || ack > tcp->snd_nxt)
		return;
	tcp->probes = 0;
	tcp->rcv_tstamp = now;
	if (ack > tcp->snd_una) {
		if (tcp->sample_seq != 0 && ack >= tcp->sample_seq && tcp->retransmits == 0)
			new_rtt(tcp, (uint32_t)(now - tcp->sample_at));
		tcp->sample_seq = 0;
		tcp->snd_una = ack;
		tcp->retransmits = tcp->backoff = tcp->dupacks = 0;
		tcp->rto = tcp->rto_base;
		tcp->rto_at = flying(tcp) ? now + tcp->rto : NEVER;
		for (int i = 0; i < 2 && tcp->lost_to > max64(tcp->resend, ack); i++) {
			tcp->resend = max64(tcp->resend, ack);
			send_data(tcp, tcp->resend);
			tcp->resend += MSS;
		}
	} else if (flew && pure && wnd == tcp->snd_wnd && ++tcp->dupacks == 3) {
		send_data(tcp, tcp->snd_una); /* fast retransmit */
	}
	tcp->snd_wnd = wnd;
	heard(tcp);
	if (!flew && unsent(tcp) > 0) { /* tcp_ack_probe() */
		if (min64(MSS, unsent(tcp)) <= wnd) {
			tcp->backoff = 0;
			tcp->probe0_at = NEVER;
		} else {
			tcp->probe0_at = now + probe0_when(tcp);
		}
	}
	transmit(tcp);
}

static inline void answer_limited(struct tcp *tcp)
{
	if (tcp->last_oow != 0 && now - tcp->last_oow < OOW_MS)
		return; /* tcp_oow_rate_limited() */
	tcp->last_oow = now;
	emit(tcp, tcp->snd_nxt, 0);
}

/* tcp_rcv_established() */
static inline void take_segment(struct tcp *tcp, const struct segment *seg)
{
	uint64_t end = seg->seq + seg->len;

	if (tcp->closed)
		return;
	if (seg->len == 0 && seg->seq < tcp->rcv_nxt) {
		answer_limited(tcp); /* a probe: old, so it is answered and never reaches tcp_ack() */
		return;
	}
	if (seg->len == 0) {
		take_ack(tcp, seg->ack, seg->wnd, true);
		return;
	}
	if (end < tcp->rcv_nxt) { /* tcp_sequence(): before rcv_wup */
		emit(tcp, tcp->snd_nxt, 0);
		return;
	}
	if (seg->seq <= tcp->rcv_nxt && end > tcp->rcv_nxt && end - tcp->read_seq <= (uint64_t)tcp->rcvbuf + MSS) {
		/* Header prediction leaves the ages of acknowledgements alone. */
		tcp->rcv_nxt = end;
		tcp->lrcvtime = tcp->life = now;
		tcp->chances = 0;
		if (seg->ack != tcp->snd_una || seg->wnd != tcp->snd_wnd)
			take_ack(tcp, seg->ack, seg->wnd, false);
	} else {
		take_ack(tcp, seg->ack, seg->wnd, false); /* a repeated last segment, or one out of order */
	}
	emit(tcp, tcp->snd_nxt, 0);
}

/* The program reads up to MOST bytes; the peer is told when the window opens again. */
static inline void tcp_read(struct tcp *tcp, uint64_t most)
{
	uint32_t before = tcp->advertised;
	uint64_t held = tcp->rcv_nxt - tcp->read_seq, take = min64(held, most), wnd;

	tcp->read_seq += take;
	wnd = tcp->rcvbuf - min64(held - take, tcp->rcvbuf);
	if (take != 0 && before < MSS && wnd >= min64(2 * MSS, tcp->rcvbuf / 2))
		emit(tcp, tcp->snd_nxt, 0);
}

static inline bool tcp_write(struct tcp *tcp, uint32_t size)
{
	if (tcp->closed || tcp->write_seq - tcp->snd_una + size > SNDBUF)
		return false;
	tcp->write_seq += size;
	transmit(tcp);
	return true;
}

/* tcp_model_timeout(): for how long RETRIES retransmissions last. */
static inline uint64_t patience(uint32_t retries, uint64_t rto_max)
{
	uint64_t sum = 0, rto = RTO_MIN;

	for (uint32_t i = 0; i <= retries; i++, rto *= 2)
		sum += min64(rto, rto_max);
	return sum;
}

/* tcp_retransmit_timer() */
static inline void rto_fires(struct tcp *tcp)
{
	tcp->rto_at = NEVER;
	if (!flying(tcp))
		return;
	if (tcp->retransmits == 0)
		tcp->retrans_stamp = now;
	else if (now - tcp->retrans_stamp >= patience(tcp->retries2, tcp->rto_max)) {
		tcp->closed = true;
		return;
	}
	tcp->sample_seq = 0; /* Karn */
	tcp->lost_to = tcp->snd_nxt;
	tcp->resend = tcp->snd_una + MSS;
	tcp->retransmits++;
	tcp->backoff++;
	send_data(tcp, tcp->snd_una);
	tcp->rto = (uint32_t)min64((uint64_t)tcp->rto * 2, tcp->rto_max);
	tcp->rto_at = now + tcp->rto;
}

/* tcp_probe_timer() */
static inline void probe0_fires(struct tcp *tcp)
{
	tcp->probe0_at = NEVER;
	if (flying(tcp) || unsent(tcp) == 0) {
		tcp->probes = 0;
		return;
	}
	if (tcp->probes >= tcp->retries2) {
		tcp->closed = true;
		return;
	}
	send_probe(tcp);
	tcp->probes++;
	if (tcp->backoff < tcp->retries2)
		tcp->backoff++;
	tcp->probe0_at = now + probe0_when(tcp);
}

/* keepalive_time_elapsed() */
static inline uint64_t idle_time(const struct tcp *tcp)
{
	return now - max64(tcp->lrcvtime, tcp->rcv_tstamp);
}

/* tcp_keepalive_timer() */
static inline void keepalive_fires(struct tcp *tcp)
{
	uint64_t elapsed = idle_time(tcp), wait = tcp->keepidle;

	if (!flying(tcp) && unsent(tcp) == 0) {
		if (elapsed < tcp->keepidle) {
			wait = tcp->keepidle - elapsed;
		} else if (tcp->probes >= tcp->keepcnt) {
			tcp->closed = true;
			tcp->keep_at = NEVER;
			return;
		} else {
			send_probe(tcp);
			tcp->probes++;
			wait = tcp->keepintvl;
		}
	}
	tcp->keep_at = now + wait;
}

/* tcp_sock_set_keepidle_locked(): arms the timer anew, at once if the silence is longer already. */
static inline void set_keepidle(struct tcp *tcp, uint32_t ms)
{
	uint64_t elapsed = idle_time(tcp);

	tcp->keepidle = ms;
	tcp->keepalive = true;
	tcp->keep_at = now + (ms > elapsed ? ms - elapsed : 0);
}

#endif
