/*
 * The table of connections that top shows: columns, order, filter.  Pure but for the text it returns in its arguments.
 */
#ifndef HOLDFAST_TABLE_H
#define HOLDFAST_TABLE_H

#include "arena_read.h"

#include <stdbool.h>

enum hf_column {
	HF_COL_PROGRAM,
	HF_COL_PID,
	HF_COL_FD,
	HF_COL_ROLE,
	HF_COL_MODE,
	HF_COL_STATE,
	HF_COL_VERDICT,
	HF_COL_IDLE,
	HF_COL_RTT,
	HF_COL_TREND,
	HF_COL_UNREAD,
	HF_COL_THERE,
	HF_COL_BEATS,
	HF_COL_SENT,
	HF_COL_RECEIVED,
	HF_COL_AGE,
	HF_COL_PEER,
	HF_COL_PEER_PROGRAM,
	HF_COLUMNS
};

struct hf_table {
	enum hf_column sort;
	bool reverse;
	char filter[128]; /* words that all must occur in a row, "!word": must not; any case */
	bool utf8;        /* what the output can show */
	uint32_t *rows;   /* indices into the snapshot, in order */
	size_t count, room;
	int widths[HF_COLUMNS]; /* 0: not shown */
};

/* The column that sorts by NAME ("program", "rtt", "peer-program"...), or -1. */
int hf_column_find(const char *name);
const char *hf_column_name(enum hf_column column);

/* The rows of SNAPSHOT that pass, in order.  False without memory. */
bool hf_table_fill(struct hf_table *table, const struct hf_snapshot *snapshot);

/* Choose columns that fit into WIDTH; 0: all, as wide as they need. */
void hf_table_layout(struct hf_table *table, const struct hf_snapshot *snapshot, int width);

/* One line, without newline, cut to the layout.  TEXT gets at most SIZE bytes. */
void hf_table_head(const struct hf_table *table, char *text, size_t size);
void hf_table_row(const struct hf_table *table, const struct hf_snapshot *snapshot, size_t row, char *text,
		  size_t size);

/* TEXT in exactly WIDTH columns, or less for WIDTH < 0: cut, never inside a character. */
void hf_fit(char *out, size_t size, const char *text, int width, bool right, bool utf8);

#endif
