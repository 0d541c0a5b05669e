/*
 * Frames: program bytes in, frames out, and back.
 *
 * Pure and total: any byte sequence in, never a crash, never a buffer that grows.  No system call, clock or lock; the
 * caller serialises each direction.  The states may lie where another process could write to them: numbers there that
 * make no sense, even ones that change under our hands, lead to nonsense and never out of a buffer.
 */
#ifndef HOLDFAST_CORE_FRAME_H
#define HOLDFAST_CORE_FRAME_H

#include "core/bytes.h"

#include <holdfast/wire.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* CRC32C (Castagnoli), as in iSCSI, RFC 3720 appendix B.4. Start with 0. */
uint32_t hf_crc32c(uint32_t crc, const void *data, size_t size);

/* The check of a header, over its other six bytes.  It finds every change of up to three of the header's 64 bits. */
uint16_t hf_header_check(const uint8_t header[HF_HEADER_SIZE]);

/* A complete header for a payload of LENGTH. */
void hf_header_make(uint8_t out[HF_HEADER_SIZE], enum hf_frame_type type, uint32_t length);

/* Whether the eight bytes are a header this version may receive; TYPE and LENGTH are set if so. */
bool hf_header_read(const uint8_t in[HF_HEADER_SIZE], enum hf_frame_type *type, uint32_t *length);

/* The same of the usual ones, those of program bytes: how many; 0: it is another, or none. */
static inline uint32_t hf_header_data(const uint8_t in[HF_HEADER_SIZE])
{
	uint32_t length = hf_get32(in + HF_HEADER_LENGTH);

	return in[HF_HEADER_TYPE] == HF_FRAME_DATA && length <= HF_DATA_MOST &&
			       hf_get16(in + HF_HEADER_CHECK) == hf_header_check(in)
		       ? length
		       : 0;
}

struct hf_beat {
	uint64_t seq, time_us, echo_us, held_us, received;
	uint32_t unread, unread_ms, state;
};

void hf_beat_make(uint8_t out[HF_BEAT_SIZE], const struct hf_beat *beat);
void hf_beat_read(const uint8_t in[HF_BEAT_SIZE], struct hf_beat *beat);

/* Receiving.  Zero is the state at the first frame. */
struct hf_rx {
	uint64_t received; /* program bytes delivered or about to be */
	uint32_t payload;  /* bytes of the open frame still to come */
	uint8_t have;      /* bytes of the header or control payload in part[] */
	uint8_t type;      /* of the open frame, 0: between frames or inside a header */
	bool proof_due; /* set by a keyed server before the first frame: that must be a PROOF, which no other may be */
	bool fin, bye, corrupt;
	bool ended;  /* nothing at all may follow: BYE, or a FIN that answered ours */
	bool patchy; /* part of the beat under way is lost: it tells nothing */
	uint8_t part[HF_BEAT_SIZE];
};

/* What hf_rx_squeeze() came across, besides program bytes.  Only the flags and counts are always set. */
struct hf_rx_news {
	bool fin, bye; /* came for the first time */
	bool aborted;  /* the BYE says that the peer's program has reset the connection */
	bool fin_seen; /* the FIN says that the peer has had ours */
	bool ack, proof;
	bool corrupt;    /* the stream stopped making sense: fail-stop, deliver nothing that follows */
	unsigned beats;  /* how many; the last one is in beat */
	unsigned frames; /* of program bytes that began; their length, if all had the same, else that of the last */
	bool even;
	uint32_t length;
	uint64_t acked; /* if ack */
	struct hf_beat beat;
	uint8_t proof_bytes[HF_CHECK_SIZE]; /* if proof: check it before delivering what was returned with it */
};

/*
 * BUF holds SIZE bytes as they came from the connection.  Squeeze headers and control frames out, in place; returns how
 * many program bytes now stand at the start of BUF.  NEWS is set (not accumulated).  After corruption, returns the
 * program bytes that came before it; every later call returns 0 and sets news->corrupt.  Payload is only touched when
 * something before it in BUF was squeezed out.  To peek, work on a copy of RX.
 */
size_t hf_rx_squeeze(struct hf_rx *rx, void *buf, size_t size, struct hf_rx_news *news);

