#include "event_source.h"

#include "command.h"

#include <bsd/string.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* --- a datagram socket --- */

/* A socket file that nobody listens at any more is left over from a process that was killed. */
static bool is_stale(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;
	bool stale;

	if (fd < 0)
		return false;
	stale = lstat(address->sun_path, &st) == 0 && S_ISSOCK(st.st_mode) &&
		connect(fd, (const struct sockaddr *)address, sizeof *address) != 0 && errno == ECONNREFUSED;
	close(fd);
	return stale;
}

static int open_socket(struct hf_source *source)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const int room = 1 << 20;
	int error;

	if (strlen(source->path) >= sizeof address.sun_path) {
		hf_tell("unix:%s: expected a path of at most %zu bytes", source->path, sizeof address.sun_path - 1);
		return HF_EXIT_USAGE;
	}
	strlcpy(address.sun_path, source->path, sizeof address.sun_path);
	source->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (source->fd < 0) {
		hf_tell("socket: %s", strerror(errno));
		return HF_EXIT_USAGE;
	}
	/* The library does not wait: what does not fit is lost.  As much as we are allowed. */
	setsockopt(source->fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
	error = bind(source->fd, (struct sockaddr *)&address, sizeof address) == 0 ? 0 : errno;
	if (error == EADDRINUSE && is_stale(&address) && unlink(source->path) == 0)
		error = bind(source->fd, (struct sockaddr *)&address, sizeof address) == 0 ? 0 : errno;
	if (error) {
		hf_tell("unix:%s: %s", source->path, strerror(error));
		return HF_EXIT_USAGE;
	}
	source->bound = true;
	return 0;
}

/* --- a file that is followed --- */

