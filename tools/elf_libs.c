#include "elf_libs.h"

#include "elf_look.h"

#include <bsd/string.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#if defined(__x86_64__)
#define MULTIARCH "x86_64-linux-gnu"
enum { CACHE_FLAGS = 0x0303 }; /* FLAG_X8664_LIB64 | FLAG_ELF_LIBC6, glibc's ldconfig.h */
#elif defined(__aarch64__)
#define MULTIARCH "aarch64-linux-gnu"
enum { CACHE_FLAGS = 0x0a03 }; /* FLAG_AARCH64_LIB64 | FLAG_ELF_LIBC6 */
#endif

static bool usable(const char *path)
{
	return hf_elf_library_problem(path) == NULL;
}

/* One directory of a search path, N bytes, "$ORIGIN" (or "${ORIGIN}") at its beginning replaced, with NAME behind. */
static bool try_directory(const char *directory, size_t n, const char *object, const char *name, char *path,
			  size_t size)
{
	static const char *const origins[] = {"$ORIGIN", "${ORIGIN}"};
	const char *slash = strrchr(object, '/');
	int written = -1;

	for (size_t i = 0; i < 2; i++) {
		size_t skip = strlen(origins[i]);

		if (n >= skip && strncmp(directory, origins[i], skip) == 0)
			written = snprintf(path, size, "%.*s%.*s/%s", slash ? (int)(slash - object) : 1,
					   slash ? object : ".", (int)(n - skip), directory + skip, name);
	}
	if (written < 0 && memchr(directory, '$', n))
		return false; /* $LIB and $PLATFORM: hardly ever used */
	if (written < 0)
		written = snprintf(path, size, "%.*s/%s", n ? (int)n : 1, n ? directory : ".", name);
	return written > 0 && (size_t)written < size && usable(path);
}

/* LIST: directories with colons (or, in LD_LIBRARY_PATH, semicolons); NULL: none. */
static bool try_list(const char *list, const char *object, const char *name, char *path, size_t size)
{
	while (list) {
		size_t n = strcspn(list, ":;");

		if (n < PATH_MAX && try_directory(list, n, object, name, path, size))
			return true;
		list = list[n] ? list + n + 1 : NULL;
	}
	return false;
}

/* /etc/ld.so.cache as ldconfig(8) of glibc 2.31 and later writes it; glibc's dl-cache.h. */
struct cache_header {
	char magic[20]; /* "glibc-ld.so.cache1.1" */
	uint32_t entries, strings;
	uint32_t unused[5];
};

struct cache_entry {
	int32_t flags;
	uint32_t name, path, os;
	uint64_t hwcap;
};

static char *read_cache(size_t *size)
{
	enum { MOST = 16 << 20 };
	int fd = open("/etc/ld.so.cache", O_RDONLY | O_CLOEXEC);
	char *cache = NULL;
	struct stat st;

	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) == 0 && st.st_size > 0 && st.st_size < MOST)
		cache = malloc((size_t)st.st_size + 1);
	if (cache) {
		ssize_t n = pread(fd, cache, (size_t)st.st_size, 0);

		*size = n > 0 ? (size_t)n : 0;
		cache[*size] = '\0';
	}
	close(fd);
	return cache;
}

static bool try_cache(const char *name, char *path, size_t size)
{
	struct cache_header header;
	size_t length = 0;
	char *cache = read_cache(&length);
	bool found = false;

	if (cache && length >= sizeof header) {
		memcpy(&header, cache, sizeof header);
		if (memcmp(header.magic, "glibc-ld.so.cache1.1", sizeof header.magic) != 0)
			header.entries = 0;
		for (size_t i = 0; i < header.entries && !found; i++) {
			struct cache_entry entry;

			if (i >= (length - sizeof header) / sizeof entry)
				break;
			memcpy(&entry, cache + sizeof header + i * sizeof entry, sizeof entry);
			found = entry.flags == CACHE_FLAGS && entry.hwcap == 0 && entry.name < length &&
				entry.path < length && strcmp(cache + entry.name, name) == 0 &&
				strlcpy(path, cache + entry.path, size) < size && usable(path);
		}
	}
	free(cache);
	return found;
}

bool hf_elf_library(const struct hf_elf *elf, const char *object, const char *name, char *path, size_t size)
{
	static const char standard[] = "/lib/" MULTIARCH ":/usr/lib/" MULTIARCH ":/lib64:/usr/lib64:/lib:/usr/lib";

	if (strchr(name, '/'))
		return strlcpy(path, name, size) < size && usable(path);
	return (!elf->runpath && try_list(elf->rpath, object, name, path, size)) ||
	       try_list(getenv("LD_LIBRARY_PATH"), object, name, path, size) ||
	       try_list(elf->runpath, object, name, path, size) || try_cache(name, path, size) ||
	       try_list(standard, object, name, path, size);
}
