//! The ring over real loopback sockets: addresses, stamps, and what ends a
//! multishot receive without ending the service.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use super::*;
use crate::linux::clock::realtime;
use crate::linux::reuseport;
use crate::time::duration::NtpDuration;
use crate::time::stamp::StampOrigin;

/// A ring with one socket on `address`, and where that is.
fn ring_on(address: &str) -> (Ring<u64>, SocketAddr) {
    with_buffers(BUFFERS, address)
}

fn with_buffers(count: u16, address: &str) -> (Ring<u64>, SocketAddr) {
    let mut group = bind_group(address);
    let socket = group.pop().expect("one socket");
    let address = socket.address();
    let mut ring = with_parts(build(SUBMISSIONS), count);
    ring.add(socket).expect("added");
    (ring, address)
}

fn with_parts(ring: io::Result<WideRing>, count: u16) -> Ring<u64> {
    let buffers = BufferRing::new(count, BUFFER_LEN).expect("buffers");
    Ring::from_parts(ring.expect("a ring"), buffers).expect("a whole ring")
}

fn bind_group(address: &str) -> Vec<ListenSocket> {
    let address = address.parse().expect("an address");
    reuseport::bind_group(address, 1).expect("a socket")
}

/// As on a kernel that knows these.
fn use_ids(ring: &mut Ring<u64>, ids: Ids) {
    for socket in ring.sockets.iter_mut().flatten() {
        socket.tracker = Tracker::new(ids);
    }
}

fn client(ip: &str) -> UdpSocket {
    let socket = UdpSocket::bind((ip, 0)).expect("a client");
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("a timeout");
    socket
}

/// Echoes what has come; how many requests and departures there were.
fn turn(ring: &mut Ring<u64>, track: bool) -> (usize, Vec<(u64, Stamp)>) {
    ring.wait().expect("waited");
    let (mut requests, mut departures) = (0, Vec::new());
    while let Some(event) = ring.next_event().expect("an event") {
        match event {
            Event::Arrived(arrival) => {
                requests += 1;
                echo(ring, arrival, track);
            }
            Event::Departed(token, stamp) => departures.push((token, stamp)),
            Event::DepartedByCard(..) | Event::Woken => (),
        }
    }
    (requests, departures)
}

fn echo(ring: &mut Ring<u64>, arrival: Arrival, track: bool) {
    let answer = |request: &[u8], reply: &mut [u8; MESSAGE_LEN_MAX]| {
        let len = request.len().min(MESSAGE_LEN_MAX);
        reply[..len].copy_from_slice(&request[..len]);
        Some(Outgoing {
            len,
            stamp_late: (len > 0).then_some(0),
            track: track.then(|| u64::from(request[1])),
        })
    };
    let stamp = |reply: &mut [u8], leaves| {
        assert!(leaves >= realtime() - NtpDuration::from_whole_seconds(1));
        reply[0] = b'!';
    };
    let before = realtime();
    let sent = ring.answer(arrival, answer, stamp).expect("sent");
    assert!(sent.is_some_and(|at| at >= before));
}

/// Turns until `count` requests were echoed.
fn echo_all(ring: &mut Ring<u64>, count: usize) {
    let mut done = 0;
    while done < count {
        done += turn(ring, false).0;
    }
}

#[test]
fn this_machine_is_supported() {
    assert_eq!(supported(), Ok(()));
    assert_eq!(parse_version("6.18.44-generic"), Some((6, 18)));
    assert_eq!(parse_version("nonsense"), None);
}

#[test]
fn a_refusal_that_passes_is_survived_and_counted() {
    let (mut ring, _) = ring_on("127.0.0.1:0");
    for errno in [libc::EINTR, libc::EBUSY, libc::EAGAIN] {
        let refuse = |_: &mut WideRing| Err(io::Error::from_raw_os_error(errno));
        ring.enter(refuse).expect("it passes");
    }
    assert_eq!(ring.tallies().submit_refused, 2);
    let refuse = |_: &mut WideRing| Err(io::Error::from_raw_os_error(libc::EBADF));
    ring.enter(refuse).expect_err("it stays");
}

#[test]
fn a_job_comes_back_as_it_went() {
    let jobs = [
        Job::Receive(255, 1),
        Job::Stamps(5, u32::MAX),
        Job::Poll(6),
        Job::Drain(7),
        Job::Wake(2),
        Job::Cancel,
    ];
    for (n, job) in jobs.into_iter().enumerate() {
        assert_eq!(job.user_data() >> 48, n as u64 + 1);
        assert_eq!(Job::from_user_data(job.user_data()), job);
    }
}

