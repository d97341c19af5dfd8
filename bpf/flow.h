/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Translated connections: two entries each, one for each direction. */
#ifndef DAYMARK_FLOW_H
#define DAYMARK_FLOW_H

#include "choose.h"
#include "read.h"
#include "translate.h"

/* The key under which the other direction of a flow arrives. */
INLINE void peer_key(struct flow_key *peer, const struct flow *flow, __u8 protocol)
{
	copy_ip(peer->source, flow->target);
	copy_ip(peer->target, flow->source);
	peer->source_port = flow->target_port;
	peer->target_port = flow->source_port;
	peer->protocol = protocol;
	peer->pad[0] = peer->pad[1] = peer->pad[2] = 0;
}

/* What the other direction of packets that arrive under `key` becomes. */
INLINE void peer_flow(struct flow *peer, const struct flow_key *key, const struct flow *flow)
{
	copy_ip(peer->source, key->target);
	copy_ip(peer->target, key->source);
	peer->source_port = key->target_port;
	peer->target_port = key->source_port;
	peer->flags = flow->flags ^ FLOW_REPLY;
	peer->service = flow->service;
	peer->generation = flow->generation;
	peer->last_seen = flow->last_seen;
	peer->bytes = 0;
}

INLINE bool is_closing(__u32 flags)
{
	return (flags & FLOW_RESET) || (flags & (FLOW_CLIENT_FIN | FLOW_BACKEND_FIN)) ==
					       (FLOW_CLIENT_FIN | FLOW_BACKEND_FIN);
}

INLINE __u64 timeout_of(__u8 protocol, __u32 flags)
{
	if (protocol == IPPROTO_UDP)
		return (flags & FLOW_ANSWERED ? TIMEOUT_UDP_SECONDS : TIMEOUT_UDP_OPENING_SECONDS) * SECOND;
	if (is_icmp(protocol))
		return TIMEOUT_ECHO_SECONDS * SECOND;
	if (is_closing(flags))
		return TIMEOUT_TCP_CLOSING_SECONDS * SECOND;
	if (flags & (FLOW_CLIENT_FIN | FLOW_BACKEND_FIN))
		return TIMEOUT_TCP_HALF_CLOSED_SECONDS * SECOND;
	return (flags & FLOW_ANSWERED ? TIMEOUT_TCP_SECONDS : TIMEOUT_TCP_OPENING_SECONDS) * SECOND;
}

/* Another processor may have seen a later packet: a time in the future is no age at all. */
INLINE bool is_expired(const struct flow *flow, __u8 protocol, __u64 now)
{
	return now > flow->last_seen && now - flow->last_seen > timeout_of(protocol, flow->flags);
}

/* 0 if the entry was made. */
INLINE long make_entry(const struct flow_key *key, const struct flow *flow)
{
	long failed = bpf_map_update_elem(&flows, key, flow, BPF_NOEXIST);

	if (!failed)
		count(COUNT_FLOW_MADE);
	return failed;
}

INLINE void delete_entry(const struct flow_key *key)
{
	if (!bpf_map_delete_elem(&flows, key))
		count(COUNT_FLOW_DELETED);
}

SUBPROGRAM int remove_both(const struct flow_key *key, const struct flow *flow)
{
	if (!key || !flow)
		return 0;

	struct flow_key peer;

	peer_key(&peer, flow, key->protocol);
	delete_entry(&peer);
	delete_entry(key);
	return 0;
}

/* Whether a masqueraded flow's target belongs to a Service by now. */
INLINE bool is_taken_over(const struct packet *packet)
{
	__u32 *kind = bpf_map_lookup_elem(&service_ips, packet->key.target);
	struct frontend_key key = { .port = packet->key.target_port, .protocol = packet->key.protocol };

	if (!kind || *kind == KIND_CLUSTER_IP)
		return kind;
	copy_ip(key.ip, packet->key.target);
	return bpf_map_lookup_elem(&frontends, &key);
}

/*
 * Whether a packet ends the flow that it matches, and starts another: the flow expired; its client
 * reuses the port of a finished connection, or still waits for a backend that has gone; or the flow is
 * UDP, whose flows end when their backend stops serving, or when a Service takes their target over.
 */
