/* Where finished lines go: see sink.h for the rules. */
#include "sink.h"

#include "fmt.h"
#include "hand.h"
#include "put.h"
#include "sys.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

static struct sink {
	const struct hf_sink_setting *setting;
	char path[HF_MAX_PATH]; /* absolute; only touched, so only paid for, by file: and unix: */
	_Atomic uint64_t own;
	_Atomic uint32_t lost;
	_Atomic bool torn;                 /* the last line ended in the middle: begin with a newline */
	_Atomic bool told;                 /* complained of once */
	_Atomic int64_t retry_at, look_at; /* ms, monotonic: next attempt to open, next look for rotation */
} sinks[HF_MAX_SINKS];
static size_t nsinks;

void (*hf_sink_aside)(void (*fn)(void *), void *arg);

/* file: sinks are kept open: hf_sink_pin(). */
static _Atomic bool pinned;

/* Standard error is the program's: what it was at load, or what the program made of it since. */
static _Atomic uint64_t stderr_own;
static _Atomic bool stderr_known;

static int64_t now_ms(void)
{
	struct timespec ts = {0, 0};

	hf_sys_clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Standard error */

void hf_sink_stderr_replaced(void)
{
	uint64_t own;

	hf_put_choose(STDERR_FILENO, &own);
	atomic_store(&stderr_own, own);
	atomic_store(&stderr_known, true);
}

/* A line to what is the program's, and was OWN. */
static int put_foreign(uint64_t own, _Atomic bool *torn, const char *text, size_t len)
{
	int hand = hf_hand_take(hf_put_fd(own)), ret = -EBADF;
	struct stat st;

	if (hf_put_still_at(own, hand, &st))
		ret = hf_put_line(hand, &st, torn, text, len, false);
	hf_hand_drop(hand);
	return ret;
}

static int stderr_put(const char *text, size_t len)
{
	static _Atomic bool torn;

	if (!atomic_load(&stderr_known))
		hf_sink_stderr_replaced();
	return put_foreign(atomic_load(&stderr_own), &torn, text, len);
}

int hf_sink_stderr(const char *line)
{
	return stderr_put(line, strlen(line));
}

static const char *why(int error)
{
	switch (error) {
	case ENOENT:
		return "no such directory";
	case EACCES:
	case EPERM:
		return "permission denied";
	case ENOTDIR:
		return "part of the path is not a directory";
	case EISDIR:
		return "is a directory";
	case EROFS:
		return "read-only file system";
	case EMFILE:
	case ENFILE:
		return "too many open files";
	case ENAMETOOLONG:
		return "the path from the root is too long";
	case EBADF:
		return "not open for writing";
	case EAFNOSUPPORT:
		return "a network socket, or standard input too: lines would corrupt its stream";
	default:
		return "cannot be written to";
	}
}

/* Once per sink. ERROR is an errno. */
static void complain(struct sink *sink, int error)
{
	char text[512];
	struct hf_fmt fmt;

	if (atomic_exchange(&sink->told, true))
		return;
	hf_fmt_init(&fmt, text, sizeof(text), 0);
	hf_fmt_str(&fmt, "holdfast: HOLDFAST_REPORT: ");
	if (sink->setting->kind == HF_SINK_FD) {
		hf_fmt_str(&fmt, "fd:");
		hf_fmt_i64(&fmt, sink->setting->fd);
	} else {
		hf_fmt_str(&fmt, sink->setting->kind == HF_SINK_FILE ? "file:" : "unix:");
		hf_fmt_plain(&fmt, sink->setting->path, 256);
	}
	hf_fmt_str(&fmt, ": ");
	hf_fmt_str(&fmt, why(error));
	hf_fmt_boundary(&fmt);
	hf_fmt_end(&fmt, "");
	hf_sink_stderr(text);
}

/* Descriptors of our own */

int hf_fd_raise(int fd)
{
	struct rlimit limit = {.rlim_cur = 1024};
	int top, up;

	hf_sys_getrlimit(RLIMIT_NOFILE, &limit);
	top = limit.rlim_cur < 1024 ? (int)limit.rlim_cur : 1024;
	for (int base = top > 128 ? top - 64 : top / 2; base > fd; base /= 2) {
		up = (int)hf_sys_fcntl(fd, F_DUPFD_CLOEXEC, base);
		if (up >= 0) {
			hf_sys_close(fd);
			return up;
		}
	}
	return fd;
}

/*
 * Make FD, just opened by us, the descriptor of SINK in place of SEEN.  No lock: a thread that comes second closes
 * what it opened and uses what the first one published.  Fills ST. Returns what is published now.
 */
static uint64_t publish(struct sink *sink, uint64_t seen, int fd, struct stat *st)
{
	uint64_t own;

	fd = hf_fd_raise(fd);
	hf_sys_fstat(fd, st);
	own = hf_put_identity(fd, st);
	if (atomic_compare_exchange_strong(&sink->own, &seen, own))
		return own;
	hf_sys_close(fd);
	return hf_put_still(seen, st) ? seen : 0;
}

/*
 * The file was renamed or removed (log rotation): put FD, the new one, behind the number in SEEN with dup3(2).
 * Another thread between its check and its write then hits the old file or the new, never a stranger's.
 */
static uint64_t replace(struct sink *sink, uint64_t seen, int fd, struct stat *st)
{
	int old = hf_put_fd(seen);
	uint64_t own;

	if (hf_sys_dup3(fd, old, O_CLOEXEC) < 0) {
		hf_sys_close(fd);
		return seen;
	}
	hf_sys_close(fd);
	hf_sys_fstat(old, st);
	own = hf_put_identity(old, st);
	if (!atomic_compare_exchange_strong(&sink->own, &seen, own) && hf_put_fd(seen) != old)
		hf_sys_close(old);
	return own;
}

static int file_open(struct sink *sink)
{
	/* O_NONBLOCK: a FIFO without a reader gives ENXIO instead of waiting for one (fifo(7)). */
	const int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
	int fd = hf_sys_openat(AT_FDCWD, sink->path, flags, 0600);

	if (fd < 0) {
		atomic_store(&sink->retry_at, now_ms() + 1000);
		if (fd != -ENXIO)
			complain(sink, -fd);
	}
	return fd;
}

/* Whether the file at PATH is no longer the open one, ST. */
static bool moved(const struct sink *sink, const struct stat *st)
{
	struct stat there;

	return S_ISREG(st->st_mode) && (hf_sys_fstatat(AT_FDCWD, sink->path, &there, 0) != 0 ||
					there.st_dev != st->st_dev || there.st_ino != st->st_ino);
}

/* The same, asked once a second. */
static bool file_rotated(struct sink *sink, const struct stat *st)
{
	int64_t now = now_ms(), due = atomic_load(&sink->look_at);

	return S_ISREG(st->st_mode) && now >= due && atomic_compare_exchange_strong(&sink->look_at, &due, now + 1000) &&
	       moved(sink, st);
}

/* Lines are rare, and a descriptor kept is one the program may count, sweep or run out of. */
static int file_put_once(struct sink *sink, const struct hf_line *line)
{
	struct stat st;
	int fd, ret;

	if (now_ms() < atomic_load(&sink->retry_at))
		return -EAGAIN;
	fd = file_open(sink);
	if (fd < 0)
		return fd;
	ret = hf_sys_fstat(fd, &st);
	if (ret == 0)
		ret = hf_put_line(fd, &st, &sink->torn, line->text, line->len, true);
	hf_sys_close(fd);
	return ret;
}

/* The watchdog cannot put another file behind the program's number: each line to the one that is at PATH now, if that
 * can be opened. */
static int file_put_by_hand(struct sink *sink, const struct hf_line *line)
{
	uint64_t own = atomic_load(&sink->own);
	int hand = hf_hand_take(hf_put_fd(own)), ret;
	struct stat st;

	if (!hf_put_still_at(own, hand, &st))
		ret = file_put_once(sink, line);
	else if (!moved(sink, &st) || ((ret = file_put_once(sink, line)) != 0 && ret != -EIO))
		ret = hf_put_line(hand, &st, &sink->torn, line->text, line->len, true);
	hf_hand_drop(hand);
	return ret;
}

static int file_put(struct sink *sink, const struct hf_line *line)
{
	uint64_t own = atomic_load(&sink->own);
	struct stat st;
	int fd;

	if (!atomic_load(&pinned))
		return file_put_once(sink, line);
	if (hf_hand_own())
		return file_put_by_hand(sink, line);
	if (!hf_put_still(own, &st)) {
		if (now_ms() < atomic_load(&sink->retry_at))
			return -EAGAIN;
		fd = file_open(sink);
		if (fd < 0)
			return fd;
		own = publish(sink, own, fd, &st);
	} else if (file_rotated(sink, &st)) {
		fd = file_open(sink); /* not to be had: better the old file than none */
		if (fd >= 0)
			own = replace(sink, own, fd, &st);
	}
	if (own == 0)
		return -EAGAIN;
	return hf_put_line(hf_put_fd(own), &st, &sink->torn, line->text, line->len, true);
}

/* A datagram to PATH from an unconnected socket: the listener may come and go. */
static int datagram(const char *path, struct iovec *iov, size_t n)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	struct msghdr msg = {.msg_name = &to, .msg_namelen = sizeof(to), .msg_iov = iov, .msg_iovlen = n};
	long ret;
	int fd;

	memcpy(to.sun_path, path, strnlen(path, sizeof(to.sun_path) - 1));
	fd = hf_sys_socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return fd;
	ret = hf_sys_sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	hf_sys_close(fd);
	return ret < 0 ? (int)ret : 0;
}

