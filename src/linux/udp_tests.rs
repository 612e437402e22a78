//! Shown on loopback: kernel stamps in their true order for both families, answers
//! from the address asked, and refusals that cost no stamp.

use super::*;
use crate::linux::wait::{Interest, Ready, Waiter};
use crate::time::duration::NtpDuration;
use crate::time::stamp::StampOrigin;

const LOOPBACKS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

/// Sandboxes without IPv6 have no ::1.
fn bind_if_there(ip: IpAddr) -> Option<ServerSocket> {
    match ServerSocket::bind((ip, 0).into(), false) {
        Ok(socket) => Some(socket),
        Err(error) if ip.is_ipv6() => {
            eprintln!("no {ip} here: {error}");
            None
        }
        Err(error) => panic!("{ip}: {error}"),
    }
}

/// Waits until the socket is ready to be read, or has an error.
fn ready(fd: RawFd, error: bool) -> Ready {
    let interest = Interest {
        fd,
        token: 0,
        read: !error,
        write: false,
        error,
    };
    let until = clock::monotonic() + NtpDuration::from_whole_seconds(5);
    let mut ready = Vec::new();
    Waiter::poll()
        .wait(&[interest], Some(until), &mut ready)
        .unwrap();
    *ready.first().expect("nothing came in 5 s")
}

fn departure(fd: RawFd, mut receive: impl FnMut() -> io::Result<Option<Departure>>) -> Departure {
    assert!(ready(fd, true).error);
    receive().unwrap().expect("a transmit stamp")
}

#[test]
fn four_kernel_stamps_in_their_order() {
    let _hold = StampingHold::new().unwrap();
    // The kernel's switch for receive stamps turns on in the background.
    std::thread::sleep(std::time::Duration::from_millis(50));
    // Where there are no cards, asking for their stamps leaves the kernel's.
    for (ip, by_card) in LOOPBACKS
        .into_iter()
        .flat_map(|ip| [(ip, false), (ip, true)])
    {
        let Some(mut server) = bind_if_there(ip) else {
            continue;
        };
        if by_card {
            server.stamp_by_card();
        }
        let mut client = ClientSocket::connect(server.local_addr(), by_card).unwrap();
        let mut buffer = [0; 100];

        let before = clock::realtime();
        let sent = client.send(b"what time is it?").unwrap();
        let client_fd = client.fd();
        let t1 = departure(client_fd, || client.receive_departure());
        assert_eq!(t1.id, sent);
        ready(server.fd(), false);
        let request = server.receive(&mut buffer).unwrap().unwrap();
        assert_eq!(&buffer[..request.len], b"what time is it?");
        assert_eq!(request.from, local_addr(&client.fd).unwrap());
        assert_eq!(request.to, ip);
        assert_ne!(request.interface, 0);

        let (to, from, interface) = (request.from, request.to, request.interface);
        let sent = server.send_stamped(b"late", to, from, interface).unwrap();
        let server_fd = server.fd();
        let t3 = departure(server_fd, || server.receive_departure());
        assert_eq!(Some(t3.id), sent);
        ready(client.fd(), false);
        let answer = client.receive(&mut buffer).unwrap().unwrap();
        assert_eq!(&buffer[..answer.len], b"late");

        let kernel = |departure: Departure| departure.kernel.expect("the kernel's");
        let (t1, t3, t4) = (kernel(t1), kernel(t3), answer.stamp);
        let stamps = [t1, request.stamp, t3, t4];
        assert!(
            stamps.iter().all(|s| s.origin == StampOrigin::Kernel),
            "{stamps:?}"
        );
        assert!(before <= t1.at, "{before:?} {stamps:?}");
        assert!(stamps.is_sorted_by_key(|s| s.at), "{stamps:?}");
        assert!(t4.at <= clock::realtime());

        assert!(client.receive(&mut buffer).unwrap().is_none());
        assert!(client.receive_departure().unwrap().is_none());
        assert!(server.receive(&mut buffer).unwrap().is_none());
    }
}

#[test]
fn answers_leave_from_the_address_asked() {
    let server = ServerSocket::bind((Ipv4Addr::UNSPECIFIED, 0).into(), true).unwrap();
    for last in [1, 2, 77] {
        let asked = Ipv4Addr::new(127, 0, 0, last);
        let to = SocketAddr::from((asked, server.local_addr().port()));
        // Connected, so it takes answers from that address only.
        let mut client = ClientSocket::connect(to, false).unwrap();
        client.send(b"?").unwrap();
        ready(server.fd(), false);
        let mut buffer = [0; 10];
        let request = server.receive(&mut buffer).unwrap().unwrap();
        assert_eq!(request.to, IpAddr::V4(asked));
        server
            .send(b"!", request.from, request.to, request.interface)
            .unwrap();
        assert!(ready(client.fd(), false).read);
        let answer = client.receive(&mut buffer).unwrap().unwrap();
        assert_eq!(&buffer[..answer.len], b"!");
    }
}

#[test]
fn both_wildcards_stand_side_by_side() {
    let Some(_) = bind_if_there(LOOPBACKS[1]) else {
        return;
    };
    let v4 = ServerSocket::bind((Ipv4Addr::UNSPECIFIED, 0).into(), false).unwrap();
    let port = v4.local_addr().port();
    let v6 = ServerSocket::bind((Ipv6Addr::UNSPECIFIED, port).into(), false).unwrap();
    let mut client = ClientSocket::connect((Ipv6Addr::LOCALHOST, port).into(), false).unwrap();
    client.send(b"?").unwrap();
    ready(v6.fd(), false);
    let mut buffer = [0; 10];
    let request = v6.receive(&mut buffer).unwrap().unwrap();
    assert_eq!(request.to, LOOPBACKS[1]);
    assert!(v4.receive(&mut buffer).unwrap().is_none());
    v6.send(b"!", request.from, request.to, request.interface)
        .unwrap();
    assert!(ready(client.fd(), false).read);
}

