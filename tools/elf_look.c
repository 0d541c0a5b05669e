#include "elf_look.h"

#include <bsd/string.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <paths.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#if defined(__x86_64__)
#define MACHINE EM_X86_64
#elif defined(__aarch64__)
#define MACHINE EM_AARCH64
#else
#error "not a machine holdfast knows"
#endif

static bool is_elf(const ElfW(Ehdr) * header, ssize_t length)
{
	return length >= SELFMAG && memcmp(header->e_ident, ELFMAG, SELFMAG) == 0;
}

static bool is_native(const ElfW(Ehdr) * header, ssize_t length)
{
	return length == (ssize_t)sizeof *header && header->e_ident[EI_CLASS] == ELFCLASS64 &&
	       header->e_ident[EI_DATA] == ELFDATA2LSB && header->e_machine == MACHINE;
}

/* Open a regular file for reading; -1 and errno.  O_NONBLOCK: a fifo must not hold us up. */
static int open_regular(const char *path, struct stat *st)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return -1;
	if (fstat(fd, st) == 0 && S_ISREG(st->st_mode))
		return fd;
	close(fd);
	errno = EINVAL;
	return -1;
}

const char *hf_elf_library_problem(const char *path)
{
	ElfW(Ehdr) header;
	struct stat st;
	ssize_t length;
	int fd = open_regular(path, &st);

	if (fd < 0)
		return errno == EINVAL ? "not a regular file" : strerror(errno);
	length = pread(fd, &header, sizeof header, 0);
	close(fd);
	if (!is_elf(&header, length))
		return "not a shared object";
	if (!is_native(&header, length))
		return "a shared object for another machine";
	return header.e_type == ET_DYN ? NULL : "not a shared object";
}

/* Whether the kernel will hand the file to a dynamic linker; true when the headers cannot be read. */
static bool has_interpreter(int fd, const ElfW(Ehdr) * header)
{
	ElfW(Phdr) segment;

	for (unsigned i = 0; i < header->e_phnum; i++) {
		off_t at = (off_t)(header->e_phoff + (size_t)i * header->e_phentsize);

		if (pread(fd, &segment, sizeof segment, at) != (ssize_t)sizeof segment)
			return true;
		if (segment.p_type == PT_INTERP)
			return true;
	}
	return false;
}

/* What turns on secure execution (ld.so(8)): a change of user or group, or file capabilities for other than root. */
static bool is_privileged(int fd, const struct stat *st)
{
	if ((st->st_mode & S_ISUID) && st->st_uid != getuid())
		return true;
	if ((st->st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && st->st_gid != getgid())
		return true;
	return getuid() != 0 && fgetxattr(fd, "security.capability", NULL, 0) > 0;
}

/* The interpreter of a script, from the first line HEAD, LENGTH bytes, into PATH. */
static bool script_interpreter(const char *head, size_t length, char *path, size_t size)
{
	size_t from = 2, to;

	if (length < 3 || memcmp(head, "#!", 2) != 0)
		return false;
	while (from < length && (head[from] == ' ' || head[from] == '\t'))
		from++;
	for (to = from; to < length && !strchr(" \t\r\n", head[to]); to++)
		;
	if (to == from || to - from >= size)
		return false;
	memcpy(path, head + from, to - from);
	path[to - from] = '\0';
	return true;
}

/* As execvp(3): the first executable regular file of that name in PATH. */
static bool find_command(const char *command, char *where, size_t size)
{
	const char *path = getenv("PATH"), *end;
	struct stat st;

	if (strchr(command, '/'))
		return strlcpy(where, command, size) < size;
	for (path = path ? path : _PATH_DEFPATH;; path = end + 1) {
		end = strchrnul(path, ':');
		int dir = end - path > PATH_MAX ? PATH_MAX : (int)(end - path);
		int n = snprintf(where, size, "%.*s%s%s", dir, path, dir ? "/" : "./", command);

		if (n > 0 && (size_t)n < size && stat(where, &st) == 0 && S_ISREG(st.st_mode) &&
		    access(where, X_OK) == 0)
			return true;
		if (!*end)
			return false;
	}
}

/* The answer for one file, or "" when it is a script, whose interpreter is now in WHERE. */
static const char *look(int fd, const struct stat *st, char *where, size_t size)
{
	union {
		ElfW(Ehdr) elf;
		char text[256]; /* BINPRM_BUF_SIZE: as much of the line as the kernel reads */
	} head;
	ssize_t length = pread(fd, &head, sizeof head, 0);

	if (length <= 0)
		return NULL;
	if (!is_elf(&head.elf, length))
		return script_interpreter(head.text, (size_t)length, where, size) ? "" : NULL;
	if (!is_native(&head.elf, length < (ssize_t)sizeof head.elf ? length : (ssize_t)sizeof head.elf))
		return "made for another machine";
	if (!has_interpreter(fd, &head.elf))
		return "statically linked";
	return is_privileged(fd, st) ? "set-user-ID, set-group-ID or with file capabilities" : NULL;
}

const char *hf_elf_preload_problem(const char *command, char *where, size_t size)
{
	enum { KERNEL_DEPTH = 5 }; /* execve(2): interpreters of interpreters */
	const char *problem = "";

	if (!find_command(command, where, size))
		return NULL;
	for (int depth = 0; depth <= KERNEL_DEPTH && problem && !*problem; depth++) {
		struct stat st;
		int fd = open_regular(where, &st);

		if (fd < 0)
			return NULL;
		problem = look(fd, &st, where, size);
		close(fd);
	}
	return problem && *problem ? problem : NULL;
}
