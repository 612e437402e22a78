//! Telling systemd that we are ready, alive and what we do (sd_notify(3)): lines
//! of text in datagrams to the socket that `$NOTIFY_SOCKET` names. Without one
//! everything here does nothing.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::time::duration::NtpDuration;

/// The service manager, if there is one.
#[derive(Debug)]
pub struct Notifier {
    manager: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<NtpDuration>,
}

impl Notifier {
    /// Nobody to tell.
    pub const fn silent() -> Self {
        Self {
            manager: None,
            watchdog: None,
        }
    }

    /// As the environment says. What is wrong with it is an error; the daemon
    /// can live without.
    pub fn from_environment() -> io::Result<Self> {
        let Some(path) = env::var_os("NOTIFY_SOCKET") else {
            return Ok(Self::silent());
        };
        let variable = |name| env::var(name).ok();
        let watchdog = watchdog_interval(
            variable("WATCHDOG_USEC").as_deref(),
            variable("WATCHDOG_PID").as_deref(),
            std::process::id(),
        );
        Self::connect(path.as_encoded_bytes(), watchdog)
    }

    fn connect(path: &[u8], watchdog: Option<NtpDuration>) -> io::Result<Self> {
        let address = match path {
            // The abstract namespace is written with an @ for its zero byte.
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => {
                use std::os::unix::ffi::OsStrExt;
                SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?
            }
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "NOTIFY_SOCKET is neither a path nor @name",
                ));
            }
        };
        let socket = UnixDatagram::unbound()?;
        // The time loop must not wait for a busy manager.
        socket.set_nonblocking(true)?;
        Ok(Self {
            manager: Some((socket, address)),
            watchdog,
        })
    }

    /// How often to call [`alive`](Self::alive): half of what the manager allows.
    /// None: it does not watch.
    pub fn watchdog_interval(&self) -> Option<NtpDuration> {
        self.watchdog
    }

    /// Start-up is complete.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// We are still there.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// One sentence for `systemctl status`.
    pub fn status(&self, sentence: &str) {
        self.send(&format!("STATUS={}", sentence.replace('\n', " ")));
    }

    /// We are about to end.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    fn send(&self, message: &str) {
        if let Some((socket, address)) = &self.manager {
            // A lost notice shows in the manager's own log; we have no better place.
            let _ = socket.send_to_addr(message.as_bytes(), address);
        }
    }
}

fn watchdog_interval(usec: Option<&str>, pid: Option<&str>, own_pid: u32) -> Option<NtpDuration> {
    if pid.is_some_and(|pid| pid.parse() != Ok(own_pid)) {
        return None;
    }
    let usec: i64 = usec?.parse().ok().filter(|&usec| usec > 0)?;
    Some(NtpDuration::from_nanos(usec.saturating_mul(1000)).half())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn the_manager_hears_what_happens() {
        let path = env::temp_dir().join(format!("ptntp-notify-test-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let manager = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::connect(path.as_os_str().as_encoded_bytes(), None).unwrap();
        notifier.ready();
        notifier.status("two\nlines");
        notifier.alive();
        notifier.stopping();
        assert_eq!(heard(&manager), "READY=1");
        assert_eq!(heard(&manager), "STATUS=two lines");
        assert_eq!(heard(&manager), "WATCHDOG=1");
        assert_eq!(heard(&manager), "STOPPING=1");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn an_abstract_socket_will_do() {
        let name = format!("ptntp-notify-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        let notifier = Notifier::connect(format!("@{name}").as_bytes(), None).unwrap();
        notifier.ready();
        assert_eq!(heard(&manager), "READY=1");
    }

    #[test]
    fn nobody_listening_is_nobodys_problem() {
        Notifier::silent().ready();
        Notifier::connect(b"/nonexistent/notify", None)
            .unwrap()
            .ready();
        assert!(Notifier::connect(b"vsock:2:1", None).is_err());
    }

    #[test]
    fn the_watchdog_is_fed_twice_as_often_as_it_asks() {
        let two = Some(NtpDuration::from_whole_seconds(2));
        assert_eq!(watchdog_interval(Some("4000000"), None, 7), two);
        assert_eq!(watchdog_interval(Some("4000000"), Some("7"), 7), two);
        assert_eq!(watchdog_interval(Some("4000000"), Some("8"), 7), None);
        assert_eq!(watchdog_interval(Some("0"), None, 7), None);
        assert_eq!(watchdog_interval(Some("often"), None, 7), None);
        assert_eq!(watchdog_interval(None, None, 7), None);
    }
}
