/*
 * epoll(7).  Registrations are recorded as they pass, so that an event, which carries nothing but the program's data,
 * can be traced to its descriptor; an event that cannot, or not with certainty, goes through as it is.  Nothing the
 * program registered is ever changed.
 */
#include "io/gate.h"
#include "io/resume.h"
#include "io/wait.h"
#include "io/wrap_inner.h"
#include "sys.h"

#include <sys/epoll.h>
#include <sys/mman.h>

/* One for each pair of epoll descriptor and data. */
struct registration {
	uint64_t data;
	int epfd;
	int fd;
	uint32_t events;
	hf_fd_entry entry; /* what the map said of FD */
	bool used;
	bool fired;  /* one-shot, and told: not armed until the program says so */
	bool shared; /* more than one descriptor has been registered with this data: never traced */
};

enum { BITS = 16, SIZE = 1 << BITS, PROBES = 16, NUMBERS = 1 << 16 };

static struct registration *table; /* SIZE, mapped when the first wrapped connection is registered */
static uint32_t *latest; /* of a descriptor below NUMBERS its last registration: its place in the table, and 1 */
static _Atomic bool recording;
static bool overflowed;           /* some registration is not on record: nothing is certain any more */
static struct hf_turn_word owner; /* turn: the table, and the order of what it says and what the kernel was told */

static bool wrap_possible(void)
{
	return hf_on() && (hf_runtime.config.mode == HF_MODE_WRAP || hf_runtime.config.nrules != 0 ||
			   hf_runtime.config.redial != HF_REDIAL_OFF);
}

/* Whether the number still stands for what was registered. */
static bool current(const struct registration *r)
{
	hf_fd_entry now = hf_fdmap_get(r->fd);

	/* Registered between socket(2) and connect(2). */
	return now == r->entry || (r->entry == (HF_FD_UNKNOWN | HF_FD_TCP_HINT) && HF_FD_KIND(now) == HF_FD_SLOT);
}

static struct registration *find(int epfd, uint64_t data, bool make)
{
	uint64_t hash = (data ^ (uint64_t)(unsigned)epfd << 32) * 0x9e3779b97f4a7c15U; /* 2^64 / golden ratio */
	struct registration *room = NULL;

	for (unsigned i = 0; i < PROBES; i++) {
		struct registration *r = &table[((hash >> (64 - BITS)) + i) % SIZE];

		if (r->used && r->data == data && r->epfd == epfd)
			return r;
		if (room == NULL && (!r->used || !current(r)))
			room = r;
	}
	if (make && room != NULL)
		*room = (struct registration){.data = data, .epfd = epfd, .fd = -1, .used = true};
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
	struct registration *r = table != NULL && fd < NUMBERS && latest[fd] != 0 ? &table[latest[fd] - 1] : NULL;
	bool seldom = fd >= NUMBERS;

