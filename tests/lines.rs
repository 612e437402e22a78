//! What the other lines of both dialects do, as seen from outside: who is served, how much,
//! where, what the daemon's sockets are, and which files it reads. Many lines a daemon.

mod common;

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::net::if_::if_indextoname;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};

use common::frame;
use common::net::{Namespace, Star, host_v4, hub_v4, hub_v6, spoke_v4, spoke_v6};
use common::ntp::{Client, control, read_variables, request};
use common::peers::chronyc;
use common::process::{self, Process, all};
use common::ptntp::{BINARY, OPEN, Ptntp, in_namespace};
use common::witness::{TRUTH, Witnesses};
use common::{TempDir, secs, wait_until};

fn start<'a>(namespace: &'a Namespace, dialect: &str, config: &str) -> Ptntp<'a> {
    let setup = in_namespace(namespace)
        .clock("virtual:0.25,0")
        .config(config);
    setup.args(&["--dialect", dialect]).start()
}

/// A client at host `host` of the first spoke, which has that address.
fn client(star: &Star, host: u8) -> Client {
    Client::from(&star.spokes[0], (host_v4(0, host), 0).into(), hub_v4(0))
}

fn add_hosts(star: &Star, hosts: &[u8]) {
    for host in hosts {
        star.spokes[0].add_address("eth", &format!("{}/24", host_v4(0, *host)));
    }
}

fn wait_served(client: &Client) {
    assert!(
        wait_until(secs(30), || client.time().is_some()),
        "not served"
    );
}

/// Time and kisses that so many requests at once bring.
fn burst(client: &Client, count: usize) -> (usize, usize) {
    for _ in 0..count {
        client.send(&request(4, 3));
    }
    std::thread::sleep(Duration::from_millis(300));
    let replies = client.drain();
    let kisses = replies.iter().filter(|reply| reply[1] == 0).count();
    (replies.len() - kisses, kisses)
}

/// Is a message of mode 6 refused?
fn is_refused(client: &Client, operation: u8, data: &[u8]) -> bool {
    let answer = client.ask(&control(operation, 0, data)).expect("an answer");
    answer[1] & 0xc0 == 0xc0
}

/// `nomodify`, `notrap`, `lowpriotrap`, `nopeer` and `noepeer` forbid what nobody can do
/// here; who is forbidden it is refused.
#[test]
fn what_restrict_forbids_is_refused() {
    require!(root);
    let star = Star::new(1);
    let rules = "restrict default nomodify notrap lowpriotrap nopeer noepeer\n\
                 restrict 10.77.0.11 nomrulist\nmru maxdepth 100\n";
    let ptntp = start(&star.hub, "ntp", &format!("{OPEN}{rules}"));
    add_hosts(&star, &[11]);
    let plain = Client::new(&star.spokes[0], hub_v4(0));
    wait_served(&plain);
    for (operation, data) in [
        (3, &b"leap=3"[..]),
        (5, b""),
        (6, b""),
        (8, b"restrict default"),
    ] {
        assert!(is_refused(&plain, operation, data), "{operation}");
    }
    assert!(
        plain.ask(&read_variables()).is_some(),
        "what is read is told"
    );
    // A packet of a symmetric active peer makes no association.
    plain.send(&request(4, 1));
    std::thread::sleep(secs(1));
    assert_eq!(ptntp.sources().len(), 1, "{:?}", ptntp.sources());
    // READ_MRU by one who has a nonce, and by one who may not.
    let list = |client: &Client| {
        let nonce = client.ask(&control(12, 0, b"")).expect("a nonce");
        let len = usize::from(nonce[11]);
        let asks = [nonce[12..12 + len].trim_ascii(), b", frags=2"].concat();
        !is_refused(client, 10, &asks)
    };
    assert!(list(&plain));
    assert!(!list(&client(&star, 11)));
}

