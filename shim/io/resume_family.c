/*
 * The process that takes a RESUME from a listener need not be the one that has the session: a server that forks for
 * each connection accepts in the parent.  The arena says who has it; the connection is handed over by a Unix socket
 * (SCM_RIGHTS, unix(7)) that each process with such sessions has, in the abstract namespace.
 *
 * Anybody on the machine may connect there, and bind the name of one that is gone.  So each side asks the kernel who
 * the other is (SO_PEERCRED): a process of the family, of the same user, or root.  What comes is believed only if its
 * HELLO is genuine, too.  By the same way processes that share a connection ask each other for the socket it has moved
 * to (io/resume_share.c): it is given to such only, and taken only if it is the one that the arena knows.
 */
#include "io/adopt.h"
#include "io/keep.h"
#include "io/resume.h"
#include "io/wrap_inner.h"
#include "runtime.h"
#include "state/arena.h"
#include "state/family.h"
#include "state/proc.h"
#include "sys.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/un.h>

_Atomic bool hf_resume_inherited;

enum { BACKLOG = 128 };

static _Atomic int box = -1;        /* our socket */
static _Atomic uint32_t box_epoch;  /* of the process it was made by */
static _Atomic uint64_t box_number; /* its name */

static socklen_t address_of(uint64_t number, struct sockaddr_un *to)
{
	static const char digits[] = "0123456789abcdef", label[] = "holdfast-";
	char *at = to->sun_path;

	memset(to, 0, sizeof(*to));
	to->sun_family = AF_UNIX;
	*at++ = '\0'; /* the abstract namespace */
	memcpy(at, label, sizeof(label) - 1);
	at += sizeof(label) - 1;
	for (int shift = 60; shift >= 0; shift -= 4)
		*at++ = digits[number >> shift & 0xf];
	return (socklen_t)(at - (char *)to);
}

/* The name of this process's socket, made when first needed and again after a fork; 0: there is none. */
static uint64_t our_box(void)
{
	uint32_t epoch = atomic_load(hf_proc_epoch);
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	uint64_t number = 0;
	int fd;

	if (atomic_load(&box) >= 0 && atomic_load(&box_epoch) == epoch)
		return atomic_load(&box_number);
	/* One that was inherited is the parent's. */
	if (atomic_load(&box) >= 0)
		hf_sys_close(atomic_exchange(&box, -1));
	fd = (int)hf_sys3(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return 0;
	fd = hf_raise(fd);
	(void)hf_sys_getrandom(&number, sizeof(number), 0);
	if (number == 0 || hf_sys3(SYS_bind, fd, &name, address_of(number, &name)) < 0 ||
	    hf_sys2(SYS_listen, fd, BACKLOG) < 0) {
		hf_sys_close(fd);
		return 0;
	}
	atomic_store(&box_number, number);
	atomic_store(&box_epoch, epoch);
	atomic_store(&box, fd);
	return number;
}

void hf_resume_claim(struct hf_slot *slot)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);
	struct hf_resume *resume = hf_resume_of(slot);
	uint32_t me = hf_family_me(), first;
	uint64_t number;

	if (wrap == NULL || resume == NULL || wrap->client ||
	    !(hf_family_forked() || atomic_load(&hf_resume_inherited) || hf_resume_shared(slot)) ||
	    (number = our_box()) == 0)
		return;
	hf_resume_box_is(slot, number);
	first = atomic_load(&resume->leader);
	if (first == 0 && (first = atomic_load(&wrap->conn.keeper)) != 0 && !hf_family_lives(first))
		first = 0;
	if ((first == 0 || first == me) && atomic_load(&wrap->resume_box) != number)
		atomic_store(&wrap->resume_box, number);
}

bool hf_resume_can_mail(void)
{
	return our_box() != 0;
}

int hf_resume_box(void)
{
	return hf_resume_mail_expected() ? atomic_load(&box) : -1;
}

bool hf_resume_owns(int fd)
{
	return fd >= 0 && fd == hf_resume_box();
}

bool hf_resume_mail_expected(void)
{
	return atomic_load(&box) >= 0 && atomic_load(&box_epoch) == atomic_load(hf_proc_epoch);
}

union control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(sizeof(int))];
};

