//! Control messages made to harm: random, and real ones with bits turned, bytes cut off or
//! put in, through the real sockets to both backends. Of modes 6 and 7 and of cmdmon:
//! nothing comes back, or an error, and never more bytes than were sent, unless the
//! message is one that a real program could have sent to somebody who may ask. It is
//! shown for a stranger, who gets nothing, and for one who may ask.

mod common;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use common::net::{Star, hub_v4};
use common::ntp::Client;
use common::ptntp::in_namespace;
use common::{Random, secs, wait_until};

/// Messages of each kind.
const MESSAGES: usize = 1500;

/// What ntpq, and ntpdc before it, really send: operation and data.
const ASKED: [(u8, &[u8]); 14] = [
    (1, b""),
    (2, b""),
    (2, b"leap,stratum,offset"),
    (2, b"mru_mem, peeradr, ss_received"),
    (3, b"leap=3"),
    (4, b""),
    (5, b""),
    (8, b"server 192.0.2.1"),
    (9, b"/etc/passwd"),
    (10, b"nonce=n6a0000000123456789abcdef, frags=32, laddr=0x0"),
    (10, b"frags=65535, recent=1000000"),
    (11, b"ifstats"),
    (12, b""),
    (6, b"trap"),
];

/// A message of mode 6 or 7 (RFC 9327 section 2).
fn control(random: &mut Random) -> Vec<u8> {
    let (operation, data) = ASKED[random.below(ASKED.len())];
    if random.below(4) == 0 {
        // ntpdc's MON_GETLIST_1 and its like: the amplifier of 2013.
        let mut bytes = vec![0x17, 0, 3, [42, 20, 0, 1, 16][random.below(5)], 0, 0, 0, 0];
        bytes.resize([8, 48, 192, 200][random.below(4)], 0);
        return bytes;
    }
    let mut bytes = vec![0x16, operation, 0, 0, 0, 0, 0, 0, 0, 0, 0, data.len() as u8];
    if random.below(3) == 0 {
        bytes[7] = random.below(4) as u8;
    }
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// A request of cmdmon as chronyc makes them.
fn command(random: &mut Random) -> Vec<u8> {
    let mut bytes = vec![0; [28, 32, 44, 72, 104, 172, 196, 416, 520][random.below(9)]];
    bytes[..2].copy_from_slice(&[6, 1]);
    bytes[5] = random.below(78) as u8;
    if random.below(2) == 0 {
        let at = 20 + random.below(bytes.len() - 20);
        random.fill(&mut bytes[at..]);
    }
    bytes
}

/// Turns, cuts and pads; or makes it noise, of the same first byte or none.
fn spoil(random: &mut Random, bytes: &mut Vec<u8>) {
    match random.below(8) {
        0 => {}
        1 => random.fill(bytes),
        2 => {
            let first = bytes[0];
            *bytes = vec![0; random.below(1400) + 1];
            random.fill(bytes);
            bytes[0] = first;
        }
        3 => bytes.truncate(random.below(bytes.len()) + 1),
        4 => bytes.resize(bytes.len() + random.below(64), 0xff),
        _ => {
            for _ in 0..=random.below(6) {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
        }
    }
}

/// Could ntpq have sent it, and get a list or a value?
fn is_question(bytes: &[u8]) -> bool {
    if bytes.len() < 12 {
        return false;
    }
    let number = |at: usize| usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    let version = bytes[0] >> 3 & 7;
    let (first, operation, offset, count) = (bytes[0], bytes[1], number(8), number(10));
    first & 7 == 6
        && (1..=4).contains(&version)
        && matches!(operation, 1 | 2 | 4 | 10 | 11 | 12)
        && offset == 0
        && 12 + count <= bytes.len()
}

/// What was sent, by the number that comes back with an answer.
#[derive(Default)]
struct Sent(HashMap<Vec<u8>, Vec<Vec<u8>>>);

impl Sent {
    fn note(&mut self, bytes: &[u8], number: std::ops::Range<usize>) {
        if let Some(number) = bytes.get(number) {
            let all = self.0.entry(number.to_owned()).or_default();
            all.push(bytes.to_owned());
        }
    }

    fn of(&self, reply: &[u8], number: std::ops::Range<usize>) -> &[Vec<u8>] {
        let found = reply.get(number).and_then(|number| self.0.get(number));
        found.unwrap_or_else(|| panic!("an answer to nothing: {reply:x?}"))
    }
}

/// All that is there to read now.
fn replies(socket: &UdpSocket) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(len) = socket.recv(&mut buffer) {
        all.push(buffer[..len].to_owned());
    }
    all
}

fn attack(backend: &str) {
    let star = Star::new(2);
    let mut ptntp = in_namespace(&star.hub)
        .config(
            "server 127.127.1.0\nrestrict default noquery\nrestrict 10.77.0.2\n\
             enable monitor\nbindcmdaddress 0.0.0.0\ncmdport 323\ncmdallow 10.77.0.2\n",
        )
        .args(&["--io", backend])
        .start();
    let honest = Client::new(&star.spokes[0], hub_v4(0));
    assert!(wait_until(secs(30), || honest.time().is_some()));
    let mut random = Random::unforeseen();
    let to = |spoke: usize, port: u16| SocketAddr::new(hub_v4(spoke), port);
    let open = |spoke: usize| {
        let any = SocketAddr::new(IpAddr::from([0, 0, 0, 0]), 0);
        let socket = star.spokes[spoke].udp(any);
        let limit = Some(Duration::from_millis(1));
        socket.set_read_timeout(limit).expect("a time limit");
        socket
    };

    // Modes 6 and 7, of him who may ask.
    let socket = open(0);
    let (mut sent, mut answers, mut errors) = (Sent::default(), 0, 0);
    let mut judge = |sent: &Sent| {
        for reply in replies(&socket) {
            assert_eq!(reply[0] & 7, 6, "mode 7 is dead: {reply:x?}");
            let asked = sent.of(&reply, 2..4);
            let longest = asked.iter().map(Vec::len).max().expect("one");
            let error = reply[1] & 0x40 != 0;
            // More than was asked with gets he alone who put a good question.
            let earned = !error && asked.iter().any(|one| is_question(one));
            assert!(reply.len() <= longest || earned, "{reply:x?} to {asked:x?}");
            answers += usize::from(!error);
            errors += usize::from(error);
        }
    };
    for n in 0..MESSAGES {
        let mut bytes = control(&mut random);
        bytes[2..4].copy_from_slice(&(n as u16).to_be_bytes());
        spoil(&mut random, &mut bytes);
        if ![6, 7].contains(&(bytes[0] & 7)) {
            // By chance it may have become a question for the time.
            continue;
        }
        sent.note(&bytes, 2..4);
        socket.send_to(&bytes, to(0, 123)).expect("sent");
        judge(&sent);
    }
    std::thread::sleep(Duration::from_millis(200));
    judge(&sent);
    eprintln!("{backend}: {answers} answers and {errors} errors");
    assert!(answers > 20 && errors > 20, "{answers} {errors}");

    // cmdmon, of him who may ask: each answer is at most as long as its request.
    // An answer that is still on its way to the first socket is none of cmdmon's.
    let socket = open(0);
    let (mut sent, mut answers) = (Sent::default(), 0);
    let mut judge = |sent: &Sent| {
        for reply in replies(&socket) {
            assert!(reply.len() >= 28 && reply[1] == 2, "{reply:x?}");
            let asked = sent.of(&reply, 16..20);
            let longest = asked_for(asked);
            assert!(
                reply.len() <= longest,
                "{} octets for {longest}",
                reply.len()
            );
            answers += 1;
        }
    };
    for n in 0..MESSAGES {
        let mut bytes = command(&mut random);
        bytes[8..12].copy_from_slice(&(n as u32).to_be_bytes());
        spoil(&mut random, &mut bytes);
        sent.note(&bytes, 8..12);
        socket.send_to(&bytes, to(0, 323)).expect("sent");
        judge(&sent);
    }
    std::thread::sleep(Duration::from_millis(200));
    judge(&sent);
    eprintln!("{backend}: {answers} answers of cmdmon");
    assert!(answers > 100, "{answers}");

    // A stranger gets nothing of the three, but the time.
    let socket = open(1);
    for _ in 0..MESSAGES / 2 {
        for (mut bytes, port) in [(control(&mut random), 123), (command(&mut random), 323)] {
            if random.below(2) == 0 {
                spoil(&mut random, &mut bytes);
            }
            if port == 123 && ![6, 7].contains(&(bytes[0] & 7)) {
                continue;
            }
            socket.send_to(&bytes, to(1, port)).expect("sent");
        }
    }
    std::thread::sleep(Duration::from_millis(300));
    let got = replies(&socket);
    assert!(got.is_empty(), "a stranger got {got:x?}");
    assert!(Client::new(&star.spokes[1], hub_v4(1)).time().is_some());

    assert!(honest.time().is_some(), "no time after all that");
    assert!(ptntp.process.ended().is_none(), "it died");
    let log = ptntp.process.log();
    assert!(!log.contains("panicked") && log.len() < 4096, "{log}");
}

/// The longest of requests that share a number.
fn asked_for(asked: &[Vec<u8>]) -> usize {
    asked.iter().map(Vec::len).max().expect("one")
}

#[test]
fn spoilt_control_messages_gain_nothing_with_uring() {
    require!(root);
    attack("uring");
}

#[test]
fn spoilt_control_messages_gain_nothing_with_poll() {
    require!(root);
    attack("poll");
}