/// No time to our server, and yet its answers are let in.
#[test]
fn noclient_lets_a_server_in_and_serves_it_nothing() {
    require!(root);
    let star = Star::new(2);
    let server = (spoke_v4(0), 123).into();
    let _witness = Witnesses::start(&star.spokes[0], [(server, TRUTH)]);
    for (flag, followed) in [("noclient", true), ("noserve", false)] {
        let config = format!(
            "server {0} minpoll -1 maxpoll -1\nrestrict default\nrestrict {0} {flag}\n",
            spoke_v4(0)
        );
        let ptntp = start(&star.hub, "ntp", &config);
        assert_eq!(wait_until(secs(8), || ptntp.sync()), followed, "{flag}");
        if followed {
            assert!(Client::new(&star.spokes[1], hub_v4(1)).time().is_some());
        }
        assert!(
            Client::new(&star.spokes[0], hub_v4(0)).time().is_none(),
            "{flag}"
        );
    }
}

/// At least, and at most.
type Bounds = (usize, usize);

/// How many of forty requests at once are answered, and how many kissed. What a coin
/// decides has bounds that it misses less than once in a million runs.
#[test]
fn limits_are_what_the_lines_say() {
    require!(root);
    let cases: [(&str, &str, [Bounds; 2]); 12] = [
        ("ntp", "discard", [(1, 1), (1, 1)]),
        ("ntp", "discard average 0 minimum 0", [(40, 40), (0, 0)]),
        ("ntp", "discard average 5 minimum 0", [(8, 10), (1, 1)]),
        ("ntp", "limit average 0.01 burst 5", [(5, 5), (4, 31)]),
        ("ntp", "limit average 0.01 burst 9", [(9, 9), (3, 28)]),
        ("ntp", "limit average 1000 burst 5", [(15, 40), (0, 30)]),
        (
            "ntp",
            "limit interval 100 burst 5 kisses 0",
            [(5, 5), (0, 0)],
        ),
        (
            "ntp",
            "limit interval 0.001 burst 5 kisses 0",
            [(15, 40), (0, 0)],
        ),
        (
            "ntp",
            "limit interval 100 burst 5 leak 1 kisses 0",
            [(9, 36), (0, 0)],
        ),
        (
            "chrony",
            "ratelimit interval 6 burst 5 leak 4",
            [(5, 18), (0, 0)],
        ),
        (
            "chrony",
            "ratelimit interval 6 burst 12 leak 1",
            [(14, 39), (0, 0)],
        ),
        (
            "chrony",
            "ratelimit interval -10 burst 5 leak 4 kod 1",
            [(15, 40), (0, 30)],
        ),
    ];
    for (dialect, line, [answers, kisses]) in cases {
        let star = Star::new(1);
        let config = match dialect {
            "ntp" => format!("server 127.127.1.0\nrestrict default limited kod\n{line}\n"),
            _ => format!("local\nallow\n{line}\n"),
        };
        let _ptntp = start(&star.hub, dialect, &config);
        // Who waits for it is not who is counted.
        wait_served(&Client::new(&star.hub, [127, 0, 0, 1].into()));
        let told = burst(&Client::new(&star.spokes[0], hub_v4(0)), 40);
        let within = |(low, high): Bounds, n: usize| (low..=high).contains(&n);
        assert!(
            within(answers, told.0) && within(kisses, told.1),
            "{line}: {told:?}"
        );
    }
}

/// With room for few clients a crowd is not limited; with room for all it is.
#[test]
fn as_many_clients_are_remembered_as_the_lines_say() {
    require!(root);
    let hosts: Vec<u8> = (10..90).collect();
    for (dialect, line, all_limited) in [
        ("ntp", "clients limited 8", false),
        ("ntp", "clients limited 100000", true),
        ("chrony", "clientloglimit 128", false),
        ("chrony", "clientloglimit 1000000", true),
        ("chrony", "clients limited 8", false),
    ] {
        let star = Star::new(1);
        add_hosts(&star, &hosts);
        let limits = match dialect {
            "ntp" => "server 127.127.1.0\nrestrict default limited\nlimit interval 1000 burst 2",
            _ => "local\nallow\nratelimit interval 10 burst 2 leak 4",
        };
        let _ptntp = start(&star.hub, dialect, &format!("{limits}\n{line}\n"));
        wait_served(&Client::new(&star.hub, [127, 0, 0, 1].into()));
        let clients: Vec<Client> = hosts.iter().map(|host| client(&star, *host)).collect();
        for _ in 0..8 {
            clients
                .iter()
                .for_each(|client| client.send(&request(4, 3)));
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(300));
        let answers: usize = clients.iter().map(|client| client.drain().len()).sum();
        // Two each, or with chrony's leak one more of 16; else most get all eight.
        let most = hosts.len() * 3;
        assert_eq!(answers <= most, all_limited, "{line}: {answers}");
    }
}

