#include "table.h"
#include "view_state.h"
#include "view_text.h"
#include "state/ends.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <wchar.h>

enum { CELL = 256 };

/* In the order of enum hf_column.  Those of a higher rank go first when there is no room. */
static const struct column {
	const char *name, *title;
	int width;
	unsigned char rank;
	bool right, largest_first;
} columns[HF_COLUMNS] = {
	{"program", "PROGRAM", 12, 1, false, false},
	{"pid", "PID", 7, 2, true, false},
	{"fd", "FD", 4, 7, true, false},
	{"role", "ROLE", 6, 18, false, false},
	{"mode", "MODE", 5, 13, false, false},
	{"state", "STATE", 11, 3, false, false},
	{"verdict", "VERDICT", 14, 5, false, false},
	{"idle", "IDLE", 6, 6, true, true},
	{"rtt", "RTT", 6, 8, true, true},
	{"trend", "TREND", 8, 9, false, true},
	{"unread", "UNREAD", 6, 10, true, true},
	{"there", "THERE", 6, 16, true, true},
	{"beats", "BEATS", 9, 15, true, true},
	{"sent", "SENT", 6, 11, true, true},
	{"received", "RECV", 6, 12, true, true},
	{"age", "AGE", 6, 14, true, true},
	{"peer", "PEER", 21, 4, false, false},
	{"peer-program", "PEER PROGRAM", 14, 17, false, false},
};

const char *hf_column_name(enum hf_column column)
{
	return columns[column].name;
}

int hf_column_find(const char *name)
{
	for (int i = 0; i < HF_COLUMNS; i++) {
		if (strcasecmp(columns[i].name, name) == 0)
			return i;
	}
	return -1;
}

/* Cells */

static void say_verdict(const struct hf_arena_view *view, uint64_t now, char text[CELL])
{
	struct hf_timer timers[HF_TIMERS];
	int next;

	hf_view_timers(view, timers);
	next = hf_next_timer(timers);
	if ((view->flags & HF_VIEW_DEAD) != 0)
		snprintf(text, CELL, "%s", hf_reason_of(hf_view_dead_reason(view)));
	else if (next < 0)
		snprintf(text, CELL, "-");
	else if (timers[next].at <= now)
		snprintf(text, CELL, "%s due", hf_timer_name((enum hf_timer_kind)next));
	else
		snprintf(text, CELL, "%s %s", hf_timer_name((enum hf_timer_kind)next),
			 hf_short_ms(timers[next].at - now).text);
}

static void say_trend(const struct hf_arena_view *view, bool utf8, char text[CELL])
{
	uint32_t us[HF_VIEW_RTTS];
	size_t count = hf_last_rtts(view->rtts, HF_VIEW_RTTS, view->rtt_count, us, 8);

	snprintf(text, CELL, "%s", hf_spark(us, count, utf8).text);
}

static void say_peer_program(const struct hf_arena_view *view, char text[CELL])
{
	if (view->more.peer_prog[0] == '\0')
		text[0] = '\0';
	else if (view->more.peer_host[0] == '\0')
		snprintf(text, CELL, "%.100s[%u]", hf_plain(view->more.peer_prog, sizeof view->more.peer_prog).text,
			 view->more.peer_pid);
	else
		snprintf(text, CELL, "%.100s[%u]@%.100s",
			 hf_plain(view->more.peer_prog, sizeof view->more.peer_prog).text, view->more.peer_pid,
			 hf_plain(view->more.peer_host, sizeof view->more.peer_host).text);
}

static void say(const struct hf_seen *seen, uint64_t now, enum hf_column column, bool utf8, char text[CELL])
{
	const struct hf_arena_view *view = &seen->view;
	const char *word = NULL;
	struct hf_short number = {""};
	struct hf_plain plain;
	struct hf_address_text address;

	text[0] = '\0';
	switch (column) {
	case HF_COL_PROGRAM:
		plain = hf_plain(seen->prog, sizeof seen->prog);
		word = plain.text;
		break;
	case HF_COL_PID:
		snprintf(text, CELL, "%d", seen->pid);
		break;
	case HF_COL_FD:
		snprintf(text, CELL, "%d", view->fd);
		break;
	case HF_COL_ROLE:
		word = hf_role_of(view);
		break;
	case HF_COL_MODE:
		word = hf_mode_of(view);
		break;
	case HF_COL_STATE:
		word = hf_view_state(view);
		break;
	case HF_COL_VERDICT:
		say_verdict(view, now, text);
		break;
	case HF_COL_IDLE:
		number = hf_short_ms(hf_view_idle(view, now));
		break;
	case HF_COL_RTT:
		number = hf_short_us(view->rtt_us);
		break;
	case HF_COL_TREND:
		say_trend(view, utf8, text);
		break;
	case HF_COL_UNREAD:
		number = hf_short_bytes(view->unread);
		break;
	case HF_COL_THERE:
		if (view->more.beats_received != 0)
			number = hf_short_bytes(view->more.peer_unread);
		else
			number = (struct hf_short){"-"};
		break;
	case HF_COL_BEATS:
		if (view->more.beats_sent + view->more.beats_received != 0)
			snprintf(text, CELL, "%s/%s", hf_short_bytes(view->more.beats_sent).text,
				 hf_short_bytes(view->more.beats_received).text);
		else
			word = "-";
		break;
	case HF_COL_SENT:
		number = hf_short_bytes(view->sent);
		break;
	case HF_COL_RECEIVED:
		number = hf_short_bytes(view->received);
		break;
	case HF_COL_AGE:
		number = hf_short_ms(hf_since(now, view->since));
		break;
	case HF_COL_PEER:
		address = hf_end_text(&view->names, true);
		word = address.text;
		break;
	case HF_COL_PEER_PROGRAM:
		say_peer_program(view, text);
		break;
	case HF_COLUMNS:
		break;
	}
	if (text[0] == '\0')
		snprintf(text, CELL, "%s", word ? word : number.text);
}

