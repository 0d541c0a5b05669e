/*
 * Socket options the library shares with the program: the kernel gets the stricter keepalive, the program keeps seeing
 * its own; SO_ERROR tells the verdict.
 */
#include "io/adopt.h"
#include "io/gate.h"
#include "io/resume.h"
#include "watch/watch.h"

#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

/* What the program set, for an option we may have changed under it. */
static bool program_value(struct hf_slot *slot, int level, int name, int *value)
{
	bool tuned = atomic_load(&slot->tuned) != 0;

	struct hf_wrap *wrap = hf_wrap_of(slot);

	if (level == SOL_SOCKET && name == SO_RCVLOWAT && wrap != NULL && atomic_load(&wrap->low_water) != 0)
		*value = atomic_load(&wrap->low_water);
	else if (level == SOL_SOCKET && name == SO_KEEPALIVE && tuned)
		*value = atomic_load(&slot->program_on);
	else if (level == SOL_TCP && name == TCP_KEEPIDLE && tuned)
		*value = atomic_load(&slot->program_idle);
	else if (level == SOL_TCP && name == TCP_KEEPINTVL && tuned)
		*value = atomic_load(&slot->program_intvl);
	else if (level == SOL_TCP && name == TCP_KEEPCNT && tuned)
		*value = atomic_load(&slot->program_cnt);
	else if (level == SOL_TCP && name == TCP_USER_TIMEOUT &&
		 (atomic_load(&slot->bounded) != 0 || atomic_load(&slot->lent) != 0))
		*value = (int)atomic_load(&slot->program_user_timeout);
	else
		return false;
	return true;
}

/* An error that is none of the program's: of the connection that a plain peer turned away and that is made anew, or of
 * one that both sides have ended. */
static bool hidden(struct hf_slot *slot)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	uint32_t phase = wrap != NULL ? atomic_load(&wrap->phase) : HF_PHASE_NONE;

	if ((wrap != NULL && hf_resume_broken(wrap)) || hf_redial_broken(slot))
		return true;
	return (phase == HF_PHASE_HELLO && wrap->client) || phase == HF_PHASE_REDIAL ||
	       (wrap != NULL && hf_wrap_parted(slot));
}

static void put(void *value, const socklen_t *len, int number)
{
	memcpy(value, &number, *len < sizeof(number) ? *len : sizeof(number));
}

/* SO_ERROR on SLOT gave NUMBER (the kernel tells it once): what the program should see. */
static int verdict(struct hf_slot *slot, int fd, int refused, int number)
{
	int fate = atomic_load(&slot->fate), error = errno;

	if (refused != 0) {
		atomic_store(&slot->connecting, 0); /* told: the next connect(2) is a new attempt */
		return refused;
	}
	if (number == 0 || (fate == 0 && hidden(slot)))
		return 0;
	if (fate == 0 && number != EPIPE && hf_redial_met(slot, fd, number))
		return 0;
	errno = number;
	(void)hf_gate_after(slot, fd, HF_OTHER, -1);
	errno = error;
	return fate != 0 ? fate : number;
}

/* Whether the connection stands and only the peer's HELLO is out: a plain peer may answer ours with a reset. */
static bool shaking(struct hf_slot *slot)
{
	struct hf_wrap *wrap = slot != NULL ? hf_wrap_of(slot) : NULL;

	return wrap != NULL && wrap->client && atomic_load(&wrap->phase) == HF_PHASE_HELLO;
}

int hf_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	struct hf_slot *slot;
	int refused, result, number;
	bool before;

	hf_real_ready();
	/* Only these levels and names are ours; all others cost one comparison. */
	if (level != SOL_TCP &&
	    (level != SOL_SOCKET || (name != SO_KEEPALIVE && name != SO_ERROR && name != SO_RCVLOWAT)))
		return hf_real.getsockopt(fd, level, name, value, len);
	slot = hf_gate(fd, HF_OTHER, &refused);
	before = shaking(slot);
	/* The kernel judges the arguments in any case. */
	result = hf_real.getsockopt(fd, level, name, value, len);
	if (slot == NULL || result != 0)
		return result;
	if (level == SOL_TCP && name == TCP_NOTSENT_LOWAT && *len >= sizeof(number)) {
		memcpy(&number, value, sizeof(number));
		if (hf_wrap_is_mark(number))
			put(value, len, 0);
	} else if (level == SOL_SOCKET && name == SO_ERROR && *len >= sizeof(number)) {
		memcpy(&number, value, sizeof(number));
		if (number != 0 && refused == 0 && (before || shaking(slot))) {
			/* Not the program's: its connect has succeeded, and will once more. */
			(void)hf_wrap_look(slot, fd);
			number = atomic_load(&slot->fate);
		}
		if (number == 0 && refused == 0 && hf_resume_of(slot) != NULL && hf_wrap_of(slot) != NULL)
			number = atomic_exchange(&hf_wrap_of(slot)->error_taken, 0);
		put(value, len, verdict(slot, fd, refused, number));
	} else if (program_value(slot, level, name, &number)) {
		put(value, len, number);
	}
	return result;
}

