/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The checksum of SCTP (RFC 9260 appendix A): CRC32c over the whole packet. No helper updates it, but it is
 * linear: a change of the first four bytes, where the ports are, changes it by what those bits come to after
 * as many shifts as bits follow, which takes a few multiplications of polynomials modulo the CRC's own.
 */
#ifndef DAYMARK_SCTP_H
#define DAYMARK_SCTP_H

#include "packet.h"

#define CRC32C_POLYNOMIAL 0x82f63b78
#define SCTP_INIT 1
#define SCTP_ABORT 6
#define SCTP_SHUTDOWN_COMPLETE 14

struct sctphdr {
	__u16 source;
	__u16 target;
	__u32 tag;
	/* In little-endian order. */
	__u32 checksum;
	__u8 first_chunk;
	__u8 pad[3];
};

/* x to the power of 8 << i, modulo the polynomial; the highest bit is x to the power of 0. */
static const __u32 powers[16] = {
	0x00800000, 0x00008000, 0x82f63b78, 0x6ea2d55c,
	0x18b8ea18, 0x510ac59a, 0xb82be955, 0xb8fdb1e7,
	0x88e56f72, 0x74c360a4, 0xe4172b16, 0x0d65762a,
	0x35d73a62, 0x28461564, 0xbf455269, 0xe2ea32dc,
};

/* The product of two polynomials modulo that of the CRC. */
SUBPROGRAM __u32 multiply(__u32 a, __u32 b)
{
	__u32 product = 0;

	for (int i = 0; i < 32; i++) {
		product ^= b & -(a >> 31);
		a <<= 1;
		b = b >> 1 ^ (CRC32C_POLYNOMIAL & -(b & 1));
	}
	return product;
}

/* How the checksum of `length` bytes changes with their first four. */
SUBPROGRAM __u32 crc_change(__u32 change, __u32 length)
{
	__u32 shift = 1u << 31;

	for (int i = 0; i < 16; i++) {
		if (length >> i & 1)
			shift = multiply(powers[i], shift);
	}
	return multiply(shift, change);
}

/* Where the kernel leaves the checksum to the interface, the field is nobody's and is written later. */
INLINE void rewrite_sctp(struct __sk_buff *skb, const struct packet *packet, const __u16 *ports)
{
	__u32 length = packet->length - (packet->transport - IP_OFFSET);
	__u32 old_ports = (__u32)packet->key.target_port << 16 | packet->key.source_port;
	__u32 new_ports = (__u32)ports[1] << 16 | ports[0];
	__u32 at = packet->transport + __builtin_offsetof(struct sctphdr, checksum), checksum;

	if (bpf_skb_load_bytes(skb, at, &checksum, sizeof(checksum)))
		return;
	checksum ^= crc_change(old_ports ^ new_ports, length);
	bpf_skb_store_bytes(skb, at, &checksum, sizeof(checksum), 0);
}

/* What the first chunk says, in the words of TCP. */
INLINE __u8 flags_of_chunk(__u8 type)
{
	if (type == SCTP_INIT)
		return TCP_SYN;
	return type == SCTP_ABORT || type == SCTP_SHUTDOWN_COMPLETE ? TCP_RST : TCP_ACK;
}

#endif
