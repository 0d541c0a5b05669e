/*
 * Any bytes as the first of a connection that would resume a session, and any offset in them: no crash; what is taken
 * for a RESUME is what hf_hello_read() takes for one; what is sent again is only what is kept.  The first bytes choose
 * the key and how the session stands; the offset is that of the HELLO and also the eight bytes before it.
 */
#include "core/bytes.h"
#include "core/resume.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { RING = 64, HEAD = 12 };

static void check(bool good)
{
	if (!good)
		abort();
}

/* The session as HEAD's first four bytes say it stands: everything an honest sender can come to. */
static void stand(const uint8_t *head, struct hf_ring *ring, struct hf_tx *tx, struct hf_rx *rx)
{
	*ring = (struct hf_ring){.size = 1 + head[1] % RING, .start = (uint64_t)head[2] << (head[3] % 56)};
	ring->end = ring->start + head[1] % (ring->size + 1);
	ring->fin = head[0] & 16;
	*tx = (struct hf_tx){.sent = ring->start + head[3] % (ring->end - ring->start + 1), .bye = head[0] & 4};
	tx->fin = tx->sent == ring->end && (head[0] & 8);
	*rx = (struct hf_rx){.received = head[2], .fin = head[0] & 32, .bye = head[0] & 64};
}

static void resume(const uint8_t *head, uint64_t offset)
{
	uint8_t *memory = malloc(RING);
	struct hf_session session;
	enum hf_resume_from from;
	struct hf_ring ring;
	struct hf_tx tx;
	struct hf_rx rx;
	uint64_t last, left;

	check(memory != NULL);
	memset(memory, 0, RING);
	stand(head, &ring, &tx, &rx);
	hf_session_init(&session, 1000, 5000, 5000, 15000, 1);
	hf_resume_break(&rx, &tx, &ring);
	check(hf_resume_arrived(&tx, &ring, offset) == ring.start);
	last = ring.end + (ring.bye ? 2 : ring.fin);
	from = hf_resume_from(&tx, &ring, offset);
	check(from == HF_RESUME_NO || (offset <= last && offset + 2 >= tx.sent));
	if (from != HF_RESUME_NO) {
		check(tx.sent >= ring.start && tx.sent <= ring.end && ring.end - ring.start <= ring.size);
		check((tx.fin || tx.bye) == (offset > ring.end));
		check((from == HF_RESUME_AND_END) == (last > ring.end && offset < last));
		for (left = tx.sent; left < ring.end;) { /* all that is kept, in pieces of its memory */
			const uint8_t *at = NULL;
			size_t n = hf_ring_at(&ring, memory, left, &at);

			check(n > 0 && at >= memory && at + n <= memory + ring.size);
			left += n;
		}
		check(left == ring.end);
		hf_resume_session(&session, &rx, &tx, 2000);
		check(session.state <= HF_S_TIME_WAIT);
	}
	free(memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t id[HF_SESSION_SIZE] = "session's number";
	const struct hf_key shared = {(const uint8_t *)"secret", data != NULL && size > 0 && (data[0] & 1) ? 6 : 0};
	uint8_t bytes[HF_CHECK_SIZE], name[HF_SESSION_SIZE], own[HF_SESSION_SIZE];
	const struct hf_key key = {bytes, sizeof bytes};
	enum hf_hello_result result;
	struct hf_hello hello;
	uint8_t *copy;
	size_t used;
	bool called;

	if (size < HEAD)
		return 0;
	resume(data, hf_get64(data + 4));
	hf_resume_key(bytes, &shared, id);
	hf_resume_name(own, bytes);
	copy = malloc(size - HEAD + 1); /* exact, but for nothing at all: the sanitizer sees a byte too far */
	check(copy != NULL);
	memcpy(copy, data + HEAD, size - HEAD);
	called = hf_resume_called(copy, size - HEAD, name);
	result = hf_hello_read(copy, size - HEAD, &key, false, NULL, NULL, &hello, &used);
	if (result == HF_HELLO_VALID) {
		check(called == ((hello.flags & HF_HELLO_RESUME) != 0));
		check(!called || memcmp(name, hello.session, sizeof name) == 0);
	}
	check(result != HF_HELLO_PLAIN || !called);
	/* Whoever made the HELLO, what it expects is only a number. */
	if (used >= HF_HELLO_SIZE && result != HF_HELLO_FOREIGN)
		resume(data, hello.offset);
	free(copy);
	return 0;
}
