//! Options of ntp.conf's directives.

use crate::config::directives::chrony_options::EXTENSION_FIELD;
use crate::config::directives::clock_options::REFCLOCK;
use crate::config::directives::{Choice, Choices, Kind, State};

const fn choice(
    name: &'static str,
    value: Option<Kind>,
    state: State,
    why: &'static str,
) -> Choice {
    Choice {
        name,
        value,
        state,
        why,
        instead: "",
    }
}

const fn on(name: &'static str, value: Option<Kind>, why: &'static str) -> Choice {
    choice(name, value, State::Works, why)
}

const fn idle(name: &'static str, value: Option<Kind>, why: &'static str) -> Choice {
    choice(name, value, State::NoEffect, why)
}

const POLL: Option<Kind> = Some(Kind::Int(-7, 17));
const SECONDS: Option<Kind> = Some(Kind::Num(0.0, 1e6));
const COUNT: Option<Kind> = Some(Kind::Int(0, 1000));
const ANYTHING: Option<Kind> = Some(Kind::Int(1, 9));
const NO_NTS: &str = "it belongs to NTS, which this line does not use";

/// Of `server`, `pool` and `peer`.
pub const SOURCE: Choices = Choices {
    of: &["server", "pool", "peer"],
    before: "pool a.example ptp",
    after: "",
    choices: &[
        on(
            "minpoll",
            POLL,
            "the shortest poll interval, as a power of two [6]",
        ),
        on("maxpoll", POLL, "the longest poll interval [10]"),
        on(
            "iburst",
            None,
            "quick requests at first, so that the clock is right within seconds",
        ),
        on("burst", None, "several requests at each poll"),
        on("prefer", None, "followed before others that agree with it"),
        on("noselect", None, "measured and shown, never followed"),
        on(
            "offline",
            None,
            "ptntp's own, chrony's word: not asked until `chronyc online`",
        ),
        on("version", Some(Kind::Int(1, 4)), "the NTP version to speak"),
        on("xleave", None, "interleaved mode (RFC 9769)"),
        on(
            "bias",
            Some(Kind::Num(-1e6, 1e6)),
            "added to each measured offset, in seconds",
        ),
        on(
            "port",
            Some(Kind::Int(1, 65535)),
            "ptntp's own: the port to ask",
        ),
        on(
            "ptp",
            None,
            "ptntp's own: asked over PTP, on port 319 unless `port` says otherwise",
        ),
        on(
            "extfield",
            Some(Kind::OneOf(&["10A", "F324", "F323"])),
            EXTENSION_FIELD,
        ),
        on(
            "offset",
            Some(Kind::Num(-1e6, 1e6)),
            "ptntp's own: as `bias`",
        ),
        on(
            "maxsources",
            Some(Kind::Int(1, 1000)),
            "ptntp's own, of a `pool`: so many servers at most",
        ),
        on(
            "key",
            Some(Kind::Int(1, 0xffff_ffff)),
            "the key to sign requests with, and that answers have to be signed with",
        ),
        choice("autokey", None, State::Refused, "Autokey is broken"),
        choice("nts", None, State::Refused, "there is no NTS yet"),
        choice(
            "true",
            None,
            State::Missing,
            "a source is believed when the majority agrees with it; write `prefer`",
        ),
        idle(
            "preempt",
            None,
            "sources of a `pool` are replaced when they die, those of a `server` line are kept",
        ),
        idle("ident", ANYTHING, "it belongs to Autokey, which is broken"),
        idle("ttl", ANYTHING, "it belongs to broadcasts"),
        idle("mode", ANYTHING, "it belongs to reference clocks"),
        idle("noval", None, NO_NTS),
        idle("ca", ANYTHING, NO_NTS),
        idle("aead", ANYTHING, NO_NTS),
    ],
};

/// Of `broadcast`.
pub const BROADCAST: Choices = Choices {
    of: &["broadcast"],
    before: "broadcast 192.0.2.255",
    after: "",
    choices: &[
        on("minpoll", POLL, "the interval, as a power of two [6]"),
        idle("maxpoll", POLL, "the interval does not change"),
        on(
            "interval",
            Some(Kind::Num(0.0078, 131_072.0)),
            "ptntp's own: the interval in seconds",
        ),
        on(
            "key",
            Some(Kind::Int(1, 0xffff_ffff)),
            "the key to sign with",
        ),
        on("version", Some(Kind::Int(1, 4)), "the NTP version to speak"),
        on(
            "ttl",
            Some(Kind::Int(1, 255)),
            "how many networks far, to a group [127]",
        ),
        on(
            "port",
            Some(Kind::Int(1, 65535)),
            "ptntp's own: the port to send to",
        ),
        choice("autokey", None, State::Refused, "Autokey is broken"),
        idle(
            "xleave",
            None,
            "nobody but classic ntpd hears interleaved broadcasts",
        ),
    ],
};