/// A daemon that is told nothing of its sockets by its command line.
fn bare(namespace: &Namespace, directory: &TempDir, dialect: &str, config: &str) -> Process {
    let config = config.replace("@DIR@", &directory.path().display().to_string());
    let file = directory.write("own.conf", config);
    let mut command = process::command(Some(namespace), BINARY);
    command.args([
        "run",
        "--clock",
        "virtual:0.25,0",
        "--dialect",
        dialect,
        "-c",
    ]);
    command.arg(file);
    Process::start("ptntp", command, &directory.path().join("log"))
}

/// What it computes in three seconds, in ticks of 10 ms.
fn ticks(process: &Process) -> u64 {
    let now = || {
        let path = format!("/proc/{}/stat", process.pid());
        let stat = std::fs::read_to_string(path).expect("it runs");
        let words: Vec<&str> = stat.split_whitespace().collect();
        let [user, system] = [words[13], words[14]].map(|n| n.parse::<u64>().expect("a number"));
        user + system
    };
    let before = now();
    std::thread::sleep(secs(3));
    now() - before
}

/// `control`, `metrics`, `port`, `listen`, `busypoll`.
#[test]
fn sockets_are_where_the_lines_say() {
    require!(root);
    for (dialect, time) in [
        ("ntp", "server 127.127.1.0\nrestrict default\n"),
        ("chrony", "local\nallow\nallow ::/0\n"),
    ] {
        let star = Star::new(2);
        let directory = TempDir::new();
        let listen = format!("listen 127.0.0.1 {}", hub_v4(0));
        let config = format!(
            "{time}{listen}\nport 1123\ncontrol @DIR@/own.sock\nmetrics 127.0.0.1:9111\nbusypoll on\n"
        );
        let ptntp = bare(&star.hub, &directory, dialect, &config);
        let control = directory.path().join("own.sock");
        assert!(
            wait_until(secs(20), || UnixStream::connect(&control).is_ok()),
            "{}",
            ptntp.log()
        );
        let asked = |from: &Namespace, to: SocketAddr| {
            let any: SocketAddr = ([0, 0, 0, 0], 0).into();
            let socket = from.udp(any);
            socket
                .set_read_timeout(Some(Duration::from_millis(300)))
                .expect("a limit");
            socket.send_to(&request(4, 3), to).is_ok() && socket.recv(&mut [0; 99]).is_ok()
        };
        let first = (hub_v4(0), 1123).into();
        assert!(
            wait_until(secs(30), || asked(&star.spokes[0], first)),
            "{}",
            ptntp.log()
        );
        assert!(
            !asked(&star.spokes[0], (hub_v4(0), 123).into()),
            "on port 1123 alone"
        );
        assert!(
            !asked(&star.spokes[1], (hub_v4(1), 1123).into()),
            "not on this address"
        );
        let page = star
            .hub
            .inside(|| common::metrics::get(([127, 0, 0, 1], 9111).into()));
        assert!(page.expect("a page").contains("ptntp_stratum"));
        let busy = ticks(&ptntp);
        drop(ptntp);

        let directory = TempDir::new();
        let config =
            format!("{time}listen nowhere\ncontrol @DIR@/own.sock\nmetrics off\nbusypoll off\n");
        let ptntp = bare(&star.hub, &directory, dialect, &config);
        let control = directory.path().join("own.sock");
        assert!(
            wait_until(secs(20), || UnixStream::connect(&control).is_ok()),
            "{}",
            ptntp.log()
        );
        let closed = star.hub.inside(|| TcpStream::connect(("127.0.0.1", 9975)));
        assert!(closed.is_err(), "no metrics");
        assert!(!asked(&star.hub, ([127, 0, 0, 1], 123).into()));
        let idle = ticks(&ptntp);
        assert!(
            busy > 50 && busy > 5 * idle,
            "{dialect}: busy {busy}, idle {idle}"
        );
    }
}

