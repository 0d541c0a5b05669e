/*
 * Bounded text: an append buffer and the few conversions reports need.
 *
 * For code that runs inside other people's processes, in signal handlers and after fork: no allocation, no stdio, no
 * locale, no system call, no lock, errno untouched.  A buffer belongs to the thread that made it, usually on its
 * stack.  Appending past the end is no error: nothing more is taken, and hf_fmt_end() goes back to the last field
 * boundary, so that a cut line never ends inside a number, an escape or a UTF-8 sequence.
 */
#ifndef HOLDFAST_FMT_H
#define HOLDFAST_FMT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <time.h>

struct hf_fmt {
	char *buf;
	size_t limit; /* bytes appends may use; the end mark and its NUL lie beyond */
	size_t size;
	size_t len;
	size_t safe; /* length at the last field boundary */
	bool full;   /* something did not fit: appends are ignored from here on */
};

/* Append into BUF of SIZE bytes, keeping TAIL bytes and a NUL for hf_fmt_end(). */
void hf_fmt_init(struct hf_fmt *fmt, char *buf, size_t size, size_t tail);

/* What was appended so far is a good place to cut. */
void hf_fmt_boundary(struct hf_fmt *fmt);

/* Cut at the last boundary if something did not fit, then append TAIL and a NUL. Returns the length without NUL;
 * 0 and an empty string when not even the first field and TAIL fit. */
size_t hf_fmt_end(struct hf_fmt *fmt, const char *tail);

/* Trusted text, as it is. */
void hf_fmt_str(struct hf_fmt *fmt, const char *text);
void hf_fmt_u64(struct hf_fmt *fmt, uint64_t value);
void hf_fmt_i64(struct hf_fmt *fmt, int64_t value);
void hf_fmt_hex(struct hf_fmt *fmt, uint64_t value);

/*
 * Untrusted text, at most MAX bytes of output (8 or more), cut between characters with "..." when it is longer.
 * Printable UTF-8 passes; control characters, and those that reorder or break lines on a terminal, are escaped.
 * json: JSON escapes, a byte that is not UTF-8 becomes \ufffd; no quotes are put around it.
 * plain: \xNN and \uNNNN, a backslash is doubled.
 */
void hf_fmt_json(struct hf_fmt *fmt, const char *text, size_t max);
void hf_fmt_plain(struct hf_fmt *fmt, const char *text, size_t max);

/* "1.2.3.4:5" or "[::1]:5" (RFC 5952), IPv4-mapped as IPv4, a scope as "%3". false, appending nothing, for others. */
bool hf_fmt_addr(struct hf_fmt *fmt, const struct sockaddr *addr);

/* RFC 3339 in UTC with milliseconds, rounded down: 2026-11-23T16:40:53.123Z.  Years 0 to 9999. */
void hf_fmt_time(struct hf_fmt *fmt, const struct timespec *ts);

/* A duration for people: "250 ms" below a second, else "3.0 s". */
void hf_fmt_span(struct hf_fmt *fmt, uint64_t ms);

#endif
