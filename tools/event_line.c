#include "event_line.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name;
	enum hf_level level;
} kinds[HF_EV_COUNT] = {
#define X(e, name, level) [HF_EV_##e] = {name, level},
	HF_EVENTS(X)
#undef X
};

static const char *const reasons[HF_WHY_COUNT] = {
#define X(e, name) [HF_WHY_##e] = (name),
	HF_REASONS(X)
#undef X
};

static int place(const char *const *names, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(names[i], name) == 0)
			return (int)i;
	}
	return -1;
}

int hf_event_kind_named(const char *name)
{
	for (int i = 0; i < HF_EV_COUNT; i++) {
		if (strcmp(kinds[i].name, name) == 0)
			return i;
	}
	return -1;
}

int hf_event_reason_named(const char *name)
{
	int found = place(reasons, HF_WHY_COUNT, name);

	return found == HF_WHY_NONE ? -1 : found;
}

int hf_event_level_named(const char *name)
{
	static const char *const levels[] = {
		[HF_ERROR] = "error", [HF_WARN] = "warn", [HF_INFO] = "info", [HF_DEBUG] = "debug"};

	return place(levels, 4, name);
}

/* --- JSON, as far as it goes here --- */

struct reader {
	const char *at, *end;
	char *out, *out_end; /* in store */
};

static bool take_char(struct reader *reader, char c)
{
	if (reader->at == reader->end || *reader->at != c)
		return false;
	reader->at++;
	return true;
}

static bool put(struct reader *reader, unsigned c)
{
	if (reader->out == reader->out_end)
		return false;
	*reader->out++ = (char)(unsigned char)c;
	return true;
}

static bool put_utf8(struct reader *reader, unsigned point)
{
	if (point < 0x80)
		return put(reader, point);
	if (point < 0x800)
		return put(reader, 0xc0 | point >> 6) && put(reader, 0x80 | (point & 0x3f));
	if (point < 0x10000)
		return put(reader, 0xe0 | point >> 12) && put(reader, 0x80 | (point >> 6 & 0x3f)) &&
		       put(reader, 0x80 | (point & 0x3f));
	return put(reader, 0xf0 | point >> 18) && put(reader, 0x80 | (point >> 12 & 0x3f)) &&
	       put(reader, 0x80 | (point >> 6 & 0x3f)) && put(reader, 0x80 | (point & 0x3f));
}

static bool four_digits(struct reader *reader, unsigned *value)
{
	*value = 0;
	for (int i = 0; i < 4; i++, reader->at++) {
		static const char digits[] = "0123456789abcdefABCDEF";
		const char *digit = reader->at < reader->end && *reader->at ? strchr(digits, *reader->at) : NULL;
		unsigned n;

		if (!digit)
			return false;
		n = (unsigned)(digit - digits);
		*value = *value << 4 | (n < 16 ? n : n - 6);
	}
	return true;
}

/* Behind a backslash. */
static bool read_escape(struct reader *reader)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *found;
	unsigned point, low;

	if (take_char(reader, 'u')) {
		if (!four_digits(reader, &point) || point == 0 || (point >= 0xdc00 && point <= 0xdfff))
			return false;
		if (point >= 0xd800 && point <= 0xdbff) {
			if (!take_char(reader, '\\') || !take_char(reader, 'u') || !four_digits(reader, &low) ||
			    low < 0xdc00 || low > 0xdfff)
				return false;
			point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
		}
		return put_utf8(reader, point);
	}
	found = reader->at < reader->end && *reader->at ? strchr(from, *reader->at) : NULL;
	if (!found)
		return false;
	reader->at++;
	return put(reader, (unsigned char)to[found - from]);
}

/* A string; *TEXT is its decoded, terminated form. */
static bool read_string(struct reader *reader, const char **text)
{
	if (!take_char(reader, '"'))
		return false;
	*text = reader->out;
	while (reader->at < reader->end && *reader->at != '"') {
		char c = *reader->at++;

		if (c == '\\' ? !read_escape(reader) : !put(reader, (unsigned char)c))
			return false;
	}
	return take_char(reader, '"') && put(reader, '\0');
}

/* A number that is no fraction and not negative: the library writes no other. */
static bool read_number(struct reader *reader, const char **text, int64_t *number)
{
	*text = reader->out;
	*number = 0;
	while (reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9') {
		int digit = *reader->at++ - '0';

		if (*number > (INT64_MAX - digit) / 10 || !put(reader, (unsigned char)('0' + digit)))
			return false;
		*number = *number * 10 + digit;
	}
	if (reader->out == *text || (**text == '0' && reader->out - *text > 1))
		return false;
	return put(reader, '\0');
}

