//! The command line as operators and their scripts use it: exit codes, the
//! sentences of ntpstat and ntpq, JSON everywhere, metrics with names and units.

mod common;

use common::net::{Namespace, Star, hub_v4};
use common::ntp::Client;
use common::peers::ChronyServer;
use common::process::{self, all, stdout};
use common::ptntp::{BINARY, Ptntp, in_namespace, ptntp};
use common::{TempDir, secs, wait_until};

const COMMANDS: [&str; 7] = ["run", "demo", "sim", "check", "peers", "stat", "nics"];

#[test]
fn help_and_version() {
    let output = ptntp(&["--version"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).starts_with("ptntp "), "{}", stdout(&output));
    let help = stdout(&ptntp(&["--help"]));
    for command in COMMANDS {
        assert!(help.contains(command), "{command} is not in\n{help}");
        let output = ptntp(&[command, "--help"]);
        assert_eq!(output.status.code(), Some(0), "{command} --help");
        assert!(!stdout(&output).is_empty(), "{command} --help");
    }
}

/// ntpstat's exit codes: 2 when the daemon is unreachable, 3 for usage.
#[test]
fn stat_without_a_daemon() {
    let directory = TempDir::new();
    let path = directory.path().join("nobody");
    let path = path.to_str().expect("UTF-8");
    for json in [false, true] {
        let mut args = vec!["stat", "--control", path];
        args.extend(json.then_some("--json"));
        let output = ptntp(&args);
        assert_eq!(output.status.code(), Some(2), "{}", all(&output));
        assert!(all(&output).contains(path), "{}", all(&output));
    }
    let output = ptntp(&["peers", "--control", path]);
    assert!(!output.status.success());
    assert!(all(&output).contains(path), "{}", all(&output));
    assert_eq!(ptntp(&["stat", "--bogus"]).status.code(), Some(3));
}

#[test]
fn usage_errors_are_not_panics() {
    let wrong: [&[&str]; 6] = [
        &["bogus"],
        &["run", "--clock", "sundial"],
        &["run", "--clock", "virtual:much"],
        &["run", "--io", "carrier-pigeon"],
        &["run", "--port", "70000"],
        &["run", "--metrics", "nowhere"],
    ];
    for args in wrong {
        let output = ptntp(args);
        let said = all(&output);
        assert!(
            output.status.code().is_some_and(|c| c != 0 && c != 101),
            "{args:?}: {said}"
        );
        assert!(said.contains(args[args.len() - 1]), "{args:?}: {said}");
    }
}

/// A run without a config file contacts nobody, serves loopback alone, steers nothing.
#[test]
fn bare_run_keeps_to_itself() {
    require!(root);
    let star = Star::new(1);
    let ptntp = in_namespace(&star.hub).clock("none").start();
    let output = ptntp.tell(&["stat"]);
    assert_eq!(output.status.code(), Some(1), "{}", all(&output));
    assert!(
        stdout(&output).starts_with("unsynchronised"),
        "{}",
        all(&output)
    );
    let here = Client::new(&star.hub, [127, 0, 0, 1].into());
    assert!(
        wait_until(secs(5), || here.time().is_some()),
        "loopback is served"
    );
    let there = Client::new(&star.spokes[0], hub_v4(0));
    assert!(there.time().is_none(), "nobody else is");
}

/// `--server` and no file: the named server is measured, the clock left alone.
#[test]
fn named_server_is_asked() {
    require!(root, peers);
    let star = Star::new(1);
    let _server = ChronyServer::start(&star.spokes[0]);
    let ptntp = in_namespace(&star.hub)
        .clock("none")
        .args(&["--server", "10.77.0.2"])
        .start();
    let measured = || ptntp.sources()[0]["offset_s"].is_number();
    assert!(wait_until(secs(40), measured), "{:?}", ptntp.sources());
}

