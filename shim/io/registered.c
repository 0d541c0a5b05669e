#include "io/registered.h"

#include "io/gate.h"
#include "io/resume.h"
#include "io/wait.h"
#include "io/wrap_inner.h"
#include "sys.h"

#include <errno.h>
#include <sys/mman.h>

enum { BITS = 16, SIZE = 1 << BITS, PROBES = 16, NUMBERS = 1 << 16 };

static struct hf_registration *table; /* SIZE, mapped when the first wrapped connection is registered */
static uint32_t *latest; /* of a descriptor below NUMBERS its last registration: its place in the table, and 1 */
static _Atomic bool recording;
static bool overflowed;           /* some registration is not on record: nothing is certain any more */
static struct hf_turn_word owner; /* turn: the table, and the order of what it says and what the kernel was told */

bool hf_registering(void)
{
	return atomic_load(&recording);
}

/* Whether the number still stands for what was registered. */
static bool current(const struct hf_registration *r)
{
	hf_fd_entry now = hf_fdmap_get(r->fd);

	/* Registered between socket(2) and connect(2). */
	return now == r->entry || (r->entry == (HF_FD_UNKNOWN | HF_FD_TCP_HINT) && HF_FD_KIND(now) == HF_FD_SLOT);
}

/* Where to begin to look for it. */
static size_t place_of(int epfd, uint64_t data)
{
	uint64_t hash = (data ^ (uint64_t)(unsigned)epfd << 32) * 0x9e3779b97f4a7c15U; /* 2^64 / golden ratio */

	return (size_t)(hash >> (64 - BITS));
}

static struct hf_registration *find(int epfd, uint64_t data, bool make)
{
	size_t place = place_of(epfd, data);
	struct hf_registration *room = NULL;

	for (unsigned i = 0; i < PROBES; i++) {
		struct hf_registration *r = &table[(place + i) % SIZE];

		if (r->used && r->data == data && r->epfd == epfd)
			return r;
		if (room == NULL && (!r->used || !current(r)))
			room = r;
	}
	if (make && room != NULL)
		*room = (struct hf_registration){.data = data, .epfd = epfd, .fd = -1, .used = true};
	return make ? room : NULL;
}

