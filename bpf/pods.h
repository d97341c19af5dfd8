/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Telling pods by their addresses. */
#ifndef DAYMARK_PODS_H
#define DAYMARK_PODS_H

#include "maps.h"

INLINE bool within(const __u32 *ip, const __u32 *network, const __u32 *mask)
{
	return (ip[3] & mask[3]) == network[3] && (ip[2] & mask[2]) == network[2] && (ip[1] & mask[1]) == network[1] &&
	       (ip[0] & mask[0]) == network[0];
}

/* Whether an address is a pod's beyond doubt. */
INLINE bool is_pod(const struct settings *node, const __u32 *ip)
{
	for (__u32 i = 0; i < 4; i++) {
		const __u32 *network = node->pod_networks + 8 * i;

		if (i >= node->pod_networks_count)
			break;
		if (within(ip, network, network + 4))
			return true;
	}
	return false;
}

#endif
