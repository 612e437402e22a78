//! The directives of ntp.conf (ntp.conf(5) of ntp 4.2.8 and of ntpsec 1.2), and ptntp's own.

use crate::config::access::{discard, limit, restrict, unrestrict};
use crate::config::association::{fudge, peer, pool, refclock, server, unpeer};
use crate::config::directives::{Directive, Kind, Reads, State, inert, missing, refused, works};
use crate::config::key_lines::{crypto_nak, keys, trusted_key};
use crate::config::settings::{
    busypoll, clients, control, disable, drift_file, enable, include, interface, leap_file,
    leap_seconds, listen, metrics, port, tinker, tos,
};

const NO_WRITES: &str = "nothing can be changed by mode 6 or 7";
const NO_FILES: &str = "statistics files are not written yet";
const USE_METRICS: &str =
    "the same figures are in `ptntp stat --json`, `ptntp peers --json` and the metrics";
const NO_AUTOKEY: &str = "Autokey is broken";
const DELETE: &str = "delete the line";
const NAME_SERVER: &str = "name the time source on a `server` line";
const ANY: &[Kind] = &[Kind::Rest];

const fn source(
    name: &'static str,
    syntax: &'static str,
    why: &'static str,
    example: &'static str,
) -> Directive {
    Directive {
        name,
        syntax,
        state: State::Missing,
        why,
        instead: NAME_SERVER,
        reads: Reads::Rest,
        is_source: true,
        example,
    }
}

