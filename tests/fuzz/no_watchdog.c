/* The library without its constructor and its watchdog's thread, for fuzz_wrap.c, which plays them. */
#include "runtime.h"
#include "watch/look.h"
#include "watch/watch.h"

struct hf_runtime hf_runtime;

void hf_watch_give(struct hf_slot *slot)
{
	(void)slot;
}

void hf_watch_closed(struct hf_slot *slot)
{
	(void)slot;
}

void hf_watch_poke(struct hf_slot *slot)
{
	(void)slot;
}

void hf_watch_forked(void)
{
}

bool hf_watch_able(void)
{
	return true;
}

void hf_watch_suspend(void)
{
}

void hf_watch_resume(void)
{
}

void hf_watch_share(void)
{
}

void hf_watch_want_shared(void)
{
}

void hf_watch_finish(void)
{
}

void hf_watch_retune(struct hf_slot *slot, int fd)
{
	(void)slot;
	(void)fd;
}

void hf_watch_schedule(struct hf_slot *slot, uint64_t due)
{
	(void)slot;
	(void)due;
}

void hf_watch_done(struct hf_slot *slot)
{
	(void)slot;
}
