#include "core/hello.h"

#include "core/bytes.h"
#include "core/frame.h"

#include <sha256.h>

enum { BLOCK_SIZE = 64 }; /* of SHA-256, RFC 2104's B */

/* One part of what a check covers. */
struct part {
	const void *bytes;
	size_t size;
};

#if defined(__has_attribute)
#if __has_attribute(zero_call_used_regs)
#define CLEAR_REGISTERS __attribute__((noinline, zero_call_used_regs("all")))
#endif
#endif
#ifndef CLEAR_REGISTERS
#define CLEAR_REGISTERS __attribute__((noinline))
#endif

CLEAR_REGISTERS void hf_forget(void *secret, size_t size)
{
	/* libc's copying uses registers that no compiler does unasked; so many bytes go through all of them. */
	static void *(*const volatile copy)(void *, const void *, size_t) = memcpy;
	static const uint8_t zeros[512];
	uint8_t nowhere[sizeof zeros];

	explicit_bzero(secret, size);
	copy(nowhere, zeros, sizeof zeros);
}

static void sha256(uint8_t out[HF_CHECK_SIZE], const uint8_t pad[BLOCK_SIZE], const struct part *parts, size_t count)
{
	SHA2_CTX ctx;

	SHA256Init(&ctx);
	if (pad)
		SHA256Update(&ctx, pad, BLOCK_SIZE);
	for (size_t i = 0; i < count; i++)
		SHA256Update(&ctx, parts[i].bytes, parts[i].size);
	SHA256Final(out, &ctx);
	explicit_bzero(&ctx, sizeof ctx);
}

/* HMAC-SHA-256, RFC 2104. */
static void hmac(uint8_t out[HF_CHECK_SIZE], const struct hf_key *key, const struct part *parts, size_t count)
{
	uint8_t pad[BLOCK_SIZE] = {0}, inner[HF_CHECK_SIZE];

	if (key->size > BLOCK_SIZE)
		sha256(pad, NULL, &(struct part){key->bytes, key->size}, 1);
	else
		memcpy(pad, key->bytes, key->size);
	for (size_t i = 0; i < BLOCK_SIZE; i++)
		pad[i] ^= 0x36;
	sha256(inner, pad, parts, count);
	for (size_t i = 0; i < BLOCK_SIZE; i++)
		pad[i] ^= 0x36 ^ 0x5c;
	sha256(out, pad, &(struct part){inner, sizeof inner}, 1);
	hf_forget(pad, sizeof pad);
}

void hf_hmac(uint8_t out[HF_CHECK_SIZE], const struct hf_key *key, const void *a, size_t a_size, const void *b,
	     size_t b_size)
{
	hmac(out, key, (struct part[]){{a, a_size}, {b, b_size}}, b != NULL ? 2 : 1);
}

bool hf_check_equal(const uint8_t a[HF_CHECK_SIZE], const uint8_t b[HF_CHECK_SIZE])
{
	volatile uint8_t differ = 0;

	for (size_t i = 0; i < HF_CHECK_SIZE; i++)
		differ |= a[i] ^ b[i];
	return differ == 0;
}

/* The check of a HELLO whose first SIZE bytes stand in IN. */
static void check_make(uint8_t out[HF_CHECK_SIZE], const uint8_t *in, size_t size, const struct hf_key *key,
		       const uint8_t *client_nonce)
{
	struct part parts[2] = {{in, size}, {client_nonce, HF_NONCE_SIZE}};

	if (key->size > 0) {
		hmac(out, key, parts, client_nonce ? 2 : 1);
		return;
	}
	memset(out, 0, HF_CHECK_SIZE);
	hf_put32(out, hf_crc32c(0, in, size));
}

void hf_proof_make(uint8_t out[HF_CHECK_SIZE], const struct hf_key *key, const uint8_t client_nonce[HF_NONCE_SIZE],
		   const uint8_t server_nonce[HF_NONCE_SIZE])
{
	static const char label[] = "holdfast proof";
	struct part parts[3] = {
		{label, sizeof label - 1}, {client_nonce, HF_NONCE_SIZE}, {server_nonce, HF_NONCE_SIZE}};

	hmac(out, key, parts, 3);
}

static void put_text(uint8_t *to, const char *text, size_t size)
{
	memcpy(to, text, strnlen(text, size));
}

/* TO has room for SIZE bytes and a NUL. */
static void get_text(char *to, const uint8_t *from, size_t size)
{
	size_t i;

	for (i = 0; i < size && from[i] != 0; i++)
		to[i] = (char)(from[i] < 0x20 || from[i] == 0x7f ? '?' : from[i]);
	memset(to + i, 0, size + 1 - i);
}

