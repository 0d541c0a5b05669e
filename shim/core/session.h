/*
 * A wrapped connection after the handshake: half-close states, beats and what the peer's beats say.
 *
 * Pure.  The states are TCP's own (RFC 9293, 3.3.2), of the channel inside the connection: a FIN is a FIN frame.
 *
 *                      send FIN                 receive FIN
 *   ESTABLISHED        FIN_WAIT                 CLOSE_WAIT
 *   FIN_WAIT           -                        TIME_WAIT (ours was acknowledged by theirs) or CLOSING
 *   CLOSE_WAIT         LAST_ACK                 -
 *   CLOSING, LAST_ACK  -> TIME_WAIT when the kernel has delivered everything (SIOCOUTQ 0), then CLOSED
 */
#ifndef HOLDFAST_CORE_SESSION_H
#define HOLDFAST_CORE_SESSION_H

#include "core/frame.h"

enum hf_session_state {
	HF_S_ESTABLISHED,
	HF_S_FIN_WAIT,   /* we have ended our direction; the peer may go on */
	HF_S_CLOSE_WAIT, /* the peer has ended its direction; we may go on */
	HF_S_CLOSING,    /* both ended at once: FINs crossed */
	HF_S_LAST_ACK,   /* the peer ended first, now we have too */
	HF_S_TIME_WAIT,  /* both FINs are through and delivered: the real shutdown is safe */
	HF_S_CLOSED,
};

struct hf_session {
	enum hf_session_state state;
	bool crossed; /* the peer's FIN came before it can have seen ours */
	/* Beats. Times in ms on the caller's monotonic clock, but *_us. */
	uint64_t beat_seq; /* of the last BEAT sent */
	uint64_t beats_sent, beats_received;
	uint64_t moved_at;      /* when a byte last moved in either direction, as far as known */
	uint64_t beat_due;      /* when the next BEAT is owed if nothing moves */
	uint64_t heard_at;      /* when the peer's shim last proved alive: any frame byte */
	uint64_t peer_time_us;  /* TIME of the peer's last BEAT, to echo */
	uint64_t peer_came_us;  /* when it came, our clock */
	uint32_t rtt_us;        /* smoothed round trip of beats, 0: unknown */
	uint64_t peer_received; /* program bytes the peer says it has */
	uint32_t peer_unread, peer_unread_ms, peer_state;
	uint32_t interval, peer_interval, peer_timeout; /* ms */
	uint32_t jitter;                                /* state of the generator; any non-zero seed */
};

void hf_session_init(struct hf_session *session, uint64_t now, uint32_t interval, uint32_t peer_interval,
		     uint32_t peer_timeout, uint32_t seed);

/* The program ended its direction and the FIN frame has been queued. */
void hf_session_fin_sent(struct hf_session *session);

/* A FIN frame came; OUR_FIN_SEEN: the peer's BEAT or the ledger shows it had ours. */
void hf_session_fin_received(struct hf_session *session);

/* The kernel has nothing outstanding any more (SIOCOUTQ 0). */
void hf_session_drained(struct hf_session *session);

/* Bytes moved: RECEIVED from the peer's shim or sent by us. Pushes the next beat off. */
void hf_session_moved(struct hf_session *session, uint64_t now, bool received);

/* A BEAT came. NOW_US is our monotonic clock in us. */
void hf_session_beat_received(struct hf_session *session, const struct hf_beat *beat, uint64_t now_us);

/* Whether a BEAT is owed at NOW: nothing moved in either direction for the interval, jittered by 0 to 25 %. */
bool hf_session_beat_owed(const struct hf_session *session, uint64_t now);

/* Make it; sets the next due time. RECEIVED, UNREAD, UNREAD_MS: as in the frame. */
void hf_session_beat_make(struct hf_session *session, uint64_t now_us, uint64_t received, uint32_t unread,
			  uint32_t unread_ms, struct hf_beat *beat);

/*
 * dead/hung: the peer's shim owes a beat every peer_interval (plus jitter) and nothing came from it for TIMEOUT.
 * Not while INSIDE a frame of the peer's (it cannot beat), nor while OUR program leaves data unread and the window
 * may be shut, nor while bytes of the peer's wait unread in our kernel (bytes_received moved: that is life).
 */
bool hf_session_hung(const struct hf_session *session, uint64_t now, uint32_t timeout, bool inside, bool window_shut);

#endif
