/*
 * The handshake of a resumption: HELLO with RESUME, the server's answer, the client's PROOF.  Part of resume_link.h.
 *
 * A HELLO may be an old one that was long on its way, or a replayed one.  So the server need change nothing before the
 * PROOF has come, and cannot say before it that the offset does not fit; it may leave the connection it has
 * (breaks_early), at the price of another resumption.  From its answer on it takes nothing from the connection it has,
 * which would make the answer wrong; if no PROOF comes it goes on there.  A connection that is given up for another is
 * first looked through for a PROOF: what stands behind one may be acknowledged.
 */
#ifndef RESUME_SHAKE_H
#define RESUME_SHAKE_H

enum { PROOF_FRAME = HF_HEADER_SIZE + HF_CHECK_SIZE };

static void nonce_of(int e, int c, uint8_t nonce[HF_NONCE_SIZE])
{
	memset(nonce, e ? 's' : 'c', HF_NONCE_SIZE);
	nonce[0] = (uint8_t)c;
}

static void hello_make(int e, int c, uint32_t flags, uint8_t bytes[HF_HELLO_SIZE])
{
	struct hf_hello hello = {
		.version = HF_WIRE_VERSION,
		.flags = flags | HF_HELLO_RESUME,
		.interval = 5000,
		.timeout = 15000,
		.offset = hf_resume_expects(&world.side[e].rx),
	};
	uint8_t client[HF_NONCE_SIZE];

	memcpy(hello.session, session_name, HF_SESSION_SIZE);
	nonce_of(e, c, hello.nonce);
	nonce_of(0, c, client);
	hf_hello_make(bytes, &hello, &resume_key, e ? client : NULL);
}

/* A HELLO at the front of what has come to E on C. */
static enum hf_hello_result hello_read(int e, int c, struct hf_hello *hello, bool consume)
{
	uint8_t bytes[HF_HELLO_SIZE], client[HF_NONCE_SIZE];
	size_t used, n = kernel_recv(c, e, bytes, sizeof bytes, false);
	enum hf_hello_result result;

	nonce_of(0, c, client);
	result = e ? hf_hello_read(bytes, n, &resume_key, false, NULL, NULL, hello, &used)
		   : hf_hello_read(bytes, n, &resume_key, true, client, session_name, hello, &used);
	if (result == HF_HELLO_VALID && consume)
		(void)kernel_recv(c, e, bytes, used, true);
	if (result != HF_HELLO_VALID && result != HF_HELLO_MORE)
		fail("an untouched HELLO was called something else");
	return result;
}

/* The client: another connection, and HELLO on it. */
static bool client_dial(void)
{
	struct side *side = &world.side[0];
	uint8_t bytes[HF_HELLO_SIZE];
	int c;

	if (side->conn != NONE || side->over)
		return false;
	c = kernel_dial();
	if (c == NONE)
		return false;
	side->conn = c;
	hello_make(0, c, 0, bytes);
	(void)kernel_send(c, 0, bytes, sizeof bytes, SIZE_MAX);
	return true;
}

/* The client: the server's answer, and the PROOF. */
static bool client_answered(void)
{
	struct side *side = &world.side[0];
	uint8_t proof[HF_CHECK_SIZE], nonce[2][HF_NONCE_SIZE];
	struct hf_hello hello;
	int c = side->conn;

	if (c == NONE || side->on || hello_read(0, c, &hello, true) != HF_HELLO_VALID)
		return false;
	if (hello.flags & HF_HELLO_REFUSED) {
		if (world.side[1].known)
			fail("a session that the server has was refused");
		kernel_leave(c, 0);
		side->conn = NONE;
		side->over = REFUSED;
		return true;
	}
	nonce_of(0, c, nonce[0]);
	memcpy(nonce[1], hello.nonce, HF_NONCE_SIZE);
	hf_proof_make(proof, &resume_key, nonce[0], nonce[1]);
	if (!hf_tx_control(&side->tx, HF_FRAME_PROOF, proof, sizeof proof))
		fail("a PROOF was refused");
	go_on(0, c, hello.offset);
	if (side->tx.bye) {
		kernel_leave(c, 0);
		side->conn = NONE;
		side->on = false;
		side->session.state = HF_S_CLOSED;
		side->over = OVER;
	}
	return true;
}

