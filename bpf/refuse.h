/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Refusing a packet at once, as a host without a listener would: TCP reset, ICMP port unreachable. */
#ifndef DAYMARK_REFUSE_H
#define DAYMARK_REFUSE_H

#include "packet.h"

struct reset {
	struct iphdr ip;
	struct tcphdr tcp;
};

struct unreachable {
	struct iphdr ip;
	struct icmphdr icmp;
	/* RFC 792: the header and the first 64 bits of the packet's data. */
	__u8 original[28];
};

INLINE __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

INLINE void answer_header(struct iphdr *ip, const struct packet *packet, __u8 protocol, __u16 length)
{
	ip->version = 4;
	ip->ihl = 5;
	ip->tot_len = htons(length);
	ip->frag_off = htons(0x4000);
	ip->ttl = 64;
	ip->protocol = protocol;
	ip->saddr = packet->key.target[3];
	ip->daddr = packet->key.source[3];
	ip->check = fold(bpf_csum_diff(NULL, 0, (void *)ip, sizeof(*ip), 0));
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

/* RFC 9293 section 3.10.7.1: the answer to a segment for a connection that does not exist. */
SUBPROGRAM int send_reset(struct __sk_buff *skb, const struct packet *packet)
{
	if (!packet)
		return DROP;

	struct reset answer = {};
	struct tcphdr tcp;
	__u32 pseudo[3], payload;
	__u64 sum;

	if (packet->tcp_flags & TCP_RST)
		return DROP;
	if (bpf_skb_load_bytes(skb, packet->transport, &tcp, sizeof(tcp)))
		return DROP;
	payload = packet->length - (packet->transport - IP_OFFSET) - tcp.doff * 4;
	answer.tcp.source = tcp.dest;
	answer.tcp.dest = tcp.source;
	answer.tcp.doff = 5;
	answer.tcp.rst = 1;
	if (tcp.ack) {
		answer.tcp.seq = tcp.ack_seq;
	} else {
		answer.tcp.ack = 1;
		answer.tcp.ack_seq = htonl(ntohl(tcp.seq) + payload + tcp.syn + tcp.fin);
	}
	answer_header(&answer.ip, packet, IPPROTO_TCP, sizeof(answer));
	pseudo[0] = answer.ip.saddr;
	pseudo[1] = answer.ip.daddr;
	pseudo[2] = htonl(IPPROTO_TCP << 16 | sizeof(answer.tcp));
	sum = bpf_csum_diff(NULL, 0, pseudo, sizeof(pseudo), 0);
	answer.tcp.check = fold(bpf_csum_diff(NULL, 0, (void *)&answer.tcp, sizeof(answer.tcp), sum));

	if (bpf_skb_change_tail(skb, IP_OFFSET + sizeof(answer), 0))
		return DROP;
	bpf_skb_store_bytes(skb, IP_OFFSET, &answer, sizeof(answer), 0);
	return send_back(skb);
}

SUBPROGRAM int send_unreachable(struct __sk_buff *skb, const struct packet *packet)
{
	if (!packet)
		return DROP;

	struct unreachable answer = {};

	/* With options the original's ports would be cut off. */
	if (packet->transport != IP_OFFSET + sizeof(struct iphdr) || packet->later_fragment)
		return DROP;
	if (bpf_skb_load_bytes(skb, IP_OFFSET, answer.original, sizeof(answer.original)))
		return DROP;
	answer.icmp.type = ICMP_DEST_UNREACH;
	answer.icmp.code = ICMP_PORT_UNREACH;
	answer.icmp.checksum = fold(bpf_csum_diff(NULL, 0, (void *)&answer.icmp,
						  sizeof(answer.icmp) + sizeof(answer.original), 0));
	answer_header(&answer.ip, packet, IPPROTO_ICMP, sizeof(answer));
	if (bpf_skb_change_tail(skb, IP_OFFSET + sizeof(answer), 0))
		return DROP;
	bpf_skb_store_bytes(skb, IP_OFFSET, &answer, sizeof(answer), 0);
	return send_back(skb);
}

INLINE int refuse(struct __sk_buff *skb, const struct packet *packet)
{
	if (packet->key.protocol == IPPROTO_TCP && !packet->later_fragment)
		return send_reset(skb, packet);
	if (packet->key.protocol == IPPROTO_UDP)
		return send_unreachable(skb, packet);
	return DROP;
}

#endif