#[test]
fn replies_leave_from_the_address_that_was_asked() {
    for (listen, ask, from) in [
        ("0.0.0.0:0", "127.0.0.2", "127.0.0.1"),
        ("0.0.0.0:0", "127.0.0.1", "127.0.0.1"),
        ("127.0.0.3:0", "127.0.0.3", "127.0.0.1"),
        ("[::]:0", "::1", "::1"),
        ("[::1]:0", "::1", "::1"),
    ] {
        let (mut ring, address) = ring_on(listen);
        let client = client(from);
        let asked = SocketAddr::new(ask.parse().expect("an address"), address.port());
        let before = realtime();
        client.send_to(b"hello", asked).expect("sent");

        ring.wait().expect("waited");
        let Some(Event::Arrived(arrival)) = ring.next_event().expect("an event") else {
            panic!("no request at {listen}");
        };
        assert_eq!(arrival.to, asked.ip());
        assert_eq!(arrival.from, client.local_addr().expect("an address"));
        assert_eq!(arrival.interface != 0, address.ip().is_unspecified());
        let stamp = arrival.stamp.expect("a kernel stamp");
        assert!(stamp.at >= before && stamp.at <= realtime());
        echo(&mut ring, arrival, false);

        let mut reply = [0; 16];
        let (len, source) = client.recv_from(&mut reply).expect("a reply");
        assert_eq!(&reply[..len], b"!ello");
        assert_eq!(source, asked);
        assert_eq!(ring.tallies(), Tallies::default());
    }
}

#[test]
fn a_burst_larger_than_the_buffers_does_not_end_the_service() {
    let (mut ring, address) = with_buffers(8, "127.0.0.1:0");
    let client = client("127.0.0.1");
    for round in 1..=3 {
        for _ in 0..100 {
            client.send_to(b"burst", address).expect("sent");
        }
        echo_all(&mut ring, 100);
        for _ in 0..100 {
            client.recv(&mut [0; 8]).expect("a reply");
        }
        assert!(ring.tallies().rearmed_no_buffers >= round);
    }
    assert_eq!(ring.tallies().send_errors, 0);
}

/// A flood at one address keeps nobody from another.
#[test]
fn sockets_that_always_have_more_take_turns() {
    let (mut ring, first) = ring_on("127.0.0.1:0");
    let mut addresses = vec![first];
    for address in ["127.0.0.2:0", "127.0.0.3:0"] {
        let socket = bind_group(address).pop().expect("one socket");
        addresses.push(socket.address());
        ring.add(socket).expect("added");
    }
    ring.enter(|ring| ring.submit()).expect("armed");
    let client = client("127.0.0.1");
    let top_up = |address: &SocketAddr, count: usize| {
        for _ in 0..count {
            client.send_to(b"flood", address).expect("sent");
        }
    };
    for address in &addresses {
        top_up(address, 150);
    }
    let mut answered = [0; 3];
    while answered.iter().sum::<usize>() < 600 {
        ring.wait().expect("waited");
        while let Some(event) = ring.next_event().expect("an event") {
            if let Event::Arrived(arrival) = event {
                let to = addresses.iter().position(|a| a.ip() == arrival.to);
                let to = to.expect("one of ours");
                answered[to] += 1;
                echo(&mut ring, arrival, false);
                // There is never an end to it.
                top_up(&addresses[to], 1);
            }
        }
    }
    assert!(answered.iter().all(|&count| count >= 150), "{answered:?}");
}

/// One that waits for the batch's end before it receives again.
#[test]
fn a_socket_that_waits_for_its_turn_can_be_closed() {
    let mut group = bind_group("127.0.0.1:0");
    let watch = group[0].group();
    let address = group[0].address();
    let mut ring = with_parts(build(SUBMISSIONS), BUFFERS);
    ring.add(group.pop().expect("one socket")).expect("added");
    ring.enter(|ring| ring.submit()).expect("armed");
    let client = client("127.0.0.1");
    for _ in 0..100 {
        client.send_to(b"burst", address).expect("sent");
    }
    ring.wait().expect("waited");
    while let Some(event) = ring.next_event().expect("an event") {
        if let Event::Arrived(arrival) = event {
            echo(&mut ring, arrival, false);
        }
    }
    assert_eq!(ring.sated, [0]);
    ring.remove(address).expect("removed");
    while !watch.is_closed() {
        ring.wait().expect("waited");
        while let Some(event) = ring.next_event().expect("an event") {
            assert!(!matches!(event, Event::Arrived(_)), "it is closing");
        }
    }
}

