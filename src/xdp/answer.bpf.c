// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// Answers plain NTP requests before the network stack sees them. What it can answer
// exactly as the socket tier would (src/server/respond.rs), it answers; what that tier
// would drop, in floods that a stranger can send, it drops; everything else passes on.
//
// A request's way, top to bottom: is it UDP, and ours (`parse`, `find_own`); what do we
// know of us (`read_state`); who asks, and may he (`access_of`); does he ask too often
// (`judge`); the answer (`answer`).
//
// For kernels from 6.1, which was the first with bpf_ktime_get_tai_ns. Built by
//     clang -O2 -g0 -target bpf -mcpu=v3 -c answer.bpf.c -o answer.bpf.o
// with clang 14, and committed, so that nobody else needs clang; tests/xdp.rs compares.
// Needs no headers: what it uses of the kernel's stands below. The numbers that it has
// in common with the daemon are in src/xdp/layout.rs, which a test compares with these.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long s64;

#define inline inline __attribute__((always_inline))
#define likely(x) __builtin_expect(!!(x), 1)

// What lies in a packet lies at any address. That is not said here, or clang would read
// octet by octet: the machines we run on read whatever lies wherever.
typedef u16 u16_any __attribute__((may_alias));
typedef u32 u32_any __attribute__((may_alias));
typedef u64 u64_any __attribute__((may_alias));

#define htons(x) ((u16)__builtin_bswap16(x))
#define ntohs(x) ((u16)__builtin_bswap16(x))

// ---- linux/bpf.h

struct xdp_md {
    u32 data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex;
};

enum { XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX };

static void *(*bpf_map_lookup_elem)(const void *map, const void *key) = (void *)1;
static u32 (*bpf_get_prandom_u32)(void) = (void *)7;
static u64 (*bpf_ktime_get_tai_ns)(void) = (void *)208; // since 6.1

// ---- Maps: made by the daemon, which knows their kinds and sizes (src/daemon/xdp).

struct map;
extern const struct map state;  // array of 1: the words below, written by the daemon
extern const struct map own;    // hash: struct own_key, what is served, to own_mac
extern const struct map acl;    // array: rows of the access tables, written by the daemon
extern const struct map rates;  // array: sets of clients, and when they asked last
extern const struct map counts; // per-CPU array of 1: the counts below

enum word {
    SEQUENCE,
    ANCHOR_TAI,
    ANCHOR_NTP,
    SCALE,
    VALID,
    LEAP_TAI,
    LEAP_UNITS,
    ANCHOR_MONO,
    HEAD,
    REFID,
    REFERENCE,
    DISPERSION,
    UPDATED,
    DISPERSION_RATE,
    TABLE,
    LIMIT,
    INTERVAL,
    DRAIN,
    SEED,
    SETS,
    ENVELOPE,
    WORDS,
};

// By their place in src/server/verdict.rs; then why a packet passed.
enum count {
    BASIC = 0,
    KISS = 2,
    IGNORE = 7,
    NOSERVE = 12,
    FLAKE = 13,
    VERSION = 15,
    NOTRUST = 18,
    LIMITED = 19,
    PASS_STALE = 22,
    PASS_MAC,
    PASS_SOURCE,
    PASS_LENGTH,
    PASS_FORM,
    PASS_INTERLEAVED,
    PASS_CHECKSUM,
    PASS_BROKEN,
    COUNTS,
};

enum flag {
    FLAG_IGNORE = 1 << 0,
    FLAG_NOSERVE = 1 << 1,
    FLAG_FLAKE = 1 << 2,
    FLAG_VERSION = 1 << 3,
    FLAG_NOTRUST = 1 << 4,
    FLAG_LIMITED = 1 << 5,
    FLAG_KOD = 1 << 6,
    FLAG_ODD = 1 << 7,
};

#define IS_ROW (1U << 31)
#define IS_LINE (1U << 30)
#define OTHER_PORTS_SHIFT 8
#define ROOT_V4 0
#define ROOT_V6 1
#define CLASSES 2
#define LINES_PER_ROW 16

struct own_key {
    u32 address[4];
    u16 port; // as in the packet
    u16 vlan;
    u32 interface;
};

// Whom frames for it are sent to.
struct own_mac {
    u32 first;
    u16 last;
    u16 padding;
};

