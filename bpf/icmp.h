/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* ICMP errors about translated packets: translated back, so that their sender understands them. */
#ifndef DAYMARK_ICMP_H
#define DAYMARK_ICMP_H

#include "flow.h"

struct quoted {
	struct flow_key key;
	/* Offset of the quoted transport header. */
	__u32 transport;
};

/* The tuple of the packet that the error quotes: it travelled in the opposite direction. */
INLINE bool read_quoted(struct __sk_buff *skb, const struct packet *packet, struct quoted *quoted)
{
	__u32 start = packet->transport + sizeof(struct icmphdr);
	struct iphdr ip;
	__u16 ports[4];

	if (bpf_skb_load_bytes(skb, start, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5)
		return false;
	if (ntohs(ip.frag_off) & FRAGMENT_OFFSET)
		return false;
	quoted->transport = start + ip.ihl * 4;
	if (bpf_skb_load_bytes(skb, quoted->transport, ports, sizeof(ports)))
		return false;
	set_ipv4(quoted->key.source, ip.saddr);
	set_ipv4(quoted->key.target, ip.daddr);
	quoted->key.protocol = ip.protocol;
	if (ip.protocol == IPPROTO_ICMP) {
		__u8 type = *(__u8 *)ports;

		quoted->key.source_port = type == ICMP_ECHO ? ports[2] : 0;
		quoted->key.target_port = type == ICMP_ECHOREPLY ? ports[2] : 0;
		return type == ICMP_ECHO || type == ICMP_ECHOREPLY;
	}
	quoted->key.source_port = ports[0];
	quoted->key.target_port = ports[1];
	return ip.protocol == IPPROTO_TCP || ip.protocol == IPPROTO_UDP;
}

/*
 * The quoted header's own checksum makes its sum constant whatever its addresses, so the ICMP checksum
 * changes with the quoted ports alone. The quoted transport checksum is left: receivers do not verify it.
 */
INLINE void rewrite_quoted(struct __sk_buff *skb, const struct packet *packet, const struct quoted *quoted,
			   const struct flow *back)
{
	__u32 start = packet->transport + sizeof(struct icmphdr);
	__u32 old_ips[2] = { quoted->key.source[3], quoted->key.target[3] };
	__u32 new_ips[2] = { back->target[3], back->source[3] };
	__u16 old_ports[2] = { quoted->key.source_port, quoted->key.target_port };
	__u16 new_ports[2] = { back->target_port, back->source_port };
	__s64 ips = bpf_csum_diff(old_ips, sizeof(old_ips), new_ips, sizeof(new_ips), 0);
	__s64 ports = bpf_csum_diff(old_ports, sizeof(old_ports), new_ports, sizeof(new_ports), 0);
	__u32 check = packet->transport + __builtin_offsetof(struct icmphdr, checksum);

	bpf_l3_csum_replace(skb, start + __builtin_offsetof(struct iphdr, check), 0, ips, 0);
	bpf_skb_store_bytes(skb, start + __builtin_offsetof(struct iphdr, saddr), new_ips, sizeof(new_ips), 0);
	bpf_l4_csum_replace(skb, check, 0, ports, 0);
	if (quoted->key.protocol == IPPROTO_ICMP) {
		__u16 id = new_ports[0] | new_ports[1];

		bpf_skb_store_bytes(skb, quoted->transport + __builtin_offsetof(struct icmphdr, id), &id,
				    sizeof(id), 0);
	} else {
		bpf_skb_store_bytes(skb, quoted->transport, new_ports, sizeof(new_ports), 0);
	}
}

SUBPROGRAM int follow_icmp_error(struct __sk_buff *skb, const struct packet *packet)
{
	if (!packet)
		return UNHANDLED;

	struct quoted quoted = {};
	struct flow_key replies = {};
	struct flow *back, outer = {};

	if (!read_quoted(skb, packet, &quoted))
		return UNHANDLED;
	copy_ip(replies.source, quoted.key.target);
	copy_ip(replies.target, quoted.key.source);
	replies.source_port = quoted.key.target_port;
	replies.target_port = quoted.key.source_port;
	replies.protocol = quoted.key.protocol;
	back = bpf_map_lookup_elem(&flows, &replies);
	if (!back)
		return UNHANDLED;

	rewrite_quoted(skb, packet, &quoted, back);
	/* The far end is known to the client by another address; routers on the way are not. */
	copy_ip(outer.source, same_ip(packet->key.source, quoted.key.target) ? back->source : packet->key.source);
	copy_ip(outer.target, back->target);
	{
		__u32 old_ips[2] = { packet->key.source[3], packet->key.target[3] };
		__u32 new_ips[2] = { outer.source[3], outer.target[3] };
		__s64 ips = bpf_csum_diff(old_ips, sizeof(old_ips), new_ips, sizeof(new_ips), 0);

		bpf_l3_csum_replace(skb, IP_OFFSET + __builtin_offsetof(struct iphdr, check), 0, ips, 0);
		bpf_skb_store_bytes(skb, IP_OFFSET + __builtin_offsetof(struct iphdr, saddr), new_ips,
				    sizeof(new_ips), 0);
	}
	count(COUNT_ICMP_TRANSLATED);
	return forward(skb, packet, outer.source[3], outer.target[3]);
}

#endif
