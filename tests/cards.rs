//! `hwtimestamp` where nothing stamps by hardware: said once, and the daemon runs with
//! the kernel's stamps. Cards that do are in the guest (`hwtest`).

mod common;

use common::net::Star;
use common::peers::ChronyServer;
use common::ptntp::in_namespace;
use common::{secs, wait_until};

const CONFIG: &str = "\
    restrict default\n\
    server 10.77.0.2 iburst minpoll 1 maxpoll 2\n\
    hwtimestamp *\n\
    hwtimestamp late0 rxfilter all restore\n";

#[test]
fn without_a_card_the_kernels_stamps_are_used_and_that_is_said() {
    require!(root, peers);
    for io in ["uring", "poll"] {
        let star = Star::new(1);
        let _server = ChronyServer::start(&star.spokes[0]);
        let ptntp = in_namespace(&star.hub)
            .config(CONFIG)
            .args(&["--io", io])
            .start();
        let stamped_by = |side: &str| {
            let sources = ptntp.sources();
            sources[0][side].as_str().unwrap_or("nobody").to_owned()
        };
        let kernel = || stamped_by("stamp_tx") == "kernel" && stamped_by("stamp_rx") == "kernel";
        assert!(wait_until(secs(30), kernel), "{io}: {:?}", ptntp.sources());

        let log = || ptntp.process.log();
        let said = |words: &str| log().matches(words).count();
        assert_eq!(said("no interface here can stamp"), 1, "{io}: {}", log());
        assert_eq!(said("late0: there is no such"), 1, "{io}: {}", log());
        star.hub.ip("link add late0 type veth peer name late1");
        let looked_at = || said("late0: late0 can't stamp") == 1;
        assert!(wait_until(secs(10), looked_at), "{io}: {}", log());
        // It is the same as before that nothing can be done.
        star.hub.ip("link set late0 up");
        star.hub.ip("link set late1 up");
        std::thread::sleep(secs(1));
        assert_eq!(said("can't stamp"), 1, "{io}: {}", log());
        assert_eq!(said("no interface here can stamp"), 1, "{io}: {}", log());
        assert_eq!(ptntp.stat()["cards"].as_array().map(Vec::len), Some(0));
    }
}
