/*
 * The calls that move bytes.  In probe mode each is the program's own call, untouched, between two looks.
 */
#include "io/adopt.h"
#include "io/gate.h"
#include "io/pass.h"
#include "io/wait.h"
#include "io/wrap_inner.h"
#include "sys.h"

#include <limits.h>

/* What the wrapped connection is given: a vector, its length, the flags of recv(2) or send(2). */
#define WRAP_READ(iov, count, flags) hf_wrap_recv(slot_, fd, iov, (size_t)(count), flags, &plain_)
#define WRAP_MOVE(iov, count, flags) hf_wrap_send(slot_, fd, iov, (size_t)(count), flags, &plain_)
#define ONE(buf, size)               (&(struct iovec){(void *)(uintptr_t)(buf), (size)}), 1
#define VECTOR_OF(msg)               hf_wild(msg) ? NULL : (msg)->msg_iov, hf_wild(msg) ? 0 : (msg)->msg_iovlen

/* And one that may be made anew (io/redial.h). */
#define AGAIN_READ(iov, count, flags) hf_redial_call(slot_, fd, false, iov, (size_t)(count), flags)
#define AGAIN_SEND(iov, count, flags) hf_redial_call(slot_, fd, true, iov, (size_t)(count), flags)

#define READS(type, name, args, ...) \
	HF_THROUGH(type, fd, HF_READS, name, args, WRAP_READ(__VA_ARGS__), AGAIN_READ(__VA_ARGS__))
#define VECTORS(type, name, args, ...) \
	HF_THROUGH(type, fd, HF_WRITES, name, args, WRAP_MOVE(__VA_ARGS__), AGAIN_SEND(__VA_ARGS__))

/* By READER or WRITER, of one piece: SIZE bytes at buf. */
#define READS_ONE(name, args, reader, size, flags)                                                  \
	HF_THROUGH(ssize_t, fd, HF_READS, name, args, reader(slot_, fd, buf, size, flags, &plain_), \
		   hf_redial_call(slot_, fd, false, ONE(buf, size), flags))
#define WRITES_ONE(name, args, size, flags)                                                                  \
	HF_THROUGH(ssize_t, fd, HF_WRITES, name, args, transmit_piece(slot_, fd, buf, size, flags, &plain_), \
		   hf_redial_call(slot_, fd, true, ONE(buf, size), flags))

/*
 * What is no connection, and known to be none, costs a few instructions and no frame on the stack: the rest of the
 * function is kept out of it.
 */
#define NOT_INLINE __attribute__((noinline))
#define PASSING(name, args)                        \
	do {                                       \
		if (hf_likely(hf_gate_passes(fd))) \
			return hf_real.name args;  \
	} while (0)

/* recv(2) and send(2) take any size and move no more than this; read(2) and write(2) refuse what no memory holds. */
static size_t at_most(size_t size)
{
	const size_t most = 0x7ffff000; /* MAX_RW_COUNT */

	return size < most ? size : most;
}

/* A negative count is the kernel's to refuse: none, so that the program's own call is made. */
static size_t vector_length(int count)
{
	return count > 0 ? (size_t)count : 0;
}

/* A position, or a flag we do not know, is for the kernel to judge; a socket has no positions (ESPIPE). */
enum { RWF_KNOWN = RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT };

/* preadv2(2) and pwritev2(2): RWF_NOWAIT is the one flag that means something on a socket. */
static int rwf_flags(int flags)
{
	return (flags & RWF_NOWAIT) != 0 ? MSG_DONTWAIT : 0;
}

/* A stream socket has no sender's address to give: its length becomes 0 (recvfrom(2)). */
static int no_address(const struct sockaddr *addr, socklen_t *len, int flags)
{
	if (addr != NULL && len != NULL)
		*len = 0;
	return flags;
}

/* Unlike read(2), recv(2) with no room waits for something to come, and takes nothing. */
static ssize_t receive(struct hf_slot *slot, int fd, const struct iovec *iov, size_t count, int flags, bool *plain)
{
	char byte;
	struct iovec one = {&byte, 1};
	ssize_t got;

	if (count > IOV_MAX || (count != 0 && hf_wild(iov)) || hf_iov_total(iov, count) != 0 ||
	    (flags & (MSG_ERRQUEUE | MSG_OOB)) != 0)
		return hf_wrap_recv(slot, fd, iov, count, flags, plain);
	got = hf_wrap_recv(slot, fd, &one, 1, (flags & ~(MSG_WAITALL | MSG_TRUNC)) | MSG_PEEK, plain);
	/* One wait, whatever ends it, and the kernel is done. */
	if (got < 0 && !*plain && (errno == EINTR || (errno == EAGAIN && !hf_nonblocking(fd, flags))))
		return 0;
	return got > 0 ? 0 : got;
}

