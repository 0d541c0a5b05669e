#include "preload/real.h"

#include <elf.h>
#include <link.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct hf_real hf_real;

/* Where our own dynamic section is: how we find ourselves in the linker's list. */
extern ElfW(Dyn) _DYNAMIC[] __attribute__((visibility("hidden")));

/* What a look-up needs of one object. */
typedef ElfW(Sym) elf_symbol;

struct object {
	const elf_symbol *symbols;
	const char *strings;
	const ElfW(Versym) * versions;
	const uint32_t *gnu_hash;
	const ElfW(Word) * sysv_hash;
	ElfW(Addr) base;
};

/* glibc stores relocated addresses in the dynamic section on the architectures we know; the vdso's is read-only and
 * keeps offsets. */
static uintptr_t address(const struct link_map *map, ElfW(Addr) value)
{
	return value < map->l_addr ? map->l_addr + value : value;
}

static bool object_read(const struct link_map *map, struct object *object)
{
	memset(object, 0, sizeof(*object));
	object->base = map->l_addr;
	if (map->l_ld == NULL)
		return false;
	for (const ElfW(Dyn) *d = map->l_ld; d->d_tag != DT_NULL; d++) {
		uintptr_t at = address(map, d->d_un.d_ptr);

		if (d->d_tag == DT_SYMTAB)
			object->symbols = (const void *)at;
		else if (d->d_tag == DT_STRTAB)
			object->strings = (const void *)at;
		else if (d->d_tag == DT_VERSYM)
			object->versions = (const void *)at;
		else if (d->d_tag == DT_GNU_HASH)
			object->gnu_hash = (const void *)at;
		else if (d->d_tag == DT_HASH)
			object->sysv_hash = (const void *)at;
	}
	return object->symbols != NULL && object->strings != NULL &&
	       (object->gnu_hash != NULL || object->sysv_hash != NULL);
}

/* What may be meant by a name. */
enum want { WANT_FUNCTION, WANT_ANY };

/* Symbol INDEX if it defines NAME in its default version. */
static const elf_symbol *symbol_match(const struct object *object, uint32_t index, const char *name, enum want want)
{
	enum { VERSION_HIDDEN = 0x8000 };
	const elf_symbol *sym = &object->symbols[index];
	unsigned type = ELF64_ST_TYPE(sym->st_info);

	if (sym->st_shndx == SHN_UNDEF || sym->st_value == 0)
		return NULL;
	if (type != STT_FUNC && type != STT_GNU_IFUNC && (want == WANT_FUNCTION || type != STT_OBJECT))
		return NULL;
	if (ELF64_ST_BIND(sym->st_info) == STB_LOCAL || strcmp(object->strings + sym->st_name, name) != 0)
		return NULL;
	if (object->versions != NULL && (object->versions[index] & VERSION_HIDDEN) != 0)
		return NULL;
	return sym;
}

static void *symbol_address(const struct object *object, const elf_symbol *sym)
{
	if (sym == NULL)
		return NULL;
	if (ELF64_ST_TYPE(sym->st_info) == STT_GNU_IFUNC)
		return ((void *(*)(void))(object->base + sym->st_value))();
	return (void *)(object->base + sym->st_value);
}

static uint32_t gnu_hash_of(const char *name)
{
	uint32_t h = 5381;

	for (const unsigned char *p = (const unsigned char *)name; *p != '\0'; p++)
		h = h * 33 + *p;
	return h;
}

