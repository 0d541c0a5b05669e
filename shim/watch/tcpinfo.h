/*
 * struct tcp_info as the kernel fills it (linux/tcp.h, Linux 6.18), declared here because the distributions' headers
 * lag behind.  The kernel says how much of it it filled; what lies beyond is zero and must not be believed.
 */
#ifndef HOLDFAST_WATCH_TCPINFO_H
#define HOLDFAST_WATCH_TCPINFO_H

#include <stdint.h>

struct hf_tcp_info {
	uint8_t state, ca_state, retransmits, probes, backoff, options;
	uint8_t wscale; /* snd : 4, rcv : 4 */
	uint8_t bits;
	uint32_t rto, ato, snd_mss, rcv_mss; /* rto, ato: us */
	uint32_t unacked, sacked, lost, retrans, fackets;
	uint32_t last_data_sent, last_ack_sent, last_data_recv, last_ack_recv; /* ms ago; last_ack_sent is not kept */
	uint32_t pmtu, rcv_ssthresh, rtt, rttvar, snd_ssthresh, snd_cwnd, advmss, reordering; /* rtt: us */
	uint32_t rcv_rtt, rcv_space;
	uint32_t total_retrans;
	uint64_t pacing_rate, max_pacing_rate, bytes_acked, bytes_received;
	uint32_t segs_out, segs_in, notsent_bytes, min_rtt, data_segs_in, data_segs_out;
	uint64_t delivery_rate, busy_time, rwnd_limited, sndbuf_limited;
	uint32_t delivered, delivered_ce;
	uint64_t bytes_sent, bytes_retrans;
	uint32_t dsack_dups, reord_seen, rcv_ooopack;
	uint32_t snd_wnd; /* Linux 5.4 */
};

_Static_assert(sizeof(struct hf_tcp_info) == 232, "the layout is the kernel's");

#endif
