/*
 * CRC32C, and the check of a frame header.
 *
 * A CRC is linear: the entry of a table for a byte is the sum (xor) of the entries for its bits.  So the tables are
 * spelled out by macros from eight constants each, and need neither a constructor nor code that fills them: a call may
 * come before any constructor has run.
 */
#include "core/frame.h"

#if defined(__SSE4_2__)
#include <nmmintrin.h>
#elif defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
#endif

/* The entry for byte I when A ... H are those for its bits, lowest first. */
#define BIT(i, n, x) ((i) >> (n)&1 ? (x) : 0)
#define SUM(i, a, b, c, d, e, f, g, h)                                                                            \
	(BIT(i, 0, a) ^ BIT(i, 1, b) ^ BIT(i, 2, c) ^ BIT(i, 3, d) ^ BIT(i, 4, e) ^ BIT(i, 5, f) ^ BIT(i, 6, g) ^ \
	 BIT(i, 7, h))
#define FOUR(i, ...) SUM(i, __VA_ARGS__), SUM(i + 1, __VA_ARGS__), SUM(i + 2, __VA_ARGS__), SUM(i + 3, __VA_ARGS__)
#define SIXTEEN(i, ...) \
	FOUR(i, __VA_ARGS__), FOUR(i + 4, __VA_ARGS__), FOUR(i + 8, __VA_ARGS__), FOUR(i + 12, __VA_ARGS__)
#define SIXTY4(i, ...)                                                                       \
	SIXTEEN(i, __VA_ARGS__), SIXTEEN(i + 16, __VA_ARGS__), SIXTEEN(i + 32, __VA_ARGS__), \
		SIXTEEN(i + 48, __VA_ARGS__)
#define TABLE(...)                                                                                                  \
	{                                                                                                           \
		SIXTY4(0, __VA_ARGS__), SIXTY4(64, __VA_ARGS__), SIXTY4(128, __VA_ARGS__), SIXTY4(192, __VA_ARGS__) \
	}

uint32_t hf_crc32c(uint32_t crc, const void *data, size_t size)
{
	static const uint32_t table[256] =
		TABLE(0xf26b8303, 0xe13b70f7, 0xc79a971f, 0x8ad958cf, 0x105ec76f, 0x20bd8ede, 0x417b1dbc, 0x82f63b78);
	const uint8_t *byte = data;

	crc = ~crc;
	for (size_t i = 0; i < size; i++)
		crc = crc >> 8 ^ table[(crc ^ byte[i]) & 0xff];
	return ~crc;
}

#if defined(__SSE4_2__)

uint16_t hf_header_check(const uint8_t header[HF_HEADER_SIZE])
{
	uint16_t head;
	uint32_t length;

	__builtin_memcpy(&head, header, sizeof head);
	__builtin_memcpy(&length, header + HF_HEADER_LENGTH, sizeof length);
	return (uint16_t)~_mm_crc32_u32(_mm_crc32_u16(~0U, head), length);
}

#elif defined(__ARM_FEATURE_CRC32) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__

uint16_t hf_header_check(const uint8_t header[HF_HEADER_SIZE])
{
	uint16_t head;
	uint32_t length;

	__builtin_memcpy(&head, header, sizeof head);
	__builtin_memcpy(&length, header + HF_HEADER_LENGTH, sizeof length);
	return (uint16_t)~__crc32cw(__crc32ch(~0U, head), length);
}

#else

/* One table for each of the six bytes: independent loads instead of a chain. */
uint16_t hf_header_check(const uint8_t header[HF_HEADER_SIZE])
{
	static const uint16_t table[6][256] = {
		TABLE(0x6b19, 0xa0c3, 0x3777, 0x181f, 0x303e, 0x168d, 0x5beb, 0xb7d6),
		TABLE(0x6fac, 0xdf58, 0xbeb0, 0x0b91, 0x61d3, 0xb557, 0x6aae, 0xd55c),
		TABLE(0xaab8, 0x2381, 0x31f3, 0x63e6, 0xb13d, 0x148b, 0x5fe7, 0xc93f),
		TABLE(0x927e, 0x520d, 0xa41a, 0x3ec5, 0x7d8a, 0xfb14, 0x80d9, 0x7743),
		TABLE(0x9877, 0x30ee, 0x61dc, 0xc3b8, 0xf181, 0xe302, 0xc604, 0xfaf9),
		TABLE(0x8303, 0x70f7, 0x971f, 0x58cf, 0xc76f, 0x8ede, 0x1dbc, 0x3b78),
	};
	enum { OF_ZEROS = 0x7c8a }; /* the check of six zero bytes */
	const uint8_t *length = header + HF_HEADER_LENGTH;

	return (uint16_t)(OF_ZEROS ^ table[0][header[HF_HEADER_TYPE]] ^ table[1][header[HF_HEADER_FLAGS]] ^
			  table[2][length[0]] ^ table[3][length[1]] ^ table[4][length[2]] ^ table[5][length[3]]);
}

#endif
