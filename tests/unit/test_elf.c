/* ELF files read with suspicion: what a good one says, and that a torn or lying one only gives less. */
#include "check_means.h"
#include "elf_file.h"
#include "elf_libs.h"
#include "elf_look.h"

#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

enum { MOST = 16384 };

static unsigned char image[MOST];
static size_t image_size;
static int scratch = -1;
static struct hf_elf elf;

/* A small dynamic program with everything in its first pages: kept for the fuzzer as well. */
static int load(void **state)
{
	const char *top = getenv("TOP");
	char path[PATH_MAX];
	FILE *file;

	(void)state;
	snprintf(path, sizeof path, "%s/tests/fuzz/corpus/fuzz_elf/dynamic", top ? top : ".");
	file = fopen(path, "r");
	scratch = memfd_create("elf", MFD_CLOEXEC);
	if (!file || scratch < 0)
		return -1;
	image_size = fread(image, 1, sizeof image, file);
	fclose(file);
	return image_size > sizeof(Elf64_Ehdr) && image_size < sizeof image ? 0 : -1;
}

static int unload(void **state)
{
	(void)state;
	return close(scratch);
}

static unsigned names;

static void count(const char *name, void *arg)
{
	(void)arg;
	names += strlen(name) > 0;
}

static void read_image(const void *bytes, size_t n)
{
	assert_int_equal(ftruncate(scratch, 0), 0);
	assert_int_equal(pwrite(scratch, bytes, n, 0), n);
	hf_elf_read(scratch, &elf);
	names = 0;
	hf_elf_imports(&elf, count, NULL);
	for (size_t i = 0; i < elf.nneeded; i++)
		assert_true(elf.needed[i] >= elf.strings && elf.needed[i] < elf.strings + elf.nstrings);
	assert_true(memchr(elf.interp, '\0', sizeof elf.interp) != NULL);
}

#ifdef __x86_64__
static bool imported;

static void find_connect(const char *name, void *arg)
{
	(void)arg;
	imported |= strcmp(name, "connect") == 0;
}

static void good(void **state)
{
	(void)state;
	read_image(image, image_size);
	assert_true(elf.is_elf && elf.native && elf.has_interp && elf.is_dynamic);
	assert_false(elf.torn || elf.is_go);
	assert_string_equal(elf.interp, "/lib64/ld-linux-x86-64.so.2");
	assert_int_equal(elf.nneeded, 1);
	assert_string_equal(elf.needed[0], "libc.so.6");
	imported = false;
	hf_elf_imports(&elf, find_connect, NULL);
	assert_true(imported);
	hf_elf_close(&elf);
}

/* Sections may be stripped off: the dynamic section is enough. */
static void no_sections(void **state)
{
	unsigned char copy[MOST];
	Elf64_Ehdr *header = (Elf64_Ehdr *)(void *)copy;

	(void)state;
	memcpy(copy, image, image_size);
	header->e_shoff = header->e_shnum = header->e_shstrndx = 0;
	read_image(copy, image_size);
	imported = false;
	hf_elf_imports(&elf, find_connect, NULL);
	assert_true(imported);
	hf_elf_close(&elf);
}

static void other_machines(void **state)
{
	unsigned char copy[MOST];

	(void)state;
	memcpy(copy, image, image_size);
	copy[EI_CLASS] = ELFCLASS32;
	copy[18] = EM_386;
	read_image(copy, image_size);
	assert_true(elf.is_elf && !elf.native);
	assert_int_equal(elf.bits, 32);
	assert_string_equal(hf_elf_machine(elf.machine), "i386");
	hf_elf_close(&elf);
	memcpy(copy, image, image_size);
	copy[EI_DATA] = ELFDATA2MSB;
	copy[18] = 0;
	copy[19] = EM_S390;
	read_image(copy, image_size);
	assert_true(!elf.native && strcmp(hf_elf_machine(elf.machine), "s390") == 0);
	hf_elf_close(&elf);
}
#endif

/* Cut at every length. */
static void truncated(void **state)
{
	(void)state;
	for (size_t n = 0; n < image_size; n++) {
		read_image(image, n);
		if (n < SELFMAG)
			assert_false(elf.is_elf);
		hf_elf_close(&elf);
	}
}