INLINE bool is_superseded(const struct packet *packet, struct flow *flow, __u64 now)
{
	__u8 protocol = packet->key.protocol;
	bool new = opens(packet);
	struct choice choice = {};

	if (is_expired(flow, protocol, now) || (new && is_closing(flow->flags)))
		return true;
	if (flow->flags & FLOW_REPLY)
		return false;
	if (protocol != IPPROTO_UDP && !(new && !(flow->flags & FLOW_ANSWERED)))
		return false;
	if (!flow->service)
		return is_taken_over(packet);
	copy_ip(choice.ip, flow->target);
	choice.port = flow->target_port;
	choice.service = flow->service;
	choice.generation = flow->generation;
	if (!still_offered(flow->service, OFFER_FLOW, &choice))
		return true;
	flow->generation = choice.generation;
	return false;
}

/* Adds a flow's bytes to the statistics of its Service and backend. */
INLINE void settle_bytes(const struct flow_key *key, struct flow *flow)
{
	__u64 bytes = flow->bytes;

	if (!flow->service || !bytes)
		return;
	__sync_fetch_and_sub(&flow->bytes, bytes);
	if (flow->flags & FLOW_REPLY)
		count_bytes(flow->service, key->source, key->source_port, 0, bytes);
	else
		count_bytes(flow->service, flow->target, flow->target_port, bytes, 0);
}

/*
 * Records what a packet says about its flow, in both entries: a reply must know that the client closed,
 * or the port would stay taken for a day. Entries are written when something changed or a second has
 * passed; that also revives a peer that the table evicted because its own direction was silent.
 */
SUBPROGRAM int track(const struct packet *packet, struct flow *flow, __u64 now)
{
	if (!packet || !flow)
		return 0;

	struct flow_key key;
	struct flow *peer, restored;
	__u32 seen = 0;

	if (flow->flags & FLOW_REPLY)
		seen |= FLOW_ANSWERED;
	if (is_connected(packet->key.protocol)) {
		if (packet->tcp_flags & TCP_RST)
			seen |= FLOW_RESET;
		if (packet->tcp_flags & TCP_FIN)
			seen |= flow->flags & FLOW_REPLY ? FLOW_BACKEND_FIN : FLOW_CLIENT_FIN;
	}
	__sync_fetch_and_add(&flow->bytes, packet->length);
	if ((flow->flags & seen) == seen && now - flow->last_seen < SECOND && !is_closing(flow->flags))
		return 0;
	settle_bytes(&packet->key, flow);
	__sync_fetch_and_or(&flow->flags, seen);
	flow->last_seen = now;
	peer_key(&key, flow, packet->key.protocol);
	peer = bpf_map_lookup_elem(&flows, &key);
	if (peer) {
		__sync_fetch_and_or(&peer->flags, seen);
		peer->last_seen = now;
		return 0;
	}
	peer_flow(&restored, &packet->key, flow);
	if (!make_entry(&key, &restored))
		count(COUNT_FLOW_RESTORED);
	return 0;
}

/* Translates and forwards a packet of a known flow. */
SUBPROGRAM int follow_flow(struct __sk_buff *skb, const struct packet *packet)
{
	if (!packet)
		return UNHANDLED;

	struct flow *flow = bpf_map_lookup_elem(&flows, &packet->key);
	__u64 now;

	if (!flow)
		return UNHANDLED;
	now = bpf_ktime_get_ns();
	if (is_superseded(packet, flow, now)) {
		remove_both(&packet->key, flow);
		return UNHANDLED;
	}
	track(packet, flow, now);
	return translate(skb, packet, flow);
}

/* A direct connection may reuse the addresses of a finished translated one, whose reply entry would
 * then translate its replies. */
