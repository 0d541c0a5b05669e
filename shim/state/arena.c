#include "state/arena.h"
#include "hand.h"
#include "state/clock.h"
#include "state/fdlist.h"
#include "fmt.h"
#include "sys.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#ifndef F_ADD_SEALS
#define F_ADD_SEALS   1033
#define F_GET_SEALS   1034
#define F_SEAL_SEAL   1
#define F_SEAL_SHRINK 2
#define F_SEAL_GROW   4
#endif

enum {
	CHUNK = 256, /* connections mapped at a time */
	CHUNKS = HF_ARENA_CONNS / CHUNK,
	CHUNK_BYTES = CHUNK * HF_ARENA_CONN_SIZE,
	SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW,
};

_Atomic(struct hf_arena *) hf_arena_head;
static _Atomic(char *) chunks[CHUNKS];

/* The memfd and which file it is, should the program put another under its number. */
static _Atomic int arena_fd = -1;
static dev_t arena_dev;
static ino_t arena_ino;

int hf_arena_fd(void)
{
	return atomic_load_explicit(&arena_fd, memory_order_relaxed);
}

static bool is_arena(int hand)
{
	struct stat st;

	return hand >= 0 && hf_sys_fstat(hand, &st) == 0 && st.st_dev == arena_dev && st.st_ino == arena_ino;
}

bool hf_arena_owns(int fd)
{
	int hand = fd >= 0 && fd == hf_arena_fd() ? hf_hand_take(fd) : -1;
	bool ours = is_arena(hand);

	hf_hand_drop(hand);
	return ours;
}

/*
 * Where the descriptor belongs: high, but not so high that the kernel's table, which a fork copies, grows.  Counted
 * from the hard limit, for a program with a low soft one (RLIMIT_NOFILE) has none to spare.
 */
static int high(struct rlimit *limit)
{
	rlim_t top;

	*limit = (struct rlimit){1024, 1024};
	hf_sys_getrlimit(RLIMIT_NOFILE, limit);
	top = limit->rlim_max < 1024 ? limit->rlim_max : 1024;
	return (int)(top > 128 ? top - 64 : top / 2);
}

/* Whether the next image of this process must find it. */
static _Atomic bool survives_exec;

/* A duplicate of FD there.  -errno if impossible. */
static int raise_fd(int fd)
{
	enum { NEAR = 64 };
	struct rlimit program, ours;
	int base = high(&program), up;

	ours = program;
	if (program.rlim_cur < (rlim_t)base + NEAR && program.rlim_max > (rlim_t)base) {
		/* For the time of one call; the number stays good when the limit is back. */
		ours.rlim_cur = program.rlim_max < (rlim_t)base + NEAR ? program.rlim_max : (rlim_t)base + NEAR;
		(void)hf_sys4(SYS_prlimit64, 0, RLIMIT_NOFILE, &ours, NULL);
	}
	up = (int)hf_sys_fcntl(fd, atomic_load(&survives_exec) ? F_DUPFD : F_DUPFD_CLOEXEC, base);
	if (ours.rlim_cur != program.rlim_cur)
		(void)hf_sys4(SYS_prlimit64, 0, RLIMIT_NOFILE, &program, NULL);
	return up;
}

void hf_arena_move(void)
{
	int fd = raise_fd(hf_arena_fd());

	/* The old number is left to the program's dup2(2), which closes it. */
	atomic_store(&arena_fd, fd >= 0 ? fd : -1);
}

/* Making */

/* A file that large must be allowed, or ftruncate(2) would raise SIGXFSZ. */
static bool size_allowed(void)
{
	struct rlimit limit = {.rlim_cur = 0};

	return hf_sys_getrlimit(RLIMIT_FSIZE, &limit) == 0 &&
	       (limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= HF_ARENA_SIZE);
}

