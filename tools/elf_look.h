/*
 * A look at programs and libraries: is this library loadable here, which file is a command really, will it load a
 * preloaded library.  Reads headers only, never maps or runs anything.  Called by "holdfast run" before it executes
 * the command, by "holdfast check" and "holdfast enable".
 */
#ifndef HOLDFAST_ELF_LOOK_H
#define HOLDFAST_ELF_LOOK_H

#include "elf_file.h"

#include <limits.h>
#include <stddef.h>

/* NULL if PATH is a shared object for this machine that the caller can read; else why not, such as
 * "No such file or directory" or "not a shared object". */
const char *hf_elf_library_problem(const char *path);

/* What a command comes to.  hf_program_close() when done. */
struct hf_program {
	char path[PATH_MAX];   /* the file that is executed in the end */
	char script[PATH_MAX]; /* the script that leads to it, or "" */
	struct hf_elf elf;     /* open, its descriptor too */
	bool is_elf;           /* false: neither ELF nor a script; nothing else is known then */
	/* What makes ld.so ignore a preloaded library, secure execution: bits of the file, and whether they take effect
	 * when the caller runs it. */
	bool set_uid, set_gid, capabilities, privileged;
};

/*
 * Find COMMAND as execvp(3) does, and follow scripts to their interpreters ("#!/usr/bin/env NAME" to NAME).  NULL, or
 * why there is nothing to look at; PROGRAM->path then says where.
 */
const char *hf_program_look(struct hf_program *program, const char *command);
void hf_program_close(struct hf_program *program);

/* Why the dynamic linker will not preload into PROGRAM when the caller runs it: a phrase, or NULL when it will. */
const char *hf_program_preload_problem(const struct hf_program *program);

/*
 * The same for COMMAND; NULL too when it cannot be told.  WHERE (SIZE bytes) gets the path of the file meant.
 */
const char *hf_elf_preload_problem(const char *command, char *where, size_t size);

#endif
