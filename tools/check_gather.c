#include "check_gather.h"

#include "elf_libs.h"

#include <bsd/string.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What glibc's parts import is how they do what the library wraps at their front. */
static bool is_glibc(const char *library)
{
	static const char *const parts[] = {"libc.so.",    "libm.so.",   "libdl.so.",     "libpthread.so.", "librt.so.",
					    "libutil.so.", "libanl.so.", "libresolv.so.", "libgcc_s.so.",   "ld-linux"};

	for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
		if (strncmp(library, parts[i], strlen(parts[i])) == 0)
			return true;
	}
	return false;
}

static const char *base_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static void take_import(const char *name, void *object)
{
	hf_imports_add(&((struct hf_object *)object)->imports, name);
}

/* LIBRARY, needed by the program, as the next object. */
static void gather_library(struct hf_gathered *gathered, const char *library)
{
	struct hf_object *object = &gathered->objects[gathered->nobjects++];
	char path[PATH_MAX];
	struct hf_elf elf;
	int fd = -1;

	strlcpy(object->name, base_of(library), sizeof object->name);
	object->is_library = true;
	if (hf_elf_library(&gathered->program.elf, gathered->program.path, library, path, sizeof path))
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return;
	object->found = true;
	hf_elf_read(fd, &elf);
	hf_elf_imports(&elf, take_import, object);
	hf_elf_close(&elf);
	close(fd);
}

static bool gather_objects(struct hf_gathered *gathered)
{
	const struct hf_elf *elf = &gathered->program.elf;
	struct hf_object *program;

	gathered->objects = calloc(elf->nneeded + 1, sizeof *gathered->objects);
	if (!gathered->objects)
		return false;
	program = &gathered->objects[gathered->nobjects++];
	strlcpy(program->name, base_of(gathered->program.path), sizeof program->name);
	program->found = true;
	hf_elf_imports(elf, take_import, program);
	for (size_t i = 0; i < elf->nneeded; i++) {
		hf_imports_needs(&program->imports, base_of(elf->needed[i]));
		if (!is_glibc(base_of(elf->needed[i])))
			gather_library(gathered, elf->needed[i]);
	}
	return true;
}

/* The dynamic linkers of glibc on the machines the library is for. */
static bool is_glibc_loader(const char *interp)
{
	return strcmp(base_of(interp), "ld-linux-x86-64.so.2") == 0 ||
	       strcmp(base_of(interp), "ld-linux-aarch64.so.1") == 0;
}

static bool needs_musl(const struct hf_elf *elf)
{
	bool found = strstr(elf->interp, "ld-musl") != NULL;

	for (size_t i = 0; i < elf->nneeded; i++)
		found |= strncmp(base_of(elf->needed[i]), "libc.musl", 9) == 0;
	return found;
}

static void find_by_header(struct hf_gathered *gathered)
{
	const struct hf_program *program = &gathered->program;
	const struct hf_elf *elf = &program->elf;
	bool *found = gathered->found;

	found[HF_FOUND_MACHINE] = !elf->native;
	if (!elf->native)
		return;
	found[HF_FOUND_STATIC] = !elf->has_interp;
	found[HF_FOUND_PRIVILEGED] = elf->has_interp && program->privileged;
	found[HF_FOUND_SET_ID] = elf->has_interp && !program->privileged &&
				 (program->set_uid || program->set_gid || program->capabilities);
	found[HF_FOUND_MUSL] = elf->has_interp && needs_musl(elf);
	found[HF_FOUND_LOADER] = elf->has_interp && !found[HF_FOUND_MUSL] && !is_glibc_loader(elf->interp);
	found[HF_FOUND_GO] = elf->is_go;
	found[HF_FOUND_TORN] = elf->torn;
}

static void find_by_imports(struct hf_gathered *gathered)
{
	bool sockets = false;

	for (size_t i = 0; i < gathered->nobjects; i++) {
		const struct hf_object *object = &gathered->objects[i];

		for (int f = 0; f < HF_FOUND_COUNT; f++)
			gathered->found[f] |= hf_imports_show(&object->imports, (enum hf_finding)f, object->is_library);
		gathered->found[HF_FOUND_MISSING] |= !object->found;
		sockets |= hf_imports_sockets(&object->imports);
	}
	if (gathered->found[HF_FOUND_STDIO])
		gathered->found[HF_FOUND_STDIO_MAYBE] = false;
	gathered->found[HF_FOUND_NO_SOCKETS] = !sockets;
}

static enum hf_weight worse(enum hf_weight a, enum hf_weight b)
{
	return a > b ? a : b;
}

const char *hf_gather(struct hf_gathered *gathered, const char *command)
{
	struct hf_program *program = &gathered->program;
	const char *problem;

	memset(gathered, 0, sizeof *gathered);
	problem = hf_program_look(program, command);
	if (problem)
		return problem;
	if (!program->is_elf)
		return "neither a program nor a script with #!";
	if (program->elf.native && program->elf.type != ET_EXEC && program->elf.type != ET_DYN)
		return "not a program";
	if (program->elf.native && !program->elf.has_interp && program->elf.nneeded > 0)
		return "a library, not a program";
	find_by_header(gathered);
	if (!gather_objects(gathered))
		return strerror(ENOMEM);
	/* Of one that cannot be preloaded into, nothing else matters; without symbols nothing else is known either. */
	if (program->elf.native && program->elf.has_interp)
		find_by_imports(gathered);
	for (int f = 0; f < HF_FOUND_COUNT; f++) {
		if (!gathered->found[f])
			continue;
		gathered->probe = worse(gathered->probe, hf_means[f].probe.weight);
		gathered->wrap = worse(gathered->wrap, hf_means[f].wrap.weight);
	}
	return NULL;
}

void hf_gathered_free(struct hf_gathered *gathered)
{
	hf_program_close(&gathered->program);
	free(gathered->objects);
	gathered->objects = NULL;
	gathered->nobjects = 0;
}
