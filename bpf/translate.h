/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Making a packet into another and sending that on; or telling its sender why it cannot go on. */
#ifndef DAYMARK_TRANSLATE_H
#define DAYMARK_TRANSLATE_H

#include "refuse.h"

/* Ours beside the verdicts: what the sender is to be told. The lower ones name the largest size that fits. */
#define TELL_OF_HOPS (-101)
#define TELL_OF_SIZE (-1000)

/* Whether packets that are too large for a link are to be told of, not to be cut up. */
INLINE bool may_not_be_cut(struct __sk_buff *skb, const struct packet *packet)
{
	__u16 fragment = 0;

	if (packet->ipv6)
		return true;
	bpf_skb_load_bytes(skb, IP_OFFSET + __builtin_offsetof(struct iphdr, frag_off), &fragment, sizeof(fragment));
	return fragment & htons(DONT_FRAGMENT);
}

/*
 * Makes a packet into another, and sends that on. The stack knows what to do with one that cannot go on, but not if it
 * is to leave in the node's name: it would take it for its own, and drop it. Then its sender is to be told, in its own
 * terms, which `tell` does once the stack of calls has room for it.
 */
SUBPROGRAM int translate(struct __sk_buff *skb, const struct packet *packet, const struct flow *to)
{
	if (!packet || !to)
		return DROP;

	struct way way = {};

	if (!find_way(skb, packet, (const void *)to, &way)) {
		if (way.hindrance && !same_ip(to->source, packet->key.source)) {
			if (way.hindrance == HOPS_EXHAUSTED)
				return TELL_OF_HOPS;
			if (may_not_be_cut(skb, packet))
				return TELL_OF_SIZE - way.mtu;
		}
		rewrite(skb, packet, to, packet->ttl);
		return TO_STACK;
	}
	rewrite(skb, packet, to, packet->ttl - 1);
	return take_way(&way);
}

/* Carries out what `translate` asked for, if it did. */
INLINE int tell(struct __sk_buff *skb, const struct packet *packet, int action)
{
	struct error error = { ICMP_TIME_EXCEEDED, 0, ICMPV6_TIME_EXCEED, 0, 0 };

	if (action > TELL_OF_HOPS)
		return action;
	if (action <= TELL_OF_SIZE) {
		error.type = ICMP_DEST_UNREACH;
		error.code = ICMP_FRAG_NEEDED;
		error.type6 = ICMPV6_PKT_TOOBIG;
		error.mtu = TELL_OF_SIZE - action;
	}
	return send_error(skb, packet, &error);
}

#endif
