//! `broadcast`: what a listener on the network hears, by broadcast and in a group; and
//! `broadcastclient`: what ptntp makes of it.

mod common;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Instant;

use common::net::{Namespace, Star, hub_v4};
use common::ntp::{Client, Reply};
use common::ptntp::{OPEN, in_namespace};
use common::secs;
use nix::sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, sockopt};
use ptntp::wire::key::Key;

const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 1, 1);

/// Hears broadcasts and the group.
fn ears(spoke: &Namespace) -> UdpSocket {
    let socket = spoke.udp(SocketAddr::from(([0, 0, 0, 0], 123)));
    spoke.ip("route add 224.0.0.0/4 dev eth");
    let joined = spoke.inside(|| socket.join_multicast_v4(&GROUP, &Ipv4Addr::UNSPECIFIED));
    joined.expect("a member of the group");
    socket.set_read_timeout(Some(secs(30))).expect("a timeout");
    socket
}

/// The next packet of `len` octets.
fn hear(ears: &UdpSocket, len: usize) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 256];
    for _ in 0..100 {
        let (got, from) = ears.recv_from(&mut buffer).expect("a broadcast");
        if got == len {
            return (buffer[..len].to_vec(), from);
        }
    }
    panic!("nothing of {len} octets");
}

/// Three networks: one is told signed, one in a group and unsigned, one unsigned, where
/// that is not enough.
#[test]
fn who_listens_asks_who_broadcasts() {
    require!(root);
    let star = Star::new(3);
    star.hub.ip("route add 224.0.0.0/4 dev s1");
    star.spokes[1].ip("route add 224.0.0.0/4 dev eth");
    let keys = "5 SHA1 0102030405060708090a0b0c0d0e0f1011121314\n";
    let config = format!(
        "{OPEN}broadcast 10.77.0.255 minpoll 0 key 5\nbroadcast {GROUP} minpoll 0\n\
         broadcast 10.77.2.255 minpoll 0\nkeys @DIR@/keys\ntrustedkey 5\n"
    );
    let server = in_namespace(&star.hub).clock("virtual:0,0").config(&config);
    server.directory().write("keys", keys);
    let _server = server.start();

    let signed = in_namespace(&star.spokes[0])
        .config("broadcastclient\nrestrict default nopeer\nkeys @DIR@/keys\ntrustedkey 5\n");
    signed.directory().write("keys", keys);
    let signed = signed.start();
    let group = in_namespace(&star.spokes[1])
        .args(&["--io", "poll"])
        .config(&format!(
            "multicastclient {GROUP}\nenable auth\ndisable auth\nrestrict default\n"
        ))
        .start();
    let wary = in_namespace(&star.spokes[2])
        .config("broadcastclient\nrestrict default\n")
        .start();
    for (n, client) in [&signed, &group].into_iter().enumerate() {
        client.settles(1e-3, secs(60), secs(1)).expect("right");
        let sources = client.sources();
        let address = format!("{}:123", hub_v4(n));
        assert_eq!(sources[0]["address"], address.as_str(), "{sources:?}");
        assert_eq!(sources[0]["kind"], "b", "{sources:?}");
    }
    assert_eq!(signed.sources()[0]["detail"]["key"]["id"], 5);
    let sources = wary.sources();
    assert!(sources[0]["address"].is_null(), "not signed: {sources:?}");
}

fn check(packet: &[u8], from: SocketAddr, poll: i8) {
    let told = Reply::parse(packet).expect("a packet");
    assert_eq!((told.mode, told.version), (5, 4), "{told:?}");
    assert_eq!((told.leap, told.stratum), (0, 4), "{told:?}");
    assert_eq!((told.origin, told.receive), (0, 0), "{told:?}");
    assert_eq!(told.poll, poll);
    let ahead_s = common::ntp::difference_s(told.transmit, told.arrived);
    assert!((ahead_s - 0.25).abs() < 0.05, "{ahead_s} s: {told:?}");
    assert_eq!(from, SocketAddr::new(hub_v4(0), 123));
}

