// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * Pod to Service, translated once at the socket: packets then carry the backend's address and need no
 * translation. Attached to the cgroup of the node's pods.
 *
 * IPv6 sockets that dial IPv4 present ::ffff:a.b.c.d, which is how the tables spell IPv4 anyway.
 */
#include "choose.h"
#include "dialled.h"
#include "pods.h"

#define ECONNREFUSED 111
#define ALLOW 1
#define REJECT 0

enum outcome { PASS, TRANSLATE, REFUSE };

INLINE bool is_loopback(const __u32 *ip)
{
	return ip[2] == MAPPED_PREFIX ? (ntohl(ip[3]) >> 24) == 127 : ip[3] == htonl(1) && !ip[2] && !ip[1] && !ip[0];
}

INLINE void udp_key_of(struct udp_key *key, __u64 socket, const __u32 *ip, __u16 port)
{
	key->socket = socket;
	copy_ip(key->ip, ip);
	key->port = port;
	key->pad[0] = key->pad[1] = key->pad[2] = 0;
}

/* For Services with affinity, and those that change under our eyes. */
SUBPROGRAM int choose_slowly(struct bpf_sock_addr *ctx, __u32 id, int local, struct backend *backend)
{
	if (!backend)
		return VERDICT_DROP;

	__u64 cookie = bpf_get_netns_cookie(ctx);
	struct client client = { .ip = { htonl(0xffff0000), 0, cookie, cookie >> 32 } };

	return choose(id, local, &client, backend);
}

/* Straight on where nothing is to be remembered: each call and each lookup counts here. */
INLINE int pick_fresh(struct bpf_sock_addr *ctx, __u32 id, bool local, struct backend *backend)
{
	struct service *service = bpf_map_lookup_elem(&services, &id);
	int verdict = VERDICT_VANISHED;

	if (!service)
		return VERDICT_REFUSE;
	if (!service->affinity_seconds)
		verdict = choose_slot(service, id, local, 0, backend);
	if (verdict == VERDICT_VANISHED)
		verdict = choose_slowly(ctx, id, local, backend);
	return verdict;
}

INLINE int counted(int verdict, __u32 id, const struct backend *backend)
{
	if (verdict == VERDICT_CHOSEN)
		count_connection(id, (const void *)backend->ip, backend->port);
	else if (verdict == VERDICT_REFUSE)
		count_refusal(id);
	return verdict;
}

enum conversation { NEW_CONVERSATION, RUNNING_CONVERSATION, STALE_CONVERSATION };

/* The backend that the socket has for the address it dials, until it pauses for long or the backend stops
 * serving. */
SUBPROGRAM int continue_conversation(struct bpf_sock_addr *ctx, const struct frontend_key *dial, __u32 id,
				     struct backend *backend)
{
	if (!dial || !backend)
		return NEW_CONVERSATION;

	__u64 now = bpf_ktime_get_ns();
	struct udp_key key;
	struct choice *earlier, current;

	udp_key_of(&key, bpf_get_socket_cookie(ctx), dial->ip, dial->port);
	earlier = bpf_map_lookup_elem(&udp_flows, &key);
	if (!earlier || now - earlier->last_seen >= TIMEOUT_UDP_SECONDS * SECOND)
		return NEW_CONVERSATION;
	current = *earlier;
	if (!still_offered(id, OFFER_FLOW, &current))
		return NEW_CONVERSATION;
	take_choice(backend, &current);
	return now - current.last_seen < SECOND ? RUNNING_CONVERSATION : STALE_CONVERSATION;
}

SUBPROGRAM int remember_conversation(struct bpf_sock_addr *ctx, const struct frontend_key *dial,
				     const struct backend *backend)
{
	if (!dial || !backend)
		return 0;

	__u64 socket = bpf_get_socket_cookie(ctx), now = bpf_ktime_get_ns();
	struct choice choice = {};
	struct udp_key key;

	udp_key_of(&key, socket, dial->ip, dial->port);
	make_choice(&choice, backend, now);
	bpf_map_update_elem(&udp_flows, &key, &choice, BPF_ANY);
	udp_key_of(&key, socket, backend->ip, backend->port);
	copy_ip(choice.ip, dial->ip);
	choice.port = dial->port;
	bpf_map_update_elem(&udp_replies, &key, &choice, BPF_ANY);
	return 0;
}

