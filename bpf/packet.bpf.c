// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * Packets, on tcx ingress. `uplink` sees what arrives from the LAN: clients of NodePort, LoadBalancer and
 * external frontends, replies of backends on other nodes, replies to masqueraded pods. `pod` sees what
 * pods send: replies of local backends, connections to the outside, traffic to other pods. `out`, on egress
 * of both, sees what the node itself sends: replies of backends in its own network.
 *
 * Each program is an ordered list of questions; the first that answers decides.
 */
#include "icmp.h"

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

/* Of everything that every node sees alike of a connection; never 0. */
INLINE __u32 hash_of_client(const struct packet *packet)
{
	__u32 words[6] = { packet->key.source[0], packet->key.source[1], packet->key.source[2], packet->key.source[3],
			   (__u32)packet->key.source_port << 16 | packet->key.target_port, packet->key.protocol };
	__u32 hash = 0;

	/* The mixing steps of MurmurHash3. */
	for (int i = 0; i < 6; i++) {
		__u32 word = words[i] * 0xcc9e2d51;

		word = (word << 15 | word >> 17) * 0x1b873593;
		hash ^= word;
		hash = (hash << 13 | hash >> 19) * 5 + 0xe6546b64;
	}
	hash = (hash ^ hash >> 16) * 0x85ebca6b;
	hash = (hash ^ hash >> 13) * 0xc2b2ae35;
	hash ^= hash >> 16;
	return hash ? hash : 1;
}

/* How a client enters a Service. */
#define POLICY_LOCAL 1
/* Its replies come through this node, whoever gives them. */
#define KEEP_CLIENT 2

INLINE int choose_backend(const struct packet *packet, __u32 id, int local, struct backend *backend)
{
	struct client client;

	copy_ip(client.ip, packet->key.source);
	client.hash = hash_of_client(packet);
	return choose(id, local, &client, backend);
}

SUBPROGRAM int enter_chosen(struct __sk_buff *skb, const struct packet *packet, const struct backend *backend,
			    int keep_client)
{
	if (!packet || !backend)
		return DROP;

	struct flow to = {};
	__u32 zero = 0;
	struct settings *node = bpf_map_lookup_elem(&settings, &zero);
	int keep_source;

	if (!node)
		return DROP;
	/* A backend outside of the cluster does not know where pods are. */
	if (keep_client)
		keep_client = in_cluster(network_of(backend->ip));
	/* A pod that reaches itself must be answered by someone else. */
	keep_source = (keep_client || (backend->flags & SLOT_LOCAL)) && !same_ip(backend->ip, packet->key.source);
	copy_ip(to.source, keep_source ? packet->key.source : address_of(node, packet));
	to.source_port = packet->key.source_port;
	copy_ip(to.target, backend->ip);
	to.target_port = backend->port;
	to.service = backend->service;
	to.generation = backend->generation;
	to.bytes = packet->length;
	if (enter_flow(&packet->key, &to, keep_source))
		return DROP;
	count(COUNT_PACKET_NEW);
	count_connection(to.service, (const void *)to.target, to.target_port);
	return translate(skb, packet, &to);
}

/*
 * A packet of no known flow to a frontend. Replies of a local backend come back through its pod's
 * interface on this node and are translated there, so its client's address is kept. Those of another
 * node's backend must be called back here by the node's address.
 */
SUBPROGRAM int enter_service(struct __sk_buff *skb, const struct packet *packet, __u32 id, int how)
{
	if (!packet)
		return DROP;

	struct backend backend = {};

	switch (choose_backend(packet, id, how & POLICY_LOCAL, &backend)) {
	case VERDICT_CHOSEN:
		/* The middle of a connection that no table remembers: its backend is unknown. */
		if (is_connected(packet->key.protocol) && !opens(packet))
			return refuse(skb, packet);
		return enter_chosen(skb, packet, &backend, how & KEEP_CLIENT);
	case VERDICT_REFUSE:
		count_refusal(id);
		return refuse(skb, packet);
	default:
		count(COUNT_DROP_POLICY);
		return DROP;
	}
}

