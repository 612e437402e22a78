//! Malformed packets of every length from 0 to 2,048 bytes, random and mutated,
//! while an honest client is served: no panic, no reply to what deserves none,
//! never more bytes back than came in, no memory growth, a quiet log.

mod common;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use common::net::{Star, host_v4, hub_v4, hub_v6, spoke_v4, spoke_v6};
use common::ntp::{Client, Reply, request};
use common::ptntp::{OPEN, in_namespace};
use common::{Random, secs, wait_until};

const LONGEST: usize = 2048;

/// Must a packet go unanswered? Only what is certain: no header, no version we
/// speak, no mode that asks for anything.
fn deserves_nothing(packet: &[u8]) -> bool {
    let Some(&first) = packet.first() else {
        return true;
    };
    let (version, mode) = (first >> 3 & 7, first & 7);
    match mode {
        // Mode 6 is another protocol, with a shorter header.
        6 => packet.len() < 12,
        1 | 3 => packet.len() < 48 || !(1..=4).contains(&version),
        // Version 1 had no modes; a zero there is its client.
        0 => packet.len() < 48 || version != 1,
        _ => true,
    }
}

/// A packet of `len` bytes: noise, a request with noise behind, a request with
/// some bits turned, or extension fields whose lengths lie.
fn packet(random: &mut Random, len: usize, kind: usize) -> Vec<u8> {
    let mut packet = vec![0; len];
    random.fill(&mut packet);
    let header = request(1 + u8::try_from(random.below(4)).expect("small"), 3);
    let head = len.min(header.len());
    match kind {
        0 => {}
        1 => packet[..head].copy_from_slice(&header[..head]),
        2 => {
            packet[..head].copy_from_slice(&header[..head]);
            for _ in 0..=random.below(8) {
                if len > 0 {
                    let at = random.below(len);
                    packet[at] ^= 1 << random.below(8);
                }
            }
        }
        _ => {
            packet[..head].copy_from_slice(&header[..head]);
            let mut at = head;
            while at + 4 <= len {
                // About the right length, or none, or far too long.
                let field = [0, 4, 16, 28, len - at, len, 0xffff][random.below(7)];
                let field = u16::try_from(field).expect("at most 0xffff");
                packet[at + 2..at + 4].copy_from_slice(&field.to_be_bytes());
                at += usize::from(field).max(16);
            }
        }
    }
    packet
}

/// Sends one packet of each length and judges what comes back. Returns how much did.
fn sweep(client: &Client, random: &mut Random, kind: usize) -> usize {
    let mut judge = Judge::default();
    for len in 0..=LONGEST {
        let packet = packet(random, len, kind);
        judge.sent(&packet);
        client.send(&packet);
        // What is not back by then is judged with a later packet.
        std::thread::sleep(Duration::from_micros(300));
        client.drain().iter().for_each(|reply| judge.judge(reply));
    }
    std::thread::sleep(Duration::from_millis(100));
    client.drain().iter().for_each(|reply| judge.judge(reply));
    judge.replies
}

/// Holds replies against what was sent, which only grew in length.
#[derive(Default)]
struct Judge {
    /// Packets long enough for a reply, by the transmit stamp that it carries as origin.
    sent: HashMap<Vec<u8>, Vec<u8>>,
    longest: usize,
    replies: usize,
}

impl Judge {
    fn sent(&mut self, packet: &[u8]) {
        self.longest = packet.len();
        if let Some(transmit) = packet.get(40..48) {
            self.sent.insert(transmit.to_owned(), packet.to_owned());
        }
    }

    fn judge(&mut self, reply: &[u8]) {
        self.replies += 1;
        assert!(reply.len() <= self.longest, "amplified to {}", reply.len());
        let mode = reply.first().expect("a byte") & 7;
        assert_ne!(mode, 3, "we ask nobody back");
        if mode == 6 {
            return;
        }
        let packet = reply.get(24..32).and_then(|origin| self.sent.get(origin));
        let packet = packet.unwrap_or_else(|| panic!("a reply to nothing: {reply:x?}"));
        let start = &packet[..packet.len().min(64)];
        assert!(
            reply.len() <= packet.len(),
            "{} bytes asked, {} came back: {start:x?}",
            packet.len(),
            reply.len()
        );
        assert!(
            !deserves_nothing(packet),
            "a reply of {} bytes to {} bytes {start:x?}",
            reply.len(),
            packet.len()
        );
    }
}