/* What syslog(3) would send, without the time: it would need localtime, and the daemon stamps what it receives. */
static int syslog_put(const struct hf_line *line)
{
	static const unsigned char severity[] = {[HF_ERROR] = 3, [HF_WARN] = 4, [HF_INFO] = 6, [HF_DEBUG] = 7};
	char head[48];
	struct iovec iov[2] = {{.iov_base = head}, {.iov_base = (void *)(line->text + line->tag)}};
	struct hf_fmt fmt;

	hf_fmt_init(&fmt, head, sizeof(head), 3);
	hf_fmt_str(&fmt, "<");
	hf_fmt_u64(&fmt, 3u << 3 | severity[line->level]); /* facility daemon */
	hf_fmt_str(&fmt, ">holdfast[");
	hf_fmt_i64(&fmt, line->pid);
	hf_fmt_boundary(&fmt);
	iov[0].iov_len = hf_fmt_end(&fmt, "]: ");
	iov[1].iov_len = line->len - line->tag - 1;
	return datagram("/dev/log", iov, 2);
}

static int fd_put(struct sink *sink, const struct hf_line *line)
{
	return put_foreign(atomic_load(&sink->own), &sink->torn, line->text, line->len);
}

/* Whether giving a line to SINK opens a descriptor. */
static bool opens(const struct sink *sink)
{
	switch (sink->setting->kind) {
	case HF_SINK_FILE:
		return !atomic_load(&pinned) || atomic_load(&sink->own) == 0;
	case HF_SINK_UNIX:
	case HF_SINK_SYSLOG:
		return true;
	default:
		return false;
	}
}

