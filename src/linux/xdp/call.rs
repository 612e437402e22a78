//! bpf(2) itself, for programs and maps.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use crate::linux::socket::check;

/// Of `enum bpf_cmd` of linux/bpf.h.
const PROG_TEST_RUN: libc::c_int = 10;

/// bpf(2) for a command that gives a descriptor.
pub(crate) fn bpf_fd<T>(command: libc::c_int, order: &mut T) -> io::Result<OwnedFd> {
    let fd = bpf(command, order)?;
    // SAFETY: the kernel just opened it, closed on exec as all of bpf(2), and nobody
    // else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// bpf(2). `order` is the part of `union bpf_attr` that `command` reads and writes; all
/// addresses in it are of memory that outlives the call and is as long as it says.
pub(crate) fn bpf<T>(command: libc::c_int, order: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: the kernel reads and writes size_of::<T>() octets there, and what the
    // addresses in it name, which the callers in this room keep alive.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(order),
            size_of::<T>(),
        )
    };
    check(result as libc::c_int)
}

/// BPF_PROG_TEST_RUN, which a signal may interrupt.
pub(crate) fn test_run(order: &mut TestRunOrder) -> io::Result<()> {
    bpf(PROG_TEST_RUN, order).map(drop)
}

/// Part of `union bpf_attr` for BPF_PROG_TEST_RUN, as of 5.18.
#[repr(C)]
#[derive(Default)]
pub(crate) struct TestRunOrder {
    pub(crate) prog_fd: u32,
    pub(crate) retval: u32,
    pub(crate) data_size_in: u32,
    pub(crate) data_size_out: u32,
    pub(crate) data_in: u64,
    pub(crate) data_out: u64,
    pub(crate) repeat: u32,
    pub(crate) duration: u32,
    pub(crate) ctx_size_in: u32,
    pub(crate) ctx_size_out: u32,
    pub(crate) ctx_in: u64,
    pub(crate) ctx_out: u64,
    pub(crate) flags: u32,
    pub(crate) cpu: u32,
    pub(crate) batch_size: u32,
    pub(crate) padding: u32,
}

/// A name as the kernel keeps it: 15 octets, and a zero.
pub(crate) fn name_of(name: &str) -> [u8; 16] {
    let mut octets = [0; 16];
    for (place, octet) in octets[..15].iter_mut().zip(name.bytes()) {
        *place = octet;
    }
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_cut_and_terminated() {
        assert_eq!(&name_of("ptntp"), b"ptntp\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(&name_of("a_name_too_long_for_it"), b"a_name_too_long\0");
    }
}