// ---- Packets

struct ethernet {
    u8 to[6];
    u8 from[6];
    u16 type;
};

struct vlan {
    u16 tag;
    u16 type;
};

struct ipv4 {
    u8 version_ihl;
    u8 tos;
    u16 total_len;
    u16 id;
    u16 fragment;
    u8 ttl;
    u8 protocol;
    u16 checksum;
    u32 from;
    u32 to;
};

struct ipv6 {
    u32 version_class_flow;
    u16 payload_len;
    u8 next_header;
    u8 hop_limit;
    u32 from[4];
    u32 to[4];
};

struct udp {
    u16 from;
    u16 to;
    u16 len;
    u16 checksum;
};

#define NTP_LEN 48
#define UDP_LEN (sizeof(struct udp) + NTP_LEN)
#define ETH_P_8021Q 0x8100
#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define IPPROTO_UDP 17
#define NTP_PORT 123
#define MODE_CLIENT 3
#define MODE_SERVER 4

// What came, as far as it concerns us. Pointers into the frame, which is long enough
// for the headers; `ntp` only if `whole`.
struct request {
    struct ethernet *ethernet;
    union {
        struct ipv4 *v4;
        struct ipv6 *v6;
    };
    int is_v4;
    struct udp *udp;
    u64_any *ntp;
    const u8 *source; // 4 or 16 octets
    u32 interface;    // that it came by
    u16 vlan;
    int whole; // is it as long as a plain request?
};

// ---- Sums (RFC 1071): of 32-bit words as they lie in memory, folded at the end.

static inline u16 fold(u64 sum) {
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (u16)sum;
}

static inline u64 sum_words(const void *from, int words) {
    const u32_any *word = from;
    u64 sum = 0;
#pragma unroll
    for (int i = 0; i < words; i++)
        sum += word[i];
    return sum;
}

// ---- Which frames are ours

// False: none of our business, whatever it is.
static inline int parse(struct xdp_md *ctx, struct request *request) {
    void *end = (void *)(long)ctx->data_end;
    struct ethernet *ethernet = (void *)(long)ctx->data;
    void *at = ethernet + 1;
    if (at > end)
        return 0;
    request->ethernet = ethernet;
    request->interface = ctx->ingress_ifindex;
    u16 type = ethernet->type;
    request->vlan = 0;
    if (type == htons(ETH_P_8021Q)) {
        struct vlan *vlan = at;
        at = vlan + 1;
        if (at > end)
            return 0;
        request->vlan = ntohs(vlan->tag) & 0xfff;
        type = vlan->type;
    }
    u16 udp_len;
    if (type == htons(ETH_P_IP)) {
        struct ipv4 *ip = at;
        at = ip + 1;
        // No options.
        if (at > end || ip->version_ihl != 0x45 || ip->protocol != IPPROTO_UDP)
            return 0;
        // Neither a fragment nor the first of several; whether it may be cut, or the
        // reserved bit, is nothing to us.
        if (ip->fragment & htons(0x3fff))
            return 0;
        request->v4 = ip;
        request->is_v4 = 1;
        request->source = (const u8 *)&ip->from;
        udp_len = ntohs(ip->total_len) - sizeof(*ip);
    } else if (type == htons(ETH_P_IPV6)) {
        struct ipv6 *ip = at;
        at = ip + 1;
        if (at > end || (ip->version_class_flow & 0xf0) != 0x60 || ip->next_header != IPPROTO_UDP)
            return 0;
        request->v6 = ip;
        request->is_v4 = 0;
        request->source = (const u8 *)ip->from;
        udp_len = ntohs(ip->payload_len);
    } else {
        return 0;
    }
    struct udp *udp = at;
    at = udp + 1;
    if (at > end || udp_len < sizeof(*udp) || udp->len != htons(udp_len) ||
        (void *)udp + udp_len > end)
        return 0;
    request->udp = udp;
    request->ntp = at;
    // That the payload is there was just looked at, but not so that the verifier knows.
    request->whole = udp_len == UDP_LEN && at + NTP_LEN <= end;
    return 1;
}

