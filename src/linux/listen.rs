//! Stream sockets that listen, for the control socket and the metrics. Only
//! socket(2), bind(2), accept(2) and fcntl(2) by their libc names: what clock
//! simulators that are preloaded know. std's own calls need accept4(2) and
//! SOCK_CLOEXEC.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, UnixAddr, accept as sys_accept,
    bind, connect, getsockname, listen, setsockopt, socket, sockopt,
};

/// A TCP socket that listens on `address`, non-blocking, usable again at once
/// after a crash (SO_REUSEADDR). `[::]` does not take IPv4 with it.
pub fn tcp(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let fd = open(family)?;
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
    let fd = open(AddressFamily::Unix)?;
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
    let fd = open(AddressFamily::Unix)?;
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
                set_flags(&fd)?;
                return Ok(Some(fd));
            }
            Err(Errno::EAGAIN) => return Ok(None),
            // The caller was gone before we came, or a signal did.
            Err(Errno::EINTR | Errno::ECONNABORTED) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The address a TCP listener got, with the port the kernel chose for 0.
pub fn local_address(listener: impl AsFd) -> io::Result<SocketAddr> {
    let address: SockaddrStorage = getsockname(listener.as_fd().as_raw_fd())?;
    if let Some(v4) = address.as_sockaddr_in() {
        return Ok(SocketAddr::V4((*v4).into()));
    }
    if let Some(v6) = address.as_sockaddr_in6() {
        return Ok(SocketAddr::V6((*v6).into()));
    }
    Err(io::Error::other("the listener has no IP address"))
}

fn open(family: AddressFamily) -> io::Result<OwnedFd> {
    let fd = socket(family, SockType::Stream, SockFlag::empty(), None)?;
    set_flags(&fd)?;
    Ok(fd)
}

fn set_flags(fd: &OwnedFd) -> io::Result<()> {
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_tcp_listener_is_found_at_its_address() {
        let listener = tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = local_address(&listener).unwrap();
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
