/*
 * hold PROGRAM [ARG...]: runs it, and holds calls of it that it has named beforehand (hold.h), of whichever thread,
 * until it lets them go: what happens beside a call that is under way can then be seen every time.
 * Exit status: the program's; 77: this kernel or sandbox does not offer it.
 */
#include "hold.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SECCOMP_USER_NOTIF_FLAG_CONTINUE
#define SECCOMP_USER_NOTIF_FLAG_CONTINUE 1
#endif

enum { CANNOT = 77 };

static int install(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_close_range, 8, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_close, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getsockopt, 2, 7),
		/* The low half, on a little-endian machine. */
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, HOLD_FROM, 4, 5),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_TCP, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, TCP_INFO, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

static void send_fd(int channel, int fd)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
	char byte = 0;
	struct iovec iov = {&byte, 1};
	const struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};

	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	(void)sendmsg(channel, &msg, 0);
}

static int receive_fd(int channel)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	char byte;
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	int fd;

	if (recvmsg(channel, &msg, MSG_CMSG_CLOEXEC) != 1 || msg.msg_controllen < CMSG_LEN(sizeof(int)))
		return -1;
	memcpy(&fd, CMSG_DATA(&control.header), sizeof(fd));
	return fd;
}

static void answer(int listener, uint64_t id, int64_t value, int error, uint32_t flags)
{
	struct seccomp_notif_resp reply = {.id = id, .val = value, .error = error, .flags = flags};

	(void)ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &reply);
}

static struct {
	long call; /* to be held; 0: none */
	int pass;  /* so many go through before */
	uint64_t id;
	int which; /* its first argument; -1: none is held */
} held = {.which = -1};

static void go_on(int listener, uint64_t id)
{
	answer(listener, id, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE);
}

static void word(int listener, const struct seccomp_notif *call)
{
	switch ((int)call->data.args[0]) {
	case HOLD_HIGH_CLOSE:
		held.call = SYS_close;
		break;
	case HOLD_CLOSE_RANGE:
		held.call = SYS_close_range;
		break;
	case HOLD_LOOK:
		held.call = SYS_getsockopt;
		break;
	case HOLD_PASS:
		held.pass++;
		break;
	case HOLD_WHICH:
		answer(listener, call->id, held.which, held.which < 0 ? -EAGAIN : 0, 0);
		return;
	default:
		if (held.which >= 0)
			go_on(listener, held.id);
		held.which = -1;
		held.call = 0;
		break;
	}
	answer(listener, call->id, 0, 0, 0);
}

static void one_call(int listener)
{
	struct seccomp_notif call;
	int first;

	memset(&call, 0, sizeof(call));
	if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call) < 0)
		return;
	first = (int)call.data.args[0];
	if (call.data.nr == SYS_close && first >= HOLD_FIRST && first <= HOLD_LAST) {
		word(listener, &call);
	} else if (call.data.nr != held.call || held.which >= 0 || held.pass-- > 0) {
		go_on(listener, call.id);
	} else {
		held.pass = 0;
		held.id = call.id;
		held.which = first;
	}
}

int main(int argc, char **argv)
{
	int channel[2], listener, status = CANNOT << 8;
	pid_t pid;

	if (argc < 2 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel) < 0)
		return 2;
	pid = fork();
	if (pid == 0) {
		listener = install();
		if (listener < 0)
			_exit(CANNOT);
		send_fd(channel[1], listener);
		if (getenv("HELD_PRELOAD") != NULL)
			setenv("LD_PRELOAD", getenv("HELD_PRELOAD"), 1);
		execv(argv[1], argv + 1);
		_exit(2);
	}
	close(channel[1]);
	listener = receive_fd(channel[0]);
	if (listener >= 0) {
		struct pollfd p = {.fd = listener, .events = POLLIN};

		/* No more when the last process under the filter is gone. */
		while (poll(&p, 1, -1) > 0 && (p.revents & POLLIN) != 0)
			one_call(listener);
	}
	(void)waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
