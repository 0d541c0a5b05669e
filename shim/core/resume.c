#include "core/resume.h"

#include "core/bytes.h"

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

void hf_ring_release(struct hf_ring *ring, uint64_t offset)
{
	if (offset > ring->start && offset <= ring->end)
		ring->start = offset;
}

size_t hf_ring_at(const struct hf_ring *ring, const uint8_t *memory, uint64_t offset, const uint8_t **bytes)
{
	size_t at;

	if (offset < ring->start || offset >= ring->end)
		return 0;
	at = hf_ring_place(ring, offset);
	*bytes = memory + at;
	return least((size_t)(ring->end - offset), hf_ring_span(ring) - at);
}

/* What stands in odd rounds of SPAN, to the upper half of twice as much. */
static void double_span(struct hf_ring *ring, uint8_t *memory, uint32_t span)
{
	uint64_t at = ring->start - ring->base, end = ring->end - ring->base;
	size_t place, n;

	for (; at < end; at += n) {
		place = (size_t)(at % span);
		n = least(span - place, (size_t)(end - at));
		if (at / span % 2 != 0)
			memcpy(memory + span + place, memory + place, n);
	}
	ring->span = 2 * span;
}

static uint32_t least_span(uint32_t size)
{
	while (size % 2 == 0 && size / 2 >= HF_RING_LEAST)
		size /= 2;
	return size;
}

void hf_ring_stretch(struct hf_ring *ring, uint8_t *memory, size_t n)
{
	uint64_t used = ring->end - ring->start;
	uint32_t span = hf_ring_span(ring);

	if (used == 0)
		ring->span = span = least_span(ring->size);
	while (used + n > span && span < ring->size) {
		if (used > span || ring->size % span != 0 || ring->size / span % 2 != 0) {
			ring->span = ring->size; /* no ring of ours */
			return;
		}
		double_span(ring, memory, span);
		span = ring->span;
	}
}

uint64_t hf_resume_arrived(const struct hf_tx *tx, const struct hf_ring *ring, uint64_t outq)
{
	if (ring->held || outq >= tx->sent || tx->sent - outq < ring->start)
		return ring->start;
	return tx->sent - outq;
}

uint64_t hf_resume_expects(const struct hf_rx *rx)
{
	return rx->received + (rx->bye ? 2 : rx->fin);
}

void hf_resume_break(struct hf_rx *rx, struct hf_tx *tx, struct hf_ring *ring)
{
	rx->payload = 0;
	rx->have = rx->type = 0;
	rx->proof_due = rx->patchy = false;
	/* The answer that ended everything may have been said to a connection that is no more. */
	rx->ended = rx->bye;
	tx->tail = 0;
	tx->open = 0;
	tx->owed_have = tx->owed_size = 0;
	tx->ended = false; /* a PROOF may have to go out before hf_resume_from() */
	ring->fin |= tx->fin;
	ring->bye |= tx->bye;
	ring->held = true;
}

enum hf_resume_from hf_resume_from(struct hf_tx *tx, struct hf_ring *ring, uint64_t offset)
{
	uint64_t beyond = offset > ring->end ? offset - ring->end : 0;

	if (!ring->held || tx->sent > ring->end || offset < ring->start || beyond > (ring->bye ? 2 : ring->fin) ||
	    (beyond == 1 && !ring->fin))
		return HF_RESUME_NO;
	hf_ring_release(ring, offset - beyond);
	tx->sent = offset - beyond;
	tx->fin = ring->fin && beyond > 0;
	tx->bye = tx->ended = beyond == 2;
	ring->held = false;
	return (ring->bye && beyond < 2) || (ring->fin && beyond < 1) ? HF_RESUME_AND_END : HF_RESUME_ALL;
}

void hf_resume_session(struct hf_session *session, const struct hf_rx *rx, const struct hf_tx *tx, uint64_t now)
{
	bool ours = tx->fin || tx->bye, theirs = rx->fin || rx->bye;

	/* The peer has our end and we have its own: both know, as the offsets have told. */
	if (ours)
		session->state = theirs ? HF_S_TIME_WAIT : HF_S_FIN_WAIT;
	else
		session->state = theirs ? HF_S_CLOSE_WAIT : HF_S_ESTABLISHED;
	session->peer_done = rx->bye;
	session->we_done = tx->bye;
	/* Whatever the kernel's old connection said was of that one. */
	session->mute = session->waiting = session->last_beat = false;
	session->arrived = session->unread = session->undelivered = 0;
	session->peer_time_us = 0;
	session->peer_unread = session->peer_unread_ms = 0;
	hf_session_moved(session, now, true);
}

static const char key_label[] = "holdfast resume", name_label[] = "holdfast name";

void hf_resume_key(uint8_t out[HF_CHECK_SIZE], const struct hf_key *shared, const uint8_t session[HF_SESSION_SIZE])
{
	const struct hf_key own = {session, HF_SESSION_SIZE};

	if (shared->size > 0)
		hf_hmac(out, shared, key_label, sizeof key_label - 1, session, HF_SESSION_SIZE);
	else
		hf_hmac(out, &own, key_label, sizeof key_label - 1, NULL, 0);
}

void hf_resume_name(uint8_t out[HF_SESSION_SIZE], const uint8_t resume_key[HF_CHECK_SIZE])
{
	const struct hf_key key = {resume_key, HF_CHECK_SIZE};
	uint8_t full[HF_CHECK_SIZE];

	hf_hmac(full, &key, name_label, sizeof name_label - 1, NULL, 0);
	memcpy(out, full, HF_SESSION_SIZE);
}

bool hf_resume_called(const uint8_t *in, size_t size, uint8_t name[HF_SESSION_SIZE])
{
	uint32_t flags;

	if (size < HF_HELLO_NONCE || memcmp(in, HF_MAGIC, HF_MAGIC_SIZE) != 0)
		return false;
	flags = hf_get32(in + HF_HELLO_FLAGS);
	if ((flags & HF_HELLO_RESUME) == 0 || (flags & HF_HELLO_SERVER) != 0)
		return false;
	memcpy(name, in + HF_HELLO_SESSION, HF_SESSION_SIZE);
	return true;
}
