/*
 * Numbers, times and addresses for people, in few columns; texts of others made harmless.  Used by top, explain and
 * metrics.  Pure.
 */
#ifndef HOLDFAST_VIEW_TEXT_H
#define HOLDFAST_VIEW_TEXT_H

#include <holdfast/arena.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* A short text by value: "3.2s". */
struct hf_short {
	char text[32];
};

/* Rounded down, five columns at most: 250ms 3.2s 75s 15m 30h 12d. */
struct hf_short hf_short_ms(uint64_t ms);
/* 54us 3.2ms 310ms 3.2s; "-" for 0, which means unknown. */
struct hf_short hf_short_us(uint32_t us);
/* 999 9.9K 123K 1.2M: powers of 1024. */
struct hf_short hf_short_bytes(uint64_t bytes);

/* "1.2.3.4:5", "[::1]:5", or "?". */
struct hf_address_text {
	char text[72];
};
/* Of a struct sockaddr_in or sockaddr_in6. */
struct hf_address_text hf_address(const uint8_t bytes[28]);
struct hf_address_text hf_end_text(const struct hf_ends *ends, bool peer);

/* TEXT of at most SIZE bytes, up to its NUL, with control characters and the like escaped: for a terminal. */
struct hf_plain {
	char text[256];
};
struct hf_plain hf_plain(const char *text, size_t size);

/* The same as a JSON string, quotes included. */
void hf_put_json(FILE *out, const char *text, size_t size);

/* The last COUNT of the round trips in RING (RING_SIZE, TOTAL ever put in), oldest first, into US.  Returns how many.
 */
size_t hf_last_rtts(const uint32_t *ring, size_t ring_size, uint32_t total, uint32_t *us, size_t count);

/* A bar for each, lowest to highest of them: blocks (UTF-8) or, without UTF8, ASCII. */
struct hf_spark {
	char text[64];
};
struct hf_spark hf_spark(const uint32_t *us, size_t count, bool utf8);

#endif
