/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* What a connected socket dialled and what it got, for as long as it lives. */
#ifndef DAYMARK_DIALLED_H
#define DAYMARK_DIALLED_H

#include "carried.h"

#define SOCKET_DATAGRAM 2

INLINE struct cell *cell_of(__u64 cookie)
{
	__u32 at = cookie % CELLS;

	return bpf_map_lookup_elem(&cells, &at);
}

INLINE void fill_dialled(struct dialled *dialled, const struct frontend_key *dial, const struct backend *backend)
{
	copy_ip(dialled->frontend, dial->ip);
	copy_ip(dialled->backend, backend->ip);
	dialled->frontend_port = dial->port;
	dialled->backend_port = backend->port;
	dialled->service = backend->service;
}

/* The socket's own cell, or its storage, made if need be: only a UDP socket, which connects more than once,
 * has either already. */
INLINE struct dialled *claim_dialled(struct bpf_sock_addr *ctx, __u64 cookie)
{
	struct cell *cell = cell_of(cookie);
	struct bpf_sock *sk = ctx->sk;
	__u64 owner;

	if (cell) {
		owner = cell->cookie;
		if (owner == cookie || (!owner && !__sync_val_compare_and_swap(&cell->cookie, 0, cookie)))
			return (struct dialled *)cell->frontend;
	}
	return sk ? bpf_sk_storage_get(&dialled_by_socket, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE) : NULL;
}

INLINE struct dialled *dialled_of(struct bpf_sock_addr *ctx)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	struct cell *cell = cell_of(cookie);
	struct bpf_sock *sk = ctx->sk;

	if (cell && cell->cookie == cookie)
		return (struct dialled *)cell->frontend;
	return sk ? bpf_sk_storage_get(&dialled_by_socket, sk, NULL, 0) : NULL;
}

/* A UDP socket that now is connected to something else. Storage goes with the socket. */
INLINE void forget_dialled(struct bpf_sock_addr *ctx)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	struct cell *cell = cell_of(cookie);
	struct bpf_sock *sk = ctx->sk;

	if (cell && cell->cookie == cookie)
		cell->cookie = 0;
	else if (sk)
		bpf_sk_storage_delete(&dialled_by_socket, sk);
	bpf_map_delete_elem(&udp_connected, &cookie);
}

/* When a socket closes. */
INLINE void release_dialled(struct bpf_sock *sk)
{
	__u64 cookie = cookie_of(sk);
	struct dialled *dialled;
	struct cell *cell;

	/* Whoever was translated was asked for it. */
	if (!cookie)
		return;
	cell = cell_of(cookie);
	if (cell && cell->cookie == cookie) {
		count_carried(sk, (struct dialled *)cell->frontend);
		cell->cookie = 0;
	} else {
		dialled = bpf_sk_storage_get(&dialled_by_socket, sk, NULL, 0);
		if (dialled)
			count_carried(sk, dialled);
	}
	if (sk->type == SOCKET_DATAGRAM)
		bpf_map_delete_elem(&udp_connected, &cookie);
}

#endif
