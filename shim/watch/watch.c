#include "watch/watch.h"
#include "core/pause.h"
#include "hand.h"
#include "io/adopt.h"
#include "io/bound.h"
#include "io/keep.h"
#include "io/redial.h"
#include "io/resume.h"
#include "io/wrap.h"
#include "runtime.h"
#include "sink.h"
#include "state/clock.h"
#include "state/family.h"
#include "state/proc.h"
#include "state/view.h"
#include "sys.h"
#include "watch/look.h"
#include "watch/publish.h"
#include "watch/socket.h"
#include "watch/tell.h"
#include "watch/thread.h"

#include <errno.h>
#include <linux/futex.h>

/*
 * A connection is first looked at when it has lived this long: one that comes and goes sooner costs its hooks a few
 * atomic operations and the watchdog a look at its mail.
 */
enum {
	GRACE_MS = 250,
	PART_MS = 30,           /* so soon after its first connection the thread parts with the program's table */
	LINGER_MS = 10000,      /* with nothing to watch for so long the thread ends */
	LEADER_CHECK_MS = 2000, /* how often to see whether the program's own threads are gone, if awake */
	REST_MS = 10000,        /* the longest sleep, for that check */
};

enum { OFF, STARTING, RUNNING };
enum { APART, BEING_SHARED, SHARED };

static struct {
	_Atomic uint32_t state;
	_Atomic uint32_t stop;     /* how many calls want the thread away: hf_watch_suspend() */
	_Atomic uint32_t restart;  /* it is wanted again when the last of them is through */
	uint32_t ring;             /* futex: changes when the thread must look up */
	_Atomic uint64_t rung_at;  /* ms: when, the first time in a sleep */
	_Atomic uint32_t dozing;   /* it sleeps longer than the grace: new mail must ring */
	_Atomic uint32_t awake;    /* the epoch, while it is at its connections; 0 while it sleeps */
	struct hf_slot_stack mail; /* new, closed and poked slots */
	/* The thread must have the program's table of descriptors (hand.h); it would have to. */
	_Atomic uint32_t shared, want_shared;

	/* The thread's own. */
	struct hf_wheel wheel;
	bool wheel_made, parted; /* parted: or there is no parting (hand.h) */
	uint64_t part_at;        /* ms; 0: not yet */
	_Atomic uint32_t watched;
	struct hf_pause pause;
	uint64_t idle_since, leader_check;
	int status; /* of the program's first thread, if we are the last */
} watch;

static uint32_t grace(void)
{
	const struct hf_policy *policy = &hf_runtime.policy;
	uint32_t ms = policy->interval / 2 < GRACE_MS ? policy->interval / 2 : GRACE_MS;

	return policy->connect_timeout != 0 && policy->connect_timeout < ms ? policy->connect_timeout : ms;
}

/* The hooks' side */

static void ring(void)
{
	uint64_t none = 0;

	(void)atomic_compare_exchange_strong(&watch.rung_at, &none, hf_clock_ms(CLOCK_MONOTONIC));
	__atomic_add_fetch(&watch.ring, 1, __ATOMIC_RELEASE);
	hf_sys_futex(&watch.ring, FUTEX_WAKE_PRIVATE, 1, NULL);
}

static int body(void);

/* A kernel that will not give us a thread still does keepalive. */
static void without_thread(struct hf_slot *slot)
{
	int fd = atomic_load(&slot->fd);

	hf_socket_tune(slot, fd);
	hf_unbound(slot, fd);
	hf_wrap_unwatched(slot);
}

static void start(struct hf_slot *slot)
{
	uint32_t expected = OFF;

	for (;;) {
		if (atomic_load(&watch.stop) != 0) {
			atomic_store(&watch.restart, 1);
			if (atomic_load(&watch.stop) != 0)
				return; /* hf_watch_resume() comes after it and sees the wish */
		}
		if (!atomic_compare_exchange_strong(&watch.state, &expected, STARTING))
			return;
		if (atomic_load(&watch.stop) == 0)
			break;
		atomic_store(&watch.state, OFF);
	}
	hf_clock_find(); /* before any time is written down */
	hf_sink_aside = hf_thread_aside;
	hf_socket_prepare();
	hf_publish_prepare();
	hf_thread_join(); /* one that ended by itself may still be on its way out, on the same stack */
	if (hf_thread_start(body) < 0) {
		atomic_store(&watch.state, OFF);
		hf_tell_alone();
		if (slot != NULL)
			without_thread(slot);
		return;
	}
	/* Unless it was asked to end and has. */
	expected = STARTING;
	(void)atomic_compare_exchange_strong(&watch.state, &expected, RUNNING);
}

