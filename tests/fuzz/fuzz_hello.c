/*
 * Any bytes into hf_hello_read(), as client and server, keyed and not: no crash; a verdict, once given, does not change
 * when more bytes come; texts are terminated and clean.  The first byte chooses the side and the key.
 */
#include "core/hello.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const char *text, size_t room)
{
	size_t size = strnlen(text, room);

	if (size == room)
		abort();
	for (size_t i = 0; i < size; i++) {
		if ((uint8_t)text[i] < 0x20 || text[i] == 0x7f)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t nonce[HF_NONCE_SIZE] = "client's nonce.", session[HF_SESSION_SIZE] = "session's number";
	struct hf_key key = {(const uint8_t *)"secret", 6};
	enum hf_hello_result last = HF_HELLO_MORE;
	size_t last_used = 0;
	bool server;

	if (size == 0)
		return 0;
	server = data[0] & 1;
	if (!(data[0] & 2))
		key.size = 0;
	data++;
	size--;
	for (size_t n = 0; n <= size && n <= HF_HELLO_MOST + 1;) {
		uint8_t *copy = malloc(n ? n : 1); /* exact: the sanitizer sees a byte too far */
		struct hf_hello hello;
		enum hf_hello_result result;
		size_t used;

		if (!copy)
			abort();
		memcpy(copy, data, n);
		result = hf_hello_read(copy, n, &key, server, server ? nonce : NULL, server ? session : NULL, &hello,
				       &used);
		free(copy);
		if (used > n || (result == HF_HELLO_VALID && used < HF_HELLO_SIZE))
			abort();
		if (last != HF_HELLO_MORE && (result != last || used != last_used))
			abort();
		if (result == HF_HELLO_MORE && n >= HF_HELLO_MOST)
			abort();
		if (used > 0) {
			check_text(hello.prog, sizeof hello.prog);
			check_text(hello.host, sizeof hello.host);
			check_text(hello.info, sizeof hello.info);
		}
		last = result;
		last_used = used;
		n = n < 16 || n == size ? n + 1 : size - n < 61 ? size : n + 61;
	}
	return 0;
}
