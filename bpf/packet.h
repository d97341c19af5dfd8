/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* What we know of a packet, in both families alike. */
#ifndef DAYMARK_PACKET_H
#define DAYMARK_PACKET_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include "pods.h"

/* tcx verdicts: the next program or the network stack; drop. */
#define TO_STACK (-1)
#define DROP 2
/* Ours: not handled, look further. */
#define UNHANDLED (-100)

#define IP_OFFSET ETH_HLEN
#define DONT_FRAGMENT 0x4000
#define MORE_FRAGMENTS 0x2000
#define FRAGMENT_OFFSET 0x1fff

/* linux/ipv6.h, linux/icmp.h and linux/icmpv6.h drag in the C library. */
struct ipv6hdr {
	__u32 version_class_label;
	__u16 payload_length;
	__u8 next_header;
	__u8 hop_limit;
	__u32 source[4];
	__u32 target[4];
};

#define NEXT_HOP_BY_HOP 0
#define NEXT_ROUTING 43
#define NEXT_FRAGMENT 44
#define NEXT_AUTHENTICATION 51
#define NEXT_ICMPV6 58
#define NEXT_DESTINATION 60

#define ICMP_ECHOREPLY 0
#define ICMP_DEST_UNREACH 3
#define ICMP_ECHO 8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETERPROB 12
#define ICMP_PORT_UNREACH 3
#define ICMP_FRAG_NEEDED 4

#define ICMPV6_DEST_UNREACH 1
#define ICMPV6_PKT_TOOBIG 2
#define ICMPV6_TIME_EXCEED 3
#define ICMPV6_PARAMETERPROB 4
#define ICMPV6_ECHO 128
#define ICMPV6_ECHOREPLY 129
#define ICMPV6_PORT_UNREACH 4

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

/* Both addresses: how flow_key and flow begin. */
struct addresses {
	__u32 source[4];
	__u32 target[4];
};

struct packet {
	/* The protocol is 255 if extension headers hide it. */
	struct flow_key key;
	/* Offset of the transport header. */
	__u32 transport;
	__u32 fragment_id;
	/* As in IPv4: whether more follow, and the offset in eight bytes. */
	__u16 fragment;
	/* From the network header on. */
	__u16 length;
	/* Or hop limit. */
	__u8 ttl;
	/* Of SCTP, what would say the same in TCP. */
	__u8 tcp_flags;
	__u8 content;
	__u8 later_fragment;
	__u8 ipv6;
	/* On its way already: the stack has routed it. */
	__u8 routed;
	/* Of the header of IPv4, as it was: the key's is that of a fragment's beginning. */
	__u8 protocol;
	__u8 pad;
	/* Of the header of IPv4. */
	__u16 check;
	__u16 pad_at_end;
};

#define PROTOCOL_HIDDEN 255

INLINE bool is_icmp(__u8 protocol)
{
	return protocol == IPPROTO_ICMP || protocol == NEXT_ICMPV6;
}

/* Whether the protocol has connections, with a beginning and an end that their packets tell. */
INLINE bool is_connected(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_SCTP;
}

INLINE bool opens(const struct packet *packet)
{
	return is_connected(packet->key.protocol) && (packet->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

INLINE bool is_zero(const __u32 *ip)
{
	return !ip[3] && !ip[2] && !ip[1] && !ip[0];
}

/* Not inlined for the sake of its callers' stacks, which are at the limit together. */
SUBPROGRAM __u32 network_of_address(const struct address *address)
{
	if (!address)
		return 0;

	struct network_key key = { .prefix_bits = 128 };
	__u32 *flags;

	copy_ip(key.ip, address->ip);
	flags = bpf_map_lookup_elem(&networks, &key);
	return flags ? *flags : 0;
}

INLINE __u32 network_of(const __u32 *ip)
{
	return network_of_address((const void *)ip);
}

/* Whether both ends are pods beyond doubt. Most packets are of such, and no table but that of flows has
 * anything to say about them; a few comparisons cost less than looking both ends up in a trie. */
SUBPROGRAM int is_among_pods(const struct addresses *ends)
{
	if (!ends)
		return false;

	__u32 zero = 0;
	struct settings *node = bpf_map_lookup_elem(&settings, &zero);

	return node && is_pod(node, ends->source) && is_pod(node, ends->target);
}

INLINE bool have_flows(__u32 kind)
{
	__u32 zero = 0;
	__u32 *kinds = bpf_map_lookup_elem(&flow_kinds, &zero);

	return !kinds || (*kinds & kind);
}

/* The node's own address of the packet's family, which may be zero. */
INLINE const __u32 *address_of(const struct settings *node, const struct packet *packet)
{
	return packet->ipv6 ? node->node_ipv6 : node->node_ipv4;
}

#endif