fn survives(backend: &str) {
    let star = Star::new(1);
    let spoke = &star.spokes[0];
    for host in 10..14 {
        spoke.add_address("eth", &format!("{}/24", host_v4(0, host)));
    }
    let mut ptntp = in_namespace(&star.hub)
        .clock("virtual:0.25,0")
        .config(OPEN)
        .args(&["--io", backend])
        .start();
    let honest = Client::new(spoke, hub_v4(0));
    assert!(wait_until(secs(30), || honest.time().is_some()));

    let replies = AtomicUsize::new(0);
    let attack = |kinds: std::ops::Range<usize>| {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let attackers: Vec<_> = kinds
                .map(|kind| {
                    let replies = &replies;
                    scope.spawn(move || {
                        let host = 10 + u8::try_from(kind).expect("small");
                        let local = (host_v4(0, host), 0).into();
                        let mut random = Random::unforeseen();
                        let client = Client::from(spoke, local, hub_v4(0));
                        for client in [client, Client::new(spoke, hub_v6(0))] {
                            let count = sweep(&client, &mut random, kind);
                            replies.fetch_add(count, Ordering::Relaxed);
                        }
                    })
                })
                .collect();
            let polite = scope.spawn(|| {
                let (mut asked, mut served) = (0u32, 0u32);
                while !done.load(Ordering::Relaxed) {
                    asked += 1;
                    served += u32::from(honest.time().is_some());
                    std::thread::sleep(Duration::from_millis(20));
                }
                (asked, served)
            });
            // Say that the attack is over also when an attacker panics.
            let outcomes: Vec<_> = attackers.into_iter().map(|a| a.join()).collect();
            done.store(true, Ordering::Relaxed);
            let counts = polite.join().expect("the honest client's thread");
            for outcome in outcomes {
                outcome.unwrap_or_else(|e| std::panic::resume_unwind(e));
            }
            counts
        })
    };

    // The first round fills tables and buffers; what comes after must not grow.
    attack(0..4);
    let log = ptntp.process.log().len();
    let before = ptntp.process.status_kib("VmRSS");
    let rounds = [attack(0..4), attack(0..4), attack(0..4)];
    let (asked, served) = rounds.iter().fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    let after = ptntp.process.status_kib("VmRSS");

    assert!(ptntp.process.ended().is_none(), "it died");
    assert!(
        served * 10 >= asked * 9,
        "{served} of {asked} honest requests served meanwhile"
    );
    assert!(
        after < before + 2048,
        "memory grew from {before} to {after} KiB"
    );
    let said = ptntp.process.log().len() - log;
    assert!(said < 4096, "{said} bytes logged because of strangers");
    assert!(!ptntp.process.log().contains("panicked"));
    let replies = replies.load(Ordering::Relaxed);
    eprintln!("{replies} replies to malformed packets, {served} of {asked} to honest ones");
    assert!(
        replies > 0,
        "not even a plain request among them is answered"
    );
    assert!(honest.time().is_some(), "served no more");
}

#[test]
fn malformed_packets_do_no_harm_with_uring() {
    require!(root, ipv6);
    survives("uring");
}

#[test]
fn malformed_packets_do_no_harm_with_poll() {
    require!(root, ipv6);
    survives("poll");
}

/// Each worker's socket gets a copy of what is sent to all.
#[test]
fn a_request_to_everybody_is_answered_by_nobody() {
    require!(root, ipv6);
    for backend in ["uring", "poll"] {
        let star = Star::new(1);
        let spoke = &star.spokes[0];
        spoke.ip("route add 224.0.0.0/4 dev eth");
        let _ptntp = in_namespace(&star.hub)
            .clock("virtual:0.25,0")
            .config(OPEN)
            .args(&["--io", backend])
            .start();
        let client = Client::new(spoke, hub_v4(0));
        assert!(wait_until(secs(30), || client.time().is_some()));
        for group in ["10.77.0.255", "224.0.0.1", "ff02::1"] {
            let group: IpAddr = group.parse().expect("an address");
            let local = if group.is_ipv4() {
                spoke_v4(0)
            } else {
                spoke_v6(0)
            };
            let socket = spoke.udp((local, 0).into());
            socket.set_broadcast(true).expect("broadcast");
            socket
                .set_read_timeout(Some(Duration::from_millis(300)))
                .expect("a time limit");
            let to = match group {
                IpAddr::V4(v4) => SocketAddr::from((v4, 123)),
                IpAddr::V6(v6) => SocketAddrV6::new(v6, 123, 0, spoke.index("eth")).into(),
            };
            socket.send_to(&request(4, 3), to).expect("sent to all");
            let answer = socket.recv_from(&mut [0; 64]);
            assert!(answer.is_err(), "{backend}: {group} answered: {answer:?}");
        }
    }
}

/// A request with surplus bytes is answered with a plain header, if at all.
#[test]
fn surplus_is_not_sent_back() {
    require!(root);
    let star = Star::new(1);
    let _ptntp = in_namespace(&star.hub)
        .clock("virtual:0.25,0")
        .config(OPEN)
        .start();
    let client = Client::new(&star.spokes[0], hub_v4(0));
    assert!(wait_until(secs(30), || client.time().is_some()));
    // An unknown extension field (type 0x0b0b), well-formed.
    let mut packet = request(4, 3).to_vec();
    packet.extend([0x0b, 0x0b, 0, 32]);
    packet.resize(48 + 32, 0);
    let reply = client.ask(&packet).expect("unknown fields are skipped");
    assert_eq!(reply.len(), 48);
    assert_eq!(Reply::parse(&reply).expect("a header").mode, 4);
}
