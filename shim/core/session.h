/*
 * A wrapped connection after the handshake: half-close states, beats and what the peer's beats say.
 *
 * Pure; the caller serialises calls on one session.  The states are TCP's own (RFC 9293, 3.3.2), of the channel inside
 * the connection: a FIN is a FIN frame, and a BYE or the kernel's own FIN ends a direction too.
 *
 *                      our FIN              peer's FIN                      peer done (BYE, kernel FIN)
 *   ESTABLISHED        FIN_WAIT             CLOSE_WAIT                      CLOSE_WAIT
 *   FIN_WAIT           -                    TIME_WAIT if it says SEEN,      TIME_WAIT
 *                                           else CLOSING: they crossed
 *   CLOSE_WAIT         LAST_ACK (SEEN),     -                               -
 *                      TIME_WAIT if done
 *   CLOSING            -                    - (BEAT with FIN_RECEIVED:      TIME_WAIT
 *   LAST_ACK           -                      TIME_WAIT)                    TIME_WAIT
 *   TIME_WAIT          CLOSED when the kernel has delivered everything (SIOCOUTQ 0): now the real shutdown
 *
 * "Both FINs came through" is not enough for the real shutdown: a peer that has not yet read our FIN, because its
 * program reads slowly, goes on beating, and a byte that comes in when both directions are shut is answered with a
 * reset.  TIME_WAIT means that nothing more can come: the peer's FIN answered ours, or its last BEAT did, or its kernel
 * direction has ended.  The real shutdown that follows is, for a peer in LAST_ACK or CLOSING, the missing answer.
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
	HF_S_TIME_WAIT,  /* both have ended, and nothing more comes from the peer: shut down when all is delivered */
	HF_S_CLOSED,     /* the real shutdown is due, or done */
};

enum { HF_BEAT_PACE_LEAST = 50 }; /* ms; a peer cannot make us beat faster */

struct hf_session {
	enum hf_session_state state;
	bool peer_done; /* BYE or the kernel's FIN came: no byte will come, and none need be sent */
	bool we_done;   /* BYE sent: the program is gone, what is left is delivery */
	bool mute;      /* our kernel direction is shut: no frame can follow */
	bool waiting;   /* bytes of ours were not yet acknowledged at the last look */
	bool last_beat; /* in CLOSING: our last frame is out */
	/* Beats.  Times in ms, but *_us, on one monotonic clock of the caller: ms is us / 1000. */
	uint64_t beat_seq; /* of the last BEAT sent */
	uint64_t beats_sent, beats_received;
	uint64_t moved_at; /* when program bytes last moved in either direction, delivery to the peer included */
	uint64_t beat_due; /* when the next BEAT is owed if nothing moves */
	uint64_t arrived, unread, received; /* at the last look */
	uint64_t undelivered;               /* at the last look at SIOCOUTQ, but for beats at its end */
	uint64_t heard_at;                  /* when a byte last came from the peer's shim */
	uint64_t troubled_at;               /* when segments of ours were last lost, 0: never */
	uint64_t held_at;                   /* when bytes of the peer's last waited unread */
	uint64_t peer_time_us;              /* TIME of the peer's last BEAT, to echo */
	uint64_t peer_came_us;              /* when it came, our clock */
	uint32_t rtt_us;                    /* smoothed round trip of beats, 0: unknown */
	uint64_t peer_received;             /* program bytes the peer says it has */
	uint32_t peer_unread, peer_unread_ms, peer_state;
	uint32_t pace;          /* ms between our beats: min(interval, peer_timeout / 3), HF_BEAT_PACE_LEAST at least */
	uint32_t peer_interval; /* ms */
	uint32_t jitter;        /* state of the generator; never zero */
};

void hf_session_init(struct hf_session *session, uint64_t now, uint32_t interval, uint32_t peer_interval,
		     uint32_t peer_timeout, uint32_t seed);

/* What to tell hf_tx_fin(): whether our FIN will answer the peer's. */
static inline bool hf_session_fin_seen(const struct hf_session *session)
{
	return session->state == HF_S_CLOSE_WAIT || session->state == HF_S_LAST_ACK; /* then it is said again */
}

/* The program ended its direction and the FIN has been queued, SEEN as it was queued. */
void hf_session_fin_sent(struct hf_session *session, bool seen);

/*
 * The program ended its direction inside a frame of ours, or after the peer was done: the real shutdown has been done
 * in place of a FIN.  We cannot beat any more, and the peer, taking us for closed, does not: no verdict from here on.
 * The caller does no real SHUT_RD after it until the peer is done, for the reset's sake.
 */
void hf_session_shut_sent(struct hf_session *session);

/* A FIN frame came; SEEN as news->fin_seen. */
void hf_session_fin_received(struct hf_session *session, bool seen);

