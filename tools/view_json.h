/* A connection as one JSON object: tests/view.schema.json.  Used by top and explain. */
#ifndef HOLDFAST_VIEW_JSON_H
#define HOLDFAST_VIEW_JSON_H

#include "arena_read.h"

#include <stdio.h>

/* The fields, without the braces; without newline. */
void hf_view_json(FILE *out, const struct hf_snapshot *snapshot, const struct hf_seen *seen);

/* ,"name":"text", of at most SIZE bytes; nothing if it is empty. */
void hf_json_text(FILE *out, const char *name, const char *text, size_t size);
/* ,"name":value */
void hf_json_number(FILE *out, const char *name, uint64_t value);

#endif
