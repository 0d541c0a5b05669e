/*
 * The handshake: HELLO made, read and checked (holdfast/wire.h).  Pure; randomness and time come from the caller.
 */
#ifndef HOLDFAST_CORE_HELLO_H
#define HOLDFAST_CORE_HELLO_H

#include <holdfast/wire.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hf_hello {
	uint16_t version;
	uint32_t flags; /* enum hf_hello_flag */
	uint8_t session[HF_SESSION_SIZE], nonce[HF_NONCE_SIZE];
	uint32_t interval, timeout; /* ms */
	uint32_t buffer, pid;
	uint64_t offset;
	/* Terminated; bytes below 0x20 and 0x7f have become '?': they came from the network. */
	char prog[HF_PROG_SIZE + 1], host[HF_HOST_SIZE + 1], info[HF_INFO_SIZE + 1];
};

/* A shared secret, as read from HOLDFAST_KEY_FILE; size 0: none. */
struct hf_key {
	const uint8_t *bytes;
	size_t size;
};

enum hf_hello_result {
	HF_HELLO_MORE,    /* so far it may become one: wait for more bytes */
	HF_HELLO_PLAIN,   /* the peer does not speak holdfast, or sends our own HELLO back (echo, self-connect) */
	HF_HELLO_VALID,   /* complete and checked; as a client, look at HF_HELLO_REFUSED */
	HF_HELLO_FOREIGN, /* a version we do not know: answer REFUSED and end; nothing in it has been checked */
	HF_HELLO_KEY,     /* keyed and the check fails, or one side is keyed and the other is not */
	HF_HELLO_BROKEN,  /* the magic is there but length, flags, session or check make no sense */
};

/*
 * Make a HELLO of HF_HELLO_SIZE bytes.  HF_HELLO_KEYED is set from the key, whatever hello->flags say.  CLIENT_NONCE:
 * in an answer (HF_HELLO_SERVER), of the HELLO it answers; else NULL.  Texts fill their
 * fields to the last byte.
 */
void hf_hello_make(uint8_t out[HF_HELLO_SIZE], const struct hf_hello *hello, const struct hf_key *key,
		   const uint8_t client_nonce[HF_NONCE_SIZE]);

/*
 * Look at the first SIZE bytes from the peer.  *USED is how many bytes the HELLO has (VALID, FOREIGN, KEY, and BROKEN
 * with a sane length), else 0.  *HELLO is set whenever *USED is, and to be believed when VALID only.
 *
 * EXPECT_SERVER: we are the client and this must be an answer to CLIENT_NONCE for SESSION; both are NULL on the
 * accepting side.  A prefix that differs from the magic anywhere is PLAIN at once; MORE never asks for more than
 * HF_HELLO_MOST bytes.  KEY->size 0: no key.
 */
enum hf_hello_result hf_hello_read(const uint8_t *in, size_t size, const struct hf_key *key, bool expect_server,
				   const uint8_t *client_nonce, const uint8_t *session, struct hf_hello *hello,
				   size_t *used);

/* The client's PROOF: HMAC-SHA-256 over "holdfast proof", the client's nonce, the server's. */
void hf_proof_make(uint8_t out[HF_CHECK_SIZE], const struct hf_key *key, const uint8_t client_nonce[HF_NONCE_SIZE],
		   const uint8_t server_nonce[HF_NONCE_SIZE]);

/* HMAC-SHA-256 (RFC 2104) over A and B; B may be NULL. */
void hf_hmac(uint8_t out[HF_CHECK_SIZE], const struct hf_key *key, const void *a, size_t a_size, const void *b,
	     size_t b_size);

/*
 * SIZE bytes at SECRET are done with: they do not stay there, nor, as far as can be, in the registers that copying left
 * them in.  A core dump has both, of each thread.
 */
void hf_forget(void *secret, size_t size);

/* Compare two checks in constant time. */
bool hf_check_equal(const uint8_t a[HF_CHECK_SIZE], const uint8_t b[HF_CHECK_SIZE]);

#endif
