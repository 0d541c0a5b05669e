#include "top_draw.h"
#include "explain_text.h"
#include "view_state.h"

#include <curses.h>
#include <stdlib.h>
#include <string.h>

enum { HEAD = 3, TEXT_HEAD = 1, FOOT = 1, LINE = 4096 };
enum { RED = 1, MAGENTA, GREEN };

static const char HELP_TEXT[] =
	"Keys\n"
	"  Up, Down, k, j     choose a connection; also Page Up, Page Down, Home, End\n"
	"  Enter              its details: why it is judged as it is, what comes next, its last events\n"
	"  Esc                back to the list; removes the filter there\n"
	"  /                  filter: words that a row must have, \"!word\": must not; Enter keeps it\n"
	"  s, >  and  <       sort by the next or the previous column; r: the other way round\n"
	"  p, Space           pause: nothing is read until it is pressed again\n"
	"  ?                  this page\n"
	"  q                  quit\n"
	"\n"
	"Columns\n"
	"  STATE    of TCP, or of the channel inside a wrapped connection (FIN-WAIT, CLOSE-WAIT...); or what is wrong: "
	"dead, kept (told dead and left alone), late (silent for half the timeout), stalled (its peer does not take "
	"our data)\n"
	"  VERDICT  the timer that runs out next, and in what time, if nothing happens\n"
	"  IDLE     time since bytes last moved\n"
	"  RTT      round trip; TREND: the last eight, from their lowest to their highest\n"
	"  UNREAD   bytes that our program has not read; THERE: the peer's program, as its last beat told (wrap)\n"
	"  BEATS    sent and received (wrap)\n"
	"  SENT, RECV  bytes, as the kernel counts\n"
	"\n"
	"The bottom line and the second line from the top tell what is filtered and counted. A narrow screen shows "
	"fewer "
	"columns.\n";

void hf_top_colours(struct hf_top *top)
{
	const char *no = getenv("NO_COLOR");

	if ((no && *no) || !has_colors() || start_color() == ERR || use_default_colors() == ERR)
		return;
	/* On the terminal's own background; no yellow, blue or cyan, which one kind of terminal or the other hides. */
	init_pair(RED, COLOR_RED, -1);
	init_pair(MAGENTA, COLOR_MAGENTA, -1);
	init_pair(GREEN, COLOR_GREEN, -1);
	top->colours = true;
}

/* The word in the row says the same. */
static attr_t looks(const struct hf_top *top, const struct hf_arena_view *view)
{
	switch (hf_view_health(view)) {
	case HF_DEAD:
		return A_BOLD | (top->colours ? (attr_t)COLOR_PAIR(RED) : 0);
	case HF_LATE:
		return A_BOLD | (top->colours ? (attr_t)COLOR_PAIR(MAGENTA) : 0);
	case HF_STALLED:
		return top->colours ? (attr_t)COLOR_PAIR(MAGENTA) : A_BOLD;
	case HF_HALF:
		return top->colours ? (attr_t)COLOR_PAIR(GREEN) : A_NORMAL;
	default:
		return A_NORMAL;
	}
}

int hf_top_room(const struct hf_top *top)
{
	int room = LINES - FOOT - (top->page == HF_TOP_LIST ? HEAD : TEXT_HEAD);

	return room > 0 ? room : 0;
}

/* TEXT over the whole line Y. */
static void put_line(const struct hf_top *top, int y, const char *text, attr_t attributes)
{
	char line[LINE];

	if (y < 0 || y >= LINES)
		return;
	hf_fit(line, sizeof line, text, COLS < LINE / 4 ? COLS : LINE / 4, false, top->table->utf8);
	attron((int)attributes);
	mvaddstr(y, 0, line);
	attroff((int)attributes);
}

/* The list */

static void draw_head(struct hf_top *top)
{
	const struct hf_snapshot *snapshot = &top->snapshot;
	unsigned healths[HF_FINE + 1] = {0};
	char line[LINE];
	int length;

	for (size_t i = 0; i < snapshot->count; i++)
		healths[hf_view_health(&snapshot->seen[i].view)]++;
	length = snprintf(line, sizeof line, "holdfast: %zu connection%s of %u process%s, by %s%s%s", snapshot->count,
			  snapshot->count == 1 ? "" : "s", snapshot->processes, snapshot->processes == 1 ? "" : "es",
			  hf_column_name(top->table->sort), top->table->reverse ? " reversed" : "",
			  top->paused ? "  PAUSED" : "");
	if (snapshot->hidden != 0 && length > 0)
		snprintf(line + length, sizeof line - (size_t)length, "  (%u processes of other users not shown)",
			 snapshot->hidden);
	else if (snapshot->strange != 0 && length > 0)
		snprintf(line + length, sizeof line - (size_t)length, "  (%u of another version not shown)",
			 snapshot->strange);
	put_line(top, 0, line, A_BOLD);
	snprintf(line, sizeof line, "dead %u  late %u  stalled %u  half-closed %u  opening %u  well %u",
		 healths[HF_DEAD], healths[HF_LATE], healths[HF_STALLED], healths[HF_HALF], healths[HF_OPENING],
		 healths[HF_FINE]);
	put_line(top, 1, line, A_NORMAL);
	hf_table_head(top->table, line, sizeof line);
	put_line(top, 2, line, A_REVERSE);
}

