/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Writing another tuple over a packet, and sending it on. */
#ifndef DAYMARK_REWRITE_H
#define DAYMARK_REWRITE_H

#include "sctp.h"

/* Since 6.16; older kernels refuse it, and know no better. */
#define CSUM_IPV6 0x80

/*
 * A checksum that covers addresses by its pseudo header. Over IPv6 nothing makes up for the addresses in
 * the sum of the whole packet, which some interfaces deliver: newer kernels want to be told.
 */
INLINE void replace_pseudo(struct __sk_buff *skb, const struct packet *packet, __u32 check, __s64 change, __u64 flags)
{
	flags |= BPF_F_PSEUDO_HDR;
	if (packet->ipv6 && !bpf_l4_csum_replace(skb, check, 0, change, flags | CSUM_IPV6))
		return;
	bpf_l4_csum_replace(skb, check, 0, change, flags);
}

/* A sum of 16-bit words, as a checksum. */
INLINE __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* What a sum changes by, in the 32 bits that the kernel's helpers take. */
INLINE __s64 change_of(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	return (sum & 0xffffffff) + (sum >> 32);
}

/* Only the last four bytes of addresses of IPv4 differ, and the sum of what does not differ is nothing. */
INLINE __s64 addresses_change(bool ipv6, const struct addresses *from, const struct addresses *to)
{
	if (ipv6)
		return bpf_csum_diff((void *)from, sizeof(*from), (void *)to, sizeof(*to), 0);
	return change_of((__u64)(__u32)~from->source[3] + (__u32)~from->target[3] + to->source[3] + to->target[3]);
}

INLINE __s64 ports_change(__u16 source, __u16 target, __u16 new_source, __u16 new_target)
{
	return change_of((__u64)(__u16)~source + (__u16)~target + new_source + new_target);
}

/* Writes both addresses of the network header at `offset`. */
INLINE void write_addresses(struct __sk_buff *skb, bool ipv6, __u32 offset, const struct addresses *to, __s64 change)
{
	if (ipv6) {
		bpf_skb_store_bytes(skb, offset + __builtin_offsetof(struct ipv6hdr, source), to, sizeof(*to), 0);
	} else {
		__u32 ips[2] = { to->source[3], to->target[3] };

		bpf_l3_csum_replace(skb, offset + __builtin_offsetof(struct iphdr, check), 0, change, 0);
		bpf_skb_store_bytes(skb, offset + __builtin_offsetof(struct iphdr, saddr), ips, sizeof(ips), 0);
	}
}

/* The checksum of ICMPv6 covers a pseudo header, that of ICMP does not. One of the two ports is the
 * identifier and the other is 0. */
INLINE void rewrite_echo(struct __sk_buff *skb, const struct packet *packet, __u16 id, __s64 ips, __s64 ports)
{
	__u32 check = packet->transport + __builtin_offsetof(struct icmphdr, checksum);

	if (packet->ipv6)
		replace_pseudo(skb, packet, check, ips, 0);
	bpf_l4_csum_replace(skb, check, 0, ports, 0);
	bpf_skb_store_bytes(skb, packet->transport + __builtin_offsetof(struct icmphdr, id), &id, sizeof(id), 0);
}

/* What is last in a header of IPv4, and all of it that ever changes here. */
struct ipv4_end {
	__u8 ttl;
	__u8 protocol;
	__u16 check;
	__u32 source;
	__u32 target;
};

/* Writes hop count and addresses at once, since each write has its price. */
INLINE void write_network(struct __sk_buff *skb, const struct packet *packet, const struct addresses *to, __s64 change,
			  __u8 ttl)
{
	struct ipv4_end end = {
		.ttl = ttl, .protocol = packet->protocol, .source = to->source[3], .target = to->target[3]
	};

	if (packet->ipv6) {
		if (ttl != packet->ttl)
			bpf_skb_store_bytes(skb, IP_OFFSET + __builtin_offsetof(struct ipv6hdr, hop_limit), &ttl,
					    sizeof(ttl), 0);
		bpf_skb_store_bytes(skb, IP_OFFSET + __builtin_offsetof(struct ipv6hdr, source), to, sizeof(*to), 0);
		return;
	}
	/* The hop count is the first byte of its word in network order, and so the lower one. */
	end.check = fold((__u64)(__u16)~packet->check + (__u32)change + (__u16)~packet->ttl + ttl);
	bpf_skb_store_bytes(skb, IP_OFFSET + __builtin_offsetof(struct iphdr, ttl), &end, sizeof(end), 0);
}

INLINE void decrement_ttl(struct __sk_buff *skb, const struct packet *packet)
{
	__u8 ttl = packet->ttl - 1;

	if (packet->ipv6) {
		bpf_skb_store_bytes(skb, IP_OFFSET + __builtin_offsetof(struct ipv6hdr, hop_limit), &ttl,
				    sizeof(ttl), 0);
	} else {
		struct ipv4_end end = { .ttl = ttl, .protocol = packet->protocol };

		end.check = fold((__u64)(__u16)~packet->check + (__u16)~packet->ttl + ttl);
		bpf_skb_store_bytes(skb, IP_OFFSET + __builtin_offsetof(struct iphdr, ttl), &end,
				    __builtin_offsetof(struct ipv4_end, source), 0);
	}
}

