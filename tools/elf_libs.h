/*
 * Where the dynamic linker would find the libraries a program needs (ld.so(8), "DESCRIPTION"), without running it or
 * the program: RPATH, LD_LIBRARY_PATH, RUNPATH, /etc/ld.so.cache, the standard directories.  Used by check.c.
 */
#ifndef HOLDFAST_ELF_LIBS_H
#define HOLDFAST_ELF_LIBS_H

#include "elf_file.h"

/*
 * The file that NAME, needed by ELF, is; into PATH, SIZE bytes.  OBJECT is ELF's own path, for $ORIGIN.  Only a shared
 * object for this machine will do, as for ld.so.  false: not found.
 */
bool hf_elf_library(const struct hf_elf *elf, const char *object, const char *name, char *path, size_t size);

#endif