/* A Service, and how a client enters it. */
struct entry {
	__u32 service;
	__u32 how;
};

#define ENTER 0

/* Which Service a packet enters, and how: ENTER if any. */
SUBPROGRAM int find_entry(const struct packet *packet, __u32 source_network, int from_pod, struct entry *entry)
{
	if (!packet || !entry)
		return DROP;

	struct frontend_key key = {};
	struct frontend *frontend;

	copy_ip(key.ip, packet->key.target);
	key.port = packet->key.target_port;
	key.protocol = packet->key.protocol;
	frontend = bpf_map_lookup_elem(&frontends, &key);
	if (!frontend)
		return UNHANDLED;
	/* Cluster IPs are translated at sockets; as a packet they come from outside or evade the policy. But no
	 * program is asked when a socket of SCTP connects, and one of UDP connects where there is no backend. */
	if (frontend->kind == KIND_CLUSTER_IP && (key.protocol == IPPROTO_TCP || !from_pod))
		return UNHANDLED;
	if ((frontend->flags & FRONTEND_SOURCE_CHECKED) &&
	    !source_allowed(frontend->service, packet->key.source)) {
		count(COUNT_DROP_SOURCE_RANGE);
		return DROP;
	}
	entry->service = frontend->service;
	entry->how = from_pod ? KEEP_CLIENT : 0;
	/* Clients in the cluster reach external frontends as under policy Cluster. */
	if ((frontend->flags & FRONTEND_LOCAL_ONLY) &&
	    (frontend->kind == KIND_CLUSTER_IP || !in_cluster(source_network)))
		entry->how |= POLICY_LOCAL;
	return ENTER;
}

INLINE int serve(struct __sk_buff *skb, const struct packet *packet, __u32 source_network, bool from_pod)
{
	struct entry entry = {};
	int action = find_entry(packet, source_network, from_pod, &entry);

	return action == ENTER ? enter_service(skb, packet, entry.service, entry.how) : action;
}

