#include "elf_look.h"

#include <bsd/string.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <paths.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

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

static const char *open_problem(void)
{
	return errno == EINVAL ? "not a regular file" : strerror(errno);
}

const char *hf_elf_library_problem(const char *path)
{
	struct hf_elf elf;
	struct stat st;
	int fd = open_regular(path, &st);

	if (fd < 0)
		return open_problem();
	hf_elf_read(fd, &elf);
	hf_elf_close(&elf);
	close(fd);
	if (!elf.is_elf)
		return "not a shared object";
	if (!elf.native)
		return "a shared object for another machine";
	return elf.type == ET_DYN ? NULL : "not a shared object";
}

/* What turns on secure execution (ld.so(8)): a change of user or group, or file capabilities for other than root. */
static void look_at_privileges(struct hf_program *program, int fd, const struct stat *st)
{
	program->set_uid = st->st_mode & S_ISUID;
	program->set_gid = (st->st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP);
	program->capabilities = fgetxattr(fd, "security.capability", NULL, 0) > 0;
	program->privileged = (program->set_uid && st->st_uid != getuid()) ||
			      (program->set_gid && st->st_gid != getgid()) || (program->capabilities && getuid() != 0);
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
		if (!*end) {
			strlcpy(where, command, size);
			return false;
		}
	}
}

/* "#!/usr/bin/env [-S] [NAME=VALUE...] COMMAND": what matters is COMMAND.  NULL when there is none. */
static const char *behind_env(const char *interpreter, char *rest)
{
	const char *base = strrchr(interpreter, '/'), *word;

	if (strcmp(base ? base + 1 : interpreter, "env") != 0)
		return NULL;
	while ((word = strsep(&rest, " \t"))) {
		if (strncmp(word, "-S", 2) == 0 && word[2])
			return word + 2;
		if (*word && *word != '-' && !strchr(word, '='))
			return word;
	}
	return NULL;
}

/* The interpreter that the first line HEAD of a script names, into PATH; false if it is no script. */
static bool script_interpreter(char *head, char *path, size_t size)
{
	char *interpreter = head + 2, *rest;
	const char *command;

	if (strncmp(head, "#!", 2) != 0)
		return false;
	interpreter[strcspn(interpreter, "\r\n")] = '\0';
	interpreter += strspn(interpreter, " \t");
	rest = interpreter + strcspn(interpreter, " \t");
	if (*rest)
		*rest++ = '\0';
	if (!*interpreter)
		return false;
	command = behind_env(interpreter, rest);
	if (command && find_command(command, path, size))
		return true;
	return strlcpy(path, interpreter, size) < size;
}

enum look { LOOK_DONE, LOOK_AGAIN };

/* One file: done with it, or it is a script, whose interpreter is now in PROGRAM->path. */
static enum look look(struct hf_program *program, int fd, const struct stat *st)
{
	char head[256] = ""; /* BINPRM_BUF_SIZE: as much of the line as the kernel reads */
	char script[PATH_MAX];

	hf_elf_read(fd, &program->elf);
	program->is_elf = program->elf.is_elf;
	if (program->is_elf) {
		look_at_privileges(program, fd, st);
		return LOOK_DONE;
	}
	strlcpy(script, program->path, sizeof script);
	if (pread(fd, head, sizeof head - 1, 0) <= 0 || !script_interpreter(head, program->path, sizeof program->path))
		return LOOK_DONE;
	if (!program->script[0])
		strlcpy(program->script, script, sizeof program->script);
	return LOOK_AGAIN;
}

const char *hf_program_look(struct hf_program *program, const char *command)
{
	enum { DEPTH = 5 }; /* execve(2): interpreters of interpreters */

	memset(program, 0, sizeof *program);
	program->elf.fd = -1;
	if (!find_command(command, program->path, sizeof program->path))
		return strchr(command, '/') ? strerror(ENAMETOOLONG) : "not found in PATH";
	for (int depth = 0; depth <= DEPTH; depth++) {
		struct stat st;
		int fd = open_regular(program->path, &st);

		if (fd < 0) {
			program->elf.fd = -1;
			return open_problem();
		}
		if (look(program, fd, &st) == LOOK_DONE)
			return NULL; /* the descriptor goes with program->elf */
		close(fd);
	}
	program->elf.fd = -1;
	return strerror(ELOOP);
}

void hf_program_close(struct hf_program *program)
{
	hf_elf_close(&program->elf);
	if (program->elf.fd >= 0)
		close(program->elf.fd);
	program->elf.fd = -1;
}

const char *hf_program_preload_problem(const struct hf_program *program)
{
	if (!program->is_elf)
		return NULL;
	if (!program->elf.native)
		return "made for another machine";
	if (!program->elf.has_interp && !program->elf.torn)
		return "statically linked";
	return program->privileged ? "set-user-ID, set-group-ID or with file capabilities" : NULL;
}

const char *hf_elf_preload_problem(const char *command, char *where, size_t size)
{
	struct hf_program program;
	const char *problem = hf_program_look(&program, command);

	problem = problem ? NULL : hf_program_preload_problem(&program);
	strlcpy(where, program.path, size);
	hf_program_close(&program);
	return problem;
}
