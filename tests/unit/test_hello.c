/* The handshake: what is made is read back; everything else is refused for the right reason. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "core/bytes.h"
#include "core/frame.h"
#include "core/hello.h"

#include <stdlib.h>

static const struct hf_key no_key = {NULL, 0};
static const struct hf_key key = {(const uint8_t *)"a shared secret", 15};
static const struct hf_key other_key = {(const uint8_t *)"b shared secret", 15};

static struct hf_hello client_hello(void)
{
	struct hf_hello hello = {
		.version = HF_WIRE_VERSION,
		.interval = 5000,
		.timeout = 15000,
		.buffer = 1 << 20,
		.pid = 4711,
		.offset = 0x123456789a,
		.prog = "redis-cli",
		.host = "db1.example.org",
		.info = "blue team",
	};

	memset(hello.session, 0x11, sizeof hello.session);
	memset(hello.nonce, 0x22, sizeof hello.nonce);
	return hello;
}

static struct hf_hello server_hello(void)
{
	struct hf_hello hello = client_hello();

	hello.flags = HF_HELLO_SERVER;
	memset(hello.nonce, 0x33, sizeof hello.nonce);
	return hello;
}

/* Read as the accepting side does. */
static enum hf_hello_result serve(const uint8_t *in, size_t size, const struct hf_key *with)
{
	struct hf_hello hello;
	size_t used;

	return hf_hello_read(in, size, with, false, NULL, NULL, &hello, &used);
}

/* Read as the client does that sent client_hello(). */
static enum hf_hello_result answered(const uint8_t *in, size_t size, const struct hf_key *with)
{
	struct hf_hello ours = client_hello(), hello;
	size_t used;

	return hf_hello_read(in, size, with, true, ours.nonce, ours.session, &hello, &used);
}

/* The check again, unkeyed, after a change. */
static void seal(uint8_t *in, size_t size)
{
	memset(in + size - HF_CHECK_SIZE, 0, HF_CHECK_SIZE);
	hf_put32(in + size - HF_CHECK_SIZE, hf_crc32c(0, in, size - HF_CHECK_SIZE));
}

static void there_and_back(void **state)
{
	const struct hf_key *keys[] = {&no_key, &key};

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct hf_hello in = client_hello(), out;
		uint8_t bytes[HF_HELLO_SIZE + 1] = {0};
		size_t used;

		hf_hello_make(bytes, &in, keys[i], NULL);
		for (size_t size = 0; size < HF_HELLO_SIZE; size++)
			assert_int_equal(serve(bytes, size, keys[i]), HF_HELLO_MORE);
		assert_int_equal(hf_hello_read(bytes, sizeof bytes, keys[i], false, NULL, NULL, &out, &used),
				 HF_HELLO_VALID);
		assert_int_equal(used, HF_HELLO_SIZE);
		if (i == 1)
			in.flags |= HF_HELLO_KEYED;
		assert_memory_equal(&in, &out, sizeof in);
		in = server_hello();
		hf_hello_make(bytes, &in, keys[i], client_hello().nonce);
		assert_int_equal(answered(bytes, HF_HELLO_SIZE, keys[i]), HF_HELLO_VALID);
	}
}

static void plain_at_first_difference(void **state)
{
	struct hf_hello in = client_hello();
	uint8_t bytes[HF_HELLO_SIZE];

	(void)state;
	assert_int_equal(serve((const uint8_t *)"GET / HTTP/1.1\r\n", 16, &no_key), HF_HELLO_PLAIN);
	assert_int_equal(serve((const uint8_t *)"G", 1, &no_key), HF_HELLO_PLAIN);
	assert_int_equal(serve((const uint8_t *)"", 0, &no_key), HF_HELLO_MORE);
	hf_hello_make(bytes, &in, &no_key, NULL);
	for (size_t i = 0; i < HF_MAGIC_SIZE; i++) {
		bytes[i] ^= 0x20;
		assert_int_equal(serve(bytes, i + 1, &no_key), HF_HELLO_PLAIN);
		assert_int_equal(serve(bytes, i, &no_key), HF_HELLO_MORE);
		bytes[i] ^= 0x20;
	}
}

