/*
 * The wire format of wrap mode, version 1: what two holdfast libraries say to each other inside the program's own TCP
 * connection.  Little endian, fixed sizes, no padding; every number below is in bytes unless it says otherwise.
 *
 *   client                              server
 *   HELLO ---------------------------->            at once after connect(2)
 *         <---------------------------- HELLO      in answer
 *   frame, frame, ...            frame, frame, ...
 *
 * No program byte leaves before the peer's HELLO has come.  After the HELLO each direction is a sequence of frames: an
 * 8-byte header and its payload.  Program bytes travel in DATA frames only; a DATA frame is a container, its
 * boundaries mean nothing.
 */
#ifndef HOLDFAST_WIRE_H
#define HOLDFAST_WIRE_H

#include <stdint.h>

/* HELLO */

enum {
	HF_WIRE_VERSION = 1,
	HF_MAGIC_SIZE = 8,
	HF_SESSION_SIZE = 16, /* random, chosen by the client */
	HF_NONCE_SIZE = 16,   /* random, each side its own */
	HF_CHECK_SIZE = 32,
	HF_PROG_SIZE = 32, /* NUL-padded, not necessarily terminated */
	HF_HOST_SIZE = 64,
	HF_INFO_SIZE = 64,

	/* Offsets within a HELLO. */
	HF_HELLO_MAGIC = 0,     /* HF_MAGIC */
	HF_HELLO_VERSION = 8,   /* 16 bits: HF_WIRE_VERSION; another is answered with REFUSED */
	HF_HELLO_LENGTH = 10,   /* 16 bits: of the whole HELLO; what a later version adds stands before the check */
	HF_HELLO_FLAGS = 12,    /* 32 bits, enum hf_hello_flag */
	HF_HELLO_SESSION = 16,  /* the server repeats the client's */
	HF_HELLO_NONCE = 32,    /* the sender's own */
	HF_HELLO_INTERVAL = 48, /* 32 bits, ms: HOLDFAST_INTERVAL of the sender; see BEAT */
	HF_HELLO_TIMEOUT = 52,  /* 32 bits, ms: HOLDFAST_TIMEOUT of the sender; see BEAT */
	HF_HELLO_BUFFER = 56,   /* 32 bits: HOLDFAST_RESUME_BUFFER; 0: the sender does not resume (HOLDFAST_ON_DEAD) */
	HF_HELLO_PID = 60,      /* 32 bits: process number of the sender, in its own namespace */
	HF_HELLO_OFFSET = 64,   /* 64 bits: in a RESUME, program bytes had, and 1 if a FIN, 2 if a BYE; else 0 */
	HF_HELLO_PROG = 72,     /* name of the program; for the peer's operator, as are the next two */
	HF_HELLO_HOST = 104,    /* name of the host, as uname(2) tells it */
	HF_HELLO_INFO = 168,    /* HOLDFAST_INFO */
	HF_HELLO_CHECK = 232,   /* in version 1; the last HF_CHECK_SIZE bytes of any version */
	HF_HELLO_SIZE = 264,
	HF_HELLO_MOST = 4096, /* a longer one is refused */
};

/* High bit set, a NUL, both line endings and a ^Z: no text protocol begins so, and text-mode mangling breaks it. */
#define HF_MAGIC "\x8bHF\r\n\x1a\n\0"

enum hf_hello_flag {
	HF_HELLO_SERVER = 1,  /* this is an answer */
	HF_HELLO_KEYED = 2,   /* the check is HMAC-SHA-256, else CRC32C in its first four bytes, the rest zero */
	HF_HELLO_RESUME = 4,  /* continues the session of that id */
	HF_HELLO_REFUSED = 8, /* the server does not go on (version, key, session unknown); it closes after this */
};

/*
 * The check covers every byte of the HELLO before it.  Keyed: HMAC-SHA-256 with the shared secret over those bytes,
 * and in the server's answer over the client's nonce as well, appended: an answer cannot be replayed to another
 * client.  A client's HELLO can be replayed; what it opens is a new session in which the replayer, not knowing the
 * key, cannot prove anything: with KEYED the client's first frame is a PROOF over both nonces.
 */

