//! Load by XDP (`ptntp bench --xdp`): what stands in the maps of the two programs beside
//! this file, `load.bpf.h` in Rust. Where `load/engine` decides for each request, here
//! all is said before the first one; the programs do it, and leave counts.

use std::net::IpAddr;
use std::num::NonZeroU32;

use crate::load::engine::stride;
use crate::load::frame::{HEADERS_LEN_MAX, Template};
use crate::load::prefix::Prefix;
use crate::load::schedule::{GRACE_NS, Pace, Schedule};
use crate::load::stamps::unix_ns;
use crate::load::tally::{INTERVALS, Invalid, Tally};
use crate::time::timestamp::NtpTimestamp;
use crate::wire::packet::HEADER_LEN;

/// The program that sends, as clang made it.
pub const GENERATE: &[u8] = include_bytes!("xdp/generate.bpf.o");
/// The program that takes answers.
pub const RECEIVE: &[u8] = include_bytes!("xdp/receive.bpf.o");

/// Octets of the longest frame: IPv6.
const FRAME_LEN_MAX: usize = HEADERS_LEN_MAX + HEADER_LEN;
/// Of its place, in whole words.
const FRAME_WORDS: usize = FRAME_LEN_MAX.div_ceil(8);
/// Samples of stamps that are kept; a power of two.
pub const SAMPLES: usize = 1 << 16;
/// Requests that each line remembers, at least, and all of them at most (64 MiB).
const SLOTS_MIN: usize = 1 << 12;
const SLOTS_MAX: usize = 1 << 22;
/// Lines that the rest can tell apart, as the receiving program has it.
pub const LINES_MAX: u32 = 64;
/// Buckets of delays, and of the coarser delays of a part of the time.
const DELAYS: usize = 4096;
const COARSE: usize = 512;
/// Of a line's times, which are 2^-20 ns.
const Q20: f64 = 1_048_576.0;
/// Codes of kisses that are counted apart; others are one.
const KISSES: [[u8; 4]; 3] = [*b"RATE", *b"DENY", *b"RSTR"];

/// Words of `struct setup`.
pub const SETUP_LEN: usize = FRAME_WORDS + 2 + 22;
/// Of them, when it begins: [`Plan::start_ns`].
pub const START: usize = FRAME_WORDS + 2 + 14;
/// And ends: [`Plan::give_up_ns`].
pub const GIVE_UP: usize = START + 1;
/// The last of them: not zero to end it before its time.
pub const STOP: usize = SETUP_LEN - 1;
/// Words of `struct line`.
pub const LINE_LEN: usize = 18 + INTERVALS;
/// Words of `struct slot`.
pub const SLOT_LEN: usize = 2;
/// Words of `struct sample`.
pub const SAMPLE_LEN: usize = 4;
/// Words of `struct seen`.
pub const SEEN_LEN: usize =
    4 + Invalid::ALL.len() + KISSES.len() + 2 + INTERVALS + DELAYS + INTERVALS * COARSE / 2;

/// What the clients are and ask, for as long as the programs are loaded.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Who asks: as many of these addresses, in turn.
    pub sources: Prefix,
    /// How many are used.
    pub clients: u32,
    /// From so many ports, the first of which is
    pub ports: u16,
    /// this one.
    pub port_first: u16,
    /// Frames to the server.
    pub template: Template,
    /// It, and its port.
    pub server: (IpAddr, u16),
    /// NTP version of the requests.
    pub version: u8,
    /// So many requests leave together.
    pub burst: NonZeroU32,
    /// How long to wait for an answer.
    pub patience_ns: i64,
    /// Cores that generate, at most [`LINES_MAX`].
    pub lines: u32,
    /// Unguessable.
    pub key: u128,
    /// Frames are written and not sent.
    pub is_dry: bool,
}

/// A start that never comes: the programs run, and wait.
pub const NOT_YET: i64 = i64::MAX / 2;

/// One measurement that is to be.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Requests a second, of all lines.
    pub rate: f64,
    /// CLOCK_MONOTONIC; [`NOT_YET`] while that is not known.
    pub start_ns: i64,
    /// How long requests are sent.
    pub length_ns: i64,
}

impl Plan {
    /// When nothing more is sent, however much is left.
    pub fn give_up_ns(&self) -> i64 {
        self.start_ns + self.length_ns + GRACE_NS
    }

