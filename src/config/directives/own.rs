//! ptntp's own words, which both dialects read alike.

use crate::config::directives::{Directive, works};
use crate::config::refclock::phc;
use crate::config::settings::{busypoll, clients, control, listen, metrics};

pub(super) const LISTEN: Directive = works(
    "listen",
    "everywhere|loopback|nowhere|ADDRESS...",
    "where to answer",
    listen,
    "loopback",
);

pub(super) const PHC: Directive = works(
    "phc",
    "discipline DEVICE|INTERFACE [tai|utc] [step SECONDS]",
    "makes a PTP hardware clock follow our time",
    phc,
    "discipline /dev/ptp0",
);

pub(super) const CLIENTS: Directive = works(
    "clients",
    "[interleaved N] [limited N]",
    "how many clients are remembered",
    clients,
    "interleaved 7 limited 9",
);

pub(super) const BUSYPOLL: Directive = works(
    "busypoll",
    "on|off",
    "server threads that never sleep",
    busypoll,
    "on",
);

pub(super) const CONTROL: Directive = works(
    "control",
    "PATH",
    "where `ptntp stat` asks",
    control,
    "/run/a.sock",
);

pub(super) const METRICS: Directive = works(
    "metrics",
    "ADDRESS:PORT|off",
    "where Prometheus asks",
    metrics,
    "off",
);
