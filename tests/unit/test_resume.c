/* Resuming: the ring, offsets whatever they are, the session's state, keys. The whole is run in model/test_outages.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "core/bytes.h"
#include "core/resume.h"

#include <stdlib.h>

static uint8_t byte_at(uint64_t n)
{
	return (uint8_t)(n * 7 + (n >> 8));
}

static void put(struct hf_ring *ring, uint8_t *memory, size_t n)
{
	uint8_t bytes[64];

	for (size_t i = 0; i < n; i++)
		bytes[i] = byte_at(ring->end + i);
	hf_ring_put(ring, memory, bytes, n);
}

/* Everything that is kept is there, in one or two pieces. */
static void check_ring(const struct hf_ring *ring, const uint8_t *memory)
{
	const uint8_t *at = NULL;

	assert_int_equal(hf_ring_room(ring) + (ring->end - ring->start), ring->size);
	for (uint64_t n = ring->start; n < ring->end; n++) {
		size_t size = hf_ring_at(ring, memory, n, &at);

		assert_in_range(size, 1, ring->end - n);
		assert_true(at >= memory && at + size <= memory + ring->size);
		assert_true(size == ring->end - n || at + size == memory + ring->size);
		for (size_t i = 0; i < size; i++)
			assert_int_equal(at[i], byte_at(n + i));
	}
	assert_int_equal(hf_ring_at(ring, memory, ring->end, &at), 0);
	assert_int_equal(hf_ring_at(ring, memory, UINT64_MAX, &at), 0);
	if (ring->start > 0)
		assert_int_equal(hf_ring_at(ring, memory, ring->start - 1, &at), 0);
}

/* Every size, filled and emptied by every amount, from every place, also near the end of what offsets can count. */
static void ring_goes_round(void **state)
{
	static const uint64_t starts[] = {0, 1, 1000, (1ULL << 32) - 3, UINT64_MAX - 1000};

	(void)state;
	for (size_t s = 0; s < sizeof starts / sizeof *starts; s++) {
		for (uint32_t size = 1; size <= 9; size++) {
			struct hf_ring ring = {.start = starts[s], .end = starts[s], .size = size};
			uint8_t memory[9 + 1] = {0};

			memory[size] = 0xa5;
			check_ring(&ring, memory);
			for (size_t i = 0; i < 100; i++) {
				put(&ring, memory, i * 5 % (hf_ring_room(&ring) + 1));
				check_ring(&ring, memory);
				hf_ring_release(&ring, ring.start + i * 3 % (ring.end - ring.start + 1));
				check_ring(&ring, memory);
			}
			assert_int_equal(memory[size], 0xa5);
		}
	}
}

/* What is kept, with the span that RING says. */
static void check_all(const struct hf_ring *ring, const uint8_t *memory)
{
	const uint8_t *at = NULL;
	size_t size;

	for (uint64_t n = ring->start; n < ring->end; n += size) {
		size = hf_ring_at(ring, memory, n, &at);
		assert_true(size > 0 && at >= memory && at + size <= memory + hf_ring_span(ring));
		for (size_t i = 0; i < size; i += 1 + i % 61)
			assert_int_equal(at[i], byte_at(n + i));
	}
}

