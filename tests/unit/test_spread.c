/* Reads spread over several places (core/frame.h): whatever comes, what is delivered is what a common read delivers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "core/frame.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 1 << 17 };

static uint8_t raw[2 * MOST];
static size_t raw_size;
static uint32_t seed = 20261126;

static uint32_t any(uint32_t below)
{
	seed = seed * 1664525 + 1013904223;
	return (uint32_t)((uint64_t)(seed >> 8) * below >> 24);
}

static void add(const void *bytes, size_t size)
{
	if (bytes != NULL)
		memcpy(raw + raw_size, bytes, size);
	for (size_t i = 0; bytes == NULL && i < size; i++)
		raw[raw_size + i] = (uint8_t)any(256);
	raw_size += size;
}

static void add_header(enum hf_frame_type type, uint32_t length)
{
	uint8_t header[HF_HEADER_SIZE];

	hf_header_make(header, type, length);
	add(header, sizeof header);
}

/* Frames of EVEN bytes, most of them; 0: of any length.  Now and then a beat, rarely an end or nonsense. */
static void make_stream(uint32_t even)
{
	raw_size = 0;
	while (raw_size < MOST) {
		uint32_t length = even != 0 && any(8) != 0 ? even : 1 + any(any(2) ? 40000 : 40);

		if (any(10) == 0) {
			add_header(HF_FRAME_BEAT, HF_BEAT_SIZE);
			add(NULL, HF_BEAT_SIZE);
		}
		if (any(200) == 0)
			add_header(any(2) ? HF_FRAME_FIN : HF_FRAME_BYE, 0);
		if (any(300) == 0)
			add(NULL, 1 + any(20));
		if (raw_size + length > sizeof raw - 1000)
			break;
		add_header(HF_FRAME_DATA, length);
		add(NULL, length);
	}
}

/* As the kernel does: SIZE bytes at FROM to their places.  Returns how far in BUF. */
static size_t scatter(struct hf_spread *spread, const uint8_t *from, size_t size, uint8_t *buf)
{
	const uint8_t *begin = buf;

	for (unsigned i = 0;; i++) {
		size_t piece = hf_spread_piece(spread, i, size), head;

		memcpy(buf, from, piece);
		buf += piece;
		from += piece;
		size -= piece;
		if (i == spread->count)
			return (size_t)(buf - begin);
		head = size < HF_HEADER_SIZE ? size : HF_HEADER_SIZE;
		memcpy(spread->headers[i], from, head);
		from += head;
		size -= head;
	}
}

static void same_news(const struct hf_rx_news *a, const struct hf_rx_news *b)
{
	assert_int_equal(a->fin, b->fin);
	assert_int_equal(a->bye, b->bye);
	assert_int_equal(a->corrupt, b->corrupt);
	assert_int_equal(a->beats, b->beats);
	assert_int_equal(a->frames, b->frames);
	assert_int_equal(a->even, b->even);
	if (a->frames != 0)
		assert_int_equal(a->length, b->length);
}

/* One read of at most ROOM program bytes, of which fewer may be there; both ways.  Returns what it took of the kernel.
 */
static size_t read_both_ways(struct hf_rx *rx, size_t at, size_t room, size_t like, unsigned *spread_out)
{
	size_t ahead = hf_rx_overhead(rx), left = raw_size - at, asked, got, expected, delivered, reach, written;
	struct hf_rx plain = *rx;
	struct hf_rx_news news, plain_news;
	struct hf_spread spread;
	uint8_t scratch[HF_RX_OVERHEAD_MOST], *buf = malloc(room), *plain_buf = malloc(room + HF_HEADER_SIZE);

	assert_non_null(buf);
	assert_non_null(plain_buf);
	asked = hf_spread_plan(&spread, hf_rx_open(rx), like, room);
	assert_true(asked <= room + (hf_rx_open(rx) != 0 ? HF_HEADER_SIZE : 0));
	got = ahead + asked < left ? ahead + asked : left;
	if (any(3) == 0 && got > 0)
		got = 1 + any((uint32_t)got);
	ahead = ahead < got ? ahead : got;
	memset(buf, 0xee, room);
	written = scatter(&spread, raw + at + ahead, got - ahead, buf);
	*spread_out += spread.count;

	memcpy(scratch, raw + at, ahead);
	memcpy(plain_buf, raw + at + ahead, got - ahead);
	expected = hf_rx_squeeze_split(&plain, scratch, ahead, plain_buf, got - ahead, &plain_news);
	memcpy(scratch, raw + at, ahead);
	delivered = hf_rx_squeeze_spread(rx, scratch, ahead, &spread, buf, got - ahead, &news, &reach);
	assert_int_equal(delivered, expected);
	assert_true(delivered <= reach && reach <= room);
	assert_true(rx->corrupt || reach <= (written > delivered ? written : delivered));
	assert_memory_equal(buf, plain_buf, delivered);
	for (size_t i = reach; i < room; i++)
		assert_int_equal(buf[i], 0xee);
	assert_memory_equal(rx, &plain, sizeof plain);
	same_news(&news, &plain_news);
	free(buf);
	free(plain_buf);
	return got;
}

