/*
 * The process that takes a RESUME from a listener need not be the one that has the session: a server that forks for
 * each connection accepts in the parent.  The arena says who has it; the connection is handed over by a Unix socket
 * (SCM_RIGHTS, unix(7)) that each process with such sessions has, in the abstract namespace.
 *
 * Anybody on the machine may connect there, and bind the name of one that is gone.  So each side asks the kernel who
 * the other is (SO_PEERCRED): a process of the family, of the same user, or root.  What comes is believed only if its
 * HELLO is genuine, too.
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
	uint64_t number;

	if (wrap == NULL || hf_resume_of(slot) == NULL || wrap->client || !hf_family_forked() ||
	    (number = our_box()) == 0)
		return;
	if (atomic_load(&wrap->resume_box) != number)
		atomic_store(&wrap->resume_box, number);
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

/* FD to the mailbox by NUMBER: 0, or -errno. */
static int send_to(uint64_t number, int fd, const uint8_t name[HF_SESSION_SIZE])
{
	int to = (int)hf_sys3(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct iovec iov = {(void *)(uintptr_t)name, HF_SESSION_SIZE};
	union control control = {.bytes = {0}};
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	socklen_t len = address_of(number, &address);
	long error = to < 0 ? to : hf_sys_connect(to, &address, len);

	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	control.header.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	/* Whoever has the name of one that is gone is as good as nobody. */
	if (error == 0)
		error = trusted(to) ? hf_sys_sendmsg(to, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) : -ECONNREFUSED;
	if (to >= 0)
		hf_sys_close(to);
	return error < 0 ? (int)error : 0;
}

bool hf_resume_pass(int fd, const uint8_t name[HF_SESSION_SIZE], const uint8_t *hello)
{
	struct hf_arena *head = hf_arena();
	uint32_t used = head != NULL ? atomic_load(&head->used) : 0;

	for (uint32_t i = 0; i < used && i < HF_ARENA_CONNS; i++) {
		struct hf_wrap *wrap = (struct hf_wrap *)(void *)hf_arena_conn(i);
		struct hf_hello peer;
		uint64_t number;
		int error;

		if (wrap == NULL || atomic_load(&wrap->conn.cookie) == 0 || wrap->client ||
		    memcmp(wrap->resume_name, name, HF_SESSION_SIZE) != 0 ||
		    (number = atomic_load(&wrap->resume_box)) == 0 || !hf_resume_genuine(wrap, hello, &peer))
			continue;
		/* Full, out of descriptors, or ours until the child that has it says that it is its own: the session is
		 * there, and its client will come again. */
		if (hf_resume_mail_expected() && number == atomic_load(&box_number))
			return true;
		error = send_to(number, fd, name);
		return error != -ECONNREFUSED;
	}
	return false;
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

/* What FROM, who has connected to the mailbox, has to hand over. */
static void read_letter(int from)
{
	enum { MOMENT_MS = 20 };
	uint8_t name[HF_SESSION_SIZE];
	struct iovec iov = {name, sizeof(name)};
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
	if (fd >= 0 && (got != (long)sizeof(name) || hf_is_tcp(fd) <= 0 || !hf_resume_take(fd)))
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
