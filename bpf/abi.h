/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What the BPF programs and the agent share: the layout of every map key and value, and the constants
 * that both sides act on. build.rs generates the Rust types from this file, so it keeps to a small
 * subset of C: numeric #defines, and structs of fixed-width integers and arrays of them, without
 * implicit padding, each followed by an assertion of its size.
 *
 * Addresses are 16 bytes in network byte order, IPv4 as ::ffff:a.b.c.d. Ports are in network byte
 * order. Times are nanoseconds of CLOCK_MONOTONIC.
 */
#ifndef DAYMARK_ABI_H
#define DAYMARK_ABI_H

/*
 * Names the directory of pinned maps: raise it with every change of a layout below. Keys keep their size
 * for ever, and values only grow at their end: then an agent carries the entries of an earlier version
 * over, new fields being zero.
 */
#define ABI_VERSION 5

#define KIND_CLUSTER_IP 1
#define KIND_NODE_PORT 2
#define KIND_LOAD_BALANCER_IP 3
#define KIND_EXTERNAL_IP 4
#define KIND_HOST_PORT 5

#define FRONTEND_LOCAL_ONLY 1
#define FRONTEND_SOURCE_CHECKED 2

struct frontend_key {
	__u32 ip[4];
	__u16 port;
	__u8 protocol;
	__u8 pad;
};
_Static_assert(sizeof(struct frontend_key) == 20, "frontend_key");

struct frontend {
	__u32 service;
	__u8 kind;
	__u8 flags;
	__u16 pad;
};
_Static_assert(sizeof(struct frontend) == 8, "frontend");

/* No backend here for policy Local, but other nodes have some: drop instead of refusing. */
#define SERVICE_ELSEWHERE 1
/* Has a Maglev table whenever it has slots. */
#define SERVICE_MAGLEV 2
/* Its first slots are near: in its own entry, and not in `slots`. */
#define SERVICE_NEAR 4
/* So are they, and more of them, since they are all of IPv4. */
#define SERVICE_NEAR_IPV4 8

/* So many slots of a Service are in its own entry, and few Services have more. With its key and the kernel's own
 * fields the entry then takes 248 bytes, of a piece of 256. */
#define NEAR_SLOTS 7
#define NEAR_IPV4_SLOTS 14

struct service {
	/* The kernel's own generation; its lowest bit is the parity of the live slots. */
	__u32 generation;
	/* The planner's generation, kept only to be read back. */
	__u32 plan_generation;
	__u32 slots;
	/* Policy Local chooses in 0..local_slots, everyone else in cluster_from..slots. */
	__u32 local_slots;
	__u32 cluster_from;
	__u32 affinity_seconds;
	__u32 flags;
	/* Slots that are stored: those beyond `slots` get no new clients, but keep their UDP flows. */
	__u32 members;
	/* Entries of the Maglev table; 0: clients from outside choose at random like all others. */
	__u32 maglev_size;
	/* Its own, if slots are near. */
	__u32 id;
	/* The first slots: their addresses, and their ports beside their flags. If all are of IPv4 both are among the
	 * addresses, in turn. */
	__u32 near_ips[28];
	__u32 near_ports[7];
};
_Static_assert(sizeof(struct service) == 180, "service");

struct slot_key {
	__u32 service;
	__u32 parity;
	__u32 index;
};
_Static_assert(sizeof(struct slot_key) == 12, "slot_key");

#define SLOT_LOCAL 1

struct slot {
	__u32 ip[4];
	__u16 port;
	__u16 flags;
	__u32 service;
	__u32 generation;
};
_Static_assert(sizeof(struct slot) == 28, "slot");

/* A piece of a Service's Maglev table: two entries a word, each the index of a slot beyond cluster_from. */
#define MAGLEV_CHUNK 64

struct maglev_key {
	__u32 service;
	__u32 parity;
	__u32 chunk;
};
_Static_assert(sizeof(struct maglev_key) == 12, "maglev_key");