    /// The part of one of so many lines, and how many requests that is.
    fn part(&self, setup: &Setup, line: u32) -> (Schedule, u64) {
        let lines = f64::from(setup.lines);
        let apart_ns = (f64::from(line) / self.rate * 1e9) as i64;
        let pace = Pace::Open {
            rate: self.rate / lines,
        };
        let schedule =
            Schedule::new(pace, self.start_ns + apart_ns, self.length_ns).in_bursts(setup.burst);
        let meant = schedule.meant_by(schedule.end_ns());
        (schedule, meant.unwrap_or(0))
    }
}

impl Setup {
    /// Places for the requests of each line, where no more than `rate` a second are
    /// asked of all: a power of two.
    pub fn slots(&self, rate: f64) -> usize {
        // Half as much again: a late generator catches up in a hurry.
        let lines = f64::from(self.lines);
        let waiting = rate / lines * 1.5e-9 * self.patience_ns as f64;
        let most = SLOTS_MAX / self.lines.next_power_of_two() as usize;
        (waiting as usize)
            .clamp(SLOTS_MIN, most)
            .next_power_of_two()
    }

    /// Octets of a frame.
    pub fn frame_len(&self) -> usize {
        self.frame().1
    }

    /// A whole request with zeros where each differs.
    fn frame(&self) -> ([u8; FRAME_WORDS * 8], usize) {
        let mut frame = [0; FRAME_WORDS * 8];
        let zero: IpAddr = match self.server.0 {
            IpAddr::V4(_) => [0; 4].into(),
            IpAddr::V6(_) => [0; 16].into(),
        };
        let mut payload = [0; HEADER_LEN];
        payload[0] = self.version << 3 | 3;
        let len = self.template.write(zero, 0, &payload, &mut frame);
        (frame, len)
    }

    /// `struct setup` for a measurement, with so many slots for each line.
    pub fn words(&self, plan: &Plan, slots: usize) -> [u64; SETUP_LEN] {
        let mut octets = [0; 16];
        match self.server.0 {
            IpAddr::V4(v4) => octets[..4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => octets = v6.octets(),
        }
        let base = match self.sources.host(0) {
            IpAddr::V4(v4) => u128::from(u32::from(v4)),
            IpAddr::V6(v6) => u128::from(v6),
        };
        // Odd numbers can be undone.
        let factor = [self.key as u64 | 1, FACTOR];
        let shift = self.sample_shift(plan);
        let rest = [
            u64::from(self.server.0.is_ipv6()),
            u64::from(self.server.1),
            u64::from(self.port_first),
            u64::from(self.port_first) + u64::from(self.ports) - 1,
            u64::from(self.version),
            (base >> 64) as u64,
            base as u64,
            (self.key >> 64) as u64,
            factor[0],
            factor[1],
            inverse(factor[0]),
            inverse(factor[1]),
            slots as u64 - 1,
            self.patience_ns as u64,
            plan.start_ns as u64,
            plan.give_up_ns() as u64,
            // Exact enough: the parts are some percent of the whole.
            (INTERVALS as f64 * 2_f64.powi(42) / plan.length_ns.max(1) as f64) as u64,
            (1 << shift) - 1,
            u64::from(shift),
            u64::from(self.lines),
            u64::from(self.is_dry),
        ];
        let mut words = [0; SETUP_LEN];
        let (frame, _) = self.frame();
        let texts = frame.as_chunks().0.iter().chain(octets.as_chunks().0);
        for (word, eight) in words.iter_mut().zip(texts) {
            *word = u64::from_ne_bytes(*eight);
        }
        words[FRAME_WORDS + 2..STOP].copy_from_slice(&rest);
        words
    }

    /// `struct line` for a measurement, its requests counted from `first` on, which is
    /// above zero and above all of the measurements before.
    pub fn line_words(&self, plan: &Plan, line: u32, first: u64) -> [u64; LINE_LEN] {
        let (schedule, meant) = plan.part(self, line);
        let part = |all: u32, n: u32| u64::from(all) * u64::from(n) / u64::from(self.lines);
        let range = |all: u32| {
            (
                part(all, line),
                part(all, line + 1).max(part(all, line) + 1),
            )
        };
        let (client, client_end) = range(self.clients);
        let (port, port_end) = range(u32::from(self.ports));
        let clients = client_end - client;
        let burst = u64::from(self.burst.get());
        let step_ns = burst as f64 * f64::from(self.lines) / plan.rate * 1e9;
        let apart_ns = schedule.start_ns() - plan.start_ns;
        let step = stride(clients as u32) % clients;
        let mut words = [0; LINE_LEN];
        words[..14].copy_from_slice(&[
            u64::from(line),
            first,
            first + meant,
            (apart_ns as u64) << 20,
            (step_ns * Q20) as u64,
            burst,
            burst,
            // Whose turn it is after the measurement before.
            (u128::from(first - 1) * u128::from(step) % u128::from(clients)) as u64,
            step,
            client,
            clients,
            0,
            u64::from(self.port_first) + port,
            port_end - port,
        ]);
        words
    }

    /// So many bits of a position are zero in one that is sampled.
    fn sample_shift(&self, plan: &Plan) -> u32 {
        let all = plan.rate * plan.length_ns as f64 * 1e-9;
        let mut shift = 0;
        while all / f64::from(1_u32 << shift) > SAMPLES as f64 {
            shift += 1;
        }
        shift
    }
}

/// Of a permutation that nobody need follow: any odd number with its bits well mixed.
const FACTOR: u64 = 0xc2b2_ae3d_27d4_eb4f;

/// What an odd number has to be multiplied by for 1, modulo 2^64.
fn inverse(odd: u64) -> u64 {
    // Newton's: each step doubles the bits that are right, of which there are three.
    let mut x = odd;
    for _ in 0..5 {
        x = x.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(x)));
    }
    x
}

