/*
 * What "holdfast check" looks for and what it means: one table of findings and one of imported names.  Pure: no
 * system call, no allocation.  A line of the table changes when the library learns to handle the thing.
 */
#ifndef HOLDFAST_CHECK_MEANS_H
#define HOLDFAST_CHECK_MEANS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* In order of the report: what keeps the library out first. */
enum hf_finding {
	HF_FOUND_MACHINE,
	HF_FOUND_STATIC,
	HF_FOUND_PRIVILEGED,
	HF_FOUND_SET_ID,
	HF_FOUND_MUSL,
	HF_FOUND_LOADER,
	HF_FOUND_GO,
	HF_FOUND_IO_URING,
	HF_FOUND_SECCOMP,
	HF_FOUND_STDIO,
	HF_FOUND_EXEC,
	HF_FOUND_FORK,
	HF_FOUND_RAW_PROCESS,
	HF_FOUND_STDIO_MAYBE,
	HF_FOUND_INETD,
	HF_FOUND_SYSCALL,
	HF_FOUND_PRCTL,
	HF_FOUND_SENDFILE,
	HF_FOUND_DLOPEN,
	HF_FOUND_MISSING,
	HF_FOUND_TORN,
	HF_FOUND_NO_SOCKETS,
	HF_FOUND_COUNT
};

/* How much a finding matters to a mode.  The worst one is the verdict. */
enum hf_weight { HF_FINE, HF_LIMITS, HF_UNSAFE, HF_USELESS };

struct hf_meaning {
	enum hf_weight weight;
	const char *means; /* one line */
	const char *brief; /* for the verdict: "works, but BRIEF" or "is not loaded: BRIEF"; NULL when HF_FINE */
};

extern const struct hf_means {
	const char *name; /* in JSON, and before the sentence */
	const char *is;   /* what was found, one line */
	struct hf_meaning probe, wrap;
} hf_means[HF_FOUND_COUNT];

/* What one object imports, gathered name by name. */
enum { HF_IMPORT_WORDS = 3 };

struct hf_imports {
	uint64_t seen[HF_IMPORT_WORDS]; /* a bit for each name of the table */
	uint32_t groups;
};

void hf_imports_add(struct hf_imports *imports, const char *name);

/* An object needed: only liburing and libseccomp tell something by their names alone. */
void hf_imports_needs(struct hf_imports *imports, const char *library);

/* Whether IMPORTS, of the program itself or of a library, shows FINDING. */
bool hf_imports_show(const struct hf_imports *imports, enum hf_finding finding, bool is_library);

/* The Nth name that made IMPORTS show FINDING, or NULL. */
const char *hf_imports_because(const struct hf_imports *imports, enum hf_finding finding, size_t n);

/* Whether the object makes socket calls at all. */
bool hf_imports_sockets(const struct hf_imports *imports);

#endif
