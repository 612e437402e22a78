//! What sockets of all kinds have in common. Only socket(2), fcntl(2) and
//! setsockopt(2) by their libc names and without newer flags: clock simulators
//! that are preloaded know these alone.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// A non-blocking socket that is closed on exec.
///
/// # Errors
/// What socket(2) says: EAFNOSUPPORT on a host without the family, EMFILE.
pub fn open(family: libc::c_int, kind: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: socket takes no pointers.
    let fd = check(unsafe { libc::socket(family, kind, 0) })?;
    // SAFETY: `fd` was just opened and nobody else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    make_ours(&fd)?;
    Ok(fd)
}

/// Makes a descriptor that was just opened non-blocking and closed on exec.
///
/// # Errors
/// None is expected of an open descriptor.
pub fn make_ours(fd: &OwnedFd) -> io::Result<()> {
    // SAFETY: fcntl with integer arguments on a descriptor we own.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: as above. What is new has no other flags to keep.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) })?;
    Ok(())
}

/// Sets an option to `value`, in the form the kernel expects of it.
///
/// # Errors
/// What setsockopt(2) says: ENOPROTOOPT for an option it does not know.
pub fn set<T: Copy>(
    fd: RawFd,
    level: libc::c_int,
    option: libc::c_int,
    value: T,
) -> io::Result<()> {
    // SAFETY: setsockopt reads size_of::<T>() octets of `value`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            fd,
            level,
            option,
            (&raw const value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    check(result).map(drop)
}

/// A system call's result, or its errno.
pub fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Again while a signal gets in the way.
pub fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
