/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* What a connection carried that was translated at its socket, whose packets no program counts. */
#ifndef DAYMARK_CARRIED_H
#define DAYMARK_CARRIED_H

#include "choose.h"

/* The loader fills it in before the verifier sees it. */
volatile const struct socket_fields socket_fields = {};

/* The program's context is the kernel's socket itself. */
#define READ_FIELD(sk, field, to) bpf_probe_read_kernel(to, sizeof(*(to)), (const void *)(sk) + socket_fields.field)

/* A socket's cookie; 0, if that can be told, when nobody has asked for it yet. */
INLINE __u64 cookie_of(struct bpf_sock *sk)
{
	__u64 cookie = 0;

	if (!socket_fields.cookie)
		return bpf_get_socket_cookie(sk);
	READ_FIELD(sk, cookie, &cookie);
	return cookie;
}

/* Of a TCP socket, as in include/net/tcp_states.h. */
enum tcp_state {
	TCP_FIN_WAIT1 = 4,
	TCP_FIN_WAIT2 = 5,
	TCP_CLOSE = 7,
	TCP_CLOSE_WAIT = 8,
	TCP_LAST_ACK = 9,
	TCP_CLOSING = 11,
};

/* What is closing counts as a byte in either direction. */
INLINE bool has_sent_fin(__u32 state)
{
	return state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2 || state == TCP_LAST_ACK || state == TCP_CLOSING ||
	       state == TCP_CLOSE;
}

INLINE bool has_received_fin(__u32 state)
{
	return state == TCP_CLOSE_WAIT || state == TCP_LAST_ACK || state == TCP_CLOSING || state == TCP_CLOSE;
}

INLINE __u64 without(__u64 bytes, __u64 others)
{
	return bytes > others ? bytes - others : 0;
}

/* Whether the connection is still the one that was dialled: a socket may connect again after it failed. */
INLINE bool is_as_dialled(struct bpf_sock *sk, const struct dialled *dialled)
{
	__u32 peer[4], ipv4 = sk->dst_ip4;

	/* Or the compiler would choose where to read, which a context does not allow. */
	opaque(ipv4);
	if (sk->family == AF_INET) {
		set_ipv4(peer, ipv4);
	} else {
		peer[0] = sk->dst_ip6[0];
		peer[1] = sk->dst_ip6[1];
		peer[2] = sk->dst_ip6[2];
		peer[3] = sk->dst_ip6[3];
	}
	return sk->dst_port == dialled->backend_port && same_ip(peer, dialled->backend);
}

/* Adds what a socket that closes sent and received. What waits to be acknowledged will be, or is tried for long. */
INLINE void count_carried(struct bpf_sock *sk, const struct dialled *dialled)
{
	__u64 received = 0, acked = 0;
	__u32 write_seq = 0, snd_una = 0;

	if (!socket_fields.bytes_received || sk->protocol != PROTOCOL_TCP || !dialled->service)
		return;
	if (!is_as_dialled(sk, dialled))
		return;
	READ_FIELD(sk, bytes_acked, &acked);
	/* Not even its SYN: it never was connected. */
	if (!acked)
		return;
	READ_FIELD(sk, bytes_received, &received);
	READ_FIELD(sk, write_seq, &write_seq);
	READ_FIELD(sk, snd_una, &snd_una);
	acked = without(acked + (__u32)(write_seq - snd_una), 1 + has_sent_fin(sk->state));
	received = without(received, has_received_fin(sk->state));
	if (acked || received)
		count_bytes(dialled->service, dialled->backend, dialled->backend_port, acked, received);
}

#endif
