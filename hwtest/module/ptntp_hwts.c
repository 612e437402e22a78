// SPDX-License-Identifier: GPL-2.0
/*
 * hwts: a NIC with a PTP hardware clock (PHC), for a machine that has none, with
 * all the faults that such NICs have.
 *
 *   ip link add hw0 link veth0 type hwts
 *
 * makes a network device that sends and receives through a lower one and stamps
 * every packet both ways with a PHC of its own, /dev/ptpN. Its knobs are files in
 * /sys/kernel/debug/hwts/hw0/; hwtest/README.md lists them.
 *
 * The PHC is an oscillator of its own: CLOCK_MONOTONIC_RAW, times its error
 * (drift_ppb), times what adjfine() sets. It starts 37 s ahead of CLOCK_REALTIME, as
 * one that shows TAI does. Nothing that is done to the system clock moves it.
 *
 * The wire: two hwts devices above the two ends of a veth pair share this kernel's
 * CLOCK_MONOTONIC_RAW. A packet's moment of sending goes along with it. It arrives
 * wire_ns later, plus a random part of up to jitter_ns (knobs of the device that
 * receives): that moment is its receive stamp, and not before it the packet is handed
 * to the stack. So stamps of both sides agree to the nanosecond, however slow the
 * machine is, and what the stack sees later than the stamp is the machine's own
 * latency. A packet without a moment of sending, from another kind of device, is
 * stamped when it is here.
 *
 * A stamp is the instant at which the frame's start delimiter passes the device, both
 * ways, as IEEE 1588 has it and NICs do. The time that a frame's own bits take at the
 * speed that ethtool reports is in no stamp: who moves a receive stamp to the end of the
 * frame adds it.
 *
 * A transmit stamp is taken after the stack's own software stamp, and so never before.
 *
 * What lies between the stack and the wire (queues, moderated interrupts) is latency_ns:
 * a packet leaves up to that much after the stack's stamp, and is handed to the stack up
 * to that much after it arrived. It spoils the stack's stamps and none of ours.
 */
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/etherdevice.h>
#include <linux/ethtool.h>
#include <linux/hrtimer.h>
#include <linux/module.h>
#include <linux/net_tstamp.h>
#include <linux/netdevice.h>
#include <linux/ptp_clock_kernel.h>
#include <linux/random.h>
#include <linux/rtnetlink.h>
#include <linux/timekeeping.h>
#include <net/busy_poll.h>
#include <net/flow_dissector.h>
#include <net/rtnetlink.h>

#define HWTS_NAME	"hwts"
#define HWTS_NTP_PORT	123
#define HWTS_PTP_PORT	319

/* A rate is a fraction of one, in units of 2^-48. */
#define HWTS_RATE_SHIFT	48
#define HWTS_RATE_MASK	((1ULL << HWTS_RATE_SHIFT) - 1)

/* The least keeps the clock from going backwards; the most is 3 times too fast. */
#define HWTS_DRIFT_MIN_PPB	(-999999999LL)
#define HWTS_DRIFT_MAX_PPB	2000000000LL
/* 1 %: more than any PHC offers, and within what hwts_rate_of_adjfine() can hold. */
#define HWTS_ADJ_MAX_PPB	10000000

static int phc_offset_s = 37;
module_param(phc_offset_s, int, 0644);
MODULE_PARM_DESC(phc_offset_s, "a new PHC minus CLOCK_REALTIME, in seconds");

static int drift_ppb = 20000;
module_param(drift_ppb, int, 0644);
MODULE_PARM_DESC(drift_ppb, "a new PHC's own error; every second device has its negative");

/* Which packets are stamped. */
enum hwts_packets { HWTS_ALL, HWTS_NTP, HWTS_PTP, HWTS_NONE };
static const char *const hwts_packets_names[] = { "all", "ntp", "ptp", "none", NULL };

/* Which clock stamps show. */
enum hwts_clock { HWTS_CLOCK_PHC, HWTS_CLOCK_REALTIME };
static const char *const hwts_clock_names[] = { "phc", "realtime", NULL };

/**
 * struct hwts_choice - a knob with a word as value
 * @names: the words, the last one NULL
 * @value: index of the one chosen
 */
struct hwts_choice {
	const char *const *names;
	int value;
};

/**
 * struct hwts_phc - a PTP hardware clock
 * @lock: for all that follows
 * @raw_ns: CLOCK_MONOTONIC_RAW at the last change
 * @ns: what the clock showed then
 * @sub: and its fraction of a nanosecond, in units of 2^-48
 * @drift_ppb: the oscillator's own error; positive is fast
 * @drift: the same, as a rate
 * @adj: what adjfine() has set, as a rate
 */
struct hwts_phc {
	spinlock_t lock;
	u64 raw_ns;
	s64 ns;
	u64 sub;
	s64 drift_ppb;
	s64 drift;
	s64 adj;
};

