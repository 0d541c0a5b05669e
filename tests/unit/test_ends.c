/* The addresses of a connection, kept and given back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "state/ends.h"

#include <arpa/inet.h>

static union hf_address four(const char *text, uint16_t port)
{
	union hf_address address = {.in = {.sin_family = AF_INET, .sin_port = htons(port)}};

	assert_int_equal(inet_pton(AF_INET, text, &address.in.sin_addr), 1);
	return address;
}

static union hf_address six(const char *text, uint16_t port, uint32_t scope)
{
	union hf_address address = {.in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_scope_id = scope}};

	assert_int_equal(inet_pton(AF_INET6, text, &address.in6.sin6_addr), 1);
	return address;
}

static void is(const struct hf_ends *ends, bool peer, const union hf_address *address)
{
	union hf_address got;
	socklen_t size = address->any.sa_family == AF_INET ? sizeof(address->in) : sizeof(address->in6);

	assert_int_equal(hf_ends_get(ends, peer, &got), size);
	assert_memory_equal(&got, address, size);
}

static void both(const union hf_address *local, const union hf_address *peer)
{
	struct hf_ends ends = {0};

	hf_ends_set(&ends, false, local);
	hf_ends_set(&ends, true, peer);
	is(&ends, false, local);
	is(&ends, true, peer);
}

static void kept(void **state)
{
	union hf_address a = four("10.0.0.1", 40000), b = four("192.0.2.255", 5432);
	union hf_address c = six("2001:db8::17", 1, 0), d = six("::ffff:10.0.0.1", 65535, 0);
	union hf_address e = six("fe80::1", 22, 7), f = six("fe80::2", 23, 7);

	(void)state;
	both(&a, &b);
	both(&c, &d);
	both(&e, &f);
	both(&c, &f); /* the scope is that of link-local ones */
	both(&f, &c);
}

static void unknown(void **state)
{
	union hf_address none = {.any = {.sa_family = AF_UNSPEC}}, a = four("10.0.0.1", 1), b = six("::1", 2, 0), got;
	struct hf_ends ends = {0};

	(void)state;
	assert_int_equal(hf_ends_get(&ends, true, &got), 0);
	assert_int_equal(got.any.sa_family, AF_UNSPEC);
	hf_ends_set(&ends, true, &a);
	assert_int_equal(hf_ends_get(&ends, false, &got), 0);
	hf_ends_set(&ends, false, &a);
	hf_ends_set(&ends, true, &none);
	assert_int_equal(hf_ends_get(&ends, true, &got), 0);
	is(&ends, false, &a);
	/* Of another family: what was known is of another connection. */
	hf_ends_set(&ends, true, &b);
	is(&ends, true, &b);
	assert_int_equal(hf_ends_get(&ends, false, &got), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kept),
		cmocka_unit_test(unknown),
	};

	return cmocka_run_group_tests_name("ends", tests, NULL, NULL);
}
