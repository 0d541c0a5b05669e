#include "metrics_text.h"

#include "config.h"
#include "view_state.h"
#include "view_text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* What is summed of the connections of one program. */
struct program {
	char name[48];
	uint64_t connections;
	uint64_t by_kind[2][3]; /* probe, wrap; role: unknown, client, server */
	uint64_t by_health[HF_FINE + 1];
	uint64_t unread, unacked, peer_unread, sent, received, beats_sent, beats_received;
	uint64_t idle, silent; /* the longest, ms */
	uint64_t rtt;          /* the longest, us */
};

struct text {
	FILE *out;
	bool openmetrics;
	struct program *programs;
	size_t count;
};

static const char *const modes[] = {"probe", "wrap"};
static const char *const roles[] = {"unknown", "client", "server"};
static const char *const healths[HF_FINE + 1] = {"dead", "late", "stalled", "half_closed", "opening", "established"};

/* Sums */

static void sum_up(struct program *program, const struct hf_seen *seen, uint64_t now)
{
	const struct hf_arena_view *view = &seen->view;
	uint64_t idle = hf_view_idle(view, now), silent = hf_since(now, view->heard_at);

	program->connections++;
	program->by_kind[view->mode == HF_MODE_WRAP][view->role <= 2 ? view->role : 0]++;
	program->by_health[hf_view_health(view)]++;
	program->unread += view->unread;
	program->unacked += view->unacked;
	program->peer_unread += view->more.peer_unread;
	program->sent += view->sent;
	program->received += view->received;
	program->beats_sent += view->more.beats_sent;
	program->beats_received += view->more.beats_received;
	program->idle = idle > program->idle ? idle : program->idle;
	program->silent = silent > program->silent ? silent : program->silent;
	program->rtt = view->rtt_us > program->rtt ? view->rtt_us : program->rtt;
}

static void merge(struct program *to, const struct program *from)
{
	/* All numbers but the three last, which are no sums, stand in a row. */
	const size_t first = offsetof(struct program, connections), end = offsetof(struct program, idle);

	for (size_t at = first; at < end; at += sizeof(uint64_t)) {
		uint64_t a, b;

		memcpy(&a, (char *)to + at, sizeof a);
		memcpy(&b, (const char *)from + at, sizeof b);
		a += b;
		memcpy((char *)to + at, &a, sizeof a);
	}
	to->idle = from->idle > to->idle ? from->idle : to->idle;
	to->silent = from->silent > to->silent ? from->silent : to->silent;
	to->rtt = from->rtt > to->rtt ? from->rtt : to->rtt;
}

static int by_program(const void *left, const void *right, void *arg)
{
	const struct hf_snapshot *snapshot = arg;

	return strcmp(snapshot->seen[*(const uint32_t *)left].prog, snapshot->seen[*(const uint32_t *)right].prog);
}

static int by_size(const void *left, const void *right)
{
	const struct program *a = left, *b = right;

	if (a->connections != b->connections)
		return a->connections < b->connections ? 1 : -1;
	return strcmp(a->name, b->name);
}

static bool sum_programs(struct text *text, const struct hf_snapshot *snapshot)
{
	uint32_t *order = calloc(snapshot->count + 1, sizeof *order);
	size_t count = 0;

	text->programs = calloc(snapshot->count + 1, sizeof *text->programs);
	if (!order || !text->programs) {
		free(order);
		return false;
	}
	for (size_t i = 0; i < snapshot->count; i++)
		order[i] = (uint32_t)i;
	if (snapshot->count > 1)
		qsort_r(order, snapshot->count, sizeof *order, by_program, (void *)snapshot);
	for (size_t i = 0; i < snapshot->count; i++) {
		const struct hf_seen *seen = &snapshot->seen[order[i]];

		if (count == 0 || strcmp(text->programs[count - 1].name, seen->prog) != 0)
			memcpy(text->programs[count++].name, seen->prog, sizeof seen->prog);
		sum_up(&text->programs[count - 1], seen, snapshot->now);
	}
	free(order);
	if (count > 1)
		qsort(text->programs, count, sizeof *text->programs, by_size);
	for (size_t i = HF_METRICS_PROGRAMS; i < count; i++) {
		if (i > HF_METRICS_PROGRAMS)
			merge(&text->programs[HF_METRICS_PROGRAMS], &text->programs[i]);
		memcpy(text->programs[HF_METRICS_PROGRAMS].name, "other", 6);
	}
	text->count = count > HF_METRICS_PROGRAMS ? HF_METRICS_PROGRAMS + 1 : count;
	return true;
}

