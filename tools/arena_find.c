#include "arena_find.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

enum {
	MOST_ARENAS = 4096,
	LIKELY_FD = 960, /* where the library puts it, unless few descriptors are allowed */
	LIKELY_FDS = 16,
	THOROUGH_EVERY = 8, /* searches: then every descriptor of a process without an arena is looked at */
	MOST_THREADS = 256,
};

static const char LINK[] = "/memfd:" HF_ARENA_NAME " (deleted)";

bool hf_finder_open(struct hf_finder *finder)
{
	struct statfs fs;

	memset(finder, 0, sizeof *finder);
	finder->proc = opendir("/proc");
	if (!finder->proc)
		return false;
	/* Without it there is an empty directory, as if nobody had the library. */
	if (fstatfs(dirfd(finder->proc), &fs) == 0 && fs.f_type == PROC_SUPER_MAGIC)
		return true;
	closedir(finder->proc);
	finder->proc = NULL;
	errno = ENOENT;
	return false;
}

static void drop(struct hf_found *arena)
{
	if (arena->fd >= 0)
		close(arena->fd);
	free(arena->holders);
}

void hf_finder_close(struct hf_finder *finder)
{
	for (size_t i = 0; i < finder->count; i++)
		drop(&finder->arenas[i]);
	free(finder->arenas);
	if (finder->proc)
		closedir(finder->proc);
}

/* One file of a process */

static uint64_t inode_of(int proc, int pid, const char *name)
{
	char path[48];
	struct stat st;

	snprintf(path, sizeof path, "%d/%s", pid, name);
	return fstatat(proc, path, &st, 0) == 0 ? (uint64_t)st.st_ino : 0;
}

uint64_t hf_finder_ns(const struct hf_finder *finder)
{
	return inode_of(dirfd(finder->proc), (int)getpid(), "ns/pid");
}

static size_t read_file(int proc, const char *path, char *text, size_t size)
{
	int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd >= 0 ? read(fd, text, size - 1) : -1;

	if (fd >= 0)
		close(fd);
	text[got > 0 ? got : 0] = '\0';
	return got > 0 ? (size_t)got : 0;
}

/* Its number in its own pid namespace: the last of NSpid (proc(5)). */
static int inner_pid(int proc, int pid)
{
	char path[48], text[4096], *line, *number;

	snprintf(path, sizeof path, "%d/status", pid);
	read_file(proc, path, text, sizeof text);
	line = strstr(text, "\nNSpid:");
	if (!line)
		return pid;
	line++;
	line[strcspn(line, "\n")] = '\0';
	number = strrchr(line, '\t');
	return number ? atoi(number) : pid; /* NOLINT(cert-err34-c): the kernel's own number */
}

/* Arenas */

static bool grow(void **array, size_t *room, size_t size)
{
	size_t more = *room ? *room * 2 : 8;
	void *bigger = reallocarray(*array, more, size);

	if (!bigger)
		return false;
	*array = bigger;
	*room = more;
	return true;
}

/* Of the shape that nothing can change under us. */
static bool sealed(int fd, const struct stat *st)
{
	int seals = fcntl(fd, F_GET_SEALS);

	return S_ISREG(st->st_mode) && st->st_size == (off_t)HF_ARENA_SIZE && seals >= 0 &&
	       (seals & F_SEAL_SHRINK) != 0;
}

static bool ours(int fd)
{
	struct {
		uint64_t magic;
		uint32_t version;
	} head = {0, 0};

	return pread(fd, &head, sizeof head, 0) == (ssize_t)sizeof head && head.magic == HF_ARENA_MAGIC &&
	       head.version == HF_ARENA_VERSION;
}

/* The descriptor N of PID, seen as ST, opened and remembered.  NULL: not an arena, or gone again. */
static struct hf_found *adopt(struct hf_finder *finder, int fds, const char *name)
{
	struct hf_found *arena;
	struct stat st;
	int fd;

	if (finder->count >= MOST_ARENAS)
		return NULL;
	if (finder->count == finder->room && !grow((void **)&finder->arenas, &finder->room, sizeof *finder->arenas))
		return NULL;
	/* It may be anything by now: a terminal, a pipe. */
	fd = openat(fds, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return NULL;
	}
	arena = &finder->arenas[finder->count++];
	*arena = (struct hf_found){.dev = st.st_dev, .ino = st.st_ino, .fd = fd};
	arena->usable = sealed(fd, &st) && ours(fd);
	return arena;
}

static struct hf_found *known(struct hf_finder *finder, const struct stat *st)
{
	for (size_t i = 0; i < finder->count; i++) {
		if (finder->arenas[i].ino == st->st_ino && finder->arenas[i].dev == st->st_dev)
			return &finder->arenas[i];
	}
	return NULL;
}

static void add_holder(struct hf_finder *finder, struct hf_found *arena, int pid, int fd)
{
	int proc = dirfd(finder->proc);
	struct hf_holder *holder;

	for (size_t i = 0; i < arena->nholders; i++) {
		if (arena->holders[i].pid == pid)
			return;
	}
	if (arena->nholders == arena->room && !grow((void **)&arena->holders, &arena->room, sizeof *arena->holders))
		return;
	holder = &arena->holders[arena->nholders++];
	*holder = (struct hf_holder){.pid = pid, .fd = fd};
	holder->inner = inner_pid(proc, pid);
	holder->ns = inode_of(proc, pid, "ns/pid");
}