/*
 * The same for one read that went to two places: SCRATCH_SIZE bytes, at most hf_rx_overhead() as it was before, then
 * SIZE bytes in BUF.  A scratch that holds program bytes is a mistake of the caller's and makes the stream corrupt.
 */
size_t hf_rx_squeeze_split(struct hf_rx *rx, void *scratch, size_t scratch_size, void *buf, size_t size,
			   struct hf_rx_news *news);

/*
 * A read of more than a frame, with room of their own for the headers that it is expected to come across: what is read
 * so need not be moved to where the program wants it.  LEAD program bytes go to the program's memory, a header here,
 * LENGTH program bytes right behind the first, a header, and so on; behind the last header whatever is left.
 */
enum { HF_SPREAD_MOST = 3, HF_SPREAD_LEAST = 8192 }; /* fewer bytes are moved in less time (measured) */
struct hf_spread {
	size_t lead, length, room; /* ROOM: bytes of the program's memory */
	unsigned count;            /* headers; 0: the read is a common one */
	uint8_t headers[HF_SPREAD_MOST][HF_HEADER_SIZE];
};

/*
 * Plan a read of ROOM bytes that begins with the OPEN ones of a frame, or between frames (0), where LIKE is the length
 * the next frames are expected to have, 0: unknown.  Returns how many bytes to ask for behind the protocol that comes
 * first.  Whatever comes then, its program bytes have room: the header behind an open frame is certain, and expected
 * ones are counted among the ROOM bytes.
 */
size_t hf_spread_plan(struct hf_spread *spread, size_t open, size_t like, size_t room);

/* Piece I, from 0, of ASKED bytes, and a header behind it; none: the rest. */
static inline size_t hf_spread_piece(const struct hf_spread *spread, unsigned i, size_t left)
{
	size_t piece = i == 0 ? spread->lead : spread->length;

	return i == spread->count || piece > left ? left : piece;
}

/* As hf_rx_squeeze_split(), of SIZE bytes that a read as SPREAD has put to their places.  *REACH: how much of BUF may
 * have been written to. */
size_t hf_rx_squeeze_spread(struct hf_rx *rx, void *scratch, size_t scratch_size, const struct hf_spread *spread,
			    void *buf, size_t size, struct hf_rx_news *news, size_t *reach);

/*
 * GOT bytes were read by a call that never returned to say so; the first KNOWN of them are in SCRATCH, at most
 * hf_rx_overhead().  True if all were protocol that can do without the rest: RX is past them.  False: RX means nothing.
 */
bool hf_rx_recover(struct hf_rx *rx, void *scratch, size_t known, size_t got, struct hf_rx_news *news);

/* N program bytes, at most hf_rx_open(), left the connection without passing a buffer: splice(2), MSG_TRUNC. */
void hf_rx_passed(struct hf_rx *rx, size_t n);

/*
 * Bytes of protocol that must come before the next program byte can: 0 inside a DATA frame; else what is missing of
 * the header, or of the control frame and the header after it.  A reader puts so many into a scratch buffer ahead of
 * the program's; there is never a program byte among them.
 */
enum { HF_RX_OVERHEAD_MOST = HF_BEAT_SIZE + HF_HEADER_SIZE };
static inline size_t hf_rx_overhead(const struct hf_rx *rx)
{
	uint8_t type = hf_once(rx->type), have = hf_once(rx->have);
	uint32_t payload = hf_once(rx->payload);

	if (type == HF_FRAME_DATA)
		return 0;
	if (type == 0)
		return have < HF_HEADER_SIZE ? (size_t)(HF_HEADER_SIZE - have) : HF_HEADER_SIZE;
	return (payload < HF_BEAT_SIZE ? payload : HF_BEAT_SIZE) + (size_t)HF_HEADER_SIZE;
}

/* Program bytes that may follow without a header: the rest of the open DATA frame. */
static inline size_t hf_rx_open(const struct hf_rx *rx)
{
	return rx->type == HF_FRAME_DATA ? hf_once(rx->payload) : 0;
}

/*
 * Between frames HEADER came, whole, and N > 0 bytes behind it: whether they are of one DATA frame, which may stand
 * here.  Then RX is past them, otherwise as it was.  The usual case, and nothing but that.
 */