/* Whether who is at the other end of FD, a Unix socket, may do what it likes with our connections anyhow. */
static bool trusted(int fd)
{
	struct ucred peer = {.uid = (uid_t)-1};
	socklen_t len = sizeof(peer);

	if (hf_sys_getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return false;
	return peer.uid == 0 || peer.uid == (uid_t)hf_sys0(SYS_geteuid) || hf_family_has(peer.pid);
}

/* To the mailbox by NUMBER, with FD unless that is -1. */
static bool post(uint64_t number, const void *letter, size_t size, int fd)
{
	int to = (int)hf_sys3(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct iovec iov = {(void *)(uintptr_t)letter, size};
	union control control = {.bytes = {0}};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	socklen_t len = address_of(number, &address);
	bool sent;

	if (to < 0)
		return false;
	if (fd >= 0) {
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	}
	/* Whoever has the name of one that is gone is as good as nobody. */
	sent = hf_sys_connect(to, &address, len) == 0 && trusted(to) &&
	       hf_sys_sendmsg(to, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
	hf_sys_close(to);
	return sent;
}

bool hf_resume_pass(int fd, const uint8_t name[HF_SESSION_SIZE], const uint8_t *hello)
{
	struct hf_arena *head = hf_arena();
	uint32_t used = head != NULL ? atomic_load(&head->used) : 0;

	for (uint32_t i = 0; i < used && i < HF_ARENA_CONNS; i++) {
		struct hf_wrap *wrap = (struct hf_wrap *)(void *)hf_arena_conn(i);
		struct hf_hello peer;
		uint64_t number;

		if (wrap == NULL || atomic_load(&wrap->conn.cookie) == 0 || wrap->client ||
		    memcmp(wrap->resume_name, name, HF_SESSION_SIZE) != 0 || !hf_resume_genuine(wrap, hello, &peer))
			continue;
		number = atomic_load(&wrap->resume_box);
		if (number != 0 && number != atomic_load(&box_number) && post(number, name, HF_SESSION_SIZE, fd))
			return true;
		/* Nobody takes mail for it yet, or whoever did is gone, or busy: those who have it will, when the
		 * client comes again. */
		return atomic_load(&wrap->fate) == 0 && hf_hold_others(&wrap->conn, 0);
	}
	return false;
}

/* A letter of two lines: from who asks, where he takes mail; with a socket, what was asked for. */
struct letter {
	uint8_t name[HF_SESSION_SIZE];
	uint64_t box;
};

void hf_resume_ask(uint64_t number, const uint8_t name[HF_SESSION_SIZE])
{
	struct letter letter = {.box = our_box()};

	memcpy(letter.name, name, sizeof(letter.name));
	if (letter.box != 0)
		(void)post(number, &letter, sizeof(letter), -1);
}

void hf_resume_give(uint64_t number, const uint8_t name[HF_SESSION_SIZE], int fd)
{
	struct letter letter = {.box = number};

	memcpy(letter.name, name, sizeof(letter.name));
	(void)post(number, &letter, sizeof(letter), fd);
}

static void answer(const struct letter *letter)
{
	struct hf_slot *slot = hf_resume_named(letter->name);

	if (slot != NULL && hf_wrap_of(slot) != NULL && !hf_resume_stale(slot, hf_wrap_of(slot)) &&
	    hf_resume_takes_mail(slot, letter->box) && hf_same_socket(atomic_load(&slot->fd), slot))
		hf_resume_give(letter->box, letter->name, atomic_load(&slot->fd));
}

static _Atomic uint64_t soon;

void hf_resume_mail_soon(uint64_t until)
{
	atomic_store(&soon, until);
}

uint64_t hf_resume_mail_pace(uint64_t now)
{
	enum { PACE_MS = 250, SOON_MS = 4 };

	return now < atomic_load(&soon) ? SOON_MS : PACE_MS;
}

static int received(struct msghdr *msg)
{
	struct cmsghdr *header = CMSG_FIRSTHDR(msg);
	int fd = -1;

	if (header != NULL && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
	    header->cmsg_len >= CMSG_LEN(sizeof(int)))
		memcpy(&fd, CMSG_DATA(header), sizeof(fd));
	return fd;
}

/* What FROM, who has connected to the mailbox, asks for or hands over. */
static void read_letter(int from)
{
	enum { MOMENT_MS = 20 };
	struct letter letter;
	struct iovec iov = {&letter, sizeof(letter)};
	union control control = {.bytes = {0}};
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	struct pollfd p = {.fd = from, .events = POLLIN};
	long got;
	int fd;

	if (hf_sys_poll(&p, 1, MOMENT_MS) <= 0)
		return;
	got = hf_sys3(SYS_recvmsg, from, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	fd = got >= 0 ? received(&msg) : -1;
	if (fd < 0 && got == (long)sizeof(letter))
		answer(&letter);
	if (fd >= 0 &&
	    (hf_is_tcp(fd) <= 0 ||
	     !(got == (long)sizeof(letter) ? hf_resume_caught_up(letter.name, fd)
					   : got == HF_SESSION_SIZE && hf_resume_take(fd, HF_RESUME_MOMENT))))
		hf_sys_close(fd);
}

void hf_resume_read_mail(void)
{
	for (int i = 0; i < BACKLOG && hf_resume_mail_expected(); i++) {
		int from = (int)hf_sys4(SYS_accept4, atomic_load(&box), NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (from < 0)
			return;
		if (trusted(from))
			read_letter(from);
		hf_sys_close(from);
	}
}