/**
 * struct hwts_knobs - what is set in debugfs
 * @wire_ns: from the sender's stamp to the receiver's
 * @jitter_ns: at most this is added to @wire_ns, evenly distributed
 * @latency_ns: at most this is between the stack and the wire, both ways
 * @read_ns: a reading of the PHC takes twice this; the clock is read in the middle
 * @speed_mbps: the link's speed as ethtool reports it; 0: unknown
 * @tx_lose_every: of the transmit stamps every one of this many is lost; 0: none
 * @rx_lose_every: the same for receive stamps
 * @tx_delay_ms: transmit stamps are handed over so late
 * @forge_ns: added to stamps; positive: they are too late
 * @forge_every: only to one of this many; 0 and 1: to each
 * @adj_jump_ns: each change of frequency makes the PHC jump by this (igb in QEMU)
 * @extended: PTP_SYS_OFFSET_EXTENDED works
 * @precise: PTP_SYS_OFFSET_PRECISE works. Without, it is still promised.
 * @deliver_tx: without, transmit stamps are promised and never come (e1000e in QEMU)
 * @deliver_rx: the same for receive stamps (igb in QEMU)
 * @refuse: no stamping can be switched on, whatever the capabilities say
 * @tx_packets: packets that can have transmit stamps, as capabilities say
 * @rx_packets: packets that can have receive stamps, as capabilities say
 * @clock: which clock stamps show
 */
struct hwts_knobs {
	u32 wire_ns;
	u32 jitter_ns;
	u32 latency_ns;
	u32 read_ns;
	u32 speed_mbps;
	u32 tx_lose_every;
	u32 rx_lose_every;
	u32 tx_delay_ms;
	s64 forge_ns;
	u32 forge_every;
	s64 adj_jump_ns;
	bool extended;
	bool precise;
	bool deliver_tx;
	bool deliver_rx;
	bool refuse;
	struct hwts_choice tx_packets;
	struct hwts_choice rx_packets;
	struct hwts_choice clock;
};

/**
 * struct hwts_counts - what happened, for suites to compare with what they see
 * @tx: transmit stamps that were asked for
 * @tx_lost: those of them that were not handed over
 * @rx: packets received that the filter has
 * @rx_lost: those of them without a stamp
 * @forge: stamps, to find each forge_every-th
 */
struct hwts_counts {
	atomic_t tx;
	atomic_t tx_lost;
	atomic_t rx;
	atomic_t rx_lost;
	atomic_t forge;
};

/**
 * struct hwts_nic - a device
 * @dev: itself
 * @lower: the device it sends and receives through
 * @lower_tracker: its reference to @lower
 * @napi: hands arrived packets to the stack; its id leads from a packet to @dev
 * @wire: packets under way, in order of arrival
 * @due: runs out when the first of them is to be handed to the stack
 * @arrival_raw_ns: of the last of them; a wire doesn't change the order
 * @due_raw_ns: when the last of them is handed to the stack
 * @late: packets whose transmit stamp is yet to be handed over
 * @late_work: hands them over
 * @ptp: the PHC, as the kernel has it
 * @info: its operations
 * @phc: its state
 * @config: which stamps are switched on
 * @knobs: faults
 * @counts: what happened
 * @debugfs: directory of the knobs
 */
struct hwts_nic {
	struct net_device *dev;
	struct net_device *lower;
	netdevice_tracker lower_tracker;
	struct napi_struct napi;
	struct sk_buff_head wire;
	struct hrtimer due;
	u64 arrival_raw_ns;
	u64 due_raw_ns;
	struct sk_buff_head late;
	struct delayed_work late_work;
	struct ptp_clock *ptp;
	struct ptp_clock_info info;
	struct hwts_phc phc;
	struct kernel_hwtstamp_config config;
	struct hwts_knobs knobs;
	struct hwts_counts counts;
	struct dentry *debugfs;
};

/* In sk_buff.cb of a packet on the wire. */
struct hwts_wire_cb {
	u64 arrival_raw_ns;
	u64 due_raw_ns;
};

/* In sk_buff.cb of a packet whose transmit stamp is late. */
struct hwts_late_cb {
	ktime_t stamp;
	unsigned long due;
};

#define HWTS_WIRE_CB(skb) ((struct hwts_wire_cb *)(skb)->cb)
#define HWTS_LATE_CB(skb) ((struct hwts_late_cb *)(skb)->cb)

static struct dentry *hwts_debugfs;
static atomic_t hwts_devices;

/* ---- The PHC ---- */

static s64 hwts_rate_of_ppb(s64 ppb)
{
	/* 2^48 / 10^9, its integer and its fraction apart for the sake of 64 bits. */
	return ppb * 281474 + div_s64(ppb * 976710656, 1000000000);
}

/* Of parts per million with 16 bits of fraction. */
static s64 hwts_rate_of_adjfine(long scaled_ppm)
{
	return div_s64((s64)scaled_ppm << 32, 1000000);
}

/* What the clock shows at @raw_ns, which may be before the last change. */
static s64 hwts_phc_at(const struct hwts_phc *phc, u64 raw_ns, u64 *sub)
{
	s64 passed = raw_ns - phc->raw_ns;
	__int128 gained = (__int128)passed * (phc->drift + phc->adj) + phc->sub;

	if (sub)
		*sub = (u64)gained & HWTS_RATE_MASK;
	return phc->ns + passed + (s64)(gained >> HWTS_RATE_SHIFT);
}

static s64 hwts_phc_read(struct hwts_phc *phc, u64 raw_ns)
{
	unsigned long flags;
	s64 ns;

	spin_lock_irqsave(&phc->lock, flags);
	ns = hwts_phc_at(phc, raw_ns, NULL);
	spin_unlock_irqrestore(&phc->lock, flags);
	return ns;
}

/* Before a change of rate: what has passed until now, passed at the old one. */
static void hwts_phc_rebase(struct hwts_phc *phc)
{
	u64 raw_ns = ktime_get_raw_ns();
	u64 sub;

	phc->ns = hwts_phc_at(phc, raw_ns, &sub);
	phc->sub = sub;
	phc->raw_ns = raw_ns;
}

