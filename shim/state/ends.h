/*
 * The addresses of a connection's two ends, as slots and views keep them (struct hf_ends, holdfast/arena.h): in 44
 * bytes rather than the 56 of two struct sockaddr_in6.  Pure; the caller serialises.
 *
 * Both ends are of one family.  Link-local addresses are of one interface, the one the socket is bound to, and no
 * others have a scope (ipv6_iface_scope_id() in the kernel).  The flow label is left out: it belongs to no address.
 */
#ifndef HOLDFAST_STATE_ENDS_H
#define HOLDFAST_STATE_ENDS_H

#include <holdfast/arena.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>

union hf_address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

/* The end named by PEER is ADDRESS; of any other family than IPv4 and IPv6: it is unknown. */
static inline void hf_ends_set(struct hf_ends *ends, bool peer, const union hf_address *address)
{
	uint8_t *bytes = peer ? ends->peer : ends->local, known = peer ? HF_ENDS_PEER : HF_ENDS_LOCAL;
	uint16_t *port = peer ? &ends->peer_port : &ends->local_port;
	uint8_t family = address->any.sa_family == AF_INET ? 4 : address->any.sa_family == AF_INET6 ? 6 : 0;

	if (family != 0 && family != ends->family)
		ends->known = 0;
	ends->known = (uint8_t)(ends->known & ~known);
	memset(bytes, 0, sizeof(ends->peer));
	*port = 0;
	if (family == 0)
		return;
	ends->family = family;
	ends->known |= known;
	*port = family == 4 ? address->in.sin_port : address->in6.sin6_port;
	if (family == 4) {
		memcpy(bytes, &address->in.sin_addr, sizeof(address->in.sin_addr));
		return;
	}
	memcpy(bytes, &address->in6.sin6_addr, sizeof(address->in6.sin6_addr));
	if (address->in6.sin6_scope_id != 0)
		ends->scope = address->in6.sin6_scope_id;
}

/* The end named by PEER; AF_UNSPEC if it is not known. Returns its size. */
static inline socklen_t hf_ends_get(const struct hf_ends *ends, bool peer, union hf_address *address)
{
	const uint8_t *bytes = peer ? ends->peer : ends->local;
	uint16_t port = peer ? ends->peer_port : ends->local_port;

	memset(address, 0, sizeof(*address));
	if ((ends->known & (peer ? HF_ENDS_PEER : HF_ENDS_LOCAL)) == 0)
		return 0;
	if (ends->family == 4) {
		address->in.sin_family = AF_INET;
		address->in.sin_port = port;
		memcpy(&address->in.sin_addr, bytes, sizeof(address->in.sin_addr));
		return sizeof(address->in);
	}
	address->in6.sin6_family = AF_INET6;
	address->in6.sin6_port = port;
	memcpy(&address->in6.sin6_addr, bytes, sizeof(address->in6.sin6_addr));
	if (IN6_IS_ADDR_LINKLOCAL(&address->in6.sin6_addr))
		address->in6.sin6_scope_id = ends->scope;
	return sizeof(address->in6);
}

#endif
