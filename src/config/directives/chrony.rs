//! The directives of chrony.conf (chrony.conf(5)), as of chrony 4.9.

use crate::config::chrony_lines::{
    allow, bind_address, client_log_limit, conf_dir, deny, drift_file, hwtimestamp, include,
    leap_mode, leap_zone, local, make_step, max_change, max_distance, max_stratum, min_sources,
    other_limit, port, rate_limit, source_dir,
};
use crate::config::chrony_source::{peer, pool, server};
use crate::config::directives::{Directive, Kind, inert, missing, refused, works};
use crate::config::settings::{
    busypoll, clients, control, key_file, leap_file_alone, listen, metrics,
};

const DELETE: &str = "delete the line";
const COMMANDS: &str = "commands come by the `control` socket, which file permissions guard";
const STATISTICS: &str =
    "the same figures are in `ptntp stat --json`, `ptntp peers --json` and the metrics";
const RTC: &str = "the kernel sets the real-time clock while the time is good";
const NO_NTS: &str = "there is no NTS yet";
const NTS_CLIENTS: &str = "there is no NTS yet, and its clients would lose their time";
const NO_HARDWARE: &str = "hardware timestamps are not supported yet";
const SLEWS: &str = "the clock is slewed by at most 500 ppm, over a time that follows the polls";
const LEARNT: &str = "the filter learns what the oscillator does";
const SELECTION: &str = "sources are weighed by their variance and their distance";
const SECONDS: Kind = Kind::Num(0.0, 1e9);
const PATH: Kind = Kind::Text("a path");

