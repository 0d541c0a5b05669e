/*
 * A server for one kind of request, GET /metrics: one at a time, each bounded in size and time.  Not for untrusted
 * networks; it answers whoever reaches it.
 */
#ifndef HOLDFAST_METRICS_SERVE_H
#define HOLDFAST_METRICS_SERVE_H

#include <stdbool.h>
#include <stdio.h>

enum { HF_METRICS_WRONG = -2 };

/* PORT, :PORT, ADDRESS:PORT or [ADDRESS]:PORT, by default on loopback.  The listening socket; after a message
 * HF_METRICS_WRONG if WHERE is none of these, -1 if it cannot be used. */
int hf_metrics_listen(const char *where);

/* Answer for ever.  MAKE writes the text; OPENMETRICS: in that format.  Returns after a message when it cannot go on.
 */
void hf_metrics_serve(int listener, bool (*make)(FILE *out, bool openmetrics, void *arg), void *arg);

#endif
