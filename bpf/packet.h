/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Reading a packet into a tuple, writing another tuple over it, and sending it on. */
#ifndef DAYMARK_PACKET_H
#define DAYMARK_PACKET_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include "maps.h"

/* tcx verdicts: the next program or the network stack; drop. */
#define TO_STACK (-1)
#define DROP 2
/* Ours: not handled, look further. */
#define UNHANDLED (-100)

#define IP_OFFSET ETH_HLEN
#define MORE_FRAGMENTS 0x2000
#define FRAGMENT_OFFSET 0x1fff

/* linux/icmp.h drags in the C library. */
#define ICMP_ECHOREPLY 0
#define ICMP_DEST_UNREACH 3
#define ICMP_ECHO 8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETERPROB 12
#define ICMP_PORT_UNREACH 3

struct icmphdr {
	__u8 type;
	__u8 code;
	__u16 checksum;
	/* Of an echo; what other types carry here is of no concern. */
	__u16 id;
	__u16 sequence;
};

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

enum content {
	/* Nothing that can be translated: other protocols, fragments of an unknown datagram. */
	CONTENT_OPAQUE,
	CONTENT_FLOW,
	CONTENT_ICMP_ERROR,
};

struct packet {
	struct flow_key key;
	/* Offset of the transport header. */
	__u32 transport;
	__u32 fragment_id;
	__u16 fragment;
	__u16 length;
	__u8 ttl;
	__u8 tcp_flags;
	__u8 content;
	__u8 later_fragment;
};

/* False if it is not a sound IPv4 packet for this host: such are none of our business. */
INLINE bool read_network(struct __sk_buff *skb, struct packet *packet)
{
	struct iphdr ip;
	__u32 header;

	if (skb->protocol != htons(ETH_P_IP) || skb->pkt_type != 0 /* PACKET_HOST */)
		return false;
	if (bpf_skb_load_bytes(skb, IP_OFFSET, &ip, sizeof(ip)))
		return false;
	header = ip.ihl * 4;
	packet->length = ntohs(ip.tot_len);
	if (ip.version != 4 || header < sizeof(ip) || packet->length < header ||
	    skb->len < IP_OFFSET + (__u32)packet->length)
		return false;
	set_ipv4(packet->key.source, ip.saddr);
	set_ipv4(packet->key.target, ip.daddr);
	packet->key.protocol = ip.protocol;
	packet->transport = IP_OFFSET + header;
	packet->fragment = ntohs(ip.frag_off) & (MORE_FRAGMENTS | FRAGMENT_OFFSET);
	packet->fragment_id = ip.id;
	packet->ttl = ip.ttl;
	return true;
}

INLINE void fragment_key_of(struct fragment_key *key, const struct packet *packet)
{
	copy_ip(key->source, packet->key.source);
	copy_ip(key->target, packet->key.target);
	key->id = packet->fragment_id;
	key->protocol = packet->key.protocol;
}

INLINE bool is_icmp_error(__u8 type)
{
	return type == ICMP_DEST_UNREACH || type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETERPROB;
}

INLINE void read_ports(struct __sk_buff *skb, struct packet *packet)
{
	if (packet->key.protocol == IPPROTO_TCP) {
		struct tcphdr tcp;

		if (bpf_skb_load_bytes(skb, packet->transport, &tcp, sizeof(tcp)))
			return;
		packet->key.source_port = tcp.source;
		packet->key.target_port = tcp.dest;
		packet->tcp_flags = ((__u8 *)&tcp)[13];
		packet->content = CONTENT_FLOW;
	} else if (packet->key.protocol == IPPROTO_UDP) {
		struct udphdr udp;

		if (bpf_skb_load_bytes(skb, packet->transport, &udp, sizeof(udp)))
			return;
		packet->key.source_port = udp.source;
		packet->key.target_port = udp.dest;
		packet->content = CONTENT_FLOW;
	} else if (packet->key.protocol == IPPROTO_ICMP) {
		struct icmphdr icmp;

		if (bpf_skb_load_bytes(skb, packet->transport, &icmp, sizeof(icmp)))
			return;
		if (icmp.type == ICMP_ECHO) {
			packet->key.source_port = icmp.id;
			packet->content = CONTENT_FLOW;
		} else if (icmp.type == ICMP_ECHOREPLY) {
			packet->key.target_port = icmp.id;
			packet->content = CONTENT_FLOW;
		} else if (is_icmp_error(icmp.type) && !packet->fragment) {
			packet->content = CONTENT_ICMP_ERROR;
		}
	}
}

/* Later fragments carry no ports: they take those of the first, which usually came before them. */
SUBPROGRAM int read_transport(struct __sk_buff *skb, struct packet *packet)
{
	if (!packet)
		return 0;

	struct fragment_key key;
	struct fragment_ports ports, *first;

	if (packet->fragment & FRAGMENT_OFFSET) {
		fragment_key_of(&key, packet);
		first = bpf_map_lookup_elem(&fragments, &key);
		if (first) {
			packet->key.source_port = first->source_port;
			packet->key.target_port = first->target_port;
			packet->later_fragment = 1;
			packet->content = CONTENT_FLOW;
		}
		return 0;
	}
	read_ports(skb, packet);
	if (packet->fragment && packet->content == CONTENT_FLOW) {
		fragment_key_of(&key, packet);
		ports.source_port = packet->key.source_port;
		ports.target_port = packet->key.target_port;
		bpf_map_update_elem(&fragments, &key, &ports, BPF_ANY);
	}
	return 0;
}

