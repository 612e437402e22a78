//! Nothing on a request's way through the server room allocates: an allocator
//! that counts stands under lookups, replies of every kind and floods.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ptntp::server::access::AccessTable;
use ptntp::server::respond::{Policy, Request, Responder, Sizes, complete};
use ptntp::server::rule::{Flags, Prefix, RateLimit, Rule, Who};
use ptntp::server::verdict::{ReplyKind, Verdict};
use ptntp::system::SystemState;
use ptntp::time::duration::NtpDuration;
use ptntp::time::instant::{MonoInstant, WallInstant};
use ptntp::time::units::Precision;
use ptntp::wire::key::{Key, KeyTable, MAC_LEN_MAX};
use ptntp::wire::packet::{HEADER_LEN, PACKET_LEN_MAX};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged. Counting touches
// a thread-local that is initialised at compile time and has no destructor, so
// it neither allocates nor can it be gone.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are those the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `block` came from `alloc` above, so from the system's allocator.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

#[test]
fn lookups_and_replies_do_not_allocate() {
    let rules: Vec<Rule> = (0..1000_u32)
        .map(|n| {
            let address = IpAddr::V4(Ipv4Addr::from(n << 12));
            let who = Who::Block {
                prefix: Prefix::new(address, 24).expect("short enough"),
                ntpport: n % 2 == 0,
            };
            let flags = Flags::LIMITED | if n % 3 == 0 { Flags::KOD } else { Flags::FLAKE };
            Rule::Restrict(who, flags)
        })
        .collect();
    let key = |text: &str| text.parse::<Key>().expect("a key");
    let aes = |id: u32, kind: &str, len| key(&format!("{id}:{kind}:HEX:{}", "5a".repeat(len)));
    let keys = vec![key("1:MD5:a"), aes(2, "AES128", 16), aes(3, "AES256", 32)];
    let policy = Policy {
        access: AccessTable::compile(&rules, &[]),
        rate_limit: RateLimit::default(),
        keys: Arc::new(KeyTable::new(keys)),
        ..Policy::default()
    };
    let sizes = Sizes {
        limited: 256,
        interleaved: 64,
    };
    let mut responder = Responder::new(1, sizes);
    let state = SystemState::unsynchronised(Precision::new(-20));
    let mut out = [0; PACKET_LEN_MAX];
    let mut bytes = [0; HEADER_LEN + 20];
    let mut mac = [0; MAC_LEN_MAX];
    let start = WallInstant::from_unix_ns(1_800_000_000_000_000_000);
    let mut counts = [0_u32; Verdict::COUNT];
    let mut signed = 0_u32;

    let before = allocations();
    for n in 0..200_000_u32 {
        let (head, len) = match n % 8 {
            0 => (0x16, 12),
            1 => (0x1b, HEADER_LEN + 20),
            2 => (0x21, HEADER_LEN),
            _ => (0x23, HEADER_LEN),
        };
        bytes[0] = head;
        // Clients of interleaved mode among them: origin is the last receive stamp.
        bytes[24..32].copy_from_slice(&out[32..40]);
        bytes[40..44].copy_from_slice(&n.to_be_bytes());
        if n % 16 == 1 {
            let key = policy.keys.get(1 + n / 16 % 3).expect("a key");
            key.sign(&bytes[..HEADER_LEN], &mut mac);
            bytes[HEADER_LEN..].copy_from_slice(&mac[..20]);
        }
        let address = Ipv4Addr::from(((n / 8) % 2000) << 11 | 1);
        let passed = NtpDuration::from_nanos(i64::from(n) * 50_000_000);
        let request = Request {
            bytes: &bytes[..len],
            from: SocketAddr::from((address, 100 + (n % 50) as u16)),
            group: false,
            received: start + passed,
        };
        let now = MonoInstant::ZERO + passed;
        let verdict = responder.respond(&policy, &state, &request, now, &mut out);
        counts[verdict.index()] += 1;
        if let Verdict::Reply { len, kind, track } = verdict {
            if kind.wants_transmit() {
                complete(&policy.keys, &mut out[..len], request.received);
                signed += u32::from(len > HEADER_LEN + 4);
            }
            if let Some(token) = track {
                responder.departed(token, request.received);
            }
        }
    }
    assert_eq!(allocations() - before, 0);
    assert_ne!(signed, 0, "no signed reply was exercised");

    for kind in ReplyKind::ALL {
        assert_ne!(counts[kind.index()], 0, "{} was not exercised", kind.name());
    }
}
