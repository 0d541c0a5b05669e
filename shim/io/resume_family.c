/*
 * The process that takes a RESUME from a listener need not be the one that has the session: a server that forks for
 * each connection accepts in the parent.  The arena says who has it; the connection is handed over by a Unix socket
 * (SCM_RIGHTS, unix(7)) that each process with such sessions has, in the abstract namespace.
 *
 * Anybody on the machine may write there: what comes is believed only if its HELLO is genuine.
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
#include <string.h>
#include <sys/un.h>

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
	fd = (int)hf_sys3(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return 0;
	fd = hf_raise(fd);
	(void)hf_sys_getrandom(&number, sizeof(number), 0);
	if (number == 0 || hf_sys3(SYS_bind, fd, &name, address_of(number, &name)) < 0) {
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

bool hf_resume_pass(int fd, const uint8_t name[HF_SESSION_SIZE], const uint8_t *hello)
{
	struct hf_arena *head = hf_arena();
	uint32_t used = head != NULL ? atomic_load(&head->used) : 0;

	for (uint32_t i = 0; i < used && i < HF_ARENA_CONNS; i++) {
		struct hf_wrap *wrap = (struct hf_wrap *)(void *)hf_arena_conn(i);
		struct iovec iov = {(void *)(uintptr_t)name, HF_SESSION_SIZE};
		union control control = {.bytes = {0}};
		struct sockaddr_un to = {.sun_family = AF_UNIX};
		struct msghdr msg = {.msg_name = &to,
				     .msg_iov = &iov,
				     .msg_iovlen = 1,
				     .msg_control = &control,
				     .msg_controllen = sizeof(control)};
		struct hf_hello peer;
		uint64_t number;

		if (wrap == NULL || atomic_load(&wrap->conn.cookie) == 0 || wrap->client ||
		    memcmp(wrap->resume_name, name, HF_SESSION_SIZE) != 0 ||
		    (number = atomic_load(&wrap->resume_box)) == 0 || !hf_resume_genuine(wrap, hello, &peer))
			continue;
		msg.msg_namelen = address_of(number, &to);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
		return hf_sys_sendmsg(our_box() != 0 ? atomic_load(&box) : -1, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
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

void hf_resume_read_mail(void)
{
	enum { MOST = 16 };

	for (int i = 0; i < MOST && hf_resume_mail_expected(); i++) {
		uint8_t name[HF_SESSION_SIZE];
		struct iovec iov = {name, sizeof(name)};
		union control control = {.bytes = {0}};
		struct msghdr msg = {
			.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
		long got = hf_sys3(SYS_recvmsg, atomic_load(&box), &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		int fd;

		if (got < 0)
			return;
		fd = received(&msg);
		if (fd < 0)
			continue;
		if (got != (long)sizeof(name) || hf_is_tcp(fd) <= 0 || !hf_resume_take(fd))
			hf_sys_close(fd);
	}
}