static void mail(struct hf_slot *slot)
{
	if (atomic_exchange(&slot->mailed, 1) == 0)
		hf_slot_push(&watch.mail, slot);
}

void hf_watch_share(void)
{
	enum { TRIES = 20000 };
	const struct timespec moment = {0, 50000};
	uint32_t was = APART;

	if (atomic_compare_exchange_strong(&watch.shared, &was, BEING_SHARED)) {
		if (atomic_load(&watch.state) != OFF) {
			hf_watch_suspend();
			hf_watch_resume();
		}
		atomic_store(&watch.shared, SHARED);
	}
	/* By another thread, or by what a signal has interrupted. */
	for (int i = 0; i < TRIES && was == BEING_SHARED && atomic_load(&watch.shared) == BEING_SHARED; i++)
		hf_sys_nanosleep(&moment, NULL);
}

void hf_watch_want_shared(void)
{
	atomic_store(&watch.want_shared, 1);
}

/* What has to be opened, closed or replaced needs the program's table; and of very many the two calls more that each
 * look takes are worth more than what they spare the program. */
static bool wants_shared(struct hf_slot *slot)
{
	enum { MANY = 4000 };

	return hf_wrap_of(slot) != NULL || hf_redial_of(slot) != NULL || atomic_load(&watch.want_shared) != 0 ||
	       atomic_load_explicit(&watch.watched, memory_order_relaxed) > MANY;
}

void hf_watch_give(struct hf_slot *slot)
{
	if (atomic_load_explicit(&watch.shared, memory_order_acquire) != SHARED && hf_unlikely(wants_shared(slot)))
		hf_watch_share();
	atomic_store(&slot->stage, HF_STAGE_NEW);
	mail(slot);
	if (atomic_load(&watch.state) == OFF)
		start(slot);
	else if (atomic_exchange(&watch.dozing, 0) != 0 || hf_wrap_of(slot) != NULL)
		ring();
}

bool hf_watch_able(void)
{
	if (atomic_load(&watch.state) == OFF) {
		hf_watch_share(); /* for a wrapped connection: before the thread is there rather than after */
		start(NULL);
	}
	return atomic_load(&watch.state) != OFF || atomic_load(&watch.stop) != 0;
}

void hf_watch_poke(struct hf_slot *slot)
{
	if (atomic_load(&slot->stage) != HF_STAGE_WATCHED)
		return;
	mail(slot);
	ring();
}

static void give_back(struct hf_slot *slot)
{
	hf_wrap_free(slot);
	hf_redial_free(slot);
	hf_slot_free(slot);
}

void hf_watch_closed(struct hf_slot *slot)
{
	uint8_t stage = atomic_load(&slot->stage);
	uint32_t epoch = atomic_load_explicit(hf_proc_epoch, memory_order_relaxed);

	/* Not with this process's watchdog: never claimed after a fork, or done with. */
	for (;;) {
		if (stage == HF_STAGE_FREE || stage == HF_STAGE_CLOSED)
			return;
		if (hf_wrap_busy(slot) && stage == HF_STAGE_IDLE)
			return; /* a thread sleeps in it: lost, rather than taken from under it */
		if (atomic_load(&slot->epoch) != epoch) {
			if (atomic_compare_exchange_strong(&slot->stage, &stage, HF_STAGE_FREE)) {
				give_back(slot);
				return;
			}
		} else if (stage == HF_STAGE_IDLE && atomic_exchange(&slot->mailed, 1) == 0) {
			/* Not in the mail, nor will it be: the free list uses the same link. */
			if (atomic_compare_exchange_strong(&slot->stage, &stage, HF_STAGE_FREE)) {
				hf_publish_end(slot); /* of one that was gone before it was closed */
				give_back(slot);
				return;
			}
			atomic_store(&slot->mailed, 0);
		} else if (atomic_compare_exchange_strong(&slot->stage, &stage, HF_STAGE_CLOSED)) {
			mail(slot);
			return;
		}
	}
}