static void hwts_phc_set(struct hwts_phc *phc, s64 ns)
{
	unsigned long flags;

	spin_lock_irqsave(&phc->lock, flags);
	phc->raw_ns = ktime_get_raw_ns();
	phc->ns = ns;
	phc->sub = 0;
	spin_unlock_irqrestore(&phc->lock, flags);
}

static void hwts_phc_jump(struct hwts_phc *phc, s64 ns)
{
	unsigned long flags;

	spin_lock_irqsave(&phc->lock, flags);
	phc->ns += ns;
	spin_unlock_irqrestore(&phc->lock, flags);
}

static void hwts_phc_set_drift(struct hwts_phc *phc, s64 ppb)
{
	unsigned long flags;

	spin_lock_irqsave(&phc->lock, flags);
	hwts_phc_rebase(phc);
	phc->drift_ppb = clamp(ppb, HWTS_DRIFT_MIN_PPB, HWTS_DRIFT_MAX_PPB);
	phc->drift = hwts_rate_of_ppb(phc->drift_ppb);
	spin_unlock_irqrestore(&phc->lock, flags);
}

static struct hwts_nic *hwts_of_info(struct ptp_clock_info *info)
{
	return container_of(info, struct hwts_nic, info);
}

static int hwts_adjfine(struct ptp_clock_info *info, long scaled_ppm)
{
	struct hwts_nic *nic = hwts_of_info(info);
	unsigned long flags;

	spin_lock_irqsave(&nic->phc.lock, flags);
	hwts_phc_rebase(&nic->phc);
	nic->phc.adj = hwts_rate_of_adjfine(scaled_ppm);
	nic->phc.ns += nic->knobs.adj_jump_ns;
	spin_unlock_irqrestore(&nic->phc.lock, flags);
	return 0;
}

static int hwts_adjtime(struct ptp_clock_info *info, s64 delta)
{
	hwts_phc_jump(&hwts_of_info(info)->phc, delta);
	return 0;
}

/* Without @sts it is clock_gettime() or PTP_SYS_OFFSET, which always work. */
static int hwts_gettimex64(struct ptp_clock_info *info, struct timespec64 *ts,
			   struct ptp_system_timestamp *sts)
{
	struct hwts_nic *nic = hwts_of_info(info);
	unsigned long flags;
	u64 raw_ns;

	if (sts && !nic->knobs.extended)
		return -EOPNOTSUPP;
	local_irq_save(flags);
	ptp_read_system_prets(sts);
	ndelay(nic->knobs.read_ns);
	raw_ns = ktime_get_raw_ns();
	ndelay(nic->knobs.read_ns);
	ptp_read_system_postts(sts);
	local_irq_restore(flags);
	*ts = ns_to_timespec64(hwts_phc_read(&nic->phc, raw_ns));
	return 0;
}

static int hwts_settime64(struct ptp_clock_info *info, const struct timespec64 *ts)
{
	hwts_phc_set(&hwts_of_info(info)->phc, timespec64_to_ns(ts));
	return 0;
}

static int hwts_getcrosststamp(struct ptp_clock_info *info,
			       struct system_device_crosststamp *cross)
{
	struct hwts_nic *nic = hwts_of_info(info);
	struct system_time_snapshot now;

	if (!nic->knobs.precise)
		return -EOPNOTSUPP;
	ktime_get_snapshot(&now);
	cross->device = ns_to_ktime(hwts_phc_read(&nic->phc, ktime_to_ns(now.raw)));
	cross->sys_realtime = now.real;
	cross->sys_monoraw = now.raw;
	return 0;
}

static int hwts_phc_init(struct hwts_nic *nic)
{
	int sign = atomic_inc_return(&hwts_devices) % 2 ? 1 : -1;

	spin_lock_init(&nic->phc.lock);
	hwts_phc_set(&nic->phc, ktime_get_real_ns() + phc_offset_s * (s64)NSEC_PER_SEC);
	hwts_phc_set_drift(&nic->phc, sign * (s64)drift_ppb);
	nic->info = (struct ptp_clock_info) {
		.owner = THIS_MODULE,
		.name = HWTS_NAME,
		.max_adj = HWTS_ADJ_MAX_PPB,
		.adjfine = hwts_adjfine,
		.adjtime = hwts_adjtime,
		.gettimex64 = hwts_gettimex64,
		.settime64 = hwts_settime64,
		.getcrosststamp = hwts_getcrosststamp,
	};
	nic->ptp = ptp_clock_register(&nic->info, &nic->lower->dev);
	if (!nic->ptp)
		return -EOPNOTSUPP;
	return PTR_ERR_OR_ZERO(nic->ptp);
}

/* ---- Stamps ---- */

/* What the packet is to a NIC that looks for some only. */
static enum hwts_packets hwts_class_of(const struct sk_buff *skb)
{
	struct flow_keys keys;

	if (skb->protocol == htons(ETH_P_1588))
		return HWTS_PTP;
	if (!skb_flow_dissect_flow_keys(skb, &keys, 0) ||
	    keys.basic.ip_proto != IPPROTO_UDP)
		return HWTS_ALL;
	if (keys.ports.dst == htons(HWTS_PTP_PORT))
		return HWTS_PTP;
	if (keys.ports.dst == htons(HWTS_NTP_PORT) || keys.ports.src == htons(HWTS_NTP_PORT))
		return HWTS_NTP;
	return HWTS_ALL;
}

