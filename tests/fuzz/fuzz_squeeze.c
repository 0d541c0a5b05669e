/*
 * Any bytes, in any pieces, into hf_rx_squeeze(): no crash, and what is delivered does not depend on the pieces.
 * The first byte chooses pieces and whether a PROOF is due.
 */
#include "core/frame.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct outcome {
	size_t delivered;
	uint32_t sum;
	unsigned beats;
	bool corrupt, fin, bye, between;
};

static struct outcome read_in(const uint8_t *data, size_t size, size_t piece, bool proof_due)
{
	struct hf_rx rx = {.proof_due = proof_due};
	struct outcome outcome = {0};

	for (size_t at = 0; at < size;) {
		size_t n = size - at < piece ? size - at : piece, ahead = hf_rx_overhead(&rx), got;
		uint8_t *scratch, *buf;
		struct hf_rx_news news;

		if (ahead > HF_RX_OVERHEAD_MOST)
			abort();
		ahead = ahead < n ? ahead : n;
		/* Exact allocations: the sanitizer sees a byte too far. */
		scratch = malloc(ahead ? ahead : 1);
		buf = malloc(n - ahead ? n - ahead : 1);
		if (!scratch || !buf)
			abort();
		memcpy(scratch, data + at, ahead);
		memcpy(buf, data + at + ahead, n - ahead);
		got = hf_rx_squeeze_split(&rx, scratch, ahead, buf, n - ahead, &news);
		if (got > n - ahead || (outcome.corrupt && (got > 0 || !news.corrupt)))
			abort();
		outcome.sum = hf_crc32c(outcome.sum, buf, got);
		outcome.delivered += got;
		outcome.beats += news.beats;
		outcome.corrupt = news.corrupt;
		outcome.fin |= news.fin;
		outcome.bye |= news.bye;
		free(scratch);
		free(buf);
		at += n;
	}
	outcome.between = hf_rx_between(&rx);
	if (outcome.delivered != rx.received)
		abort();
	return outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct outcome whole, pieces;
	size_t piece;
	bool proof_due;

	if (size == 0)
		return 0;
	proof_due = data[0] & 0x80;
	piece = (size_t)(data[0] & 0x7f) + 1;
	whole = read_in(data + 1, size - 1, SIZE_MAX, proof_due);
	pieces = read_in(data + 1, size - 1, piece, proof_due);
	if (whole.delivered != pieces.delivered || whole.sum != pieces.sum || whole.beats != pieces.beats ||
	    whole.corrupt != pieces.corrupt || whole.fin != pieces.fin || whole.bye != pieces.bye ||
	    whole.between != pieces.between)
		abort();
	return 0;
}
