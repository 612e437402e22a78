/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * Answers for `ptntp bench --xdp`. Attached to the interface, this program takes the
 * server's answers off the wire, judges them by the tests of load/engine.rs, counts, and
 * passes on all else.
 *
 * The object beside this file is what
 *     clang -O2 -g0 -target bpf -mcpu=v3 -c receive.bpf.c
 * makes of it; a test compares.
 */

#include "load.bpf.h"

/* Undoes what `seal` of generate.bpf.c does. */
INLINE u64 open(const struct setup *setup, u64 x)
{
	x = (x ^ x >> 32) * setup->inverse[1];
	x = (x ^ x >> 32) * setup->inverse[0];
	return x ^ setup->key;
}

/* Words of 32 bits, added; the fields of a frame are as in memory, and so is a sum. */
INLINE u64 words(const void *at, int count)
{
	const u32 *word = at;
	u64 sum = 0;
#pragma clang loop unroll(full)
	for (int n = 0; n < count; n++)
		sum += word[n];
	return sum;
}

/* Which bucket a delay belongs in. */
INLINE u32 bucket(u64 delay_ns)
{
	u64 v = delay_ns >> 7;
	u32 shift = 0;
	if (v >> 16) {
		v >>= 16;
		shift += 16;
	}
	if (v >> 8) {
		v >>= 8;
		shift += 8;
	}
	if (v >> 4) {
		v >>= 4;
		shift += 4;
	}
	if (v >> 2) {
		v >>= 2;
		shift += 2;
	}
	if (v >> 1) {
		v >>= 1;
		shift += 1;
	}
	return (shift << 7) + (delay_ns >> shift);
}

INLINE int is_letter(u32 octet)
{
	return octet - 'A' <= 'Z' - 'A';
}

#define CODE(a, b, c, d) ((u32)(a) | (u32)(b) << 8 | (u32)(c) << 16 | (u32)(d) << 24)