static ssize_t receive_one(struct hf_slot *slot, int fd, struct msghdr *msg, int flags, bool *plain)
{
	ssize_t got;

	*plain = hf_wild(msg);
	if (*plain)
		return 0;
	got = receive(slot, fd, msg->msg_iov, msg->msg_iovlen, flags, plain);
	if (!*plain && got >= 0) {
		if (msg->msg_name != NULL)
			msg->msg_namelen = 0;
		msg->msg_controllen = 0;
		msg->msg_flags = flags & MSG_CMSG_CLOEXEC;
	}
	return got;
}

static bool is_empty(const struct iovec *iov, size_t count)
{
	return count <= IOV_MAX && (count == 0 || !hf_wild(iov)) && hf_iov_total(iov, count) == 0;
}

/* To send nothing where nothing may be sent any more is an error too; but for writev(2), which then does nothing. */
static ssize_t transmit(struct hf_slot *slot, int fd, const struct iovec *iov, size_t count, int flags, bool *plain)
{
	struct hf_wrap *wrap = hf_wrap_of(slot);

	if (wrap != NULL && is_empty(iov, count) && !hf_may_write(wrap)) {
		*plain = false;
		return hf_write_ended(slot, fd, flags);
	}
	return hf_wrap_send(slot, fd, iov, count, flags, plain);
}

