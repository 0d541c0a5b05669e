#include "io/dial.h"
#include "sys.h"

int hf_hang_up(int fd)
{
	const struct sockaddr none = {.sa_family = AF_UNSPEC};

	return (int)hf_sys_connect(fd, &none, sizeof(none));
}

void hf_dial_forget(int fd)
{
	enum { MOST = 64 };
	int nothing;
	socklen_t len = sizeof(nothing);

	(void)hf_sys_getsockopt(fd, SOL_SOCKET, SO_ERROR, &nothing, &len);
	for (int i = 0; i < MOST; i++) {
		struct msghdr msg = {0};

		if (hf_sys_recvmsg(fd, &msg, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
			break;
	}
}

int hf_dial(int fd, const struct sockaddr *addr, socklen_t len)
{
	/* O_NONBLOCK belongs to the open file, which others may share; an instant is all it may take (SO_SNDTIMEO,
	 * socket(7)). */
	const struct timeval instant = {0, 1};
	struct timeval program = {0, 0};
	socklen_t size = sizeof(program);
	int error;

	(void)hf_sys_getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &program, &size);
	(void)hf_sys_setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &instant, sizeof(instant));
	error = (int)hf_sys_connect(fd, addr, len);
	(void)hf_sys_setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &program, sizeof(program));
	return error;
}

bool hf_dialling(int error)
{
	return error == 0 || error == -EINPROGRESS || error == -EALREADY || error == -EAGAIN;
}

uint32_t hf_dial_rest(uint32_t tries)
{
	enum { FIRST_MS = 50, MOST_MS = 2000, DOUBLINGS = 6 };
	uint32_t rest = (uint32_t)FIRST_MS << (tries < DOUBLINGS ? tries : DOUBLINGS), chance = 0;

	(void)hf_sys_getrandom(&chance, sizeof(chance), 0);
	rest = rest < MOST_MS ? rest : MOST_MS;
	return rest + chance % (rest / 4 + 1);
}
