#include "core/pause.h"

void hf_pause_init(struct hf_pause *pause, uint64_t before, uint64_t boot, uint64_t after)
{
	(void)after;
	*pause = (struct hf_pause){.asleep = boot - before};
}

bool hf_pause_suspended(struct hf_pause *pause, uint64_t before, uint64_t boot, uint64_t after)
{
	/* The thread may lose the processor between two readings: at least this much ahead, compared with at most. */
	uint64_t least = boot > after ? boot - after : 0;
	bool suspended = least > pause->asleep + HF_PAUSE_LATE_MS;

	pause->asleep = boot - before;
	return suspended;
}

bool hf_pause_late(struct hf_pause *pause, uint64_t due, uint64_t now, uint32_t interval)
{
	uint64_t late = now > due ? now - due : 0;

	if (late <= (interval > HF_PAUSE_LATE_MS ? interval : HF_PAUSE_LATE_MS)) {
		pause->small += late + 1; /* times are rounded down */
		return false;
	}
	pause->late = late;
	return true;
}

bool hf_pause_stopped(struct hf_pause *pause, uint64_t queued)
{
	uint64_t waited;

	if (queued == UINT64_MAX)
		return true;
	/* What the many small delays before cannot account for belongs to this one. */
	waited = queued > pause->queued + pause->small ? queued - pause->queued - pause->small : 0;
	pause->queued = queued;
	pause->small = 0;
	return waited < pause->late / 2;
}

void hf_pause_awake(struct hf_pause *pause, uint64_t ms)
{
	pause->small += ms + 1;
}