// The address and port that it was sent to, if we serve them there.
static inline const struct own_mac *find_own(const struct request *request) {
    struct own_key key = {
        .port = request->udp->to,
        .vlan = request->vlan,
        .interface = request->interface,
    };
    if (request->is_v4) {
        key.address[2] = 0xffff0000; // ::ffff:0:0
        key.address[3] = request->v4->to;
    } else {
        key.address[0] = request->v6->to[0];
        key.address[1] = request->v6->to[1];
        key.address[2] = request->v6->to[2];
        key.address[3] = request->v6->to[3];
    }
    return bpf_map_lookup_elem(&own, &key);
}

// Was the frame sent to us, and not to another host (which an interface sees that is
// promiscuous or a bridge's) or to all; and by one host, to whom it can be sent back?
static inline int is_between_hosts(const struct ethernet *ethernet, const struct own_mac *mac) {
    u32 from = *(u32_any *)ethernet->from;
    return *(u32_any *)ethernet->to == mac->first && *(u16_any *)(ethernet->to + 4) == mac->last &&
           !(from & 1) && (from | *(u16_any *)(ethernet->from + 4));
}

// Sources that the stack would not let in, or that the other tier judges and we need
// not: nobody's address, and those that belong on no wire.
static inline int is_odd_source(const struct request *request) {
    if (request->udp->from == 0)
        return 1;
    u8 first = request->source[0];
    if (request->is_v4)
        return first == 0 || first == 127 || first >= 224;
    const struct ipv6 *ip = request->v6;
    // Multicast; and all that begin as ::, ::1 and ::ffff:a.b.c.d do.
    return first == 0xff || (ip->from[0] | ip->from[1]) == 0;
}

// ---- What we know of us

// `value & 0` that neither compiler nor CPU sees through: an address that it is added
// to depends on `value`, so that arm64, which else may read in any order, reads there
// after it has read `value`. x86 reads in order anyway. The verifier knows that it is
// zero.
static inline u64 after(u64 value) {
    asm volatile("%0 &= 0" : "+r"(value));
    return value;
}

// Copies the state, which is a sequence lock (src/linux/xdp/map.rs writes it): all of
// it between two looks at a sequence that is even and the same.
static inline int read_state(u64 *copy) {
    u32 zero = 0;
    const volatile u64 *shared = bpf_map_lookup_elem(&state, &zero);
    if (!shared)
        return 0;
    for (int tries = 0; tries < 3; tries++) {
        u64 before = shared[SEQUENCE];
        // First the sequence, then the words ...
        const volatile u64 *words = shared + after(before);
        u64 all = 0;
#pragma unroll
        for (int i = 1; i < WORDS; i++)
            all |= copy[i] = words[i];
        // ... then the sequence again.
        u64 now = *(shared + after(all));
        if (likely(now == before && !(now & 1)))
            return 1;
    }
    return 0;
}

// The clock we serve at a moment that CLOCK_TAI calls `tai`; the entry holds then.
static inline u64 served_at(const u64 *state, u64 tai) {
    u64 units = state[ANCHOR_NTP] + ((tai - state[ANCHOR_TAI]) * state[SCALE] >> 30);
    return tai >= state[LEAP_TAI] ? units + state[LEAP_UNITS] : units;
}

// system.rs: root_dispersion_at, in the wire's short format, rounded up.
static inline u32 root_dispersion(const u64 *state, u64 now) {
    u64 dispersion = state[DISPERSION];
    s64 age = now - state[UPDATED];
    if (age > 0) {
        u64 seconds = (u64)age >> 32, fraction = (u64)age >> 16 & 0xffff;
        u64 rate = state[DISPERSION_RATE];
        if (seconds >= 1 << 22)
            return 0xffffffff;
        dispersion += (seconds * rate >> 16) + (fraction * rate >> 32);
    }
    u64 shorter = (dispersion + 0xffff) >> 16;
    return shorter > 0xffffffff ? 0xffffffff : shorter;
}

// ---- Who asks

// A row of few runs, none of which leads to another row, in one line of cache: so those
// of a million prefixes are as good as all in a CPU's cache.
struct line {
    u64 starts[4];  // bit N: a run of equal entries begins with octet N
    u8 classes[28]; // its flags, by their place in the row CLASSES
    u8 before[4];   // how many begin before each word of `starts`
};