/* It goes round in no more than it needs; that grows wherever in it the bytes stand, and the old place stays good. */
static void ring_stretches(void **state)
{
	static const uint32_t sizes[] = {4 * HF_RING_LEAST, 6 * HF_RING_LEAST, 2 * HF_RING_LEAST + 2,
					 HF_RING_LEAST / 2};
	static const uint32_t least[] = {HF_RING_LEAST, 3 * HF_RING_LEAST / 2, HF_RING_LEAST + 1, HF_RING_LEAST / 2};
	uint8_t *memory = malloc(6 * HF_RING_LEAST), *bytes = malloc(6 * HF_RING_LEAST);
	unsigned grown = 0, x = 1;

	(void)state;
	assert_true(memory != NULL && bytes != NULL);
	for (int s = 0; s < 4; s++) {
		struct hf_ring ring = {.start = 1000003, .end = 1000003, .size = sizes[s]};

		for (int i = 0; i < 4000; i++) {
			struct hf_ring before;
			size_t n;

			x = x * 1103515245 + 12345;
			n = (x >> 8) % (1 + hf_ring_room(&ring) / (1 + x % 31));
			for (size_t k = 0; k < n; k++)
				bytes[k] = byte_at(ring.end + k);
			before = ring;
			if (!hf_ring_fits(&ring, n)) {
				hf_ring_stretch(&ring, memory, n);
				check_all(&before, memory);
			}
			if (ring.start == ring.end)
				assert_true(hf_ring_span(&ring) == least[s] ||
					    hf_ring_span(&ring) <= 2 * HF_RING_LEAST || n > hf_ring_span(&ring) / 2);
			assert_true(ring.end - ring.start + n <= hf_ring_span(&ring));
			grown += ring.start != ring.end && hf_ring_span(&ring) > hf_ring_span(&before);
			hf_ring_put(&ring, memory, bytes, n);
			if (i % 16 == 0 || hf_ring_span(&ring) != hf_ring_span(&before))
				check_all(&ring, memory);
			x = x * 1103515245 + 12345;
			hf_ring_release(&ring, ring.start + (x >> 8) % (ring.end - ring.start + 1));
			if (i % 50 == 0)
				hf_ring_release(&ring, ring.end);
		}
	}
	assert_true(grown > 100);
	free(memory);
	free(bytes);
}

static void ring_takes_no_more_than_it_has_room_for(void **state)
{
	struct hf_ring ring = {.size = 8};
	uint8_t memory[9] = {[8] = 0xa5};

	(void)state;
	put(&ring, memory, 5);
	hf_ring_release(&ring, 3);
	put(&ring, memory, 64);
	assert_int_equal(ring.end, 11);
	assert_int_equal(hf_ring_room(&ring), 0);
	check_ring(&ring, memory);
	put(&ring, memory, 1);
	assert_int_equal(ring.end, 11);
	assert_int_equal(memory[8], 0xa5);
}

static void ring_that_is_emptied_begins_anew(void **state)
{
	struct hf_ring ring = {.size = 8};
	uint8_t memory[8] = {0};

	(void)state;
	put(&ring, memory, 5);
	hf_ring_release(&ring, 4);
	put(&ring, memory, 2); /* not empty: goes on behind */
	check_ring(&ring, memory);
	hf_ring_release(&ring, 7);
	memset(memory, 0, sizeof(memory));
	put(&ring, memory, 3);
	check_ring(&ring, memory);
	for (size_t i = 3; i < sizeof(memory); i++)
		assert_int_equal(memory[i], 0);
}

static void ring_releases_only_what_it_has(void **state)
{
	struct hf_ring ring = {.start = 10, .end = 15, .size = 8};

	(void)state;
	hf_ring_release(&ring, 9);
	hf_ring_release(&ring, 0);
	hf_ring_release(&ring, 16);
	hf_ring_release(&ring, UINT64_MAX);
	assert_int_equal(ring.start, 10);
	hf_ring_release(&ring, 15);
	assert_int_equal(ring.start, 15);
	hf_ring_release(&ring, 10);
	assert_int_equal(ring.start, 15);
}

