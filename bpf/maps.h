/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Every map. All are pinned by name. */
#ifndef DAYMARK_MAPS_H
#define DAYMARK_MAPS_H

#include "helpers.h"

#define MAP(map, map_type, key_type, value_type, entries, map_flags_value) \
	struct {                                                           \
		__uint(type, map_type);                                    \
		__uint(max_entries, entries);                              \
		__uint(map_flags, map_flags_value);                        \
		__uint(pinning, PIN_BY_NAME);                              \
		__type(key, key_type);                                     \
		__type(value, value_type);                                 \
	} map SEC(".maps")

/* Control: written by the agent. Entries are allocated as they come, since most clusters are small. */
MAP(frontends, BPF_MAP_TYPE_HASH, struct frontend_key, struct frontend, 262144, BPF_F_NO_PREALLOC);
MAP(services, BPF_MAP_TYPE_HASH, __u32, struct service, 131072, BPF_F_NO_PREALLOC);
MAP(slots, BPF_MAP_TYPE_HASH, struct slot_key, struct slot, 1048576, BPF_F_NO_PREALLOC);
MAP(maglev, BPF_MAP_TYPE_HASH, struct maglev_key, struct maglev_chunk, 262144, BPF_F_NO_PREALLOC);
/* Addresses that only Services use, with their KIND: a port that no frontend serves is refused. */
MAP(service_ips, BPF_MAP_TYPE_HASH, struct address, __u32, 131072, BPF_F_NO_PREALLOC);
MAP(networks, BPF_MAP_TYPE_LPM_TRIE, struct network_key, __u32, 16384, BPF_F_NO_PREALLOC);
MAP(source_ranges, BPF_MAP_TYPE_LPM_TRIE, struct source_range_key, __u32, 65536, BPF_F_NO_PREALLOC);
MAP(settings, BPF_MAP_TYPE_ARRAY, __u32, struct settings, 1, 0);
/* Interfaces (by index) whose peer is a pod. */
MAP(pod_links, BPF_MAP_TYPE_HASH, __u32, __u32, 4096, BPF_F_NO_PREALLOC);

/* State: written by the programs, the oldest idle entry makes room. */
MAP(flows, BPF_MAP_TYPE_LRU_HASH, struct flow_key, struct flow, 65536, 0);
MAP(udp_flows, BPF_MAP_TYPE_LRU_HASH, struct udp_key, struct choice, 16384, 0);
MAP(udp_replies, BPF_MAP_TYPE_LRU_HASH, struct udp_key, struct choice, 16384, 0);
MAP(affinity, BPF_MAP_TYPE_LRU_HASH, struct affinity_key, struct choice, 16384, 0);
/* What connected sockets dialled; socket storage has those whose cell is taken. */
MAP(cells, BPF_MAP_TYPE_ARRAY, __u32, struct cell, CELLS, 0);

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, PIN_BY_NAME);
	__type(key, int);
	__type(value, struct dialled);
} dialled_by_socket SEC(".maps");

/* Connected UDP sockets by cookie: the agent ends those whose backend is gone. */
MAP(udp_connected, BPF_MAP_TYPE_LRU_HASH, __u64, struct dialled, 16384, 0);
MAP(fragments, BPF_MAP_TYPE_LRU_HASH, struct fragment_key, struct fragment_ports, 1024, 0);
MAP(counters, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, __u64, COUNTERS, 0);

/* How many ports were given to translated connections so far. */
MAP(ports_given, BPF_MAP_TYPE_ARRAY, __u32, __u32, 1, 0);

/* Which kinds of flows there may be (FLOWS_…): packets that could only belong to others are not looked up. */
MAP(flow_kinds, BPF_MAP_TYPE_ARRAY, __u32, __u32, 1, 0);

/* Statistics: made by the programs, removed by the agent with the Service or the backend. */
MAP(service_stats, BPF_MAP_TYPE_PERCPU_HASH, __u32, struct service_stats, 131072, BPF_F_NO_PREALLOC);
MAP(backend_stats, BPF_MAP_TYPE_PERCPU_HASH, struct backend_key, struct service_stats, 131072, BPF_F_NO_PREALLOC);

INLINE void count(__u32 counter)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &counter);

	if (value)
		*value += 1;
}

#endif
