#include "key.h"

#include "sys.h"

long hf_key_read(const char *path, uint8_t *bytes, size_t room)
{
	/* O_NONBLOCK: of a pipe, which nobody may ever open at its other end, we only want to know that it is one. */
	int fd = hf_sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0);
	struct stat st = {0};
	size_t size = 0;
	long got;

	if (fd < 0)
		return fd;
	got = hf_sys_fstat(fd, &st);
	if (got == 0 && !S_ISREG(st.st_mode))
		got = S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	if (got == 0)
		while (size < room && (got = hf_sys_read(fd, bytes + size, room - size)) > 0)
			size += (size_t)got;
	hf_sys_close(fd);
	while (size > 0 && (bytes[size - 1] == '\n' || bytes[size - 1] == '\r'))
		size--;
	if (got < 0)
		return got;
	return size > 0 ? (long)size : -ENODATA;
}

const char *hf_key_expected(int error)
{
	switch (error) {
	case ENOENT:
	case ENOTDIR:
		return "a file with a secret, and there is none; no peer is accepted in wrap mode";
	case EACCES:
	case EPERM:
		return "a file with a secret that this user may read; no peer is accepted in wrap mode";
	case EISDIR:
	case EINVAL:
		return "a regular file with a secret; no peer is accepted in wrap mode";
	case ENODATA:
		return "a file with a secret, and it is empty; no peer is accepted in wrap mode";
	default:
		return "a file with a secret, and it cannot be read; no peer is accepted in wrap mode";
	}
}