void hf_hello_make(uint8_t out[HF_HELLO_SIZE], const struct hf_hello *hello, const struct hf_key *key,
		   const uint8_t client_nonce[HF_NONCE_SIZE])
{
	uint32_t flags = hello->flags & ~(uint32_t)HF_HELLO_KEYED;

	memset(out, 0, HF_HELLO_SIZE);
	memcpy(out + HF_HELLO_MAGIC, HF_MAGIC, HF_MAGIC_SIZE);
	hf_put16(out + HF_HELLO_VERSION, hello->version);
	hf_put16(out + HF_HELLO_LENGTH, HF_HELLO_SIZE);
	hf_put32(out + HF_HELLO_FLAGS, key->size > 0 ? flags | HF_HELLO_KEYED : flags);
	memcpy(out + HF_HELLO_SESSION, hello->session, HF_SESSION_SIZE);
	memcpy(out + HF_HELLO_NONCE, hello->nonce, HF_NONCE_SIZE);
	hf_put32(out + HF_HELLO_INTERVAL, hello->interval);
	hf_put32(out + HF_HELLO_TIMEOUT, hello->timeout);
	hf_put32(out + HF_HELLO_BUFFER, hello->buffer);
	hf_put32(out + HF_HELLO_PID, hello->pid);
	hf_put64(out + HF_HELLO_OFFSET, hello->offset);
	put_text(out + HF_HELLO_PROG, hello->prog, HF_PROG_SIZE);
	put_text(out + HF_HELLO_HOST, hello->host, HF_HOST_SIZE);
	put_text(out + HF_HELLO_INFO, hello->info, HF_INFO_SIZE);
	check_make(out + HF_HELLO_CHECK, out, HF_HELLO_CHECK, key, client_nonce);
}

/* IN has at least HF_HELLO_SIZE bytes. */
static void fields_read(const uint8_t *in, struct hf_hello *hello)
{
	hello->flags = hf_get32(in + HF_HELLO_FLAGS);
	memcpy(hello->session, in + HF_HELLO_SESSION, HF_SESSION_SIZE);
	memcpy(hello->nonce, in + HF_HELLO_NONCE, HF_NONCE_SIZE);
	hello->interval = hf_get32(in + HF_HELLO_INTERVAL);
	hello->timeout = hf_get32(in + HF_HELLO_TIMEOUT);
	hello->buffer = hf_get32(in + HF_HELLO_BUFFER);
	hello->pid = hf_get32(in + HF_HELLO_PID);
	hello->offset = hf_get64(in + HF_HELLO_OFFSET);
	get_text(hello->prog, in + HF_HELLO_PROG, HF_PROG_SIZE);
	get_text(hello->host, in + HF_HELLO_HOST, HF_HOST_SIZE);
	get_text(hello->info, in + HF_HELLO_INFO, HF_INFO_SIZE);
}

/* A complete HELLO of our version, LENGTH bytes: does it fit, and is it genuine? */
static enum hf_hello_result judge(const uint8_t *in, size_t length, const struct hf_key *key, bool expect_server,
				  const uint8_t *client_nonce, const uint8_t *session, const struct hf_hello *hello)
{
	const uint8_t *given = in + length - HF_CHECK_SIZE;
	bool server = hello->flags & HF_HELLO_SERVER, keyed = hello->flags & HF_HELLO_KEYED;
	uint8_t check[HF_CHECK_SIZE];

	/* Our own words: an echo service, or a socket connected to itself. */
	if (expect_server && !server && client_nonce && memcmp(hello->nonce, client_nonce, HF_NONCE_SIZE) == 0)
		return HF_HELLO_PLAIN;
	if (server != expect_server || (!server && hello->flags & HF_HELLO_REFUSED))
		return HF_HELLO_BROKEN;
	if (keyed != (key->size > 0))
		return HF_HELLO_KEY;
	check_make(check, in, length - HF_CHECK_SIZE, key, expect_server ? client_nonce : NULL);
	if (!hf_check_equal(check, given))
		return keyed ? HF_HELLO_KEY : HF_HELLO_BROKEN;
	if (expect_server && session && memcmp(hello->session, session, HF_SESSION_SIZE) != 0)
		return HF_HELLO_BROKEN;
	return HF_HELLO_VALID;
}

enum hf_hello_result hf_hello_read(const uint8_t *in, size_t size, const struct hf_key *key, bool expect_server,
				   const uint8_t *client_nonce, const uint8_t *session, struct hf_hello *hello,
				   size_t *used)
{
	/* Of a version we do not know, only what precedes the flags and the check at the end are certain. */
	enum { HEAD_SIZE = HF_HELLO_FLAGS, LEAST = HF_HELLO_FLAGS + HF_CHECK_SIZE };
	enum hf_hello_result result = HF_HELLO_FOREIGN;
	size_t length;

	*used = 0;
	if (size == 0)
		return HF_HELLO_MORE;
	if (memcmp(in, HF_MAGIC, size < HF_MAGIC_SIZE ? size : HF_MAGIC_SIZE) != 0)
		return HF_HELLO_PLAIN;
	if (size < HEAD_SIZE)
		return HF_HELLO_MORE;
	memset(hello, 0, sizeof *hello);
	hello->version = hf_get16(in + HF_HELLO_VERSION);
	length = hf_get16(in + HF_HELLO_LENGTH);
	if (length < (hello->version == HF_WIRE_VERSION ? (size_t)HF_HELLO_SIZE : (size_t)LEAST) ||
	    length > HF_HELLO_MOST)
		return HF_HELLO_BROKEN;
	if (size < length)
		return HF_HELLO_MORE;
	if (length >= HF_HELLO_SIZE)
		fields_read(in, hello);
	if (hello->version == HF_WIRE_VERSION)
		result = judge(in, length, key, expect_server, client_nonce, session, hello);
	if (result != HF_HELLO_PLAIN)
		*used = length;
	return result;
}
