/*
 * Writes an arena as preloaded processes do, for the tests of top, explain and metrics.
 *
 * usage: arena_writer fixed            five connections in every kind of state; times stand still as seen from now
 *        arena_writer many N           N connections in four processes' names, all of this process
 *        arena_writer churn N          N connections, written all the time; their numbers all agree in each writing
 *        arena_writer stuck            one that is being written, and never done
 *        arena_writer hostile SEED     noise in every field
 *        arena_writer other            an arena of another version
 *        arena_writer small            a memfd of that name that is no arena
 *
 * Says "ready" and its pid once it is written, and ends when its standard input does, or after two minutes.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <holdfast/arena.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PROBE = 1, WRAP = 2, CLIENT = 1, SERVER = 2, PERIOD_MS = 20, LONGEST_MS = 120000, FD = 960 };

static char *base;

static uint64_t clock_ms(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static struct hf_arena *head(void)
{
	return (struct hf_arena *)(void *)base;
}

static struct hf_arena_view *view_at(uint32_t index)
{
	return (struct hf_arena_view *)(void *)(base + HF_ARENA_VIEWS_AT + (size_t)index * HF_ARENA_VIEW_SIZE);
}

static struct hf_arena_more *more_at(uint32_t index)
{
	return (struct hf_arena_more *)(void *)(base + HF_ARENA_MORE_AT + (size_t)index * HF_ARENA_MORE_SIZE);
}

static uint32_t *rtts_at(uint32_t index)
{
	return (uint32_t *)(void *)(base + HF_ARENA_RTTS_AT + (size_t)index * HF_ARENA_RTTS_SIZE);
}

static void begin(struct hf_arena_view *view)
{
	atomic_fetch_add(&view->seq, 1);
	atomic_thread_fence(memory_order_seq_cst);
}

static void end(struct hf_arena_view *view)
{
	atomic_thread_fence(memory_order_seq_cst);
	atomic_fetch_add(&view->seq, 1);
}

static bool make_arena(off_t size, uint32_t version)
{
	int fd = memfd_create(HF_ARENA_NAME, MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, size) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW) < 0)
		return false;
	if (fcntl(fd, F_DUPFD, FD) < 0)
		return false;
	if (size != (off_t)HF_ARENA_SIZE)
		return true;
	base = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (base == MAP_FAILED)
		return false;
	head()->version = version;
	head()->magic = HF_ARENA_MAGIC;
	return true;
}

/* A process entry of this process, by another name. */
static uint32_t add_process(uint32_t index, const char *prog)
{
	struct hf_arena_proc *entry = &head()->procs[index];
	struct stat st;

	snprintf(entry->prog, sizeof entry->prog, "%s", prog);
	entry->pid = (int32_t)getpid();
	entry->pid_ns = stat("/proc/self/ns/pid", &st) == 0 ? (uint64_t)st.st_ino : 0;
	entry->handle = (uint32_t)1 << HF_ARENA_INDEX_BITS | index;
	return entry->handle;
}

static void set_address(struct hf_ends *to, bool peer, const char *address, uint16_t port)
{
	uint8_t *bytes = peer ? to->peer : to->local;

	*(peer ? &to->peer_port : &to->local_port) = htons(port);
	to->known |= peer ? HF_ENDS_PEER : HF_ENDS_LOCAL;
	to->family = 4;
	if (inet_pton(AF_INET, address, bytes) == 1)
		return;
	to->family = 6;
	inet_pton(AF_INET6, address, bytes);
}

static void add_event(uint32_t index, uint64_t at, enum hf_event_kind kind, enum hf_reason reason, bool ended)
{
	struct hf_arena_view *view = view_at(index);

	more_at(index)->events[view->event_count++ % HF_VIEW_EVENTS] =
		(struct hf_view_event){.at = at, .kind = (uint8_t)kind, .reason = (uint8_t)reason, .ended = ended};
}

/* What all have: watched for two minutes and a half (a machine may be up no longer), heard 12.5 s ago, a timeout of a
 * minute. */
static void common(uint32_t index, uint32_t proc, int fd, uint64_t now)
{
	struct hf_arena_view *view = view_at(index);

	memset((char *)view + sizeof view->seq, 0, offsetof(struct hf_arena_view, rtts) - sizeof view->seq);
	memset(more_at(index), 0, sizeof(struct hf_arena_more));
	view->proc = proc;
	view->cookie = 0x7a0 + (uint64_t)fd;
	view->fd = fd;
	view->apart = HF_APART_MORE | HF_APART_RTTS;
	view->mode = PROBE;
	view->role = CLIENT;
	view->state = 1;
	view->interval = 25000; /* all times are in the middle of a second: shown the same for half of one */
	view->timeout = 60000;
	view->stall_timeout = view->half_close_timeout = 600000;
	view->ends = 1 | 2;
	view->since = now - 150500;
	view->looked_at = now - 500;
	view->next_in = 3000;
	view->heard_at = now - 12500;
	view->moved_at = now - 45500;
	view->sent = 1500;
	view->received = UINT64_C(3) << 20;
	view->rtt_us = 54;
	view->snd_wnd = 65536;
	for (uint32_t i = 0; i < 12; i++)
		rtts_at(index)[i] = 40 + 10 * (i % 8);
	view->rtt_count = 12;
	set_address(&view->names, false, "10.0.0.1", (uint16_t)(40000 + fd));
	set_address(&view->names, true, "10.0.0.2", 5432);
}