/* Record what the program has just set, and give the kernel the stricter of the two again. */
static void remember(struct hf_slot *slot, int fd, int level, int name, int value)
{
	if (level == SOL_TCP && name == TCP_USER_TIMEOUT) {
		atomic_store(&slot->bounded, 0);
		atomic_store(&slot->lent, 0);
		if (atomic_load(&slot->tuned) != 0)
			hf_watch_retune(slot, fd);
		return;
	}
	if (atomic_load(&slot->tuned) == 0)
		return;
	if (level == SOL_SOCKET && name == SO_KEEPALIVE)
		atomic_store(&slot->program_on, value != 0);
	else if (level == SOL_TCP && name == TCP_KEEPIDLE)
		atomic_store(&slot->program_idle, (uint16_t)value);
	else if (level == SOL_TCP && name == TCP_KEEPINTVL)
		atomic_store(&slot->program_intvl, (uint16_t)value);
	else if (level == SOL_TCP && name == TCP_KEEPCNT)
		atomic_store(&slot->program_cnt, (uint16_t)value);
	else
		return;
	hf_watch_retune(slot, fd);
}

/* In ms, rounded up; what is too long for the number is for ever. */
static uint32_t limit_ms(const struct timeval *limit)
{
	return limit->tv_sec < UINT32_MAX / 1000 - 1
		       ? (uint32_t)limit->tv_sec * 1000 + (uint32_t)(limit->tv_usec + 999) / 1000
		       : 0;
}

/* Options that matter to a wrapped connection only. */
static int set_wrapped(int fd, int name, const void *value, socklen_t len)
{
	int refused, result;
	struct hf_slot *slot = hf_gate(fd, HF_OTHER, &refused);
	struct hf_wrap *wrap = slot != NULL ? hf_wrap_of(slot) : NULL;
	struct timeval limit;
	int low, one = 1;

	if (refused != 0 || (wrap != NULL && name == SO_ZEROCOPY)) {
		/* Borrowed bytes cannot stand behind a header of ours; the program falls back to copying. */
		errno = refused != 0 ? refused : ENOTSUP;
		return -1;
	}
	result = hf_real.setsockopt(fd, SOL_SOCKET, name, value, len);
	if (result != 0 || wrap == NULL)
		return result;
	if (name == SO_RCVTIMEO && len >= sizeof(limit)) {
		memcpy(&limit, value, sizeof(limit));
		atomic_store(&wrap->receive_limit, limit_ms(&limit));
	} else if (name == SO_RCVLOWAT && len >= sizeof(low)) {
		/* The kernel counts headers and beats: it is left at one byte, and the counting is ours. */
		memcpy(&low, value, sizeof(low));
		atomic_store(&wrap->low_water, low > 0 ? low : low < 0 ? INT_MAX : 1);
		(void)hf_real.setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof(one));
	}
	return result;
}

int hf_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	struct hf_slot *slot;
	int refused, result, number, error;

	hf_real_ready();
	if (level == SOL_SOCKET && (name == SO_RCVTIMEO || name == SO_RCVLOWAT || name == SO_ZEROCOPY))
		return set_wrapped(fd, name, value, len);
	if (level != SOL_TCP && (level != SOL_SOCKET || name != SO_KEEPALIVE))
		return hf_real.setsockopt(fd, level, name, value, len);
	slot = hf_gate(fd, HF_OTHER, &refused);
	if (refused != 0) {
		errno = refused;
		return -1;
	}
	result = hf_real.setsockopt(fd, level, name, value, len);
	if (slot == NULL || result != 0 || len < sizeof(number))
		return result;
	error = errno;
	memcpy(&number, value, sizeof(number));
	remember(slot, fd, level, name, number);
	errno = error;
	return result;
}
