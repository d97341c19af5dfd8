/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Reading a packet into a tuple. */
#ifndef DAYMARK_READ_H
#define DAYMARK_READ_H

#include "sctp.h"

/* Where the transport header of an IPv6 packet is, and what came before it. */
struct headers {
	__u32 offset;
	__u32 fragment_id;
	__u16 fragment;
	__u8 protocol;
	__u8 pad;
};

struct extension {
	__u8 next;
	__u8 length;
	__u16 fragment;
	__u32 fragment_id;
};

/*
 * Walks extension headers from `headers->offset`. More of them than anybody sends hide the protocol: such
 * a packet can still be judged by its addresses. Behind a later fragment's header there is only data.
 */
SUBPROGRAM int walk_extensions(struct __sk_buff *skb, struct headers *headers)
{
	if (!headers)
		return 0;

	for (int i = 0; i < 8; i++) {
		__u8 protocol = headers->protocol;
		struct extension extension;

		if (protocol != NEXT_HOP_BY_HOP && protocol != NEXT_ROUTING && protocol != NEXT_FRAGMENT &&
		    protocol != NEXT_AUTHENTICATION && protocol != NEXT_DESTINATION)
			return 0;
		if (bpf_skb_load_bytes(skb, headers->offset, &extension, sizeof(extension)))
			break;
		headers->protocol = extension.next;
		if (protocol == NEXT_FRAGMENT) {
			__u16 bits = ntohs(extension.fragment);

			headers->offset += sizeof(extension);
			headers->fragment = bits >> 3 | (bits & 1 ? MORE_FRAGMENTS : 0);
			headers->fragment_id = extension.fragment_id;
			if (headers->fragment & FRAGMENT_OFFSET)
				return 0;
		} else if (protocol == NEXT_AUTHENTICATION) {
			headers->offset += (extension.length + 2) * 4;
		} else {
			headers->offset += (extension.length + 1) * 8;
		}
	}
	headers->protocol = PROTOCOL_HIDDEN;
	return 0;
}

/* Reads from a packet; directly where it can, since a call has its price. */
#define READ(skb, at, to)                                                                    \
	({                                                                                   \
		void *data = (void *)(long)(skb)->data, *end = (void *)(long)(skb)->data_end; \
		__u32 offset = (at);                                                         \
		bool direct = false;                                                         \
		opaque(offset);                                                              \
		if (offset <= 256 && data + offset + sizeof(*(to)) <= end) {                 \
			*(to) = *(typeof(to))(data + offset);                                \
			direct = true;                                                       \
		}                                                                            \
		direct || !bpf_skb_load_bytes(skb, offset, to, sizeof(*(to)));               \
	})

INLINE bool read_ipv4(struct __sk_buff *skb, struct packet *packet)
{
	struct iphdr ip;
	__u32 header;

	if (!READ(skb, IP_OFFSET, &ip))
		return false;
	header = ip.ihl * 4;
	packet->length = ntohs(ip.tot_len);
	if (ip.version != 4 || header < sizeof(ip) || packet->length < header)
		return false;
	set_ipv4(packet->key.source, ip.saddr);
	set_ipv4(packet->key.target, ip.daddr);
	packet->key.protocol = ip.protocol;
	packet->transport = IP_OFFSET + header;
	packet->fragment = ntohs(ip.frag_off) & (MORE_FRAGMENTS | FRAGMENT_OFFSET);
	packet->fragment_id = ip.id;
	packet->ttl = ip.ttl;
	packet->protocol = ip.protocol;
	packet->check = ip.check;
	return true;
}

INLINE bool read_ipv6(struct __sk_buff *skb, struct packet *packet)
{
	struct headers headers = { .offset = IP_OFFSET + sizeof(struct ipv6hdr) };
	struct ipv6hdr ip;

	if (!READ(skb, IP_OFFSET, &ip))
		return false;
	/* A jumbogram's length is 0; nobody here sends them. */
	packet->length = sizeof(ip) + ntohs(ip.payload_length);
	if (ntohl(ip.version_class_label) >> 28 != 6)
		return false;
	packet->ipv6 = 1;
	copy_ip(packet->key.source, ip.source);
	copy_ip(packet->key.target, ip.target);
	packet->ttl = ip.hop_limit;
	headers.protocol = ip.next_header;
	walk_extensions(skb, &headers);
	packet->key.protocol = headers.protocol;
	packet->transport = headers.offset;
	packet->fragment = headers.fragment;
	packet->fragment_id = headers.fragment_id;
	return true;
}