/* Lines */

/* In the older format a counter's name includes "_total" everywhere, and there are no units. */
static void family(const struct text *text, const char *name, const char *type, const char *unit, const char *help)
{
	const char *total = !text->openmetrics && strcmp(type, "counter") == 0 ? "_total" : "";

	fprintf(text->out, "# TYPE holdfast_%s%s %s\n", name, total, type);
	if (text->openmetrics && unit)
		fprintf(text->out, "# UNIT holdfast_%s %s\n", name, unit);
	fprintf(text->out, "# HELP holdfast_%s%s %s\n", name, total, help);
}

/* Escaped twice: what no terminal likes (view_text.h), and then what the format wants. */
static void put_label(FILE *out, const char *value)
{
	struct hf_plain plain = hf_plain(value, strlen(value));

	for (const char *c = plain.text; *c; c++) {
		if (*c == '"' || *c == '\\')
			fputc('\\', out);
		fputc(*c, out);
	}
}

static void start_line(const struct text *text, const char *name, const struct program *program)
{
	fprintf(text->out, "holdfast_%s{program=\"", name);
	put_label(text->out, program->name);
	fputc('"', text->out);
}

static void one(const struct text *text, const char *name, const char *help, uint64_t value)
{
	family(text, name, "gauge", NULL, help);
	fprintf(text->out, "holdfast_%s %" PRIu64 "\n", name, value);
}

static void put_connections(const struct text *text)
{
	family(text, "connections", "gauge", NULL, "Watched connections.");
	for (size_t i = 0; i < text->count; i++) {
		for (int mode = 0; mode < 2; mode++) {
			for (int role = 0; role < 3; role++) {
				uint64_t n = text->programs[i].by_kind[mode][role];

				if (n == 0)
					continue;
				start_line(text, "connections", &text->programs[i]);
				fprintf(text->out, ",mode=\"%s\",role=\"%s\"} %" PRIu64 "\n", modes[mode], roles[role],
					n);
			}
		}
	}
	family(text, "connections_by_state", "gauge", NULL, "The same by what is known of them.");
	for (size_t i = 0; i < text->count; i++) {
		for (int health = 0; health <= HF_FINE; health++) {
			start_line(text, "connections_by_state", &text->programs[i]);
			fprintf(text->out, ",state=\"%s\"} %" PRIu64 "\n", healths[health],
				text->programs[i].by_health[health]);
		}
	}
}

static uint64_t field(const struct program *program, size_t offset)
{
	uint64_t value;

	memcpy(&value, (const char *)program + offset, sizeof value);
	return value;
}

static void put_sums(const struct text *text)
{
	static const struct sum {
		const char *name, *unit, *help;
		size_t offset;
		double scale;
	} sums[] = {
#define SUM(field) offsetof(struct program, field)
		{"unread_bytes", "bytes", "Received, and not read by the program.", SUM(unread), 1},
		{"unacked_bytes", "bytes", "Written, and not yet with the peer's host.", SUM(unacked), 1},
		{"peer_unread_bytes", "bytes", "Not read by the peer's program, as of its last beat (wrap).",
		 SUM(peer_unread), 1},
		{"open_sent_bytes", "bytes", "Sent on the connections that are open now.", SUM(sent), 1},
		{"open_received_bytes", "bytes", "Received on the connections that are open now.", SUM(received), 1},
		{"open_beats_sent", NULL, "Beats sent on the connections that are open now (wrap).", SUM(beats_sent),
		 1},
		{"open_beats_received", NULL, "Beats received on them.", SUM(beats_received), 1},
		{"idle_max_seconds", "seconds", "Longest time without a byte.", SUM(idle), 1e-3},
		{"silent_max_seconds", "seconds", "Longest time without a sign of life of the peer's host.",
		 SUM(silent), 1e-3},
		{"round_trip_max_seconds", "seconds", "Longest round trip.", SUM(rtt), 1e-6},
#undef SUM
	};

	for (size_t i = 0; i < sizeof sums / sizeof sums[0]; i++) {
		family(text, sums[i].name, "gauge", sums[i].unit, sums[i].help);
		for (size_t j = 0; j < text->count; j++) {
			uint64_t value = field(&text->programs[j], sums[i].offset);

			start_line(text, sums[i].name, &text->programs[j]);
			if (sums[i].scale == 1)
				fprintf(text->out, "} %" PRIu64 "\n", value);
			else
				fprintf(text->out, "} %.15g\n", (double)value * sums[i].scale);
		}
	}
}