static void draw_rows(const struct hf_top *top)
{
	int room = hf_top_room(top);
	char line[LINE];

	for (int i = 0; i < room && top->first + (size_t)i < top->table->count; i++) {
		size_t row = top->first + (size_t)i;
		attr_t attributes = looks(top, &top->snapshot.seen[top->table->rows[row]].view);

		hf_table_row(top->table, &top->snapshot, row, line, sizeof line);
		put_line(top, HEAD + i, line, row == top->selected ? attributes | A_REVERSE : attributes);
	}
	if (top->table->count == 0 && room > 0)
		put_line(top, HEAD,
			 top->snapshot.count == 0 ? "No preloaded process watches a connection now."
						  : "No connection passes the filter.",
			 A_NORMAL);
}

static void draw_foot(const struct hf_top *top)
{
	char line[LINE];

	if (top->typing)
		snprintf(line, sizeof line, "filter: %s_", top->table->filter);
	else if (top->page != HF_TOP_LIST)
		snprintf(line, sizeof line, "Esc back  Up, Down scroll  p pause  q quit");
	else if (top->table->filter[0] != '\0')
		snprintf(line, sizeof line, "filter: %s  (%zu of %zu)  Esc removes it", top->table->filter,
			 top->table->count, top->snapshot.count);
	else
		snprintf(line, sizeof line, "Enter details  / filter  s sort  r reverse  p pause  ? help  q quit");
	put_line(top, LINES - 1, line, top->typing ? A_BOLD : A_NORMAL);
}

/* Text: details and help */

/* How many bytes of TEXT (LENGTH of them) go on a line of WIDTH columns; breaks at blanks where there are any. */
static size_t break_at(const char *text, size_t length, int width)
{
	size_t end = 0, blank = 0;
	int used = 0;

	while (end < length) {
		if (text[end] == ' ')
			blank = end;
		/* Continuation bytes of UTF-8 take no column. */
		if (((unsigned char)text[end] & 0xc0) != 0x80 && used++ >= width)
			return blank > 0 ? blank : end;
		end++;
	}
	return length;
}

/* TEXT, wrapped, from the line on that is at the top; counts its lines. */
static void draw_text(struct hf_top *top, const char *text)
{
	int room = hf_top_room(top), line = 0, width = COLS > 12 ? COLS : 12;
	char part[LINE];

	while (*text != '\0') {
		size_t length = strcspn(text, "\n"), indent = strspn(text, " "), done = 0;
		int inset = 0;

		do {
			size_t rest = length - done;
			size_t take = break_at(text + done, rest, width - inset);

			snprintf(part, sizeof part, "%*s%.*s", inset, "", (int)take, text + done);
			if (line >= top->scrolled && line - top->scrolled < room)
				put_line(top, TEXT_HEAD + line - top->scrolled, part, indent == 0 ? A_BOLD : A_NORMAL);
			line++;
			done += take > 0 ? take : 1;
			done += strspn(text + done, " ");
			inset = (int)indent + 2;
		} while (done < length);
		text += length + (text[length] == '\n');
	}
	top->lines = line;
}

static void draw_details(struct hf_top *top)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	put_line(top, 0,
		 top->gone     ? "This connection is gone; as last seen:"
		 : top->paused ? "Details  PAUSED"
			       : "Details",
		 A_REVERSE);
	if (!out)
		return;
	hf_explain(out, &top->snapshot, &top->kept);
	if (fclose(out) == 0)
		draw_text(top, text);
	free(text);
}

void hf_top_draw(struct hf_top *top)
{
	erase();
	switch (top->page) {
	case HF_TOP_LIST:
		hf_table_layout(top->table, &top->snapshot, COLS);
		draw_head(top);
		draw_rows(top);
		break;
	case HF_TOP_DETAILS:
		draw_details(top);
		break;
	case HF_TOP_HELP:
		put_line(top, 0, "holdfast top: help", A_REVERSE);
		draw_text(top, HELP_TEXT);
		break;
	}
	draw_foot(top);
	refresh();
}
