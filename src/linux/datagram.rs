//! A Unix datagram socket with a name, for orders of root. Only socket(2) and bind(2) by
//! their libc names, as in [`stream`](crate::linux::stream).

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use nix::sys::socket::{UnixAddr, bind};
use nix::sys::stat::{Mode, umask};

use crate::linux::socket;

/// Bound to `path`, which must be free; non-blocking. Nobody but its owner and root can
/// send to it.
///
/// # Errors
/// What socket(2) and bind(2) say: EADDRINUSE, EACCES, ENOENT.
pub fn bind_unix(path: &Path) -> io::Result<UnixDatagram> {
    let fd = socket::open(libc::AF_UNIX, libc::SOCK_DGRAM)?;
    let address = UnixAddr::new(path)?;
    // By the mask, so that at no time anybody else can. It is the whole process's: this is for
    // the start, before there are other threads that make files.
    let before = umask(Mode::from_bits_truncate(0o177));
    let bound = bind(fd.as_raw_fd(), &address);
    umask(before);
    bound?;
    Ok(fd.into())
}

/// Does somebody receive at `path`?
///
/// # Errors
/// Why that can't be said: EACCES.
pub fn is_alive(path: &Path) -> io::Result<bool> {
    let probe: UnixDatagram = socket::open(libc::AF_UNIX, libc::SOCK_DGRAM)?.into();
    match probe.connect(path) {
        Ok(()) => Ok(true),
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_name_is_alive_while_it_is_bound_and_its_owners_alone() {
        let path = std::env::temp_dir().join(format!("ptntp-datagram-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        assert!(!is_alive(&path).unwrap());
        let socket = bind_unix(&path).unwrap();
        assert!(is_alive(&path).unwrap());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            socket.recv(&mut [0; 8]).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        drop(socket);
        assert!(!is_alive(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
    }
}