static int dispatch(struct sink *sink, const struct hf_line *line)
{
	struct iovec iov = {.iov_base = (void *)line->text, .iov_len = line->len};

	switch (sink->setting->kind) {
	case HF_SINK_STDERR:
		return stderr_put(line->text, line->len);
	case HF_SINK_SYSLOG:
		return syslog_put(line);
	case HF_SINK_FILE:
		return sink->path[0] ? file_put(sink, line) : -ENOENT;
	case HF_SINK_UNIX:
		return sink->path[0] ? datagram(sink->path, &iov, 1) : -ENOENT;
	case HF_SINK_FD:
		return sink->setting->fd == STDERR_FILENO ? stderr_put(line->text, line->len) : fd_put(sink, line);
	}
	return -EINVAL;
}

struct put {
	struct sink *sink;
	const struct hf_line *line;
	int ret;
};

static void put(void *arg)
{
	struct put *p = arg;

	p->ret = dispatch(p->sink, p->line);
}

int hf_sink_put(size_t i, const struct hf_line *line, uint32_t told)
{
	struct put p = {.sink = &sinks[i], .line = line};
	int ret;

	if (hf_sink_aside != NULL && opens(&sinks[i]))
		hf_sink_aside(put, &p);
	else
		put(&p);
	ret = p.ret;

	if (ret != 0)
		atomic_fetch_add(&sinks[i].lost, told + 1);
	return ret;
}