static void as_common_reads(void **state)
{
	static const uint32_t lengths[] = {0, 8192, 16384, 20000, 1};
	unsigned spread = 0;

	(void)state;
	for (unsigned round = 0; round < 400; round++) {
		uint32_t even = lengths[round % 5];
		struct hf_rx rx = {0};

		make_stream(even);
		for (size_t at = 0; at < raw_size && !rx.corrupt;)
			at += read_both_ways(&rx, at, 1 + any(any(2) ? 70000 : 20000), any(4) ? even : any(30000),
					     &spread);
	}
	printf("# %u headers had a place of their own\n", spread);
	assert_true(spread > 1000);
}

/* The usual case: not a byte is moved, each is delivered where it was put. */
static void nothing_is_moved(void **state)
{
	static uint8_t buf[65536];
	uint8_t scratch[HF_HEADER_SIZE];
	struct hf_spread spread;
	struct hf_rx rx = {0};
	struct hf_rx_news news;
	size_t asked, reach;

	(void)state;
	raw_size = 0;
	for (int i = 0; i < 6; i++) {
		add_header(HF_FRAME_DATA, 16384);
		add(NULL, 16384);
	}
	asked = hf_spread_plan(&spread, 0, 16384, sizeof buf);
	assert_int_equal(asked, sizeof buf);
	assert_int_equal(spread.count, 3);
	memcpy(scratch, raw, sizeof scratch);
	scatter(&spread, raw + HF_HEADER_SIZE, asked, buf);
	for (int i = 0; i < 3; i++)
		assert_memory_equal(spread.headers[i], raw, HF_HEADER_SIZE);
	assert_int_equal(hf_rx_squeeze_spread(&rx, scratch, sizeof scratch, &spread, buf, asked, &news, &reach),
			 sizeof buf - 3 * HF_HEADER_SIZE);
	assert_int_equal(reach, sizeof buf - 3 * HF_HEADER_SIZE);
	assert_true(news.even);
	assert_int_equal(news.frames, 4);
	/* Inside a frame the header behind it is certain, and takes nothing from the program's room. */
	assert_int_equal(hf_rx_open(&rx), 3 * HF_HEADER_SIZE);
	asked = hf_spread_plan(&spread, 3 * HF_HEADER_SIZE, 0, sizeof buf);
	assert_int_equal(asked, sizeof buf + HF_HEADER_SIZE);
	assert_int_equal(spread.count, 1);
}

/* Who could write to the state could make us believe that no header stands where one is certain: no byte too far. */
static void no_room_is_no_guess(void **state)
{
	uint8_t *buf = malloc(20000);
	struct hf_rx rx = {.type = HF_FRAME_DATA, .payload = 100};
	struct hf_spread spread;
	struct hf_rx_news news;
	size_t asked, reach;

	(void)state;
	assert_non_null(buf);
	memset(buf, 1, 20000);
	asked = hf_spread_plan(&spread, hf_rx_open(&rx), 0, 20000);
	memset(spread.headers, 1, sizeof spread.headers);
	rx.payload = 1;
	hf_rx_squeeze_spread(&rx, NULL, 0, &spread, buf, asked, &news, &reach);
	assert_true(rx.corrupt && news.corrupt);
	free(buf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_common_reads),
		cmocka_unit_test(nothing_is_moved),
		cmocka_unit_test(no_room_is_no_guess),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
