//! Options of chrony.conf's directives (chrony.conf(5)).

use crate::config::directives::clock_options::REFCLOCK;
use crate::config::directives::{Choice, Choices, Kind, State};

const fn on(name: &'static str, value: Option<Kind>, why: &'static str) -> Choice {
    Choice {
        name,
        value,
        state: State::Works,
        why,
        instead: "",
    }
}

const fn idle(name: &'static str, value: Option<Kind>, why: &'static str) -> Choice {
    Choice {
        name,
        value,
        state: State::NoEffect,
        why,
        instead: "",
    }
}

const fn off(
    name: &'static str,
    value: Option<Kind>,
    why: &'static str,
    instead: &'static str,
) -> Choice {
    Choice {
        name,
        value,
        state: State::Refused,
        why,
        instead,
    }
}

const ROUND_TRIPS: &str = "every sample counts by what its own round trip says of its worth";
const ESTIMATOR: &str = "the filter learns how many samples are worth keeping";
const NO_NTS: &str = "it belongs to NTS, which this line does not use";
const UNTRUST: &str = "delete it only if the source may be asked without authentication";
const SECONDS: Kind = Kind::Num(0.0, 1e6);

/// In both dialects.
pub const EXTENSION_FIELD: &str = "of NTP over PTP: what transparent clocks on the way took is taken out, where cards stamp arrivals at both ends; F323, an experiment, has no effect";

/// Of `server`, `pool` and `peer`.
pub const SOURCE: Choices = Choices {
    of: &["server", "pool", "peer"],
    before: "ptpport 319\npool a.example port 319",
    after: "",
    choices: &[
        on(
            "minpoll",
            Some(Kind::Int(-7, 24)),
            "the shortest poll interval, as a power of two; above 17 it is 17",
        ),
        on(
            "maxpoll",
            Some(Kind::Int(-7, 24)),
            "the longest poll interval; above 17 it is 17",
        ),
        on(
            "iburst",
            None,
            "quick requests at first, so that the clock is right within seconds",
        ),
        idle(
            "burst",
            None,
            "a sample that is not believed is asked for again after 2 s; there is no burst at each poll, as chronyd has none",
        ),
        on("port", Some(Kind::Int(1, 65535)), "the port to ask"),
        on("version", Some(Kind::Int(1, 4)), "the NTP version to speak"),
        on("xleave", None, "interleaved mode (RFC 9769)"),
        on(
            "offset",
            Some(Kind::Num(-1e6, 1e6)),
            "added to each measured offset, in seconds",
        ),
        on("prefer", None, "followed before others that agree with it"),
        on("noselect", None, "measured and shown, never followed"),
        on("ipv4", None, "only IPv4 addresses of the name"),
        on("ipv6", None, "only IPv6 addresses of the name"),
        on(
            "maxsources",
            Some(Kind::Int(1, 16)),
            "of a `pool`: so many servers at most [4]",
        ),
        on(
            "key",
            Some(Kind::Int(1, 0xffff_ffff)),
            "the key to sign requests with, and that answers have to be signed with",
        ),
        off(
            "nts",
            None,
            "there is no NTS yet, and a source is never trusted without the authentication asked for",
            UNTRUST,
        ),
        off(
            "trust",
            None,
            "no source is above the majority",
            "write `prefer` to follow it among those that agree",
        ),
        off(
            "require",
            None,
            "the clock would be set without this source's consent",
            "delete it, and raise `minsources`",
        ),
        idle("certset", Some(Kind::Int(0, 0xffff_ffff)), NO_NTS),
        idle("ntsport", Some(Kind::Int(1, 65535)), NO_NTS),
        idle("maxdelay", Some(SECONDS), ROUND_TRIPS),
        idle("maxdelayratio", Some(SECONDS), ROUND_TRIPS),
        idle("maxdelaydevratio", Some(SECONDS), ROUND_TRIPS),
        idle("maxdelayquant", Some(Kind::Num(0.0, 1.0)), ROUND_TRIPS),
        idle("mindelay", Some(SECONDS), ROUND_TRIPS),
        idle(
            "asymmetry",
            Some(Kind::Num(-0.5, 0.5)),
            "queues are told from the path by their round trips",
        ),
        idle(
            "filter",
            Some(Kind::Int(1, 1000)),
            "all samples are filtered",
        ),
        idle(
            "polltarget",
            Some(Kind::Int(6, 60)),
            "the poll interval follows the oscillator",
        ),
        idle(
            "presend",
            Some(Kind::Int(0, 24)),
            "the first packet after a silence counts by its own round trip",
        ),
        idle("minsamples", Some(Kind::Int(1, 64)), ESTIMATOR),
        idle("maxsamples", Some(Kind::Int(1, 64)), ESTIMATOR),
        idle(
            "maxunreach",
            Some(Kind::Int(0, 1_000_000)),
            "what a silent server said counts by its age",
        ),
        idle(
            "minstratum",
            Some(Kind::Int(0, 15)),
            "sources are weighed by their distance, not by their stratum",
        ),
        on(
            "extfield",
            Some(Kind::OneOf(&["10A", "F324", "F323"])),
            EXTENSION_FIELD,
        ),
        idle(
            "copy",
            None,
            "the stratum and the reference we tell are our own",
        ),
        on("offline", None, "not asked until `chronyc online`"),
        idle(
            "auto_offline",
            None,
            "a network that comes back is noticed by itself",
        ),
    ],
};