/* Whatever stands in the kernel's queue, and wherever what has been acknowledged ends in it. */
static void never_too_much_has_arrived(void **state)
{
	struct hf_ring ring = {.size = 64};
	struct hf_tx tx = {0};
	uint64_t program[4096]; /* how many program bytes stand before each byte of the wire */
	size_t wire = 0;

	(void)state;
	for (int i = 0; i < 20; i++) {
		static const uint8_t zeros[HF_BEAT_SIZE];
		size_t n = (size_t)(i * 13 % 40), size;
		struct hf_tx_plan plan;

		hf_tx_plan(&tx, n, &plan);
		for (size_t j = 0; plan.header && j < HF_HEADER_SIZE; j++)
			program[wire++] = tx.sent;
		for (size_t j = 0; j < plan.second; j++)
			program[wire++] = tx.sent + j;
		hf_tx_took(&tx, &plan, (plan.header ? HF_HEADER_SIZE : 0) + plan.second);
		ring.end = tx.sent;
		if (i % 3 == 0 && hf_tx_control(&tx, HF_FRAME_BEAT, zeros, sizeof zeros)) {
			hf_tx_owed(&tx, &size);
			hf_tx_paid(&tx, size);
			for (size_t j = 0; j < size; j++)
				program[wire++] = tx.sent;
		}
		program[wire] = tx.sent;
		for (size_t acked = 0; acked <= wire; acked++) {
			uint64_t arrived = hf_resume_arrived(&tx, &ring, wire - acked);

			assert_in_range(arrived, ring.start, program[acked]);
		}
	}
	assert_int_equal(hf_resume_arrived(&tx, &ring, 0), tx.sent);
	assert_int_equal(hf_resume_arrived(&tx, &ring, tx.sent), ring.start);
	assert_int_equal(hf_resume_arrived(&tx, &ring, UINT64_MAX), ring.start);
}

/* SIOCOUTQ of a socket that is being connected again reads 0, and knows nothing of what was sent before. */
static void nothing_arrives_between_connections(void **state)
{
	struct hf_ring ring = {.start = 20, .end = 50, .size = 64};
	struct hf_tx tx = {.sent = 50};
	struct hf_rx rx = {0};

	(void)state;
	hf_resume_break(&rx, &tx, &ring);
	assert_int_equal(hf_resume_arrived(&tx, &ring, 0), 20);
	assert_int_equal(hf_resume_from(&tx, &ring, 30), HF_RESUME_ALL);
	assert_int_equal(hf_resume_arrived(&tx, &ring, 0), 30);
	/* On the new connection only what was sent there can have come. */
	tx.sent = 45;
	assert_int_equal(hf_resume_arrived(&tx, &ring, 4), 41);
	assert_int_equal(hf_resume_arrived(&tx, &ring, 20), 30);
}

static void breaking_begins_frames_afresh(void **state)
{
	struct hf_ring ring = {.size = 64};
	struct hf_rx rx = {.received = 7, .proof_due = true};
	struct hf_tx tx = {0};
	struct hf_tx_plan plan;
	struct hf_rx_news news;
	uint8_t bytes[HF_HEADER_SIZE + 4];

	(void)state;
	/* A frame open at either end, a header cut. */
	hf_tx_plan(&tx, 10, &plan);
	assert_int_equal(hf_tx_took(&tx, &plan, HF_HEADER_SIZE + 4), 4);
	hf_ring_put(&ring, (uint8_t[64]){0}, "abcd", 4);
	rx.proof_due = false;
	hf_header_make(bytes, HF_FRAME_DATA, 9);
	hf_rx_squeeze(&rx, bytes, sizeof bytes, &news);
	assert_int_equal(rx.received, 11);
	for (int i = 0; i < 2; i++) { /* twice is as once */
		hf_resume_break(&rx, &tx, &ring);
		assert_true(hf_rx_between(&rx) && hf_tx_between(&tx));
		assert_int_equal(hf_resume_expects(&rx), 11);
		assert_int_equal(tx.sent, 4);
	}
	assert_int_equal(hf_resume_from(&tx, &ring, 2), HF_RESUME_ALL);
	hf_tx_plan(&tx, 2, &plan);
	assert_true(plan.header && plan.first == 0 && plan.second == 2);
	assert_int_equal(hf_tx_took(&tx, &plan, 3), 0); /* three bytes of the header */
	hf_resume_break(&rx, &tx, &ring);
	assert_true(hf_tx_between(&tx));
	/* What was corrupt stays so. */
	rx.corrupt = true;
	hf_resume_break(&rx, &tx, &ring);
	assert_true(rx.corrupt);
}

