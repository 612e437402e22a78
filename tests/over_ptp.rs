//! NTP over PTP against a real chronyd, which speaks its experimental form: as server and
//! as client, by IPv4 and IPv6, with both backends, while ptntp serves and asks on the same
//! port. A server of the final form, which no packaged chronyd speaks yet, is made by hand.

mod common;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};

use common::GOOD_S;
use common::net::{Star, hub_v4, hub_v6, spoke_v4, spoke_v6};
use common::ntp::{Client, now};
use common::peers::{ChronyServer, chronyd_query_with};
use common::ptntp::{OPEN, Ptntp, in_namespace};
use common::{secs, wait_until};

/// Answers of one source that passed all tests, and those that were no NTP over PTP.
fn heard(ptntp: &Ptntp) -> (u64, u64) {
    let source = &ptntp.sources()[0];
    let number = |value: &serde_json::Value| value.as_u64().unwrap_or(0);
    let other = number(&source["rejected"]["transport"]);
    (number(&source["received"]), other)
}

fn follows_chronyd(backend: &str, server: IpAddr) {
    let star = Star::new(2);
    let _server = ChronyServer::start_with(&star.spokes[0], "ptpport 319");
    let config = format!(
        "restrict default\nserver {server} port 319 iburst minpoll 3 maxpoll 4 xleave \
         extfield F324\nptpport 319\n"
    );
    let ptntp = in_namespace(&star.hub)
        .config(&config)
        .args(&["--io", backend])
        .start();
    ptntp.settles(GOOD_S, secs(60), secs(3)).expect("settles");
    let (received, other) = heard(&ptntp);
    assert!(received > 3 && other == 0, "{:?}", ptntp.sources());
    // And hands it on, over the port that it asks from.
    for address in [hub_v4(1), hub_v6(1)] {
        let before = ptntp.true_error_s();
        let seen = chronyd_query_with(&star.spokes[1], address, "port 319", &["ptpport 319"])
            .unwrap_or_else(|log| panic!("chronyd at {address}: {log}"));
        assert!((seen - before).abs() < GOOD_S, "chronyd says {seen}");
    }
}

#[test]
fn chronyd_is_followed_over_ptp_with_uring() {
    require!(root, peers, ipv6);
    follows_chronyd("uring", spoke_v4(0));
}

#[test]
fn chronyd_is_followed_over_ptp_with_poll() {
    require!(root, peers, ipv6);
    follows_chronyd("poll", spoke_v6(0));
}

#[test]
fn chronyd_takes_our_time_over_ptp() {
    require!(root, peers, ipv6);
    for backend in ["uring", "poll"] {
        let star = Star::new(1);
        let config = format!("{OPEN}ptpport 319\n");
        let _ptntp = in_namespace(&star.hub)
            .clock("virtual:0.25,0")
            .config(&config)
            .args(&["--io", backend])
            .start();
        let plain = Client::new(&star.spokes[0], hub_v4(0));
        let served = wait_until(secs(30), || plain.time().is_some_and(|r| r.leap != 3));
        assert!(served, "port 123 is served as ever");
        for (address, options) in [(hub_v4(0), "port 319"), (hub_v6(0), "port 319 xleave")] {
            let lines = ["ptpport 319"];
            let seen = chronyd_query_with(&star.spokes[0], address, options, &lines)
                .unwrap_or_else(|log| panic!("{backend}, {address} {options}: {log}"));
            assert!((seen - 0.25).abs() < 0.01, "chronyd says {seen}");
        }
    }
}

/// Answers what has the final form, until told to stop; how many had the other one.
fn serve_final_form(socket: &UdpSocket, stop: &AtomicBool) -> usize {
    let mut others = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut message = [0; 200];
        let Ok((len, from)) = socket.recv_from(&mut message) else {
            continue;
        };
        let received = now();
        assert_eq!(from.port(), 319, "cards look for PTP at this port");
        assert_eq!(message[..2], [1, 2]);
        if message[44..56] != [0, 3, 0, 56, 0, 0, 0x5e, 0, 0, 1, 0, 0] {
            assert_eq!((message[44..46].to_vec(), len), (vec![0x20, 0x23], 96));
            others += 1;
            continue;
        }
        assert_eq!(len, 104);
        let (ntp, theirs) = (56, 96);
        message.copy_within(theirs..theirs + 8, ntp + 24);
        message[ntp..ntp + 4].copy_from_slice(&[0x24, 1, 3, 0xe9]);
        message[ntp + 12..ntp + 16].copy_from_slice(b"TEST");
        message[ntp + 16..ntp + 24].copy_from_slice(&received.to_be_bytes());
        message[ntp + 32..ntp + 40].copy_from_slice(&received.to_be_bytes());
        message[ntp + 40..ntp + 48].copy_from_slice(&now().to_be_bytes());
        socket.send_to(&message[..len], from).expect("sent");
    }
    others
}

#[test]
fn a_server_of_the_final_form_is_found_and_followed() {
    require!(root);
    let star = Star::new(1);
    let socket = star.spokes[0].udp(SocketAddr::new([0; 4].into(), 319));
    socket
        .set_read_timeout(Some(std::time::Duration::from_millis(50)))
        .expect("a timeout");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let server = scope.spawn(|| serve_final_form(&socket, &stop));
        let ptntp = in_namespace(&star.hub)
            .config("restrict default\nserver 10.77.0.2 ptp iburst minpoll 3 maxpoll 4\n")
            .start();
        let settled = ptntp.settles(GOOD_S, secs(60), secs(1));
        stop.store(true, Ordering::Relaxed);
        let others = server.join().expect("it only serves");
        settled.expect("settles");
        assert_eq!(others, 1, "once found out, the form is kept");
    });
}
