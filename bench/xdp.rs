//! What the XDP tier's program costs for a packet, without card, driver and wire:
//! `cargo bench --bench xdp`, as root. The kernel runs each program a million times
//! (BPF_PROG_TEST_RUN) and says how long that took.
//!
//! A program that answers leaves a reply where the request was. So each run starts with a
//! small one that writes the request anew and ends with the one that is measured; what it
//! costs with one that does nothing is taken off.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use ptntp::daemon::xdp::program::{Answerer, Sizes};
use ptntp::dice::Dice;
use ptntp::linux::clock::{monotonic, realtime};
use ptntp::linux::timex::Timex;
use ptntp::linux::xdp::map::Map;
use ptntp::linux::xdp::{Action, PASS, Program};
use ptntp::server::access::AccessTable;
use ptntp::server::rule::{Flags, Prefix, RateLimit, Rule, Who};
use ptntp::system::SystemState;
use ptntp::time::map::ClockMap;
use ptntp::time::units::Precision;
use ptntp::wire::packet::Leap;
use ptntp::xdp::layout::Own;
use ptntp::xdp::state::{Clocks, Entry, Envelope};
use ptntp::xdp::tables::Rows;

/// Runs of one measurement. The state entry holds for as long.
const RUNS: u32 = 1_000_000;
/// Measurements, of which the median counts.
const ROUNDS: usize = 7;
/// Where a frame without a VLAN has what of IPv4 and UDP.
const IP_ID: i16 = 18;
const SOURCE: i16 = 26;
const DESTINATION: i16 = 30;
const PORTS: i16 = 34;

/// Who is asked.
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

const TERMS: &str = "Dual MIT/GPL";

fn main() -> io::Result<()> {
    let pass = Program::assemble("pass", &PASS, TERMS)?;
    let echo = Program::assemble("echo", &echo(), TERMS)?;
    for vary in [false, true] {
        println!(
            "{}",
            if vary {
                "each time another client"
            } else {
                "one client"
            }
        );
        let idle = measure(&pass, vary, Action::Pass, || Ok(()))?;
        let bare = measure(&echo, vary, Action::Transmit, || Ok(()))? - idle;
        row("bare echo", bare);
        for (what, prefixes, flags) in [
            ("ptntp", 0, Flags::NONE),
            ("ptntp, a million prefixes", 1_000_000, Flags::NONE),
            ("ptntp, limited", 0, Flags::LIMITED),
            ("ptntp, both", 1_000_000, Flags::LIMITED),
        ] {
            // The one client is over the limit, and gets nothing.
            let action = if vary || flags == Flags::NONE {
                Action::Transmit
            } else {
                Action::Drop
            };
            let answerer = answerer(prefixes, flags)?;
            let cost = measure(&answerer.program, vary, action, || publish(&answerer))?;
            row(what, cost - idle);
        }
    }
    Ok(())
}

fn row(what: &str, cost_ns: f64) {
    println!("  {what:<28} {cost_ns:>5.0} ns a packet");
}

/// The program as a daemon has it, with so many /24s in its table.
fn answerer(prefixes: usize, flags: Flags) -> io::Result<Answerer> {
    let block = |prefix| Who::Block {
        prefix,
        ntpport: false,
    };
    let mut dice = Dice::new(7);
    let mut rules = vec![Rule::Restrict(block(Prefix::ALL_V4), flags)];
    rules.extend((0..prefixes).map(|n| {
        let prefix = Prefix::new(Ipv4Addr::from(dice.roll() as u32).into(), 24);
        // Neighbours differ, and all are served.
        let kod = [Flags::NONE, Flags::KOD][n % 2];
        Rule::Restrict(block(prefix.expect("24 bits")), flags | kod)
    }));
    let rows = Rows::new(&AccessTable::compile(&rules, &[]), &BTreeSet::new());
    let mut answerer = Answerer::load(Sizes {
        rows: rows.count(),
        own: 1,
        clients: 1 << 20,
    })?;
    rows.write(answerer.tables.table_mut(0));
    let own = Own {
        address: SERVER.into(),
        port: 123,
        // The loopback, as in all runs without an interface.
        interface: 1,
        vlan: 0,
    };
    answerer.own.insert(&own, SERVER_MAC)?;
    Ok(answerer)
}