static bool hwts_has(enum hwts_packets packets, const struct sk_buff *skb)
{
	return packets == HWTS_ALL || packets == hwts_class_of(skb);
}

static u32 hwts_random_below(u32 limit)
{
	return limit ? get_random_u32_below(limit) : 0;
}

/* Counts one more; is it one of every so many? */
static bool hwts_is_nth(atomic_t *count, u32 every)
{
	u32 now = atomic_inc_return(count);

	return every && now % every == 0;
}

static ktime_t hwts_stamp(struct hwts_nic *nic, u64 raw_ns)
{
	struct system_time_snapshot now;
	s64 ns;

	if (nic->knobs.clock.value == HWTS_CLOCK_REALTIME) {
		ktime_get_snapshot(&now);
		ns = ktime_to_ns(now.real) - (ktime_to_ns(now.raw) - raw_ns);
	} else {
		ns = hwts_phc_read(&nic->phc, raw_ns);
	}
	if (nic->knobs.forge_ns && hwts_is_nth(&nic->counts.forge, max(nic->knobs.forge_every, 1)))
		ns += nic->knobs.forge_ns;
	return ns_to_ktime(ns);
}

/* ---- Sending ---- */

static void hwts_hand_over_late(struct hwts_nic *nic, struct sk_buff *skb, ktime_t stamp)
{
	struct sk_buff *clone = skb_clone_sk(skb);

	if (!clone)
		return;
	HWTS_LATE_CB(clone)->stamp = stamp;
	HWTS_LATE_CB(clone)->due = jiffies + msecs_to_jiffies(nic->knobs.tx_delay_ms);
	skb_queue_tail(&nic->late, clone);
	schedule_delayed_work(&nic->late_work, msecs_to_jiffies(nic->knobs.tx_delay_ms));
}

static void hwts_late(struct work_struct *work)
{
	struct hwts_nic *nic = container_of(work, struct hwts_nic, late_work.work);
	struct skb_shared_hwtstamps stamps = { };
	struct sk_buff *skb;

	while ((skb = skb_dequeue(&nic->late))) {
		if (time_before(jiffies, HWTS_LATE_CB(skb)->due)) {
			unsigned long rest = HWTS_LATE_CB(skb)->due - jiffies;

			skb_queue_head(&nic->late, skb);
			schedule_delayed_work(&nic->late_work, rest);
			return;
		}
		stamps.hwtstamp = HWTS_LATE_CB(skb)->stamp;
		skb_complete_tx_timestamp(skb, &stamps);
	}
}

/* The packet has been promised a stamp, and may get it. */
static void hwts_tx_stamp(struct hwts_nic *nic, struct sk_buff *skb, u64 raw_ns)
{
	bool is_lost = hwts_is_nth(&nic->counts.tx, nic->knobs.tx_lose_every);
	struct skb_shared_hwtstamps stamps = { };

	if (is_lost || !nic->knobs.deliver_tx) {
		atomic_inc(&nic->counts.tx_lost);
		return;
	}
	stamps.hwtstamp = hwts_stamp(nic, raw_ns);
	if (nic->knobs.tx_delay_ms)
		hwts_hand_over_late(nic, skb, stamps.hwtstamp);
	else
		skb_tstamp_tx(skb, &stamps);
}

static bool hwts_tx_is_asked_for(struct hwts_nic *nic, const struct sk_buff *skb)
{
	return skb_shinfo(skb)->tx_flags & SKBTX_HW_TSTAMP &&
	       nic->config.tx_type == HWTSTAMP_TX_ON &&
	       hwts_has(nic->knobs.tx_packets.value, skb);
}

static netdev_tx_t hwts_start_xmit(struct sk_buff *skb, struct net_device *dev)
{
	struct hwts_nic *nic = netdev_priv(dev);
	bool is_asked_for = hwts_tx_is_asked_for(nic, skb);
	u64 raw_ns;

	if (is_asked_for)
		skb_shinfo(skb)->tx_flags |= SKBTX_IN_PROGRESS;
	skb_tx_timestamp(skb);
	raw_ns = ktime_get_raw_ns() + hwts_random_below(READ_ONCE(nic->knobs.latency_ns));
	if (is_asked_for)
		hwts_tx_stamp(nic, skb, raw_ns);

	/*
	 * The clones that carry stamps to the socket share what follows with the
	 * packet, which from here on is alone. Stamps are not asked for twice.
	 */
	if (skb_unclone(skb, GFP_ATOMIC)) {
		dev_core_stats_tx_dropped_inc(dev);
		kfree_skb(skb);
		return NETDEV_TX_OK;
	}
	skb_shinfo(skb)->tx_flags &= ~(SKBTX_ANY_TSTAMP | SKBTX_IN_PROGRESS);
	skb_hwtstamps(skb)->hwtstamp = ns_to_ktime(raw_ns);

	dev_sw_netstats_tx_add(dev, 1, skb->len);
	skb->dev = nic->lower;
	dev_queue_xmit(skb);
	return NETDEV_TX_OK;
}

/* ---- Receiving ---- */

/* When a packet that is here in fact arrives. */
static u64 hwts_arrival_of(struct hwts_nic *nic, struct sk_buff *skb)
{
	u64 sent_raw_ns = ktime_to_ns(skb_hwtstamps(skb)->hwtstamp);

	if (!sent_raw_ns)
		return ktime_get_raw_ns();
	return sent_raw_ns + nic->knobs.wire_ns +
	       hwts_random_below(READ_ONCE(nic->knobs.jitter_ns));
}

