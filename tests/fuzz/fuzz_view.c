/*
 * Any arena into what `holdfast top`, explain and metrics make of it: no crash, no end that does not come, and texts
 * that a terminal, a JSON reader and Prometheus can take: printable UTF-8, whole lines, well-formed JSON.
 *
 * The arena is a small one as processes write it, in memory; the input changes bytes of it, before it is read and
 * between two reads, as a process does that is caught in the middle of writing.
 */
#include <stdint.h>
#include <sys/types.h>
#include <unistd.h>

/* The reader's own read, and its inside. */
static ssize_t read_image(int fd, void *to, size_t size, off_t at);
#define pread read_image
#include "../../tools/arena_read.c"
#undef pread

#include "explain_text.h"
#include "input.h"
#include "metrics_text.h"
#include "table.h"
#include "view_json.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { VIEWS = 6, PROCESS = 7, HANDLE = 1 << HF_ARENA_INDEX_BITS | PROCESS, MOST_LATER = 16, MOST_READS = 40000 };

static struct image {
	struct hf_arena head;
	char views[VIEWS * HF_ARENA_VIEW_SIZE], rtts[VIEWS * HF_ARENA_RTTS_SIZE], more[VIEWS * HF_ARENA_MORE_SIZE];
} good, image;

static struct later {
	unsigned reads; /* until it is written */
	char *at;
	size_t size;
	uint8_t bytes[8];
} later[MOST_LATER];
static size_t nlater;
static unsigned reads;
static bool head_changed = true;

static void check(bool fine)
{
	if (!fine)
		abort();
}

/* The image */

static size_t take_part(void *to, size_t size, uint64_t at, const void *part, size_t part_size, uint64_t part_at)
{
	size_t n;

	if (at < part_at || at >= part_at + part_size)
		return 0;
	n = (size_t)(part_at + part_size - at);
	n = n < size ? n : size;
	memcpy(to, (const char *)part + (at - part_at), n);
	return n;
}

static ssize_t read_image(int fd, void *to, size_t size, off_t at)
{
	size_t n;

	(void)fd;
	check(at >= 0 && (uint64_t)at + size <= HF_ARENA_SIZE && reads++ < MOST_READS);
	for (size_t i = 0; i < nlater; i++)
		if (later[i].reads-- == 0)
			memcpy(later[i].at, later[i].bytes, later[i].size);
	n = take_part(to, size, (uint64_t)at, &image.head, sizeof image.head, 0);
	n += n ? 0 : take_part(to, size, (uint64_t)at, image.views, sizeof image.views, HF_ARENA_VIEWS_AT);
	n += n ? 0 : take_part(to, size, (uint64_t)at, image.rtts, sizeof image.rtts, HF_ARENA_RTTS_AT);
	n += n ? 0 : take_part(to, size, (uint64_t)at, image.more, sizeof image.more, HF_ARENA_MORE_AT);
	return (ssize_t)n;
}

static struct hf_arena_view *view_of(size_t i)
{
	return (struct hf_arena_view *)(void *)(good.views + i * HF_ARENA_VIEW_SIZE);
}

