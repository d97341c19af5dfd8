/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Refusing a packet at once, as a host without a listener would: TCP reset, ICMP port unreachable. */
#ifndef DAYMARK_REFUSE_H
#define DAYMARK_REFUSE_H

#include "rewrite.h"

struct reset {
	struct iphdr ip;
	struct tcphdr tcp;
};

struct reset6 {
	struct ipv6hdr ip;
	struct tcphdr tcp;
};

struct unreachable {
	struct iphdr ip;
	struct icmphdr icmp;
	/* RFC 792: the header and the first 64 bits of the packet's data. */
	__u8 original[28];
};

struct unreachable6 {
	struct ipv6hdr ip;
	struct icmphdr icmp;
	__u8 original[48];
};

struct pseudo_header {
	struct addresses ips;
	__u32 length;
	__u32 protocol;
};

INLINE void answer_header(struct iphdr *ip, const struct packet *packet, const __u32 *from, __u8 protocol, __u16 length)
{
	ip->version = 4;
	ip->ihl = 5;
	ip->tot_len = htons(length);
	ip->frag_off = htons(0x4000);
	ip->ttl = 64;
	ip->protocol = protocol;
	ip->saddr = from[3];
	ip->daddr = packet->key.source[3];
	ip->check = fold(bpf_csum_diff(NULL, 0, (void *)ip, sizeof(*ip), 0));
}

INLINE void answer_header6(struct ipv6hdr *ip, const struct packet *packet, const __u32 *from, __u8 protocol,
			   __u16 length)
{
	ip->version_class_label = htonl(6u << 28);
	ip->payload_length = htons(length - sizeof(*ip));
	ip->next_header = protocol;
	ip->hop_limit = 64;
	copy_ip(ip->source, from);
	copy_ip(ip->target, packet->key.source);
}

/* The sum of the answer's pseudo header. How IPv4 spells its addresses in 16 bytes adds 0xffff for each,
 * which is nothing in this arithmetic. */
INLINE __u64 pseudo_sum(const struct packet *packet, const __u32 *from, __u8 protocol, __u32 length)
{
	struct pseudo_header pseudo = { .length = htonl(length), .protocol = htonl(protocol) };

	copy_ip(pseudo.ips.source, from);
	copy_ip(pseudo.ips.target, packet->key.source);
	return bpf_csum_diff(NULL, 0, (void *)&pseudo, sizeof(pseudo), 0);
}

/* Back where it came from. */
INLINE int send_back(struct __sk_buff *skb)
{
	__u8 macs[2 * ETH_ALEN], swapped[2 * ETH_ALEN];

	if (bpf_skb_load_bytes(skb, 0, macs, sizeof(macs)))
		return DROP;
	__builtin_memcpy(swapped, macs + ETH_ALEN, ETH_ALEN);
	__builtin_memcpy(swapped + ETH_ALEN, macs, ETH_ALEN);
	bpf_skb_store_bytes(skb, 0, swapped, sizeof(swapped), 0);
	count(COUNT_PACKET_REFUSED);
	return bpf_redirect(skb->ifindex, 0);
}

/* Replaces everything behind the Ethernet header and sends it back. */
INLINE int answer_with(struct __sk_buff *skb, const void *answer, __u32 size)
{
	if (bpf_skb_change_tail(skb, IP_OFFSET + size, 0))
		return DROP;
	bpf_skb_store_bytes(skb, IP_OFFSET, answer, size, 0);
	return send_back(skb);
}

/* RFC 9293 section 3.10.7.1: the answer to a segment for a connection that does not exist. */
INLINE bool make_reset(struct __sk_buff *skb, const struct packet *packet, struct tcphdr *answer)
{
	struct tcphdr tcp;
	__u32 payload;

	if (packet->tcp_flags & TCP_RST)
		return false;
	if (bpf_skb_load_bytes(skb, packet->transport, &tcp, sizeof(tcp)))
		return false;
	payload = packet->length - (packet->transport - IP_OFFSET) - tcp.doff * 4;
	answer->source = tcp.dest;
	answer->dest = tcp.source;
	answer->doff = 5;
	answer->rst = 1;
	if (tcp.ack) {
		answer->seq = tcp.ack_seq;
	} else {
		answer->ack = 1;
		answer->ack_seq = htonl(ntohl(tcp.seq) + payload + tcp.syn + tcp.fin);
	}
	answer->check = fold(bpf_csum_diff(NULL, 0, (void *)answer, sizeof(*answer),
					   pseudo_sum(packet, packet->key.target, IPPROTO_TCP, sizeof(*answer))));
	return true;
}