/* Filter */

static bool matches(const struct hf_table *table, const struct hf_snapshot *snapshot, const struct hf_seen *seen)
{
	static const enum hf_column searched[] = {HF_COL_PROGRAM, HF_COL_PID,  HF_COL_ROLE,        HF_COL_MODE,
						  HF_COL_STATE,   HF_COL_PEER, HF_COL_PEER_PROGRAM};
	char all[CELL * 8], cell[CELL], words[sizeof table->filter], *rest = words;
	const char *word;
	size_t length = 0;

	if (table->filter[strspn(table->filter, " ")] == '\0')
		return true;
	for (size_t i = 0; i < sizeof searched / sizeof searched[0]; i++) {
		say(seen, snapshot->now, searched[i], true, cell);
		length += (size_t)snprintf(all + length, sizeof all - length, "%s ", cell);
	}
	snprintf(words, sizeof words, "%s", table->filter);
	while ((word = strsep(&rest, " ")) != NULL) {
		bool not = word[0] == '!' && word[1] != '\0';

		if (word[0] != '\0' && (strcasestr(all, word + not ) != NULL) == not )
			return false;
	}
	return true;
}

/* Order */

struct order {
	const struct hf_snapshot *snapshot;
	enum hf_column sort;
	bool down;
};

static uint64_t number_of(const struct hf_seen *seen, uint64_t now, enum hf_column column)
{
	const struct hf_arena_view *view = &seen->view;
	struct hf_timer timers[HF_TIMERS];
	int next;

	switch (column) {
	case HF_COL_PID:
		return (uint64_t)(uint32_t)seen->pid;
	case HF_COL_FD:
		return (uint64_t)(uint32_t)view->fd;
	case HF_COL_STATE:
		return (uint64_t)hf_view_health(view);
	case HF_COL_VERDICT:
		hf_view_timers(view, timers);
		next = hf_next_timer(timers);
		return next < 0 ? UINT64_MAX : timers[next].at;
	case HF_COL_IDLE:
		return hf_view_idle(view, now);
	case HF_COL_RTT:
	case HF_COL_TREND:
		return view->rtt_us;
	case HF_COL_UNREAD:
		return view->unread;
	case HF_COL_THERE:
		return view->more.peer_unread;
	case HF_COL_BEATS:
		return view->more.beats_sent + view->more.beats_received;
	case HF_COL_SENT:
		return view->sent;
	case HF_COL_RECEIVED:
		return view->received;
	case HF_COL_AGE:
		return hf_since(now, view->since);
	default:
		return 0;
	}
}

static int compare_number(uint64_t a, uint64_t b)
{
	return (a > b) - (a < b);
}

/* By family, port, address. */
static int compare_peers(const struct hf_ends *a, const struct hf_ends *b)
{
	union hf_address one, two;

	(void)hf_ends_get(a, true, &one);
	(void)hf_ends_get(b, true, &two);
	return memcmp((const char *)&one, (const char *)&two, sizeof one); /* both filled from zeroes */
}

static int compare_as(const struct order *order, const struct hf_seen *a, const struct hf_seen *b)
{
	char one[CELL], two[CELL];

	switch (order->sort) {
	case HF_COL_PROGRAM:
		return strcmp(a->prog, b->prog);
	case HF_COL_ROLE:
	case HF_COL_MODE:
	case HF_COL_PEER_PROGRAM:
		say(a, 0, order->sort, true, one);
		say(b, 0, order->sort, true, two);
		return strcmp(one, two);
	case HF_COL_PEER:
		return compare_peers(&a->view.names, &b->view.names);
	default:
		return compare_number(number_of(a, order->snapshot->now, order->sort),
				      number_of(b, order->snapshot->now, order->sort));
	}
}

/* Equal ones stand by program, process and descriptor, so that rows do not dance. */
static int compare(const void *left, const void *right, void *arg)
{
	const struct order *order = arg;
	const struct hf_seen *a = &order->snapshot->seen[*(const uint32_t *)left];
	const struct hf_seen *b = &order->snapshot->seen[*(const uint32_t *)right];
	int result = compare_as(order, a, b);

	if (result != 0)
		return order->down ? -result : result;
	result = strcmp(a->prog, b->prog);
	if (result == 0)
		result = (a->pid > b->pid) - (a->pid < b->pid);
	if (result == 0)
		result = (a->view.fd > b->view.fd) - (a->view.fd < b->view.fd);
	return result != 0 ? result : compare_number(a->view.cookie, b->view.cookie);
}

