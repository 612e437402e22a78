/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * The least that an answer by XDP can cost: what `bench/compare` measures ptntp
 * against. Swaps addresses and ports of what looks like an NTP request by IPv4, makes an
 * answer of it that nobody should set a clock by, and sends it back.
 *
 * The object beside this file is what
 *     clang -O2 -g0 -target bpf -mcpu=v3 -c echo.bpf.c
 * makes of it; a test compares.
 */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
enum { XDP_PASS = 2, XDP_TX = 3 };

struct xdp_md {
	u32 data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex;
};

/* Ethernet, IPv4 without options, UDP, NTP, as RFC 791, RFC 768 and RFC 5905 have them. */
struct frame {
	u16 to[3], from[3], type;
	u8 head, tos;
	u16 total, id, fragment;
	u8 ttl, protocol;
	u16 header_sum, source[2], target[2];
	u16 source_port, target_port, len, sum;
	u8 first, stratum, poll, precision;
	u16 root_delay[2], root_dispersion[2], refid[2];
	u16 reference[4], origin[4], receive[4], transmit[4];
} __attribute__((packed));

#define SWAP(a, b)                                                                     \
	do {                                                                           \
		u16 kept = (a);                                                        \
		(a) = (b);                                                             \
		(b) = kept;                                                            \
	} while (0)

SEC("xdp") int echo(struct xdp_md *ctx)
{
	struct frame *frame = (void *)(long)ctx->data;
	if ((void *)(frame + 1) > (void *)(long)ctx->data_end || frame->type != 0x0008 ||
	    frame->head != 0x45 || frame->protocol != 17 || frame->target_port != 0x7b00)
		return XDP_PASS;
	for (int n = 0; n < 3; n++)
		SWAP(frame->to[n], frame->from[n]);
	for (int n = 0; n < 2; n++)
		SWAP(frame->source[n], frame->target[n]);
	SWAP(frame->source_port, frame->target_port);
	/* IPv4 may do without. */
	frame->sum = 0;
	frame->first = (frame->first & 0x38) | 4;
	frame->stratum = 1;
	for (int n = 0; n < 4; n++) {
		frame->origin[n] = frame->transmit[n];
		frame->receive[n] = 0x0101;
	}
	return XDP_TX;
}

char terms[] SEC("license") = "Dual MIT/GPL";