/// Every directive.
pub const DIRECTIVES: &[Directive] = &[
    // Sources.
    works(
        "server",
        "HOST [OPTION]...",
        "asks a server",
        server,
        "a.example iburst",
    ),
    works(
        "pool",
        "HOST [OPTION]...",
        "asks several servers of a name, and replaces those that die",
        pool,
        "a.example iburst maxsources 3",
    ),
    works(
        "peer",
        "HOST [OPTION]...",
        "asks like `server` does; our time is not offered to the peer unasked",
        peer,
        "a.example",
    ),
    refused(
        "refclock",
        "DRIVER PARAMETER [OPTION]...",
        "reference clocks are not supported yet, and their time would be missed",
        "put `#` before the line",
        "SHM 0 refid GPS",
    ),
    refused(
        "initstepslew",
        "THRESHOLD [HOST]...",
        "the clock would not be stepped at the start",
        "write `server HOST iburst` for each host, and `makestep THRESHOLD 1`",
        "30 a.example",
    ),
    inert("manual", "", "the time can't be typed in yet", &[], ""),
    inert(
        "acquisitionport",
        "PORT",
        "each request leaves from a port of its own",
        &[Kind::Int(0, 65535)],
        "1123",
    ),
    inert(
        "bindacqaddress",
        "ADDRESS",
        "the routing table chooses the address that requests leave from",
        &[Kind::Text("an address")],
        "192.0.2.1",
    ),
    inert(
        "bindacqdevice",
        "INTERFACE",
        "the routing table chooses the interface",
        &[Kind::Text("an interface")],
        "eth0",
    ),
    inert(
        "dscp",
        "NUMBER",
        "packets leave with the system's default priority",
        &[Kind::Int(0, 63)],
        "46",
    ),
    inert(
        "dumpdir",
        "DIRECTORY",
        "measurements are not kept over restarts; the frequency is",
        &[PATH],
        "/var/lib/chrony",
    ),
    inert(
        "dumponexit",
        "",
        "measurements are not kept over restarts; the frequency is",
        &[],
        "",
    ),
    works(
        "sourcedir",
        "DIRECTORY...",
        "reads sources from *.sources; reloadable",
        source_dir,
        "/nonexistent/sources.d",
    ),
    inert("maxsamples", "NUMBER", LEARNT, &[Kind::Int(0, 64)], "32"),
    inert("minsamples", "NUMBER", LEARNT, &[Kind::Int(0, 64)], "6"),
    // Selection.
    works(
        "minsources",
        "NUMBER",
        "fewest sources that may steer the clock",
        min_sources,
        "2",
    ),
    works(
        "maxdistance",
        "SECONDS",
        "largest root distance of a source that may be followed [3]",
        max_distance,
        "1.5",
    ),
    works(
        "maxstratum",
        "NUMBER",
        "sources above this stratum are not followed [15]",
        max_stratum,
        "10",
    ),
    inert("minstratum", "NUMBER", SELECTION, &[Kind::Int(0, 16)], "1"),
    inert("maxjitter", "SECONDS", SELECTION, &[SECONDS], "0.5"),
    inert(
        "combinelimit",
        "FACTOR",
        "sources up to three times as far as the nearest are combined",
        &[Kind::Num(0.0, 1e9)],
        "3",
    ),
    inert(
        "reselectdist",
        "SECONDS",
        "another source has to be half as good again to be named",
        &[SECONDS],
        "1e-4",
    ),
    inert(
        "stratumweight",
        "SECONDS",
        "strata don't make a source farther away",
        &[SECONDS],
        "0",
    ),
    works(
        "authselectmode",
        "mix|prefer|ignore|require",
        "`require` is refused, the others are alike without authentication",
        crate::config::chrony_lines::auth_select_mode,
        "mix",
    ),
    inert(
        "refresh",
        "SECONDS",
        "a name is looked up again when its server is silent",
        &[Kind::Int(0, 1 << 40)],
        "1209600",
    ),
    // The clock.
    works(
        "makestep",
        "SECONDS UPDATES",
        "steps beyond this offset, in so many first updates; negative: in all",
        make_step,
        "1 3",
    ),
    works(
        "maxchange",
        "SECONDS START IGNORE",
        "a larger offset ends the daemon: from this update on, after so many that are passed over",
        max_change,
        "1000 1 2",
    ),
    works(
        "driftfile",
        "FILE [INTERVAL]",
        "keeps the clock's frequency error, in chrony's sign",
        drift_file,
        "/var/lib/chrony/drift",
    ),
    works(
        "leapseclist",
        "FILE",
        "the table of leap seconds, read again each day",
        leap_file_alone,
        "/usr/share/zoneinfo/leap-seconds.list",
    ),
    works(
        "leapsectz",
        "ZONE",
        "the leap seconds of tzdata: its leap-seconds.list, where that is installed",
        leap_zone,
        "right/UTC",
    ),
    works(
        "leapsecmode",
        "system|step|slew|ignore",
        "`system` and `step`: the kernel steps the clock; the others: it is slewed after it",
        leap_mode,
        "slew",
    ),
    inert(
        "maxupdateskew",
        "PPM",
        "frequencies count by how well they are known",
        &[SECONDS],
        "100",
    ),
    inert("maxslewrate", "PPM", SLEWS, &[SECONDS], "1000"),
    inert(
        "maxdrift",
        "PPM",
        "the kernel corrects up to 500 ppm",
        &[SECONDS],
        "500",
    ),
    inert("maxclockerror", "PPM", LEARNT, &[SECONDS], "1"),
    inert("corrtimeratio", "FACTOR", SLEWS, &[SECONDS], "3"),
    inert(
        "fallbackdrift",
        "MIN MAX",
        LEARNT,
        &[Kind::Int(0, 30), Kind::Int(0, 30)],
        "16 19",
    ),
    inert(
        "clockprecision",
        "SECONDS",
        "the clock's precision is measured",
        &[SECONDS],
        "1e-7",
    ),
    inert(
        "linux_hz",
        "NUMBER",
        "Linux does not tick like that any more",
        &[Kind::Int(1, 100_000)],
        "100",
    ),
    inert(
        "linux_freq_scale",
        "FACTOR",
        "Linux does not tick like that any more",
        &[SECONDS],
        "1",
    ),
    inert(
        "tempcomp",
        "FILE INTERVAL ...",
        "temperature shows as frequency, which is followed",
        &[PATH, Kind::Rest],
        "/sys/class/hwmon/hwmon0/temp1_input 30 26000 0.0 0.000183 0.0",
    ),
    // Serving.
    works(
        "allow",
        "[all] [ADDRESS[/BITS]]",
        "serves these addresses; without any `allow` nobody is served",
        allow,
        "192.0.2.0/24",
    ),
    works(
        "deny",
        "[all] [ADDRESS[/BITS]]",
        "does not serve these addresses",
        deny,
        "all 198.51.100.0/24",
    ),
    works(
        "local",
        "[OPTION]...",
        "serves this machine's clock when nothing better can be had",
        local,
        "stratum 8",
    ),
    works(
        "port",
        "PORT",
        "the port to answer on; 0: nobody is answered",
        port,
        "123",
    ),
    works(
        "bindaddress",
        "ADDRESS",
        "answers on this address only; one for each family",
        bind_address,
        "192.0.2.1",
    ),
    missing(
        "binddevice",
        "INTERFACE",
        "requests by every interface are answered",
        "say who is served with `allow`, or write `bindaddress`",
        "eth0",
    ),
    works(
        "ratelimit",
        "[OPTION]...",
        "limits how often each client is answered",
        rate_limit,
        "interval 1 burst 16",
    ),
    works(
        "clientloglimit",
        "BYTES",
        "memory for the clients that are remembered for `ratelimit`",
        client_log_limit,
        "1048576",
    ),
    inert(
        "noclientlog",
        "",
        "clients are remembered only as far as limits and interleaved mode need it",
        &[],
        "",
    ),
    refused(
        "broadcast",
        "INTERVAL ADDRESS [PORT]",
        "broadcasts are not sent, and their listeners would lose their time",
        "let the clients ask: `server` with this machine's address",
        "30 192.0.2.255",
    ),
    missing(
        "smoothtime",
        "MAXFREQ MAXWANDER [leaponly]",
        "clients see steps and leap seconds as they are",
        "make sure that the clients don't count on the smear",
        "400 0.01 leaponly",
    ),
    missing(
        "ntpsigndsocket",
        "DIRECTORY",
        "Samba's signatures are not supported yet",
        DELETE,
        "/var/lib/samba/ntp_signd",
    ),
    // NTS.
    refused(
        "ntsservercert",
        "FILE",
        NTS_CLIENTS,
        DELETE,
        "/etc/chrony/a.crt",
    ),
    refused(
        "ntsserverkey",
        "FILE",
        NTS_CLIENTS,
        DELETE,
        "/etc/chrony/a.key",
    ),
    inert("ntsport", "PORT", NO_NTS, &[Kind::Int(1, 65535)], "4460"),
    inert("ntsprocesses", "NUMBER", NO_NTS, &[Kind::Int(0, 1000)], "1"),
    inert(
        "maxntsconnections",
        "NUMBER",
        NO_NTS,
        &[Kind::Int(1, 1_000_000)],
        "100",
    ),
    inert("ntsaeads", "ID...", NO_NTS, &[Kind::Rest], "30 15"),
    inert(
        "ntsdumpdir",
        "DIRECTORY",
        NO_NTS,
        &[PATH],
        "/var/lib/chrony",
    ),
    inert(
        "ntscachedir",
        "DIRECTORY",
        NO_NTS,
        &[PATH],
        "/var/lib/chrony",
    ),
    inert(
        "ntsrotate",
        "SECONDS",
        NO_NTS,
        &[Kind::Int(0, 1 << 40)],
        "604800",
    ),
    inert(
        "ntsrefresh",
        "SECONDS",
        NO_NTS,
        &[Kind::Int(0, 1 << 40)],
        "2419200",
    ),
    inert(
        "ntsratelimit",
        "[OPTION]...",
        NO_NTS,
        &[Kind::Rest],
        "interval 3 burst 1",
    ),
    inert(
        "ntstrustedcerts",
        "[SET] FILE",
        NO_NTS,
        &[PATH, Kind::Rest],
        "/etc/ssl/certs",
    ),
    inert("nosystemcert", "", NO_NTS, &[], ""),
    inert(
        "nocerttimecheck",
        "NUMBER",
        NO_NTS,
        &[Kind::Int(0, 1_000_000)],
        "1",
    ),
    // Timestamps.
    Directive {
        state: crate::config::directives::State::NoEffect,
        ..works(
            "hwtimestamp",
            "INTERFACE|* [OPTION]...",
            NO_HARDWARE,
            hwtimestamp,
            "eth0 rxfilter ntp",
        )
    },
    inert(
        "hwtstimeout",
        "SECONDS",
        NO_HARDWARE,
        &[Kind::Num(0.0, 1.0)],
        "0.005",
    ),
    inert(
        "maxtxbuffers",
        "NUMBER",
        "the kernel's queues hold what is awaited",
        &[Kind::Int(1, 1_000_000)],
        "128",
    ),
    inert(
        "ptpport",
        "PORT",
        "NTP over PTP is not supported",
        &[Kind::Int(0, 65535)],
        "319",
    ),
    inert(
        "ptpdomain",
        "NUMBER",
        "NTP over PTP is not supported",
        &[Kind::Int(0, 255)],
        "123",
    ),
    // Commands.
    inert("cmdport", "PORT", COMMANDS, &[Kind::Int(0, 65535)], "0"),
    inert(
        "cmdallow",
        "[all] [ADDRESS[/BITS]]",
        COMMANDS,
        &[Kind::Rest],
        "192.0.2.0/24",
    ),
    inert(
        "cmddeny",
        "[all] [ADDRESS[/BITS]]",
        COMMANDS,
        &[Kind::Rest],
        "all",
    ),
    inert(
        "bindcmdaddress",
        "ADDRESS|PATH",
        COMMANDS,
        &[Kind::Text("an address or a path")],
        "127.0.0.1",
    ),
    inert(
        "bindcmddevice",
        "INTERFACE",
        COMMANDS,
        &[Kind::Text("an interface")],
        "lo",
    ),
    Directive {
        state: crate::config::directives::State::NoEffect,
        ..works(
            "cmdratelimit",
            "[OPTION]...",
            COMMANDS,
            other_limit,
            "interval -4 burst 16",
        )
    },
    inert(
        "opencommands",
        "[COMMAND]...",
        COMMANDS,
        &[Kind::Rest],
        "tracking",
    ),
    inert(
        "commandkey",
        "ID",
        COMMANDS,
        &[Kind::Text("a key's number")],
        "1",
    ),
    inert("generatecommandkey", "", COMMANDS, &[], ""),
    // The real-time clock.
    inert("rtcsync", "", RTC, &[], ""),
    inert("rtcfile", "FILE", RTC, &[PATH], "/var/lib/chrony/rtc"),
    inert("rtcautotrim", "SECONDS", RTC, &[SECONDS], "30"),
    inert("rtcdevice", "DEVICE", RTC, &[PATH], "/dev/rtc"),
    inert("rtconutc", "", RTC, &[], ""),
    inert("hwclockfile", "FILE", RTC, &[PATH], "/etc/adjtime"),
    // Files, logs, the process.
    works(
        "include",
        "PATTERN",
        "reads all files of that name, in order",
        include,
        "/dev/nul?",
    ),
    works(
        "confdir",
        "DIRECTORY...",
        "reads *.conf of these; of equal names the first directory's",
        conf_dir,
        "/nonexistent/conf.d",
    ),
    Directive {
        state: crate::config::directives::State::NoEffect,
        ..works(
            "keyfile",
            "FILE",
            "nothing uses keys yet",
            key_file,
            "/etc/passwd",
        )
    },
    inert(
        "log",
        "WHAT...",
        STATISTICS,
        &[Kind::Rest],
        "tracking measurements statistics",
    ),
    inert(
        "logdir",
        "DIRECTORY",
        STATISTICS,
        &[PATH],
        "/var/log/chrony",
    ),
    inert(
        "logbanner",
        "LINES",
        STATISTICS,
        &[Kind::Int(0, 1_000_000)],
        "32",
    ),
    inert(
        "logchange",
        "SECONDS",
        "each step is logged, and slews are in the metrics",
        &[SECONDS],
        "0.5",
    ),
    inert(
        "mailonchange",
        "ADDRESS SECONDS",
        "each step is logged",
        &[Kind::Text("an address"), SECONDS],
        "root@localhost 0.5",
    ),
    inert(
        "pidfile",
        "FILE",
        "systemd knows the process, and so does `ptntp stat --json`",
        &[PATH],
        "/run/chrony/chronyd.pid",
    ),
    inert(
        "user",
        "NAME",
        "systemd's unit names the user",
        &[Kind::Text("a user")],
        "_chrony",
    ),
    inert(
        "lock_all",
        "",
        "a page that is missing costs one sample, and its round trip tells",
        &[],
        "",
    ),
    inert(
        "sched_priority",
        "NUMBER",
        "systemd's unit sets it (CPUSchedulingPolicy=)",
        &[Kind::Int(0, 100)],
        "1",
    ),
    // ptntp's own.
    works(
        "listen",
        "everywhere|loopback|nowhere|ADDRESS...",
        "where to answer",
        listen,
        "loopback",
    ),
    works(
        "clients",
        "[interleaved N] [limited N]",
        "how many clients are remembered",
        clients,
        "interleaved 7 limited 9",
    ),
    works(
        "busypoll",
        "on|off",
        "server threads that never sleep",
        busypoll,
        "on",
    ),
    works(
        "control",
        "PATH",
        "where `ptntp stat` asks",
        control,
        "/run/a.sock",
    ),
    works(
        "metrics",
        "ADDRESS:PORT|off",
        "where Prometheus asks",
        metrics,
        "off",
    ),
];

/// The directive of this name; chrony.conf does not care for case.
pub fn directive(word: &str) -> Option<&'static Directive> {
    DIRECTIVES
        .iter()
        .find(|d| d.name.eq_ignore_ascii_case(word))
}
