/* Which events are wanted: the filters of "holdfast events".  Pure but for messages about wrong filters. */
#ifndef HOLDFAST_EVENT_MATCH_H
#define HOLDFAST_EVENT_MATCH_H

#include "event_line.h"

#include "config.h"

struct hf_event_match {
	uint32_t kinds;                 /* a bit for each kind; 0: all */
	uint32_t reasons;               /* the same */
	int level;                      /* the least important one; -1: all */
	const char *prog;               /* a glob; NULL: all */
	int pid;                        /* 0: all */
	uint64_t conn;                  /* 0: all */
	struct hf_config *local, *peer; /* with one rule that the address must match; NULL: all */
};

/* Comma lists of names into bits.  false after a message that begins with OPTION. */
bool hf_event_kinds(const char *option, const char *list, uint32_t *bits);
bool hf_event_reasons(const char *option, const char *list, uint32_t *bits);

/* "10.0.0.0/8:5432", "10.0.0.1", "[::1]:80", "::1", ":80" into *ADDRESS, to be freed.  false after a message. */
bool hf_event_address(const char *option, const char *text, struct hf_config **address);

/* Whether the event passes all filters but that of its kind. */
bool hf_event_matches(const struct hf_event_match *match, const struct hf_event_line *line);

#endif