static bool good_name(const char *name)
{
	size_t n = strlen(name);

	return n > 0 && n < HF_EVENT_NAME && strspn(name, "abcdefghijklmnopqrstuvwxyz_0123456789") == n;
}

static bool read_field(struct hf_event_line *line, struct reader *reader)
{
	size_t i = line->nfields;
	bool read;

	if (i == HF_EVENT_FIELDS || !read_string(reader, &line->fields[i].name) || !take_char(reader, ':') ||
	    !good_name(line->fields[i].name) || hf_event_line_field(line, line->fields[i].name))
		return false;
	line->fields[i].is_number = reader->at < reader->end && *reader->at != '"';
	read = line->fields[i].is_number ? read_number(reader, &line->fields[i].text, &line->fields[i].number)
					 : read_string(reader, &line->fields[i].text);
	line->nfields += read;
	return read;
}

/* What must not get to a terminal: control characters, also those of two bytes (U+0080 to U+009F). */
static bool harmless(const char *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		unsigned char c = (unsigned char)bytes[i], next = i + 1 < length ? (unsigned char)bytes[i + 1] : 0;

		if (c < ' ' || c == 0x7f || (c == 0xc2 && next >= 0x80 && next < 0xa0))
			return false;
	}
	return true;
}

static bool read_object(struct hf_event_line *line, const char *bytes, size_t length)
{
	struct reader reader = {bytes, bytes + length, line->store, line->store + sizeof line->store};

	if (length > HF_EVENT_LINE || !harmless(bytes, length) || !take_char(&reader, '{'))
		return false;
	do {
		if (!read_field(line, &reader))
			return false;
	} while (take_char(&reader, ','));
	return take_char(&reader, '}') && reader.at == reader.end;
}

/* --- the meaning --- */

static size_t find(const struct hf_event_line *line, const char *name)
{
	size_t i = 0;

	while (i < line->nfields && strcmp(line->fields[i].name, name) != 0)
		i++;
	return i;
}

const char *hf_event_line_field(const struct hf_event_line *line, const char *name)
{
	size_t i = find(line, name);

	return i < line->nfields ? line->fields[i].text : NULL;
}

/* A text field; false when it is a number.  *TEXT is NULL when it is not there. */
static bool take_text(const struct hf_event_line *line, const char *name, const char **text)
{
	size_t i = find(line, name);

	*text = i < line->nfields ? line->fields[i].text : NULL;
	return i == line->nfields || !line->fields[i].is_number;
}

/* A number; false when it is a text.  *NUMBER is left alone when it is not there. */
static bool take_number(const struct hf_event_line *line, const char *name, int64_t *number)
{
	size_t i = find(line, name);

	if (i < line->nfields)
		*number = line->fields[i].number;
	return i == line->nfields || line->fields[i].is_number;
}

/* One of some words; *FOUND is -1 when the field is not there. */
static bool take_word(const struct hf_event_line *line, const char *name, const char *const *words, size_t n,
		      int *found)
{
	const char *text;

	*found = -1;
	if (!take_text(line, name, &text))
		return false;
	if (text)
		*found = place(words, n, text);
	return !text || *found >= 0;
}

/* "1.2.3.4:5" or "[::1%2]:5", as hf_fmt_addr() writes it. */
static bool take_address(const struct hf_event_line *line, const char *name, struct sockaddr_storage *address)
{
	struct sockaddr_in *in = (struct sockaddr_in *)(void *)address;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)address;
	char host[INET6_ADDRSTRLEN];
	const char *text, *colon;
	char *end, *percent;
	unsigned long port, scope = 0;
	size_t n;

	if (!take_text(line, name, &text) || !text)
		return !text;
	colon = strrchr(text, ':');
	n = colon ? (size_t)(colon - text) : 0;
	if (n < 3 || n >= sizeof host || colon[1] < '0' || colon[1] > '9')
		return false;
	port = strtoul(colon + 1, &end, 10);
	if (*end || port > UINT16_MAX)
		return false;
	memcpy(host, text, n);
	host[n] = '\0';
	if (host[0] != '[') {
		in->sin_family = AF_INET;
		in->sin_port = htons((uint16_t)port);
		return inet_pton(AF_INET, host, &in->sin_addr) == 1;
	}
	if (host[n - 1] != ']')
		return false;
	host[n - 1] = '\0';
	percent = strchr(host, '%');
	if (percent) {
		*percent = '\0';
		scope = strtoul(percent + 1, &end, 10);
		if (*end || scope > UINT32_MAX)
			return false;
	}
	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons((uint16_t)port);
	in6->sin6_scope_id = (uint32_t)scope;
	return inet_pton(AF_INET6, host + 1, &in6->sin6_addr) == 1;
}

