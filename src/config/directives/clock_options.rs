//! Options of `refclock PHC`, which both dialects read alike.

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

/// Options of chrony's that a PHC has no use for, or that we have nothing like.
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

const POLL: Option<Kind> = Some(Kind::Int(-6, 17));
const SECONDS: Option<Kind> = Some(Kind::Num(0.0, 1e6));
const NO_PULSES: &str = "pulses are not read, only times";
const LEAVE_OUT: &str = "leave it out";
const PREFER: &str = "write `prefer`, the nearest to it";

/// Of `refclock PHC`.
pub const REFCLOCK: Choices = Choices {
    of: &["refclock"],
    before: "refclock PHC /dev/ptp0 poll 6",
    after: "",
    choices: &[
        on(
            "poll",
            POLL,
            "how often a measurement is made, as a power of two [4]",
        ),
        on("dpoll", POLL, "how often the clock is read [0]"),
        on(
            "refid",
            Some(Kind::Text("up to four letters")),
            "the clock's name [PHC0, PHC1, ...]",
        ),
        on(
            "offset",
            Some(Kind::Num(-1e9, 1e9)),
            "added to the clock's time, in seconds [0]",
        ),
        on(
            "delay",
            SECONDS,
            "what a reading may be wrong by besides, as a round trip [0]",
        ),
        on(
            "stratum",
            Some(Kind::Int(0, 14)),
            "what the clock claims [0]",
        ),
        on("precision", SECONDS, "how exactly it can be read"),
        on(
            "filter",
            Some(Kind::Int(1, 1024)),
            "most readings kept for a measurement",
        ),
        on(
            "tai",
            None,
            "it counts TAI; what UTC lacks comes from the leap file or the kernel",
        ),
        on("prefer", None, "followed before others that agree with it"),
        on("noselect", None, "measured and shown, never followed"),
        on(
            "nocrossts",
            None,
            "ptntp's own: as `:nocrossts` behind the device, it is not read by cross timestamps",
        ),
        off(
            "local",
            None,
            "a clock is followed in phase, or not at all",
            LEAVE_OUT,
        ),
        off(
            "lock",
            Some(Kind::Text("a refid")),
            "a PHC needs no other clock to number its seconds",
            LEAVE_OUT,
        ),
        off("pps", None, NO_PULSES, LEAVE_OUT),
        off("rate", SECONDS, NO_PULSES, LEAVE_OUT),
        off("width", SECONDS, NO_PULSES, LEAVE_OUT),
        off("maxlockage", Some(Kind::Int(0, 1000)), NO_PULSES, LEAVE_OUT),
        off(
            "maxdispersion",
            SECONDS,
            "there is one limit for all sources, `tos maxdist` or `maxdistance`",
            LEAVE_OUT,
        ),
        off(
            "require",
            None,
            "the clock would be set without this source's consent",
            PREFER,
        ),
        off("trust", None, "no source is above the majority", PREFER),
    ],
};
