#include "core/frame.h"

#include "core/bytes.h"

void hf_header_make(uint8_t out[HF_HEADER_SIZE], enum hf_frame_type type, uint32_t length)
{
	out[HF_HEADER_TYPE] = (uint8_t)type;
	out[HF_HEADER_FLAGS] = 0;
	hf_put32(out + HF_HEADER_LENGTH, length);
	hf_put16(out + HF_HEADER_CHECK, hf_header_check(out));
}

static bool length_fits(uint8_t type, uint32_t length)
{
	switch (type) {
	case HF_FRAME_DATA:
		return length > 0 && length <= HF_DATA_MOST;
	case HF_FRAME_BEAT:
		return length == HF_BEAT_SIZE;
	case HF_FRAME_FIN:
	case HF_FRAME_BYE:
		return length == 0;
	case HF_FRAME_ACK:
		return length == HF_ACK_SIZE;
	case HF_FRAME_PROOF:
		return length == HF_CHECK_SIZE;
	default:
		return false;
	}
}

bool hf_header_read(const uint8_t in[HF_HEADER_SIZE], enum hf_frame_type *type, uint32_t *length)
{
	uint32_t size = hf_get32(in + HF_HEADER_LENGTH);

	if (hf_get16(in + HF_HEADER_CHECK) != hf_header_check(in) || !length_fits(in[HF_HEADER_TYPE], size))
		return false;
	*type = in[HF_HEADER_TYPE];
	*length = size;
	return true;
}

void hf_beat_make(uint8_t out[HF_BEAT_SIZE], const struct hf_beat *beat)
{
	memset(out, 0, HF_BEAT_SIZE);
	hf_put64(out + HF_BEAT_SEQ, beat->seq);
	hf_put64(out + HF_BEAT_TIME, beat->time_us);
	hf_put64(out + HF_BEAT_ECHO, beat->echo_us);
	hf_put64(out + HF_BEAT_HELD, beat->held_us);
	hf_put64(out + HF_BEAT_RECEIVED, beat->received);
	hf_put32(out + HF_BEAT_UNREAD, beat->unread);
	hf_put32(out + HF_BEAT_UNREAD_MS, beat->unread_ms);
	hf_put32(out + HF_BEAT_STATE, beat->state);
}

void hf_beat_read(const uint8_t in[HF_BEAT_SIZE], struct hf_beat *beat)
{
	beat->seq = hf_get64(in + HF_BEAT_SEQ);
	beat->time_us = hf_get64(in + HF_BEAT_TIME);
	beat->echo_us = hf_get64(in + HF_BEAT_ECHO);
	beat->held_us = hf_get64(in + HF_BEAT_HELD);
	beat->received = hf_get64(in + HF_BEAT_RECEIVED);
	beat->unread = hf_get32(in + HF_BEAT_UNREAD);
	beat->unread_ms = hf_get32(in + HF_BEAT_UNREAD_MS);
	beat->state = hf_get32(in + HF_BEAT_STATE);
}
