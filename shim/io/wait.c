/*
 * The calls that wait.  In probe mode readiness is the kernel's own; all that is done here is to make sure that the
 * connections waited for are watched, for a program may wait on a descriptor it was given before it ever reads it.
 */
#include "io/wait.h"

#include "io/gate.h"
#include "io/resume.h"
#include "io/wrap_inner.h"
#include "sys.h"

#include <string.h>

/* Waits on more descriptors than this are those of a program that has used them one by one before. */
enum { MOST_TOUCHED = 1024 };

/* The kernel's to refuse, if not: before we have read any of it. */
static bool readable(const struct pollfd *fds, nfds_t count)
{
	return !hf_wild(fds) && count <= HF_FDMAP_MAX;
}

uint64_t hf_deadline(const struct timespec *timeout)
{
	const time_t most = 1000000000; /* s; further off than that is never */

	if (timeout == NULL || timeout->tv_sec >= most)
		return UINT64_MAX;
	if (timeout->tv_sec == 0 && timeout->tv_nsec == 0)
		return 0;
	return hf_clock_wait_us() + (uint64_t)timeout->tv_sec * 1000000 + ((uint64_t)timeout->tv_nsec + 999) / 1000;
}

bool hf_passed(uint64_t until)
{
	return until == 0 || (until != UINT64_MAX && hf_clock_wait_us() >= until);
}

