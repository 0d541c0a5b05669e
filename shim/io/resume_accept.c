/*
 * A client that resumes a session comes to a listener like any other: it is known by its first bytes, and the program
 * never sees it.
 */
#include "io/keep.h"
#include "io/resume.h"
#include "io/wrap_inner.h"
#include "runtime.h"
#include "state/arena.h"
#include "sys.h"
#include "watch/watch.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

bool hf_resume_serving(void)
{
	return hf_runtime.config.on_dead == HF_RECONNECT && hf_wrap_in_use();
}

struct hf_slot *hf_resume_named(const uint8_t name[HF_SESSION_SIZE])
{
	for (uint32_t i = 0; i < hf_slot_end(); i++) {
		struct hf_slot *slot = hf_slot_at(i);
		struct hf_wrap *wrap =
			slot != NULL && atomic_load(&slot->stage) != HF_STAGE_FREE ? hf_wrap_of(slot) : NULL;

		/* The program may have closed it here, and another process have it still. */
		if (wrap != NULL && atomic_load(&hf_rare(slot)->let_go) != HF_LEFT_OTHERS + 1 &&
		    hf_resume_of(slot) != NULL && !wrap->client &&
		    memcmp(wrap->resume_name, name, HF_SESSION_SIZE) == 0)
			return slot;
	}
	return NULL;
}

bool hf_resume_genuine(const struct hf_wrap *wrap, const uint8_t in[HF_HELLO_SIZE], struct hf_hello *peer)
{
	uint8_t bytes[HF_CHECK_SIZE], name[HF_SESSION_SIZE];
	const struct hf_key key = {bytes, sizeof(bytes)};
	enum hf_hello_result result;
	size_t used;

	hf_resume_keys(wrap, bytes, name);
	result = hf_hello_read(in, HF_HELLO_SIZE, &key, false, NULL, NULL, peer, &used);
	hf_forget(bytes, sizeof(bytes));
	return result == HF_HELLO_VALID;
}

