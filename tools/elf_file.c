#include "elf_file.h"

#include <elf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#if defined(__x86_64__)
#define MACHINE EM_X86_64
#elif defined(__aarch64__)
#define MACHINE EM_AARCH64
#else
#error "not a machine holdfast knows"
#endif

/* All of the N bytes at AT, or nothing. */
static bool read_at(const struct hf_elf *elf, uint64_t at, void *to, size_t n)
{
	size_t got = 0;

	if (at > elf->size || n > elf->size - at)
		return false;
	while (got < n) {
		ssize_t piece = pread(elf->fd, (char *)to + got, n - got, (off_t)(at + got));

		if (piece <= 0)
			return false;
		got += (size_t)piece;
	}
	return true;
}

/* Where in the file the byte is that will be at ADDRESS, and in *ROOM how many follow in its segment. */
static bool locate(const struct hf_elf *elf, uint64_t address, uint64_t *at, uint64_t *room)
{
	for (size_t i = 0; i < elf->nloads; i++) {
		const struct hf_elf_load *load = &elf->loads[i];

		if (address >= load->address && address - load->address < load->size) {
			*at = load->at + (address - load->address);
			*room = load->size - (address - load->address);
			return true;
		}
	}
	return false;
}

/* Go's linker leaves a note of its own: owner "Go", the build id. */
static void look_at_notes(struct hf_elf *elf, uint64_t at, uint64_t size)
{
	while (size >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr note;
		char owner[4];
		uint64_t step;

		if (!read_at(elf, at, &note, sizeof note))
			return;
		if (note.n_namesz == sizeof owner && read_at(elf, at + sizeof note, owner, sizeof owner) &&
		    memcmp(owner, "Go\0", sizeof owner) == 0)
			elf->is_go = true;
		step = sizeof note + ((uint64_t)note.n_namesz + 3) / 4 * 4 + ((uint64_t)note.n_descsz + 3) / 4 * 4;
		if (step >= size)
			return;
		at += step;
		size -= step;
	}
}

static void look_at_segment(struct hf_elf *elf, const Elf64_Phdr *segment)
{
	switch (segment->p_type) {
	case PT_LOAD:
		if (elf->nloads < HF_ELF_LOADS && segment->p_offset <= elf->size) {
			uint64_t there = elf->size - segment->p_offset;

			elf->loads[elf->nloads++] =
				(struct hf_elf_load){segment->p_vaddr, segment->p_offset,
						     segment->p_filesz < there ? segment->p_filesz : there};
		}
		break;
	case PT_INTERP:
		elf->has_interp = true;
		if (!read_at(elf, segment->p_offset, elf->interp,
			     segment->p_filesz < HF_ELF_INTERP ? segment->p_filesz : HF_ELF_INTERP - 1))
			elf->torn = true;
		elf->interp[HF_ELF_INTERP - 1] = '\0';
		break;
	case PT_DYNAMIC:
		elf->is_dynamic = true;
		elf->dynamic_at = segment->p_offset;
		elf->dynamic_size = segment->p_filesz;
		break;
	case PT_NOTE:
		/* A build id is tens of bytes: a note section of megabytes is a joke. */
		look_at_notes(elf, segment->p_offset, segment->p_filesz < 4096 ? segment->p_filesz : 4096);
		break;
	default:
		break;
	}
}

static void look_at_segments(struct hf_elf *elf, const Elf64_Ehdr *header)
{
	unsigned n = header->e_phnum < HF_ELF_SEGMENTS ? header->e_phnum : HF_ELF_SEGMENTS;
	Elf64_Phdr segment;

	if (header->e_phentsize != sizeof segment)
		return;
	for (unsigned i = 0; i < n; i++) {
		if (header->e_phoff > elf->size ||
		    !read_at(elf, header->e_phoff + (uint64_t)i * sizeof segment, &segment, sizeof segment)) {
			elf->torn = true;
			return;
		}
		look_at_segment(elf, &segment);
	}
}