const struct timespec *hf_left(uint64_t until, struct timespec *left)
{
	uint64_t now = until != 0 ? hf_clock_wait_us() : 0, us = until > now ? until - now : 0;

	*left = (struct timespec){(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
	return left;
}

bool hf_sane(const struct timespec *timeout)
{
	return timeout == NULL || (timeout->tv_sec >= 0 && timeout->tv_nsec >= 0 && timeout->tv_nsec < 1000000000);
}

void hf_pause(void)
{
	const struct timespec moment = {0, 1000000};

	hf_sys_nanosleep(&moment, NULL);
}

struct hf_sieve hf_sieve(void)
{
	return (struct hf_sieve){atomic_load(&hf_wrap_turned), false};
}

bool hf_sieve_stale(const struct hf_sieve *sieve)
{
	return atomic_load(&hf_wrap_turned) != sieve->turned;
}

/* The kernel's own answer for one descriptor, now. */
static short ask_again(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};

	return (short)(hf_sys_poll(&p, 1, 0) > 0 ? p.revents : 0);
}

enum { KERNEL_SIGSET = 8 }; /* bytes of a mask, to the kernel */

const sigset_t *hf_quiet_begin(struct hf_quiet *quiet, const sigset_t *mask)
{
	/* Not those by which the thread's own mistakes are told, nor those of libc's that cancel and change users. */
	const uint64_t open = 1U << (SIGSEGV - 1) | 1U << (SIGBUS - 1) | 1U << (SIGFPE - 1) | 1U << (SIGILL - 1) |
			      1U << (SIGTRAP - 1) | 1U << (SIGSYS - 1) | 1ULL << (32 - 1) | 1ULL << (33 - 1);
	const uint64_t most = ~open;

	memset(quiet, 0, sizeof(*quiet));
	(void)hf_sys4(SYS_rt_sigprocmask, SIG_BLOCK, &most, &quiet->own, KERNEL_SIGSET);
	return mask != NULL ? mask : &quiet->own;
}

void hf_quiet_end(const struct hf_quiet *quiet)
{
	(void)hf_sys4(SYS_rt_sigprocmask, SIG_SETMASK, &quiet->own, NULL, KERNEL_SIGSET);
}

/* The path is gone: what has come over it can be read, everything else is a pause. */
static short sift_broken(struct hf_slot *slot, int fd, short events, bool *pause)
{
	short ready = (short)(hf_wrap_look(slot, fd) == HF_LOOK_READY ? HF_READABLE & events : 0);

	/* What ends a wait may come by other ways than the kernel's, also where another process sees to it. */
	hf_resume_stir(slot, true);
	if (ready == 0)
		*pause = true; /* the kernel, whose connection is none, says at once that it is ready */
	return ready;
}

/* During the handshake the kernel's readiness means little: drive it, and show what the program could use. */
static short sift_early(struct hf_slot *slot, struct hf_wrap *wrap, int fd, short events, short revents, bool once,
			bool *pause)
{
	enum hf_look look = hf_wrap_look(slot, fd);
	uint32_t phase = atomic_load(&wrap->phase);

	if (atomic_load(&slot->fate) != 0)
		return revents;
	if (hf_wrap_of(slot) == NULL)
		return ask_again(fd, events); /* plain from here on, and perhaps another connection */
	if (phase == HF_PHASE_BROKEN)
		return sift_broken(slot, fd, events, pause);
	if (phase == HF_PHASE_REDIAL) {
		/* What the kernel says is of the old connection. */
		revents = (short)(hf_wrap_ends(slot, fd, false) & events);
		*pause = revents == 0;
		return revents;
	}
	if (phase == HF_PHASE_ON && (revents & (POLLERR | POLLHUP)) != 0)
		revents = ask_again(fd, events); /* of a connection that it has no more: it has gone on since */
	if (look == HF_LOOK_NOTHING || (look == HF_LOOK_BUSY && !once))
		revents &= (short)~HF_READABLE;
	if (phase != HF_PHASE_ON && (revents & POLLOUT) != 0 && !once &&
	    wrap->queued - wrap->flushed >= HF_QUEUE_SIZE) {
		revents &= (short)~(POLLOUT | POLLWRNORM);
		*pause = true;
	}
	if (look == HF_LOOK_BUSY && !once)
		*pause = true;
	return revents;
}

/* Whether the kernel's word stands, in few instructions: the usual case.  False: it is not known yet. */
static bool sift_sailing(struct hf_slot *slot, struct hf_wrap *wrap, int fd, short events, short revents)
{
	bool ahead = (events & POLLRDHUP) != 0;

	if ((revents & ~(HF_READABLE | POLLOUT | POLLWRNORM)) != 0 || !hf_wrap_sailing(slot, wrap))
		return false;
	if ((revents & HF_READABLE) == 0 || hf_wrap_inside(wrap))
		return !ahead;
	return hf_wrap_sees_bytes(slot, wrap, fd) && (!ahead || hf_wrap_alone(wrap));
}

short hf_sift(int fd, short events, short revents, bool once, struct hf_sieve *sieve)
{
	int refused;
	struct hf_slot *slot = hf_gate(fd, HF_OTHER, &refused);
	struct hf_wrap *wrap = slot != NULL ? hf_wrap_of(slot) : NULL;
	bool ahead;

	if (hf_likely(wrap != NULL && refused == 0) && hf_likely(sift_sailing(slot, wrap, fd, events, revents)))
		return revents;
	if (slot == NULL && (revents & POLLIN) != 0 && hf_fdmap_get(fd) == HF_FD_LISTENER && !hf_resume_screen(fd))
		return (short)(revents & ~HF_READABLE);
	if (slot != NULL && refused == 0 && hf_unlikely(hf_redial_of(slot) != NULL) && hf_redial_met(slot, fd, 0)) {
		sieve->pause = true;
		return 0;
	}
	if (slot != NULL && wrap == NULL && refused == 0 && hf_sieve_stale(sieve))
		return ask_again(fd, events);
	if (wrap == NULL || refused != 0)
		return revents;
	ahead = (events & POLLRDHUP) != 0;
	if (atomic_load(&wrap->phase) != HF_PHASE_ON)
		return sift_early(slot, wrap, fd, events, revents, once, &sieve->pause);
	if (hf_resume_of(slot) != NULL && (hf_resume_broken(wrap) || (revents & (POLLERR | POLLHUP)) != 0)) {
		short broken = sift_broken(slot, fd, events, &sieve->pause);

		/* What came last may have said that it is no broken path. */
		if (hf_resume_broken(wrap) || hf_resume_met(slot, fd))
			return broken;
		/* Nor is it one that was broken when the kernel spoke, and has gone on since. */
		sieve->pause = false;
		revents = ask_again(fd, events);
		if ((revents & (POLLERR | POLLHUP)) != 0)
			return revents;
	}
	if ((revents & POLLOUT) != 0 && !once && hf_resume_of(slot) != NULL && hf_resume_full(slot, fd)) {
		revents &= (short)~(POLLOUT | POLLWRNORM);
		sieve->pause = true;
	}
	if ((revents & HF_READABLE) != 0 && (revents & (POLLERR | POLLHUP)) == 0 &&
	    (hf_resume_of(slot) != NULL || !hf_wrap_inside(wrap))) {
		enum hf_look look = hf_wrap_look(slot, fd);

		if (hf_resume_broken(wrap))
			return sift_broken(slot, fd, events, &sieve->pause);
		if (look == HF_LOOK_NOTHING || (look == HF_LOOK_BUSY && !once))
			revents &= (short)~HF_READABLE;
		ahead = ahead && !hf_wrap_alone(wrap);
	}
	if ((revents & POLLERR) != 0 && hf_wrap_parted(slot))
		revents &= (short)~POLLERR;
	if (revents != 0)
		revents = (short)(revents | (hf_wrap_ends(slot, fd, ahead) & (events | POLLHUP)));
	return revents;
}

/* What there is to know of the descriptors of a wait before it begins. */
struct survey {
	bool ours;      /* one is wrapped, or may be made anew, or others wait for what comes there */
	bool unknown;   /* the kernel may not know of all that is ready */
	uint64_t until; /* the time, ms, until which the wait is ended by nothing that is not the program's; 0: what
			 * ends it has to be looked at, and the wait taken up again */
};

/* TOUCH: it is made sure, too, that it is watched. */
static void survey_one(const struct pollfd *p, bool touch, struct survey *survey)
{
	hf_fd_entry entry = hf_fdmap_get(p->fd);
	struct hf_slot *slot;
	struct hf_wrap *wrap;
	uint64_t lively;
	int refused;

	if (HF_FD_KIND(entry) == HF_FD_PASS)
		return;
	slot = touch ? hf_gate(p->fd, HF_OTHER, &refused) : hf_slot_named_by(entry);
	if (slot == NULL) {
		if (hf_fdmap_get(p->fd) == HF_FD_LISTENER &&
		    (hf_resume_serving() || atomic_load(&hf_resume_waiting) != 0))
			*survey = (struct survey){true, true, 0};
		return;
	}
	wrap = hf_wrap_of(slot);
	if (wrap != NULL && hf_wrap_sailing(slot, wrap) && (p->events & POLLRDHUP) == 0) {
		lively = atomic_load_explicit(&wrap->lively_until, memory_order_relaxed);
	} else if (wrap != NULL || hf_redial_of(slot) != NULL) {
		survey->unknown = true;
		lively = wrap != NULL && atomic_load(&wrap->phase) == HF_PHASE_ON && !hf_resume_broken(wrap)
				 ? atomic_load(&wrap->lively_until)
				 : 0;
	} else {
		return;
	}
	survey->ours = true;
	if (lively < survey->until)
		survey->until = lively;
}

static struct survey survey_fds(const struct pollfd *fds, nfds_t count)
{
	struct survey survey = {false, false, UINT64_MAX};

	if (hf_on() && readable(fds, count))
		for (nfds_t i = 0; i < count; i++)
			if (fds[i].fd >= 0)
				survey_one(&fds[i], i < MOST_TOUCHED, &survey);
	return survey;
}

/* Take back readiness that a read would not find: a blocking program would hang in that read. */
static int sift_fds(struct pollfd *fds, nfds_t count, struct hf_sieve *sieve)
{
	int left = 0;

	for (nfds_t i = 0; i < count; i++) {
		if (fds[i].fd >= 0 && fds[i].revents != 0)
			fds[i].revents = hf_sift(fds[i].fd, fds[i].events, fds[i].revents, false, sieve);
		left += fds[i].revents != 0;
	}
	return left;
}

/* What the channel knows and the kernel does not: an ended direction can be written to at once, with EPIPE. */
static bool known_ready(const struct pollfd *fds, nfds_t count)
{
	for (nfds_t i = 0; i < count; i++) {
		hf_fd_entry entry = fds[i].fd >= 0 ? hf_fdmap_get(fds[i].fd) : HF_FD_PASS;
		struct hf_slot *slot = hf_slot_named_by(entry);

		if (slot != NULL &&
		    (hf_wrap_ends(slot, fds[i].fd, (fds[i].events & POLLRDHUP) != 0) & (fds[i].events | POLLHUP)) != 0)
			return true;
		if (entry == HF_FD_LISTENER && (fds[i].events & POLLIN) != 0 && hf_resume_has_waiting(fds[i].fd))
			return true;
	}
	return false;
}

/* By poll(2) where it can say the same: the kernel does not write back what is left of its time limit (measured). */
static int ask(struct pollfd *fds, nfds_t count, const struct timespec *limit, const sigset_t *mask, bool by_poll)
{
	const long ms = 1000000;

	if (by_poll && mask == NULL &&
	    (limit == NULL || (limit->tv_sec < INT32_MAX / 1000 - 1 && limit->tv_nsec % ms == 0)))
		return hf_real.poll(fds, count, limit == NULL ? -1 : (int)(limit->tv_sec * 1000 + limit->tv_nsec / ms));
	return hf_real.ppoll(fds, count, limit, mask);
}

/* The kernel's own answer for now, and ours added. */
static int poll_known(struct pollfd *fds, nfds_t count, const sigset_t *mask, bool by_poll)
{
	const struct timespec now = {0, 0};
	struct hf_sieve sieve = hf_sieve();
	int ready = ask(fds, count, &now, mask, by_poll);

	if (ready < 0)
		return ready;
	for (nfds_t i = 0; i < count; i++) {
		hf_fd_entry entry = fds[i].fd >= 0 ? hf_fdmap_get(fds[i].fd) : HF_FD_PASS;
		struct hf_slot *slot = hf_slot_named_by(entry);

		if (slot != NULL)
			fds[i].revents = (short)(fds[i].revents |
						 (hf_wrap_ends(slot, fds[i].fd, false) & (fds[i].events | POLLHUP)));
		else if (entry == HF_FD_LISTENER && (fds[i].events & POLLIN) != 0 && hf_resume_has_waiting(fds[i].fd))
			fds[i].revents |= POLLIN;
	}
	return sift_fds(fds, count, &sieve);
}

/* TIMEOUT is over at UNTIL (us), which is one deadline for the whole wait, however many beats come meanwhile.  UNKNOWN:
 * as in the survey. */
static int poll_on(struct pollfd *fds, nfds_t count, const struct timespec *timeout, uint64_t until,
		   const sigset_t *mask, bool by_poll, bool unknown)
{
	const struct timespec slice = {0, 50000000};
	const struct timespec *limit = timeout;
	struct timespec left;

	for (;;) {
		int error = errno, ready;
		struct hf_sieve sieve = hf_sieve();

		if (unknown && known_ready(fds, count) && (ready = poll_known(fds, count, mask, by_poll)) != 0)
			return ready;
		unknown = true;
		/* Taken from a listener by the watchdog: no wait of the kernel's ends for it. */
		if (hf_resume_stirring() && (limit == NULL || limit->tv_sec > 0 || limit->tv_nsec > slice.tv_nsec))
			limit = &slice;
		ready = ask(fds, count, limit, mask, by_poll);
		if (ready < 0 || (ready == 0 && limit != &slice))
			return ready;
		if (ready > 0) {
			ready = sift_fds(fds, count, &sieve);
			errno = error;
			if (ready > 0 || hf_passed(until))
				return ready;
			if (sieve.pause)
				hf_pause();
		}
		limit = timeout != NULL ? hf_left(until, &left) : NULL;
	}
}

/* The part of TIMEOUT (NULL: for ever) before UNTIL, as the survey has it; NULL: none. */
static const struct timespec *undisturbed_part(uint64_t until, const struct timespec *timeout, struct timespec *part)
{
	uint64_t now = until != 0 ? hf_clock_wait_us() / 1000 : 0, left = until > now ? until - now : 0;

	if (left <= 1 || hf_resume_stirring())
		return NULL;
	left--; /* the clock counts in whole ones */
	*part = (struct timespec){(time_t)(left / 1000), (long)(left % 1000) * 1000000};
	if (timeout != NULL &&
	    (timeout->tv_sec < part->tv_sec || (timeout->tv_sec == part->tv_sec && timeout->tv_nsec <= part->tv_nsec)))
		*part = *timeout;
	return part;
}

static int poll_wrapped(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask,
			bool by_poll, const struct survey *survey)
{
	uint64_t until = hf_deadline(timeout), quiet_until = survey->until;
	struct hf_quiet quiet;
	struct timespec first, left;
	int ready;

	if (hf_wait_confined() || until == 0)
		return poll_on(fds, count, timeout, until, mask, by_poll, survey->unknown);
	if (undisturbed_part(quiet_until, timeout, &first) != NULL) {
		quiet_until = quiet_until < UINT64_MAX / 1000 ? 1000 * quiet_until : UINT64_MAX;
		ready = poll_on(fds, count, &first, until < quiet_until ? until : quiet_until, mask, by_poll,
				survey->unknown);
		if (ready != 0 || hf_passed(until))
			return ready;
		timeout = timeout != NULL ? hf_left(until, &left) : NULL;
	}
	ready = poll_on(fds, count, timeout, until, hf_quiet_begin(&quiet, mask), by_poll, true);
	hf_quiet_end(&quiet);
	return ready;
}

static int poll_confined(struct pollfd *fds, nfds_t count, int timeout)
{
	const struct timespec limit = {timeout / 1000, (long)(timeout % 1000) * 1000000};
	uint64_t until = hf_deadline(timeout < 0 ? NULL : &limit);

	for (;;) {
		struct hf_sieve sieve = hf_sieve();
		uint64_t now = hf_clock_wait_us();
		int ready;

		if (known_ready(fds, count) && (ready = poll_known(fds, count, NULL, true)) != 0)
			return ready;
		if (timeout > 0)
			timeout = until > now ? (int)((until - now + 999) / 1000) : 0;
		ready = hf_real.poll(fds, count, timeout);
		if (ready > 0)
			ready = sift_fds(fds, count, &sieve);
		if (ready != 0 || timeout == 0)
			return ready;
	}
}

int hf_poll(struct pollfd *fds, nfds_t count, int timeout)
{
	struct survey survey;
	struct timespec limit;

	hf_real_ready();
	survey = survey_fds(fds, count);
	if (hf_likely(!survey.ours))
		return hf_real.poll(fds, count, timeout);
	if (hf_wait_confined())
		return poll_confined(fds, count, timeout);
	limit = (struct timespec){timeout / 1000, (long)(timeout % 1000) * 1000000};
	return poll_wrapped(fds, count, timeout < 0 ? NULL : &limit, NULL, true, &survey);
}

int hf___poll(struct pollfd *fds, nfds_t count, int timeout)
{
	return hf_poll(fds, count, timeout);
}

int hf___poll_chk(struct pollfd *fds, nfds_t count, int timeout, size_t room)
{
	hf_real_ready();
	if (count <= room / sizeof(*fds))
		return hf_poll(fds, count, timeout);
	return hf_real.__poll_chk(fds, count, timeout, room);
}

int hf_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
	struct survey survey;

	hf_real_ready();
	survey = survey_fds(fds, count);
	if (hf_unlikely(survey.ours) && hf_sane(timeout))
		return poll_wrapped(fds, count, timeout, mask, false, &survey);
	return hf_real.ppoll(fds, count, timeout, mask);
}

int hf___ppoll_chk(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask, size_t room)
{
	hf_real_ready();
	if (count <= room / sizeof(*fds))
		return hf_ppoll(fds, count, timeout, mask);
	return hf_real.__ppoll_chk(fds, count, timeout, mask, room);
}