/* The server: a PROOF on the connection that waits for one makes it the session's. */
static bool server_proved(void)
{
	struct side *side = &world.side[1];
	uint8_t bytes[HF_HELLO_SIZE + PROOF_FRAME], proof[HF_CHECK_SIZE], nonce[2][HF_NONCE_SIZE];
	struct hf_hello hello;
	int c = side->pending;

	if (c == NONE || kernel_recv(c, 1, bytes, sizeof bytes, false) < sizeof bytes)
		return false;
	(void)hello_read(1, c, &hello, true);
	for (int e = 0; e < 2; e++)
		nonce_of(e, c, nonce[e]);
	hf_proof_make(proof, &resume_key, nonce[0], nonce[1]);
	(void)kernel_recv(c, 1, bytes, PROOF_FRAME, true);
	if (!hf_check_equal(proof, bytes + HF_HEADER_SIZE))
		fail("an untouched PROOF does not hold");
	side->pending = NONE;
	if (side->conn != NONE) /* the old one: what came there after the answer the client will send again */
		kernel_leave(side->conn, 1);
	hf_resume_break(&side->rx, &side->tx, &side->ring);
	if (side->told != hf_resume_expects(&side->rx))
		fail("the server went on reading after its answer");
	go_on(1, c, hello.offset);
	return true;
}

/* The connection that waits for a PROOF waits no longer. */
static bool server_drop(void)
{
	struct side *side = &world.side[1];

	if (side->pending == NONE)
		return false;
	if (server_proved())
		return true;
	kernel_leave(side->pending, 1);
	side->pending = NONE;
	return true;
}

/* The server: a connection at its listener. The HELLO stays in the queue until the PROOF stands behind it. */
static bool server_accept(int c)
{
	struct side *side = &world.side[1];
	struct conn *conn = &world.conn[c];
	uint8_t bytes[HF_HELLO_SIZE], name[HF_SESSION_SIZE];
	struct hf_hello hello;
	bool known;

	if (!conn->used || conn->taken || kernel_recv(c, 1, bytes, sizeof bytes, false) < sizeof bytes)
		return false;
	conn->taken = true;
	if (!hf_resume_called(bytes, sizeof bytes, name) || memcmp(name, session_name, sizeof name) != 0)
		fail("a RESUME was not known as one");
	known = side->known && hello_read(1, c, &hello, false) == HF_HELLO_VALID;
	if (known && side->pending != NONE)
		(void)server_drop();
	if (known && breaks_early && side->on)
		side_break(1);
	while (known && side->on && take(1, side->conn, SIZE_MAX) > 0)
		continue;
	side->told = hf_resume_expects(&side->rx);
	hello_make(1, c, HF_HELLO_SERVER | (known ? 0 : HF_HELLO_REFUSED), bytes);
	(void)kernel_send(c, 1, bytes, sizeof bytes, SIZE_MAX);
	if (known && !side->rx.bye)
		side->pending = c;
	else
		conn->off[1] = true; /* the answer may arrive, and is all that a client who has closed wants */
	return true;
}

/* The server is another one now: it knows nothing. */
static bool server_forget(void)
{
	struct side *side = &world.side[1];

	if (!side->known)
		return false;
	side->known = side->on = false;
	for (int c = 0; c < CONNS; c++) {
		if (c == side->conn || c == side->pending)
			kernel_leave(c, 1);
	}
	side->conn = side->pending = NONE;
	side->over = side->over ? side->over : ALONE;
	return true;
}

#endif
