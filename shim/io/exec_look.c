/* What a program file is, as far as preloading goes: see exec.h. */
#include "io/exec.h"
#include "sys.h"

#include <elf.h>
#include <string.h>
#include <unistd.h>

enum { HEAD = 1024, DEPTH = 4 };

#if defined(__x86_64__)
enum { MACHINE = EM_X86_64 };
#else
enum { MACHINE = EM_AARCH64 };
#endif

/* Whether exec would raise privileges: set-ID bits of somebody else's, or file capabilities. */
static bool raises(int fd, const struct stat *st)
{
	char caps[64];

	if ((st->st_mode & S_ISUID) != 0 && st->st_uid != (uid_t)hf_sys0(SYS_geteuid))
		return true;
	if ((st->st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && st->st_gid != (gid_t)hf_sys0(SYS_getegid))
		return true;
	return hf_sys4(SYS_fgetxattr, fd, "security.capability", caps, sizeof(caps)) > 0 && hf_sys0(SYS_geteuid) != 0;
}

static enum hf_target look_elf(const unsigned char *head, size_t size)
{
	Elf64_Ehdr elf;

	if (size < sizeof(elf) || head[EI_CLASS] != ELFCLASS64)
		return HF_TARGET_FOREIGN;
	memcpy(&elf, head, sizeof(elf));
	if (elf.e_machine != MACHINE)
		return HF_TARGET_FOREIGN;
	for (unsigned i = 0; i < elf.e_phnum; i++) {
		Elf64_Phdr ph;
		size_t at = (size_t)elf.e_phoff + (size_t)i * elf.e_phentsize;

		if (elf.e_phentsize < sizeof(ph) || at > size - sizeof(ph))
			return HF_TARGET_LOADS; /* far away: no telling */
		memcpy(&ph, head + at, sizeof(ph));
		if (ph.p_type == PT_INTERP)
			return HF_TARGET_LOADS;
	}
	return HF_TARGET_STATIC;
}

/* The interpreter named in a script's first line (execve(2)), in place. NULL: none. */
static const char *interpreter(char *head, size_t size)
{
	char *path = head + 2, *end;

	head[size < HEAD ? size : HEAD - 1] = '\0';
	while (*path == ' ' || *path == '\t')
		path++;
	end = path + strcspn(path, " \t\n");
	if (*end == '\0' || end == path)
		return NULL;
	*end = '\0';
	return path;
}

enum hf_target hf_exec_look(int dir, const char *path)
{
	char head[HEAD] __attribute__((aligned(8))), name[HEAD];
	const char *script;

	for (int depth = 0; depth < DEPTH; depth++) {
		struct stat st;
		int fd = path[0] == '\0' ? dir : hf_sys_openat(dir, path, O_RDONLY | O_CLOEXEC, 0);
		long got = fd >= 0 ? hf_sys4(SYS_pread64, fd, head, sizeof(head), 0) : -1;
		bool raised = fd >= 0 && hf_sys_fstat(fd, &st) == 0 && raises(fd, &st);

		if (fd >= 0 && fd != dir)
			hf_sys_close(fd);
		if (got < 4)
			return HF_TARGET_LOADS; /* cannot be read, or will not start */
		if (memcmp(head, ELFMAG, SELFMAG) == 0)
			return raised ? HF_TARGET_SECURE : look_elf((const unsigned char *)head, (size_t)got);
		if (head[0] != '#' || head[1] != '!' || (script = interpreter(head, (size_t)got)) == NULL)
			return HF_TARGET_LOADS; /* execvp(3) gives it to the shell */
		memcpy(name, script, strlen(script) + 1);
		path = name;
		dir = AT_FDCWD;
	}
	return HF_TARGET_LOADS;
}

const char *hf_exec_find(const char *file, char *out, unsigned room)
{
	const char *path = NULL;
	size_t len = strlen(file);

	for (char **env = environ; env != NULL && *env != NULL; env++)
		if (strncmp(*env, "PATH=", 5) == 0)
			path = *env + 5;
	if (strchr(file, '/') != NULL || path == NULL || len == 0)
		return file;
	for (;;) {
		size_t n = strcspn(path, ":");

		if (n + len + 2 <= room) {
			memcpy(out, path, n);
			if (n > 0)
				out[n++] = '/';
			memcpy(out + n, file, len + 1);
			if (hf_sys3(SYS_faccessat, AT_FDCWD, out, X_OK) == 0)
				return out;
		}
		path += strcspn(path, ":");
		if (*path++ == '\0')
			return file;
	}
}