/// So many of its first words say how many answers there were.
pub const SEEN_HEAD: usize = ANSWERED_AT;

/// What the maps hold after a measurement, or in the middle of one.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// `struct line` of each line.
    pub lines: Vec<[u64; LINE_LEN]>,
    /// `struct seen` of each core, or its first [`SEEN_HEAD`] words.
    pub seen: Vec<Vec<u64>>,
}

/// Words of `struct seen` from which on there is what.
const INVALID_AT: usize = 4;
const KISSES_AT: usize = INVALID_AT + Invalid::ALL.len();
const ANSWERED_AT: usize = KISSES_AT + KISSES.len() + 2;
const DELAYS_AT: usize = ANSWERED_AT + INTERVALS;
const COARSE_AT: usize = DELAYS_AT + DELAYS;

impl Counted {
    /// Requests that were sent, of lines that counted from `first` on.
    pub fn sent(&self, first: u64) -> u64 {
        self.lines.iter().map(|line| line[1] - first).sum()
    }

    /// Does the program run on every line's core?
    pub fn is_running(&self) -> bool {
        self.lines.iter().all(|line| line[17] != 0)
    }

    /// Has every line sent all it was to?
    pub fn is_all_sent(&self) -> bool {
        self.lines.iter().all(|line| line[1] >= line[2])
    }

    /// Answers of any kind, one for each request.
    pub fn answered(&self) -> u64 {
        let of_one = |seen: &Vec<u64>| {
            seen[0]
                + seen[1]
                + seen[KISSES_AT..=KISSES_AT + KISSES.len()]
                    .iter()
                    .sum::<u64>()
        };
        self.seen.iter().map(of_one).sum()
    }

    /// All that came of a measurement that ended at `now_ns`. `slots` are those of all
    /// lines, `samples` the stamps; `realtime_ahead_ns` is CLOCK_REALTIME less
    /// CLOCK_MONOTONIC.
    pub fn tally(
        &self,
        setup: &Setup,
        plan: &Plan,
        first: u64,
        now_ns: i64,
        [slots, samples]: [&[u64]; 2],
        realtime_ahead_ns: i64,
    ) -> Tally {
        let mut tally = Tally::new(plan.length_ns);
        let mut meant = 0;
        let mut spent_ns = 0;
        for (n, line) in (0..).zip(&self.lines) {
            let (schedule, _) = plan.part(setup, n);
            meant += schedule.meant_by(now_ns).unwrap_or(0);
            let length_ns = schedule.spent_ns(line[1] - first, now_ns);
            spent_ns = spent_ns.max(length_ns);
            tally.sent_late += line[14];
            tally.lateness_max_ns = tally.lateness_max_ns.max(line[15] as i64);
            tally.spent_ns += length_ns;
            tally.busy_ns += (length_ns - line[16] as i64).max(0);
            for (interval, sent) in tally.intervals.iter_mut().zip(&line[18..]) {
                interval.sent += sent;
            }
        }
        tally.length_ns = spent_ns;
        tally.meant = Some(meant);
        tally.sent = self.sent(first);
        for seen in &self.seen {
            add(&mut tally, seen);
        }
        for slot in slots.as_chunks::<SLOT_LEN>().0 {
            let intended_ns = slot[1] as i64;
            let is_ours = slot[0] != 0 && intended_ns >= plan.start_ns;
            if is_ours && intended_ns + setup.patience_ns > now_ns {
                tally.under_way += 1;
                let passed_ns = i128::from(intended_ns - plan.start_ns);
                let place = passed_ns * INTERVALS as i128 / i128::from(plan.length_ns.max(1));
                if let Some(interval) = tally.intervals.get_mut(place as usize) {
                    interval.sent = interval.sent.saturating_sub(1);
                }
            }
        }
        if setup.is_dry {
            // Nothing was asked of anybody.
            tally.under_way = tally.sent;
        }
        let known = tally.sent.saturating_sub(tally.under_way);
        tally.lost = known.saturating_sub(tally.answered());
        for sample in samples.as_chunks::<SAMPLE_LEN>().0 {
            let [sent, arrived, receive, transmit] = *sample;
            if arrived == 0 || sent == 0 || (sent as i64) < plan.start_ns {
                continue;
            }
            let departed_ns = sent as i64 + realtime_ahead_ns;
            let arrived_ns = arrived as i64 + realtime_ahead_ns;
            // As they were on the wire.
            let unix = |word: u64| {
                let stamp = NtpTimestamp::from_bits(u64::from_be(word));
                unix_ns(stamp, arrived_ns)
            };
            tally.receive.add(unix(receive) - departed_ns);
            tally.transmit_basic.add(arrived_ns - unix(transmit));
        }
        tally
    }
}