/* Whether the kernel finds fault with what is sent besides bytes: asked with none. */
static bool refused_besides(int fd, const struct msghdr *msg)
{
	struct msghdr none = *msg;
	int error = errno;

	none.msg_iovlen = 0;
	if (hf_real.sendmsg(fd, &none, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno != EAGAIN && errno != EPIPE)
		return true;
	errno = error;
	return false;
}

static ssize_t send_one(struct hf_slot *slot, int fd, const struct msghdr *msg, int flags, bool *plain)
{
	*plain = hf_wild(msg);
	if (*plain)
		return 0;
	if ((msg->msg_controllen != 0 || msg->msg_name != NULL) && refused_besides(fd, msg))
		return -1;
	return transmit(slot, fd, msg->msg_iov, msg->msg_iovlen, flags, plain);
}

/* One piece. */
static ssize_t receive_piece(struct hf_slot *slot, int fd, void *buf, size_t size, int flags, bool *plain)
{
	if (hf_unlikely(size == 0))
		return receive(slot, fd, ONE(buf, size), flags, plain);
	return hf_wrap_recv_one(slot, fd, buf, size, flags, plain);
}

static ssize_t transmit_piece(struct hf_slot *slot, int fd, const void *buf, size_t size, int flags, bool *plain)
{
	if (hf_unlikely(size == 0))
		return transmit(slot, fd, ONE(buf, size), flags, plain);
	return hf_wrap_send_one(slot, fd, buf, size, flags, plain);
}

static ssize_t send_to(struct hf_slot *slot, int fd, const void *buf, size_t size, int flags,
		       const struct sockaddr *addr, socklen_t len, bool *plain)
{
	/* The kernel judges the address; none is used on a connection (sendto(2)). */
	*plain = false;
	if (addr != NULL && hf_real.sendto(fd, NULL, 0, MSG_DONTWAIT | MSG_NOSIGNAL, addr, len) < 0 &&
	    errno != EAGAIN && errno != EPIPE)
		return -1;
	return transmit_piece(slot, fd, buf, at_most(size), flags, plain);
}

/* DONE messages and then perhaps an error: the count, and errno as it was (the error comes again with the next call).
 */
static int many(unsigned done, int error, bool *plain)
{
	if (done == 0)
		return *plain ? 0 : -1;
	*plain = false;
	errno = error;
	return (int)done;
}

/* recvmmsg(2): the time limit is looked at after each message only (BUGS there). */
static int receive_many(struct hf_slot *slot, int fd, struct mmsghdr *msgs, unsigned count, int flags,
			struct timespec *timeout, bool *plain)
{
	const struct hf_wait wait = {atomic_load(&slot->gen)};
	unsigned done = 0;
	uint64_t until;
	int error = errno;

	*plain = hf_wild(msgs) || count == 0 || !hf_sane(timeout);
	if (*plain)
		return 0;
	until = hf_deadline(timeout);
	while (done < count) {
		struct msghdr *msg = &msgs[done].msg_hdr;
		int later = done > 0 && (flags & MSG_WAITFORONE) != 0 ? MSG_DONTWAIT : 0;
		ssize_t got = receive_one(slot, fd, msg, (flags & ~MSG_WAITFORONE) | later, plain);

		if (*plain || got < 0) {
			/* The kernel keeps an error that it meets behind messages for the next call, too. */
			if (!*plain && done > 0 && hf_wrap_of(slot) != NULL)
				hf_wrap_took_error(hf_wrap_of(slot), -errno);
			break;
		}
		msgs[done++].msg_len = (unsigned)got;
		if (timeout != NULL) {
			(void)hf_left(until, timeout);
			if (timeout->tv_sec == 0 && timeout->tv_nsec == 0)
				break;
		}
		/* Another thread may have closed the number while we slept. */
		if (hf_wait_in_vain(slot, &wait, &fd))
			break;
	}
	return many(done, error, plain);
}

static int send_many(struct hf_slot *slot, int fd, struct mmsghdr *msgs, unsigned count, int flags, bool *plain)
{
	const struct hf_wait wait = {atomic_load(&slot->gen)};
	unsigned done = 0;
	int error = errno;

	*plain = hf_wild(msgs) || count == 0;
	if (*plain)
		return 0;
	while (done < count) {
		struct msghdr *msg = &msgs[done].msg_hdr;
		ssize_t sent = send_one(slot, fd, msg, flags, plain);

		/* It is the kernel's, which may be given this message alone, not those after it. */
		if (*plain && hf_wrap_of(slot) != NULL && !hf_wild(msg) && is_empty(msg->msg_iov, msg->msg_iovlen)) {
			*plain = false;
			sent = hf_real.sendmsg(fd, msg, flags);
		}
		if (*plain || sent < 0)
			break;
		msgs[done++].msg_len = (unsigned)sent;
		if (hf_wait_in_vain(slot, &wait, &fd)) /* as above */
			break;
	}
	return many(done, error, plain);
}

static NOT_INLINE ssize_t read_through(int fd, void *buf, size_t size)
{
	READS_ONE(read, (fd, buf, size), hf_wrap_recv_one, size, 0);
}

ssize_t hf_read(int fd, void *buf, size_t size)
{
	PASSING(read, (fd, buf, size));
	return read_through(fd, buf, size);
}

ssize_t hf___read(int fd, void *buf, size_t size)
{
	return hf_read(fd, buf, size);
}

/* The fortified names check the size of the buffer and end the program if it does not fit: theirs to do. */
ssize_t hf___read_chk(int fd, void *buf, size_t size, size_t room)
{
	if (size > room)
		return hf_real.__read_chk(fd, buf, size, room); /* ends the program */
	READS_ONE(__read_chk, (fd, buf, size, room), hf_wrap_recv_one, size, 0);
}

static NOT_INLINE ssize_t readv_through(int fd, const struct iovec *iov, int count)
{
	READS(ssize_t, readv, (fd, iov, count), iov, vector_length(count), 0);
}

ssize_t hf_readv(int fd, const struct iovec *iov, int count)
{
	PASSING(readv, (fd, iov, count));
	return readv_through(fd, iov, count);
}

ssize_t hf_preadv2(int fd, const struct iovec *iov, int count, off_t at, int flags)
{
	hf_real_ready();
	if (at != -1 || (flags & ~RWF_KNOWN) != 0)
		return hf_real.preadv2(fd, iov, count, at, flags);
	READS(ssize_t, preadv2, (fd, iov, count, at, flags), iov, vector_length(count), rwf_flags(flags));
}

ssize_t hf_preadv64v2(int fd, const struct iovec *iov, int count, off_t at, int flags)
{
	hf_real_ready();
	if (at != -1 || (flags & ~RWF_KNOWN) != 0)
		return hf_real.preadv64v2(fd, iov, count, at, flags);
	READS(ssize_t, preadv64v2, (fd, iov, count, at, flags), iov, vector_length(count), rwf_flags(flags));
}

static NOT_INLINE ssize_t recv_through(int fd, void *buf, size_t size, int flags)
{
	READS_ONE(recv, (fd, buf, size, flags), receive_piece, at_most(size), flags);
}

ssize_t hf_recv(int fd, void *buf, size_t size, int flags)
{
	PASSING(recv, (fd, buf, size, flags));
	return recv_through(fd, buf, size, flags);
}

ssize_t hf___recv_chk(int fd, void *buf, size_t size, size_t room, int flags)
{
	if (size > room)
		return hf_real.__recv_chk(fd, buf, size, room, flags);
	READS_ONE(__recv_chk, (fd, buf, size, room, flags), receive_piece, at_most(size), flags);
}

ssize_t hf_recvfrom(int fd, void *buf, size_t size, int flags, struct sockaddr *addr, socklen_t *len)
{
	HF_THROUGH(ssize_t, fd, HF_READS, recvfrom, (fd, buf, size, flags, addr, len),
		   receive_piece(slot_, fd, buf, at_most(size), no_address(addr, len, flags), &plain_),
		   hf_redial_call(slot_, fd, false, ONE(buf, at_most(size)), flags));
}

ssize_t hf___recvfrom_chk(int fd, void *buf, size_t size, size_t room, int flags, struct sockaddr *addr, socklen_t *len)
{
	if (size > room)
		return hf_real.__recvfrom_chk(fd, buf, size, room, flags, addr, len);
	HF_THROUGH(ssize_t, fd, HF_READS, __recvfrom_chk, (fd, buf, size, room, flags, addr, len),
		   receive_piece(slot_, fd, buf, at_most(size), no_address(addr, len, flags), &plain_),
		   hf_redial_call(slot_, fd, false, ONE(buf, at_most(size)), flags));
}

static ssize_t recvmsg_through(int fd, struct msghdr *msg, int flags)
{
	HF_THROUGH(ssize_t, fd, HF_READS, recvmsg, (fd, msg, flags), receive_one(slot_, fd, msg, flags, &plain_),
		   hf_redial_call(slot_, fd, false, VECTOR_OF(msg), flags));
}

ssize_t hf_recvmsg(int fd, struct msghdr *msg, int flags)
{
	ssize_t got = recvmsg_through(fd, msg, flags);

	if (hf_unlikely(got >= 0 && hf_on() && msg->msg_controllen != 0) && !hf_proc_borrowed())
		hf_pass_received(msg);
	return got;
}

static int recvmmsg_through(int fd, struct mmsghdr *msgs, unsigned count, int flags, struct timespec *timeout)
{
	HF_THROUGH(int, fd, HF_READS, recvmmsg, (fd, msgs, count, flags, timeout),
		   receive_many(slot_, fd, msgs, count, flags, timeout, &plain_), AGAIN_READ(NULL, 0, flags));
}

int hf_recvmmsg(int fd, struct mmsghdr *msgs, unsigned count, int flags, struct timespec *timeout)
{
	int got = recvmmsg_through(fd, msgs, count, flags, timeout);

	for (int i = 0; i < got && hf_on(); i++)
		if (hf_unlikely(msgs[i].msg_hdr.msg_controllen != 0) && !hf_proc_borrowed())
			hf_pass_received(&msgs[i].msg_hdr);
	return got;
}

static NOT_INLINE ssize_t write_through(int fd, const void *buf, size_t size)
{
	WRITES_ONE(write, (fd, buf, size), size, 0);
}

ssize_t hf_write(int fd, const void *buf, size_t size)
{
	PASSING(write, (fd, buf, size));
	return write_through(fd, buf, size);
}

ssize_t hf___write(int fd, const void *buf, size_t size)
{
	return hf_write(fd, buf, size);
}

static NOT_INLINE ssize_t writev_through(int fd, const struct iovec *iov, int count)
{
	VECTORS(ssize_t, writev, (fd, iov, count), iov, vector_length(count), 0);
}

ssize_t hf_writev(int fd, const struct iovec *iov, int count)
{
	PASSING(writev, (fd, iov, count));
	return writev_through(fd, iov, count);
}

ssize_t hf_pwritev2(int fd, const struct iovec *iov, int count, off_t at, int flags)
{
	hf_real_ready();
	if (at != -1 || (flags & ~RWF_KNOWN) != 0)
		return hf_real.pwritev2(fd, iov, count, at, flags);
	VECTORS(ssize_t, pwritev2, (fd, iov, count, at, flags), iov, vector_length(count), rwf_flags(flags));
}

ssize_t hf_pwritev64v2(int fd, const struct iovec *iov, int count, off_t at, int flags)
{
	hf_real_ready();
	if (at != -1 || (flags & ~RWF_KNOWN) != 0)
		return hf_real.pwritev64v2(fd, iov, count, at, flags);
	VECTORS(ssize_t, pwritev64v2, (fd, iov, count, at, flags), iov, vector_length(count), rwf_flags(flags));
}

/* MSG_FASTOPEN is a connect in disguise (tcp(7)): what it opened is met as unknown by the next call. */
static NOT_INLINE ssize_t send_through(int fd, const void *buf, size_t size, int flags)
{
	WRITES_ONE(send, (fd, buf, size, flags), at_most(size), flags);
}

ssize_t hf_send(int fd, const void *buf, size_t size, int flags)
{
	PASSING(send, (fd, buf, size, flags));
	return send_through(fd, buf, size, flags);
}

ssize_t hf___send(int fd, const void *buf, size_t size, int flags)
{
	return hf_send(fd, buf, size, flags);
}

ssize_t hf_sendto(int fd, const void *buf, size_t size, int flags, const struct sockaddr *addr, socklen_t len)
{
	HF_THROUGH(ssize_t, fd, HF_WRITES, sendto, (fd, buf, size, flags, addr, len),
		   send_to(slot_, fd, buf, size, flags, addr, len, &plain_),
		   hf_redial_call(slot_, fd, true, ONE(buf, at_most(size)), flags));
}

ssize_t hf_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	if (hf_unlikely(hf_wrap_in_use()) && !hf_wild(msg) && msg->msg_controllen != 0)
		hf_pass_sending(fd, msg);
	HF_THROUGH(ssize_t, fd, HF_WRITES, sendmsg, (fd, msg, flags), send_one(slot_, fd, msg, flags, &plain_),
		   hf_redial_call(slot_, fd, true, VECTOR_OF(msg), flags));
}

