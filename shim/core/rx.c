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
		if (type == HF_FRAME_DATA) {
			news->even = news->frames == 0 || (news->even && news->length == length);
			news->length = length;
			news->frames++;
		}
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
	news->even = false;
	news->beats = news->frames = 0;
	news->acked = 0;
}

size_t hf_rx_squeeze(struct hf_rx *rx, void *buf, size_t size, struct hf_rx_news *news)
{
	no_news(news);
	return squeeze(rx, buf, size, news);
}

size_t hf_spread_plan(struct hf_spread *spread, size_t open, size_t like, size_t room)
{
	size_t left = room, asked = room, lead = open != 0 ? open : like;

	*spread = (struct hf_spread){.room = room};
	if (like < HF_SPREAD_LEAST)
		like = 0;
	if (lead == 0 || (open == 0 && like == 0) || lead > room || room - lead < HF_SPREAD_LEAST)
		return asked;
	spread->lead = lead;
	spread->length = like;
	left -= lead; /* and what the headers take, which is less than the least */
	do {
		if (open != 0 && spread->count == 0)
			asked += HF_HEADER_SIZE;
		spread->count++;
		if (like == 0 || left < like + HF_SPREAD_LEAST)
			break;
		left -= like;
	} while (spread->count < HF_SPREAD_MOST);
	return asked;
}

/* A piece, and of the header behind it what were program bytes. */
struct part {
	size_t from, to, size, head;
	uint8_t header[HF_HEADER_SIZE];
};

/* To where they belong: no two of them meet there, and none passes another on the way. */
static void put_together(uint8_t *at, struct part *parts, unsigned first, unsigned last)
{
	for (unsigned k = first; k <= last; k++)
		if (parts[k].to < parts[k].from)
			memmove(at + parts[k].to, at + parts[k].from, parts[k].size);
	for (unsigned k = last + 1; k-- > first;)
		if (parts[k].to > parts[k].from)
			memmove(at + parts[k].to, at + parts[k].from, parts[k].size);
	for (unsigned k = first; k <= last; k++)
		memcpy(at + parts[k].to + parts[k].size, parts[k].header, parts[k].head);
}

/*
 * From piece I on, of which N bytes stand at AT, nothing is where the plan has it: each of them is squeezed where it
 * is, and put where it belongs.  Never is anything written behind both what was read and what is delivered, for the
 * program may know better how much can come than how much it asks for.  LEFT: with headers.  *REACH: of AT.
 */
static size_t gather(struct hf_rx *rx, const struct hf_spread *spread, unsigned i, size_t n, uint8_t *at, size_t left,
		     struct hf_rx_news *news, size_t room, size_t *reach)
{
	struct part parts[HF_SPREAD_MOST + 1];
	unsigned count = spread->count < HF_SPREAD_MOST ? spread->count : HF_SPREAD_MOST;
	size_t place = 0, out = 0;

	for (unsigned k = i; k <= count; k++) {
		struct part *part = &parts[k];
		size_t piece = k == i ? n : hf_spread_piece(spread, k, left), head;

		left -= piece;
		head = k < count ? least(HF_HEADER_SIZE, left) : 0;
		left -= head;
		memcpy(part->header, spread->headers[k % HF_SPREAD_MOST], HF_HEADER_SIZE);
		part->from = place;
		part->to = out;
		part->size = squeeze(rx, at + place, piece, news);
		part->head = squeeze(rx, part->header, head, news);
		place += piece;
		out += part->size + part->head;
	}
	*reach = place > out ? place : out;
	if (out > room) { /* cannot be */
		rx->corrupt = news->corrupt = true;
		*reach = place;
		return 0;
	}
	put_together(at, parts, i, count);
	return out;
}

/* As hf_rx_squeeze_spread() without the scratch, but adds to NEWS. */
static size_t squeeze_spread(struct hf_rx *rx, const struct hf_spread *spread, uint8_t *buf, size_t size,
			     struct hf_rx_news *news, size_t *reach)
{
	size_t at = 0, left = size, out;

	for (unsigned i = 0; i < spread->count && i < HF_SPREAD_MOST && !rx->corrupt; i++) {
		size_t piece = hf_spread_piece(spread, i, left), head = least(HF_HEADER_SIZE, left - piece);
		uint8_t header[HF_HEADER_SIZE];

		if (piece <= hf_rx_open(rx)) {
			hf_rx_passed(rx, piece);
			at += piece;
			left -= piece;
			piece = 0;
		}
		if (piece != 0 || (head != 0 && rx->type != 0)) {
			out = gather(rx, spread, i, piece, buf + at, left, news, spread->room - at, reach);
			*reach += at;
			return at + out;
		}
		memcpy(header, spread->headers[i], sizeof(header));
		squeeze(rx, header, head, news);
		left -= head;
		*reach = at + left;
	}
	return at + squeeze(rx, buf + at, left, news);
}

size_t hf_rx_squeeze_spread(struct hf_rx *rx, void *scratch, size_t scratch_size, const struct hf_spread *spread,
			    void *buf, size_t size, struct hf_rx_news *news, size_t *reach)
{
	no_news(news);
	*reach = size;
	if (squeeze(rx, scratch, scratch_size, news) > 0)
		rx->corrupt = true;
	return squeeze_spread(rx, spread, buf, size, news, reach);
}

size_t hf_rx_squeeze_split(struct hf_rx *rx, void *scratch, size_t scratch_size, void *buf, size_t size,
			   struct hf_rx_news *news)
{
	const struct hf_spread common = {.count = 0};
	size_t reach;

	return hf_rx_squeeze_spread(rx, scratch, scratch_size, &common, buf, size, news, &reach);
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
