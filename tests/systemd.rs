//! The units are understood by systemd, tight enough, and say nothing that the
//! command line or the man pages don't know. Where a tool of systemd is missing
//! the checks that need it are skipped, except under CI=true.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use clap::Parser;
use ptntp::cli::args::Cli;

const UNITS: [&str; 2] = ["ptntp.service", "ptntp-wait-sync.service"];
/// Where packages put the binary; the units name it in full.
const INSTALLED: &str = "/usr/sbin/ptntp";

#[test]
fn verify_finds_nothing_to_say() {
    if !tool_is_there("systemd-analyze") {
        return;
    }
    let units = Units::copy("verify");
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .args(units.paths())
        // The empty part at the end stands for systemd's own directories.
        .env(
            "SYSTEMD_UNIT_PATH",
            format!("{}:", units.directory.display()),
        )
        .output()
        .unwrap();
    // Other units of this machine are none of our business, and a key that
    // systemd does not know is a message without an exit code.
    let messages = text(&output);
    let ours: Vec<&str> = messages.lines().filter(|l| l.contains("ptntp")).collect();
    assert!(ours.is_empty(), "{ours:#?}");
    assert!(output.status.success(), "{messages}");
}

#[test]
fn exposure_stays_low() {
    if !tool_is_there("systemd-analyze") {
        return;
    }
    let units = Units::copy("security");
    for path in units.paths() {
        let output = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--threshold=35", "--no-pager"])
            .arg(&path)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}:\n{}",
            path.display(),
            text(&output)
        );
    }
}

#[test]
fn sysusers_knows_our_user() {
    if !tool_is_there("systemd-sysusers") {
        return;
    }
    let output = Command::new("systemd-sysusers")
        .arg("--dry-run")
        .arg(source("ptntp.sysusers"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn the_units_command_lines_are_ours() {
    for unit in UNITS {
        let line = value(unit, "ExecStart").expect("a service starts something");
        assert!(line.starts_with(INSTALLED), "{unit}: {line}");
        if let Err(error) = Cli::try_parse_from(line.split_whitespace()) {
            panic!("{unit}: {error}");
        }
    }
}

#[test]
fn the_documentation_named_is_there() {
    for unit in UNITS {
        let pages = value(unit, "Documentation").expect("a unit names its man page");
        for page in pages.split_whitespace() {
            let name = page
                .strip_prefix("man:")
                .and_then(|page| page.strip_suffix("(1)"))
                .unwrap_or_else(|| panic!("{unit}: {page} is no man page of section 1"));
            let path = root().join("docs/man").join(format!("{name}.1"));
            assert!(path.exists(), "{unit} names {}", path.display());
        }
    }
}

/// What makes the hardening worth something: these five, and nothing else.
#[test]
fn five_capabilities_are_enough() {
    for key in ["AmbientCapabilities", "CapabilityBoundingSet"] {
        assert_eq!(
            value("ptntp.service", key).as_deref(),
            Some("CAP_SYS_TIME CAP_NET_BIND_SERVICE CAP_NET_ADMIN CAP_BPF CAP_PERFMON")
        );
    }
}

/// Devices of one kind are reached, and by the group we run in.
#[test]
fn the_cards_clocks_can_be_opened() {
    assert_eq!(
        value("ptntp.service", "DevicePolicy").as_deref(),
        Some("closed")
    );
    assert_eq!(
        value("ptntp.service", "DeviceAllow").as_deref(),
        Some("char-ptp rw")
    );
    let group = value("ptntp.service", "Group").expect("a group");
    let rules = fs::read_to_string(source("60-ptntp.rules")).unwrap();
    assert!(rules.contains(&format!("SUBSYSTEM==\"ptp\", GROUP=\"{group}\"")));
}

#[test]
fn timedatectl_finds_the_unit() {
    let list = fs::read_to_string(source("ntp-units.d/60-ptntp.list")).unwrap();
    let mut units = list.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(units.next(), Some("ptntp.service"));
    assert_eq!(units.next(), None);
}

/// Copies that start the binary just built, so that it exists.
struct Units {
    directory: PathBuf,
}

impl Units {
    fn copy(name: &str) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("systemd-{name}"));
        fs::create_dir_all(&directory).unwrap();
        for unit in UNITS {
            let text = fs::read_to_string(source(unit)).unwrap();
            let text = text.replace(INSTALLED, env!("CARGO_BIN_EXE_ptntp"));
            fs::write(directory.join(unit), text).unwrap();
        }
        Self { directory }
    }

    fn paths(&self) -> [PathBuf; 2] {
        UNITS.map(|unit| self.directory.join(unit))
    }
}

impl Drop for Units {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn source(file: &str) -> PathBuf {
    root().join("systemd").join(file)
}

fn value(unit: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(source(unit)).unwrap();
    text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name == key).then(|| value.to_owned())
    })
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn tool_is_there(tool: &str) -> bool {
    let there = Command::new(tool).arg("--version").output().is_ok();
    if !there {
        let ci = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(!ci, "{tool} is missing, and CI checks everything");
        eprintln!("SKIPPED: {tool} is not installed");
    }
    there
}
