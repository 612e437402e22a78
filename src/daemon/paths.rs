//! Where the daemon's run-time files are when nobody says otherwise: one answer
//! for the daemon and for the commands that look for it.

use std::env;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, Uid, access};

/// The directory systemd's `RuntimeDirectory=ptntp` makes.
const RUN_DIRECTORY: &str = "/run/ptntp";

/// The control socket of a daemon that was not told where: in `/run/ptntp` for
/// root and whoever may write there, else in `$XDG_RUNTIME_DIR`, else in `/tmp`
/// with the user's number.
pub fn control_default() -> PathBuf {
    let user = Uid::effective();
    let system = user.is_root() || access(RUN_DIRECTORY, AccessFlags::W_OK).is_ok();
    control_for(
        system,
        env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from),
        user.as_raw(),
    )
}

/// Where a command that was not told looks for a daemon, best first: its own
/// user's, then the system's, which anybody may ask.
pub fn control_candidates() -> Vec<PathBuf> {
    let own = control_default();
    let system = Path::new(RUN_DIRECTORY).join("control.sock");
    if own == system {
        vec![own]
    } else {
        vec![own, system]
    }
}

fn control_for(system: bool, runtime_directory: Option<PathBuf>, user_id: u32) -> PathBuf {
    match runtime_directory {
        _ if system => Path::new(RUN_DIRECTORY).join("control.sock"),
        Some(directory) if directory.is_absolute() => directory.join("ptntp.sock"),
        _ => PathBuf::from(format!("/tmp/ptntp-{user_id}.sock")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_has_a_place() {
        let at = |system, directory: Option<&str>| {
            control_for(system, directory.map(PathBuf::from), 1000)
        };
        assert_eq!(
            at(true, Some("/run/user/0")),
            Path::new("/run/ptntp/control.sock")
        );
        assert_eq!(
            at(false, Some("/run/user/1000")),
            Path::new("/run/user/1000/ptntp.sock")
        );
        assert_eq!(at(false, Some("")), Path::new("/tmp/ptntp-1000.sock"));
        assert_eq!(at(false, None), Path::new("/tmp/ptntp-1000.sock"));
    }
}
