#include "top_screen.h"
#include "command.h"
#include "top_draw.h"

#include <curses.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { ESCAPE = 27, RETURN = '\r', ERASE = 127, ERASE_TOO = 8, ESCAPE_MS = 50 };

static uint64_t clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Selection */

static const struct hf_seen *seen_at(const struct hf_top *top, size_t row)
{
	return row < top->table->count ? &top->snapshot.seen[top->table->rows[row]] : NULL;
}

static void remember(struct hf_top *top)
{
	const struct hf_seen *seen = seen_at(top, top->selected);

	top->cookie = seen ? seen->view.cookie : 0;
	top->pid = seen ? seen->pid : 0;
}

/* Within the rows, and on the screen. */
static void keep_in_sight(struct hf_top *top)
{
	size_t room = (size_t)hf_top_room(top);

	if (top->selected >= top->table->count)
		top->selected = top->table->count > 0 ? top->table->count - 1 : 0;
	if (top->selected < top->first)
		top->first = top->selected;
	if (room > 0 && top->selected >= top->first + room)
		top->first = top->selected - room + 1;
	if (top->first + room > top->table->count)
		top->first = top->table->count > room ? top->table->count - room : 0;
}

/* The bar stays on its connection; if that is gone, where it was. */
static void follow(struct hf_top *top)
{
	for (size_t row = 0; top->cookie != 0 && row < top->table->count; row++) {
		const struct hf_seen *seen = seen_at(top, row);

		if (seen->view.cookie == top->cookie && seen->pid == top->pid) {
			top->selected = row;
			break;
		}
	}
	keep_in_sight(top);
	remember(top);
}

static void move_bar(struct hf_top *top, long by)
{
	if (by < 0 && (size_t)-by > top->selected)
		top->selected = 0;
	else
		top->selected = (size_t)((long)top->selected + by);
	keep_in_sight(top);
	remember(top);
}

/* Looking */

static void update_details(struct hf_top *top)
{
	top->gone = true;
	for (size_t i = 0; i < top->snapshot.count; i++) {
		const struct hf_seen *seen = &top->snapshot.seen[i];

		if (seen->view.cookie != top->kept.view.cookie || seen->pid != top->kept.pid)
			continue;
		memcpy(&top->kept, seen, sizeof top->kept);
		top->gone = false;
		return;
	}
}

static bool look(struct hf_top *top, struct hf_reader *reader)
{
	if (!hf_reader_look(reader, &top->snapshot) || !hf_table_fill(top->table, &top->snapshot))
		return false;
	if (top->page == HF_TOP_DETAILS)
		update_details(top);
	follow(top);
	return true;
}

/* Sorted or filtered in another way. */
static void arrange(struct hf_top *top)
{
	if (hf_table_fill(top->table, &top->snapshot))
		follow(top);
}

/* Keys */

static void type(struct hf_top *top, int key)
{
	char *filter = top->table->filter;
	size_t length = strlen(filter);

	switch (key) {
	case RETURN:
	case '\n':
	case KEY_ENTER:
		top->typing = false;
		return;
	case ESCAPE:
		top->typing = false;
		filter[0] = '\0';
		break;
	case KEY_BACKSPACE:
	case ERASE:
	case ERASE_TOO:
		while (length > 0 && ((unsigned char)filter[length - 1] & 0xc0) == 0x80)
			length--;
		filter[length > 0 ? length - 1 : 0] = '\0';
		break;
	default:
		if (key < ' ' || key > 0xff || key == ERASE || length + 2 > sizeof top->table->filter)
			return;
		filter[length] = (char)key;
		filter[length + 1] = '\0';
		break;
	}
	arrange(top);
}

static void sort_by(struct hf_top *top, int step)
{
	top->table->sort = (enum hf_column)(((int)top->table->sort + step + HF_COLUMNS) % HF_COLUMNS);
	if (top->table->sort == HF_COL_TREND) /* the same as rtt */
		top->table->sort = (enum hf_column)((int)top->table->sort + step);
	top->table->reverse = false;
	arrange(top);
}

