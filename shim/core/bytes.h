/* Little-endian numbers in byte arrays, whatever the machine's order. */
#ifndef HOLDFAST_CORE_BYTES_H
#define HOLDFAST_CORE_BYTES_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t hf_get16(const uint8_t *from)
{
	uint16_t n;

	memcpy(&n, from, sizeof n);
	return le16toh(n);
}

static inline uint32_t hf_get32(const uint8_t *from)
{
	uint32_t n;

	memcpy(&n, from, sizeof n);
	return le32toh(n);
}

static inline uint64_t hf_get64(const uint8_t *from)
{
	uint64_t n;

	memcpy(&n, from, sizeof n);
	return le64toh(n);
}

/*
 * X read once, whatever the compiler thinks.  State that lies in memory shared with other processes (holdfast/arena.h)
 * may be written to by them at any moment: a number that is to be an index or a size is read, bounded and used, and not
 * read again in between.
 */
#define hf_once(x) (*(const volatile __typeof__(x) *)&(x))

static inline void hf_put16(uint8_t *to, uint16_t n)
{
	n = htole16(n);
	memcpy(to, &n, sizeof n);
}

static inline void hf_put32(uint8_t *to, uint32_t n)
{
	n = htole32(n);
	memcpy(to, &n, sizeof n);
}

static inline void hf_put64(uint8_t *to, uint64_t n)
{
	n = htole64(n);
	memcpy(to, &n, sizeof n);
}

#endif