SUBPROGRAM int send_reset(struct __sk_buff *skb, const struct packet *packet)
{
	if (!packet)
		return DROP;

	if (packet->ipv6) {
		struct reset6 answer = {};

		if (!make_reset(skb, packet, &answer.tcp))
			return DROP;
		answer_header6(&answer.ip, packet, packet->key.target, IPPROTO_TCP, sizeof(answer));
		return answer_with(skb, &answer, sizeof(answer));
	}
	struct reset answer = {};

	if (!make_reset(skb, packet, &answer.tcp))
		return DROP;
	answer_header(&answer.ip, packet, packet->key.target, IPPROTO_TCP, sizeof(answer));
	return answer_with(skb, &answer, sizeof(answer));
}

/* An ICMP error: its type and code in either family, and what is in the rest of its header. */
struct error {
	__u8 type;
	__u8 code;
	__u8 type6;
	__u8 code6;
	__u16 mtu;
};

INLINE int send_error4(struct __sk_buff *skb, const struct packet *packet, const struct error *error, const __u32 *from)
{
	struct unreachable answer = {};

	if (bpf_skb_load_bytes(skb, IP_OFFSET, answer.original, sizeof(answer.original)))
		return DROP;
	answer.icmp.type = error->type;
	answer.icmp.code = error->code;
	answer.icmp.sequence = htons(error->mtu);
	answer.icmp.checksum = fold(bpf_csum_diff(NULL, 0, (void *)&answer.icmp,
						  sizeof(answer.icmp) + sizeof(answer.original), 0));
	answer_header(&answer.ip, packet, from, IPPROTO_ICMP, sizeof(answer));
	return answer_with(skb, &answer, sizeof(answer));
}

INLINE int send_error6(struct __sk_buff *skb, const struct packet *packet, const struct error *error, const __u32 *from)
{
	const __u32 size = sizeof(struct unreachable6) - sizeof(struct ipv6hdr);
	struct unreachable6 answer = {};

	if (bpf_skb_load_bytes(skb, IP_OFFSET, answer.original, sizeof(answer.original)))
		return DROP;
	answer.icmp.type = error->type6;
	answer.icmp.code = error->code6;
	answer.icmp.sequence = htons(error->mtu);
	answer.icmp.checksum = fold(
		bpf_csum_diff(NULL, 0, (void *)&answer.icmp, size, pseudo_sum(packet, from, NEXT_ICMPV6, size)));
	answer_header6(&answer.ip, packet, from, NEXT_ICMPV6, sizeof(answer));
	return answer_with(skb, &answer, sizeof(answer));
}

/* Tells the sender of an error, by the address that it sent to if that has no such port, else by the node's. */
SUBPROGRAM int send_error(struct __sk_buff *skb, const struct packet *packet, const struct error *error)
{
	if (!packet || !error)
		return DROP;

	__u32 zero = 0;
	struct settings *node = bpf_map_lookup_elem(&settings, &zero);
	const __u32 *from = packet->key.target;

	if (error->code != ICMP_PORT_UNREACH || error->type != ICMP_DEST_UNREACH) {
		if (!node)
			return DROP;
		from = address_of(node, packet);
	}
	/* With options the original's ports would be cut off. */
	if (packet->later_fragment ||
	    packet->transport != IP_OFFSET + (packet->ipv6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)))
		return DROP;
	return packet->ipv6 ? send_error6(skb, packet, error, from) : send_error4(skb, packet, error, from);
}

INLINE int refuse(struct __sk_buff *skb, const struct packet *packet)
{
	if (packet->key.protocol == IPPROTO_TCP && !packet->later_fragment)
		return send_reset(skb, packet);
	if (packet->key.protocol == IPPROTO_UDP || packet->key.protocol == IPPROTO_SCTP) {
		struct error no_port = { ICMP_DEST_UNREACH, ICMP_PORT_UNREACH, ICMPV6_DEST_UNREACH,
					 ICMPV6_PORT_UNREACH, 0 };

		return send_error(skb, packet, &no_port);
	}
	return DROP;
}

#endif