/// Every directive.
pub const DIRECTIVES: &[Directive] = &[
    // Sources.
    works(
        "server",
        "[-4|-6] HOST [OPTION]...",
        "asks a server; 127.127.1.x is the local clock",
        server,
        "a.example iburst",
    ),
    works(
        "pool",
        "[-4|-6] HOST [OPTION]...",
        "asks several servers of a name, and replaces those that die",
        pool,
        "a.example iburst",
    ),
    works(
        "peer",
        "[-4|-6] HOST [OPTION]...",
        "asks like `server` does; our time is not offered to the peer unasked",
        peer,
        "a.example",
    ),
    works(
        "unpeer",
        "HOST",
        "takes an earlier `server`, `pool` or `peer` back",
        unpeer,
        "b.example",
    ),
    works(
        "fudge",
        "127.127.1.x stratum N",
        "the stratum of the local clock",
        fudge,
        "127.127.1.0 stratum 10",
    ),
    Directive {
        state: State::Refused,
        ..works(
            "refclock",
            "DRIVER [OPTION]...",
            "reference clocks are not supported yet",
            refclock,
            "shm unit 0",
        )
    },
    source("broadcastclient", "", "broadcasts are not listened to", ""),
    source(
        "multicastclient",
        "[ADDRESS]...",
        "multicasts are not listened to",
        "224.0.1.1",
    ),
    source(
        "manycastclient",
        "ADDRESS [OPTION]...",
        "servers are not searched for by manycast",
        "239.1.1.1",
    ),
    inert(
        "broadcastdelay",
        "SECONDS",
        "broadcasts are not listened to",
        ANY,
        "0.004",
    ),
    missing(
        "device",
        "...",
        "reference clocks are not supported yet",
        DELETE,
        "x",
    ),
    inert("phone", "NUMBER...", "modems are not supported", ANY, "123"),
    inert("calldelay", "SECONDS", "modems are not supported", ANY, "5"),
    // Serving.
    works(
        "restrict",
        "[-4|-6] ADDRESS[/BITS]|default|source [mask MASK] [FLAG]...",
        "who may do what",
        restrict,
        "default nomodify",
    ),
    works(
        "unrestrict",
        "[-4|-6] ADDRESS[/BITS]|default|source [mask MASK] [FLAG]...",
        "takes flags back, or the whole rule",
        unrestrict,
        "default nomodify",
    ),
    works(
        "discard",
        "[average LOG2] [minimum SECONDS] [monitor N]",
        "what `limited` means",
        discard,
        "average 3 minimum 2",
    ),
    works(
        "limit",
        "[average PER_SECOND] [burst N] [kod PER_SECOND]",
        "what `limited` means, ntpsec's way: a bucket of tokens",
        limit,
        "average 1 burst 20",
    ),
    works(
        "interface",
        "listen|ignore|drop all|ipv4|ipv6|wildcard|NAME|ADDRESS[/BITS]",
        "on which addresses to answer; what depends on the host's addresses (an interface's, a block's) is an error",
        interface,
        "ignore ipv6",
    ),
    works(
        "nic",
        "listen|ignore|drop all|ipv4|ipv6|wildcard|NAME|ADDRESS[/BITS]",
        "as `interface`",
        interface,
        "listen 192.0.2.1",
    ),
    refused(
        "extra",
        "port PORT",
        "there is no second port yet, and its clients would not be served",
        "write `port N` to serve on another port instead of 123",
        "port 1123",
    ),
    refused(
        "broadcast",
        "ADDRESS [OPTION]...",
        "broadcasts are not sent, and their listeners would lose their time",
        "let the clients ask: `server` with this machine's address",
        "10.0.0.255",
    ),
    refused(
        "manycastserver",
        "ADDRESS...",
        "manycast is not answered, and its clients would lose their time",
        "let the clients ask: `server` with this machine's address",
        "239.1.1.1",
    ),
    inert("ttl", "HOPS...", "it belongs to manycast", ANY, "1 2"),
    inert(
        "mru",
        "[OPTION VALUE]...",
        "the table of clients has a fixed size (`clients`) and forgets the oldest",
        ANY,
        "maxdepth 1000",
    ),
    inert(
        "dscp",
        "NUMBER",
        "packets leave with the system's default priority",
        &[Kind::Int(0, 63)],
        "46",
    ),
    missing(
        "leapsmearinterval",
        "SECONDS",
        "leap seconds are not smeared yet; clients see the leap second itself",
        "make sure that the clients don't count on the smear",
        "86400",
    ),
    inert(
        "ntpsigndsocket",
        "DIRECTORY",
        "Samba's signatures are not supported yet",
        ANY,
        "/var/lib/samba/ntp_signd",
    ),
    inert(
        "trap",
        "ADDRESS [OPTION]...",
        "traps are not sent",
        ANY,
        "10.0.0.1",
    ),
    inert(
        "setvar",
        "NAME = VALUE [default]",
        "there are no user variables",
        ANY,
        "a = b default",
    ),
    inert(
        "mdnstries",
        "NUMBER",
        "the service is not announced by mDNS",
        &[Kind::Int(0, 1_000_000)],
        "5",
    ),
    // Trust.
    works(
        "keys",
        "FILE [chrony]",
        "the keys, of which those may sign requests and answers that `trustedkey` names; in ntpd's format, or in chrony's",
        keys,
        "/dev/null chrony",
    ),
    works(
        "trustedkey",
        "all|ID|(ID ... ID)...",
        "which keys may be used [none]",
        trusted_key,
        "1 (3 ... 5)",
    ),
    inert("controlkey", "ID", NO_WRITES, ANY, "1"),
    inert("requestkey", "ID", NO_WRITES, ANY, "1"),
    inert("keysdir", "DIRECTORY", NO_AUTOKEY, ANY, "/k"),
    inert(
        "authdelay",
        "SECONDS",
        "the transmit time is taken as late as possible",
        ANY,
        "0.001",
    ),
    missing(
        "crypto",
        "[OPTION VALUE]...",
        NO_AUTOKEY,
        DELETE,
        "pw secret",
    ),
    missing("revoke", "LOG2", NO_AUTOKEY, DELETE, "10"),
    missing("automax", "LOG2", NO_AUTOKEY, DELETE, "10"),
    refused(
        "nts",
        "enable|disable|OPTION VALUE",
        "there is no NTS yet, and nobody is trusted without the authentication asked for",
        "delete the line only if the time may go without authentication",
        "enable",
    ),
    // The clock.
    works(
        "tinker",
        "[OPTION VALUE]...",
        "limits of steps",
        tinker,
        "panic 0",
    ),
    works(
        "tos",
        "[OPTION VALUE]...",
        "rules of selection",
        tos,
        "minsane 2",
    ),
    works(
        "driftfile",
        "FILE [MINUTES]",
        "keeps the clock's frequency correction",
        drift_file,
        "/var/lib/ntp/drift",
    ),
    works(
        "leapfile",
        "FILE [checkhash|ignorehash]",
        "the table of leap seconds, read again each day",
        leap_file,
        "/usr/share/zoneinfo/leap-seconds.list",
    ),
    works(
        "enable",
        "WORD...",
        "`ntp`: the clock is steered",
        enable,
        "ntp",
    ),
    works(
        "disable",
        "WORD...",
        "`ntp`: the clock is not steered",
        disable,
        "ntp",
    ),
    inert(
        "precision",
        "LOG2",
        "the clock's precision is measured",
        ANY,
        "-20",
    ),
    inert(
        "pollskewlist",
        "...",
        "polls are spread at random",
        ANY,
        "3 1|1",
    ),
    // Files, logs, the process.
    works(
        "includefile",
        "FILE|DIRECTORY",
        "reads another file, or *.conf of a directory",
        include,
        "/dev/null",
    ),
    missing("statsdir", "DIRECTORY", NO_FILES, USE_METRICS, "/s/"),
    missing(
        "statistics",
        "NAME...",
        NO_FILES,
        USE_METRICS,
        "loopstats peerstats",
    ),
    missing(
        "filegen",
        "NAME [file F] [type T] [link|nolink] [enable|disable]",
        NO_FILES,
        USE_METRICS,
        "loopstats file l type day link enable",
    ),
    missing(
        "logfile",
        "FILE",
        "the log goes to standard error, which is the journal under systemd",
        "read it with `journalctl -u ptntp`",
        "/var/log/ntp",
    ),
    inert(
        "logconfig",
        "[=+-]CLASS+EVENT...",
        "`--log-level` says how much is logged",
        ANY,
        "=syncall +clockall",
    ),
    missing(
        "pidfile",
        "FILE",
        "no pid file is written",
        "ask systemd (`systemctl show -P MainPID ptntp`) or `ptntp stat --json`",
        "/run/ntpd.pid",
    ),
    inert(
        "saveconfigdir",
        "DIRECTORY",
        "the configuration is not changed by mode 6",
        ANY,
        "/x",
    ),
    inert(
        "reset",
        "WHAT...",
        "counters start with the daemon",
        ANY,
        "allpeers",
    ),
    inert(
        "rlimit",
        "[OPTION VALUE]...",
        "systemd's unit sets limits",
        ANY,
        "memlock 32",
    ),
    refused(
        "simulate",
        "{...}",
        "ntpd's simulator is not part of this program",
        "see `ptntp sim`",
        "{ }",
    ),
    // ptntp's own.
    works(
        "listen",
        "everywhere|loopback|nowhere|ADDRESS...",
        "where to answer",
        listen,
        "loopback",
    ),
    works("port", "PORT", "the port to answer on", port, "1123"),
    works(
        "leapseconds",
        "kernel|slew",
        "`kernel`: the kernel steps the clock for them; `slew`: it is slewed after them",
        leap_seconds,
        "slew",
    ),
    works(
        "clients",
        "[interleaved N] [limited N]",
        "how many clients are remembered",
        clients,
        "interleaved 7 limited 9",
    ),
    works(
        "cryptonak",
        "on|off",
        "whether a request with a wrong MAC is told so [on]",
        crypto_nak,
        "on",
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

/// The directive of this name.
pub fn directive(word: &str) -> Option<&'static Directive> {
    DIRECTIVES.iter().find(|directive| directive.name == word)
}
