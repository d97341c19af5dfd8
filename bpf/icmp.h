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

/* Reads the quoted network header, and finds the transport header behind it. */
INLINE bool read_quoted_network(struct __sk_buff *skb, const struct packet *packet, struct quoted *quoted)
{
	__u32 start = packet->transport + sizeof(struct icmphdr);

	if (packet->ipv6) {
		struct headers headers = { .offset = start + sizeof(struct ipv6hdr) };
		struct ipv6hdr ip;

		if (bpf_skb_load_bytes(skb, start, &ip, sizeof(ip)) || ntohl(ip.version_class_label) >> 28 != 6)
			return false;
		headers.protocol = ip.next_header;
		walk_extensions(skb, &headers);
		copy_ip(quoted->key.source, ip.source);
		copy_ip(quoted->key.target, ip.target);
		quoted->key.protocol = headers.protocol;
		quoted->transport = headers.offset;
		return !(headers.fragment & FRAGMENT_OFFSET);
	}
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, start, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5)
		return false;
	set_ipv4(quoted->key.source, ip.saddr);
	set_ipv4(quoted->key.target, ip.daddr);
	quoted->key.protocol = ip.protocol;
	quoted->transport = start + ip.ihl * 4;
	return !(ntohs(ip.frag_off) & FRAGMENT_OFFSET);
}

/* The tuple of the packet that the error quotes: it travelled in the opposite direction. */
INLINE bool read_quoted(struct __sk_buff *skb, const struct packet *packet, struct quoted *quoted)
{
	__u8 request = packet->ipv6 ? ICMPV6_ECHO : ICMP_ECHO, reply = packet->ipv6 ? ICMPV6_ECHOREPLY : ICMP_ECHOREPLY;
	__u16 ports[4];

	if (!read_quoted_network(skb, packet, quoted))
		return false;
	if (bpf_skb_load_bytes(skb, quoted->transport, ports, sizeof(ports)))
		return false;
	if (is_icmp(quoted->key.protocol)) {
		__u8 type = *(__u8 *)ports;

		quoted->key.source_port = type == request ? ports[2] : 0;
		quoted->key.target_port = type == reply ? ports[2] : 0;
		return type == request || type == reply;
	}
	quoted->key.source_port = ports[0];
	quoted->key.target_port = ports[1];
	return is_connected(quoted->key.protocol) || quoted->key.protocol == IPPROTO_UDP;
}

/*
 * In IPv4 the quoted header's own checksum makes its sum constant whatever its addresses, so the checksum
 * of the error changes with the quoted ports alone; in IPv6 with the addresses too. The quoted transport
 * checksum is left: receivers do not verify it.
 */
INLINE void rewrite_quoted(struct __sk_buff *skb, const struct packet *packet, const struct quoted *quoted,
			   const struct flow *back)
{
	__u32 start = packet->transport + sizeof(struct icmphdr);
	__u16 new_ports[2] = { back->target_port, back->source_port };
	__s64 ports = ports_change(quoted->key.source_port, quoted->key.target_port, new_ports[0], new_ports[1]);
	__u32 check = packet->transport + __builtin_offsetof(struct icmphdr, checksum);
	struct addresses new_ips;
	__s64 ips;

	copy_ip(new_ips.source, back->target);
	copy_ip(new_ips.target, back->source);
	ips = addresses_change(packet->ipv6, (const void *)&quoted->key, &new_ips);
	write_addresses(skb, packet->ipv6, start, &new_ips, ips);
	if (packet->ipv6)
		bpf_l4_csum_replace(skb, check, 0, ips, 0);
	bpf_l4_csum_replace(skb, check, 0, ports, 0);
	if (is_icmp(quoted->key.protocol)) {
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
	struct addresses outer;
	struct way way = {};
	struct flow *back;
	bool onward;
	__s64 ips;

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
	ips = addresses_change(packet->ipv6, (const void *)&packet->key, &outer);
	onward = find_way(skb, packet, &outer, &way);
	write_network(skb, packet, &outer, ips, packet->ttl - onward);
	if (packet->ipv6)
		replace_pseudo(skb, packet, packet->transport + __builtin_offsetof(struct icmphdr, checksum), ips, 0);
	count(COUNT_ICMP_TRANSLATED);
	return onward ? take_way(&way) : TO_STACK;
}

#endif
