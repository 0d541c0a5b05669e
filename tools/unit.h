/*
 * A systemd service as its files describe it (systemd.unit(5), systemd.exec(5)): what matters to a preloaded library.
 * Reads the unit's fragment and drop-ins below a root directory; asks no running systemd, runs nothing.
 */
#ifndef HOLDFAST_UNIT_H
#define HOLDFAST_UNIT_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#define HF_DROP_IN "holdfast.conf"

struct hf_unit_place {
	const char *root; /* "" or a directory without a slash at its end */
	bool user;        /* units of the user's own manager */
};

enum { HF_UNIT_VALUE = 4096 };

struct hf_unit {
	char name[NAME_MAX + 1];     /* with its suffix */
	char fragment[PATH_MAX];     /* its file; "": none found */
	bool masked;                 /* linked to /dev/null */
	char preload[HF_UNIT_VALUE]; /* LD_PRELOAD as the files before our drop-in leave it, or "" */
	char later[PATH_MAX];        /* a file that sets LD_PRELOAD after our drop-in, or "" */
	char program[PATH_MAX];      /* first word of the last ExecStart=, below root; "": none */
	char root[PATH_MAX];         /* RootDirectory= or RootImage=, or "" */
};

/* NAME with ".service" added if it has no suffix.  false: it cannot be the name of a service. */
bool hf_unit_name(const char *name, char *full, size_t size);

/* Read all there is of the service NAME, a full name. */
void hf_unit_read(const struct hf_unit_place *place, const char *name, struct hf_unit *unit);

/* Where our drop-in for NAME goes: its directory, without a slash at the end.  false: no home, or too long. */
bool hf_unit_drop_in_directory(const struct hf_unit_place *place, const char *name, char *path, size_t size);

#endif
