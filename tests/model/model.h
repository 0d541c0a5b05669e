/*
 * What the models share: TAP lines, the first thing that went wrong, the bytes of programs, the states gone through,
 * numbers.
 */
#ifndef MODEL_H
#define MODEL_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEEN_BITS = 24 };

static const char *broken; /* what went wrong first */
static uint64_t *seen_states, random_state;

static int failures;

static void result(bool good, const char *what)
{
	printf("%sok %s\n", good ? "" : "not ", what);
	failures += !good;
}

static void fail(const char *what)
{
	if (!broken)
		broken = what;
}

/* Byte N of what the program at end E writes. */
static uint8_t program_byte(int e, uint64_t n)
{
	return (uint8_t)(n * 167 + (n >> 8) * 13 + (e ? 91 : 5));
}

static uint64_t hash_bytes(uint64_t hash, const void *data, size_t size)
{
	const uint8_t *byte = data;

	while (size > 0) {
		uint64_t word = 0;
		size_t n = size < 8 ? size : 8;

		memcpy(&word, byte, n);
		hash = (hash ^ word) * 0x9e3779b97f4a7c15;
		hash ^= hash >> 29;
		byte += n;
		size -= n;
	}
	return hash;
}

/* Whether HASH is new. */
static bool remember(uint64_t hash)
{
	size_t at = hash >> (64 - SEEN_BITS);

	while (seen_states[at] != 0) {
		if (seen_states[at] == hash)
			return false;
		at = (at + 1) & (((size_t)1 << SEEN_BITS) - 1);
	}
	seen_states[at] = hash;
	return true;
}

static uint64_t draw(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static uint32_t between(uint32_t low, uint32_t high)
{
	return low + (uint32_t)(draw() % (high - low + 1));
}

static bool one_in(uint32_t n)
{
	return draw() % n == 0;
}

#endif