/* The layout of DT_GNU_HASH: nbuckets, first symbol, bloom words, bloom shift; bloom; buckets; chains. */
static const elf_symbol *gnu_lookup(const struct object *object, const char *name, uint32_t hash, enum want want)
{
	const uint32_t *head = object->gnu_hash;
	uint32_t nbuckets = head[0], first = head[1], nbloom = head[2], shift = head[3];
	const ElfW(Addr) *bloom = (const void *)(head + 4);
	const uint32_t *buckets = (const void *)(bloom + nbloom);
	const uint32_t *chains = buckets + nbuckets;
	const unsigned bits = sizeof(ElfW(Addr)) * 8;
	uint32_t index;

	if (nbuckets == 0 || nbloom == 0)
		return NULL;
	ElfW(Addr) word = bloom[(hash / bits) % nbloom];

	if (((word >> (hash % bits)) & (word >> ((hash >> shift) % bits)) & 1) == 0)
		return NULL;
	index = buckets[hash % nbuckets];
	if (index < first)
		return NULL;
	for (;; index++) {
		uint32_t link = chains[index - first];
		const elf_symbol *found;

		if ((link | 1) == (hash | 1) && (found = symbol_match(object, index, name, want)) != NULL)
			return found;
		if ((link & 1) != 0)
			return NULL;
	}
}

static const elf_symbol *object_lookup(const struct object *object, const char *name, uint32_t hash, enum want want)
{
	if (object->gnu_hash != NULL)
		return gnu_lookup(object, name, hash, want);
	for (uint32_t i = 0; i < object->sysv_hash[1]; i++) {
		const elf_symbol *found = symbol_match(object, i, name, want);

		if (found != NULL)
			return found;
	}
	return NULL;
}

/* The C library and whatever else is loaded behind us; far more than any program preloads or links. */
enum { MAX_OBJECTS = 512 };

/* Every interposed name, and its place in hf_real. */
static const struct name {
	const char *name;
	size_t offset;
} names[] = {
#define X(ret, name, params, args) {#name, offsetof(struct hf_real, name)},
	HF_CALLS(X) HF_CALLS_SPECIAL(X)
#undef X
};

enum { COUNT = sizeof(names) / sizeof(names[0]) };

static const struct link_map *behind_us(void)
{
	const struct link_map *map = _r_debug.r_map;

	while (map != NULL && map->l_ld != _DYNAMIC)
		map = map->l_next;
	return map != NULL ? map->l_next : NULL;
}

void hf_real_resolve(void)
{
	const struct link_map *map;
	uint32_t hashes[COUNT];
	void *found[COUNT];
	int objects = 0;

	for (size_t i = 0; i < COUNT; i++) {
		hashes[i] = gnu_hash_of(names[i].name);
		found[i] = NULL;
	}
	for (map = behind_us(); map != NULL && objects < MAX_OBJECTS; map = map->l_next) {
		struct object object;

		if (!object_read(map, &object))
			continue;
		objects++;
		for (size_t i = 0; i < COUNT; i++)
			if (found[i] == NULL)
				found[i] = symbol_address(
					&object, object_lookup(&object, names[i].name, hashes[i], WANT_FUNCTION));
	}
	for (size_t i = 0; i < COUNT; i++)
		__atomic_store_n((void **)((char *)&hf_real + names[i].offset), found[i], __ATOMIC_RELAXED);
}

const struct link_map *hf_real_locate(const char *const *wanted, struct hf_symbol *found, size_t count)
{
	int objects = 0;

	for (const struct link_map *map = behind_us(); map != NULL && objects < MAX_OBJECTS; map = map->l_next) {
		struct object object;

		if (!object_read(map, &object))
			continue;
		objects++;
		for (size_t i = 0; i < count; i++) {
			const elf_symbol *sym = object_lookup(&object, wanted[i], gnu_hash_of(wanted[i]), WANT_ANY);

			found[i].at = symbol_address(&object, sym);
			found[i].size = sym != NULL ? sym->st_size : 0;
			if (i == 0 && sym == NULL)
				break;
		}
		if (count > 0 && found[0].at != NULL)
			return map;
	}
	return NULL;
}

void *hf_real_vdso(uintptr_t at, const char *name)
{
	struct object object;

	for (const struct link_map *map = at != 0 ? _r_debug.r_map : NULL; map != NULL; map = map->l_next)
		if (map->l_addr == at)
			return object_read(map, &object)
				       ? symbol_address(&object,
							object_lookup(&object, name, gnu_hash_of(name), WANT_FUNCTION))
				       : NULL;
	return NULL;
}