static inline bool hf_rx_one(struct hf_rx *rx, const uint8_t header[HF_HEADER_SIZE], size_t n)
{
	uint32_t length = hf_header_data(header);

	if (rx->type != 0 || rx->have != 0 || rx->corrupt || rx->proof_due || rx->fin || rx->ended || length == 0 ||
	    n > length)
		return false;
	rx->received += n;
	rx->payload = length - (uint32_t)n;
	rx->type = n < length ? HF_FRAME_DATA : 0;
	return true;
}

/* The same of N bytes inside a frame. */
static inline bool hf_rx_more(struct hf_rx *rx, size_t n)
{
	uint32_t open = (uint32_t)hf_rx_open(rx);

	if (n > open)
		return false;
	rx->received += n;
	rx->payload = open - (uint32_t)n;
	if (n == open)
		rx->type = 0;
	return true;
}

/* Whether the connection may end here without anything missing: between frames. */
static inline bool hf_rx_between(const struct hf_rx *rx)
{
	return rx->type == 0 && rx->have == 0 && !rx->corrupt;
}

/*
 * Sending.  Zero is the state at the first frame.
 *
 * A write of n program bytes becomes: what is left of protocol bytes already promised (owed), then program bytes that
 * fill the open frame, then a header and program bytes.  A partial write leaves protocol bytes owed or a frame open;
 * whatever program bytes come next fill it, as a frame is only a container.
 *
 * A frame left open can be closed by program bytes only.  When the program ends its direction instead, there is no FIN
 * to send: the real shutdown(2) or close(2) is the end, and the peer's reader gets its end of file from that.
 */
struct hf_tx {
	uint64_t sent;                /* program bytes handed to the kernel */
	uint64_t tail;                /* bytes of beats handed to it since anything else: see hf_session_outq() */
	uint32_t open;                /* program bytes still promised by the last header */
	uint8_t owed_have, owed_size; /* owed[owed_have..owed_size) must go out first */
	bool fin, bye;
	bool ended; /* nothing at all may follow what is owed */
	uint8_t owed[HF_HEADER_SIZE + HF_BEAT_SIZE];
};

/* How one write goes out: owed bytes, then FIRST program bytes, then the header if HEADER, then SECOND more. */
struct hf_tx_plan {
	size_t owed, first, second;
	bool header;
	uint8_t head[HF_HEADER_SIZE];
};

/*
 * Plan for N program bytes.  Never more than one header: first + second may be less than N.  After FIN or BYE, or for
 * N = 0, the plan has owed bytes only.
 */
void hf_tx_plan(const struct hf_tx *tx, size_t n, struct hf_tx_plan *plan);

/*
 * The kernel took TOOK bytes of the plan (from its beginning): returns how many of them were program bytes.  Only for
 * a plan made from the present state.
 */
size_t hf_tx_took(struct hf_tx *tx, const struct hf_tx_plan *plan, size_t took);

/* Whether a control frame may go out now: nothing owed, no frame open, nothing final sent. */
static inline bool hf_tx_between(const struct hf_tx *tx)
{
	return tx->owed_size == 0 && tx->open == 0 && !tx->ended;
}

/* The kernel took all of a plan that was made when hf_tx_between(), for N bytes, of which it was. */
static inline void hf_tx_one(struct hf_tx *tx, size_t n)
{
	tx->tail = 0;
	tx->sent += n;
}

/*
 * Queue a control frame of SIZE bytes of payload as owed bytes; FIN and BYE set their flags.  Only when
 * hf_tx_between() and the size is that of the type, and no second FIN; false otherwise.  The caller then sends owed
 * bytes: hf_tx_owed() and hf_tx_paid(); the next plan has them too.
 */
bool hf_tx_control(struct hf_tx *tx, enum hf_frame_type type, const void *payload, size_t size);

/* Queue a FIN; SEEN, from hf_session_fin_seen(): the peer's FIN has come and nothing will follow this one. */
bool hf_tx_fin(struct hf_tx *tx, bool seen);

/* Queue a BYE that says: the program resets the connection. */
bool hf_tx_abort(struct hf_tx *tx);

/* Where they stand and how many they are, in one look. */
const uint8_t *hf_tx_owed(const struct hf_tx *tx, size_t *size);
void hf_tx_paid(struct hf_tx *tx, size_t took);

#endif
