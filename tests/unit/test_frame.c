/* Frames: checks, headers, squeezing and planning, piece by piece; the model runs them together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "core/bytes.h"
#include "core/frame.h"

#include <stdlib.h>

/* The definition, a bit at a time. */
static uint32_t slow_crc(const uint8_t *data, size_t size)
{
	uint32_t crc = ~0U;

	for (size_t i = 0; i < size; i++) {
		crc ^= data[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc & 1 ? crc >> 1 ^ 0x82f63b78 : crc >> 1;
	}
	return ~crc;
}

/* RFC 3720, B.4. */
static void crc_vectors(void **state)
{
	uint8_t data[32] = {0};

	(void)state;
	assert_int_equal(hf_crc32c(0, "123456789", 9), 0xe3069283);
	assert_int_equal(hf_crc32c(0, data, 32), 0x8a9136aa);
	memset(data, 0xff, sizeof data);
	assert_int_equal(hf_crc32c(0, data, 32), 0x62a8ab43);
	for (int i = 0; i < 32; i++)
		data[i] = (uint8_t)i;
	assert_int_equal(hf_crc32c(0, data, 32), 0x46dd794e);
	assert_int_equal(hf_crc32c(hf_crc32c(0, data, 13), data + 13, 19), 0x46dd794e);
	assert_int_equal(hf_crc32c(0, "", 0), 0);
}

static void check_is_low_half_of_crc(void **state)
{
	uint8_t header[HF_HEADER_SIZE], six[6];
	uint32_t x = 12345;

	(void)state;
	for (int i = 0; i < 200000; i++) {
		for (int k = 0; k < HF_HEADER_SIZE; k++) {
			x = x * 1664525 + 1013904223;
			header[k] = (uint8_t)(x >> 24);
		}
		memcpy(six, header, 2);
		memcpy(six + 2, header + 4, 4);
		assert_int_equal(hf_header_check(header), slow_crc(six, 6) & 0xffff);
		assert_int_equal(hf_crc32c(0, six, 6), slow_crc(six, 6));
	}
}

static void flip(uint8_t *header, int bit)
{
	header[bit / 8] ^= (uint8_t)(1 << bit % 8);
}

/* All headers with up to three bits wrong are refused, whatever type and length. */
static void bit_flips(void **state)
{
	static const uint32_t lengths[] = {1, 64, 1448, 4096, HF_DATA_MOST};
	enum hf_frame_type type;
	uint8_t header[HF_HEADER_SIZE];
	uint32_t length;

	(void)state;
	for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
		hf_header_make(header, HF_FRAME_DATA, lengths[i]);
		assert_true(hf_header_read(header, &type, &length));
		assert_int_equal(type, HF_FRAME_DATA);
		assert_int_equal(length, lengths[i]);
		for (int a = 0; a < 64; a++) {
			flip(header, a);
			assert_false(hf_header_read(header, &type, &length));
			for (int b = a + 1; b < 64; b++) {
				flip(header, b);
				assert_false(hf_header_read(header, &type, &length));
				for (int c = b + 1; c < 64; c++) {
					flip(header, c);
					assert_false(hf_header_read(header, &type, &length));
					flip(header, c);
				}
				flip(header, b);
			}
			flip(header, a);
		}
	}
}

static void header_limits(void **state)
{
	static const struct {
		int type;
		uint32_t length;
		bool valid;
	} cases[] = {
		{0, 0, false},
		{HF_FRAME_DATA, 0, false},
		{HF_FRAME_DATA, 1, true},
		{HF_FRAME_DATA, HF_DATA_MOST, true},
		{HF_FRAME_DATA, HF_DATA_MOST + 1, false},
		{HF_FRAME_DATA, UINT32_MAX, false},
		{HF_FRAME_BEAT, 64, true},
		{HF_FRAME_BEAT, 63, false},
		{HF_FRAME_BEAT, 65, false},
		{HF_FRAME_FIN, 0, true},
		{HF_FRAME_FIN, 1, false},
		{HF_FRAME_BYE, 0, true},
		{HF_FRAME_BYE, 1, false},
		{HF_FRAME_ACK, 8, true},
		{HF_FRAME_ACK, 7, false},
		{HF_FRAME_PROOF, 32, true},
		{HF_FRAME_PROOF, 31, false},
		{7, 0, false},
		{255, 0, false},
	};
	enum hf_frame_type type;
	uint8_t header[HF_HEADER_SIZE];
	uint32_t length;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		hf_header_make(header, (enum hf_frame_type)cases[i].type, cases[i].length);
		assert_int_equal(hf_header_read(header, &type, &length), cases[i].valid);
	}
	hf_header_make(header, HF_FRAME_DATA, 0x4321);
	assert_memory_equal(header + 4, "\x21\x43\0\0", 4);
	header[HF_HEADER_FLAGS] = 0x80; /* of a later version: ignored */
	hf_put16(header + HF_HEADER_CHECK, hf_header_check(header));
	assert_true(hf_header_read(header, &type, &length));
}