/* Every byte of headers, dynamic section and symbols, one at a time, in ways that make counts and offsets lie. */
static void corrupted(void **state)
{
	static const unsigned char lies[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
	unsigned char copy[MOST];

	(void)state;
	for (size_t i = 0; i < image_size; i++) {
		for (size_t k = 0; k < sizeof lies; k++) {
			memcpy(copy, image, image_size);
			copy[i] = lies[k];
			read_image(copy, image_size);
			hf_elf_close(&elf);
		}
	}
}

/* Eight bytes at once, so that offsets near the end of the number range are tried: sums of them would wrap. */
static void wrapping(void **state)
{
	static const uint64_t lies[] = {UINT64_MAX, UINT64_MAX - 63, INT64_MAX, UINT64_C(1) << 63, UINT32_MAX, 1 << 20};
	unsigned char copy[MOST];

	(void)state;
	for (size_t i = 0; i + 8 <= image_size; i += 4) {
		for (size_t k = 0; k < sizeof lies / sizeof lies[0]; k++) {
			memcpy(copy, image, image_size);
			memcpy(copy + i, &lies[k], sizeof lies[k]);
			read_image(copy, image_size);
			hf_elf_close(&elf);
		}
	}
}

static void no_elf(void **state)
{
	(void)state;
	read_image("#!/bin/sh\n", 10);
	assert_false(elf.is_elf || elf.native);
	hf_elf_close(&elf);
}

/* This program's own libc is where the dynamic linker found it. */
static void libraries(void **state)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	char path[PATH_MAX];
	bool found = false;

	(void)state;
	assert_true(fd >= 0);
	hf_elf_read(fd, &elf);
	assert_true(elf.native && elf.has_interp && elf.nneeded > 0);
	for (size_t i = 0; i < elf.nneeded; i++) {
		if (strcmp(elf.needed[i], "libc.so.6") == 0)
			found = hf_elf_library(&elf, "/proc/self/exe", elf.needed[i], path, sizeof path);
	}
	assert_true(found);
	assert_null(hf_elf_library_problem(path));
	assert_false(hf_elf_library(&elf, "/x", "libnone-such.so.0", path, sizeof path));
	hf_elf_close(&elf);
	close(fd);
}

static struct hf_imports imports_of(const char *const *list)
{
	struct hf_imports imports = {0};

	while (*list)
		hf_imports_add(&imports, *list++);
	return imports;
}

#define IMPORTS(...) imports_of((const char *const[]){__VA_ARGS__, NULL})

static void findings(void **state)
{
	struct hf_imports imports = IMPORTS("socket", "fdopen", "execv", "nothing");

	(void)state;
	assert_true(hf_imports_show(&imports, HF_FOUND_STDIO, false));
	assert_false(hf_imports_show(&imports, HF_FOUND_STDIO_MAYBE, false));
	assert_false(hf_imports_show(&imports, HF_FOUND_STDIO, true));
	assert_true(hf_imports_show(&imports, HF_FOUND_STDIO_MAYBE, true));
	assert_true(hf_imports_show(&imports, HF_FOUND_EXEC, false));
	assert_string_equal(hf_imports_because(&imports, HF_FOUND_EXEC, 0), "execv");
	assert_null(hf_imports_because(&imports, HF_FOUND_EXEC, 1));
	assert_false(hf_imports_show(&imports, HF_FOUND_FORK, false));
	imports = IMPORTS("fdopen", "dprintf"); /* on files */
	assert_false(hf_imports_show(&imports, HF_FOUND_STDIO, false));
	assert_false(hf_imports_sockets(&imports));
	imports = IMPORTS("getpeername", "printf"); /* inetd */
	assert_true(hf_imports_show(&imports, HF_FOUND_INETD, false));
	assert_true(hf_imports_show(&imports, HF_FOUND_STDIO, false));
	imports = IMPORTS("system", "popen");
	assert_true(hf_imports_show(&imports, HF_FOUND_EXEC, false));
	assert_true(hf_imports_show(&imports, HF_FOUND_RAW_PROCESS, false));
	imports = IMPORTS("prctl", "seccomp_load");
	assert_true(hf_imports_show(&imports, HF_FOUND_SECCOMP, false));
	assert_false(hf_imports_show(&imports, HF_FOUND_PRCTL, false));
	imports = IMPORTS("main");
	hf_imports_needs(&imports, "liburing.so.2");
	assert_true(hf_imports_show(&imports, HF_FOUND_IO_URING, false));
}

/* Every finding has its words, and a brief reason exactly when it weighs something. */
static void table(void **state)
{
	(void)state;
	for (int f = 0; f < HF_FOUND_COUNT; f++) {
		const struct hf_means *means = &hf_means[f];

		assert_true(means->name && means->is && means->probe.means && means->wrap.means);
		assert_int_equal(means->probe.weight != HF_FINE, means->probe.brief != NULL);
		assert_int_equal(means->wrap.weight != HF_FINE, means->wrap.brief != NULL);
		/* What limits probe mode limits wrap mode too; but for stdio, which wrap mode has pass through. */
		if (f != HF_FOUND_STDIO)
			assert_true(means->wrap.weight >= means->probe.weight);
		assert_null(strpbrk(means->is, "\"\\\n")); /* goes into JSON as it is */
		assert_null(strpbrk(means->probe.means, "\"\\\n"));
		assert_null(strpbrk(means->wrap.means, "\"\\\n"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#ifdef __x86_64__ /* what the image is made for */
		cmocka_unit_test(good),      cmocka_unit_test(no_sections), cmocka_unit_test(other_machines),
#endif
		cmocka_unit_test(truncated), cmocka_unit_test(corrupted),   cmocka_unit_test(wrapping),
		cmocka_unit_test(no_elf),    cmocka_unit_test(libraries),   cmocka_unit_test(findings),
		cmocka_unit_test(table),
	};

	return cmocka_run_group_tests(tests, load, unload);
}