fn publish(answerer: &Answerer) -> io::Result<()> {
    let real = realtime();
    let state = SystemState {
        leap: Leap::None,
        stratum: 2,
        updated: real,
        ..SystemState::unsynchronised(Precision::new(-23))
    };
    let entry = Entry {
        state,
        clocks: Clocks {
            real,
            tai_offset_s: Timex::new().read()?.tai_offset,
            mono: monotonic(),
            map: ClockMap::IDENTITY,
            leap: None,
        },
        limit: RateLimit::default(),
        envelope: Envelope::default(),
        table: 0,
    };
    answerer
        .publisher
        .publish(&entry.words().map_err(io::Error::other)?);
    Ok(())
}

/// Nanoseconds of a run that begins with the request anew and ends with `program`, which
/// says `action` the last time.
fn measure(
    program: &Program,
    vary: bool,
    action: Action,
    prepare: impl Fn() -> io::Result<()>,
) -> io::Result<f64> {
    let next = Map::of_program("next", program)?;
    let frame = request();
    let whole = Program::assemble("renew", &renew(&frame, vary, &next), TERMS)?;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        prepare()?;
        let run = whole.test_run(&frame, RUNS)?;
        // One in 222 clients is 127.x.y.z, and passes.
        let odd = vary && run.action == Action::Pass;
        assert!(odd || run.action == action, "{:?}", run.action);
        rounds.push(run.each_ns);
    }
    rounds.sort_unstable();
    Ok(rounds[ROUNDS / 2].into())
}

