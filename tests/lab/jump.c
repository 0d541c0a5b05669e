/*
 * Run a program for which clocks jump: what clock_gettime(2) tells it is off by what FILE says from that moment on.
 *
 *   jump FILE COMMAND...
 *
 * FILE has "REALTIME MONOTONIC BOOTTIME", in ms to be added; it may not exist yet.  Only system calls are answered so
 * (seccomp_unotify(2)): what libc reads from the vDSO is the machine's time, and so are the kernel's own timers, as
 * after a machine was suspended or its clock was set.  The machine's clock is not touched.
 *
 * COMMAND and all it starts are in this process; a child of it answers, and ends with it.
 */
#include "labutil.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

static const char *file;

/* The listener's descriptor, or -1. */
static int filter_clocks(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clock_gettime, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

static long offset_of(clockid_t clock)
{
	long real = 0, monotonic = 0, boot = 0;
	FILE *in = fopen(file, "re");

	if (in) {
		if (fscanf(in, "%ld %ld %ld", &real, &monotonic, &boot) != 3)
			real = monotonic = boot = 0;
		fclose(in);
	}
	return clock == CLOCK_REALTIME    ? real
	       : clock == CLOCK_MONOTONIC ? monotonic
	       : clock == CLOCK_BOOTTIME  ? boot
					  : 0;
}

static void answer(int listener)
{
	struct seccomp_notif ask = {0};
	struct seccomp_notif_resp reply = {0};
	struct timespec ts;
	struct iovec from = {&ts, sizeof(ts)}, to = {NULL, sizeof(ts)};
	long off;

	if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &ask) < 0)
		return;
	reply.id = ask.id;
	off = offset_of((clockid_t)ask.data.args[0]);
	to.iov_base = (void *)(uintptr_t)ask.data.args[1];
	if (off == 0 || clock_gettime((clockid_t)ask.data.args[0], &ts) < 0) {
		reply.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	} else {
		ts.tv_sec += off / 1000;
		ts.tv_nsec += off % 1000 * 1000000;
		if (ts.tv_nsec >= 1000000000)
			ts.tv_sec++, ts.tv_nsec -= 1000000000;
		if (ts.tv_nsec < 0)
			ts.tv_sec--, ts.tv_nsec += 1000000000;
		if (process_vm_writev((pid_t)ask.pid, &from, 1, &to, 1, 0) < 0)
			reply.error = -EFAULT;
	}
	(void)ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &reply);
}

/* The parent's descriptor NUMBER is the listener. */
static void answer_for(pid_t parent, int number, int went)
{
	int pidfd = (int)syscall(SYS_pidfd_open, parent, 0);
	int listener = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);

	if (listener < 0 || write(went, "", 1) != 1)
		_exit(1);
	for (;; answer(listener)) {
		struct pollfd p = {listener, POLLIN, 0};

		if (poll(&p, 1, -1) < 0 || (p.revents & POLLIN) == 0)
			break;
	}
	_exit(0);
}

int main(int argc, char **argv)
{
	int told[2], went[2], number;
	char byte;
	pid_t child, parent = getpid();

	if (argc < 3 || pipe2(told, O_CLOEXEC) < 0 || pipe2(went, O_CLOEXEC) < 0) {
		errno = EINVAL;
		give_up("usage: jump FILE COMMAND...");
	}
	file = argv[1];
	child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (read(told[0], &number, sizeof(number)) != sizeof(number))
			_exit(1);
		answer_for(parent, number, went[1]);
	}
	close(went[1]);
	prctl(PR_SET_PTRACER, child, 0, 0, 0);
	number = child > 0 ? filter_clocks() : -1;
	if (number < 0 || write(told[1], &number, sizeof(number)) != sizeof(number) || read(went[0], &byte, 1) != 1)
		give_up("seccomp");
	execvp(argv[2], argv + 2);
	give_up(argv[2]);
	return 127;
}