static bool take_conn(const struct hf_event_line *line, uint64_t *conn)
{
	const char *text;

	if (!take_text(line, "conn", &text))
		return false;
	if (!text)
		return true;
	if (strlen(text) > 16 || text[strspn(text, "0123456789abcdef")] != '\0')
		return false;
	*conn = strtoull(text, NULL, 16);
	return *conn != 0;
}

static bool good_time(const char *ts)
{
	static const char pattern[] = "0000-00-00T00:00:00.000Z";

	for (size_t i = 0; i < sizeof pattern; i++) {
		if (pattern[i] == '0' ? ts[i] < '0' || ts[i] > '9' : ts[i] != pattern[i])
			return false;
	}
	return true;
}

static bool take_head(struct hf_event_line *line)
{
	int64_t pid = 0;
	const char *name;
	int kind;

	if (!take_text(line, "ts", &line->ts) || !line->ts || !good_time(line->ts) ||
	    !take_text(line, "event", &name) || !name || !take_text(line, "prog", &line->prog) || !line->prog ||
	    !take_number(line, "pid", &pid) || pid < 1 || pid > INT_MAX)
		return false;
	kind = hf_event_kind_named(name);
	if (kind < 0)
		return false;
	line->pid = (int)pid;
	hf_event_init(&line->event, (enum hf_event_kind)kind);
	return true;
}

static bool take_words(struct hf_event_line *line)
{
	static const char *const modes[] = {[HF_MODE_OFF] = "off", [HF_MODE_PROBE] = "probe", [HF_MODE_WRAP] = "wrap"};
	static const char *const actions[] = {
		[HF_REPORT] = "report", [HF_ABORT] = "abort", [HF_RECONNECT] = "reconnect"};
	static const char *const roles[] = {"server", "client"};
	struct hf_event *event = &line->event;
	int mode, role, reason, action;

	if (!take_word(line, "mode", modes, 3, &mode) || !take_word(line, "role", roles, 2, &role) ||
	    !take_word(line, "reason", reasons, HF_WHY_COUNT, &reason) ||
	    !take_word(line, "action", actions, 3, &action) || reason == HF_WHY_NONE)
		return false;
	event->has_mode = mode >= 0;
	event->mode = mode >= 0 ? (enum hf_mode)mode : HF_MODE_OFF;
	event->has_role = role >= 0;
	event->client = role == 1;
	event->reason = reason >= 0 ? (enum hf_reason)reason : HF_WHY_NONE;
	event->has_action = action >= 0;
	event->action = action >= 0 ? (enum hf_action)action : HF_REPORT;
	return true;
}

static bool take_rest(struct hf_event_line *line)
{
	struct hf_event *event = &line->event;
	int64_t fd = -1, suppressed = 0;

	if (!take_number(line, "fd", &fd) || fd > INT_MAX || !take_conn(line, &event->conn) ||
	    !take_address(line, "local", &event->local) || !take_address(line, "peer", &event->peer) ||
	    !take_number(line, "silent_ms", &event->silent_ms) || !take_number(line, "rtt_us", &event->rtt_us) ||
	    !take_number(line, "unacked", &event->unacked) || !take_number(line, "unread", &event->unread) ||
	    !take_number(line, "sent", &event->sent) || !take_number(line, "received", &event->received) ||
	    !take_text(line, "peer_prog", &event->peer_prog) || !take_number(line, "peer_pid", &event->peer_pid) ||
	    !take_text(line, "peer_host", &event->peer_host) || !take_text(line, "peer_info", &event->peer_info) ||
	    !take_number(line, "down_ms", &event->down_ms) || !take_number(line, "resent", &event->resent) ||
	    !take_text(line, "detail", &event->detail) || !take_number(line, "suppressed", &suppressed))
		return false;
	event->fd = (int)fd;
	event->suppressed = suppressed > UINT32_MAX ? UINT32_MAX : (uint32_t)suppressed;
	return true;
}

bool hf_event_line_read(struct hf_event_line *line, const char *bytes, size_t length)
{
	line->nfields = 0;
	if (!read_object(line, bytes, length) || !take_head(line) || !take_words(line) || !take_rest(line))
		return false;
	line->level = kinds[line->event.kind].level;
	if (line->event.kind == HF_EV_DEAD && line->event.reason == HF_WHY_RESET)
		line->level = HF_INFO; /* as the library has it */
	return true;
}

size_t hf_event_line_sentence(const struct hf_event_line *line, char *buf, size_t size)
{
	const struct timespec unused = {0, 0}; /* a sentence has no time in it */

	return hf_report_format(buf, size, HF_TEXT, &line->event, line->prog, line->pid, &unused);
}