static void make_fixed(const uint32_t procs[2], uint32_t index, uint64_t now, uint64_t wall)
{
	struct hf_arena_view *view = view_at(index);
	struct hf_arena_more *more = more_at(index);

	common(index, procs[index % 2], 3 + (int)index, now);
	add_event(index, wall - 150500, HF_EV_OPEN, HF_WHY_NONE, false);
	switch (index) {
	case 0: /* well, and owed a reply */
		view->reply_timeout = 30000;
		view->owed_since = now - 9500;
		break;
	case 1: /* wrapped, its peer reads slowly */
		view->mode = WRAP;
		view->role = SERVER;
		more->beats_sent = 271;
		more->beats_received = 268;
		more->beat_rtt_us = 3250;
		more->beat_heard_at = now - 14500;
		more->peer_unread = 4096;
		more->peer_unread_ms = 120000;
		view->stall_timeout = 100000;
		more->stalled_since = now - 125500;
		view->flags = HF_VIEW_STALLED;
		more->peer_pid = 815;
		snprintf(more->peer_prog, sizeof more->peer_prog, "writer");
		memcpy(more->peer_host, "db1", 3);
		memcpy(more->peer_info, "spare\033[31m", 10);
		set_address(&view->names, false, "::ffff:10.0.0.1", (uint16_t)(40000 + view->fd));
		set_address(&view->names, true, "2001:db8::17", 6000);
		add_event(index, wall - 5400000, HF_EV_WRAPPED, HF_WHY_NONE, false);
		add_event(index, wall - 5500, HF_EV_STALLED, HF_WHY_NONE, false);
		break;
	case 2: /* late */
		view->flags = HF_VIEW_LATE;
		view->heard_at = now - 40500;
		view->moved_at = now - 40500;
		view->asked_since = now - 20500;
		view->probes = 2;
		view->unacked = 2048;
		add_event(index, wall - 10500, HF_EV_LATE, HF_WHY_NONE, false);
		break;
	case 3: /* dead */
		view->flags = HF_VIEW_DEAD | HF_VIEW_ENDED;
		view->heard_at = now - 65500;
		add_event(index, wall - 5500, HF_EV_DEAD, HF_WHY_PATH, true);
		break;
	default: /* half-closed */
		view->state = 8;
		view->flags = HF_VIEW_HALF_CLOSED;
		view->unread = 11;
		add_event(index, wall - 45500, HF_EV_HALF_CLOSED, HF_WHY_NONE, false);
		break;
	}
}

static void make_counts(void)
{
	struct hf_arena_counts *counts = &head()->counts;

	counts->events[HF_EV_DEAD] = 3;
	counts->events[HF_EV_LATE] = 7;
	counts->events[HF_EV_STALLED] = 1;
	counts->dead[HF_WHY_PATH] = 2;
	counts->dead[HF_WHY_HUNG] = 1;
	counts->watched = 12;
	counts->ended = 7;
	counts->detection_ms[16] = 2; /* below 65.536 s */
	counts->detection_ms[HF_COUNT_BUCKETS - 1] = 1;
	counts->detection_sum = 60000 + 60125 + 700000;
	counts->rtt_us[6] = 30; /* below 64 us */
	counts->rtt_us[12] = 4;
	counts->rtt_sum = 30 * 54 + 4 * 3250;
}

static void make_many(uint32_t n, uint64_t now)
{
	static const char *const names[] = {"postgres", "nginx", "redis-server", "legacy"};
	uint32_t procs[4];

	for (uint32_t i = 0; i < 4; i++)
		procs[i] = add_process(1 + i, names[i]);
	for (uint32_t i = 0; i < n; i++) {
		struct hf_arena_view *view = view_at(i);

		common(i, procs[i % 4], (int)(3 + i), now);
		view->cookie = UINT64_C(0x10000) + i;
		view->heard_at = now - i % 20000;
		view->moved_at = now - i * 7 % 90000;
		view->rtt_us = 30 + i * 31 % 5000;
		view->mode = i % 3 == 0 ? WRAP : PROBE;
		view->role = i % 2 ? CLIENT : SERVER;
		view->sent = (uint64_t)i * 1000;
	}
	atomic_store(&head()->views_used, n);
}