static void what_is_expected(void **state)
{
	(void)state;
	assert_int_equal(hf_resume_expects(&(struct hf_rx){.received = 9}), 9);
	assert_int_equal(hf_resume_expects(&(struct hf_rx){.received = 9, .fin = true}), 10);
	assert_int_equal(hf_resume_expects(&(struct hf_rx){.received = 9, .bye = true}), 11);
	assert_int_equal(hf_resume_expects(&(struct hf_rx){.received = 9, .fin = true, .bye = true}), 11);
}

/* Every end said before, every offset, and what has been sent again when the next connection breaks. */
static void every_offset(void **state)
{
	enum { START = 100, END = 110 };
	static const uint64_t offsets[] = {0,       START - 1, START,   START + 4,  END - 1,        END,
					   END + 1, END + 2,   END + 3, 1ULL << 32, UINT64_MAX - 1, UINT64_MAX};

	(void)state;
	for (unsigned i = 0; i < sizeof offsets / sizeof *offsets * 4; i++) {
		uint64_t offset = offsets[i / 4], beyond = offset > END ? offset - END : 0;
		bool fin = i & 1, bye = i & 2;
		bool good = offset >= START && (beyond == 0 || (beyond == 1 && fin) || (beyond == 2 && bye));

		for (uint64_t sent = START; sent <= END; sent++) {
			struct hf_ring ring = {.start = START, .end = END, .size = 32};
			struct hf_tx tx = {.sent = sent, .fin = fin, .bye = bye, .ended = bye}, before;
			struct hf_rx rx = {0};
			enum hf_resume_from from;

			hf_resume_break(&rx, &tx, &ring);
			before = tx;
			from = hf_resume_from(&tx, &ring, offset);
			if (!good) {
				assert_int_equal(from, HF_RESUME_NO);
				assert_memory_equal(&tx, &before, sizeof tx);
				assert_int_equal(ring.start, START);
				continue;
			}
			assert_int_equal(from, (bye && beyond < 2) || (fin && beyond < 1) ? HF_RESUME_AND_END
											  : HF_RESUME_ALL);
			assert_int_equal(tx.sent, offset - beyond);
			assert_int_equal(ring.start, tx.sent);
			assert_int_equal(ring.end, END);
			assert_int_equal(tx.fin, fin && beyond > 0);
			assert_int_equal(tx.bye, bye && beyond == 2);
			assert_int_equal(tx.ended, tx.bye);
			/* Only once for a break. */
			assert_int_equal(hf_resume_from(&tx, &ring, offset), HF_RESUME_NO);
			/* Lost again with nothing sent again: the end is still owed. */
			hf_resume_break(&rx, &tx, &ring);
			assert_int_equal(hf_resume_from(&tx, &ring, offset), from);
			/* And again, with all of it arrived meanwhile. */
			hf_resume_break(&rx, &tx, &ring);
			assert_int_equal(hf_resume_from(&tx, &ring, END + (bye ? 2 : fin)), HF_RESUME_ALL);
		}
	}
}

static void nothing_without_a_break(void **state)
{
	struct hf_ring ring = {.start = 1, .end = 5, .size = 8};
	struct hf_tx tx = {.sent = 5};

	(void)state;
	for (uint64_t offset = 0; offset < 8; offset++)
		assert_int_equal(hf_resume_from(&tx, &ring, offset), HF_RESUME_NO);
	/* More sent than kept: bytes went past the ring. */
	ring.held = true;
	tx.sent = 6;
	assert_int_equal(hf_resume_from(&tx, &ring, 5), HF_RESUME_NO);
}