/* Puts what the lower device has received onto the wire. */
static rx_handler_result_t hwts_handle_frame(struct sk_buff **pskb)
{
	struct hwts_nic *nic = rcu_dereference((*pskb)->dev->rx_handler_data);
	struct sk_buff *skb = skb_share_check(*pskb, GFP_ATOMIC);
	u64 raw_ns;

	if (!skb)
		return RX_HANDLER_CONSUMED;
	if (!netif_running(nic->dev) || skb_unclone(skb, GFP_ATOMIC)) {
		dev_core_stats_rx_dropped_inc(nic->dev);
		kfree_skb(skb);
		return RX_HANDLER_CONSUMED;
	}
	raw_ns = hwts_arrival_of(nic, skb);
	spin_lock_bh(&nic->wire.lock);
	nic->arrival_raw_ns = max(raw_ns, nic->arrival_raw_ns);
	raw_ns = nic->arrival_raw_ns + hwts_random_below(READ_ONCE(nic->knobs.latency_ns));
	nic->due_raw_ns = max(raw_ns, nic->due_raw_ns);
	HWTS_WIRE_CB(skb)->arrival_raw_ns = nic->arrival_raw_ns;
	HWTS_WIRE_CB(skb)->due_raw_ns = nic->due_raw_ns;
	__skb_queue_tail(&nic->wire, skb);
	spin_unlock_bh(&nic->wire.lock);
	napi_schedule(&nic->napi);
	return RX_HANDLER_CONSUMED;
}

/* How long until the first packet on the wire is due; none: KTIME_MAX. */
static s64 hwts_until_due(struct hwts_nic *nic)
{
	const struct sk_buff *skb = skb_peek(&nic->wire);

	return skb ? (s64)(HWTS_WIRE_CB(skb)->due_raw_ns - ktime_get_raw_ns()) : KTIME_MAX;
}

static struct sk_buff *hwts_next_due(struct hwts_nic *nic)
{
	struct sk_buff *skb = NULL;

	spin_lock_bh(&nic->wire.lock);
	if (hwts_until_due(nic) <= 0)
		skb = __skb_dequeue(&nic->wire);
	spin_unlock_bh(&nic->wire.lock);
	return skb;
}

static void hwts_rx_stamp(struct hwts_nic *nic, struct sk_buff *skb, u64 raw_ns)
{
	bool is_lost;

	skb_hwtstamps(skb)->hwtstamp = 0;
	if (nic->config.rx_filter == HWTSTAMP_FILTER_NONE ||
	    !hwts_has(nic->knobs.rx_packets.value, skb))
		return;
	is_lost = hwts_is_nth(&nic->counts.rx, nic->knobs.rx_lose_every);
	if (is_lost || !nic->knobs.deliver_rx) {
		atomic_inc(&nic->counts.rx_lost);
		return;
	}
	skb_hwtstamps(skb)->hwtstamp = hwts_stamp(nic, raw_ns);
}

static void hwts_receive(struct hwts_nic *nic, struct sk_buff *skb)
{
	hwts_rx_stamp(nic, skb, HWTS_WIRE_CB(skb)->arrival_raw_ns);
	/* The stack's own stamp, of the lower device's, was of before the wire. */
	skb->tstamp = 0;
	skb->dev = nic->dev;
	skb->pkt_type = PACKET_HOST;
	eth_skb_pkt_type(skb, nic->dev);
	skb_mark_napi_id(skb, &nic->napi);
	dev_sw_netstats_rx_add(nic->dev, skb->len + ETH_HLEN);
	netif_receive_skb(skb);
}

static int hwts_poll(struct napi_struct *napi, int budget)
{
	struct hwts_nic *nic = container_of(napi, struct hwts_nic, napi);
	struct sk_buff *skb;
	int done = 0;
	s64 rest_ns;

	while (done < budget && (skb = hwts_next_due(nic))) {
		hwts_receive(nic, skb);
		done++;
	}
	if (done < budget && napi_complete_done(napi, done)) {
		spin_lock_bh(&nic->wire.lock);
		rest_ns = hwts_until_due(nic);
		spin_unlock_bh(&nic->wire.lock);
		if (rest_ns != KTIME_MAX)
			hrtimer_start(&nic->due, max(rest_ns, 0), HRTIMER_MODE_REL_SOFT);
	}
	return done;
}

static enum hrtimer_restart hwts_due(struct hrtimer *timer)
{
	napi_schedule(&container_of(timer, struct hwts_nic, due)->napi);
	return HRTIMER_NORESTART;
}

/* ---- The device ---- */

static int hwts_open(struct net_device *dev)
{
	struct hwts_nic *nic = netdev_priv(dev);
	int err = dev_open(nic->lower, NULL);

	if (err)
		return err;
	/* Filtering by address is ours: the two may differ (bonds set addresses). */
	err = dev_set_promiscuity(nic->lower, 1);
	if (err)
		return err;
	napi_enable(&nic->napi);
	netif_stacked_transfer_operstate(nic->lower, dev);
	return 0;
}

static int hwts_stop(struct net_device *dev)
{
	struct hwts_nic *nic = netdev_priv(dev);

	netif_carrier_off(dev);
	napi_disable(&nic->napi);
	hrtimer_cancel(&nic->due);
	skb_queue_purge(&nic->wire);
	dev_set_promiscuity(nic->lower, -1);
	return 0;
}

