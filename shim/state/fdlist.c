#include "state/fdlist.h"
#include "sys.h"

struct entry { /* struct linux_dirent64, getdents64(2) */
	uint64_t ino;
	int64_t off;
	uint16_t size;
	uint8_t type;
	char name[];
};

static bool each(const char *path, bool fds, void (*fn)(int number, void *arg), void *arg)
{
	char buf[2048] __attribute__((aligned(8)));
	int dir = hf_sys_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	long got;

	if (dir < 0)
		return false;
	while ((got = hf_sys3(SYS_getdents64, dir, buf, sizeof(buf))) > 0) {
		const struct entry *e;

		for (long at = 0; at < got; at += e->size) {
			int number = 0;

			e = (const void *)(buf + at);
			for (const char *p = e->name; *p >= '0' && *p <= '9'; p++)
				number = number * 10 + (*p - '0');
			if (e->name[0] != '.' && !(fds && number == dir))
				fn(number, arg);
		}
	}
	hf_sys_close(dir);
	return got == 0;
}

bool hf_each_number(const char *path, void (*fn)(int number, void *arg), void *arg)
{
	return each(path, false, fn, arg);
}

bool hf_each_fd(void (*fn)(int fd, void *arg), void *arg)
{
	return each("/proc/self/fd", true, fn, arg);
}