/* From every state before, whatever was thought of the old connection's end: the state is what both have had. */
static void every_session(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 7 * 16 * 16; i++) {
		struct hf_rx rx = {.received = 5, .fin = i & 1, .bye = i & 2};
		struct hf_tx tx = {.sent = 5, .fin = i & 4, .bye = i & 8};
		bool ours = tx.fin || tx.bye, theirs = rx.fin || rx.bye;
		struct hf_session session;

		hf_session_init(&session, 1000, 5000, 5000, 15000, 1);
		session.state = (enum hf_session_state)(i / 256);
		session.peer_done = i & 16;
		session.we_done = i & 32;
		session.mute = session.waiting = i & 64;
		session.last_beat = i & 128;
		session.arrived = session.unread = session.undelivered = session.peer_time_us = 77;
		session.peer_unread = session.peer_unread_ms = 100000;
		hf_resume_session(&session, &rx, &tx, 90000);
		assert_int_equal(session.state, ours && theirs ? HF_S_TIME_WAIT
						: ours         ? HF_S_FIN_WAIT
						: theirs       ? HF_S_CLOSE_WAIT
							       : HF_S_ESTABLISHED);
		assert_int_equal(session.peer_done, rx.bye);
		assert_int_equal(session.we_done, tx.bye);
		assert_int_equal(hf_session_may_speak(&session), !tx.bye && !rx.bye && !(ours && theirs));
		assert_int_equal(hf_session_fin_seen(&session), theirs && !ours);
		assert_false(hf_session_hung(&session, 90000 + 14999, 15000, false, false));
		assert_false(hf_session_stalled(&session, 1));
		assert_false(hf_session_beat_owed(&session, 90000));
		/* Nothing of the old kernel's counters. */
		hf_session_arrived(&session, 91000, 0, 0, 5);
		hf_session_outq(&session, 91000, 0, 0);
		assert_int_equal(session.moved_at, 90000);
	}
}

static const uint8_t id[HF_SESSION_SIZE] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
static const struct hf_key no_key = {NULL, 0}, shared_key = {(const uint8_t *)"a shared secret", 15};

/* Against another implementation. */
static void keys_known(void **state)
{
	/* Python's hmac: HMAC-SHA-256(id, "holdfast resume"); of that, over "holdfast name", the first 16 bytes. */
	static const uint8_t key[] = {0xec, 0x70, 0xc3, 0x63, 0xaa, 0xfe, 0xf8, 0x20, 0x12, 0x3d, 0x3e,
				      0xac, 0x4c, 0x52, 0xbc, 0xfd, 0x0b, 0x9b, 0x1e, 0x42, 0xb5, 0xe9,
				      0x23, 0x8d, 0x4d, 0x43, 0x0e, 0xbd, 0xa5, 0x5b, 0x37, 0x49};
	static const uint8_t name[] = {0x58, 0x2f, 0x3a, 0xb3, 0xec, 0x17, 0xb7, 0xc3,
				       0x59, 0xc9, 0x44, 0x81, 0x1c, 0x04, 0x6f, 0xcc};
	/* HMAC-SHA-256("a shared secret", "holdfast resume" id), and its name. */
	static const uint8_t keyed[] = {0x46, 0x04, 0x44, 0x8d, 0xef, 0xa6, 0xfd, 0xe7, 0x28, 0x5b, 0xda,
					0xc8, 0x04, 0x43, 0x46, 0x3a, 0xeb, 0x09, 0x43, 0x6e, 0x71, 0xb6,
					0x91, 0xd5, 0xc5, 0x89, 0x6b, 0xeb, 0x80, 0x89, 0xf8, 0x43};
	static const uint8_t keyed_name[] = {0xe0, 0x39, 0xd3, 0xf0, 0xc6, 0xd2, 0x48, 0x7e,
					     0xd8, 0x27, 0x6f, 0x71, 0x93, 0x58, 0x49, 0x91};
	uint8_t out[HF_CHECK_SIZE], short_out[HF_SESSION_SIZE];

	(void)state;
	hf_resume_key(out, &no_key, id);
	assert_memory_equal(out, key, sizeof key);
	hf_resume_name(short_out, out);
	assert_memory_equal(short_out, name, sizeof name);
	hf_resume_key(out, &shared_key, id);
	assert_memory_equal(out, keyed, sizeof keyed);
	hf_resume_name(short_out, out);
	assert_memory_equal(short_out, keyed_name, sizeof keyed_name);
}

static void called_hello(uint8_t bytes[HF_HELLO_SIZE], uint32_t flags)
{
	struct hf_hello hello = {.version = HF_WIRE_VERSION, .flags = flags};
	uint8_t key[HF_CHECK_SIZE];

	hf_resume_key(key, &no_key, id);
	hf_resume_name(hello.session, key);
	hf_hello_make(bytes, &hello, &(struct hf_key){key, sizeof key}, NULL);
}