/*
 * Addresses are part of the pseudo header and ports are not, so each has its own checksum update: with
 * checksum offload only the pseudo header is in the field, and the ports must not be.
 */
INLINE void rewrite(struct __sk_buff *skb, const struct packet *packet, const struct flow *to, __u8 ttl)
{
	__u16 new_ports[2] = { to->source_port, to->target_port };
	const struct addresses *new_ips = (const void *)to;
	__s64 ips = addresses_change(packet->ipv6, (const void *)&packet->key, new_ips);
	__s64 ports = ports_change(packet->key.source_port, packet->key.target_port, new_ports[0], new_ports[1]);
	__u32 transport = packet->transport;

	write_network(skb, packet, new_ips, ips, ttl);
	if (packet->later_fragment)
		return;
	if (is_icmp(packet->key.protocol)) {
		rewrite_echo(skb, packet, new_ports[0] | new_ports[1], ips, ports);
		return;
	}
	if (packet->key.protocol == IPPROTO_SCTP) {
		rewrite_sctp(skb, packet, new_ports);
	} else if (packet->key.protocol == IPPROTO_UDP) {
		__u32 check = transport + __builtin_offsetof(struct udphdr, check);

		replace_pseudo(skb, packet, check, ips, BPF_F_MARK_MANGLED_0);
		bpf_l4_csum_replace(skb, check, 0, ports, BPF_F_MARK_MANGLED_0);
	} else {
		__u32 check = transport + __builtin_offsetof(struct tcphdr, check);

		replace_pseudo(skb, packet, check, ips, 0);
		bpf_l4_csum_replace(skb, check, 0, ports, 0);
	}
	bpf_skb_store_bytes(skb, transport, new_ports, sizeof(new_ports), 0);
}

/* What keeps a packet from going on that a router would tell of. */
enum hindrance { UNKNOWN_WAY, HOPS_EXHAUSTED, TOO_LARGE };

/* The interface and the next hop that a packet leaves by, or why it does not. */
struct way {
	__u32 ifindex;
	struct bpf_redir_neigh hop;
	__u16 hindrance;
	__u16 mtu;
};

/*
 * Looks into the routing table. What that cannot answer is false and goes to the stack, which knows
 * more: packets for the node itself, expired TTLs, packets too large for the next hop.
 */
INLINE bool find_way(struct __sk_buff *skb, const struct packet *packet, const struct addresses *as, struct way *way)
{
	struct bpf_fib_lookup fib = {
		.family = packet->ipv6 ? AF_INET6 : AF_INET,
		.l4_protocol = packet->key.protocol,
		.ifindex = skb->ifindex,
		/* Merged segments are taken apart again. */
		.tot_len = skb->gso_size ? 0 : packet->length,
	};
	long found;

	if (packet->ipv6) {
		copy_ip(fib.ipv6_src, as->source);
		copy_ip(fib.ipv6_dst, as->target);
	} else {
		fib.ipv4_src = as->source[3];
		fib.ipv4_dst = as->target[3];
	}
	if (packet->routed)
		return false;
	found = bpf_fib_lookup(skb, &fib, sizeof(fib), FIB_LOOKUP_SKIP_NEIGH);
	if (found == BPF_FIB_LKUP_RET_FRAG_NEEDED) {
		way->hindrance = TOO_LARGE;
		way->mtu = fib.mtu_result;
	}
	if (found)
		return false;
	if (packet->ttl <= 1) {
		way->hindrance = HOPS_EXHAUSTED;
		return false;
	}
	way->ifindex = fib.ifindex;
	/* Now the next hop, of either family. */
	way->hop.nh_family = fib.family;
	copy_ip(way->hop.ipv6_nh, fib.ipv6_dst);
	return true;
}

/*
 * Pods are entered directly. Elsewhere the neighbour is left to bpf_redirect_neigh, because a lookup in
 * bpf_fib_lookup would trust a stale neighbour forever.
 */
INLINE int take_way(struct way *way)
{
	__u32 ifindex = way->ifindex, zero = 0;
	struct settings *node = bpf_map_lookup_elem(&settings, &zero);

	if (!(node && node->uplink == ifindex) && bpf_map_lookup_elem(&pod_links, &ifindex))
		return bpf_redirect_peer(ifindex, 0);
	return bpf_redirect_neigh(ifindex, &way->hop, sizeof(way->hop), 0);
}

/* Sends a packet on by the routing table, or to the stack. */
SUBPROGRAM int forward(struct __sk_buff *skb, const struct packet *packet, const struct addresses *as)
{
	if (!packet || !as)
		return DROP;

	struct way way = {};

	if (!find_way(skb, packet, as, &way))
		return TO_STACK;
	decrement_ttl(skb, packet);
	return take_way(&way);
}

INLINE int forward_untranslated(struct __sk_buff *skb, const struct packet *packet)
{
	return forward(skb, packet, (const void *)&packet->key);
}

#endif
