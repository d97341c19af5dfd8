/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Choosing a backend: at random, or the one that a client had before. Shared by sockets and packets. */
#ifndef DAYMARK_CHOOSE_H
#define DAYMARK_CHOOSE_H

#include "stats.h"

enum verdict {
	VERDICT_CHOSEN,
	/* No backend anywhere. */
	VERDICT_REFUSE,
	/* Policy Local, and only other nodes have backends. */
	VERDICT_DROP,
	/* The Service changed meanwhile: look again. */
	VERDICT_VANISHED,
};

/* Who asks. */
struct client {
	__u32 ip[4];
	/* Of its address and port, if it may turn to other nodes as well; else 0. */
	__u32 hash;
};

struct backend {
	__u32 ip[4];
	__u16 port;
	__u16 flags;
	__u32 service;
	__u32 generation;
};

/* The slot of that number, if it is near. */
INLINE bool take_near(const struct service *service, __u32 index, struct backend *backend)
{
	__u32 port_and_flags;

	if (service->flags & SERVICE_NEAR_IPV4) {
		if (index >= NEAR_IPV4_SLOTS)
			return false;
		set_ipv4(backend->ip, service->near_ips[2 * index]);
		port_and_flags = service->near_ips[2 * index + 1];
	} else {
		if (!(service->flags & SERVICE_NEAR) || index >= NEAR_SLOTS)
			return false;
		copy_ip(backend->ip, service->near_ips + 4 * index);
		port_and_flags = service->near_ports[index];
	}
	backend->port = port_and_flags;
	backend->flags = port_and_flags >> 16;
	return true;
}

struct range {
	__u32 first;
	__u32 count;
};

/* Whether the near slots that were just read are the Service's: the kernel may give the room of a replaced entry to
 * another one at once. It writes that from the beginning, where the id and the generation are. */
INLINE bool is_unchanged(const struct service *service, __u32 id, __u32 generation)
{
	asm volatile("" ::: "memory");
	return service->id == id && service->generation == generation;
}

INLINE struct range offered(const struct service *service, bool local)
{
	struct range range = { 0, service->local_slots };

	if (!local) {
		range.first = service->cluster_from;
		range.count = service->slots - service->cluster_from;
	}
	return range;
}

/* Which of the offered slots a client from outside gets: the same one on every node. */
INLINE bool look_up_maglev(const struct service *service, __u32 id, __u32 hash, __u32 *index)
{
	struct maglev_key key = { .service = id, .parity = service->generation & 1 };
	__u32 entry = ((__u64)hash * service->maglev_size) >> 32;
	struct maglev_chunk *chunk;

	key.chunk = entry / MAGLEV_CHUNK;
	chunk = bpf_map_lookup_elem(&maglev, &key);
	if (!chunk)
		return false;
	*index = ((__u16 *)chunk->pairs)[entry % MAGLEV_CHUNK];
	return true;
}

/*
 * One of the slots: uniformly, or by Maglev. A slot can vanish between the lookups, when the Service
 * changes twice meanwhile and shrinks: then the entry is read again. A slot that was overwritten meanwhile
 * is newer than the entry, never older, and as good.
 */
INLINE int choose_slot(const struct service *service, __u32 id, bool local, __u32 hash, struct backend *backend)
{
	__u32 generation = service->generation;
	struct slot_key key = { .service = id, .parity = generation & 1 };
	struct range range = offered(service, local);
	struct slot *slot;
	__u32 index;

	if (range.count == 0)
		return local && (service->flags & SERVICE_ELSEWHERE) ? VERDICT_DROP : VERDICT_REFUSE;
	if (local || !hash || !service->maglev_size || !look_up_maglev(service, id, hash, &index))
		index = ((__u64)bpf_get_prandom_u32() * range.count) >> 32;
	index += range.first;
	backend->service = id;
	if (take_near(service, index, backend)) {
		backend->generation = generation;
		return is_unchanged(service, id, generation) ? VERDICT_CHOSEN : VERDICT_VANISHED;
	}
	key.index = index;
	slot = bpf_map_lookup_elem(&slots, &key);
	if (!slot)
		return VERDICT_VANISHED;
	copy_ip(backend->ip, slot->ip);
	backend->port = slot->port;
	backend->flags = slot->flags;
	backend->generation = slot->generation;
	return VERDICT_CHOSEN;
}

struct membership {
	struct slot_key key;
	__u32 first;
	const struct choice *choice;
	/* Of the entry. */
	__u32 generation;
	/* How many slots are near. */
	__u32 near;
	bool found;
};