/// `interface`, and `nic`, which is another name for it.
#[test]
fn interface_lines_decide_where_it_answers() {
    require!(root);
    for name in ["interface", "nic"] {
        let star = Star::new(2);
        let lines = format!("{name} ignore all\n{name} listen {}\n", hub_v4(0));
        let _ptntp = start(&star.hub, "ntp", &format!("{OPEN}{lines}"));
        wait_served(&Client::new(&star.spokes[0], hub_v4(0)));
        let other = Client::new(&star.spokes[1], hub_v4(1));
        assert!(other.time().is_none(), "{name}");
    }
}

/// `allow`, `deny` and `local stratum` from files that other files name.
#[test]
fn files_that_files_name_are_read() {
    require!(root);
    for (dialect, first) in [
        ("ntp", "includefile @DIR@/more\nincludefile @DIR@/conf.d\n"),
        (
            "chrony",
            "include @DIR@/mor?\nconfdir @DIR@/conf.d @DIR@/other.d\n",
        ),
    ] {
        let star = Star::new(1);
        add_hosts(&star, &[10, 11]);
        let setup = in_namespace(&star.hub)
            .config(first)
            .args(&["--dialect", dialect]);
        let directory = setup.directory();
        for name in ["conf.d", "other.d"] {
            std::fs::create_dir(directory.path().join(name)).expect("our directory");
        }
        let (more, within, hidden) = if dialect == "ntp" {
            (
                OPEN.replace("stratum 3", "stratum 6"),
                "restrict 10.77.0.10 ignore\n",
                "",
            )
        } else {
            (
                "local stratum 7\nallow 10.77.0.0/16\n".into(),
                "deny 10.77.0.10\n",
                "deny all\n",
            )
        };
        directory.write("more", more);
        directory.write("conf.d/a.conf", within);
        directory.write("conf.d/b.txt", "nonsense\n");
        // Of equal names the first directory's counts.
        directory.write("other.d/a.conf", hidden);
        let _ptntp = setup.start();
        let other = client(&star, 11);
        let served = || other.time().is_some_and(|reply| reply.stratum == 7);
        assert!(
            wait_until(secs(30), served),
            "{dialect}: {:?}",
            other.time()
        );
        assert!(client(&star, 10).time().is_none(), "{dialect}");
    }
}

/// A table that has a leap second tonight: clients are told of it.
#[test]
fn leap_tables_are_believed() {
    require!(root);
    let now_s = std::time::UNIX_EPOCH
        .elapsed()
        .expect("after 1970")
        .as_secs();
    let midnight = (now_s / 86_400 + 1) * 86_400 + 2_208_988_800;
    let table = format!(
        "#@ {}\n2272060800 10\n3692217600 37\n{midnight} 38\n",
        midnight + 9_999_999
    );
    for (dialect, line) in [
        ("ntp", "leapfile @DIR@/leaps"),
        ("chrony", "leapseclist @DIR@/leaps"),
        ("chrony", "leapsectz right/UTC"),
    ] {
        let zone = Path::new("/usr/share/zoneinfo/leap-seconds.list");
        if line.starts_with("leapsectz") && !zone.exists() {
            common::require::skip("needs tzdata's table of leap seconds");
            continue;
        }
        let star = Star::new(1);
        let time = if dialect == "ntp" {
            OPEN
        } else {
            "local\nallow\n"
        };
        let setup = in_namespace(&star.hub)
            .clock("none")
            .config(&format!("{time}{line}\n"));
        let leaps = setup.directory().write("leaps", &table);
        let mount = format!(
            "mount --bind {} {} && exec \"$@\"",
            leaps.display(),
            zone.display()
        );
        let setup = if line.starts_with("leapsectz") {
            setup.wrapper(&["unshare", "-m", "sh", "-c", &mount, "sh"])
        } else {
            setup
        };
        let ptntp = setup.args(&["--dialect", dialect]).start();
        let client = Client::new(&star.spokes[0], hub_v4(0));
        let warned = || client.time().is_some_and(|reply| reply.leap == 1);
        assert!(
            wait_until(secs(30), warned),
            "{line}: {:?} {}",
            client.time(),
            ptntp.stat()
        );
    }
}