	if (table == NULL)
		return;
	if (r != NULL && r->used && r->fd == fd && r->epfd == epfd) {
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
	struct registration *r;

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
	if (!wrap_possible() || hf_proc_borrowed())
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

/* The wrapped connection EVENT is of, or one that may have been wrapped a moment ago.  False: not to be told, or none.
 */
static bool traced(int epfd, const struct epoll_event *event, struct registration *out, const struct hf_sieve *sieve)
{
	struct registration *r;
	struct hf_slot *slot;
	bool found;

	(void)hf_turn_take(&owner, hf_turn_me(), -1);
	r = overflowed ? NULL : find(epfd, event->data.u64, false);
	found = r != NULL && !r->shared && (current(r) || HF_FD_KIND(r->entry) == HF_FD_SLOT);
	if (found && current(r))
		r->entry = hf_fdmap_get(r->fd);
	if (found)
		*out = *r;
	hf_turn_end(&owner);
	if (found && hf_fdmap_get(out->fd) == HF_FD_LISTENER)
		return hf_resume_serving();
	if (!found || HF_FD_KIND(out->entry) != HF_FD_SLOT)
		return false;
	slot = hf_slot_of(out->entry);
	if (slot == NULL || (hf_wrap_of(slot) == NULL && hf_redial_of(slot) == NULL && !hf_sieve_stale(sieve)))
		return false;
	/* The number has been closed, but a duplicate keeps the connection and with it the registration (epoll(7)). */
	if (hf_fdmap_get(out->fd) != out->entry)
		out->fd = atomic_load(&slot->fd);
	return out->fd >= 0 && hf_fdmap_get(out->fd) == out->entry;
}

/*
 * The event that has disarmed a one-shot registration was only protocol, which is gone.  The same registration once
 * more arms it again and shows whatever has come meanwhile (epoll_ctl(2), EPOLL_CTL_MOD); unless the program has
 * changed it since.
 */
static void rearm(const struct registration *seen)
{
	struct registration *r;

	(void)hf_turn_take(&owner, hf_turn_me(), -1);
	r = find(seen->epfd, seen->data, false);
	if (r != NULL && !r->shared && r->fd == seen->fd && r->events == seen->events && current(r)) {
		struct epoll_event event = {.events = r->events, .data.u64 = r->data};

		(void)hf_sys_epoll_ctl(r->epfd, EPOLL_CTL_MOD, r->fd, &event);
	}
	hf_turn_end(&owner);
}

/* The program is told, and nobody else until it arms it again. */
static void fired(const struct registration *seen)
{
	struct registration *r;

	(void)hf_turn_take(&owner, hf_turn_me(), -1);
	r = find(seen->epfd, seen->data, false);
	if (r != NULL && r->fd == seen->fd)
		r->fired = true;
	hf_turn_end(&owner);
}

/* How many of COUNT events are left when those that are only protocol are taken out. */
static int sift_events(int epfd, struct epoll_event *events, int count, struct hf_sieve *sieve)
{
	int left = 0;

	for (int i = 0; i < count; i++) {
		struct registration r;
		uint32_t seen = events[i].events;
		short kept;

		if (traced(epfd, &events[i], &r, sieve)) {
			kept = hf_sift(r.fd, (short)(r.events & 0x3fffU), (short)(seen & 0x3fffU),
				       (r.events & (EPOLLET | EPOLLONESHOT)) != 0, sieve);
			events[i].events = (seen & ~0x3fffU) | (uint32_t)(unsigned short)kept;
			if (kept == 0) {
				if ((r.events & EPOLLONESHOT) != 0)
					rearm(&r);
				continue;
			}
			if ((r.events & EPOLLONESHOT) != 0)
				fired(&r);
		}
		if (left != i)
			events[left] = events[i];
		left++;
	}
	return left;
}

/* What R is registered for right now. */
static uint32_t armed(const struct registration *r)
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
	struct registration *found[MOST];
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

/* Bytes taken out of connections that broke: the kernel knows nothing of them. */
static int add_inboxes(int epfd, struct epoll_event *events, int count, int room, bool probing)
{
	(void)hf_turn_take(&owner, hf_turn_me(), -1);
	for (size_t i = 0; i < SIZE && count < room; i++) {
		struct registration *r = &table[i];
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

enum flavour { WAIT, PWAIT, PWAIT2 };

/* LEFT: NULL is for ever. */
static int wait_again(enum flavour flavour, int epfd, struct epoll_event *events, int room, const struct timespec *left,
		      const sigset_t *mask)
{
	long long ms = left == NULL ? -1 : left->tv_sec * 1000LL + (left->tv_nsec + 999999) / 1000000;

	if (flavour == PWAIT2)
		return hf_real.epoll_pwait2(epfd, events, room, left, mask);
	if (ms > INT32_MAX)
		ms = INT32_MAX;
	if (flavour == PWAIT || mask != NULL)
		return hf_real.epoll_pwait(epfd, events, room, (int)ms, mask);
	return hf_real.epoll_wait(epfd, events, room, (int)ms);
}

static int wait_on(enum flavour flavour, int epfd, struct epoll_event *events, int room, const struct timespec *timeout,
		   const sigset_t *mask)
{
	uint64_t until = hf_deadline(timeout);
	struct timespec left;
	const struct timespec *limit = timeout;
	struct epoll_event probe;

	for (;;) {
		struct hf_sieve sieve = hf_sieve();
		const struct timespec none = {0, 0}, slice = {0, 50000000}, *asked = limit;
		bool kept = (atomic_load(&hf_resume_inboxes) != 0 || atomic_load(&hf_resume_waiting) != 0) &&
			    atomic_load(&recording) && room > 0 && room < INT32_MAX / (int)sizeof(*events);
		int error = errno, count;

		if (kept && add_inboxes(epfd, &probe, 0, 1, true) == 0)
			kept = false;
		if (kept)
			asked = &none;
		else if (hf_resume_stirring() && (limit == NULL || limit->tv_sec > 0 || limit->tv_nsec > slice.tv_nsec))
			asked = &slice;
		count = wait_again(flavour, epfd, events, room, asked, mask);
		/* Registered while we slept, perhaps. */
		if (count < 0 || (count == 0 && !kept && asked != &slice) || !atomic_load(&recording))
			return count;
		count = sift_events(epfd, events, count, &sieve);
		if (kept)
			count = add_inboxes(epfd, events, count, room, false);
		errno = error;
		if (count > 0 || hf_passed(until))
			return count;
		if (sieve.pause)
			hf_pause();
		if (timeout != NULL)
			limit = hf_left(until, &left);
	}
}

/*
 * Whether a thread's next wait is tried without sleeping first: a busy server finds what it waits for there already,
 * and need not be guarded against signals.  Not for a while after such a try was in vain.
 */
static __thread uint8_t in_vain; /* waits yet to come that need no try */

static bool eager(void)
{
	return in_vain == 0;
}

/* What came of a wait: COUNT descriptors; SLEPT: it was not, or no longer, a try. */
static void was(int count, bool slept)
{
	enum { WAITS = 8 };

	if (!slept)
		in_vain = count == 0 ? WAITS : 0;
	else
		in_vain = count > 1 || in_vain == 0 ? 0 : (uint8_t)(in_vain - 1);
}

static int wait_sifted(enum flavour flavour, int epfd, struct epoll_event *events, int room,
		       const struct timespec *timeout, const sigset_t *mask)
{
	const struct timespec none = {0, 0};
	struct hf_quiet quiet;
	int count;

	if (!atomic_load(&recording) || (timeout != NULL && timeout->tv_sec == 0 && timeout->tv_nsec == 0))
		return wait_on(flavour, epfd, events, room, timeout, mask);
	if (eager()) {
		count = wait_on(flavour, epfd, events, room, &none, mask);
		was(count, false);
		if (count != 0)
			return count;
	}
	count = wait_on(flavour, epfd, events, room, timeout, hf_quiet_begin(&quiet, mask));
	hf_quiet_end(&quiet);
	was(count, true);
	return count;
}

static struct timespec milliseconds(int timeout)
{
	return (struct timespec){timeout / 1000, (long)(timeout % 1000) * 1000000};
}

int hf_epoll_wait(int epfd, struct epoll_event *events, int room, int timeout)
{
	struct timespec limit = milliseconds(timeout);

	hf_real_ready();
	if (!wrap_possible() || hf_proc_borrowed())
		return hf_real.epoll_wait(epfd, events, room, timeout);
	return wait_sifted(WAIT, epfd, events, room, timeout < 0 ? NULL : &limit, NULL);
}

int hf_epoll_pwait(int epfd, struct epoll_event *events, int room, int timeout, const sigset_t *mask)
{
	struct timespec limit = milliseconds(timeout);

	hf_real_ready();
	if (!wrap_possible() || hf_proc_borrowed())
		return hf_real.epoll_pwait(epfd, events, room, timeout, mask);
	return wait_sifted(PWAIT, epfd, events, room, timeout < 0 ? NULL : &limit, mask);
}

int hf_epoll_pwait2(int epfd, struct epoll_event *events, int room, const struct timespec *timeout,
		    const sigset_t *mask)
{
	hf_real_ready();
	if (hf_real.epoll_pwait2 == NULL) {
		errno = ENOSYS;
		return -1;
	}
	if (!wrap_possible() || hf_proc_borrowed() || !hf_sane(timeout))
		return hf_real.epoll_pwait2(epfd, events, room, timeout, mask);
	return wait_sifted(PWAIT2, epfd, events, room, timeout, mask);
}
