//! `restrict limited`: who asks too often. The rules are ntpd's (`discard
//! average`, `discard minimum`): a bucket per client leaks one unit a second; a
//! request fills it by the average headway less two, and one that would reach
//! eight times the average headway is over the limit, as is one that follows
//! its predecessor too closely. The first packet over the limit raises the
//! bucket beyond it, and the next kiss is due only when it has leaked below, so
//! kisses are rarer than the average headway.
//!
//! Or chrony's (`ratelimit`): a bucket of tokens, filled by time, emptied by requests;
//! now and then, by chance, one over the limit is answered or told so.
//!
//! One table per worker, allocated once. It needs no place for every client, only
//! for those who asked within the last average headway: who is not back by then is
//! within the limits. So memory follows from the rate of requests, not from how
//! many clients there are: 16 octets times 8 s times requests a second.
//!
//! A flood from invented addresses can't wipe out what is known of real clients:
//! only entries whose bucket has run empty, which know nothing worth keeping, make
//! room for new ones, and an address that was seen once has an empty bucket. A
//! client for whom there is no room is not limited.

use std::net::IpAddr;

use crate::dice::{below, keyed_hash};
use crate::server::rule::{self, Bucket, RateLimit};
use crate::time::instant::MonoInstant;

/// Entries per set: 128 octets, two cache lines.
const WAYS: usize = 8;
/// Requests at the average headway that fit into a bucket (ntpd's NTP_SHIFT).
const BURST: u32 = 8;
/// How much less than the average headway a request adds (ntpd's grace, in seconds).
const GRACE_S: u32 = 2;
/// Largest `discard average` that is honoured: 2^12 s. The bucket fits 16 bits.
const AVERAGE_LOG2_MAX: u8 = 12;
/// Times are kept in 1/64 s: fine enough to round seconds, and good for a year.
const TICK_NS: i64 = 1_000_000_000 / TICKS_PER_SECOND as i64;
const TICKS_PER_SECOND: u32 = 64;

/// The level of a [`Bucket`] is kept in parts of a request: 255 requests fit 16 bits.
const UNITS: u32 = 256;

/// Memory for a client, in octets.
pub const CLIENT_LEN: usize = size_of::<Words>();

/// How the limits judge a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Headway {
    /// Within the limits, or not known.
    Enough,
    /// Too soon, and it is time to say so (if `kod` allows).
    TooSoonAndDue,
    /// Too soon, and it was said not long ago.
    TooSoon,
}

/// Clients and when they asked.
#[derive(Clone, Debug)]
pub struct RateTable {
    /// [`Entry`]s, set by set. As words, because memory that was never written
    /// costs nothing where all it has to hold is zeros.
    entries: Box<[Words]>,
    /// What their levels count: requests of a [`Bucket`], or seconds.
    by_bucket: bool,
    seed: u64,
    /// Goes on with each request over the limit of a [`Bucket`].
    chance: u64,
}

/// An [`Entry`] as it is kept.
type Words = [u64; 2];

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: Key,
    /// Of the last request, in ticks, wrapping.
    last: u32,
    /// Level at `last`, seconds.
    bucket: u16,
}

impl Entry {
    fn from_words([key, rest]: Words) -> Self {
        Self {
            key: Key(key),
            last: (rest >> 32) as u32,
            bucket: rest as u16,
        }
    }

    fn to_words(self) -> Words {
        [
            self.key.0,
            u64::from(self.last) << 32 | u64::from(self.bucket),
        ]
    }

    fn is_free(&self) -> bool {
        self.key == Key::NOBODY
    }

    /// Whole seconds since the last request, rounded to the nearest as ntpd does.
    fn idle_s(&self, now: u32) -> u32 {
        let ticks = now.wrapping_sub(self.last);
        // `now` may lie a little before `last` when batches interleave.
        if ticks > u32::MAX / 2 {
            0
        } else {
            (ticks + TICKS_PER_SECOND / 2) / TICKS_PER_SECOND
        }
    }

    /// What is left in the bucket; the less (below zero: the longer empty), the
    /// less there is to lose.
    fn worth(&self, now: u32, limit: RateLimit) -> i64 {
        let (level, drained) = match limit {
            RateLimit::Headway(_) => (self.bucket.into(), self.idle_s(now).into()),
            // Who asked but once is no loss.
            RateLimit::Bucket(bucket) => (
                i64::from(self.bucket) - i64::from(UNITS),
                self.drained(now, bucket).try_into().unwrap_or(i64::MAX),
            ),
        };
        level.saturating_sub(drained)
    }