/// `cmdport`, `bindcmdaddress`, `cmdallow`, `cmddeny`, `manual`, in both dialects.
#[test]
fn chronyc_is_answered_where_the_lines_say() {
    require!(root, peers);
    for dialect in ["ntp", "chrony"] {
        let star = Star::new(1);
        add_hosts(&star, &[10]);
        let config = format!(
            "server 192.0.2.1\ncmdport 1323\nbindcmdaddress {}\nbindcmdaddress @DIR@/cmd.sock\n\
             cmdallow 10.77.0.0/24\ncmddeny 10.77.0.10\nmanual{}\n",
            hub_v4(0),
            if dialect == "ntp" { " on" } else { "" }
        );
        let ptntp = start(&star.hub, dialect, &config);
        let socket = ptntp.directory.path().join("cmd.sock");
        // Typed in: 505 where `manual` is not on.
        let set = all(&chronyc(&star.hub, socket, "settime 12:00:00"));
        assert!(set.contains("Clock was"), "{dialect}: {set}");
        let hub = hub_v4(0).to_string();
        let from = |host: u8, port: &str| {
            let spoke = &star.spokes[0];
            let route = format!("route replace {hub}/32 dev eth src {}", host_v4(0, host));
            spoke.ip(&route);
            all(&chronyc(spoke, &hub, &format!("-p {port} tracking")))
        };
        assert!(from(2, "1323").contains("Leap status"), "{dialect}");
        assert!(from(10, "1323").contains("506 Cannot talk"), "{dialect}");
        assert!(from(2, "323").contains("506 Cannot talk"), "{dialect}");
        let here = star.hub.udp(([127, 0, 0, 1], 1323).into());
        drop(here); // 127.0.0.1 is not bound: the port is free there.
    }
}

/// Who asked is listed where limits need a list, unless nobody is to be.
#[test]
fn noclientlog_lists_nobody() {
    require!(root, peers);
    for (line, listed) in [("", true), ("noclientlog\n", false)] {
        let star = Star::new(1);
        let config = format!(
            "local\nallow\nratelimit interval 1\ncmdport 0\nbindcmdaddress @DIR@/cmd.sock\n{line}"
        );
        let ptntp = start(&star.hub, "chrony", &config);
        wait_served(&Client::new(&star.spokes[0], hub_v4(0)));
        let socket = ptntp.directory.path().join("cmd.sock");
        let said = all(&chronyc(&star.hub, socket, "clients"));
        let address = spoke_v4(0).to_string();
        assert_eq!(said.contains(&address), listed, "{line}: {said}");
    }
}

/// The other dialect's answer to a wrong MAC than its own.
#[test]
fn cryptonak_says_whether_a_wrong_mac_is_told() {
    require!(root);
    let ntp = "server 127.127.1.0\nrestrict default\nkeys @DIR@/keys\ntrustedkey 1";
    let chrony = "local\nallow\nkeyfile @DIR@/keys";
    for (dialect, config, told) in [
        ("ntp", format!("{ntp}\ncryptonak off\n"), false),
        ("ntp", format!("{ntp}\ncryptonak on\n"), true),
        ("chrony", format!("{chrony}\ncryptonak off\n"), false),
        ("chrony", format!("{chrony}\ncryptonak on\n"), true),
    ] {
        let star = Star::new(1);
        let setup = in_namespace(&star.hub)
            .config(&config)
            .args(&["--dialect", dialect]);
        setup
            .directory()
            .write("keys", "1 SHA1 0102030405060708090a0b0c0d0e0f1011121314\n");
        let _ptntp = setup.start();
        let client = Client::new(&star.spokes[0], hub_v4(0));
        wait_served(&client);
        let mut wrong = request(4, 3).to_vec();
        wrong.extend([0, 0, 0, 1]);
        wrong.extend([7; 20]);
        let answer = client.ask(&wrong);
        assert_eq!(
            answer.is_some_and(|reply| reply.len() == 52),
            told,
            "{config}"
        );
    }
}