/* The program has closed: BYE is queued, or is not needed (hf_session_may_speak() false), or cannot be sent. */
void hf_session_bye_sent(struct hf_session *session);

/* A BYE came, or the kernel's FIN (end of file, or tcpi_state shows it, read up to or not): beats would meet a reset.
 */
void hf_session_peer_done(struct hf_session *session);

/*
 * The kernel has nothing outstanding any more (SIOCOUTQ 0) and nothing is owed: TIME_WAIT becomes CLOSED, and so does
 * every state once the program has closed.  CLOSED asks for the real shutdown or close.
 */
void hf_session_drained(struct hf_session *session);

/*
 * Whether a control frame of ours may still go out: not once the peer may have shut both directions.  Ask before
 * queueing a BEAT, ACK or BYE (not a FIN).
 */
bool hf_session_may_speak(const struct hf_session *session);

/*
 * Until when what comes is no beat that is due: the peer, whose interval we know, owes none before something has stood
 * still for so long.  Half of it, for what one side has seen move the other may have seen a while ago.  TIMEOUT: ours.
 */
uint64_t hf_session_lively_until(const struct hf_session *session, uint32_t timeout);

/*
 * Program bytes (or a FIN) moved: RECEIVED by our kernel, or handed to it by us.  Pushes the next beat off.  Not for
 * beats: theirs must not silence ours.  Not for bytes that arrived earlier and are only now read by the program: a slow
 * reader would silence us while the peer sees nothing move.  See hf_session_arrived().
 */
void hf_session_moved(struct hf_session *session, uint64_t now, bool received);

/*
 * A look at SIOCOUTQ: OUTQ bytes are not yet acknowledged, TAIL is that of hf_tx.  While something other than beats of
 * ours is being delivered the peer sees movement and owes no beat: its idle time runs from the last of it.  Nor do we
 * owe one while anything waits: beats that pile up before a shut window would come in a heap that looks like data.
 */
void hf_session_outq(struct hf_session *session, uint64_t now, uint64_t outq, uint64_t tail);

/* A byte of any kind came from the peer, or the caller was stopped for a while: a fresh timeout for the peer. */
void hf_session_heard(struct hf_session *session, uint64_t now);

/*
 * A look at what has come: ARRIVED bytes in all (tcpi_bytes_received), UNREAD of them in our kernel (SIOCINQ), and
 * RECEIVED program bytes so far (of hf_rx).  To be called after the caller has taken the control frames that stand at
 * the front.  Any byte is life; what is not beats only has moved.  Behind data that was unread already nobody knows
 * what comes: there up to two beats' worth a look is taken for beats, so that theirs never silence ours.
 */
void hf_session_arrived(struct hf_session *session, uint64_t now, uint64_t arrived, uint64_t unread, uint64_t received);

/* A BEAT came.  NOW_US is our monotonic clock in us. */
void hf_session_beat_received(struct hf_session *session, const struct hf_beat *beat, uint64_t now_us);

/*
 * Whether a BEAT is owed at NOW: nothing moved in either direction for the pace, jittered by 0 to 25 %.  In CLOSING one
 * last beat is owed at once; none in LAST_ACK, TIME_WAIT and CLOSED, nor when either side is done.
 */
bool hf_session_beat_owed(const struct hf_session *session, uint64_t now);

/* The kernel is retransmitting what we sent (RFC 6298). */
void hf_session_troubled(struct hf_session *session, uint64_t now);

/* Make it, for hf_beat_make(); sets the next due time.  RECEIVED, UNREAD, UNREAD_MS: as in the frame. */
void hf_session_beat_make(struct hf_session *session, uint64_t now_us, uint64_t received, uint32_t unread,
			  uint32_t unread_ms, struct hf_beat *beat);

/*
 * dead/hung: the peer's shim owes a beat and nothing came from it for TIMEOUT (ours, as we told it in HELLO; twice the
 * peer's pace if that is longer), although nothing else moved either.  The caller sees to it that the peer's kernel
 * answers.  Not while INSIDE a frame of the peer's (!hf_rx_between(): it cannot beat), nor while UNREAD bytes of the
 * peer's, program bytes or a FIN, wait in our kernel: the window may be shut, and the FIN may have been its
 * last word.  Once they are read the peer has a fresh timeout.  And not after a beat that said HF_BEAT_SILENT.
 *
 * A path that has just lost segments of ours may have lost the peer's beats too, and TCP's retransmission of them waits
 * twice as long each time: there the silence must last for the time after the last loss, but no longer than twice.
 */
bool hf_session_hung(const struct hf_session *session, uint64_t now, uint32_t timeout, bool inside, bool unread);

/* stalled, from the peer's own word: its program has left bytes of ours unread for TIMEOUT ms. */
bool hf_session_stalled(const struct hf_session *session, uint32_t timeout);

#endif