static int hwts_get_iflink(const struct net_device *dev)
{
	return READ_ONCE(((struct hwts_nic *)netdev_priv(dev))->lower->ifindex);
}

static int hwts_hwtstamp_get(struct net_device *dev, struct kernel_hwtstamp_config *config)
{
	*config = ((struct hwts_nic *)netdev_priv(dev))->config;
	return 0;
}

/* As NICs do: a filter that can't be had is replaced by one that covers it. */
static int hwts_filter_for(enum hwts_packets packets, int filter)
{
	bool is_ptp = filter >= HWTSTAMP_FILTER_PTP_V1_L4_EVENT &&
		      filter <= HWTSTAMP_FILTER_PTP_V2_DELAY_REQ;

	if (filter == HWTSTAMP_FILTER_NONE)
		return filter;
	if (packets == HWTS_ALL)
		return HWTSTAMP_FILTER_ALL;
	if (packets == HWTS_NTP && filter == HWTSTAMP_FILTER_NTP_ALL)
		return filter;
	if (packets == HWTS_PTP && is_ptp)
		return HWTSTAMP_FILTER_PTP_V2_EVENT;
	return -ERANGE;
}

static int hwts_hwtstamp_set(struct net_device *dev, struct kernel_hwtstamp_config *config,
			     struct netlink_ext_ack *extack)
{
	struct hwts_nic *nic = netdev_priv(dev);
	int filter = hwts_filter_for(nic->knobs.rx_packets.value, config->rx_filter);
	bool is_on = config->tx_type != HWTSTAMP_TX_OFF || config->rx_filter != HWTSTAMP_FILTER_NONE;

	if (is_on && nic->knobs.refuse)
		return -ERANGE;
	if (filter < 0)
		return filter;
	if (config->tx_type > HWTSTAMP_TX_ON)
		return -ERANGE;
	if (config->tx_type == HWTSTAMP_TX_ON && nic->knobs.tx_packets.value == HWTS_NONE)
		return -ERANGE;
	config->rx_filter = filter;
	nic->config = *config;
	return 0;
}

static const struct net_device_ops hwts_netdev_ops = {
	.ndo_open = hwts_open,
	.ndo_stop = hwts_stop,
	.ndo_start_xmit = hwts_start_xmit,
	.ndo_set_mac_address = eth_mac_addr,
	.ndo_validate_addr = eth_validate_addr,
	.ndo_get_iflink = hwts_get_iflink,
	.ndo_hwtstamp_get = hwts_hwtstamp_get,
	.ndo_hwtstamp_set = hwts_hwtstamp_set,
};

static int hwts_get_ts_info(struct net_device *dev, struct kernel_ethtool_ts_info *info)
{
	struct hwts_nic *nic = netdev_priv(dev);

	info->phc_index = ptp_clock_index(nic->ptp);
	info->so_timestamping = SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_RX_SOFTWARE |
				SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_RAW_HARDWARE;
	info->tx_types = BIT(HWTSTAMP_TX_OFF);
	if (nic->knobs.tx_packets.value != HWTS_NONE) {
		info->so_timestamping |= SOF_TIMESTAMPING_TX_HARDWARE;
		info->tx_types |= BIT(HWTSTAMP_TX_ON);
	}
	info->rx_filters = BIT(HWTSTAMP_FILTER_NONE);
	if (nic->knobs.rx_packets.value != HWTS_NONE)
		info->so_timestamping |= SOF_TIMESTAMPING_RX_HARDWARE;
	switch (nic->knobs.rx_packets.value) {
	case HWTS_ALL:
		info->rx_filters |= BIT(HWTSTAMP_FILTER_ALL);
		break;
	case HWTS_NTP:
		info->rx_filters |= BIT(HWTSTAMP_FILTER_NTP_ALL);
		break;
	case HWTS_PTP:
		info->rx_filters |= BIT(HWTSTAMP_FILTER_PTP_V2_EVENT);
		break;
	}
	return 0;
}

static int hwts_get_link_ksettings(struct net_device *dev, struct ethtool_link_ksettings *link)
{
	struct hwts_nic *nic = netdev_priv(dev);

	link->base.speed = nic->knobs.speed_mbps ?: SPEED_UNKNOWN;
	link->base.duplex = DUPLEX_FULL;
	return 0;
}

static void hwts_get_drvinfo(struct net_device *dev, struct ethtool_drvinfo *info)
{
	strscpy(info->driver, HWTS_NAME, sizeof(info->driver));
}

static const struct ethtool_ops hwts_ethtool_ops = {
	.get_drvinfo = hwts_get_drvinfo,
	.get_link = ethtool_op_get_link,
	.get_link_ksettings = hwts_get_link_ksettings,
	.get_ts_info = hwts_get_ts_info,
};

/* ---- Knobs ---- */

static int hwts_signed_get(void *data, u64 *value)
{
	*value = *(s64 *)data;
	return 0;
}