static void open_file(struct hf_source *source, bool from_start)
{
	struct stat st;

	source->fd = open(source->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (source->fd < 0)
		return;
	if (fstat(source->fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		close(source->fd);
		source->fd = -1;
		return;
	}
	source->device = st.st_dev;
	source->inode = st.st_ino;
	source->offset = from_start ? 0 : st.st_size;
	if (source->notify >= 0)
		source->watch = inotify_add_watch(source->notify, source->path,
						  IN_MODIFY | IN_ATTRIB | IN_MOVE_SELF | IN_DELETE_SELF);
}

static int follow_file(struct hf_source *source)
{
	char directory[PATH_MAX];
	const char *slash = strrchr(source->path, '/');
	struct stat st;

	if (stat(source->path, &st) == 0 && !S_ISREG(st.st_mode)) {
		hf_tell("file:%s: not a regular file", source->path);
		return HF_EXIT_USAGE;
	}
	snprintf(directory, sizeof directory, "%.*s", slash ? (int)(slash - source->path) : 1,
		 slash ? source->path : ".");
	source->notify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (source->notify >= 0)
		inotify_add_watch(source->notify, *directory ? directory : "/", IN_CREATE | IN_MOVED_TO);
	open_file(source, source->from_start);
	if (source->fd < 0 && errno != ENOENT) {
		hf_tell("file:%s: %s", source->path, strerror(errno));
		return HF_EXIT_USAGE;
	}
	return 0;
}

/* At the end of the file: has it been cut, or is another one there under its name?  True: there may be more. */
static bool turn_over(struct hf_source *source)
{
	struct stat there, mine;

	if (source->fd >= 0 && fstat(source->fd, &mine) == 0 && mine.st_size < source->offset) {
		source->offset = 0; /* truncated: copytruncate of logrotate(8) */
		source->used = 0;
		source->too_long = false;
		return true;
	}
	if (stat(source->path, &there) != 0 ||
	    (source->fd >= 0 && there.st_dev == source->device && there.st_ino == source->inode))
		return false;
	if (source->fd >= 0) {
		if (source->watch >= 0)
			inotify_rm_watch(source->notify, source->watch);
		close(source->fd);
	}
	source->used = 0; /* a line without its end stays one */
	source->too_long = false;
	open_file(source, true);
	return source->fd >= 0;
}

/* --- all of them --- */

int hf_source_open(struct hf_source *source, const char *sink, bool from_start)
{
	memset(source, 0, sizeof *source);
	source->fd = source->notify = source->watch = -1;
	source->from_start = from_start;
	if (strcmp(sink, "-") == 0) {
		source->kind = HF_SOURCE_STDIN;
		source->fd = STDIN_FILENO;
		return 0;
	}
	if (strncmp(sink, "unix:", 5) == 0 && sink[5]) {
		source->kind = HF_SOURCE_UNIX;
		source->path = sink + 5;
		return open_socket(source);
	}
	if (strncmp(sink, "file:", 5) == 0 && sink[5]) {
		source->kind = HF_SOURCE_FILE;
		source->path = sink + 5;
		return follow_file(source);
	}
	hf_tell("\"%s\": expected unix:PATH or file:PATH, as in HOLDFAST_REPORT, or -", sink);
	return HF_EXIT_USAGE;
}

void hf_source_close(struct hf_source *source)
{
	if (source->bound)
		unlink(source->path);
	if (source->kind != HF_SOURCE_STDIN && source->fd >= 0)
		close(source->fd);
	if (source->notify >= 0)
		close(source->notify);
	source->bound = false;
	source->fd = source->notify = -1;
}

int hf_source_poll(const struct hf_source *source, struct pollfd *poll)
{
	enum { LOOK_MS = 1000 };

	poll->fd = source->kind == HF_SOURCE_FILE ? source->notify : source->fd;
	poll->events = POLLIN;
	poll->revents = 0;
	return source->kind == HF_SOURCE_FILE ? LOOK_MS : -1;
}

/* Hand over the complete lines in the buffer. */
static bool hand_over(struct hf_source *source, hf_source_each *each, void *arg)
{
	char *from = source->buf, *end = source->buf + source->used, *newline;
	bool go_on = true;

	while (go_on && (newline = memchr(from, '\n', (size_t)(end - from)))) {
		if (!source->too_long && newline > from)
			go_on = each(from, (size_t)(newline - from), arg);
		else if (source->too_long)
			go_on = each("", 0, arg); /* no event, but something */
		source->too_long = false;
		from = newline + 1;
	}
	source->used = (size_t)(end - from);
	memmove(source->buf, from, source->used);
	if (source->used == sizeof source->buf) {
		source->used = 0;
		source->too_long = true;
	}
	return go_on;
}

static ssize_t read_some(struct hf_source *source)
{
	char *to = source->buf + source->used;
	size_t room = sizeof source->buf - source->used;
	ssize_t n;

	if (source->kind == HF_SOURCE_UNIX) {
		/* A datagram is a line, with or without its newline; one that is cut is none. */
		n = recv(source->fd, to, room - 1, MSG_TRUNC);
		if (n > (ssize_t)room - 1)
			n = (ssize_t)room - 1;
		if (n > 0 && to[n - 1] != '\n')
			to[n++] = '\n';
		return n;
	}
	if (source->kind == HF_SOURCE_STDIN)
		return read(source->fd, to, room);
	n = source->fd >= 0 ? pread(source->fd, to, room, source->offset) : 0;
	source->offset += n > 0 ? n : 0;
	return n;
}

bool hf_source_read(struct hf_source *source, hf_source_each *each, void *arg)
{
	enum { ROUNDS = 64 }; /* then it is somebody else's turn */
	char events[4096];

	while (source->notify >= 0 && read(source->notify, events, sizeof events) > 0)
		;
	for (int round = 0; round < ROUNDS; round++) {
		ssize_t n = read_some(source);

		if (n > 0) {
			source->used += (size_t)n;
			if (!hand_over(source, each, arg))
				return false;
		} else if (n == 0 && source->kind == HF_SOURCE_STDIN) {
			source->ended = true;
			/* A last line without its newline. */
			return source->used == 0 || source->too_long || each(source->buf, source->used, arg);
		} else if (source->kind != HF_SOURCE_FILE || !turn_over(source)) {
			if (n == 0 && source->kind == HF_SOURCE_UNIX)
				continue; /* an empty datagram */
			return true;
		}
		if (source->kind == HF_SOURCE_STDIN)
			return true; /* it may block */
	}
	return true;
}

bool hf_source_more(const struct hf_source *source)
{
	struct stat st;

	return source->kind == HF_SOURCE_FILE && source->fd >= 0 && fstat(source->fd, &st) == 0 &&
	       st.st_size > source->offset;
}