    /// Units that time has taken off the level since `last`.
    fn drained(&self, now: u32, bucket: Bucket) -> u64 {
        let ticks = now.wrapping_sub(self.last);
        if ticks > u32::MAX / 2 {
            return 0;
        }
        u64::from(ticks) * TICK_NS as u64 * u64::from(UNITS) / interval_ns(bucket)
    }
}

/// One client: an IPv4 address or an IPv6 /64, which is what one subscriber has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Key(u64);

impl Key {
    /// Below, all bits are inverted: no unicast IPv6 prefix has them all set, nor is
    /// 255.255.255.255 anybody's.
    const NOBODY: Self = Self(0);

    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            // ffff:ffff::/32 is multicast, so IPv4 may live there.
            IpAddr::V4(v4) => Self(!(0xffff_ffff << 32 | u64::from(u32::from(v4)))),
            IpAddr::V6(v6) => Self(!((u128::from(v6) >> 64) as u64)),
        }
    }
}

impl RateTable {
    /// A table for `clients` clients, [`CLIENT_LEN`] octets each. `seed` should be unguessable.
    pub fn new(clients: usize, seed: u64) -> Self {
        let sets = clients.div_ceil(WAYS).max(1);
        Self {
            entries: empty(sets * WAYS),
            by_bucket: false,
            seed,
            chance: seed,
        }
    }

    /// Judges and remembers a request from `address`.
    pub fn judge(&mut self, address: IpAddr, now: MonoInstant, limit: RateLimit) -> Headway {
        if self.by_bucket != limit.is_bucket() {
            self.by_bucket = !self.by_bucket;
            self.entries = empty(self.entries.len());
        }
        let key = Key::of(address);
        let now = (now.nanos() / TICK_NS) as u32;
        let sets = (self.entries.len() / WAYS) as u32;
        let set = below(sets, keyed_hash(self.seed, key.0)) as usize;
        let set = &mut self.entries[set * WAYS..][..WAYS];
        if let Some(words) = set.iter_mut().find(|words| words[0] == key.0) {
            let mut entry = Entry::from_words(*words);
            let headway = match limit {
                RateLimit::Headway(limit) => judge_known(&mut entry, now, limit),
                RateLimit::Bucket(bucket) => {
                    if pour(&mut entry, now, bucket) {
                        Headway::Enough
                    } else {
                        self.chance = keyed_hash(self.seed, self.chance);
                        by_chance(self.chance, bucket)
                    }
                }
            };
            *words = entry.to_words();
            return headway;
        }
        let worth = |words: &Words| match Entry::from_words(*words) {
            entry if entry.is_free() => i64::MIN,
            entry => entry.worth(now, limit),
        };
        let least = set.iter_mut().min_by_key(|words| worth(words));
        let least = least.expect("a set is never empty");
        if worth(least) <= 0 {
            let entry = Entry {
                key,
                last: now,
                bucket: match limit {
                    // As in ntpd, the first request is free.
                    RateLimit::Headway(_) => 0,
                    RateLimit::Bucket(_) => UNITS as u16,
                },
            };
            *least = entry.to_words();
        }
        Headway::Enough
    }
}

/// Costs nothing until it is written to.
fn empty(entries: usize) -> Box<[Words]> {
    vec![Words::default(); entries].into_boxed_slice()
}

fn interval_ns(bucket: Bucket) -> u64 {
    bucket.interval.as_nanos().max(1).unsigned_abs()
}

/// Is there room for one more request? Then it is in.
fn pour(entry: &mut Entry, now: u32, bucket: Bucket) -> bool {
    let interval_ns = interval_ns(bucket);
    let drained = entry.drained(now, bucket);
    let level = u64::from(entry.bucket).saturating_sub(drained);
    if level == 0 {
        entry.last = now;
    } else {
        // What is less than a unit is not lost.
        let spent_ns = u128::from(drained) * u128::from(interval_ns) / u128::from(UNITS);
        let ticks = spent_ns.div_ceil(TICK_NS as u128);
        entry.last = entry.last.wrapping_add(ticks as u32);
    }
    // Shorter intervals than a tick are not seen: what belongs to one tick may come at once.
    let burst = u64::from(bucket.burst.max(1)).max(TICK_NS as u64 / interval_ns);
    let filled = level + u64::from(UNITS);
    let fits = filled <= burst.min(255) * u64::from(UNITS);
    entry.bucket = if fits { filled } else { level } as u16;
    fits
}

/// What becomes of a request over the limit.
fn by_chance(chance: u64, bucket: Bucket) -> Headway {
    let one_in = |log2: u8, bits: u64| log2 > 0 && bits & ((1 << log2.min(16)) - 1) == 0;
    if one_in(bucket.kod_log2, chance >> 32) {
        Headway::TooSoonAndDue
    } else if one_in(bucket.leak_log2, chance) {
        Headway::Enough
    } else {
        Headway::TooSoon
    }
}

