//! Symmetric peers: two ptntp, and ptntp beside chronyd and ntpsec's ntpd. Each gets the
//! other's time, and who has none of his own follows; never do two follow each other.

mod common;

use std::fs::Permissions;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;

use common::net::{Namespace, Star, hub_v4, hub_v6, spoke_v4, spoke_v6};
use common::peers::{self, ChronyServer, Ntpd, ntpq};
use common::process::{self, Process};
use common::ptntp::{OPEN, Ptntp, in_namespace};
use common::{TempDir, secs, wait_until};
use serde_json::Value;

/// The source with this address.
fn source(daemon: &Ptntp<'_>, address: IpAddr) -> Value {
    let sources = daemon.sources();
    let named = |s: &&Value| s["name"].as_str() == Some(&address.to_string());
    sources.iter().find(named).cloned().unwrap_or_default()
}

fn is_reachable(daemon: &Ptntp<'_>, address: IpAddr) -> bool {
    source(daemon, address)["reach"].as_u64().unwrap_or(0) != 0
}

fn follows(daemon: &Ptntp<'_>, address: IpAddr) -> bool {
    daemon.stat()["source"].as_str() == Some(&address.to_string())
}

fn wait(what: &str, daemons: &[&Ptntp<'_>], condition: impl FnMut() -> bool) {
    let tell = || -> Vec<_> {
        daemons
            .iter()
            .map(|d| (d.stat().to_string(), format!("{:?}", d.sources())))
            .collect()
    };
    assert!(wait_until(secs(60), condition), "{what}: {:?}", tell());
}

/// By IPv6 and with a key; one of them in a single thread, which gets its peer by a reload.
#[test]
fn who_loses_its_servers_follows_the_peer_and_never_each_other() {
    require!(root, peers, ipv6);
    let star = Star::new(2);
    let server = ChronyServer::start(&star.spokes[1]);
    let keys = "7 SHA1 0102030405060708090a0b0c0d0e0f1011121314\n";
    let first = in_namespace(&star.hub)
        .clock("virtual:0.3,20")
        .config(&format!(
            "server {} iburst minpoll 0 maxpoll 0\npeer {} key 7 minpoll 0 maxpoll 0\n\
         restrict default\nkeys @DIR@/keys\ntrustedkey 7\n",
            spoke_v4(1),
            spoke_v6(0)
        ));
    first.directory().write("keys", keys);
    let first = first.start();
    // The other's own server, on a port of its own.
    let mut other_server = in_namespace(&star.spokes[0])
        .clock("virtual:0,0")
        .without_metrics()
        .config(OPEN)
        .args(&["--port", "11123"])
        .start();
    let alone = "server 127.0.0.1 port 11123 iburst minpoll 0 maxpoll 0\nrestrict default\n\
                 keys @DIR@/keys\ntrustedkey 7\n";
    let second = in_namespace(&star.spokes[0])
        .clock("virtual:-0.2,-30")
        .args(&["--io", "poll"])
        .config(alone);
    second.directory().write("keys", keys);
    let second = second.start();
    let file = second.directory.path().join("ntp.conf");
    let line = format!("peer {} key 7 minpoll 0 maxpoll 0\n", hub_v6(0));
    let lines = std::fs::read_to_string(&file).expect("our file") + &line;
    std::fs::write(&file, lines).expect("our directory");
    let output = second.tell(&["reload"]);
    assert!(output.status.success(), "{output:?}");
    let both = [&first, &second];

    wait("both are reachable", &both, || {
        is_reachable(&first, spoke_v6(0)) && is_reachable(&second, hub_v6(0))
    });
    wait("both are synchronised", &both, || {
        first.sync() && second.sync()
    });
    first.settles(1e-3, secs(60), secs(1)).expect("right");
    let peer = source(&second, hub_v6(0));
    assert_eq!(peer["kind"], "s", "{peer}");
    assert_eq!(peer["stamp_tx"], "kernel", "{peer}");

    other_server.process.terminate(secs(5));
    wait("the second follows the first", &both, || {
        follows(&second, hub_v6(0))
    });
    second.settles(1e-3, secs(60), secs(2)).expect("right");
    wait("the first knows it", &both, || {
        source(&first, spoke_v6(0))["rejected"]["loop"].as_u64() > Some(3)
    });
    assert!(is_reachable(&first, spoke_v6(0)), "{:?}", first.sources());

    server.kill();
    wait("the first has nobody", &both, || {
        first.stat()["source"].is_null()
    });
    std::thread::sleep(secs(5));
    assert!(first.stat()["source"].is_null(), "{}", first.stat());
    assert!(is_reachable(&first, spoke_v6(0)) && is_reachable(&second, hub_v6(0)));
}

/// chronyd, which can't touch the clock, with lines of ours; and how to ask it.
struct Chronyd<'a> {
    namespace: &'a Namespace,
    _process: Process,
    directory: TempDir,
}

impl<'a> Chronyd<'a> {
    fn start(namespace: &'a Namespace, lines: &str) -> Self {
        let directory = TempDir::new();
        // chronyd wants its socket's directory for itself.
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).expect("chmod");
        let config = format!("allow all\ncmdport 0\nbindcmdaddress @DIR@/socket\n{lines}\n");
        Self {
            namespace,
            _process: peers::chronyd(namespace, &directory, &config),
            directory,
        }
    }

    /// The first source: mode, state, and the rest of `chronyc -c sources`.
    fn source(&self) -> Vec<String> {
        let socket = self.directory.path().join("socket");
        let text = process::stdout(&peers::chronyc(self.namespace, socket, "-c sources"));
        text.trim().split(',').map(str::to_owned).collect()
    }
}

