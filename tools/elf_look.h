/*
 * A look at ELF files: is this library loadable here, will this command load it.  Reads headers only, never maps or
 * runs anything.  Called by "holdfast run" before it executes the command.
 */
#ifndef HOLDFAST_ELF_LOOK_H
#define HOLDFAST_ELF_LOOK_H

#include <stddef.h>

/* NULL if PATH is a shared object for this machine that the caller can read; else why not, such as
 * "No such file or directory" or "not a shared object". */
const char *hf_elf_library_problem(const char *path);

/*
 * Why the dynamic linker will not preload into COMMAND, found as execvp(3) finds it, or NULL when it will or when that
 * cannot be told.  Scripts are followed to their interpreter; WHERE (SIZE bytes) gets the path of the file meant.
 */
const char *hf_elf_preload_problem(const char *command, char *where, size_t size);

#endif