bool hf_table_fill(struct hf_table *table, const struct hf_snapshot *snapshot)
{
	struct order order = {snapshot, table->sort, columns[table->sort].largest_first != table->reverse};

	if (snapshot->count > table->room) {
		uint32_t *bigger = reallocarray(table->rows, snapshot->count, sizeof *bigger);

		if (!bigger)
			return false;
		table->rows = bigger;
		table->room = snapshot->count;
	}
	table->count = 0;
	for (size_t i = 0; i < snapshot->count; i++) {
		if (matches(table, snapshot, &snapshot->seen[i]))
			table->rows[table->count++] = (uint32_t)i;
	}
	if (table->count > 1)
		qsort_r(table->rows, table->count, sizeof *table->rows, compare, &order);
	return true;
}

/* Layout */

void hf_table_layout(struct hf_table *table, const struct hf_snapshot *snapshot, int width)
{
	char cell[CELL];
	int used = -1;

	memset(table->widths, 0, sizeof table->widths);
	for (int rank = 1; rank <= HF_COLUMNS; rank++) {
		for (int i = 0; i < HF_COLUMNS; i++) {
			if (columns[i].rank != rank || (width != 0 && used + 1 + columns[i].width > width))
				continue;
			table->widths[i] = columns[i].width;
			used += 1 + columns[i].width;
		}
	}
	/* What is left goes to long numbers, addresses and names, as far as they need it. */
	for (int i = 0; i < HF_COLUMNS; i++) {
		if (i != HF_COL_FD && i != HF_COL_PEER && i != HF_COL_PEER_PROGRAM &&
		    !(i == HF_COL_PROGRAM && width == 0))
			continue;
		for (size_t row = 0; row < table->count && table->widths[i] != 0; row++) {
			int need;

			say(&snapshot->seen[table->rows[row]], snapshot->now, (enum hf_column)i, table->utf8, cell);
			need = (int)strlen(cell);
			if (need <= table->widths[i])
				continue;
			if (width != 0 && used + need - table->widths[i] > width)
				need = width - used + table->widths[i];
			used += need - table->widths[i];
			table->widths[i] = need;
		}
	}
}

/* The character at TEXT (well-formed UTF-8): its length and, in COLUMNS, how wide it is. */
static size_t character(const char *text, int *wide)
{
	unsigned char first = (unsigned char)text[0];
	size_t length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
	wchar_t code = first < 0x80 ? first : (wchar_t)(first & (0xff >> (length + 1)));

	for (size_t i = 1; i < length; i++) {
		if (((unsigned char)text[i] & 0xc0) != 0x80) {
			*wide = 1;
			return i;
		}
		code = (wchar_t)((unsigned)code << 6 | ((unsigned char)text[i] & 0x3f));
	}
	*wide = wcwidth(code);
	if (*wide < 0)
		*wide = 1;
	return length;
}

void hf_fit(char *out, size_t size, const char *text, int width, bool right, bool utf8)
{
	int most = width < 0 ? -width : width, used = 0, wide;
	size_t length = 0, pad;
	char kept[4 * CELL];

	while (*text != '\0' && length + 5 < sizeof kept) {
		size_t bytes = character(text, &wide);

		if (used + wide > most)
			break;
		if (bytes > 1 && !utf8) {
			kept[length++] = '?';
		} else {
			memcpy(kept + length, text, bytes);
			length += bytes;
		}
		used += wide;
		text += bytes;
	}
	kept[length] = '\0';
	pad = width > used ? (size_t)(width - used) : 0;
	snprintf(out, size, "%*s%s%*s", right ? (int)pad : 0, "", kept, right ? 0 : (int)pad, "");
}

static size_t put_cell(const struct hf_table *table, int column, const char *cell, char *text, size_t size,
		       size_t length)
{
	if (table->widths[column] == 0)
		return length;
	if (length > 0 && length + 1 < size)
		text[length++] = ' ';
	hf_fit(text + length, size - length, cell, table->widths[column], columns[column].right, table->utf8);
	return length + strlen(text + length);
}

void hf_table_head(const struct hf_table *table, char *text, size_t size)
{
	size_t length = 0;

	text[0] = '\0';
	for (int i = 0; i < HF_COLUMNS; i++)
		length = put_cell(table, i, columns[i].title, text, size, length);
}

void hf_table_row(const struct hf_table *table, const struct hf_snapshot *snapshot, size_t row, char *text, size_t size)
{
	const struct hf_seen *seen = &snapshot->seen[table->rows[row]];
	char cell[CELL];
	size_t length = 0;

	text[0] = '\0';
	for (int i = 0; i < HF_COLUMNS; i++) {
		if (table->widths[i] == 0)
			continue;
		say(seen, snapshot->now, (enum hf_column)i, table->utf8, cell);
		length = put_cell(table, i, cell, text, size, length);
	}
}
