#include "state/fdlist.h"
#include "sys.h"

struct entry { /* struct linux_dirent64, getdents64(2) */
	uint64_t ino;
	int64_t off;
	uint16_t size;
	uint8_t type;
	char name[];
};

bool hf_each_fd(void (*fn)(int fd, void *arg), void *arg)
{
	char buf[2048] __attribute__((aligned(8)));
	int dir = hf_sys_openat(AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	long got;

	if (dir < 0)
		return false;
	while ((got = hf_sys3(SYS_getdents64, dir, buf, sizeof(buf))) > 0) {
		const struct entry *e;

		for (long at = 0; at < got; at += e->size) {
			int fd = 0;

			e = (const void *)(buf + at);
			for (const char *p = e->name; *p >= '0' && *p <= '9'; p++)
				fd = fd * 10 + (*p - '0');
			if (e->name[0] != '.' && fd != dir)
				fn(fd, arg);
		}
	}
	hf_sys_close(dir);
	return got == 0;
}