static void beats(void **state)
{
	struct hf_beat in = {1, 2, 3, 4, 0x1122334455667788, 6, 7, 8}, out;
	uint8_t bytes[HF_BEAT_SIZE];

	(void)state;
	hf_beat_make(bytes, &in);
	assert_memory_equal(bytes + HF_BEAT_RECEIVED, "\x88\x77\x66\x55\x44\x33\x22\x11", 8);
	assert_memory_equal(bytes + 52, "\0\0\0\0\0\0\0\0\0\0\0", 12);
	hf_beat_read(bytes, &out);
	assert_memory_equal(&in, &out, offsetof(struct hf_beat, state) + sizeof in.state);
}

/* What a test sends: frames one after the other. */
struct stream {
	uint8_t bytes[4096];
	size_t size;
};

static void put(struct stream *stream, enum hf_frame_type type, uint8_t flags, const void *payload, size_t size)
{
	uint8_t *at = stream->bytes + stream->size;

	hf_header_make(at, type, (uint32_t)size);
	at[HF_HEADER_FLAGS] = flags;
	hf_put16(at + HF_HEADER_CHECK, hf_header_check(at));
	if (size > 0)
		memcpy(at + HF_HEADER_SIZE, payload, size);
	stream->size += HF_HEADER_SIZE + size;
}

static void put_beat(struct stream *stream, uint64_t seq)
{
	uint8_t bytes[HF_BEAT_SIZE];

	hf_beat_make(bytes, &(struct hf_beat){.seq = seq});
	put(stream, HF_FRAME_BEAT, 0, bytes, sizeof bytes);
}

/* Every way to split one stream into three reads. */
static void squeeze_any_split(void **state)
{
	struct stream stream = {.size = 0};

	(void)state;
	put(&stream, HF_FRAME_DATA, 0, "hello, ", 7);
	put_beat(&stream, 1);
	put_beat(&stream, 2);
	put(&stream, HF_FRAME_DATA, 0, "w", 1);
	put(&stream, HF_FRAME_ACK, 0, "\1\0\0\0\0\0\0\0", 8);
	put(&stream, HF_FRAME_DATA, 0, "orld", 4);
	put(&stream, HF_FRAME_FIN, 0, NULL, 0);
	put_beat(&stream, 3);
	put(&stream, HF_FRAME_BYE, 0, NULL, 0);
	for (size_t a = 0; a <= stream.size; a++) {
		for (size_t b = a; b <= stream.size; b++) {
			size_t cuts[] = {0, a, b, stream.size};
			struct hf_rx rx = {0};
			struct hf_rx_news news;
			unsigned heard = 0, fins = 0, byes = 0, acks = 0;
			uint8_t buf[4096];
			char text[64];
			size_t got = 0;

			memcpy(buf, stream.bytes, stream.size);
			for (int i = 0; i < 3; i++) {
				size_t n = hf_rx_squeeze(&rx, buf + cuts[i], cuts[i + 1] - cuts[i], &news);

				assert_true(got + n < sizeof text);
				memcpy(text + got, buf + cuts[i], n);
				got += n;
				heard += news.beats;
				if (news.beats)
					assert_int_equal(news.beat.seq, heard);
				fins += news.fin;
				byes += news.bye;
				acks += news.ack;
				assert_true(!news.ack || news.acked == 1);
				assert_false(news.corrupt || news.proof || news.fin_seen);
			}
			assert_int_equal(got, 12);
			assert_memory_equal(text, "hello, world", 12);
			assert_int_equal(rx.received, 12);
			assert_true(heard == 3 && fins == 1 && byes == 1 && acks == 1 && rx.ended &&
				    hf_rx_between(&rx));
		}
	}
}

