/*
 * The numbers of a snapshot as text for Prometheus.  How many lines there are does not depend on how many connections:
 * they are summed by program (the MOST with most connections, the others as "other"), mode and role.  Pure but for OUT.
 */
#ifndef HOLDFAST_METRICS_TEXT_H
#define HOLDFAST_METRICS_TEXT_H

#include "arena_read.h"

#include <stdio.h>

enum { HF_METRICS_PROGRAMS = 50 };

/*
 * OPENMETRICS: as application/openmetrics-text; version=1.0.0, else as text/plain; version=0.0.4, which is what the
 * textfile collector of node_exporter reads.  False without memory.
 */
bool hf_metrics_text(FILE *out, const struct hf_snapshot *snapshot, bool openmetrics);

#define HF_OPENMETRICS_TYPE "application/openmetrics-text; version=1.0.0; charset=utf-8"
#define HF_PROMETHEUS_TYPE  "text/plain; version=0.0.4; charset=utf-8"

#endif
