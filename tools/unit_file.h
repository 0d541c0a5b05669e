/* The syntax of systemd's unit files (systemd.syntax(7)): lines, words, and how to write a word of Environment=. */
#ifndef HOLDFAST_UNIT_FILE_H
#define HOLDFAST_UNIT_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Called for each assignment; VALUE without blanks at its ends, continued lines joined. */
typedef void hf_unit_take(const char *section, const char *key, const char *value, void *arg);

/* false: PATH cannot be read. */
bool hf_unit_parse(const char *path, hf_unit_take *take, void *arg);

/* The text of a file, at most a megabyte of it; NULL or to be freed. */
char *hf_unit_load(const char *path);

/* The next word of *AT, quotes and escapes resolved, cut if longer than SIZE allows.  false: no more. */
bool hf_unit_word(const char **at, char *word, size_t size);

/* NAME=VALUE as a line "Environment=...".  Control characters are not for it. */
void hf_unit_print_environment(FILE *out, const char *name, const char *value);

#endif