/* Addresses that only Services use: what no frontend served above must not wander on. */
INLINE int reject_unserved(struct __sk_buff *skb, const struct packet *packet, __u32 target_network, bool from_pod)
{
	__u32 *kind = bpf_map_lookup_elem(&service_ips, packet->key.target);

	if ((kind && *kind == KIND_CLUSTER_IP) || (target_network & NETWORK_SERVICE)) {
		count(COUNT_DROP_NO_PORT);
		/* A pod's connected UDP socket was not refused before. */
		if (kind && from_pod && packet->content == CONTENT_FLOW && packet->key.protocol == IPPROTO_UDP)
			return refuse(skb, packet);
		return DROP;
	}
	/* An address that Services are given may be a machine's, whose other ports are none of ours. */
	if (!kind || from_pod || in_cluster(target_network))
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

/* A pod's packet for a pod: as it is, unless it belongs to a translated connection. */
INLINE int pass_among_pods(struct __sk_buff *skb, struct packet *packet)
{
	int action;

	if (!have_flows(FLOWS_AMONG_PODS))
		return forward_untranslated(skb, packet);
	read_transport(skb, packet);
	action = follow(skb, packet);
	if (action != UNHANDLED)
		return action;
	forget_finished(packet);
	return forward_untranslated(skb, packet);
}

INLINE int judge_arrival(struct __sk_buff *skb, struct packet *packet)
{
	__u32 source, target;
	int action;

	if (!read_network(skb, packet))
		return TO_STACK;
	if (is_among_pods((const void *)&packet->key))
		return pass_among_pods(skb, packet);
	/* A flow is followed unseen: who might open it was asked when it was opened. */
	read_transport(skb, packet);
	action = follow(skb, packet);
	if (action != UNHANDLED)
		return action;
	source = network_of(packet->key.source);
	target = network_of(packet->key.target);
	/* Isolation: pods are reached through Services, except from inside the cluster. */
	if ((target & NETWORK_POD) && !in_cluster(source)) {
		count(COUNT_DROP_ISOLATION);
		return DROP;
	}
	if (packet->content == CONTENT_FLOW) {
		action = serve(skb, packet, source, false);
		if (action != UNHANDLED)
			return action;
	}
	action = reject_unserved(skb, packet, target, false);
	if (action != UNHANDLED)
		return action;
	if (!(target & NETWORK_POD))
		return TO_STACK;
	forget_finished(packet);
	return forward_untranslated(skb, packet);
}

SEC("classifier")
int uplink(struct __sk_buff *skb)
{
	struct packet packet = {};

	return tell(skb, &packet, judge_arrival(skb, &packet));
}

/* Link-local, multicast, broadcast and unspecified addresses have no outside. */
INLINE bool is_routable(const __u32 *ip)
{
	__u32 host = ntohl(ip[3]), first = ntohl(ip[0]);

	if (ip[2] == MAPPED_PREFIX && !ip[0] && !ip[1])
		return (host >> 16) != 0xa9fe && (host >> 28) < 0xe;
	return (first >> 22) != 0x3fa /* fe80::/10 */ && (first >> 24) != 0xff && !is_zero(ip);
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
	if (packet->content != CONTENT_FLOW || !node || is_zero(address_of(node, packet)) ||
	    (is_icmp(packet->key.protocol) && packet->key.target_port)) {
		count(COUNT_DROP_UNTRANSLATABLE);
		return DROP;
	}
	copy_ip(to.source, address_of(node, packet));
	copy_ip(to.target, packet->key.target);
	to.target_port = packet->key.target_port;
	if (enter_flow(&packet->key, &to, false))
		return DROP;
	count(COUNT_PACKET_MASQUERADED);
	return translate(skb, packet, &to);
}

INLINE int judge_departure(struct __sk_buff *skb, struct packet *packet)
{
	__u32 target;
	int action;

	if (!read_network(skb, packet))
		return TO_STACK;
	if (is_among_pods((const void *)&packet->key))
		return pass_among_pods(skb, packet);
	read_transport(skb, packet);
	action = follow(skb, packet);
	if (action != UNHANDLED)
		return action;
	target = network_of(packet->key.target);
	if (packet->content == CONTENT_FLOW) {
		action = serve(skb, packet, NETWORK_POD, true);
		if (action != UNHANDLED)
			return action;
	}
	action = reject_unserved(skb, packet, target, true);
	if (action != UNHANDLED)
		return action;
	if ((target & NETWORK_THIS_NODE) || !is_routable(packet->key.target))
		return TO_STACK;
	if (!in_cluster(target))
		return masquerade(skb, packet);
	forget_finished(packet);
	return forward_untranslated(skb, packet);
}

SEC("classifier")
int pod(struct __sk_buff *skb)
{
	struct packet packet = {};

	return tell(skb, &packet, judge_departure(skb, &packet));
}

/* The backend is the node: its replies come from the stack, routed, and only lack the frontend's address. So
 * do the stack's own errors about packets that were translated and did not fit. */
SEC("classifier")
int out(struct __sk_buff *skb)
{
	struct packet packet = { .routed = 1 };

	if (skb->ingress_ifindex || !read_network(skb, &packet))
		return TO_STACK;
	if (!is_icmp(packet.key.protocol) && !have_flows(FLOWS_TO_THIS_NODE))
		return TO_STACK;
	read_transport(skb, &packet);
	if (packet.content == CONTENT_FLOW) {
		struct flow *flow = bpf_map_lookup_elem(&flows, &packet.key);

		/* What the node opens itself is nobody's reply. */
		if (!flow || !(flow->flags & FLOW_REPLY))
			return TO_STACK;
	}
	follow(skb, &packet);
	return TO_STACK;
}

static long settle_flow(void *map, const struct flow_key *key, struct flow *flow, void *context)
{
	(void)map;
	(void)context;
	settle_bytes(key, flow);
	return 0;
}

/* Run by the agent now and then, on no packet: a flow that fell silent would keep what it counted to itself. */
SEC("classifier")
int settle(struct __sk_buff *skb)
{
	(void)skb;
	bpf_for_each_map_elem(&flows, settle_flow, NULL, 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