/* Whether the socket talks to that backend already, by another address that it dialled. */
SUBPROGRAM int is_ambiguous(struct bpf_sock_addr *ctx, const struct frontend_key *dial, const struct backend *backend)
{
	if (!dial || !backend)
		return false;

	struct choice *reply;
	struct udp_key key;

	udp_key_of(&key, bpf_get_socket_cookie(ctx), backend->ip, backend->port);
	reply = bpf_map_lookup_elem(&udp_replies, &key);
	return reply && !(reply->port == dial->port && same_ip(reply->ip, dial->ip)) &&
	       bpf_ktime_get_ns() - reply->last_seen < TIMEOUT_UDP_SECONDS * SECOND;
}

/*
 * Both entries of a conversation are renewed at most once a second, so that a busy socket writes little.
 * Replies of one backend to one socket cannot be told apart, so a socket that dials several addresses gets
 * another backend for each, if chance allows.
 */
SUBPROGRAM int choose_for_udp(struct bpf_sock_addr *ctx, const struct frontend_key *dial, __u32 id, int local,
			      struct backend *backend)
{
	if (!dial || !backend)
		return VERDICT_DROP;

	int conversation = continue_conversation(ctx, dial, id, backend);
	int verdict = VERDICT_CHOSEN;

	if (conversation == NEW_CONVERSATION) {
		verdict = pick_fresh(ctx, id, local, backend);
		for (int i = 0; i < 4 && verdict == VERDICT_CHOSEN && is_ambiguous(ctx, dial, backend); i++)
			verdict = choose_slowly(ctx, id, local, backend);
		counted(verdict, id, backend);
	}
	if (verdict == VERDICT_CHOSEN && conversation != RUNNING_CONVERSATION)
		remember_conversation(ctx, dial, backend);
	return verdict;
}

/* A pod's own loopback is not the node's. */
INLINE bool is_of_node(struct bpf_sock_addr *ctx)
{
	__u32 zero = 0;
	struct settings *node = bpf_map_lookup_elem(&settings, &zero);

	return node && node->netns_cookie == bpf_get_netns_cookie(ctx);
}

/* Whether it is a cluster IP. Most addresses are pods', and those are told by a comparison. */
INLINE bool is_unserved(const __u32 *ip)
{
	__u32 zero = 0, *kind;
	struct settings *node = bpf_map_lookup_elem(&settings, &zero);

	if (node && is_pod(node, ip))
		return false;
	kind = bpf_map_lookup_elem(&service_ips, ip);
	return kind && *kind == KIND_CLUSTER_IP;
}

INLINE int resolve(struct bpf_sock_addr *ctx, const struct frontend_key *dial, struct backend *backend)
{
	struct frontend *frontend = bpf_map_lookup_elem(&frontends, dial);
	int verdict, local;

	if (!frontend)
		return is_unserved(dial->ip) ? REFUSE : PASS;
	if ((frontend->kind == KIND_NODE_PORT || frontend->kind == KIND_HOST_PORT) && is_loopback(dial->ip) &&
	    !is_of_node(ctx))
		return PASS;
	/* The socket's address is not known before it connects: its packets are judged instead. */
	if (frontend->flags & FRONTEND_SOURCE_CHECKED)
		return PASS;

	/* Clients in the cluster reach external frontends as under policy Cluster. */
	local = frontend->kind == KIND_CLUSTER_IP && (frontend->flags & FRONTEND_LOCAL_ONLY);
	if (dial->protocol == PROTOCOL_UDP)
		verdict = choose_for_udp(ctx, dial, frontend->service, local, backend);
	else
		verdict = counted(pick_fresh(ctx, frontend->service, local, backend), frontend->service, backend);
	if (verdict == VERDICT_CHOSEN)
		return TRANSLATE;
	/* To be dropped: the packet goes out untranslated and the pod's interface drops it, which is
	 * what a client of a dropped connection expects to see. */
	return verdict == VERDICT_REFUSE ? REFUSE : PASS;
}

INLINE int refuse(void)
{
	count(COUNT_SOCKET_REFUSED);
	bpf_set_retval(-ECONNREFUSED);
	return REJECT;
}

INLINE void remember_dialled(struct bpf_sock_addr *ctx, const struct frontend_key *dial,
			     const struct backend *backend)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	struct dialled *dialled = claim_dialled(ctx, cookie);

	if (!dialled)
		return;
	fill_dialled(dialled, dial, backend);
	if (dial->protocol == PROTOCOL_UDP)
		bpf_map_update_elem(&udp_connected, &cookie, dialled, BPF_ANY);
}

INLINE bool read_dial(struct bpf_sock_addr *ctx, bool ipv6, struct frontend_key *dial)
{
	if (ctx->protocol != PROTOCOL_TCP && ctx->protocol != PROTOCOL_UDP)
		return false;
	if (ipv6) {
		dial->ip[0] = ctx->user_ip6[0];
		dial->ip[1] = ctx->user_ip6[1];
		dial->ip[2] = ctx->user_ip6[2];
		dial->ip[3] = ctx->user_ip6[3];
	} else {
		set_ipv4(dial->ip, ctx->user_ip4);
	}
	dial->port = ctx->user_port;
	dial->protocol = ctx->protocol;
	dial->pad = 0;
	return true;
}