SUBPROGRAM int forget_finished(const struct packet *packet)
{
	struct flow_key replies;
	struct flow *flow;

	if (!packet || !opens(packet))
		return 0;
	copy_ip(replies.source, packet->key.target);
	copy_ip(replies.target, packet->key.source);
	replies.source_port = packet->key.target_port;
	replies.target_port = packet->key.source_port;
	replies.protocol = packet->key.protocol;
	replies.pad[0] = replies.pad[1] = replies.pad[2] = 0;
	flow = bpf_map_lookup_elem(&flows, &replies);
	if (flow && (is_closing(flow->flags) || is_expired(flow, replies.protocol, bpf_ktime_get_ns())))
		remove_both(&replies, flow);
	return 0;
}

/*
 * Claims the tuple that replies will arrive with. It must be free, or belong to a connection that has
 * ended or is this one. Otherwise two clients' replies would be mixed up, so another port is tried.
 */
INLINE bool claim_replies(const struct flow_key *replies, const struct flow *reply, __u64 now)
{
	struct flow *other;

	if (!make_entry(replies, reply))
		return true;
	other = bpf_map_lookup_elem(&flows, replies);
	if (!other)
		return false;
	if (same_ip(other->target, reply->target) && other->target_port == reply->target_port &&
	    same_ip(other->source, reply->source) && other->source_port == reply->source_port)
		return !bpf_map_update_elem(&flows, replies, reply, BPF_ANY);
	if (!is_closing(other->flags) && !is_expired(other, replies->protocol, now))
		return false;
	remove_both(replies, other);
	return !make_entry(replies, reply);
}

/*
 * A port of the node's own range for a connection that replaces another's. Ports are given in turn, not at
 * random: a backend that closed first keeps the last connection from a port in TIME_WAIT for a minute, and
 * would not take another client for its successor.
 */
INLINE __u16 next_port(const struct settings *node)
{
	__u32 zero = 0, ports = node->last_port - node->first_port + 1;
	__u32 *given = bpf_map_lookup_elem(&ports_given, &zero);
	__u32 turn = given ? __sync_fetch_and_add(given, 1) : bpf_get_prandom_u32();

	return htons(node->first_port + turn % ports);
}

/* Says that there are such flows, before their first packet leaves. Nobody takes it back, since nobody could
 * know that no other processor just enters another. */
INLINE void tell_kind(const struct flow_key *replies)
{
	__u32 zero = 0, kind = FLOWS_TO_THIS_NODE;
	struct settings *node = bpf_map_lookup_elem(&settings, &zero);
	__u32 *kinds = bpf_map_lookup_elem(&flow_kinds, &zero);

	if (!node || !kinds)
		return;
	if (is_pod(node, replies->source)) {
		if (!is_pod(node, replies->target))
			return;
		kind = FLOWS_AMONG_PODS;
	} else if (!(network_of(replies->source) & NETWORK_THIS_NODE)) {
		return;
	}
	if (!(*kinds & kind))
		__sync_fetch_and_or(kinds, kind);
}

/*
 * Enters a new flow in both directions. `to` says what its packets become; its source port is kept if
 * `keep_port` and no other flow's replies need it, else taken from the node's own range.
 */
SUBPROGRAM int enter_flow(const struct flow_key *key, struct flow *to, int keep_port)
{
	if (!key || !to)
		return -1;

	struct flow_key replies;
	struct flow reply, *winner;
	__u32 zero = 0;
	struct settings *node = bpf_map_lookup_elem(&settings, &zero);

	if (!node)
		return -1;
	to->last_seen = bpf_ktime_get_ns();
	peer_key(&replies, to, key->protocol);
	peer_flow(&reply, key, to);
	if (to->service)
		tell_kind(&replies);
	for (int attempt = 0; attempt < 8; attempt++) {
		if (!keep_port || attempt)
			to->source_port = replies.target_port = next_port(node);
		if (!claim_replies(&replies, &reply, to->last_seen))
			continue;
		if (!make_entry(key, to))
			return 0;
		/* A retransmitted SYN won on another processor: its backend counts. */
		winner = bpf_map_lookup_elem(&flows, key);
		if (!winner)
			break;
		if (winner->source_port != to->source_port || !same_ip(winner->target, to->target) ||
		    winner->target_port != to->target_port)
			delete_entry(&replies);
		*to = *winner;
		return 0;
	}
	count(COUNT_DROP_FLOW_FULL);
	return -1;
}

#endif
