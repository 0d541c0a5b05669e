/*
 * Gathers what "holdfast check" judges: a program, the libraries it needs directly, and which findings they show.
 * One program at a time; hf_gathered_free() when done.
 */
#ifndef HOLDFAST_CHECK_GATHER_H
#define HOLDFAST_CHECK_GATHER_H

#include "check_means.h"
#include "elf_look.h"

enum { HF_OBJECT_NAME = 128 };

struct hf_object {
	char name[HF_OBJECT_NAME]; /* of the file, cut if longer */
	bool is_library;
	bool found; /* false: a library that is not here */
	struct hf_imports imports;
};

struct hf_gathered {
	struct hf_program program;
	struct hf_object *objects; /* the program, then its libraries but those of glibc */
	size_t nobjects;
	bool found[HF_FOUND_COUNT];
	enum hf_weight probe, wrap; /* the worst of all findings */
};

/* Look at COMMAND.  NULL, or why it cannot be judged; gathered->program.path then says where. */
const char *hf_gather(struct hf_gathered *gathered, const char *command);
void hf_gathered_free(struct hf_gathered *gathered);

#endif