static inline u32 class_in(const struct line *line, u32 octet) {
    u64 begun = line->starts[octet >> 6] & ((2ULL << (octet & 63)) - 1);
    u32 run = line->before[octet >> 6] + __builtin_popcountll(begun) - 1;
    // Never more than 28. For the verifier: 32 are in the line.
    return ((const u8 *)line + sizeof(line->starts))[run & 31];
}

static inline const u32 *find_row(const u64 *state, u32 row) {
    u32 at = state[TABLE] + row;
    return bpf_map_lookup_elem(&acl, &at);
}

// The flags for a sender: a row for each octet of his address, until an entry says.
// IS_ROW: the table has a hole, which it should not.
static inline u32 access_of(const u64 *state, const struct request *request) {
    u32 entry = IS_ROW | (request->is_v4 ? ROOT_V4 : ROOT_V6);
    for (int i = 0; i < 16; i++) {
        u32 octet = request->source[i];
        if (entry & IS_ROW) {
            const u32 *entries = find_row(state, entry & ~IS_ROW);
            if (!entries)
                break;
            entry = entries[octet];
        } else {
            u32 line = entry & ~IS_LINE;
            const struct line *lines = (const void *)find_row(state, line / LINES_PER_ROW);
            const u32 *flags = find_row(state, CLASSES);
            if (!lines || !flags)
                break;
            entry = flags[class_in(&lines[line % LINES_PER_ROW], octet)];
        }
        if (!(entry & (IS_ROW | IS_LINE)))
            return request->udp->from == htons(NTP_PORT) ? entry & 0xff
                                                         : entry >> OTHER_PORTS_SHIFT & 0xff;
    }
    return IS_ROW;
}

// ---- Who asks too often: src/server/rate.rs, where the rules are explained.
//
// One table for all CPUs, as a client's packets may come on any. A set is a line of
// cache with eight clients, of 64 bits each, so that a change is one compare-and-swap:
//     24 bits of the hash that chose the set, the last one set; 0: nobody
//     24 bits of ticks: his last request, wrapping after three days
//     16 bits: the level of his bucket
// Two clients of a set are taken for one in one of 2^23 cases; nobody can aim at that
// who does not know the seed.

enum headway { ENOUGH, TOO_SOON_AND_DUE, TOO_SOON };

#define WAYS 8
#define TICK_NS 15625000ULL
#define TICKS_PER_SECOND 64
#define TICKS_MASK 0xffffff
#define UNITS 256
#define BURST 8
#define GRACE_S 2
// So often a client's entry may have been changed by other CPUs while we judged.
#define JUDGED_MAX 4

#define OCTET(word, n) ((u8)((word) >> 8 * (n)))

