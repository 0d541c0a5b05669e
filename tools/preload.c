#include "preload.h"

#include "command.h"
#include "elf_look.h"

#include <bsd/string.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LIBRARY "libholdfast.so"

#if defined(__x86_64__)
#define MULTIARCH "x86_64-linux-gnu"
#elif defined(__aarch64__)
#define MULTIARCH "aarch64-linux-gnu"
#endif

/* LD_PRELOAD is inherited by programs that run in other directories: a relative path would lose its meaning. */
static bool make_absolute(const char *given, char *path, size_t size)
{
	if (given[0] == '/')
		return strlcpy(path, given, size) < size;
	if (!getcwd(path, size)) {
		hf_tell("--library %s: current directory: %s", given, strerror(errno));
		return false;
	}
	return strlcat(path, "/", size) < size && strlcat(path, given, size) < size;
}

static bool check(const char *path)
{
	const char *problem = hf_elf_library_problem(path);

	if (problem) {
		hf_tell("%s: %s; expected " LIBRARY " built for this machine", path, problem);
		return false;
	}
	/* ld.so(8): both separate the entries of LD_PRELOAD, and nothing can quote them. */
	if (strpbrk(path, " :")) {
		hf_tell("%s: expected a path without spaces and colons, which LD_PRELOAD cannot name", path);
		return false;
	}
	return true;
}

/* The directory of the running tool, links resolved. */
static bool tool_directory(char *directory, size_t size)
{
	ssize_t n = readlink("/proc/self/exe", directory, size);

	if (n <= 0 || (size_t)n >= size)
		return false;
	directory[n] = '\0';
	*strrchr(directory, '/') = '\0';
	return true;
}

/* DIRECTORY/REST/libholdfast.so, "bin/.." cut short, if such a file exists. */
static bool try(const char *directory, const char *rest, char *path, size_t size)
{
	char joined[PATH_MAX];
	int n = snprintf(joined, sizeof joined, "%s%s/" LIBRARY, directory, rest);
	const char *slash = strrchr(directory, '/');

	if (slash && strncmp(rest, "/..", 3) == 0)
		n = snprintf(joined, sizeof joined, "%.*s%s/" LIBRARY, (int)(slash - directory), directory, rest + 3);
	return n > 0 && (size_t)n < sizeof joined && access(joined, F_OK) == 0 && strlcpy(path, joined, size) < size;
}

bool hf_preload_find(const char *given, char *path, size_t size)
{
	static const char *const places[] = {"", "/../lib", ("/../lib/" MULTIARCH), "/../lib/holdfast",
					     ("/../lib/" MULTIARCH "/holdfast")};
	char directory[PATH_MAX];
	bool found = false;

	if (given)
		return make_absolute(given, path, size) && check(path);
	if (tool_directory(directory, sizeof directory)) {
		for (size_t i = 0; i < sizeof places / sizeof places[0] && !found; i++)
			found = try(directory, places[i], path, size);
	} else {
		strlcpy(directory, "(unknown)", sizeof directory);
	}
	if (!found && !try(HF_LIBDIR, "", path, size)) {
		hf_tell("no " LIBRARY " in %s, its ../lib and ../lib/" MULTIARCH ", holdfast there, or " HF_LIBDIR
			"; give its path with --library",
			directory);
		return false;
	}
	return check(path);
}

/*
 * Whether the LD_PRELOAD entry ENTRY is a holdfast: this file by any name, or, where the entry is not a path that can
 * be looked at (a bare name that ld.so searches for, or "$LIB" in it), by that name.
 */
static bool same_library(const char *entry, const char *library)
{
	const char *base = strrchr(entry, '/');
	struct stat a, b;

	if (base && !strchr(entry, '$'))
		return stat(entry, &a) == 0 && stat(library, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
	return strcmp(base ? base + 1 : entry, LIBRARY) == 0;
}

/* Two of ours in one process would each take the other's calls for the program's. */
static bool another_holdfast(const char *entry)
{
	const char *base = strrchr(entry, '/');

	return base && strcmp(base + 1, LIBRARY) == 0 && access(entry, F_OK) == 0;
}

bool hf_preload_append(const char *old, const char *library, char **value)
{
	bool there = false;
	char *list = strdup(old ? old : ""), *rest = list, *entry;

	*value = NULL;
	while (list && (entry = strsep(&rest, " :"))) {
		if (same_library(entry, library)) {
			there = true;
		} else if (another_holdfast(entry)) {
			hf_tell("LD_PRELOAD: \"%s\": expected no other holdfast than %s", entry, library);
			free(list);
			return false;
		}
	}
	if (!list ||
	    asprintf(value, "%s%s%s", old ? old : "", old && *old && !there ? ":" : "", there ? "" : library) < 0) {
		hf_tell("LD_PRELOAD: %s", strerror(ENOMEM));
		*value = NULL;
	}
	free(list);
	return *value != NULL;
}