#[test]
fn a_network_and_a_group_are_told_the_time() {
    require!(root);
    let star = Star::new(1);
    star.hub.ip("route add 224.0.0.0/4 dev s0");
    let ears = ears(&star.spokes[0]);
    let key = "5:SHA1:HEX:0102030405060708090a0b0c0d0e0f1011121314";
    let setup = in_namespace(&star.hub)
        .clock("virtual:0.25,0")
        .config(&format!(
            "{OPEN}broadcast 10.77.0.255 minpoll 0\nbroadcast {GROUP} minpoll 1 key 5 ttl 3\n\
             keys @DIR@/keys\ntrustedkey 5\n"
        ));
    let digits = key.rsplit(':').next().expect("digits");
    setup
        .directory()
        .write("keys", format!("5 SHA1 {digits}\n"));
    let ptntp = setup.start();
    let (packet, from) = hear(&ears, 48);
    check(&packet, from, 0);
    let (packet, from) = hear(&ears, 72);
    check(&packet[..48], from, 1);
    let key: Key = key.parse().expect("a key");
    assert!(key.verifies(&packet[..48], &packet[48..]));
    assert!(ptntp.sync(), "nothing was told before");
}

#[test]
fn a_chrony_conf_may_broadcast_and_serve_nobody() {
    require!(root);
    let star = Star::new(1);
    let ears = ears(&star.spokes[0]);
    let broadcast: IpAddr = [10, 77, 0, 255].into();
    let _ptntp = in_namespace(&star.hub)
        .clock("virtual:0.25,0")
        .args(&["--io", "poll"])
        .config(&format!(
            "local stratum 4\nbroadcast 1 {broadcast}\ncmdport 0\nbindcmdaddress /\n"
        ))
        .start();
    let (packet, from) = hear(&ears, 48);
    check(&packet, from, 0);
    assert!(Client::new(&star.spokes[0], hub_v4(0)).time().is_none());
}

/// `interval`, `version` and `port` in what is heard, and `ttl` in the frame that it came in.
#[test]
fn a_broadcast_is_sent_as_its_options_say() {
    require!(root);
    let star = Star::new(1);
    star.hub.ip("route add 224.0.0.0/4 dev s0");
    let frames = star.spokes[0].inside(|| {
        let (family, kind) = (AddressFamily::Packet, SockType::Raw);
        let all = SockProtocol::EthAll;
        socket::socket(family, kind, SockFlag::empty(), all).expect("a raw socket")
    });
    let patience = nix::sys::time::TimeVal::new(20, 0);
    socket::setsockopt(&frames, sockopt::ReceiveTimeout, &patience).expect("a timeout");
    let _ptntp = in_namespace(&star.hub)
        .clock("virtual:0.25,0")
        .config(&format!(
            "{OPEN}broadcast {GROUP} interval 0.5 version 3 port 1124 ttl 3\n"
        ))
        .start();
    let mut heard = Vec::new();
    while heard.len() < 6 {
        let mut frame = [0; 256];
        let len = socket::recv(frames.as_raw_fd(), &mut frame, MsgFlags::empty());
        let frame = &frame[..len.expect("a frame")];
        // IPv4 without options, UDP, to the group: its packets to this port.
        let is_ours = frame.len() == 14 + 20 + 8 + 48
            && frame[12..14] == [8, 0]
            && frame[30..34] == GROUP.octets()
            && frame[36..38] == 1124_u16.to_be_bytes();
        if is_ours {
            assert_eq!(frame[22], 3, "time to live");
            assert_eq!(frame[42] & 0o77, 3 << 3 | 5, "version and mode");
            heard.push(Instant::now());
        }
    }
    let gap_s = (heard[5] - heard[0]).as_secs_f64() / 5.0;
    assert!((0.4..0.7).contains(&gap_s), "{gap_s} s");
}
