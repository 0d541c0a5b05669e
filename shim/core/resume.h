/*
 * Resuming a session on a new connection: what is kept, what is expected, where both sides go on.
 *
 * Pure; the caller serialises calls on one connection and brings the memory.  Offsets count program bytes of one
 * direction from its beginning, as in TCP's sequence space; a FIN counts one behind the last byte, a BYE counts two,
 * whether a FIN came before it or not: of a FIN and a BYE that were said, the FIN alone may have arrived.
 *
 * The rule that nothing is lost or repeated rests on: a sender keeps every byte that the peer's kernel has not
 * acknowledged; a receiver takes everything its kernel has acknowledged out of a connection before it ends that
 * connection, and its kernel acknowledges nothing more there; and from when a side has said what it expects until the
 * peer has taken it at its word it takes nothing from any connection.
 */
#ifndef HOLDFAST_CORE_RESUME_H
#define HOLDFAST_CORE_RESUME_H

#include "core/frame.h"
#include "core/hello.h"
#include "core/session.h"

enum { HF_RING_LEAST = 256 * 1024 };

/*
 * Bytes sent and perhaps not arrived: [start, end) of the direction.  Byte N stands at (N - base) % span: of the
 * memory's size only so much is gone round in as bytes under way have needed, so that a direction that is not far
 * behind stays in a part that the processor's caches hold.  A ring that has been emptied begins at its first byte
 * again.
 */
struct hf_ring {
	uint64_t start, end, base;
	uint32_t size, span; /* span: 0 is size */
	bool fin, bye;       /* said on some connection before: it may have arrived, or is to be said again */
	bool held;           /* since a break: what the kernel says of its queue is not about what was sent */
};

static inline size_t hf_ring_room(const struct hf_ring *ring)
{
	uint64_t used = ring->end - ring->start;

	return used < ring->size ? (size_t)(ring->size - used) : 0; /* more than all of it: no ring of ours */
}

static inline uint32_t hf_ring_span(const struct hf_ring *ring)
{
	return ring->span - 1 < ring->size ? ring->span : ring->size;
}

/* Where byte OFFSET stands, if it does. */
static inline size_t hf_ring_place(const struct hf_ring *ring, uint64_t offset)
{
	uint64_t from = offset - ring->base;
	uint32_t span = hf_ring_span(ring);

	if (from < span)
		return (size_t)from;
	return span != 0 ? (size_t)(from % span) : 0;
}

/* Whether N bytes more fit into the span, if there is room for them. */
static inline bool hf_ring_fits(const struct hf_ring *ring, size_t n)
{
	return ring->span - 1 < HF_RING_LEAST * 2 && ring->end - ring->start + n <= hf_ring_span(ring);
}

/*
 * Otherwise, and if it is empty: a span in which they do, the least there is.  What is kept in MEMORY stands where it
 * should with the new span and, untouched, where it did with the old one: whoever is interrupted before he has written
 * down the new one has lost nothing.
 */
void hf_ring_stretch(struct hf_ring *ring, uint8_t *memory, size_t n);

/* Append N bytes that fit, at most hf_ring_room(). MEMORY is the ring's, of ring->size bytes, which is all that is
 * relied on. */
static inline void hf_ring_put(struct hf_ring *ring, uint8_t *memory, const void *bytes, size_t n)
{
	size_t at, first, room = hf_ring_room(ring);
	uint32_t span = hf_ring_span(ring);

	if (ring->start == ring->end)
		ring->base = ring->end;
	at = hf_ring_place(ring, ring->end);
	n = n < room ? n : room;
	first = n < span - at ? n : span - at;
	memcpy(memory + at, bytes, first);
	if (first < n)
		memcpy(memory, (const uint8_t *)bytes + first, n - first);
	ring->end += n;
}

/* What is before OFFSET has arrived. Further than the end, or less than before: ignored. */
void hf_ring_release(struct hf_ring *ring, uint64_t offset);

/* The bytes from OFFSET on that lie in one piece: their number; *BYTES is where. 0 if OFFSET is not in the ring. */
size_t hf_ring_at(const struct hf_ring *ring, const uint8_t *memory, uint64_t offset, const uint8_t **bytes);

/*
 * How much of what TX sent has surely arrived when the kernel has OUTQ bytes unacknowledged (SIOCOUTQ): headers and
 * beats among them are taken for program bytes, so never too much.  Between hf_resume_break() and hf_resume_from() the
 * answer is what was known before: SIOCOUTQ reads 0 while a socket connects, and then counts a HELLO.
 */
uint64_t hf_resume_arrived(const struct hf_tx *tx, const struct hf_ring *ring, uint64_t outq);

/* What the receiver expects next. */
uint64_t hf_resume_expects(const struct hf_rx *rx);

/* The connection is gone, everything that came has been squeezed: frames begin afresh on the next one.  More than once
 * is as once. */
void hf_resume_break(struct hf_rx *rx, struct hf_tx *tx, struct hf_ring *ring);

enum hf_resume_from {
	HF_RESUME_NO,      /* OFFSET is behind what is kept, or beyond what was sent: never resumed */
	HF_RESUME_ALL,     /* bytes from tx->sent on are to be sent again, if any, and no end */
	HF_RESUME_AND_END, /* the same, and then the end: BYE if ring->bye, else FIN */
};

/*
 * After hf_resume_break(): the peer expects OFFSET.  Sets tx->sent back to what is sent next, and takes back an end
 * that has not arrived: the caller says it again when the bytes are gone, in the ordinary way (hf_session_fin_seen(),
 * hf_session_may_speak()).  Another break may come before all has been sent again, or before the end has.
 */
enum hf_resume_from hf_resume_from(struct hf_tx *tx, struct hf_ring *ring, uint64_t offset);

/*
 * The session as it stands on the new connection, after hf_resume_from(): from what each side has surely had of the
 * other, whatever was thought of it when the old connection broke.  An end to be said again has not been said yet.
 */
void hf_resume_session(struct hf_session *session, const struct hf_rx *rx, const struct hf_tx *tx, uint64_t now);

/*
 * The key of a session's RESUME handshakes, from the id in its first HELLO, which is not said again, and the shared
 * secret if there is one; and the name by which a RESUME calls the session.
 */
void hf_resume_key(uint8_t out[HF_CHECK_SIZE], const struct hf_key *shared, const uint8_t session[HF_SESSION_SIZE]);
void hf_resume_name(uint8_t out[HF_SESSION_SIZE], const uint8_t resume_key[HF_CHECK_SIZE]);

/* Whether IN, the first SIZE bytes of a connection, begin as a client's RESUME does; *NAME is then the session's.
 * Nothing in it has been checked. */
bool hf_resume_called(const uint8_t *in, size_t size, uint8_t name[HF_SESSION_SIZE]);

#endif
