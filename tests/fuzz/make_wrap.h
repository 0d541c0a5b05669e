/*
 * Seeds for fuzz_wrap: what a sibling wrote that once led the library astray, and the paths to it.  The numbers of
 * operations and fields are those of fuzz_wrap.c.
 */
#ifndef FUZZ_MAKE_WRAP_H
#define FUZZ_MAKE_WRAP_H

#include <stdint.h>

enum { CLIENT = 1, RECONNECT = 2, GREETED = 4, WAITS = 8 }; /* the first byte */

enum { DATA = 0, BEAT, FIN, BYE, ACK, RAW, HELLO, ENDS, READS, WRITES = 10, SHUTS = 12, LOOKS, TENDS, DOES = 16 };
enum { ADOPTS = 17, SENDFILE, HEAD, TEXTS = 21, FIELD };

enum {
	F_PHASE = 0,
	F_PAYLOAD = 6,
	F_HAVE = 7,
	F_TYPE = 8,
	F_OWED_SIZE = 17,
	F_QUEUED = 27,
	F_FLUSHED = 28,
	F_BROKEN = 56,
};

/* A value of fuzz_wrap.c's value(): below 64, or that far below 2^64. */
#define SMALL(n)         (uint8_t)((n)*4)
#define LARGE(n)         (uint8_t)((n)*4 + 1)
#define SET(field, what) FIELD, field, 0, what

static const uint8_t w_client[] = {CLIENT, HELLO, LOOKS, 0, WRITES, 0, 99, 0, TENDS, 20};
static const uint8_t w_server[] = {0, WRITES, 1, 0, HELLO, LOOKS, 0, TENDS, 20, READS, 1, 0, 0};
static const uint8_t w_frames[] = {CLIENT | GREETED,
				   DATA,
				   0,
				   99,
				   READS,
				   0,
				   50,
				   0,
				   READS,
				   0,
				   50,
				   1,
				   BEAT,
				   TENDS,
				   20,
				   WRITES,
				   3,
				   0,
				   TENDS,
				   40,
				   DATA,
				   0,
				   99,
				   LOOKS,
				   1,
				   FIN,
				   1,
				   READS,
				   1,
				   0,
				   0,
				   SHUTS,
				   1,
				   TENDS,
				   40,
				   BYE,
				   TENDS,
				   1};
static const uint8_t w_plain[] = {CLIENT, WRITES, 0, 9, RAW, 4, 'o', 'k', '\r', '\n', LOOKS, 0, ENDS, 1, LOOKS, 0};
static const uint8_t w_broken[] = {CLIENT | RECONNECT | GREETED,
				   WRITES,
				   3,
				   0,
				   DATA,
				   0,
				   99,
				   ENDS,
				   2,
				   TENDS,
				   4,
				   TENDS,
				   4,
				   TENDS,
				   4,
				   TENDS,
				   4,
				   TENDS,
				   4,
				   ENDS,
				   1,
				   TENDS,
				   9,
				   HELLO,
				   0,
				   TENDS,
				   4,
				   TENDS,
				   4,
				   WRITES,
				   0,
				   9};
/* The queue's ends: moved, then sent, from beyond it. */
static const uint8_t w_queue_moved[] = {CLIENT, WRITES, 0, 99, SET(F_QUEUED, LARGE(1)), SET(F_FLUSHED, SMALL(9)),
					WRITES, 0,      99};
static const uint8_t w_queue_sent[] = {CLIENT, WRITES, 0, 99, SET(F_QUEUED, LARGE(1)), HELLO, LOOKS, 0};
/* More owed than there is room for; a header and a control frame longer than theirs. */
static const uint8_t w_owed[] = {CLIENT | GREETED, SET(F_OWED_SIZE, LARGE(1)), WRITES, 0, 99, TENDS, 9};
static const uint8_t w_payload[] = {
	CLIENT | GREETED, SET(F_TYPE, SMALL(2)), SET(F_PAYLOAD, LARGE(1)), DATA, 1, 0, READS, 1, 0, 0};
static const uint8_t w_have[] = {CLIENT | GREETED, SET(F_HAVE, LARGE(9)), DATA, 1, 0, LOOKS, 0, READS, 1, 0, 0};
static const uint8_t w_texts[] = {
	CLIENT | GREETED, TEXTS, SET(F_HAVE, SMALL(1)), RAW, 7, 1, 1, 1, 1, 1, 1, 1, LOOKS, 0};
/* Broken, as it seems, and nobody will ever mend it. */
static const uint8_t w_phase[] = {CLIENT | GREETED | WAITS, SET(F_PHASE, SMALL(5)), DATA, 0, 9, READS, 0, 9, 1};
static const uint8_t w_nothing_kept[] = {
	CLIENT | GREETED | WAITS, SET(F_BROKEN, SMALL(1)), READS, 0, 9, 1, WRITES, 0, 9, SENDFILE, 0, 9};
static const uint8_t w_plain_broken[] = {
	CLIENT | WAITS, SET(F_PHASE, SMALL(4)), SET(F_BROKEN, SMALL(1)), READS, 0, 9, 0};
/* Somebody looks for more when the peer's end has come, the path broke and the time is up. */
static const uint8_t w_peek_after_fin[] = {CLIENT | RECONNECT | GREETED | WAITS,
					   FIN,
					   0,
					   LOOKS,
					   0,
					   DOES,
					   2,
					   1,
					   TENDS,
					   4,
					   TENDS,
					   4,
					   TENDS,
					   4,
					   TENDS,
					   4,
					   TENDS,
					   250,
					   TENDS,
					   250,
					   TENDS,
					   250,
					   TENDS,
					   250,
					   TENDS,
					   250,
					   READS,
					   0,
					   9,
					   1};

#define W(name)                                  \
	{                                        \
#name, w_##name, sizeof w_##name \
	}
static const struct {
	const char *name;
	const uint8_t *bytes;
	size_t size;
} wraps[] = {W(client),  W(server), W(frames), W(plain), W(broken),       W(queue_moved),  W(queue_sent),    W(owed),
	     W(payload), W(have),   W(texts),  W(phase), W(nothing_kept), W(plain_broken), W(peek_after_fin)};
#undef W

#endif