#[test]
fn who_never_sleeps_goes_on_after_a_full_batch() {
    let (mut ring, address) = ring_on("127.0.0.1:0");
    ring.enter(|ring| ring.submit()).expect("armed");
    let client = client("127.0.0.1");
    for _ in 0..100 {
        client.send_to(b"burst", address).expect("sent");
    }
    let mut echoed = 0;
    while echoed < 100 {
        ring.spin().expect("spun");
        while let Some(event) = ring.next_event().expect("an event") {
            if let Event::Arrived(arrival) = event {
                echoed += 1;
                echo(&mut ring, arrival, false);
            }
        }
    }
    assert!(ring.tallies().rearmed_no_buffers > 0);
}

#[test]
fn a_ring_without_the_tuning_serves_as_well() {
    let mut ring = with_parts(build_plain(SUBMISSIONS), 8);
    let socket = bind_group("127.0.0.1:0").pop().expect("one socket");
    let address = socket.address();
    ring.add(socket).expect("added");
    let client = client("127.0.0.1");
    for _ in 0..100 {
        client.send_to(b"burst", address).expect("sent");
    }
    echo_all(&mut ring, 100);
    for _ in 0..100 {
        client.recv(&mut [0; 8]).expect("a reply");
    }
}

#[test]
fn what_is_missing_is_said_in_words() {
    for (errno, word) in [
        (libc::ENOSYS, "seccomp"),
        (libc::EPERM, "denied"),
        (libc::ENOMEM, "memory"),
        (libc::EMFILE, "RLIMIT_NOFILE"),
    ] {
        let said = explain(&io::Error::from_raw_os_error(errno));
        assert!(said.starts_with("io_uring: "), "{said}");
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn empty_and_oversized_requests_do_not_end_the_service() {
    let (mut ring, address) = ring_on("127.0.0.1:0");
    let client = client("127.0.0.1");
    for len in [0, 0, MESSAGE_LEN_MAX, MESSAGE_LEN_MAX + 1, 60_000, 0, 48] {
        client.send_to(&vec![b'x'; len], address).expect("sent");
        let seen = loop {
            ring.wait().expect("waited");
            if let Some(Event::Arrived(arrival)) = ring.next_event().expect("an event") {
                let mut seen = 0;
                let look = |request: &[u8], _: &mut [u8; MESSAGE_LEN_MAX]| {
                    seen = request.len();
                    None
                };
                let sent = ring.answer(arrival, look, |_, _| ()).expect("nothing sent");
                assert_eq!(sent, None);
                break seen;
            }
        };
        if len <= MESSAGE_LEN_MAX {
            assert_eq!(seen, len);
        } else {
            assert!(seen > MESSAGE_LEN_MAX);
        }
    }
    assert!(ring.tallies().rearmed_other >= 3);
}

#[test]
fn departures_come_back_with_their_tokens() {
    let ways = ["0.0.0.0:0", "[::]:0", "127.0.0.1:0", "[::1]:0"]
        .into_iter()
        .flat_map(|listen| [Ids::Chosen, Ids::Counted].map(|ids| (listen, ids)))
        .flat_map(|(listen, ids)| {
            [Collect::Command, Collect::ErrorQueue].map(|collect| (listen, ids, collect))
        })
        .flat_map(|way| [false, true].map(|by_card| (way, by_card)));
    for ((listen, ids, collect), by_card) in ways {
        let (mut ring, address) = ring_on(listen);
        // An older kernel has but one.
        ring.collect = match ring.collect {
            Collect::Command => collect,
            Collect::ErrorQueue => Collect::ErrorQueue,
        };
        if address.ip().is_unspecified() && ring.ids == Ids::Chosen {
            use_ids(&mut ring, ids);
        }
        if by_card {
            // Where there are no cards, the kernel's stamps come as before.
            ring.stamp_by_card().expect("socket options");
        }
        let ip = if address.is_ipv4() {
            "127.0.0.1"
        } else {
            "::1"
        };
        let client = client(ip);
        let before = realtime();
        for number in 0..100_u8 {
            client
                .send_to(&[0, number], (ip, address.port()))
                .expect("sent");
        }
        let mut tokens = Vec::new();
        while tokens.len() < 100 {
            for (token, stamp) in turn(&mut ring, true).1 {
                assert!(stamp.at >= before && stamp.at <= realtime());
                assert_eq!(stamp.origin, StampOrigin::Kernel);
                tokens.push(token);
            }
        }
        assert!(tokens.iter().copied().eq(0..100), "{listen} {tokens:?}");
        assert_eq!(ring.tallies().departures, 100);
        assert_eq!(ring.tallies().departures_unmatched, 0);
    }
}

#[test]
fn a_reply_that_fails_does_not_shift_the_stamps_of_others() {
    for (listen, ids) in [
        ("0.0.0.0:0", Ids::Chosen),
        ("0.0.0.0:0", Ids::Counted),
        ("127.0.0.1:0", Ids::Counted),
    ] {
        let (mut ring, mut address) = ring_on(listen);
        address.set_ip([127, 0, 0, 1].into());
        if ids == Ids::Chosen && ring.ids == Ids::Counted {
            continue;
        }
        use_ids(&mut ring, ids);
        let client = client("127.0.0.1");
        let mut tokens = Vec::new();
        for number in 0..20_u8 {
            client.send_to(&[0, number], address).expect("sent");
            let mut arrived = false;
            while !arrived {
                ring.wait().expect("waited");
                while let Some(event) = ring.next_event().expect("an event") {
                    match event {
                        Event::Arrived(mut arrival) => {
                            arrived = true;
                            if number % 5 == 3 {
                                // EACCES: we never ask for broadcast.
                                arrival.from = "255.255.255.255:9".parse().expect("ok");
                            }
                            echo(&mut ring, arrival, true);
                        }
                        Event::Departed(token, _) => tokens.push(token),
                        Event::DepartedByCard(..) | Event::Woken => (),
                    }
                }
            }
            // Let its stamp come before the next: restarting ids forgets those awaited.
            while number % 5 != 3 && tokens.last() != Some(&u64::from(number)) {
                tokens.extend(turn(&mut ring, true).1.iter().map(|(token, _)| token));
            }
        }
        assert_eq!(ring.tallies().send_errors, 4);
        assert!(tokens.iter().copied().eq((0..20).filter(|n| n % 5 != 3)));
    }
}

#[test]
fn a_socket_comes_and_goes_while_others_serve() {
    let (mut ring, first) = ring_on("127.0.0.1:0");
    let second = bind_group("127.0.0.1:0").pop().expect("one");
    let second_address = second.address();
    ring.add(second).expect("added");
    let client = client("127.0.0.1");
    for to in [first, second_address] {
        client.send_to(b"x", to).expect("sent");
        echo_all(&mut ring, 1);
        assert_eq!(client.recv_from(&mut [0; 4]).expect("a reply").1, to);
    }
    ring.remove(first).expect("removed");
    let closed = |ring: &mut Ring<u64>| ring.sockets[0].is_none();
    while !closed(&mut ring) {
        turn(&mut ring, false);
    }
    UdpSocket::bind(first).expect("the port is free again");
    client.send_to(b"x", second_address).expect("sent");
    echo_all(&mut ring, 1);
    assert_eq!(
        client.recv_from(&mut [0; 4]).expect("a reply").1,
        second_address
    );
}

#[test]
fn a_dropped_ring_leaves_no_socket_behind() {
    let (mut ring, address) = ring_on("127.0.0.1:0");
    ring.wake().wake();
    ring.wait().expect("waited");
    drop(ring);
    UdpSocket::bind(address).expect("the port is free");
}

/// The stamps of a sender whose error queue has no room are lost, and no more than
/// the stamps.
#[test]
fn a_full_error_queue_costs_stamps_and_nothing_else() {
    for collect in [Collect::Command, Collect::ErrorQueue] {
        let (mut ring, address) = ring_on("127.0.0.1:0");
        if ring.collect == Collect::Command {
            ring.collect = collect;
        }
        // A queue that holds next to nothing: errors count as received.
        let sender = ring.sockets[0].as_ref().expect("a socket").socket.sender();
        crate::linux::socket::set(sender, libc::SOL_SOCKET, libc::SO_RCVBUF, 1).expect("set");
        let client = client("127.0.0.1");
        for number in 0..3_000_u32 {
            let sent = [0, number as u8];
            client.send_to(&sent, address).expect("sent");
            if number % 8 == 7 {
                let mut requests = 0;
                while requests < 8 {
                    requests += turn(&mut ring, true).0;
                }
                for _ in 0..8 {
                    client.recv(&mut [0; 8]).expect("a reply");
                }
            }
        }
        let tallies = ring.tallies();
        assert!(tallies.departures_lost > 0, "{tallies:?}");
        assert_eq!(tallies.send_errors + tallies.send_no_room, 0);
        assert_eq!(tallies.overflows, 0);
    }
}

/// More requests than can be answered: what the buffers hold is answered, the rest
/// is dropped by the socket, and the next request is answered at once.
#[test]
fn an_overload_ends_when_the_requests_do() {
    let (mut ring, address) = ring_on("127.0.0.1:0");
    let client = client("127.0.0.1");
    let receiver = ring.sockets[0]
        .as_ref()
        .expect("a socket")
        .socket
        .receiver();
    crate::linux::socket::set(receiver, libc::SOL_SOCKET, libc::SO_RCVBUF, 1 << 16).expect("set");
    for _ in 0..5_000 {
        client.send_to(b"flood", address).expect("sent");
    }
    let mut answered = 0;
    loop {
        ring.wake().wake();
        match turn(&mut ring, false).0 {
            0 => break,
            requests => answered += requests,
        }
    }
    assert!(answered > 0 && answered < 5_000, "{answered}");
    client.set_nonblocking(true).expect("set");
    while client.recv(&mut [0; 8]).is_ok() {}
    client.set_nonblocking(false).expect("set");
    client.send_to(b"after", address).expect("sent");
    echo_all(&mut ring, 1);
    let mut reply = [0; 8];
    let len = client.recv(&mut reply).expect("a reply");
    assert_eq!(&reply[..len], b"!fter");
}

/// Goes round the ring some hundred times, so that the kernel now and then has a
/// departure stamp for its last place and leaves that out (see `is_left_over`). Were
/// what it holds from a lap before believed, a client would be answered twice, or
/// with another's request, or a single call to wake would come as several.
#[test]
fn each_question_has_its_own_answer_however_often_the_ring_goes_round() {
    const QUESTIONS: u64 = 300_000;
    // Small ones: the kernel reserves places in advance, the last one by itself only
    // if one completion was unread when it began at the first.
    const BURST_MAX: u64 = 3;
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let limit = Instant::now() + Duration::from_secs(10);
    let (mut ring, address) = ring_on("127.0.0.1:0");
    let client = client("127.0.0.1");
    let mut asked = 0;
    let mut departures = 0;
    // A slow machine asks fewer.
    while asked < QUESTIONS && Instant::now() < limit {
        // Of all lengths in no order, so that the ring's end falls anywhere in one.
        let dice = asked.wrapping_mul(GOLDEN) >> 32;
        let burst = asked..asked + 1 + dice % BURST_MAX;
        for number in burst.clone() {
            let mut question = [0; 10];
            question[2..].copy_from_slice(&number.to_be_bytes());
            client.send_to(&question, address).expect("sent");
        }
        let mut arrived = 0;
        while arrived < burst.end - burst.start {
            let (requests, stamps) = turn(&mut ring, true);
            arrived += requests as u64;
            departures += stamps.len() as u64;
        }
        // Their stamps are read by themselves, with the next requests, or with a wake-up.
        match dice >> 8 & 3 {
            0 | 1 => {
                while departures < burst.end {
                    departures += turn(&mut ring, true).1.len() as u64;
                }
            }
            2 => (),
            _ => ring.wake().wake(),
        }
        for number in burst.clone() {
            let mut answer = [0; 16];
            let len = client.recv(&mut answer).expect("a reply");
            assert_eq!(answer[2..len], number.to_be_bytes(), "{:?}", ring.tallies());
        }
        asked = burst.end;
    }
    while departures < asked {
        departures += turn(&mut ring, true).1.len() as u64;
    }
    client.set_nonblocking(true).expect("set");
    assert!(client.recv(&mut [0; 16]).is_err(), "an answer too many");
    let tallies = ring.tallies();
    assert_eq!(tallies.departures, asked);
    assert_eq!(tallies.departures_unmatched + tallies.departures_lost, 0);
    ring.wake().wake();
    ring.wait().expect("waited");
    let mut woken = 0;
    while let Some(event) = ring.next_event().expect("an event") {
        assert!(matches!(event, Event::Woken), "{event:?}");
        woken += 1;
    }
    assert_eq!(woken, 1);
}