struct maglev_chunk {
	__u32 pairs[32];
};
_Static_assert(sizeof(struct maglev_chunk) == 128, "maglev_chunk");

struct address {
	__u32 ip[4];
};
_Static_assert(sizeof(struct address) == 16, "address");

/* The most specific network that holds an address says everything about it. */
#define NETWORK_POD 1
#define NETWORK_CLUSTER 2
#define NETWORK_SERVICE 4
#define NETWORK_THIS_NODE 8

struct network_key {
	__u32 prefix_bits;
	__u32 ip[4];
};
_Static_assert(sizeof(struct network_key) == 20, "network_key");

struct source_range_key {
	__u32 prefix_bits;
	__u32 service;
	__u32 ip[4];
};
_Static_assert(sizeof(struct source_range_key) == 24, "source_range_key");

struct settings {
	/* What connections that must come back here are called from, like node_ipv6; 0 for a family that the node
	 * lacks. */
	__u32 node_ipv4[4];
	/* Host byte order, both inclusive. */
	__u16 first_port;
	__u16 last_port;
	/* Index of the interface that other machines are reached by; 0 until it is known. */
	__u32 uplink;
	/* Loopback frontends belong to sockets of the node's own network namespace alone. */
	__u64 netns_cookie;
	__u32 node_ipv6[4];
	/* Networks where every address is a pod's and nothing else: four times address and mask. */
	__u32 pod_networks[32];
	__u32 pod_networks_count;
	__u32 pad_at_end;
};
_Static_assert(sizeof(struct settings) == 184, "settings");

/* A packet's addresses as it arrives. ICMP echo: the identifier is source_port in a request and
 * target_port in a reply. */
struct flow_key {
	__u32 source[4];
	__u32 target[4];
	__u16 source_port;
	__u16 target_port;
	__u8 protocol;
	__u8 pad[3];
};
_Static_assert(sizeof(struct flow_key) == 40, "flow_key");

/* The entry that translates replies. */
#define FLOW_REPLY 1
/* The replying side has been heard. */
#define FLOW_ANSWERED 2
#define FLOW_CLIENT_FIN 4
#define FLOW_BACKEND_FIN 8
#define FLOW_RESET 16

/* One direction of a translated connection: what its packets become. The other direction is the
 * reverse of both tuples, so either entry is enough to restore the other. */
struct flow {
	__u32 source[4];
	__u32 target[4];
	__u16 source_port;
	__u16 target_port;
	__u32 flags;
	/* 0: masquerade only. */
	__u32 service;
	__u32 generation;
	__u64 last_seen;
	/* Not yet added to the Service's statistics. */
	__u64 bytes;
};
_Static_assert(sizeof(struct flow) == 64, "flow");

/* Flows whose replies go from a pod to a pod, and from this node. Once there was one, there may be more. */
#define FLOWS_AMONG_PODS 1
#define FLOWS_TO_THIS_NODE 2

/* A client socket's UDP conversation. As key of udp_flows the address is what the client dials, as
 * key of udp_replies it is the backend. */
struct udp_key {
	__u64 socket;
	__u32 ip[4];
	__u16 port;
	__u16 pad[3];
};
_Static_assert(sizeof(struct udp_key) == 32, "udp_key");

struct affinity_key {
	__u32 service;
	/* The client's address; for a socket ffff:: and its network namespace's cookie. */
	__u32 client[4];
};
_Static_assert(sizeof(struct affinity_key) == 20, "affinity_key");

/* A choice that lasts: of a UDP socket, or of a client under affinity. In udp_replies ip and port are
 * what the client dialled. */
struct choice {
	__u32 ip[4];
	__u16 port;
	__u16 flags;
	__u32 service;
	__u32 generation;
	__u32 pad;
	__u64 last_seen;
};
_Static_assert(sizeof(struct choice) == 40, "choice");