/* Section headers are for debuggers and may be missing.  They are the surest count of symbols where they exist. */
static void look_at_sections(struct hf_elf *elf, const Elf64_Ehdr *header)
{
	unsigned n = header->e_shnum < HF_ELF_SECTIONS ? header->e_shnum : HF_ELF_SECTIONS;
	static const char buildinfo[] = ".go.buildinfo";
	Elf64_Shdr section, names;
	char name[sizeof buildinfo];

	if (header->e_shentsize != sizeof section || header->e_shoff > elf->size || header->e_shstrndx >= n ||
	    !read_at(elf, header->e_shoff + (uint64_t)header->e_shstrndx * sizeof names, &names, sizeof names))
		return;
	for (unsigned i = 0; i < n; i++) {
		if (!read_at(elf, header->e_shoff + (uint64_t)i * sizeof section, &section, sizeof section))
			return;
		if (section.sh_type == SHT_DYNSYM && section.sh_entsize == sizeof(Elf64_Sym)) {
			elf->symbols_at = section.sh_offset;
			elf->nsymbols = section.sh_size / sizeof(Elf64_Sym);
		}
		if (names.sh_offset <= elf->size &&
		    read_at(elf, names.sh_offset + section.sh_name, name, sizeof name) &&
		    memcmp(name, buildinfo, sizeof name) == 0)
			elf->is_go = true;
	}
}

/* What the dynamic section says, addresses not yet looked up; 0 is no address. */
struct dynamic {
	uint64_t symbols, strings, nstrings, hash, rpath, runpath;
	bool has_rpath, has_runpath;
	uint64_t needed[HF_ELF_NEEDED];
};

static void take_entry(struct hf_elf *elf, struct dynamic *dynamic, const Elf64_Dyn *entry)
{
	switch (entry->d_tag) {
	case DT_SYMTAB:
		dynamic->symbols = entry->d_un.d_ptr;
		break;
	case DT_STRTAB:
		dynamic->strings = entry->d_un.d_ptr;
		break;
	case DT_STRSZ:
		dynamic->nstrings = entry->d_un.d_val;
		break;
	case DT_HASH:
		dynamic->hash = entry->d_un.d_ptr;
		break;
	case DT_RPATH:
		dynamic->rpath = entry->d_un.d_val;
		dynamic->has_rpath = true;
		break;
	case DT_RUNPATH:
		dynamic->runpath = entry->d_un.d_val;
		dynamic->has_runpath = true;
		break;
	case DT_NEEDED:
		if (elf->nneeded < HF_ELF_NEEDED)
			dynamic->needed[elf->nneeded++] = entry->d_un.d_val;
		break;
	default:
		break;
	}
}

/* Whatever happens, strings ends with a NUL of ours: an offset below nstrings is a terminated text. */
static bool read_strings(struct hf_elf *elf, const struct dynamic *dynamic)
{
	uint64_t at, room, n = dynamic->nstrings;

	if (n == 0 || !locate(elf, dynamic->strings, &at, &room))
		return false;
	n = n < room ? n : room;
	n = n < HF_ELF_STRINGS ? n : HF_ELF_STRINGS;
	elf->strings = malloc(n + 1);
	if (!elf->strings || !read_at(elf, at, elf->strings, n))
		return false;
	elf->strings[n] = '\0';
	elf->nstrings = n;
	return true;
}

/*
 * How many symbols there are without section headers: DT_HASH counts them; else linkers put the strings right behind
 * them, and if not, the end of the segment is an upper bound: what is no symbol there has no name of interest.
 */
static void find_symbols(struct hf_elf *elf, const struct dynamic *dynamic)
{
	uint64_t at, room, hash_at, hash_room;
	uint32_t hash[2];

	if (elf->nsymbols > 0 || !locate(elf, dynamic->symbols, &at, &room))
		return;
	elf->symbols_at = at;
	elf->nsymbols = room / sizeof(Elf64_Sym);
	if (dynamic->hash && locate(elf, dynamic->hash, &hash_at, &hash_room) &&
	    read_at(elf, hash_at, hash, sizeof hash))
		elf->nsymbols = hash[1];
	else if (dynamic->strings > dynamic->symbols && dynamic->strings - dynamic->symbols < room)
		elf->nsymbols = (dynamic->strings - dynamic->symbols) / sizeof(Elf64_Sym);
}

static const char *string_at(const struct hf_elf *elf, uint64_t offset)
{
	return offset < elf->nstrings ? elf->strings + offset : NULL;
}

