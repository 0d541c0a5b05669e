/* Writes seeds for the fuzz targets: make_corpus DIRECTORY, which has a subdirectory for each target. */
#include "core/bytes.h"
#include "core/frame.h"
#include "core/hello.h"
#include "core/resume.h"
#include "make_wrap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *directory;

/* FIRST chooses what the target does with it. */
static void put(const char *target, const char *name, uint8_t first, const uint8_t *bytes, size_t size)
{
	char path[4096];
	FILE *file;

	snprintf(path, sizeof path, "%s/%s/%s", directory, target, name);
	file = fopen(path, "w");
	if (!file || fputc(first, file) == EOF || fwrite(bytes, 1, size, file) != size || fclose(file) != 0) {
		perror(path);
		exit(1);
	}
}

static size_t frame(uint8_t *at, enum hf_frame_type type, const void *payload, size_t size)
{
	hf_header_make(at, type, (uint32_t)size);
	memcpy(at + HF_HEADER_SIZE, payload, size);
	return HF_HEADER_SIZE + size;
}

static void frames(void)
{
	uint8_t bytes[1024], zeros[HF_BEAT_SIZE] = {0};
	size_t n = 0, proof;

	n += frame(bytes + n, HF_FRAME_DATA, "hello, world", 12);
	put("fuzz_squeeze", "data", 2, bytes, n);
	n += frame(bytes + n, HF_FRAME_BEAT, zeros, HF_BEAT_SIZE);
	n += frame(bytes + n, HF_FRAME_DATA, "x", 1);
	n += frame(bytes + n, HF_FRAME_ACK, zeros, HF_ACK_SIZE);
	put("fuzz_squeeze", "mixed", 6, bytes, n);
	n += frame(bytes + n, HF_FRAME_FIN, "", 0);
	n += frame(bytes + n, HF_FRAME_BEAT, zeros, HF_BEAT_SIZE);
	n += frame(bytes + n, HF_FRAME_BYE, "", 0);
	put("fuzz_squeeze", "whole", 8, bytes, n);
	put("fuzz_squeeze", "cut", 0, bytes, n - 3);
	proof = frame(bytes, HF_FRAME_PROOF, zeros, HF_CHECK_SIZE);
	proof += frame(bytes + proof, HF_FRAME_DATA, "after the proof", 15);
	put("fuzz_squeeze", "proof", 0x80, bytes, proof);
	hf_header_make(bytes, HF_FRAME_DATA, HF_DATA_MOST);
	put("fuzz_squeeze", "longest", 0, bytes, 64);
	put("fuzz_squeeze", "stray", 0, (const uint8_t *)"GET / HTTP/1.1\r\n", 16);
}

static void hellos(void)
{
	struct hf_hello hello = {.version = HF_WIRE_VERSION, .interval = 5000, .prog = "nc", .info = "blue"};
	struct hf_key key = {(const uint8_t *)"secret", 6}, none = {NULL, 0};
	uint8_t bytes[HF_HELLO_SIZE + 64] = {0};

	memcpy(hello.session, "session's number", HF_SESSION_SIZE);
	hf_hello_make(bytes, &hello, &none, NULL);
	put("fuzz_hello", "client", 0, bytes, HF_HELLO_SIZE);
	put("fuzz_hello", "half", 0, bytes, 100);
	hf_put16(bytes + HF_HELLO_VERSION, 2);
	put("fuzz_hello", "version", 0, bytes, HF_HELLO_SIZE);
	hf_put16(bytes + HF_HELLO_LENGTH, HF_HELLO_SIZE + 64);
	put("fuzz_hello", "longer", 0, bytes, sizeof bytes);
	hf_hello_make(bytes, &hello, &key, NULL);
	put("fuzz_hello", "keyed", 2, bytes, HF_HELLO_SIZE);
	memcpy(hello.nonce, "client's nonce.", HF_NONCE_SIZE);
	hf_hello_make(bytes, &hello, &none, NULL);
	put("fuzz_hello", "echo", 1, bytes, HF_HELLO_SIZE);
	hello.flags = HF_HELLO_SERVER;
	hf_hello_make(bytes, &hello, &none, hello.nonce);
	put("fuzz_hello", "server", 1, bytes, HF_HELLO_SIZE);
	hf_hello_make(bytes, &hello, &key, hello.nonce);
	put("fuzz_hello", "server-keyed", 3, bytes, HF_HELLO_SIZE);
	put("fuzz_hello", "plain", 0, (const uint8_t *)"+PONG\r\n", 7);
}

/* The session's state and an offset stand before the HELLO. */
static void resume(const char *name, const uint8_t state[4], uint64_t offset, const struct hf_key *shared, size_t size)
{
	struct hf_hello hello = {.version = HF_WIRE_VERSION, .flags = HF_HELLO_RESUME, .offset = offset};
	uint8_t bytes[12 + HF_HELLO_SIZE], key[HF_CHECK_SIZE];

	hf_resume_key(key, shared, (const uint8_t *)"session's number");
	hf_resume_name(hello.session, key);
	memcpy(bytes, state, 4);
	hf_put64(bytes + 4, offset);
	hf_hello_make(bytes + 12, &hello, &(struct hf_key){key, sizeof key}, NULL);
	put("fuzz_resume", name, bytes[0], bytes + 1, 11 + size);
}

static void resumes(void)
{
	static const uint8_t open[] = {0, 40, 100, 7}, fin[] = {8, 40, 100, 40}, bye[] = {4, 40, 100, 40};
	static const uint8_t keyed[] = {1 | 16 | 32, 40, 100, 7};
	const struct hf_key secret = {(const uint8_t *)"secret", 6}, none = {NULL, 0};

	resume("open", open, 100 << 7, &none, HF_HELLO_SIZE);
	resume("fin", fin, 100, &none, HF_HELLO_SIZE);
	resume("bye", bye, 102, &none, HF_HELLO_SIZE);
	resume("keyed", keyed, 12801, &secret, HF_HELLO_SIZE);
	resume("most", open, UINT64_MAX, &none, HF_HELLO_SIZE);
	resume("half", open, 0, &none, 40);
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: make_corpus DIRECTORY\n");
		return 2;
	}
	directory = argv[1];
	frames();
	hellos();
	resumes();
	for (size_t i = 0; i < sizeof wraps / sizeof wraps[0]; i++)
		put("fuzz_wrap", wraps[i].name, wraps[i].bytes[0], wraps[i].bytes + 1, wraps[i].size - 1);
	return 0;
}