/*
 * Addresses are part of the pseudo header and ports are not, so each has its own checksum update: with
 * checksum offload only the pseudo header is in the field, and the ports must not be.
 */
SUBPROGRAM int rewrite(struct __sk_buff *skb, const struct packet *packet, const struct flow *to)
{
	if (!packet || !to)
		return 0;

	__u32 old_ips[2] = { packet->key.source[3], packet->key.target[3] };
	__u32 new_ips[2] = { to->source[3], to->target[3] };
	__u16 old_ports[2] = { packet->key.source_port, packet->key.target_port };
	__u16 new_ports[2] = { to->source_port, to->target_port };
	__s64 ips = bpf_csum_diff(old_ips, sizeof(old_ips), new_ips, sizeof(new_ips), 0);
	__s64 ports = bpf_csum_diff(old_ports, sizeof(old_ports), new_ports, sizeof(new_ports), 0);
	__u32 transport = packet->transport, check;
	__u64 zero_is_none = 0;

	bpf_l3_csum_replace(skb, IP_OFFSET + __builtin_offsetof(struct iphdr, check), 0, ips, 0);
	bpf_skb_store_bytes(skb, IP_OFFSET + __builtin_offsetof(struct iphdr, saddr), new_ips, sizeof(new_ips), 0);
	if (packet->later_fragment)
		return 0;
	if (packet->key.protocol == IPPROTO_ICMP) {
		/* One of the two is the identifier and the other is 0. */
		__u16 id = new_ports[0] | new_ports[1];

		bpf_l4_csum_replace(skb, transport + __builtin_offsetof(struct icmphdr, checksum), 0, ports, 0);
		bpf_skb_store_bytes(skb, transport + __builtin_offsetof(struct icmphdr, id), &id, sizeof(id), 0);
		return 0;
	}
	if (packet->key.protocol == IPPROTO_UDP) {
		check = transport + __builtin_offsetof(struct udphdr, check);
		zero_is_none = BPF_F_MARK_MANGLED_0;
	} else {
		check = transport + __builtin_offsetof(struct tcphdr, check);
	}
	bpf_l4_csum_replace(skb, check, 0, ips, BPF_F_PSEUDO_HDR | zero_is_none);
	bpf_l4_csum_replace(skb, check, 0, ports, zero_is_none);
	bpf_skb_store_bytes(skb, transport, new_ports, sizeof(new_ports), 0);
	return 0;
}

INLINE void decrement_ttl(struct __sk_buff *skb, const struct packet *packet)
{
	__u8 ttl = packet->ttl - 1;
	__u16 old = packet->ttl | (__u16)packet->key.protocol << 8;
	__u16 new = ttl | (__u16)packet->key.protocol << 8;

	bpf_l3_csum_replace(skb, IP_OFFSET + __builtin_offsetof(struct iphdr, check), old, new, sizeof(new));
	bpf_skb_store_bytes(skb, IP_OFFSET + __builtin_offsetof(struct iphdr, ttl), &ttl, sizeof(ttl), 0);
}

/*
 * Sends the packet on by the routing table. What that cannot answer goes to the stack, which knows
 * more: packets for the node itself, expired TTLs, packets too large for the next hop.
 *
 * Pods are entered directly. Elsewhere the neighbour is left to bpf_redirect_neigh, because a lookup in
 * bpf_fib_lookup would trust a stale neighbour forever.
 */
SUBPROGRAM int forward(struct __sk_buff *skb, const struct packet *packet, __u32 source, __u32 target)
{
	if (!packet)
		return DROP;

	struct bpf_fib_lookup fib = {
		.family = 2 /* AF_INET */,
		.l4_protocol = packet->key.protocol,
		.ifindex = skb->ifindex,
		.ipv4_src = source,
		.ipv4_dst = target,
	};
	struct bpf_redir_neigh hop = { .nh_family = 2 };
	__u32 ifindex;

	if (packet->ttl <= 1 || bpf_fib_lookup(skb, &fib, sizeof(fib), FIB_LOOKUP_SKIP_NEIGH))
		return TO_STACK;
	ifindex = fib.ifindex;
	decrement_ttl(skb, packet);
	if (bpf_map_lookup_elem(&pod_links, &ifindex))
		return bpf_redirect_peer(ifindex, 0);
	hop.ipv4_nh = fib.ipv4_dst;
	return bpf_redirect_neigh(ifindex, &hop, sizeof(hop), 0);
}

INLINE __u32 network_of(const __u32 *ip)
{
	struct network_key key = { .prefix_bits = 128 };
	__u32 *flags;

	copy_ip(key.ip, ip);
	flags = bpf_map_lookup_elem(&networks, &key);
	return flags ? *flags : 0;
}

#endif
