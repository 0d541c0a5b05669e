/*
 * Any bytes, in any pieces, into hf_rx_squeeze(): no crash, and what is delivered does not depend on the pieces, nor on
 * whether headers were expected where they are, or elsewhere.  The first byte chooses pieces and whether a PROOF is
 * due.
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

/* Room for N bytes that come, where the header behind OPEN ones is not the program's. */
static size_t room_for(size_t n, size_t open)
{
	if (open == 0 || n <= open)
		return n;
	return n - open < HF_HEADER_SIZE ? open : n - HF_HEADER_SIZE;
}

/* The N bytes at FROM to where SPREAD has them. */
static void scatter(struct hf_spread *spread, const uint8_t *from, size_t n, uint8_t *buf)
{
	for (unsigned i = 0; n > 0; i++) {
		size_t bytes = hf_spread_piece(spread, i, n),
		       head = n - bytes < HF_HEADER_SIZE ? n - bytes : HF_HEADER_SIZE;

		memcpy(buf, from, bytes);
		if (head > 0)
			memcpy(spread->headers[i], from + bytes, head);
		buf += bytes;
		from += bytes + head;
		n -= bytes + head;
	}
}

/* LENGTH: after so many bytes a header is expected; 0: nowhere. */
static struct outcome read_in(const uint8_t *data, size_t size, size_t piece, bool proof_due, size_t length)
{
	struct hf_rx rx = {.proof_due = proof_due};
	struct outcome outcome = {0};

	for (size_t at = 0; at < size;) {
		size_t n = size - at < piece ? size - at : piece, ahead = hf_rx_overhead(&rx), got, reach;
		struct hf_spread spread = {.length = length};
		uint8_t *scratch, *buf;
		struct hf_rx_news news;

		if (ahead > HF_RX_OVERHEAD_MOST)
			abort();
		ahead = ahead < n ? ahead : n;
		spread.lead = hf_rx_open(&rx) != 0 ? hf_rx_open(&rx) : length;
		spread.count = length == 0 ? 0 : HF_SPREAD_MOST;
		spread.room = spread.count == 0 ? n - ahead : room_for(n - ahead, hf_rx_open(&rx));
		/* Exact allocations: the sanitizer sees a byte too far. */
		scratch = malloc(ahead ? ahead : 1);
		buf = malloc(spread.room ? spread.room : 1);
		if (!scratch || !buf)
			abort();
		memcpy(scratch, data + at, ahead);
		scatter(&spread, data + at + ahead, n - ahead, buf);
		got = hf_rx_squeeze_spread(&rx, scratch, ahead, &spread, buf, n - ahead, &news, &reach);
		if (got > reach || reach > spread.room || (outcome.corrupt && (got > 0 || !news.corrupt)))
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
	struct outcome whole, other;
	bool proof_due;
	size_t piece;

	if (size == 0)
		return 0;
	proof_due = data[0] & 0x80;
	piece = (size_t)(data[0] & 0x7f) + 1;
	whole = read_in(data + 1, size - 1, SIZE_MAX, proof_due, 0);
	for (size_t length = 0; length < 24; length += length < 10 ? 3 : 7) {
		other = read_in(data + 1, size - 1, length % 2 != 0 ? SIZE_MAX : piece, proof_due, length);
		if (whole.delivered != other.delivered || whole.sum != other.sum || whole.beats != other.beats ||
		    whole.corrupt != other.corrupt || whole.fin != other.fin || whole.bye != other.bye ||
		    whole.between != other.between)
			abort();
	}
	return 0;
}