static void make_good(uint64_t now)
{
	struct hf_arena_proc *process = &good.head.procs[PROCESS];
	const struct hf_ends names = {.family = 6,
				      .known = HF_ENDS_LOCAL | HF_ENDS_PEER,
				      .local = {0xfe, 0x80, [15] = 1},
				      .local_port = htons(5432),
				      .peer_port = htons(40000),
				      .scope = 1};

	good.head.magic = HF_ARENA_MAGIC;
	good.head.version = HF_ARENA_VERSION;
	atomic_store(&good.head.views_used, VIEWS);
	atomic_store(&process->handle, HANDLE);
	atomic_store(&process->pid, (int32_t)getpid());
	strcpy(process->prog, "server");
	for (size_t i = 0; i < VIEWS; i++) {
		struct hf_arena_view *view = view_of(i);
		struct hf_arena_more *more = (struct hf_arena_more *)(void *)(good.more + i * HF_ARENA_MORE_SIZE);
		uint32_t *rtts = (uint32_t *)(void *)(good.rtts + i * HF_ARENA_RTTS_SIZE);

		atomic_store(&view->proc, HANDLE);
		view->cookie = 100 + i;
		view->fd = (int32_t)i;
		view->apart = HF_APART_MORE | HF_APART_RTTS;
		view->mode = i % 2 ? 2 : 1;
		view->role = (uint8_t)(i % 3);
		view->state = (uint8_t)(1 + i);
		view->session = (uint8_t)i;
		view->interval = 1000;
		view->timeout = 3000;
		view->reply_timeout = view->stall_timeout = view->half_close_timeout = 60000;
		view->ends = 15;
		view->rtt_us = 300;
		view->since = now - 100000;
		view->looked_at = view->heard_at = now - 1500;
		view->next_in = 1600;
		view->flags = (uint16_t)(1U << i);
		view->rtt_count = view->event_count = 3;
		view->rtt_first = rtts[0] = rtts[1] = rtts[2] = 300;
		view->names = names;
		if (i % 2)
			view->names.family = 4;
		strcpy(more->peer_prog, "client");
		strcpy(more->peer_host, "host");
		more->peer_pid = 4711;
		for (uint8_t e = 0; e < 3; e++)
			more->events[e] = (struct hf_view_event){.at = 1 + e, .kind = (uint8_t)(e + i)};
	}
}

/* One change: where, how wide, when, what. */
static void change(void)
{
	uint8_t where = byte();
	static const size_t sizes[] = {HF_ARENA_RTTS_SIZE, HF_ARENA_MORE_SIZE, sizeof image.head};
	char *const bases[] = {image.rtts, image.more, (char *)&image.head};
	size_t part = where % 8 < 5 ? HF_ARENA_VIEW_SIZE : sizes[where % 8 - 5], at;
	char *base = where % 8 < 5 ? image.views : bases[where % 8 - 5];
	struct later now = {0}, *entry = nlater < MOST_LATER ? &later[nlater] : &now;
	uint8_t when;
	uint64_t n;

	head_changed |= where % 8 == 7;
	/* Of the head the first part, the process's entry and the counts are looked at. */
	at = (size_t)(byte() << 8 | byte());
	if (where % 8 == 7)
		at = where & 8    ? offsetof(struct hf_arena, procs) + PROCESS * sizeof(struct hf_arena_proc) + at % 64
		     : where & 16 ? offsetof(struct hf_arena, counts) + at % sizeof(struct hf_arena_counts)
				  : at % 128;
	else
		at = at % part + where / 8 % VIEWS * part;
	entry->size = (size_t)1 << byte() % 4;
	at -= at % entry->size;
	when = byte();
	entry->at = base + at;
	entry->reads = when / 2;
	n = value();
	memcpy(entry->bytes, &n, sizeof entry->bytes);
	if (when & 1 && entry != &now)
		nlater++;
	else
		memcpy(entry->at, entry->bytes, entry->size);
}

/* What is written */

static const unsigned char *after_character(const unsigned char *p, const unsigned char *end)
{
	uint32_t code = *p++;
	int more = code < 0x80 ? 0 : code >= 0xf0 && code < 0xf5 ? 3 : code >= 0xe0 ? 2 : 1;

	check(code < 0x80 || (code >= 0xc2 && code < 0xf5));
	if (more)
		code &= 0x3fU >> more;
	for (; more > 0; more--, p++) {
		check(p < end && (*p & 0xc0) == 0x80);
		code = code << 6 | (*p & 0x3f);
	}
	check(code >= ' ' && (code < 0x7f || code >= 0xa0)); /* no control characters, C1 neither */
	check((code < 0x202a || code > 0x202e) && (code < 0x2066 || code > 0x2069)); /* nor bidirectional ones */
	return p;
}

static void check_text(const char *text, size_t size, bool lines)
{
	const unsigned char *p = (const unsigned char *)text, *end = p + size;

	check(!lines || size == 0 || text[size - 1] == '\n');
	while (p < end)
		p = lines && *p == '\n' ? p + 1 : after_character(p, end);
}

static const char *after_json(const char *p);

