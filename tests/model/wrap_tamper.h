/*
 * Bytes that bypass the library: every bit of a stream flipped, every run of 1 to 12 foreign bytes put in or 1 to 7
 * taken out at every position, read in pieces of every small size.  Found at the next header at the latest: nothing
 * that stands behind it is delivered.
 */
#ifndef WRAP_TAMPER_H
#define WRAP_TAMPER_H

#include "core/frame.h"

#include <stdio.h>
#include <string.h>

enum { TAMPER_SIZE = 512, FRAMES_MOST = 32 };

/* A stream, and where its frames begin on the wire and in program bytes. */
static struct {
	uint8_t bytes[TAMPER_SIZE];
	size_t size, frames;
	struct {
		size_t at, payload, before; /* program bytes before it */
		enum hf_frame_type type;
	} frame[FRAMES_MOST];
} sample;

static uint64_t tampered_streams;

static void sample_put(struct hf_tx *tx, enum hf_frame_type type, size_t size)
{
	uint8_t payload[HF_BEAT_SIZE] = {0};
	const uint8_t *owed;
	size_t n;

	sample.frame[sample.frames].at = sample.size;
	sample.frame[sample.frames].type = type;
	sample.frame[sample.frames].payload = size;
	sample.frame[sample.frames].before = (size_t)tx->sent;
	sample.frames++;
	if (type == HF_FRAME_DATA) {
		struct hf_tx_plan plan;

		hf_tx_plan(tx, size, &plan);
		memcpy(sample.bytes + sample.size, plan.head, HF_HEADER_SIZE);
		for (size_t i = 0; i < size; i++)
			sample.bytes[sample.size + HF_HEADER_SIZE + i] = (uint8_t)('a' + i % 26);
		hf_tx_took(tx, &plan, HF_HEADER_SIZE + size);
	} else {
		hf_tx_control(tx, type, payload, size);
		owed = hf_tx_owed(tx, &n);
		memcpy(sample.bytes + sample.size, owed, n);
		hf_tx_paid(tx, n);
	}
	sample.size += HF_HEADER_SIZE + size;
}

static void sample_make(void)
{
	struct hf_tx tx = {0};

	memset(&sample, 0, sizeof sample);
	sample_put(&tx, HF_FRAME_DATA, 5);
	sample_put(&tx, HF_FRAME_BEAT, HF_BEAT_SIZE);
	sample_put(&tx, HF_FRAME_DATA, 1);
	sample_put(&tx, HF_FRAME_DATA, 40);
	sample_put(&tx, HF_FRAME_ACK, HF_ACK_SIZE);
	sample_put(&tx, HF_FRAME_DATA, 3);
	sample_put(&tx, HF_FRAME_FIN, 0);
	sample_put(&tx, HF_FRAME_BEAT, HF_BEAT_SIZE);
	sample_put(&tx, HF_FRAME_BYE, 0);
}

/* Read a changed stream in pieces of PIECE bytes: how many program bytes were delivered, and was it noticed? */
static size_t read_tampered(const uint8_t *bytes, size_t size, size_t piece, bool *noticed)
{
	struct hf_rx rx = {0};
	struct hf_rx_news news;
	size_t delivered = 0;

	*noticed = false;
	tampered_streams++;
	for (size_t at = 0; at < size; at += piece) {
		uint8_t buf[TAMPER_SIZE * 2];
		size_t n = size - at < piece ? size - at : piece;

		memcpy(buf, bytes + at, n);
		n = hf_rx_squeeze(&rx, buf, n, &news);
		if (*noticed && (n > 0 || !news.corrupt))
			return SIZE_MAX; /* fail-stop did not stop */
		delivered += n;
		*noticed = news.corrupt;
	}
	*noticed |= !hf_rx_between(&rx); /* end of file inside a header: told as vanished */
	return delivered;
}

static const size_t pieces[] = {1, 2, 3, 7, 8, 9, 64, 72, TAMPER_SIZE * 2};
enum { PIECES = sizeof pieces / sizeof *pieces };

/* The frame in which position AT lies. */
static size_t frame_at(size_t at)
{
	size_t i = 0;

	while (i + 1 < sample.frames && sample.frame[i + 1].at <= at)
		i++;
	return i;
}

static bool tamper_flip(void)
{
	for (size_t bit = 0; bit < sample.size * 8; bit++) {
		size_t frame = frame_at(bit / 8);
		bool header = bit / 8 < sample.frame[frame].at + HF_HEADER_SIZE, noticed;
		uint8_t bytes[TAMPER_SIZE];

		memcpy(bytes, sample.bytes, sample.size);
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		for (int i = 0; i < PIECES; i++) {
			size_t got = read_tampered(bytes, sample.size, pieces[i], &noticed);

			/* Payload is TCP's to protect: it changes no boundary. */
			if (noticed != header || got != (header ? sample.frame[frame].before : 49)) {
				printf("# bit %zu, pieces of %zu: %zu delivered\n", bit, pieces[i], got);
				return false;
			}
		}
	}
	return true;
}

/* KEEP: bytes of the stream before the change; then FOREIGN ones; then the rest without DROP bytes. */
static bool tamper_at(size_t keep, const uint8_t *foreign, size_t count, size_t drop)
{
	size_t frame, same = 0, limit, rest = sample.size - keep - drop;
	uint8_t bytes[TAMPER_SIZE * 2];
	bool noticed;

	memcpy(bytes, sample.bytes, keep);
	memcpy(bytes + keep, foreign, count);
	memcpy(bytes + keep + count, sample.bytes + keep + drop, rest);
	/* Foreign bytes that happen to be the right ones change nothing yet. */
	while (same < sample.size && same < keep + count + rest && bytes[same] == sample.bytes[same])
		same++;
	frame = frame_at(same);
	limit = sample.frame[frame].before;
	/* Inside payload the frame is filled up before the next header is looked at. */
	if (sample.frame[frame].type == HF_FRAME_DATA && same >= sample.frame[frame].at + HF_HEADER_SIZE)
		limit += sample.frame[frame].payload;
	for (int i = 0; i < PIECES; i++) {
		size_t got = read_tampered(bytes, keep + count + rest, pieces[i], &noticed);

		if (!noticed || got > limit) {
			printf("# %zu in, %zu out at %zu, pieces of %zu: %zu delivered, %zu allowed, %s\n", count, drop,
			       keep, pieces[i], got, limit, noticed ? "noticed" : "not noticed");
			return false;
		}
	}
	return true;
}

static bool tamper_insert(void)
{
	static const char *const kinds[] = {"GET / HTTP/1", "\0\0\0\0\0\0\0\0\0\0\0", "\1\1\1\1\1\1\1\1\1\1\1\1",
					    "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"};

	for (size_t kind = 0; kind < 4; kind++) {
		for (size_t at = 0; at <= sample.size; at++) {
			for (size_t n = 1; n <= 12; n++) {
				if (!tamper_at(at, (const uint8_t *)kinds[kind], n, 0))
					return false;
			}
		}
	}
	return true;
}

static bool tamper_steal(void)
{
	for (size_t at = 0; at < sample.size; at++) {
		for (size_t n = 1; n <= 7 && at + n <= sample.size; n++) {
			/* A stream that ends early is a vanished peer, seen by hf_rx_between() unless between frames.
			 */
			if (!tamper_at(at, (const uint8_t *)"", 0, n))
				return false;
		}
	}
	return true;
}

#endif