#[test]
fn a_taken_port_is_an_error_unless_shared() {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let first = ServerSocket::bind(any, true).unwrap();
    ServerSocket::bind(first.local_addr(), true).unwrap();
    let error = ServerSocket::bind(first.local_addr(), false).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

/// A closed port: the network's refusal is reported, and the transmit stamp of the
/// refused datagram is still there.
#[test]
fn a_refusal_costs_no_stamp() {
    for ip in LOOPBACKS {
        let Some(closed) = bind_if_there(ip).map(|server| server.local_addr()) else {
            continue;
        };
        let mut client = ClientSocket::connect(closed, false).unwrap();
        let sent = client.send(b"anyone?").unwrap();
        let fd = client.fd();
        let departed = departure(fd, || client.receive_departure());
        assert_eq!(departed.id, sent);
        assert!(ready(fd, true).error);
        let error = client.receive_departure().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        // And that was all of it.
        assert!(client.receive_departure().unwrap().is_none());
        assert!(client.receive(&mut [0; 10]).unwrap().is_none());
    }
}

#[test]
fn several_under_way_are_told_apart() {
    let server = ServerSocket::bind((Ipv4Addr::LOCALHOST, 0).into(), false).unwrap();
    let mut client = ClientSocket::connect(server.local_addr(), false).unwrap();
    let sent = [b"1", b"2", b"3"].map(|payload| client.send(payload).unwrap());
    for expected in sent {
        let fd = client.fd();
        let departed = departure(fd, || client.receive_departure());
        assert_eq!(departed.id, expected);
    }
}

#[test]
fn a_looped_frame_outweighs_a_wrong_id() {
    let mut sends = Sends::default();
    let first = sends.remember(b"first datagram");
    let long = [7; 300];
    let second = sends.remember(&long);
    let framed = |payload: &[u8]| [&[0xab; 42][..], payload].concat();
    assert_eq!(
        sends.claim(&framed(b"someone else's"), 0, Taker::Kernel),
        None
    );
    assert_eq!(sends.claim(&framed(&long), 77, Taker::Kernel), Some(second));
    assert_eq!(
        sends.claim(&framed(b"first datagram"), 1, Taker::Kernel),
        Some(first)
    );
    // Once only, by each.
    let by_card = sends.claim(&framed(b"first datagram"), 1, Taker::Card);
    assert_eq!(by_card, Some(first));
    assert_eq!(
        sends.claim(&framed(b"first datagram"), 1, Taker::Kernel),
        None
    );
    assert_eq!(sends.claim(&[], 0, Taker::Kernel), None);
}

#[test]
fn a_client_shares_a_servers_port_and_gets_what_is_its_own() {
    use crate::linux::reuseport::bind_alone;
    use std::net::UdpSocket;
    for any in ["0.0.0.0:0", "[::]:0"] {
        let port = UdpSocket::bind(any.parse::<SocketAddr>().expect("an address"))
            .and_then(|socket| socket.local_addr())
            .expect("a free port")
            .port();
        let mut address: SocketAddr = any.parse().expect("an address");
        address.set_port(port);
        let server = bind_alone(address).expect("a server");
        let local: IpAddr = if address.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv6Addr::LOCALHOST.into()
        };
        let peer = UdpSocket::bind((local, 0)).expect("a peer");
        let stranger = UdpSocket::bind((local, 0)).expect("a stranger");
        let to = peer.local_addr().expect("an address");
        let mut client = ClientSocket::connect_from(port, to, false).expect("shared");
        client.send(b"question").expect("sent");
        let mut buffer = [0; 64];
        let (_, from) = peer.recv_from(&mut buffer).expect("it arrived");
        assert_eq!(from, SocketAddr::new(local, port));
        peer.send_to(b"answer", from).expect("sent");
        stranger.send_to(b"request", from).expect("sent");
        let answer = client
            .receive(&mut buffer)
            .expect("ok")
            .expect("it arrived");
        assert_eq!(&buffer[..answer.len], b"answer");
        assert_eq!(client.receive(&mut buffer).expect("ok"), None);
        let request = server
            .receive(&mut buffer)
            .expect("ok")
            .expect("it arrived");
        assert_eq!(&buffer[..request.len], b"request");
        // The peer's later requests are the server's, when the client is gone.
        drop(client);
        peer.send_to(b"request", from).expect("sent");
        let request = server
            .receive(&mut buffer)
            .expect("ok")
            .expect("it arrived");
        assert_eq!(request.from, to);
    }
}

/// Replies to two clients at once, who count their requests alike.
#[test]
fn replies_over_ptp_are_told_apart_by_their_stamps() {
    let mut sends = Sends::default();
    let mut replies = [[0x23; 56 + 48]; 2];
    replies[1][56 + 47] ^= 1;
    let ids = replies.map(|reply| sends.remember(&reply));
    let stamp_of = |sends: &mut Sends, reply: &[u8]| sends.claim(reply, 77, Taker::Card);
    assert_eq!(stamp_of(&mut sends, &replies[1]), Some(ids[1]));
    assert_eq!(stamp_of(&mut sends, &replies[0]), Some(ids[0]));
}