/* False if it is not a sound IP packet for this host: such are none of our business. */
SUBPROGRAM int read_network(struct __sk_buff *skb, struct packet *packet)
{
	bool sound = false;

	if (!packet)
		return false;

	if (skb->pkt_type != 0 /* PACKET_HOST */)
		return false;
	if (skb->protocol == htons(ETH_P_IP))
		sound = read_ipv4(skb, packet);
	else if (skb->protocol == htons(ETH_P_IPV6))
		sound = read_ipv6(skb, packet);
	return sound && skb->len >= IP_OFFSET + (__u32)packet->length;
}

/* In IPv6 the protocol may stand behind the fragment header's own, and is no part of the identity. */
INLINE void fragment_key_of(struct fragment_key *key, const struct packet *packet)
{
	copy_ip(key->source, packet->key.source);
	copy_ip(key->target, packet->key.target);
	key->id = packet->fragment_id;
	key->protocol = packet->ipv6 ? NEXT_FRAGMENT : packet->key.protocol;
}

INLINE bool is_icmp_error(const struct packet *packet, __u8 type)
{
	if (packet->ipv6)
		return type >= ICMPV6_DEST_UNREACH && type <= ICMPV6_PARAMETERPROB;
	return type == ICMP_DEST_UNREACH || type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETERPROB;
}

INLINE void read_icmp(struct __sk_buff *skb, struct packet *packet)
{
	struct icmphdr icmp;

	if (!READ(skb, packet->transport, &icmp))
		return;
	if (icmp.type == (packet->ipv6 ? ICMPV6_ECHO : ICMP_ECHO)) {
		packet->key.source_port = icmp.id;
		packet->content = CONTENT_FLOW;
	} else if (icmp.type == (packet->ipv6 ? ICMPV6_ECHOREPLY : ICMP_ECHOREPLY)) {
		packet->key.target_port = icmp.id;
		packet->content = CONTENT_FLOW;
	} else if (is_icmp_error(packet, icmp.type) && !packet->fragment) {
		packet->content = CONTENT_ICMP_ERROR;
	}
}

INLINE void read_ports(struct __sk_buff *skb, struct packet *packet)
{
	if (packet->key.protocol == IPPROTO_TCP) {
		struct tcphdr tcp;

		if (!READ(skb, packet->transport, &tcp))
			return;
		packet->key.source_port = tcp.source;
		packet->key.target_port = tcp.dest;
		packet->tcp_flags = ((__u8 *)&tcp)[13];
		packet->content = CONTENT_FLOW;
	} else if (packet->key.protocol == IPPROTO_UDP) {
		struct udphdr udp;

		if (!READ(skb, packet->transport, &udp))
			return;
		packet->key.source_port = udp.source;
		packet->key.target_port = udp.dest;
		packet->content = CONTENT_FLOW;
	} else if (packet->key.protocol == IPPROTO_SCTP) {
		struct sctphdr sctp;

		/* The checksum covers the whole, of which a fragment is a part. */
		if (packet->fragment || !READ(skb, packet->transport, &sctp))
			return;
		packet->key.source_port = sctp.source;
		packet->key.target_port = sctp.target;
		packet->tcp_flags = flags_of_chunk(sctp.first_chunk);
		packet->content = CONTENT_FLOW;
	} else if (packet->key.protocol == (packet->ipv6 ? NEXT_ICMPV6 : IPPROTO_ICMP)) {
		read_icmp(skb, packet);
	}
}

/* Later fragments carry no ports: they take those of the first, which usually came before them. */
SUBPROGRAM int read_transport(struct __sk_buff *skb, struct packet *packet)
{
	if (!packet)
		return 0;

	struct fragment_key key;
	struct fragment_ports ports = {}, *first;

	if (packet->fragment & FRAGMENT_OFFSET) {
		fragment_key_of(&key, packet);
		first = bpf_map_lookup_elem(&fragments, &key);
		if (first) {
			packet->key.source_port = first->source_port;
			packet->key.target_port = first->target_port;
			packet->key.protocol = first->protocol;
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
		ports.protocol = packet->key.protocol;
		bpf_map_update_elem(&fragments, &key, &ports, BPF_ANY);
	}
	return 0;
}

#endif