fn judge_known(entry: &mut Entry, now: u32, limit: rule::Headway) -> Headway {
    let idle_s = entry.idle_s(now);
    let left = u32::from(entry.bucket).saturating_sub(idle_s);
    let headway = 1 << limit.average_log2_s.min(AVERAGE_LOG2_MAX);
    let full = BURST * headway;
    let filled = left + headway;
    // One second of grace for the minimum.
    let far_enough = idle_s + 1 >= u32::from(limit.minimum_s);
    let (level, verdict) = if far_enough && filled < full {
        (filled.saturating_sub(GRACE_S), Headway::Enough)
    } else if left < full {
        (full + headway, Headway::TooSoonAndDue)
    } else {
        (left, Headway::TooSoon)
    };
    entry.last = now;
    // At most nine times 2^12.
    entry.bucket = level as u16;
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;
    use crate::time::duration::NtpDuration;

    fn at(seconds: f64) -> MonoInstant {
        MonoInstant::from_nanos(5_000_000_000_000) + NtpDuration::from_seconds(seconds)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    const CLIENT: &str = "192.0.2.1";

    /// The moments from `times` at which the client was told he is too fast.
    fn run(times: impl Iterator<Item = f64>) -> (usize, usize, usize) {
        let mut table = RateTable::new(64, 1);
        let (mut enough, mut due, mut silent) = (0, 0, 0);
        for time in times {
            match table.judge(ip(CLIENT), at(time), RateLimit::default()) {
                Headway::Enough => enough += 1,
                Headway::TooSoonAndDue => due += 1,
                Headway::TooSoon => silent += 1,
            }
        }
        (enough, due, silent)
    }

    #[test]
    fn polls_at_the_average_headway_always_pass() {
        assert_eq!(run((0..1000).map(|n| f64::from(n) * 8.0)), (1000, 0, 0));
    }

    #[test]
    fn a_burst_of_eight_at_two_seconds_passes() {
        let burst = (0..8).map(|n| f64::from(n) * 2.0);
        assert_eq!(run(burst), (8, 0, 0));
    }

    #[test]
    fn too_close_is_over_the_limit_and_told_once() {
        // Minimum 2 with a second of grace: half a second rounds to one.
        assert_eq!(run([0.0, 0.6].into_iter()), (2, 0, 0));
        assert_eq!(run([0.0, 0.4].into_iter()), (1, 1, 0));
        assert_eq!(run([0.0, 0.1, 0.2, 0.3].into_iter()), (1, 1, 2));
    }

    #[test]
    fn a_flood_is_told_no_more_often_than_the_average_headway() {
        // 100 s at 10 requests a second: intervals round to zero, nothing leaks.
        let (enough, due, silent) = run((0..1000).map(|n| f64::from(n) * 0.1));
        assert_eq!((enough, due), (1, 1));
        assert_eq!(silent, 998);
        // One request a second leaks one a second: a kiss each nine requests.
        let (enough, due, silent) = run((0..1000).map(f64::from));
        assert_eq!(enough + due + silent, 1000);
        assert!(enough < 20, "{enough}");
        assert!((100..=125).contains(&due), "{due}");
    }

    #[test]
    fn who_asked_once_is_not_held_to_another_kind_of_limit() {
        let mut table = RateTable::new(64, 1);
        let bucket = RateLimit::Bucket(Bucket {
            interval: NtpDuration::from_whole_seconds(1),
            burst: 8,
            leak_log2: 0,
            kod_log2: 0,
        });
        for (second, limit) in [bucket, RateLimit::default(), bucket]
            .into_iter()
            .enumerate()
        {
            let now = at(10.0 * second as f64);
            assert_eq!(table.judge(ip(CLIENT), now, limit), Headway::Enough);
        }
    }

    #[test]
    fn silence_is_forgiven() {
        let times = (0..100).map(|n| f64::from(n) * 0.1).chain([90.0]);
        let (enough, _, _) = run(times);
        assert_eq!(enough, 2);
    }

    #[test]
    fn one_ipv6_subscriber_is_one_client() {
        let mut table = RateTable::new(64, 1);
        let mut judge = |address| table.judge(ip(address), at(0.0), RateLimit::default());
        assert_eq!(judge("2001:db8:1:2::1"), Headway::Enough);
        assert_eq!(judge("2001:db8:1:2:ffff::9"), Headway::TooSoonAndDue);
        assert_eq!(judge("2001:db8:1:3::1"), Headway::Enough);
        assert_eq!(judge("192.0.2.1"), Headway::Enough);
        assert_eq!(judge("::ffff:192.0.2.1"), Headway::TooSoonAndDue);
    }

    #[test]
    fn a_flood_of_strangers_does_not_free_those_who_are_over_the_limit() {
        let mut table = RateTable::new(1024, 7);
        let client = |n: u32| IpAddr::V4((0x0a00_0000 + n).into());
        for n in 0..100 {
            for _ in 0..2 {
                let _ = table.judge(client(n), at(0.0), RateLimit::default());
            }
        }
        let mut dice = Dice::new(3);
        for _ in 0..200_000 {
            let stranger = IpAddr::V4((dice.roll() as u32 | 0x8000_0000).into());
            let _ = table.judge(stranger, at(1.0), RateLimit::default());
        }
        let still = (0..100)
            .filter(|n| table.judge(client(*n), at(2.0), RateLimit::default()) == Headway::TooSoon)
            .count();
        assert_eq!(still, 100);
    }

    #[test]
    fn ten_million_clients_and_a_few_greedy_ones_in_sixteen_mebibytes() {
        // Each of ten million asks once within 85 s, 117,000 a second, and in
        // between a hundred ask every two seconds.
        const CLIENTS: u32 = 10_000_000;
        const SECONDS: f64 = 85.0;
        let limit = RateLimit::default();
        let mut table = RateTable::new(1 << 20, 5);
        assert_eq!(size_of_val(&*table.entries), 16 << 20);
        let (mut greedy, mut limited, mut innocent) = (0, 0, 0);
        for n in 0..CLIENTS {
            let now = at(SECONDS * f64::from(n) / f64::from(CLIENTS));
            let client = IpAddr::V4((0x0a00_0000 + n).into());
            innocent += u32::from(table.judge(client, now, limit) != Headway::Enough);
            if n % 2_353 == 0 {
                let client = IpAddr::V4((0xc000_0200 + n / 2_353 % 100).into());
                greedy += 1;
                limited += u32::from(table.judge(client, now, limit) != Headway::Enough);
            }
        }
        assert_eq!(innocent, 0);
        // ntpd's bucket lets the first eleven or so of the forty-two pass, and one
        // in four afterwards.
        let share = f64::from(limited) / f64::from(greedy);
        assert!(share > 0.5, "{share}");
    }

    /// How many of a request each `step_s` for `seconds` are answered.
    fn answered(bucket: Bucket, step_s: f64, seconds: f64) -> u32 {
        let mut table = RateTable::new(64, 9);
        let judge = |n: u32| {
            let now = at(f64::from(n) * step_s);
            table.judge(ip(CLIENT), now, RateLimit::Bucket(bucket))
        };
        let all = (0..(seconds / step_s) as u32).map(judge);
        all.filter(|verdict| *verdict == Headway::Enough).count() as u32
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_one_for_each_interval() {
        let bucket = Bucket {
            leak_log2: 0,
            ..Bucket::default()
        };
        assert_eq!(answered(bucket, 0.001, 1.0), 8);
        let of_a_day = answered(bucket, 1.0, 8000.0);
        assert!((1006..=1008).contains(&of_a_day), "{of_a_day}");
        assert_eq!(answered(bucket, 8.0, 8000.0), 1000);
        let quick = Bucket {
            interval: NtpDuration::from_seconds(0.125),
            ..bucket
        };
        let of_a_minute = answered(quick, 0.05, 60.0);
        assert!((480..=490).contains(&of_a_minute), "{of_a_minute}");
    }

    #[test]
    fn one_in_four_gets_through_by_chance() {
        let through = answered(Bucket::default(), 0.01, 100.0);
        assert!((2300..=2750).contains(&through), "{through}");
        let told = Bucket {
            kod_log2: 1,
            leak_log2: 0,
            ..Bucket::default()
        };
        let mut table = RateTable::new(64, 9);
        let mut judge = |n: u32| {
            let now = at(f64::from(n) * 0.001);
            table.judge(ip(CLIENT), now, RateLimit::Bucket(told))
        };
        let told = (0..1000).filter(|n| judge(*n) == Headway::TooSoonAndDue);
        let told = told.count();
        assert!((400..=600).contains(&told), "{told}");
    }

    #[test]
    fn extreme_limits_do_not_overflow() {
        let limit = RateLimit::Headway(rule::Headway {
            average_log2_s: u8::MAX,
            minimum_s: u8::MAX,
        });
        let mut table = RateTable::new(0, 1);
        for n in 0..100 {
            let _ = table.judge(ip(CLIENT), at(f64::from(n) * 300.0), limit);
        }
        assert_eq!(
            table.judge(ip(CLIENT), MonoInstant::ZERO, limit),
            Headway::TooSoon
        );
    }
}