/* No bit of a HELLO may change unnoticed. */
static void every_bit_counts(void **state)
{
	const struct hf_key *keys[] = {&no_key, &key};

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct hf_hello in = client_hello();
		uint8_t bytes[HF_HELLO_SIZE];

		hf_hello_make(bytes, &in, keys[i], NULL);
		for (size_t bit = 0; bit < sizeof bytes * 8; bit++) {
			bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
			assert_int_not_equal(serve(bytes, sizeof bytes, keys[i]), HF_HELLO_VALID);
			bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
		assert_int_equal(serve(bytes, sizeof bytes, keys[i]), HF_HELLO_VALID);
	}
}

static void keys_must_agree(void **state)
{
	struct hf_hello in = client_hello(), server = server_hello();
	uint8_t bytes[HF_HELLO_SIZE];

	(void)state;
	hf_hello_make(bytes, &in, &key, NULL);
	assert_int_equal(serve(bytes, sizeof bytes, &no_key), HF_HELLO_KEY);
	assert_int_equal(serve(bytes, sizeof bytes, &other_key), HF_HELLO_KEY);
	hf_hello_make(bytes, &in, &no_key, NULL);
	assert_int_equal(serve(bytes, sizeof bytes, &key), HF_HELLO_KEY);
	/* An answer to another client, replayed. */
	hf_hello_make(bytes, &server, &key, server.nonce);
	assert_int_equal(answered(bytes, sizeof bytes, &key), HF_HELLO_KEY);
	hf_hello_make(bytes, &server, &key, in.nonce);
	assert_int_equal(answered(bytes, sizeof bytes, &key), HF_HELLO_VALID);
	assert_int_equal(answered(bytes, sizeof bytes, &no_key), HF_HELLO_KEY);
}

static void versions_and_lengths(void **state)
{
	struct hf_hello in = client_hello(), out;
	uint8_t bytes[HF_HELLO_MOST] = {0};
	size_t used;

	(void)state;
	/* Longer, same version: what is added is skipped. */
	hf_hello_make(bytes, &in, &no_key, NULL);
	hf_put16(bytes + HF_HELLO_LENGTH, HF_HELLO_SIZE + 40);
	seal(bytes, HF_HELLO_SIZE + 40);
	assert_int_equal(serve(bytes, HF_HELLO_SIZE, &no_key), HF_HELLO_MORE);
	assert_int_equal(hf_hello_read(bytes, sizeof bytes, &no_key, false, NULL, NULL, &out, &used), HF_HELLO_VALID);
	assert_int_equal(used, HF_HELLO_SIZE + 40);
	/* Lengths that cannot be: known at the twelfth byte. */
	hf_put16(bytes + HF_HELLO_LENGTH, HF_HELLO_SIZE - 1);
	assert_int_equal(serve(bytes, 12, &no_key), HF_HELLO_BROKEN);
	hf_put16(bytes + HF_HELLO_LENGTH, HF_HELLO_MOST + 1);
	assert_int_equal(serve(bytes, 12, &no_key), HF_HELLO_BROKEN);
	hf_put16(bytes + HF_HELLO_LENGTH, 0);
	assert_int_equal(serve(bytes, 12, &no_key), HF_HELLO_BROKEN);
	/* Another version: read to its end, then refused, whatever its check. */
	hf_put16(bytes + HF_HELLO_LENGTH, HF_HELLO_SIZE + 40);
	hf_put16(bytes + HF_HELLO_VERSION, 2);
	assert_int_equal(serve(bytes, HF_HELLO_SIZE + 39, &no_key), HF_HELLO_MORE);
	assert_int_equal(hf_hello_read(bytes, sizeof bytes, &no_key, false, NULL, NULL, &out, &used), HF_HELLO_FOREIGN);
	assert_int_equal(used, HF_HELLO_SIZE + 40);
	assert_int_equal(out.version, 2);
	hf_put16(bytes + HF_HELLO_LENGTH, 44);
	assert_int_equal(hf_hello_read(bytes, 44, &no_key, false, NULL, NULL, &out, &used), HF_HELLO_FOREIGN);
	assert_int_equal(used, 44);
}