/* The session is not known here, or the HELLO is not of who began it. */
static void refuse(int fd, const uint8_t in[HF_HELLO_SIZE])
{
	struct hf_hello mine = {.version = HF_WIRE_VERSION,
				.flags = HF_HELLO_SERVER | HF_HELLO_RESUME | HF_HELLO_REFUSED};
	uint8_t out[HF_HELLO_SIZE];

	memcpy(mine.session, in + HF_HELLO_SESSION, sizeof(mine.session));
	(void)hf_sys_getrandom(mine.nonce, sizeof(mine.nonce), 0);
	hf_hello_make(out, &mine, &hf_runtime.key, in + HF_HELLO_NONCE);
	/* Taken first: a close with bytes unread would be a reset, which destroys the answer. */
	(void)hf_sys_discard(fd, HF_HELLO_SIZE);
	(void)hf_sys_sendto(fd, out, sizeof(out), MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
}

void hf_resume_bury(struct hf_slot *slot)
{
	struct hf_resume *resume = hf_resume_of(slot);
	struct hf_wrap *wrap = hf_wrap_of(slot);
	struct hf_arena *head = hf_arena();
	struct hf_arena_tomb *tomb;

	if (resume == NULL || wrap == NULL || head == NULL || wrap->client || !(wrap->rx.fin || wrap->rx.bye) ||
	    !(wrap->tx.fin || wrap->tx.bye || wrap->rx.bye) || atomic_load(&resume->aborted) != 0)
		return;
	tomb = &head->tombs[atomic_fetch_add(&head->tomb_next, 1) % HF_ARENA_TOMBS];
	atomic_store(&tomb->until, UINT64_MAX);
	hf_resume_keys(wrap, tomb->key, tomb->name);
	tomb->expects = hf_resume_expects(&wrap->rx);
	tomb->said = resume->ring.end;
	atomic_store(&tomb->until, hf_wrap_now_ms() + hf_runtime.config.reconnect_window);
}

/* The session by this NAME is over: whether the client, who may not know, has been told. */
static bool tell_over(int fd, const uint8_t name[HF_SESSION_SIZE], const uint8_t in[HF_HELLO_SIZE])
{
	struct hf_arena *head = hf_arena();
	uint64_t now = hf_wrap_now_ms();

	for (int i = 0; head != NULL && i < HF_ARENA_TOMBS; i++) {
		struct hf_arena_tomb *tomb = &head->tombs[i], copy = *tomb;
		const struct hf_key key = {copy.key, sizeof(copy.key)};
		struct hf_hello mine = {.version = HF_WIRE_VERSION,
					.flags = HF_HELLO_SERVER | HF_HELLO_RESUME,
					.offset = copy.expects},
				peer;
		uint8_t out[HF_HELLO_SIZE + HF_HEADER_SIZE];
		size_t used;

		if (copy.until <= now || memcmp(copy.name, name, sizeof(copy.name)) != 0 ||
		    atomic_load(&tomb->until) != copy.until || copy.until == UINT64_MAX ||
		    hf_hello_read(in, HF_HELLO_SIZE, &key, false, NULL, NULL, &peer, &used) != HF_HELLO_VALID ||
		    peer.offset < copy.said) /* bytes are lost to it that nobody keeps any more */
			continue;
		memcpy(mine.session, name, sizeof(mine.session));
		(void)hf_sys_getrandom(mine.nonce, sizeof(mine.nonce), 0);
		hf_hello_make(out, &mine, &key, peer.nonce);
		hf_header_make(out + HF_HELLO_SIZE, HF_FRAME_BYE, 0);
		(void)hf_sys_discard(fd, HF_HELLO_SIZE);
		(void)hf_sys_sendto(fd, out, sizeof(out), MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
		return true;
	}
	return false;
}

static bool hand_over(int fd, struct hf_slot *slot, const uint8_t *hello)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	int copy, before;

	/* To whom it concerns. */
	if (hf_resume_stale(slot, wrap) || (hf_resume_broken(wrap) && !hf_resume_leads(slot)))
		return hf_resume_pass(fd, wrap->resume_name, hello);
	copy = hf_high_copy(fd);
	if (copy < 0)
		copy = (int)hf_sys_fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (copy < 0)
		return false;
	before = atomic_exchange(&hf_rare(slot)->offer, copy + 1);
	if (before > 0)
		hf_sys_close(before - 1);
	/* The client knows before we do that the path is gone. */
	if (!hf_resume_lost(slot, ECONNRESET)) {
		before = atomic_exchange(&hf_rare(slot)->offer, 0);
		if (before > 0)
			hf_sys_close(before - 1);
		return false;
	}
	hf_watch_poke(slot);
	return true;
}

void hf_resume_suspended(uint64_t now)
{
	enum { LATE_MS = 1000 }; /* a watchdog that has to wait for a processor */
	struct hf_arena *head = hf_arena();

	if (head != NULL)
		atomic_store(&head->suspended_until, now + LATE_MS);
}

static bool any_suspended(void)
{
	struct hf_arena *head = hf_arena();
	uint64_t until = head != NULL ? atomic_load(&head->suspended_until) : 0;

	return until != 0 && hf_wrap_now_ms() < until;
}

/* A HELLO may come behind the acknowledgement that let accept(2) return. */
static long first_bytes(int fd, uint8_t in[HF_HELLO_SIZE], int patience_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	if (any_suspended())
		(void)hf_sys_poll(&p, 1, patience_ms);
	return hf_sys_recvfrom(fd, in, HF_HELLO_SIZE, MSG_PEEK | MSG_DONTWAIT, NULL, NULL);
}

static bool take(int fd, int patience_ms, uint8_t in[HF_HELLO_SIZE])
{
	enum { PATIENCE_MS = 50 };
	uint8_t name[HF_SESSION_SIZE];
	struct hf_slot *slot;
	struct hf_hello peer;
	bool done = false;
	long got = first_bytes(fd, in, patience_ms);

	if (got <= 0 || !hf_resume_called(in, (size_t)got, name))
		return false;
	for (int i = 0; got < HF_HELLO_SIZE && i < PATIENCE_MS; i++) {
		const struct timespec moment = {0, 1000000};

		hf_sys_nanosleep(&moment, NULL);
		got = hf_sys_recvfrom(fd, in, HF_HELLO_SIZE, MSG_PEEK | MSG_DONTWAIT, NULL, NULL);
	}
	if (got != HF_HELLO_SIZE)
		return false;
	slot = hf_resume_named(name);
	if (slot == NULL)
		done = tell_over(fd, name, in) || hf_resume_pass(fd, name, in);
	else if (hf_resume_genuine(hf_wrap_of(slot), in, &peer) && !(done = hand_over(fd, slot, in))) {
		hf_resume_bury(slot); /* over in this very moment */
		done = tell_over(fd, name, in);
	}
	if (!done)
		refuse(fd, in);
	hf_sys_close(fd);
	return true;
}

bool hf_resume_take(int fd, int patience_ms)
{
	uint8_t in[HF_HELLO_SIZE];
	bool taken = take(fd, patience_ms, in);

	/* Of a new client it is the first HELLO, with the id of its session. */
	explicit_bzero(in, sizeof(in));
	return taken;
}