/// One daemon that follows a server, and everything that may be read from it.
#[test]
fn synchronised_daemon_is_readable() {
    require!(root, peers);
    let star = Star::new(1);
    let _server = ChronyServer::start(&star.spokes[0]);
    let ptntp = in_namespace(&star.hub)
        .config("server 10.77.0.2 iburst minpoll 3 maxpoll 4\nrestrict default\n")
        .start();
    assert!(wait_until(secs(40), || ptntp.sync()), "{}", ptntp.stat());

    // ntpstat's three lines.
    let output = ptntp.tell(&["stat"]);
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines[0],
        "synchronised to NTP server (10.77.0.2) at stratum 2"
    );
    let correct = lines[1]
        .strip_prefix("   time correct to within ")
        .and_then(|rest| rest.strip_suffix(" ms"));
    assert!(
        correct.is_some_and(|ms| ms.parse::<u32>().is_ok_and(|ms| ms > 0)),
        "{said}"
    );
    let polling = lines[2]
        .strip_prefix("   polling server every ")
        .and_then(|rest| rest.strip_suffix(" s"));
    assert!(polling.is_some_and(|s| s.parse::<u32>().is_ok()), "{said}");
    let json = ptntp.tell(&["stat", "--json"]);
    assert_eq!(json.status.code(), Some(0), "JSON has the same exit codes");
    let stat = ptntp.stat();
    for name in [
        "sync",
        "source",
        "stratum",
        "offset_s",
        "frequency_ppm",
        "error_bound_s",
        "error_likely_s",
        "true_error_s",
    ] {
        assert!(!stat[name].is_null(), "no {name} in {stat}");
    }
    let number = |name: &str| stat[name].as_f64().expect("a number");
    assert!(
        number("error_likely_s") <= number("error_bound_s"),
        "{stat}"
    );
    assert!(
        number("error_bound_s") >= number("root_delay_s") / 2.0,
        "{stat}"
    );

    // ntpq's table.
    let table = stdout(&ptntp.tell(&["peers"]));
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(
        lines[0],
        "     remote           refid      st t when poll reach   delay   offset  jitter"
    );
    assert_eq!(lines[1], "=".repeat(78));
    assert!(lines[2].starts_with("*10.77.0.2 "), "{table}");
    let words: Vec<&str> = lines[2].split_whitespace().collect();
    assert_eq!(words.len(), 10, "{table}");
    assert_eq!((words[2], words[3]), ("1", "u"), "{table}");
    assert!(
        u32::from_str_radix(words[6], 8).is_ok(),
        "reach is octal\n{table}"
    );

    // Kernel stamps are there, and said to be.
    let source = &ptntp.sources()[0];
    assert_eq!(source["name"], "10.77.0.2", "{source}");
    for stamp in ["stamp_tx", "stamp_rx"] {
        assert_eq!(source[stamp], "kernel", "{source}");
    }

    metrics_are_well_formed(&ptntp);
}

/// Every family has HELP and TYPE, counters end in `_total`, and the values agree
/// with the other ways of asking.
fn metrics_are_well_formed(ptntp: &Ptntp) {
    let scrape = ptntp.scrape();
    for sample in &scrape.samples {
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|suffix| sample.name.strip_suffix(suffix))
            .find(|family| scrape.types.contains_key(*family))
            .unwrap_or(&sample.name);
        assert!(family.starts_with("ptntp_"), "{sample:?}");
        let help = scrape.help.get(family).map_or("", String::as_str);
        assert!(!help.is_empty(), "no HELP of {family}");
        let kind = scrape.types.get(family).map_or("", String::as_str);
        assert!(!kind.is_empty(), "no TYPE of {family}");
        assert_eq!(kind == "counter", family.ends_with("_total"), "{family}");
    }
    for name in [
        "ptntp_offset_seconds",
        "ptntp_frequency_ppm",
        "ptntp_root_delay_seconds",
        "ptntp_root_dispersion_seconds",
        "ptntp_error_bound_seconds",
        "ptntp_error_likely_seconds",
        "ptntp_true_error_seconds",
        "ptntp_leap_indicator",
        "ptntp_source_offset_seconds",
        "ptntp_source_delay_seconds",
        "ptntp_source_jitter_seconds",
        "ptntp_source_stamp",
    ] {
        assert!(scrape.value(name).is_some(), "no {name}");
    }
    assert_eq!(scrape.value("ptntp_synchronised"), Some(1.0));
    assert_eq!(scrape.value("ptntp_stratum"), Some(2.0));
    let system = [("tally", "system"), ("source", "10.77.0.2")];
    assert_eq!(scrape.sum("ptntp_source_selection", &system), Some(1.0));
    assert!(scrape.value("ptntp_source_reach").is_some_and(|r| r > 0.0));
    for family in [
        "ptntp_offset_magnitude_seconds",
        "ptntp_true_error_magnitude_seconds",
        "ptntp_server_response_latency_seconds",
    ] {
        assert_eq!(scrape.types[family], "histogram", "{family}");
    }
}

