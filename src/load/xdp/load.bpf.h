/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * What generate.bpf.c and receive.bpf.c have in common: the maps that they share with
 * each other and with the generator, where load/xdp.rs has the same in Rust.
 *
 * Nothing here is newer than Linux 5.18, the first that runs live frames.
 */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

/* Of linux/bpf.h. */
#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
enum { XDP_DROP = 1, XDP_PASS = 2, XDP_TX = 3 };

struct xdp_md {
	u32 data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex;
};

static void *(*const lookup)(void *map, const void *key) = (void *)1;
static u64 (*const now_ns)(void) = (void *)5;
static u32 (*const this_core)(void) = (void *)8;

#define swap16(x) __builtin_bswap16(x)
#define barrier() asm volatile("" ::: "memory")

#define ETHERNET 14
#define IPV4 20
#define IPV6 40
#define UDP 8
#define NTP 48
#define V4_LEN (ETHERNET + IPV4 + UDP + NTP)
#define V6_LEN (ETHERNET + IPV6 + UDP + NTP)
/* In the order of memory. */
#define TYPE_V4 0x0008
#define TYPE_V6 0xdd86

/* Parts of a measurement's length: load/tally.rs. */
#define INTERVALS 50
/* Buckets of delays: each power of two in 128, so within 0.4 % of the middle; and the
 * same in 16. */
#define DELAYS 4096
#define COARSE 512
#define SAMPLES 65536

/* What all have in common, written before anything is sent. */
struct setup {
	/* A whole request, its checksums right for zeros where each differs: source
	 * address, source port, transmit timestamp. */
	u8 frame[112];
	/* The server, as in its answers: IPv4 in the first four octets. */
	u8 server[16];
	u64 is_v6;
	/* Ports in host order. */
	u64 server_port, port_first, port_last;
	u64 version;
	/* Of the clients' addresses, host order; those of IPv4 in the lower half alone. */
	u64 base_high, base_low;
	/* See `seal`. The last two undo the middle two. */
	u64 key, factor[2], inverse[2];
	/* Slots of each line, less one: a power of two less one. */
	u64 slots_mask;
	u64 patience_ns;
	/* CLOCK_MONOTONIC. */
	u64 start_ns, give_up_ns;
	/* (ns since the start >> 10) * this >> 32 is the number of the interval. */
	u64 interval_scale;
	/* Every request whose position has none of these bits is sampled; the shift is
	 * how many bits those are. */
	u64 sample_mask, sample_shift;
	/* How many cores generate. */
	u64 lines;
	/* Nothing is sent: how fast is writing? */
	u64 dry;
	/* Set to end it before its time. */
	u64 stop;
};

/* A generating core's own: nobody else writes it while it runs. */
struct line {
	u64 id;
	/* Position of the next request, and of the first that is too many. */
	u64 sequence, end;
	/* Since the start, and from burst to burst: 2^-20 ns. */
	u64 due_q20, step_q20;
	u64 burst, left_in_burst;
	/* The next client, how far from one to the next, and which are this line's. */
	u64 client, stride, client_first, clients;
	u64 port, port_first, ports;
	/* What became of it. */
	u64 sent_late, lateness_max_ns;
	/* Time between runs in which nothing was due, and the last of them, or 0. */
	u64 idle_ns, idle_since_ns;
	u64 sent_in[INTERVALS];
};

/* A request under way: its position, 0 once it is answered. */
struct slot {
	u64 sequence, intended_ns;
};

/* Stamps of a request and its answer: ours of CLOCK_MONOTONIC, the server's as they
 * were on the wire. */
struct sample {
	u64 sent_ns, arrived_ns, receive, transmit;
};

/* Reasons for which a datagram is no answer: load/tally.rs, as there. */
enum { SHORT, MODE, VERSION, ORIGIN, MAC, STAMPS, UNSIGNED, NAK, CHECKSUM, INVALID };
enum { RATE, DENY, RSTR, OTHER, KISSES };

/* What a receiving core saw: nobody else writes it. */
struct seen {
	u64 basic, unsynchronised, late, duplicates;
	u64 invalid[INVALID];
	u64 kisses[KISSES];
	/* The last other one. */
	u64 other_kiss;
	u64 answered_in[INTERVALS];
	u64 delays[DELAYS];
	u32 delays_in[INTERVALS * COARSE];
};

_Static_assert(sizeof(struct setup) == 38 * 8, "setup");
_Static_assert(sizeof(struct line) == 68 * 8, "line");
_Static_assert(sizeof(struct slot) == 2 * 8, "slot");
_Static_assert(sizeof(struct sample) == 4 * 8, "sample");
_Static_assert(sizeof(struct seen) == 16964 * 8, "seen");

/* The maps: arrays, mapped into the generator's memory. Who loads the programs makes
 * them. */
extern char setups, lines, slots, samples, seens;

/* To 16 bits, with the carries added again. */
INLINE u16 fold(u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

INLINE u32 interval(const struct setup *setup, u64 at_ns)
{
	u64 passed_ns = at_ns > setup->start_ns ? at_ns - setup->start_ns : 0;
	u64 n = (passed_ns >> 10) * setup->interval_scale >> 32;
	return n < INTERVALS ? n : INTERVALS - 1;
}

INLINE u32 sample_place(const struct setup *setup, u64 id, u64 position)
{
	return ((position >> setup->sample_shift) * setup->lines + id) & (SAMPLES - 1);
}

char terms[] SEC("license") = "Dual MIT/GPL";