SEC("xdp") int receive(struct xdp_md *ctx)
{
	u64 now = now_ns();
	u32 zero = 0, core = this_core();
	struct setup *setup = lookup(&setups, &zero);
	struct seen *seen = lookup(&seens, &core);
	if (!setup || !seen)
		return XDP_PASS;

	/* Is it from the server, and for one of our ports? */
	void *frame = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	void *udp;
	u64 sum, header = 0xffff;
	u32 len;
	if (setup->is_v6) {
		udp = frame + ETHERNET + IPV6;
		if (udp + UDP > end || *(u16 *)(frame + 12) != TYPE_V6 ||
		    *(u8 *)(frame + ETHERNET + 6) != 17 ||
		    *(u64 *)(frame + ETHERNET + 8) != *(u64 *)setup->server ||
		    *(u64 *)(frame + ETHERNET + 16) != *(u64 *)(setup->server + 8))
			return XDP_PASS;
		len = swap16(*(u16 *)(frame + ETHERNET + 4));
		sum = words(frame + ETHERNET + 8, 8);
	} else {
		udp = frame + ETHERNET + IPV4;
		if (udp + UDP > end || *(u16 *)(frame + 12) != TYPE_V4 ||
		    *(u8 *)(frame + ETHERNET) != 0x45 ||
		    *(u8 *)(frame + ETHERNET + 9) != 17 ||
		    *(u32 *)(frame + ETHERNET + 12) != *(u32 *)setup->server)
			return XDP_PASS;
		len = swap16(*(u16 *)(frame + ETHERNET + 2)) - IPV4;
		header = fold(words(frame + ETHERNET, 5));
		sum = words(frame + ETHERNET + 12, 2);
	}
	u32 to = swap16(*(u16 *)(udp + 2));
	if (swap16(*(u16 *)udp) != setup->server_port || to < setup->port_first ||
	    to > setup->port_last)
		return XDP_PASS;

	/* From here on it is ours. */
	u8 *ntp = udp + UDP;
	if (ntp + NTP > (u8 *)end || len < UDP + NTP) {
		seen->invalid[SHORT]++;
		return XDP_DROP;
	}
	/* Of what is longer (a MAC that nobody asked for) the sum is not made. */
	if (len == UDP + NTP) {
		u16 stated = *(u16 *)(udp + 6);
		/* On a virtual link the kernel leaves the rest of it to nobody: then it is
		 * the sum of the pseudo-header. */
		u16 pseudo = fold(sum + swap16(17) + swap16(len));
		u16 all = fold(pseudo + words(udp, (UDP + NTP) / 4));
		if (header != 0xffff ||
		    (all != 0xffff && stated != pseudo && (stated || setup->is_v6))) {
			seen->invalid[CHECKSUM]++;
			return XDP_DROP;
		}
	}
	u8 first = ntp[0];
	if ((first & 7) != 4) {
		seen->invalid[MODE]++;
		return XDP_DROP;
	}
	u64 name = open(setup, *(u64 *)(ntp + 24));
	u32 id = name >> 48;
	u64 position = name & 0xffffffffffff;
	u32 place = id * (setup->slots_mask + 1) + (position & setup->slots_mask);
	struct slot *slot = id < 64 ? lookup(&slots, &place) : 0;
	if (!slot || !position) {
		seen->invalid[ORIGIN]++;
		return XDP_DROP;
	}
	u64 held = *(volatile u64 *)&slot->sequence;
	u64 intended = slot->intended_ns;
	if (held != position) {
		if (held > position)
			/* Its slot is another's, who came long after. */
			seen->late++;
		else if (!held)
			seen->duplicates++;
		else
			seen->invalid[ORIGIN]++;
		return XDP_DROP;
	}
	if (intended < setup->start_ns)
		/* Of the measurement before, which has counted its request. */
		return XDP_DROP;
	if ((first >> 3 & 7) != setup->version) {
		seen->invalid[VERSION]++;
		return XDP_DROP;
	}
	u32 stratum = ntp[1], code = *(u32 *)(ntp + 12);
	int kissed = !stratum && is_letter(ntp[12]) && is_letter(ntp[13]) &&
		     is_letter(ntp[14]) && is_letter(ntp[15]) &&
		     code != CODE('I', 'N', 'I', 'T') && code != CODE('S', 'T', 'E', 'P');
	int timed = !kissed && first >> 6 != 3 && stratum && stratum < 16;
	u64 t2 = *(u64 *)(ntp + 32), t3 = *(u64 *)(ntp + 40);
	if (timed && (!t2 || !t3)) {
		seen->invalid[STAMPS]++;
		return XDP_DROP;
	}
	if (__sync_val_compare_and_swap(&slot->sequence, position, 0) != position) {
		seen->duplicates++;
		return XDP_DROP;
	}
	u64 delay = now > intended ? now - intended : 0;
	if (delay > setup->patience_ns) {
		seen->late++;
		return XDP_DROP;
	}

	if (kissed) {
		if (code == CODE('R', 'A', 'T', 'E')) {
			seen->kisses[RATE]++;
		} else if (code == CODE('D', 'E', 'N', 'Y')) {
			seen->kisses[DENY]++;
		} else if (code == CODE('R', 'S', 'T', 'R')) {
			seen->kisses[RSTR]++;
		} else {
			seen->kisses[OTHER]++;
			seen->other_kiss = code;
		}
	} else if (!timed) {
		seen->unsynchronised++;
	} else {
		seen->basic++;
		if (!(position & setup->sample_mask)) {
			u32 which = sample_place(setup, id, position);
			struct sample *sample = lookup(&samples, &which);
			if (sample && sample->sent_ns) {
				sample->arrived_ns = now;
				sample->receive = t2;
				sample->transmit = t3;
			}
		}
	}
	u32 n = bucket(delay);
	if (n >= DELAYS)
		n = DELAYS - 1;
	seen->delays[n]++;
	u32 part = interval(setup, intended);
	if (part < INTERVALS) {
		seen->answered_in[part]++;
		part = part * COARSE + (n >> 3);
		if (part < INTERVALS * COARSE)
			seen->delays_in[part]++;
	}
	return XDP_DROP;
}