INLINE void write_address(struct bpf_sock_addr *ctx, bool ipv6, const __u32 *ip, __u16 port)
{
	if (ipv6) {
		ctx->user_ip6[0] = ip[0];
		ctx->user_ip6[1] = ip[1];
		ctx->user_ip6[2] = ip[2];
		ctx->user_ip6[3] = ip[3];
	} else {
		ctx->user_ip4 = ip[3];
	}
	ctx->user_port = port;
}

INLINE int on_connect(struct bpf_sock_addr *ctx, bool ipv6)
{
	struct frontend_key dial = {};
	struct backend backend = {};

	if (!read_dial(ctx, ipv6, &dial))
		return ALLOW;
	switch (resolve(ctx, &dial, &backend)) {
	case TRANSLATE:
		count(COUNT_SOCKET_TRANSLATED);
		remember_dialled(ctx, &dial, &backend);
		write_address(ctx, ipv6, backend.ip, backend.port);
		return ALLOW;
	case REFUSE:
		/*
		 * Connecting a UDP socket sends nothing and never fails; programs do it to learn their own
		 * address. What a pod then sends is refused at its interface, which the node's own have not.
		 */
		if (dial.protocol == PROTOCOL_TCP || is_of_node(ctx))
			return refuse();
		forget_dialled(ctx);
		return ALLOW;
	default:
		if (dial.protocol == PROTOCOL_UDP)
			forget_dialled(ctx);
		return ALLOW;
	}
}

INLINE int on_sendmsg(struct bpf_sock_addr *ctx, bool ipv6)
{
	struct frontend_key dial = {};
	struct backend backend = {};

	if (!read_dial(ctx, ipv6, &dial))
		return ALLOW;
	switch (resolve(ctx, &dial, &backend)) {
	case TRANSLATE:
		write_address(ctx, ipv6, backend.ip, backend.port);
		return ALLOW;
	case REFUSE:
		return refuse();
	default:
		return ALLOW;
	}
}

/* A connected socket's peer is what it dialled. */
INLINE void restore_dialled(struct bpf_sock_addr *ctx, bool ipv6, const struct frontend_key *peer)
{
	struct dialled *dialled = dialled_of(ctx);

	if (dialled && dialled->backend_port == peer->port && same_ip(dialled->backend, peer->ip))
		write_address(ctx, ipv6, dialled->frontend, dialled->frontend_port);
}

/* The sender that the client sees must be the address that it dialled. */
INLINE int on_recvmsg(struct bpf_sock_addr *ctx, bool ipv6)
{
	struct frontend_key from = {};
	struct udp_key key;
	struct choice *reply;

	if (!read_dial(ctx, ipv6, &from))
		return ALLOW;
	udp_key_of(&key, bpf_get_socket_cookie(ctx), from.ip, from.port);
	reply = bpf_map_lookup_elem(&udp_replies, &key);
	if (reply)
		write_address(ctx, ipv6, reply->ip, reply->port);
	else
		restore_dialled(ctx, ipv6, &from);
	return ALLOW;
}

INLINE int on_getpeername(struct bpf_sock_addr *ctx, bool ipv6)
{
	struct frontend_key peer = {};

	if (read_dial(ctx, ipv6, &peer))
		restore_dialled(ctx, ipv6, &peer);
	return ALLOW;
}

#define HOOK(section, name, handler, ipv6)      \
	SEC(section)                            \
	int name(struct bpf_sock_addr *ctx)     \
	{                                       \
		return handler(ctx, ipv6);      \
	}

HOOK("cgroup/connect4", connect4, on_connect, false)
HOOK("cgroup/connect6", connect6, on_connect, true)
HOOK("cgroup/sendmsg4", sendmsg4, on_sendmsg, false)
HOOK("cgroup/sendmsg6", sendmsg6, on_sendmsg, true)
HOOK("cgroup/recvmsg4", recvmsg4, on_recvmsg, false)
HOOK("cgroup/recvmsg6", recvmsg6, on_recvmsg, true)
HOOK("cgroup/getpeername4", getpeername4, on_getpeername, false)
HOOK("cgroup/getpeername6", getpeername6, on_getpeername, true)

SEC("cgroup/sock_release")
int release(struct bpf_sock *sk)
{
	release_dialled(sk);
	return ALLOW;
}

char LICENSE[] SEC("license") = "GPL";