/* What a connected socket dialled, and what it got. */
struct dialled {
	__u32 frontend[4];
	__u32 backend[4];
	__u16 frontend_port;
	__u16 backend_port;
	__u32 service;
};
_Static_assert(sizeof(struct dialled) == 40, "dialled");

/* Where a connected socket's addresses are kept: at its cookie modulo the number of cells. The cookie is 0
 * in a free cell. Making one costs a tenth of making socket storage, which is for when it is taken. */
#define CELLS 16384

struct cell {
	__u64 cookie;
	/* As in dialled. */
	__u32 frontend[4];
	__u32 backend[4];
	__u16 frontend_port;
	__u16 backend_port;
	__u32 service;
};
_Static_assert(sizeof(struct cell) == 48, "cell");

struct fragment_key {
	__u32 source[4];
	__u32 target[4];
	__u32 id;
	__u32 protocol;
};
_Static_assert(sizeof(struct fragment_key) == 40, "fragment_key");

/* What the first fragment says about the later ones. */
struct fragment_ports {
	__u16 source_port;
	__u16 target_port;
	__u8 protocol;
	__u8 pad[3];
};
_Static_assert(sizeof(struct fragment_ports) == 8, "fragment_ports");

struct backend_key {
	__u32 ip[4];
	__u32 service;
	__u16 port;
	__u16 pad;
};
_Static_assert(sizeof(struct backend_key) == 24, "backend_key");

/* Of a backend; what its Service had of backends that are gone, and all refusals, are under the Service. Bytes are
 * those of whole packets where packets are translated, and those that a TCP connection carried, once it is closed, where
 * sockets are. */
struct service_stats {
	__u64 connections;
	__u64 refusals;
	/* From clients, and to them. */
	__u64 bytes_in;
	__u64 bytes_out;
};
_Static_assert(sizeof(struct service_stats) == 32, "service_stats");

/* Where this kernel keeps a socket's cookie, and what it counts for one of TCP: offsets in its struct tcp_sock. All are 0
 * where they are not known, or where nothing may be read. */
struct socket_fields {
	__u32 cookie;
	__u32 bytes_received;
	__u32 bytes_acked;
	__u32 write_seq;
	__u32 snd_una;
};
_Static_assert(sizeof(struct socket_fields) == 20, "socket_fields");

#define TIMEOUT_TCP_SECONDS 86400
#define TIMEOUT_TCP_OPENING_SECONDS 60
#define TIMEOUT_TCP_HALF_CLOSED_SECONDS 3600
#define TIMEOUT_TCP_CLOSING_SECONDS 10
#define TIMEOUT_UDP_SECONDS 120
#define TIMEOUT_UDP_OPENING_SECONDS 30
#define TIMEOUT_ECHO_SECONDS 30

#define COUNT_SOCKET_TRANSLATED 0
#define COUNT_SOCKET_REFUSED 1
#define COUNT_PACKET_NEW 2
#define COUNT_PACKET_MASQUERADED 3
#define COUNT_PACKET_REFUSED 4
#define COUNT_DROP_ISOLATION 5
#define COUNT_DROP_POLICY 6
#define COUNT_DROP_SOURCE_RANGE 7
#define COUNT_DROP_NO_PORT 8
#define COUNT_DROP_UNTRANSLATABLE 9
#define COUNT_DROP_FLOW_FULL 10
#define COUNT_FLOW_RESTORED 11
#define COUNT_ICMP_TRANSLATED 12
/* Entries of flows; those that were made and neither deleted nor are there were evicted. */
#define COUNT_FLOW_MADE 13
#define COUNT_FLOW_DELETED 14
/* By the agent, which alone writes this one. */
#define COUNT_FLOW_SWEPT 15
/* What was not counted for a Service or backend, because the table of statistics is full. */
#define COUNT_UNCOUNTED 16
#define COUNTERS 17

#endif