static inline u64 scramble(u64 z) {
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static inline u64 entry_of(u64 tag, u32 last, u32 level) {
    return tag << 40 | (u64)(last & TICKS_MASK) << 16 | (u16)level;
}

static inline u32 ticks_since(u64 entry, u32 now) {
    u32 ticks = (now - (u32)(entry >> 16)) & TICKS_MASK;
    // Another CPU was a little ahead of us, less than a second.
    return ticks > TICKS_MASK - TICKS_PER_SECOND ? 0 : ticks;
}

static inline u32 seconds_of(u32 ticks) {
    return (ticks + TICKS_PER_SECOND / 2) / TICKS_PER_SECOND;
}

static inline enum headway judge_headway(u64 *entry, u32 now, u64 limit) {
    u32 idle_s = seconds_of(ticks_since(*entry, now));
    u32 bucket = (u16)*entry;
    u32 left = bucket > idle_s ? bucket - idle_s : 0;
    u32 average = 1U << (OCTET(limit, 1) & 31);
    u32 full = BURST * average;
    u32 filled = left + average;
    u64 tag = *entry >> 40;
    if (idle_s + 1 >= OCTET(limit, 2) && filled < full) {
        *entry = entry_of(tag, now, filled > GRACE_S ? filled - GRACE_S : 0);
        return ENOUGH;
    }
    if (left < full) {
        *entry = entry_of(tag, now, full + average);
        return TOO_SOON_AND_DUE;
    }
    *entry = entry_of(tag, now, left);
    return TOO_SOON;
}

// True: there is room for one more, and it is in.
static inline int pour(u64 *entry, u32 now, u64 limit, u64 interval_ns) {
    u32 last = *entry >> 16;
    u64 bucket = (u16)*entry;
    u64 drained = ticks_since(*entry, now) * TICK_NS * UNITS / interval_ns;
    u64 level = bucket > drained ? bucket - drained : 0;
    if (level == 0) {
        last = now;
    } else {
        // What is less than a unit is not lost.
        u64 spent_ns = drained * interval_ns / UNITS;
        last += (spent_ns + TICK_NS - 1) / TICK_NS;
    }
    u64 burst = OCTET(limit, 3);
    if (burst < TICK_NS / interval_ns)
        burst = TICK_NS / interval_ns;
    if (burst > 255)
        burst = 255;
    int fits = level + UNITS <= burst * UNITS;
    *entry = entry_of(*entry >> 40, last, fits ? level + UNITS : level);
    return fits;
}

static inline enum headway by_chance(u64 limit) {
    u32 bits = bpf_get_prandom_u32();
    u8 leak = OCTET(limit, 4), kod = OCTET(limit, 5);
    // Both need up to 16 bits.
    if (kod && !(bits >> 16 & ((1U << (kod & 31)) - 1)))
        return TOO_SOON_AND_DUE;
    if (leak && !(bits & ((1U << (leak & 31)) - 1)))
        return ENOUGH;
    return TOO_SOON;
}

// All ones if `a` is less than `b`, which are below 2^63; else zero. By arithmetic that
// clang can't make a branch of: in a loop over the ways of a set, the verifier would
// follow each branch each time.
static inline u64 if_less(u64 a, u64 b) {
    s64 mask = (s64)(a - b) >> 63;
    asm volatile("" : "+r"(mask));
    return mask;
}

// The first request is free, but for its place in the bucket. Only who is not worth
// keeping makes room: whose bucket has run empty, and longest of all. If nobody is, the
// new client is not limited.
static inline void remember(const u64 *state, u64 *set, u64 tag, u32 now) {
    // In a bucket, who asked but once is no loss.
    u64 first = OCTET(state[LIMIT], 0) ? UNITS : 0;
    u64 empty = 1ULL << 60, least_worth = empty + 1, least = 0, way = 0;
#pragma unroll
    for (u64 i = 0; i < WAYS; i++) {
        u64 entry = *(volatile u64 *)&set[i];
        u64 ticks = (now - (u32)(entry >> 16)) & TICKS_MASK;
        ticks &= if_less(ticks, TICKS_MASK - TICKS_PER_SECOND + 1);
        u64 worth = empty + (u16)entry - first - (ticks * state[DRAIN] >> 32);
        u64 mask = if_less(worth, least_worth);
        least_worth ^= (least_worth ^ worth) & mask;
        least ^= (least ^ entry) & mask;
        way ^= (way ^ i) & mask;
    }
    // If another CPU was faster, he is judged from his next request on.
    if (least_worth <= empty)
        __sync_val_compare_and_swap(&set[way & (WAYS - 1)], least, entry_of(tag, now, first));
}

static inline enum headway judge(const u64 *state, const struct request *request, u64 tai) {
    u64 key;
    if (request->is_v4)
        key = 0xffffffffULL << 32 | request->v4->from;
    else
        // A /64 is what one subscriber has; ffff:ffff::/32 is multicast.
        key = *(u64_any *)request->v6->from;
    u64 hash = scramble(scramble(key ^ state[SEED]) + (state[SEED] << 32 | state[SEED] >> 32));
    u64 tag = hash >> 40 | 1;
    u32 index = (u64)(u32)hash * (u32)state[SETS] >> 32;
    u64 *set = bpf_map_lookup_elem(&rates, &index);
    if (!set)
        return ENOUGH;
    // No jump in CLOCK_MONOTONIC between two anchors, so this is that clock.
    u32 now = (state[ANCHOR_MONO] + (tai - state[ANCHOR_TAI])) / TICK_NS;
    u64 limit = state[LIMIT];
    u64 way = WAYS;
#pragma unroll
    for (u64 i = 0; i < WAYS; i++)
        way ^= (way ^ i) & if_less(*(volatile u64 *)&set[i] >> 40 ^ tag, 1);
    if (way == WAYS) {
        remember(state, set, tag, now);
        return ENOUGH;
    }
    u64 *known = &set[way & (WAYS - 1)];
    for (int tries = 0; tries < JUDGED_MAX; tries++) {
        u64 before = *(volatile u64 *)known;
        // Somebody else has the place now.
        if (before >> 40 != tag)
            return ENOUGH;
        u64 entry = before;
        enum headway headway;
        if (OCTET(limit, 0))
            headway = pour(&entry, now, limit, state[INTERVAL]) ? ENOUGH : by_chance(limit);
        else
            headway = judge_headway(&entry, now, limit);
        if (likely(__sync_val_compare_and_swap(known, before, entry) == before))
            return headway;
    }
    // He asks on several CPUs at this moment.
    return TOO_SOON;
}

// ---- The answer

// Sends the frame back with `reply` for its payload; the sum of what the addresses,
// ports and lengths contribute stays as it was, whoever is first.
static inline int send(const struct request *request, const u64 *state, const u64 *reply,
                       u64 pseudo) {
    struct ethernet *ethernet = request->ethernet;
    struct udp *udp = request->udp;
    u64_any *ntp = request->ntp;
    u64 sum = pseudo + *(u32_any *)udp + udp->len;
#pragma unroll
    for (int i = 0; i < NTP_LEN / 8; i++) {
        ntp[i] = reply[i];
        sum += (u32)reply[i];
        sum += reply[i] >> 32;
    }
    u16 checksum = ~fold(sum);
    udp->checksum = checksum ? checksum : 0xffff;
    u16 port = udp->from;
    udp->from = udp->to;
    udp->to = port;
    u64 envelope = state[ENVELOPE];
    if (request->is_v4) {
        struct ipv4 *ip = request->v4;
        u32 from = ip->from;
        ip->from = ip->to;
        ip->to = from;
        ip->tos = OCTET(envelope, 2);
        // Never in parts, and so without a name for its parts (RFC 6864).
        ip->id = 0;
        ip->fragment = htons(0x4000);
        ip->ttl = OCTET(envelope, 0);
        ip->checksum = 0;
        ip->checksum = ~fold(sum_words(ip, sizeof(*ip) / 4));
    } else {
        struct ipv6 *ip = request->v6;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            u32 from = ip->from[i];
            ip->from[i] = ip->to[i];
            ip->to[i] = from;
        }
        ip->version_class_flow = __builtin_bswap32(6U << 28 | (u32)OCTET(envelope, 2) << 20);
        ip->hop_limit = OCTET(envelope, 1);
    }
    u32_any *to = (u32_any *)ethernet->to, *from = (u32_any *)ethernet->from;
    u32 first = *to;
    u16 last = *(u16_any *)(ethernet->to + 4);
    *to = *from;
    *(u16_any *)(ethernet->to + 4) = *(u16_any *)(ethernet->from + 4);
    *from = first;
    *(u16_any *)(ethernet->from + 4) = last;
    return XDP_TX;
}

