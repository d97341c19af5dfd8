/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* What is counted for each Service and each backend. A full table counts no newcomers. */
#ifndef DAYMARK_STATS_H
#define DAYMARK_STATS_H

#include "maps.h"

#define E2BIG 7

INLINE struct service_stats *stats_of_service(__u32 id)
{
	struct service_stats *stats = bpf_map_lookup_elem(&service_stats, &id), none = {};

	if (stats)
		return stats;
	if (bpf_map_update_elem(&service_stats, &id, &none, BPF_NOEXIST) == -E2BIG) {
		count(COUNT_UNCOUNTED);
		return NULL;
	}
	return bpf_map_lookup_elem(&service_stats, &id);
}

INLINE struct service_stats *stats_of_backend(const struct backend_key *key)
{
	struct service_stats *stats = bpf_map_lookup_elem(&backend_stats, key), none = {};

	if (stats)
		return stats;
	if (bpf_map_update_elem(&backend_stats, key, &none, BPF_NOEXIST) == -E2BIG) {
		count(COUNT_UNCOUNTED);
		return NULL;
	}
	return bpf_map_lookup_elem(&backend_stats, key);
}

INLINE void backend_key_of(struct backend_key *key, __u32 service, const __u32 *ip, __u16 port)
{
	copy_ip(key->ip, ip);
	key->service = service;
	key->port = port;
	key->pad = 0;
}

SUBPROGRAM int count_connection(__u32 service, const struct address *backend, __u16 port)
{
	if (!backend)
		return 0;

	struct service_stats *stats;
	struct backend_key key;

	backend_key_of(&key, service, backend->ip, port);
	stats = stats_of_backend(&key);
	if (stats)
		stats->connections += 1;
	return 0;
}

INLINE void count_refusal(__u32 service)
{
	struct service_stats *stats = stats_of_service(service);

	if (stats)
		stats->refusals += 1;
}

INLINE void count_bytes(__u32 service, const __u32 *ip, __u16 port, __u64 in, __u64 out)
{
	struct service_stats *stats;
	struct backend_key key;

	backend_key_of(&key, service, ip, port);
	stats = stats_of_backend(&key);
	if (!stats)
		return;
	stats->bytes_in += in;
	stats->bytes_out += out;
}

#endif