int hf_sendmmsg(int fd, struct mmsghdr *msgs, unsigned count, int flags)
{
	for (unsigned i = 0; hf_unlikely(hf_wrap_in_use()) && i < count && !hf_wild(msgs); i++)
		if (msgs[i].msg_hdr.msg_controllen != 0)
			hf_pass_sending(fd, &msgs[i].msg_hdr);
	HF_THROUGH(int, fd, HF_WRITES, sendmmsg, (fd, msgs, count, flags),
		   send_many(slot_, fd, msgs, count, flags, &plain_), AGAIN_SEND(NULL, 0, flags));
}

ssize_t hf_sendfile(int out, int in, off_t *at, size_t size)
{
	/* A zero here is the end of the file, not of the connection: hf_gate_after leaves it alone while it lives. */
	HF_THROUGH(ssize_t, out, HF_WRITES, sendfile, (out, in, at, size),
		   hf_wrap_sendfile(slot_, out, in, at, size, &plain_), hf_redial_call(slot_, out, true, NULL, 0, 0));
}

ssize_t hf_sendfile64(int out, int in, off_t *at, size_t size)
{
	HF_THROUGH(ssize_t, out, HF_WRITES, sendfile64, (out, in, at, size),
		   hf_wrap_sendfile(slot_, out, in, at, size, &plain_), hf_redial_call(slot_, out, true, NULL, 0, 0));
}