// What becomes of a packet that was sent to us; `*count` is why.
static inline int answer(const struct request *request, const struct own_mac *mac,
                         enum count *count) {
    u64 tai = bpf_ktime_get_tai_ns();
    u64 state[WORDS];
    if (!is_between_hosts(request->ethernet, mac)) {
        *count = PASS_MAC;
        return XDP_PASS;
    }
    if (is_odd_source(request)) {
        *count = PASS_SOURCE;
        return XDP_PASS;
    }
    if (!read_state(state)) {
        *count = PASS_BROKEN;
        return XDP_PASS;
    }
    // Nobody has renewed it for a while, or the clock was set by somebody else.
    if (tai - state[ANCHOR_TAI] >= state[VALID]) {
        *count = PASS_STALE;
        return XDP_PASS;
    }
    u32 flags = access_of(state, request);
    if (flags & IS_ROW) {
        *count = PASS_BROKEN;
        return XDP_PASS;
    }
    // Nobody there can have that address: it is our own, or that of all.
    if (flags & FLAG_ODD) {
        *count = PASS_SOURCE;
        return XDP_PASS;
    }
    if (flags & FLAG_IGNORE) {
        *count = IGNORE;
        return XDP_DROP;
    }
    if (!request->whole) {
        *count = PASS_LENGTH;
        return XDP_PASS;
    }
    const u64_any *ntp = request->ntp;
    u64 first = ntp[0];
    u8 version = first >> 3 & 7;
    if ((first & 7) != MODE_CLIENT || version < 1 || version > 4) {
        *count = PASS_FORM;
        return XDP_PASS;
    }
    if (flags & FLAG_NOSERVE) {
        *count = NOSERVE;
        return XDP_DROP;
    }
    // The origin is a receive stamp of ours, which have the last bit set: he asks in the
    // interleaved mode (RFC 9769), and the worker that answered him remembers.
    if (version == 4 && ntp[3] >> 56 & 1) {
        *count = PASS_INTERLEAVED;
        return XDP_PASS;
    }

    // The sums: an IPv4 header's must be right; the payload's too, or not there (IPv4
    // alone), or what a sender on this host, for whom no card completed it, leaves:
    // that of the pseudo header alone.
    u64 pseudo = (u64)htons(IPPROTO_UDP) + htons(UDP_LEN);
    if (request->is_v4)
        pseudo += sum_words(&request->v4->from, 2);
    else
        pseudo += sum_words(request->v6->from, 8);
    u16 checksum = request->udp->checksum;
    int right = checksum == fold(pseudo) || (request->is_v4 && checksum == 0) ||
                (checksum && fold(pseudo + sum_words(request->udp, UDP_LEN / 4)) == 0xffff);
    if (request->is_v4 && fold(sum_words(request->v4, sizeof(struct ipv4) / 4)) != 0xffff)
        right = 0;
    if (!right) {
        *count = PASS_CHECKSUM;
        return XDP_PASS;
    }

    if (flags & FLAG_FLAKE && bpf_get_prandom_u32() % 10 == 0) {
        *count = FLAKE;
        return XDP_DROP;
    }
    if (flags & FLAG_VERSION && version < 4) {
        *count = VERSION;
        return XDP_DROP;
    }
    // 48 octets have no room for a MAC.
    if (flags & FLAG_NOTRUST) {
        *count = NOTRUST;
        return XDP_DROP;
    }
    enum headway headway = flags & FLAG_LIMITED ? judge(state, request, tai) : ENOUGH;
    u64 reply[NTP_LEN / 8];
    u64 poll = first & 0xff0000;
    u64 transmit = ntp[5];
    reply[3] = transmit;
    if (headway == ENOUGH) {
        *count = BASIC;
        u64 received = served_at(state, tai);
        reply[0] = state[HEAD] | poll | version << 3 | MODE_SERVER;
        reply[1] = state[REFID] | __builtin_bswap32(root_dispersion(state, received));
        reply[2] = state[REFERENCE];
        reply[4] = __builtin_bswap64(received | 1);
        // As late as possible; what follows takes some ten nanoseconds more.
        u64 since = bpf_ktime_get_tai_ns() - tai;
        // The clock was set just now.
        if (since > TICK_NS)
            since = 0;
        u64 leaves = ((received + (since * state[SCALE] >> 30)) | 1) + 1;
        reply[5] = __builtin_bswap64(leaves ? leaves : 2);
    } else if (headway == TOO_SOON_AND_DUE && flags & FLAG_KOD) {
        *count = KISS;
        signed char theirs = (signed char)(poll >> 16), least = (signed char)OCTET(state[LIMIT], 6);
        // Leap "unknown", stratum 0, our precision.
        reply[0] = (3 << 6) | version << 3 | MODE_SERVER |
                   (u64)(u8)(theirs > least ? theirs : least) << 16 |
                   (state[HEAD] & 0xff000000);
        reply[1] = (u64)__builtin_bswap32(0x52415445) << 32; // RATE
        reply[2] = 0;
        reply[4] = transmit;
        reply[5] = transmit;
    } else {
        *count = LIMITED;
        return XDP_DROP;
    }
    return send(request, state, reply, pseudo);
}

__attribute__((section("xdp"), used)) int ptntp(struct xdp_md *ctx) {
    struct request request;
    if (!parse(ctx, &request))
        return XDP_PASS;
    const struct own_mac *mac = find_own(&request);
    if (!mac)
        return XDP_PASS;
    enum count count;
    int action = answer(&request, mac, &count);
    u32 zero = 0;
    u64 *counted = bpf_map_lookup_elem(&counts, &zero);
    if (counted)
        counted[count]++;
    return action;
}

char terms[] __attribute__((section("license"), used)) = "Dual MIT/GPL";
