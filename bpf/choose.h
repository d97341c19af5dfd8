/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Choosing a backend: at random, or the one that a client had before. Shared by sockets and packets. */
#ifndef DAYMARK_CHOOSE_H
#define DAYMARK_CHOOSE_H

#include "maps.h"

enum verdict {
	VERDICT_CHOSEN,
	/* No backend anywhere. */
	VERDICT_REFUSE,
	/* Policy Local, and only other nodes have backends. */
	VERDICT_DROP,
};

struct backend {
	__u32 ip[4];
	__u16 port;
	__u16 flags;
	__u32 service;
	__u32 generation;
};

struct range {
	__u32 first;
	__u32 count;
};

INLINE struct range offered(const struct service *service, bool local)
{
	struct range range = { 0, service->local_slots };

	if (!local) {
		range.first = service->cluster_from;
		range.count = service->slots - service->cluster_from;
	}
	return range;
}

/*
 * One of the slots, uniformly. A slot can vanish between the two lookups, when the Service changes
 * twice meanwhile and shrinks: then the entry is read again. A slot that was overwritten meanwhile is
 * newer than the entry, never older, and as good.
 */
SUBPROGRAM int choose_at_random(__u32 id, int local, struct backend *backend)
{
	if (!backend)
		return VERDICT_DROP;

	struct slot_key key = { .service = id };

	for (int attempt = 0; attempt < 4; attempt++) {
		struct service *service = bpf_map_lookup_elem(&services, &id);
		struct slot *slot;
		struct range range;

		if (!service)
			return VERDICT_REFUSE;
		range = offered(service, local);
		if (range.count == 0)
			return local && (service->flags & SERVICE_ELSEWHERE) ? VERDICT_DROP : VERDICT_REFUSE;
		key.parity = service->generation & 1;
		key.index = range.first + (((__u64)bpf_get_prandom_u32() * range.count) >> 32);
		slot = bpf_map_lookup_elem(&slots, &key);
		if (slot) {
			copy_ip(backend->ip, slot->ip);
			backend->port = slot->port;
			backend->flags = slot->flags;
			backend->service = id;
			backend->generation = slot->generation;
			return VERDICT_CHOSEN;
		}
	}
	return VERDICT_DROP;
}

struct membership {
	struct slot_key key;
	__u32 first;
	const struct choice *choice;
	bool found;
};

static long compare_slot(__u32 index, struct membership *search)
{
	struct slot *slot;

	search->key.index = search->first + index;
	slot = bpf_map_lookup_elem(&slots, &search->key);
	if (slot && slot->port == search->choice->port && same_ip(slot->ip, search->choice->ip)) {
		search->found = true;
		return 1;
	}
	return 0;
}

/* Whether the Service still offers an earlier choice. Slots are searched only when they changed since
 * it was last confirmed. */
SUBPROGRAM int still_offered(__u32 id, int local, struct choice *choice)
{
	if (!choice)
		return false;

	struct membership search = { .choice = choice };
	struct service *service;
	struct range range;

	service = bpf_map_lookup_elem(&services, &id);
	if (!service || choice->service != id)
		return false;
	if (local && !(choice->flags & SLOT_LOCAL))
		return false;
	if (choice->generation == service->generation)
		return true;
	search.key.service = id;
	search.key.parity = service->generation & 1;
	range = offered(service, local);
	search.first = range.first;
	bpf_loop(range.count, compare_slot, &search, 0);
	if (search.found)
		choice->generation = service->generation;
	return search.found;
}

INLINE void take_choice(struct backend *backend, const struct choice *choice)
{
	copy_ip(backend->ip, choice->ip);
	backend->port = choice->port;
	backend->flags = choice->flags;
	backend->service = choice->service;
	backend->generation = choice->generation;
}

INLINE void make_choice(struct choice *choice, const struct backend *backend, __u64 now)
{
	copy_ip(choice->ip, backend->ip);
	choice->port = backend->port;
	choice->flags = backend->flags;
	choice->service = backend->service;
	choice->generation = backend->generation;
	choice->pad = 0;
	choice->last_seen = now;
}

/* The client's earlier backend while affinity lasts, else one at random, remembered if affinity is on. */
SUBPROGRAM int choose(__u32 id, int local, const struct address *client, struct backend *backend)
{
	if (!client || !backend)
		return VERDICT_DROP;

	struct affinity_key key = { .service = id };
	struct service *service;
	struct choice *earlier, fresh = {};
	__u64 now;
	int verdict;

	service = bpf_map_lookup_elem(&services, &id);
	if (!service)
		return VERDICT_REFUSE;
	if (!service->affinity_seconds)
		return choose_at_random(id, local, backend);

	copy_ip(key.client, client->ip);
	now = bpf_ktime_get_ns();
	earlier = bpf_map_lookup_elem(&affinity, &key);
	if (earlier && now - earlier->last_seen < service->affinity_seconds * SECOND) {
		/* On the stack: another processor may recycle the entry under us. */
		fresh = *earlier;
		if (still_offered(id, local, &fresh)) {
			fresh.last_seen = now;
			bpf_map_update_elem(&affinity, &key, &fresh, BPF_ANY);
			take_choice(backend, &fresh);
			return VERDICT_CHOSEN;
		}
	}
	verdict = choose_at_random(id, local, backend);
	if (verdict == VERDICT_CHOSEN) {
		make_choice(&fresh, backend, now);
		bpf_map_update_elem(&affinity, &key, &fresh, BPF_ANY);
	}
	return verdict;
}

#endif