/// Adds what one core saw.
fn add(tally: &mut Tally, seen: &[u64]) {
    tally.basic += seen[0];
    tally.unsynchronised += seen[1];
    tally.late += seen[2];
    tally.duplicates += seen[3];
    for (mine, theirs) in tally.invalid.iter_mut().zip(&seen[INVALID_AT..]) {
        *mine += theirs;
    }
    // The last of them is whichever other one came last.
    let other = (seen[ANSWERED_AT - 1] as u32).to_ne_bytes();
    for (code, count) in KISSES.iter().chain([&other]).zip(&seen[KISSES_AT..]) {
        if *count > 0 {
            *tally.kisses.entry(*code).or_default() += count;
        }
    }
    for (n, count) in seen[DELAYS_AT..COARSE_AT].iter().enumerate() {
        if *count > 0 {
            tally.delays_ns.saturating_record_n(delay_ns(n), *count);
        }
    }
    let parts = tally.intervals.iter_mut().zip(&seen[ANSWERED_AT..]);
    for ((interval, answered), coarse) in parts.zip(seen[COARSE_AT..].chunks(COARSE / 2)) {
        interval.answered += answered;
        for (n, word) in coarse.iter().enumerate() {
            let octets = word.to_ne_bytes();
            for (half, count) in octets.as_chunks().0.iter().enumerate() {
                let count = u32::from_ne_bytes(*count);
                if count > 0 {
                    let middle = delay_ns((2 * n + half) * (DELAYS / COARSE) + 4);
                    interval.delays_ns.saturating_record_n(middle, count);
                }
            }
        }
    }
}