static int make_file(void)
{
	enum { FEW = 128 };
	struct rlimit limit;
	int fd, up;

	/* A process with so few descriptors needs them all. */
	(void)high(&limit);
	if (limit.rlim_max < FEW)
		return -EMFILE;
	if (!size_allowed())
		return -EFBIG;
	fd = hf_sys_memfd_create(HF_ARENA_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return fd;
	up = hf_sys_ftruncate(fd, (off_t)HF_ARENA_SIZE);
	if (up == 0)
		up = (int)hf_sys_fcntl(fd, F_ADD_SEALS, SEALS);
	if (up == 0)
		up = raise_fd(fd);
	hf_sys_close(fd);
	return up;
}

/*
 * SIZE bytes of FD from AT on; -1: memory that has no file.  Not in a core dump (madvise(2)): here are the ids of
 * sessions, which prove a RESUME where there is no key, and what the other processes of the family have queued.
 */
static void *map(int fd, uint64_t at, size_t size)
{
	int flags = fd >= 0 ? MAP_SHARED : MAP_SHARED | MAP_ANONYMOUS;
	void *room = hf_sys_mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, fd >= 0 ? (off_t)at : 0);

	if (!hf_sys_failed(room))
		(void)hf_sys_madvise(room, size, MADV_DONTDUMP);
	return room;
}

static void *map_head(int fd)
{
	return map(fd, 0, sizeof(struct hf_arena));
}

void *hf_arena_map(uint64_t at, size_t size)
{
	int hand = hf_hand_take(hf_arena_fd());
	void *room;

	/* Out of reach for now: memory of our own would be there for good, and nobody else see it. */
	if (hf_hand_own() && hand < 0 && hand != -EBADF)
		return NULL;
	room = map(is_arena(hand) ? hand : -1, at, size);
	hf_hand_drop(hand);
	return hf_sys_failed(room) ? NULL : room;
}

/* Several threads may come here at once: one of them makes it for all. */
static bool make(uint32_t layout)
{
	enum { MOST_TRIES = 40000 };
	static _Atomic int making; /* the process that is at it: a fork may copy the word and not the thread */
	const struct timespec moment = {0, 50000};
	struct hf_arena *head;
	struct stat st;
	int fd, me = hf_sys_getpid(), seen = 0;

	/* Never a second one beside the first, however long that takes: its records would be the same memory.  Not for
	 * ever, should this be a signal handler above the maker. */
	for (int tries = 0; hf_arena() == NULL && !atomic_compare_exchange_strong(&making, &seen, me); tries++) {
		if (seen != me)
			continue;
		if (tries >= MOST_TRIES)
			return false;
		seen = 0;
		hf_sys_nanosleep(&moment, NULL);
	}
	head = hf_arena();
	if (head == NULL) {
		fd = make_file();
		head = map_head(fd);
		if (hf_sys_failed(head) && fd >= 0) {
			hf_sys_close(fd);
			head = map_head(fd = -1);
		}
		if (!hf_sys_failed(head)) {
			head->version = HF_ARENA_VERSION;
			head->layout = layout;
			head->magic = HF_ARENA_MAGIC;
			if (fd >= 0 && hf_sys_fstat(fd, &st) == 0) {
				arena_dev = st.st_dev;
				arena_ino = st.st_ino;
				atomic_store(&arena_fd, fd);
			}
			atomic_store(&hf_arena_head, head);
		}
	}
	atomic_store(&making, 0);
	return hf_arena() != NULL;
}

bool hf_arena_make(uint32_t layout, bool survives)
{
	int fd;

	if (survives && !atomic_exchange(&survives_exec, true)) {
		fd = hf_arena_fd();
		if (hf_arena_owns(fd))
			(void)hf_sys_fcntl(fd, F_SETFD, 0);
	}
	return hf_arena() != NULL || make(layout);
}

/* Finding it again after exec */

