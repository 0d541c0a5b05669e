/*
 * What is on top's screen: drawn anew from this state after each look and each key.  Used by top_screen.c only; between
 * initscr(3) and endwin(3).
 */
#ifndef HOLDFAST_TOP_DRAW_H
#define HOLDFAST_TOP_DRAW_H

#include "arena_read.h"
#include "table.h"

enum hf_top_page { HF_TOP_LIST, HF_TOP_DETAILS, HF_TOP_HELP };

struct hf_top {
	struct hf_table *table;
	struct hf_snapshot snapshot;
	enum hf_top_page page;
	size_t selected, first; /* rows: under the bar, on the first line */
	uint64_t cookie;        /* which connection is under the bar, so that it stays there when rows move */
	int pid;
	struct hf_seen kept; /* in the details; shown on when it is gone */
	bool gone;
	int scrolled, lines; /* of the details and the help: lines above the screen, and in all */
	bool paused, typing; /* the filter is being typed */
	bool colours;
};

/* Colours, unless NO_COLOR forbids. */
void hf_top_colours(struct hf_top *top);

void hf_top_draw(struct hf_top *top);

/* Lines for rows, or for text, between the head and the foot. */
int hf_top_room(const struct hf_top *top);

#endif