void hf_watch_forked(void)
{
	hf_keep_forked();
	hf_resume_backlog_forked();
	hf_thread_forget();
	if (hf_arena() != NULL)
		hf_clock_find();
	hf_family_forked_child(0);
	atomic_store(&watch.mail.head, 0);
	atomic_store(&watch.dozing, 0);
	atomic_store(&watch.stop, 0);
	atomic_store(&watch.restart, 0);
	if (atomic_load(&watch.shared) == BEING_SHARED)
		atomic_store(&watch.shared, SHARED); /* whoever was at it has not come along */
	watch.wheel_made = false;
	watch.watched = 0;
	atomic_store(&watch.state, OFF);
}

void hf_watch_suspend(void)
{
	enum { TRIES = 20000 };
	const struct timespec moment = {0, 50000};
	bool fresh;

	/* In a child that clone(2) has made there is none to wait for, and nobody has said so yet. */
	(void)hf_proc_enter(&fresh);
	if (fresh)
		hf_watch_forked();
	atomic_fetch_add(&watch.stop, 1);
	/* Not for ever: it may be the start this very thread was at when a signal came. */
	for (int i = 0; i < TRIES && atomic_load(&watch.state) == STARTING; i++)
		hf_sys_nanosleep(&moment, NULL);
	ring();
	hf_thread_join();
}

void hf_watch_resume(void)
{
	if (hf_arena() != NULL)
		hf_clock_find(); /* setns(2) */
	if (atomic_fetch_sub(&watch.stop, 1) == 1 && atomic_exchange(&watch.restart, 0) != 0)
		start(NULL);
}

void hf_watch_retune(struct hf_slot *slot, int fd)
{
	hf_socket_retune(slot, fd);
}

void hf_watch_finish(void)
{
	enum { TRIES = 1000 };
	const struct timespec moment = {0, 1000000};
	uint32_t epoch = atomic_load(hf_proc_epoch);

	/* A forked child that has made no call of ours has the parent's word and no epoch. */
	for (int i = 0; i < TRIES && epoch != 0 && atomic_load(&watch.awake) == epoch; i++)
		hf_sys_nanosleep(&moment, NULL);
}

/* The thread's side */

static struct hf_slot *slot_of_node(const struct hf_wheel_node *node)
{
	return (struct hf_slot *)((uintptr_t)node - offsetof(struct hf_slot, node));
}

/* Of many connections none is in the cache when its turn comes.  The system calls of one look are time enough to fetch
 * what the next will need: its slot, which is asked for a look earlier, and by that its view. */
static void fetch_ahead(void)
{
	enum { LINE = 64 };
	const struct hf_wheel_node *next = hf_wheel_ready(&watch.wheel);

	if (next == NULL)
		return;
	hf_view_fetch(slot_of_node(next)->view);
	if (next->next == NULL)
		return;
	for (size_t at = 0; at < offsetof(struct hf_slot, ends); at += LINE)
		__builtin_prefetch((const char *)slot_of_node(next->next) + at, 1);
}

void hf_watch_schedule(struct hf_slot *slot, uint64_t due)
{
	hf_wheel_insert(&watch.wheel, &slot->node, due);
}

/* Parting with the program's table of descriptors.  Not at once: a process that is gone by then was not worth the
 * trouble. */
static void part_soon(uint64_t now)
{
	if (!watch.parted && watch.part_at == 0)
		watch.part_at = now + PART_MS;
}

static void part(uint64_t now)
{
	if (watch.parted || watch.part_at == 0 || now < watch.part_at)
		return;
	watch.part_at = 0;
	watch.parted = true; /* or what is in the way will stay there */
	if (atomic_load(&watch.shared) == APART)
		(void)hf_hand_part(hf_thread_apart);
}

