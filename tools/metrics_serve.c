#include "metrics_serve.h"
#include "command.h"
#include "metrics_text.h"
#include "view_text.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { REQUEST_MOST = 8192, READ_MS = 2000, WRITE_MS = 5000, BACKLOG = 16 };

/* Listening */

/* WHERE in its two parts, in COPY.  Brackets are for IPv6. */
static bool split(char *copy, char **host, char **port)
{
	char *colon = strrchr(copy, ':');

	*host = colon ? copy : NULL;
	*port = colon ? colon + 1 : copy;
	if (colon)
		*colon = '\0';
	if (colon && copy[0] == '[') {
		if (copy[1] == '\0' || copy[strlen(copy) - 1] != ']')
			return false;
		copy[strlen(copy) - 1] = '\0';
		*host = copy + 1;
	} else if (colon && strchr(copy, ':')) {
		return false;
	}
	if (*host && **host == '\0')
		*host = NULL;
	return **port != '\0' && strspn(*port, "0123456789") == strlen(*port) && strlen(*port) <= 5 &&
	       atoi(*port) <= 65535; /* NOLINT(cert-err34-c): five digits */
}

static int open_listener(const struct addrinfo *info)
{
	int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(fd, info->ai_addr, info->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	close(fd);
	return -1;
}

static void tell_where(int fd)
{
	struct sockaddr_storage name;
	socklen_t length = sizeof name;
	uint8_t bytes[28];

	memset(&name, 0, sizeof name);
	if (getsockname(fd, (struct sockaddr *)&name, &length) < 0)
		return;
	memcpy(bytes, &name, sizeof bytes);
	hf_tell("metrics on http://%s/metrics", hf_address(bytes).text);
}

int hf_metrics_listen(const char *where)
{
	struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM}, *found;
	char copy[80], *host, *port;
	int fd, why;

	if (strlen(where) >= sizeof copy || !split(strcpy(copy, where), &host, &port) || /* NOLINT: it fits */
	    getaddrinfo(host ? host : "127.0.0.1", port, &hints, &found) != 0) {
		hf_tell("--listen: \"%s\": expected PORT, ADDRESS:PORT or [ADDRESS]:PORT, with a numeric address",
			where);
		return HF_METRICS_WRONG;
	}
	fd = open_listener(found);
	why = errno;
	freeaddrinfo(found);
	if (fd < 0)
		hf_tell("--listen: \"%s\": %s", where, strerror(why));
	else
		tell_where(fd);
	return fd;
}

/* One request */

static uint64_t clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static bool ready(int fd, short events, uint64_t deadline)
{
	struct pollfd wait = {.fd = fd, .events = events};
	uint64_t now = clock_ms();
	int got;

	do
		got = now < deadline ? poll(&wait, 1, (int)(deadline - now)) : 0;
	while (got < 0 && errno == EINTR && (now = clock_ms()) < deadline);
	return got > 0;
}

static bool send_all(int fd, const char *text, size_t size)
{
	uint64_t deadline = clock_ms() + WRITE_MS;

	while (size > 0) {
		ssize_t sent = send(fd, text, size, MSG_NOSIGNAL);

		if (sent > 0) {
			text += sent;
			size -= (size_t)sent;
		} else if (errno != EAGAIN || !ready(fd, POLLOUT, deadline)) {
			return false;
		}
	}
	return true;
}

/* Up to the empty line; false: too long, too slow, or it ended before. */
static bool read_request(int fd, char request[REQUEST_MOST])
{
	uint64_t deadline = clock_ms() + READ_MS;
	size_t length = 0;

	while (length < REQUEST_MOST - 1) {
		ssize_t got = recv(fd, request + length, REQUEST_MOST - 1 - length, 0);

		if (got == 0 || (got < 0 && (errno != EAGAIN || !ready(fd, POLLIN, deadline))))
			return false;
		if (got < 0)
			continue;
		length += (size_t)got;
		request[length] = '\0';
		if (strstr(request, "\r\n\r\n") || strstr(request, "\n\n"))
			return strlen(request) == length;
		/* A byte now and then does not keep it open. */
		if (clock_ms() >= deadline)
			return false;
	}
	return false;
}

static void answer(int fd, const char *status, const char *type, const char *body, size_t size, bool head)
{
	char text[512];
	int length = snprintf(text, sizeof text,
			      "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nConnection: close\r\n%s\r\n",
			      status, type, size, strncmp(status, "405", 3) == 0 ? "Allow: GET, HEAD\r\n" : "");

	if (send_all(fd, text, (size_t)length) && !head)
		send_all(fd, body, size);
}

static void refuse(int fd, const char *status, bool head)
{
	char body[64];
	int length = snprintf(body, sizeof body, "%s\n", status);

	answer(fd, status, "text/plain; charset=utf-8", body, (size_t)length, head);
}

/* Whether the Accept header names that format.  Nobody who does not know it does. */
static bool wants_openmetrics(const char *request)
{
	for (const char *line = strchr(request, '\n'); line; line = strchr(line, '\n')) {
		line++;
		if (strncasecmp(line, "accept:", 7) == 0) {
			const char *end = strchr(line, '\n'), *found = strstr(line, "application/openmetrics-text");

			return found && (!end || found < end);
		}
	}
	return false;
}

static void serve(int fd, bool (*make)(FILE *out, bool openmetrics, void *arg), void *arg)
{
	char request[REQUEST_MOST], *body = NULL, *path, *rest;
	bool head, openmetrics, good;
	size_t size;
	FILE *out;

	if (!read_request(fd, request)) {
		refuse(fd, "400 Bad Request", false);
		return;
	}
	head = strncmp(request, "HEAD ", 5) == 0;
	if (!head && strncmp(request, "GET ", 4) != 0) {
		refuse(fd, "405 Method Not Allowed", false);
		return;
	}
	openmetrics = wants_openmetrics(request);
	path = strchr(request, ' ') + 1;
	rest = path + strcspn(path, " ?\r\n");
	if (strncmp(path, "/metrics", (size_t)(rest - path)) != 0 || rest - path != 8) {
		refuse(fd, "404 Not Found", head);
		return;
	}
	out = open_memstream(&body, &size);
	good = out && make(out, openmetrics, arg);
	if (out && fclose(out) != 0)
		good = false;
	if (good)
		answer(fd, "200 OK", openmetrics ? HF_OPENMETRICS_TYPE : HF_PROMETHEUS_TYPE, body, size, head);
	else
		refuse(fd, "500 Internal Server Error", head);
	free(body);
}

/* What the client still sends must not turn our answer into a reset. */
static void finish(int fd)
{
	uint64_t deadline = clock_ms() + READ_MS / 4;
	char rest[REQUEST_MOST];

	shutdown(fd, SHUT_WR);
	while (ready(fd, POLLIN, deadline) && recv(fd, rest, sizeof rest, 0) > 0)
		;
	close(fd);
}

void hf_metrics_serve(int listener, bool (*make)(FILE *out, bool openmetrics, void *arg), void *arg)
{
	struct pollfd wait = {.fd = listener, .events = POLLIN};

	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			serve(fd, make, arg);
			finish(fd);
		} else if (errno == EAGAIN) {
			(void)poll(&wait, 1, -1);
		} else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			(void)poll(NULL, 0, 100);
		} else if (errno == EBADF || errno == EINVAL || errno == ENOTSOCK) {
			hf_tell("accept: %s", strerror(errno));
			return;
		}
	}
}