/* All numbers of one writing are the same: a reader that mixes two shows it. */
static void churn(uint32_t n, uint64_t round, uint64_t now)
{
	for (uint32_t i = 0; i < n; i++) {
		struct hf_arena_view *view = view_at(i);
		struct hf_arena_more *more = more_at(i);

		begin(view);
		view->looked_at = now;
		view->sent = round;
		/* Long enough to be caught at it. */
		for (int spin = 0; spin < 2000; spin++)
			atomic_signal_fence(memory_order_seq_cst);
		view->received = round;
		more->beats_sent = more->beats_received = round;
		view->unread = more->peer_unread = (uint32_t)round;
		end(view);
	}
}

static void make_hostile(unsigned seed)
{
	uint32_t *words = (uint32_t *)(void *)base;

	srandom(seed);
	for (size_t i = 16; i < sizeof(struct hf_arena) / 4; i++)
		words[i] = (uint32_t)random() << 1 ^ (uint32_t)random();
	for (uint32_t i = 1; i < HF_ARENA_PROCS; i++) {
		add_process(i, "");
		memset(head()->procs[i].prog, 0x80 + (int)(i % 128), sizeof head()->procs[i].prog);
	}
	for (uint32_t i = 0; i < 2000; i++) {
		uint32_t *view = (uint32_t *)(void *)view_at(i), *more = (uint32_t *)(void *)more_at(i);

		for (size_t j = 0; j < HF_ARENA_VIEW_SIZE / 4; j++)
			view[j] = (uint32_t)random() << 1 ^ (uint32_t)random();
		for (size_t j = 0; j < HF_ARENA_RTTS_SIZE / 4; j++)
			rtts_at(i)[j] = (uint32_t)random() << 1 ^ (uint32_t)random();
		for (size_t j = 0; j < sizeof(struct hf_arena_more) / 4; j++)
			more[j] = (uint32_t)random() << 1 ^ (uint32_t)random();
		/* Half of them as readable as can be. */
		if (i % 2)
			view_at(i)->seq = 2;
		view_at(i)->proc = (uint32_t)1 << HF_ARENA_INDEX_BITS | (1 + i % 1000);
		if (i % 3)
			view_at(i)->mode = WRAP;
		if (i % 5)
			view_at(i)->flags &= 7;
	}
	atomic_store(&head()->views_used, UINT32_MAX);
}

/* As the watchdog's: that is how it is told that a process of another user is watched. */
static void *sleeper(void *arg)
{
	pthread_setname_np(pthread_self(), "holdfast");
	for (;;)
		pause();
	return arg;
}

static bool input_ended(int wait_ms)
{
	struct pollfd in = {.fd = 0, .events = POLLIN};
	char byte;

	return poll(&in, 1, wait_ms) > 0 && read(0, &byte, 1) <= 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "fixed";
	uint32_t n = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 5, procs[2] = {0, 0};
	bool other = strcmp(what, "other") == 0, small = strcmp(what, "small") == 0;
	bool fixed = strcmp(what, "fixed") == 0, churning = strcmp(what, "churn") == 0;
	uint64_t start = clock_ms(CLOCK_MONOTONIC), now = start, round = 1;
	pthread_t thread;

	if (!make_arena(small ? 4096 : (off_t)HF_ARENA_SIZE, HF_ARENA_VERSION + (other ? 1 : 0))) {
		fprintf(stderr, "arena_writer: %s\n", strerror(errno));
		return 1;
	}
	if (pthread_create(&thread, NULL, sleeper, NULL) != 0)
		return 1;
	if (fixed) {
		procs[0] = add_process(1, "client");
		procs[1] = add_process(2, "server");
		make_counts();
	} else if (!small && strcmp(what, "hostile") != 0) {
		make_many(strcmp(what, "stuck") == 0 ? 1 : n, now);
	} else if (!small) {
		make_hostile(n);
	}
	if (strcmp(what, "stuck") == 0)
		view_at(0)->seq = 7;
	do {
		now = clock_ms(CLOCK_MONOTONIC);
		for (uint32_t i = 0; fixed && i < 5; i++) {
			begin(view_at(i));
			make_fixed(procs, i, now, clock_ms(CLOCK_REALTIME));
			end(view_at(i));
			atomic_store(&head()->views_used, 5);
		}
		if (churning)
			churn(n, round, now);
		if (round++ == 1) {
			printf("ready %d\n", (int)getpid());
			fflush(stdout);
		}
	} while (now - start < LONGEST_MS && !input_ended(churning ? 0 : PERIOD_MS));
	return 0;
}
