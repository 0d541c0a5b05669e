/*
 * The input of a fuzz target, byte by byte, and the numbers in it that a hostile writer would choose.  Included once,
 * by the target, which sets INPUT and INPUT_END.
 */
#ifndef HOLDFAST_FUZZ_INPUT_H
#define HOLDFAST_FUZZ_INPUT_H

#include <stdint.h>

static const uint8_t *input, *input_end;

/* 0 behind the end. */
static uint8_t byte(void)
{
	return input < input_end ? *input++ : 0;
}

/* Small numbers, large ones, those near a power of two, or any. */
static uint64_t value(void)
{
	uint8_t kind = byte();
	uint64_t n = 0;

	switch (kind % 4) {
	case 0:
		return kind / 4;
	case 1:
		return UINT64_MAX - kind / 4;
	case 2:
		return ((uint64_t)1 << kind / 4) + byte() - 128;
	default:
		for (int i = 0; i < 8; i++)
			n = n << 8 | byte();
		return n;
	}
}

#endif
