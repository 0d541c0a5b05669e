/*
 * Events: what the library tells the operator.  One list of names, shared by the library, the tool and the tests.
 *
 * Each event goes to every sink of HOLDFAST_REPORT whose level allows it, as one line: a sentence (text) or one
 * JSON object (json) with the fields named in README, "Events".
 */
#ifndef HOLDFAST_EVENT_H
#define HOLDFAST_EVENT_H

/* X(enumerator, name on the wire, default level) */
#define HF_EVENTS(X)                                         \
	X(OPEN, "open", HF_DEBUG)                            \
	X(WRAPPED, "wrapped", HF_INFO)                       \
	X(PLAIN, "plain", HF_INFO)                           \
	X(LATE, "late", HF_INFO)                             \
	X(DEAD, "dead", HF_ERROR)                            \
	X(STALLED, "stalled", HF_WARN)                       \
	X(FLOWING, "flowing", HF_WARN)                       \
	X(HALF_CLOSED, "half-closed", HF_INFO)               \
	X(HALF_CLOSE_TIMEOUT, "half-close-timeout", HF_WARN) \
	X(VANISHED, "vanished", HF_WARN)                     \
	X(BROKEN, "broken", HF_WARN)                         \
	X(RESUMED, "resumed", HF_WARN)                       \
	X(GAVE_UP, "gave-up", HF_ERROR)                      \
	X(CLOSED, "closed", HF_DEBUG)                        \
	X(CORRUPT, "corrupt", HF_ERROR)                      \
	X(CONFIG, "config", HF_WARN)

enum hf_event_kind {
#define X(e, name, level) HF_EV_##e,
	HF_EVENTS(X)
#undef X
		HF_EV_COUNT
};

/* Why a connection is called dead. */
#define HF_REASONS(X)               \
	X(NONE, "")                 \
	X(PATH, "path")             \
	X(HUNG, "hung")             \
	X(UNANSWERED, "unanswered") \
	X(RESET, "reset")           \
	X(CONNECT, "connect")

enum hf_reason {
#define X(e, name) HF_WHY_##e,
	HF_REASONS(X)
#undef X
		HF_WHY_COUNT
};

#endif
