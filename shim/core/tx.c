/* Sending frames: program bytes behind headers, and what a partial write leaves over. */
#include "core/frame.h"

#include "core/bytes.h"

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

void hf_tx_plan(const struct hf_tx *tx, size_t n, struct hf_tx_plan *plan)
{
	if (tx->fin || tx->ended)
		n = 0;
	(void)hf_tx_owed(tx, &plan->owed);
	plan->first = least(tx->open, n);
	plan->second = least(n - plan->first, HF_DATA_MOST);
	plan->header = plan->second > 0;
	if (plan->header)
		hf_header_make(plan->head, HF_FRAME_DATA, (uint32_t)plan->second);
}

size_t hf_tx_took(struct hf_tx *tx, const struct hf_tx_plan *plan, size_t took)
{
	size_t owed = least(took, plan->owed), first, head, second;

	hf_tx_paid(tx, owed);
	took -= owed;
	first = least(took, plan->first);
	tx->open -= (uint32_t)first;
	took -= first;
	head = plan->header ? least(took, HF_HEADER_SIZE) : 0;
	took -= head;
	second = least(took, plan->second);
	if (head > 0)
		tx->open = (uint32_t)(plan->second - second);
	if (head > 0 && head < HF_HEADER_SIZE) {
		memcpy(tx->owed, plan->head, HF_HEADER_SIZE);
		tx->owed_have = (uint8_t)head;
		tx->owed_size = HF_HEADER_SIZE;
	}
	if (first + head > 0)
		tx->tail = 0;
	tx->sent += first + second;
	return first + second;
}

static bool queue(struct hf_tx *tx, enum hf_frame_type type, uint8_t flags, const void *payload, size_t size)
{
	uint8_t *header = tx->owed;

	hf_header_make(header, type, (uint32_t)size);
	if (flags) {
		header[HF_HEADER_FLAGS] = flags;
		hf_put16(header + HF_HEADER_CHECK, hf_header_check(header));
	}
	if (size > 0)
		memcpy(header + HF_HEADER_SIZE, payload, size);
	tx->owed_have = 0;
	tx->owed_size = (uint8_t)(HF_HEADER_SIZE + size);
	return true;
}

bool hf_tx_fin(struct hf_tx *tx, bool seen)
{
	if (!hf_tx_between(tx) || tx->fin)
		return false;
	tx->fin = true;
	tx->ended = seen;
	return queue(tx, HF_FRAME_FIN, seen ? HF_HEADER_FIN_SEEN : 0, NULL, 0);
}

bool hf_tx_abort(struct hf_tx *tx)
{
	if (!hf_tx_between(tx))
		return false;
	tx->bye = tx->ended = true;
	return queue(tx, HF_FRAME_BYE, HF_HEADER_ABORT, NULL, 0);
}

bool hf_tx_control(struct hf_tx *tx, enum hf_frame_type type, const void *payload, size_t size)
{
	static const uint8_t sizes[] = {
		[HF_FRAME_BEAT] = HF_BEAT_SIZE,
		[HF_FRAME_ACK] = HF_ACK_SIZE,
		[HF_FRAME_PROOF] = HF_CHECK_SIZE,
	};

	if (!hf_tx_between(tx) || type <= HF_FRAME_DATA || type > HF_FRAME_PROOF || size != sizes[type])
		return false;
	if (type == HF_FRAME_FIN)
		return hf_tx_fin(tx, false);
	if (type == HF_FRAME_BYE)
		tx->bye = tx->ended = true;
	return queue(tx, type, 0, payload, size);
}

const uint8_t *hf_tx_owed(const struct hf_tx *tx, size_t *size)
{
	size_t end = hf_once(tx->owed_size), have = hf_once(tx->owed_have);

	if (end > sizeof tx->owed || have > end)
		have = end = 0;
	*size = end - have;
	return tx->owed + have;
}

void hf_tx_paid(struct hf_tx *tx, size_t took)
{
	size_t size;

	(void)hf_tx_owed(tx, &size);
	took = least(took, size);
	if (took > 0)
		tx->tail = tx->owed[HF_HEADER_TYPE] == HF_FRAME_BEAT ? tx->tail + took : 0;
	tx->owed_have = (uint8_t)(tx->owed_have + took);
	if (tx->owed_have == tx->owed_size)
		tx->owed_have = tx->owed_size = 0;
}