static void unwatch(struct hf_slot *slot)
{
	if (hf_wheel_queued(&slot->node))
		hf_wheel_remove(&watch.wheel, &slot->node);
	slot->counted = false;
	watch.watched--;
}

void hf_watch_done(struct hf_slot *slot)
{
	enum { SLEEPER_MS = 100 };
	uint8_t stage = HF_STAGE_WATCHED;

	if (atomic_load(&slot->left) != 0) {
		/* Only the thread asleep in it has it open; whoever ends that call pokes.  Nothing more is told. */
		slot->dying = HF_DYING_BUSY;
		hf_watch_schedule(slot, hf_clock_ms(CLOCK_MONOTONIC) + SLEEPER_MS);
		return;
	}
	unwatch(slot);
	/* If the program has closed it meanwhile, it is in the mail and freed from there. */
	(void)atomic_compare_exchange_strong(&slot->stage, &stage, HF_STAGE_IDLE);
}

/* A slot the program has closed.  It may be handed to us once more while we hold it: then it is freed next time. */
static void bury(struct hf_slot *slot)
{
	hf_publish_end(slot);
	if (slot->counted)
		unwatch(slot);
	if (slot->looked && atomic_load(&slot->tuned) != 0)
		hf_tell_one(slot, HF_EV_CLOSED, NULL);
	give_back(slot);
}

static void read_mail(uint64_t now)
{
	uint32_t link = hf_slot_take_all(&watch.mail);

	while (link != 0) {
		struct hf_slot *slot = hf_slot_at(link - 1);
		uint8_t stage = HF_STAGE_NEW;

		link = atomic_load(&slot->next);
		atomic_store(&slot->mailed, 0);
		if (atomic_compare_exchange_strong(&slot->stage, &stage, HF_STAGE_WATCHED)) {
			watch.watched++;
			part_soon(now);
			slot->counted = true;
			slot->node = (struct hf_wheel_node){0};
			slot->looked = slot->asking = slot->resting = slot->turned_plain = false;
			slot->dying = HF_DYING_NO;
			atomic_store(&slot->start, now);
			hf_watch_schedule(slot, now + (hf_wrap_of(slot) != NULL ? HF_WATCH_TICK_MS : grace()));
		} else if (stage == HF_STAGE_CLOSED) {
			if (atomic_exchange(&slot->mailed, 1) != 0)
				continue;
			if (hf_wrap_busy(slot))
				hf_slot_push(&watch.mail, slot); /* next time */
			else
				bury(slot);
		} else if (stage == HF_STAGE_WATCHED && slot->dying == HF_DYING_NO) {
			if (hf_wheel_queued(&slot->node))
				hf_wheel_remove(&watch.wheel, &slot->node);
			hf_look(slot, now);
		}
	}
}

/* Stopped (SIGSTOP) or suspended: nobody looked at the evidence and nobody put a question.  Returns the time. */
static uint64_t notice_pause(uint64_t due, uint64_t now)
{
	uint64_t before = hf_clock_ms(CLOCK_MONOTONIC), boot = hf_clock_ms(CLOCK_BOOTTIME);
	bool paused = hf_pause_suspended(&watch.pause, before, boot, hf_clock_ms(CLOCK_MONOTONIC));

	if (hf_pause_late(&watch.pause, due, now, hf_runtime.policy.interval)) {
		paused = hf_pause_stopped(&watch.pause, hf_thread_queued_ms()) || paused;
		now = hf_clock_ms(CLOCK_MONOTONIC);
	}
	if (paused)
		hf_look_paused();
	return now;
}

/* Whether the program's first thread is gone and only we are left: a program whose last thread leaves by the bare
 * exit system call would otherwise never end. */
static bool alone(uint64_t now)
{
	if (now < watch.leader_check + LEADER_CHECK_MS)
		return false;
	watch.leader_check = now;
	return hf_proc_task_gone(hf_sys_getpid()) && hf_thread_last(&watch.status);
}