static const char *after_string(const char *p)
{
	check(*p++ == '"');
	for (; *p != '"'; p++) {
		check(*p != '\0');
		if (*p != '\\')
			continue;
		p++;
		check(strchr("\"\\/bfnrtu", *p) != NULL && *p != '\0');
		for (int i = 0; i < 4 && p[-i] == 'u' && i == 0; i++)
			check(strspn(p + 1, "0123456789abcdefABCDEF") >= 4);
	}
	return p + 1;
}

static const char *after_members(const char *p, char close)
{
	bool object = close == '}';

	if (*++p == close)
		return p + 1;
	for (;; p++) {
		if (object) {
			p = after_string(p);
			check(*p++ == ':');
		}
		p = after_json(p);
		if (*p == close)
			return p + 1;
		check(*p == ',');
	}
}

/* One value of what hf_view_json() writes: no blanks. */
static const char *after_json(const char *p)
{
	char *end;

	if (*p == '{')
		return after_members(p, '}');
	if (*p == '[')
		return after_members(p, ']');
	if (*p == '"')
		return after_string(p);
	if (strncmp(p, "true", 4) == 0)
		return p + 4;
	if (strncmp(p, "false", 5) == 0)
		return p + 5;
	check(*p == '-' || (*p >= '0' && *p <= '9'));
	(void)strtod(p, &end);
	return end;
}

/* A stream into memory, and what has been written to it. */
static struct sheet {
	FILE *file;
	char *text;
	size_t size;
} sheet;

static void begin(void)
{
	sheet = (struct sheet){NULL, NULL, 0};
	sheet.file = open_memstream(&sheet.text, &sheet.size);
	check(sheet.file != NULL);
}

static void end(bool lines, bool json)
{
	check(fclose(sheet.file) == 0);
	check_text(sheet.text, sheet.size, lines);
	check(strlen(sheet.text) == sheet.size);
	check(!json || *after_json(sheet.text) == '\0');
	free(sheet.text);
}

static void show(const struct hf_snapshot *snapshot)
{
	static struct hf_table table = {.utf8 = true};
	char row[1024];

	for (size_t i = 0; i < snapshot->count; i++) {
		begin();
		hf_explain(sheet.file, snapshot, &snapshot->seen[i]);
		end(true, false);
		begin();
		hf_explain_json(sheet.file, snapshot, &snapshot->seen[i]);
		end(false, true);
	}
	for (int open = 0; open < 2; open++) {
		begin();
		check(hf_metrics_text(sheet.file, snapshot, open));
		end(true, false);
	}
	table.sort = byte() % HF_COLUMNS;
	check(hf_table_fill(&table, snapshot) && table.count == snapshot->count);
	hf_table_layout(&table, snapshot, byte());
	for (size_t i = 0; i < table.count; i++) {
		hf_table_row(&table, snapshot, i, row, sizeof row);
		check_text(row, strlen(row), false);
	}
}

static void prepare(struct hf_reader **reader)
{
	*reader = hf_reader_open();
	check(*reader != NULL);
	make_good(clock_ms(CLOCK_MONOTONIC));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct hf_reader *reader;
	static struct hf_snapshot snapshot;
	struct hf_holder holder = {.pid = (int)getpid(), .fd = 3, .inner = (int)getpid()};
	struct hf_found arena = {.fd = -1, .usable = true, .holders = &holder, .nholders = 1};
	uint8_t changes;

	if (!reader)
		prepare(&reader);
	input = data;
	input_end = data + size;
	if (head_changed)
		image.head = good.head;
	head_changed = false;
	memcpy(image.views, good.views, sizeof image.views);
	memcpy(image.more, good.more, sizeof image.more);
	nlater = reads = 0;
	changes = byte() % 64;
	while (changes-- > 0)
		change();
	snapshot.count = snapshot.left = 0;
	memset(&snapshot.sums, 0, sizeof snapshot.sums);
	snapshot.now = clock_ms(CLOCK_MONOTONIC);
	snapshot.wall = clock_ms(CLOCK_REALTIME);
	reader->tries = RETRIES_IN_ALL;
	check(read_arena(reader, &snapshot, &arena, 0));
	check(snapshot.count <= VIEWS);
	show(&snapshot);
	return 0;
}
