/* What /proc says of our thread and of the program's, read where that opens nothing of the program's (watch/thread.h).
 */
#include "fmt.h"
#include "sys.h"
#include "watch/thread.h"

#include <fcntl.h>
#include <string.h>

/* Of /proc/self/task/TID/schedstat (proc(5)), the second field. */
struct queued {
	int tid;
	uint64_t ms;
};

static void read_queued(void *arg)
{
	struct queued *queued = arg;
	char path[64], text[64] = "";
	struct hf_fmt fmt;
	uint64_t ns = 0;
	long got = 0, i = 0;
	int fd;

	hf_fmt_init(&fmt, path, sizeof(path), 0);
	hf_fmt_str(&fmt, "/proc/self/task/");
	hf_fmt_i64(&fmt, queued->tid);
	hf_fmt_str(&fmt, "/schedstat");
	hf_fmt_boundary(&fmt);
	hf_fmt_end(&fmt, "");
	fd = hf_sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	if (fd >= 0) {
		got = hf_sys_read(fd, text, sizeof(text));
		hf_sys_close(fd);
	}
	while (i < got && text[i] != ' ')
		i++;
	for (i++; i < got && text[i] >= '0' && text[i] <= '9'; i++)
		ns = ns * 10 + (uint64_t)(text[i] - '0');
	queued->ms = ns != 0 ? ns / 1000000 : UINT64_MAX;
}

uint64_t hf_thread_queued_ms(void)
{
	struct queued queued = {.tid = hf_sys_gettid()};

	hf_thread_aside(read_queued, &queued);
	return queued.ms;
}

struct count {
	int tid; /* of the watchdog */
	bool alone;
	int status; /* the leader's exit status */
};

/* Of /proc/self/stat (proc(5)): num_threads, the 20th field, and exit_code, the last. comm may hold anything, so
 * count from its end. */

static void count_threads(void *arg)
{
	struct count *count = arg;
	char text[512], *p, *last;
	int fd = hf_sys_openat(AT_FDCWD, "/proc/self/stat", O_RDONLY | O_CLOEXEC, 0);
	long got = fd >= 0 ? hf_sys_read(fd, text, sizeof(text) - 1) : 0;

	if (fd >= 0)
		hf_sys_close(fd);
	text[got > 0 ? got : 0] = '\0';
	last = strrchr(text, ' ');
	p = strrchr(text, ')');
	for (int field = 2; field < 20 && p != NULL; field++)
		p = strchr(p + 1, ' ');
	/* The leader and the watchdog; and the thread that counts, if it was sent aside. */
	count->status = 0;
	for (const char *digit = last != NULL ? last + 1 : ""; *digit >= '0' && *digit <= '9'; digit++)
		count->status = count->status * 10 + (*digit - '0');
	count->alone = p != NULL && strncmp(p, hf_sys_gettid() == count->tid ? " 2 " : " 3 ", 3) == 0;
}

bool hf_thread_last(int *status)
{
	struct count count = {.tid = hf_sys_gettid()};

	hf_thread_aside(count_threads, &count);
	*status = count.status >> 8; /* as wait(2) gives it */
	return count.alone;
}