/// The PTP domain stands in the fifth octet of what is asked, and of what is answered.
#[test]
fn ptpdomain_is_on_the_wire() {
    require!(root);
    for (dialect, config) in [
        (
            "ntp",
            "ptpport 319\nptpdomain 7\nserver 10.77.0.2 ptp minpoll 0 maxpoll 0\nrestrict default\n",
        ),
        (
            "chrony",
            "ptpport 319\nptpdomain 7\nserver 10.77.0.2 port 319 minpoll 0 maxpoll 0\nallow\n",
        ),
    ] {
        let star = Star::new(1);
        let server = SocketAddr::new(spoke_v4(0), 319);
        let witness = Witnesses::start(&star.spokes[0], [(server, TRUTH)]);
        let _ptntp = start(&star.hub, dialect, config);
        let seen = || witness.seen(spoke_v4(0));
        assert!(wait_until(secs(20), || !seen().is_empty()), "{dialect}");
        let message = &seen()[0].1;
        assert_eq!((message[0], message[4]), (1, 7), "{dialect}: {message:x?}");
        // A question of ours, of that domain and of another: the same words sent back.
        let asks = |domain: u8| {
            let socket = star.spokes[0].udp(SocketAddr::new(spoke_v4(0), 0));
            socket
                .set_read_timeout(Some(Duration::from_millis(500)))
                .expect("a limit");
            let mut question = message.clone();
            question[4] = domain;
            socket.send_to(&question, (hub_v4(0), 319)).expect("sent");
            socket.recv(&mut [0; 200]).is_ok()
        };
        assert!(asks(7) && !asks(8), "{dialect}");
    }
}

/// `disable ntp` and then `enable ntp`; `monitor` for ntpq's list.
#[test]
fn the_last_switch_counts() {
    require!(root);
    let star = Star::new(1);
    let server = (spoke_v4(0), 123).into();
    let _witness = Witnesses::start(&star.spokes[0], [(server, TRUTH)]);
    for (lines, steers) in [
        ("disable ntp\nenable ntp\n", true),
        ("enable ntp\ndisable ntp\n", false),
    ] {
        let config = format!("{lines}server {} minpoll -2 maxpoll -2\n", spoke_v4(0));
        let ptntp = start(&star.hub, "ntp", &config);
        let right = || ptntp.true_error_s().abs() < 0.01;
        assert_eq!(wait_until(secs(8), right), steers, "{lines}");
    }
}

/// A socket for every frame that passes `interface`.
fn tap(namespace: &Namespace, interface: &str) -> OwnedFd {
    let index = namespace.index(interface);
    namespace.inside(|| {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let kind = SockProtocol::EthAll;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, kind).expect("a tap");
        let name = if_indextoname(index).expect("its name");
        let name = name.into_string().expect("text");
        setsockopt(&socket, sockopt::BindToDevice, &name.into()).expect("one interface");
        socket
    })
}

/// Destination port and code point of what came by the tap, IPv4 and IPv6.
fn code_points(tap: &OwnedFd) -> BTreeSet<(bool, u16, u8)> {
    let mut buffer = [0; 2048];
    let mut seen = BTreeSet::new();
    while let Ok(len) = recv(tap.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
        if let Some(frame) = frame::read(&buffer[..len]) {
            let to = frame.datagram.to;
            seen.insert((to.is_ipv4(), to.port(), frame.tos >> 2));
        }
    }
    seen
}

