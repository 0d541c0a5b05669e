/*
 * The watchdog: one thread a process, started when the first connection needs it, that looks at each connection when
 * its judge asks to be shown it, tells what happened and ends what is dead.
 *
 * It is a bare kernel thread, not a pthread (watch/thread.h): the program's C library never learns of it.
 * Hooks talk to it through the slots and two lock-free stacks; it owns the second half of each slot.
 */
#ifndef HOLDFAST_WATCH_WATCH_H
#define HOLDFAST_WATCH_WATCH_H

#include "state/slot.h"

/* Give SLOT (stage IDLE) to this process's watchdog, starting it if need be. errno is preserved. */
void hf_watch_give(struct hf_slot *slot);

/* Whether there is a watchdog or one can be started: without it nobody would beat, or know when a handshake is over. */
bool hf_watch_able(void);

/* The program has closed the last descriptor of SLOT: it is freed now or by the watchdog. */
void hf_watch_closed(struct hf_slot *slot);

/* Something about SLOT changed that cannot wait for its next look (an error delivered, a connect timeout set). */
void hf_watch_poke(struct hf_slot *slot);

/* This is a forked child, first call: forget the parent's watchdog. */
void hf_watch_forked(void);

/*
 * End the thread and wait until the kernel has forgotten it: for calls that need a single-threaded process or change
 * credentials (unshare(2), setns(2), setuid(2) and their like are per thread in the kernel).  Each call is followed by
 * one of hf_watch_resume(), of which the last starts the thread again if it was running or has been wanted since.
 * Callable by several threads at once.
 */
void hf_watch_suspend(void);
void hf_watch_resume(void);

/* The thread must have the program's table of descriptors from here on (hand.h): before the program gives up what it
 * would need to do without. */
void hf_watch_share(void);

/* At exit, which ends the thread in mid-sentence: let it finish what it is at, a second at most. */
void hf_watch_finish(void);

/* The keepalive of SLOT as the kernel should have it now; called after the program set its own. */
void hf_watch_retune(struct hf_slot *slot, int fd);

#endif