/// `ptntp run` with the first spoke as its server, until it ends by itself.
fn runs_to_its_end(star: &Star, options: &[&str]) -> std::process::Output {
    let directory = TempDir::new();
    let mut command = process::command(Some(&star.hub), BINARY);
    command
        .args(["run", "--server", "10.77.0.2"])
        .args(["--metrics", "off", "--control"])
        .arg(directory.path().join("control"))
        .args(options);
    process::run(command, secs(60))
}

/// `--once` sets the clock and ends.
#[test]
fn once_sets_the_clock_and_ends() {
    require!(root, peers);
    let star = Star::new(1);
    let _server = ChronyServer::start(&star.spokes[0]);
    let output = runs_to_its_end(&star, &["--clock", "virtual:0.5,0", "--once"]);
    let said = all(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(
        said.contains("0.5") || said.contains("0.49"),
        "says what it did: {said}"
    );
}

/// A clock beyond the panic limit ends it with a status of its own, by which the
/// unit knows not to start it again; `-g` lets the first correction pass.
#[test]
fn beyond_the_panic_limit_it_ends() {
    require!(root, peers);
    let star = Star::new(1);
    let _server = ChronyServer::start(&star.spokes[0]);
    let output = runs_to_its_end(&star, &["--clock", "virtual:5000,0"]);
    assert_eq!(output.status.code(), Some(3), "{}", all(&output));
    assert!(
        all(&output).contains("beyond the panic limit"),
        "{}",
        all(&output)
    );
    let output = runs_to_its_end(&star, &["--clock", "virtual:5000,0", "-g", "-q"]);
    assert_eq!(output.status.code(), Some(0), "{}", all(&output));
}

/// With nobody to ask it says so in the end, and fails.
#[test]
fn once_without_an_answer_fails() {
    require!(root);
    let star = Star::new(1);
    let output = runs_to_its_end(&star, &["--clock", "virtual:0.5,0", "-q"]);
    assert!(
        output.status.code().is_some_and(|c| c != 0),
        "{}",
        all(&output)
    );
    let told = all(&output).matches("was not set").count();
    assert_eq!(told, 1, "{}", all(&output));
}

/// Half an answer is no answer.
#[test]
fn an_answer_that_cannot_be_written_is_told() {
    let directory = TempDir::new();
    let config = directory.write("ntp.conf", "server 192.0.2.1\n");
    let mut command = std::process::Command::new(common::ptntp::BINARY);
    command.arg("check").arg(config);
    let full = std::fs::File::options().write(true).open("/dev/full");
    command.stdout(full.expect("open /dev/full"));
    let output = command.output().expect("run ptntp check");
    assert!(all(&output).contains("standard output"), "{}", all(&output));
}

/// There is nothing to wait for.
#[test]
fn once_with_nobody_to_ask_fails_at_once() {
    let start = std::time::Instant::now();
    let output = ptntp(&["run", "-q", "--clock", "virtual"]);
    assert_eq!(output.status.code(), Some(1), "{}", all(&output));
    assert!(all(&output).contains("--server"), "{}", all(&output));
    assert!(start.elapsed() < secs(10));
}

#[test]
fn nics_lists_every_interface() {
    require!(root);
    let star = Star::new(1);
    let run = |args: &[&str]| {
        let mut command = process::command(Some(&star.hub), BINARY);
        command.args(args);
        let output = process::run(command, secs(10));
        assert_eq!(output.status.code(), Some(0), "{}", all(&output));
        stdout(&output)
    };
    let table = run(&["nics"]);
    assert!(table.contains("s0") && table.contains("lo"), "{table}");
    let json: serde_json::Value = serde_json::from_str(&run(&["nics", "--json"])).expect("JSON");
    assert!(json.to_string().contains("\"s0\""), "{json}");
}

/// The whole thing on loopback.
#[test]
fn demo_converges() {
    require!(root);
    let namespace = Namespace::new();
    let mut command = process::command(Some(&namespace), BINARY);
    command.arg("demo");
    let output = process::run(command, secs(120));
    let said = all(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("µs"), "shows the error as it falls: {said}");
}