static void order_is_kept(void **state)
{
	static const struct {
		const char *frames; /* D, B, F, S (FIN, SEEN), Y, A, P, in this order */
		bool proof_due;
		bool corrupt; /* at the last of them */
	} cases[] = {
		{"FB", false, false}, {"FA", false, false}, {"FY", false, false},  {"FD", false, true},
		{"FF", false, true},  {"FS", false, true},  {"SB", false, true},   {"SY", false, true},
		{"YB", false, true},  {"YF", false, true},  {"YD", false, true},   {"P", false, true},
		{"P", true, false},   {"PD", true, false},  {"PP", true, true},    {"D", true, true},
		{"B", true, true},    {"F", true, true},    {"FBY", false, false}, {"DBDAS", false, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const char *frame = cases[i].frames;
		struct hf_rx rx = {.proof_due = cases[i].proof_due};
		struct hf_rx_news news;

		for (; *frame; frame++) {
			static const char names[] = "?DBFYAP";
			struct stream one = {.size = 0};
			uint8_t payload[HF_BEAT_SIZE] = {0};
			size_t sizes[] = {0, 5, HF_BEAT_SIZE, 0, 0, HF_ACK_SIZE, HF_CHECK_SIZE};
			size_t type = *frame == 'S' ? HF_FRAME_FIN : (size_t)(strchr(names, *frame) - names);

			put(&one, (enum hf_frame_type)type, *frame == 'S' ? HF_HEADER_FIN_SEEN : 0, payload,
			    sizes[type]);
			hf_rx_squeeze(&rx, one.bytes, one.size, &news);
			assert_int_equal(news.corrupt, frame[1] == 0 && cases[i].corrupt);
			assert_int_equal(news.fin_seen, *frame == 'S' && !news.corrupt);
			assert_int_equal(news.proof, *frame == 'P' && !news.corrupt);
		}
	}
}

/* Stray text is noticed at its first byte, delivers nothing, and nothing is delivered after it. */
static void stray_bytes(void **state)
{
	struct stream stream = {.size = 0};
	struct hf_rx rx = {0};
	struct hf_rx_news news;
	uint8_t buf[64] = "GET";

	(void)state;
	assert_int_equal(hf_rx_squeeze(&rx, buf, 1, &news), 0);
	assert_true(news.corrupt && rx.corrupt && !hf_rx_between(&rx));
	put(&stream, HF_FRAME_DATA, 0, "abc", 3);
	assert_int_equal(hf_rx_squeeze(&rx, stream.bytes, stream.size, &news), 0);
	assert_true(news.corrupt);

	rx = (struct hf_rx){0};
	stream.size = 0;
	put(&stream, HF_FRAME_DATA, 0, "abc", 3);
	memcpy(buf, stream.bytes, 11);
	memcpy(buf + 11, "oops, not a header", 18);
	assert_int_equal(hf_rx_squeeze(&rx, buf, 29, &news), 3);
	assert_memory_equal(buf, "abc", 3);
	assert_true(news.corrupt);
	assert_int_equal(rx.received, 3);
}

/* Payload behind a header that went to the scratch buffer is not even looked at. */
static void payload_untouched(void **state)
{
	static uint8_t never[1]; /* far shorter than what is claimed: a sanitizer would see a touch */
	uint8_t scratch[HF_RX_OVERHEAD_MOST];
	struct hf_rx rx = {0};
	struct hf_rx_news news;

	(void)state;
	assert_int_equal(hf_rx_overhead(&rx), HF_HEADER_SIZE);
	hf_header_make(scratch, HF_FRAME_DATA, HF_DATA_MOST);
	assert_int_equal(hf_rx_squeeze_split(&rx, scratch, HF_HEADER_SIZE, never, 1000000, &news), 1000000);
	assert_int_equal(hf_rx_overhead(&rx), 0);
	assert_int_equal(hf_rx_open(&rx), HF_DATA_MOST - 1000000);
	hf_rx_passed(&rx, HF_DATA_MOST);
	assert_int_equal(rx.received, HF_DATA_MOST);
	assert_true(hf_rx_between(&rx));
}

static void scratch_misused(void **state)
{
	struct stream stream = {.size = 0};
	struct hf_rx rx = {0};
	struct hf_rx_news news;
	uint8_t buf[8];

	(void)state;
	put(&stream, HF_FRAME_DATA, 0, "abc", 3);
	assert_int_equal(hf_rx_squeeze_split(&rx, stream.bytes, stream.size, buf, 0, &news), 0);
	assert_true(news.corrupt);
}

static void overhead_of_control(void **state)
{
	struct stream stream = {.size = 0};
	struct hf_rx rx = {0};
	struct hf_rx_news news;

	(void)state;
	put_beat(&stream, 1);
	hf_rx_squeeze(&rx, stream.bytes, 3, &news);
	assert_int_equal(hf_rx_overhead(&rx), 5);
	assert_false(hf_rx_between(&rx));
	hf_rx_squeeze(&rx, stream.bytes + 3, 5, &news);
	assert_int_equal(hf_rx_overhead(&rx), HF_RX_OVERHEAD_MOST);
	hf_rx_squeeze(&rx, stream.bytes + 8, 60, &news);
	assert_int_equal(hf_rx_overhead(&rx), 12);
	assert_int_equal(news.beats, 0);
	hf_rx_squeeze(&rx, stream.bytes + 68, 4, &news);
	assert_int_equal(news.beats, 1);
	assert_true(hf_rx_between(&rx));
}

/* A partial write at every position; the next write is another. */
static void plan_partial(void **state)
{
	(void)state;
	for (size_t cut = 0; cut <= 8 + 10; cut++) {
		struct hf_tx tx = {0};
		struct hf_tx_plan plan;

		hf_tx_plan(&tx, 10, &plan);
		assert_true(plan.owed == 0 && plan.first == 0 && plan.header && plan.second == 10);
		assert_int_equal(hf_tx_took(&tx, &plan, cut), cut > 8 ? cut - 8 : 0);
		assert_int_equal(hf_tx_between(&tx), cut == 0 || cut == 18);
		hf_tx_plan(&tx, 3, &plan);
		assert_int_equal(plan.owed, cut > 0 && cut < 8 ? 8 - cut : 0);
		assert_int_equal(plan.first, cut == 0 ? 0 : 18 - cut < 3 ? 18 - cut : cut < 8 ? 3 : 3);
		assert_int_equal(plan.first + plan.second, 3);
		assert_int_equal(plan.header, plan.first < 3);
		assert_int_equal(hf_tx_took(&tx, &plan, SIZE_MAX), 3);
	}
}

static void plan_big(void **state)
{
	struct hf_tx tx = {0};
	struct hf_tx_plan plan;

	(void)state;
	hf_tx_plan(&tx, (size_t)HF_DATA_MOST * 3, &plan);
	assert_int_equal(plan.second, HF_DATA_MOST);
	hf_tx_took(&tx, &plan, 8 + 100);
	hf_tx_plan(&tx, (size_t)HF_DATA_MOST * 3, &plan);
	assert_int_equal(plan.first, HF_DATA_MOST - 100);
	assert_int_equal(plan.second, HF_DATA_MOST);
	hf_tx_plan(&tx, 0, &plan);
	assert_true(plan.owed == 0 && plan.first == 0 && !plan.header);
}

static void control(void **state)
{
	uint8_t payload[HF_BEAT_SIZE] = {0};
	struct hf_tx tx = {0};
	struct hf_tx_plan plan;
	size_t size;

	(void)state;
	assert_false(hf_tx_control(&tx, HF_FRAME_DATA, payload, 5));
	assert_false(hf_tx_control(&tx, HF_FRAME_BEAT, payload, 5));
	assert_false(hf_tx_control(&tx, (enum hf_frame_type)7, payload, 0));
	assert_true(hf_tx_control(&tx, HF_FRAME_BEAT, payload, HF_BEAT_SIZE));
	assert_false(hf_tx_control(&tx, HF_FRAME_FIN, NULL, 0)); /* one at a time */
	hf_tx_owed(&tx, &size);
	assert_int_equal(size, 72);
	hf_tx_paid(&tx, 70);
	hf_tx_plan(&tx, 5, &plan);
	assert_true(plan.owed == 2 && plan.first == 0 && plan.header && plan.second == 5);
	hf_tx_took(&tx, &plan, 2 + 8 + 4);
	assert_false(hf_tx_control(&tx, HF_FRAME_BEAT, payload, HF_BEAT_SIZE)); /* inside a frame */
	hf_tx_plan(&tx, 1, &plan);
	hf_tx_took(&tx, &plan, 1);
	assert_true(hf_tx_control(&tx, HF_FRAME_FIN, NULL, 0) && tx.fin);
	hf_tx_paid(&tx, 8);
	assert_false(hf_tx_control(&tx, HF_FRAME_FIN, NULL, 0));
	hf_tx_plan(&tx, 5, &plan);
	assert_true(plan.first == 0 && plan.second == 0 && !plan.header);
	assert_true(hf_tx_control(&tx, HF_FRAME_BEAT, payload, HF_BEAT_SIZE));
	hf_tx_paid(&tx, 72);
	assert_true(hf_tx_control(&tx, HF_FRAME_BYE, NULL, 0) && tx.bye);
	hf_tx_paid(&tx, 8);
	assert_false(hf_tx_control(&tx, HF_FRAME_BEAT, payload, HF_BEAT_SIZE));
	tx = (struct hf_tx){0};
	assert_true(hf_tx_fin(&tx, true));
	hf_tx_paid(&tx, 8);
	assert_false(hf_tx_control(&tx, HF_FRAME_BYE, NULL, 0));
}

/* A read that never returned to say what it took: beats are got over at any length, program bytes never. */
static void recovered(void **state)
{
	uint8_t wire[HF_HEADER_SIZE + HF_BEAT_SIZE + HF_HEADER_SIZE] = {0}, payload[HF_BEAT_SIZE];
	const struct hf_beat beat = {.seq = 7};
	struct hf_rx_news news;
	struct hf_tx tx = {0};
	size_t size;

	(void)state;
	hf_beat_make(payload, &beat);
	assert_true(hf_tx_control(&tx, HF_FRAME_BEAT, payload, sizeof payload));
	memcpy(wire, hf_tx_owed(&tx, &size), HF_HEADER_SIZE + HF_BEAT_SIZE);
	for (size_t got = 1; got <= HF_HEADER_SIZE + HF_BEAT_SIZE; got++) {
		struct hf_rx rx = {0};
		uint8_t rest[HF_HEADER_SIZE + HF_BEAT_SIZE];

		assert_true(hf_rx_recover(&rx, wire, HF_HEADER_SIZE, got, &news));
		assert_int_equal(news.beats, 0);
		/* The rest of it, then the next one, which is whole. */
		memcpy(rest, wire, sizeof rest);
		assert_int_equal(hf_rx_squeeze(&rx, rest + got, sizeof rest - got, &news), 0);
		assert_false(rx.corrupt);
		assert_int_equal(news.beats, got <= HF_HEADER_SIZE && got < sizeof rest ? 1 : 0);
		memcpy(rest, wire, sizeof rest);
		assert_int_equal(hf_rx_squeeze(&rx, rest, sizeof rest, &news), 0);
		assert_int_equal(news.beats, 1);
		assert_int_equal(news.beat.seq, 7);
	}
	/* More than the beat was taken, or program bytes were. */
	struct hf_rx rx = {0};
	assert_false(hf_rx_recover(&rx, wire, HF_HEADER_SIZE, sizeof wire, &news));
	hf_header_make(wire, HF_FRAME_DATA, 5);
	rx = (struct hf_rx){0};
	assert_false(hf_rx_recover(&rx, wire, HF_HEADER_SIZE, HF_HEADER_SIZE + 1, &news));
	rx = (struct hf_rx){0};
	assert_true(hf_rx_recover(&rx, wire, HF_HEADER_SIZE, HF_HEADER_SIZE, &news));
	assert_int_equal(hf_rx_open(&rx), 5);
}

/* States that another process of the family has written to: allocated exactly, for the sanitizer. */
static void hostile_receiver(void **state)
{
	static const uint32_t payloads[] = {0, 1, 7, 8, 63, 64, 65, 1000, 0x7fffffff, 0xfffffff8, 0xffffffff};

	(void)state;
	for (unsigned type = 0; type < 256; type = type == 7 ? 255 : type + 1)
		for (unsigned have = 0; have < 256; have++)
			for (size_t i = 0; i < sizeof payloads / sizeof payloads[0]; i++) {
				struct hf_rx *rx = calloc(1, sizeof *rx);
				uint8_t *buf = malloc(100);
				struct hf_rx_news news;

				assert_true(rx && buf);
				memset(buf, 1, 100);
				rx->type = (uint8_t)type;
				rx->have = (uint8_t)have;
				rx->payload = payloads[i];
				assert_true(hf_rx_overhead(rx) <= HF_RX_OVERHEAD_MOST);
				assert_true(hf_rx_squeeze(rx, buf, 100, &news) <= 100);
				free(buf);
				free(rx);
			}
}

static void hostile_sender(void **state)
{
	(void)state;
	for (unsigned have = 0; have < 256; have++)
		for (unsigned size = 0; size < 256; size++) {
			struct hf_tx *tx = calloc(1, sizeof *tx);
			struct hf_tx_plan plan;
			const uint8_t *owed;
			size_t n;

			assert_non_null(tx);
			tx->owed_have = (uint8_t)have;
			tx->owed_size = (uint8_t)size;
			tx->open = 0xffffffff - size;
			owed = hf_tx_owed(tx, &n);
			assert_true(owed >= tx->owed && n <= sizeof tx->owed && owed + n <= tx->owed + sizeof tx->owed);
			assert_true(n == 0 || n == size - have);
			hf_tx_plan(tx, 1000, &plan);
			assert_true(plan.owed == n && plan.first + plan.second <= 1000);
			hf_tx_paid(tx, 1000);
			free(tx);
		}
}

/* The quick ways do what the others do, or nothing; and the usual case is theirs. */
static void quick_as_slow(void **state)
{
	static const uint32_t lengths[] = {0, 1, 63, 64, 65, HF_DATA_MOST, HF_DATA_MOST + 1};
	unsigned taken = 0;

	(void)state;
	for (unsigned kind = 0; kind < 8 * 64 * 7; kind++) {
		struct hf_rx before = {.type = kind & 1 ? HF_FRAME_DATA : 0,
				       .payload = kind & 1 ? 40 : 0,
				       .have = (uint8_t)((kind & 6) == 6 ? 3 : 0),
				       .fin = kind & 8,
				       .proof_due = kind & 16,
				       .ended = kind & 32,
				       .corrupt = kind & 64},
			     quick = before, slow = before;
		uint8_t header[HF_HEADER_SIZE], buf[64] = {0};
		uint32_t length = lengths[kind >> 9];
		struct hf_rx_news news;
		bool usual = (kind & 127) == 0 && length >= 64 && length <= HF_DATA_MOST;

		hf_header_make(header, kind & 128 ? HF_FRAME_BEAT : HF_FRAME_DATA, length);
		if (kind & 256)
			header[HF_HEADER_CHECK] ^= 1;
		if (hf_rx_one(&quick, header, sizeof buf)) {
			assert_int_equal(hf_rx_squeeze_split(&slow, header, sizeof header, buf, sizeof buf, &news),
					 sizeof buf);
			assert_false(news.corrupt || news.fin || news.bye || news.beats);
			taken++;
		} else {
			assert_false(usual && (kind & 384) == 0);
		}
		assert_memory_equal(&quick, &slow, sizeof slow);
		for (size_t n = 1; n <= 64; n++) {
			quick = slow = before;
			if (hf_rx_more(&quick, n))
				hf_rx_passed(&slow, n);
			else
				assert_true(n > hf_rx_open(&before));
			assert_memory_equal(&quick, &slow, sizeof slow);
		}
	}
	assert_true(taken > 0);
	for (size_t n = 1; n <= HF_DATA_MOST; n = n * 3 + 1) {
		struct hf_tx quick = {.sent = 1000, .tail = 72}, slow = quick;
		struct hf_tx_plan plan;

		hf_tx_plan(&slow, n, &plan);
		assert_int_equal(hf_tx_took(&slow, &plan, HF_HEADER_SIZE + n), n);
		hf_tx_one(&quick, n);
		assert_memory_equal(&quick, &slow, sizeof slow);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(crc_vectors),
		cmocka_unit_test(check_is_low_half_of_crc),
		cmocka_unit_test(bit_flips),
		cmocka_unit_test(header_limits),
		cmocka_unit_test(beats),
		cmocka_unit_test(squeeze_any_split),
		cmocka_unit_test(quick_as_slow),
		cmocka_unit_test(order_is_kept),
		cmocka_unit_test(stray_bytes),
		cmocka_unit_test(payload_untouched),
		cmocka_unit_test(scratch_misused),
		cmocka_unit_test(overhead_of_control),
		cmocka_unit_test(recovered),
		cmocka_unit_test(plan_partial),
		cmocka_unit_test(plan_big),
		cmocka_unit_test(control),
		cmocka_unit_test(hostile_receiver),
		cmocka_unit_test(hostile_sender),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
