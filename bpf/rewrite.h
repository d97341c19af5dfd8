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

/* Only the last four bytes of addresses of IPv4 differ, and the sum of what does not differ is nothing. */
INLINE __s64 addresses_change(const struct addresses *from, const struct addresses *to)
{
	return bpf_csum_diff((void *)from, sizeof(*from), (void *)to, sizeof(*to), 0);
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

/*
 * Addresses are part of the pseudo header and ports are not, so each has its own checksum update: with
 * checksum offload only the pseudo header is in the field, and the ports must not be.
 */
SUBPROGRAM int rewrite(struct __sk_buff *skb, const struct packet *packet, const struct flow *to)
{
	if (!packet || !to)
		return 0;

	__u16 old_ports[2] = { packet->key.source_port, packet->key.target_port };
	__u16 new_ports[2] = { to->source_port, to->target_port };
	const struct addresses *new_ips = (const void *)to;
	__s64 ips = addresses_change((const void *)&packet->key, new_ips);
	__s64 ports = bpf_csum_diff(old_ports, sizeof(old_ports), new_ports, sizeof(new_ports), 0);
	__u32 transport = packet->transport;

	write_addresses(skb, packet->ipv6, IP_OFFSET, new_ips, ips);
	if (packet->later_fragment)
		return 0;
	if (is_icmp(packet->key.protocol)) {
		rewrite_echo(skb, packet, new_ports[0] | new_ports[1], ips, ports);
		return 0;
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
	return 0;
}

INLINE void decrement_ttl(struct __sk_buff *skb, const struct packet *packet)
{
	__u8 ttl = packet->ttl - 1;

	if (packet->ipv6) {
		bpf_skb_store_bytes(skb, IP_OFFSET + __builtin_offsetof(struct ipv6hdr, hop_limit), &ttl,
				    sizeof(ttl), 0);
	} else {
		__u16 old = packet->ttl | (__u16)packet->key.protocol << 8;
		__u16 new = ttl | (__u16)packet->key.protocol << 8;

		bpf_l3_csum_replace(skb, IP_OFFSET + __builtin_offsetof(struct iphdr, check), old, new, sizeof(new));
		bpf_skb_store_bytes(skb, IP_OFFSET + __builtin_offsetof(struct iphdr, ttl), &ttl, sizeof(ttl), 0);
	}
}

/*
 * Sends the packet on by the routing table. What that cannot answer goes to the stack, which knows
 * more: packets for the node itself, expired TTLs, packets too large for the next hop.
 *
 * Pods are entered directly. Elsewhere the neighbour is left to bpf_redirect_neigh, because a lookup in
 * bpf_fib_lookup would trust a stale neighbour forever.
 */
SUBPROGRAM int forward(struct __sk_buff *skb, const struct packet *packet, const struct addresses *as)
{
	if (!packet || !as)
		return DROP;

	struct bpf_fib_lookup fib = {
		.family = packet->ipv6 ? AF_INET6 : AF_INET,
		.l4_protocol = packet->key.protocol,
		.ifindex = skb->ifindex,
	};
	struct bpf_redir_neigh hop = { .nh_family = fib.family };
	__u32 ifindex;

	if (packet->ipv6) {
		copy_ip(fib.ipv6_src, as->source);
		copy_ip(fib.ipv6_dst, as->target);
	} else {
		fib.ipv4_src = as->source[3];
		fib.ipv4_dst = as->target[3];
	}
	if (packet->routed || packet->ttl <= 1 || bpf_fib_lookup(skb, &fib, sizeof(fib), FIB_LOOKUP_SKIP_NEIGH))
		return TO_STACK;
	ifindex = fib.ifindex;
	decrement_ttl(skb, packet);
	if (bpf_map_lookup_elem(&pod_links, &ifindex))
		return bpf_redirect_peer(ifindex, 0);
	/* Now the next hop, of either family. */
	hop.nh_family = fib.family;
	copy_ip(hop.ipv6_nh, fib.ipv6_dst);
	return bpf_redirect_neigh(ifindex, &hop, sizeof(hop), 0);
}

INLINE int forward_untranslated(struct __sk_buff *skb, const struct packet *packet)
{
	return forward(skb, packet, (const void *)&packet->key);
}

#endif
