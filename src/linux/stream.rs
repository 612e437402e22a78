//! Stream sockets that listen, for the control socket and the metrics. Only
//! bind(2) and accept(2) by their libc names, which clock simulators that are
//! preloaded know: std's own calls need accept4(2) and SOCK_CLOEXEC.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{
    Backlog, SockaddrStorage, UnixAddr, accept as sys_accept, bind, connect, listen, setsockopt,
    sockopt,
};

use crate::linux::socket;

/// A TCP socket that listens on `address`, non-blocking, usable again at once
/// after a crash (SO_REUSEADDR). `[::]` does not take IPv4 with it.
pub fn tcp(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => libc::AF_INET,
        SocketAddr::V6(_) => libc::AF_INET6,
    };
    let fd = socket::open(family, libc::SOCK_STREAM)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&fd, Backlog::MAXCONN)?;
    Ok(fd)
}

/// A Unix stream socket that listens at `path`, which must be free; non-blocking.
pub fn unix(path: &Path) -> io::Result<OwnedFd> {
    let fd = socket::open(libc::AF_UNIX, libc::SOCK_STREAM)?;
    bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen(&fd, Backlog::MAXCONN)?;
    Ok(fd)
}

/// Does somebody listen at `path`? The error is why that can't be said.
pub fn unix_is_alive(path: &Path) -> io::Result<bool> {
    match unix_connect(path) {
        Ok(_) => Ok(true),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// A connection to whoever listens at `path`, non-blocking; none while the
/// queue there is full, which a hung program leaves so for ever.
pub fn unix_connect(path: &Path) -> io::Result<Option<OwnedFd>> {
    let fd = socket::open(libc::AF_UNIX, libc::SOCK_STREAM)?;
    match connect(fd.as_raw_fd(), &UnixAddr::new(path)?) {
        Ok(()) => Ok(Some(fd)),
        Err(Errno::EAGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The next connection, non-blocking; none while nobody waits.
pub fn accept(listener: impl AsFd) -> io::Result<Option<OwnedFd>> {
    loop {
        match sys_accept(listener.as_fd().as_raw_fd()) {
            Ok(fd) => {
                // SAFETY: accept(2) just returned this descriptor and nobody
                // else knows of it, so it has exactly one owner.
                let fd = unsafe { OwnedFd::from_raw_fd(fd) };
                socket::make_ours(&fd)?;
                return Ok(Some(fd));
            }
            Err(Errno::EAGAIN) => return Ok(None),
            // The caller was gone before we came, or a signal did.
            Err(Errno::EINTR | Errno::ECONNABORTED) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_tcp_listener_is_found_at_its_address() {
        let listener = tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = TcpListener::from(listener);
        let address = listener.local_addr().unwrap();
        assert!(accept(&listener).unwrap().is_none());
        let _client = TcpStream::connect(address).unwrap();
        assert!(accept(&listener).unwrap().is_some());
        assert_eq!(
            tcp(address).unwrap_err().raw_os_error(),
            Some(libc::EADDRINUSE)
        );
    }

    #[test]
    fn a_unix_listener_is_alive_until_it_is_closed() {
        let path = std::env::temp_dir().join(format!("ptntp-listen-test-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        assert!(!unix_is_alive(&path).unwrap());
        let listener = unix(&path).unwrap();
        assert!(unix_is_alive(&path).unwrap());
        let _client = UnixStream::connect(&path).unwrap();
        assert!(accept(&listener).unwrap().is_some());
        drop(listener);
        assert!(!unix_is_alive(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
    }
}
