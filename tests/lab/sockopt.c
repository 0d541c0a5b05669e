/*
 * What the kernel holds for a socket of another process: sockopt PID FD.  It takes a duplicate of the descriptor
 * (pidfd_getfd) and asks by itself, so a library inside that process cannot colour the answer.
 */
#include "labutil.h"

#include <sys/syscall.h>

int main(int argc, char **argv)
{
	int pidfd, fd;

	if (argc != 3) {
		errno = EINVAL;
		give_up("usage: sockopt PID FD");
	}
	pidfd = (int)syscall(SYS_pidfd_open, atoi(argv[1]), 0);
	fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, atoi(argv[2]), 0);
	if (fd < 0)
		give_up("pidfd_getfd");
	tell_options("kernel", fd);
	return 0;
}
