/*
 * One ELF file, read with suspicion: what the kernel and the dynamic linker would make of it, and what it imports.
 *
 * Used by elf_look.c and check*.c.  Reads with pread(2), never maps and never runs anything: a file that shrinks or
 * lies about itself gives wrong answers, not crashes.  Every count and size taken from the file is bounded.  A struct
 * belongs to the thread that opened it; hf_elf_close() frees what hf_elf_read() allocated and leaves the descriptor.
 */
#ifndef HOLDFAST_ELF_FILE_H
#define HOLDFAST_ELF_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	HF_ELF_LOADS = 64,         /* segments kept; programs have a dozen */
	HF_ELF_INTERP = 256,       /* longest interpreter kept, with its NUL */
	HF_ELF_NEEDED = 512,       /* libraries told */
	HF_ELF_SYMBOLS = 1 << 20,  /* symbols looked at */
	HF_ELF_STRINGS = 64 << 20, /* bytes of string table read */
	HF_ELF_SEGMENTS = 512,     /* program headers looked at */
	HF_ELF_SECTIONS = 4096,    /* section headers looked at */
	HF_ELF_DYNAMIC = 4096,     /* entries of the dynamic section looked at */
};

struct hf_elf {
	int fd;
	uint64_t size;

	bool is_elf;
	bool native;      /* for this machine; nothing below is filled in otherwise, but type, machine and bits */
	bool torn;        /* headers point outside the file: only part is known */
	unsigned bits;    /* 32, 64, or 0: neither */
	unsigned machine; /* EM_* */
	unsigned type;    /* ET_* */

	bool has_interp;
	char interp[HF_ELF_INTERP]; /* cut if longer */
	bool is_go;                 /* Go's build id or build information */
	bool is_dynamic;            /* has a dynamic section */

	/* For the functions below. */
	struct hf_elf_load {
		uint64_t address, at, size;
	} loads[HF_ELF_LOADS];
	size_t nloads;
	uint64_t dynamic_at, dynamic_size;
	uint64_t symbols_at, nsymbols;
	char *strings; /* NUL-terminated; NULL: none */
	size_t nstrings;
	const char *rpath, *runpath; /* in strings; NULL: none */
	size_t nneeded;
	const char *needed[HF_ELF_NEEDED]; /* in strings */
};

/* Read the headers of the open regular file FD; always fills ELF, is_elf false when it is none. */
void hf_elf_read(int fd, struct hf_elf *elf);
void hf_elf_close(struct hf_elf *elf);

/* Call EACH for every symbol the file imports. */
typedef void hf_elf_each(const char *name, void *arg);
void hf_elf_imports(const struct hf_elf *elf, hf_elf_each *each, void *arg);

/* "x86-64", "i386" and so on, or NULL for one without a name here. */
const char *hf_elf_machine(unsigned machine);

#endif