INLINE bool is_near(const struct membership *search, __u32 index)
{
	struct service *service = bpf_map_lookup_elem(&services, &search->key.service);
	const struct choice *choice = search->choice;
	struct backend backend = {};

	return service && take_near(service, index, &backend) && backend.port == choice->port &&
	       same_ip(backend.ip, choice->ip) && is_unchanged(service, search->key.service, search->generation);
}

static long compare_slot(__u32 index, struct membership *search)
{
	struct slot *slot;

	index += search->first;
	if (index < search->near) {
		search->found = is_near(search, index);
		return search->found;
	}
	search->key.index = index;
	slot = bpf_map_lookup_elem(&slots, &search->key);
	if (slot && slot->port == search->choice->port && same_ip(slot->ip, search->choice->ip)) {
		search->found = true;
		return 1;
	}
	return 0;
}

/* To whom a Service may still offer an earlier choice. */
enum offer {
	/* Clients that choose as under policy Cluster, and those that choose under policy Local. */
	OFFER_CLUSTER,
	OFFER_LOCAL,
	/* UDP flows, which stay until their backend stops serving. */
	OFFER_FLOW,
};

/* Whether the Service still offers an earlier choice. Slots are searched only when they changed since
 * it was last confirmed. */
SUBPROGRAM int still_offered(__u32 id, int offer, struct choice *choice)
{
	if (!choice)
		return false;

	struct membership search = { .choice = choice };
	struct service *service;
	struct range range;

	service = bpf_map_lookup_elem(&services, &id);
	if (!service || choice->service != id)
		return false;
	if (offer == OFFER_LOCAL && !(choice->flags & SLOT_LOCAL))
		return false;
	if (choice->generation == service->generation)
		return true;
	search.generation = service->generation;
	if (service->flags & SERVICE_NEAR_IPV4)
		search.near = NEAR_IPV4_SLOTS;
	else if (service->flags & SERVICE_NEAR)
		search.near = NEAR_SLOTS;
	search.key.service = id;
	search.key.parity = search.generation & 1;
	range = offered(service, offer == OFFER_LOCAL);
	if (offer == OFFER_FLOW) {
		range.first = 0;
		/* An entry of an earlier version does not tell. */
		range.count = service->members > service->slots ? service->members : service->slots;
	}
	search.first = range.first;
	bpf_loop(range.count, compare_slot, &search, 0);
	if (search.found)
		choice->generation = search.generation;
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

/* The client's earlier backend, while affinity lasts and it is still offered. */
SUBPROGRAM int choose_as_before(__u32 id, int local, const struct client *client, struct backend *backend)
{
	if (!client || !backend)
		return false;

	struct affinity_key key = { .service = id };
	struct service *service = bpf_map_lookup_elem(&services, &id);
	struct choice *earlier, current;
	__u64 now = bpf_ktime_get_ns();

	copy_ip(key.client, client->ip);
	earlier = bpf_map_lookup_elem(&affinity, &key);
	if (!service || !earlier || now - earlier->last_seen >= service->affinity_seconds * SECOND)
		return false;
	/* On the stack: another processor may recycle the entry under us. */
	current = *earlier;
	if (!still_offered(id, local ? OFFER_LOCAL : OFFER_CLUSTER, &current))
		return false;
	current.last_seen = now;
	bpf_map_update_elem(&affinity, &key, &current, BPF_ANY);
	take_choice(backend, &current);
	return true;
}

SUBPROGRAM int remember_choice(const struct client *client, const struct backend *backend)
{
	if (!client || !backend)
		return 0;

	struct affinity_key key = { .service = backend->service };
	struct choice fresh;

	copy_ip(key.client, client->ip);
	make_choice(&fresh, backend, bpf_ktime_get_ns());
	bpf_map_update_elem(&affinity, &key, &fresh, BPF_ANY);
	return 0;
}

/* For a new connection: the client's earlier backend under affinity, else by chance or by Maglev. */
SUBPROGRAM int choose(__u32 id, int local, const struct client *client, struct backend *backend)
{
	if (!client || !backend)
		return VERDICT_DROP;

	int verdict = VERDICT_VANISHED;

	for (int attempt = 0; attempt < 4 && verdict == VERDICT_VANISHED; attempt++) {
		struct service *service = bpf_map_lookup_elem(&services, &id);
		bool affine;

		if (!service)
			return VERDICT_REFUSE;
		affine = service->affinity_seconds;
		if (affine && choose_as_before(id, local, client, backend)) {
			verdict = VERDICT_CHOSEN;
			break;
		}
		verdict = choose_slot(service, id, local, client->hash, backend);
		if (affine && verdict == VERDICT_CHOSEN)
			remember_choice(client, backend);
	}
	return verdict;
}

#endif
