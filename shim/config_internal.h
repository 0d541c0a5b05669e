/*
 * Settings, the inside: what config.c, config_parse.c, config_lists.c and rules.c share.
 *
 * Nobody else includes this but the launcher (hf_config_name) and the unit tests.  As in config.h everything is pure:
 * no system call, no allocation, no stdio, no locale, because it runs in the constructor of other people's programs.
 */
#ifndef HOLDFAST_CONFIG_INTERNAL_H
#define HOLDFAST_CONFIG_INTERNAL_H

#include "config.h"

/* A part of a value: not NUL-terminated. */
struct hf_slice {
	const char *at;
	size_t length;
};

/* What is wrong with a value: the part to show and a phrase that follows "expected ". */
struct hf_problem {
	struct hf_slice value;
	char expected[240];
};

/* One accepted word of a setting; tables end with a NULL text. */
struct hf_word {
	const char *text;
	unsigned value;
};

extern const struct hf_word hf_mode_words[];

/* Set PROBLEM and return false, so that a parser can "return hf_problem(...)". */
bool hf_problem(struct hf_problem *problem, struct hf_slice value, const char *expected);

struct hf_slice hf_slice(const char *text);
bool hf_slice_is(struct hf_slice slice, const char *text);

/* Take PREFIX off the front of SLICE, if it is there. */
bool hf_slice_skip(struct hf_slice *slice, const char *prefix);

/*
 * The next entry of a comma list, blanks around it removed; an empty entry ("a,,b", "a,") is returned as such.
 * *REST starts as the whole value and is NULL after the last entry; false when it was NULL already.
 */
bool hf_next_entry(const char **rest, struct hf_slice *entry);

/* A decimal number and nothing else; false for signs, blanks, no digits or more than UINT32_MAX. */
bool hf_parse_number(struct hf_slice slice, uint32_t *number);

/* The value of the word that SLICE is. */
bool hf_parse_word(const struct hf_word *words, struct hf_slice slice, unsigned *value);

/* Append "abort, report or reconnect" to TEXT, a buffer of SIZE bytes. */
void hf_add_words(char *text, size_t size, const struct hf_word *words);

/* Append a time as hf_parse_time() reads it: "50ms", "5s", "24h". */
void hf_add_time(char *text, size_t size, uint32_t ms);

/* Append a size as hf_parse_size() reads it: "65535", "64K", "1M". */
void hf_add_size(char *text, size_t size, uint32_t bytes);

/*
 * The settings that are more than a word or a number.  VALUE NULL: set the default and return true.  false: PROBLEM
 * is set and the fields are in any state; the caller then sets the default.
 */
typedef bool hf_setting_parser(struct hf_config *config, const char *value, struct hf_problem *problem);
hf_setting_parser hf_parse_rules, hf_parse_programs, hf_parse_sinks, hf_parse_key_file, hf_parse_info;

/* The name of the variable numbered INDEX from 0, NULL past the last: for usage and "did you mean". */
const char *hf_config_name(size_t index);

#endif
