/*
 * Settings: what the operator asked for in the environment.
 *
 * Owns the parsing and validation of every HOLDFAST_* variable (README, "Settings").  Pure but for the
 * callbacks it is given: no system call, no allocation, no global state, so the launcher, the library's
 * constructor and the unit tests share it.  The library calls hf_config_read() once, from its constructor,
 * before any thread of ours exists; afterwards the struct is read-only and needs no lock.
 *
 * All times are milliseconds, all sizes bytes.
 */
#ifndef HOLDFAST_CONFIG_H
#define HOLDFAST_CONFIG_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum hf_mode { HF_MODE_OFF, HF_MODE_PROBE, HF_MODE_WRAP };
enum hf_action { HF_REPORT, HF_ABORT, HF_RECONNECT };
enum hf_fallback { HF_FALLBACK_PLAIN, HF_FALLBACK_FAIL };
enum hf_format { HF_TEXT, HF_JSON };
enum hf_level { HF_ERROR, HF_WARN, HF_INFO, HF_DEBUG };
enum hf_redial { HF_REDIAL_OFF, HF_REDIAL_IDLE };

enum {
	HF_MAX_RULES = 64,
	HF_MAX_PROGRAMS = 32,
	HF_MAX_SINKS = 8,
	HF_MAX_PATH = 4096, /* longest path in a sink or HOLDFAST_KEY_FILE, with its NUL */
	HF_MAX_INFO = 64,   /* HOLDFAST_INFO, without a NUL */
	HF_PROGRAMS_TEXT = 1024,
};

/* One HOLDFAST_RULES entry.  Matching is by prefix and by an inclusive port range. */
struct hf_rule {
	enum hf_mode mode;
	uint8_t family;               /* AF_INET, AF_INET6, or AF_UNSPEC for "*" */
	uint8_t prefix;               /* leading bits of addr that must match, 0..32 or 0..128 */
	uint16_t port_low, port_high; /* host order, inclusive; 0..65535 for "*" */
	uint8_t addr[16];             /* network order; IPv4 in the first four bytes */
};

enum hf_sink_kind { HF_SINK_STDERR, HF_SINK_SYSLOG, HF_SINK_FILE, HF_SINK_UNIX, HF_SINK_FD };

struct hf_sink_setting {
	enum hf_sink_kind kind;
	int fd;                 /* HF_SINK_FD only */
	char path[HF_MAX_PATH]; /* HF_SINK_FILE and HF_SINK_UNIX only; unix: at most 107 bytes, sun_path */
};

struct hf_config {
	enum hf_mode mode;
	struct hf_rule rules[HF_MAX_RULES];
	size_t nrules;
	/* HOLDFAST_PROGRAMS, split at commas in place: programs_text holds the globs, each NUL-terminated. */
	char programs_text[HF_PROGRAMS_TEXT];
	struct {
		uint16_t offset;
		bool exclude;
	} programs[HF_MAX_PROGRAMS];
	size_t nprograms;

	uint32_t interval, timeout;
	enum hf_action on_dead;       /* abort, report or reconnect */
	uint32_t reply_timeout;       /* 0: off */
	enum hf_action on_unanswered; /* abort or report */
	uint32_t connect_timeout;     /* 0: the kernel's own */
	uint32_t stall_timeout;
	enum hf_action on_stall; /* report or abort */
	uint32_t half_close_timeout;
	enum hf_action on_half_close;           /* report or abort */
	uint32_t hello_wait, hello_wait_accept; /* the second: where an accepting program has something to say */
	enum hf_fallback fallback;
	uint32_t reconnect_window;
	uint32_t resume_buffer; /* bytes */
	uint32_t linger;
	struct hf_sink_setting sinks[HF_MAX_SINKS];
	size_t nsinks; /* 0: none */
	enum hf_format format;
	enum hf_level level;
	char key_file[HF_MAX_PATH]; /* "": none */
	char info[HF_MAX_INFO + 1];
	enum hf_redial redial;    /* HOLDFAST_REDIAL */
	uint32_t redial_prologue; /* HOLDFAST_REDIAL_PROLOGUE, bytes */
};

/* Where settings come from: returns the value of the variable NAME or NULL.  getenv(3) fits. */
typedef const char *hf_config_lookup(const char *name, void *arg);

/*
 * Called once for each wrong value with one line and no newline, for example
 *   HOLDFAST_INTERVAL: "5 parsecs": expected a time such as 500ms, 5s or 2m, from 50ms to 24h
 */
typedef void hf_config_complain(const char *line, void *arg);

/* Every default of the README's table. */
void hf_config_defaults(struct hf_config *config);

/*
 * Fill CONFIG from LOOKUP.  A wrong value is told through COMPLAIN and that setting keeps its default; so is a
 * combination that cannot work (timeout below the interval).  Unless given, the timeout is 3 x interval.
 * An unknown HOLDFAST_* name is not seen here: see hf_config_unknown().
 * Returns the number of complaints.
 */
int hf_config_read(struct hf_config *config, hf_config_lookup *lookup, hf_config_complain *complain, void *arg);

/* Whether NAME ("HOLDFAST_INTERVAL") is a variable of ours; used to catch misspelt names. */
bool hf_config_known(const char *name);

enum { HF_UNKNOWN_LINE = 256 };

/*
 * Whether NAME of ENTRY, "NAME=VALUE" in an environment, begins with HOLDFAST_ and is no variable of ours or of a part
 * of holdfast; then LINE says so, with the setting it is near to.  *SLIP: it is so near that it was meant to be that.
 */
bool hf_config_unknown(const char *entry, char line[HF_UNKNOWN_LINE], bool *slip);

/* Tell, in the words of hf_config_read(), that the value of NAME is wrong for a reason that is found out later. */
void hf_config_wrong(const char *name, const char *value, const char *expected, hf_config_complain *complain,
		     void *arg);

/* Parse "50ms", "5s", "2m", "1h", "1.5s" or a bare number of seconds. false when it is none of these. */
bool hf_parse_time(const char *text, uint32_t *ms);

/* Parse "65536", "64K", "1M" (powers of 1024). */
bool hf_parse_size(const char *text, uint32_t *bytes);

/*
 * The mode for a connection with this address: of the peer for outgoing connections, of the listening port for
 * accepted ones.  First matching rule, else config->mode.  IPv4-mapped IPv6 addresses match IPv4 rules.
 */
enum hf_mode hf_config_mode_for(const struct hf_config *config, const struct sockaddr *address);

/* Whether the library acts in the program NAME (the last part of its path): HOLDFAST_PROGRAMS. */
bool hf_config_acts_in(const struct hf_config *config, const char *name);

#endif