static void put_counters(const struct text *text, const struct hf_arena_counts *counts)
{
	family(text, "events", "counter", NULL, "Events, told or not.");
	for (unsigned i = 0; i < HF_EV_COUNT; i++)
		fprintf(text->out, "holdfast_events_total{event=\"%s\"} %" PRIu64 "\n", hf_event_of(i),
			(uint64_t)counts->events[i]);
	family(text, "dead", "counter", NULL, "Dead verdicts by reason.");
	for (unsigned i = HF_WHY_NONE + 1; i < HF_WHY_COUNT; i++)
		fprintf(text->out, "holdfast_dead_total{reason=\"%s\"} %" PRIu64 "\n", hf_reason_of(i),
			(uint64_t)counts->dead[i]);
	family(text, "connections_watched", "counter", NULL, "Connections that came to be watched.");
	fprintf(text->out, "holdfast_connections_watched_total %" PRIu64 "\n", (uint64_t)counts->watched);
	family(text, "connections_ended", "counter", NULL, "Connections that are no longer watched.");
	fprintf(text->out, "holdfast_connections_ended_total %" PRIu64 "\n", (uint64_t)counts->ended);
}

/* Bucket B counts what is below 2^B units; the last one the rest.  SCALE: seconds a unit. */
static void put_histogram(const struct text *text, const char *name, const char *help,
			  const _Atomic uint64_t buckets[HF_COUNT_BUCKETS], uint64_t sum, double scale)
{
	uint64_t count = 0;

	family(text, name, "histogram", "seconds", help);
	for (int i = 0; i < HF_COUNT_BUCKETS; i++) {
		count = buckets[i] > UINT64_MAX - count ? UINT64_MAX : count + buckets[i];
		if (i < HF_COUNT_BUCKETS - 1)
			fprintf(text->out, "holdfast_%s_bucket{le=\"%.15g\"} %" PRIu64 "\n", name,
				(double)(UINT64_C(1) << i) * scale, count);
		else
			fprintf(text->out, "holdfast_%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, count);
	}
	fprintf(text->out, "holdfast_%s_sum %.15g\n", name, (double)sum * scale);
	fprintf(text->out, "holdfast_%s_count %" PRIu64 "\n", name, count);
}

bool hf_metrics_text(FILE *out, const struct hf_snapshot *snapshot, bool openmetrics)
{
	const struct hf_arena_counts *counts = &snapshot->sums.counts;
	struct text text = {.out = out, .openmetrics = openmetrics};
	bool good = sum_programs(&text, snapshot);

	if (good) {
		family(&text, openmetrics ? "build" : "build_info", openmetrics ? "info" : "gauge", NULL,
		       "Version of the tool.");
		fprintf(out, "holdfast_build_info{version=\"%s\"} 1\n", HF_VERSION);
		one(&text, "processes", "Processes with the library that were found.", snapshot->processes);
		one(&text, "processes_hidden", "Processes of other users that could not be looked into.",
		    snapshot->hidden);
		put_connections(&text);
		put_sums(&text);
		put_counters(&text, counts);
		put_histogram(&text, "round_trip_seconds", "Round trips, one a look at a connection that moved.",
			      counts->rtt_us, counts->rtt_sum, 1e-6);
		put_histogram(&text, "detection_seconds", "Silence before a dead verdict.", counts->detection_ms,
			      counts->detection_sum, 1e-3);
		if (openmetrics)
			fputs("# EOF\n", out);
	}
	free(text.programs);
	return good;
}