/* Sleep until the next look is due or somebody rings. Returns when it was to wake. */
static uint64_t rest(uint64_t now)
{
	uint64_t due = hf_wheel_next(&watch.wheel), until, rung;
	uint32_t heard;
	struct timespec ts;

	atomic_store(&watch.rung_at, 0);
	heard = __atomic_load_n(&watch.ring, __ATOMIC_ACQUIRE);
	until = due != UINT64_MAX ? due : watch.idle_since + LINGER_MS;
	if (watch.part_at != 0 && until > watch.part_at)
		until = watch.part_at;
	if (until <= now)
		return now;
	if (until > now + REST_MS)
		until = now + REST_MS;
	/* What another process hands us does not ring. */
	if (hf_unlikely(hf_resume_mail_expected()) && until > now + hf_resume_mail_pace(now))
		until = now + hf_resume_mail_pace(now);
	/* Whoever hands in a slot from here on rings, unless we are up again within the grace anyway. */
	atomic_store(&watch.dozing, until > now + grace());
	if (until > now + grace() && atomic_load(&watch.mail.head) != 0)
		until = now + grace();
	if (atomic_load(&watch.stop) != 0)
		return now;
	ts.tv_sec = (time_t)((until - now) / 1000);
	ts.tv_nsec = (long)((until - now) % 1000) * 1000000;
	hf_sys_futex(&watch.ring, FUTEX_WAIT_PRIVATE, heard, &ts);
	atomic_store(&watch.dozing, 0);
	rung = atomic_load(&watch.rung_at);
	if (rung == 0 || rung >= until)
		return until;
	return rung > now ? rung : now;
}

/* Nothing has been watched for a while: end, if nobody hands us something at this very moment. */
static bool retire(uint64_t now)
{
	if (watch.watched != 0) {
		watch.idle_since = now;
		return false;
	}
	if (now < watch.idle_since + LINGER_MS)
		return false;
	atomic_store(&watch.state, OFF);
	/* Mail that came before the store did not start a thread; mail that comes after it will. */
	if (atomic_load(&watch.mail.head) == 0)
		return true;
	watch.idle_since = now;
	return !atomic_compare_exchange_strong(&watch.state, &(uint32_t){OFF}, RUNNING);
}

static int watch_on(void)
{
	uint64_t now = hf_clock_ms(CLOCK_MONOTONIC), due = now, done;

	if (!watch.wheel_made) {
		hf_wheel_init(&watch.wheel, now, HF_WATCH_TICK_MS);
		watch.wheel_made = true;
		watch.watched = 0;
	}
	watch.idle_since = watch.leader_check = now;
	watch.parted = false;
	watch.part_at = 0;
	atomic_store(&watch.awake, atomic_load(hf_proc_epoch));
	hf_pause_init(&watch.pause, now, hf_clock_ms(CLOCK_BOOTTIME), hf_clock_ms(CLOCK_MONOTONIC));
	for (;;) {
		struct hf_wheel_node *node;

		now = notice_pause(due, now);
		read_mail(now);
		part(now);
		if (hf_unlikely(hf_resume_mail_expected()) && hf_keep_act()) {
			hf_resume_read_mail();
			hf_keep_acted();
		}
		while ((node = hf_wheel_pop(&watch.wheel, now)) != NULL) {
			fetch_ahead();
			hf_look(slot_of_node(node), now);
		}
		hf_wrap_sweep(now);
		if (atomic_load(&watch.stop) != 0) {
			atomic_store(&watch.restart, 1);
			atomic_store(&watch.state, OFF);
			return watch.status;
		}
		if (retire(now) || alone(now))
			return watch.status;
		/* Many looks take their time: that was no pause. */
		done = hf_clock_ms(CLOCK_MONOTONIC);
		hf_pause_awake(&watch.pause, done - now);
		atomic_store(&watch.awake, 0);
		due = rest(done);
		atomic_store(&watch.awake, atomic_load(hf_proc_epoch));
		now = hf_clock_ms(CLOCK_MONOTONIC);
	}
}

static int body(void)
{
	int status = watch_on();

	atomic_store(&watch.awake, 0);
	return status;
}