const PACE: &str = "minpoll 0 maxpoll 0";

#[test]
fn chronyd_follows_us_as_its_peer() {
    require!(root, peers);
    let star = Star::new(2);
    let _server = ChronyServer::start(&star.spokes[1]);
    let ours = in_namespace(&star.hub).config(&format!(
        "server {} iburst {PACE}\npeer {} {PACE}\nrestrict default\n",
        spoke_v4(1),
        spoke_v4(0)
    ));
    let ours = ours.start();
    let chronyd = Chronyd::start(&star.spokes[0], &format!("peer {} {PACE}", hub_v4(0)));
    wait("chronyd follows us", &[&ours], || {
        chronyd
            .source()
            .starts_with(&["=".to_owned(), "*".to_owned()])
    });
    // Which is a loop for us, and no reason to be out of reach.
    wait("we know it", &[&ours], || {
        source(&ours, spoke_v4(0))["rejected"]["loop"].as_u64() > Some(3)
    });
    assert!(is_reachable(&ours, spoke_v4(0)));
    assert!(follows(&ours, spoke_v4(1)), "{}", ours.stat());
    ours.settles(1e-3, secs(60), secs(1)).expect("right");
    let columns = chronyd.source();
    let offset: f64 = columns[7].parse().expect("the offset last measured");
    assert!(offset.abs() < 0.01, "{columns:?}");
}

#[test]
fn we_follow_chronyd_as_our_peer() {
    require!(root, peers);
    let star = Star::new(1);
    let lines = format!("local stratum 2\npeer {} {PACE}", hub_v4(0));
    let chronyd = Chronyd::start(&star.spokes[0], &lines);
    let ours = in_namespace(&star.hub)
        .config(&format!("peer {} {PACE}\nrestrict default\n", spoke_v4(0)))
        .start();
    wait("we follow chronyd", &[&ours], || {
        follows(&ours, spoke_v4(0))
    });
    ours.settles(1e-3, secs(60), secs(2)).expect("right");
    wait("it hears us", &[&ours], || {
        let columns = chronyd.source();
        columns[0] == "=" && columns.get(5).is_some_and(|reach| reach != "0")
    });
}

/// Its `peer` asks as a client, from its port 123, so that our socket for it gets that; it
/// leaves symmetric packets without an answer.
#[test]
fn ntpsec_asks_its_peer_as_a_client_and_is_answered() {
    require!(root, peers);
    let star = Star::new(1);
    let ours = in_namespace(&star.hub)
        .clock("virtual:0,0")
        .config(&format!("{OPEN}peer {} {PACE}\n", spoke_v4(0)))
        .start();
    let _ntpd = Ntpd::start(
        &star.spokes[0],
        &format!(
            "server 127.127.1.0\nfudge 127.127.1.0 stratum 9\npeer {} {PACE}\nrestrict default\nrestrict 127.0.0.1\n",
            hub_v4(0)
        ),
    );
    let table = || ntpq(&star.spokes[0], IpAddr::from([127, 0, 0, 1]), &["-np"]);
    let hears = wait_until(secs(60), || {
        let table = table();
        let row = table.lines().find(|l| l.contains(&hub_v4(0).to_string()));
        let reach = row.and_then(|row| row.split_whitespace().nth(6).map(str::to_owned));
        reach.is_some_and(|reach| reach != "0")
    });
    assert!(hears, "{}", table());
    let peer = source(&ours, spoke_v4(0));
    assert!(
        peer["sent"].as_u64() > Some(3),
        "we offered our time: {peer}"
    );
}

/// An isolated site: nobody has real time. The hub has the lower address in either network.
#[test]
fn of_orphans_the_lowest_address_leads() {
    require!(root, peers);
    let star = Star::new(2);
    let hub = in_namespace(&star.hub).config(&format!(
        "tos orphan 8\npeer {} {PACE}\npeer {} {PACE}\nrestrict default\n",
        spoke_v4(0),
        spoke_v4(1)
    ));
    let hub = hub.start();
    let ours = in_namespace(&star.spokes[0])
        // chrony.conf slews alone.
        .clock("virtual:0.505,-20")
        .config(&format!(
            "local stratum 8 orphan\npeer {} {PACE}\nallow\ncmdport 0\nbindcmdaddress /\n",
            hub_v4(0)
        ))
        .start();
    let chronyd = Chronyd::start(
        &star.spokes[1],
        &format!("local stratum 8 orphan\npeer {} {PACE}", hub_v4(1)),
    );
    wait("we follow the hub", &[&hub, &ours], || {
        follows(&ours, hub_v4(0))
    });
    wait("chronyd follows it", &[&hub, &ours], || {
        chronyd
            .source()
            .starts_with(&["=".to_owned(), "*".to_owned()])
    });
    let behind_s = || ours.true_error_s() - hub.true_error_s();
    let close = wait_until(secs(60), || behind_s().abs() < 1e-3);
    assert!(close, "{} s", behind_s());
    let stat = hub.stat();
    assert_eq!(
        (&stat["source"], &stat["stratum"]),
        (&"local".into(), &8.into()),
        "{stat}"
    );
    assert_eq!(ours.stat()["stratum"], 9);
}