/// Flags of `restrict`.
pub const RESTRICT: Choices = Choices {
    of: &["restrict", "unrestrict"],
    before: "restrict 192.0.2.1",
    after: "",
    choices: &[
        on("ignore", None, "every packet is dropped"),
        on(
            "noserve",
            None,
            "no time; answers of a server at this address are dropped too",
        ),
        on("noquery", None, "the daemon's state is not told (mode 6)"),
        on(
            "nomodify",
            None,
            "nothing is changed by mode 6; nothing ever is",
        ),
        on("nomrulist", None, "clients are not listed by mode 6"),
        on("limited", None, "rate limits apply"),
        choice(
            "kod",
            None,
            State::NoEffect,
            "without `limited` it does nothing; with it, who asks too often is told so",
        ),
        on(
            "nopeer",
            None,
            "strangers don't become peers; nobody ever does",
        ),
        on("noepeer", None, "as `nopeer`"),
        on("notrust", None, "requests without a valid MAC are dropped"),
        on("flake", None, "one packet in ten is dropped, as a test"),
        on("version", None, "other versions than 4 are dropped"),
        on("ntpport", None, "only packets from port 123 are meant"),
        on("notrap", None, "no traps are sent; none ever are"),
        on("lowpriotrap", None, "as `notrap`"),
        choice(
            "mssntp",
            None,
            State::Missing,
            "Windows clients get no Samba signature yet",
        ),
        on(
            "noclient",
            None,
            "ptntp's own: no time, but answers of a server at this address are let in",
        ),
        idle(
            "ippeerlimit",
            Some(Kind::Int(-1, 1_000_000)),
            "strangers never become peers",
        ),
    ],
};

/// Of `tinker`.
pub const TINKER: Choices = Choices {
    of: &["tinker"],
    before: "tinker",
    after: "",
    choices: &[
        on(
            "step",
            SECONDS,
            "larger offsets are stepped; 0: never [0.128]",
        ),
        on(
            "panic",
            SECONDS,
            "larger offsets end the daemon; 0: never [1000]",
        ),
        on(
            "stepout",
            SECONDS,
            "how long an offset has to last before it is stepped [300]",
        ),
        on(
            "stepupdates",
            COUNT,
            "ptntp's own: steps in so many first updates only",
        ),
        on(
            "panicafter",
            COUNT,
            "ptntp's own: so many first updates may be beyond `panic`",
        ),
        on(
            "panicignore",
            Some(Kind::Int(-1, 1000)),
            "ptntp's own: so many offsets beyond `panic` are passed over; -1: all",
        ),
        on(
            "stepfwd",
            SECONDS,
            "as `step`, of a clock that is behind; 0: never forwards",
        ),
        on(
            "stepback",
            SECONDS,
            "as `step`, of a clock that is ahead; 0: never backwards",
        ),
        idle("dispersion", SECONDS, "the filter measures it"),
        idle("allan", SECONDS, "the filter measures it"),
        idle(
            "huffpuff",
            SECONDS,
            "every sample counts by its own round trip",
        ),
        idle("freq", SECONDS, "the filter measures it"),
        idle("tick", SECONDS, "the clock is steered by its frequency"),
    ],
};