static bool make_table(void)
{
	void *room = hf_sys_mmap(NULL, SIZE * sizeof(*table) + NUMBERS * sizeof(*latest), PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (hf_sys_failed(room)) {
		overflowed = true;
		return false;
	}
	table = room;
	latest = (uint32_t *)(void *)(table + SIZE);
	atomic_store(&recording, true);
	return true;
}

/*
 * What FD was registered with in EPFD before is so no more: it has been taken out, or has other data now.  Whoever
 * registers it again must not bring the old data back, which the program may have freed.  The turn is ours.
 */
static void forget(int epfd, int fd, const struct epoll_event *now)
{
	struct hf_registration *r = table != NULL && fd < NUMBERS && latest[fd] != 0 ? &table[latest[fd] - 1] : NULL;
	bool seldom = fd >= NUMBERS;

	if (table == NULL)
		return;
	/* But what a duplicate of a closed number keeps registered stays so (epoll(7), Q6). */
	if (r != NULL && r->used && r->fd == fd && r->epfd == epfd && current(r)) {
		r->used = now != NULL && now->data.u64 == r->data;
		return;
	}
	/* In more than one epoll descriptor at a time; what another connection by this number had is of no concern. */
	seldom = seldom || (r != NULL && r->used && r->fd == fd && current(r));
	for (size_t i = 0; seldom && i < SIZE; i++)
		if (table[i].used && table[i].fd == fd && table[i].epfd == epfd &&
		    (now == NULL || now->data.u64 != table[i].data))
			table[i].used = false;
}

/* The turn is ours. */
static void record(int epfd, int fd, const struct epoll_event *event)
{
	struct hf_registration *r;

	if (table == NULL && !make_table())
		return;
	forget(epfd, fd, event);
	r = find(epfd, event->data.u64, true);
	if (r == NULL) {
		overflowed = true;
		return;
	}
	if (r->fd != fd) {
		r->shared = r->fd >= 0 && (r->shared || current(r));
		r->fd = fd;
	}
	r->events = event->events;
	r->fired = false;
	r->entry = hf_fdmap_get(fd);
	if (fd < NUMBERS)
		latest[fd] = (uint32_t)(r - table) + 1;
}

/* Where a wrapped connection is registered: a drained one must leave there first (io/wrap_close.c). */
static void note_epoll(struct hf_slot *slot, int epfd)
{
	enum { ROOM = sizeof(hf_rare(slot)->epolls) / sizeof(hf_rare(slot)->epolls[0]) };

	for (size_t i = 0; i < ROOM; i++) {
		int none = 0;

		if (atomic_compare_exchange_strong(&hf_rare(slot)->epolls[i], &none, epfd + 1) || none == epfd + 1)
			return;
	}
	atomic_store(&hf_rare(slot)->epolls[ROOM - 1], -1); /* too many */
}

int hf_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	struct hf_slot *slot;
	int refused, result, error;

	hf_real_ready();
	slot = hf_gate(fd, HF_OTHER, &refused);
	if (!hf_wrap_possible() || hf_proc_borrowed())
		return hf_real.epoll_ctl(epfd, op, fd, event);
	(void)hf_turn_take(&owner, hf_turn_me(), -1);
	result = hf_real.epoll_ctl(epfd, op, fd, event);
	error = errno;
	/* The kernel has taken it, so it can be read. */
	if (result == 0 && (op == EPOLL_CTL_ADD || op == EPOLL_CTL_MOD))
		record(epfd, fd, event);
	else if (result == 0 && op == EPOLL_CTL_DEL)
		forget(epfd, fd, NULL);
	if (result == 0 && op == EPOLL_CTL_ADD && slot != NULL && hf_wrap_of(slot) != NULL)
		note_epoll(slot, epfd);
	hf_turn_end(&owner);
	errno = error;
	return result;
}

uint32_t hf_registered_trace(int epfd, const struct epoll_event *events, int count, struct hf_registration *out)
{
	struct hf_slot *slots[HF_TRACE_MOST];
	uint32_t known = 0;
	bool many = count > 1;

	for (int i = 0; many && i < count; i++)
		__builtin_prefetch(&table[place_of(epfd, events[i].data.u64)], 1);
	(void)hf_turn_take(&owner, hf_turn_me(), -1);
	for (int i = 0; i < count; i++) {
		struct hf_registration *r = overflowed ? NULL : find(epfd, events[i].data.u64, false);
		bool now = r != NULL && current(r);

		if (many)
			slots[i] = NULL;
		if (r == NULL || r->shared || (!now && HF_FD_KIND(r->entry) != HF_FD_SLOT))
			continue;
		if (now)
			r->entry = hf_fdmap_get(r->fd);
		out[i] = *r;
		known |= 1U << i;
		if (!many)
			break;
		if (HF_FD_KIND(r->entry) == HF_FD_SLOT)
			slots[i] = hf_slot_at(HF_FD_INDEX(r->entry));
		__builtin_prefetch(slots[i]);
	}
	hf_turn_end(&owner);
	for (int i = 0; many && i < count; i++)
		hf_wrap_fetch(slots[i]);
	return known;
}

void hf_registered_rearm(const struct hf_registration *seen)
{
	struct hf_registration *r;

	(void)hf_turn_take(&owner, hf_turn_me(), -1);
	r = find(seen->epfd, seen->data, false);
	if (r != NULL && !r->shared && r->fd == seen->fd && r->events == seen->events && current(r)) {
		struct epoll_event event = {.events = r->events, .data.u64 = r->data};

		(void)hf_sys_epoll_ctl(r->epfd, EPOLL_CTL_MOD, r->fd, &event);
	}
	hf_turn_end(&owner);
}