/// The middle of a bucket, in nanoseconds; 1 at least.
fn delay_ns(bucket: usize) -> u64 {
    let shift = (bucket >> 7).saturating_sub(1);
    let low = (bucket - (shift << 7)) as u64;
    ((low << shift) + (1 << shift) / 2).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(lines: u32) -> Setup {
        let server: IpAddr = [10, 0, 0, 1].into();
        Setup {
            sources: "10.1.0.0/16".parse().expect("a prefix"),
            clients: 1000,
            ports: 4096,
            port_first: 32_768,
            template: Template::new([1; 6], [2; 6], (server, 123).into()),
            server: (server, 123),
            version: 4,
            burst: NonZeroU32::MIN,
            patience_ns: 1_000_000_000,
            lines,
            key: 0x1234_5678_9abc_def0_1122_3344_5566_7788,
            is_dry: false,
        }
    }

    const PLAN: Plan = Plan {
        rate: 1e6,
        start_ns: 5_000,
        length_ns: 1_000_000_000,
    };

    #[test]
    fn what_is_multiplied_can_be_undone() {
        for odd in [1, 3, FACTOR, u64::MAX, 0x1122_3344_5566_7789] {
            assert_eq!(odd.wrapping_mul(inverse(odd)), 1, "{odd}");
        }
    }

    #[test]
    fn the_programs_have_the_same_structs() {
        let header = include_str!("xdp/load.bpf.h");
        for (name, words) in [
            ("setup", SETUP_LEN),
            ("line", LINE_LEN),
            ("slot", SLOT_LEN),
            ("sample", SAMPLE_LEN),
            ("seen", SEEN_LEN),
        ] {
            let said = format!("sizeof(struct {name}) == {words} * 8,");
            assert!(header.contains(&said), "{said}");
        }
        let said = format!("#define SAMPLES {SAMPLES}\n");
        assert!(header.contains(&said), "{said}");
    }

    #[test]
    fn lines_share_clients_ports_and_requests() {
        let setup = setup(3);
        let lines: Vec<_> = (0..3).map(|n| setup.line_words(&PLAN, n, 7)).collect();
        let sum = |field: usize| lines.iter().map(|line| line[field]).sum::<u64>();
        assert_eq!((sum(10), sum(13)), (1000, 4096));
        // Each line's part is rounded up.
        assert!((1_000_000..=1_000_002).contains(&(sum(2) - 21)));
        assert_eq!(lines[1][12], lines[0][12] + lines[0][13]);
        let counted = Counted {
            lines,
            seen: Vec::new(),
        };
        assert_eq!(counted.sent(7), 0);
        assert!(!counted.is_all_sent());
    }

    /// The bucket of a delay, as the program finds it.
    fn bucket(delay_ns: u64) -> usize {
        let shift = (64 - (delay_ns >> 7).leading_zeros()).saturating_sub(1);
        ((shift as usize) << 7) + (delay_ns >> shift) as usize
    }

    #[test]
    fn delays_are_told_to_half_a_percent() {
        for exact in [1_u64, 100, 127, 128, 300, 12_345, 1_000_000, 99_999_999_999] {
            assert!(bucket(exact) < DELAYS);
            let told = delay_ns(bucket(exact));
            assert!(
                told.abs_diff(exact) as f64 <= 0.004 * exact as f64 + 0.5,
                "{exact} {told}"
            );
        }
    }

    #[test]
    fn what_was_seen_adds_up() {
        let setup = setup(1);
        let mut line = setup.line_words(&PLAN, 0, 1);
        line[1] = line[2];
        line[18] = 40;
        let mut seen = vec![0; SEEN_LEN];
        (seen[0], seen[1], seen[3]) = (5, 2, 1);
        seen[INVALID_AT + Invalid::Checksum as usize] = 9;
        (seen[KISSES_AT], seen[KISSES_AT + 3]) = (3, 1);
        seen[ANSWERED_AT - 1] = u64::from(u32::from_ne_bytes(*b"OOPS"));
        seen[DELAYS_AT + bucket(5_000)] = 11;
        seen[ANSWERED_AT] = 11;
        let coarse = bucket(5_000) / (DELAYS / COARSE);
        seen[COARSE_AT + coarse / 2] = 11 << (32 * (coarse % 2));
        let counted = Counted {
            lines: vec![line],
            seen: vec![seen],
        };
        // One that can still be answered, one that is too old, one of before.
        let now_ns = PLAN.start_ns + 1_500_000_000;
        let slots = [7, PLAN.start_ns as u64 + 900_000_000, 8, 6_000, 9, 1];
        let stamp = NtpTimestamp::from_bits(0x8000_0000_0000_0000)
            .bits()
            .to_be();
        let samples = [10_000, 30_000, stamp, stamp, 0, 0, 0, 0];
        let tally = counted.tally(&setup, &PLAN, 1, now_ns, [&slots, &samples], 0);
        assert_eq!(tally.sent, 1_000_000);
        assert_eq!(
            (tally.served(), tally.unsynchronised, tally.kissed()),
            (5, 2, 4)
        );
        assert_eq!(tally.kisses.get(b"OOPS"), Some(&1));
        assert_eq!((tally.answered(), tally.under_way), (11, 1));
        assert_eq!(tally.lost, 1_000_000 - 1 - 11);
        assert_eq!(tally.invalid_sum(), 9);
        assert_eq!(tally.intervals[0].answered, 11);
        assert_eq!(tally.intervals[0].delays_ns.len(), 11);
        let p50 = tally.delays_ns.value_at_quantile(0.5);
        assert!(p50.abs_diff(5_000) < 25, "{p50}");
        assert_eq!(tally.receive.spread().map(|s| s.count), Some(1));
    }

    #[test]
    fn the_frame_is_whole_but_for_what_differs() {
        let setup = setup(1);
        let words = setup.words(&PLAN, 4096);
        assert_eq!(words[START], PLAN.start_ns as u64);
        assert_eq!(words[GIVE_UP], PLAN.give_up_ns() as u64);
        assert_eq!(setup.frame_len(), 90);
        let octets: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!(octets[12..14], [8, 0]);
        assert_eq!(octets[30..34], [10, 0, 0, 1]);
        assert_eq!(octets[42], 0x23);
        assert_eq!(octets[112..116], [10, 0, 0, 1]);
    }
}
