/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * Requests for `ptntp bench --xdp`. BPF_PROG_TEST_RUN runs this program with live
 * frames, over and over on one core. A run looks at the clock; when a request is due it
 * writes one and sends it (XDP_TX), else the frame goes back unused. So the schedule is
 * kept to some tens of nanoseconds, and a request costs no system call, no socket and no
 * allocation.
 *
 * The object beside this file is what
 *     clang -O2 -g0 -target bpf -mcpu=v3 -c generate.bpf.c
 * makes of it; a test compares.
 */

#include "load.bpf.h"

/* A permutation that only who has the key can follow, if he sees no requests. */
INLINE u64 seal(const struct setup *setup, u64 x)
{
	x = (x ^ setup->key) * setup->factor[0];
	x = (x ^ x >> 32) * setup->factor[1];
	return x ^ x >> 32;
}

INLINE void copy(void *to, const void *from, int len)
{
	int n = 0;
#pragma clang loop unroll(full)
	for (; n + 8 <= len; n += 8)
		*(u64 *)(to + n) = *(u64 *)(from + n);
#pragma clang loop unroll(full)
	for (; n + 2 <= len; n += 2)
		*(u16 *)(to + n) = *(u16 *)(from + n);
}

SEC("xdp") int generate(struct xdp_md *ctx)
{
	u32 zero = 0, core = this_core();
	struct setup *setup = lookup(&setups, &zero);
	struct line *line = lookup(&lines, &core);
	if (!setup || !line)
		return XDP_DROP;

	u64 now = now_ns();
	u64 intended = setup->start_ns + (line->due_q20 >> 20);
	if (now < intended || line->sequence >= line->end || now >= setup->give_up_ns ||
	    *(volatile u64 *)&setup->stop) {
		if (line->idle_since_ns > setup->start_ns)
			line->idle_ns += now - line->idle_since_ns;
		line->idle_since_ns = now;
		return XDP_DROP;
	}
	line->idle_since_ns = 0;

	u64 position = line->sequence;
	u32 place = line->id * (setup->slots_mask + 1) + (position & setup->slots_mask);
	struct slot *slot = lookup(&slots, &place);
	if (!slot)
		return XDP_DROP;

	/* Which client it is of. */
	u64 low = setup->base_low + line->client_first + line->client;
	u64 high = setup->base_high + (low < setup->base_low);
	u16 port = swap16(line->port_first + line->port);
	u64 cookie = seal(setup, line->id << 48 | position);

	void *frame = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	u64 sum = port + (cookie & 0xffffffff) + (cookie >> 32);
	u16 *checksum;
	if (setup->is_v6) {
		if (frame + V6_LEN > end)
			return XDP_DROP;
		copy(frame, setup->frame, V6_LEN);
		u64 source[2] = { __builtin_bswap64(high), __builtin_bswap64(low) };
		*(u64 *)(frame + ETHERNET + 8) = source[0];
		*(u64 *)(frame + ETHERNET + 16) = source[1];
		sum += (source[0] & 0xffffffff) + (source[0] >> 32);
		sum += (source[1] & 0xffffffff) + (source[1] >> 32);
		*(u16 *)(frame + ETHERNET + IPV6) = port;
		*(u64 *)(frame + V6_LEN - 8) = cookie;
		checksum = frame + ETHERNET + IPV6 + 6;
	} else {
		if (frame + V4_LEN > end)
			return XDP_DROP;
		copy(frame, setup->frame, V4_LEN);
		u32 source = __builtin_bswap32(low);
		u16 *header = frame + ETHERNET + 10;
		*(u32 *)(frame + ETHERNET + 12) = source;
		*header = ~fold((u16)~*header + (u64)source);
		sum += source;
		*(u16 *)(frame + ETHERNET + IPV4) = port;
		*(u64 *)(frame + V4_LEN - 8) = cookie;
		checksum = frame + ETHERNET + IPV4 + 6;
	}
	u16 folded = ~fold((u16)~*checksum + sum);
	/* Zero would say that there is none. */
	*checksum = folded ? folded : 0xffff;

	slot->intended_ns = intended;
	/* The answer can't come before the frame has left, which takes far longer. */
	barrier();
	*(volatile u64 *)&slot->sequence = position;

	if (!(position & setup->sample_mask)) {
		u32 which = sample_place(setup, line->id, position);
		struct sample *sample = lookup(&samples, &which);
		if (sample)
			sample->sent_ns = now;
	}

	u64 late = now - intended;
	if (late > 100000)
		line->sent_late++;
	if (late > line->lateness_max_ns)
		line->lateness_max_ns = late;
	u32 part = interval(setup, intended);
	if (part < INTERVALS)
		line->sent_in[part]++;

	line->sequence = position + 1;
	line->port = line->port + 1 < line->ports ? line->port + 1 : 0;
	u64 client = line->client + line->stride;
	line->client = client < line->clients ? client : client - line->clients;
	if (line->left_in_burst > 1) {
		line->left_in_burst--;
	} else {
		line->left_in_burst = line->burst;
		line->due_q20 += line->step_q20;
	}
	return setup->dry ? XDP_DROP : XDP_TX;
}