/// `dscp`: requests, and with both backends answers, have the code point, in IPv4 and IPv6.
#[test]
fn dscp_is_on_the_wire() {
    require!(root);
    for (dialect, io) in [("ntp", "uring"), ("ntp", "poll"), ("chrony", "uring")] {
        let star = Star::new(1);
        let tap = tap(&star.spokes[0], "eth");
        let servers = format!(
            "dscp 46\nserver {} minpoll -1 maxpoll -1\nserver {} minpoll -1 maxpoll -1\n",
            spoke_v4(0),
            spoke_v6(0)
        );
        let serving = match dialect {
            "ntp" => OPEN,
            _ => "allow all\nlocal\n",
        };
        let setup = in_namespace(&star.hub).config(&format!("{servers}{serving}"));
        let ptntp = setup.args(&["--dialect", dialect, "--io", io]).start();
        let v4 = Client::from(&star.spokes[0], (spoke_v4(0), 4000).into(), hub_v4(0));
        let v6 = Client::from(&star.spokes[0], (spoke_v6(0), 4000).into(), hub_v6(0));
        let mut seen = BTreeSet::new();
        let all = || {
            v4.send(&request(4, 3));
            v6.send(&request(4, 3));
            seen.extend(code_points(&tap));
            let is_there = |is_v4, port| seen.contains(&(is_v4, port, 46));
            [123, 4000]
                .iter()
                .all(|&port| is_there(true, port) && is_there(false, port))
        };
        let log = || ptntp.process.log();
        assert!(wait_until(secs(40), all), "{dialect} {io}: {}", log());
        let plain = |(_, port, point): &&(bool, u16, u8)| *port == 4000 && *point != 46;
        assert_eq!(seen.iter().find(plain), None, "{dialect} {io}");
    }
}

/// `bindacqaddress` and `bindacqdevice`: where requests leave.
#[test]
fn bindacq_says_where_requests_leave() {
    require!(root);
    for dialect in ["ntp", "chrony"] {
        let star = Star::new(1);
        star.hub
            .add_address("s0", &format!("{}/24", host_v4(0, 20)));
        let server = spoke_v4(0);
        let witnesses = Witnesses::start(&star.spokes[0], [((server, 123).into(), TRUTH)]);
        let ask = format!("server {server} minpoll -1 maxpoll -1\n");
        let asked = || witnesses.seen(server).len();

        let text = format!("bindacqaddress {}\n{ask}", host_v4(0, 20));
        let ptntp = start(&star.hub, dialect, &text);
        let measured = || ptntp.sources()[0]["received"].as_u64() >= Some(2);
        assert!(wait_until(secs(20), measured), "{}", ptntp.process.log());
        let local = ptntp.sources()[0]["local"].clone();
        assert_eq!(local, host_v4(0, 20).to_string(), "{dialect}");
        drop(ptntp);

        let ptntp = start(&star.hub, dialect, &format!("bindacqdevice s0\n{ask}"));
        let measured = || ptntp.sources()[0]["received"].as_u64() >= Some(2);
        assert!(wait_until(secs(20), measured), "{}", ptntp.process.log());
        drop(ptntp);

        let before = asked();
        let ptntp = start(&star.hub, dialect, &format!("bindacqdevice lo\n{ask}"));
        let sent = || {
            ptntp.process.log().contains("cannot send")
                || ptntp.sources()[0]["sent"].as_u64() >= Some(3)
        };
        assert!(wait_until(secs(20), sent), "{}", ptntp.process.log());
        assert_eq!(asked(), before, "{dialect}: nothing leaves by lo");
    }
}

/// `pidfile` has the number of the process while it runs; one that can't be written is told.
#[test]
fn pidfile_is_there_while_the_daemon_runs() {
    require!(root);
    for dialect in ["ntp", "chrony"] {
        let namespace = Namespace::new();
        let mut ptntp = start(&namespace, dialect, "pidfile @DIR@/pid\n");
        let path = ptntp.directory.path().join("pid");
        let text = std::fs::read_to_string(&path).expect("a pid file");
        assert_eq!(text, format!("{}\n", ptntp.process.pid()), "{dialect}");
        ptntp.process.terminate(secs(10));
        assert!(!path.exists(), "{dialect}");

        let ptntp = start(&namespace, dialect, "pidfile @DIR@/nowhere/pid\n");
        let log = ptntp.process.log();
        assert!(log.contains("nowhere/pid: can't be written"), "{log}");
    }
}
