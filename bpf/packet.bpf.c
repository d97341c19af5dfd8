// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * Packets, on tcx ingress. `uplink` sees what arrives from the LAN: clients of NodePort, LoadBalancer and
 * external frontends, replies of backends on other nodes, replies to masqueraded pods. `pod` sees what
 * pods send: replies of local backends, connections to the outside, traffic to other pods.
 *
 * Each program is an ordered list of questions; the first that answers decides.
 */
#include "icmp.h"
#include "refuse.h"

INLINE bool in_cluster(__u32 network)
{
	return network & (NETWORK_POD | NETWORK_CLUSTER | NETWORK_THIS_NODE);
}

INLINE bool source_allowed(__u32 service, const __u32 *source)
{
	struct source_range_key key = { .prefix_bits = 32 + 128, .service = service };

	copy_ip(key.ip, source);
	return bpf_map_lookup_elem(&source_ranges, &key);
}

/*
 * A packet of no known flow to a frontend. Replies of a local backend come back through its pod's
 * interface on this node and are translated there, so its client's address is kept. Those of another
 * node's backend must be called back here by the node's address.
 */
SUBPROGRAM int enter_service(struct __sk_buff *skb, const struct packet *packet, __u32 id, int local)
{
	if (!packet)
		return DROP;

	struct address client;
	struct backend backend = {};
	struct flow to = {};
	__u32 zero = 0;
	struct settings *node = bpf_map_lookup_elem(&settings, &zero);
	int verdict, keep_source;

	copy_ip(client.ip, packet->key.source);
	verdict = choose(id, local, &client, &backend);
	if (verdict == VERDICT_REFUSE)
		return refuse(skb, packet);
	if (verdict == VERDICT_DROP || !node) {
		count(COUNT_DROP_POLICY);
		return DROP;
	}
	/* The middle of a connection that no table remembers: its backend is unknown. */
	if (packet->key.protocol == IPPROTO_TCP && (packet->tcp_flags & (TCP_SYN | TCP_ACK)) != TCP_SYN)
		return refuse(skb, packet);

	/* A pod that reaches itself must be answered by someone else. */
	keep_source = (backend.flags & SLOT_LOCAL) && !same_ip(backend.ip, packet->key.source);
	copy_ip(to.source, keep_source ? packet->key.source : node->node_ip);
	to.source_port = packet->key.source_port;
	copy_ip(to.target, backend.ip);
	to.target_port = backend.port;
	to.service = id;
	to.generation = backend.generation;
	if (enter_flow(&packet->key, &to, keep_source))
		return DROP;
	count(COUNT_PACKET_NEW);
	rewrite(skb, packet, &to);
	return forward(skb, packet, to.source[3], to.target[3]);
}

SUBPROGRAM int serve(struct __sk_buff *skb, const struct packet *packet, __u32 source_network)
{
	if (!packet)
		return UNHANDLED;

	struct frontend_key key = {};
	struct frontend *frontend;

	copy_ip(key.ip, packet->key.target);
	key.port = packet->key.target_port;
	key.protocol = packet->key.protocol;
	frontend = bpf_map_lookup_elem(&frontends, &key);
	/* Cluster IPs are translated at sockets; as a packet they come from outside or evade the policy. */
	if (!frontend || frontend->kind == KIND_CLUSTER_IP)
		return UNHANDLED;
	if ((frontend->flags & FRONTEND_SOURCE_CHECKED) &&
	    !source_allowed(frontend->service, packet->key.source)) {
		count(COUNT_DROP_SOURCE_RANGE);
		return DROP;
	}
	return enter_service(skb, packet, frontend->service,
			     (frontend->flags & FRONTEND_LOCAL_ONLY) && !in_cluster(source_network));
}