static int hwts_signed_set(void *data, u64 value)
{
	*(s64 *)data = value;
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE_SIGNED(hwts_signed_fops, hwts_signed_get, hwts_signed_set, "%lld\n");

static int hwts_drift_get(void *data, u64 *value)
{
	*value = ((struct hwts_nic *)data)->phc.drift_ppb;
	return 0;
}

static int hwts_drift_set(void *data, u64 value)
{
	hwts_phc_set_drift(&((struct hwts_nic *)data)->phc, value);
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE_SIGNED(hwts_drift_fops, hwts_drift_get, hwts_drift_set, "%lld\n");

/* The PHC jumps, as by no order of its user. */
static int hwts_jump_set(void *data, u64 value)
{
	hwts_phc_jump(&((struct hwts_nic *)data)->phc, value);
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE_SIGNED(hwts_jump_fops, NULL, hwts_jump_set, "%lld\n");

/* What a driver's reset does: stamping is off, and the PHC starts anew. */
static int hwts_reset_set(void *data, u64 value)
{
	struct hwts_nic *nic = data;

	nic->config = (struct kernel_hwtstamp_config) { };
	hwts_phc_set(&nic->phc, ktime_get_real_ns());
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(hwts_reset_fops, NULL, hwts_reset_set, "%llu\n");

static ssize_t hwts_choice_read(struct file *file, char __user *to, size_t len, loff_t *at)
{
	const struct hwts_choice *choice = file->private_data;
	char word[16];
	int size = scnprintf(word, sizeof(word), "%s\n", choice->names[choice->value]);

	return simple_read_from_buffer(to, len, at, word, size);
}

static ssize_t hwts_choice_write(struct file *file, const char __user *from, size_t len,
				 loff_t *at)
{
	struct hwts_choice *choice = file->private_data;
	char word[16] = "";
	int value;

	if (len >= sizeof(word))
		return -EINVAL;
	if (copy_from_user(word, from, len))
		return -EFAULT;
	value = __sysfs_match_string(choice->names, -1, word);
	if (value < 0)
		return value;
	choice->value = value;
	return len;
}

static const struct file_operations hwts_choice_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.read = hwts_choice_read,
	.write = hwts_choice_write,
};

static void hwts_knobs_init(struct hwts_knobs *knobs)
{
	*knobs = (struct hwts_knobs) {
		.wire_ns = 2000,
		.speed_mbps = SPEED_1000,
		.extended = true,
		.precise = true,
		.deliver_tx = true,
		.deliver_rx = true,
		.tx_packets = { .names = hwts_packets_names },
		.rx_packets = { .names = hwts_packets_names },
		.clock = { .names = hwts_clock_names },
	};
}

static void hwts_debugfs_init(struct hwts_nic *nic)
{
	struct hwts_knobs *knobs = &nic->knobs;
	struct dentry *dir = debugfs_create_dir(nic->dev->name, hwts_debugfs);

	nic->debugfs = dir;
	debugfs_create_u32("wire_ns", 0644, dir, &knobs->wire_ns);
	debugfs_create_u32("jitter_ns", 0644, dir, &knobs->jitter_ns);
	debugfs_create_u32("latency_ns", 0644, dir, &knobs->latency_ns);
	debugfs_create_u32("read_ns", 0644, dir, &knobs->read_ns);
	debugfs_create_u32("speed_mbps", 0644, dir, &knobs->speed_mbps);
	debugfs_create_u32("tx_lose_every", 0644, dir, &knobs->tx_lose_every);
	debugfs_create_u32("rx_lose_every", 0644, dir, &knobs->rx_lose_every);
	debugfs_create_u32("tx_delay_ms", 0644, dir, &knobs->tx_delay_ms);
	debugfs_create_u32("forge_every", 0644, dir, &knobs->forge_every);
	debugfs_create_file("forge_ns", 0644, dir, &knobs->forge_ns, &hwts_signed_fops);
	debugfs_create_file("adj_jump_ns", 0644, dir, &knobs->adj_jump_ns, &hwts_signed_fops);
	debugfs_create_bool("extended", 0644, dir, &knobs->extended);
	debugfs_create_bool("precise", 0644, dir, &knobs->precise);
	debugfs_create_bool("deliver_tx", 0644, dir, &knobs->deliver_tx);
	debugfs_create_bool("deliver_rx", 0644, dir, &knobs->deliver_rx);
	debugfs_create_bool("refuse", 0644, dir, &knobs->refuse);
	debugfs_create_file("tx_packets", 0644, dir, &knobs->tx_packets, &hwts_choice_fops);
	debugfs_create_file("rx_packets", 0644, dir, &knobs->rx_packets, &hwts_choice_fops);
	debugfs_create_file("clock", 0644, dir, &knobs->clock, &hwts_choice_fops);
	debugfs_create_file("drift_ppb", 0644, dir, nic, &hwts_drift_fops);
	debugfs_create_file("jump_ns", 0200, dir, nic, &hwts_jump_fops);
	debugfs_create_file("reset", 0200, dir, nic, &hwts_reset_fops);
	debugfs_create_atomic_t("tx_count", 0444, dir, &nic->counts.tx);
	debugfs_create_atomic_t("tx_lost_count", 0444, dir, &nic->counts.tx_lost);
	debugfs_create_atomic_t("rx_count", 0444, dir, &nic->counts.rx);
	debugfs_create_atomic_t("rx_lost_count", 0444, dir, &nic->counts.rx_lost);
}

/* ---- Coming and going ---- */

static void hwts_setup(struct net_device *dev)
{
	ether_setup(dev);
	dev->netdev_ops = &hwts_netdev_ops;
	dev->ethtool_ops = &hwts_ethtool_ops;
	dev->needs_free_netdev = true;
	dev->lltx = true;
	dev->priv_flags |= IFF_NO_QUEUE;
	dev->pcpu_stat_type = NETDEV_PCPU_STAT_TSTATS;
}

static void hwts_destroy(struct hwts_nic *nic)
{
	debugfs_remove_recursive(nic->debugfs);
	cancel_delayed_work_sync(&nic->late_work);
	skb_queue_purge(&nic->late);
	ptp_clock_unregister(nic->ptp);
}

static int hwts_newlink(struct net *src_net, struct net_device *dev, struct nlattr *tb[],
			struct nlattr *data[], struct netlink_ext_ack *extack)
{
	struct hwts_nic *nic = netdev_priv(dev);
	int err;

	if (!tb[IFLA_LINK]) {
		NL_SET_ERR_MSG(extack, "a hwts device needs a lower one: link DEVICE");
		return -EINVAL;
	}
	nic->dev = dev;
	nic->lower = __dev_get_by_index(src_net, nla_get_u32(tb[IFLA_LINK]));
	if (!nic->lower)
		return -ENODEV;
	if (!tb[IFLA_ADDRESS])
		eth_hw_addr_inherit(dev, nic->lower);
	dev->mtu = nic->lower->mtu;
	hwts_knobs_init(&nic->knobs);
	skb_queue_head_init(&nic->wire);
	skb_queue_head_init(&nic->late);
	INIT_DELAYED_WORK(&nic->late_work, hwts_late);
	hrtimer_init(&nic->due, CLOCK_MONOTONIC, HRTIMER_MODE_REL_SOFT);
	nic->due.function = hwts_due;
	err = hwts_phc_init(nic);
	if (err)
		return err;
	netif_napi_add(dev, &nic->napi, hwts_poll);
	err = register_netdevice(dev);
	if (err)
		goto no_device;
	err = netdev_rx_handler_register(nic->lower, hwts_handle_frame, nic);
	if (err)
		goto no_handler;
	err = netdev_upper_dev_link(nic->lower, dev, extack);
	if (err)
		goto no_link;
	netdev_hold(nic->lower, &nic->lower_tracker, GFP_KERNEL);
	hwts_debugfs_init(nic);
	netif_stacked_transfer_operstate(nic->lower, dev);
	return 0;

no_link:
	netdev_rx_handler_unregister(nic->lower);
no_handler:
	unregister_netdevice(dev);
no_device:
	ptp_clock_unregister(nic->ptp);
	return err;
}

static void hwts_dellink(struct net_device *dev, struct list_head *head)
{
	struct hwts_nic *nic = netdev_priv(dev);

	/* Closes the device, while the lower one is still ours. */
	dev_close(dev);
	netdev_rx_handler_unregister(nic->lower);
	netdev_upper_dev_unlink(nic->lower, dev);
	hwts_destroy(nic);
	netdev_put(nic->lower, &nic->lower_tracker);
	unregister_netdevice_queue(dev, head);
}

static struct net *hwts_get_link_net(const struct net_device *dev)
{
	return dev_net(((struct hwts_nic *)netdev_priv(dev))->lower);
}

static struct rtnl_link_ops hwts_link_ops = {
	.kind = HWTS_NAME,
	.priv_size = sizeof(struct hwts_nic),
	.setup = hwts_setup,
	.newlink = hwts_newlink,
	.dellink = hwts_dellink,
	.get_link_net = hwts_get_link_net,
};

static bool hwts_is_lower(const struct net_device *dev)
{
	return rtnl_dereference(dev->rx_handler) == hwts_handle_frame;
}

/* The lower device has its cable pulled, or is unplugged. */
static int hwts_event(struct notifier_block *block, unsigned long event, void *data)
{
	struct net_device *lower = netdev_notifier_info_to_dev(data);
	struct hwts_nic *nic;
	LIST_HEAD(gone);

	if (!hwts_is_lower(lower))
		return NOTIFY_DONE;
	nic = rtnl_dereference(lower->rx_handler_data);
	switch (event) {
	case NETDEV_UP:
	case NETDEV_DOWN:
	case NETDEV_CHANGE:
		netif_stacked_transfer_operstate(lower, nic->dev);
		break;
	case NETDEV_UNREGISTER:
		/* Not when it only moves to another namespace. */
		if (lower->reg_state != NETREG_UNREGISTERING)
			break;
		hwts_dellink(nic->dev, &gone);
		unregister_netdevice_many(&gone);
		break;
	}
	return NOTIFY_DONE;
}

static struct notifier_block hwts_notifier = {
	.notifier_call = hwts_event,
};

static int __init hwts_init(void)
{
	int err;

	hwts_debugfs = debugfs_create_dir(HWTS_NAME, NULL);
	err = register_netdevice_notifier(&hwts_notifier);
	if (err)
		goto no_notifier;
	err = rtnl_link_register(&hwts_link_ops);
	if (err)
		goto no_link_type;
	return 0;

no_link_type:
	unregister_netdevice_notifier(&hwts_notifier);
no_notifier:
	debugfs_remove_recursive(hwts_debugfs);
	return err;
}

static void __exit hwts_exit(void)
{
	rtnl_link_unregister(&hwts_link_ops);
	unregister_netdevice_notifier(&hwts_notifier);
	debugfs_remove_recursive(hwts_debugfs);
}

module_init(hwts_init);
module_exit(hwts_exit);
MODULE_DESCRIPTION("A NIC with a PTP hardware clock, and its faults, above another device");
MODULE_LICENSE("GPL");
MODULE_ALIAS_RTNL_LINK(HWTS_NAME);
