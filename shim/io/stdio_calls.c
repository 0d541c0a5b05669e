/*
 * The calls of stdio that reach the kernel by themselves, and not through a stream's table: each has a hook.
 */
#include "io/descriptor.h"
#include "io/gate.h"
#include "io/stdio.h"
#include "io/stdio_inner.h"
#include "sys.h"

#include <sys/mman.h>

/*
 * freopen(3) flushes, and then either puts a new file in the place of the descriptor (dup3 inside libc) or, if there is
 * none, closes it.  In both cases the connection ends as by close(2).
 */
static FILE *reopen(const char *path, const char *mode, FILE *stream,
		    FILE *(*call)(const char *path, const char *mode, FILE *stream))
{
	int fd = stream->_fileno, refused;
	struct hf_parting parting;
	FILE *result;

	if (fd < 0 || hf_gate(fd, HF_OTHER, &refused) == NULL || hf_proc_borrowed())
		return call(path, mode, stream);
	/* What cannot be written now must not be written behind our back. */
	if (hf_stdio_armed() && hf_libc.fflush(stream) != 0)
		hf_libc.purge(stream);
	hf_part(fd, &parting);
	result = call(path, mode, stream);
	hf_parted(fd, &parting);
	return result;
}

FILE *hf_freopen(const char *path, const char *mode, FILE *stream)
{
	hf_real_ready();
	return reopen(path, mode, stream, hf_real.freopen);
}

FILE *hf_freopen64(const char *path, const char *mode, FILE *stream)
{
	hf_real_ready();
	return reopen(path, mode, stream, hf_real.freopen64);
}

/* Since 2.37 dprintf(3) tries an interrupted write again. */
static bool tries_again(void)
{
	const char *version = hf_libc.version != NULL ? hf_libc.version() : "";

	return version[0] == '2' && version[1] == '.' && version[2] >= '3' && version[2] <= '9' && version[3] >= '0' &&
	       (version[2] > '3' || version[3] >= '7');
}

static bool write_all(int fd, const char *text, size_t size)
{
	while (size > 0) {
		ssize_t took = hf_write(fd, text, size);

		if (took < 0 && errno == EINTR && tries_again())
			continue;
		if (took <= 0)
			return false;
		text += took;
		size -= (size_t)took;
	}
	return true;
}

/* FLAG: of the fortified name, or -1. */
static int format(char *buf, size_t size, int flag, const char *text, va_list ap)
{
	return flag < 0 ? hf_libc.format(buf, size, text, ap) : hf_libc.format_chk(buf, size, flag, size, text, ap);
}

static int print(int fd, int flag, const char *text, va_list ap)
{
	char small[1024], *large;
	int size, error = errno;
	bool written;
	va_list again;

	va_copy(again, ap);
	size = format(small, sizeof(small), flag, text, ap);
	if (size < (int)sizeof(small)) {
		written = size >= 0 && write_all(fd, small, (size_t)size);
		va_end(again);
		return written ? size : -1;
	}
	large = hf_sys_mmap(NULL, (size_t)size + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (hf_sys_failed(large)) {
		va_end(again);
		errno = ENOMEM;
		return -1;
	}
	errno = error; /* of which %m speaks */
	written = format(large, (size_t)size + 1, flag, text, again) == size && write_all(fd, large, (size_t)size);
	va_end(again);
	hf_sys_munmap(large, (size_t)size + 1);
	return written ? size : -1;
}

int hf_vdprintf(int fd, const char *text, va_list ap)
{
	hf_real_ready();
	if (!hf_stdio_wrapped(fd) || hf_libc.format == NULL)
		return hf_real.vdprintf(fd, text, ap);
	return print(fd, -1, text, ap);
}

int hf___vdprintf_chk(int fd, int flag, const char *text, va_list ap)
{
	hf_real_ready();
	if (!hf_stdio_wrapped(fd) || hf_libc.format_chk == NULL)
		return hf_real.__vdprintf_chk(fd, flag, text, ap);
	return print(fd, flag, text, ap);
}