/* Addresses that only Services use: what no frontend served above must not wander on. */
INLINE int reject_unserved(struct __sk_buff *skb, const struct packet *packet, __u32 target_network)
{
	__u32 *kind = bpf_map_lookup_elem(&service_ips, packet->key.target);

	if ((kind && *kind == KIND_CLUSTER_IP) || (target_network & NETWORK_SERVICE)) {
		count(COUNT_DROP_NO_PORT);
		return DROP;
	}
	if (!kind || (target_network & NETWORK_THIS_NODE))
		return UNHANDLED;
	count(COUNT_DROP_NO_PORT);
	return packet->content == CONTENT_FLOW ? refuse(skb, packet) : DROP;
}

INLINE int follow(struct __sk_buff *skb, const struct packet *packet)
{
	if (packet->content == CONTENT_FLOW)
		return follow_flow(skb, packet);
	if (packet->content == CONTENT_ICMP_ERROR)
		return follow_icmp_error(skb, packet);
	return UNHANDLED;
}

SEC("classifier")
int uplink(struct __sk_buff *skb)
{
	struct packet packet = {};
	__u32 source, target;
	int action;

	if (!read_network(skb, &packet))
		return TO_STACK;
	source = network_of(packet.key.source);
	target = network_of(packet.key.target);
	/* Isolation: pods are reached through Services, except from inside the cluster. */
	if ((target & NETWORK_POD) && !in_cluster(source)) {
		count(COUNT_DROP_ISOLATION);
		return DROP;
	}
	read_transport(skb, &packet);
	action = follow(skb, &packet);
	if (action != UNHANDLED)
		return action;
	if (packet.content == CONTENT_FLOW) {
		action = serve(skb, &packet, source);
		if (action != UNHANDLED)
			return action;
	}
	action = reject_unserved(skb, &packet, target);
	if (action != UNHANDLED)
		return action;
	if (!(target & NETWORK_POD))
		return TO_STACK;
	forget_finished(&packet);
	return forward(skb, &packet, packet.key.source[3], packet.key.target[3]);
}

/* Link-local, multicast and broadcast addresses have no outside. */
INLINE bool is_routable(__u32 ip)
{
	__u32 host = ntohl(ip);

	return (host >> 16) != 0xa9fe && (host >> 28) < 0xe;
}

SUBPROGRAM int masquerade(struct __sk_buff *skb, const struct packet *packet)
{
	if (!packet)
		return DROP;

	struct flow to = {};
	__u32 zero = 0;
	struct settings *node = bpf_map_lookup_elem(&settings, &zero);

	/* Pod addresses must not leak to a LAN that cannot answer them. An echo reply without a flow answers
	 * nothing. */
	if (packet->content != CONTENT_FLOW || !node ||
	    (packet->key.protocol == IPPROTO_ICMP && packet->key.target_port)) {
		count(COUNT_DROP_UNTRANSLATABLE);
		return DROP;
	}
	copy_ip(to.source, node->node_ip);
	copy_ip(to.target, packet->key.target);
	to.target_port = packet->key.target_port;
	if (enter_flow(&packet->key, &to, false))
		return DROP;
	count(COUNT_PACKET_MASQUERADED);
	rewrite(skb, packet, &to);
	return forward(skb, packet, to.source[3], to.target[3]);
}

SEC("classifier")
int pod(struct __sk_buff *skb)
{
	struct packet packet = {};
	__u32 target;
	int action;

	if (!read_network(skb, &packet))
		return TO_STACK;
	read_transport(skb, &packet);
	action = follow(skb, &packet);
	if (action != UNHANDLED)
		return action;
	target = network_of(packet.key.target);
	if (packet.content == CONTENT_FLOW) {
		action = serve(skb, &packet, NETWORK_POD);
		if (action != UNHANDLED)
			return action;
	}
	action = reject_unserved(skb, &packet, target);
	if (action != UNHANDLED)
		return action;
	if ((target & NETWORK_THIS_NODE) || !is_routable(packet.key.target[3]))
		return TO_STACK;
	if (!in_cluster(target))
		return masquerade(skb, &packet);
	forget_finished(&packet);
	return forward(skb, &packet, packet.key.source[3], packet.key.target[3]);
}

char LICENSE[] SEC("license") = "GPL";
