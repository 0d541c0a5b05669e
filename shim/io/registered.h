/*
 * What is registered with epoll descriptors.  Registrations are recorded as they pass, so that an event, which carries
 * nothing but the program's data, can be traced to its descriptor.  Nothing the program registered is ever changed.
 *
 * Owns the table of registrations, one for the process, and the order of what it says and what the kernel was told: a
 * turn of its own, held for a few instructions and the kernel's epoll_ctl(2).  For io/wait_epoll.c; the two that others
 * need are in io/wait.h.
 */
#ifndef HOLDFAST_IO_REGISTERED_H
#define HOLDFAST_IO_REGISTERED_H

#include "runtime.h"
#include "state/fdmap.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

/* One for each pair of epoll descriptor and data. */
struct hf_registration {
	uint64_t data;
	int epfd;
	int fd;
	uint32_t events;
	hf_fd_entry entry; /* what the map said of FD */
	bool used;
	bool fired;  /* one-shot, and told: not armed until the program says so */
	bool shared; /* more than one descriptor has been registered with this data: never traced */
};

enum { HF_TRACE_MOST = 16 };

/* Whether a connection of this process may ever be wrapped, or made anew. */
static inline bool hf_wrap_possible(void)
{
	return hf_on() && (hf_runtime.config.mode == HF_MODE_WRAP || hf_runtime.config.nrules != 0 ||
			   hf_runtime.config.redial != HF_REDIAL_OFF);
}

/* Whether anything has been recorded. */
bool hf_registering(void);

/*
 * The registrations that COUNT events are of, at most HF_TRACE_MOST, into OUT: a bit for each that is known for
 * certain.  With many connections nothing of theirs is in the cache: what is needed of each is fetched before it is.
 */
uint32_t hf_registered_trace(int epfd, const struct epoll_event *events, int count, struct hf_registration *out);

/*
 * The event that has disarmed a one-shot registration was only protocol, which is gone.  The same registration once
 * more arms it again and shows whatever has come meanwhile (epoll_ctl(2), EPOLL_CTL_MOD); unless the program has
 * changed it since.
 */
void hf_registered_rearm(const struct hf_registration *seen);

/* The program is told of SEEN, which is one-shot, and nobody else until it arms it again. */
void hf_registered_fired(const struct hf_registration *seen);

/*
 * Bytes taken out of connections that broke: the kernel knows nothing of them.  Adds what EPFD has to tell of them to
 * the COUNT EVENTS, up to ROOM; returns how many there are then.  PROBING: nothing is disarmed.
 */
int hf_registered_inboxes(int epfd, struct epoll_event *events, int count, int room, bool probing);

#endif