uint32_t hf_sink_take_lost(size_t i)
{
	return atomic_exchange(&sinks[i].lost, 0);
}

/* Choosing */

/* The path from the root, while the directory at load is known. 0 or -errno; ROOM includes the NUL. */
static int resolve(struct sink *sink, size_t room)
{
	const char *path = sink->setting->path;
	size_t len = strlen(path), dir = 0;
	long ret;

	if (path[0] != '/') {
		ret = hf_sys_getcwd(sink->path, sizeof(sink->path));
		dir = ret > 0 && sink->path[0] == '/' ? (size_t)ret : 0;
		if (dir > 0)
			sink->path[dir - 1] = '/';
	}
	if (dir + len >= room) {
		sink->path[0] = '\0';
		return -ENAMETOOLONG;
	}
	memcpy(sink->path + dir, path, len + 1);
	return 0;
}

/* A mistyped directory is told at load, not at the first event; the file itself is not touched before. */
static int file_check(struct sink *sink)
{
	struct stat st;
	char *slash = strrchr(sink->path, '/');
	int ret;

	ret = hf_sys_fstatat(AT_FDCWD, sink->path, &st, 0);
	if (ret == 0)
		return S_ISDIR(st.st_mode) ? -EISDIR : 0;
	if (slash == NULL || slash == sink->path)
		return 0;
	*slash = '\0';
	ret = hf_sys_fstatat(AT_FDCWD, sink->path, &st, 0);
	*slash = '/';
	return ret < 0 ? ret : S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

static bool read_only(int fd)
{
	long flags = hf_sys_fcntl(fd, F_GETFL, 0);

	return flags >= 0 && ((flags & O_ACCMODE) == O_RDONLY || (flags & O_PATH) != 0);
}

void hf_sink_open(const struct hf_sink_setting *settings, size_t count)
{
	uint64_t own;
	int ret;

	hf_sink_stderr_replaced();
	for (size_t i = 0; i < count && i < HF_MAX_SINKS; i++) {
		struct sink *sink = &sinks[i];

		sink->setting = &settings[i];
		ret = 0;
		if (settings[i].kind == HF_SINK_FILE) {
			ret = resolve(sink, sizeof(sink->path));
			ret = ret < 0 ? ret : file_check(sink);
		} else if (settings[i].kind == HF_SINK_UNIX) {
			ret = resolve(sink, sizeof(((struct sockaddr_un *)NULL)->sun_path));
		} else if (settings[i].kind == HF_SINK_FD && settings[i].fd != STDERR_FILENO) {
			ret = hf_put_choose(settings[i].fd, &own);
			if (ret == 0 && read_only(settings[i].fd)) {
				ret = -EBADF; /* as write(2) says */
				own = 0;
			}
			atomic_store(&sink->own, own);
		}
		if (ret < 0)
			complain(sink, -ret);
	}
	nsinks = count < HF_MAX_SINKS ? count : HF_MAX_SINKS;
}

void hf_sink_pin(void)
{
	bool was = atomic_exchange(&pinned, true);
	struct stat st;

	for (size_t i = 0; i < nsinks && !was; i++) {
		int fd;

		if (sinks[i].setting->kind != HF_SINK_FILE || sinks[i].path[0] == '\0')
			continue;
		fd = file_open(&sinks[i]);
		if (fd >= 0)
			publish(&sinks[i], 0, fd, &st);
	}
}

size_t hf_sink_count(void)
{
	return nsinks;
}

bool hf_sink_owns(int fd)
{
	struct stat st;

	for (size_t i = 0; i < nsinks && fd > STDERR_FILENO; i++) {
		uint64_t own = atomic_load_explicit(&sinks[i].own, memory_order_relaxed);

		if (own != 0 && hf_put_fd(own) == fd && hf_put_still(own, &st))
			return true;
	}
	return false;
}

int hf_sink_next_fd(int from)
{
	int next = INT_MAX;

	for (size_t i = 0; i < nsinks; i++) {
		int fd = hf_put_fd(atomic_load(&sinks[i].own));

		if (fd >= from && fd < next && hf_sink_owns(fd))
			next = fd;
	}
	return next;
}
