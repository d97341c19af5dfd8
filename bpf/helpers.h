/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* The BPF helpers that we call, by their numbers in the kernel's user API, and small conveniences. */
#ifndef DAYMARK_HELPERS_H
#define DAYMARK_HELPERS_H

#include <linux/types.h>
#include <linux/bpf.h>
#include <stdbool.h>

#include "abi.h"

#define SEC(name) __attribute__((section(name), used))
#define INLINE static __attribute__((always_inline)) inline
/* Global, so that the verifier looks at it once by itself instead of once for each way to it: loading
 * took 0.6 s without. The price is that it knows nothing of the arguments, so pointers are checked. */
#define SUBPROGRAM __attribute__((noinline))
#define NULL ((void *)0)

/* How map definitions are spelled in BTF. */
#define __uint(name, value) int(*name)[value]
#define __type(name, value) typeof(value) *name
#define PIN_BY_NAME 1

#define htons(x) ((__u16)__builtin_bswap16(x))
#define ntohs(x) htons(x)
#define htonl(x) ((__u32)__builtin_bswap32(x))
#define ntohl(x) htonl(x)

/* Since 6.3; build machines may have older headers. */
#define FIB_LOOKUP_SKIP_NEIGH 4

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*const bpf_map_update_elem)(void *map, const void *key, const void *value, __u64 flags) =
	(void *)BPF_FUNC_map_update_elem;
static long (*const bpf_map_delete_elem)(void *map, const void *key) = (void *)BPF_FUNC_map_delete_elem;
static __u64 (*const bpf_ktime_get_ns)(void) = (void *)BPF_FUNC_ktime_get_ns;
static __u32 (*const bpf_get_prandom_u32)(void) = (void *)BPF_FUNC_get_prandom_u32;
static __u64 (*const bpf_get_socket_cookie)(void *ctx) = (void *)BPF_FUNC_get_socket_cookie;
static __u64 (*const bpf_get_netns_cookie)(void *ctx) = (void *)BPF_FUNC_get_netns_cookie;
static void *(*const bpf_sk_storage_get)(void *map, void *sk, void *value, __u64 flags) =
	(void *)BPF_FUNC_sk_storage_get;
static long (*const bpf_sk_storage_delete)(void *map, void *sk) = (void *)BPF_FUNC_sk_storage_delete;
static long (*const bpf_probe_read_kernel)(void *to, __u32 size, const void *from) =
	(void *)BPF_FUNC_probe_read_kernel;
static int (*const bpf_set_retval)(int retval) = (void *)BPF_FUNC_set_retval;
static long (*const bpf_loop)(__u32 count, void *callback, void *context, __u64 flags) = (void *)BPF_FUNC_loop;
static long (*const bpf_for_each_map_elem)(void *map, void *callback, void *context, __u64 flags) =
	(void *)BPF_FUNC_for_each_map_elem;
static long (*const bpf_skb_load_bytes)(const void *skb, __u32 offset, void *to, __u32 len) =
	(void *)BPF_FUNC_skb_load_bytes;
static long (*const bpf_skb_store_bytes)(struct __sk_buff *skb, __u32 offset, const void *from, __u32 len,
					 __u64 flags) = (void *)BPF_FUNC_skb_store_bytes;
static long (*const bpf_l3_csum_replace)(struct __sk_buff *skb, __u32 offset, __u64 from, __u64 to, __u64 size) =
	(void *)BPF_FUNC_l3_csum_replace;
static long (*const bpf_l4_csum_replace)(struct __sk_buff *skb, __u32 offset, __u64 from, __u64 to, __u64 flags) =
	(void *)BPF_FUNC_l4_csum_replace;
static __s64 (*const bpf_csum_diff)(void *from, __u32 from_size, void *to, __u32 to_size, __u32 seed) =
	(void *)BPF_FUNC_csum_diff;
static long (*const bpf_skb_change_tail)(struct __sk_buff *skb, __u32 len, __u64 flags) =
	(void *)BPF_FUNC_skb_change_tail;
static long (*const bpf_redirect)(__u32 ifindex, __u64 flags) = (void *)BPF_FUNC_redirect;
static long (*const bpf_redirect_peer)(__u32 ifindex, __u64 flags) = (void *)BPF_FUNC_redirect_peer;
static long (*const bpf_redirect_neigh)(__u32 ifindex, struct bpf_redir_neigh *hop, int len, __u64 flags) =
	(void *)BPF_FUNC_redirect_neigh;
static long (*const bpf_fib_lookup)(void *ctx, struct bpf_fib_lookup *params, int len, __u32 flags) =
	(void *)BPF_FUNC_fib_lookup;

#define AF_INET 2
#define AF_INET6 10
#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17
#define SECOND 1000000000ull
#define MAPPED_PREFIX htonl(0xffff)

/* Makes the compiler forget what it knows of a variable, so that it cannot merge memory accesses in a
 * way that the verifier rejects. */
#define opaque(variable) asm volatile("" : "+r"(variable))

INLINE void set_ipv4(__u32 *to, __u32 ip)
{
	to[0] = 0;
	to[1] = 0;
	to[2] = MAPPED_PREFIX;
	to[3] = ip;
}

INLINE void copy_ip(__u32 *to, const __u32 *from)
{
	to[0] = from[0];
	to[1] = from[1];
	to[2] = from[2];
	to[3] = from[3];
}

INLINE bool same_ip(const __u32 *a, const __u32 *b)
{
	return a[3] == b[3] && a[0] == b[0] && a[1] == b[1] && a[2] == b[2];
}

#endif