static void called_by_a_resume_only(void **state)
{
	uint8_t bytes[HF_HELLO_SIZE], name[HF_SESSION_SIZE], expected[HF_SESSION_SIZE];

	(void)state;
	called_hello(bytes, HF_HELLO_RESUME);
	memcpy(expected, bytes + HF_HELLO_SESSION, sizeof expected);
	for (size_t size = 0; size <= sizeof bytes; size++) {
		memset(name, 0xee, sizeof name);
		assert_int_equal(hf_resume_called(bytes, size, name), size >= HF_HELLO_NONCE);
		if (size >= HF_HELLO_NONCE)
			assert_memory_equal(name, expected, sizeof name);
	}
	/* Every bit of what it looks at: the magic and the two flags; what is behind is for hf_hello_read(). */
	for (size_t bit = 0; bit < HF_HELLO_NONCE * 8; bit++) {
		size_t at = bit / 8;
		bool decides = at < HF_MAGIC_SIZE ||
			       (at == HF_HELLO_FLAGS && (1 << bit % 8 & (HF_HELLO_RESUME | HF_HELLO_SERVER)) != 0);

		bytes[at] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(hf_resume_called(bytes, sizeof bytes, name), !decides);
		bytes[at] ^= (uint8_t)(1 << bit % 8);
	}
	called_hello(bytes, 0);
	assert_false(hf_resume_called(bytes, sizeof bytes, name));
	called_hello(bytes, HF_HELLO_RESUME | HF_HELLO_SERVER);
	assert_false(hf_resume_called(bytes, sizeof bytes, name));
	assert_false(hf_resume_called((const uint8_t *)"GET / HTTP/1.1\r\nHost: example.org\r\n", 35, name));
}

/* Numbers that no library has written, around memory that is what it is. */
static void hostile_ring(void **state)
{
	static const uint64_t numbers[] = {0, 1, 7, 8, 9, 1000, UINT64_MAX / 2, UINT64_MAX - 8, UINT64_MAX};
	enum { N = sizeof(numbers) / sizeof(numbers[0]), SIZE = 8 };

	(void)state;
	for (int start = 0; start < N; start++)
		for (int end = 0; end < N; end++)
			for (int base = 0; base < N; base++) {
				struct hf_ring ring = {.start = numbers[start],
						       .end = numbers[end],
						       .base = numbers[base],
						       .size = SIZE,
						       .span = (uint32_t)numbers[(start + 2 * end) % N]};
				uint8_t *memory = calloc(1, SIZE);
				const uint8_t *at = memory;
				size_t n;

				assert_non_null(memory);
				assert_true(hf_ring_room(&ring) <= SIZE);
				for (int i = 0; i < N; i++) {
					n = hf_ring_at(&ring, memory, numbers[i], &at);
					assert_true(at >= memory && at + n <= memory + SIZE);
				}
				hf_ring_put(&ring, memory, "0123456789", 10);
				hf_ring_stretch(&ring, memory, 10);
				hf_ring_put(&ring, memory, "0123456789", 10);
				free(memory);
			}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ring_goes_round),
		cmocka_unit_test(ring_stretches),
		cmocka_unit_test(ring_takes_no_more_than_it_has_room_for),
		cmocka_unit_test(ring_that_is_emptied_begins_anew),
		cmocka_unit_test(ring_releases_only_what_it_has),
		cmocka_unit_test(never_too_much_has_arrived),
		cmocka_unit_test(nothing_arrives_between_connections),
		cmocka_unit_test(breaking_begins_frames_afresh),
		cmocka_unit_test(what_is_expected),
		cmocka_unit_test(every_offset),
		cmocka_unit_test(nothing_without_a_break),
		cmocka_unit_test(every_session),
		cmocka_unit_test(keys_known),
		cmocka_unit_test(called_by_a_resume_only),
		cmocka_unit_test(hostile_ring),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