/* Whether FD is an arena we can use; it then is ours. */
static bool try_inherit(int fd, uint32_t layout)
{
	struct hf_arena *head;
	struct stat st;

	if (hf_sys_fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size != (off_t)HF_ARENA_SIZE ||
	    hf_sys_fcntl(fd, F_GET_SEALS, 0) != SEALS)
		return false;
	head = map_head(fd);
	if (hf_sys_failed(head))
		return false;
	if (head->magic != HF_ARENA_MAGIC || head->version != HF_ARENA_VERSION || head->layout != layout) {
		hf_sys_munmap(head, sizeof(*head));
		return false;
	}
	hf_clock_find();
	arena_dev = st.st_dev;
	arena_ino = st.st_ino;
	atomic_store(&survives_exec, true);
	atomic_store(&arena_fd, fd);
	atomic_store(&hf_arena_head, head);
	return true;
}

struct search {
	uint32_t layout;
	bool found;
};

static void search_fd(int fd, void *arg)
{
	struct search *search = arg;

	search->found = search->found || try_inherit(fd, search->layout);
}

bool hf_arena_inherit(uint32_t layout, bool thorough)
{
	enum { NEAR = 16 }; /* how many of our kind's descriptors may stand before it */
	struct rlimit limit;
	struct stat st;
	struct search search = {layout, false};
	int first = high(&limit);

	for (int fd = first; fd < first + NEAR; fd++) {
		if (hf_sys_fstat(fd, &st) < 0)
			break;
		if (try_inherit(fd, layout))
			return true;
	}
	return thorough && hf_each_fd(search_fd, &search) && search.found;
}

bool hf_arena_borrow(uint32_t layout)
{
	enum { NEAR = 16 };
	struct rlimit limit;
	int first = high(&limit);

	if (hf_arena() != NULL)
		return true;
	for (int fd = first; fd < first + NEAR; fd++) {
		struct hf_fmt fmt;
		char path[48];
		int file, up;

		hf_fmt_init(&fmt, path, sizeof(path), 0);
		hf_fmt_str(&fmt, "/proc/");
		hf_fmt_i64(&fmt, hf_sys0(SYS_getppid));
		hf_fmt_str(&fmt, "/fd/");
		hf_fmt_i64(&fmt, fd);
		(void)hf_fmt_end(&fmt, "");
		file = hf_sys_openat(AT_FDCWD, path, O_RDWR | O_CLOEXEC | O_NONBLOCK, 0);
		if (file < 0)
			continue;
		up = raise_fd(file);
		hf_sys_close(file);
		if (up >= 0 && try_inherit(up, layout))
			return true;
		if (up >= 0)
			hf_sys_close(up);
	}
	return false;
}

/* Connections */

/* The program has closed or replaced the descriptor by a way that we do not see: what others write there is out of
 * reach from now on, and only what is mapped already is shared. */
static bool lost(void)
{
	return arena_ino != 0 && !hf_arena_owns(hf_arena_fd());
}

struct hf_arena_conn *hf_arena_conn(uint32_t index)
{
	_Atomic(char *) *place;
	char *chunk, *expected = NULL;

	if (index >= HF_ARENA_CONNS)
		return NULL;
	place = &chunks[index / CHUNK];
	chunk = atomic_load_explicit(place, memory_order_acquire);
	if (chunk == NULL) {
		chunk = hf_arena_map(HF_ARENA_CONNS_AT + (uint64_t)(index / CHUNK) * CHUNK_BYTES, CHUNK_BYTES);
		if (chunk == NULL)
			return NULL;
		if (!atomic_compare_exchange_strong(place, &expected, chunk)) {
			hf_sys_munmap(chunk, CHUNK_BYTES);
			chunk = expected;
		}
	}
	return (struct hf_arena_conn *)(void *)(chunk + (size_t)(index % CHUNK) * HF_ARENA_CONN_SIZE);
}

/* Whether the list may hold it: never handed out, or in use, means that somebody has scribbled there. */
static bool may_be_free(const struct hf_arena *head, uint32_t index, const struct hf_arena_conn *conn)
{
	return conn != NULL && index < atomic_load(&head->used) && atomic_load(&conn->cookie) == 0;
}

