/* Receiving frames: squeezing headers and control frames out of what was read. */
#include "core/frame.h"

#include "core/bytes.h"

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

void hf_rx_passed(struct hf_rx *rx, size_t n)
{
	n = least(n, hf_rx_open(rx));
	rx->received += n;
	rx->payload -= (uint32_t)n;
	if (rx->payload == 0 && rx->type == HF_FRAME_DATA)
		rx->type = 0;
}

/* Whether a frame of this type may stand here. */
static bool may_come(const struct hf_rx *rx, uint8_t type)
{
	if (rx->ended || type < HF_FRAME_DATA || type > HF_FRAME_PROOF)
		return false;
	if (rx->proof_due || type == HF_FRAME_PROOF)
		return rx->proof_due && type == HF_FRAME_PROOF;
	return !rx->fin || (type != HF_FRAME_DATA && type != HF_FRAME_FIN);
}

static void open_frame(struct hf_rx *rx, const uint8_t *header, struct hf_rx_news *news)
{
	enum hf_frame_type type;
	uint32_t length;

	if (!hf_header_read(header, &type, &length) || !may_come(rx, (uint8_t)type)) {
		rx->corrupt = true;
		return;
	}
	rx->proof_due = false;
	if (type == HF_FRAME_FIN) {
		rx->fin = news->fin = true;
		rx->ended = news->fin_seen = header[HF_HEADER_FLAGS] & HF_HEADER_FIN_SEEN;
	} else if (type == HF_FRAME_BYE) {
		rx->bye = rx->ended = news->bye = true;
		news->aborted = header[HF_HEADER_FLAGS] & HF_HEADER_ABORT;
	} else {
		rx->type = (uint8_t)type;
		rx->payload = length;
	}
}

/* IN stands in a header: returns how many bytes of it were used. */
static size_t take_header(struct hf_rx *rx, const uint8_t *in, size_t size, struct hf_rx_news *news)
{
	size_t have = hf_once(rx->have), n;

	if (have >= HF_HEADER_SIZE) {
		rx->corrupt = true;
		return size;
	}
	n = least(HF_HEADER_SIZE - have, size);
	if (n < HF_HEADER_SIZE) {
		memcpy(rx->part + have, in, n);
		rx->have = (uint8_t)(have + n);
		in = rx->part;
		/* Stray text is found at its first byte, not when eight of them have come. */
		if (!may_come(rx, rx->part[HF_HEADER_TYPE]))
			rx->corrupt = true;
		if (have + n < HF_HEADER_SIZE || rx->corrupt)
			return n;
		rx->have = 0;
	}
	open_frame(rx, in, news);
	return n;
}

/* IN stands in the payload of a control frame. */
static size_t take_control(struct hf_rx *rx, const uint8_t *in, size_t size, struct hf_rx_news *news)
{
	size_t have = hf_once(rx->have), payload = hf_once(rx->payload), n = least(payload, size);

	if (have > sizeof rx->part || payload > sizeof rx->part - have) {
		rx->corrupt = true;
		return size;
	}
	memcpy(rx->part + have, in, n);
	rx->have = (uint8_t)(have + n);
	rx->payload = (uint32_t)(payload - n);
	if (payload > n)
		return n;
	if (rx->type == HF_FRAME_BEAT && rx->patchy) {
		rx->patchy = false;
	} else if (rx->type == HF_FRAME_BEAT) {
		news->beats++;
		hf_beat_read(rx->part, &news->beat);
	} else if (rx->type == HF_FRAME_ACK) {
		news->ack = true;
		news->acked = hf_get64(rx->part);
	} else {
		news->proof = true;
		memcpy(news->proof_bytes, rx->part, HF_CHECK_SIZE);
	}
	rx->type = rx->have = 0;
	return n;
}

/* As hf_rx_squeeze(), but adds to NEWS. */
static size_t squeeze(struct hf_rx *rx, uint8_t *buf, size_t size, struct hf_rx_news *news)
{
	size_t in = 0, out = 0;

	while (in < size && !rx->corrupt) {
		size_t n = least(hf_rx_open(rx), size - in);

		if (n > 0) {
			if (out != in)
				memmove(buf + out, buf + in, n);
			out += n;
			hf_rx_passed(rx, n);
		} else if (rx->type == 0) {
			n = take_header(rx, buf + in, size - in, news);
		} else {
			n = take_control(rx, buf + in, size - in, news);
		}
		in += n;
	}
	news->corrupt = rx->corrupt;
	return out;
}

static void no_news(struct hf_rx_news *news)
{
	news->fin = news->bye = news->aborted = news->fin_seen = news->ack = news->proof = news->corrupt = false;
	news->beats = 0;
	news->acked = 0;
}

size_t hf_rx_squeeze(struct hf_rx *rx, void *buf, size_t size, struct hf_rx_news *news)
{
	no_news(news);
	return squeeze(rx, buf, size, news);
}

size_t hf_rx_squeeze_split(struct hf_rx *rx, void *scratch, size_t scratch_size, void *buf, size_t size,
			   struct hf_rx_news *news)
{
	no_news(news);
	if (squeeze(rx, scratch, scratch_size, news) > 0)
		rx->corrupt = true;
	return squeeze(rx, buf, size, news);
}

bool hf_rx_recover(struct hf_rx *rx, void *scratch, size_t known, size_t got, struct hf_rx_news *news)
{
	size_t n = least(known, got);

	no_news(news);
	if (squeeze(rx, scratch, n, news) > 0 || rx->corrupt)
		return false;
	n = got - n;
	if (n == 0)
		return true;
	if (rx->type != HF_FRAME_BEAT || n > rx->payload)
		return false;
	rx->have = (uint8_t)(rx->have + n);
	rx->payload -= (uint32_t)n;
	rx->patchy = rx->payload > 0;
	if (rx->payload == 0)
		rx->type = rx->have = 0;
	return true;
}