/* Frames */

enum hf_frame_type {
	HF_FRAME_DATA = 1,  /* program bytes */
	HF_FRAME_BEAT = 2,  /* HF_BEAT_SIZE bytes */
	HF_FRAME_FIN = 3,   /* the program has shut down writing; nothing but BEAT, BYE and ACK follows; no payload */
	HF_FRAME_BYE = 4,   /* last close: do not resume; no payload; ends the direction like a FIN; nothing follows */
	HF_FRAME_ACK = 5,   /* HF_ACK_SIZE bytes: program bytes received (64 bits), for the resume ledger */
	HF_FRAME_PROOF = 6, /* HF_CHECK_SIZE bytes: HMAC over both HELLOs' nonces, client then server; keyed only */
};

/*
 * A BEAT is owed when neither direction has moved for the pace and up to a quarter more, at random.  The pace is the
 * sender's interval or a third of the peer's timeout, whichever is less, and 50 ms at least: a peer with a shorter
 * timeout than ours must not take our silence for the end.
 *
 * A FIN with HF_HEADER_FIN_SEEN is both the second FIN and the acknowledgement of the first; nothing follows it.  FINs
 * without it have crossed: each side then sends one more BEAT, with HF_BEAT_FIN_RECEIVED, as its last frame.  A side
 * really shuts its direction down only when nothing can come from the other: an incoming byte would be answered with a
 * reset once both directions of the socket are shut.
 */
enum hf_header_flag {
	HF_HEADER_FIN_SEEN = 1, /* in a FIN: the sender has received the other side's FIN */
	HF_HEADER_ABORT = 2,    /* in a BYE: the sender's program resets the connection: no end, and none to resume */
};

enum {
	HF_HEADER_SIZE = 8,
	/* Offsets within a frame header. */
	HF_HEADER_TYPE = 0,   /* enum hf_frame_type; another is corrupt */
	HF_HEADER_FLAGS = 1,  /* enum hf_header_flag; others are sent as 0 and ignored */
	HF_HEADER_CHECK = 2,  /* 16 bits: the low half of CRC32C over the other six bytes in order */
	HF_HEADER_LENGTH = 4, /* 32 bits: of the payload */

	HF_DATA_MOST = 1 << 20, /* a longer DATA frame is corrupt; an empty one too */
	HF_ACK_SIZE = 8,
	HF_BEAT_SIZE = 64,

	/* Offsets within a BEAT. */
	HF_BEAT_SEQ = 0,        /* 64 bits, from 1 */
	HF_BEAT_TIME = 8,       /* 64 bits: sender's monotonic clock, us */
	HF_BEAT_ECHO = 16,      /* 64 bits: TIME of the last BEAT received, 0 for none */
	HF_BEAT_HELD = 24,      /* 64 bits: us between receiving that and sending this */
	HF_BEAT_RECEIVED = 32,  /* 64 bits: program bytes received so far */
	HF_BEAT_UNREAD = 40,    /* 32 bits: of them not yet read by the program, at most */
	HF_BEAT_UNREAD_MS = 44, /* 32 bits: for how long the oldest has waited */
	HF_BEAT_STATE = 48,     /* 32 bits, enum hf_beat_state */
				/* 12 bytes reserved, zero */
};

enum hf_beat_state {
	HF_BEAT_FIN_SENT = 1,     /* the sender's program has ended its direction */
	HF_BEAT_FIN_RECEIVED = 2, /* the sender has had the other side's FIN */
	HF_BEAT_SILENT = 4,       /* the sender can beat no more for now (a sandbox): until its next BEAT, silence is no
				   * sign, and the kernel's evidence is all there is */
	HF_BEAT_MAY_END = 8, /* a process has let go of the connection and cannot tell whether others have it: if the
			      * kernel's end comes now, it is no broken path */
};

#endif