static int splice_flags(unsigned flags)
{
	return (flags & SPLICE_F_NONBLOCK) != 0 ? MSG_DONTWAIT : 0;
}

static ssize_t splice_out(int in, off_t *in_at, int out, off_t *out_at, size_t size, unsigned flags)
{
	HF_THROUGH(ssize_t, out, HF_WRITES, splice, (in, in_at, out, out_at, size, flags),
		   hf_wrap_splice_out(slot_, in, in_at, out, size, flags, &plain_),
		   hf_redial_call(slot_, out, true, NULL, 0, splice_flags(flags)));
}

ssize_t hf_splice(int in, off_t *in_at, int out, off_t *out_at, size_t size, unsigned flags)
{
	int refused;

	/* One end is a pipe (splice(2)), so at most one is a connection; and a connection has no positions. */
	hf_real_ready();
	if (in_at != NULL || out_at != NULL)
		return hf_real.splice(in, in_at, out, out_at, size, flags);
	if (hf_gate(in, HF_READS, &refused) != NULL)
		HF_THROUGH(ssize_t, in, HF_READS, splice, (in, in_at, out, out_at, size, flags),
			   hf_wrap_splice_in(slot_, in, out, out_at, size, flags, &plain_),
			   hf_redial_call(slot_, in, false, NULL, 0, splice_flags(flags)));
	return splice_out(in, in_at, out, out_at, size, flags);
}