static void show(struct hf_top *top, enum hf_top_page page)
{
	const struct hf_seen *seen = seen_at(top, top->selected);

	if (page == HF_TOP_DETAILS) {
		if (!seen)
			return;
		memcpy(&top->kept, seen, sizeof top->kept);
		top->gone = false;
	}
	top->page = page;
	top->scrolled = 0;
}

static void in_list(struct hf_top *top, int key)
{
	switch (key) {
	case RETURN:
	case '\n':
	case KEY_ENTER:
		show(top, HF_TOP_DETAILS);
		break;
	case '/':
		top->typing = true;
		break;
	case ESCAPE:
		top->table->filter[0] = '\0';
		arrange(top);
		break;
	case 's':
	case '>':
		sort_by(top, 1);
		break;
	case '<':
		sort_by(top, -1);
		break;
	case 'r':
		top->table->reverse = !top->table->reverse;
		arrange(top);
		break;
	default:
		break;
	}
}

static void scroll_text(struct hf_top *top, long by)
{
	long most = top->lines - hf_top_room(top), to = top->scrolled + by;

	if (to > most)
		to = most;
	top->scrolled = to > 0 ? (int)to : 0;
}

static void go(struct hf_top *top, long by)
{
	if (top->page == HF_TOP_LIST)
		move_bar(top, by);
	else
		scroll_text(top, by);
}

/* False: the user leaves. */
static bool press(struct hf_top *top, int key)
{
	const long far = 1000000;

	if (top->typing) {
		type(top, key);
		return true;
	}
	switch (key) {
	case 'q':
		return false;
	case 'p':
	case ' ':
		top->paused = !top->paused;
		break;
	case '?':
		show(top, HF_TOP_HELP);
		break;
	case KEY_UP:
	case 'k':
		go(top, -1);
		break;
	case KEY_DOWN:
	case 'j':
		go(top, 1);
		break;
	case KEY_PPAGE:
		go(top, -hf_top_room(top));
		break;
	case KEY_NPAGE:
		go(top, hf_top_room(top));
		break;
	case KEY_HOME:
		go(top, -far);
		break;
	case KEY_END:
		go(top, far);
		break;
	case KEY_RESIZE:
		keep_in_sight(top);
		break;
	default:
		if (top->page == HF_TOP_LIST)
			in_list(top, key);
		else if (key == ESCAPE || key == RETURN || key == '\n' || key == KEY_ENTER)
			show(top, HF_TOP_LIST);
		break;
	}
	return true;
}

/* Until the user leaves, or nothing can be read: then errno says why. */
static bool run(struct hf_top *top, struct hf_reader *reader, unsigned period_ms)
{
	uint64_t next = 0, now;
	int key;

	for (;;) {
		now = clock_ms();
		if (now >= next) {
			if (!top->paused && !look(top, reader))
				return false;
			/* From the end of the look: with very many connections there is time for keys as well. */
			next = clock_ms() + period_ms;
		}
		hf_top_draw(top);
		now = clock_ms();
		timeout(now < next ? (int)(next - now) : 0);
		key = getch();
		if (key == ERR && !isatty(STDIN_FILENO))
			return true; /* the terminal has gone */
		if (key != ERR && !press(top, key))
			return true;
	}
}

int hf_top_screen(struct hf_reader *reader, struct hf_table *table, unsigned period_ms)
{
	struct hf_top *top = calloc(1, sizeof *top);
	const char *terminal = getenv("TERM");
	SCREEN *screen;
	bool good;
	int why;

	if (!top || !isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
		hf_tell("not a terminal; for a table: holdfast top --once");
		free(top);
		return 1;
	}
	top->table = table;
	screen = newterm(NULL, stdout, stdin);
	if (!screen) {
		hf_tell("terminal \"%s\" is unknown; for a table: holdfast top --once", terminal ? terminal : "");
		free(top);
		return 1;
	}
	set_escdelay(ESCAPE_MS);
	cbreak();
	noecho();
	nonl();
	keypad(stdscr, TRUE);
	curs_set(0);
	hf_top_colours(top);
	good = run(top, reader, period_ms);
	why = errno;
	endwin();
	delscreen(screen);
	if (!good)
		hf_tell("cannot read /proc: %s", strerror(why));
	hf_snapshot_free(&top->snapshot);
	free(top);
	return good ? 0 : 1;
}