/// A plain request of a client, whose UDP carries no sum.
fn request() -> Vec<u8> {
    let mut frame = SERVER_MAC.to_vec();
    frame.extend([2, 0, 0, 0, 0, 2, 8, 0]);
    let mut header = vec![0x45, 0, 0, 76, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1];
    header.extend(SERVER.octets());
    let mut sum: u32 = header
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    sum = (sum & 0xffff) + (sum >> 16);
    header[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    frame.extend(header);
    frame.extend([0x9c, 0x40, 0, 123, 0, 56, 0, 0, 0x23, 0, 6, 0xec]);
    frame.resize(90, 0);
    frame[82..].fill(7);
    frame
}

/// One instruction: code, target, source, offset, number.
fn op(code: u8, to: u8, from: u8, offset: i16, number: i32) -> u64 {
    let number = u64::from(number.cast_unsigned());
    let offset = u64::from(offset.cast_unsigned());
    u64::from(code) | u64::from(from << 4 | to) << 8 | offset << 16 | number << 32
}

const MOVE: u8 = 0xbf;
const MOVE_NUMBER: u8 = 0xb7;
const ADD_NUMBER: u8 = 0x07;
const ADD: u8 = 0x0f;
const SUBTRACT: u8 = 0x1f;
const AND_NUMBER: u8 = 0x57;
const OR: u8 = 0x4f;
const MULTIPLY_NUMBER: u8 = 0x27;
const SHIFT_DOWN: u8 = 0x77;
const LOAD_WORD: u8 = 0x61;
const LOAD_HALF: u8 = 0x69;
const STORE_WORD: u8 = 0x63;
const STORE_HALF: u8 = 0x6b;
const STORE_WORD_NUMBER: u8 = 0x62;
const STORE_HALF_NUMBER: u8 = 0x6a;
const LOAD_NUMBER_64: u8 = 0x18;
const JUMP_IF_MORE: u8 = 0x2d;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// BPF_PSEUDO_MAP_FD.
const IS_MAP: u8 = 1;
const TAIL_CALL: i32 = 12;
const PRANDOM: i32 = 7;

/// Register 7 is where the frame is, which has so many octets; or the program ends, and
/// lets it pass.
fn look(len: usize) -> Vec<u64> {
    vec![
        op(MOVE, 6, 1, 0, 0),
        op(LOAD_WORD, 7, 6, 0, 0),
        op(LOAD_WORD, 8, 6, 4, 0),
        op(MOVE, 2, 7, 0, 0),
        op(ADD_NUMBER, 2, 0, 0, len as i32),
        op(MOVE_NUMBER, 0, 0, 0, 2),
        op(JUMP_IF_MORE, 8, 2, 1, 0),
        op(EXIT, 0, 0, 0, 0),
    ]
}

/// Writes `frame`, with a source that changes if it may `vary`, and goes on with the
/// program in `next`.
fn renew(frame: &[u8], vary: bool, next: &Map) -> Vec<u64> {
    let mut ops = look(frame.len() - 1);
    let (words, rest) = frame.as_chunks::<4>();
    for (n, word) in words.iter().enumerate() {
        let offset = n as i16 * 4;
        ops.push(op(
            STORE_WORD_NUMBER,
            7,
            0,
            offset,
            i32::from_le_bytes(*word),
        ));
    }
    let half: [u8; 2] = rest.try_into().expect("90 octets");
    let number = i16::from_le_bytes(half).into();
    ops.push(op(STORE_HALF_NUMBER, 7, 0, frame.len() as i16 - 2, number));
    if vary {
        ops.extend([
            op(CALL, 0, 0, 0, PRANDOM),
            // 1 to 222 and three more octets.
            op(MOVE, 1, 0, 0, 0),
            op(AND_NUMBER, 1, 0, 0, 0xff),
            op(MULTIPLY_NUMBER, 1, 0, 0, 222),
            op(SHIFT_DOWN, 1, 0, 0, 8),
            op(ADD_NUMBER, 1, 0, 0, 1),
            op(AND_NUMBER, 0, 0, 0, !0xff),
            op(OR, 0, 1, 0, 0),
            op(STORE_WORD, 7, 0, SOURCE, 0),
            // The sum stays as it is, because the packet's number makes up for it: the
            // old source less the new one.
            op(MOVE_NUMBER, 2, 0, 0, 10 + 0x100 + 2 * 0xffff),
            op(LOAD_HALF, 3, 7, SOURCE, 0),
            op(SUBTRACT, 2, 3, 0, 0),
            op(LOAD_HALF, 3, 7, SOURCE + 2, 0),
            op(SUBTRACT, 2, 3, 0, 0),
        ]);
        for _ in 0..2 {
            ops.extend([
                op(MOVE, 3, 2, 0, 0),
                op(SHIFT_DOWN, 3, 0, 0, 16),
                op(AND_NUMBER, 2, 0, 0, 0xffff),
                op(ADD, 2, 3, 0, 0),
            ]);
        }
        ops.push(op(STORE_HALF, 7, 2, IP_ID, 0));
    }
    ops.extend([
        op(MOVE, 1, 6, 0, 0),
        op(LOAD_NUMBER_64, 2, IS_MAP, 0, next.as_raw_fd()),
        0,
        op(MOVE_NUMBER, 3, 0, 0, 0),
        op(CALL, 0, 0, 0, TAIL_CALL),
        op(MOVE_NUMBER, 0, 0, 0, 0),
        op(EXIT, 0, 0, 0, 0),
    ]);
    ops
}

/// Swaps who sent a frame and who gets it, and sends it back: the least that an answer
/// takes.
fn echo() -> Vec<u64> {
    let mut ops = look(PORTS as usize + 4);
    for (load, store, a, b) in [
        (LOAD_WORD, STORE_WORD, 0, 6),
        (LOAD_HALF, STORE_HALF, 4, 10),
        (LOAD_WORD, STORE_WORD, SOURCE, DESTINATION),
        (LOAD_HALF, STORE_HALF, PORTS, PORTS + 2),
    ] {
        ops.extend([
            op(load, 1, 7, a, 0),
            op(load, 2, 7, b, 0),
            op(store, 7, 1, b, 0),
            op(store, 7, 2, a, 0),
        ]);
    }
    ops.extend([op(MOVE_NUMBER, 0, 0, 0, 3), op(EXIT, 0, 0, 0, 0)]);
    ops
}
