/*
 * One line of HOLDFAST_FORMAT=json, read back: a flat JSON object with the fields of tests/report.schema.json.
 *
 * Strict: what the library does not write is no event, with one exception: further fields, of a later version, are
 * kept.  Whoever can write to the sink chooses the bytes: nothing is allocated, everything is bounded, and what is
 * accepted has no control characters in it.  Pure: no system call, no lock.
 */
#ifndef HOLDFAST_EVENT_LINE_H
#define HOLDFAST_EVENT_LINE_H

#include "report.h"

enum { HF_EVENT_LINE = 8192, HF_EVENT_FIELDS = 48, HF_EVENT_NAME = 32 };

struct hf_event_line {
	size_t nfields;
	struct {
		const char *name, *text; /* in store; text is decoded, or the digits of a number */
		bool is_number;
		int64_t number;
	} fields[HF_EVENT_FIELDS];
	struct hf_event event; /* texts in it point into store */
	const char *ts, *prog;
	int pid;
	enum hf_level level;
	char store[HF_EVENT_LINE + 1];
};

/* Read LENGTH bytes, a line without its newline.  false: it is no event. */
bool hf_event_line_read(struct hf_event_line *line, const char *bytes, size_t length);

/* The text of a field, or NULL. */
const char *hf_event_line_field(const struct hf_event_line *line, const char *name);

/* The sentence, with a newline, as the library would have written it in text format, into BUF of HF_LINE bytes. */
size_t hf_event_line_sentence(const struct hf_event_line *line, char *buf, size_t size);

/* The kind of an event, reason or level by its name; -1: none. */
int hf_event_kind_named(const char *name);
int hf_event_reason_named(const char *name);
int hf_event_level_named(const char *name);

#endif