static void look_at_dynamic(struct hf_elf *elf)
{
	uint64_t n = elf->dynamic_size / sizeof(Elf64_Dyn), kept = 0;
	struct dynamic dynamic = {0};

	for (uint64_t i = 0; i < n && i < HF_ELF_DYNAMIC && elf->dynamic_at <= elf->size; i++) {
		Elf64_Dyn entry;

		if (!read_at(elf, elf->dynamic_at + i * sizeof entry, &entry, sizeof entry) || entry.d_tag == DT_NULL)
			break;
		take_entry(elf, &dynamic, &entry);
	}
	if (!read_strings(elf, &dynamic)) {
		elf->torn = true;
		elf->nneeded = 0;
		return;
	}
	for (size_t i = 0; i < elf->nneeded; i++) {
		const char *name = string_at(elf, dynamic.needed[i]);

		if (name && *name)
			elf->needed[kept++] = name;
	}
	elf->nneeded = kept;
	elf->rpath = dynamic.has_rpath ? string_at(elf, dynamic.rpath) : NULL;
	elf->runpath = dynamic.has_runpath ? string_at(elf, dynamic.runpath) : NULL;
	find_symbols(elf, &dynamic);
}

/* The fields every ELF header has at the same place, whatever its width; those of 16 bits only in our byte order. */
static bool identify(struct hf_elf *elf, const Elf64_Ehdr *header)
{
	if (memcmp(header->e_ident, ELFMAG, SELFMAG) != 0)
		return false;
	elf->is_elf = true;
	elf->bits = header->e_ident[EI_CLASS] == ELFCLASS64 ? 64 : header->e_ident[EI_CLASS] == ELFCLASS32 ? 32 : 0;
	elf->machine = header->e_machine;
	elf->type = header->e_type;
	if (header->e_ident[EI_DATA] == ELFDATA2MSB) {
		elf->machine = __builtin_bswap16(header->e_machine);
		elf->type = __builtin_bswap16(header->e_type);
	}
	elf->native = elf->bits == 64 && header->e_ident[EI_DATA] == ELFDATA2LSB && elf->machine == MACHINE;
	return true;
}

void hf_elf_read(int fd, struct hf_elf *elf)
{
	Elf64_Ehdr header = {0};
	struct stat st;
	ssize_t length = pread(fd, &header, sizeof header, 0);

	memset(elf, 0, sizeof *elf);
	elf->fd = fd;
	if (fstat(fd, &st) != 0 || length < SELFMAG)
		return;
	elf->size = (uint64_t)st.st_size;
	if (!identify(elf, &header))
		return;
	if (length < (ssize_t)sizeof header)
		elf->native = false; /* the kernel will not have it either */
	if (!elf->native)
		return;
	look_at_segments(elf, &header);
	look_at_sections(elf, &header);
	if (elf->is_dynamic)
		look_at_dynamic(elf);
}

void hf_elf_close(struct hf_elf *elf)
{
	free(elf->strings);
	elf->strings = NULL;
	elf->nstrings = elf->nneeded = elf->nsymbols = 0;
	elf->rpath = elf->runpath = NULL;
}

void hf_elf_imports(const struct hf_elf *elf, hf_elf_each *each, void *arg)
{
	enum { CHUNK = 512 };
	uint64_t n = elf->nsymbols < HF_ELF_SYMBOLS ? elf->nsymbols : HF_ELF_SYMBOLS;
	Elf64_Sym symbols[CHUNK] = {0};

	if (elf->symbols_at > elf->size)
		return;
	for (uint64_t from = 0; from < n; from += CHUNK) {
		size_t count = n - from < CHUNK ? n - from : CHUNK;
		uint64_t at = elf->symbols_at + from * sizeof symbols[0], left = elf->size > at ? elf->size - at : 0;

		if (left / sizeof symbols[0] < count)
			count = left / sizeof symbols[0];
		if (count == 0 || !read_at(elf, at, symbols, count * sizeof symbols[0]))
			return;
		for (size_t i = 0; i < count; i++) {
			const char *name = string_at(elf, symbols[i].st_name);

			if (symbols[i].st_shndx == SHN_UNDEF && name && *name)
				each(name, arg);
		}
	}
}

const char *hf_elf_machine(unsigned machine)
{
	switch (machine) {
	case EM_386:
		return "i386";
	case EM_X86_64:
		return "x86-64";
	case EM_ARM:
		return "ARM";
	case EM_AARCH64:
		return "aarch64";
	case EM_RISCV:
		return "RISC-V";
	case EM_PPC:
	case EM_PPC64:
		return "PowerPC";
	case EM_S390:
		return "s390";
	case EM_MIPS:
		return "MIPS";
	case EM_SPARC:
	case EM_SPARCV9:
		return "SPARC";
	default:
		return NULL;
	}
}
