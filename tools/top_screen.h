/*
 * The full-screen view of top: ncurses(3), and nothing else of the tool knows it.
 */
#ifndef HOLDFAST_TOP_SCREEN_H
#define HOLDFAST_TOP_SCREEN_H

#include "arena_read.h"
#include "table.h"

/* Runs until the user leaves; PERIOD_MS between looks.  The exit status: 0, or 1 after a message on standard error. */
int hf_top_screen(struct hf_reader *reader, struct hf_table *table, unsigned period_ms);

#endif
