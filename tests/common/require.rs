//! What a test needs of the machine. Where it is missing the test says so and
//! passes; with `CI=true` it fails, so that nothing is skipped unseen.

use std::io::Write;
use std::path::Path;

/// Returns from the test, saying why, unless the machine has all that is named:
/// `require!(root, peers)`.
#[macro_export]
macro_rules! require {
    ($($what:ident),+) => {
        $(if let Err(why) = $crate::common::require::$what() {
            $crate::common::require::skip(&why);
            return;
        })+
    };
}

/// Root, for network namespaces, and the tools to make them.
pub fn root() -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("needs root for network namespaces".into());
    }
    program("ip")?;
    program("setpriv")
}

/// The peers that `tests/setup` unpacks.
pub fn peers() -> Result<(), String> {
    let home = super::peers::root().join("..");
    if home.join(stamp(include_str!("../setup"))).exists() {
        return Ok(());
    }
    Err("needs the real NTP programs that tests/setup unpacks".into())
}

/// QEMU and a kernel, which `hwtest/setup` unpacks.
pub fn guest() -> Result<(), String> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/hwtest");
    if home
        .join(stamp(include_str!("../../hwtest/setup")))
        .exists()
    {
        return Ok(());
    }
    Err("needs QEMU and a guest's kernel (run hwtest/setup)".into())
}

/// The file that a set-up script leaves when all is there. Its name changes with what
/// there is to be.
fn stamp(script: &'static str) -> &'static str {
    let line = script
        .lines()
        .find_map(|line| line.strip_prefix("stamp=\""));
    let path = line.expect("a line with the stamp").trim_end_matches('"');
    path.rsplit('/').next().expect("a name")
}

/// The system call tracer.
pub fn strace() -> Result<(), String> {
    program("strace")
}

/// A C compiler, for the LD_PRELOAD shim.
pub fn gcc() -> Result<(), String> {
    program("gcc")
}

/// IPv6, which a kernel may lack.
pub fn ipv6() -> Result<(), String> {
    if Path::new("/proc/sys/net/ipv6").exists() {
        return Ok(());
    }
    Err("needs IPv6".into())
}

fn program(name: &str) -> Result<(), String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|dir| dir.join(name).is_file()) {
        return Ok(());
    }
    Err(format!(
        "needs the program {name} (run tests/setup as root)"
    ))
}

/// Says why the test that calls it is not run; fails it under CI.
pub fn skip(why: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    assert!(
        std::env::var_os("CI").is_none_or(|ci| ci != "true"),
        "{test} {why}, and nothing may be skipped under CI"
    );
    // Not by eprintln!, which libtest hides when a test passes.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: {why}");
}