/// Of `tos`.
pub const TOS: Choices = Choices {
    of: &["tos"],
    before: "tos",
    after: "",
    choices: &[
        on(
            "minsane",
            Some(Kind::Int(1, 1)),
            "fewest sources that may steer the clock [1]",
        ),
        on(
            "minclock",
            COUNT,
            "outliers are cast out until so many are left [3]",
        ),
        on("maxclock", COUNT, "most sources that pools bring [10]"),
        on(
            "maxdist",
            SECONDS,
            "largest root distance that is followed [1.5]",
        ),
        on(
            "mindist",
            SECONDS,
            "sources agree if they differ by less [0.001]",
        ),
        on(
            "floor",
            Some(Kind::Int(0, 16)),
            "lower strata are not followed [0]",
        ),
        on(
            "ceiling",
            Some(Kind::Int(1, 16)),
            "this stratum and higher ones are not followed [16]",
        ),
        on(
            "orphan",
            Some(Kind::Int(1, 16)),
            "the stratum of the local clock; of several such servers the one with the lowest address serves, and the others follow it",
        ),
        idle(
            "orphanwait",
            SECONDS,
            "the local clock takes over 16 s after the start, or once the last server's time is worth nothing",
        ),
        idle("cohort", COUNT, "it belongs to manycast"),
        idle("beacon", COUNT, "it belongs to manycast"),
        idle("maxhop", COUNT, "it belongs to manycast"),
        idle(
            "basedate",
            ANYTHING,
            "the era is that of this machine's clock",
        ),
        idle("bcpollbstep", ANYTHING, "it belongs to broadcasts"),
    ],
};

/// Of `enable` and `disable`.
pub const SWITCHES: Choices = Choices {
    of: &["enable", "disable"],
    before: "disable",
    after: "",
    choices: &[
        on("ntp", None, "the clock is steered"),
        on(
            "auth",
            None,
            "broadcasts have to be signed by those who are to be asked",
        ),
        idle(
            "bclient",
            None,
            "`broadcastclient` is what listens to broadcasts",
        ),
        idle("calibrate", None, "it belongs to reference clocks"),
        idle(
            "kernel",
            None,
            "the clock is steered by the daemon's own discipline",
        ),
        idle("mode7", None, "mode 7 is never answered"),
        on(
            "monitor",
            None,
            "clients are listed by ntpq; `limited` needs no such list",
        ),
        idle("pps", None, "it belongs to reference clocks"),
        on("stats", None, "statistics files are written"),
    ],
};

/// Of `discard`.
pub const DISCARD: Choices = Choices {
    of: &["discard"],
    before: "discard",
    after: "",
    choices: &[
        on(
            "average",
            Some(Kind::Int(0, 17)),
            "least average time between requests, as a power of two [3]",
        ),
        on(
            "minimum",
            Some(Kind::Int(0, 255)),
            "least time between two requests, in seconds [2]",
        ),
        idle("monitor", COUNT, "the table of clients forgets the oldest"),
    ],
};

/// Of `limit`.
pub const LIMIT: Choices = Choices {
    of: &["limit"],
    before: "limit",
    after: "",
    choices: &[
        on(
            "average",
            Some(Kind::Num(0.001, 1e6)),
            "requests per second [1]",
        ),
        on("burst", Some(Kind::Int(1, 255)), "so many at once [20]"),
        idle(
            "kod",
            SECONDS,
            "where `kod` stands, every second refusal is told",
        ),
        on(
            "interval",
            Some(Kind::Num(1e-6, 1e6)),
            "ptntp's own: seconds for each request, instead of `average`",
        ),
        on(
            "leak",
            Some(Kind::Int(0, 16)),
            "ptntp's own: one in 2^n over the limit is answered [0: none]",
        ),
        on(
            "kisses",
            Some(Kind::Int(0, 16)),
            "ptntp's own: one in 2^n over the limit is told so, 0: none [1]",
        ),
    ],
};

/// Of `fudge`.
pub const FUDGE: Choices = Choices {
    of: &["fudge"],
    before: "server 127.127.1.0\nfudge 127.127.1.0",
    after: "",
    choices: &[
        on(
            "stratum",
            Some(Kind::Int(0, 15)),
            "what the local clock claims [5]",
        ),
        idle("time1", SECONDS, "the local clock is this machine's clock"),
        idle("time2", SECONDS, "the local clock is this machine's clock"),
        idle("refid", ANYTHING, "the local clock tells its address"),
        idle("flag1", ANYTHING, "the local clock is this machine's clock"),
        idle("flag2", ANYTHING, "the local clock is this machine's clock"),
        idle("flag3", ANYTHING, "the local clock is this machine's clock"),
        idle("flag4", ANYTHING, "the local clock is this machine's clock"),
    ],
};

/// All of them.
pub const ALL: [Choices; 10] = [
    SOURCE, BROADCAST, RESTRICT, DISCARD, LIMIT, TINKER, TOS, SWITCHES, FUDGE, REFCLOCK,
];