/// Of `local`.
pub const LOCAL: Choices = Choices {
    of: &["local"],
    before: "local stratum 10",
    after: "",
    choices: &[
        on(
            "stratum",
            Some(Kind::Int(1, 15)),
            "the stratum that clients are told [10]",
        ),
        idle(
            "distance",
            Some(SECONDS),
            "the local clock takes over once the last server's time is worth nothing (`maxdistance`)",
        ),
        idle(
            "activate",
            Some(SECONDS),
            "the local clock takes over 16 s after the start, if nobody is heard by then",
        ),
        idle(
            "waitsynced",
            Some(SECONDS),
            "the local clock waits until the last server's time is worth nothing",
        ),
        idle(
            "waitunsynced",
            Some(SECONDS),
            "the local clock waits for 16 s at the start",
        ),
        on(
            "orphan",
            None,
            "of several such servers the one with the lowest address serves, and the others follow it",
        ),
    ],
};

/// Of `ratelimit`.
pub const RATELIMIT: Choices = Choices {
    of: &["ratelimit"],
    before: "ratelimit",
    after: "",
    choices: &[
        on(
            "interval",
            Some(Kind::Int(-19, 12)),
            "one request in 2^n s [3]; below -6 it counts in 1/64 s",
        ),
        on("burst", Some(Kind::Int(1, 255)), "so many at once [8]"),
        on(
            "leak",
            Some(Kind::Int(1, 4)),
            "one in 2^n over the limit is answered all the same [2]",
        ),
        on(
            "kod",
            Some(Kind::Int(0, 4)),
            "one in 2^n over the limit is told so; 0: none [0]",
        ),
    ],
};

const UNLIMITED: &str = "all who ask have one limit together";

/// Of `cmdratelimit` and `ntsratelimit`.
pub const OTHER_LIMITS: Choices = Choices {
    of: &["cmdratelimit", "ntsratelimit"],
    before: "cmdratelimit",
    after: "",
    choices: &[
        idle("interval", Some(Kind::Int(-19, 12)), UNLIMITED),
        idle("burst", Some(Kind::Int(1, 255)), UNLIMITED),
        idle("leak", Some(Kind::Int(1, 4)), UNLIMITED),
        idle("kod", Some(Kind::Int(0, 4)), UNLIMITED),
    ],
};

/// Of `hwtimestamp`.
pub const HWTIMESTAMP: Choices = Choices {
    of: &["hwtimestamp"],
    before: "hwtimestamp eth0",
    after: "",
    choices: &[
        on(
            "minpoll",
            Some(Kind::Int(-6, 17)),
            "how often the card's clock is read",
        ),
        idle(
            "maxpoll",
            Some(Kind::Int(-6, 17)),
            "the card's clock is read every `minpoll`, packets or not",
        ),
        idle(
            "minsamples",
            Some(Kind::Int(1, 64)),
            "how long readings count follows from how steadily the card's clock runs",
        ),
        idle(
            "maxsamples",
            Some(Kind::Int(1, 64)),
            "how long readings count follows from how steadily the card's clock runs",
        ),
        on(
            "precision",
            Some(Kind::Num(0.0, 1.0)),
            "how exactly the card's clock can be read",
        ),
        on(
            "txcomp",
            Some(Kind::Num(-1.0, 1.0)),
            "added to stamps of departures",
        ),
        on(
            "rxcomp",
            Some(Kind::Num(-1.0, 1.0)),
            "subtracted from stamps of arrivals",
        ),
        on(
            "nocrossts",
            None,
            "the card's clock is not read by cross timestamps",
        ),
        on(
            "rxfilter",
            Some(Kind::OneOf(&["all", "ntp", "ptp", "none"])),
            "which arrivals the card stamps",
        ),
    ],
};

/// All of them.
pub const ALL: [Choices; 6] = [
    SOURCE,
    REFCLOCK,
    LOCAL,
    RATELIMIT,
    OTHER_LIMITS,
    HWTIMESTAMP,
];
