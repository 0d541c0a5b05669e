/*
 * Why a connection is judged as it is, in sentences: the evidence, each timer, and what comes next.  Used by explain
 * and by the details of top.  Pure but for what it writes to OUT.
 */
#ifndef HOLDFAST_EXPLAIN_TEXT_H
#define HOLDFAST_EXPLAIN_TEXT_H

#include "arena_read.h"
#include "view_state.h"

#include <stdio.h>

/* Paragraphs of long lines, headings at the margin, the rest indented by two. */
void hf_explain(FILE *out, const struct hf_snapshot *snapshot, const struct hf_seen *seen);

/* The same as one JSON object, without newline: the fields of hf_view_json() and more (tests/view.schema.json). */
void hf_explain_json(FILE *out, const struct hf_snapshot *snapshot, const struct hf_seen *seen);

/* One sentence each: for these two, and for the tests. */
void hf_explain_state(FILE *out, const struct hf_arena_view *view, uint64_t now);
void hf_explain_timer(FILE *out, const struct hf_arena_view *view, enum hf_timer_kind kind,
		      const struct hf_timer *timer, uint64_t now);
void hf_explain_next(FILE *out, const struct hf_arena_view *view, uint64_t now);

#endif