/* The descriptor NAME of PID, if it is an arena. */
static bool take(struct hf_finder *finder, int pid, int fds, const char *name)
{
	struct hf_found *arena;
	char link[sizeof LINK + 8];
	ssize_t length = readlinkat(fds, name, link, sizeof link);
	struct stat st;

	if (length != (ssize_t)sizeof LINK - 1 || memcmp(link, LINK, sizeof LINK - 1) != 0)
		return false;
	/* Open for reading only (proc(5)): it is somebody who looks, as we do, and no reason to keep it. */
	if (fstatat(fds, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || (st.st_mode & S_IWUSR) == 0 ||
	    fstatat(fds, name, &st, 0) < 0)
		return false;
	arena = known(finder, &st);
	if (!arena)
		arena = adopt(finder, fds, name);
	if (arena)
		add_holder(finder, arena, pid, atoi(name)); /* NOLINT(cert-err34-c) */
	return arena != NULL;
}

/* Processes */

static bool all_descriptors(struct hf_finder *finder, int pid, int fds)
{
	int copy = openat(fds, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *directory = copy >= 0 ? fdopendir(copy) : NULL;
	const struct dirent *entry;
	bool found = false;

	if (!directory) {
		if (copy >= 0)
			close(copy);
		return false;
	}
	while ((entry = readdir(directory)) != NULL) {
		if (entry->d_name[0] != '.')
			found = take(finder, pid, dirfd(directory), entry->d_name) || found;
	}
	closedir(directory);
	return found;
}

/* A thread of it bears the watchdog's name, which everybody may see; not its first, which may be a tool of that name.
 */
static bool watched(int proc, int pid)
{
	char path[64], name[32];
	DIR *tasks;
	const struct dirent *entry;
	bool found = false;
	int fd, seen = 0;

	snprintf(path, sizeof path, "%d/task", pid);
	fd = openat(proc, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	tasks = fd >= 0 ? fdopendir(fd) : NULL;
	if (!tasks) {
		if (fd >= 0)
			close(fd);
		return false;
	}
	while (!found && seen++ < MOST_THREADS && (entry = readdir(tasks)) != NULL) {
		if (entry->d_name[0] == '.' || strtol(entry->d_name, NULL, 10) == pid)
			continue;
		snprintf(path, sizeof path, "%.20s/comm", entry->d_name);
		read_file(dirfd(tasks), path, name, sizeof name);
		found = strcmp(name, "holdfast\n") == 0;
	}
	closedir(tasks);
	return found;
}

static void look_into(struct hf_finder *finder, int pid)
{
	int proc = dirfd(finder->proc), fds;
	bool found = false;
	char path[32], name[16];

	snprintf(path, sizeof path, "%d/fd", pid);
	fds = openat(proc, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fds < 0) {
		if ((errno == EACCES || errno == EPERM) && finder->turn == 1 && watched(proc, pid))
			finder->hidden++;
		return;
	}
	for (int fd = LIKELY_FD; fd < LIKELY_FD + LIKELY_FDS; fd++) {
		snprintf(name, sizeof name, "%d", fd);
		found = take(finder, pid, fds, name) || found;
	}
	if (!found && (finder->turn == 1 || (finder->turn + (unsigned)pid) % THOROUGH_EVERY == 0))
		(void)all_descriptors(finder, pid, fds);
	close(fds);
}

/* Holders of earlier searches: the same file under the same number, so a number used again is told apart. */
static void confirm(struct hf_finder *finder)
{
	char path[48];
	struct stat st;

	for (size_t i = 0; i < finder->count; i++) {
		struct hf_found *arena = &finder->arenas[i];

		for (size_t j = arena->nholders; j-- > 0;) {
			struct hf_holder *holder = &arena->holders[j];

			snprintf(path, sizeof path, "%d/fd/%d", holder->pid, holder->fd);
			if (fstatat(dirfd(finder->proc), path, &st, 0) == 0 && st.st_ino == arena->ino &&
			    st.st_dev == arena->dev)
				continue;
			*holder = arena->holders[--arena->nholders];
		}
	}
}

static int by_number(const void *a, const void *b)
{
	const int *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* The processes that hold one, in order, for a quick look-up. */
static int *holding(const struct hf_finder *finder, size_t *count)
{
	size_t n = 0;
	int *pids;

	for (size_t i = 0; i < finder->count; i++)
		n += finder->arenas[i].nholders;
	pids = calloc(n + 1, sizeof *pids);
	*count = 0;
	if (!pids)
		return NULL;
	for (size_t i = 0; i < finder->count; i++) {
		for (size_t j = 0; j < finder->arenas[i].nholders; j++)
			pids[(*count)++] = finder->arenas[i].holders[j].pid;
	}
	qsort(pids, *count, sizeof *pids, by_number);
	return pids;
}

bool hf_finder_search(struct hf_finder *finder, void (*gone)(const struct hf_found *arena, void *arg), void *arg)
{
	const struct dirent *entry;
	size_t count;
	int *pids;

	finder->turn++;
	confirm(finder);
	pids = holding(finder, &count);
	if (!pids)
		return false;
	rewinddir(finder->proc);
	while ((entry = readdir(finder->proc)) != NULL) {
		int pid = (int)strtol(entry->d_name, NULL, 10);

		if (pid > 0 && !bsearch(&pid, pids, count, sizeof *pids, by_number))
			look_into(finder, pid);
	}
	free(pids);
	for (size_t i = finder->count; i-- > 0;) {
		if (finder->arenas[i].nholders > 0)
			continue;
		gone(&finder->arenas[i], arg);
		drop(&finder->arenas[i]);
		finder->arenas[i] = finder->arenas[--finder->count];
	}
	return true;
}

bool hf_finder_hidden(const struct hf_finder *finder, int pid)
{
	char path[32];
	int fd;

	snprintf(path, sizeof path, "%d/fd", pid);
	fd = openat(dirfd(finder->proc), path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0)
		close(fd);
	return fd < 0 && (errno == EACCES || errno == EPERM);
}