static void roles(void **state)
{
	struct hf_hello in = client_hello(), server = server_hello();
	uint8_t bytes[HF_HELLO_SIZE];

	(void)state;
	hf_hello_make(bytes, &in, &no_key, NULL);
	assert_int_equal(answered(bytes, sizeof bytes, &no_key), HF_HELLO_PLAIN); /* an echo service */
	in.nonce[0] ^= 1;
	hf_hello_make(bytes, &in, &no_key, NULL);
	assert_int_equal(answered(bytes, sizeof bytes, &no_key), HF_HELLO_BROKEN); /* a second client */
	hf_hello_make(bytes, &server, &no_key, in.nonce);
	assert_int_equal(serve(bytes, sizeof bytes, &no_key), HF_HELLO_BROKEN);
	server.session[15] ^= 1;
	hf_hello_make(bytes, &server, &no_key, in.nonce);
	assert_int_equal(answered(bytes, sizeof bytes, &no_key), HF_HELLO_BROKEN);
	in.flags = HF_HELLO_REFUSED;
	hf_hello_make(bytes, &in, &no_key, NULL);
	assert_int_equal(serve(bytes, sizeof bytes, &no_key), HF_HELLO_BROKEN);
}

static void texts(void **state)
{
	struct hf_hello in = client_hello(), out;
	uint8_t bytes[HF_HELLO_SIZE];
	size_t used;

	(void)state;
	memset(in.info, 'x', HF_INFO_SIZE); /* to the last byte, no NUL on the wire */
	hf_hello_make(bytes, &in, &no_key, NULL);
	memcpy(bytes + HF_HELLO_PROG, "a\nb\033[2J\x7f\xc3\xa9\0junk", 15);
	seal(bytes, sizeof bytes);
	assert_int_equal(hf_hello_read(bytes, sizeof bytes, &no_key, false, NULL, NULL, &out, &used), HF_HELLO_VALID);
	assert_string_equal(out.prog, "a?b?[2J?\xc3\xa9");
	assert_int_equal(strlen(out.info), HF_INFO_SIZE);
}

/* Against another implementation. */
static void hmac_known(void **state)
{
	/* HMAC-SHA-256("a shared secret", "holdfast proof" 16 x 0x22, 16 x 0x33), from Python's hmac. */
	static const uint8_t expect[] = {0x86, 0x65, 0x8c, 0x0f, 0xea, 0x6d, 0x11, 0x69, 0xcb, 0x11, 0x6d,
					 0x92, 0xd7, 0x58, 0x39, 0xaa, 0xfc, 0xe2, 0x9c, 0x2d, 0x4a, 0x67,
					 0x32, 0x90, 0x18, 0xad, 0x02, 0x97, 0x8e, 0x2b, 0xa8, 0xb4};
	/* The same with a key of 100 times 'k', longer than a block. */
	static const uint8_t expect_long[] = {0x8f, 0x99, 0x1c, 0x34, 0x26, 0x2a, 0x86, 0x43, 0x8d, 0xe2, 0x0f,
					      0x83, 0xee, 0x7b, 0x5c, 0x87, 0x0c, 0x23, 0xde, 0xb1, 0xb5, 0x24,
					      0x30, 0xd7, 0x46, 0x4c, 0x53, 0x9e, 0xf9, 0xf7, 0xf9, 0x5c};
	uint8_t out[HF_CHECK_SIZE], client[HF_NONCE_SIZE], server[HF_NONCE_SIZE], longkey[100];

	(void)state;
	memset(client, 0x22, sizeof client);
	memset(server, 0x33, sizeof server);
	memset(longkey, 'k', sizeof longkey);
	hf_proof_make(out, &key, client, server);
	assert_memory_equal(out, expect, sizeof out);
	hf_proof_make(out, &(struct hf_key){longkey, sizeof longkey}, client, server);
	assert_memory_equal(out, expect_long, sizeof out);
	assert_true(hf_check_equal(out, expect_long));
	for (int i = 0; i < HF_CHECK_SIZE; i++) {
		out[i] ^= 1;
		assert_false(hf_check_equal(out, expect_long));
		out[i] ^= 1;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(there_and_back),
		cmocka_unit_test(plain_at_first_difference),
		cmocka_unit_test(every_bit_counts),
		cmocka_unit_test(keys_must_agree),
		cmocka_unit_test(versions_and_lengths),
		cmocka_unit_test(roles),
		cmocka_unit_test(texts),
		cmocka_unit_test(hmac_known),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