void hf_registered_fired(const struct hf_registration *seen)
{
	struct hf_registration *r;

	(void)hf_turn_take(&owner, hf_turn_me(), -1);
	r = find(seen->epfd, seen->data, false);
	if (r != NULL && r->fd == seen->fd)
		r->fired = true;
	hf_turn_end(&owner);
}

/* What R is registered for right now. */
static uint32_t armed(const struct hf_registration *r)
{
	return r->fired ? r->events & (EPOLLONESHOT | EPOLLET) : r->events;
}

/*
 * Another socket is about to be put under FD, by SWAP.  A registration belongs to the old one, and could not be removed
 * any more once the number means another (epoll(7), Q6): out first, in again behind.
 */
void hf_epoll_around(int fd, void (*swap)(void *arg), void *arg)
{
	enum { MOST = 16 };
	struct hf_registration *found[MOST];
	size_t count = 0;

	if (!atomic_load(&recording)) {
		swap(arg);
		return;
	}
	(void)hf_turn_take(&owner, hf_turn_watchdog(), -1);
	for (size_t i = 0; i < SIZE && count < MOST; i++) {
		struct epoll_event none = {0};

		if (table[i].used && table[i].fd == fd && current(&table[i]) &&
		    hf_sys_epoll_ctl(table[i].epfd, EPOLL_CTL_DEL, fd, &none) == 0)
			found[count++] = &table[i];
	}
	swap(arg);
	for (size_t i = 0; i < count; i++) {
		struct epoll_event event = {.events = armed(found[i]), .data.u64 = found[i]->data};

		(void)hf_sys_epoll_ctl(found[i]->epfd, EPOLL_CTL_ADD, fd, &event);
	}
	hf_turn_end(&owner);
}

void hf_epoll_again(struct hf_slot *slot)
{
	hf_fd_entry entry = hf_slot_entry(slot);

	if (!atomic_load(&recording))
		return;
	(void)hf_turn_take(&owner, hf_turn_watchdog(), -1);
	for (size_t i = 0; i < SIZE; i++) {
		struct epoll_event event = {.events = table[i].events, .data.u64 = table[i].data};

		if (table[i].used && !table[i].fired && hf_fdmap_get(table[i].fd) == entry && current(&table[i]) &&
		    (event.events & EPOLLEXCLUSIVE) == 0)
			(void)hf_sys_epoll_ctl(table[i].epfd, EPOLL_CTL_MOD, table[i].fd, &event);
	}
	hf_turn_end(&owner);
}

int hf_registered_inboxes(int epfd, struct epoll_event *events, int count, int room, bool probing)
{
	(void)hf_turn_take(&owner, hf_turn_me(), -1);
	for (size_t i = 0; i < SIZE && count < room; i++) {
		struct hf_registration *r = &table[i];
		struct hf_slot *slot;
		hf_fd_entry entry;
		bool told = false;

		if (!r->used || r->epfd != epfd || (r->events & EPOLLIN) == 0 || r->shared || r->fired || !current(r))
			continue;
		entry = hf_fdmap_get(r->fd);
		slot = hf_slot_named_by(entry);
		if (slot != NULL ? hf_resume_inbox(slot) == 0
				 : entry != HF_FD_LISTENER || !hf_resume_has_waiting(r->fd))
			continue;
		for (int k = 0; k < count && !told; k++) {
			told = events[k].data.u64 == r->data;
			if (told)
				events[k].events |= EPOLLIN;
		}
		if (!told && (r->events & EPOLLONESHOT) != 0 && !probing) {
			struct epoll_event off = {.events = EPOLLONESHOT, .data.u64 = r->data};

			r->fired = true;
			(void)hf_sys_epoll_ctl(r->epfd, EPOLL_CTL_MOD, r->fd, &off);
		}
		if (!told)
			events[count++] = (struct epoll_event){.events = EPOLLIN, .data.u64 = r->data};
	}
	hf_turn_end(&owner);
	return count;
}