static uint32_t pop_free(struct hf_arena *head)
{
	uint64_t seen = atomic_load(&head->free_head);

	/* Another's links cannot be told from here. */
	if (lost())
		return HF_CONN_NONE;
	while ((uint32_t)seen != 0) {
		uint32_t index = (uint32_t)seen - 1;
		struct hf_arena_conn *conn = hf_arena_conn(index);
		uint64_t next = conn != NULL ? atomic_load_explicit(&conn->next, memory_order_relaxed) : 0;

		if (!may_be_free(head, index, conn)) {
			uint64_t now = atomic_load(&head->free_head);

			if (now == seen)
				return HF_CONN_NONE;
			seen = now; /* somebody was quicker, and has it in use */
			continue;
		}
		if (atomic_compare_exchange_weak(&head->free_head, &seen, ((seen >> 32) + 1) << 32 | next))
			return index;
	}
	return HF_CONN_NONE;
}

uint32_t hf_arena_take(void)
{
	struct hf_arena *head = hf_arena();
	struct hf_arena_conn *conn;
	uint32_t index, gen;

	if (head == NULL)
		return HF_CONN_NONE;
	index = pop_free(head);
	if (index == HF_CONN_NONE) {
		index = atomic_load(&head->used);
		do {
			if (index >= HF_ARENA_CONNS)
				return HF_CONN_NONE;
		} while (!atomic_compare_exchange_weak(&head->used, &index, index + 1));
	}
	conn = hf_arena_conn(index);
	if (conn == NULL)
		return HF_CONN_NONE; /* its number stays unused: memory is short */
	gen = atomic_load(&conn->gen) + 1;
	memset(conn, 0, HF_ARENA_CONN_SIZE);
	atomic_store(&conn->gen, gen);
	return index;
}

void hf_arena_give(uint32_t index)
{
	struct hf_arena *head = hf_arena();
	struct hf_arena_conn *conn = hf_arena_conn(index);
	uint64_t seen;

	if (head == NULL || conn == NULL)
		return;
	atomic_store(&conn->cookie, 0);
	if (lost())
		return;
	seen = atomic_load(&head->free_head);
	do
		atomic_store_explicit(&conn->next, (uint32_t)seen, memory_order_relaxed);
	while (!atomic_compare_exchange_weak(&head->free_head, &seen, ((seen >> 32) + 1) << 32 | (index + 1)));
}

uint32_t hf_arena_find(uint64_t cookie)
{
	struct hf_arena *head = hf_arena();
	uint32_t used = head != NULL ? atomic_load(&head->used) : 0;

	if (used > HF_ARENA_CONNS)
		used = HF_ARENA_CONNS;
	for (uint32_t i = 0; cookie != 0 && i < used; i++) {
		struct hf_arena_conn *conn = hf_arena_conn(i);

		if (conn != NULL && atomic_load_explicit(&conn->cookie, memory_order_relaxed) == cookie)
			return i;
	}
	return HF_CONN_NONE;
}

/* Queues */

static off_t queue_at(uint32_t index)
{
	return (off_t)(HF_ARENA_QUEUES_AT + (uint64_t)index * HF_ARENA_QUEUE_SIZE);
}

void *hf_arena_queue(uint32_t index)
{
	return index < HF_ARENA_CONNS && !lost() ? hf_arena_map((uint64_t)queue_at(index), HF_ARENA_QUEUE_SIZE) : NULL;
}

void hf_arena_queue_drop(uint32_t index, void *queue, bool discard)
{
	int fd = hf_arena_fd();

	hf_sys_munmap(queue, HF_ARENA_QUEUE_SIZE);
	if (discard && index < HF_ARENA_CONNS && hf_arena_owns(fd))
		(void)hf_sys4(SYS_fallocate, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, queue_at(index),
			      HF_ARENA_QUEUE_SIZE);
}
