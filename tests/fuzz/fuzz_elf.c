/*
 * Any file into hf_elf_read(): no crash, no byte read outside its tables; names are terminated and lie in the strings.
 * The seeds are small programs as ld(1) links them; "dynamic" is also what tests/unit/test_elf.c corrupts.
 */
#include "elf_file.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void take(const char *name, void *arg)
{
	const struct hf_elf *elf = arg;

	if (name < elf->strings || name + strlen(name) > elf->strings + elf->nstrings)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int fd = -1;
	static struct hf_elf elf;

	if (fd < 0)
		fd = memfd_create("elf", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, 0) != 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
		abort();
	hf_elf_read(fd, &elf);
	if (strnlen(elf.interp, HF_ELF_INTERP) == HF_ELF_INTERP || elf.nneeded > HF_ELF_NEEDED ||
	    elf.nloads > HF_ELF_LOADS || (elf.native && !elf.is_elf))
		abort();
	for (size_t i = 0; i < elf.nneeded; i++)
		take(elf.needed[i], &elf);
	if (elf.rpath)
		take(elf.rpath, &elf);
	if (elf.runpath)
		take(elf.runpath, &elf);
	hf_elf_imports(&elf, take, &elf);
	hf_elf_close(&elf);
	return 0;
}
